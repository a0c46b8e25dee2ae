//! Keeps a set of checks going, one task each, and reports every outcome.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::check::{CheckKind, CheckSpec};
use crate::course::{Course, Standing};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::limits;
use crate::outbreak::Outbreak;
use crate::probe::{Passed, Probe};
use crate::report::Report;
use crate::sockets::Sockets;
use crate::verdict::{Health, Transition};

/// First probes of new checks are this far apart, ...
const FIRST_PROBE_STEP: Duration = Duration::from_millis(20);
/// ... but all of them are made within this time (and within the check's own interval), ...
const FIRST_PROBES_WITHIN: Duration = Duration::from_secs(5);
/// ... and begin at beats this far apart, several together: a thread that wakes for each of thousands of
/// checks spends more on waking than on checking.
const GRAIN: Duration = Duration::from_millis(10);
/// A shorter interval counts as this one, so that no mistake makes a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// In an outbreak every target that is up is asked within this time.
const HURRY_WITHIN: Duration = Duration::from_millis(1_250);
/// How long a report waits that says nothing new.
const NOTHING_NEW_WAITS: Duration = Duration::from_millis(250);

/// Runs checks until they are no longer in its set, or until it is dropped.
#[derive(Debug)]
pub struct Runner {
    runtime: Handle,
    shared: Arc<Shared>,
    running: BTreeMap<Arc<CheckSpec>, Task>,
    /// What checks that begin go on with.
    known: BTreeMap<CheckSpec, Standing>,
    /// Its thread ends with it.
    thread: Option<oneshot::Sender<()>>,
}

/// How a check is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What it begins with, if it is new.
    pub begin: Health,
    /// No probe sooner than this after the one before, whatever the check says; absent: as it says.
    pub slowed: Option<Duration>,
}

/// What all checks of a runner have in common.
#[derive(Debug)]
struct Shared {
    reports: UnboundedSender<Report>,
    /// Reports that say nothing new, and whoever sends them on after a while: their receiver is not
    /// woken for each.
    nothing_new: Mutex<Vec<Report>>,
    some_wait: Notify,
    /// File descriptors that probes may take.
    descriptors: Semaphore,
    /// None where the kernel gave no epoll: then each probe has a socket of its own.
    sockets: Option<Arc<Sockets>>,
    outbreak: Mutex<Outbreak>,
    /// Wakes every check for an outbreak.
    hurry: Notify,
    lateness: Histogram,
    durations: Histogram,
}

#[derive(Debug)]
struct Task {
    /// Its task ends with it.
    handle: AbortHandle,
    course: Arc<Mutex<Course>>,
    slowed: Option<Duration>,
}

impl Runner {
    /// A runner without checks, which will send its reports there. When nobody receives them any
    /// more, the checks end.
    ///
    /// It has a thread of its own, "checks", and one is enough: where a connection is ready on another
    /// thread than its check last ran on, waking that one costs more than the check (measured: 10,000
    /// TCP checks in 3 s take 16 % of a core on one thread, 26 % on two).
    ///
    /// The limit of open files of this process, as it is at this moment, bounds how many probes are on
    /// their way at once.
    ///
    /// # Errors
    ///
    /// No thread.
    pub fn new(reports: UnboundedSender<Report>) -> io::Result<Runner> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut runner = Runner::with(runtime.handle().clone(), reports, limits::descriptors());
        let (thread, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("checks".to_owned())
            .spawn(move || {
                // Dropped with the runner; then its tasks go with the runtime.
                let _ = runtime.block_on(ended);
            })?;
        runner.thread = Some(thread);
        Ok(runner)
    }

    fn with(runtime: Handle, reports: UnboundedSender<Report>, descriptors: u32) -> Runner {
        let shared = Arc::new(Shared {
            reports,
            nothing_new: Mutex::default(),
            some_wait: Notify::new(),
            descriptors: Semaphore::new(usize::try_from(descriptors).unwrap_or(1)),
            sockets: Sockets::new().ok().map(Arc::new),
            outbreak: Mutex::new(Outbreak::new(Instant::now().into_std())),
            hurry: Notify::new(),
            lateness: Histogram::new(&Histogram::PROBES),
            durations: Histogram::new(&Histogram::PROBES),
        });
        // Both end with the runtime.
        runtime.spawn(send_on(shared.clone()));
        if let Some(sockets) = shared.sockets.clone() {
            runtime.spawn(async move { sockets.serve().await });
        }
        Runner {
            runtime,
            shared,
            running: BTreeMap::new(),
            known: BTreeMap::new(),
            thread: None,
        }
    }

