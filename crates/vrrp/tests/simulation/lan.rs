//! A LAN of virtual routers in virtual time. Adverts travel as bytes; the wire loses, delays,
//! duplicates and reorders them, and hosts crash, stop, sleep and lose their link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use vrrp::{
    Action, Datagram, Event, Family, Fault, GROUP_V4, Parameters, Received, RouterKey, Routers,
    StateName, VirtualRouter, ipv4_packet,
};

const KEY: RouterKey = RouterKey {
    link: 1,
    family: Family::V4,
    vrid: 51,
};

/// Something that happens to a host or to the wire.
#[derive(Debug, Clone)]
pub(crate) enum Disturbance {
    /// The host is gone, without a word.
    Crash(usize),
    /// A crashed or stopped host starts.
    Start(usize),
    /// The daemon of the host stops as it should.
    Stop(usize),
    /// The host does nothing for a while; what it should hear waits.
    Sleep(usize, Duration),
    /// The link of the host goes down.
    Down(usize),
    /// The link of the host comes up.
    Up(usize),
    /// The host gets another priority.
    Priority(usize, u8),
    /// Hosts whose bit differs do not hear each other.
    Split(u8),
    /// So many of 100 adverts are lost, and as many come twice.
    Weather(u64),
}

pub(crate) struct Host {
    pub(crate) address: Ipv4Addr,
    pub(crate) routers: Routers,
    pub(crate) parameters: Parameters,
    /// When it became master, backup and so on.
    pub(crate) history: Vec<(Instant, StateName)>,
    pub(crate) announced: Vec<Instant>,
    /// When it last heard an advert while it was master itself.
    pub(crate) rival_heard: Option<Instant>,
    installed: bool,
    asleep_until: Option<Instant>,
    inbox: Vec<Vec<u8>>,
}

pub(crate) struct Lan {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    /// How long an advert travels, in microseconds; each one draws its own.
    pub(crate) delay: RangeInclusive<u64>,
    /// Whether an advert may overtake an earlier one of the same sender. Between two hosts of a real
    /// LAN none does; then priority 0 is the last word of a master that gives up.
    pub(crate) reorders: bool,
    /// Adverts that nobody hears, counted from the first one sent.
    pub(crate) lost: BTreeSet<u64>,
    pub(crate) sent: u64,
    weather: u64,
    segments: u8,
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    /// When the last advert from one host to another arrives.
    last_arrival: BTreeMap<(usize, usize), Instant>,
    frames: u64,
    dice: u64,
}

impl Lan {
    /// The hosts are crashed until they are started; their addresses rise.
    pub(crate) fn new(hosts: Vec<Parameters>, delay: RangeInclusive<u64>, seed: u64) -> Lan {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
        let now = Instant::now();
        let hosts = hosts.into_iter().zip(1..).map(|(parameters, number)| Host {
            address: Ipv4Addr::new(192, 0, 2, number),
            routers: Routers::default(),
            parameters,
            history: Vec::new(),
            announced: Vec::new(),
            rival_heard: None,
            installed: false,
            asleep_until: None,
            inbox: Vec::new(),
        });
        Lan {
            now,
            hosts: hosts.collect(),
            delay,
            reorders: false,
            lost: BTreeSet::new(),
            sent: 0,
            weather: 0,
            segments: 0,
            wire: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            frames: 0,
            dice: seed,
        }
    }

