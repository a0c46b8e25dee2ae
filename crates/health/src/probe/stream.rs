//! A connection for the probes that talk over one, with TLS or without.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::socket::First;
use super::tls::Tls;
use super::{progress, socket};
use crate::check::Route;
use crate::failure::{Failure, Phase};

/// Bytes in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Boxed, so that the code of a protocol is there once and not for each kind of stream.
pub(super) type Stream = Box<dyn Duplex>;

/// A connection that is ready for the protocol.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// What there is to say of the certificate.
    pub(super) warning: Option<String>,
    /// The protocol that the server chose (ALPN).
    pub(super) protocol: Option<Vec<u8>>,
}

/// Connects, and shakes hands where there is TLS.
pub(super) async fn open(
    target: SocketAddr,
    route: &Route,
    tls: Option<&Tls>,
) -> Result<Opened, Failure> {
    let stream = Box::new(socket::connect(target, route, First::Ours).await?);
    let Some(tls) = tls else {
        return Ok(Opened {
            stream,
            warning: None,
            protocol: None,
        });
    };
    progress::enter(|connected_after| Phase::Handshake { connected_after });
    let stream = tls.handshake(stream).await?;
    Ok(Opened {
        warning: tls.warning_of(&stream),
        protocol: stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec),
        stream: Box::new(stream),
    })
}
