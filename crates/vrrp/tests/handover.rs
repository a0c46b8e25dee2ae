//! How a master leaves: the addresses stay until the successor is heard where it leaves on purpose, and
//! go at once where something is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/script.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod script;

use std::time::Duration;

use script::{GREATER, LOWER, MASTER_AT, STOP, Script, advert, v2, v3};
use vrrp::{Event, Fault, Parameters, StateName};

const S: u64 = 1_000_000;
/// How long the addresses stay once the successor is heard.
const SETTLE: u64 = 20_000;
/// Skew time and one interval: the longest that a successor may take.
const SUCCESSION: u64 = 1_609_375;
const GRACEFUL: Event = Event::Shutdown {
    make_before_break: true,
};
const DOWN: Fault = Fault::InterfaceDown;
const NO_SUCCESSOR: &str = "advert 100; backup -> master: nobody took over; install; announce";
const SLEPT: &str = "master -> backup: did not run for 10s; looks who is master";

#[test]
fn a_graceful_stop_keeps_the_addresses_until_the_successor_is_heard() {
    for successor in [1, 99, 100, 255] {
        let mut script = stopped();
        script.feed(MASTER_AT + S / 2, advert(GREATER, successor), "");
        script.due((MASTER_AT + S / 2 + SETTLE) * 1_000);
        script.feed(MASTER_AT + S / 2 + SETTLE - 1, Event::Timeout, "");
        script.feed(MASTER_AT + S / 2 + SETTLE, Event::Timeout, "remove");
        assert_eq!(script.router.poll_timeout(), None);
    }
}

#[test]
fn a_graceful_stop_without_a_successor_ends_after_skew_time_and_an_interval() {
    let mut script = stopped();
    script.feed(MASTER_AT + SUCCESSION - 1, Event::Timeout, "");
    script.feed(MASTER_AT + SUCCESSION, Event::Timeout, "remove");
    script.feed(MASTER_AT + SUCCESSION, Event::Timeout, "");
}

#[test]
fn further_adverts_of_the_successor_do_not_prolong_the_lingering() {
    let mut script = stopped();
    for step in 0..5 {
        script.feed(MASTER_AT + step * 5_000, advert(GREATER, 90), "");
        script.due((MASTER_AT + SETTLE) * 1_000);
    }
}

#[test]
fn priority_zero_of_another_does_not_end_the_lingering() {
    let mut script = stopped();
    script.feed(MASTER_AT + 1, advert(GREATER, 0), "");
    script.due((MASTER_AT + SUCCESSION) * 1_000);
}

#[test]
fn a_lingering_router_that_is_told_to_stop_at_once_lets_go_at_once() {
    let mut script = stopped();
    script.feed(MASTER_AT + 1, GRACEFUL, "");
    script.feed(MASTER_AT + 2, STOP, "remove");
    script.feed(MASTER_AT + 3, STOP, "");
}

#[test]
fn a_fault_ends_the_lingering_and_so_does_another_list_of_addresses() {
    for (event, wanted) in [
        (Event::FaultRaised(DOWN), "remove"),
        (Event::FaultRaised(Fault::Maintenance), ""),
        (Event::Reconfigured(other_addresses()), "remove"),
        (Event::Reconfigured(v3(7)), ""),
    ] {
        let mut script = stopped();
        script.feed(MASTER_AT + 1, event.clone(), wanted);
        assert_eq!(script.router.is_lingering(), wanted.is_empty());
        let mut script = yielded();
        let actions = script
            .router
            .handle(script.at(MASTER_AT + 1), event.clone());
        assert_eq!(
            actions.contains(&vrrp::Action::RemoveAddresses),
            wanted == "remove",
            "{event:?}: {actions:?}"
        );
        assert_eq!(script.router.is_lingering(), wanted.is_empty());
    }
}

#[test]
fn what_else_happens_to_a_lingering_stopped_router_does_nothing() {
    let mut script = stopped();
    let at = MASTER_AT + 1;
    for event in [
        Event::Timeout,
        Event::SourceChanged(LOWER),
        Event::PriorityOffset(20),
        Event::Yield,
        Event::Answered { by: [2; 6] },
        Event::ReferencesLost(true),
        Event::ReferencesLost(false),
        Event::FaultCleared(DOWN),
    ] {
        script.feed(at, event, "");
        script.due((MASTER_AT + SUCCESSION) * 1_000);
    }
}

