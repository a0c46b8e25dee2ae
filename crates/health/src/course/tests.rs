//! Verdicts in virtual time, against a judge that reads the whole history each time.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::check::{CheckKind, Route, Start};
use crate::damping::Flap;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_target_that_comes_and_goes_stays_out_until_it_has_passed_long_enough() {
    let mut course = Course::new(&spec(), Health::Up);
    let begin = Instant::now();
    let mut at = |seconds: u64, passed: bool| {
        course.record(passed, begin + Duration::from_secs(seconds));
        (course.health(), course.flapping())
    };
    // The fifth change within ten minutes is down, and the last one for now.
    for (seconds, passed) in [(0, false), (60, true), (120, false), (180, true)] {
        assert!(!at(seconds, passed).1);
    }
    assert_eq!(at(240, false), (Health::Down, true));
    assert_eq!(at(300, true), (Health::Down, true));
    assert_eq!(at(410, true), (Health::Down, true));
    assert_eq!(
        at(411, false),
        (Health::Down, true),
        "the two minutes begin anew"
    );
    assert_eq!(at(420, true), (Health::Down, true));
    assert_eq!(at(539, true), (Health::Down, true));
    assert_eq!(at(540, true), (Health::Up, false));
    // What was is forgotten.
    assert_eq!(at(541, false), (Health::Down, false));
    assert_eq!(at(542, true), (Health::Up, false));
}

#[test]
fn a_change_to_up_that_is_one_too_many_does_not_come_about() {
    let spec = CheckSpec {
        flap: flap(2),
        ..spec()
    };
    let mut course = Course::new(&spec, Health::Up);
    let begin = Instant::now();
    assert!(course.record(false, begin).is_some());
    assert_eq!(course.record(true, begin), None);
    assert!(course.flapping());
    assert_eq!(course.record(true, begin + MINUTE), None);
    let up = course.record(true, begin + 2 * MINUTE);
    assert_eq!(up.map(|turned| turned.to), Some(Health::Up));
}

#[test]
fn changes_that_are_long_ago_do_not_count() {
    let mut course = Course::new(&spec(), Health::Up);
    let begin = Instant::now();
    for minute in 0..100 {
        // Four changes in ten minutes.
        course.record(
            minute % 2 == 1,
            begin + minute * 150 * Duration::from_secs(1),
        );
        assert!(!course.flapping(), "{minute}");
    }
}

#[test]
fn the_next_probe_comes_sooner_while_something_changes_and_by_its_own_interval_while_down() {
    let spec = CheckSpec {
        fall: 3,
        rise: 2,
        flap: None,
        ..spec()
    };
    let mut course = Course::new(&spec, Health::Unknown);
    let now = Instant::now();
    let mut interval = |passed| {
        course.record(passed, now);
        course.interval(&spec).as_secs()
    };
    let outcomes = [
        true, true, false, true, false, false, false, false, true, false, true, true,
    ];
    assert_eq!(
        outcomes.map(&mut interval),
        [5, 5, 1, 5, 1, 1, 30, 30, 1, 30, 1, 5]
    );
    assert_eq!(
        Course::new(&spec, Health::Unknown)
            .interval(&spec)
            .as_secs(),
        1
    );
    assert_eq!(
        Course::new(&spec, Health::Down).interval(&spec).as_secs(),
        30
    );
}

#[test]
fn without_intervals_of_their_own_all_states_are_probed_alike() {
    let spec = CheckSpec {
        fast_interval: None,
        down_interval: None,
        ..spec()
    };
    for health in [Health::Unknown, Health::Up, Health::Down] {
        assert_eq!(Course::new(&spec, health).interval(&spec), spec.interval);
    }
}

