//! W2 to W10 of docs/conformance.md one by one, each with random directors and in the trouble that it
//! is about. `simulation.rs` is the whole of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use vrrp::{
    Action, Advertisement, Event, Family, Fault, Parameters, Path, StateName, TakeoverProbe,
    Version, VirtualRouter, master_down_interval, skew_time,
};

#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/lan.rs"]
#[allow(dead_code, reason = "the whole needs more of it")]
mod lan;

use dice::Dice;
use lan::{Lan, Trouble, parameters};

/// How many random cases a property runs.
const CASES: u64 = 300;
/// The longest travel of a frame, in microseconds.
const DELAY: u64 = 5_000;

// W2
#[test]
fn healed_partitions_have_one_master_within_an_interval_which_announces_after_the_other() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=2);
        let delay = dice.roll(DELAY + 1);
        let mut lan = lan(dice, version, interval, &priorities, delay..=delay);
        lan.disturb(&Trouble::Split(0, 1));
        lan.start_all();
        lan.run(interval * 6 + Duration::from_millis(10_000 + dice.roll(10_000)));
        assert_eq!(lan.masters(0), [0, 1]);
        lan.disturb(&Trouble::Split(0, 0));
        // In flight at that moment may be an advert of each that the other never heard.
        lan.run(interval + Duration::from_micros(delay * 2));
        let best = best(&priorities);
        assert_eq!(lan.masters(0), [best]);
        lan.run(interval * 4);
        let (survivor, loser) = (&lan.hosts[best].seats[0], &lan.hosts[1 - best].seats[0]);
        let changes: Vec<_> = survivor.history.iter().map(|(_, state)| *state).collect();
        assert_eq!(changes, [StateName::Backup, StateName::Master]);
        if survivor.rival_heard.is_some() {
            assert!(survivor.announced.last() > survivor.rival_heard.as_ref());
        }
        assert_eq!(loser.announced.len(), 1);
        assert!(!loser.installed);
    });
}

// W3
#[test]
fn a_vanished_master_is_replaced_by_the_best_backup_within_master_down_time() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=8);
        let mut lan = elected(dice, version, interval, &priorities);
        lan.run(Duration::from_micros(dice.roll(1_000_000)));
        check_failover(&mut lan, &priorities, Trouble::PowerOff, |priority| {
            master_down_interval(3, priority, interval, version)
        });
    });
}

// W3
#[test]
fn a_master_that_gives_up_is_replaced_by_the_best_backup_within_skew_time() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=8);
        let mut lan = elected(dice, version, interval, &priorities);
        lan.run(Duration::from_micros(dice.roll(1_000_000)));
        check_failover(&mut lan, &priorities, Trouble::Stop, |priority| {
            skew_time(priority, interval, version)
        });
    });
}

// W3, W5: who answers for the addresses of a killed daemon is believed for so long and no longer.
#[test]
fn a_killed_daemon_whose_addresses_answer_is_replaced_after_two_more_master_down_times() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=8);
        let probe = dice.pick(&[TakeoverProbe::Off, TakeoverProbe::Warn, TakeoverProbe::Hold]);
        let hosts = priorities.iter().map(|priority| Parameters {
            priority: *priority,
            takeover_probe: probe,
            ..every(interval, version)
        });
        let hosts = hosts.map(|host| vec![host]).collect();
        let mut lan = Lan::new(hosts, false, 0..=DELAY, dice.clone());
        lan.start_all();
        lan.run(interval * 10);
        let (old, new) = two_best(&priorities);
        assert_eq!(lan.masters(0), [old]);
        lan.disturb(&Trouble::Crash(old));
        let down = master_down_interval(3, priorities[new], interval, version);
        let waits = if probe == TakeoverProbe::Hold { 3 } else { 1 };
        lan.run(down * waits - interval - Duration::from_micros(DELAY));
        assert_eq!(lan.masters(0), [0; 0]);
        lan.run(interval + Duration::from_micros(DELAY * 2));
        assert_eq!(lan.masters(0), [new]);
    });
}

