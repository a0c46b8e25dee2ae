//! What an advert does to a virtual router: the election (RFC 3768 §6.4, RFC 5798 §6.4).

use std::cmp::Ordering;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{State, VirtualRouter};
use crate::action::{Action, Reason, StateName};
use crate::packet::Advertisement;
use crate::parameters::{PRIORITY_OWNER, PRIORITY_STOP, Version};
use crate::timers::skew_time;

/// The longest preempt delay that counts; it keeps any configured value within what a clock holds.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

impl VirtualRouter {
    pub(super) fn hear_as_backup(&mut self, now: Instant, from: IpAddr, advert: &Advertisement) {
        let State::Backup {
            master_down_at,
            master_adver_interval,
            preempt_at,
            armed_at,
            master: _,
            resigned,
        } = self.state
        else {
            return;
        };
        let own_priority = self.effective_priority();
        if advert.priority == PRIORITY_STOP {
            // RFC 5798 §6.4.2: the others decide by their skew alone.
            let skew = skew_time(own_priority, master_adver_interval, self.parameters.version);
            self.state = State::Backup {
                master_down_at: now + skew,
                master_adver_interval,
                preempt_at: None,
                armed_at: now,
                master: None,
                resigned: Some(from),
            };
            return;
        }
        let interval = self.interval_of(advert);
        let master = Some((from, advert.priority));
        if advert.priority >= own_priority || !self.preempts() {
            // RFC 5798 §6.4.2: whoever is not lower, or anyone if we must not preempt, is followed;
            // its address does not matter.
            self.listen(now, interval, master, None);
            return;
        }
        let delay = self.parameters.preempt_delay.min(LONGEST_DELAY);
        // Counted from the first advert of a lower master, but never sooner than without a delay.
        let preempt_at = preempt_at.unwrap_or_else(|| master_down_at.max(now + delay));
        if delay.is_zero() {
            // RFC 5798 §6.4.2: the lower one's advert is discarded, the timer runs on.
            self.state = State::Backup {
                master_down_at,
                master_adver_interval,
                preempt_at: Some(preempt_at),
                armed_at,
                master,
                resigned,
            };
        } else {
            self.listen(now, interval, master, Some(preempt_at));
        }
    }

    pub(super) fn hear_as_master(
        &mut self,
        now: Instant,
        from: IpAddr,
        advert: &Advertisement,
    ) -> Vec<Action> {
        let State::Master { adver_at, .. } = self.state else {
            return Vec::new();
        };
        let own_priority = self.effective_priority();
        if advert.priority == PRIORITY_STOP {
            // RFC 5798 §6.4.3: those who wait for the one that gave up hear us at once.
            let adver_at = now + self.parameters.interval();
            self.state = State::Master {
                adver_at,
                rival_at: Some(now),
            };
            return vec![self.advert(own_priority)];
        }
        // RFC 5798 §6.4.3: the greater address decides between equal priorities. Who does not know
        // its own address cannot win by it.
        let by_address = self
            .source
            .map_or(Ordering::Greater, |source| from.cmp(&source));
        match advert.priority.cmp(&own_priority).then(by_address) {
            Ordering::Greater => {
                let interval = self.interval_of(advert);
                self.listen(now, interval, Some((from, advert.priority)), None);
                let why = if advert.priority > own_priority {
                    Reason::HigherPriority {
                        master: from,
                        priority: advert.priority,
                    }
                } else {
                    Reason::GreaterAddress { master: from }
                };
                vec![
                    self.changed(now, StateName::Master, why),
                    Action::RemoveAddresses,
                ]
            }
            // Our own voice, or a twin's: an answer would be answered, without end.
            Ordering::Equal => Vec::new(),
            Ordering::Less => {
                self.state = State::Master {
                    adver_at,
                    rival_at: Some(now),
                };
                match self.parameters.version {
                    // RFC 3768 §6.4.3: discarded.
                    Version::V2 => Vec::new(),
                    // RFC 9568 §6.4.3: told at once, and so are the bridges; the pace stays.
                    Version::V3 => vec![self.advert(own_priority)],
                }
            }
        }
    }

    /// The interval that a master's silence is measured by.
    fn interval_of(&self, advert: &Advertisement) -> Duration {
        match self.parameters.version {
            // RFC 3768 §7.1: the same everywhere.
            Version::V2 => self.parameters.interval(),
            // RFC 5798 §6.4.2: the master's counts.
            Version::V3 => self.parameters.version.nearest_interval(advert.interval),
        }
    }

    /// RFC 5798 §6.1: the owner always preempts.
    fn preempts(&self) -> bool {
        self.parameters.preempt || self.effective_priority() == PRIORITY_OWNER
    }
}
