//! `[[notify]]`: tells programs and webhooks what happens.
//!
//! Every entry has a lane for each object. In a lane one is told after the other, so that the order of
//! an object's events is kept; lanes do not wait for each other, nor entries, nor the daemon for any of
//! them. What still waits in a lane when something newer of its [topic](Kind::topic) comes is old news
//! and goes.
//!
//! What a webhook has not taken yet is in `state_dir` (`spool`), so that it is told at least once.

mod delivery;
mod entry;
pub mod spool;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use self::delivery::Way;
use self::entry::{Entry, Lane, Turn, makes_old};
use self::spool::Spooled;
use crate::config::{Config, Notify, NotifyBy};
use crate::events::{Event, Events, Kind};

/// How many are told at once by one entry.
const AT_ONCE: usize = 64;
/// The same while it fails: a server that is down is not asked by thousands.
const AT_ONCE_FAILING: usize = 8;
/// How many events wait in one entry; the oldest go first.
const WAITING_MAX: usize = 10_000;
/// What a webhook has not taken in that time is not told any more.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// From the first failure of a webhook to the next try; it doubles each time.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
/// From one writing of the spool to the next, and how many times longer than the writing itself that is at
/// least.
const SAVE_PAUSE: Duration = Duration::from_millis(100);
const SAVE_PAUSE_TIMES: u32 = 10;
/// The same after it could not be written.
const SAVE_RETRY: Duration = Duration::from_secs(5);
/// How long the end of the daemon waits for what is being told.
const END: Duration = Duration::from_secs(2);

/// What one entry has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Told.
    pub told: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Old news that went.
    pub coalesced: u64,
    /// Not told: too many waited, or for too long.
    pub dropped: u64,
    /// Waiting, or being told.
    pub waiting: u64,
}

/// The counts of every entry.
type AllCounts = Arc<Mutex<BTreeMap<String, Counts>>>;

/// The notifier, from the director's side.
#[derive(Debug)]
pub struct Notifier {
    wanted: watch::Sender<Wanted>,
    end: watch::Sender<bool>,
    counts: AllCounts,
    task: JoinHandle<()>,
}

/// What the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    director: String,
    state_dir: PathBuf,
    entries: Vec<Notify>,
}

impl Wanted {
    fn of(config: &Config) -> Wanted {
        Wanted {
            director: config.global.name.clone(),
            state_dir: config.global.state_dir.clone(),
            entries: config.notify.clone(),
        }
    }
}

impl Notifier {
    /// Starts to tell what is recorded from here on, and what former runs have left to tell.
    #[must_use]
    pub fn start(config: &Config, events: &Arc<Events>) -> Notifier {
        Notifier::start_when(watch::Sender::new(true).subscribe(), config, events)
    }

    /// The same; nobody is told before `begin` is true, for another daemon may still be telling.
    pub(crate) fn start_when(
        begin: watch::Receiver<bool>,
        config: &Config,
        events: &Arc<Events>,
    ) -> Notifier {
        let (wanted, changes) = watch::channel(Wanted::of(config));
        let (end, ending) = watch::channel(false);
        let counts = AllCounts::default();
        let worker = Worker {
            news: events.follow(),
            events: Arc::clone(events),
            wanted: changes.borrow().clone(),
            entries: BTreeMap::new(),
            jobs: JoinSet::new(),
            counts: Arc::clone(&counts),
            spool: SpoolState::default(),
        };
        Notifier {
            wanted,
            end,
            counts,
            task: tokio::spawn(worker.run(changes, ending, begin)),
        }
    }

    /// From here on it is that configuration.
    pub fn set(&self, config: &Config) {
        let wanted = Wanted::of(config);
        self.wanted.send_if_modified(|known| {
            let news = *known != wanted;
            *known = wanted;
            news
        });
    }

    /// What every entry has done since the start.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        lock(&self.counts).clone()
    }

    /// Ends it: what is being told has a moment, what webhooks have not taken is left to the next run.
    pub async fn finish(&mut self) {
        self.end.send_replace(true);
        let _hung = tokio::time::timeout(END + END, &mut self.task).await;
    }
}

