//! The whole policy, as pure functions: which services and real servers the kernel's IPVS table
//! should hold, given the configuration, who is master, what the checks found, what operators
//! ordered, and how each pool stood before.
//!
//! [`pools`] judges every virtual server, [`desired`] makes the table of it. Nothing else decides a
//! weight or whether a service exists. Start, reload, failure, repair and shutdown all go through
//! here.

mod pool;
mod slow_start;
#[cfg(test)]
pub(crate) mod testbed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::iter;
use std::time::Instant;

use health::{CheckSpec, Health, Weight};
use ipvs::{
    Destination, Family, Forwarding, Pool, Scheduler, SchedulerName, Service, ServiceFlags,
    ServiceKey, Table,
};

use crate::config::{Active, Config, RealServer, Require, VirtualServer, When};
use crate::overrides::Overrides;

pub(crate) use self::pool::Carried;
pub use self::pool::PoolState;

/// The kernel refuses a weight that is negative as an `int`.
const WEIGHT_MAX: u32 = i32::MAX.unsigned_abs();

/// Whether this host is master, by name of the virtual router.
pub type Roles = BTreeMap<String, bool>;

/// What every check found last. A check that is not here has found nothing yet.
pub type HealthTable = BTreeMap<CheckSpec, Found>;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its verdict.
    pub health: Health,
    /// The weight that the real server asked for when it passed last.
    pub weight: Option<Weight>,
}

/// How the pool of each virtual server stands, by its name.
pub type PoolStates = BTreeMap<String, PoolState>;

/// How the pools stand now, given how they stood when they were judged last.
#[must_use]
pub fn pools(
    config: &Config,
    health: &HealthTable,
    overrides: &Overrides,
    before: &PoolStates,
    now: Instant,
) -> PoolStates {
    let judge = |server: &VirtualServer| {
        let before = before.get(&server.name);
        let state = PoolState::judge(server, health, overrides, before, now);
        (server.name.clone(), state)
    };
    config.virtual_servers.iter().map(judge).collect()
}

/// The table that the kernel should hold.
#[must_use]
pub fn desired(config: &Config, roles: &Roles, pools: &PoolStates) -> Table {
    let in_force = |server: &&VirtualServer| match server.active {
        Active::Always => true,
        Active::Master => server
            .vrrp
            .as_ref()
            .is_some_and(|name| roles.get(name).copied().unwrap_or(false)),
    };
    let pool = |server: &VirtualServer| {
        let state = pools.get(&server.name);
        let pool = |key: &ServiceKey| Pool {
            service: server.service_of(key),
            destinations: state
                .into_iter()
                .flat_map(|state| &state.destinations)
                .filter(|(to, _)| server.sends(key, to))
                .map(|(to, destination)| (*to, *destination))
                .collect(),
        };
        let services: Vec<_> = server.keys.iter().map(|key| (*key, pool(key))).collect();
        services
    };
    let servers = || config.virtual_servers.iter();
    let services = servers().filter(in_force).flat_map(pool);
    // Checks go on whoever is master.
    services.chain(servers().flat_map(ways)).collect()
}

/// The services through which the checks of a virtual server reach its real servers one by one,
/// whatever these weigh. UDP leaves no connections behind, which would last for minutes each; with NAT
/// an answer needs one.
pub fn ways(server: &VirtualServer) -> impl Iterator<Item = (ServiceKey, Pool)> + '_ {
    let real_servers = server.real_servers.iter();
    let checks = real_servers.flat_map(|real| real.checks.iter().map(move |check| (real, check)));
    checks.filter_map(|(real, check)| {
        let forwarding = real.destination.forwarding;
        let destination = Destination {
            forwarding,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let service = Service {
            scheduler: SchedulerName::Known(Scheduler::Rr),
            flags: ServiceFlags {
                one_packet: forwarding != Forwarding::Nat,
                ..ServiceFlags::default()
            },
            persistence: None,
        };
        let destinations = iter::once((real.key, destination)).collect();
        let pool = Pool {
            service,
            destinations,
        };
        Some((way_of(check)?, pool))
    })
}

/// The service through which a check goes, if it goes through one.
#[must_use]
pub fn way_of(check: &CheckSpec) -> Option<ServiceKey> {
    check.route.through?;
    Some(ServiceKey::FirewallMark {
        family: Family::of(check.target.ip()),
        mark: check.route.mark?.get(),
    })
}

/// When time alone changes a pool next.
#[must_use]
pub fn next_step(pools: &PoolStates) -> Option<Instant> {
    pools.values().filter_map(|state| state.next_step).min()
}

/// The health of a real server: up if all its checks pass, or one where one suffices, or it has none;
/// unknown if those that have found nothing yet decide.
#[must_use]
pub fn state(real: &RealServer, health: &HealthTable) -> Health {
    state_by(real, |check| health.get(check))
}

/// The same of what somebody has found out about the checks already.
pub(crate) fn state_by<'a>(
    real: &RealServer,
    of: impl Fn(&CheckSpec) -> Option<&'a Found>,
) -> Health {
    let found = |check| of(check).map_or(Health::Unknown, |it| it.health);
    let found = real.checks.iter().map(found);
    let decides = match real.require {
        Require::All => Health::Down,
        Require::Any => Health::Up,
    };
    found
        .reduce(|one, next| match (one, next) {
            (one, next) if one == decides || next == decides => decides,
            (Health::Unknown, _) | (_, Health::Unknown) => Health::Unknown,
            (one @ (Health::Up | Health::Down), Health::Up | Health::Down) => one,
        })
        .unwrap_or(Health::Up)
}

/// What a pool takes a real server for. Where checks are the master's only, one that was never checked
/// counts as up: a takeover must not begin with an empty pool.
fn believed(server: &VirtualServer, real: &RealServer, health: &HealthTable) -> Health {
    match (server.when, state(real, health)) {
        (When::Master { .. }, Health::Unknown) => Health::Up,
        (When::Always | When::Master { .. }, state) => state,
    }
}

/// The weight that a real server asks for through its checks: the smallest; `None`: none of them says
/// one. Where one check suffices, those that fail have no say.
#[must_use]
pub fn asked_weight(real: &RealServer, health: &HealthTable) -> Option<u32> {
    let configured = real.destination.weight;
    let found = real.checks.iter().filter_map(|check| health.get(check));
    let heard = found.filter(|found| match real.require {
        Require::All => true,
        Require::Any => found.health == Health::Up,
    });
    heard
        .filter_map(|found| found.weight)
        .map(|weight| match weight {
            Weight::Absolute(weight) => weight.min(WEIGHT_MAX),
            Weight::Percent(share) => share_of(configured, share),
        })
        .min()
}

/// Rounded up: a small share of a small weight is little, not nothing.
fn share_of(weight: u32, percent: u32) -> u32 {
    let share = (u64::from(weight) * u64::from(percent)).div_ceil(100);
    u32::try_from(share).map_or(WEIGHT_MAX, |share| share.min(WEIGHT_MAX))
}

impl From<Health> for Found {
    fn from(health: Health) -> Found {
        Found {
            health,
            weight: None,
        }
    }
}
