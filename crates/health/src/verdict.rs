//! From single outcomes to a state: `rise` passes in a row make a target up, `fall` failures in a
//! row make it down. Pure: no clock, no task.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check::Start;

/// What is believed of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not proven either way; treated as out of the pool.
    Unknown,
    /// Fit to serve.
    Up,
    /// Unfit to serve.
    Down,
}

/// A change of what is believed of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transition {
    /// Before; never equal to `to`.
    pub from: Health,
    /// After; never [`Health::Unknown`].
    pub to: Health,
}

/// The state of one target, and the outcomes in a row that speak against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    health: Health,
    rise: u32,
    fall: u32,
    /// Outcomes in a row that contradict `health`.
    streak: u32,
    /// Began as [`Health::Unknown`] and has never passed: one pass suffices.
    awaits_first_pass: bool,
}

impl Verdict {
    /// Begins in `initial`. `rise` and `fall` count outcomes in a row; 0 counts as 1.
    ///
    /// A target that begins [`Health::Unknown`] is up at its first pass, whatever `rise` says, even
    /// when `fall` failures have made it down before that. One that begins [`Health::Down`] is known
    /// to have been bad and needs `rise` passes.
    #[must_use]
    pub fn new(initial: Health, rise: u32, fall: u32) -> Verdict {
        Verdict {
            health: initial,
            rise: rise.max(1),
            fall: fall.max(1),
            streak: 0,
            awaits_first_pass: initial == Health::Unknown,
        }
    }

    /// Outcomes in a row that speak against the state, and whether it awaits its first pass.
    pub(crate) fn on_the_way(&self) -> (u32, bool) {
        (self.streak, self.awaits_first_pass)
    }

    /// Goes on where [`Verdict::on_the_way`] was.
    pub(crate) fn go_on(&mut self, (streak, awaits_first_pass): (u32, bool)) {
        self.streak = streak;
        self.awaits_first_pass = awaits_first_pass;
    }

    /// What is believed now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one outcome in; returns the change it made, if it made one.
    pub fn record(&mut self, passed: bool) -> Option<Transition> {
        let claim = self.claim(passed)?;
        self.turn(claim)
    }

    /// Takes one outcome in; returns what the target should turn to. Unless it does, every further
    /// outcome of the kind asks again.
    pub(crate) fn claim(&mut self, passed: bool) -> Option<Health> {
        let (claim, needed) = if passed {
            (
                Health::Up,
                if self.awaits_first_pass { 1 } else { self.rise },
            )
        } else {
            (Health::Down, self.fall)
        };
        if passed {
            self.awaits_first_pass = false;
        }
        if self.health == claim {
            self.streak = 0;
            return None;
        }
        // An unknown target turns up at its first pass, so only failures ever add up there: one
        // counter serves every state.
        self.streak = self.streak.saturating_add(1);
        (self.streak >= needed).then_some(claim)
    }

    /// Makes a claim the state.
    pub(crate) fn turn(&mut self, claim: Health) -> Option<Transition> {
        let from = std::mem::replace(&mut self.health, claim);
        self.streak = 0;
        Some(Transition { from, to: claim }).filter(|turned| turned.from != turned.to)
    }

    /// Whether the last outcome speaks against the state.
    pub(crate) fn is_contradicted(&self) -> bool {
        self.streak > 0
    }
}

impl Health {
    /// The name in status, events and metrics: `unknown`, `up`, `down`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Start> for Health {
    /// The state before the first probe.
    fn from(start: Start) -> Health {
        match start {
            Start::Down => Health::Unknown,
            Start::Up => Health::Up,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_target_is_up_at_its_first_pass_whatever_rise_says() {
        check(Health::Unknown, 5, 3, "+", "U");
    }

    #[test]
    fn a_new_target_that_never_passes_is_down_after_fall_failures() {
        check(Health::Unknown, 1, 3, "----", "??DD");
    }

    #[test]
    fn the_first_pass_ever_suffices_even_after_the_target_was_found_down() {
        check(Health::Unknown, 3, 2, "---+", "?DDU");
    }

    #[test]
    fn after_the_first_pass_coming_back_takes_rise_passes() {
        check(Health::Unknown, 3, 1, "+-++-+++", "UDDDDDDU");
    }

    #[test]
    fn a_target_that_starts_up_is_up_until_fall_failures_in_a_row() {
        check(Health::Up, 1, 3, "--+---", "UUUUUD");
    }

    #[test]
    fn a_target_handed_over_as_down_needs_rise_passes() {
        check(Health::Down, 3, 1, "+++", "DDU");
    }

    #[test]
    fn zero_counts_as_one() {
        check(Health::Up, 0, 0, "-+", "DU");
    }

    proptest! {
        #[test]
        fn a_target_turns_only_after_enough_outcomes_in_a_row_and_never_later(
            initial in prop_oneof![Just(Health::Unknown), Just(Health::Up), Just(Health::Down)],
            rise in 1_u32..5,
            fall in 1_u32..5,
            outcomes in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut verdict = Verdict::new(initial, rise, fall);
            for (step, &passed) in outcomes.iter().enumerate() {
                let before = verdict.health();
                let transition = verdict.record(passed);
                prop_assert_eq!(transition.is_some(), before != verdict.health());
                if let Some(t) = transition {
                    prop_assert_eq!((t.from, t.to), (before, verdict.health()));
                }

                let seen = &outcomes[..=step];
                let in_a_row = seen.iter().rev().take_while(|o| **o == passed).count();
                let in_a_row = u32::try_from(in_a_row).unwrap();
                let first_pass = seen.iter().filter(|o| **o).count() == 1;
                let needed = match (passed, initial) {
                    (true, Health::Unknown) if first_pass => 1,
                    (true, Health::Unknown | Health::Up | Health::Down) => rise,
                    (false, Health::Unknown | Health::Up | Health::Down) => fall,
                };
                let claim = if passed { Health::Up } else { Health::Down };
                if in_a_row >= needed {
                    prop_assert_eq!(verdict.health(), claim);
                } else {
                    prop_assert_eq!(verdict.health(), before);
                }
            }
        }
    }

    /// Feeds passes (`+`) and failures (`-`) and compares the state after each: `?`, `U` or `D`.
    fn check(initial: Health, rise: u32, fall: u32, outcomes: &str, expected: &str) {
        let mut verdict = Verdict::new(initial, rise, fall);
        let states: String = outcomes
            .chars()
            .map(|outcome| {
                verdict.record(outcome == '+');
                match verdict.health() {
                    Health::Unknown => '?',
                    Health::Up => 'U',
                    Health::Down => 'D',
                }
            })
            .collect();
        assert_eq!(states, expected, "after {outcomes}");
    }
}
