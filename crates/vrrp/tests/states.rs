//! Each state and each event: what happens, or that nothing does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/script.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod script;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use script::{GREATER, LOWER, MASTER_AT, OWN, STOP, Script, advert, advert_every, v2, v3};
use vrrp::{Action, Event, Family, Fault, Parameters, StateName, Version};

const S: u64 = 1_000_000;
/// How long the addresses stay once the successor is heard.
const SETTLE: u64 = 20_000;
const DOWN: Fault = Fault::InterfaceDown;
const BARE: Fault = Fault::NoAddress;

// Initialize, not started

#[test]
fn startup_below_255_listens() {
    let mut script = Script::new(v3(100));
    script.feed(0, Event::Startup, "initialize -> backup: started");
    script.due(3_609_375_000);
    assert_eq!(script.router.master(), None);
}

#[test]
fn startup_of_the_owner_adverts_first_and_is_master() {
    let mut script = Script::new(v3(255));
    let wanted = "advert 255; initialize -> master: started; install; announce";
    script.feed(0, Event::Startup, wanted);
    script.due(1_000_000_000);
    assert_eq!(script.router.master(), Some((OWN, 255)));
}

#[test]
fn startup_with_a_fault_is_fault() {
    let mut script = Script::new(v3(255));
    script.feed(0, Event::FaultRaised(DOWN), "");
    script.state(StateName::Initialize);
    script.feed(
        0,
        Event::Startup,
        "initialize -> fault: the interface is down",
    );
    script.state(StateName::Fault);
}

#[test]
fn a_fault_that_ends_before_the_startup_is_forgotten() {
    let mut script = Script::new(v3(100));
    script.feed(0, Event::FaultRaised(DOWN), "");
    script.feed(0, Event::FaultCleared(DOWN), "");
    script.feed(0, Event::Startup, "initialize -> backup: started");
}

#[test]
fn before_the_startup_nothing_else_does_anything() {
    let mut script = Script::new(v3(100));
    script.feed(0, STOP, "");
    script.feed(0, Event::Timeout, "");
    for priority in [0, 1, 255] {
        script.feed(0, advert(GREATER, priority), "");
    }
    script.feed(0, Event::Reconfigured(v3(200)), "");
    script.feed(0, Event::SourceChanged(LOWER), "");
    script.feed(0, Event::FaultCleared(BARE), "");
    for event in new_events() {
        script.feed(0, event, "");
    }
    script.state(StateName::Initialize);
    assert_eq!(script.router.poll_timeout(), None);
    assert_eq!(
        (script.router.since(), script.router.transitions()),
        (None, 0)
    );
    assert_eq!(script.router.effective_priority(), 200);
}

// Fault

#[test]
fn fault_ends_with_its_last_fault_and_listens_anew() {
    let mut script = faulted(v3(100));
    script.feed(S, Event::FaultRaised(BARE), "");
    script.feed(2 * S, Event::FaultCleared(DOWN), "");
    assert_eq!(script.router.faults().iter().collect::<Vec<_>>(), [&BARE]);
    script.feed(
        3 * S,
        Event::FaultCleared(BARE),
        "fault -> backup: everything is well again",
    );
    script.due(6_609_375_000);
}

#[test]
fn the_owner_is_master_as_soon_as_its_last_fault_ends() {
    let mut script = faulted(v3(255));
    let wanted = "advert 255; fault -> master: everything is well again; install; announce";
    script.feed(S, Event::FaultCleared(DOWN), wanted);
}

#[test]
fn a_fault_raised_twice_is_one_fault() {
    let mut script = faulted(v3(100));
    script.feed(S, Event::FaultRaised(DOWN), "");
    script.feed(
        S,
        Event::FaultCleared(DOWN),
        "fault -> backup: everything is well again",
    );
}

