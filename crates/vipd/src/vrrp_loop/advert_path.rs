//! What runs on the thread: deadlines, adverts, and the routers between them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use health::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vrrp::{
    Action, Advertisement, Datagram, Discard, Event, Fault, Heartbeat, RouterKey, Routers,
    VirtualRouter,
};

use super::farewell::destinations;
use super::handover::{Leaving, Parked};
use super::outbox::Outbox;
use super::seat::{Seat, Way, group, virtual_mac};
use super::station::{Place, Station};
use super::{Command, Facts, Report, RouterFacts, Spec};
use crate::config;
use crate::guard::Pulse;
use crate::net::sys::{self, Mac};
use crate::net::vrrp_socket::VrrpSocket;

/// The longest sleep: the watchdog sees by it that the thread turns.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The adverts of hundreds of routers are due microseconds apart: those that are due within this time
/// after others leave together. A hundredth of the shortest interval.
const GATHER: Duration = Duration::from_micros(100);
/// Adverts read from one socket before deadlines are looked at again.
const RECEIVE_BATCH: usize = 256;
/// At most one report about the same kind of trouble of the same router in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Larger than any Ethernet frame; VRRP over IPv4 never fragments.
const PACKET_SIZE: usize = 9216;
/// The longest wait for successors on a stop, whatever the advert interval.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// A step back of the clock that peers do not notice: less than the smallest default window of an
/// authentication by digest.
const CLOCK_STEP: Duration = Duration::from_secs(4);

/// A frame to send: whose, whether it counts (an advert that goes several ways counts once), and its
/// bytes.
type Frame = (RouterKey, bool, Arc<[u8]>);

pub(super) struct AdvertPath {
    pub(super) routers: Routers,
    pub(super) seats: BTreeMap<RouterKey, Box<Seat>>,
    stations: Vec<Station>,
    /// The station that a macvlan's one stands for.
    below: BTreeMap<u32, u32>,
    facts: Facts,
    pub(super) outbox: Outbox,
    lateness: Arc<Histogram>,
    /// The time and number of the last advert: a signed one carries them, and peers take none that
    /// is older than the one before.
    pub(super) stamp: (Duration, u16),
    /// The routers of which something may have to be reported; `true`: their faults, too.
    touched: BTreeMap<RouterKey, bool>,
    /// When a kind of trouble was last reported: by station, VRID and name.
    reported: BTreeMap<(u32, Option<u8>, &'static str), Instant>,
    /// When deadlines were last met.
    served_at: Instant,
    /// When incompatible peers were last forgotten.
    forgot_at: Instant,
    /// Until when successors are waited for.
    stop_at: Option<Instant>,
    /// Another process is to go on.
    pub(super) leaving: Option<Leaving>,
    /// Another process still does what this one is to do.
    pub(super) parked: Option<Parked>,
}

impl AdvertPath {
    pub(super) fn new(
        outbox: Outbox,
        lateness: Arc<Histogram>,
        parked: Option<Parked>,
    ) -> AdvertPath {
        AdvertPath {
            routers: Routers::default(),
            seats: BTreeMap::new(),
            stations: Vec::new(),
            below: BTreeMap::new(),
            facts: Facts::default(),
            outbox,
            lateness,
            stamp: (Duration::ZERO, 0),
            touched: BTreeMap::new(),
            reported: BTreeMap::new(),
            served_at: Instant::now(),
            forgot_at: Instant::now(),
            stop_at: None,
            leaving: None,
            parked,
        }
    }

    pub(super) fn become_realtime(&self) {
        if let Err(error) = sys::schedule_round_robin() {
            let what = format!("no real-time scheduling for adverts: {error}");
            let interface = None;
            self.outbox.send(Report::Trouble { interface, what });
        }
    }