struct Worker {
    news: mpsc::UnboundedReceiver<Event>,
    events: Arc<Events>,
    wanted: Wanted,
    entries: BTreeMap<String, Entry>,
    jobs: JoinSet<Done>,
    counts: AllCounts,
    spool: SpoolState,
}

#[derive(Default)]
struct SpoolState {
    /// Whether the file is not as the lanes are.
    stale: bool,
    /// Since when it is being written.
    writing: Option<Instant>,
    not_before: Option<Instant>,
    broken: bool,
    /// Whether there is a file.
    exists: bool,
}

/// What has come to an end.
enum Done {
    Told {
        entry: String,
        object: String,
        result: Result<(), String>,
    },
    Rested {
        entry: String,
        object: String,
    },
    Saved(Result<(), String>),
}

impl Worker {
    async fn run(
        mut self,
        mut changes: watch::Receiver<Wanted>,
        mut ending: watch::Receiver<bool>,
        mut begin: watch::Receiver<bool>,
    ) {
        self.configure();
        let _ = begin.wait_for(|begun| *begun).await;
        self.read_spool().await;
        let mut end: Option<Instant> = None;
        loop {
            self.start_ready();
            self.save_when_due();
            if end.is_some() && (self.is_idle() || end.is_some_and(|end| Instant::now() >= end)) {
                return self.last_save().await;
            }
            let save_at = self
                .spool
                .not_before
                .filter(|_| self.spool.stale && self.spool.writing.is_none());
            tokio::select! {
                Some(event) = self.news.recv() => self.take(&Arc::new(event)),
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.take_done(done),
                    Err(error) => warn!("notify: a task ended badly: {error}"),
                },
                Ok(()) = changes.changed() => {
                    self.wanted = changes.borrow_and_update().clone();
                    self.configure();
                }
                _ = ending.wait_for(|ending| *ending), if end.is_none() => {
                    end = Some(Instant::now() + END);
                }
                () = reached(save_at) => {}
                () = reached(end) => {}
            }
        }
    }

    /// Puts `wanted` in force. An entry is the one before if it has its name.
    fn configure(&mut self) {
        let mut before = std::mem::take(&mut self.entries);
        for config in &self.wanted.entries {
            let mut entry = before
                .remove(&config.name)
                .unwrap_or_else(|| Entry::new(config));
            if *entry.config != *config {
                entry.config = Arc::new(config.clone());
                entry.way = Way::of(config);
                for lane in entry.lanes.values_mut() {
                    lane.waiting.retain(|event| wants(config, event));
                }
                entry.waiting = entry.lanes.values().map(|lane| lane.events().count()).sum();
            }
            self.entries.insert(config.name.clone(), entry);
        }
        self.spool.stale = true;
        let mut counted = lock(&self.counts);
        counted.retain(|name, _| self.entries.contains_key(name));
        for (name, entry) in &self.entries {
            let counts = counted.entry(name.clone()).or_default();
            counts.waiting = u64::try_from(entry.waiting).unwrap_or(u64::MAX);
        }
    }

    fn take(&mut self, event: &Arc<Event>) {
        let entries = self.entries.iter_mut();
        let concerned = entries.filter(|(_, entry)| wants(&entry.config, event));
        let mut counted = lock(&self.counts);
        for (name, entry) in concerned {
            let counts = counted.entry(name.clone()).or_default();
            entry.take(event, counts);
            self.spool.stale |= entry.is_webhook();
        }
    }

    fn start_ready(&mut self) {
        for (name, entry) in &mut self.entries {
            let at_once = if entry.failing {
                AT_ONCE_FAILING
            } else {
                AT_ONCE
            };
            while entry.telling < at_once {
                let Some(object) = entry.ready.pop_front() else {
                    break;
                };
                let Some(lane) = entry.lanes.get_mut(&object) else {
                    continue;
                };
                let Some(event) = lane.waiting.pop_front() else {
                    entry.lanes.remove(&object);
                    continue;
                };
                lane.turn = Turn::Telling;
                lane.told_of = Some(Arc::clone(&event));
                entry.telling += 1;
                let (name, way) = (name.clone(), entry.way.clone());
                let (config, director) = (Arc::clone(&entry.config), self.wanted.director.clone());
                self.jobs.spawn(async move {
                    let result = way.tell(&config, &director, &event).await;
                    Done::Told {
                        entry: name,
                        object,
                        result,
                    }
                });
            }
        }
    }

    fn take_done(&mut self, done: Done) {
        match done {
            Done::Told {
                entry,
                object,
                result,
            } => self.take_told(&entry, object, result),
            Done::Rested { entry, object } => {
                if let Some(entry) = self.entries.get_mut(&entry) {
                    entry.free(object);
                }
            }
            Done::Saved(result) => self.take_saved(result),
        }
    }

    fn take_told(&mut self, name: &str, object: String, result: Result<(), String>) {
        // It may be gone from the configuration.
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        entry.telling = entry.telling.saturating_sub(1);
        let webhook = entry.is_webhook();
        let Some(lane) = entry.lanes.get_mut(&object) else {
            return;
        };
        let Some(event) = lane.told_of.take() else {
            return;
        };
        let mut counted = lock(&self.counts);
        let counts = counted.entry(name.to_owned()).or_default();
        let failed = result.is_err();
        let mut rest = None;
        let mut left = 0;
        if failed {
            counts.failed += 1;
            if webhook {
                lane.failures = lane.failures.saturating_add(1);
                let newer = lane.waiting.iter().any(|newer| makes_old(newer, &event));
                if newer {
                    counts.coalesced += 1;
                } else if is_too_old(&event) {
                    counts.dropped += 1;
                } else {
                    lane.waiting.push_front(Arc::clone(&event));
                    left = 1;
                }
                lane.turn = Turn::Resting;
                let doubled = REST_MIN.saturating_mul(1 << (lane.failures - 1).min(10));
                rest = Some(doubled.min(REST_MAX));
            }
        } else {
            counts.told += 1;
            lane.failures = 0;
        }
        entry.waiting = entry.waiting.saturating_sub(1).saturating_add(left);
        counts.waiting = u64::try_from(entry.waiting).unwrap_or(u64::MAX);
        drop(counted);
        if let Some(rest) = rest {
            let (entry, object) = (name.to_owned(), object);
            self.jobs.spawn(async move {
                sleep(rest).await;
                Done::Rested { entry, object }
            });
        } else {
            entry.free(object);
        }
        let was_failing = std::mem::replace(&mut entry.failing, failed);
        // What is tried again is there already.
        self.spool.stale |= webhook && left == 0;
        let (kind, of) = (event.kind.clone(), event.object.clone());
        match result {
            Err(why) if !was_failing => {
                let again = if webhook { "; it is tried again" } else { "" };
                let message = format!("{why} (about {kind} {of}){again}");
                self.events.record(Kind::NotifyFailed, name, message);
            }
            Err(why) => debug!(notify = name, "fails again: {why} (about {kind} {of})"),
            Ok(()) if was_failing => {
                let message = format!("told of {kind} {of}");
                self.events.record(Kind::NotifyRecovered, name, message);
            }
            Ok(()) => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.entries
            .values()
            .all(|entry| entry.telling == 0 && (entry.is_webhook() || entry.ready.is_empty()))
    }

    // The spool.

    async fn read_spool(&mut self) {
        let directory = self.wanted.state_dir.clone();
        let read = tokio::task::spawn_blocking(move || spool::read(&directory)).await;
        match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(None) => {}
            Ok(Some(left)) => {
                self.spool.exists = true;
                for Spooled { notify, event } in left {
                    let entry = self.entries.get_mut(&notify);
                    let entry = entry.filter(|e| e.is_webhook() && wants(&e.config, &event));
                    if let Some(entry) = entry.filter(|_| !is_too_old(&event)) {
                        let mut counted = lock(&self.counts);
                        entry.take(&Arc::new(event), counted.entry(notify).or_default());
                    }
                }
            }
            Err(why) => {
                let message = format!("{why}; what webhooks were not told yet is lost");
                let name = self.wanted.director.clone();
                self.events.record(Kind::StateUnreadable, name, message);
            }
        }
    }

    fn save_when_due(&mut self) {
        let due = self.spool.not_before.is_none_or(|at| Instant::now() >= at);
        if self.spool.stale && self.spool.writing.is_none() && due {
            self.spool.stale = false;
            let left = self.left();
            if left.is_empty() && !self.spool.exists {
                return;
            }
            self.spool.writing = Some(Instant::now());
            let directory = self.wanted.state_dir.clone();
            self.spool.exists = !left.is_empty();
            self.jobs.spawn(async move {
                let write = move || spool::write(&directory, &left);
                let written = tokio::task::spawn_blocking(write).await;
                Done::Saved(written.unwrap_or_else(|error| Err(error.to_string())))
            });
        }
    }

    fn take_saved(&mut self, result: Result<(), String>) {
        let now = Instant::now();
        let begun = self.spool.writing.take().unwrap_or(now);
        let took = now.saturating_duration_since(begun);
        let pause = took.saturating_mul(SAVE_PAUSE_TIMES).max(SAVE_PAUSE);
        self.spool.not_before = Some(now + pause);
        let file = self
            .wanted
            .state_dir
            .join(spool::FILE)
            .display()
            .to_string();
        match result {
            Ok(()) if std::mem::take(&mut self.spool.broken) => {
                let message = "what webhooks were not told yet is kept again";
                self.events.record(Kind::StateWritten, file, message);
            }
            Ok(()) => {}
            Err(why) => {
                self.spool.not_before = Some(now + SAVE_RETRY);
                self.spool.stale = true;
                self.spool.exists = true;
                if !std::mem::replace(&mut self.spool.broken, true) {
                    let message =
                        format!("{why}; what webhooks were not told yet is kept in memory only");
                    self.events.record(Kind::StateUnwritable, file, message);
                }
            }
        }
    }

    async fn last_save(mut self) {
        while self.spool.writing.is_some() {
            match self.jobs.join_next().await {
                Some(Ok(Done::Saved(_))) => self.spool.writing = None,
                Some(Ok(Done::Told { .. } | Done::Rested { .. }) | Err(_)) => {}
                None => break,
            }
        }
        let left = self.left();
        if left.is_empty() && !self.spool.exists {
            return;
        }
        let directory = self.wanted.state_dir.clone();
        let written = tokio::task::spawn_blocking(move || spool::write(&directory, &left)).await;
        if let Err(why) = written.unwrap_or_else(|error| Err(error.to_string())) {
            warn!("what webhooks were not told yet is lost: {why}");
        }
    }

    /// What webhooks have not taken, in the order in which it happened.
    fn left(&self) -> Vec<Spooled> {
        let webhooks = self.entries.iter().filter(|(_, entry)| entry.is_webhook());
        let left = webhooks.flat_map(|(name, entry)| {
            let events = entry.lanes.values().flat_map(Lane::events);
            events.map(|event| Spooled {
                notify: name.clone(),
                event: Event::clone(event),
            })
        });
        let mut left: Vec<Spooled> = left.collect();
        left.sort_by_key(|spooled| spooled.event.id);
        left
    }
}

/// Whether the entry is told of that event.
fn wants(config: &Notify, event: &Event) -> bool {
    let fits = match &config.by {
        NotifyBy::Command {
            keepalived_arguments: true,
            ..
        } => delivery::keepalived_arguments(event).is_some(),
        NotifyBy::Command { .. } | NotifyBy::Webhook(_) => true,
    };
    fits && config.wants(&event.kind, &event.object)
}

fn is_too_old(event: &Event) -> bool {
    let age = SystemTime::now().duration_since(event.at);
    age.is_ok_and(|age| age > AGE_MAX)
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn lock(counts: &AllCounts) -> MutexGuard<'_, BTreeMap<String, Counts>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An event as it is told: with the director that it happened to.
#[derive(Debug, Serialize)]
struct Told<'a> {
    director: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}