#[test]
fn shutdown_in_fault_is_silent_and_the_fault_is_remembered() {
    let mut script = faulted(v3(100));
    script.feed(S, STOP, "fault -> initialize: stopped");
    script.feed(
        S,
        Event::Startup,
        "initialize -> fault: the interface is down",
    );
    script.feed(S, STOP, "fault -> initialize: stopped");
    script.feed(S, Event::FaultCleared(DOWN), "");
    script.state(StateName::Initialize);
}

#[test]
fn in_fault_nothing_else_does_anything() {
    let mut script = faulted(v3(100));
    script.feed(S, Event::Startup, "");
    script.feed(S, Event::Timeout, "");
    for priority in [0, 1, 255] {
        script.feed(S, advert(GREATER, priority), "");
    }
    script.feed(S, Event::Reconfigured(v3(255)), "");
    script.feed(S, Event::SourceChanged(LOWER), "");
    script.feed(S, Event::FaultCleared(BARE), "");
    for event in new_events() {
        script.feed(S, event, "");
    }
    script.state(StateName::Fault);
    assert_eq!(script.router.poll_timeout(), None);
}

/// Those that change nothing where there is no state to change, the last of a kind as at the start.
fn new_events() -> [Event; 6] {
    [
        Event::PriorityOffset(20),
        Event::PriorityOffset(0),
        Event::Yield,
        Event::Answered { by: [2; 6] },
        Event::ReferencesLost(true),
        Event::ReferencesLost(false),
    ]
}

// Backup

#[test]
fn backup_takes_over_from_a_silent_master_advert_first() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 150), "");
    assert_eq!(script.router.master(), Some((GREATER, 150)));
    script.due(4_609_375_000);
    script.feed(4_609_374, Event::Timeout, "");
    let wanted = "advert 100; backup -> master: the master 192.0.2.16 (priority 150) fell silent; \
                  install; announce";
    script.feed(4_609_375, Event::Timeout, wanted);
    script.due(5_609_375_000);
    assert_eq!(script.router.since(), Some(script.at(4_609_375)));
    assert_eq!(script.router.transitions(), 2);
}

#[test]
fn backup_hearing_priority_zero_waits_only_skew_time() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 150), "");
    script.feed(2 * S, advert(GREATER, 0), "");
    script.due(2_609_375_000);
    assert_eq!(script.router.master(), None);
    let wanted = "advert 100; backup -> master: the master 192.0.2.16 gave up; install; announce";
    script.feed(2_609_375, Event::Timeout, wanted);
}

#[test]
fn backup_hearing_another_master_after_priority_zero_stays_backup() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 0), "");
    script.feed(1_500_000, advert(LOWER, 120), "");
    script.due(5_109_375_000);
}

#[test]
fn backup_hearing_equal_priority_follows_whatever_the_address() {
    for from in [LOWER, OWN, GREATER] {
        let mut script = Script::backup(v3(100));
        script.feed(S, advert(from, 100), "");
        script.due(4_609_375_000);
    }
}

#[test]
fn backup_hearing_a_lower_priority_lets_its_timer_run() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert_every(Duration::from_secs(40), GREATER, 99), "");
    script.feed(3 * S, advert(GREATER, 99), "");
    script.due(3_609_375_000);
    let wanted = "advert 100; backup -> master: takes over from 192.0.2.16, whose priority 99 is \
                  lower; install; announce";
    script.feed(3_609_375, Event::Timeout, wanted);
}

#[test]
fn backup_does_not_adopt_the_interval_of_a_lower_priority_that_it_discards() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert_every(Duration::from_secs(40), GREATER, 99), "");
    script.feed(2 * S, advert(GREATER, 0), "");
    script.due(2_609_375_000);
}

#[test]
fn backup_follows_again_where_an_advert_comes_after_priority_zero() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 0), "");
    script.feed(S + 1, advert(GREATER, 150), "");
    script.due(4_609_376_000);
}

#[test]
fn backup_that_must_not_preempt_follows_a_lower_priority() {
    let mut script = Script::backup(Parameters {
        preempt: false,
        ..v3(100)
    });
    script.feed(S, advert(GREATER, 1), "");
    script.due(4_609_375_000);
}

