//! The timers: exact to the nanosecond, without drift and without bursts.

#[path = "support/script.rs"]
#[allow(dead_code, reason = "the states need more of it")]
mod script;

use std::time::Duration;

use script::{GREATER, MASTER_AT, Script, advert, v2, v3};
use vrrp::{Event, Parameters, Version, master_down_interval, skew_time};

const MS: u64 = 1_000_000;

#[test]
fn skew_time_of_version_3_is_exact_to_the_nanosecond() {
    check_skew(Version::V3, 10 * MS, 254, 78_125);
    check_skew(Version::V3, 10 * MS, 100, 6_093_750);
    check_skew(Version::V3, 1_000 * MS, 100, 609_375_000);
    check_skew(Version::V3, 40_950 * MS, 1, 40_790_039_062);
}

#[test]
fn skew_time_of_version_2_is_independent_of_the_interval() {
    for seconds in [1, 7, 255] {
        check_skew(Version::V2, seconds * 1_000 * MS, 100, 609_375_000);
        check_skew(Version::V2, seconds * 1_000 * MS, 254, 7_812_500);
    }
}

#[test]
fn skew_time_is_never_zero_and_falls_with_every_step_of_priority() {
    for (version, interval) in [
        (Version::V2, 1_000),
        (Version::V3, 10),
        (Version::V3, 1_000),
        (Version::V3, 40_950),
    ] {
        let interval = Duration::from_millis(interval);
        let skews: Vec<_> = (0..=255).map(|p| skew_time(p, interval, version)).collect();
        assert!(skews.is_sorted_by(|a, b| a > b));
        assert!(skews.iter().all(|skew| !skew.is_zero()));
    }
}

#[test]
fn master_down_interval_is_the_missed_adverts_and_the_skew() {
    let second = Duration::from_secs(1);
    for (adverts, millis) in [
        (0, 1_500),
        (1, 1_500),
        (2, 2_500),
        (10, 10_500),
        (100, 100_500),
    ] {
        let down = master_down_interval(adverts, 128, second, Version::V3);
        assert_eq!(down, Duration::from_millis(millis));
    }
}

#[test]
fn master_down_interval_is_three_intervals_and_the_skew() {
    check_down(Version::V3, 1_000 * MS, 100, 3_609_375_000);
    check_down(Version::V3, 10 * MS, 100, 36_093_750);
    check_down(Version::V3, 40_950 * MS, 255, 123_009_960_937);
    check_down(Version::V2, 1_000 * MS, 100, 3_609_375_000);
    check_down(Version::V2, 255_000 * MS, 254, 765_007_812_500);
}

#[test]
fn timers_of_an_interval_beyond_all_clocks_do_not_overflow() {
    for version in [Version::V2, Version::V3] {
        assert_eq!(
            master_down_interval(3, 0, Duration::MAX, version),
            Duration::MAX
        );
        assert!(skew_time(0, Duration::MAX, version) > Duration::ZERO);
    }
}

#[test]
fn intervals_are_rounded_to_what_an_advert_can_carry() {
    check_nearest(Version::V2, 0, 1_000);
    check_nearest(Version::V2, 1_999, 1_000);
    check_nearest(Version::V2, 256_000, 255_000);
    check_nearest(Version::V3, 0, 10);
    check_nearest(Version::V3, 19, 10);
    check_nearest(Version::V3, 40_950, 40_950);
    check_nearest(Version::V3, 40_960, 40_950);
    check_nearest(Version::V3, u64::MAX, 40_950);
}

#[test]
fn a_configured_interval_of_zero_or_of_forever_is_run_as_one_that_can_be() {
    for (configured, due) in [(Duration::ZERO, 10), (Duration::MAX, 40_950)] {
        let mut script = Script::new(Parameters {
            advert_interval: configured,
            ..v3(255)
        });
        let wanted = "advert 255; initialize -> master: started; install; announce";
        script.feed(0, Event::Startup, wanted);
        script.due(due * MS);
    }
}

#[test]
fn adverts_do_not_drift_in_ten_minutes_of_late_timeouts() {
    let mut script = Script::master(v3(100));
    for second in 1..=600 {
        let due = MASTER_AT + second * 1_000_000;
        script.due(due * 1_000);
        let late = second * 7_919 % 30_000;
        script.feed(due + late, Event::Timeout, "advert 100");
    }
    script.due((MASTER_AT + 601_000_000) * 1_000);
}

#[test]
fn adverts_missed_in_a_stall_are_not_sent_in_a_burst() {
    let mut script = Script::master(v2(100));
    // One advert is missed; after two the peers may have taken over, and it would ask them first.
    script.feed(MASTER_AT + 2_300_000, Event::Timeout, "advert 100");
    script.feed(MASTER_AT + 2_300_000, Event::Timeout, "");
    script.due((MASTER_AT + 3_000_000) * 1_000);
}

#[test]
fn a_timeout_that_an_advert_overtook_does_nothing() {
    let mut script = Script::backup(v3(100));
    script.feed(3_609_374, advert(GREATER, 150), "");
    script.feed(3_609_375, Event::Timeout, "");
    script.due(7_218_749_000);
}

#[test]
fn an_advert_that_waited_is_heard_before_the_deadline_is_judged() {
    let mut script = Script::backup(v3(100));
    script.feed(9_000_000, advert(GREATER, 150), "");
    script.feed(9_000_000, Event::Timeout, "");
    script.due(12_609_375_000);
}

fn check_skew(version: Version, interval: u64, priority: u8, nanos: u64) {
    let skew = skew_time(priority, Duration::from_nanos(interval), version);
    assert_eq!(skew, Duration::from_nanos(nanos));
}

fn check_down(version: Version, interval: u64, priority: u8, nanos: u64) {
    let down = master_down_interval(3, priority, Duration::from_nanos(interval), version);
    assert_eq!(down, Duration::from_nanos(nanos));
}

fn check_nearest(version: Version, millis: u64, nearest: u64) {
    let interval = version.nearest_interval(Duration::from_millis(millis));
    assert_eq!(interval, Duration::from_millis(nearest));
}
