//! What a backup does while no better master is heard: it waits, asks the link whether somebody
//! still has the addresses, and takes over (RFC 5798 §6.4.2).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Listening, State, VirtualRouter};
use crate::action::{Action, Notice, Reason, StateName};
use crate::event::Fault;
use crate::parameters::TakeoverProbe;

/// How long before the deadline the link is asked for the first time: an answer on a link takes less
/// than a millisecond, and a master that was only late still cancels the question.
const PROBE_LEAD: Duration = Duration::from_millis(200);
/// How many further master-down intervals it waits while somebody answers.
const HOLD_MAX: u8 = 2;

impl Listening {
    /// Whether it leaves the master alone that it hears.
    pub(crate) fn follows(&self) -> bool {
        self.master.is_some() && self.preempt_at.is_none() && self.ready.is_none()
    }
}

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
            master,
            resigned: None,
            probe_at: None,
            probed: false,
            answered: None,
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
        let interval = listening.master_adver_interval;
        let wait = match listening.resigned {
            Some(_) => self.skew_time(interval),
            None => self.master_down_interval(interval),
        };
        if let State::Backup(listening) = &mut self.state {
            listening.master_down_at = now.max(listening.armed_at + wait);
        }
        self.plan_probe(now);
    }

    /// When to ask: shortly before the deadline, so that it costs no time.
    pub(super) fn plan_probe(&mut self, now: Instant) {
        let off = self.parameters.takeover_probe == TakeoverProbe::Off;
        if let State::Backup(listening) = &mut self.state {
            let lead = listening.master_adver_interval.min(PROBE_LEAD);
            // Who gave up said so: its addresses are on their way out, not in question.
            let wanted = !off && listening.resigned.is_none();
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
            // Asked twice: a single frame may be lost.
            let second = listening.master_down_at
                - listening.master_down_at.saturating_duration_since(now) / 2;
            listening.probe_at = (!listening.probed && second > now).then_some(second);
            listening.probed = true;
            actions.push(Action::ProbeAddresses);
        }
        let preempts = listening.preempt_at.is_some_and(|at| at <= now);
        let why = match (listening.master, listening.resigned) {
            (Some((master, priority)), _) if preempts => Reason::Preempts { master, priority },
            // Too early: an advert has moved the deadline since this was set.
            _ if now < listening.master_down_at => return actions,
            (_, Some(master)) => Reason::MasterResigned { master },
            (None, None) if self.yielded && self.linger_until.is_some() => Reason::NoSuccessor,
            (master, None) => Reason::MasterSilent { master },
        };
        let silent = matches!(why, Reason::MasterSilent { .. });
        let (answered, held) = (listening.answered.filter(|_| silent), listening.held);
        if let Some(by) = answered {
            if self.parameters.takeover_probe == TakeoverProbe::Hold && held < HOLD_MAX {
                actions.extend(self.hold(now, by));
                return actions;
            }
            actions.push(Action::Notice(Notice::TakesOverAnswered { by }));
        }
        if self.is_lost(now) {
            actions.extend(self.raise(now, Fault::Unreachable));
            return actions;
        }
        if self.grouped {
            self.wait_for_group(now, why);
        } else {
            actions.extend(self.become_master(now, StateName::Backup, why));
        }
        actions
    }

    /// Somebody has the addresses and no advert says who: one more master-down interval.
    fn hold(&mut self, now: Instant, by: [u8; 6]) -> Option<Action> {
        let State::Backup(listening) = &mut self.state else {
            return None;
        };
        let first = listening.held == 0;
        listening.held += 1;
        listening.probed = false;
        listening.armed_at = now;
        let interval = listening.master_adver_interval;
        let wait = self.master_down_interval(interval);
        if let State::Backup(listening) = &mut self.state {
            listening.master_down_at = now + wait;
        }
        self.plan_probe(now);
        first.then_some(Action::Notice(Notice::Suspect { by }))
    }

    /// It would be master, but others of its group would not. It stays ready until an advert says
    /// otherwise; the deadline is only the next look.
    fn wait_for_group(&mut self, now: Instant, why: Reason) {
        if let State::Backup(listening) = &mut self.state {
            listening.ready.get_or_insert(why);
            listening.preempt_at = None;
            listening.master_down_at = now + listening.master_adver_interval;
            listening.armed_at = now;
            listening.probe_at = None;
        }
    }

    /// Whether it would be master if its sync group were.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.state {
            State::Initialize => false,
            State::Backup(listening) => listening.ready.is_some(),
            State::Master(_) => true,
        }
    }

    /// Every member of the group is ready.
    pub(crate) fn promote(&mut self, now: Instant) -> Vec<Action> {
        let State::Backup(listening) = &self.state else {
            return Vec::new();
        };
        match listening.ready.clone() {
            Some(why) => self.become_master(now, StateName::Backup, why),
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
        match self.state {
            State::Master(_) if lost => self.raise(now, Fault::Unreachable),
            State::Initialize | State::Backup(_) | State::Master(_) => Vec::new(),
        }
    }
}