#[test]
fn backup_that_must_not_preempt_still_takes_over_after_priority_zero() {
    let mut script = Script::backup(Parameters {
        preempt: false,
        ..v3(100)
    });
    script.feed(S, advert(GREATER, 0), "");
    script.due(1_609_375_000);
}

#[test]
fn backup_that_was_made_the_owner_preempts_whatever_is_configured() {
    let mut script = Script::backup(Parameters {
        preempt: false,
        ..v3(100)
    });
    script.feed(
        0,
        Event::Reconfigured(Parameters {
            preempt: false,
            ..v3(255)
        }),
        "",
    );
    script.due(3_003_906_250);
    script.feed(S, advert(GREATER, 254), "");
    script.due(3_003_906_250);
}

#[test]
fn backup_adopts_the_interval_of_a_version_3_master() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert_every(Duration::from_millis(10), GREATER, 150), "");
    script.due(1_036_093_750);
    script.feed(S, advert(GREATER, 0), "");
    script.due(1_006_093_750);
}

#[test]
fn backup_of_version_2_keeps_its_own_interval() {
    let mut script = Script::backup(v2(100));
    script.feed(S, advert_every(Duration::from_secs(7), GREATER, 150), "");
    script.due(4_609_375_000);
}

#[test]
fn shutdown_in_backup_is_silent() {
    let mut script = Script::backup(v3(100));
    script.feed(S, STOP, "backup -> initialize: stopped");
    script.feed(S, STOP, "");
}

#[test]
fn a_fault_in_backup_is_silent() {
    let mut script = Script::backup(v3(100));
    script.feed(S, Event::FaultRaised(BARE), FAULT_IN_BACKUP);
}

const FAULT_IN_BACKUP: &str = "backup -> fault: the interface has no address to send adverts from";

#[test]
fn in_backup_startup_source_and_unknown_faults_do_nothing() {
    let mut script = Script::backup(v3(100));
    script.feed(S, Event::Startup, "");
    script.feed(S, Event::SourceChanged(LOWER), "");
    script.feed(S, Event::FaultCleared(DOWN), "");
    script.due(3_609_375_000);
}

#[test]
fn backup_reconfigured_counts_its_deadline_from_when_it_was_armed() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 200), "");
    script.feed(2 * S, Event::Reconfigured(v3(150)), "");
    script.due(4_414_062_500);
    assert_eq!(script.router.master(), Some((GREATER, 200)));
}

#[test]
fn backup_reconfigured_keeps_the_interval_of_the_master_it_hears() {
    let slow = Parameters {
        advert_interval: Duration::from_secs(10),
        ..v3(100)
    };
    let mut script = Script::backup(v3(100));
    script.feed(0, Event::Reconfigured(slow.clone()), "");
    script.due(36_093_750_000);
    script.feed(S, advert(GREATER, 200), "");
    script.feed(S, Event::Reconfigured(v3(100)), "");
    script.due(4_609_375_000);
    script.feed(S, Event::Reconfigured(slow), "");
    script.due(4_609_375_000);
}

#[test]
fn backup_of_version_2_reconfigured_takes_its_new_interval() {
    let mut script = Script::backup(v2(100));
    script.feed(S, advert(GREATER, 200), "");
    let slow = Parameters {
        advert_interval: Duration::from_secs(10),
        ..v2(100)
    };
    script.feed(S, Event::Reconfigured(slow), "");
    script.due(31_609_375_000);
}

#[test]
fn backup_reconfigured_while_it_waits_for_its_skew_waits_for_the_new_skew() {
    let mut script = Script::backup(v3(100));
    script.feed(S, advert(GREATER, 0), "");
    script.feed(S, Event::Reconfigured(v3(192)), "");
    script.due(1_250_000_000);
}

