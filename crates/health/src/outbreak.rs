//! Notices that most targets fail at once, so that nobody waits for the next beat of the others: what
//! took the first ones down has taken those, too, and they only have not been asked yet. Pure: time
//! comes in.

use std::time::{Duration, Instant};

/// What is compared: the probes that began in one window with those that passed in it and the next.
const WINDOW: Duration = Duration::from_millis(200);
/// Fewer probes in a window say nothing, and few targets are asked soon anyway.
const FEW: u32 = 20;
/// From one outbreak to the next: a network that comes and goes must not multiply the probes.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts probes of targets that are up, by windows.
#[derive(Debug)]
pub(crate) struct Outbreak {
    since: Instant,
    now: Counts,
    before: Counts,
    last: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    begun: u32,
    passed: u32,
}

impl Outbreak {
    pub(crate) fn new(now: Instant) -> Outbreak {
        Outbreak {
            since: now,
            now: Counts::default(),
            before: Counts::default(),
            last: None,
        }
    }

    /// A probe begins of a target that is up. Returns whether an outbreak is noticed at this moment.
    ///
    /// Where all is well, twice as many pass in two windows as begin in one, however long they take.
    /// Those that hang count as well as those that fail: they are missing.
    pub(crate) fn begun(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        let mut noticed = false;
        if elapsed >= WINDOW {
            let calm = self
                .last
                .is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
            let passed = self.before.passed + self.now.passed;
            noticed = calm && self.before.begun >= FEW && passed < self.before.begun;
            if noticed {
                self.last = Some(now);
            }
            // What is long ago is compared with nothing.
            let follows = elapsed < 2 * WINDOW;
            self.before = if follows { self.now } else { Counts::default() };
            self.now = Counts::default();
            self.since = now;
        }
        self.now.begun += 1;
        noticed
    }

    /// It passed, or says nothing about its target.
    pub(crate) fn passed(&mut self) {
        self.now.passed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(2);

    /// One probe every 2 ms that takes `latency` steps; `passes` says which ones do. The steps at
    /// which an outbreak is noticed.
    fn noticed(steps: usize, latency: usize, passes: impl Fn(usize) -> bool) -> Vec<usize> {
        let begin = Instant::now();
        let mut outbreak = Outbreak::new(begin);
        let mut found = Vec::new();
        for step in 0..steps {
            if step >= latency && passes(step - latency) {
                outbreak.passed();
            }
            if outbreak.begun(begin + STEP * u32::try_from(step).unwrap()) {
                found.push(step);
            }
        }
        found
    }

    #[test]
    fn all_that_die_at_once_are_an_outbreak_within_half_a_second() {
        for death in [1_000, 1_030, 1_050, 1_099] {
            let found = noticed(3_000, 1, |step| step < death);
            assert!(matches!(found[..], [at] if at - death <= 250), "{found:?}");
        }
    }

    #[test]
    fn an_outbreak_that_goes_on_is_noticed_again_after_a_pause() {
        let found = noticed(11_000, 1, |step| step < 1_000);
        assert!(
            matches!(found[..], [one, two] if two - one >= 5_000),
            "{found:?}"
        );
    }

    #[test]
    fn some_that_fail_are_none() {
        assert_eq!(noticed(20_000, 1, |step| step % 10 < 6), [0_usize; 0]);
    }

    #[test]
    fn slow_answers_are_none() {
        for latency in [40, 120, 240, 800] {
            let early = noticed(20_000, latency, |_| true);
            // At the start nothing can have passed.
            assert!(early.iter().all(|step| *step <= latency + 200), "{early:?}");
        }
    }

    #[test]
    fn few_probes_are_none() {
        let begin = Instant::now();
        let mut outbreak = Outbreak::new(begin);
        for number in 0..1_000 {
            assert!(!outbreak.begun(begin + Duration::from_millis(15) * number));
        }
    }
}
