//! What checks say of this host instead of their targets: that it ran out of something, and that
//! everything fails at once. Pure: time comes in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

/// How often a shortage is told, and for how long it shows after its last sign.
const SHORTAGE_EVERY: Duration = Duration::from_secs(60);

/// Probes that could not be made because this host ran out of something.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    /// All of them.
    pub(crate) total: u64,
    told: Option<Instant>,
    /// Since it was told last.
    untold: u64,
    last: Option<(Instant, SystemTime, String)>,
}

impl Shortage {
    /// Takes one in; returns how many are to be told of, if it is time for that.
    pub(crate) fn note(&mut self, why: &str, now: Instant, at: SystemTime) -> Option<u64> {
        self.total += 1;
        self.untold += 1;
        self.last = Some((now, at, why.to_owned()));
        let recent = |told: Instant| now.saturating_duration_since(told) < SHORTAGE_EVERY;
        if self.told.is_some_and(recent) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// When the last one was, and why, while that is recent.
    pub(crate) fn recent(&self, now: Instant) -> Option<(SystemTime, &str)> {
        let (since, at, why) = self.last.as_ref()?;
        (now.saturating_duration_since(*since) < SHORTAGE_EVERY).then_some((*at, why))
    }
}

/// A check that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failing {
    pub(crate) target: IpAddr,
    /// Since its first failure in a row.
    pub(crate) since: Instant,
    /// From one start of a probe to the end of the next that fails.
    pub(crate) round: Duration,
}

/// How many targets fail, given every check there is (`None`: it passes, or has said nothing yet), if
/// that looks like a loss of this host's own network: none passes, and most of them, of two addresses
/// at least, failed first within one round. What is dead for longer tells nothing.
pub(crate) fn all_failing(checks: impl Iterator<Item = Option<Failing>>) -> Option<usize> {
    let checks: Vec<Failing> = checks.collect::<Option<_>>()?;
    let newest = checks.iter().map(|check| check.since).max()?;
    let fresh = checks
        .iter()
        .filter(|check| newest.saturating_duration_since(check.since) <= check.round);
    let addresses: BTreeSet<IpAddr> = fresh.clone().map(|check| check.target).collect();
    let most = 2 * fresh.count() >= checks.len();
    let targets: BTreeSet<IpAddr> = checks.iter().map(|check| check.target).collect();
    (most && addresses.len() >= 2).then_some(targets.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_at_once_and_then_once_a_minute_with_how_many() {
        let mut shortage = Shortage::default();
        let (begin, at) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut note =
            |seconds| shortage.note("none left", begin + Duration::from_secs(seconds), at);
        assert_eq!(note(0), Some(1));
        assert_eq!([1, 2, 59].map(&mut note), [None; 3]);
        assert_eq!(note(60), Some(4));
        assert_eq!(note(61), None);
        assert_eq!(shortage.total, 6);
        let recent = |seconds| shortage.recent(begin + Duration::from_secs(seconds));
        assert_eq!(recent(120), Some((at, "none left")));
        assert_eq!(recent(121), None);
    }

    #[test]
    fn everything_that_fails_within_a_round_is_this_hosts_network() {
        check(&[Some((1, 0)), Some((2, 8))], Some(2));
        check(&[Some((1, 0)), Some((1, 3)), Some((2, 8))], Some(2));
    }

    #[test]
    fn one_that_passes_or_says_nothing_yet_speaks_against_it() {
        check(&[Some((1, 0)), Some((2, 0)), None], None);
        check(&[], None);
    }

    #[test]
    fn two_checks_of_one_address_are_one_target() {
        check(&[Some((1, 0)), Some((1, 0))], None);
    }

    #[test]
    fn targets_that_die_one_after_the_other_are_no_loss_of_the_network() {
        check(&[Some((1, 0)), Some((2, 9))], None);
        check(&[Some((1, 0)), Some((2, 9)), Some((3, 18))], None);
    }

    #[test]
    fn what_is_dead_for_long_tells_nothing_unless_it_is_the_most() {
        check(&[Some((1, 0)), Some((2, 100)), Some((3, 101))], Some(3));
        let old = [Some((1, 0)), Some((2, 0)), Some((3, 0))];
        let new = [Some((4, 100)), Some((5, 100))];
        check(&[old.as_slice(), &new].concat(), None);
    }

    /// Checks with a round of 8 s, as the last byte of their address and the second they fail since.
    fn check(checks: &[Option<(u8, u64)>], expected: Option<usize>) {
        let begin = Instant::now();
        let failing = |(target, since)| Failing {
            target: IpAddr::from([192, 0, 2, target]),
            since: begin + Duration::from_secs(since),
            round: Duration::from_secs(8),
        };
        let checks = checks.iter().map(|check| check.map(failing));
        assert_eq!(all_failing(checks), expected);
    }
}