#[test]
fn a_lingering_router_that_starts_again_listens_and_still_lets_go() {
    let mut script = stopped();
    script.feed(MASTER_AT, Event::Startup, "initialize -> backup: started");
    script.due((MASTER_AT + SUCCESSION) * 1_000);
    script.feed(MASTER_AT + SUCCESSION, Event::Timeout, "remove");
    script.due((MASTER_AT + 3_609_375) * 1_000);
}

#[test]
fn a_lingering_owner_that_starts_again_is_master_and_does_not_linger() {
    let mut script = Script::new(v3(255));
    let wanted = "advert 255; initialize -> master: started; install; announce";
    script.feed(0, Event::Startup, wanted);
    script.feed(S, GRACEFUL, "advert 0; master -> initialize: stopped");
    script.feed(S + 1, Event::Startup, wanted);
    assert!(!script.router.is_lingering());
}

#[test]
fn a_backup_stops_silently_whichever_way() {
    let mut script = Script::backup(v3(100));
    script.feed(S, GRACEFUL, "backup -> initialize: stopped");
    assert_eq!(script.router.poll_timeout(), None);
}

// A fault

#[test]
fn a_master_with_a_fault_holds_nothing_any_more() {
    for fault in [
        Fault::InterfaceMissing,
        DOWN,
        Fault::NoAddress,
        Fault::NoSocket,
        Fault::Tracked("eth1 is down".to_owned()),
        Fault::Unreachable,
        Fault::SyncGroup,
    ] {
        let mut script = Script::master(v3(100));
        let wanted = format!("advert 0; master -> fault: {fault}; remove");
        script.feed(MASTER_AT, Event::FaultRaised(fault), &wanted);
        assert_eq!(script.router.poll_timeout(), None);
    }
}

#[test]
fn a_master_in_maintenance_lets_the_successor_come_first() {
    let mut script = Script::master(v3(100));
    let maintenance = Event::FaultRaised(Fault::Maintenance);
    script.feed(
        MASTER_AT,
        maintenance,
        "advert 0; master -> fault: maintenance",
    );
    script.due((MASTER_AT + SUCCESSION) * 1_000);
    script.feed(MASTER_AT + S, advert(GREATER, 50), "");
    script.feed(MASTER_AT + S + SETTLE, Event::Timeout, "remove");
    let off = Event::FaultCleared(Fault::Maintenance);
    let wanted = "fault -> backup: everything is well again";
    script.feed(MASTER_AT + 9 * S, off, wanted);
    script.due((MASTER_AT + 12 * S + 609_375) * 1_000);
}

#[test]
fn a_fault_while_maintenance_lingers_ends_the_lingering() {
    let mut script = Script::master(v3(100));
    let maintenance = Event::FaultRaised(Fault::Maintenance);
    script.feed(
        MASTER_AT,
        maintenance,
        "advert 0; master -> fault: maintenance",
    );
    script.feed(MASTER_AT + 1, Event::FaultRaised(DOWN), "remove");
    script.state(StateName::Fault);
}

#[test]
fn maintenance_that_ends_while_it_lingers_is_a_startup_and_the_addresses_go_in_time() {
    let mut script = Script::master(v3(100));
    let maintenance = Event::FaultRaised(Fault::Maintenance);
    script.feed(
        MASTER_AT,
        maintenance,
        "advert 0; master -> fault: maintenance",
    );
    let off = Event::FaultCleared(Fault::Maintenance);
    let wanted = "fault -> backup: everything is well again";
    script.feed(MASTER_AT + S, off, wanted);
    script.feed(MASTER_AT + SUCCESSION, Event::Timeout, "remove");
}

// Losing the election

#[test]
fn a_loser_that_becomes_master_again_while_it_lingers_never_lets_go() {
    let fast = Parameters {
        advert_interval: Duration::from_millis(10),
        ..v3(254)
    };
    let mut script = Script::master(fast);
    let wanted = "master -> backup: 192.0.2.16 has the higher priority 255";
    let higher = script::advert_every(Duration::from_millis(10), GREATER, 255);
    script.feed(MASTER_AT, higher, wanted);
    script.feed(MASTER_AT + 1_000, advert(GREATER, 0), "");
    let wanted = "advert 254; backup -> master: the master 192.0.2.16 gave up; install; announce";
    script.feed(MASTER_AT + 1_079, Event::Timeout, wanted);
    assert!(!script.router.is_lingering());
    script.feed(MASTER_AT + SETTLE, Event::Timeout, "advert 254");
}