#[test]
fn backup_reconfigured_is_never_left_with_a_deadline_in_the_past() {
    let slow = Parameters {
        advert_interval: Duration::from_secs(10),
        ..v3(100)
    };
    let mut script = Script::backup(slow);
    script.feed(20 * S, Event::Reconfigured(v3(100)), "");
    script.due(20_000_000_000);
    let wanted = "advert 100; backup -> master: no master was heard; install; announce";
    script.feed(20 * S, Event::Timeout, wanted);
}

// Preempt delay

#[test]
fn preempt_delay_counts_from_the_first_lower_advert_and_follows_until_then() {
    let mut script = Script::backup(delayed(10));
    for second in 1..=10 {
        script.feed(second * S, advert(GREATER, 50), "");
        script.due((second * S + 3_609_375).min(11 * S) * 1_000);
    }
    script.feed(11 * S, Event::Timeout, TAKES_OVER);
}

#[test]
fn preempt_delay_never_takes_over_sooner_than_without_one() {
    let mut script = Script::backup(delayed(1));
    script.feed(S, advert(GREATER, 50), "");
    script.due(3_609_375_000);
    script.feed(2 * S, advert(GREATER, 50), "");
    script.feed(3_609_375, Event::Timeout, TAKES_OVER);
}

#[test]
fn preempt_delay_ends_when_the_lower_master_gives_up() {
    let mut script = Script::backup(delayed(1000));
    script.feed(S, advert(GREATER, 50), "");
    script.feed(2 * S, advert(GREATER, 0), "");
    script.due(2_609_375_000);
}

#[test]
fn preempt_delay_ends_when_the_lower_master_falls_silent() {
    let mut script = Script::backup(delayed(1000));
    script.feed(S, advert(GREATER, 50), "");
    let wanted = "advert 100; backup -> master: the master 192.0.2.16 (priority 50) fell silent; \
                  install; announce";
    script.feed(4_609_375, Event::Timeout, wanted);
}

#[test]
fn preempt_delay_counts_anew_after_a_better_master() {
    let mut script = Script::backup(delayed(3));
    script.feed(S, advert(GREATER, 50), "");
    script.feed(2 * S, advert(LOWER, 100), "");
    script.feed(3 * S, advert(GREATER, 50), "");
    script.feed(4 * S, Event::Timeout, "");
    script.feed(5 * S, advert(GREATER, 50), "");
    script.due(6_000_000_000);
}

#[test]
fn preempt_delay_is_kept_by_a_reload_that_does_not_touch_the_election() {
    let mut script = Script::backup(delayed(10));
    script.feed(S, advert(GREATER, 50), "");
    let parameters = Parameters {
        addresses: [].into(),
        ..delayed(10)
    };
    script.feed(2 * S, Event::Reconfigured(parameters), "");
    for second in 2..11 {
        script.feed(second * S, advert(GREATER, 50), "");
    }
    script.feed(11 * S, Event::Timeout, TAKES_OVER);
}

#[test]
fn preempt_switched_off_ends_the_delay_and_follows() {
    let mut script = Script::backup(delayed(2));
    script.feed(S, advert(GREATER, 50), "");
    script.feed(
        S,
        Event::Reconfigured(Parameters {
            preempt: false,
            ..delayed(2)
        }),
        "",
    );
    script.due(4_609_375_000);
    script.feed(3 * S, advert(GREATER, 50), "");
    script.due(6_609_375_000);
}

#[test]
fn preempt_delay_counts_anew_where_it_was_changed() {
    let mut script = Script::backup(delayed(5));
    script.feed(S, advert(GREATER, 50), "");
    script.feed(4 * S, advert(GREATER, 50), "");
    script.feed(4 * S, Event::Reconfigured(delayed(6)), "");
    script.due(7_609_375_000);
    script.feed(7 * S, advert(GREATER, 50), "");
    script.feed(10 * S, advert(GREATER, 50), "");
    script.due(13_000_000_000);
}

