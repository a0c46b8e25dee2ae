//! Keeps the picture: a dump at the start, the kernel's own events after it, and a new dump when
//! events were lost and every few seconds, because a message of a newer kernel that the decoder does
//! not understand is dropped without a word.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, warn};

use super::Links;

/// How often everything is read again even if no event came.
const REFRESH: Duration = Duration::from_secs(10);
/// How long a dump may take before the connection is given up and made anew.
const DUMP_TIMEOUT: Duration = Duration::from_secs(10);
/// Kernel buffer for events: thousands of address changes in one burst.
const EVENT_BUFFER: usize = 16 << 20;
/// Events taken in before anybody is told, however many wait.
const EVENTS_AT_ONCE: usize = 4096;
/// From one publication to the next, for each address there is: what a publication costs its readers
/// grows with them, and a burst of ten thousand events must not be ten thousand publications.
const PAUSE_PER_ADDRESS: Duration = Duration::from_micros(1);

/// Keeps `links` true for as long as anybody listens. The first picture is there when it returns.
///
/// # Errors
///
/// The first dump failed: without it nothing is known.
pub async fn watch() -> io::Result<(watch::Receiver<Arc<Links>>, JoinHandle<()>)> {
    let mut monitor = Monitor::start().await?;
    let (sender, receiver) = watch::channel(Arc::new(monitor.links.clone()));
    let task = tokio::spawn(async move {
        loop {
            match monitor.follow(&sender).await {
                Ended::NobodyListens => return,
                Ended::Broken(why) => warn!(why, "the netlink monitor is opened again"),
            }
            monitor = loop {
                match Monitor::start().await {
                    Ok(monitor) => break monitor,
                    Err(error) => error!(%error, "reading the interfaces failed"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            publish(&sender, &monitor.links);
        }
    });
    Ok((receiver, task))
}

enum Ended {
    NobodyListens,
    Broken(&'static str),
}

type Messages = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

/// What has changed and nobody has been told.
#[derive(Default)]
struct News {
    links: bool,
    addresses: bool,
}

impl News {
    fn any(&self) -> bool {
        self.links || self.addresses
    }
}

struct Monitor {
    links: Links,
    events: Messages,
    requests: Handle,
}

impl Monitor {
    async fn start() -> io::Result<Monitor> {
        use rtnetlink::sys::AsyncSocket;

        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (mut connection, _, events) = rtnetlink::new_multicast_connection(&groups)?;
        // A kernel that grants less leaves a smaller buffer; losses are noticed and healed.
        let socket = connection.socket_mut().socket_mut();
        if let Err(error) = set_socket_recv_buffer_size_force(socket, EVENT_BUFFER) {
            warn!(%error, "the netlink event buffer stays small");
        }
        tokio::spawn(connection);
        // Its own connection, so that the answers to requests do not wait behind events.
        let (connection, requests, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let events = events.map(|(message, _)| message).boxed();
        let mut monitor = Monitor {
            links: Links::default(),
            events,
            requests,
        };
        monitor.refresh().await?;
        Ok(monitor)
    }

    async fn follow(&mut self, sender: &watch::Sender<Arc<Links>>) -> Ended {
        let mut refresh = tokio::time::interval_at(Instant::now() + REFRESH, REFRESH);
        let mut not_before = Instant::now();
        let mut news = News::default();
        loop {
            let mut lost = false;
            tokio::select! {
                () = sender.closed() => return Ended::NobodyListens,
                _ = refresh.tick() => lost = true,
                () = tokio::time::sleep_until(not_before), if news.any() => {}
                event = self.events.next() => match event {
                    None => return Ended::Broken("the kernel closed it"),
                    Some(message) => self.take(&message, &mut news, &mut lost),
                },
            }
            // Everything that waits is taken before anybody is told: a burst is one change.
            for _ in 0..EVENTS_AT_ONCE {
                let Some(Some(message)) = self.events.next().now_or_never() else {
                    break;
                };
                self.take(&message, &mut news, &mut lost);
            }
            if lost {
                match self.refresh().await {
                    Ok(different) => news.links |= different,
                    Err(_) => return Ended::Broken("a dump failed"),
                }
            }
            // An interface that goes down is told at once, whatever else is going on.
            if news.links || (news.addresses && Instant::now() >= not_before) {
                publish(sender, &self.links);
                news = News::default();
                let addresses = u32::try_from(self.links.count()).unwrap_or(u32::MAX);
                not_before = Instant::now() + PAUSE_PER_ADDRESS.saturating_mul(addresses);
            }
        }
    }

    fn take(
        &mut self,
        message: &NetlinkMessage<RouteNetlinkMessage>,
        news: &mut News,
        lost: &mut bool,
    ) {
        match &message.payload {
            NetlinkPayload::InnerMessage(inner) => {
                let changed = self.links.apply(inner);
                let about_address = matches!(
                    inner,
                    RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_)
                );
                news.addresses |= changed && about_address;
                news.links |= changed && !about_address;
            }
            NetlinkPayload::Overrun(_) => *lost = true,
            NetlinkPayload::Done(_) | NetlinkPayload::Error(_) | NetlinkPayload::Noop => {}
            // `NetlinkPayload` may get further variants; none of them carries a link.
            _ => {}
        }
    }

    /// Reads everything anew. Returns whether it differs from what was known.
    async fn refresh(&mut self) -> io::Result<bool> {
        let links = tokio::time::timeout(DUMP_TIMEOUT, dump(&self.requests))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer from rtnetlink"))?
            .map_err(io::Error::other)?;
        let changed = links != self.links;
        self.links = links;
        Ok(changed)
    }
}

fn publish(sender: &watch::Sender<Arc<Links>>, links: &Links) {
    sender.send_replace(Arc::new(links.clone()));
}

/// Reads every interface and address once.
///
/// # Errors
///
/// The kernel's.
pub async fn dump(handle: &Handle) -> Result<Links, rtnetlink::Error> {
    let mut links = Links::default();
    let mut stream = handle.link().get().execute();
    while let Some(message) = stream.try_next().await? {
        links.new_link(&message);
    }
    let mut stream = handle.address().get().execute();
    while let Some(message) = stream.try_next().await? {
        links.new_address(&message);
    }
    Ok(links)
}
