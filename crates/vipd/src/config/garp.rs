//! `garp`: how a master announces its addresses.

use std::time::Duration;

use super::Garp;
use super::section::Section;

const DELAY_MAX: Duration = Duration::from_secs(3600);
const REFRESH_MAX: Duration = Duration::from_secs(86_400);

impl Garp {
    pub(super) fn read(mut s: Section<'_>) -> Option<Garp> {
        let default = Garp::default();
        let repeat = s.or("repeat", default.repeat, |v| v.integer(1..=60));
        let delay = s.or("delay", default.delay, |v| {
            v.duration(Duration::ZERO..=DELAY_MAX)
        });
        let refresh = s.or("refresh", default.refresh, |v| v.refresh(REFRESH_MAX));
        s.finish();
        Some(Garp {
            repeat: repeat?,
            delay: delay?,
            refresh: refresh?,
        })
    }
}

impl Default for Garp {
    fn default() -> Garp {
        Garp {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
        }
    }
}
