//! What a backup does while no better master is heard: it waits, asks the link whether somebody
//! still has the addresses, and takes over (RFC 5798 §6.4.2).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::leaving::SETTLE;
use super::{Listening, State, VirtualRouter, Wait};
use crate::action::{Action, Notice, Reason, StateName};
use crate::event::Fault;
use crate::parameters::TakeoverProbe;

/// How long before the deadline the link is asked for the first time, at most; one advert interval,
/// where that is less. An answer takes less than a millisecond, but asking and hearing it are left to
/// threads without real-time priority, which on a host without processor time to spare take hundreds
/// (250 ms seen). A master that was only late still cancels the question.
const PROBE_LEAD: Duration = Duration::from_secs(1);
/// How many further master-down intervals it waits while somebody answers.
const HOLD_MAX: u8 = 2;

impl VirtualRouter {
    /// Backup, with the whole of the master-down time ahead.
    pub(super) fn listen(
        &mut self,
        now: Instant,
        master_adver_interval: Duration,
        master: Option<(IpAddr, u8)>,
        preempt_at: Option<Instant>,
    ) {
        let wait = self.master_down_interval(master_adver_interval);
        self.state = State::Backup(Listening {
            master_down_at: now + wait,
            master_adver_interval,
            preempt_at,
            armed_at: now,
            wait: Wait::Silence,
            master,
            probe_at: None,
            probed: false,
            answered: None,
            suspect: None,
            held: 0,
            ready: None,
        });
        self.plan_probe(now);
    }

    /// Moves the deadlines of a backup after what they depend on has changed.
    pub(super) fn rearm(&mut self, now: Instant) {
        let State::Backup(listening) = &self.state else {
            return;
        };
        if listening.ready.is_some() {
            // Its deadline is only the next look.
            return;
        }
        let interval = listening.master_adver_interval;
        let wait = match listening.wait {
            Wait::Silence => self.master_down_interval(interval),
            Wait::Resigned(_) => self.skew_time(interval),
            Wait::Successor => self.succession(),
        };
        if let State::Backup(listening) = &mut self.state {
            let at = now.max(listening.armed_at + wait);
            listening.master_down_at = at;
            let waits_for_successor = listening.wait == Wait::Successor;
            // The deadline comes first: whoever takes the addresses back must not lose them before.
            if let Some(until) = &mut self.linger_until
                && waits_for_successor
                && listening.master.is_none()
            {
                *until = at + SETTLE;
            }
        }
        self.plan_probe(now);
    }

    /// What follows for a backup from another priority of its own, or another wish to preempt; `anew`:
    /// a preempt delay that has begun is none any more.
    pub(super) fn reweigh(&mut self, now: Instant, anew: bool) {
        let (own_priority, preempts) = (self.effective_priority(), self.preempts());
        let (heard_at, delay) = (self.heard_at, self.parameters.preempt_delay);
        let State::Backup(listening) = &mut self.state else {
            return;
        };
        let waited = matches!(listening.ready, Some(Reason::Preempts { .. }));
        let preempting = waited || listening.preempt_at.is_some();
        let lower = listening.master.is_some_and(|(_, p)| p < own_priority);
        let still = preempting && lower && preempts;
        if preempting && !still {
            // The master is one to follow: since it was last heard, not since the timer ran.
            listening.preempt_at = None;
            listening.ready = None;
            listening.wait = Wait::Silence;
            listening.armed_at = heard_at.unwrap_or(now).max(listening.armed_at);
        }
        self.rearm(now);
        if let State::Backup(listening) = &mut self.state
            && still
            && !waited
        {
            if delay.is_zero() {
                listening.preempt_at = Some(listening.master_down_at);
            } else if anew {
                listening.preempt_at = None;
            }
        }
    }

    /// When to ask: shortly before the deadline, so that it costs no time.
    fn plan_probe(&mut self, now: Instant) {
        let off = self.parameters.takeover_probe == TakeoverProbe::Off;
        if let State::Backup(listening) = &mut self.state {
            let lead = listening.master_adver_interval.min(PROBE_LEAD);
            // Who gave up said so, and who was master itself may be the one that answers: only the
            // addresses of one that fell silent are in question.
            let wanted = !off && listening.wait == Wait::Silence && !listening.probed;
            listening.probe_at = listening
                .master_down_at
                .checked_sub(lead)
                .filter(|at| wanted && *at > now);
        }
    }

    pub(super) fn wait_over(&mut self, now: Instant) -> Vec<Action> {
        let State::Backup(listening) = &mut self.state else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        if listening.probe_at.is_some_and(|at| at <= now) {
            let left = listening.master_down_at.saturating_duration_since(now);
            // Asked twice: a single frame may be lost. At the deadline it is too late to ask.
            let again = !listening.probed && !left.is_zero();
            listening.probe_at = again.then(|| listening.master_down_at - left / 2);
            if !left.is_zero() && listening.answered.is_none() {
                listening.probed = true;
                actions.push(Action::ProbeAddresses);
            }
        }
        let preempts = listening.preempt_at.is_some_and(|at| at <= now);
        let why = match (listening.master, listening.wait) {
            (Some((master, priority)), _) if preempts => Reason::Preempts { master, priority },
            // Too early: an advert has moved the deadline since this was set.
            _ if now < listening.master_down_at => return actions,
            (_, Wait::Resigned(master)) => Reason::MasterResigned { master },
            (None, Wait::Successor) if self.yielded => Reason::NoSuccessor,
            (master, Wait::Silence | Wait::Successor) => Reason::MasterSilent { master },
        };
        let why = listening.ready.clone().unwrap_or(why);
        if self.references_lost {
            actions.extend(self.stay_out(now, &why));
            return actions;
        }
        let State::Backup(listening) = &self.state else {
            return actions;
        };
        let hold =
            self.parameters.takeover_probe == TakeoverProbe::Hold && listening.ready.is_none();
        if let Some(by) = listening.answered.filter(|_| hold && asks(&why))
            && listening.held < HOLD_MAX
        {
            actions.extend(self.hold(now, by));
        } else if self.grouped {
            self.wait_for_group(now, why);
        } else {
            actions.extend(self.take_over(now, why));
        }
        actions
    }

