//! When what the kernel refused is tried again: each change by itself, so that none waits for
//! another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pause before the first retry; doubled with each.
const FIRST: Duration = Duration::from_millis(500);

/// What was refused, by its words: other settings of the same object are another thing, and are
/// tried at once.
#[derive(Debug, Default)]
pub(super) struct Backoff(BTreeMap<String, Held>);

#[derive(Debug)]
struct Held {
    why: String,
    pause: Duration,
    until: Instant,
    /// Whether the pass that runs still wants it.
    wanted: bool,
}

impl Backoff {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins a pass: what it does not ask for is forgotten at [`Backoff::end`].
    pub(super) fn begin(&mut self) {
        for held in self.0.values_mut() {
            held.wanted = false;
        }
    }

    pub(super) fn end(&mut self) {
        self.0.retain(|_, held| held.wanted);
    }

    /// Whether this has to wait.
    pub(super) fn holds(&mut self, what: &str, now: Instant) -> bool {
        let Some(held) = self.0.get_mut(what) else {
            return false;
        };
        held.wanted = true;
        held.until > now
    }

    /// Takes in a refusal. The pause grows to `longest`.
    pub(super) fn refuse(&mut self, what: String, why: String, now: Instant, longest: Duration) {
        let pause = self.0.get(&what).map_or(FIRST, |held| held.pause * 2);
        let pause = pause.min(longest.max(FIRST));
        let held = Held {
            why,
            pause,
            until: now + pause,
            wanted: true,
        };
        self.0.insert(what, held);
    }

    /// It was done.
    pub(super) fn done(&mut self, what: &str) {
        self.0.remove(what);
    }

    /// Everything may be tried at once.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// When the next retry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|held| held.until).min()
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        self.0.values().map(|held| held.why.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const LONGEST: Duration = Duration::from_secs(3);

    #[test]
    fn pauses_double_up_to_the_longest_and_each_thing_has_its_own() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        for millis in [500, 1000, 2000, 3000, 3000] {
            backoff.refuse("a".to_owned(), "why".to_owned(), now, LONGEST);
            let next = backoff.next().unwrap();
            assert_eq!(next, now + Duration::from_millis(millis));
            assert!(backoff.holds("a", now) && !backoff.holds("a", next));
            now = next;
        }
        backoff.refuse("b".to_owned(), "other".to_owned(), now, LONGEST);
        assert!(backoff.holds("b", now) && !backoff.holds("b", now + FIRST));
        assert_eq!(backoff.next(), Some(now), "a has waited long enough");
        assert_eq!(backoff.reasons(), ["why", "other"]);
        backoff.done("b");
        assert_eq!(backoff.reasons(), ["why"]);
    }

    #[test]
    fn what_a_pass_does_not_ask_for_is_forgotten() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        backoff.refuse("a".to_owned(), "why".to_owned(), now, LONGEST);
        backoff.refuse("b".to_owned(), "why".to_owned(), now, LONGEST);
        backoff.begin();
        assert!(backoff.holds("a", now) && !backoff.holds("c", now));
        backoff.end();
        assert!(backoff.holds("a", now) && !backoff.holds("b", now));
    }
}