    pub(super) fn run(
        &mut self,
        wake: &OwnedFd,
        commands: &mpsc::Receiver<Command>,
        turns: &AtomicU64,
        pulse: &mut Pulse,
    ) {
        let mut buffer = vec![0; PACKET_SIZE];
        loop {
            let readable = self.wait(wake);
            turns.fetch_add(1, Ordering::Relaxed);
            // Adverts that wait are heard before deadlines are judged: a thread that was late must
            // not call a master dead whose adverts lie in the socket.
            for number in readable {
                self.receive(number, &mut buffer);
            }
            if self.take_over() {
                return;
            }
            self.time_out();
            for command in commands.try_iter() {
                self.obey(command);
            }
            self.reopen_sockets();
            self.forget_incompatible();
            self.send_reports();
            pulse.beat();
            if self.may_leave()
                && let Some(left) = self.leave()
            {
                let gone = left.is_ok();
                self.outbox.send(Report::HandedOver(left));
                if gone {
                    return;
                }
            }
            if self.stop_at.is_some_and(|at| self.may_stop(at)) {
                return self.end();
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Configure(specs, facts) => {
                self.note_facts(facts);
                self.configure(specs);
            }
            Command::Facts(facts) => self.take_facts(facts),
            Command::Yield(name) => {
                let key = self.seats.iter().find(|(_, seat)| seat.name == name);
                if let Some(key) = key.map(|(key, _)| *key) {
                    self.tell(now, &key, Event::Yield);
                }
            }
            Command::Answered { address, by } => {
                let asked = |seat: &Seat| seat.addresses.iter().any(|(_, ip)| *ip == address);
                let keys: Vec<_> = self
                    .seats
                    .iter()
                    .filter(|(_, seat)| asked(seat))
                    .map(|(key, _)| *key)
                    .collect();
                for key in keys {
                    self.tell(now, &key, Event::Answered { by });
                }
            }
            Command::HandOver(to, moment) => self.leaving = Some(Leaving::new(to, moment)),
            Command::Stop { make_before_break } => self.begin_stop(now, make_before_break),
        }
    }

    /// Sleeps until something is to be done. Returns the stations that have something to read.
    fn wait(&self, wake: &OwnedFd) -> Vec<usize> {
        let retry = self.stations.iter().filter_map(Station::retry_at).min();
        let due = self.routers.poll_timeout().into_iter();
        let due = due.chain(retry).chain(self.stop_at).min();
        // A deadline that follows close on the last one is met with those that follow it.
        let due = due.map(|at| at.max(self.served_at + GATHER));
        let sleep = due.map_or(HEARTBEAT, |at| {
            at.saturating_duration_since(Instant::now()).min(HEARTBEAT)
        });
        let timeout = Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(sleep.subsec_nanos()),
        };
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        let mut numbers = Vec::new();
        for (number, station) in self.stations.iter().enumerate() {
            if let Some(socket) = &station.socket {
                fds.push(PollFd::new(socket, PollFlags::IN));
                numbers.push(number);
            }
        }
        if let Some(parked) = &self.parked {
            fds.push(PollFd::new(&parked.from, PollFlags::IN));
        }
        // An interrupted or failed wait is a short one; the loop looks at everything anyway.
        let _ = poll(&mut fds, Some(&timeout));
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            let mut count = [0; 8];
            let _ = rustix::io::read(wake, &mut count);
        }
        let ready: Vec<bool> = ready.collect();
        numbers
            .into_iter()
            .zip(ready)
            .filter_map(|(number, ready)| ready.then_some(number))
            .collect()
    }

    fn receive(&mut self, number: usize, buffer: &mut [u8]) {
        for _ in 0..RECEIVE_BATCH {
            let Some(socket) = self
                .stations
                .get(number)
                .and_then(|station| station.socket.as_ref())
            else {
                return;
            };
            match socket.receive(buffer) {
                Ok(None) => return,
                // Who still does this one's work hears it, too.
                Ok(Some(_)) if self.parked.is_some() => {}
                Ok(Some(received)) => {
                    let station = station_number(number);
                    let station = self.below.get(&station).copied().unwrap_or(station);
                    match received {
                        Ok(datagram) => self.hear(station, &datagram),
                        Err(discard) => self.discard(station, None, None, discard),
                    }
                }
                Err(error) => {
                    // ENETDOWN is told once when the interface goes down: that is a link fact. An
                    // unreachable host is silent, which is what its absence means.
                    let told = [libc::ENETDOWN, libc::EHOSTUNREACH, libc::ECONNREFUSED];
                    if !error
                        .raw_os_error()
                        .is_some_and(|code| told.contains(&code))
                    {
                        let what = format!("receiving adverts failed: {error}");
                        self.trouble(station_number(number), "receive", what);
                    }
                    return;
                }
            }
        }
    }

