//! What an advert does to a virtual router: the election (RFC 3768 §6.4, RFC 5798 §6.4).

use std::cmp::Ordering;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{LONGEST_DELAY, Listening, Rival, State, VirtualRouter, Wait};
use crate::action::{Action, Notice, Reason, StateName};
use crate::event::{Fault, Path};
use crate::packet::Advertisement;
use crate::parameters::{PRIORITY_OWNER, PRIORITY_STOP, Version};

impl VirtualRouter {
    /// Not started, stopped or faulted: RFC 5798 §6.4.1 hears nothing in Initialize. But a successor
    /// ends the wait of one that has just left, and a peer the fault of having none.
    pub(super) fn hear_outside(
        &mut self,
        now: Instant,
        from: IpAddr,
        advert: &Advertisement,
    ) -> Vec<Action> {
        if advert.priority == PRIORITY_STOP {
            return Vec::new();
        }
        self.settle(now);
        let actions = self.clear(now, &Fault::Unreachable);
        self.hear_as_backup(now, from, advert);
        actions
    }

    /// A master that speaks on several paths is one master: by the address that it has on the link, as
    /// long as it is heard there.
    pub(super) fn known_as(
        &mut self,
        now: Instant,
        from: IpAddr,
        advert: &Advertisement,
        path: Path,
    ) -> IpAddr {
        if path == Path::Link {
            self.on_link = Some((from, advert.priority, now));
            return from;
        }
        let wait = self.master_down_interval(self.interval_of(advert));
        let same = |(_, priority, at): &(IpAddr, u8, Instant)| {
            *priority == advert.priority && now < *at + wait
        };
        self.on_link.filter(same).map_or(from, |(from, _, _)| from)
    }

    pub(super) fn hear_as_backup(&mut self, now: Instant, from: IpAddr, advert: &Advertisement) {
        let State::Backup(listening) = &self.state else {
            return;
        };
        let own_priority = self.effective_priority();
        let interval = self.interval_of(advert);
        if advert.priority == PRIORITY_STOP {
            // RFC 5798 §6.4.2: the others decide by their skew alone.
            let resigned = Listening {
                preempt_at: None,
                armed_at: now,
                wait: Wait::Resigned(from),
                master: None,
                probed: false,
                answered: None,
                suspect: None,
                held: 0,
                ready: None,
                ..listening.clone()
            };
            self.state = State::Backup(resigned);
            self.rearm(now);
            return;
        }
        self.settle(now);
        let master = Some((from, advert.priority));
        if advert.priority >= own_priority || !self.preempts() {
            // RFC 5798 §6.4.2: whoever is not lower, or anyone if we must not preempt, is followed;
            // its address does not matter.
            self.listen(now, interval, master, None);
            return;
        }
        let State::Backup(listening) = &self.state else {
            return;
        };
        let delay = self.parameters.preempt_delay.min(LONGEST_DELAY);
        // Counted from the first advert of a lower master, but never sooner than without a delay.
        let preempt_at = listening
            .preempt_at
            .unwrap_or_else(|| listening.master_down_at.max(now + delay));
        // Who waits only for its sync group need not wait for this master again.
        let why = Reason::Preempts {
            master: from,
            priority: advert.priority,
        };
        if delay.is_zero() {
            // RFC 5798 §6.4.2: the lower one's advert is discarded, the timer runs on. What was
            // asked because of silence is of no interest any more.
            let heard = Listening {
                preempt_at: Some(preempt_at).filter(|_| listening.ready.is_none()),
                master,
                probe_at: None,
                probed: false,
                answered: None,
                suspect: None,
                held: 0,
                ready: listening.ready.as_ref().map(|_| why),
                ..listening.clone()
            };
            self.state = State::Backup(heard);
        } else {
            let waited = matches!(listening.ready, Some(Reason::Preempts { .. }));
            self.listen(now, interval, master, Some(preempt_at));
            if let State::Backup(listening) = &mut self.state
                && waited
            {
                listening.ready = Some(why);
                listening.preempt_at = None;
            }
        }
    }

    pub(super) fn hear_as_master(
        &mut self,
        now: Instant,
        from: IpAddr,
        advert: &Advertisement,
        path: Path,
    ) -> Vec<Action> {
        let State::Master(speaking) = &self.state else {
            return Vec::new();
        };
        let own_priority = self.effective_priority();
        let before = speaking.rival;
        let on_link = path == Path::Link;
        if advert.priority == PRIORITY_STOP {
            // RFC 5798 §6.4.3: those who wait for the one that gave up hear us at once.
            let actions = vec![self.speak(now)];
            if let State::Master(speaking) = &mut self.state {
                speaking.rival = Some(Rival {
                    gone_at: now,
                    ..before.unwrap_or(Rival {
                        from,
                        priority: advert.priority,
                        since: now,
                        gone_at: now,
                        on_link_until: None,
                    })
                });
            }
            return actions;
        }
        // It may be a little late with its next advert.
        let pace = self.parameters.interval().max(self.interval_of(advert));
        let gone_at = now + pace + pace / 2;
        let heard = Rival {
            from,
            priority: advert.priority,
            since: before.map_or(now, |known| known.since),
            gone_at,
            on_link_until: on_link.then_some(gone_at),
        };
        let rival = match before {
            // One word on each path: the sender on the link is the one that operators know.
            Some(known) if !on_link && known.on_link_until.is_some_and(|until| now < until) => {
                Rival { gone_at, ..known }
            }
            Some(_) | None => heard,
        };
        // RFC 5798 §6.4.3: the greater address decides between equal priorities. Who does not know
        // its own address cannot win by it.
        let own = match path {
            Path::Link => self.source,
            Path::Heartbeat { own } => Some(own),
        };
        let by_address = own.map_or(Ordering::Greater, |own| from.cmp(&own));
        let by_priority = advert.priority.cmp(&own_priority);
        // Two paths may order the addresses differently; the link's own order counts, and only where
        // the link has been silent for a while the other's.
        let undecided = !on_link && (rival.on_link_until.is_some() || now < rival.since + pace);
        let outcome = if by_priority == Ordering::Equal && undecided {
            Ordering::Less
        } else {
            by_priority.then(by_address)
        };
        match outcome {
            Ordering::Greater => {
                let interval = self.interval_of(advert);
                self.listen(now, interval, Some((from, advert.priority)), None);
                self.linger_for_the_heard(now);
                let why = if advert.priority > own_priority {
                    Reason::HigherPriority {
                        master: from,
                        priority: advert.priority,
                    }
                } else {
                    Reason::GreaterAddress { master: from }
                };
                vec![self.changed(now, StateName::Master, why)]
            }
            // Our own voice, or a twin's: an answer would be answered, without end.
            Ordering::Equal => Vec::new(),
            Ordering::Less => {
                if let State::Master(speaking) = &mut self.state {
                    speaking.rival = Some(rival);
                }
                let mut actions = Vec::new();
                // RFC 3768 §6.4.3: discarded. RFC 9568 §6.4.3: told at once, and so are the bridges
                // of the link; the pace stays.
                if self.parameters.version == Version::V3 && on_link {
                    actions.push(self.advert(own_priority));
                }
                if before.is_none() {
                    let priority = advert.priority;
                    actions.push(Action::Notice(Notice::Rival { from, priority }));
                }
                actions
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

    /// RFC 5798 §6.1: the owner always preempts. Who handed over by order does not.
    pub(super) fn preempts(&self) -> bool {
        let owner = self.effective_priority() == PRIORITY_OWNER;
        (self.parameters.preempt || owner) && !self.yielded
    }
}
