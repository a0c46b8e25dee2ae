//! A LAN of directors in virtual time. Adverts travel as bytes; the wire loses, delays, duplicates and
//! reorders them, or carries them one way only. Hosts crash, stop, sleep, lose their link and are
//! reloaded; a host that holds the addresses answers for them, whatever became of its daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use vrrp::{
    Action, Advertisement, Datagram, Event, Family, Fault, GROUP_V4, Parameters, Reason, Received,
    RouterKey, Routers, StateName, TakeoverProbe, Version, VirtualRouter, ipv4_packet,
    master_down_interval, skew_time,
};

use super::dice::Dice;

/// The wall is not asked: no advert here is signed.
const WALL: Duration = Duration::ZERO;
/// How long the addresses stay once the successor is heard.
const SETTLE: Duration = Duration::from_millis(20);
/// More things than this in one instant are a loop.
const MOST_AT_ONCE: usize = 5_000;

/// Something that happens to a host or to the wire. A virtual router is named by its position.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// The daemon is gone without a word; the addresses stay.
    Crash(usize),
    /// A crashed or stopped daemon starts.
    Start(usize),
    /// The daemon stops as it should.
    Stop(usize),
    /// The host is gone, and its addresses with it.
    PowerOff(usize),
    /// The daemon does not run for a while; what it should hear waits.
    Sleep(usize, Duration),
    /// The link of a virtual router goes down.
    Down(usize, usize),
    /// It comes up.
    Up(usize, usize),
    /// A virtual router is told to hand over.
    Yield(usize, usize),
    /// The host is taken out of service, or back.
    Maintenance(usize, bool),
    /// A tracker adds to the priority.
    Offset(usize, usize, i32),
    /// The configuration of a virtual router changes.
    Reload(usize, usize, Change),
    /// Whether the reference addresses are out of reach.
    References(usize, bool),
    /// Hosts whose bit differs do not hear each other on that link.
    Split(usize, u8),
    /// What the first sends on that link does not reach the second.
    OneWay(usize, usize, usize),
    /// No link is one way any more.
    Heal,
    /// So many of 100 frames are lost, and as many come twice.
    Weather(u64),
}

/// What a reload changes.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Priority(u8),
    Interval(Duration),
    Preempt(bool),
}

pub(crate) struct Host {
    pub(crate) routers: Routers,
    pub(crate) seats: Vec<Seat>,
    number: u8,
    running: bool,
    asleep_until: Option<Instant>,
    inbox: Vec<(usize, Frame)>,
    references_lost: bool,
    /// It was told to hand over and has not been master since.
    yields: bool,
    woke_at: Option<Instant>,
}

/// What a host has of one virtual router.
pub(crate) struct Seat {
    pub(crate) parameters: Parameters,
    /// When it became master, backup and so on.
    pub(crate) history: Vec<(Instant, StateName)>,
    pub(crate) announced: Vec<Instant>,
    /// When it last heard an advert while it was master itself.
    pub(crate) rival_heard: Option<Instant>,
    pub(crate) installed: bool,
    down: bool,
    /// When it last heard a living master, of which priority, and how often that one speaks.
    heard: Option<(Instant, u8, Duration)>,
    /// It was master when it fell asleep, and slept for longer than anybody waits.
    overslept: bool,
    suspects_since: Option<Instant>,
    lingers_since: Option<Instant>,
}

#[derive(Debug, Clone)]
enum Frame {
    Advert(Vec<u8>),
    /// Who has the addresses?
    Question(usize),
    Answer([u8; 6]),
}

pub(crate) struct Lan {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) hosts: Vec<Host>,
    /// How long a frame travels, in microseconds; each one draws its own.
    pub(crate) delay: RangeInclusive<u64>,
    /// Whether an advert may overtake an earlier one of the same sender. Between two hosts of a real
    /// LAN none does; then priority 0 is the last word of a master that gives up.
    pub(crate) reorders: bool,
    /// Adverts that nobody hears, counted from the first one sent.
    pub(crate) lost: BTreeSet<u64>,
    pub(crate) sent: u64,
    pub(crate) grouped: bool,
    pub(crate) trace: bool,
    weather: u64,
    splits: Vec<u8>,
    one_way: BTreeSet<(usize, usize, usize)>,
    wire: BTreeMap<(Instant, u64), (usize, usize, Frame)>,
    /// When the last frame from one host to another arrives.
    last_arrival: BTreeMap<(usize, usize, usize), Instant>,
    frames: u64,
    at_once: usize,
    dice: Dice,
}

