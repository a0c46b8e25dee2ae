//! Slow start: the weight of a real server that has just come into a pool, step by step.

use std::time::{Duration, Instant};

/// Steps from the first weight to the whole: 5 % each.
const STEPS: u32 = 18;
/// The first weight, percent of the whole.
const FIRST: u64 = 10;
/// What each step adds, percent of the whole.
const EACH: u64 = 5;

/// The way of one real server to its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ramp {
    weight: u32,
    since: Instant,
    over: Duration,
}

impl Ramp {
    pub(super) fn new(weight: u32, since: Instant, over: Duration) -> Ramp {
        Ramp {
            weight,
            since,
            over,
        }
    }

    /// The whole weight, when it came, and the time that it takes.
    pub(super) fn parts(&self) -> (u32, Instant, Duration) {
        (self.weight, self.since, self.over)
    }

    /// When it came.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// The weight at that time: at least 1, if the whole is not 0.
    pub(super) fn weight_at(&self, now: Instant) -> u32 {
        self.weight_of(self.step_at(now))
    }

    /// When the weight is another one next; `None`: it is the whole already.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let step = self.step_at(now);
        let current = self.weight_of(step);
        let next = (step.saturating_add(1)..=STEPS).find(|s| self.weight_of(*s) != current)?;
        Some(self.since + self.begin_of(next))
    }

    fn step_at(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.since);
        (0..=STEPS)
            .rev()
            .find(|step| self.begin_of(*step) <= elapsed)
            .unwrap_or(0)
    }

    fn begin_of(&self, step: u32) -> Duration {
        self.over * step / STEPS
    }

    fn weight_of(&self, step: u32) -> u32 {
        let percent = FIRST + EACH * u64::from(step);
        let part = u64::from(self.weight) * percent / 100;
        let part = u32::try_from(part).unwrap_or(self.weight);
        part.clamp(self.weight.min(1), self.weight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_becomes_whole_in_ten_steps_over_the_time() {
        let start = Instant::now();
        let ramp = Ramp::new(10, start, Duration::from_secs(90));
        let mut seen = vec![ramp.weight_at(start)];
        let mut at = start;
        while let Some(next) = ramp.next_change(at) {
            assert!(next > at);
            at = next;
            seen.push(ramp.weight_at(at));
        }
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
        assert_eq!(at.duration_since(start), Duration::from_secs(90));
    }

    #[test]
    fn a_weight_of_one_has_no_steps_and_nothing_stays_nothing() {
        let now = Instant::now();
        for weight in [0, 1] {
            let ramp = Ramp::new(weight, now, Duration::from_secs(60));
            assert_eq!(ramp.weight_at(now), weight);
            assert_eq!(ramp.next_change(now), None);
        }
    }

    proptest! {
        #[test]
        fn the_weight_rises_to_the_whole_in_few_steps(
            weight in 1..=i32::MAX.unsigned_abs(),
            over in 1..3_600_000_u64,
        ) {
            let start = Instant::now();
            let ramp = Ramp::new(weight, start, Duration::from_millis(over));
            let (mut at, mut last, mut steps) = (start, ramp.weight_at(start), 0);
            prop_assert!(last >= 1 && last <= (weight / 10).max(1));
            while let Some(next) = ramp.next_change(at) {
                at = next;
                prop_assert!(ramp.weight_at(at) > last);
                last = ramp.weight_at(at);
                steps += 1;
            }
            prop_assert_eq!(last, weight);
            prop_assert!(steps <= STEPS);
            prop_assert!(at <= start + Duration::from_millis(over));
        }
    }
}
