//! One virtual router: its state, and what each event does to it (RFC 3768 §6.4, RFC 5798 §6.4).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::action::{Action, Notice, Reason, StateName};
use crate::event::{Event, Fault};
use crate::packet::Advertisement;
use crate::parameters::{PRIORITY_OWNER, PRIORITY_STOP, Parameters, Version};
use crate::timers::{master_down_interval, next_advert, skew_time};

mod hearing;
mod leaving;
mod snapshot;
mod waiting;

pub use snapshot::Snapshot;

/// The longest delay that counts; it keeps any configured value within what a clock holds.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The state of the protocol, with the deadlines that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Takes no part: not started, stopped, or faulted ([`VirtualRouter::state_name`] tells).
    Initialize,
    /// Listens.
    Backup(Listening),
    /// Holds the addresses and says so.
    Master(Speaking),
}

/// What a backup knows and waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// When the master is called dead.
    pub master_down_at: Instant,
    /// The master's advert interval (RFC 5798 §6.1 Master_Adver_Interval); our own until one is
    /// heard, and always in version 2.
    pub master_adver_interval: Duration,
    /// When it takes over from the living master of lower priority that it hears.
    pub preempt_at: Option<Instant>,
    /// Since when `master_down_at` counts.
    armed_at: Instant,
    /// What it waits for, and so how long.
    wait: Wait,
    /// The master that is heard, and its priority.
    master: Option<(IpAddr, u8)>,
    /// When the link is asked who has the addresses.
    probe_at: Option<Instant>,
    /// Whether it was asked in this wait.
    probed: bool,
    /// Who answered in this wait.
    answered: Option<[u8; 6]>,
    /// Who answered in the wait before, so that there is one more.
    suspect: Option<[u8; 6]>,
    /// How many master-down intervals it has waited because somebody answered.
    held: u8,
    /// Why it would be master now; it waits for the other members of its sync group.
    ready: Option<Reason>,
}

/// What a backup waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Wait {
    /// The silence of the master: master-down time.
    Silence,
    /// Those of higher priority, after this master gave up: skew time.
    Resigned(IpAddr),
    /// A successor, after it was master itself: for as long as the slowest one may take.
    Successor,
}

/// What a master does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaking {
    /// When the next advert is due.
    pub adver_at: Instant,
    /// Another, losing master. Once it is silent, the addresses are announced again: the hosts that
    /// listened to it know the wrong place.
    rival: Option<Rival>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rival {
    from: IpAddr,
    priority: u8,
    /// When it was first heard.
    since: Instant,
    /// When it counts as gone.
    gone_at: Instant,
    /// Until when it counts as heard on the link of the virtual router, where it was heard there and
    /// not only on a heartbeat path.
    on_link_until: Option<Instant>,
}

/// One virtual router on one link.
///
/// It is a value: it acts only when told of an event, and never looks at a clock. `now` must not go
/// back from one call to the next.
#[derive(Debug, Clone)]
pub struct VirtualRouter {
    parameters: Parameters,
    source: Option<IpAddr>,
    started: bool,
    /// When the start delay ends.
    start_at: Option<Instant>,
    faults: BTreeSet<Fault>,
    state: State,
    /// The addresses are still held although it is not master: until then at the latest.
    linger_until: Option<Instant>,
    /// It handed over by order: it leaves a living master alone until it is master again.
    yielded: bool,
    offset: i32,
    /// Whether it must ask before it becomes master: it is a member of a sync group.
    grouped: bool,
    references_lost: bool,
    /// Who was last heard on the link itself, with what priority, and when.
    on_link: Option<(IpAddr, u8, Instant)>,
    /// When a living master was last heard, on whatever path.
    heard_at: Option<Instant>,
    since: Option<Instant>,
    transitions: u64,
}

impl VirtualRouter {
    /// A virtual router that has not started.
    #[must_use]
    pub fn new(parameters: Parameters) -> VirtualRouter {
        VirtualRouter {
            parameters,
            source: None,
            started: false,
            start_at: None,
            faults: BTreeSet::new(),
            state: State::Initialize,
            linger_until: None,
            yielded: false,
            offset: 0,
            grouped: false,
            references_lost: false,
            on_link: None,
            heard_at: None,
            since: None,
            transitions: 0,
        }
    }

