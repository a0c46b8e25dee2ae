//! What a backup asks before it takes over, and what keeps it from it: the probe of the addresses,
//! reference addresses, weights, the start delay, missed adverts, and adverts on further paths.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/script.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod script;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use script::{GREATER, LOWER, MASTER_AT, STOP, Script, advert, by_heartbeat, v2, v3};
use vrrp::{Action, Event, Fault, Notice, Parameters, StateName, TakeoverProbe};

const S: u64 = 1_000_000;
/// 3 intervals and the skew time of priority 100.
const DOWN_TIME: u64 = 3_609_375;
/// The first and the second question before the deadline.
const FIRST: u64 = DOWN_TIME - S;
const SECOND: u64 = DOWN_TIME - S / 2;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ANSWER: Event = Event::Answered { by: MAC };
const SUSPECT: &str =
    "(no master is heard, but 02:00:00:00:00:09 answers for the addresses; waiting)";
const ANSWERED: &str = "(takes over although 02:00:00:00:00:09 answers for the addresses)";
const SILENT: &str = "advert 100; backup -> master: no master was heard; install; announce";
const UNREACHABLE: &str = "backup -> fault: no reference address answers and no peer is heard";

// The probe

#[test]
fn the_addresses_are_asked_after_twice_before_the_deadline_and_nothing_is_lost_by_it() {
    for mode in [TakeoverProbe::Warn, TakeoverProbe::Hold] {
        let mut script = Script::backup(probing(mode));
        script.due(FIRST * 1_000);
        script.feed(FIRST - 1, Event::Timeout, "");
        script.feed(FIRST, Event::Timeout, "probe");
        script.due(SECOND * 1_000);
        script.feed(SECOND, Event::Timeout, "probe");
        script.due(DOWN_TIME * 1_000);
        script.feed(DOWN_TIME, Event::Timeout, SILENT);
    }
}

#[test]
fn without_a_probe_nobody_is_asked() {
    let mut script = Script::backup(v3(100));
    script.due(DOWN_TIME * 1_000);
    script.feed(S, ANSWER, "");
    script.feed(DOWN_TIME, Event::Timeout, SILENT);
}

#[test]
fn a_question_that_came_too_late_is_not_asked() {
    let mut script = Script::backup(probing(TakeoverProbe::Hold));
    script.feed(DOWN_TIME, Event::Timeout, SILENT);
}

#[test]
fn an_answer_is_only_told_where_the_probe_warns() {
    let mut script = asked(TakeoverProbe::Warn);
    script.feed(FIRST, ANSWER, "");
    script.feed(DOWN_TIME, Event::Timeout, &format!("{ANSWERED}; {SILENT}"));
}

#[test]
fn who_is_answered_stays_backup_for_two_more_master_down_times_and_no_longer() {
    let mut script = asked(TakeoverProbe::Hold);
    script.feed(FIRST, ANSWER, "");
    assert_eq!(script.router.suspect(), None);
    script.feed(DOWN_TIME, Event::Timeout, SUSPECT);
    assert_eq!(script.router.suspect(), Some(MAC));
    script.state(StateName::Backup);
    for round in 1..=2 {
        let start = round * DOWN_TIME;
        script.due((start + FIRST) * 1_000);
        script.feed(start + FIRST, Event::Timeout, "probe");
        script.feed(start + FIRST, ANSWER, "");
        script.feed(start + SECOND, Event::Timeout, "");
        let wanted = format!("{ANSWERED}; {SILENT}");
        let wanted = if round == 2 { wanted.as_str() } else { "" };
        script.feed(start + DOWN_TIME, Event::Timeout, wanted);
    }
    assert_eq!(script.router.suspect(), None);
    script.state(StateName::Master);
}

#[test]
fn a_suspect_that_no_longer_answers_is_replaced_at_the_next_deadline() {
    let mut script = suspicious();
    script.feed(DOWN_TIME + FIRST, Event::Timeout, "probe");
    script.feed(2 * DOWN_TIME, Event::Timeout, SILENT);
}

#[test]
fn a_master_that_is_heard_again_ends_the_suspicion() {
    for priority in [50, 150] {
        let mut script = suspicious();
        script.feed(DOWN_TIME + S, advert(GREATER, priority), "");
        assert_eq!(script.router.suspect(), None);
        assert_eq!(script.router.master(), Some((GREATER, priority)));
    }
}