// W4
#[test]
fn two_backups_never_both_take_over_where_the_delay_is_under_the_skew_difference() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 3..=8);
        let mut order = priorities.clone();
        order.sort_unstable_by(|a, b| b.cmp(a));
        let skew = |priority| skew_time(priority, interval, version);
        let gap = skew(order[2]) - skew(order[1]);
        // Half of it: the last advert of the old master arrives at its own time at each backup.
        let delay = u64::try_from(gap.as_micros()).unwrap().saturating_sub(1) / 2;
        let mut lan = lan(dice, version, interval, &priorities, 0..=delay.min(DELAY));
        lan.start_all();
        lan.run(interval * 10);
        lan.run(Duration::from_micros(dice.roll(1_000_000)));
        let before = count_masters(&lan);
        let old = best(&priorities);
        lan.disturb(&if dice.percent(50) {
            Trouble::Stop(old)
        } else {
            Trouble::PowerOff(old)
        });
        lan.run(interval * 10);
        assert_eq!(count_masters(&lan), before + 1);
    });
}

// W5: from a stop, and from a switchover, no moment without somebody who has the addresses.
#[test]
fn a_planned_handover_leaves_no_moment_in_which_nobody_has_the_addresses() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=8);
        let mut lan = elected(dice, version, interval, &priorities);
        let (old, new) = two_best(&priorities);
        lan.disturb(&match dice.roll(3) {
            0 => Trouble::Stop(old),
            1 => Trouble::Yield(old, 0),
            _ => Trouble::Maintenance(old, true),
        });
        let step = Duration::from_millis(1);
        let mut both = 0;
        for _ in 0..4_000 {
            lan.run(step);
            let holders = lan
                .hosts
                .iter()
                .filter(|host| host.seats[0].installed)
                .count();
            assert!(holders > 0, "somebody has the addresses");
            both += usize::from(holders > 1);
        }
        assert!((10..=40).contains(&both), "both had them for {both} ms");
        assert_eq!(lan.masters(0), [new]);
        assert!(!lan.hosts[old].seats[0].installed);
    });
}

// W5: a switchover that nobody answers.
#[test]
fn a_lone_master_that_is_told_to_hand_over_keeps_the_addresses_throughout() {
    each(|dice| {
        let links = 1 + dice.index(2);
        let (version, interval, _) = electorate(dice, 1..=1);
        let seats = (0..links).map(|link| Parameters {
            priority: dice.priority(),
            advert_interval: interval,
            ..parameters(link, version)
        });
        let seats = seats.collect();
        let mut lan = Lan::new(vec![seats], links > 1, 0..=0, dice.clone());
        lan.start_all();
        lan.run(interval * 10);
        let link = dice.index(links);
        lan.disturb(&Trouble::Yield(0, link));
        for _ in 0..200 {
            lan.run(interval / 50);
            assert!(lan.hosts[0].seats.iter().all(|seat| seat.installed));
        }
        for link in 0..links {
            assert_eq!(lan.masters(link), [0]);
        }
    });
}

// W6
#[test]
fn two_lost_adverts_in_a_row_change_nothing() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=8);
        // A travel time that differs from advert to advert must stay under the skew.
        let mut lan = lan(dice, version, interval, &priorities, 3_000..=3_000);
        lan.start_all();
        lan.run(interval * 10);
        let before = lan.changes();
        let lost = lan.sent + dice.roll(30);
        lan.lost = [lost, lost + 1].into();
        lan.run(interval * 40);
        assert!(lan.lost.iter().all(|number| *number < lan.sent));
        assert_eq!(lan.changes(), before);
    });
}

// W8
#[test]
fn without_preemption_a_returning_better_router_leaves_the_master_alone() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=8);
        let mut lan = without_preemption(dice, version, interval, &priorities);
        lan.disturb(&Trouble::Start(0));
        lan.run(interval * 5);
        assert_eq!(lan.masters(0), [0]);
        for _ in 0..dice.roll(20) {
            let host = 1 + dice.index(priorities.len() - 1);
            let kinds = [Trouble::Start, Trouble::Stop, Trouble::Crash];
            lan.disturb(&kinds[dice.index(3)](host));
            lan.run(Duration::from_millis(dice.roll(8_000)));
            assert_eq!(lan.masters(0), [0]);
        }
        assert_eq!(count_masters(&lan), 1);
    });
}

