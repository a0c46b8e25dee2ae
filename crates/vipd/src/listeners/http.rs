//! Connections to the TCP listener, from whoever reaches it: slow ones and many must cost neither
//! memory nor open files without bound, and a scraper gets its answer beside them.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
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

/// Answers until it is to finish: then nothing is accepted any more, and what was asked is answered.
pub(super) async fn serve(listener: TcpListener, routes: Router, finishing: watch::Receiver<bool>) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    let mut said = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = super::wait_for(finishing.clone()) => break,
        };
        let stream = match accepted {
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
            // It is open until its task was run: many accepted at a stretch would all be open with it.
            let _ = oldest.await;
        }
        open.push_back(tokio::spawn(answer(
            stream,
            routes.clone(),
            finishing.clone(),
        )));
    }
    for connection in open {
        let _ = connection.await;
    }
}

async fn answer(stream: TcpStream, routes: Router, finishing: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let served = timeout(LIFETIME, async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = super::wait_for(finishing.clone()) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("an HTTP connection: {error}"),
        Err(_) => debug!("an HTTP connection: closed after {LIFETIME:?}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    use super::*;

    /// How many connections to that port a program has accepted and not closed: those that wait for it
    /// have no inode yet (`/proc/net/tcp`). The kernel may list one twice while others come and go.
    fn open(at: SocketAddr) -> usize {
        let local = format!(":{:04X}", at.port());
        let text = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let lines = text.lines().map(|line| line.split_whitespace().collect());
        let clients = lines.filter_map(|words: Vec<&str>| {
            let (address, client) = (words.get(1)?, *words.get(2)?);
            let accepted = words.get(3)? == &"01" && words.get(9)? != &"0";
            (accepted && address.ends_with(&local)).then(|| client.to_owned())
        });
        clients.collect::<BTreeSet<String>>().len()
    }

    #[tokio::test]
    async fn those_that_come_at_a_stretch_are_not_open_beside_those_they_replace() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (finish, finishing) = watch::channel(false);
        let served = tokio::spawn(serve(listener, Router::new(), finishing));
        // At most as many at once as wait where `net.core.somaxconn` is smallest.
        let connect = || std::net::TcpStream::connect(at).unwrap();
        let mut clients: Vec<_> = std::iter::repeat_with(connect).take(100).collect();
        for _ in 0..250 {
            tokio::task::yield_now().await;
        }
        clients.extend(std::iter::repeat_with(connect).take(100));
        let mut most = 0;
        for _ in 0..250 {
            tokio::task::yield_now().await;
            most = most.max(open(at));
        }
        // One is accepted before the oldest is closed.
        assert_eq!(most, CONNECTIONS + 1);
        drop(clients);
        finish.send(true).unwrap();
        served.await.unwrap();
    }
}
