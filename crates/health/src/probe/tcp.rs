//! A TCP connection is made and broken off.

use std::net::SocketAddr;
use std::time::Duration;

use super::socket::First;
use super::{progress, socket};
use crate::check::{CheckSpec, Route};
use crate::failure::{Failure, Phase};

#[derive(Debug)]
pub(super) struct TcpProbe {
    target: SocketAddr,
    route: Route,
    timeout: Duration,
}

impl TcpProbe {
    pub(super) fn new(spec: &CheckSpec) -> TcpProbe {
        TcpProbe {
            target: spec.target,
            route: spec.route.clone(),
            timeout: spec.timeout,
        }
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        let connecting = socket::connect(self.target, &self.route, First::Ours);
        let connected = progress::within(self.timeout, Phase::Connecting, connecting).await;
        connected.map(drop)
    }
}