#[test]
fn after_a_suspicion_that_ended_the_next_one_waits_as_long_again() {
    let mut script = suspicious();
    let heard = DOWN_TIME + S;
    script.feed(heard, advert(GREATER, 150), "");
    script.feed(heard + FIRST, Event::Timeout, "probe");
    script.feed(heard + FIRST, ANSWER, "");
    script.feed(heard + DOWN_TIME, Event::Timeout, SUSPECT);
}

#[test]
fn a_master_that_gives_up_is_not_suspected() {
    let mut script = suspicious();
    script.feed(DOWN_TIME + S, advert(GREATER, 0), "");
    assert_eq!(script.router.suspect(), None);
    script.due((DOWN_TIME + S + 609_375) * 1_000);
    let wanted = "advert 100; backup -> master: the master 192.0.2.16 gave up; install; announce";
    script.feed(DOWN_TIME + S + 609_375, Event::Timeout, wanted);
}

#[test]
fn an_answer_counts_only_for_the_silence_that_was_asked_about() {
    let mut script = asked(TakeoverProbe::Hold);
    script.feed(FIRST, ANSWER, "");
    script.feed(FIRST + 1, advert(GREATER, 150), "");
    script.feed(FIRST + 1, ANSWER, "");
    script.due((FIRST + 1 + FIRST) * 1_000);
    script.feed(FIRST + 1 + FIRST, Event::Timeout, "probe");
    let wanted = "advert 100; backup -> master: the master 192.0.2.16 (priority 150) fell silent; \
                  install; announce";
    script.feed(FIRST + 1 + DOWN_TIME, Event::Timeout, wanted);
}

#[test]
fn an_answer_outside_of_backup_is_nothing() {
    let mut script = Script::new(probing(TakeoverProbe::Hold));
    script.feed(0, ANSWER, "");
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT, ANSWER, "");
    script.feed(
        MASTER_AT,
        STOP,
        "advert 0; master -> initialize: stopped; remove",
    );
    script.feed(MASTER_AT, ANSWER, "");
    assert_eq!(script.router.suspect(), None);
}

#[test]
fn who_preempts_a_living_master_asks_nobody() {
    let mut script = Script::backup(probing(TakeoverProbe::Hold));
    script.feed(S, advert(GREATER, 50), "");
    script.due(DOWN_TIME * 1_000);
}

#[test]
fn a_fault_a_stop_and_a_reload_leave_no_suspicion_behind() {
    let mut script = suspicious();
    let wanted = "backup -> fault: the interface is down";
    script.feed(DOWN_TIME, Event::FaultRaised(Fault::InterfaceDown), wanted);
    assert_eq!(script.router.suspect(), None);
    let mut script = suspicious();
    script.feed(DOWN_TIME, STOP, "backup -> initialize: stopped");
    assert_eq!(script.router.suspect(), None);
    let mut script = suspicious();
    script.feed(DOWN_TIME + S, Event::Reconfigured(v3(100)), "");
    script.due(2 * DOWN_TIME * 1_000);
    script.feed(2 * DOWN_TIME, Event::Timeout, SILENT);
}

// Reference addresses

#[test]
fn who_reaches_no_reference_address_does_not_take_over_from_a_silent_master() {
    let mut script = Script::backup(v3(100));
    script.feed(S, Event::ReferencesLost(true), "");
    script.state(StateName::Backup);
    script.feed(DOWN_TIME, Event::Timeout, UNREACHABLE);
    let wanted = "fault -> backup: everything is well again";
    script.feed(9 * S, Event::ReferencesLost(false), wanted);
    script.due((9 * S + DOWN_TIME) * 1_000);
}

#[test]
fn who_reaches_no_reference_address_is_no_fault_while_a_master_is_heard() {
    let mut script = Script::backup(v3(100));
    script.feed(0, Event::ReferencesLost(true), "");
    script.feed(DOWN_TIME, Event::Timeout, UNREACHABLE);
    let wanted = "fault -> backup: everything is well again";
    script.feed(5 * S, advert(LOWER, 50), wanted);
    assert_eq!(script.router.master(), Some((LOWER, 50)));
    // It leaves even a lower one alone.
    for step in 5..60 {
        script.feed(step * S, advert(LOWER, 50), "");
        script.feed(step * S + S / 2, Event::Timeout, "");
        script.feed(step * S + S * 6 / 10 + 9_375, Event::Timeout, "");
        script.state(StateName::Backup);
    }
}

#[test]
fn a_priority_zero_is_no_peer() {
    let mut script = Script::backup(v3(100));
    script.feed(0, Event::ReferencesLost(true), "");
    script.feed(S, advert(GREATER, 0), "");
    script.feed(S + 609_375, Event::Timeout, UNREACHABLE);
    script.feed(2 * S, advert(GREATER, 0), "");
    script.state(StateName::Fault);
}