    fn hear(&mut self, station: u32, datagram: &Datagram<'_>) {
        let from = Some(datagram.source);
        match self
            .routers
            .receive(Instant::now(), wall_time(), station, datagram)
        {
            vrrp::Received::Accepted {
                key,
                actions,
                other_addresses,
                form,
            } => {
                if let Some(seat) = self.seats.get(&key) {
                    seat.counters.count_received(form);
                }
                self.touch(key, false);
                self.perform(actions);
                if other_addresses && self.is_new((station, Some(key.vrid), "addresses")) {
                    let (source, vrid) = (datagram.source, key.vrid);
                    let what = format!(
                        "{source} advertises other addresses for VRID {vrid} than are configured \
                         here; the advert counts all the same"
                    );
                    let interface = self.interface(station);
                    self.outbox.send(Report::Trouble { interface, what });
                }
            }
            vrrp::Received::Discarded { key, discard } => self.discard(station, key, from, discard),
        }
    }

    /// Counts a discard for the router it was meant for. One that cannot be told (the VRID is
    /// nobody's, or the packet too broken to have one) counts for every router of the station.
    fn discard(
        &mut self,
        station: u32,
        key: Option<RouterKey>,
        from: Option<IpAddr>,
        why: Discard,
    ) {
        let concerned = |of: &RouterKey| match key {
            Some(key) => *of == key,
            None => of.link == station,
        };
        let seats = self.seats.iter().filter(|(of, _)| concerned(of));
        for (_, seat) in seats {
            seat.counters.count_discarded(&why);
        }
        if let (Some(key), Some(from), true) = (key, from, why.is_incompatibility()) {
            if let Some(seat) = self.seats.get_mut(&key) {
                seat.note_incompatible(from, why.name(), Instant::now());
            }
            self.touch(key, false);
        }
        // Names are for people: a flood of strangers' adverts costs no more than counting them.
        if self.is_new((station, key.map(|key| key.vrid), why.name())) {
            let seats = self.seats.iter().filter(|(of, _)| concerned(of));
            let routers = seats.map(|(_, seat)| seat.name.clone()).collect();
            let discard = why;
            self.outbox.send(Report::Discarded {
                routers,
                from,
                discard,
            });
        }
    }

    /// Reports that something does not work that should; it is tried again all the same.
    fn trouble(&mut self, station: u32, kind: &'static str, what: String) {
        if self.is_new((station, None, kind)) {
            let interface = self.interface(station);
            self.outbox.send(Report::Trouble { interface, what });
        }
    }

