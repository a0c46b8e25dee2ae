//! Routes and routing rules that exist while a virtual router holds its addresses.
//!
//! What a user sees: they are there after the addresses (a preferred source may be one of them) and
//! go with them; `ip route` and `ip rule` show `proto 112`, the IP protocol number of VRRP. Whatever
//! has that mark and is not wanted is removed, also what a crash left; what has not is never touched.
//! One that cannot be had, such as a route by a gateway that nothing leads to, is tried every second.
//!
//! Level-triggered, without reading the routing tables, which may have a million entries: every
//! second each route is added again, and the kernel answers that it exists (`NLM_F_EXCL`). One that
//! somebody deleted, or that went with its interface, is back that way. The routes with our mark are
//! listed at the start and every [`LOOK`], which finds those that somebody replaced; the kernel
//! filters that list itself (`NETLINK_GET_STRICT_CHK`, since 4.20): 110 ms for a million of others.

mod message;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::packet_route::rule::RuleAttribute;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, IpVersion};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::addresses::{Failure, bytes, execute, request};
use super::links::{self, Links};
use crate::config::{Config, VirtualRoute, VirtualRule};
use message::Marked;

/// `RTPROT` and `FRA_PROTOCOL` of what vipd adds: the IP protocol number of VRRP. (18 is
/// keepalived's.)
pub const PROTOCOL: u8 = 112;
/// How often what has our mark is listed.
pub const LOOK: Duration = Duration::from_secs(60);
/// How often each is added again, and what was refused is tried again.
const CHECK: Duration = Duration::from_secs(1);
/// How long the kernel may take for a list.
const DUMP_TIMEOUT: Duration = Duration::from_secs(10);
/// What should exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The routes and rules, each once.
    pub items: Vec<Item>,
}

/// A route or a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A route.
    Route(VirtualRoute),
    /// A routing rule.
    Rule(VirtualRule),
}

