//! The arithmetic of VRRP's timers: whole nanoseconds, rounded down, never a float.

use std::time::{Duration, Instant};

use crate::parameters::Version;

/// The head start that a higher priority gives: v3 `(256 - priority) × interval / 256` (RFC 5798
/// §6.1), v2 `(256 - priority) / 256` seconds whatever the interval (RFC 3768 §6.1).
///
/// `interval` is the master's advert interval. The result is never zero for an interval that an
/// advert can carry.
#[must_use]
pub fn skew_time(priority: u8, interval: Duration, version: Version) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval,
    };
    unit.saturating_mul(256 - u32::from(priority)) / 256
}

/// How long a backup waits for an advert before it calls the master dead:
/// `adverts × interval + skew`, where RFC 3768 §6.1 and RFC 5798 §6.1 say 3.
#[must_use]
pub fn master_down_interval(
    adverts: u8,
    priority: u8,
    interval: Duration,
    version: Version,
) -> Duration {
    interval
        .saturating_mul(u32::from(adverts.max(1)))
        .saturating_add(skew_time(priority, interval, version))
}

/// When the advert after the one due at `due` and sent at `now` is due: one interval after it was
/// due, so that lateness never adds up. Adverts missed in a stall are skipped, not sent in a burst;
/// the beat is kept. `interval` must not be zero.
pub(crate) fn next_advert(due: Instant, now: Instant, interval: Duration) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos();
    let off_beat = late.checked_rem(interval.as_nanos()).unwrap_or(0);
    let off_beat = Duration::from_nanos(u64::try_from(off_beat).unwrap_or(u64::MAX));
    due.max(now) + interval.saturating_sub(off_beat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_advert_keeps_the_pace_of_a_late_one() {
        check_next(1_003, 2_000);
    }

    #[test]
    fn adverts_missed_in_a_stall_are_skipped_and_the_beat_is_kept() {
        check_next(5_300, 6_000);
    }

    #[test]
    fn an_advert_due_on_the_beat_after_a_stall_is_not_sent_twice() {
        check_next(5_000, 6_000);
    }

    #[test]
    fn an_early_call_does_not_shorten_the_interval() {
        check_next(900, 2_000);
    }

    /// An advert due 1000 ms after the start is sent at `sent`; the next one is due at `next`.
    fn check_next(sent: u64, next: u64) {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(
            next_advert(at(1_000), at(sent), Duration::from_secs(1)),
            at(next)
        );
    }
}
