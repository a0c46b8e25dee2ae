//! Verdicts of checks, and which checks there are to run.

use health::{CheckSpec, Health};

use super::Director;
use crate::desired::{self, Found};
use crate::director_status::{health_name, real_server_name};
use crate::events::Kind;

/// Why a check through a real server waits.
const NO_WAY: &str = "its service is not in the kernel's IPVS yet";

/// A real server and its checks, as the director has them.
#[derive(Debug, Clone)]
pub struct CheckTarget {
    /// The real server, as `status` names it.
    pub real_server: String,
    /// Its checks.
    pub checks: Vec<PlannedCheck>,
}

/// One check.
#[derive(Debug, Clone)]
pub struct PlannedCheck {
    /// The check.
    pub spec: CheckSpec,
    /// Why it would say nothing of the real server if it ran now.
    pub hindered: Option<String>,
}

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

    /// The checks of a virtual server; none where it is gone.
    pub(super) fn checks_of(&self, virtual_server: &str) -> Vec<CheckTarget> {
        let server = self.config.virtual_server(virtual_server);
        let servers = server.iter().flat_map(|server| &server.real_servers);
        let planned = |spec: &CheckSpec| PlannedCheck {
            spec: spec.clone(),
            hindered: (!self.has_way(spec)).then(|| NO_WAY.to_owned()),
        };
        servers
            .map(|real| CheckTarget {
                real_server: real_server_name(real.key),
                checks: real.checks.iter().map(planned).collect(),
            })
            .collect()
    }

    /// Whether a check through a real server would go through that one: without the service of its
    /// mark, IPVS would choose one as for a client.
    fn has_way(&self, spec: &CheckSpec) -> bool {
        desired::way_of(spec).is_none_or(|service| self.ways.contains(&service))
    }

    /// Runs those checks whose way is there; the others begin when it is.
    pub(super) fn start_checks(&mut self) {
        let all = self.health.iter();
        let ready = all.filter(|(spec, _)| self.has_way(spec));
        let ready = ready.map(|(spec, found)| (spec.clone(), found.health));
        let ready = ready.collect();
        self.runner.set(ready);
    }
}