    /// Makes `wanted` the whole set of checks: starts what is new, stops what is gone, and leaves
    /// the rest alone, its rhythm and its state included. One that is to be slowed otherwise than
    /// before is new.
    ///
    /// The first probes of new checks are spread a little, so that they do not all leave at once; a
    /// [`CheckKind::None`] reports [`Health::Up`] once and at once. A report of a check that is gone
    /// may still be on its way: a receiver must expect checks that it no longer knows.
    pub fn set(&mut self, wanted: BTreeMap<CheckSpec, Plan>) {
        self.running.retain(|spec, task| {
            let plan = wanted.get(&**spec);
            plan.is_some_and(|plan| plan.slowed == task.slowed)
        });
        let new: Vec<_> = wanted
            .into_iter()
            .filter(|(spec, _)| !self.running.contains_key(spec))
            .collect();
        let count = new.len();
        let begin = Instant::now();
        for (position, (spec, plan)) in new.into_iter().enumerate() {
            let spec = Arc::new(spec);
            let first = begin + first_delay(spec.interval, position, count);
            let mut course = Course::new(&spec, plan.begin);
            if let Some(standing) = self.known.remove(&*spec) {
                course.go_on(&standing, begin.into_std());
            }
            let course = Arc::new(Mutex::new(course));
            let check = run(
                spec.clone(),
                plan,
                first,
                course.clone(),
                self.shared.clone(),
            );
            let task = self.runtime.spawn(check);
            let task = Task {
                handle: task.abort_handle(),
                course,
                slowed: plan.slowed,
            };
            self.running.insert(spec, task);
        }
    }

    /// How the checks stand that run, for another process that goes on with them.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<&CheckSpec, Standing> {
        let now = Instant::now().into_std();
        let running = self.running.iter();
        running
            .map(|(spec, task)| (&**spec, lock(&task.course).standing(now)))
            .collect()
    }

    /// What checks go on with that begin from here on, if they begin with that verdict.
    pub fn go_on_with(&mut self, known: BTreeMap<CheckSpec, Standing>) {
        self.known = known;
    }

    /// How long after their time probes were started.
    #[must_use]
    pub fn lateness(&self) -> &Histogram {
        &self.shared.lateness
    }

    /// How long probes took.
    #[must_use]
    pub fn durations(&self) -> &Histogram {
        &self.shared.durations
    }
}