#[test]
fn a_lone_master_that_reaches_no_reference_address_gives_up_at_once() {
    let mut script = Script::master(v3(100));
    let wanted = "advert 0; master -> fault: no reference address answers and no peer is heard; \
                  remove";
    script.feed(MASTER_AT + 1, Event::ReferencesLost(true), wanted);
    script.feed(MASTER_AT + 2, Event::ReferencesLost(true), "");
    let wanted = "fault -> backup: everything is well again";
    script.feed(MASTER_AT + 3, Event::ReferencesLost(false), wanted);
}

#[test]
fn a_master_that_hears_a_peer_stays_until_that_one_is_silent() {
    let mut script = Script::master(v2(100));
    let wanted = "(192.0.2.16 (priority 99) is master, too)";
    script.feed(MASTER_AT, advert(GREATER, 99), wanted);
    script.feed(MASTER_AT, Event::ReferencesLost(true), "");
    script.feed(MASTER_AT + S, Event::Timeout, "advert 100");
    let gone = "advert 100; (the other master 192.0.2.16 is gone; announcing the addresses again); \
                announce";
    script.feed(MASTER_AT + 2 * S, Event::Timeout, gone);
    script.feed(MASTER_AT + 3 * S, Event::Timeout, "advert 100");
    let wanted = "advert 0; master -> fault: no reference address answers and no peer is heard; \
                  remove";
    script.feed(MASTER_AT + 4 * S, Event::Timeout, wanted);
}

#[test]
fn an_owner_that_reaches_no_reference_address_is_not_master_at_startup() {
    let mut script = Script::new(v3(255));
    script.feed(0, Event::ReferencesLost(true), "");
    script.feed(0, Event::Startup, "initialize -> backup: started");
    script.feed(4 * S, Event::Timeout, UNREACHABLE);
    let wanted = "advert 255; fault -> master: everything is well again; install; announce";
    script.feed(5 * S, Event::ReferencesLost(false), wanted);
}

#[test]
fn reference_addresses_that_answer_again_do_not_hide_another_fault() {
    let mut script = Script::backup(v3(100));
    script.feed(0, Event::ReferencesLost(true), "");
    script.feed(DOWN_TIME, Event::Timeout, UNREACHABLE);
    script.feed(4 * S, Event::FaultRaised(Fault::InterfaceDown), "");
    script.feed(5 * S, Event::ReferencesLost(false), "");
    script.state(StateName::Fault);
}

// Weights

#[test]
fn weights_change_the_priority_within_1_and_254_and_never_that_of_the_owner() {
    for (configured, offset, effective) in [
        (100, 20, 120),
        (100, -40, 60),
        (100, -100, 1),
        (100, i32::MIN, 1),
        (100, i32::MAX, 254),
        (254, 1, 254),
        (255, -200, 255),
    ] {
        let mut script = Script::new(v3(configured));
        script.feed(0, Event::PriorityOffset(offset), "");
        assert_eq!(script.router.effective_priority(), effective);
    }
}

#[test]
fn a_master_whose_weight_changes_says_so_at_once() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + S / 2, Event::PriorityOffset(-30), "advert 70");
    script.due((MASTER_AT + S / 2 + S) * 1_000);
    script.feed(MASTER_AT + S / 2, Event::PriorityOffset(-30), "");
    script.feed(MASTER_AT + S, Event::Reconfigured(v3(110)), "advert 80");
}

#[test]
fn a_backup_whose_weight_changes_counts_its_deadline_anew_from_when_it_was_armed() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 200), "");
    script.feed(2 * S, Event::PriorityOffset(50), "");
    script.due(4_414_062_500);
}

#[test]
fn a_backup_whose_weight_makes_it_worse_than_the_master_does_not_take_over_from_it() {
    let mut script = Script::backup(v3(100));
    for second in [1, 2, 3] {
        script.feed(second * S, advert(GREATER, 90), "");
    }
    // Without a fall of its priority it would take over at 3.61 s.
    script.feed(3 * S + 1, Event::PriorityOffset(-20), "");
    script.feed(DOWN_TIME + S / 20, Event::Timeout, "");
    script.feed(4 * S, advert(GREATER, 90), "");
    script.due((4 * S + 3_687_500) * 1_000);
}

#[test]
fn a_backup_whose_weight_makes_it_better_than_the_master_preempts() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 110), "");
    script.feed(S, Event::PriorityOffset(20), "");
    script.feed(2 * S, advert(GREATER, 110), "");
    let wanted = "advert 120; backup -> master: takes over from 192.0.2.16, whose priority 110 is \
                  lower; install; announce";
    script.feed(S + 3_531_250, Event::Timeout, wanted);
}

