//! One virtual router: its state, and what each event does to it (RFC 3768 §6.4, RFC 5798 §6.4).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::action::{Action, Reason, StateName};
use crate::event::{Event, Fault};
use crate::packet::Advertisement;
use crate::parameters::{PRIORITY_OWNER, PRIORITY_STOP, Parameters, Version};
use crate::timers::{master_down_interval, next_advert, skew_time};

mod hearing;

/// The state of the protocol, with the deadlines that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Takes no part: not started, stopped, or faulted ([`VirtualRouter::state_name`] tells).
    Initialize,
    /// Listens.
    Backup {
        /// When the master is called dead.
        master_down_at: Instant,
        /// The master's advert interval (RFC 5798 §6.1 Master_Adver_Interval); our own until one is
        /// heard, and always in version 2.
        master_adver_interval: Duration,
        /// When it takes over from the living master of lower priority that it hears.
        preempt_at: Option<Instant>,
        /// Since when `master_down_at` counts.
        armed_at: Instant,
        /// The master that is heard, and its priority.
        master: Option<(IpAddr, u8)>,
        /// The master that gave up; `master_down_at` is then only the skew time away.
        resigned: Option<IpAddr>,
    },
    /// Holds the addresses and says so.
    Master {
        /// When the next advert is due.
        adver_at: Instant,
        /// When another, losing master was last heard. Once it is silent, the addresses are
        /// announced again: the hosts that listened to it know the wrong place.
        rival_at: Option<Instant>,
    },
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
    faults: BTreeSet<Fault>,
    state: State,
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
            faults: BTreeSet::new(),
            state: State::Initialize,
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
            Event::Shutdown => self.shut_down(now),
            Event::Advertisement {
                from,
                advertisement,
            } => match self.state {
                // Not started, or faulted: RFC 5798 §6.4.1 hears nothing in Initialize.
                State::Initialize => Vec::new(),
                State::Backup { .. } => {
                    self.hear_as_backup(now, from, &advertisement);
                    Vec::new()
                }
                State::Master { .. } => self.hear_as_master(now, from, &advertisement),
            },
            Event::Timeout => self.time_out(now),
            Event::FaultRaised(fault) => self.raise(now, fault),
            Event::FaultCleared(fault) => self.clear(now, &fault),
            Event::Reconfigured(parameters) => self.reconfigure(now, parameters),
            Event::SourceChanged(source) => {
                // Of use in every state, and in none at once: the next advert carries it.
                self.source = Some(source);
                Vec::new()
            }
        }
    }

    /// When [`Event::Timeout`] must be fed next; `None` only in Initialize and Fault.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Initialize => None,
            State::Backup {
                master_down_at,
                preempt_at,
                ..
            } => Some(preempt_at.map_or(master_down_at, |at| at.min(master_down_at))),
            State::Master { adver_at, .. } => Some(adver_at),
        }
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
            State::Backup { .. } => StateName::Backup,
            State::Master { .. } => StateName::Master,
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
        // Priority 0 only ever means giving up (RFC 5798 §5.2.4).
        self.parameters.priority.max(1)
    }

    /// The address that its adverts are sent from, as far as it was told.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The master and its priority: as backup the one that is heard, as master itself.
    #[must_use]
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        match self.state {
            State::Initialize => None,
            State::Backup { master, .. } => master,
            State::Master { .. } => self
                .source
                .map(|source| (source, self.effective_priority())),
        }
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
                self.begin(now, StateName::Initialize, Reason::Started)
            }
            // Started already: a fault ends when it is cleared, not by another startup.
            State::Initialize | State::Backup { .. } | State::Master { .. } => Vec::new(),
        }
    }

    fn shut_down(&mut self, now: Instant) -> Vec<Action> {
        let from = self.state_name();
        self.started = false;
        match self.state {
            State::Initialize => match from {
                StateName::Fault => vec![self.changed(now, from, Reason::Stopped)],
                // Never started, or stopped already.
                StateName::Initialize | StateName::Backup | StateName::Master => Vec::new(),
            },
            // RFC 5798 §6.4.2: a backup leaves silently.
            State::Backup { .. } => {
                self.state = State::Initialize;
                vec![self.changed(now, from, Reason::Stopped)]
            }
            State::Master { .. } => self.resign(now, Reason::Stopped),
        }
    }

    fn raise(&mut self, now: Instant, fault: Fault) -> Vec<Action> {
        let from = self.state_name();
        if !self.faults.insert(fault.clone()) {
            return Vec::new();
        }
        match self.state {
            // Not started: remembered for the startup. Faulted: one reason more.
            State::Initialize => Vec::new(),
            State::Backup { .. } => {
                self.state = State::Initialize;
                vec![self.changed(now, from, Reason::Faulted(fault))]
            }
            State::Master { .. } => self.resign(now, Reason::Faulted(fault)),
        }
    }

    fn clear(&mut self, now: Instant, fault: &Fault) -> Vec<Action> {
        if !self.faults.remove(fault) {
            return Vec::new();
        }
        match self.state {
            State::Initialize if self.started && self.faults.is_empty() => {
                self.begin(now, StateName::Fault, Reason::FaultsCleared)
            }
            // Another fault is left, or it has not started.
            State::Initialize => Vec::new(),
            // These have no faults to clear.
            State::Backup { .. } | State::Master { .. } => Vec::new(),
        }
    }

    /// RFC 5798 §6.4.1, what a startup does; the end of the last fault is one too.
    fn begin(&mut self, now: Instant, from: StateName, why: Reason) -> Vec<Action> {
        if let Some(fault) = self.faults.first().cloned() {
            return vec![self.changed(now, from, Reason::Faulted(fault))];
        }
        if self.effective_priority() == PRIORITY_OWNER {
            return self.become_master(now, from, why);
        }
        self.listen(now, self.parameters.interval(), None, None);
        vec![self.changed(now, from, why)]
    }

    fn time_out(&mut self, now: Instant) -> Vec<Action> {
        match self.state {
            // No timer runs: this one is left over from before.
            State::Initialize => Vec::new(),
            State::Backup {
                master_down_at,
                preempt_at,
                master,
                resigned,
                ..
            } => {
                let preempts = preempt_at.is_some_and(|at| at <= now);
                let why = match (master, resigned) {
                    (Some((master, priority)), _) if preempts => {
                        Reason::Preempts { master, priority }
                    }
                    // Too early: an advert has moved the deadline since this was set.
                    _ if now < master_down_at => return Vec::new(),
                    (_, Some(master)) => Reason::MasterResigned { master },
                    (_, None) => Reason::MasterSilent { master },
                };
                self.become_master(now, StateName::Backup, why)
            }
            State::Master { adver_at, .. } if now < adver_at => Vec::new(),
            State::Master { adver_at, rival_at } => {
                let interval = self.parameters.interval();
                let rival_gone = rival_at.is_some_and(|at| at + interval <= now);
                self.state = State::Master {
                    adver_at: next_advert(adver_at, now, interval),
                    rival_at: rival_at.filter(|_| !rival_gone),
                };
                let mut actions = vec![self.advert(self.effective_priority())];
                if rival_gone {
                    actions.push(Action::Announce);
                }
                actions
            }
        }
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
        match self.state {
            // Nothing is running that would depend on it.
            State::Initialize => Vec::new(),
            State::Backup {
                master_down_at: _,
                master_adver_interval,
                preempt_at,
                armed_at,
                master,
                resigned,
            } => {
                let heard = master.is_some() || resigned.is_some();
                let master_adver_interval = match version {
                    Version::V3 if heard => master_adver_interval,
                    Version::V2 | Version::V3 => interval,
                };
                let priority = self.effective_priority();
                let wait = match resigned {
                    Some(_) => skew_time(priority, master_adver_interval, version),
                    None => master_down_interval(priority, master_adver_interval, version),
                };
                self.state = State::Backup {
                    master_down_at: now.max(armed_at + wait),
                    master_adver_interval,
                    // A delay counts anew where what it depends on is another.
                    preempt_at: preempt_at.filter(|_| same_election),
                    armed_at,
                    master,
                    resigned,
                };
                Vec::new()
            }
            State::Master { rival_at, .. } => {
                let same_addresses = old.addresses == new.addresses;
                let same_advert =
                    same_addresses && (old.priority, old.interval()) == (new.priority, interval);
                if same_advert {
                    return Vec::new();
                }
                self.state = State::Master {
                    adver_at: now + interval,
                    rival_at,
                };
                let mut actions = vec![self.advert(self.effective_priority())];
                if !same_addresses {
                    actions.extend([Action::InstallAddresses, Action::Announce]);
                }
                actions
            }
        }
    }

    /// Backup, with the whole of the master-down time ahead.
    fn listen(
        &mut self,
        now: Instant,
        master_adver_interval: Duration,
        master: Option<(IpAddr, u8)>,
        preempt_at: Option<Instant>,
    ) {
        let version = self.parameters.version;
        let wait = master_down_interval(self.effective_priority(), master_adver_interval, version);
        self.state = State::Backup {
            master_down_at: now + wait,
            master_adver_interval,
            preempt_at,
            armed_at: now,
            master,
            resigned: None,
        };
    }

    /// RFC 5798 §6.4.1 and §6.4.2: the advert goes first.
    fn become_master(&mut self, now: Instant, from: StateName, why: Reason) -> Vec<Action> {
        let adver_at = now + self.parameters.interval();
        self.state = State::Master {
            adver_at,
            rival_at: None,
        };
        vec![
            self.advert(self.effective_priority()),
            self.changed(now, from, why),
            Action::InstallAddresses,
            Action::Announce,
        ]
    }

    /// RFC 5798 §6.4.3: priority 0 first, so that the successor need not wait for us.
    fn resign(&mut self, now: Instant, why: Reason) -> Vec<Action> {
        self.state = State::Initialize;
        vec![
            self.advert(PRIORITY_STOP),
            self.changed(now, StateName::Master, why),
            Action::RemoveAddresses,
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
}