impl From<Health> for Plan {
    fn from(begin: Health) -> Plan {
        Plan {
            begin,
            slowed: None,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Whoever panicked with the lock left what it guards whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the check at `position` of `count` new ones waits before its first probe.
fn first_delay(interval: Duration, position: usize, count: usize) -> Duration {
    let position = u32::try_from(position).unwrap_or(u32::MAX);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let window = FIRST_PROBE_STEP
        .saturating_mul(count)
        .min(FIRST_PROBES_WITHIN)
        .min(interval);
    let delay = window.saturating_mul(position) / count;
    let beyond = delay.as_nanos() % GRAIN.as_nanos();
    delay.saturating_sub(Duration::from_nanos(u64::try_from(beyond).unwrap_or(0)))
}

/// Sends reports on that wait because they say nothing new.
async fn send_on(shared: Arc<Shared>) {
    loop {
        shared.some_wait.notified().await;
        tokio::time::sleep(NOTHING_NEW_WAITS).await;
        shared.flush();
    }
}

impl Shared {
    /// Sends a report, after those that came before it; `false`: nobody receives it.
    fn send(&self, report: Report) -> bool {
        self.flush();
        self.reports.send(report).is_ok()
    }

    /// Sends a report with others that say nothing new.
    fn send_later(&self, report: Report) -> bool {
        let mut waiting = lock(&self.nothing_new);
        waiting.push(report);
        if waiting.len() == 1 {
            self.some_wait.notify_one();
        }
        !self.reports.is_closed()
    }

    fn flush(&self) {
        let waiting = std::mem::take(&mut *lock(&self.nothing_new));
        for report in waiting {
            // Nobody receives any more: so does whoever reports next.
            let _ = self.reports.send(report);
        }
    }
}

async fn run(
    spec: Arc<CheckSpec>,
    plan: Plan,
    first: Instant,
    course: Arc<Mutex<Course>>,
    shared: Arc<Shared>,
) {
    if spec.kind == CheckKind::None {
        let up = Health::Up;
        let transition = (plan.begin != up).then_some(Transition {
            from: plan.begin,
            to: up,
        });
        let _nobody_listens = shared.send(Report {
            spec,
            health: up,
            flapping: false,
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
            None => Probe::new(&spec).map(|probe| match &shared.sockets {
                Some(sockets) => Arc::new(probe.sharing(sockets)),
                None => Arc::new(probe),
            }),
        };
        ready = probe.clone().ok();
        async move { probe?.run().await }
    };
    keep_probing(&spec, plan, first, &course, &shared, probe).await;
}

/// Probes at `first` and then again and again. A probe that outlasts its interval is followed
/// by the next one at once (with a timeout as long as the interval, a dead target is so found in `fall`
/// intervals and not in twice that); beats missed meanwhile are skipped and those to come stay where
/// they were. In an outbreak there is one more, soon.
async fn keep_probing<F>(
    spec: &Arc<CheckSpec>,
    plan: Plan,
    first: Instant,
    course: &Mutex<Course>,
    shared: &Shared,
    mut probe: impl FnMut() -> F,
) where
    F: Future<Output = Result<Passed, Failure>>,
{
    // The beat, and when to probe: at it, or sooner.
    let (mut beat, mut due) = (first, first);
    let mut free_since = due;
    let mut said = None;
    // Whether its target is known to be up, so that a failure is news.
    let mut is_up = false;
    loop {
        if is_up && plan.slowed.is_none() {
            let hurry = tokio::time::timeout_at(due, shared.hurry.notified());
            if hurry.await.is_ok() {
                due = sooner(due, spec.interval, Instant::now());
                tokio::time::sleep_until(due).await;
            }
        } else {
            tokio::time::sleep_until(due).await;
        }
        let turn = shared.descriptors.acquire_many(spec.kind.descriptors());
        let Ok(turn) = turn.await else { return };
        let started = Instant::now();
        let late = started.saturating_duration_since(due.max(free_since));
        shared.lateness.record(late);
        if is_up && lock(&shared.outbreak).begun(started.into_std()) {
            shared.hurry.notify_waiters();
        }
        let outcome = contained(async { probe().await }).await;
        drop(turn);
        let ended = Instant::now();
        let latency = ended.saturating_duration_since(started);
        shared.durations.record(latency);
        let (transition, health, flapping, interval) = {
            let mut course = lock(course);
            let transition = match &outcome {
                Ok(_) => course.record(true, ended.into_std()),
                Err(failure) if failure.counts() => course.record(false, ended.into_std()),
                Err(_ours) => None,
            };
            let interval = course.interval(spec).max(SHORTEST_INTERVAL);
            let says_nothing = outcome.as_ref().is_err_and(|failure| !failure.counts());
            if is_up && (outcome.is_ok() || says_nothing) {
                lock(&shared.outbreak).passed();
            }
            is_up = course.health() == Health::Up && (outcome.is_ok() || is_up);
            (transition, course.health(), course.flapping(), interval)
        };
        let report = Report {
            spec: spec.clone(),
            health,
            flapping,
            outcome,
            latency,
            at: SystemTime::now(),
            transition,
        };
        let says = (report.health, report.flapping, report.outcome.clone());
        let nothing_new = transition.is_none() && said.as_ref() == Some(&says);
        let received = if nothing_new {
            shared.send_later(report)
        } else {
            said = Some(says);
            shared.send(report)
        };
        if !received {
            return;
        }
        let interval = plan.slowed.map_or(interval, |slowed| slowed.max(interval));
        // After one that came sooner the rhythm is what it was, unless it changes.
        let next = next_beat(due, interval, ended);
        beat = if due < beat { next.min(beat) } else { next };
        due = beat;
        free_since = ended;
    }
}

/// When to probe in an outbreak instead of at `due`: in the order of the beats, evenly.
fn sooner(due: Instant, interval: Duration, now: Instant) -> Instant {
    let left = due.saturating_duration_since(now);
    let share = left.as_secs_f64() / interval.as_secs_f64();
    due.min(now + HURRY_WITHIN.mul_f64(share.min(1.0)))
}

/// The next beat after `last`, or, where one or more were missed, the last of those.
fn next_beat(last: Instant, interval: Duration, now: Instant) -> Instant {
    let beats = now.saturating_duration_since(last).as_nanos() / interval.as_nanos().max(1);
    let beats = u32::try_from(beats).unwrap_or(u32::MAX).max(1);
    last + interval.saturating_mul(beats)
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
mod tests;
