//! What the runner tells of a probe, and its words.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::check::CheckSpec;
use crate::failure::Failure;
use crate::probe::Passed;
use crate::verdict::{Health, Transition};

/// One outcome of one check.
#[derive(Debug, Clone)]
pub struct Report {
    /// The check.
    pub spec: Arc<CheckSpec>,
    /// What is believed of the target from now on.
    pub health: Health,
    /// Whether it stays down because it came and went too often.
    pub flapping: bool,
    /// The outcome of this one probe.
    pub outcome: Result<Passed, Failure>,
    /// From the start of the probe to its outcome.
    pub latency: Duration,
    /// When the outcome was there, by the wall clock.
    pub at: SystemTime,
    /// What this outcome changed; absent: nothing.
    pub transition: Option<Transition>,
}

impl fmt::Display for Report {
    /// The check, its outcome and the time that it took: `http GET /health at 10.0.0.21:80: status 503,
    /// wanted 200-299, after 12 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (spec, took) = (&self.spec, self.latency.as_millis());
        match &self.outcome {
            Ok(_) => write!(f, "{spec}: passed after {took} ms"),
            // They say the time themselves, or no answer was waited for.
            Err(
                failure @ (Failure::Timeout { .. }
                | Failure::Resource(_)
                | Failure::Local(_)
                | Failure::Invalid(_)
                | Failure::Internal(_)),
            ) => write!(f, "{spec}: {failure}"),
            Err(failure) => write!(f, "{spec}: {failure}, after {took} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{CheckKind, Route, Start};
    use crate::failure::Phase;

    #[test]
    fn an_operator_reads_what_was_checked_what_came_of_it_and_how_long_it_took() {
        check(
            Ok(Passed::default()),
            "tcp 192.0.2.1:80: passed after 12 ms",
        );
        check(
            Err(Failure::Refused),
            "tcp 192.0.2.1:80: connection refused, after 12 ms",
        );
        check(
            Err(Failure::Status {
                got: 503,
                wanted: vec![(200, 299)],
            }),
            "tcp 192.0.2.1:80: status 503, wanted 200-299, after 12 ms",
        );
        check(
            Err(Failure::Timeout {
                after: Duration::from_secs(3),
                phase: Phase::Connecting,
            }),
            "tcp 192.0.2.1:80: no answer within 3s (still connecting)",
        );
    }

    fn check(outcome: Result<Passed, Failure>, words: &str) {
        let spec = CheckSpec {
            target: "192.0.2.1:80".parse().unwrap(),
            route: Route::default(),
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(1),
            fast_interval: None,
            down_interval: None,
            timeout: Duration::from_secs(3),
            rise: 1,
            fall: 1,
            start: Start::Down,
            flap: None,
        };
        let report = Report {
            spec: Arc::new(spec),
            health: Health::Up,
            flapping: false,
            outcome,
            latency: Duration::from_micros(12_300),
            at: SystemTime::UNIX_EPOCH,
            transition: None,
        };
        assert_eq!(report.to_string(), words);
    }
}
