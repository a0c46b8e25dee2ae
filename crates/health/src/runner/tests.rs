//! Checks in virtual time, with probes that do what a script says.

use std::collections::VecDeque;

use tokio::sync::mpsc::unbounded_channel;

use super::*;

/// What a probe of the script does.
#[derive(Clone, Copy)]
enum Does {
    Passes,
    Fails,
    /// Takes so many milliseconds, and passes.
    Takes(u64),
    Panics,
    FindsNoFileDescriptor,
}
use Does::{Fails, FindsNoFileDescriptor, Panics, Passes, Takes};

#[tokio::test(start_paused = true)]
async fn every_outcome_is_reported_and_only_a_change_is_a_transition() {
    check(
        &[Passes, Fails, Fails, Fails, Passes, Passes],
        &[
            "0 ok up unknown>up",
            "1000 refused up",
            "2000 refused down up>down",
            "3250 refused down",
            "4000 ok down",
            "5000 ok up down>up",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_a_failure_and_the_check_goes_on() {
    check(
        &[Passes, Panics, Panics, Passes, Passes],
        &[
            "0 ok up unknown>up",
            "1000 internal up",
            "2000 internal down up>down",
            "3000 ok down",
            "4000 ok up down>up",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn lack_of_our_own_resources_neither_changes_the_state_nor_breaks_a_row() {
    check(
        &[
            Passes,
            Fails,
            FindsNoFileDescriptor,
            FindsNoFileDescriptor,
            Fails,
        ],
        &[
            "0 ok up unknown>up",
            "1000 refused up",
            "2000 resource up",
            "3250 resource up",
            "4000 refused down up>down",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_slow_probe_comes_one_at_once_and_then_the_old_rhythm() {
    check(
        &[Takes(2_300), Passes, Passes],
        &["2300 ok up unknown>up", "2550 ok up", "3250 ok up"],
    )
    .await;
}

#[test]
fn a_panic_says_what_it_said() {
    let said = catch_unwind(|| std::panic::panic_any("plain")).unwrap_err();
    assert_eq!(message(&*said), "plain");
    let said = catch_unwind(|| std::panic::panic_any(String::from("formatted"))).unwrap_err();
    assert_eq!(message(&*said), "formatted");
}

#[test]
fn few_new_checks_start_20_ms_apart() {
    let second = Duration::from_secs(1);
    let delays: Vec<_> = (0..4).map(|i| first_delay(second, i, 4)).collect();
    assert_eq!(delays, [0, 20, 40, 60].map(Duration::from_millis));
}

#[test]
fn many_new_checks_start_evenly_within_the_interval_and_within_five_seconds() {
    for (interval, window) in [(1, 1), (5, 5), (60, 5)] {
        let interval = Duration::from_secs(interval);
        let window = Duration::from_secs(window);
        let delays: Vec<_> = (0..10_000)
            .map(|i| first_delay(interval, i, 10_000))
            .collect();
        assert!(delays.is_sorted());
        assert_eq!(delays[5_000], window / 2);
        assert!(delays[9_999] < window);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_out_after_two_fast_intervals() {
    let spec = CheckSpec {
        interval: Duration::from_secs(5),
        fast_interval: Some(Duration::from_secs(1)),
        down_interval: Some(Duration::from_secs(30)),
        fall: 3,
        ..spec()
    };
    check_plan(
        spec,
        Health::Unknown.into(),
        &[
            Passes, Passes, Fails, Fails, Fails, Fails, Passes, Passes, Passes,
        ],
        &[
            "0 ok up unknown>up",
            "5250 ok up",
            "10000 refused up",
            "11250 refused up",
            "12000 refused down up>down",
            "42250 refused down",
            "72000 ok down",
            "73000 ok up down>up",
            "78250 ok up",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_slowed_is_never_faster_whatever_happens() {
    let spec = CheckSpec {
        fast_interval: Some(Duration::from_millis(100)),
        ..spec()
    };
    let plan = Plan {
        begin: Health::Up,
        slowed: Some(Duration::from_secs(60)),
    };
    check_plan(
        spec,
        plan,
        &[Passes, Fails, Fails],
        &["0 ok up", "60000 refused up", "120000 refused down up>down"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_waits_for_its_turn_is_late_and_not_failed() {
    let (reports, mut received) = unbounded_channel();
    let runner = Runner::with(Handle::current(), reports, 1);
    let shared = &runner.shared;
    let spec = Arc::new(spec());
    let take_a_second = || async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Passed::default())
    };
    let plan: Plan = Health::Unknown.into();
    let courses = [(); 2].map(|()| Mutex::new(Course::new(&spec, plan.begin)));
    let probing = |course| {
        let now = Instant::now();
        keep_probing(&spec, plan, now, course, shared, take_a_second)
    };
    let begin = Instant::now();
    tokio::select! {
        () = probing(&courses[0]) => panic!("the check ended"),
        () = probing(&courses[1]) => panic!("the check ended"),
        () = async {
            for seconds in 1..=4 {
                let report = received.recv().await.unwrap();
                assert_eq!(report.outcome, Ok(Passed::default()));
                assert_eq!(report.latency, Duration::from_secs(1));
                let took = Duration::from_secs(seconds);
                assert!([took, took + NOTHING_NEW_WAITS].contains(&begin.elapsed()));
            }
        } => {}
    }
    let (counts, sum) = shared.lateness.read();
    let starts: u64 = counts.iter().sum();
    assert!(starts >= 4, "{counts:?}");
    assert!(sum >= Duration::from_secs(3), "{sum:?}");
}

#[test]
fn a_missed_beat_is_made_up_for_and_those_to_come_stay_where_they_were() {
    let begin = Instant::now();
    let after = |milliseconds| {
        let now = begin + Duration::from_millis(milliseconds);
        let next = next_beat(begin, Duration::from_secs(1), now);
        next.duration_since(begin).as_millis()
    };
    assert_eq!(
        [0, 10, 999, 1000, 1500, 2300].map(after),
        [1000, 1000, 1000, 1000, 1000, 2000]
    );
}

#[tokio::test(start_paused = true)]
async fn a_thousand_that_die_at_once_are_down_within_two_seconds_and_their_timeout() {
    // They hang: the slowest way to find out.
    let hanging = CheckSpec {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        fall: 1,
        ..spec()
    };
    let slowest = slowest_after_death(&hanging).await;
    assert!(slowest <= Duration::from_secs(3), "{slowest:?}");
}

/// Lets a thousand checks pass for a while, then none any more, and says when the last one is down.
async fn slowest_after_death(spec: &CheckSpec) -> Duration {
    let (reports, mut received) = unbounded_channel();
    let runner = Runner::with(Handle::current(), reports, 10_000);
    let death = Instant::now() + Duration::from_millis(22_220);
    let timeout = spec.timeout;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let first = Instant::now() + spec.interval * number / 1_000;
        let (spec, shared) = (Arc::new(spec.clone()), runner.shared.clone());
        tasks.spawn(async move {
            let course = Mutex::new(Course::new(&spec, Health::Unknown));
            let probe = || async move {
                if Instant::now() < death {
                    return Ok(Passed::default());
                }
                tokio::time::sleep(timeout).await;
                Err(Failure::Refused)
            };
            keep_probing(
                &spec,
                Health::Unknown.into(),
                first,
                &course,
                &shared,
                probe,
            )
            .await;
        });
    }
    let mut down = 0;
    while down < 1_000 {
        let report = received.recv().await.unwrap();
        down += usize::from(report.transition.is_some_and(|it| it.to == Health::Down));
    }
    death.elapsed()
}

#[test]
fn in_an_outbreak_the_order_stays_and_nobody_waits_longer_than_before() {
    let (now, interval) = (Instant::now(), Duration::from_secs(60));
    let after = |milliseconds| {
        let due = now + Duration::from_millis(milliseconds);
        sooner(due, interval, now).duration_since(now).as_millis()
    };
    assert_eq!(
        [0, 1, 6_000, 30_000, 60_000, 90_000].map(after),
        [0, 0, 125, 625, 1_250, 1_250]
    );
    let short = sooner(now + Duration::from_secs(1), Duration::from_secs(1), now);
    assert_eq!(short - now, Duration::from_secs(1));
}

/// Runs a check (interval 1 s, rise 2, fall 2, begins unknown) whose probes follow `script`;
/// `expected` has a line for each report: `MILLISECONDS OUTCOME HEALTH [TRANSITION]`. One that says
/// nothing new comes a quarter of a second late.
async fn check(script: &[Does], expected: &[&str]) {
    check_plan(spec(), Health::Unknown.into(), script, expected).await;
}

fn spec() -> CheckSpec {
    CheckSpec {
        target: "192.0.2.1:80".parse().unwrap(),
        route: crate::Route::default(),
        kind: CheckKind::Tcp,
        interval: Duration::from_secs(1),
        fast_interval: None,
        down_interval: None,
        timeout: Duration::from_secs(10),
        rise: 2,
        fall: 2,
        start: crate::Start::Down,
        flap: None,
    }
}

async fn check_plan(spec: CheckSpec, plan: Plan, script: &[Does], expected: &[&str]) {
    let spec = Arc::new(spec);
    let mut script: VecDeque<Does> = script.iter().copied().collect();
    let probe = || {
        let does = script.pop_front();
        async move {
            match does {
                Some(Passes) => Ok(Passed::default()),
                Some(Fails) => Err(Failure::Refused),
                Some(Takes(ms)) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok(Passed::default())
                }
                Some(Panics) => panic!("of the script"),
                Some(FindsNoFileDescriptor) => Err(Failure::Resource("none left".into())),
                None => std::future::pending().await,
            }
        }
    };
    let begin = Instant::now();
    let (reports, mut received) = unbounded_channel();
    let runner = Runner::with(Handle::current(), reports, 10);
    let course = Mutex::new(Course::new(&spec, plan.begin));
    let now = Instant::now();
    let probing = keep_probing(&spec, plan, now, &course, &runner.shared, probe);
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let report: Report = received.recv().await.unwrap();
            let outcome = report.outcome.map_or_else(|f| f.reason(), |_| "ok");
            let mut line = format!(
                "{} {outcome} {}",
                begin.elapsed().as_millis(),
                report.health
            );
            if let Some(t) = report.transition {
                line += &format!(" {}>{}", t.from, t.to);
            }
            seen.push(line);
        }
        seen
    };
    tokio::select! {
        () = probing => panic!("the check ended"),
        seen = reading => assert_eq!(seen, expected),
    }
}