    pub(super) fn interface(&self, station: u32) -> Option<String> {
        self.station(station)?.interface().map(str::to_owned)
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

    pub(super) fn time_out(&mut self) {
        let Some(due) = self.routers.poll_timeout() else {
            return;
        };
        let now = Instant::now();
        if now < due {
            return;
        }
        self.served_at = now;
        let actions = self.routers.timeout(now);
        let sends = actions
            .iter()
            .any(|(_, action)| matches!(action, Action::SendAdvertisement(_)));
        self.perform(actions);
        if sends {
            self.lateness
                .record(Instant::now().saturating_duration_since(due));
        }
    }

    pub(super) fn tell(&mut self, now: Instant, key: &RouterKey, event: Event) {
        let faults_may = matches!(event, Event::FaultRaised(_) | Event::FaultCleared(_));
        let actions = self.routers.handle(now, key, event);
        self.touch(*key, faults_may);
        // A fault of one is one of its whole sync group.
        let group = self.seats.get(key).and_then(|seat| seat.group.clone());
        if group.is_some() {
            let members = self.seats.iter().filter(|(_, seat)| seat.group == group);
            let members: Vec<RouterKey> = members.map(|(key, _)| *key).collect();
            for member in members {
                self.touch(member, faults_may);
            }
        }
        self.perform(actions);
    }

    pub(super) fn touch(&mut self, key: RouterKey, faults_may: bool) {
        *self.touched.entry(key).or_default() |= faults_may;
    }

    /// Does what the routers want done. Adverts leave before anything else is even looked at.
    pub(super) fn perform(&mut self, actions: Vec<(RouterKey, Action)>) {
        self.send_adverts(&actions);
        for (key, action) in actions {
            if matches!(action, Action::SendAdvertisement(_)) {
                continue;
            }
            self.touch(key, true);
            let Some(seat) = self.seats.get_mut(&key) else {
                continue;
            };
            match action {
                Action::SendAdvertisement(_) => {}
                Action::InstallAddresses => seat.hold = true,
                Action::RemoveAddresses => seat.hold = false,
                Action::Announce => seat.announce += 1,
                Action::ProbeAddresses => {
                    self.outbox.send(Report::Probe(Arc::clone(&seat.addresses)));
                }
                Action::Notice(notice) => {
                    let router = seat.name.clone();
                    self.outbox.send(Report::Notice { router, notice });
                }
                Action::StateChanged { why, .. } => seat.why = why.to_string(),
            }
        }
    }

    /// Sends the adverts among the actions: with one system call those that leave by one interface.
    fn send_adverts(&mut self, actions: &[(RouterKey, Action)]) {
        let mut frames: BTreeMap<u32, Vec<Frame>> = BTreeMap::new();
        for (key, action) in actions {
            let Action::SendAdvertisement(advertisement) = action else {
                continue;
            };
            self.render(key, advertisement);
            let Some(seat) = self.seats.get(key) else {
                continue;
            };
            let mut results = Vec::new();
            for (nth, (way, packet)) in seat.packets().enumerate() {
                let counts = nth == 0;
                if way.from.is_some() {
                    let frames = frames.entry(way.station).or_default();
                    frames.push((*key, counts, Arc::clone(packet)));
                } else if let Some(socket) = self.socket(way.station) {
                    let result = socket.send(packet, way.destination);
                    results.push((way.station, counts, result));
                }
            }
            for (station, counts, result) in results {
                self.note_sent(*key, station, counts, result);
            }
        }
        for (station, frames) in frames {
            let mut rest = &*frames;
            while let [(first, counts, _), others @ ..] = rest {
                let Some(socket) = self.station(station).and_then(|s| s.frames.as_ref()) else {
                    break;
                };
                match socket.send(rest.iter().map(|(_, _, frame)| &**frame)) {
                    Ok(count) => {
                        let (sent, unsent) =
                            rest.split_at_checked(count.max(1)).unwrap_or((rest, &[]));
                        for (key, counts, _) in sent {
                            self.note_sent(*key, station, *counts, Ok(()));
                        }
                        rest = unsent;
                    }
                    Err(error) => {
                        self.note_sent(*first, station, *counts, Err(error));
                        rest = others;
                    }
                }
            }
        }
    }

    fn socket(&self, station: u32) -> Option<&VrrpSocket> {
        self.station(station)?.socket.as_ref()
    }

    fn note_sent(&mut self, key: RouterKey, station: u32, counts: bool, result: io::Result<()>) {
        match result {
            Ok(()) => {
                if let Some(seat) = self.seats.get(&key).filter(|_| counts) {
                    seat.counters.count_sent();
                }
            }
            // A link that just went down is a fault by itself, reported by the kernel's event.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => {
                let what = format!("an advert of VRID {} was not sent: {error}", key.vrid);
                self.trouble(station, "send", what);
            }
        }
    }

    /// Makes the bytes of an advert, unless they are at hand.
    fn render(&mut self, key: &RouterKey, advertisement: &Advertisement) {
        let (Some(router), Some(seat)) = (self.routers.get(key), self.seats.get(key)) else {
            return;
        };
        if seat.has_rendered(advertisement, router.parameters()) {
            return;
        }
        let ways = self.ways(key);
        let (wall, before) = (wall_time(), self.stamp.0);
        // A clock that is set back a little must not silence us.
        let stands = before.checked_sub(wall).is_some_and(|by| by < CLOCK_STEP);
        let stamp = if stands { before } else { wall };
        self.stamp = (stamp, self.stamp.1.wrapping_add(1));
        if let Some(seat) = self.seats.get_mut(key) {
            seat.render(advertisement, router.parameters(), ways, self.stamp);
        }
    }

