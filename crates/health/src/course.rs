//! The course of one check: its verdict, whether it flaps, and when to probe next. Pure: time comes
//! in.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::check::CheckSpec;
use crate::damping::{Damping, Unrest};
use crate::verdict::{Health, Transition, Verdict};

/// What is known of a target, outcome by outcome.
#[derive(Debug)]
pub(crate) struct Course {
    verdict: Verdict,
    /// Most checks have none, and there may be thousands.
    damping: Option<Box<Damping>>,
}

/// How a check stands, for another process that goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its verdict.
    pub health: Health,
    /// Outcomes in a row that speak against it.
    streak: u32,
    awaits_first_pass: bool,
    unrest: Option<Unrest>,
}

impl Course {
    /// How it stands.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        let (streak, awaits_first_pass) = self.verdict.on_the_way();
        Standing {
            health: self.health(),
            streak,
            awaits_first_pass,
            unrest: self.damping.as_ref().map(|damping| damping.unrest(now)),
        }
    }

    /// Goes on with how it stood, if it begins with the verdict that it had.
    pub(crate) fn go_on(&mut self, standing: &Standing, now: Instant) {
        if standing.health != self.health() {
            return;
        }
        let Standing {
            streak,
            awaits_first_pass,
            ..
        } = *standing;
        self.verdict.go_on((streak, awaits_first_pass));
        if let (Some(damping), Some(unrest)) = (&mut self.damping, &standing.unrest) {
            damping.go_on(unrest, now);
        }
    }

    pub(crate) fn new(spec: &CheckSpec, initial: Health) -> Course {
        let damping = spec.flap.as_deref().copied().map(Damping::new);
        Course {
            verdict: Verdict::new(initial, spec.rise, spec.fall),
            damping: damping.map(Box::new),
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.verdict.health()
    }

    pub(crate) fn flapping(&self) -> bool {
        self.damping
            .as_ref()
            .is_some_and(|damping| damping.flapping())
    }

    /// Takes one outcome in; returns the change it made, if it made one.
    pub(crate) fn record(&mut self, passed: bool, now: Instant) -> Option<Transition> {
        let from = self.verdict.health();
        let claim = self.verdict.claim(passed);
        if let Some(damping) = &mut self.damping {
            damping.note(passed, now);
            if !damping.permits(from, claim?, now) {
                return None;
            }
        }
        self.verdict.turn(claim?)
    }

    /// From the start of the last probe to that of the next.
    pub(crate) fn interval(&self, spec: &CheckSpec) -> Duration {
        let changing = self.verdict.is_contradicted() || self.health() == Health::Unknown;
        let own = match self.health() {
            // It passes or it does not: how long it takes until it is believed is set.
            _ if self.flapping() => None,
            _ if changing => spec.fast_interval,
            Health::Down => spec.down_interval,
            Health::Up | Health::Unknown => None,
        };
        own.unwrap_or(spec.interval)
    }
}

#[cfg(test)]
mod tests;