impl Lan {
    /// Each host has the same number of virtual routers, one on each link. The hosts are off until
    /// they are started; their addresses rise.
    pub(crate) fn new(
        hosts: Vec<Vec<Parameters>>,
        grouped: bool,
        delay: RangeInclusive<u64>,
        dice: Dice,
    ) -> Lan {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
        let now = Instant::now();
        let links = hosts.first().map_or(0, Vec::len);
        let seat = |parameters| Seat {
            parameters,
            history: Vec::new(),
            announced: Vec::new(),
            rival_heard: None,
            installed: false,
            down: false,
            heard: None,
            overslept: false,
            suspects_since: None,
            lingers_since: None,
        };
        let hosts = hosts.into_iter().zip(1..).map(|(seats, number)| Host {
            routers: Routers::default(),
            seats: seats.into_iter().map(seat).collect(),
            number,
            running: false,
            asleep_until: None,
            inbox: Vec::new(),
            references_lost: false,
            yields: false,
            woke_at: None,
        });
        Lan {
            now,
            start: now,
            hosts: hosts.collect(),
            delay,
            reorders: false,
            lost: BTreeSet::new(),
            sent: 0,
            grouped,
            trace: false,
            weather: 0,
            splits: vec![0; links],
            one_way: BTreeSet::new(),
            wire: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            frames: 0,
            at_once: 0,
            dice,
        }
    }

    pub(crate) fn links(&self) -> usize {
        self.splits.len()
    }

