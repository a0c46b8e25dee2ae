//! How a master leaves: make before break where it is planned, at once where something is wrong.
//!
//! Between its priority 0 and the successor's first advert nobody else would answer for the
//! addresses, so a master that leaves on purpose keeps them until then. The peer needs to know
//! nothing of it: to a stock keepalived it is an ordinary resignation (RFC 5798 §6.4.3).

use std::time::{Duration, Instant};

use super::{State, VirtualRouter, Wait};
use crate::action::{Action, Reason, StateName};
use crate::parameters::PRIORITY_STOP;

/// A successor says first that it is master and then puts the addresses on: it gets this long before
/// ours go.
pub(super) const SETTLE: Duration = Duration::from_millis(20);

impl VirtualRouter {
    pub(super) fn shut_down(&mut self, now: Instant, make_before_break: bool) -> Vec<Action> {
        let from = self.state_name();
        self.started = false;
        self.start_at = None;
        self.yielded = false;
        let mut actions = match self.state {
            State::Initialize => match from {
                StateName::Fault => vec![self.changed(now, from, Reason::Stopped)],
                // Never started, or stopped already.
                StateName::Initialize | StateName::Backup | StateName::Master => Vec::new(),
            },
            // RFC 5798 §6.4.2: a backup leaves silently.
            State::Backup(_) => {
                self.state = State::Initialize;
                vec![self.changed(now, from, Reason::Stopped)]
            }
            State::Master(_) => self.resign(now, Reason::Stopped, make_before_break),
        };
        if !make_before_break {
            actions.extend(self.stop_lingering());
        }
        actions
    }

    /// RFC 5798 §6.4.3: priority 0 first, so that the successor need not wait for us.
    pub(super) fn resign(&mut self, now: Instant, why: Reason, linger: bool) -> Vec<Action> {
        let until = now + self.succession();
        self.state = State::Initialize;
        let mut actions = vec![
            self.advert(PRIORITY_STOP),
            self.changed(now, StateName::Master, why),
        ];
        if linger {
            self.linger_until = Some(until);
        } else {
            self.linger_until = None;
            actions.push(Action::RemoveAddresses);
        }
        actions
    }

    /// As [`VirtualRouter::resign`], but it stays a backup. Where `why` is an order, it leaves the
    /// successor alone, and takes the addresses back if there is none.
    pub(crate) fn hand_over(&mut self, now: Instant, why: Reason) -> Vec<Action> {
        if !matches!(self.state, State::Master(_)) {
            return Vec::new();
        }
        self.await_successor(now);
        self.yielded = why == Reason::Yielded;
        vec![
            self.advert(PRIORITY_STOP),
            self.changed(now, StateName::Master, why),
        ]
    }

    /// A master becomes backup and keeps the addresses until somebody else has them.
    fn await_successor(&mut self, now: Instant) {
        self.listen(now, self.parameters.interval(), None, None);
        if let State::Backup(listening) = &mut self.state {
            listening.wait = Wait::Successor;
        }
        // Set here and moved there to the end of the wait.
        self.linger_until = Some(now);
        self.rearm(now);
    }

    /// The longest that a successor may take: its skew time is less than the interval (in version 2
    /// less than a second).
    pub(crate) fn succession(&self) -> Duration {
        let interval = self.parameters.interval();
        self.skew_time(interval) + interval
    }

    /// Somebody else is master: its addresses are a moment away.
    pub(super) fn settle(&mut self, now: Instant) {
        if let Some(until) = &mut self.linger_until {
            *until = (*until).min(now + SETTLE);
        }
    }

    /// A master that lost the election to one that is heard: its addresses are a moment away.
    pub(super) fn linger_for_the_heard(&mut self, now: Instant) {
        self.linger_until = Some(now + SETTLE);
    }

    pub(super) fn stop_lingering(&mut self) -> Option<Action> {
        self.linger_until.take().map(|_| Action::RemoveAddresses)
    }

    /// A master that did not run for so long that its peers may have called it dead looks who is
    /// master before it says another word. The addresses stay meanwhile: they were there all the time.
    pub(super) fn wake_up(&mut self, now: Instant) -> Vec<Action> {
        let State::Master(speaking) = &self.state else {
            return Vec::new();
        };
        let interval = self.parameters.interval();
        let late = now.saturating_duration_since(speaking.adver_at);
        // The advert before was an interval earlier, and the fastest peer waits a little more than
        // `down_adverts` intervals.
        let patience = interval.saturating_mul(u32::from(self.parameters.down_adverts.max(2) - 1));
        if late < patience {
            return Vec::new();
        }
        self.await_successor(now);
        vec![self.changed(now, StateName::Master, Reason::Slept { late })]
    }
}