#[test]
fn preempt_delay_ends_when_our_own_priority_is_lowered_under_the_masters() {
    let mut script = Script::backup(delayed(2));
    script.feed(S, advert(GREATER, 50), "");
    let lowered = Parameters {
        priority: 40,
        ..delayed(2)
    };
    script.feed(S, Event::Reconfigured(lowered), "");
    script.due(4_843_750_000);
}

#[test]
fn preempt_delay_beyond_all_clocks_is_a_long_one() {
    let parameters = Parameters {
        preempt_delay: Duration::MAX,
        ..v3(100)
    };
    let mut script = Script::backup(parameters);
    script.feed(S, advert(GREATER, 50), "");
    script.due(4_609_375_000);
}

const TAKES_OVER: &str = "advert 100; backup -> master: takes over from 192.0.2.16, whose \
                          priority 50 is lower; install; announce";

// Master

#[test]
fn master_adverts_every_interval_and_not_before() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + S - 1, Event::Timeout, "");
    script.feed(MASTER_AT + S, Event::Timeout, "advert 100");
    script.feed(MASTER_AT + S, Event::Timeout, "");
    script.due((MASTER_AT + 2 * S) * 1_000);
}

#[test]
fn master_hearing_priority_zero_adverts_at_once_and_resets_its_timer() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + S / 2, advert(GREATER, 0), "advert 100");
    script.due((MASTER_AT + S / 2 + S) * 1_000);
}

#[test]
fn master_hearing_a_higher_priority_gives_the_addresses_up() {
    for parameters in [
        v2(100),
        Parameters {
            preempt: false,
            ..v3(100)
        },
    ] {
        let mut script = Script::master(parameters);
        let wanted = "master -> backup: 192.0.2.4 has the higher priority 101";
        script.feed(MASTER_AT, advert(LOWER, 101), wanted);
        assert_eq!(script.router.master(), Some((LOWER, 101)));
        // The other one's addresses are a moment away.
        script.due((MASTER_AT + SETTLE) * 1_000);
        assert!(script.router.is_lingering());
        script.feed(MASTER_AT + SETTLE, Event::Timeout, "remove");
        script.due((MASTER_AT + 3_609_375) * 1_000);
    }
}

#[test]
fn master_of_version_3_adopts_the_interval_of_the_one_it_yields_to() {
    let mut script = Script::master(v3(100));
    let wanted = "master -> backup: 192.0.2.4 has the higher priority 101";
    let event = advert_every(Duration::from_millis(10), LOWER, 101);
    script.feed(MASTER_AT, event, wanted);
    script.feed(MASTER_AT + SETTLE, Event::Timeout, "remove");
    script.due(MASTER_AT * 1_000 + 36_093_750);
}

#[test]
fn master_hearing_equal_priority_yields_to_the_greater_address() {
    let mut script = Script::master(v3(100));
    // Greater as a number, not as text.
    let wanted = "master -> backup: 192.0.2.16 has the same priority and the greater address";
    script.feed(MASTER_AT, advert(GREATER, 100), wanted);
}

#[test]
fn master_hearing_equal_priority_from_a_lower_address_stays() {
    let mut script = Script::master(v3(100));
    let wanted = "advert 100; (192.0.2.4 (priority 100) is master, too)";
    script.feed(MASTER_AT, advert(LOWER, 100), wanted);
    assert_eq!(script.router.rival(), Some((LOWER, 100)));
    script.state(StateName::Master);
}

#[test]
fn master_hearing_equal_priority_from_its_own_address_stays_and_does_not_answer() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT, advert(OWN, 100), "");
    script.state(StateName::Master);
}

#[test]
fn addresses_are_compared_over_all_of_their_128_bits() {
    let ipv6 = Parameters {
        family: Family::V6,
        addresses: ["fe80::10".parse().unwrap()].into(),
        ..v3(100)
    };
    for (from, yields) in [
        ("fe80::1:0:0:0", true),
        ("fe80::ffff", false),
        ("fe81::", true),
    ] {
        let mut script = Script::master(ipv6.clone());
        let own = "fe80::1:0:0".parse().unwrap();
        script.feed(MASTER_AT, Event::SourceChanged(own), "");
        script
            .router
            .handle(script.at(MASTER_AT), advert(from.parse().unwrap(), 100));
        script.state(if yields {
            StateName::Backup
        } else {
            StateName::Master
        });
    }
}

