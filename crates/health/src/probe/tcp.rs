//! A TCP connection is made and broken off.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::check::CheckSpec;
use crate::failure::{Failure, Phase};

#[derive(Debug)]
pub(super) struct TcpProbe {
    target: SocketAddr,
    timeout: Duration,
}

impl TcpProbe {
    pub(super) fn new(spec: &CheckSpec) -> TcpProbe {
        TcpProbe {
            target: spec.target,
            timeout: spec.timeout,
        }
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        match tokio::time::timeout(self.timeout, connect(self.target)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Failure::Timeout {
                after: self.timeout,
                phase: Phase::Connecting,
            }),
        }
    }
}

async fn connect(target: SocketAddr) -> Result<(), Failure> {
    let error = |error: io::Error| Failure::from(&error);
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(error)?;
    // The connection ends with a RST: thousands of checks would otherwise fill this machine's port
    // range with TIME_WAIT.
    socket.set_zero_linger().map_err(error)?;
    let stream = socket.connect(target).await.map_err(error)?;
    // Where the target is this machine and its port an ephemeral one that nobody listens on, the
    // kernel may pick that very port as the source, and the socket connects to itself.
    if stream.local_addr().map_err(error)? == target {
        return Err(Failure::Refused);
    }
    Ok(())
}
