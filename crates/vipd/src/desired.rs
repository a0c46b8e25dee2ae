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
use std::time::Instant;

use health::{CheckSpec, Health};
use ipvs::{Pool, ServiceKey, Table};

use crate::config::{Active, Config, RealServer, VirtualServer};
use crate::overrides::Overrides;

pub use self::pool::PoolState;

/// Whether this host is master, by name of the virtual router.
pub type Roles = BTreeMap<String, bool>;

/// What every check found last. A check that is not here has found nothing yet.
pub type HealthTable = BTreeMap<CheckSpec, Health>;

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
    config
        .virtual_servers
        .iter()
        .filter(in_force)
        .flat_map(pool)
        .collect()
}

/// When time alone changes a pool next.
#[must_use]
pub fn next_step(pools: &PoolStates) -> Option<Instant> {
    pools.values().filter_map(|state| state.next_step).min()
}

/// The health of a real server: up if all its checks pass (or it has none), unknown if one of them
/// has found nothing yet and none failed.
#[must_use]
pub fn state(real: &RealServer, health: &HealthTable) -> Health {
    let found = |check| health.get(check).copied().unwrap_or(Health::Unknown);
    real.checks
        .iter()
        .map(found)
        .fold(Health::Up, |worst, next| match (worst, next) {
            (Health::Down, _) | (_, Health::Down) => Health::Down,
            (Health::Unknown, _) | (_, Health::Unknown) => Health::Unknown,
            (Health::Up, Health::Up) => Health::Up,
        })
}
