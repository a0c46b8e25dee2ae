//! What runs on the thread: sockets, deadlines, and the routers between them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vrrp::{
    Action, Advertisement, Datagram, Discard, Event, Fault, RouterKey, Routers, VirtualRouter,
};

use super::outbox::Outbox;
use super::{Command, LinkFacts, Report, RouterReport, Spec};
use crate::counters::{Counters, Lateness};
use crate::net::sys;
use crate::net::vrrp_socket::VrrpSocket;

/// The longest sleep: the watchdog sees by it that the thread turns.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Adverts read from one socket before deadlines are looked at again.
const RECEIVE_BATCH: usize = 256;
/// When a socket that could not be opened is tried again.
const SOCKET_RETRY: Duration = Duration::from_secs(1);
/// At most one report about the same kind of trouble of the same router in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Larger than any Ethernet frame; VRRP over IPv4 never fragments.
const PACKET_SIZE: usize = 9216;

pub(super) struct AdvertPath {
    routers: Routers,
    seats: BTreeMap<RouterKey, Seat>,
    /// The position of an interface is its number in [`RouterKey::link`].
    links: Vec<LinkSlot>,
    outbox: Outbox,
    lateness: Arc<Lateness>,
    identification: u16,
    /// When a kind of trouble was last reported: by link, VRID and name.
    reported: BTreeMap<(u32, Option<u8>, &'static str), Instant>,
}

/// What the loop keeps of a virtual router beside the protocol.
struct Seat {
    name: String,
    counters: Arc<Counters>,
    why: String,
    hold: bool,
    announce: u64,
    reported: Option<RouterReport>,
}

struct LinkSlot {
    facts: LinkFacts,
    socket: Option<VrrpSocket>,
    retry_at: Option<Instant>,
}

impl AdvertPath {
    pub(super) fn new(outbox: Outbox, lateness: Arc<Lateness>) -> AdvertPath {
        AdvertPath {
            routers: Routers::default(),
            seats: BTreeMap::new(),
            links: Vec::new(),
            outbox,
            lateness,
            identification: 0,
            reported: BTreeMap::new(),
        }
    }

    pub(super) fn become_realtime(&self) {
        let trouble = |what: String| {
            self.outbox.send(Report::Trouble {
                interface: None,
                what,
            })
        };
        if let Err(error) = sys::schedule_round_robin() {
            trouble(format!("no real-time scheduling for adverts: {error}"));
        }
        use rustix::mm::{MlockAllFlags, mlockall};
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        if let Err(error) = mlockall(flags) {
            trouble(format!("memory is not locked: {error}"));
        }
    }

    pub(super) fn run(
        &mut self,
        wake: &OwnedFd,
        commands: &mpsc::Receiver<Command>,
        turns: &AtomicU64,
    ) {
        loop {
            self.wait(wake);
            turns.fetch_add(1, Ordering::Relaxed);
            for command in commands.try_iter() {
                match command {
                    Command::Configure(specs) => self.configure(specs),
                    Command::Links(facts) => self.take_facts(facts),
                    Command::Stop => return self.stop(),
                }
            }
            // Adverts that wait are heard before deadlines are judged: a thread that was late must
            // not call a master dead whose adverts lie in the socket.
            self.receive();
            self.time_out();
            self.reopen_sockets();
            self.send_reports();
        }
    }

    fn wait(&self, wake: &OwnedFd) {
        let now = Instant::now();
        let retry = self.links.iter().filter_map(|slot| slot.retry_at).min();
        let due = self.routers.poll_timeout().into_iter().chain(retry).min();
        let sleep = due.map_or(HEARTBEAT, |at| {
            at.saturating_duration_since(now).min(HEARTBEAT)
        });
        let timeout = Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(sleep.subsec_nanos()),
        };
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        let sockets = self.links.iter().filter_map(|slot| slot.socket.as_ref());
        fds.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        // An interrupted or failed wait is a short one; the loop looks at everything anyway.
        let _ = poll(&mut fds, Some(&timeout));
        let mut count = [0; 8];
        let _ = rustix::io::read(wake, &mut count);
    }

