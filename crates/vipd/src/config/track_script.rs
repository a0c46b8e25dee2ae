//! `[[track_script]]`: programs whose exit code is tracked.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::section::{Section, Seen};
use super::{TrackScript, program, text};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const COUNT: RangeInclusive<u32> = 1..=1000;

/// Reads the scripts; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader {
    names: Seen<String>,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { names: Seen::new() }
    }

    pub(super) fn read(&mut self, mut s: Section<'_>) -> Option<TrackScript> {
        let name = s.need("name", "\"...\"", |v| {
            let name = v.parse(text::name)?;
            self.names.note(
                name.clone(),
                v,
                "another script has this name",
                "give each its own",
            );
            Some(name)
        });
        let command = s.need(
            "command",
            "[\"/usr/bin/ping\", \"-c1\", \"192.168.1.1\"]",
            program::command,
        );
        let interval = s.or("interval", Duration::from_secs(1), |v| v.duration(INTERVAL));
        let timeout = match s.get("timeout") {
            Some(v) => v.timeout(INTERVAL, interval),
            None => interval,
        };
        let rise = s.or("rise", 1, |v| v.integer(COUNT));
        let fall = s.or("fall", 1, |v| v.integer(COUNT));
        let user = program::user(&mut s);
        s.finish();
        Some(TrackScript {
            name: name?,
            command: command?,
            interval: interval?,
            timeout: timeout?,
            rise: rise?,
            fall: fall?,
            user: user?,
        })
    }
}