    /// Where the adverts of a virtual router go: its link first, then its heartbeats.
    fn ways(&self, key: &RouterKey) -> Vec<Way> {
        let (Some(router), Some(seat)) = (self.routers.get(key), self.seats.get(key)) else {
            return Vec::new();
        };
        let from = self.mac_of(key.link).map(|mac| match seat.virtual_mac {
            true => virtual_mac(key.family, key.vrid),
            false => mac,
        });
        let link = router.source().into_iter().flat_map(|source| {
            let destinations = destinations(router.parameters()).into_iter();
            destinations.map(move |destination| Way {
                station: key.link,
                source,
                destination,
                from: from.filter(|_| destination.is_multicast()),
            })
        });
        let further = self.heartbeats(seat).into_iter();
        let further = further.map(|(station, Heartbeat { own, peer })| Way {
            station,
            source: own,
            destination: peer.unwrap_or(group(key.family)),
            from: self.mac_of(station).filter(|_| peer.is_none()),
        });
        link.chain(further).collect()
    }

    /// The Ethernet address of a station that sends frames.
    fn mac_of(&self, station: u32) -> Option<Mac> {
        let station = self.station(station)?;
        station.mac.filter(|_| station.frames.is_some())
    }

    /// The further paths of a virtual router whose own address is known.
    fn heartbeats(&self, seat: &Seat) -> Vec<(u32, Heartbeat)> {
        let own_of = |index: usize| {
            let sources = &seat.facts.as_ref()?.heartbeat_sources;
            sources.get(index).copied().flatten()
        };
        let paths = seat.heartbeats.iter().enumerate();
        paths
            .filter_map(|(index, (number, peer))| {
                let own = match peer {
                    Some(_) => self.station(*number)?.own,
                    None => own_of(index),
                };
                let own = own?;
                Some((*number, Heartbeat { own, peer: *peer }))
            })
            .collect()
    }

