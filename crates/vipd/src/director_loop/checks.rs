//! Checks: which run, their verdicts, and what they say of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use health::{CheckKind, CheckSpec, Failure, Health, Plan};

use super::alarms::{self, Failing, Shortage};
use super::inherited;
use super::schedule::{self, Pace};
use super::{Director, Roles};
use crate::config::{RealServer, VirtualServer};
use crate::desired::{self, Found};
use crate::director_status::{health_name, real_server_name};
use crate::events::{Details, Fields, Kind};

/// What is known of a check beside its verdict.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckDetail {
    pub(crate) last_error: Option<String>,
    pub(crate) last_latency: Option<Duration>,
    /// What the last probe that passed told of besides.
    pub(crate) warning: Option<String>,
    pub(crate) failures: BTreeMap<&'static str, u64>,
    pub(crate) pace: Pace,
    /// Stays down because it came and went too often.
    pub(crate) flapping: bool,
    /// Since the first failure in a row.
    failing_since: Option<Instant>,
    /// Whose it is: positions of virtual servers and of their real servers.
    pub(crate) users: Box<[(usize, usize)]>,
}

/// What checks say of this host.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    pub(crate) shortage: Shortage,
    /// Since when every one of so many targets fails.
    pub(crate) all_failing: Option<(SystemTime, usize)>,
    /// Checks that run.
    checked: usize,
    /// Those of them that fail.
    failing: usize,
    /// Those routers of which the last schedule knew that they are master.
    masters: BTreeSet<String>,
}

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
    /// Makes the checks of `self.config` those that there are. `before` says what is known of a real
    /// server whose check is new, so that the check does not begin at nothing.
    pub(super) fn configure_checks(
        &mut self,
        before: &dyn Fn(&VirtualServer, &RealServer) -> Option<Health>,
    ) {
        let checks = inherited::checks(&self.config, &self.health, before);
        self.details.retain(|spec, _| checks.contains_key(spec));
        let mut health = desired::HealthTable::new();
        for (spec, (found, users)) in checks {
            let detail = self.details.entry(spec.clone()).or_default();
            detail.users = users.into();
            health.insert(spec, found);
        }
        self.health = health;
        self.schedule_checks();
    }

    /// Starts, slows and stops checks, if the roles ask for other ones than before.
    pub(super) fn follow_roles(&mut self, roles: &Roles) {
        if masters(&self.config, roles) != self.alarms.masters {
            self.schedule_checks();
        }
    }

    /// Runs the checks that the roles ask for.
    pub(super) fn schedule_checks(&mut self) {
        let roles = self.roles();
        self.alarms.masters = masters(&self.config, &roles);
        let paces = schedule::paces(&self.config, &self.alarms.masters);
        let mut plans = BTreeMap::new();
        for (spec, pace) in paces {
            if let Some(detail) = self.details.get_mut(spec)
                && detail.pace != pace
            {
                // It begins anew with the verdict that it has.
                detail.pace = pace;
                detail.failing_since = None;
                detail.flapping = false;
            }
            // It begins when its way is there.
            if !self.has_way(spec) {
                continue;
            }
            let begin = self
                .health
                .get(spec)
                .map_or(Health::Unknown, |found| found.health);
            let slowed = match pace {
                Pace::Own => None,
                Pace::Slow(interval) => Some(interval),
                Pace::Stopped => continue,
            };
            plans.insert(spec.clone(), Plan { begin, slowed });
        }
        self.runner.set(plans);
        let runs = |detail: &&CheckDetail| detail.pace != Pace::Stopped;
        let running = || self.details.values().filter(runs);
        self.alarms.checked = running().count();
        self.alarms.failing = running().filter(|one| one.failing_since.is_some()).count();
        if self.alarms.checked == 0 {
            self.alarms.all_failing = None;
        }
    }

    pub(super) fn take_checks(&mut self, first: health::Report) {
        let mut news = false;
        news |= self.take_check(&first);
        // A wave of verdicts is one new table.
        while let Ok(report) = self.checks.try_recv() {
            news |= self.take_check(&report);
        }
        if news {
            self.publish_table();
        }
    }

    /// Returns whether the table may have to be another one.
    fn take_check(&mut self, report: &health::Report) -> bool {
        // A probe that was on its way when its check was dropped by a reload has no say any more.
        let (Some(known), Some(detail)) = (
            self.health.get_mut(&*report.spec),
            self.details.get_mut(&*report.spec),
        ) else {
            return false;
        };
        let before = *known;
        let now = Found {
            health: report.health,
            // A failure says nothing of the weight.
            weight: match &report.outcome {
                Ok(passed) => passed.weight,
                Err(_) => before.weight,
            },
        };
        detail.last_latency = Some(report.latency);
        detail.last_error = report.outcome.as_ref().err().map(ToString::to_string);
        if let Err(failure) = &report.outcome {
            *detail.failures.entry(failure.reason()).or_insert(0) += 1;
        }
        let flaps = report.flapping && !detail.flapping;
        detail.flapping = report.flapping;
        let passed = report.outcome.as_ref().ok();
        let new_warning = passed.and_then(|passed| {
            let before = std::mem::replace(&mut detail.warning, passed.warning.clone());
            passed.warning.as_deref().filter(|_| before.is_none())
        });
        let changed = before.health != now.health || flaps;
        if !changed && new_warning.is_none() {
            *known = now;
            self.judge_host(report);
            return now.weight != before.weight;
        }
        let users = detail.users.clone();
        if let Some(warning) = new_warning {
            self.tell_warning(report, &users, warning);
        }
        let stood = self.states(&users);
        self.health.insert((*report.spec).clone(), now);
        self.judge_host(report);
        for ((user, was), is) in users.iter().zip(stood).zip(self.states(&users)) {
            self.tell_verdict(report, *user, (was, is), before.health != now.health, flaps);
        }
        changed || now.weight != before.weight
    }

    fn user(&self, (server, real): (usize, usize)) -> Option<(&VirtualServer, &RealServer)> {
        let server = self.config.virtual_servers.get(server)?;
        Some((server, server.real_servers.get(real)?))
    }

    /// How the real servers of a check stand.
    fn states(&self, users: &[(usize, usize)]) -> Vec<Health> {
        let state = |user: &(usize, usize)| {
            let real = self.user(*user).map(|(_, real)| real);
            real.map_or(Health::Unknown, |real| desired::state(real, &self.health))
        };
        users.iter().map(state).collect()
    }

    /// Says what the verdict of a check means for one of its real servers.
    fn tell_verdict(
        &self,
        report: &health::Report,
        user: (usize, usize),
        (was, is): (Health, Health),
        turned: bool,
        flaps: bool,
    ) {
        let Some((server, real)) = self.user(user) else {
            return;
        };
        let object = format!("{}/{}", server.name, real_server_name(real.key));
        if turned {
            let (kind, what) = match (is, report.health) {
                (Health::Up, _) if was != is => (Kind::RealServerUp, is),
                (Health::Down, _) if was != is => (Kind::RealServerDown, is),
                // Its other checks decide.
                (_, Health::Up) => (Kind::CheckUp, Health::Up),
                (_, Health::Down) => (Kind::CheckDown, Health::Down),
                (_, Health::Unknown) => return,
            };
            let message = format!("{}: {report}", health_name(what));
            let details = Details {
                cause: Some(report.to_string()),
                fields: Fields::of([
                    ("virtual_server", server.name.as_str().into()),
                    ("real_server", real_server_name(real.key).into()),
                ]),
            };
            self.events.record_with(kind, &object, message, details);
        }
        if let Some(flap) = report.spec.flap.as_deref().filter(|_| flaps) {
            let message = format!("{}: {report}", flap_words(flap));
            self.events
                .record(Kind::RealServerFlapping, &object, message);
        }
    }

    /// Says what a check that passes tells of, for each of its real servers.
    fn tell_warning(&self, report: &health::Report, users: &[(usize, usize)], warning: &str) {
        for (server, real) in users.iter().filter_map(|user| self.user(*user)) {
            let object = format!("{}/{}", server.name, real_server_name(real.key));
            let message = format!("{}: {warning}", report.spec);
            self.events.record(Kind::CheckWarning, object, message);
        }
    }

    /// What an outcome says of this host.
    fn judge_host(&mut self, report: &health::Report) {
        let (now, name) = (Instant::now(), &self.config.global.name);
        let Some(detail) = self.details.get_mut(&*report.spec) else {
            return;
        };
        if detail.pace == Pace::Stopped || report.spec.kind == CheckKind::None {
            return;
        }
        match &report.outcome {
            Ok(_) => {
                if detail.failing_since.take().is_some() {
                    self.alarms.failing = self.alarms.failing.saturating_sub(1);
                }
                if self.alarms.all_failing.take().is_some() {
                    let message = format!("no longer does everything fail: {report}");
                    self.events
                        .record(Kind::ChecksAllFailingGone, name, message);
                }
            }
            Err(Failure::Resource(why)) => {
                if let Some(count) = self.alarms.shortage.note(why, now, report.at) {
                    let probes = if count == 1 { "probe" } else { "probes" };
                    let message = format!(
                        "{count} {probes} could not be made, this host ran out of something: {why}; \
                         no real server is taken down for it"
                    );
                    self.events.record(Kind::ChecksResources, name, message);
                }
            }
            Err(_) if detail.failing_since.is_some() => {}
            Err(_) => {
                detail.failing_since = Some(now);
                self.alarms.failing += 1;
                if self.alarms.failing == self.alarms.checked && self.alarms.all_failing.is_none() {
                    self.look_whether_all_fail(report);
                }
            }
        }
    }

    fn look_whether_all_fail(&mut self, report: &health::Report) {
        let running = self.details.iter();
        let running = running.filter(|(_, detail)| detail.pace != Pace::Stopped);
        let failing = running.map(|(spec, detail)| {
            let interval = match detail.pace {
                Pace::Slow(interval) => interval.max(spec.interval),
                Pace::Own | Pace::Stopped => {
                    spec.interval.max(spec.down_interval.unwrap_or_default())
                }
            };
            let target: IpAddr = spec.target.ip();
            detail.failing_since.map(|since| Failing {
                target,
                since,
                round: interval.saturating_add(spec.timeout),
            })
        });
        if let Some(targets) = alarms::all_failing(failing) {
            self.alarms.all_failing = Some((report.at, targets));
            let message = format!(
                "every one of {targets} targets fails: this host's own network may be gone (last: \
                 {report})"
            );
            let name = &self.config.global.name;
            self.events.record(Kind::ChecksAllFailing, name, message);
        }
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
}

/// Those virtual routers that are master, and on which the pace of a check depends.
fn masters(config: &crate::config::Config, roles: &Roles) -> BTreeSet<String> {
    let holds = |name: &&str| roles.get(*name).copied().unwrap_or(false);
    let routers = schedule::routers(config).into_iter();
    routers.filter(holds).map(str::to_owned).collect()
}

/// What flapping means, for people.
pub(crate) fn flap_words(flap: &health::Flap) -> String {
    let time = |time| humantime::format_duration(time).to_string();
    format!(
        "flapping: {} changes in {}, stays out until it has passed for {}",
        flap.count,
        time(flap.within),
        time(flap.stable)
    )
}
