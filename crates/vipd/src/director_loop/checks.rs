//! Verdicts of checks.

use health::Health;

use super::Director;
use crate::desired::Found;
use crate::director_status::{health_name, real_server_name};
use crate::events::Kind;

impl Director {
    pub(super) fn take_checks(&mut self, first: health::Report) {
        let mut news = false;
        news |= self.take_check(first);
        // A wave of verdicts is one new table.
        while let Ok(report) = self.checks.try_recv() {
            news |= self.take_check(report);
        }
        if news {
            self.publish_table();
        }
    }

    /// Returns whether the table may have to be another one.
    pub(super) fn take_check(&mut self, report: health::Report) -> bool {
        // A probe that was on its way when its check was dropped by a reload has no say any more.
        let Some(known) = self.health.get_mut(&*report.spec) else {
            return false;
        };
        let before = *known;
        *known = Found {
            health: report.health,
            // A failure says nothing of the weight.
            weight: match &report.outcome {
                Ok(passed) => passed.weight,
                Err(_) => before.weight,
            },
        };
        let other_weight = known.weight != before.weight;
        let detail = self.details.entry((*report.spec).clone()).or_default();
        detail.last_latency = Some(report.latency);
        detail.last_error = report.outcome.as_ref().err().map(ToString::to_string);
        if let Err(failure) = &report.outcome {
            *detail.failures.entry(failure.reason()).or_insert(0) += 1;
        }
        if before.health == report.health {
            return other_weight;
        }
        let why = match &report.outcome {
            Ok(_) => format!("passed after {} ms", report.latency.as_millis()),
            Err(failure) => failure.to_string(),
        };
        for server in &self.config.virtual_servers {
            for real in server
                .real_servers
                .iter()
                .filter(|r| r.checks.contains(&report.spec))
            {
                let kind = match report.health {
                    Health::Up => Kind::RealServerUp,
                    Health::Down => Kind::RealServerDown,
                    Health::Unknown => continue,
                };
                let object = format!("{}/{}", server.name, real_server_name(real.key));
                let message = format!("{}: {} {why}", health_name(report.health), report.spec);
                self.events.record(kind, object, message);
            }
        }
        true
    }
}
