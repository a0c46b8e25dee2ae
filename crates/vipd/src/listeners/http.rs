//! Connections to the TCP listener, from whoever reaches it: slow ones and many must cost neither
//! memory nor open files without bound, and a scraper gets its answer beside them.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// How many are open at once. One more takes the place of the oldest: whoever asks and reads at once is
/// done before its turn comes.
const CONNECTIONS: usize = 128;
/// How long a request may take to come, and an idle connection to be used again.
const HEADERS: Duration = Duration::from_secs(10);
/// How long one stays, whatever it does: longer than the longest wait for events.
const LIFETIME: Duration = Duration::from_secs(90);
/// How long nothing is accepted when nothing can be (no descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// Answers for ever.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut said = false;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // What waits is still there at the next try: once is enough in the log.
                if !std::mem::replace(&mut said, true) {
                    warn!("the HTTP listener cannot accept a connection: {error}");
                }
                sleep(PAUSE).await;
                continue;
            }
        };
        said = false;
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let answering = tokio::spawn(answer(stream, routes.clone()));
        open.push_back(answering.abort_handle());
    }
}

async fn answer(stream: TcpStream, routes: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match timeout(LIFETIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("an HTTP connection: {error}"),
        Err(_) => debug!("an HTTP connection: closed after {LIFETIME:?}"),
    }
}
