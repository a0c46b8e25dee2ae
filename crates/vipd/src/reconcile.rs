//! Brings the kernel's IPVS table to what is desired, and keeps it there.
//!
//! A thread of its own, because netlink requests block: it takes the newest desired table, applies
//! the difference to what it knows of the kernel, and compares with the kernel itself at the start,
//! every `resync_interval` and after every refusal. What a comparison finds although nothing new was
//! desired is drift: somebody else's hand, repaired and told.

mod orders;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ipvs::{Change, Client, Daemon, Dump, ServiceKey, Table, Timeouts};

/// A dump younger than this is fresh enough for whoever asks.
const FRESH: Duration = Duration::from_secs(1);
/// Pause before the first retry of a refused change; doubled with each, up to the resync interval.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// What the kernel should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether the kernel holds what is desired, as far as is known.
    pub in_sync: bool,
    /// Changes made because they were newly desired.
    pub changes: Vec<String>,
    /// Changes made because the kernel had drifted.
    pub repairs: Vec<String>,
    /// What the kernel refused, with object and reason, or why it could not be asked.
    pub refused: Vec<String>,
    /// When the kernel was last read, and what it held.
    pub dump: Option<(SystemTime, Arc<Dump>)>,
}

enum Request {
    Want(Wanted),
    Refresh(tokio::sync::oneshot::Sender<()>),
    Order(orders::Order),
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
        let worker = Worker {
            report: Box::new(report),
            client: None,
            known: None,
            wanted: None,
        };
        let thread = std::thread::Builder::new()
            .name("ipvs".to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Reconciler { requests, thread })
    }

    /// Says what the kernel should hold from now on; returns at once.
    pub fn want(&self, wanted: Wanted) {
        let _ = self.requests.send(Request::Want(wanted));
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

struct Worker {
    report: Box<dyn Fn(Report) + Send>,
    client: Option<Client>,
    /// What the kernel holds of ours, as far as is known; `None`: it must be read.
    known: Option<Table>,
    wanted: Option<Wanted>,
}

impl Worker {
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        let mut resync_at = Instant::now();
        let mut retry = FIRST_RETRY;
        let mut dumped: Option<(Instant, SystemTime, Arc<Dump>)> = None;
        // What is wanted has not been reached yet: changes are ours until it is, not drift.
        let mut pending = false;
        let mut changed_since_dump = false;
        loop {
            let first = match &self.wanted {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => {
                    requests.recv_timeout(resync_at.saturating_duration_since(Instant::now()))
                }
            };
            let (mut newly_wanted, mut refresh, mut waiting, mut stop) =
                (false, false, vec![], None);
            let mut orders = Vec::new();
            match first {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(first) => {
                    // Only the newest table counts, however many were sent meanwhile.
                    for request in std::iter::once(first).chain(requests.try_iter()) {
                        match request {
                            Request::Want(wanted) => {
                                newly_wanted |= self.wanted.as_ref() != Some(&wanted);
                                self.wanted = Some(wanted);
                            }
                            Request::Refresh(done) => {
                                refresh |= changed_since_dump
                                    || dumped.as_ref().is_none_or(|d| d.0.elapsed() > FRESH);
                                waiting.push(done);
                            }
                            Request::Order(order) => orders.push(order),
                            Request::Stop(done) => stop = Some(done),
                        }
                    }
                }
            }
            let Some(wanted) = self.wanted.clone() else {
                if let Some(done) = stop {
                    return done();
                }
                continue;
            };
            let due = resync_at <= Instant::now();
            if due || refresh {
                self.known = None;
                changed_since_dump = false;
            }
            if due || refresh || newly_wanted {
                pending |= newly_wanted;
                let report = self.pass(&wanted, pending, &mut dumped);
                pending &= !report.in_sync;
                if !report.changes.is_empty() || !report.repairs.is_empty() {
                    // The dump at hand shows the table as it was: it is not fresh any more.
                    changed_since_dump = true;
                }
                let pause = if report.in_sync {
                    retry = FIRST_RETRY;
                    wanted.resync_interval
                } else {
                    let pause = retry;
                    retry = (retry * 2).min(wanted.resync_interval.max(FIRST_RETRY));
                    pause
                };
                let next = Instant::now() + pause;
                resync_at = if due || !report.in_sync {
                    next
                } else {
                    resync_at.min(next)
                };
                (self.report)(report);
            }
            for order in orders {
                changed_since_dump |= order.carry_out(&mut self.client, &wanted);
            }
            for done in waiting {
                let _ = done.send(());
            }
            if let Some(done) = stop {
                return done();
            }
        }
    }

    fn pass(
        &mut self,
        wanted: &Wanted,
        newly_wanted: bool,
        dumped: &mut Option<(Instant, SystemTime, Arc<Dump>)>,
    ) -> Report {
        let mut report = Report {
            in_sync: false,
            changes: Vec::new(),
            repairs: Vec::new(),
            refused: Vec::new(),
            dump: None,
        };
        // A request that the kernel refuses because it is not in the state we believed is answered
        // by looking, and trying once more.
        for attempt in 0..2 {
            let known = match self.known.take() {
                Some(known) => known,
                None => match self.read(wanted) {
                    Ok(dump) => {
                        let ours = |key: &ServiceKey| wanted.managed.contains(key);
                        let table = dump.table.clone();
                        *dumped = Some((Instant::now(), SystemTime::now(), Arc::new(dump)));
                        table.into_iter().filter(|(key, _)| ours(key)).collect()
                    }
                    Err(why) => {
                        self.client = None;
                        report.refused.push(why);
                        break;
                    }
                },
            };
            let changes = ipvs::diff(&known, &wanted.table);
            let refused = self.apply(&changes, newly_wanted, &mut report);
            if refused.is_empty() {
                self.known = Some(wanted.table.clone());
                report.in_sync = true;
                break;
            }
            if attempt == 1 {
                report.refused.extend(refused);
            }
        }
        report.dump = dumped.as_ref().map(|(_, at, dump)| (*at, Arc::clone(dump)));
        report
    }

    fn read(&mut self, wanted: &Wanted) -> Result<Dump, String> {
        let client = match &mut self.client {
            Some(client) => client,
            // Without anything to keep there, a kernel without IPVS is no trouble.
            None if wanted.managed.is_empty() => return Ok(Dump::default()),
            None => self.client.insert(open()?),
        };
        client
            .dump()
            .map_err(|error| format!("reading the IPVS table: {error}"))
    }

    fn apply(&mut self, changes: &[Change], wanted: bool, report: &mut Report) -> Vec<String> {
        if changes.is_empty() {
            return Vec::new();
        }
        let Some(client) = &mut self.client else {
            return vec!["the kernel's IPVS is not open".to_owned()];
        };
        let done = if wanted {
            &mut report.changes
        } else {
            &mut report.repairs
        };
        let mut refused = Vec::new();
        for (change, result) in changes.iter().zip(client.apply(changes)) {
            match result {
                Ok(()) => done.push(change.to_string()),
                Err(why) => refused.push(why.to_string()),
            }
        }
        refused
    }
}

/// Opens the kernel's IPVS, loading the module if the kernel lacks it.
///
/// # Errors
///
/// One message that says what is missing and how to mend it.
pub fn open() -> Result<Client, String> {
    let first = match Client::open() {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    // Best effort: where modprobe is missing or not allowed, the first message says it all.
    let loaded = std::process::Command::new("modprobe")
        .args(["-q", "ip_vs"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !loaded {
        return Err(first.to_string());
    }
    Client::open().map_err(|error| error.to_string())
}
