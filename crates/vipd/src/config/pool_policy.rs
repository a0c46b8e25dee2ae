//! The keys of a virtual server that say what happens when real servers fail and come back.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::section::Section;
use super::value::Value;
use super::{MinimumUp, OnFailure, text};

/// Longer than caches need to fill; a year would be a slip.
const SLOW_START: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

pub(super) struct PoolPolicy {
    pub(super) quorum: u32,
    pub(super) hysteresis: u32,
    pub(super) on_failure: OnFailure,
    pub(super) slow_start: Duration,
    pub(super) minimum_up: MinimumUp,
}

impl PoolPolicy {
    /// `servers`: how many real servers there are.
    pub(super) fn read(s: &mut Section<'_>, servers: usize) -> Option<PoolPolicy> {
        let quorum = s.or("quorum", 1, |v| v.integer(1..=u32::MAX));
        let hysteresis = s.or("hysteresis", 0, |v| hysteresis(v, quorum));
        let on_failure = s.or("on_failure", OnFailure::Remove, |v| {
            v.choice(
                &[
                    ("remove", OnFailure::Remove),
                    ("zero-weight", OnFailure::ZeroWeight),
                ],
                &[],
            )
        });
        let slow_start = s.or("slow_start", Duration::ZERO, |v| v.duration(SLOW_START));
        let minimum_up = s.or("minimum_up", MinimumUp::Count(0), |v| {
            minimum_up(v, servers)
        });
        Some(PoolPolicy {
            quorum: quorum?,
            hysteresis: hysteresis?,
            on_failure: on_failure?,
            slow_start: slow_start?,
            minimum_up: minimum_up?,
        })
    }
}

fn hysteresis(v: &Value<'_>, quorum: Option<u32>) -> Option<u32> {
    let hysteresis = v.integer(0..=u32::MAX)?;
    if let Some(quorum) = quorum
        && hysteresis >= quorum
    {
        v.report(
            format!("must be below the quorum, {quorum}"),
            format!("write 0 to {}", quorum.saturating_sub(1)),
        );
        return None;
    }
    Some(hysteresis)
}

fn minimum_up(v: &Value<'_>, servers: usize) -> Option<MinimumUp> {
    if !v.is_integer() {
        return v.parse(text::percent).map(MinimumUp::Percent);
    }
    let count = v.integer(0..=u32::MAX)?;
    if usize::try_from(count).is_ok_and(|count| count > servers) {
        v.report(
            format!("there are only {servers} real servers"),
            format!("write 0 to {servers}, or a share such as \"50%\""),
        );
        return None;
    }
    Some(MinimumUp::Count(count))
}