#[test]
fn a_weight_that_leaves_a_backup_the_better_one_leaves_its_preempt_delay_alone() {
    let delayed = Parameters {
        preempt_delay: Duration::from_secs(5),
        ..v3(100)
    };
    let mut script = Script::backup(delayed);
    for second in 1..6 {
        script.feed(second * S, advert(GREATER, 50), "");
        let offset = i32::try_from(second).unwrap();
        script.feed(second * S, Event::PriorityOffset(offset), "");
    }
    script.due(6_000_000_000);
}

// The start delay

#[test]
fn the_start_delay_hears_and_says_nothing_until_it_is_over() {
    for (priority, wanted) in [
        (100, "initialize -> backup: started"),
        (
            255,
            "advert 255; initialize -> master: started; install; announce",
        ),
    ] {
        let mut script = Script::new(starting_late(priority));
        script.feed(0, Event::Startup, "");
        script.due(5_000_000_000);
        script.feed(S, advert(GREATER, 150), "");
        script.feed(2 * S, advert(GREATER, 0), "");
        script.feed(3 * S, Event::Timeout, "");
        script.feed(4 * S, Event::Yield, "");
        script.feed(5 * S, Event::Timeout, wanted);
    }
}

#[test]
fn a_stop_ends_the_start_delay() {
    let mut script = Script::new(starting_late(100));
    script.feed(0, Event::Startup, "");
    script.feed(S, STOP, "");
    assert_eq!(script.router.poll_timeout(), None);
    script.feed(5 * S, Event::Timeout, "");
    script.state(StateName::Initialize);
}

#[test]
fn a_fault_does_not_shorten_the_start_delay() {
    let mut script = Script::new(starting_late(100));
    script.feed(0, Event::Startup, "");
    let wanted = "initialize -> fault: the interface is down";
    script.feed(S, Event::FaultRaised(Fault::InterfaceDown), wanted);
    let wanted = "fault -> initialize: everything is well again";
    script.feed(2 * S, Event::FaultCleared(Fault::InterfaceDown), wanted);
    script.due(5_000_000_000);
    script.feed(5 * S, Event::Timeout, "initialize -> backup: started");
}

#[test]
fn a_start_delay_that_ends_in_a_fault_does_not_count_again() {
    let mut script = Script::new(starting_late(100));
    script.feed(0, Event::FaultRaised(Fault::InterfaceDown), "");
    script.feed(
        0,
        Event::Startup,
        "initialize -> fault: the interface is down",
    );
    script.feed(5 * S, Event::Timeout, "");
    assert_eq!(script.router.poll_timeout(), None);
    let wanted = "fault -> backup: everything is well again";
    script.feed(6 * S, Event::FaultCleared(Fault::InterfaceDown), wanted);
}

#[test]
fn a_start_delay_beyond_all_clocks_is_a_long_one() {
    let forever = Parameters {
        start_delay: Duration::MAX,
        ..v3(100)
    };
    let mut script = Script::new(forever);
    script.feed(0, Event::Startup, "");
    script.due(24 * 60 * 60 * 1_000_000_000);
}

// Missed adverts

#[test]
fn the_master_is_dead_after_as_many_missed_adverts_as_configured() {
    for (down_adverts, nanos) in [(1, 1_609_375_000), (2, 2_609_375_000), (10, 10_609_375_000)] {
        let parameters = Parameters {
            down_adverts,
            ..v3(100)
        };
        let mut script = Script::backup(v3(100));
        script.feed(0, Event::Reconfigured(parameters.clone()), "");
        script.due(nanos);
        let mut script = Script::backup(parameters);
        script.due(nanos);
        script.feed(S, advert(GREATER, 150), "");
        script.due(nanos + 1_000_000_000);
    }
}

// Further paths

/// The own address on the further path, and the peer's: the other way round than on the link.
const OWN_THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 9));
const PEER_THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));

#[test]
fn only_silence_on_every_path_is_death() {
    let mut script = Script::backup(v3(100));
    for second in 1..60 {
        script.feed(
            second * S,
            by_heartbeat(advert(PEER_THERE, 150), OWN_THERE),
            "",
        );
        script.due((second * S + DOWN_TIME) * 1_000);
    }
}

