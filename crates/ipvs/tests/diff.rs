//! Properties of the difference between two tables.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipvs::{
    Change, Destination, DestinationKey, Family, Forwarding, Impossible, Persistence, Pool,
    Protocol, Scheduler, SchedulerName, Service, ServiceFlags, ServiceKey, Table, Tunnel,
    TunnelChecksum, apply_to, diff, diff_among,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn destinations_are_ordered_as_their_addresses_are(
        a in destination_key(),
        b in destination_key(),
        c in any::<SocketAddr>(),
        d in any::<SocketAddr>(),
    ) {
        prop_assert_eq!(a.cmp(&b), a.0.cmp(&b.0));
        prop_assert_eq!(DestinationKey(c).cmp(&DestinationKey(d)), c.cmp(&d));
        prop_assert_eq!(a.cmp(&DestinationKey(c)), a.0.cmp(&c));
    }

    #[test]
    fn applying_the_difference_gives_the_desired_table(current in table(), desired in table()) {
        prop_assert_eq!(applied(&current, &diff(&current, &desired)), desired);
    }

    #[test]
    fn a_table_does_not_differ_from_itself(table in table()) {
        prop_assert_eq!(diff(&table, &table), vec![]);
    }

    #[test]
    fn no_pool_is_empty_on_the_way(current in table(), desired in table()) {
        let mut table = current.clone();
        for change in diff(&current, &desired) {
            apply_to(&mut table, &change).unwrap();
            for (key, before, after) in in_both(&current, &desired) {
                let now = table.get(key).unwrap();
                if !before.destinations.is_empty() && !after.destinations.is_empty() {
                    prop_assert!(!now.destinations.is_empty(), "{key} is empty after: {change}");
                }
                if serves(before) && serves(after) {
                    prop_assert!(serves(now), "{key} serves nobody after: {change}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is(
        current in table(),
        desired in table(),
        strangers in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let mut strangers = strangers.iter().cycle();
        let foreign: Table = current
            .iter()
            .filter(|(key, _)| !desired.contains_key(key) && *strangers.next().unwrap())
            .map(|(key, pool)| (*key, pool.clone()))
            .collect();
        let changes = diff_among(&current, &desired, |key| !foreign.contains_key(key));
        let wanted: Table = desired.into_iter().chain(foreign).collect();
        prop_assert_eq!(applied(&current, &changes), wanted);
    }

    #[test]
    fn every_object_is_named_at_most_once(current in table(), desired in table()) {
        let mut named = std::collections::BTreeSet::new();
        for change in diff(&current, &desired) {
            prop_assert!(named.insert(change.object()), "named twice: {change}");
        }
    }
}

#[test]
fn changes_come_in_the_order_that_keeps_pools_filled() {
    let current = [
        (
            tcp("10.0.0.1:80"),
            pool(
                "rr",
                &[
                    ("10.0.0.21:80", 1),
                    ("10.0.0.22:80", 9),
                    ("10.0.0.23:80", 1),
                ],
            ),
        ),
        (tcp("10.0.0.2:80"), pool("rr", &[("10.0.0.21:80", 1)])),
    ];
    let desired = [
        (
            tcp("10.0.0.1:80"),
            pool(
                "wlc",
                &[
                    ("10.0.0.21:80", 5),
                    ("10.0.0.22:80", 2),
                    ("10.0.0.24:80", 1),
                ],
            ),
        ),
        (tcp("10.0.0.9:80"), pool("rr", &[("10.0.0.21:80", 1)])),
    ];
    check_words(
        &current.into(),
        &desired.into(),
        &[
            "add service tcp 10.0.0.9:80, scheduler rr",
            "add real server 10.0.0.21:80 to tcp 10.0.0.9:80, weight 1, dr",
            "change service tcp 10.0.0.1:80 to scheduler wlc",
            "change real server 10.0.0.21:80 of tcp 10.0.0.1:80 to weight 5, dr",
            "add real server 10.0.0.24:80 to tcp 10.0.0.1:80, weight 1, dr",
            "change real server 10.0.0.22:80 of tcp 10.0.0.1:80 to weight 2, dr",
            "remove real server 10.0.0.23:80 from tcp 10.0.0.1:80",
            "remove service tcp 10.0.0.2:80",
        ],
    );
}

#[test]
fn every_setting_is_named_in_the_operators_words() {
    let service = Service {
        scheduler: SchedulerName::Known(Scheduler::Mh),
        flags: ServiceFlags {
            one_packet: true,
            sched1: true,
            sched2: false,
            sched3: true,
        },
        persistence: Some(Persistence {
            timeout: Duration::from_secs(300),
            prefix_length: 24,
            engine: Some("sip".to_owned()),
        }),
    };
    let destination = Destination {
        forwarding: Forwarding::Tunnel(Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::Remote,
        }),
        weight: 3,
        upper_threshold: 100,
        lower_threshold: 50,
    };
    let key = ServiceKey::FirewallMark {
        family: Family::V6,
        mark: 7,
    };
    let destinations = BTreeMap::from([(server("[2001:db8::21]:80"), destination)]);
    check_words(
        &Table::new(),
        &[(
            key,
            Pool {
                service,
                destinations,
            },
        )]
        .into(),
        &[
            "add service fwmark 7 (IPv6), scheduler mh, flag-1, flag-3, one packet, \
             persistent 300 s for each /24 by sip",
            "add real server [2001:db8::21]:80 to fwmark 7 (IPv6), weight 3, \
             tun gue port 6080 with remote checksum, at most 100 connections, again below 50",
        ],
    );
}

#[test]
fn a_destination_that_the_kernel_made_local_does_not_differ_for_that() {
    let desired = Table::from([(tcp("10.0.0.1:80"), pool("rr", &[("10.0.0.21:80", 1)]))]);
    let mut current = desired.clone();
    for destination in current
        .get_mut(&tcp("10.0.0.1:80"))
        .unwrap()
        .destinations
        .values_mut()
    {
        destination.forwarding = Forwarding::LocalNode;
    }
    check_words(&current, &desired, &[]);
    let raised = Table::from([(tcp("10.0.0.1:80"), pool("rr", &[("10.0.0.21:80", 2)]))]);
    let words = "change real server 10.0.0.21:80 of tcp 10.0.0.1:80 to weight 2, dr";
    check_words(&current, &raised, &[words]);
}

#[test]
fn persistence_differs_only_by_what_the_kernel_can_hold() {
    let persistent = |millis, prefix_length| {
        let mut pool = pool("rr", &[]);
        let timeout = Duration::from_millis(millis);
        pool.service.persistence = Some(Persistence {
            timeout,
            prefix_length,
            engine: None,
        });
        Table::from([(tcp("10.0.0.1:80"), pool)])
    };
    check_words(&persistent(1000, 32), &persistent(1999, 128), &[]);
    let words = "change service tcp 10.0.0.1:80 to scheduler rr, persistent 2 s for each /31";
    check_words(&persistent(1000, 32), &persistent(2000, 31), &[words]);
}

#[test]
fn a_table_refuses_what_the_kernel_refuses() {
    let key = tcp("10.0.0.1:80");
    let there = server("10.0.0.21:80");
    let absent = server("10.0.0.22:80");
    let table = Table::from([(key, pool("rr", &[("10.0.0.21:80", 1)]))]);
    let service = || pool("rr", &[]).service;
    let other = tcp("10.0.0.2:80");
    let settings = direct(1);
    for (change, why) in [
        (
            Change::AddService(key, service()),
            Impossible::ServiceExists,
        ),
        (Change::SetService(other, service()), Impossible::NoService),
        (Change::RemoveService(other), Impossible::NoService),
        (
            Change::AddDestination(key, there, settings),
            Impossible::DestinationExists,
        ),
        (
            Change::AddDestination(other, there, settings),
            Impossible::NoService,
        ),
        (
            Change::SetDestination(key, absent, settings),
            Impossible::NoDestination,
        ),
        (
            Change::SetDestination(other, there, settings),
            Impossible::NoService,
        ),
        (
            Change::RemoveDestination(key, absent),
            Impossible::NoDestination,
        ),
        (
            Change::RemoveDestination(other, there),
            Impossible::NoService,
        ),
    ] {
        let mut after = table.clone();
        assert_eq!(apply_to(&mut after, &change), Err(why), "{change}");
        assert_eq!(after, table, "{change}");
    }
}

/// Asserts that the difference reads as `words`, and that it leads to `desired`.
fn check_words(current: &Table, desired: &Table, words: &[&str]) {
    let changes = diff(current, desired);
    let got: Vec<String> = changes.iter().map(Change::to_string).collect();
    assert_eq!(got, words);
    assert_eq!(diff(&applied(current, &changes), desired), vec![]);
}

fn applied(table: &Table, changes: &[Change]) -> Table {
    let mut table = table.clone();
    for change in changes {
        apply_to(&mut table, change).unwrap();
    }
    table
}

fn in_both<'a>(
    current: &'a Table,
    desired: &'a Table,
) -> impl Iterator<Item = (&'a ServiceKey, &'a Pool, &'a Pool)> {
    current
        .iter()
        .filter_map(|(key, before)| Some((key, before, desired.get(key)?)))
}

fn serves(pool: &Pool) -> bool {
    pool.destinations
        .values()
        .any(|destination| destination.weight > 0)
}

fn tcp(address: &str) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: address.parse().unwrap(),
    }
}