    fn receive(&mut self) {
        let mut buffer = [0; PACKET_SIZE];
        for number in 0..self.links.len() {
            for _ in 0..RECEIVE_BATCH {
                let Some(slot) = self.links.get_mut(number) else {
                    break;
                };
                let Some(socket) = &slot.socket else { break };
                match socket.receive(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(packet)) => {
                        let link = link_number(number);
                        match Datagram::from_ipv4(packet) {
                            Ok(datagram) => self.hear(link, &datagram),
                            Err(discard) => self.discard(link, None, None, discard),
                        }
                    }
                    Err(error) => {
                        // ENETDOWN is told once when the interface goes down: that is a link fact.
                        let down = error.raw_os_error() == Some(libc::ENETDOWN);
                        if !down {
                            let what = format!("receiving adverts failed: {error}");
                            self.trouble(link_number(number), "receive", what);
                        }
                        break;
                    }
                }
            }
        }
    }

    fn hear(&mut self, link: u32, datagram: &Datagram<'_>) {
        let from = Some(datagram.source);
        match self
            .routers
            .receive(Instant::now(), wall_time(), link, datagram)
        {
            vrrp::Received::Accepted {
                key,
                actions,
                other_addresses,
                ..
            } => {
                if let Some(seat) = self.seats.get(&key) {
                    seat.counters.count_received();
                }
                self.perform(actions);
                if other_addresses && self.is_new((link, Some(key.vrid), "addresses")) {
                    let (source, vrid) = (datagram.source, key.vrid);
                    let what = format!(
                        "{source} advertises other addresses for VRID {vrid} than are configured \
                         here; the advert counts all the same"
                    );
                    let interface = self.interface(link);
                    self.outbox.send(Report::Trouble { interface, what });
                }
            }
            vrrp::Received::Discarded { key, discard } => self.discard(link, key, from, discard),
        }
    }

    /// Counts a discard for the router it was meant for. One that cannot be told (the VRID is
    /// nobody's, or the packet too broken to have one) counts for every router of the interface.
    fn discard(&mut self, link: u32, key: Option<RouterKey>, from: Option<IpAddr>, why: Discard) {
        let keys: Vec<RouterKey> = match key {
            Some(key) => vec![key],
            None => self
                .seats
                .keys()
                .filter(|key| key.link == link)
                .copied()
                .collect(),
        };
        let mut routers = Vec::new();
        for key in &keys {
            if let Some(seat) = self.seats.get(key) {
                seat.counters.count_discarded(&why);
                routers.push(seat.name.clone());
            }
        }
        if self.is_new((link, key.map(|key| key.vrid), why.name())) {
            let discard = why;
            self.outbox.send(Report::Discarded {
                routers,
                from,
                discard,
            });
        }
    }

    /// Reports that something does not work that should; it is tried again all the same.
    fn trouble(&mut self, link: u32, kind: &'static str, what: String) {
        if self.is_new((link, None, kind)) {
            let interface = self.interface(link);
            self.outbox.send(Report::Trouble { interface, what });
        }
    }

    fn interface(&self, link: u32) -> Option<String> {
        let slot = usize::try_from(link).ok().and_then(|n| self.links.get(n))?;
        Some(slot.facts.interface.clone())
    }

    /// Whether nothing of this kind was reported lately: a stranger's adverts, or a firewall's
    /// refusals, must not flood the log.
    fn is_new(&mut self, kind: (u32, Option<u8>, &'static str)) -> bool {
        let now = Instant::now();
        let last = self.reported.get(&kind);
        let new = last.is_none_or(|at| now.saturating_duration_since(*at) >= REPORT_INTERVAL);
        if new {
            self.reported.insert(kind, now);
        }
        new
    }

    fn time_out(&mut self) {
        let Some(due) = self.routers.poll_timeout() else {
            return;
        };
        let now = Instant::now();
        if due > now {
            return;
        }
        let actions = self.routers.timeout(now);
        self.perform(actions);
        self.lateness
            .record(Instant::now().saturating_duration_since(due));
    }

    fn perform(&mut self, actions: Vec<(RouterKey, Action)>) {
        for (key, action) in actions {
            if let Action::SendAdvertisement(advertisement) = &action {
                self.send_advert(&key, advertisement);
            }
            let Some(seat) = self.seats.get_mut(&key) else {
                continue;
            };
            match action {
                Action::SendAdvertisement(_) | Action::ProbeAddresses | Action::Notice(_) => {}
                Action::InstallAddresses => seat.hold = true,
                Action::RemoveAddresses => seat.hold = false,
                Action::Announce => seat.announce += 1,
                Action::StateChanged { why, .. } => seat.why = why.to_string(),
            }
        }
    }

    fn send_advert(&mut self, key: &RouterKey, advertisement: &Advertisement) {
        let Some(router) = self.routers.get(key) else {
            return;
        };
        let Some(slot) = usize::try_from(key.link)
            .ok()
            .and_then(|n| self.links.get_mut(n))
        else {
            return;
        };
        let (Some(source), Some(socket)) = (slot.facts.source, &slot.socket) else {
            return;
        };
        self.identification = self.identification.wrapping_add(1).max(1);
        let (group, number) = (vrrp::GROUP_V4, self.identification);
        let message = advertisement.render(
            router.parameters(),
            source.into(),
            group.into(),
            wall_time(),
            number,
        );
        let packet = vrrp::ipv4_packet(source, group, 255, number, &message);
        match socket.send(&packet) {
            Ok(()) => {
                if let Some(seat) = self.seats.get(key) {
                    seat.counters.count_sent();
                }
            }
            // A link that just went down is a fault by itself, reported by the kernel's event.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => {
                let what = format!("an advert of VRID {} was not sent: {error}", key.vrid);
                self.trouble(key.link, "send", what);
            }
        }
    }

    fn configure(&mut self, specs: Vec<Spec>) {
        let now = Instant::now();
        let mut wanted = BTreeMap::new();
        for spec in specs {
            let link = self.link_of(&spec.interface);
            let key = RouterKey {
                link,
                family: spec.parameters.family,
                vrid: spec.parameters.vrid,
            };
            wanted.insert(key, spec);
        }
        // What is gone, or speaks another version, gives up before anything new begins. Its addresses
        // stay until `Configured`: one that moves to another router of this host is not missed.
        let leaving: Vec<RouterKey> = self
            .seats
            .keys()
            .copied()
            .filter(|key| {
                wanted.get(key).is_none_or(|spec| {
                    let running = self.routers.get(key).map(|r| r.parameters().version);
                    running != Some(spec.parameters.version)
                })
            })
            .collect();
        for key in leaving {
            let actions = self.routers.handle(
                now,
                &key,
                Event::Shutdown {
                    make_before_break: false,
                },
            );
            self.perform(actions);
            self.routers.remove(&key);
            self.seats.remove(&key);
        }
        for (key, spec) in wanted {
            if let Some(seat) = self.seats.get_mut(&key) {
                seat.name = spec.name;
                seat.counters = spec.counters;
                let same =
                    self.routers.get(&key).map(VirtualRouter::parameters) == Some(&spec.parameters);
                if !same {
                    let event = Event::Reconfigured(spec.parameters);
                    let actions = self.routers.handle(now, &key, event);
                    self.perform(actions);
                }
                continue;
            }
            self.seats.insert(
                key,
                Seat {
                    name: spec.name,
                    counters: spec.counters,
                    why: String::new(),
                    hold: false,
                    announce: 0,
                    reported: None,
                },
            );
            self.routers
                .insert(key, VirtualRouter::new(spec.parameters));
            self.judge_link(key, now);
            let actions = self.routers.handle(now, &key, Event::Startup);
            self.perform(actions);
        }
        self.close_unused_sockets();
        self.send_reports();
        self.outbox.send(Report::Configured);
    }

    /// The number of an interface, which it keeps for the life of the daemon.
    fn link_of(&mut self, interface: &str) -> u32 {
        let known = self
            .links
            .iter()
            .position(|slot| slot.facts.interface == interface);
        let number = known.unwrap_or_else(|| {
            let interface = interface.to_owned();
            let facts = LinkFacts {
                interface,
                index: None,
                up: false,
                source: None,
            };
            self.links.push(LinkSlot {
                facts,
                socket: None,
                retry_at: None,
            });
            self.links.len() - 1
        });
        link_number(number)
    }

    fn take_facts(&mut self, facts: Vec<LinkFacts>) {
        let now = Instant::now();
        for facts in facts {
            let link = self.link_of(&facts.interface);
            let Some(slot) = usize::try_from(link)
                .ok()
                .and_then(|n| self.links.get_mut(n))
            else {
                continue;
            };
            if slot.facts != facts {
                // The socket belongs to the interface of that index; a recreated one needs its own.
                if slot.facts.index != facts.index {
                    slot.socket = None;
                    slot.retry_at = None;
                }
                slot.facts = facts;
            }
            self.open_socket(link, now);
            self.judge_links(link, now);
        }
        self.send_reports();
    }

    fn open_socket(&mut self, link: u32, now: Instant) {
        let used = self.seats.keys().any(|key| key.link == link);
        let Some(slot) = usize::try_from(link)
            .ok()
            .and_then(|n| self.links.get_mut(n))
        else {
            return;
        };
        let due = slot.retry_at.is_none_or(|at| at <= now);
        if !used || slot.socket.is_some() || !due {
            return;
        }
        let Some(index) = slot.facts.index else {
            return;
        };
        match VrrpSocket::open(&slot.facts.interface, index) {
            Ok(socket) => {
                slot.socket = Some(socket);
                slot.retry_at = None;
            }
            Err(error) => {
                slot.retry_at = Some(now + SOCKET_RETRY);
                self.trouble(link, "socket", format!("no socket for adverts: {error}"));
            }
        }
    }

    fn reopen_sockets(&mut self) {
        let now = Instant::now();
        for number in 0..self.links.len() {
            let due = self
                .links
                .get(number)
                .is_some_and(|slot| slot.retry_at.is_some_and(|at| at <= now));
            if due {
                if let Some(slot) = self.links.get_mut(number) {
                    slot.retry_at = None;
                }
                self.open_socket(link_number(number), now);
                self.judge_links(link_number(number), now);
            }
        }
    }

    fn close_unused_sockets(&mut self) {
        for (number, slot) in self.links.iter_mut().enumerate() {
            if !self.seats.keys().any(|key| key.link == link_number(number)) {
                slot.socket = None;
                slot.retry_at = None;
            }
        }
    }

    fn judge_links(&mut self, link: u32, now: Instant) {
        let keys: Vec<_> = self
            .seats
            .keys()
            .filter(|key| key.link == link)
            .copied()
            .collect();
        for key in keys {
            self.judge_link(key, now);
        }
    }

    /// Brings the link faults of a router in step with the facts: they follow from what is true
    /// now, not from what happened.
    fn judge_link(&mut self, key: RouterKey, now: Instant) {
        self.open_socket(key.link, now);
        let Some(slot) = usize::try_from(key.link)
            .ok()
            .and_then(|n| self.links.get(n))
        else {
            return;
        };
        let missing = slot.facts.index.is_none();
        let truths = [
            (Fault::InterfaceMissing, missing),
            (Fault::InterfaceDown, !missing && !slot.facts.up),
            (Fault::NoAddress, !missing && slot.facts.source.is_none()),
            (Fault::NoSocket, !missing && slot.socket.is_none()),
        ];
        let mut events = Vec::new();
        if let Some(source) = slot.facts.source {
            events.push(Event::SourceChanged(source.into()));
        }
        let raised = self
            .routers
            .get(&key)
            .map(|r| r.faults().clone())
            .unwrap_or_default();
        for (fault, holds) in truths {
            match (holds, raised.contains(&fault)) {
                (true, false) => events.push(Event::FaultRaised(fault)),
                (false, true) => events.push(Event::FaultCleared(fault)),
                (true, true) | (false, false) => {}
            }
        }
        for event in events {
            let actions = self.routers.handle(now, &key, event);
            self.perform(actions);
        }
    }

    fn send_reports(&mut self) {
        for (key, seat) in &mut self.seats {
            let Some(router) = self.routers.get(key) else {
                continue;
            };
            let report = RouterReport {
                name: seat.name.clone(),
                state: router.state_name(),
                why: seat.why.clone(),
                faults: router.faults().iter().cloned().collect(),
                effective_priority: router.effective_priority(),
                master: router.master(),
                hold: seat.hold,
                announce: seat.announce,
            };
            if seat.reported.as_ref() != Some(&report) {
                seat.reported = Some(report.clone());
                self.outbox.send(Report::Router(report));
            }
        }
    }

    fn stop(&mut self) {
        let now = Instant::now();
        let keys: Vec<_> = self.seats.keys().copied().collect();
        for key in keys {
            let actions = self.routers.handle(
                now,
                &key,
                Event::Shutdown {
                    make_before_break: false,
                },
            );
            self.perform(actions);
        }
        self.send_reports();
        self.outbox.send(Report::Stopped);
    }
}

fn link_number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// The time since 1970, which signed adverts carry.
fn wall_time() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}
