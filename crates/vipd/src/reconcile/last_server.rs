//! What must not be taken from a service while what should take its place is refused: its last real
//! server with a weight.

use std::collections::BTreeSet;

use ipvs::{Change, Pool, ServiceKey, Table};

/// How many of the changes come before the first that takes something away. A difference has them in
/// this order.
pub(super) fn before_lowering(current: &Table, changes: &[Change]) -> usize {
    changes.partition_point(|change| !lowers(current, change))
}

fn lowers(current: &Table, change: &Change) -> bool {
    match change {
        Change::AddService(..) | Change::SetService(..) | Change::AddDestination(..) => false,
        Change::RemoveService(_) | Change::RemoveDestination(..) => true,
        Change::SetDestination(service, server, destination) => {
            let pool = current.get(service);
            let existing = pool.and_then(|pool| pool.destinations.get(server));
            existing.is_some_and(|existing| destination.weight < existing.weight)
        }
    }
}

/// Takes out of `lowering` what would leave one of the services `short` without any real server that
/// takes connections, although it should have one. Those are the services that lack something of what
/// should have been `raised` (whether it was is said of each); `current` is what they held before.
pub(super) fn keep(
    current: &Table,
    raised: &[(&Change, bool)],
    wanted: &Table,
    short: &BTreeSet<ServiceKey>,
    lowering: &mut Vec<Change>,
) {
    for key in short {
        let (Some(pool), Some(wanted)) = (current.get(key), wanted.get(key)) else {
            continue;
        };
        let mut table = Table::from([(*key, pool.clone())]);
        for change in raised
            .iter()
            .filter(|(_, done)| *done)
            .map(|(change, _)| change)
        {
            if change.object().0 == *key {
                let _ = ipvs::apply_to(&mut table, change);
            }
        }
        if !table.values().all(takes_connections) || !takes_connections(wanted) {
            continue;
        }
        lowering.retain(|change| {
            if change.object().0 != *key {
                return true;
            }
            let mut after = table.clone();
            let _ = ipvs::apply_to(&mut after, change);
            let kept = after.get(key).is_some_and(takes_connections);
            if kept {
                table = after;
            }
            kept
        });
    }
}

fn takes_connections(pool: &Pool) -> bool {
    pool.destinations.values().any(|server| server.weight > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use ipvs::{
        Destination, DestinationKey, Forwarding, Protocol, Scheduler, SchedulerName, Service,
        ServiceFlags,
    };

    use super::*;

    #[test]
    fn the_last_server_stays_while_its_successor_is_refused() {
        let current = table(&[(1, 1), (2, 1)]);
        let wanted = table(&[(9, 1)]);
        assert_eq!(
            left(&current, &wanted, &[]),
            ["remove real server 10.0.0.1:80"]
        );
        // What was not refused is there to take over.
        assert_eq!(left(&current, &wanted, &[9]).len(), 2);
    }

    #[test]
    fn what_lowers_the_last_weight_to_zero_waits_as_well() {
        let current = table(&[(1, 1), (2, 0)]);
        let wanted = table(&[(1, 0), (2, 0), (9, 1)]);
        assert_eq!(left(&current, &wanted, &[]), Vec::<String>::new());
        assert_eq!(left(&current, &wanted, &[9]).len(), 1);
    }

    #[test]
    fn a_service_that_should_take_no_connections_does_not_keep_any() {
        let current = table(&[(1, 1)]);
        let wanted = table(&[(1, 0), (9, 0)]);
        assert_eq!(left(&current, &wanted, &[]).len(), 1);
    }

    /// What is still lowered, in words without the service, where of the new servers only `made` were
    /// not refused.
    fn left(current: &Table, wanted: &Table, made: &[u8]) -> Vec<String> {
        let mut changes = ipvs::diff(current, wanted);
        let mut lowering = changes.split_off(before_lowering(current, &changes));
        let made: Vec<DestinationKey> = made.iter().map(|number| server(*number)).collect();
        let raised: Vec<(&Change, bool)> = changes
            .iter()
            .map(|change| (change, change.object().1.is_some_and(|s| made.contains(&s))))
            .collect();
        let short = raised.iter().filter(|(_, done)| !done);
        let short = short.map(|(change, _)| change.object().0).collect();
        keep(current, &raised, wanted, &short, &mut lowering);
        let words = lowering.iter().map(ToString::to_string);
        words
            .map(|words| words.split(" from ").next().unwrap().to_owned())
            .collect()
    }

    fn server(number: u8) -> DestinationKey {
        DestinationKey(([10, 0, 0, number], 80).into())
    }

    fn table(servers: &[(u8, u32)]) -> Table {
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: "192.0.2.1:80".parse().unwrap(),
        };
        let destination = |weight| Destination {
            forwarding: Forwarding::Nat,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let destinations = servers.iter();
        let pool = Pool {
            service: Service {
                scheduler: SchedulerName::Known(Scheduler::Rr),
                flags: ServiceFlags::default(),
                persistence: None,
            },
            destinations: destinations
                .map(|(n, weight)| (server(*n), destination(*weight)))
                .collect(),
        };
        Table::from([(key, pool)])
    }
}
