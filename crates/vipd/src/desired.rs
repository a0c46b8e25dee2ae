//! The whole policy, as one pure function: which services and real servers the kernel's IPVS table
//! should hold, given the configuration, who is master, and what the checks found.
//!
//! Nothing else decides a weight or whether a service exists. Start, reload, failure, repair and
//! shutdown all go through here.

use std::collections::BTreeMap;

use health::{CheckSpec, Health};
use ipvs::{Destination, DestinationKey, Pool, Table};

use crate::config::{Active, Config, OnFailure, RealServer, VirtualServer};

/// Whether this host is master, by name of the virtual router.
pub type Roles = BTreeMap<String, bool>;

/// What every check found last. A check that is not here has found nothing yet.
pub type HealthTable = BTreeMap<CheckSpec, Health>;

/// Whether each virtual server has quorum, by its name. It is an input, too: with `hysteresis` it
/// depends on what it was.
pub type Quorums = BTreeMap<String, bool>;

/// The table that the kernel should hold.
#[must_use]
pub fn desired(config: &Config, roles: &Roles, health: &HealthTable, quorums: &Quorums) -> Table {
    let in_force = |server: &&VirtualServer| match server.active {
        Active::Always => true,
        Active::Master => server
            .vrrp
            .as_ref()
            .is_some_and(|name| roles.get(name).copied().unwrap_or(false)),
    };
    let pool = |server: &VirtualServer| {
        let quorum = quorums.get(&server.name).copied().unwrap_or(false);
        let destinations = destinations(server, health, quorum);
        (
            server.key,
            Pool {
                service: server.service.clone(),
                destinations,
            },
        )
    };
    config
        .virtual_servers
        .iter()
        .filter(in_force)
        .map(pool)
        .collect()
}

/// Which virtual servers have quorum now, given which had it before.
///
/// Quorum is gained when the weights of the healthy real servers reach `quorum + hysteresis`, and
/// lost when they fall below `quorum - hysteresis` or to nothing. A virtual server that is new
/// gains it at `quorum`.
#[must_use]
pub fn quorums(config: &Config, health: &HealthTable, before: &Quorums) -> Quorums {
    let judge = |server: &VirtualServer| {
        let have = healthy_weight(server, health);
        let needed = match before.get(&server.name) {
            None => server.quorum,
            Some(false) => server.quorum.saturating_add(server.hysteresis),
            Some(true) => server.quorum.saturating_sub(server.hysteresis),
        };
        (server.name.clone(), have >= u64::from(needed.max(1)))
    };
    config.virtual_servers.iter().map(judge).collect()
}