#[test]
fn master_that_does_not_know_its_address_yields_to_equal_priority() {
    let mut router = vrrp::VirtualRouter::new(v3(100));
    let start = Script::new(v3(100)).at(0);
    router.handle(start, Event::Startup);
    router.handle(start + Duration::from_secs(4), Event::Timeout);
    assert_eq!(
        (router.state_name(), router.master()),
        (StateName::Master, None)
    );
    router.handle(start + Duration::from_secs(4), advert(LOWER, 100));
    assert_eq!(router.state_name(), StateName::Backup);
}

#[test]
fn master_of_version_3_answers_a_losing_advert_at_once_and_keeps_its_pace() {
    let mut script = Script::master(v3(100));
    let wanted = format!("advert 100; {RIVAL}");
    script.feed(MASTER_AT + S / 2, advert(GREATER, 99), &wanted);
    script.due((MASTER_AT + S) * 1_000);
}

#[test]
fn master_of_version_2_is_silent_about_a_losing_advert() {
    let mut script = Script::master(v2(100));
    script.feed(MASTER_AT + S / 2, advert(GREATER, 99), RIVAL);
    script.due((MASTER_AT + S) * 1_000);
}

#[test]
fn an_owner_that_hears_another_owner_says_so_and_the_greater_address_stays() {
    for version in [Version::V2, Version::V3] {
        let owner = script::parameters(version, 255);
        let mut script = Script::new(owner.clone());
        let started = "advert 255; initialize -> master: started; install; announce";
        script.feed(0, Event::Startup, started);
        let answer = if version == Version::V3 {
            "advert 255; "
        } else {
            ""
        };
        let wanted = format!("{answer}(192.0.2.4 (priority 255) is master, too)");
        script.feed(1, advert(LOWER, 255), &wanted);
        let wanted = "master -> backup: 192.0.2.16 has the same priority and the greater address";
        script.feed(2, advert(GREATER, 255), wanted);
    }
}

#[test]
fn master_announces_once_when_a_losing_master_has_fallen_silent() {
    let mut script = Script::master(v2(100));
    script.feed(MASTER_AT + S / 2, advert(GREATER, 99), RIVAL);
    script.feed(MASTER_AT + S, Event::Timeout, "advert 100");
    script.feed(MASTER_AT + 3 * S / 2, advert(GREATER, 99), "");
    script.feed(MASTER_AT + 2 * S, Event::Timeout, "advert 100");
    let wanted = format!("advert 100; {RIVAL_GONE}; announce");
    script.feed(MASTER_AT + 3 * S, Event::Timeout, &wanted);
    assert_eq!(script.router.rival(), None);
    script.feed(MASTER_AT + 4 * S, Event::Timeout, "advert 100");
}

#[test]
fn master_announces_after_another_master_gave_up() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + S / 2, advert(GREATER, 0), "advert 100");
    let wanted = format!("advert 100; {RIVAL_GONE}; announce");
    script.feed(MASTER_AT + 3 * S / 2, Event::Timeout, &wanted);
}

const RIVAL: &str = "(192.0.2.16 (priority 99) is master, too)";
const RIVAL_GONE: &str = "(the other master 192.0.2.16 is gone; announcing the addresses again)";

#[test]
fn shutdown_of_a_master_adverts_priority_zero_and_then_lets_go() {
    let mut script = Script::master(v3(100));
    script.feed(
        MASTER_AT,
        STOP,
        "advert 0; master -> initialize: stopped; remove",
    );
    script.feed(MASTER_AT, STOP, "");
    script.feed(MASTER_AT, Event::Timeout, "");
    script.feed(MASTER_AT, Event::Startup, "initialize -> backup: started");
}