#[test]
fn a_master_that_speaks_on_several_paths_is_known_by_its_address_on_the_link() {
    let mut script = Script::backup(v3(100));
    let further = |priority| by_heartbeat(advert(PEER_THERE, priority), OWN_THERE);
    script.feed(S, further(150), "");
    assert_eq!(script.router.master(), Some((PEER_THERE, 150)));
    script.feed(2 * S, advert(GREATER, 150), "");
    script.feed(2 * S, further(150), "");
    assert_eq!(script.router.master(), Some((GREATER, 150)));
    // Another priority is another master's.
    script.feed(2 * S, further(160), "");
    assert_eq!(script.router.master(), Some((PEER_THERE, 160)));
    // And on the link it may have fallen silent.
    for second in 3..7 {
        script.feed(second * S, further(150), "");
    }
    assert_eq!(script.router.master(), Some((PEER_THERE, 150)));
}

#[test]
fn a_master_gives_way_to_a_higher_priority_on_a_further_path() {
    let mut script = Script::master(v3(100));
    let wanted = "master -> backup: 10.9.0.2 has the higher priority 101";
    let event = by_heartbeat(advert(PEER_THERE, 101), OWN_THERE);
    script.feed(MASTER_AT, event, wanted);
}

#[test]
fn a_loser_on_a_further_path_is_a_rival_and_is_not_answered_there() {
    let mut script = Script::master(v3(100));
    let event = by_heartbeat(advert(PEER_THERE, 99), OWN_THERE);
    let wanted = "(10.9.0.2 (priority 99) is master, too)";
    script.feed(MASTER_AT, event.clone(), wanted);
    // The same one on the link, under its other name.
    script.feed(MASTER_AT, advert(GREATER, 99), "advert 100");
    script.feed(MASTER_AT, event, "");
    assert_eq!(script.router.rival(), Some((GREATER, 99)));
}

#[test]
fn between_equal_priorities_the_addresses_of_the_link_decide_where_it_is_heard() {
    // On the link the peer is lower; on the further path it is greater.
    let mut script = Script::master(v3(100));
    let (own, peer) = (PEER_THERE, OWN_THERE);
    script
        .router
        .handle(script.at(MASTER_AT), advert(LOWER, 100));
    for second in 0..3 {
        let at = MASTER_AT + second * S;
        let event = by_heartbeat(advert(peer, 100), own);
        script.router.handle(script.at(at), event);
        script.router.handle(script.at(at), advert(LOWER, 100));
        script.router.handle(script.at(at), Event::Timeout);
        script.state(StateName::Master);
    }
}

#[test]
fn between_equal_priorities_the_further_path_decides_once_the_link_was_silent_for_a_while() {
    for (own, peer, state) in [
        (PEER_THERE, OWN_THERE, StateName::Backup),
        (OWN_THERE, PEER_THERE, StateName::Master),
    ] {
        let mut script = Script::master(v3(100));
        let event = || by_heartbeat(advert(peer, 100), own);
        let actions = script.router.handle(script.at(MASTER_AT), event());
        let rival = Notice::Rival {
            from: peer,
            priority: 100,
        };
        assert_eq!(actions, [Action::Notice(rival)]);
        script.state(StateName::Master);
        script.router.handle(script.at(MASTER_AT + S), event());
        script.router.handle(script.at(MASTER_AT + 2 * S), event());
        script.state(state);
    }
}

#[test]
fn once_the_link_is_broken_the_further_path_decides_between_equal_priorities() {
    // On the link the peer is lower; on the further path it is greater.
    let mut script = Script::master(v3(100));
    script
        .router
        .handle(script.at(MASTER_AT), advert(LOWER, 100));
    for (second, state) in [(1, StateName::Master), (2, StateName::Backup)] {
        let event = by_heartbeat(advert(OWN_THERE, 100), PEER_THERE);
        script
            .router
            .handle(script.at(MASTER_AT + second * S), event);
        script.state(state);
        script
            .router
            .handle(script.at(MASTER_AT + second * S), Event::Timeout);
    }
}

fn probing(takeover_probe: TakeoverProbe) -> Parameters {
    Parameters {
        takeover_probe,
        ..v3(100)
    }
}

fn asked(mode: TakeoverProbe) -> Script {
    let mut script = Script::backup(probing(mode));
    script.feed(FIRST, Event::Timeout, "probe");
    script
}

fn suspicious() -> Script {
    let mut script = asked(TakeoverProbe::Hold);
    script.feed(FIRST, ANSWER, "");
    script.feed(DOWN_TIME, Event::Timeout, SUSPECT);
    script
}

fn starting_late(priority: u8) -> Parameters {
    Parameters {
        start_delay: Duration::from_secs(5),
        ..v3(priority)
    }
}