impl Wanted {
    /// What the configuration wants while the virtual routers for which `holds` speaks hold their
    /// addresses.
    #[must_use]
    pub fn of(config: &Config, holds: impl Fn(&str) -> bool) -> Wanted {
        let mut items = Vec::new();
        for vrrp in config.vrrp.iter().filter(|vrrp| holds(&vrrp.name)) {
            let routes = vrrp.routes.iter().cloned().map(Item::Route);
            let rules = vrrp.rules.iter().cloned().map(Item::Rule);
            // Two routers may name the same one.
            for item in routes.chain(rules) {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        Wanted { items }
    }
}

/// What was done, for the log, the events and the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Somebody took a wanted one away; it is back.
    Repaired {
        /// Which.
        item: Item,
    },
    /// It could not be had for a second or more; tried again every second. Told once for each reason.
    Refused {
        /// Which.
        item: Item,
        /// Why.
        error: String,
    },
    /// What was refused before is there now, or not wanted any more.
    Mended {
        /// Which.
        item: Item,
    },
    /// Routes and rules were added or removed because that is newly wanted.
    Changed {
        /// How many were added.
        added: usize,
        /// How many were removed.
        removed: usize,
    },
    /// The kernel did not list or remove what has our mark; tried again.
    Trouble {
        /// Why.
        error: String,
    },
}

/// Starts the task; it removes everything and ends when `wanted` is dropped.
///
/// # Errors
///
/// No netlink socket.
pub fn start(
    links: watch::Receiver<Arc<Links>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    reports: impl Fn(Report) + Send + Sync + 'static,
) -> io::Result<JoinHandle<()>> {
    let worker = Worker {
        handle: connect()?,
        links,
        wanted,
        reports: Box::new(reports),
        held: Vec::new(),
        complaints: Vec::new(),
        trouble: None,
        look_at: Instant::now(),
        check_at: Instant::now(),
    };
    Ok(tokio::spawn(worker.run()))
}

/// Removes every route and rule with our mark. Returns what was done, a line each.
///
/// # Errors
///
/// The kernel's.
pub async fn release() -> Result<Vec<String>, String> {
    let handle = connect().map_err(|error| error.to_string())?;
    let links = links::dump(&handle).await;
    let links = links.map_err(|error| format!("reading the interfaces: {error}"))?;
    let mut done = Vec::new();
    for marked in list(&handle).await.map_err(|error| error.to_string())? {
        let name = marked.item(&links).to_string();
        let result = delete(&handle, marked).await;
        result.map_err(|error| format!("removing {name}: {error}"))?;
        done.push(format!("removed {name}"));
    }
    Ok(done)
}

struct Worker {
    handle: Handle,
    links: watch::Receiver<Arc<Links>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    reports: Box<dyn Fn(Report) + Send + Sync>,
    /// What was there when it was looked at last.
    held: Vec<Item>,
    /// What cannot be had now.
    complaints: Vec<Complaint>,
    trouble: Option<String>,
    /// When what has our mark is listed.
    look_at: Instant,
    /// When everything is added again.
    check_at: Instant,
}

struct Complaint {
    item: Item,
    error: String,
    since: Instant,
    said: bool,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let idle = self.wanted.borrow().items.is_empty() && self.held.is_empty();
            let next = if idle {
                self.look_at
            } else {
                self.check_at.min(self.look_at)
            };
            let alive = tokio::select! {
                changed = self.links.changed() => changed.is_ok(),
                changed = self.wanted.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(next) => true,
            };
            if !alive {
                return self.finish().await;
            }
            let wanted = Arc::clone(&self.wanted.borrow_and_update());
            self.reconcile(&wanted.items).await;
        }
    }

    /// The last pass: nobody will say more.
    async fn finish(&mut self) {
        self.look_at = Instant::now();
        self.reconcile(&[]).await;
    }

    async fn reconcile(&mut self, wanted: &[Item]) {
        let links = Arc::clone(&self.links.borrow_and_update());
        let now = Instant::now();
        let mut trouble = None;
        let mut lost = Vec::new();
        let mut removed = 0;
        if self.look_at <= now {
            self.look_at = now + LOOK;
            match self.look(wanted, &links).await {
                Ok((missing, strangers)) => (lost, removed) = (missing, strangers),
                Err(error) => {
                    self.look_at = now + CHECK;
                    trouble = Some(self.failed(&error));
                }
            }
        }
        let check = self.check_at <= now;
        if check {
            self.check_at = now + CHECK;
        }
        for item in std::mem::take(&mut self.held) {
            if wanted.contains(&item) {
                self.held.push(item);
                continue;
            }
            // Without its interface there is no route.
            let Ok(message) = Marked::of(&item, &links) else {
                continue;
            };
            match delete(&self.handle, message).await {
                Ok(()) => removed += 1,
                Err(error) => {
                    trouble = Some(format!("removing {item}: {}", self.failed(&error)));
                    self.held.push(item);
                }
            }
        }
        let mut added = 0;
        for item in wanted {
            let held = self.held.contains(item);
            if held && !check {
                continue;
            }
            match self.add(item, &links).await {
                Ok(Added::New) if held || lost.contains(item) => {
                    (self.reports)(Report::Repaired { item: item.clone() });
                }
                Ok(Added::New) => added += 1,
                Ok(Added::There) if held => {}
                // It may be ours, of another configuration: the list tells.
                Ok(Added::There) => {
                    let error = "one that is not vipd's has its place".to_owned();
                    self.refused(item, error);
                    self.look_at = self.look_at.min(now + CHECK);
                    continue;
                }
                Err(error) => {
                    self.held.retain(|held| held != item);
                    let error = self.failed(&error);
                    self.refused(item, error);
                    self.check_at = self.check_at.min(now + CHECK);
                    continue;
                }
            }
            if !held {
                self.held.push(item.clone());
            }
            self.mended(item);
        }
        let unwanted = |complaint: &&Complaint| !wanted.contains(&complaint.item);
        let unwanted = self.complaints.iter().filter(unwanted);
        for item in unwanted.map(|c| c.item.clone()).collect::<Vec<_>>() {
            self.mended(&item);
        }
        if added > 0 || removed > 0 {
            (self.reports)(Report::Changed { added, removed });
        }
        if let Some(error) = trouble.clone().filter(|_| trouble != self.trouble) {
            (self.reports)(Report::Trouble { error });
        }
        self.trouble = trouble;
    }

    /// Brings what is known to be held in step with what has our mark, and removes the rest of it.
    /// Returns what was held and is not there, and how many were removed.
    async fn look(
        &mut self,
        wanted: &[Item],
        links: &Links,
    ) -> Result<(Vec<Item>, usize), Failure> {
        let (mut found, mut removed) = (Vec::new(), 0);
        for marked in list(&self.handle).await? {
            let item = wanted.iter().find(|item| marked.is(item, links));
            match item {
                Some(item) if !found.contains(item) => found.push(item.clone()),
                Some(_) | None => {
                    delete(&self.handle, marked).await?;
                    removed += 1;
                }
            }
        }
        let mut lost = std::mem::replace(&mut self.held, found);
        lost.retain(|item| !self.held.contains(item));
        Ok((lost, removed))
    }

    async fn add(&self, item: &Item, links: &Links) -> Result<Added, Failure> {
        let message = Marked::of(item, links).map_err(Failure::Refused)?;
        let mut outcome = Added::New;
        let request = async {
            let result = match message {
                Marked::Route(message) => self.handle.route().add(message).execute().await,
                Marked::Rule(message) => {
                    let mut request = self.handle.rule().add();
                    *request.message_mut() = message;
                    request.execute().await
                }
            };
            match result {
                Err(rtnetlink::Error::NetlinkError(message))
                    if message.raw_code().saturating_abs() == libc::EEXIST =>
                {
                    outcome = Added::There;
                    Ok(())
                }
                result => result,
            }
        };
        execute(request, &[]).await?;
        Ok(outcome)
    }

    /// Reports why one cannot be had, unless that was said already or is younger than a second: a
    /// route that needs an address which is just being added is nothing to speak of.
    fn refused(&mut self, item: &Item, error: String) {
        let now = Instant::now();
        let position = self.complaints.iter().position(|c| c.item == *item);
        let mut complaint = match position {
            Some(position) => self.complaints.swap_remove(position),
            None => Complaint {
                item: item.clone(),
                error: error.clone(),
                since: now,
                said: false,
            },
        };
        let changed = complaint.error != error;
        complaint.error = error;
        if (changed || !complaint.said) && now >= complaint.since + CHECK {
            complaint.said = true;
            let (item, error) = (complaint.item.clone(), complaint.error.clone());
            (self.reports)(Report::Refused { item, error });
        }
        self.complaints.push(complaint);
    }

    fn mended(&mut self, item: &Item) {
        if let Some(position) = self.complaints.iter().position(|c| c.item == *item) {
            let complaint = self.complaints.swap_remove(position);
            if complaint.said {
                let item = complaint.item;
                (self.reports)(Report::Mended { item });
            }
        }
    }

    /// A connection that gave no answer is made anew: it does not mend itself. Returns the words.
    fn failed(&mut self, failure: &Failure) -> String {
        if let Failure::Broken(_) = failure {
            match connect() {
                Ok(handle) => self.handle = handle,
                Err(error) => warn!(%error, "no netlink socket"),
            }
        }
        failure.to_string()
    }
}