// W9
#[test]
fn a_master_that_slept_past_master_down_time_yields_to_the_one_that_took_over() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 2..=8);
        let mut lan = without_preemption(dice, version, interval, &priorities);
        lan.disturb(&Trouble::Start(0));
        lan.run(interval * 10);
        lan.start_all();
        lan.run(interval * 2);
        lan.disturb(&Trouble::Sleep(0, interval * 15));
        lan.run(interval * 15 - Duration::from_millis(1));
        let masters = lan.masters(0);
        assert_eq!(masters.len(), 2, "{masters:?}");
        let sent = lan.sent;
        lan.run(Duration::from_millis(1));
        assert_eq!(lan.state(0, 0), StateName::Backup);
        assert!(lan.sent <= sent + 1, "it says nothing");
        lan.run(Duration::from_millis(21) + Duration::from_micros(DELAY));
        assert!(!lan.hosts[0].seats[0].installed);
        lan.run(interval * 10);
        assert_eq!(lan.masters(0), masters[1..]);
    });
}

// W9
#[test]
fn a_lone_master_that_slept_keeps_its_addresses_and_is_master_again() {
    each(|dice| {
        let (version, interval, priorities) = electorate(dice, 1..=1);
        let mut lan = elected(dice, version, interval, &priorities);
        lan.disturb(&Trouble::Sleep(0, interval * 10));
        for _ in 0..200 {
            lan.run(interval / 10);
            assert!(lan.hosts[0].seats[0].installed);
        }
        assert_eq!(lan.masters(0), [0]);
    });
}

// W10: of two hosts each is better in one member, and both become ready in the same moment.
#[test]
fn sync_groups_of_opposite_priorities_do_not_chase_each_other() {
    each(|dice| {
        let count = 2 + dice.index(4);
        let links = 2 + dice.index(2);
        let (version, interval, _) = electorate(dice, 1..=1);
        let mirrored = dice.percent(50);
        let (high, low) = (dice.priority().min(254), dice.priority().min(254));
        let delay = dice.roll(DELAY + 1);
        let hosts = (0..count).map(|host| {
            let seat = |link| Parameters {
                priority: match (mirrored, host % links == link) {
                    (true, true) => high,
                    (true, false) => low,
                    (false, _) => dice.priority().min(254),
                },
                advert_interval: interval,
                ..parameters(link, version)
            };
            (0..links).map(seat).collect()
        });
        let hosts = hosts.collect();
        let mut lan = Lan::new(hosts, true, delay / 2..=delay, dice.clone());
        lan.start_all();
        lan.run(interval * 16);
        let before = lan.changes();
        lan.run(interval * 16);
        assert_eq!(lan.changes(), before, "no flapping");
        let masters = lan.masters(0);
        assert_eq!(masters.len(), 1);
        assert!((0..links).all(|link| lan.masters(link) == masters));
    });
}

// W10
#[test]
fn a_fault_of_one_member_moves_all_and_they_come_back_by_themselves() {
    each(|dice| {
        let (version, interval, _) = electorate(dice, 1..=1);
        let host = |priority| {
            let seat = |link| Parameters {
                priority,
                advert_interval: interval,
                ..parameters(link, version)
            };
            (0..3).map(seat).collect()
        };
        let hosts = vec![host(200), host(100)];
        let mut lan = Lan::new(hosts, true, 0..=DELAY, dice.clone());
        let holders = |lan: &Lan| [0, 1, 2].map(|link| lan.masters(link));
        lan.start_all();
        lan.run(interval * 10);
        assert_eq!(holders(&lan), [[0], [0], [0]]);
        let link = dice.index(3);
        lan.disturb(&Trouble::Down(0, link));
        assert_eq!(holders(&lan), [[0; 0]; 3]);
        assert!(lan.hosts[0].seats.iter().all(|seat| !seat.installed));
        lan.run(interval * 10);
        assert_eq!(holders(&lan), [[1], [1], [1]]);
        lan.disturb(&Trouble::Up(0, link));
        lan.run(interval * 10);
        assert_eq!(holders(&lan), [[0], [0], [0]]);
        assert_eq!(count_masters(&lan), 9);
    });
}

