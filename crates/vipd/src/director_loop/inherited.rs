//! What virtual servers of a new configuration inherit: verdicts from those of the former one, and from
//! what the kernel's table held. Pure, so that any configuration can be followed by any other in a test.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use health::{CheckSpec, Health, Start};
use ipvs::{DestinationKey, ServiceKey, Table};

use crate::config::{Config, RealServer, VirtualServer};
use crate::desired::{self, Found, HealthTable};

/// Whose a check is: the positions of virtual servers and of their real servers.
pub(super) type Users = Vec<(usize, usize)>;

/// What is known of real servers that a new configuration has.
pub(super) struct Former<'a> {
    config: &'a Config,
    /// Made when the first is asked for: nobody asks where no check is new.
    known: OnceCell<Known<'a>>,
    health: &'a HealthTable,
    /// What the kernel held of services that are new.
    kernel: &'a Table,
}

/// The former configuration, to be looked up in.
struct Known<'a> {
    /// Its virtual servers, by their services.
    names: BTreeMap<&'a ServiceKey, &'a str>,
    /// Its real servers. A search for each of them would be one among all.
    reals: BTreeMap<(&'a str, DestinationKey), &'a RealServer>,
}

impl<'a> Former<'a> {
    /// What that configuration and its verdicts say, and the kernel.
    pub(super) fn new(
        config: &'a Config,
        health: &'a HealthTable,
        kernel: &'a Table,
    ) -> Former<'a> {
        Former {
            config,
            known: OnceCell::new(),
            health,
            kernel,
        }
    }

    /// How a real server stood; `None`: nobody knew it.
    pub(super) fn state(&self, server: &VirtualServer, real: &RealServer) -> Option<Health> {
        let Known { names, reals } = self.known.get_or_init(|| Known::of(self.config));
        let known = server.keys.iter().find_map(|key| names.get(key));
        let known = known.and_then(|name| reals.get(&(*name, real.key)));
        match known {
            Some(real) => Some(desired::state(real, self.health)),
            None => serves(self.kernel, server, real).then_some(Health::Up),
        }
    }
}

impl<'a> Known<'a> {
    fn of(config: &'a Config) -> Known<'a> {
        let servers = || config.virtual_servers.iter();
        let names = servers()
            .flat_map(|server| server.keys.iter().map(move |key| (key, &*server.name)))
            .collect();
        let reals = servers()
            .flat_map(|server| {
                let reals = server.real_servers.iter();
                reals.map(move |real| ((&*server.name, real.key), real))
            })
            .collect();
        Known { names, reals }
    }
}

/// The checks of a configuration, what each begins with, and whose it is. One that there was goes on;
/// `before` says how a real server stood whose check is new.
pub(super) fn checks(
    config: &Config,
    known: &HealthTable,
    before: &dyn Fn(&VirtualServer, &RealServer) -> Option<Health>,
) -> BTreeMap<CheckSpec, (Found, Users)> {
    let mut checks: BTreeMap<CheckSpec, (Found, Users)> = BTreeMap::new();
    for (position, server) in config.virtual_servers.iter().enumerate() {
        for (real_position, real) in server.real_servers.iter().enumerate() {
            for spec in &real.checks {
                let found = known.get(spec);
                let begin = found.map(|found| found.health);
                let begin = begin.unwrap_or_else(|| match before(server, real) {
                    Some(known @ (Health::Up | Health::Down)) => known,
                    Some(Health::Unknown) | None if spec.start == Start::Up => Health::Up,
                    Some(Health::Unknown) | None => Health::Unknown,
                });
                // The same check of two virtual servers is one: the better beginning counts, and any of
                // them more than none.
                let new = || {
                    let weight = found.and_then(|found| found.weight);
                    let health = begin;
                    (Found { health, weight }, Users::new())
                };
                let (found, users) = checks.entry(spec.clone()).or_insert_with(new);
                match (found.health, begin) {
                    (_, Health::Up) | (Health::Unknown, _) => found.health = begin,
                    (Health::Up | Health::Down, Health::Unknown | Health::Down) => {}
                }
                users.push((position, real_position));
            }
        }
    }
    checks
}

/// The services that a configuration makes vipd's; they stay so, so that a later one can remove them.
pub(super) fn manage(managed: &mut BTreeSet<ServiceKey>, config: &Config) {
    let servers = config.virtual_servers.iter();
    managed.extend(servers.flat_map(|server| {
        let ways = desired::ways(server).map(|(key, _)| key);
        server.keys.iter().copied().chain(ways)
    }));
}

/// Whether a table has a real server with a weight.
pub(super) fn serves(table: &Table, server: &VirtualServer, real: &RealServer) -> bool {
    let pools = server.keys.iter().filter_map(|key| table.get(key));
    let mut found = pools.filter_map(|pool| pool.destinations.get(&real.key));
    found.any(|destination| destination.weight > 0)
}

#[cfg(test)]
mod tests;