#[test]
fn a_loser_that_lingers_and_has_a_fault_lets_go_at_once() {
    let mut script = Script::master(v3(100));
    let wanted = "master -> backup: 192.0.2.4 has the higher priority 101";
    script.feed(MASTER_AT, advert(LOWER, 101), wanted);
    let wanted = "backup -> fault: the interface is down; remove";
    script.feed(MASTER_AT + 1, Event::FaultRaised(DOWN), wanted);
}

// Handing over by order

#[test]
fn a_router_that_hands_over_gives_up_and_keeps_the_addresses_until_the_successor_is_heard() {
    let mut script = yielded();
    assert!(script.router.has_yielded());
    script.feed(MASTER_AT + S / 2, advert(LOWER, 1), "");
    script.feed(MASTER_AT + S / 2 + SETTLE, Event::Timeout, "remove");
    assert_eq!(script.router.master(), Some((LOWER, 1)));
    script.due((MASTER_AT + S / 2 + 3_609_375) * 1_000);
}

#[test]
fn a_router_that_handed_over_does_not_take_back_from_a_living_master() {
    for parameters in [v3(100), v2(100), v3(255)] {
        let mut script = Script::new(parameters);
        script.router.handle(script.at(0), Event::Startup);
        if script.router.state_name() == StateName::Backup {
            script.router.handle(script.at(4 * S), Event::Timeout);
        }
        script.state(StateName::Master);
        script.router.handle(script.at(4 * S), Event::Yield);
        script.state(StateName::Backup);
        for second in 1..60 {
            let at = script.at((4 + second) * S);
            script.router.handle(at, advert(LOWER, 1));
            script.router.handle(at, Event::Timeout);
            script.state(StateName::Backup);
        }
    }
}

#[test]
fn a_router_that_handed_over_takes_over_when_the_master_dies_and_preempts_again_from_then_on() {
    let mut script = yielded();
    script.feed(MASTER_AT + S, advert(LOWER, 1), "");
    script.feed(MASTER_AT + S + SETTLE, Event::Timeout, "remove");
    let wanted = "advert 100; backup -> master: the master 192.0.2.4 (priority 1) fell silent; \
                  install; announce";
    script.feed(MASTER_AT + S + 3_609_375, Event::Timeout, wanted);
    assert!(!script.router.has_yielded());
}

#[test]
fn a_router_that_handed_over_takes_over_when_the_master_gives_up() {
    let mut script = yielded();
    script.feed(MASTER_AT + S, advert(LOWER, 1), "");
    script.feed(MASTER_AT + S + SETTLE, Event::Timeout, "remove");
    script.feed(MASTER_AT + 2 * S, advert(LOWER, 0), "");
    let wanted = "advert 100; backup -> master: the master 192.0.2.4 gave up; install; announce";
    script.feed(MASTER_AT + 2_609_375, Event::Timeout, wanted);
}

#[test]
fn a_switchover_that_nobody_answers_takes_the_addresses_back_without_having_lost_them() {
    let mut script = yielded();
    script.due((MASTER_AT + SUCCESSION) * 1_000);
    script.feed(MASTER_AT + SUCCESSION, Event::Timeout, NO_SUCCESSOR);
    assert!(!script.router.is_lingering());
    assert!(!script.router.has_yielded());
    // Late, too.
    let mut script = yielded();
    script.feed(MASTER_AT + 60 * S, Event::Timeout, NO_SUCCESSOR);
}

#[test]
fn a_switchover_that_is_reconfigured_still_takes_the_addresses_back_in_time() {
    for event in [Event::Reconfigured(v3(90)), Event::PriorityOffset(-10)] {
        let mut script = yielded();
        script.feed(MASTER_AT + S, event, "");
        // Skew time and one interval of the new priority.
        script.due((MASTER_AT + 1_648_437) * 1_000 + 500);
        let wanted = "advert 90; backup -> master: nobody took over; install; announce";
        script.feed(MASTER_AT + 1_648_438, Event::Timeout, wanted);
    }
}