    fn configure(&mut self, specs: Vec<Spec>) {
        let now = Instant::now();
        let mut wanted = BTreeMap::new();
        for spec in specs {
            let family = spec.parameters.family;
            let link = self.station_of(Place::Interface(spec.interface.clone()), family);
            let vrid = spec.parameters.vrid;
            wanted.insert(RouterKey { link, family, vrid }, spec);
        }
        self.give_up_others(&wanted, now);
        let mut added = Vec::new();
        for (key, spec) in wanted {
            let heartbeats = self.heartbeat_stations(&spec);
            let macvlan = spec.virtual_mac.clone();
            let macvlan = macvlan.map(|name| self.station_of(Place::Interface(name), key.family));
            let parameters = spec.parameters.clone();
            if let Some(seat) = self.seats.get_mut(&key) {
                seat.configure(spec);
                seat.heartbeats = heartbeats;
                seat.macvlan = macvlan;
                let running = self.routers.get(&key).map(VirtualRouter::parameters);
                if running != Some(&parameters) {
                    self.tell(now, &key, Event::Reconfigured(parameters));
                }
                self.touch(key, true);
                continue;
            }
            let mut seat = Seat::new(spec);
            seat.heartbeats = heartbeats;
            seat.macvlan = macvlan;
            self.seats.insert(key, Box::new(seat));
            self.routers.insert(key, VirtualRouter::new(parameters));
            added.push(key);
        }
        self.set_groups();
        self.use_stations(now);
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.judge(key, now);
        }
        if let Some(parked) = &mut self.parked {
            parked.configured = true;
            let unfit = self.unfit();
            self.outbox.send(Report::Parked { unfit });
            return;
        }
        for key in added {
            self.tell(now, &key, Event::Startup);
        }
        let actions = self.routers.settle(now);
        self.perform(actions);
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.touch(key, true);
        }
        self.send_reports();
        self.outbox.send(Report::Configured);
    }

    /// What is gone, or speaks another version, gives up before anything new begins. Its addresses
    /// stay until `Configured`: one that moves to another router of this host is not missed.
    fn give_up_others(&mut self, wanted: &BTreeMap<RouterKey, Spec>, now: Instant) {
        let stays = |key: &RouterKey| {
            wanted.get(key).is_some_and(|spec| {
                let running = self.routers.get(key).map(|r| r.parameters().version);
                running == Some(spec.parameters.version)
            })
        };
        let leaving: Vec<RouterKey> = self.seats.keys().copied().filter(|k| !stays(k)).collect();
        // Without its group nobody follows the one that leaves.
        self.routers.set_groups(Vec::new());
        for key in leaving {
            let make_before_break = false;
            self.tell(now, &key, Event::Shutdown { make_before_break });
            self.routers.remove(&key);
            self.seats.remove(&key);
            self.touched.remove(&key);
        }
    }

    fn set_groups(&mut self) {
        let mut groups: BTreeMap<&str, BTreeSet<RouterKey>> = BTreeMap::new();
        for (key, seat) in &self.seats {
            if let Some(group) = &seat.group {
                groups.entry(group).or_default().insert(*key);
            }
        }
        let groups = groups.into_values().collect();
        self.routers.set_groups(groups);
    }

    fn heartbeat_stations(&mut self, spec: &Spec) -> Vec<(u32, Option<IpAddr>)> {
        let family = spec.parameters.family;
        spec.heartbeats
            .iter()
            .map(|heartbeat| match heartbeat {
                config::Heartbeat::Interface(name) => (
                    self.station_of(Place::Interface(name.clone()), family),
                    None,
                ),
                config::Heartbeat::Peer { peer, source } => {
                    let place = Place::Peer {
                        peer: *peer,
                        source: *source,
                    };
                    (self.station_of(place, family), Some(*peer))
                }
            })
            .collect()
    }

    /// The number of a station, which it keeps for the life of the daemon.
    fn station_of(&mut self, place: Place, family: vrrp::Family) -> u32 {
        let known = self
            .stations
            .iter()
            .position(|station| station.place == place && station.family == family);
        let number = known.unwrap_or_else(|| {
            let mut station = Station::new(place, family);
            let facts = station.interface().and_then(|name| {
                let mut links = self.facts.links.iter();
                links.find(|link| link.interface == name).cloned()
            });
            if let Some(facts) = &facts {
                station.take(facts);
            }
            self.stations.push(station);
            self.stations.len() - 1
        });
        station_number(number)
    }

    pub(super) fn station(&self, number: u32) -> Option<&Station> {
        self.stations.get(usize::try_from(number).ok()?)
    }

    fn take_facts(&mut self, facts: Facts) {
        let now = Instant::now();
        self.note_facts(facts);
        self.use_stations(now);
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.judge(key, now);
        }
    }

    fn note_facts(&mut self, facts: Facts) {
        for link in &facts.links {
            for station in &mut self.stations {
                if station.interface() == Some(&link.interface) {
                    station.take(link);
                }
            }
        }
        self.facts = facts;
    }

    /// Opens the sockets that are needed, closes the others, and tells the routers which further
    /// paths they have.
    fn use_stations(&mut self, now: Instant) {
        // A further path begins at an address, which is one of the facts.
        let facts = self.facts.routers.iter();
        let facts: BTreeMap<&str, &Arc<RouterFacts>> =
            facts.map(|facts| (&*facts.name, facts)).collect();
        for seat in self.seats.values_mut() {
            seat.facts = facts.get(&*seat.name).map(|facts| Arc::clone(facts));
        }
        let links = self.seats.keys().map(|key| key.link);
        let further = self.seats.values().flat_map(|seat| &seat.heartbeats);
        let macvlans = self.seats.values().filter_map(|seat| seat.macvlan);
        let further = further.map(|(number, _)| *number);
        let used: BTreeSet<u32> = links.chain(further).chain(macvlans).collect();
        let below = self.seats.iter();
        self.below = below
            .filter_map(|(key, seat)| Some((seat.macvlan?, key.link)))
            .collect();
        for number in 0..self.stations.len() {
            let Some(station) = self.stations.get_mut(number) else {
                continue;
            };
            station.used = used.contains(&station_number(number));
            if let Err(error) = station.open(now) {
                let what = format!("no socket for adverts: {error}");
                self.trouble(station_number(number), "socket", what);
            }
        }
        let paths = self.seats.iter().flat_map(|(key, seat)| {
            let paths = self.heartbeats(seat).into_iter();
            paths.map(|(number, heartbeat)| (number, *key, heartbeat))
        });
        let paths = paths.collect();
        self.routers.set_heartbeats(paths);
    }

    fn reopen_sockets(&mut self) {
        let now = Instant::now();
        let due = |station: &Station| station.retry_at().is_some_and(|at| at <= now);
        if !self.stations.iter().any(due) {
            return;
        }
        self.use_stations(now);
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.judge(key, now);
        }
    }

    /// Brings what a router knows of the world in step with its facts: it follows from what is true
    /// now, not from what happened. [`AdvertPath::use_stations`] comes first.
    pub(super) fn judge(&mut self, key: RouterKey, now: Instant) {
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        let unknown = || Arc::new(RouterFacts::unknown(seat.name.clone()));
        let facts = seat.facts.clone().unwrap_or_else(unknown);
        seat.forget_rendered();
        let Some(station) = self.station(key.link) else {
            return;
        };
        let missing = station.index.is_none();
        let source = facts.source;
        let mut wanted: BTreeSet<Fault> = [
            (Fault::InterfaceMissing, missing),
            (Fault::InterfaceDown, !missing && !station.up),
            (Fault::NoAddress, !missing && source.is_none()),
            (Fault::NoSocket, !missing && station.socket.is_none()),
        ]
        .into_iter()
        .filter_map(|(fault, holds)| holds.then_some(fault))
        .collect();
        wanted.extend(facts.faults.iter().cloned());
        let raised = self.routers.get(&key).map(|router| router.faults().clone());
        let raised = raised.unwrap_or_default();
        let mut events: Vec<Event> = source.map(Event::SourceChanged).into_iter().collect();
        events.push(Event::PriorityOffset(facts.priority_offset));
        events.push(Event::ReferencesLost(facts.references_lost));
        let new = wanted.difference(&raised).cloned();
        events.extend(new.map(Event::FaultRaised));
        // These two are the router's own conclusions.
        let own = |fault: &&Fault| !matches!(fault, Fault::SyncGroup | Fault::Unreachable);
        let gone = raised.difference(&wanted).filter(own).cloned();
        events.extend(gone.map(Event::FaultCleared));
        for event in events {
            self.tell(now, &key, event);
        }
    }

    fn forget_incompatible(&mut self) {
        let now = Instant::now();
        // Nobody needs it to the millisecond, and there may be a thousand routers.
        if now.saturating_duration_since(self.forgot_at) < HEARTBEAT {
            return;
        }
        self.forgot_at = now;
        for (key, seat) in &mut self.seats {
            let interval = self.routers.get(key).map(|r| r.parameters().interval());
            if seat.forget_incompatible(interval.unwrap_or_default(), now) {
                self.touched.entry(*key).or_default();
            }
        }
    }

    pub(super) fn send_reports(&mut self) {
        if self.parked.is_some() {
            return;
        }
        for (key, faults_may) in std::mem::take(&mut self.touched) {
            let (Some(seat), Some(router)) = (self.seats.get_mut(&key), self.routers.get(&key))
            else {
                continue;
            };
            if let Some(report) = seat.report(router, faults_may) {
                self.outbox.send(Report::Router(report));
            }
        }
    }

    fn begin_stop(&mut self, now: Instant, make_before_break: bool) {
        self.routers.set_groups(Vec::new());
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.tell(now, &key, Event::Shutdown { make_before_break });
        }
        let until = now + STOP_WAIT;
        self.stop_at = Some(self.stop_at.unwrap_or(until));
    }

    fn may_stop(&self, at: Instant) -> bool {
        let lingers = self.routers.iter().any(|(_, router)| router.is_lingering());
        !lingers || Instant::now() >= at
    }

    fn end(&mut self) {
        let now = Instant::now();
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            let make_before_break = false;
            self.tell(now, &key, Event::Shutdown { make_before_break });
        }
        self.send_reports();
        self.outbox.send(Report::Stopped);
    }
}

fn station_number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// The time since 1970, which signed adverts carry.
pub(super) fn wall_time() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}