enum Added {
    New,
    There,
}

fn connect() -> io::Result<Handle> {
    use rtnetlink::sys::AsyncSocket;

    let (mut connection, handle, _) = rtnetlink::new_connection()?;
    let socket = connection.socket_mut().socket_mut();
    // Without it the kernel lists everything, which is slow but no less right.
    if let Err(error) = socket.set_netlink_get_strict_chk(true) {
        warn!(%error, "the kernel does not filter lists of routes");
    }
    tokio::spawn(connection);
    Ok(handle)
}

/// Every route and rule with our mark, in every table.
async fn list(handle: &Handle) -> Result<Vec<Marked>, Failure> {
    let read = async {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            request.header.protocol = RouteProtocol::from(PROTOCOL);
            let mut routes = handle.route().get(request).execute();
            while let Some(message) = routes.try_next().await? {
                if u8::from(message.header.protocol) == PROTOCOL {
                    found.push(Marked::Route(message));
                }
            }
        }
        for version in [IpVersion::V4, IpVersion::V6] {
            let mut rules = handle.rule().get(version).execute();
            while let Some(message) = rules.try_next().await? {
                let ours = RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL));
                if message.attributes.contains(&ours) {
                    found.push(Marked::Rule(message));
                }
            }
        }
        Ok::<_, rtnetlink::Error>(found)
    };
    match tokio::time::timeout(DUMP_TIMEOUT, read).await {
        Ok(result) => result.map_err(|error| Failure::Broken(error.to_string())),
        Err(_) => Err(Failure::Broken("no answer from rtnetlink".to_owned())),
    }
}

/// The netlink messages that remove what is wanted now, for whom it is to be removed by.
pub(crate) fn removals(wanted: &Wanted, links: &Links) -> Vec<Vec<u8>> {
    let marked = wanted.items.iter();
    let marked = marked.filter_map(|item| Marked::of(item, links).ok());
    let message = |marked| match marked {
        Marked::Route(message) => RouteNetlinkMessage::DelRoute(of_any_scope(message)),
        Marked::Rule(message) => RouteNetlinkMessage::DelRule(message),
    };
    marked.map(|it| bytes(request(message(it), 0))).collect()
}

/// The kernel chose the scope.
fn of_any_scope(mut message: RouteMessage) -> RouteMessage {
    if message.header.address_family == AddressFamily::Inet {
        message.header.scope = RouteScope::NoWhere;
    }
    message
}

/// One that is gone already is no error.
async fn delete(handle: &Handle, marked: Marked) -> Result<(), Failure> {
    let gone = [libc::ESRCH, libc::ENOENT, libc::ENODEV];
    match marked {
        Marked::Route(message) => {
            let message = of_any_scope(message);
            execute(handle.route().del(message).execute(), &gone).await
        }
        Marked::Rule(message) => execute(handle.rule().del(message).execute(), &gone).await,
    }
}