    pub(crate) fn start_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.disturb(&Trouble::Start(host));
        }
    }

    /// Ends every trouble that does not end by itself, but for splits, and starts every daemon.
    pub(crate) fn mend(&mut self) {
        for host in 0..self.hosts.len() {
            self.disturb(&Trouble::Start(host));
            self.disturb(&Trouble::Maintenance(host, false));
            self.disturb(&Trouble::References(host, false));
            for link in 0..self.links() {
                self.disturb(&Trouble::Up(host, link));
            }
        }
    }

    /// What makes no sense for a host as it is does nothing; a daemon that sleeps is told nothing.
    pub(crate) fn disturb(&mut self, trouble: &Trouble) {
        self.note(&format_args!("{trouble:?}"));
        match *trouble {
            Trouble::Crash(host) => self.crash(host),
            Trouble::PowerOff(host) => {
                self.crash(host);
                for seat in &mut self.hosts[host].seats {
                    seat.installed = false;
                }
            }
            Trouble::Start(host) => self.boot(host),
            Trouble::Stop(host) => {
                if self.listens(host) {
                    for link in 0..self.links() {
                        self.feed(
                            host,
                            link,
                            Event::Shutdown {
                                make_before_break: true,
                            },
                        );
                    }
                    self.hosts[host].running = false;
                    self.hosts[host].yields = false;
                }
            }
            Trouble::Sleep(host, time) => {
                if self.listens(host) {
                    for link in 0..self.links() {
                        let long = time > self.longest_silence(host, link);
                        let master = self.state(host, link) == StateName::Master;
                        self.hosts[host].seats[link].overslept = master && long;
                    }
                    self.hosts[host].asleep_until = Some(self.now + time);
                }
            }
            Trouble::Down(host, link) => {
                if self.hosts[host].asleep_until.is_none() {
                    self.hosts[host].seats[link].down = true;
                    self.tell(host, link, Event::FaultRaised(Fault::InterfaceDown));
                }
            }
            Trouble::Up(host, link) => {
                if self.hosts[host].asleep_until.is_none() {
                    self.hosts[host].seats[link].down = false;
                }
                self.tell(host, link, Event::FaultCleared(Fault::InterfaceDown));
            }
            Trouble::Yield(host, link) => {
                let master = self.state(host, link) == StateName::Master;
                self.tell(host, link, Event::Yield);
                if self.listens(host) && master {
                    assert_ne!(self.state(host, link), StateName::Master, "it hands over");
                    self.hosts[host].yields = true;
                }
            }
            Trouble::Maintenance(host, on) => {
                for link in 0..self.links() {
                    let event = if on {
                        Event::FaultRaised
                    } else {
                        Event::FaultCleared
                    };
                    self.tell(host, link, event(Fault::Maintenance));
                }
            }
            Trouble::Offset(host, link, offset) => {
                self.tell(host, link, Event::PriorityOffset(offset));
            }
            Trouble::Reload(host, link, ref change) => {
                if self.listens(host) {
                    let parameters = &mut self.hosts[host].seats[link].parameters;
                    match *change {
                        Change::Priority(priority) => parameters.priority = priority,
                        Change::Interval(interval) => parameters.advert_interval = interval,
                        Change::Preempt(preempt) => parameters.preempt = preempt,
                    }
                    let parameters = parameters.clone();
                    self.tell(host, link, Event::Reconfigured(parameters));
                }
            }
            Trouble::References(host, lost) => {
                if self.listens(host) {
                    self.hosts[host].references_lost = lost;
                    for link in 0..self.links() {
                        self.tell(host, link, Event::ReferencesLost(lost));
                    }
                }
            }
            Trouble::Split(link, segments) => self.splits[link] = segments,
            Trouble::OneWay(link, from, to) => {
                self.one_way.insert((link, from, to));
            }
            Trouble::Heal => self.one_way.clear(),
            Trouble::Weather(percent) => self.weather = percent,
        }
        if let Some(host) = trouble.host() {
            self.check(host);
        }
    }

    /// Lets time pass: frames arrive, deadlines are met, sleepers wake.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            if at > self.now {
                self.at_once = 0;
            }
            self.at_once += 1;
            assert!(self.at_once < MOST_AT_ONCE, "W7: time stands still");
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    pub(crate) fn router(&self, host: usize, link: usize) -> Option<&VirtualRouter> {
        let key = self.key(link);
        self.hosts[host].routers.get(&key)
    }

    pub(crate) fn state(&self, host: usize, link: usize) -> StateName {
        let router = self.router(host, link);
        router.map_or(StateName::Initialize, VirtualRouter::state_name)
    }

    pub(crate) fn masters(&self, link: usize) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|host| self.state(*host, link) == StateName::Master)
            .collect()
    }

    /// Those who could be master of that link's virtual router: the daemon runs, nothing is wrong,
    /// and the reference addresses answer.
    pub(crate) fn able(&self, host: usize, link: usize) -> bool {
        let well = |router: &VirtualRouter| router.has_started() && router.faults().is_empty();
        let links = if self.grouped {
            0..self.links()
        } else {
            link..link + 1
        };
        let mut links = links;
        !self.hosts[host].references_lost
            && links.all(|link| self.router(host, link).is_some_and(well))
    }

    /// The hosts that hear each other on a link.
    pub(crate) fn segments(&self, link: usize) -> Vec<Vec<usize>> {
        let side = |bit: bool| {
            let hosts = 0..self.hosts.len();
            hosts
                .filter(|host| self.segment(link, *host) == bit)
                .collect::<Vec<_>>()
        };
        [side(false), side(true)]
            .into_iter()
            .filter(|hosts| !hosts.is_empty())
            .collect()
    }

    pub(crate) fn is_split(&self) -> bool {
        (0..self.links()).any(|link| self.segments(link).len() > 1)
    }

    /// Changes of state of all virtual routers so far.
    pub(crate) fn changes(&self) -> usize {
        self.hosts
            .iter()
            .flat_map(|host| &host.seats)
            .map(|seat| seat.history.len())
            .sum()
    }

    fn key(&self, link: usize) -> RouterKey {
        let number = u8::try_from(link).unwrap();
        RouterKey {
            link: u32::from(number),
            family: Family::V4,
            vrid: 51 + number,
        }
    }

    fn address(&self, host: usize, link: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, u8::try_from(link).unwrap(), self.hosts[host].number)
    }

    fn segment(&self, link: usize, host: usize) -> bool {
        self.splits[link] >> host & 1 == 1
    }

    fn listens(&self, host: usize) -> bool {
        self.hosts[host].running && self.hosts[host].asleep_until.is_none()
    }

    fn crash(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.routers = Routers::default();
        host.running = false;
        host.yields = false;
        host.asleep_until = None;
        host.inbox.clear();
        host.references_lost = false;
        for seat in &mut host.seats {
            seat.suspects_since = None;
            seat.lingers_since = None;
            seat.heard = None;
        }
    }

    fn boot(&mut self, host: usize) {
        if self.hosts[host].running || self.hosts[host].asleep_until.is_some() {
            return;
        }
        self.hosts[host].running = true;
        for link in 0..self.links() {
            let key = self.key(link);
            let source = self.address(host, link).into();
            let seat = &mut self.hosts[host].seats[link];
            let (parameters, down) = (seat.parameters.clone(), seat.down);
            if self.hosts[host].routers.get(&key).is_none() {
                // A new daemon removes what a crashed one left.
                self.hosts[host].seats[link].installed = false;
                let router = VirtualRouter::new(parameters);
                self.hosts[host].routers.insert(key, router);
            }
            self.feed(host, link, Event::SourceChanged(source));
            if down {
                self.feed(host, link, Event::FaultRaised(Fault::InterfaceDown));
            }
        }
        if self.grouped {
            let group = (0..self.links()).map(|link| self.key(link)).collect();
            self.hosts[host].routers.set_groups(vec![group]);
        }
        for link in 0..self.links() {
            self.feed(host, link, Event::Startup);
        }
        let actions = self.hosts[host].routers.settle(self.now);
        self.perform(host, actions);
    }

    fn next(&self) -> Option<Instant> {
        let arrival = self.wire.keys().next().map(|(at, _)| *at);
        let deadlines = self
            .hosts
            .iter()
            .filter_map(|host| host.asleep_until.or_else(|| host.routers.poll_timeout()));
        deadlines.chain(arrival).min()
    }

    /// One thing of those that are due now. Like the daemon, a host hears what waits before it looks
    /// at its deadlines.
    fn step(&mut self) {
        let now = self.now;
        if let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= now) {
            let (host, link, frame) = entry.remove();
            // The kernel answers for addresses, whether the daemon runs or not.
            let seat = &self.hosts[host].seats[link];
            match frame {
                Frame::Question(from) => {
                    if seat.installed && !seat.down {
                        let mac = [2, 0, 0, 0, 0, self.hosts[host].number];
                        self.send_to(host, from, link, &Frame::Answer(mac));
                    }
                }
                Frame::Advert(_) | Frame::Answer(_) if seat.down => {}
                Frame::Advert(_) | Frame::Answer(_) => {
                    if self.hosts[host].asleep_until.is_some() {
                        self.hosts[host].inbox.push((link, frame));
                    } else {
                        self.hear(host, link, &frame);
                    }
                }
            }
            return;
        }
        let is_due = |at: Instant| at <= now;
        for host in 0..self.hosts.len() {
            if self.hosts[host].asleep_until.is_some_and(is_due) {
                self.hosts[host].asleep_until = None;
                self.hosts[host].woke_at = Some(now);
                self.note(&format_args!("host {host} wakes"));
                for (link, frame) in std::mem::take(&mut self.hosts[host].inbox) {
                    self.hear(host, link, &frame);
                }
            }
            let awake = self.hosts[host].asleep_until.is_none();
            if awake && self.hosts[host].routers.poll_timeout().is_some_and(is_due) {
                let actions = self.hosts[host].routers.timeout(now);
                self.perform(host, actions);
                let due = self.hosts[host].routers.poll_timeout();
                assert!(
                    due.is_none_or(|at| at > now),
                    "W7: no deadline left in the past"
                );
            }
        }
    }

    fn tell(&mut self, host: usize, link: usize, event: Event) {
        if self.listens(host) {
            self.feed(host, link, event);
        }
    }

    fn feed(&mut self, host: usize, link: usize, event: Event) {
        let key = self.key(link);
        let actions = self.hosts[host].routers.handle(self.now, &key, event);
        self.perform(host, actions);
    }

    fn hear(&mut self, host: usize, link: usize, frame: &Frame) {
        let packet = match frame {
            Frame::Advert(packet) => packet,
            Frame::Answer(by) => return self.tell(host, link, Event::Answered { by: *by }),
            Frame::Question(_) => return,
        };
        let datagram = Datagram::from_ipv4(packet).expect("what is sent is an IPv4 packet");
        let was_master = self.state(host, link) == StateName::Master;
        let number = self.key(link).link;
        match self.hosts[host]
            .routers
            .receive(self.now, WALL, number, &datagram)
        {
            Received::Accepted { actions, .. } => {
                let (advert, _) = Advertisement::parse(&datagram).unwrap();
                let seat = &mut self.hosts[host].seats[link];
                if was_master {
                    seat.rival_heard = Some(self.now);
                }
                if advert.priority > 0 {
                    seat.heard = Some((self.now, advert.priority, advert.interval));
                }
                self.perform(host, actions);
            }
            // A reload may change the interval of version 2, and a crashed host is deaf.
            Received::Discarded { discard, .. } => {
                let name = discard.name();
                assert!(matches!(name, "vrid" | "interval"), "{discard}");
            }
        }
    }

    fn perform(&mut self, host: usize, actions: Vec<(RouterKey, Action)>) {
        for (key, action) in actions {
            let link = usize::try_from(key.link).unwrap();
            match &action {
                Action::SendAdvertisement(advert) => {
                    let source = self.address(host, link);
                    let parameters = &self.hosts[host].seats[link].parameters;
                    let to = GROUP_V4.into();
                    let message = advert.render(parameters, source.into(), to, Duration::ZERO, 0);
                    let packet = ipv4_packet(source, GROUP_V4, 255, 1, &message);
                    self.send_advert(host, link, &packet);
                    continue;
                }
                Action::ProbeAddresses => {
                    assert_eq!(
                        self.state(host, link),
                        StateName::Backup,
                        "only a backup asks"
                    );
                    self.send_all(host, link, &Frame::Question(host));
                }
                Action::InstallAddresses => self.hosts[host].seats[link].installed = true,
                Action::RemoveAddresses => {
                    assert!(self.hosts[host].seats[link].installed, "removed once");
                    self.hosts[host].seats[link].installed = false;
                }
                Action::Announce => {
                    let seat = &mut self.hosts[host].seats[link];
                    assert!(seat.installed, "only what is there is announced");
                    seat.announced.push(self.now);
                }
                Action::Notice(_) => {}
                Action::StateChanged { from, to, why } => {
                    if *to == StateName::Master {
                        self.check_takeover(host, link, why);
                    }
                    let seat = &mut self.hosts[host].seats[link];
                    assert_ne!(from, to);
                    let last = seat.history.last().map(|(_, state)| *state);
                    assert!(
                        last.is_none_or(|last| last == *from || *from == StateName::Initialize)
                    );
                    seat.history.push((self.now, *to));
                }
            }
            self.note(&format_args!("host {host} link {link}: {action:?}"));
        }
        self.check(host);
    }

    /// Nobody becomes master without cause.
    fn check_takeover(&mut self, host: usize, link: usize, why: &Reason) {
        let router = self.router(host, link).unwrap();
        let (own, down_adverts) = (
            router.effective_priority(),
            router.parameters().down_adverts,
        );
        if let Reason::Preempts { priority, .. } = why {
            assert!(!self.hosts[host].yields, "who handed over preempts nobody");
            assert!(own > *priority, "who is not better preempts nobody");
        }
        let heard = self.hosts[host].seats[link].heard;
        if let Reason::MasterSilent { master: Some(_) } = why
            && let Some((at, _, interval)) = heard.filter(|(_, priority, _)| *priority >= own)
        {
            let silent = self.now - at;
            let wanted = interval * u32::from(down_adverts);
            assert!(silent > wanted, "who was heard {silent:?} ago is not dead");
        }
        if link + 1 == self.links() {
            self.hosts[host].yields = false;
        }
    }

    /// What holds of a host at every moment.
    fn check(&mut self, host: usize) {
        let now = self.now;
        let longest = (0..self.links())
            .map(|link| self.longest_silence(host, link))
            .max();
        let longest = longest.unwrap_or_default();
        let awake = self.hosts[host].asleep_until.is_none();
        let mut states = BTreeSet::new();
        for link in 0..self.links() {
            let Some(router) = self.router(host, link) else {
                continue;
            };
            let state = router.state_name();
            states.insert(state);
            let (lingers, suspect) = (router.is_lingering(), router.suspect().is_some());
            let due = router.poll_timeout().is_some();
            let listens = matches!(state, StateName::Master | StateName::Backup);
            let seat = &mut self.hosts[host].seats[link];
            let holds = state == StateName::Master || lingers;
            assert_eq!(
                seat.installed, holds,
                "W5: installed while master, or on its way out"
            );
            assert!(
                !(lingers && state == StateName::Master),
                "W5: a master does not linger"
            );
            assert!(due || !(listens || lingers), "W7: a deadline");
            let since =
                |running: bool, since: Option<Instant>| running.then(|| since.unwrap_or(now));
            seat.suspects_since = since(suspect, seat.suspects_since);
            seat.lingers_since = since(lingers, seat.lingers_since);
            let lasted = |since: Option<Instant>| since.map_or(Duration::ZERO, |at| now - at);
            if awake {
                assert!(
                    lasted(seat.suspects_since) <= longest * 2,
                    "suspicion is bounded"
                );
                assert!(
                    lasted(seat.lingers_since) <= longest,
                    "W5: lingering is bounded"
                );
            } else {
                seat.suspects_since = seat.suspects_since.map(|_| now);
                seat.lingers_since = seat.lingers_since.map(|_| now);
            }
        }
        if self.grouped
            && self.hosts[host].running
            && !self.hosts[host]
                .routers
                .iter()
                .any(|(_, r)| !r.has_started())
        {
            let split = states.contains(&StateName::Master) && states.contains(&StateName::Fault);
            assert!(!split, "W10: a fault of one moves all");
        }
    }

    /// No shorter than the longest wait of that router.
    fn longest_silence(&self, host: usize, link: usize) -> Duration {
        let intervals = self
            .hosts
            .iter()
            .map(|h| h.seats[link].parameters.interval());
        let parameters = &self.hosts[host].seats[link].parameters;
        // An interval that was reloaded may still be on its way.
        let interval = intervals.max().unwrap_or_default() * 3;
        master_down_interval(parameters.down_adverts, 0, interval, parameters.version)
            + skew_time(0, interval, parameters.version)
            + SETTLE * 2
    }

    fn send_advert(&mut self, from: usize, link: usize, packet: &[u8]) {
        let number = self.sent;
        self.sent += 1;
        self.note(&format_args!(
            "host {from} link {link}: advert {number}, priority {}",
            packet[22]
        ));
        let overslept = std::mem::take(&mut self.hosts[from].seats[link].overslept);
        let waking = self.hosts[from].woke_at == Some(self.now);
        assert!(
            !(overslept && waking && packet[22] > 0),
            "W9: a sleeper looks first"
        );
        if !self.lost.contains(&number) {
            self.send_all(from, link, &Frame::Advert(packet.to_vec()));
        }
    }

    fn send_all(&mut self, from: usize, link: usize, frame: &Frame) {
        for to in 0..self.hosts.len() {
            if to != from {
                self.send_to(from, to, link, frame);
            }
        }
    }

    fn send_to(&mut self, from: usize, to: usize, link: usize, frame: &Frame) {
        let apart = self.segment(link, to) != self.segment(link, from);
        if apart || self.hosts[from].seats[link].down || self.one_way.contains(&(link, from, to)) {
            return;
        }
        let copies = match self.dice.roll(100) {
            roll if roll < self.weather => 0,
            roll if roll < self.weather * 2 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let (least, most) = (*self.delay.start(), *self.delay.end());
            let delay = least + self.dice.roll(most - least + 1);
            let mut at = self.now + Duration::from_micros(delay);
            let last = self.last_arrival.entry((link, from, to)).or_insert(at);
            if !self.reorders {
                at = at.max(*last);
            }
            *last = at;
            self.frames += 1;
            self.wire
                .insert((at, self.frames), (to, link, frame.clone()));
        }
    }

    fn note(&self, what: &std::fmt::Arguments<'_>) {
        if self.trace {
            eprintln!("{:>12?} {what}", self.now.duration_since(self.start));
        }
    }
}

impl Trouble {
    fn host(&self) -> Option<usize> {
        match *self {
            Trouble::Crash(host)
            | Trouble::Start(host)
            | Trouble::Stop(host)
            | Trouble::PowerOff(host)
            | Trouble::Sleep(host, _)
            | Trouble::Down(host, _)
            | Trouble::Up(host, _)
            | Trouble::Yield(host, _)
            | Trouble::Maintenance(host, _)
            | Trouble::Offset(host, _, _)
            | Trouble::Reload(host, _, _)
            | Trouble::References(host, _) => Some(host),
            Trouble::Split(..) | Trouble::OneWay(..) | Trouble::Heal | Trouble::Weather(_) => None,
        }
    }
}

/// A host's parameters: VRID 51 on the first link, 52 on the second.
pub(crate) fn parameters(link: usize, version: Version) -> Parameters {
    let number = u8::try_from(link).unwrap();
    Parameters {
        takeover_probe: TakeoverProbe::Hold,
        ..Parameters::new(51 + number, version, &[[203, 0, 113, number + 1].into()])
    }
}
