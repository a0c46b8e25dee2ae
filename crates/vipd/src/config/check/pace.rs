//! How often a check probes, and when a target that comes and goes stays out.

use std::ops::RangeInclusive;
use std::time::Duration;

use health::Flap;

use super::super::section::Section;
use super::super::value::Value;

pub(in super::super) const INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(86_400);
/// One change makes nobody flap.
const FLAP_COUNT: RangeInclusive<u32> = 2..=1000;
const FLAP_TIME: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// The intervals from the start of one probe to that of the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    /// `None`: the same.
    pub(super) fast: Option<Duration>,
    /// `None`: the same.
    pub(super) down: Option<Duration>,
}

impl Pace {
    pub(super) fn read(s: &mut Section<'_>) -> Option<Pace> {
        let interval = s.or("interval", Duration::from_secs(5), |v| v.duration(INTERVAL));
        let fast = s.maybe("fast_interval", |v| {
            let fast = v.duration(INTERVAL)?;
            if let Some(interval) = interval
                && fast > interval
            {
                v.report(
                    format!("is longer than interval, {interval:?}"),
                    "write a shorter one, or remove it",
                );
                return None;
            }
            Some(fast)
        });
        let down = s.maybe("down_interval", |v| v.duration(INTERVAL));
        let (interval, fast, down) = (interval?, fast?, down?);
        // What is the same is not another check.
        let other = |own: Option<Duration>| own.filter(|own| *own != interval);
        Some(Pace {
            interval,
            fast: other(fast),
            down: other(down),
        })
    }
}

pub(super) fn flap(v: &Value<'_>) -> Option<Box<Flap>> {
    let mut s = v.section()?;
    let count = s.or("count", 5, |v| v.integer(FLAP_COUNT));
    let within = s.or("within", Duration::from_secs(600), |v| {
        v.duration(FLAP_TIME)
    });
    let stable = s.or("stable", Duration::from_secs(120), |v| {
        v.duration(FLAP_TIME)
    });
    s.finish();
    Some(Box::new(Flap {
        count: count?,
        within: within?,
        stable: stable?,
    }))
}
