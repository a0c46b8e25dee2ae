//! A TCP connection is made and broken off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::socket::First;
use super::{progress, socket};
use crate::check::{CheckSpec, Route};
use crate::failure::{Failure, Phase};
use crate::sockets::Sockets;

#[derive(Debug)]
pub(super) struct TcpProbe {
    target: SocketAddr,
    route: Route,
    timeout: Duration,
    /// Those that it may use.
    sockets: Option<Arc<Sockets>>,
}

impl TcpProbe {
    pub(super) fn new(spec: &CheckSpec) -> TcpProbe {
        TcpProbe {
            target: spec.target,
            route: spec.route.clone(),
            timeout: spec.timeout,
            sockets: None,
        }
    }

    /// Uses sockets that others have used. One that goes another way than the routing table's has
    /// options that nobody else wants.
    pub(super) fn share(&mut self, sockets: &Arc<Sockets>) {
        self.sockets = (self.route == Route::default()).then(|| sockets.clone());
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        let touching = async {
            match &self.sockets {
                Some(sockets) => sockets.touch(self.target).await,
                None => {
                    // In a box, so that the tasks of thousands have no room for it.
                    let connecting = socket::connect(self.target, &self.route, First::Ours);
                    Box::pin(connecting).await.map(drop)
                }
            }
        };
        progress::within(self.timeout, Phase::Connecting, touching).await
    }
}
