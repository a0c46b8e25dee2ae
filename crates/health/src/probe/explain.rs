//! What a library's error means to an operator: its chain of causes has a link that says it.

use std::error::Error;
use std::io;

use super::{progress, tls};
use crate::failure::Failure;

/// Finds the cause in a chain of errors, whose outer links say nothing of use.
pub(super) fn explain(error: &(dyn Error + 'static)) -> Failure {
    let mut link = Some(error);
    while let Some(cause) = link {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Failure::Tls(tls::explain(tls));
        }
        link = match cause.downcast_ref::<io::Error>() {
            // `source` skips the error that an io::Error wraps.
            Some(io) => match io.get_ref() {
                Some(wrapped) if wrapped.is::<rustls::Error>() || wrapped.is::<io::Error>() => {
                    Some(wrapped)
                }
                Some(_) | None => return explain_io(io),
            },
            None => cause.source(),
        };
    }
    Failure::Protocol(innermost(error))
}

/// The words of the last link.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

fn explain_io(error: &io::Error) -> Failure {
    if progress::in_handshake() && error.kind() == io::ErrorKind::UnexpectedEof {
        return Failure::Tls("the server closed the connection in the TLS handshake".into());
    }
    Failure::from(error)
}
