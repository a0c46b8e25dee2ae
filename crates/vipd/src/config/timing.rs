//! The keys of `[[vrrp]]` that say when a virtual router speaks and takes over.

use std::net::IpAddr;
use std::time::Duration;

use ::vrrp::{ChecksumForm, Family, PRIORITY_OWNER, Parameters, Version};

use super::section::Section;
use super::value::Value;

const V2_INTERVAL_MIN: Duration = Duration::from_secs(1);
const V2_INTERVAL_MAX: Duration = Duration::from_secs(255);
/// RFC 5798 §5.2.7: 12 bits of centiseconds.
const V3_INTERVAL_MIN: Duration = Duration::from_millis(10);
const V3_INTERVAL_MAX: Duration = Duration::from_millis(40_950);
const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1000);
const START_DELAY_MAX: Duration = Duration::from_secs(3600);

/// The values; `None`: wrong, and reported.
#[derive(Debug)]
pub(super) struct Timing {
    pub(super) version: Option<Version>,
    pub(super) priority: Option<u8>,
    pub(super) advert_interval: Option<Duration>,
    preempt: Option<bool>,
    preempt_delay: Option<Duration>,
    start_delay: Option<Duration>,
    down_adverts: Option<u8>,
    checksum: Option<ChecksumForm>,
}

impl Timing {
    pub(super) fn read(s: &mut Section<'_>, family: Option<Family>) -> Timing {
        let version = s.or("version", Version::V2, |v| match v.integer(2..=3_u8)? {
            2 => Some(Version::V2),
            _ => Some(Version::V3),
        });
        let priority = s.or("priority", 100, |v| v.integer(1..=PRIORITY_OWNER));
        let advert_interval = s.or("advert_interval", Duration::from_secs(1), |v| {
            advert_interval(v, version)
        });
        let preempt = s.or("preempt", true, |v| {
            let preempt = v.boolean()?;
            if !preempt && priority == Some(PRIORITY_OWNER) {
                v.report(
                    "the address owner (priority 255) always preempts",
                    "write preempt = true, or a priority from 1 to 254",
                );
                return None;
            }
            Some(preempt)
        });
        let preempt_delay = s.or("preempt_delay", Duration::ZERO, |v| {
            let delay = v.duration(Duration::ZERO..=PREEMPT_DELAY_MAX)?;
            if preempt == Some(false) && !delay.is_zero() {
                v.report(
                    "preempt = false leaves nothing to delay",
                    "remove preempt_delay, or write preempt = true",
                );
                return None;
            }
            Some(delay)
        });
        let start_delay = s.or("start_delay", Duration::ZERO, |v| {
            v.duration(Duration::ZERO..=START_DELAY_MAX)
        });
        let down_adverts = s.or("down_adverts", 3, |v| v.integer(1..=100));
        let checksum = s.or("checksum", ChecksumForm::default(), |v| {
            checksum(v, version, family)
        });
        Timing {
            version,
            priority,
            advert_interval,
            preempt,
            preempt_delay,
            start_delay,
            down_adverts,
            checksum,
        }
    }

    /// The parameters of a virtual router, but for what is not about time.
    pub(super) fn parameters(self, vrid: u8, addresses: &[IpAddr]) -> Option<Parameters> {
        let version = self.version?;
        Some(Parameters {
            version,
            priority: self.priority?,
            advert_interval: self.advert_interval?,
            preempt: self.preempt?,
            preempt_delay: self.preempt_delay?,
            start_delay: self.start_delay?,
            down_adverts: self.down_adverts?,
            checksum: self.checksum?,
            ..Parameters::new(vrid, version, addresses)
        })
    }
}

fn advert_interval(v: &Value<'_>, version: Option<Version>) -> Option<Duration> {
    match version {
        None => v.duration(V3_INTERVAL_MIN..=V2_INTERVAL_MAX),
        Some(Version::V2) => {
            let interval = v.duration(V3_INTERVAL_MIN..=V2_INTERVAL_MAX)?;
            if interval.subsec_nanos() != 0 || interval < V2_INTERVAL_MIN {
                v.report(
                    "version 2 knows only whole seconds",
                    "write \"1s\" to \"255s\", or version = 3 for shorter intervals",
                );
                return None;
            }
            Some(interval)
        }
        Some(Version::V3) => {
            let interval = v.duration(V3_INTERVAL_MIN..=V3_INTERVAL_MAX)?;
            if interval.as_nanos() % V3_INTERVAL_MIN.as_nanos() != 0 {
                v.report(
                    "version 3 counts in steps of 10 ms",
                    "write a multiple of 10ms, such as \"250ms\"",
                );
                return None;
            }
            Some(interval)
        }
    }
}

fn checksum(
    v: &Value<'_>,
    version: Option<Version>,
    family: Option<Family>,
) -> Option<ChecksumForm> {
    let form = v.choice(
        &[
            ("rfc5798", ChecksumForm::PseudoHeader),
            ("rfc9568", ChecksumForm::MessageOnly),
        ],
        &[],
    )?;
    if form == ChecksumForm::MessageOnly && family == Some(Family::V6) {
        v.report("IPv6 has only one checksum", "remove it");
        return None;
    }
    if form == ChecksumForm::MessageOnly && version == Some(Version::V2) {
        v.report(
            "version 2 has only one checksum",
            "remove it, or write version = 3",
        );
        return None;
    }
    Some(form)
}
