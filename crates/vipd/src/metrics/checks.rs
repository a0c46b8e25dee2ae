//! The metrics of health checks: how they run, what they say of this host, why they fail.

use std::collections::BTreeMap;

use super::family::{Families, Labels, Times};
use crate::director_loop::Director;
use crate::director_loop::checks::CheckDetail;
use crate::director_loop::schedule::Pace;

/// Failures of checks by reason.
pub(super) type Failures = BTreeMap<&'static str, u64>;

pub(super) fn write(director: &Director, families: &mut Families) {
    let count = |wanted: &dyn Fn(&CheckDetail) -> bool| {
        let found = director.details.values().filter(|detail| wanted(detail));
        u64::try_from(found.count()).unwrap_or(u64::MAX)
    };
    for (name, help, value) in [
        (
            "vipd_checks_running",
            "Checks that run",
            count(&|detail| detail.pace != Pace::Stopped),
        ),
        (
            "vipd_checks_flapping",
            "Checks whose target stays out because it came and went too often",
            count(&|detail| detail.flapping),
        ),
        (
            "vipd_checks_warning",
            "Checks that pass and warn (a certificate that ends soon)",
            count(&|detail| detail.warning.is_some()),
        ),
        (
            "vipd_checks_all_failing",
            "Whether every target fails, and began to at once",
            u64::from(director.alarms.all_failing.is_some()),
        ),
    ] {
        families.gauge(name, help).push((Labels::new([]), value));
    }
    families
        .counter(
            "vipd_checks_short_of_resources",
            "Probes that could not be made because this host ran out of something",
        )
        .push((Labels::new([]), director.alarms.shortage.total));
}

pub(super) fn times(director: &Director) -> [Times; 2] {
    let runner = &director.runner;
    [
        Times::new(
            "vipd_check_lateness_seconds",
            "How long after their time probes were started",
            runner.lateness(),
        ),
        Times::new(
            "vipd_check_duration_seconds",
            "How long probes took",
            runner.durations(),
        ),
    ]
}

/// Failures of the checks of each virtual server's real servers.
pub(super) fn failures_by_user(director: &Director) -> Vec<Vec<Failures>> {
    let servers = director.config.virtual_servers.iter();
    let none = servers.map(|server| vec![Failures::new(); server.real_servers.len()]);
    let mut all: Vec<Vec<Failures>> = none.collect();
    let details = director.details.values();
    for detail in details.filter(|detail| !detail.failures.is_empty()) {
        for (server, real) in &detail.users {
            let of = all.get_mut(*server).and_then(|reals| reals.get_mut(*real));
            let Some(of) = of else {
                continue;
            };
            for (reason, count) in &detail.failures {
                *of.entry(*reason).or_insert(0) += count;
            }
        }
    }
    all
}

/// Failures of the checks of one real server, which has those labels.
pub(super) fn failures(of: &Labels, failures: &Failures, families: &mut Families) {
    for (reason, count) in failures {
        families
            .counter("vipd_check_failures", "Failed probes, by reason")
            .push((of.with("reason", reason), *count));
    }
}
