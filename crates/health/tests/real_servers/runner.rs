//! The runner, with real probes of real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use health::{CheckKind, CheckSpec, Failure, Health, Plan, Report, Runner, Transition};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::rerun::rerun;
use crate::socket::{free_address, listen, serve_silence};
use crate::{get, spec};

#[tokio::test]
async fn a_target_follows_its_server_up_and_down_by_rise_and_fall() {
    let (listener, address) = listen().await;
    let check = CheckSpec {
        rise: 3,
        fall: 2,
        ..quick(address)
    };
    let (mut runner, mut reports) = runner();
    runner.set(one(&check, Health::Unknown));

    let up = transition(Health::Unknown, Health::Up);
    assert_eq!(until_transition(&mut reports).await, (1, up));
    drop(listener);
    let down = transition(Health::Up, Health::Down);
    let (_, to) = until_transition(&mut reports).await;
    assert_eq!(to, down);
    let _listener = TcpListener::bind(address).await.unwrap();
    let back = transition(Health::Down, Health::Up);
    let (_, to) = until_transition(&mut reports).await;
    assert_eq!(to, back);
}

#[tokio::test]
async fn a_check_begins_in_the_state_it_is_handed() {
    let check = CheckSpec {
        fall: 3,
        ..quick(free_address())
    };
    let (mut runner, mut reports) = runner();
    runner.set(one(&check, Health::Up));
    let first = next(&mut reports).await;
    assert_eq!(first.health, Health::Up);
    assert_eq!(first.outcome, Err(Failure::Refused));
    assert_eq!(*first.spec, check);
    let down = transition(Health::Up, Health::Down);
    assert_eq!(until_transition(&mut reports).await, (2, down));
}

#[tokio::test]
async fn a_new_set_starts_what_is_new_stops_what_is_gone_and_leaves_the_rest_alone() {
    let (gone, stays, new) = (listen().await, listen().await, listen().await);
    let (mut runner, mut reports) = runner();
    let both = [&gone, &stays].map(|(_, address)| (quick(*address), Health::Unknown.into()));
    runner.set(both.into());
    let mut ups = Vec::new();
    while ups.len() < 2 {
        let report = next(&mut reports).await;
        if report.transition.is_some() {
            ups.push(report.spec.target);
        }
    }

    let both = [&stays, &new].map(|(_, address)| (quick(*address), Health::Unknown.into()));
    runner.set(both.into());
    let mut began_again = Vec::new();
    let mut late_reports = 0;
    for _ in 0..40 {
        let report = next(&mut reports).await;
        if report.transition.is_some() {
            began_again.push(report.spec.target);
        }
        if report.spec.target == gone.1 {
            late_reports += 1;
        }
    }
    assert_eq!(began_again, [new.1], "the one that stays keeps its state");
    assert!(late_reports <= 1, "the one that is gone went on");

    drop(runner);
    let ends = async { while reports.recv().await.is_some() {} };
    timeout(Duration::from_secs(5), ends)
        .await
        .expect("dropping the runner stops every check");
}

#[tokio::test]
async fn first_probes_do_not_all_leave_at_once() {
    let (_listener, address) = listen().await;
    let checks = (0..20).map(|i| {
        let check = CheckSpec {
            timeout: Duration::from_secs(5) + Duration::from_millis(i),
            ..spec(address, CheckKind::Tcp)
        };
        (check, Health::Unknown.into())
    });
    let begin = Instant::now();
    let (mut runner, mut reports) = runner();
    runner.set(checks.collect());
    let mut seen = Vec::new();
    for _ in 0..20 {
        next(&mut reports).await;
        seen.push(begin.elapsed());
    }
    assert!(seen[0] < Duration::from_millis(200), "{seen:?}");
    assert!(seen[10] >= Duration::from_millis(200), "{seen:?}");
    assert!(seen[19] >= Duration::from_millis(380), "{seen:?}");
}

