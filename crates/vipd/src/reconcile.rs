//! Brings the kernel's IPVS table to what is desired, and keeps it there.
//!
//! A thread of its own, because netlink requests block: it takes the newest desired table, applies
//! the difference to what it knows of the kernel, and compares with the kernel itself at the start,
//! every `resync_interval` and after every surprise. What a comparison finds although it was as
//! desired before is drift: somebody else's hand, repaired and told. What the kernel refuses is tried
//! again later, by itself; nothing else waits for it.

mod backoff;
mod last_server;
mod settings;
mod worker;

mod orders;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ipvs::{Daemon, Dump, ServiceKey, Table, Timeouts};

use self::worker::Worker;
use crate::config::is_way;

/// How many changes of a pass are told one by one.
const TOLD: u64 = 100;

/// What the kernel should hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The table.
    pub table: Table,
    /// Every service that is vipd's to change or remove. All others in the kernel are somebody
    /// else's and stay as they are.
    pub managed: BTreeSet<ServiceKey>,
    /// How often the kernel is compared.
    pub resync_interval: Duration,
    /// The kernel's timeouts; what is zero is left alone, `None`: all.
    pub timeouts: Option<Timeouts>,
    /// The sync daemons that run, at most one of each role. One that was never wanted is somebody
    /// else's and stays.
    pub daemons: Vec<Daemon>,
}

impl Wanted {
    /// Whether a service is vipd's to change or remove. The ways of checks are, also those that a
    /// killed daemon with another configuration has left.
    fn owns(&self, service: &ServiceKey) -> bool {
        self.managed.contains(service) || is_way(service)
    }
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Whether the kernel holds what is desired, as far as is known.
    pub in_sync: bool,
    /// Changes made because they were newly desired.
    pub changes: Changes,
    /// Changes made because the kernel had drifted.
    pub repairs: Changes,
    /// Whether the sync daemon that takes connections in was started: what peers told before, it
    /// did not hear.
    pub backup_started: bool,
    /// What else is worth a warning.
    pub notes: Vec<String>,
    /// The kernel's timeouts before the first were set; they come back when none are wanted.
    pub timeouts_before: Option<Timeouts>,
    /// What the kernel refused, with object and reason, or why it could not be asked.
    pub refused: Vec<String>,
    /// The services for checks through real servers that the kernel holds as desired.
    pub ways: BTreeSet<ServiceKey>,
    /// How often the kernel's table was read since the start.
    pub reads: u64,
    /// When the kernel was last read, and what it held.
    pub dump: Option<(SystemTime, Arc<Dump>)>,
}

/// Changes that were made: all are counted, the first are told in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// How many.
    pub count: u64,
    first: Vec<String>,
}

impl Changes {
    fn add(&mut self, words: impl FnOnce() -> String) {
        if self.count < TOLD {
            self.first.push(words());
        }
        self.count += 1;
    }

    /// A line for each of the first, and one for all others.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let others = self.count.saturating_sub(TOLD);
        let rest = (others > 0).then(|| format!("and {others} more like these"));
        self.first.iter().cloned().chain(rest)
    }
}

impl Report {
    fn has_changes(&self) -> bool {
        self.changes.count + self.repairs.count > 0
    }

    fn tell(&mut self, drifted: bool, words: impl FnOnce() -> String) {
        let changes = if drifted {
            &mut self.repairs
        } else {
            &mut self.changes
        };
        changes.add(words);
    }
}

enum Request {
    Want(Wanted),
    Refresh(tokio::sync::oneshot::Sender<()>),
    Order(orders::Order),
    TimeoutsBefore(Timeouts),
    Stop(Box<dyn FnOnce() + Send>),
}

/// The way to the thread.
#[derive(Debug)]
pub struct Reconciler {
    requests: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

impl Reconciler {
    /// Starts the thread. Reports are handed to `report` from it.
    ///
    /// # Errors
    ///
    /// No thread.
    pub fn start(report: impl Fn(Report) + Send + 'static) -> io::Result<Reconciler> {
        let (requests, receiver) = mpsc::channel();
        let worker = Worker::new(Box::new(report));
        let thread = std::thread::Builder::new()
            .name("ipvs".to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Reconciler { requests, thread })
    }

    /// Says what the kernel should hold from now on; returns at once.
    pub fn want(&self, wanted: Wanted) {
        let _ = self.requests.send(Request::Want(wanted));
    }

    /// Says what the kernel's timeouts were before another process of ours set the first.
    pub fn timeouts_were(&self, before: Timeouts) {
        let _ = self.requests.send(Request::TimeoutsBefore(before));
    }

    /// Reads the kernel's counters anew, unless that was done within the last second. The report
    /// comes before the future is ready.
    pub async fn refresh(&self) {
        let (done, waiting) = tokio::sync::oneshot::channel();
        let _ = self.requests.send(Request::Refresh(done));
        let _ = waiting.await;
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Finishes what was wanted, then ends the thread and calls `done`.
    pub fn stop(&self, done: impl FnOnce() + Send + 'static) {
        let _ = self.requests.send(Request::Stop(Box::new(done)));
    }
}
