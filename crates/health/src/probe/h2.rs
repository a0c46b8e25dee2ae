//! What the probes that speak HTTP/2 have in common.

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::explain;
use super::stream::Opened;
use crate::failure::Failure;

/// The tasks of one connection: they, and it, end with the probe.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

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

/// Makes one request over a connection that is there for nothing else, and has its response judged.
/// Over TLS the server must have chosen HTTP/2.
pub(super) async fn exchange<B, F, T>(
    opened: Opened,
    tls: bool,
    request: Request<B>,
    judge: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, Failure>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = Result<T, Failure>>,
{
    let agreed = opened.protocol.as_deref() == Some(b"h2".as_slice());
    if !agreed && (tls || opened.protocol.is_some()) {
        return Err(Failure::Tls(
            "the server does not offer HTTP/2 (its TLS chose no protocol h2)".into(),
        ));
    }
    let (mut sender, connection) = http2::handshake(Tasks::default(), TokioIo::new(opened.stream))
        .await
        .map_err(|error| explain(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await;
        judge(response.map_err(|error| explain(&error))?).await
    };
    beside(connection, exchange).await
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