    /// None of the reference addresses answers: it is no master, but it need not be in fault while
    /// another is.
    fn stay_out(&mut self, now: Instant, why: &Reason) -> Vec<Action> {
        let State::Backup(listening) = &self.state else {
            return Vec::new();
        };
        if matches!(why, Reason::Preempts { .. }) {
            let (interval, master) = (listening.master_adver_interval, listening.master);
            self.listen(now, interval, master, None);
            return Vec::new();
        }
        self.raise(now, Fault::Unreachable, false)
    }

    /// Somebody has the addresses and no advert says who: one more master-down interval.
    fn hold(&mut self, now: Instant, by: [u8; 6]) -> Option<Action> {
        let State::Backup(listening) = &mut self.state else {
            return None;
        };
        let first = listening.held == 0;
        listening.held += 1;
        listening.suspect = Some(by);
        listening.probed = false;
        listening.answered = None;
        listening.armed_at = now;
        self.rearm(now);
        first.then_some(Action::Notice(Notice::Suspect { by }))
    }

    /// It would be master, but others of its group would not. It stays ready until an advert says
    /// otherwise; the deadline is only the next look.
    pub(super) fn wait_for_group(&mut self, now: Instant, why: Reason) {
        let State::Backup(listening) = &mut self.state else {
            return;
        };
        listening.preempt_at = None;
        listening.probe_at = None;
        listening.suspect = None;
        listening.armed_at = now;
        listening.master_down_at = now + listening.master_adver_interval;
        if listening.ready.is_none() {
            listening.ready = Some(why);
            // The others of the group may need a little longer to find that nobody follows.
            let look = listening.master_down_at + SETTLE;
            self.linger_until = self.linger_until.map(|until| until.max(look));
        }
    }

    fn take_over(&mut self, now: Instant, why: Reason) -> Vec<Action> {
        let State::Backup(listening) = &self.state else {
            return Vec::new();
        };
        let answered = listening.answered.filter(|_| asks(&why));
        let mut actions = Vec::new();
        actions.extend(answered.map(|by| Action::Notice(Notice::TakesOverAnswered { by })));
        actions.extend(self.become_master(now, StateName::Backup, why));
        actions
    }

    /// Whether it would be master if its sync group were.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.state {
            State::Initialize => false,
            State::Backup(listening) => listening.ready.is_some(),
            State::Master(_) => true,
        }
    }

    /// Whether it leaves the master alone that it hears.
    pub(crate) fn follows(&self) -> bool {
        match &self.state {
            State::Initialize | State::Master(_) => false,
            State::Backup(listening) => {
                listening.master.is_some()
                    && listening.preempt_at.is_none()
                    && listening.ready.is_none()
            }
        }
    }

    /// Whether the master that it hears would win the election against it.
    pub(crate) fn is_outranked(&self) -> bool {
        match &self.state {
            State::Initialize | State::Master(_) => false,
            State::Backup(listening) => listening.master.is_some_and(|(from, priority)| {
                (priority, Some(from)) > (self.effective_priority(), self.source)
            }),
        }
    }

    /// Every member of the group is ready.
    pub(crate) fn promote(&mut self, now: Instant) -> Vec<Action> {
        let State::Backup(listening) = &self.state else {
            return Vec::new();
        };
        match listening.ready.clone() {
            Some(why) => self.take_over(now, why),
            None => Vec::new(),
        }
    }

    /// Tells it whether it is a member of a sync group.
    pub(crate) fn set_grouped(&mut self, grouped: bool) {
        self.grouped = grouped;
    }

    /// No reference address answers, and no peer is heard.
    fn is_lost(&self, now: Instant) -> bool {
        let wait = self.master_down_interval(self.parameters.interval());
        let alone = self.heard_at.is_none_or(|at| at + wait <= now);
        self.references_lost && alone
    }

    /// Raises or clears the fault that the reference addresses stand for. A backup that hears a
    /// master is in no fault: it is judged when it would take over.
    pub(super) fn judge_references(&mut self, now: Instant) -> Vec<Action> {
        let lost = self.is_lost(now);
        if !lost && self.faults.contains(&Fault::Unreachable) {
            return self.clear(now, &Fault::Unreachable);
        }
        let ready = match &self.state {
            State::Master(_) if lost => return self.raise(now, Fault::Unreachable, false),
            State::Backup(listening) if self.references_lost => listening.ready.clone(),
            State::Initialize | State::Backup(_) | State::Master(_) => None,
        };
        ready.map_or_else(Vec::new, |why| self.stay_out(now, &why))
    }
}

/// Whether the addresses are asked after before a takeover for this reason.
fn asks(why: &Reason) -> bool {
    matches!(why, Reason::MasterSilent { .. })
}