#[test]
fn a_fault_of_a_master_adverts_priority_zero_and_lets_go() {
    let mut script = Script::master(v3(100));
    let wanted = "advert 0; master -> fault: the interface is down; remove";
    script.feed(MASTER_AT, Event::FaultRaised(DOWN), wanted);
    assert_eq!(script.router.master(), None);
}

#[test]
fn in_master_startup_source_and_unknown_faults_do_nothing() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT, Event::Startup, "");
    script.feed(MASTER_AT, Event::FaultCleared(DOWN), "");
    script.feed(MASTER_AT, Event::SourceChanged(LOWER), "");
    assert_eq!(script.router.master(), Some((LOWER, 100)));
    script.due((MASTER_AT + S) * 1_000);
}

#[test]
fn master_reconfigured_adverts_its_new_priority_at_once() {
    let mut script = Script::master(v3(100));
    script.feed(MASTER_AT + S / 2, Event::Reconfigured(v3(50)), "advert 50");
    script.due((MASTER_AT + S / 2 + S) * 1_000);
    script.feed(
        MASTER_AT + S / 2,
        Event::Reconfigured(v3(255)),
        "advert 255",
    );
    script.feed(MASTER_AT + S / 2, Event::Reconfigured(v3(1)), "advert 1");
}

#[test]
fn master_reconfigured_adverts_its_new_interval_at_once() {
    let mut script = Script::master(v3(100));
    let fast = Parameters {
        advert_interval: Duration::from_millis(10),
        ..v3(100)
    };
    let actions = script
        .router
        .handle(script.at(MASTER_AT), Event::Reconfigured(fast));
    let [Action::SendAdvertisement(advert)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(advert.interval, Duration::from_millis(10));
    script.due(MASTER_AT * 1_000 + 10_000_000);
}

#[test]
fn master_reconfigured_holds_and_announces_its_new_addresses() {
    let mut script = Script::master(v3(100));
    let addresses: Arc<[IpAddr]> = [[203, 0, 113, 2].into(), [203, 0, 113, 1].into()].into();
    let other = Parameters {
        addresses: addresses.clone(),
        ..v3(100)
    };
    let event = Event::Reconfigured(other);
    script.feed(MASTER_AT, event.clone(), "advert 100; install; announce");
    script.feed(MASTER_AT, event, "");
    let actions = script
        .router
        .handle(script.at(MASTER_AT + S), Event::Timeout);
    let [Action::SendAdvertisement(advert)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(advert.addresses, addresses);
}

#[test]
fn master_reconfigured_in_what_no_advert_says_is_silent() {
    let mut script = Script::master(v3(100));
    let parameters = Parameters {
        preempt: false,
        preempt_delay: Duration::from_secs(9),
        ..v3(100)
    };
    script.feed(MASTER_AT + S / 2, Event::Reconfigured(parameters), "");
    script.due((MASTER_AT + S) * 1_000);
}

#[test]
fn vrid_version_and_family_are_not_reconfigured() {
    let mut script = Script::master(v3(100));
    let parameters = Parameters {
        vrid: 9,
        version: Version::V2,
        family: Family::V6,
        ..v3(100)
    };
    script.feed(MASTER_AT, Event::Reconfigured(parameters), "");
    assert_eq!(script.router.parameters(), &v3(100));
}

#[test]
fn a_priority_of_zero_is_never_advertised_but_to_give_up() {
    let mut script = Script::backup(v3(0));
    let wanted = "advert 1; backup -> master: no master was heard; install; announce";
    script.feed(MASTER_AT, Event::Timeout, wanted);
}

fn faulted(parameters: Parameters) -> Script {
    let mut script = Script::new(parameters);
    script.feed(0, Event::FaultRaised(DOWN), "");
    script.feed(
        0,
        Event::Startup,
        "initialize -> fault: the interface is down",
    );
    script
}

fn delayed(seconds: u64) -> Parameters {
    Parameters {
        preempt_delay: Duration::from_secs(seconds),
        ..v3(100)
    }
}