// W5, W7: whatever comes, in whatever order and however late, the addresses are held while master or
// lingering, no deadline is left behind, and nothing panics.
#[test]
fn any_event_in_any_state_keeps_the_addresses_and_the_deadlines_right() {
    each(|dice| {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
        let mut now = Instant::now();
        let version = dice.pick(&[Version::V2, Version::V3]);
        let mut router = VirtualRouter::new(random_parameters(dice, version));
        let mut installed = false;
        for _ in 0..400 {
            let due = router.poll_timeout();
            now = match dice.roll(4) {
                0 => now,
                1 => now + Duration::from_micros(dice.roll(6_000_000)),
                _ => due.map_or(now, |due| due.max(now)),
            };
            let event = if dice.percent(50) {
                Event::Timeout
            } else {
                random_event(dice, version)
            };
            let timeout = event == Event::Timeout;
            for action in router.handle(now, event) {
                match action {
                    Action::InstallAddresses => installed = true,
                    Action::RemoveAddresses => {
                        assert!(installed, "what is removed was there");
                        installed = false;
                    }
                    Action::Announce => assert!(installed, "what is announced is there"),
                    Action::StateChanged { from, to, .. } => assert_ne!(from, to),
                    Action::SendAdvertisement(_) | Action::ProbeAddresses | Action::Notice(_) => {}
                }
            }
            let state = router.state_name();
            let master = state == StateName::Master;
            assert_eq!(installed, master || router.is_lingering());
            let due = router.poll_timeout();
            assert!(due.is_some() || !(installed || state == StateName::Backup));
            assert!(!timeout || due.is_none_or(|due| due > now));
            assert!(router.suspect().is_none() || state == StateName::Backup);
        }
    });
}

fn random_parameters(dice: &mut Dice, version: Version) -> Parameters {
    let duration = |dice: &mut Dice| {
        let millis = Duration::from_millis(dice.roll(9_000));
        dice.pick(&[Duration::ZERO, millis, millis, millis, Duration::MAX])
    };
    Parameters {
        priority: dice.pick(&[0, 1, 50, 100, 200, 254, 255]),
        advert_interval: duration(dice),
        preempt: dice.percent(70),
        preempt_delay: duration(dice),
        start_delay: dice.pick(&[Duration::ZERO, Duration::ZERO, Duration::from_secs(1)]),
        down_adverts: dice.pick(&[0, 1, 3, 3, 3, 100, 255]),
        takeover_probe: dice.pick(&[TakeoverProbe::Off, TakeoverProbe::Warn, TakeoverProbe::Hold]),
        ..parameters(dice.index(2), version)
    }
}

fn random_event(dice: &mut Dice, version: Version) -> Event {
    let address = |dice: &mut Dice| IpAddr::from([192, 0, 2, dice.pick(&[1, 2, 3])]);
    let faults = [
        Fault::InterfaceDown,
        Fault::Maintenance,
        Fault::SyncGroup,
        Fault::Unreachable,
    ];
    match dice.roll(16) {
        0 | 1 => Event::Startup,
        2 => Event::Shutdown {
            make_before_break: dice.percent(50),
        },
        3 => Event::FaultRaised(dice.pick(&faults)),
        4..=6 => Event::FaultCleared(dice.pick(&faults)),
        7 => Event::Reconfigured(random_parameters(dice, version)),
        8 => Event::SourceChanged(address(dice)),
        9 => Event::PriorityOffset(dice.pick(&[0, -50, 50, i32::MIN, i32::MAX])),
        10 => Event::Yield,
        11 => Event::Answered { by: [2; 6] },
        12 => Event::ReferencesLost(dice.percent(30)),
        _ => Event::Advertisement {
            from: address(dice),
            advertisement: Advertisement {
                version,
                family: Family::V4,
                vrid: 51,
                priority: dice.pick(&[0, 1, 50, 100, 200, 255]),
                interval: Duration::from_millis(dice.pick(&[10, 1_000, 40_950])),
                addresses: [].into(),
            },
            path: match dice.roll(4) {
                0 => Path::Heartbeat { own: address(dice) },
                _ => Path::Link,
            },
        },
    }
}

