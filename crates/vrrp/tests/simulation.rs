//! What a LAN of virtual routers does as a whole: W1 to W8 of docs/conformance.md, for random
//! routers in random trouble. Failing cases are kept in `simulation.regressions`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use vrrp::{ChecksumForm, Family, Parameters, StateName, Version, master_down_interval, skew_time};

#[path = "simulation/lan.rs"]
mod lan;

use lan::{Disturbance, Lan};

/// The longest travel of an advert, in microseconds.
const DELAY: u64 = 5_000;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    // W1, W2, W5, W7
    #[test]
    fn whatever_happened_once_it_is_quiet_each_partition_has_one_master_the_best(
        hosts in hosts(),
        troubles in prop::collection::vec((0..5_000_u64, disturbance()), 0..40),
        seed in any::<u64>(),
    ) {
        let quiet = quiet_time(&hosts);
        let mut lan = Lan::new(hosts, 0..=DELAY, seed);
        lan.reorders = true;
        lan.start_all();
        for (millis, trouble) in troubles {
            lan.run(Duration::from_millis(millis));
            lan.disturb(&trouble);
        }
        lan.disturb(&Disturbance::Weather(0));
        lan.run(quiet);
        check_masters(&lan)?;
        lan.disturb(&Disturbance::Split(0));
        lan.run(quiet);
        check_masters(&lan)?;
        lan.start_all();
        for host in 0..lan.hosts.len() {
            lan.disturb(&Disturbance::Up(host));
        }
        lan.run(quiet);
        prop_assert_eq!(lan.partitions().len(), 1);
        check_masters(&lan)?;
    }

    // W2
    #[test]
    fn healed_partitions_have_one_master_within_an_interval_which_announces_after_the_other(
        (version, interval, priorities) in electorate(2..=2),
        apart in 10_000..20_000_u64,
        delay in 0..=DELAY,
        seed in any::<u64>(),
    ) {
        let mut lan = lan(version, interval, &priorities, true, delay..=delay, seed);
        lan.disturb(&Disturbance::Split(1));
        lan.start_all();
        lan.run(interval * 6 + Duration::from_millis(apart));
        prop_assert_eq!(lan.masters(), [0, 1]);
        lan.disturb(&Disturbance::Split(0));
        // In flight at that moment may be an advert of each that the other never heard.
        lan.run(interval + Duration::from_micros(delay * 2));
        let best = best(&priorities);
        prop_assert_eq!(lan.masters(), [best]);
        lan.run(interval * 3);
        let (survivor, loser) = (&lan.hosts[best], &lan.hosts[1 - best]);
        let changes = survivor.history.iter().map(|(_, state)| *state).collect::<Vec<_>>();
        prop_assert_eq!(changes, [StateName::Backup, StateName::Master]);
        let announced = survivor.announced.last();
        if survivor.rival_heard.is_some() {
            prop_assert!(announced > survivor.rival_heard.as_ref());
        }
        prop_assert_eq!(loser.announced.len(), 1);
    }

    // W3
    #[test]
    fn a_vanished_master_is_replaced_by_the_best_backup_within_master_down_time(
        (version, interval, priorities) in electorate(2..=5),
        moment in 0..1_000_000_u64,
        seed in any::<u64>(),
    ) {
        let mut lan = elected(version, interval, &priorities, seed)?;
        lan.run(Duration::from_micros(moment));
        check_failover(&mut lan, &priorities, Disturbance::Crash, |priority| {
            master_down_interval(3, priority, interval, version)
        })?;
    }

    // W3
    #[test]
    fn a_master_that_gives_up_is_replaced_by_the_best_backup_within_skew_time(
        (version, interval, priorities) in electorate(2..=5),
        moment in 0..1_000_000_u64,
        seed in any::<u64>(),
    ) {
        let mut lan = elected(version, interval, &priorities, seed)?;
        lan.run(Duration::from_micros(moment));
        check_failover(&mut lan, &priorities, Disturbance::Stop, |priority| {
            skew_time(priority, interval, version)
        })?;
    }

    // W4
    #[test]
    fn two_backups_never_both_take_over_where_the_delay_is_under_the_skew_difference(
        (version, interval, priorities) in electorate(3..=5),
        stops in any::<bool>(),
        moment in 0..1_000_000_u64,
        seed in any::<u64>(),
    ) {
        let mut order = priorities.clone();
        order.sort_unstable_by(|a, b| b.cmp(a));
        let skew = |priority| skew_time(priority, interval, version);
        let gap = skew(order[2]) - skew(order[1]);
        // Half of it: the last advert of the old master arrives at its own time at each backup.
        let delay = u64::try_from(gap.as_micros()).unwrap().saturating_sub(1) / 2;
        let mut lan = lan(version, interval, &priorities, true, 0..=delay.min(DELAY), seed);
        lan.start_all();
        lan.run(interval * 10);
        lan.run(Duration::from_micros(moment));
        let masters_before = count_masters(&lan);
        let old = best(&priorities);
        lan.disturb(&if stops { Disturbance::Stop(old) } else { Disturbance::Crash(old) });
        lan.run(interval * 10);
        prop_assert_eq!(count_masters(&lan), masters_before + 1);
    }

    // W6
    #[test]
    fn two_lost_adverts_in_a_row_change_nothing(
        (version, interval, priorities) in electorate(2..=5),
        lost in 0..50_u64,
        seed in any::<u64>(),
    ) {
        // A travel time that differs from advert to advert must stay under the skew.
        let mut lan = lan(version, interval, &priorities, true, 3_000..=3_000, seed);
        lan.start_all();
        lan.run(interval * 10);
        let before: Vec<_> = lan.hosts.iter().map(|host| host.history.clone()).collect();
        lan.lost = (lan.sent + lost..=lan.sent + lost + 1).collect();
        lan.run(interval * 60);
        prop_assert!(lan.lost.iter().all(|number| *number < lan.sent));
        let after: Vec<_> = lan.hosts.iter().map(|host| host.history.clone()).collect();
        prop_assert_eq!(before, after);
    }

    // W8
    #[test]
    fn without_preemption_a_returning_better_router_leaves_the_master_alone(
        (version, interval, priorities) in electorate(2..=5),
        comings in prop::collection::vec((0..8_000_u64, any::<usize>(), 0..3_usize), 1..20),
        seed in any::<u64>(),
    ) {
        let mut lan = lan(version, interval, &priorities, false, 0..=DELAY, seed);
        lan.disturb(&Disturbance::Start(0));
        lan.run(interval * 5);
        prop_assert_eq!(lan.masters(), [0]);
        for (millis, host, kind) in comings {
            let host = 1 + host % (priorities.len() - 1);
            let kinds = [Disturbance::Start, Disturbance::Stop, Disturbance::Crash];
            lan.disturb(&kinds[kind](host));
            lan.run(Duration::from_millis(millis));
            prop_assert_eq!(lan.masters(), [0]);
        }
        prop_assert_eq!(count_masters(&lan), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_history(
        hosts in hosts(),
        troubles in prop::collection::vec((0..5_000_u64, disturbance()), 0..10),
        seed in any::<u64>(),
    ) {
        let history = || {
            let mut lan = Lan::new(hosts.clone(), 0..=DELAY, seed);
            let start = lan.now;
            lan.start_all();
            for (millis, trouble) in &troubles {
                lan.run(Duration::from_millis(*millis));
                lan.disturb(trouble);
            }
            let since = |(at, state): (Instant, StateName)| (at.duration_since(start), state);
            let histories = lan.hosts.iter().map(|h| h.history.iter().copied().map(since).collect());
            (lan.sent, histories.collect::<Vec<Vec<_>>>())
        };
        prop_assert_eq!(history(), history());
    }
}

/// Two to five hosts of one version; of version 3, each with its own interval.
fn hosts() -> impl Strategy<Value = Vec<Parameters>> {
    let host = (
        1..=255_u8,
        0..4_usize,
        0..8_u8,
        prop_oneof![Just(0), Just(0), 0..10_000_u64],
    );
    let version = prop_oneof![Just(Version::V2), Just(Version::V3)];
    (version, prop::collection::vec(host, 2..=5)).prop_map(|(version, hosts)| {
        let parameters = hosts
            .into_iter()
            .map(|(priority, interval, preempt, delay)| {
                let interval = match version {
                    Version::V2 => 1_000,
                    Version::V3 => [100, 250, 1_000, 3_000][interval],
                };
                Parameters {
                    priority,
                    preempt: preempt > 0,
                    preempt_delay: Duration::from_millis(delay),
                    ..parameters(version, Duration::from_millis(interval))
                }
            });
        parameters.collect()
    })
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    let host = any::<usize>;
    prop_oneof![
        host().prop_map(Disturbance::Crash),
        host().prop_map(Disturbance::Start),
        host().prop_map(Disturbance::Stop),
        (host(), 0..8_000_u64)
            .prop_map(|(host, ms)| Disturbance::Sleep(host, Duration::from_millis(ms))),
        host().prop_map(Disturbance::Down),
        host().prop_map(Disturbance::Up),
        (host(), 1..=255_u8).prop_map(|(host, priority)| Disturbance::Priority(host, priority)),
        (0..32_u8).prop_map(Disturbance::Split),
        Just(Disturbance::Split(0)),
        (0..50_u64).prop_map(Disturbance::Weather),
    ]
}

/// Hosts that differ in nothing but their priorities, no two of which are the same.
fn electorate(
    count: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = (Version, Duration, Vec<u8>)> {
    let kind = prop_oneof![
        Just((Version::V2, 1_000)),
        Just((Version::V2, 3_000)),
        Just((Version::V3, 1_000)),
        Just((Version::V3, 3_000)),
    ];
    // Not above 250: a skew of less than the travel times settles nothing.
    let priorities = prop::collection::btree_set(1..=125_u8, count)
        .prop_map(|set| set.into_iter().map(|n| n * 2).collect::<Vec<_>>())
        .prop_shuffle();
    (kind, priorities).prop_map(|((version, millis), priorities)| {
        (version, Duration::from_millis(millis), priorities)
    })
}

fn parameters(version: Version, advert_interval: Duration) -> Parameters {
    Parameters {
        vrid: 51,
        version,
        family: Family::V4,
        priority: 100,
        advert_interval,
        preempt: true,
        preempt_delay: Duration::ZERO,
        checksum: ChecksumForm::PseudoHeader,
        addresses: vec![[203, 0, 113, 1].into()],
    }
}

fn lan(
    version: Version,
    interval: Duration,
    priorities: &[u8],
    preempt: bool,
    delay: std::ops::RangeInclusive<u64>,
    seed: u64,
) -> Lan {
    let host = |priority: &u8| Parameters {
        priority: *priority,
        preempt,
        ..parameters(version, interval)
    };
    Lan::new(priorities.iter().map(host).collect(), delay, seed)
}

/// A LAN in which all hosts run and the best is master.
fn elected(
    version: Version,
    interval: Duration,
    priorities: &[u8],
    seed: u64,
) -> Result<Lan, TestCaseError> {
    let mut lan = lan(version, interval, priorities, true, 0..=DELAY, seed);
    lan.start_all();
    lan.run(interval * 10);
    prop_assert_eq!(lan.masters(), [best(priorities)]);
    Ok(lan)
}

fn best(priorities: &[u8]) -> usize {
    (0..priorities.len())
        .max_by_key(|host| priorities[*host])
        .unwrap()
}

/// How often any host became master.
fn count_masters(lan: &Lan) -> usize {
    let changes = lan.hosts.iter().flat_map(|host| &host.history);
    changes
        .filter(|(_, state)| *state == StateName::Master)
        .count()
}

/// Long enough for the slowest to call a master dead, to wait out its preempt delay, and for the
/// last sleeper to wake.
fn quiet_time(hosts: &[Parameters]) -> Duration {
    let interval = hosts.iter().map(|host| host.advert_interval).max().unwrap();
    let delay = hosts.iter().map(|host| host.preempt_delay).max().unwrap();
    interval * 12 + delay + Duration::from_secs(8)
}

fn check_masters(lan: &Lan) -> Result<(), TestCaseError> {
    for partition in lan.partitions() {
        let masters: Vec<_> = partition
            .iter()
            .filter(|host| lan.state(**host) == StateName::Master)
            .collect();
        prop_assert_eq!(masters.len(), 1, "W1, W2: one master in {:?}", partition);
        let priority = |host: usize| lan.hosts[host].parameters.priority;
        let best = partition.iter().map(|host| priority(*host)).max();
        // Of equal ones a backup follows the master that there is, whatever its address.
        let preempts = |host: &usize| {
            let parameters = &lan.hosts[*host].parameters;
            parameters.preempt || parameters.priority == 255
        };
        if partition.iter().all(preempts) {
            prop_assert_eq!(Some(priority(*masters[0])), best, "W1: the best one");
        }
    }
    Ok(())
}

/// The best host leaves; the second best is the only master once `wait` of its priority has passed,
/// and not before `wait` since the old one's last advert, which is at most an interval earlier.
fn check_failover(
    lan: &mut Lan,
    priorities: &[u8],
    leave: fn(usize) -> Disturbance,
    wait: impl Fn(u8) -> Duration,
) -> Result<(), TestCaseError> {
    let old = best(priorities);
    let mut rest = priorities.to_vec();
    rest[old] = 0;
    let new = best(&rest);
    let (left, wait) = (lan.now, wait(rest[new]));
    lan.disturb(&leave(old));
    lan.run(wait + Duration::from_micros(DELAY));
    prop_assert_eq!(lan.state(new), StateName::Master);
    let (at, _) = *lan.hosts[new].history.last().unwrap();
    prop_assert!(at <= left + wait + Duration::from_micros(DELAY));
    prop_assert!(at + lan.hosts[new].parameters.advert_interval >= left + wait);
    lan.run(Duration::from_secs(20));
    prop_assert_eq!(lan.masters(), [new]);
    Ok(())
}