#[test]
fn a_router_that_is_no_master_has_nothing_to_hand_over() {
    let mut script = Script::new(v3(100));
    script.feed(0, Event::Yield, "");
    let mut script = Script::backup(v3(100));
    script.feed(S, Event::Yield, "");
    assert!(!script.router.has_yielded());
    script.due(3_609_375_000);
    script.feed(
        S,
        Event::FaultRaised(DOWN),
        "backup -> fault: the interface is down",
    );
    script.feed(S, Event::Yield, "");
    assert!(!script.router.has_yielded());
}

#[test]
fn a_stop_ends_what_a_switchover_began() {
    let mut script = yielded();
    script.feed(MASTER_AT + 1, GRACEFUL, "backup -> initialize: stopped");
    assert!(!script.router.has_yielded());
    script.feed(MASTER_AT + SUCCESSION + SETTLE, Event::Timeout, "remove");
}

#[test]
fn a_yielded_router_keeps_out_of_the_way_after_a_fault() {
    let mut script = yielded();
    script.feed(MASTER_AT, advert(LOWER, 1), "");
    let wanted = "backup -> fault: the interface is down; remove";
    script.feed(MASTER_AT + 1, Event::FaultRaised(DOWN), wanted);
    let wanted = "fault -> backup: everything is well again";
    script.feed(MASTER_AT + 2, Event::FaultCleared(DOWN), wanted);
    assert!(script.router.has_yielded());
    script.feed(MASTER_AT + S, advert(LOWER, 1), "");
    script.due((MASTER_AT + S + 3_609_375) * 1_000);
}

// Sleep

#[test]
fn a_master_that_overslept_says_nothing_and_keeps_the_addresses_until_another_is_heard() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + 11 * S, advert(LOWER, 50), SLEPT);
    assert_eq!(script.router.master(), Some((LOWER, 50)));
    script.feed(MASTER_AT + 11 * S + SETTLE, Event::Timeout, "remove");
    // RFC 5798 §6.4.2: the lower one does not move the deadline.
    let wanted = "advert 100; backup -> master: takes over from 192.0.2.4, whose priority 50 is \
                  lower; install; announce";
    script.feed(MASTER_AT + 11 * S + SUCCESSION, Event::Timeout, wanted);
}

#[test]
fn a_master_that_overslept_alone_is_master_again_without_having_lost_the_addresses() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + 11 * S, Event::Timeout, SLEPT);
    script.due((MASTER_AT + 11 * S + SUCCESSION) * 1_000);
    let wanted = "advert 100; backup -> master: no master was heard; install; announce";
    script.feed(MASTER_AT + 11 * S + SUCCESSION, Event::Timeout, wanted);
}

#[test]
fn a_master_that_overslept_and_hears_a_better_one_follows_it() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + 11 * S, advert(LOWER, 150), SLEPT);
    script.feed(MASTER_AT + 11 * S + SETTLE, Event::Timeout, "remove");
    script.due((MASTER_AT + 14 * S + 609_375) * 1_000);
}

#[test]
fn a_master_is_late_until_its_peers_may_have_called_it_dead() {
    for (down_adverts, millis) in [(1, 2_000), (2, 2_000), (3, 3_000), (10, 10_000)] {
        let parameters = || Parameters {
            down_adverts,
            ..v3(100)
        };
        for (late, state) in [(millis - 1, StateName::Master), (millis, StateName::Backup)] {
            let mut script = Script::backup(parameters());
            script.router.handle(script.at(60 * S), Event::Timeout);
            script
                .router
                .handle(script.at(60 * S + late * 1_000), Event::Timeout);
            script.state(state);
        }
    }
}

fn stopped() -> Script {
    let mut script = Script::master(v3(100));
    script.feed(
        MASTER_AT,
        GRACEFUL,
        "advert 0; master -> initialize: stopped",
    );
    assert!(script.router.is_lingering());
    script.due((MASTER_AT + SUCCESSION) * 1_000);
    script
}

fn yielded() -> Script {
    let mut script = Script::master(v3(100));
    script.feed(
        MASTER_AT,
        Event::Yield,
        "advert 0; master -> backup: hands over",
    );
    assert!(script.router.is_lingering());
    script
}

fn other_addresses() -> Parameters {
    Parameters {
        addresses: [[203, 0, 113, 9].into()].into(),
        ..v3(100)
    }
}