    /// Feeds one event. Returns what the caller must now do, in order.
    ///
    /// An advert must have passed the checks of [`Routers::receive`](crate::Routers::receive).
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Startup => self.start_up(now),
            Event::Shutdown { make_before_break } => self.shut_down(now, make_before_break),
            Event::Advertisement {
                from,
                advertisement,
                path,
            } => {
                let mut actions = self.wake_up(now);
                if advertisement.priority != PRIORITY_STOP {
                    self.heard_at = Some(now);
                }
                actions.extend(match self.state {
                    State::Initialize => self.hear_outside(now, from, &advertisement),
                    State::Backup(_) => {
                        let from = self.known_as(now, from, &advertisement, path);
                        self.hear_as_backup(now, from, &advertisement);
                        Vec::new()
                    }
                    State::Master(_) => self.hear_as_master(now, from, &advertisement, path),
                });
                actions
            }
            Event::Timeout => {
                let mut actions = self.wake_up(now);
                actions.extend(self.time_out(now));
                actions
            }
            Event::FaultRaised(fault) => {
                // Who is taken out of service on purpose lets the successor come first; who is
                // broken must not hold anything.
                let planned = fault == Fault::Maintenance;
                self.raise(now, fault, planned)
            }
            Event::FaultCleared(fault) => self.clear(now, &fault),
            Event::Reconfigured(parameters) => self.reconfigure(now, parameters),
            Event::SourceChanged(source) => {
                // Of use in every state, and in none at once: the next advert carries it.
                self.source = Some(source);
                Vec::new()
            }
            Event::PriorityOffset(offset) => {
                let before = self.effective_priority();
                self.offset = offset;
                if self.effective_priority() == before {
                    return Vec::new();
                }
                match self.state {
                    State::Initialize => Vec::new(),
                    State::Backup(_) => {
                        self.reweigh(now, false);
                        Vec::new()
                    }
                    State::Master(_) => vec![self.speak(now)],
                }
            }
            Event::Yield => self.hand_over(now, Reason::Yielded),
            Event::Answered { by } => {
                // Outside of Backup nobody asked; a late answer to an old question does not count.
                if let State::Backup(listening) = &mut self.state
                    && listening.probed
                {
                    listening.answered = Some(by);
                }
                Vec::new()
            }
            Event::ReferencesLost(lost) => {
                self.references_lost = lost;
                self.judge_references(now)
            }
        }
    }

    /// When [`Event::Timeout`] must be fed next; `None` only in Initialize and Fault.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Initialize => self.start_at,
            State::Backup(listening) => [
                Some(listening.master_down_at),
                listening.preempt_at,
                listening.probe_at,
            ]
            .into_iter()
            .flatten()
            .min(),
            State::Master(speaking) => Some(speaking.adver_at),
        };
        own.into_iter().chain(self.linger_until).min()
    }

    /// The state of the protocol.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state as users know it.
    #[must_use]
    pub fn state_name(&self) -> StateName {
        match self.state {
            State::Initialize if self.started && !self.faults.is_empty() => StateName::Fault,
            State::Initialize => StateName::Initialize,
            State::Backup(_) => StateName::Backup,
            State::Master(_) => StateName::Master,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What is wrong now.
    #[must_use]
    pub fn faults(&self) -> &BTreeSet<Fault> {
        &self.faults
    }

    /// The priority of its adverts, 1 to 255.
    #[must_use]
    pub fn effective_priority(&self) -> u8 {
        let configured = self.parameters.priority;
        if configured == PRIORITY_OWNER {
            return configured;
        }
        // Priority 0 only ever means giving up (RFC 5798 §5.2.4), and 255 belongs to the owner.
        let sum = i32::from(configured).saturating_add(self.offset);
        u8::try_from(sum.clamp(1, 254)).unwrap_or(configured)
    }

    /// The address that its adverts are sent from, as far as it was told.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The master and its priority: as backup the one that is heard, as master itself.
    #[must_use]
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        match &self.state {
            State::Initialize => None,
            State::Backup(listening) => listening.master,
            State::Master(_) => self
                .source
                .map(|source| (source, self.effective_priority())),
        }
    }

    /// The other master that is heard while this one is master, and its priority.
    #[must_use]
    pub fn rival(&self) -> Option<(IpAddr, u8)> {
        match &self.state {
            State::Initialize | State::Backup(_) => None,
            State::Master(speaking) => speaking.rival.map(|rival| (rival.from, rival.priority)),
        }
    }

    /// Who answers for the addresses although no master is heard, while it waits because of that.
    #[must_use]
    pub fn suspect(&self) -> Option<[u8; 6]> {
        match &self.state {
            State::Initialize | State::Master(_) => None,
            State::Backup(listening) => listening.suspect,
        }
    }

    /// Whether it was started and not stopped since.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Whether it handed over by order and waits for its turn.
    #[must_use]
    pub fn has_yielded(&self) -> bool {
        self.yielded
    }

    /// Whether the addresses are still held although it is not master any more.
    #[must_use]
    pub fn is_lingering(&self) -> bool {
        self.linger_until.is_some()
    }

    /// When the state was entered; `None` before the first change.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Changes of state so far.
    #[must_use]
    pub fn transitions(&self) -> u64 {
        self.transitions
    }

    fn start_up(&mut self, now: Instant) -> Vec<Action> {
        match self.state {
            State::Initialize if !self.started => {
                self.started = true;
                let delay = self.parameters.start_delay;
                if delay.is_zero() {
                    return self.begin(now, StateName::Initialize, Reason::Started);
                }
                self.start_at = Some(now + delay.min(LONGEST_DELAY));
                match self.faults.first().cloned() {
                    Some(fault) => {
                        vec![self.changed(now, StateName::Initialize, Reason::Faulted(fault))]
                    }
                    None => Vec::new(),
                }
            }
            // Started already: a fault ends when it is cleared, not by another startup.
            State::Initialize | State::Backup(_) | State::Master(_) => Vec::new(),
        }
    }

    /// Where it is `planned`, the addresses are kept until a successor is heard.
    pub(crate) fn raise(&mut self, now: Instant, fault: Fault, planned: bool) -> Vec<Action> {
        let from = self.state_name();
        if !self.faults.insert(fault.clone()) {
            return Vec::new();
        }
        let why = Reason::Faulted(fault);
        match self.state {
            State::Initialize => {
                let mut actions = Vec::new();
                // Faulted before: one reason more. Not started: remembered for the startup.
                if self.state_name() != from {
                    actions.push(self.changed(now, from, why));
                }
                if !planned {
                    actions.extend(self.stop_lingering());
                }
                actions
            }
            State::Backup(_) => {
                self.state = State::Initialize;
                let mut actions = vec![self.changed(now, from, why)];
                if !planned {
                    actions.extend(self.stop_lingering());
                }
                actions
            }
            State::Master(_) => self.resign(now, why, planned),
        }
    }

    fn clear(&mut self, now: Instant, fault: &Fault) -> Vec<Action> {
        let from = self.state_name();
        if !self.faults.remove(fault) {
            return Vec::new();
        }
        match self.state {
            State::Initialize if self.started && self.faults.is_empty() => {
                if self.start_at.is_some() {
                    // The start delay goes on.
                    return vec![self.changed(now, from, Reason::FaultsCleared)];
                }
                self.begin(now, from, Reason::FaultsCleared)
            }
            // Another fault is left, or it has not started.
            State::Initialize => Vec::new(),
            // These have no faults to clear.
            State::Backup(_) | State::Master(_) => Vec::new(),
        }
    }

    /// RFC 5798 §6.4.1, what a startup does; the end of the last fault is one too.
    fn begin(&mut self, now: Instant, from: StateName, why: Reason) -> Vec<Action> {
        self.start_at = None;
        if let Some(fault) = self.faults.first().cloned() {
            if from == StateName::Fault {
                return Vec::new();
            }
            return vec![self.changed(now, from, Reason::Faulted(fault))];
        }
        let owner = self.effective_priority() == PRIORITY_OWNER && !self.references_lost;
        if owner && !self.grouped {
            return self.become_master(now, from, why);
        }
        self.listen(now, self.parameters.interval(), None, None);
        let actions = vec![self.changed(now, from, why.clone())];
        if owner {
            self.wait_for_group(now, why);
        }
        actions
    }

    fn time_out(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = match &self.state {
            State::Initialize => match self.start_at {
                Some(at) if at <= now => {
                    let from = self.state_name();
                    self.begin(now, from, Reason::Started)
                }
                // No timer runs: this one is left over from before.
                Some(_) | None => Vec::new(),
            },
            State::Backup(_) => self.wait_over(now),
            State::Master(speaking) if now < speaking.adver_at => Vec::new(),
            State::Master(_) => {
                let lost = self.judge_references(now);
                if lost.is_empty() {
                    self.keep_speaking(now)
                } else {
                    lost
                }
            }
        };
        if self.linger_until.is_some_and(|at| at <= now) {
            actions.extend(self.stop_lingering());
        }
        actions
    }

    fn keep_speaking(&mut self, now: Instant) -> Vec<Action> {
        let interval = self.parameters.interval();
        let mut actions = vec![self.advert(self.effective_priority())];
        if let State::Master(speaking) = &mut self.state {
            speaking.adver_at = next_advert(speaking.adver_at, now, interval);
            if let Some(rival) = speaking.rival.take_if(|rival| rival.gone_at <= now) {
                actions.push(Action::Notice(Notice::RivalGone { from: rival.from }));
                actions.push(Action::Announce);
            }
        }
        actions
    }

    fn reconfigure(&mut self, now: Instant, parameters: Parameters) -> Vec<Action> {
        let Parameters {
            vrid,
            version,
            family,
            ..
        } = self.parameters;
        let parameters = Parameters {
            vrid,
            version,
            family,
            ..parameters
        };
        let old = std::mem::replace(&mut self.parameters, parameters);
        let new = &self.parameters;
        let interval = new.interval();
        let same_election = (old.priority, old.interval(), old.preempt, old.preempt_delay)
            == (new.priority, interval, new.preempt, new.preempt_delay);
        let same_addresses = old.addresses == new.addresses;
        let same_advert = same_addresses
            && (old.priority, old.interval()) == (new.priority, interval)
            && (&old.unicast, &old.authentication) == (&new.unicast, &new.authentication);
        match &mut self.state {
            // Nothing is running that would depend on it.
            State::Initialize => self.let_go_of_the_old(same_addresses),
            State::Backup(listening) => {
                let heard =
                    listening.master.is_some() || matches!(listening.wait, Wait::Resigned(_));
                listening.master_adver_interval = match version {
                    Version::V3 if heard => listening.master_adver_interval,
                    Version::V2 | Version::V3 => interval,
                };
                self.reweigh(now, !same_election);
                self.let_go_of_the_old(same_addresses)
            }
            State::Master(_) if same_advert => Vec::new(),
            State::Master(_) => {
                let mut actions = vec![self.speak(now)];
                if !same_addresses {
                    actions.extend([Action::InstallAddresses, Action::Announce]);
                }
                actions
            }
        }
    }

    /// The addresses that linger are those of the configuration before.
    fn let_go_of_the_old(&mut self, same_addresses: bool) -> Vec<Action> {
        if same_addresses {
            return Vec::new();
        }
        self.stop_lingering().into_iter().collect()
    }

    /// Sends an advert now, and the next one an interval later.
    fn speak(&mut self, now: Instant) -> Action {
        let interval = self.parameters.interval();
        if let State::Master(speaking) = &mut self.state {
            speaking.adver_at = now + interval;
        }
        self.advert(self.effective_priority())
    }

    /// RFC 5798 §6.4.1 and §6.4.2: the advert goes first.
    fn become_master(&mut self, now: Instant, from: StateName, why: Reason) -> Vec<Action> {
        let adver_at = now + self.parameters.interval();
        self.state = State::Master(Speaking {
            adver_at,
            rival: None,
        });
        self.linger_until = None;
        self.yielded = false;
        vec![
            self.advert(self.effective_priority()),
            self.changed(now, from, why),
            Action::InstallAddresses,
            Action::Announce,
        ]
    }

    fn advert(&self, priority: u8) -> Action {
        let Parameters {
            vrid,
            version,
            family,
            ..
        } = self.parameters;
        Action::SendAdvertisement(Advertisement {
            version,
            family,
            vrid,
            priority,
            interval: self.parameters.interval(),
            addresses: self.parameters.addresses.clone(),
        })
    }

    /// To be called once the new state is set.
    fn changed(&mut self, now: Instant, from: StateName, why: Reason) -> Action {
        self.since = Some(now);
        self.transitions += 1;
        Action::StateChanged {
            from,
            to: self.state_name(),
            why,
        }
    }

    /// How long this router lets a master of that interval be silent.
    fn master_down_interval(&self, interval: Duration) -> Duration {
        let Parameters {
            down_adverts,
            version,
            ..
        } = self.parameters;
        master_down_interval(down_adverts, self.effective_priority(), interval, version)
    }

    fn skew_time(&self, interval: Duration) -> Duration {
        skew_time(self.effective_priority(), interval, self.parameters.version)
    }
}