proptest! {
    #[test]
    fn damping_holds_exactly_what_the_history_says(
        initial in prop_oneof![Just(Health::Unknown), Just(Health::Up), Just(Health::Down)],
        rise in 1_u32..4,
        fall in 1_u32..4,
        count in 2_u32..6,
        within in 1_u64..60,
        stable in 1_u64..30,
        outcomes in prop::collection::vec((0_u64..8, any::<bool>()), 0..300),
    ) {
        let flap = Flap {
            count,
            within: Duration::from_secs(within),
            stable: Duration::from_secs(stable),
        };
        let spec = CheckSpec { rise, fall, flap: Some(Box::new(flap)), ..spec() };
        let undamped = CheckSpec { flap: None, ..spec.clone() };
        let (mut course, mut free) = (Course::new(&spec, initial), Course::new(&undamped, initial));
        let begin = Instant::now();
        let mut now = 0;
        // Every outcome, and every change that was made or held back, since damping ended last.
        let mut history: Vec<(u64, bool)> = Vec::new();
        let mut changes: Vec<u64> = Vec::new();
        for (step, passed) in outcomes {
            now += step;
            history.push((now, passed));
            let (was, flapped) = (course.health(), course.flapping());
            let at = begin + Duration::from_secs(now);
            let turned = course.record(passed, at);
            free.record(passed, at);
            prop_assert_eq!(turned.map(|t| (t.from, t.to)),
                (was != course.health()).then_some((was, course.health())));
            prop_assert!(!course.flapping() || course.health() == Health::Down);

            let row = history.iter().rev().take_while(|(_, o)| *o == passed).count();
            if flapped {
                // Only passes without a failure for long enough end it, and then at once.
                let since = history.iter().rev().take_while(|(_, o)| *o).last();
                let long = since.is_some_and(|(since, _)| now - since >= stable);
                let over = passed && long && row >= usize::try_from(rise).unwrap();
                prop_assert_eq!(course.flapping(), !over);
                prop_assert_eq!(course.health() == Health::Up, over);
                if over {
                    changes.clear();
                }
            } else if was != Health::Unknown {
                let first = passed && initial == Health::Unknown
                    && history.iter().filter(|(_, o)| *o).count() == 1;
                let needed = if first { 1 } else if passed { rise } else { fall };
                let claim = if passed { Health::Up } else { Health::Down };
                if claim != was && row >= usize::try_from(needed).unwrap() {
                    changes.push(now);
                }
                let recent = changes.iter().filter(|at| now - **at < within).count();
                prop_assert_eq!(course.flapping(), recent >= usize::try_from(count).unwrap());
            }
            // Damping only ever takes away.
            prop_assert!(course.health() != Health::Up || free.health() == Health::Up);
        }
    }
}

/// Rise and fall 1, every 5 s, 1 s while changing, 30 s while down; five changes in ten minutes flap,
/// two minutes end it.
fn spec() -> CheckSpec {
    CheckSpec {
        target: "192.0.2.1:80".parse().unwrap(),
        route: Route::default(),
        kind: CheckKind::Tcp,
        interval: Duration::from_secs(5),
        fast_interval: Some(Duration::from_secs(1)),
        down_interval: Some(Duration::from_secs(30)),
        timeout: Duration::from_secs(3),
        rise: 1,
        fall: 1,
        start: Start::Down,
        flap: flap(5),
    }
}

fn flap(count: u32) -> Option<Box<Flap>> {
    Some(Box::new(Flap {
        count,
        within: 10 * MINUTE,
        stable: 2 * MINUTE,
    }))
}

#[test]
fn another_process_goes_on_in_the_middle_of_a_row_of_failures() {
    let spec = CheckSpec { fall: 3, ..spec() };
    let now = Instant::now();
    let mut old = Course::new(&spec, Health::Up);
    assert_eq!(old.record(false, now), None);
    assert_eq!(old.record(false, now), None);
    let mut new = Course::new(&spec, Health::Up);
    new.go_on(&old.standing(now), now);
    assert!(new.record(false, now).is_some());
    // With another verdict than it had, it begins anew.
    let mut other = Course::new(&spec, Health::Unknown);
    other.go_on(&old.standing(now), now);
    assert_eq!(
        other.standing(now),
        Course::new(&spec, Health::Unknown).standing(now)
    );
}