/// Runs all cases, so that one run shows every seed that fails.
fn each(case: impl Fn(&mut Dice)) {
    let fails = |seed: &u64| {
        let case = || case(&mut Dice::new(*seed));
        catch_unwind(AssertUnwindSafe(case)).is_err()
    };
    let failed: Vec<u64> = (0..CASES).filter(fails).collect();
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}

/// Hosts that differ in nothing but their priorities, no two of which are the same.
fn electorate(dice: &mut Dice, count: RangeInclusive<u64>) -> (Version, Duration, Vec<u8>) {
    let version = dice.pick(&[Version::V2, Version::V3]);
    let interval = Duration::from_secs(dice.pick(&[1, 3]));
    let (least, most) = (*count.start(), *count.end());
    let count = usize::try_from(least + dice.roll(most - least + 1)).unwrap();
    // Not above 250: a skew of less than the travel times settles nothing.
    let mut all: Vec<u8> = (1..=125).map(|n| n * 2).collect();
    dice.shuffle(&mut all);
    all.truncate(count);
    (version, interval, all)
}

fn every(advert_interval: Duration, version: Version) -> Parameters {
    Parameters {
        advert_interval,
        ..parameters(0, version)
    }
}

fn lan(
    dice: &mut Dice,
    version: Version,
    interval: Duration,
    priorities: &[u8],
    delay: RangeInclusive<u64>,
) -> Lan {
    let host = |priority: &u8| {
        vec![Parameters {
            priority: *priority,
            ..every(interval, version)
        }]
    };
    let hosts = priorities.iter().map(host).collect();
    Lan::new(hosts, false, delay, Dice::new(dice.roll(u64::MAX)))
}

fn without_preemption(
    dice: &mut Dice,
    version: Version,
    interval: Duration,
    priorities: &[u8],
) -> Lan {
    let host = |priority: &u8| {
        vec![Parameters {
            priority: *priority,
            preempt: false,
            takeover_probe: TakeoverProbe::Off,
            ..every(interval, version)
        }]
    };
    let hosts = priorities.iter().map(host).collect();
    Lan::new(hosts, false, 0..=DELAY, Dice::new(dice.roll(u64::MAX)))
}

/// A LAN in which all hosts run and the best is master.
fn elected(dice: &mut Dice, version: Version, interval: Duration, priorities: &[u8]) -> Lan {
    let mut lan = lan(dice, version, interval, priorities, 0..=DELAY);
    lan.start_all();
    lan.run(interval * 10);
    assert_eq!(lan.masters(0), [best(priorities)]);
    lan
}

fn best(priorities: &[u8]) -> usize {
    let hosts = 0..priorities.len();
    hosts.max_by_key(|host| priorities[*host]).unwrap()
}

fn two_best(priorities: &[u8]) -> (usize, usize) {
    let first = best(priorities);
    let mut rest = priorities.to_vec();
    rest[first] = 0;
    (first, best(&rest))
}

/// How often any virtual router became master.
fn count_masters(lan: &Lan) -> usize {
    let seats = lan.hosts.iter().flat_map(|host| &host.seats);
    let changes = seats.flat_map(|seat| &seat.history);
    changes
        .filter(|(_, state)| *state == StateName::Master)
        .count()
}

/// The best host leaves; the second best is the only master once `wait` of its priority has passed,
/// and not before `wait` since the old one's last advert, which is at most an interval earlier.
fn check_failover(
    lan: &mut Lan,
    priorities: &[u8],
    leave: fn(usize) -> Trouble,
    wait: impl Fn(u8) -> Duration,
) {
    let (old, new) = two_best(priorities);
    let (left, wait) = (lan.now, wait(priorities[new]));
    lan.disturb(&leave(old));
    lan.run(wait + Duration::from_micros(DELAY));
    assert_eq!(lan.state(new, 0), StateName::Master);
    let (at, _) = *lan.hosts[new].seats[0].history.last().unwrap();
    assert!(at <= left + wait + Duration::from_micros(DELAY));
    assert!(at + lan.hosts[new].seats[0].parameters.advert_interval >= left + wait);
    lan.run(Duration::from_secs(20));
    assert_eq!(lan.masters(0), [new]);
}
