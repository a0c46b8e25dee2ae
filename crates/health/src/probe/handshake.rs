//! Type `tls`: a handshake is made, and the server's answer to its end awaited.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::Stream;
use super::tls::{self, Tls};
use super::{Passed, progress, stream};
use crate::check::{CheckSpec, Route, TlsSpec};
use crate::failure::{Failure, Phase};

/// How long a server has to refuse a finished handshake, ...
const REFUSAL_WITHIN: Duration = Duration::from_millis(250);
/// ... and at most this part of the check's timeout, which its silence must not use up.
const REFUSAL_PART: u32 = 4;

#[derive(Debug)]
pub(super) struct TlsProbe {
    target: SocketAddr,
    route: Route,
    tls: Tls,
    timeout: Duration,
}

impl TlsProbe {
    pub(super) fn new(spec: &CheckSpec, tls: &TlsSpec) -> Result<TlsProbe, Failure> {
        let name = tls::name(spec.target, tls);
        Ok(TlsProbe {
            target: spec.target,
            route: spec.route.clone(),
            tls: Tls::new(tls, &name, &[])?,
            timeout: spec.timeout,
        })
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        progress::within(self.timeout, Phase::Connecting, self.shake_hands()).await
    }

    async fn shake_hands(&self) -> Result<Passed, Failure> {
        let opened = stream::open(self.target, &self.route, Some(&self.tls)).await?;
        progress::enter(|connected_after| Phase::WaitingFor {
            what: "the server's consent",
            connected_after,
        });
        let patience = REFUSAL_WITHIN.min(self.timeout / REFUSAL_PART);
        consent(opened.stream, patience).await?;
        Ok(Passed {
            warning: opened.warning,
            weight: None,
        })
    }
}

/// With TLS 1.3 the client is done before the server has judged the client's certificate, and one
/// that misses it says so only afterwards (RFC 8446 §4.4.2.4). So the client says goodbye and listens:
/// an alert is a refusal, anything else, silence too, is none.
async fn consent(mut stream: Stream, patience: Duration) -> Result<(), Failure> {
    let answer = async {
        stream.shutdown().await?;
        stream.read(&mut [0; 1]).await
    };
    let Ok(Err(error)) = tokio::time::timeout(patience, answer).await else {
        return Ok(());
    };
    match error.get_ref().map(|cause| cause as &(dyn Error + 'static)) {
        Some(cause) if cause.is::<rustls::Error>() => Err(super::explain::explain(&error)),
        Some(_) | None => Ok(()),
    }
}