fn server(address: &str) -> DestinationKey {
    DestinationKey(address.parse().unwrap())
}

fn pool(scheduler: &str, servers: &[(&str, u32)]) -> Pool {
    Pool {
        service: Service {
            scheduler: scheduler.into(),
            flags: ServiceFlags::default(),
            persistence: None,
        },
        destinations: servers
            .iter()
            .map(|(at, weight)| (server(at), direct(*weight)))
            .collect(),
    }
}

fn direct(weight: u32) -> Destination {
    let forwarding = Forwarding::DirectRouting;
    Destination {
        forwarding,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// Few keys and few settings, so that two tables have much in common.
fn table() -> impl Strategy<Value = Table> {
    let destinations = proptest::collection::btree_map(destination_key(), destination(), 0..5);
    let pool = (service(), destinations).prop_map(|(service, destinations)| Pool {
        service,
        destinations,
    });
    proptest::collection::btree_map(service_key(), pool, 0..5)
}

fn service_key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    let address = prop_oneof![Just("10.0.0.1:80"), Just("[2001:db8::1]:80")];
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    prop_oneof![
        (protocol, address).prop_map(|(protocol, address)| ServiceKey::Address {
            protocol,
            address: address.parse().unwrap(),
        }),
        family.prop_map(|family| ServiceKey::FirewallMark { family, mark: 7 }),
    ]
}

fn destination_key() -> impl Strategy<Value = DestinationKey> {
    (21..26_u8).prop_map(|host| DestinationKey(SocketAddr::from(([10, 0, 0, host], 80))))
}

fn service() -> impl Strategy<Value = Service> {
    let scheduler = prop_oneof![
        Just(SchedulerName::Known(Scheduler::Rr)),
        Just(SchedulerName::Other("foreign".to_owned())),
    ];
    let persistence = prop_oneof![
        Just(None),
        (1..3_u64, 31..33_u8).prop_map(|(seconds, prefix_length)| Some(Persistence {
            timeout: Duration::from_secs(seconds),
            prefix_length,
            engine: None,
        })),
    ];
    (scheduler, any::<bool>(), persistence).prop_map(|(scheduler, sched1, persistence)| Service {
        scheduler,
        flags: ServiceFlags {
            sched1,
            ..ServiceFlags::default()
        },
        persistence,
    })
}

fn destination() -> impl Strategy<Value = Destination> {
    let forwarding = prop_oneof![
        Just(Forwarding::Nat),
        Just(Forwarding::DirectRouting),
        Just(Forwarding::Tunnel(Tunnel::Ipip)),
        Just(Forwarding::Tunnel(Tunnel::Gre {
            checksum: TunnelChecksum::Full
        })),
    ];
    (forwarding, 0..3_u32, 0..2_u32).prop_map(|(forwarding, weight, upper_threshold)| Destination {
        forwarding,
        weight,
        upper_threshold,
        lower_threshold: 0,
    })
}