/// The sum of the configured weights of the healthy real servers.
#[must_use]
pub fn healthy_weight(server: &VirtualServer, health: &HealthTable) -> u64 {
    let healthy = server
        .real_servers
        .iter()
        .filter(|real| state(real, health) == Health::Up);
    healthy.map(|real| u64::from(real.destination.weight)).sum()
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

fn destinations(
    server: &VirtualServer,
    health: &HealthTable,
    quorum: bool,
) -> BTreeMap<DestinationKey, Destination> {
    // Without quorum the sorry server takes every new connection; without a sorry server whoever is
    // left does what it can.
    let sorry = server.sorry_server.filter(|_| !quorum);
    let mut destinations = BTreeMap::new();
    for real in &server.real_servers {
        let serves = state(real, health) == Health::Up && sorry.is_none();
        // One that has not been found healthy since it was configured was never in the pool: there
        // are no connections for which it should stay.
        let never_was_in = state(real, health) == Health::Unknown;
        match (serves, server.on_failure) {
            (true, _) => {
                destinations.insert(real.key, real.destination);
            }
            (false, OnFailure::ZeroWeight) if !never_was_in => {
                destinations.insert(
                    real.key,
                    Destination {
                        weight: 0,
                        ..real.destination
                    },
                );
            }
            (false, OnFailure::ZeroWeight | OnFailure::Remove) => {}
        }
    }
    if let Some(sorry) = sorry {
        destinations.insert(sorry.key, sorry.destination);
    }
    destinations
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use health::{CheckKind, Start};
    use ipvs::{Forwarding, Protocol, Scheduler, SchedulerName, Service, ServiceFlags, ServiceKey};
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Global, Ipvs, OnStop, SorryServer};

    #[test]
    fn a_real_server_starts_out_of_the_pool_and_enters_it_with_its_first_pass() {
        let config = config(|_| {});
        check(&config, &[], &[]);
        check(&config, &[(1, Health::Up)], &[(1, 1)]);
    }

    #[test]
    fn a_failing_real_server_leaves_the_pool() {
        let config = config(|_| {});
        check(&config, &[(1, Health::Up), (2, Health::Down)], &[(1, 1)]);
    }

    #[test]
    fn with_zero_weight_a_failing_real_server_stays_for_its_connections() {
        let config = config(|server| server.on_failure = OnFailure::ZeroWeight);
        check(
            &config,
            &[(1, Health::Up), (2, Health::Down)],
            &[(1, 1), (2, 0)],
        );
    }

    #[test]
    fn with_zero_weight_a_real_server_that_was_never_healthy_is_not_there() {
        let config = config(|server| server.on_failure = OnFailure::ZeroWeight);
        check(&config, &[(1, Health::Up)], &[(1, 1)]);
    }

    #[test]
    fn without_quorum_the_sorry_server_takes_all() {
        let config = config(|server| {
            server.quorum = 2;
            server.sorry_server = Some(sorry());
        });
        check(
            &config,
            &[(1, Health::Up), (2, Health::Up)],
            &[(1, 1), (2, 1)],
        );
        check(&config, &[(1, Health::Up), (2, Health::Down)], &[(99, 1)]);
    }

    #[test]
    fn without_quorum_and_sorry_server_what_is_left_goes_on() {
        let config = config(|server| server.quorum = 2);
        check(&config, &[(1, Health::Up), (2, Health::Down)], &[(1, 1)]);
    }

    #[test]
    fn hysteresis_makes_quorum_harder_to_gain_than_to_keep() {
        let config = config(|server| {
            server.quorum = 2;
            server.hysteresis = 1;
        });
        let health = |weights: &[u16]| -> HealthTable {
            weights.iter().map(|n| (spec(*n), Health::Up)).collect()
        };
        let has = |health: &HealthTable, before: Option<bool>| {
            let before = before
                .map(|quorum| ("web".to_owned(), quorum))
                .into_iter()
                .collect();
            quorums(&config, health, &before).get("web").copied()
        };
        assert_eq!(has(&health(&[1, 2]), None), Some(true), "new: at quorum");
        assert_eq!(
            has(&health(&[1, 2]), Some(false)),
            Some(false),
            "gained at 3"
        );
        assert_eq!(has(&health(&[1, 2, 3]), Some(false)), Some(true));
        assert_eq!(has(&health(&[1]), Some(true)), Some(true), "lost below 1");
        assert_eq!(has(&health(&[]), Some(true)), Some(false));
    }

    #[test]
    fn a_service_for_the_master_only_is_absent_on_a_backup() {
        let config = config(|server| {
            server.vrrp = Some("router".to_owned());
            server.active = Active::Master;
        });
        let table = |master| {
            let roles = [("router".to_owned(), master)].into();
            desired(&config, &roles, &HealthTable::new(), &Quorums::new())
        };
        assert!(table(false).is_empty());
        assert_eq!(table(true).len(), 1);
    }

    #[test]
    fn all_checks_of_a_real_server_must_pass() {
        let mut config = config(|_| {});
        let second = CheckSpec {
            timeout: Duration::from_secs(7),
            ..spec(1)
        };
        config.virtual_servers[0].real_servers[0]
            .checks
            .push(second.clone());
        let real = &config.virtual_servers[0].real_servers[0];
        let mut health: HealthTable = [(spec(1), Health::Up)].into();
        assert_eq!(state(real, &health), Health::Unknown);
        health.insert(second.clone(), Health::Down);
        assert_eq!(state(real, &health), Health::Down);
        health.insert(second, Health::Up);
        assert_eq!(state(real, &health), Health::Up);
    }

    proptest! {
        #[test]
        fn no_pool_is_empty_while_something_is_healthy_or_a_sorry_server_stands_by(
            found in proptest::collection::vec(0..3_u8, 3),
            quorum in 1..5_u32,
            hysteresis in 0..3_u32,
            before in proptest::option::of(any::<bool>()),
            with_sorry in any::<bool>(),
            zero_weight in any::<bool>(),
        ) {
            let config = config(|server| {
                server.quorum = quorum;
                server.hysteresis = hysteresis.min(quorum - 1);
                server.sorry_server = with_sorry.then(sorry);
                if zero_weight {
                    server.on_failure = OnFailure::ZeroWeight;
                }
            });
            let states = [Health::Unknown, Health::Up, Health::Down];
            let health: HealthTable =
                (1..).zip(&found).map(|(n, s)| (spec(n), states[usize::from(*s)])).collect();
            let before = before.map(|quorum| ("web".to_owned(), quorum)).into_iter().collect();
            let quorums = quorums(&config, &health, &before);
            let table = desired(&config, &Roles::new(), &health, &quorums);
            let serving = table[&service_key()].destinations.values().filter(|d| d.weight > 0);
            let healthy = found.contains(&1);
            prop_assert_eq!(serving.count() > 0, healthy || with_sorry);
        }
    }

    fn check(config: &Config, found: &[(u16, Health)], pool: &[(u16, u32)]) {
        let health = found
            .iter()
            .map(|(n, health)| (spec(*n), *health))
            .collect();
        let quorums = quorums(config, &health, &Quorums::new());
        let table = desired(config, &Roles::new(), &health, &quorums);
        let found: Vec<_> = table[&service_key()]
            .destinations
            .iter()
            .map(|(k, d)| (k.0.port(), d.weight))
            .collect();
        assert_eq!(found, pool);
    }

    /// One virtual server with three real servers, told apart by their ports 1, 2 and 3.
    fn config(change: impl FnOnce(&mut VirtualServer)) -> Config {
        let real = |n| RealServer {
            key: key(n),
            destination: destination(),
            checks: vec![spec(n)],
        };
        let mut server = VirtualServer {
            name: "web".to_owned(),
            key: service_key(),
            service: Service {
                scheduler: SchedulerName::Known(Scheduler::Wlc),
                flags: ServiceFlags::default(),
                persistence: None,
            },
            vrrp: None,
            active: Active::Always,
            forwarding: Forwarding::Nat,
            quorum: 1,
            hysteresis: 0,
            on_failure: OnFailure::Remove,
            sorry_server: None,
            real_servers: vec![real(1), real(2), real(3)],
        };
        change(&mut server);
        Config {
            global: Global {
                name: "lb".to_owned(),
                control_socket: "/run/vipd/control.sock".into(),
                http: None,
                state_dir: "/var/lib/vipd".into(),
            },
            ipvs: Ipvs {
                resync_interval: Duration::from_secs(10),
                on_stop: OnStop::Remove,
                sync: None,
            },
            sync_groups: Vec::new(),
            track_scripts: Vec::new(),
            vrrp: Vec::new(),
            virtual_servers: vec![server],
        }
    }

    fn service_key() -> ServiceKey {
        let address = "10.0.0.1:80".parse().unwrap();
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            address,
        }
    }

    fn key(n: u16) -> DestinationKey {
        DestinationKey(([10, 0, 0, 9], n).into())
    }

    fn destination() -> Destination {
        Destination {
            forwarding: Forwarding::Nat,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    fn sorry() -> SorryServer {
        SorryServer {
            key: key(99),
            destination: destination(),
        }
    }

    fn spec(n: u16) -> CheckSpec {
        CheckSpec {
            target: key(n).0,
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            rise: 1,
            fall: 2,
            start: Start::Down,
        }
    }
}