    pub(crate) fn start_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.disturb(&Disturbance::Start(host));
        }
    }

    /// A host is named by any number; what makes no sense for it as it is does nothing.
    pub(crate) fn disturb(&mut self, disturbance: &Disturbance) {
        let count = self.hosts.len();
        match *disturbance {
            Disturbance::Crash(host) => {
                let host = &mut self.hosts[host % count];
                host.routers = Routers::default();
                host.installed = false;
                host.asleep_until = None;
                host.inbox.clear();
            }
            Disturbance::Start(host) => self.start(host % count),
            Disturbance::Stop(host) => self.feed(host % count, Event::Shutdown),
            Disturbance::Sleep(host, time) => {
                self.hosts[host % count].asleep_until = Some(self.now + time);
            }
            Disturbance::Down(host) => {
                self.feed(host % count, Event::FaultRaised(Fault::InterfaceDown));
            }
            Disturbance::Up(host) => {
                self.feed(host % count, Event::FaultCleared(Fault::InterfaceDown));
            }
            Disturbance::Priority(host, priority) => {
                let host = host % count;
                self.hosts[host].parameters.priority = priority;
                let parameters = self.hosts[host].parameters.clone();
                self.feed(host, Event::Reconfigured(parameters));
            }
            Disturbance::Split(segments) => self.segments = segments,
            Disturbance::Weather(percent) => self.weather = percent,
        }
    }

    /// Lets time pass: adverts arrive, deadlines are met, sleepers wake.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    pub(crate) fn state(&self, host: usize) -> StateName {
        let router = self.hosts[host].routers.get(&KEY);
        router.map_or(StateName::Initialize, VirtualRouter::state_name)
    }

    pub(crate) fn masters(&self) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|host| self.state(*host) == StateName::Master)
            .collect()
    }

    /// The hosts that take part, by the segment that they are in.
    pub(crate) fn partitions(&self) -> Vec<Vec<usize>> {
        let takes_part =
            |host: &usize| matches!(self.state(*host), StateName::Master | StateName::Backup);
        let in_segment = |segment: bool| {
            let hosts = (0..self.hosts.len()).filter(takes_part);
            hosts
                .filter(|host| self.segment(*host) == segment)
                .collect::<Vec<_>>()
        };
        [false, true]
            .map(in_segment)
            .into_iter()
            .filter(|hosts| !hosts.is_empty())
            .collect()
    }

    fn segment(&self, host: usize) -> bool {
        self.segments >> host & 1 == 1
    }

    fn next(&self) -> Option<Instant> {
        let arrival = self.wire.keys().next().map(|(at, _)| *at);
        let deadlines = self
            .hosts
            .iter()
            .filter_map(|host| host.asleep_until.or_else(|| host.routers.poll_timeout()));
        deadlines.chain(arrival).min()
    }

    /// One thing of those that are due now. Like the daemon, a host hears what waits before it
    /// looks at its deadlines.
    fn step(&mut self) {
        if let Some(entry) = self
            .wire
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let (host, packet) = entry.remove();
            if self.hosts[host].asleep_until.is_some() {
                self.hosts[host].inbox.push(packet);
            } else {
                self.hear(host, &packet);
            }
            return;
        }
        for host in 0..self.hosts.len() {
            let now = self.now;
            let is_due = |at: Instant| at <= now;
            if self.hosts[host].asleep_until.is_some_and(is_due) {
                self.hosts[host].asleep_until = None;
                for packet in std::mem::take(&mut self.hosts[host].inbox) {
                    self.hear(host, &packet);
                }
            }
            let awake = self.hosts[host].asleep_until.is_none();
            if awake && self.hosts[host].routers.poll_timeout().is_some_and(is_due) {
                for (_, actions) in self.hosts[host].routers.timeout(self.now) {
                    self.perform(host, actions);
                }
                let due = self.hosts[host].routers.poll_timeout();
                assert!(
                    due.is_some_and(|at| at > self.now),
                    "W7: no deadline left in the past"
                );
            }
        }
    }

    fn start(&mut self, host: usize) {
        if self.hosts[host].routers.get(&KEY).is_none() {
            let parameters = self.hosts[host].parameters.clone();
            self.hosts[host]
                .routers
                .insert(KEY, VirtualRouter::new(parameters));
        }
        let source = self.hosts[host].address.into();
        self.feed(host, Event::SourceChanged(source));
        self.feed(host, Event::Startup);
    }

    fn feed(&mut self, host: usize, event: Event) {
        let actions = self.hosts[host].routers.handle(self.now, &KEY, event);
        self.perform(host, actions);
    }

    fn hear(&mut self, host: usize, packet: &[u8]) {
        let datagram = Datagram::from_ipv4(packet).expect("what is sent is an IPv4 packet");
        if self.is_down(host) {
            return;
        }
        let was_master = self.state(host) == StateName::Master;
        match self.hosts[host]
            .routers
            .receive(self.now, KEY.link, &datagram)
        {
            Received::Accepted { actions, .. } => {
                if was_master {
                    self.hosts[host].rival_heard = Some(self.now);
                }
                self.perform(host, actions);
            }
            Received::Discarded { key, discard } => {
                assert_eq!(
                    (key, discard.name()),
                    (None, "vrid"),
                    "only a crashed host is deaf"
                );
            }
        }
    }

    fn is_down(&self, host: usize) -> bool {
        let router = self.hosts[host].routers.get(&KEY);
        router.is_some_and(|router| router.faults().contains(&Fault::InterfaceDown))
    }

    fn perform(&mut self, host: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SendAdvertisement(advert) => {
                    let (source, form) = (
                        self.hosts[host].address,
                        self.hosts[host].parameters.checksum,
                    );
                    let message = advert.emit(source.into(), GROUP_V4.into(), form);
                    self.send(host, &ipv4_packet(source, GROUP_V4, 1, &message));
                }
                Action::InstallAddresses => self.hosts[host].installed = true,
                Action::RemoveAddresses => self.hosts[host].installed = false,
                Action::Announce => {
                    assert!(
                        self.hosts[host].installed,
                        "only what is there is announced"
                    );
                    self.hosts[host].announced.push(self.now);
                }
                Action::StateChanged { from, to, .. } => {
                    assert_ne!(from, to);
                    let last = self.hosts[host].history.last().map(|(_, state)| *state);
                    assert!(last.is_none_or(|last| last == from || from == StateName::Initialize));
                    self.hosts[host].history.push((self.now, to));
                }
            }
        }
        let state = self.state(host);
        let installed = self.hosts[host].installed;
        assert_eq!(
            installed,
            state == StateName::Master,
            "W5: installed exactly while master"
        );
        let listens = matches!(state, StateName::Master | StateName::Backup);
        let due = self.hosts[host].routers.poll_timeout();
        assert_eq!(
            due.is_some(),
            listens,
            "W7: a deadline in Backup and Master"
        );
    }

    fn send(&mut self, from: usize, packet: &[u8]) {
        let number = self.sent;
        self.sent += 1;
        if self.is_down(from) || self.lost.contains(&number) {
            return;
        }
        for to in 0..self.hosts.len() {
            if to == from || self.segment(to) != self.segment(from) {
                continue;
            }
            let copies = match self.roll(100) {
                roll if roll < self.weather => 0,
                roll if roll < self.weather * 2 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let (least, most) = (*self.delay.start(), *self.delay.end());
                let delay = least + self.roll(most - least + 1);
                let mut at = self.now + Duration::from_micros(delay);
                let last = self.last_arrival.entry((from, to)).or_insert(at);
                if !self.reorders {
                    at = at.max(*last);
                }
                *last = at;
                self.frames += 1;
                self.wire.insert((at, self.frames), (to, packet.to_vec()));
            }
        }
    }

    /// A number below `sides`, the same in every run of the same seed (splitmix64).
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
