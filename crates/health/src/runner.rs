//! Keeps a set of checks going, one task each, and reports every outcome.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::check::{CheckKind, CheckSpec};
use crate::failure::Failure;
use crate::probe::{Passed, Probe};
use crate::verdict::{Health, Transition, Verdict};

/// First probes of new checks are this far apart, ...
const FIRST_PROBE_STEP: Duration = Duration::from_millis(20);
/// ... but all of them are made within this time (and within the check's own interval).
const FIRST_PROBES_WITHIN: Duration = Duration::from_secs(5);
/// A shorter interval counts as this one, so that no mistake makes a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// One outcome of one check.
#[derive(Debug, Clone)]
pub struct Report {
    /// The check.
    pub spec: Arc<CheckSpec>,
    /// What is believed of the target from now on.
    pub health: Health,
    /// The outcome of this one probe.
    pub outcome: Result<Passed, Failure>,
    /// From the start of the probe to its outcome.
    pub latency: Duration,
    /// When the outcome was there, by the wall clock.
    pub at: SystemTime,
    /// What this outcome changed; absent: nothing.
    pub transition: Option<Transition>,
}

/// Runs checks until they are no longer in its set, or until it is dropped.
#[derive(Debug)]
pub struct Runner {
    reports: UnboundedSender<Report>,
    running: BTreeMap<Arc<CheckSpec>, Task>,
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Task(AbortHandle);

impl Runner {
    /// A runner without checks, which will send its reports there. When nobody receives them any
    /// more, the checks end.
    #[must_use]
    pub fn new(reports: UnboundedSender<Report>) -> Runner {
        Runner {
            reports,
            running: BTreeMap::new(),
        }
    }

    /// Makes `wanted` the whole set of checks: starts what is new, stops what is gone, and leaves
    /// the rest alone, its rhythm and its state included.
    ///
    /// The [`Health`] is what a new check begins with; of one that runs already it is ignored. The
    /// first probes of new checks are spread a little, so that they do not all leave at once; a
    /// [`CheckKind::None`] reports [`Health::Up`] once and at once. A report of a check that is gone
    /// may still be on its way: a receiver must expect checks that it no longer knows.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time and I/O.
    pub fn set(&mut self, wanted: BTreeMap<CheckSpec, Health>) {
        self.running.retain(|spec, _| wanted.contains_key(&**spec));
        let new: Vec<_> = wanted
            .into_iter()
            .filter(|(spec, _)| !self.running.contains_key(spec))
            .collect();
        let count = new.len();
        for (position, (spec, initial)) in new.into_iter().enumerate() {
            let spec = Arc::new(spec);
            let task = tokio::spawn(run(
                spec.clone(),
                initial,
                first_delay(spec.interval, position, count),
                self.reports.clone(),
            ));
            self.running.insert(spec, Task(task.abort_handle()));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long the check at `position` of `count` new ones waits before its first probe.
fn first_delay(interval: Duration, position: usize, count: usize) -> Duration {
    let position = u32::try_from(position).unwrap_or(u32::MAX);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let window = FIRST_PROBE_STEP
        .saturating_mul(count)
        .min(FIRST_PROBES_WITHIN)
        .min(interval);
    window.saturating_mul(position) / count
}

async fn run(
    spec: Arc<CheckSpec>,
    initial: Health,
    first_delay: Duration,
    reports: UnboundedSender<Report>,
) {
    if spec.kind == CheckKind::None {
        let up = Health::Up;
        let transition = (initial != up).then_some(Transition {
            from: initial,
            to: up,
        });
        let _nobody_listens = reports.send(Report {
            spec,
            health: up,
            outcome: Ok(Passed::default()),
            latency: Duration::ZERO,
            at: SystemTime::now(),
            transition,
        });
        return;
    }
    // Made at the first probe, and again at the next one where that fails: the cause may be mended
    // (root certificates get installed).
    let mut ready: Option<Arc<Probe>> = None;
    let probe = || {
        let probe = match &ready {
            Some(probe) => Ok(probe.clone()),
            None => Probe::new(&spec).map(Arc::new),
        };
        ready = probe.clone().ok();
        async move { probe?.run().await }
    };
    keep_probing(&spec, initial, first_delay, &reports, probe).await;
}

/// Probes after `first_delay` and then at every whole interval from there. A probe that outlasts its
/// interval is followed by the next one at once (with a timeout as long as the interval, a dead
/// target is so found in `fall` intervals and not in twice that); beats missed meanwhile are skipped
/// and those to come stay where they were.
async fn keep_probing<F>(
    spec: &Arc<CheckSpec>,
    initial: Health,
    first_delay: Duration,
    reports: &UnboundedSender<Report>,
    mut probe: impl FnMut() -> F,
) where
    F: Future<Output = Result<Passed, Failure>>,
{
    let mut verdict = Verdict::new(initial, spec.rise, spec.fall);
    let interval = spec.interval.max(SHORTEST_INTERVAL);
    let mut beat = tokio::time::interval_at(Instant::now() + first_delay, interval);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        let started = Instant::now();
        let outcome = contained(async { probe().await }).await;
        let transition = match &outcome {
            Ok(_) => verdict.record(true),
            Err(failure) if failure.counts() => verdict.record(false),
            Err(_ours) => None,
        };
        let report = Report {
            spec: spec.clone(),
            health: verdict.health(),
            outcome,
            latency: started.elapsed(),
            at: SystemTime::now(),
            transition,
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

/// Turns a panic of the probe into a failure.
async fn contained(
    probe: impl Future<Output = Result<Passed, Failure>>,
) -> Result<Passed, Failure> {
    let mut probe = pin!(probe);
    std::future::poll_fn(|context| {
        // A future that has panicked is not polled again, so nobody sees what it left half done.
        let polled = catch_unwind(AssertUnwindSafe(|| probe.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(Failure::Internal(message(&*panic)))))
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => "no message".into(),
    }
}

#[cfg(test)]
mod tests {
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
                "3000 refused down",
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
                "3000 resource up",
                "4000 refused down up>down",
            ],
        )
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_slow_probe_comes_one_at_once_and_then_the_old_rhythm() {
        check(
            &[Takes(2_300), Passes, Passes],
            &["2300 ok up unknown>up", "2300 ok up", "3000 ok up"],
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

    /// Runs a check (interval 1 s, rise 2, fall 2, begins unknown) whose probes follow `script`;
    /// `expected` has a line for each report: `MILLISECONDS OUTCOME HEALTH [TRANSITION]`.
    async fn check(script: &[Does], expected: &[&str]) {
        let spec = Arc::new(CheckSpec {
            target: "192.0.2.1:80".parse().unwrap(),
            route: crate::Route::default(),
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            rise: 2,
            fall: 2,
            start: crate::Start::Down,
        });
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
        let probing = keep_probing(&spec, Health::Unknown, Duration::ZERO, &reports, probe);
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
}
