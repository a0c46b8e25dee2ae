//! What the probes that speak HTTP/2 have in common.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::task::JoinSet;

use super::explain;
use super::stream::Opened;
use crate::failure::Failure;

/// The tasks of one connection: they, and it, end with the probe.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        // Nothing can panic while it is locked.
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(task);
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}

/// Whether HTTP/2 can be spoken: over TLS the server must have chosen it.
pub(super) fn agreed(opened: &Opened, tls: bool) -> Result<(), Failure> {
    match opened.protocol.as_deref() {
        Some(b"h2") => Ok(()),
        None if !tls => Ok(()),
        Some(_) | None => Err(Failure::Tls(
            "the server does not offer HTTP/2 (its TLS chose no protocol h2)".into(),
        )),
    }
}

/// Keeps `connection` going while `exchange` runs over it.
pub(super) async fn beside<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    let mut ended: Option<hyper::Result<()>> = None;
    let outcome = std::future::poll_fn(|context| {
        if let Poll::Ready(outcome) = exchange.as_mut().poll(context) {
            return Poll::Ready(outcome);
        }
        if ended.is_none()
            && let Poll::Ready(end) = connection.as_mut().poll(context)
        {
            ended = Some(end);
            // What the end of the connection means to the exchange.
            return exchange.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await;
    match (outcome, ended) {
        // The exchange only knows that the connection is gone.
        (Err(Failure::Protocol(_)), Some(Err(why))) => Err(explain::explain(&why)),
        (outcome, _) => outcome,
    }
}

/// What an error of an HTTP/2 connection means.
pub(super) fn explain(error: &hyper::Error) -> Failure {
    let failure = explain::explain(error);
    if let Failure::Protocol(what) = failure {
        return Failure::Protocol(format!("HTTP/2: {what}"));
    }
    failure
}