#[tokio::test]
async fn a_target_without_a_check_is_reported_up_once_and_at_once() {
    let check = spec(free_address(), CheckKind::None);
    let (mut runner, mut reports) = runner();
    runner.set(one(&check, Health::Unknown));
    let only = next(&mut reports).await;
    assert_eq!(
        (only.health, only.outcome),
        (Health::Up, Ok(health::Passed::default()))
    );
    assert_eq!(
        only.transition,
        Some(transition(Health::Unknown, Health::Up))
    );
    runner.set(one(&check, Health::Unknown));
    let more = timeout(Duration::from_millis(100), reports.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_target_that_never_answers_delays_nobody() {
    let (_listener, address) = listen().await;
    let slow = CheckSpec {
        timeout: Duration::from_millis(300),
        kind: CheckKind::Http(get("/")),
        ..quick(serve_silence().await)
    };
    let set = [quick(address), slow.clone()].map(|check| (check, Health::Up.into()));
    let (mut runner, mut reports) = runner();
    runner.set(set.into());
    let mut answered = 0;
    loop {
        let report = next(&mut reports).await;
        if *report.spec == slow {
            assert!(report.latency >= slow.timeout);
            break;
        }
        answered += 1;
    }
    // 30 beats of 10 ms; a busy machine may miss some.
    assert!(answered >= 10, "{answered}");
}

#[test]
fn a_director_out_of_file_descriptors_takes_no_target_down() {
    if rerun(
        "runner::a_director_out_of_file_descriptors_takes_no_target_down",
        None,
        Some(40),
    ) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (_listener, address) = listen().await;
        let (mut runner, mut reports) = runner();
        // One with a source takes a socket for each probe.
        let check = CheckSpec {
            route: health::Route {
                source: Some(address.ip()),
                ..health::Route::default()
            },
            ..quick(address)
        };
        runner.set(one(&check, Health::Unknown));
        assert_eq!(until_transition(&mut reports).await.0, 1);

        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let mut short = 0;
        while short < 5 {
            let report = next(&mut reports).await;
            assert_eq!((report.health, report.transition), (Health::Up, None));
            if let Err(failure) = report.outcome {
                assert_eq!(failure.reason(), "resource", "{failure}");
                short += 1;
            }
        }
        drop(hoard);
        while next(&mut reports).await.outcome.is_err() {}
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_thousand_targets_a_thousand_that_die_make_a_thousand_transitions() {
    const TARGETS: usize = 2_000;
    // A listener each, and a probe.
    raise_limit().unwrap();
    let mut servers = Vec::new();
    let mut checks = BTreeMap::new();
    for number in 0..TARGETS {
        let ip = std::net::Ipv4Addr::from_bits(0x7f80_0100 + u32::try_from(number).unwrap());
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        servers.push((address, serving));
        let check = CheckSpec {
            interval: Duration::from_secs(2),
            fast_interval: Some(Duration::from_millis(500)),
            fall: 2,
            ..spec(address, CheckKind::Tcp)
        };
        checks.insert(check, Health::Unknown.into());
    }
    let (mut runner, mut reports) = runner();
    runner.set(checks);
    let mut ups = 0;
    while ups < TARGETS {
        let report = next(&mut reports).await;
        if let Some(turned) = report.transition {
            assert_eq!(turned, transition(Health::Unknown, Health::Up), "{report}");
            ups += 1;
        }
    }

    let killed: BTreeSet<SocketAddr> = servers
        .iter()
        .step_by(2)
        .map(|(address, _)| *address)
        .collect();
    for (_, serving) in servers.iter().step_by(2) {
        serving.abort();
    }
    let mut downs = BTreeSet::new();
    // Until all are down, and then once more all of them: nothing else turns.
    let (mut transitions, mut after) = (0, BTreeSet::new());
    while downs.len() < killed.len() || after.len() < TARGETS {
        let report = next(&mut reports).await;
        let target = report.spec.target;
        if downs.len() == killed.len() {
            after.insert(target);
        }
        if let Some(turned) = report.transition {
            assert_eq!(turned, transition(Health::Up, Health::Down), "{report}");
            assert!(killed.contains(&target), "{report}");
            assert!(
                report.to_string().contains("connection refused, after"),
                "{report}"
            );
            downs.insert(target);
            transitions += 1;
        }
    }
    assert_eq!(transitions, TARGETS / 2);
    let (counts, _) = runner.lateness().read();
    assert!(counts.iter().sum::<u64>() >= 6_000, "{counts:?}");
}

/// Raises the limit of open files.
fn raise_limit() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit)
}

/// A TCP check every 10 ms that turns at the first outcome.
fn quick(target: SocketAddr) -> CheckSpec {
    CheckSpec {
        interval: Duration::from_millis(10),
        ..spec(target, CheckKind::Tcp)
    }
}

fn runner() -> (Runner, UnboundedReceiver<Report>) {
    let (sender, reports) = unbounded_channel();
    (Runner::new(sender).unwrap(), reports)
}

fn one(check: &CheckSpec, initial: Health) -> BTreeMap<CheckSpec, Plan> {
    BTreeMap::from([(check.clone(), initial.into())])
}

fn transition(from: Health, to: Health) -> Transition {
    Transition { from, to }
}

async fn next(reports: &mut UnboundedReceiver<Report>) -> Report {
    timeout(Duration::from_secs(5), reports.recv())
        .await
        .expect("a report within 5 s")
        .expect("the runner runs")
}

/// The next change, and how many reports it took to come.
async fn until_transition(reports: &mut UnboundedReceiver<Report>) -> (u32, Transition) {
    let mut count = 0;
    loop {
        count += 1;
        if let Some(transition) = next(reports).await.transition {
            return (count, transition);
        }
    }
}
