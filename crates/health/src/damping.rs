//! A target that changes too often stays out until it is stable: the damping of one check. Pure: time
//! comes in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::verdict::Health;

/// When a target flaps, and what ends that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flap {
    /// So many changes between up and down, at least 2, ...
    pub count: u32,
    /// ... within this time make a target one that flaps: it stays down ...
    pub within: Duration,
    /// ... until it has passed for so long without a failure.
    pub stable: Duration,
}

/// What damping remembers of a target, for another process that goes on with it. Times are ages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrest {
    changes: Vec<Duration>,
    passes_for: Option<Duration>,
    flapping: bool,
}

/// The changes of one target that still count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damping {
    flap: Flap,
    /// Not longer than `flap.count`: then it flaps, and no more are added.
    changes: VecDeque<Instant>,
    passes_since: Option<Instant>,
    flapping: bool,
}

impl Damping {
    pub(crate) fn new(flap: Flap) -> Damping {
        Damping {
            flap,
            changes: VecDeque::new(),
            passes_since: None,
            flapping: false,
        }
    }

    /// Takes note of an outcome; comes before the change that it makes.
    pub(crate) fn note(&mut self, passed: bool, now: Instant) {
        if passed {
            self.passes_since.get_or_insert(now);
        } else {
            self.passes_since = None;
        }
    }

    /// Whether the target may change. The change that is one too many makes it flap: then it may only
    /// go down. What ends that is forgotten with everything before it.
    pub(crate) fn permits(&mut self, from: Health, to: Health, now: Instant) -> bool {
        if self.flapping {
            let stable = self
                .passes_since
                .is_some_and(|since| now.saturating_duration_since(since) >= self.flap.stable);
            if stable {
                self.flapping = false;
                self.changes.clear();
            }
            return stable;
        }
        // The first verdict is no change.
        if from == Health::Unknown {
            return true;
        }
        let recent = |at: &Instant| now.saturating_duration_since(*at) < self.flap.within;
        self.changes.retain(recent);
        self.changes.push_back(now);
        let count = usize::try_from(self.flap.count).unwrap_or(usize::MAX);
        self.flapping = self.changes.len() >= count;
        !self.flapping || to == Health::Down
    }

    /// What is remembered.
    pub(crate) fn unrest(&self, now: Instant) -> Unrest {
        let age = |at: Instant| now.saturating_duration_since(at);
        Unrest {
            changes: self.changes.iter().copied().map(age).collect(),
            passes_for: self.passes_since.map(age),
            flapping: self.flapping,
        }
    }

    /// Goes on with what was remembered.
    pub(crate) fn go_on(&mut self, unrest: &Unrest, now: Instant) {
        let at = |age: Duration| now.checked_sub(age);
        self.changes = unrest.changes.iter().copied().filter_map(at).collect();
        self.passes_since = unrest.passes_for.and_then(at);
        self.flapping = unrest.flapping;
    }

    pub(crate) fn flapping(&self) -> bool {
        self.flapping
    }
}
