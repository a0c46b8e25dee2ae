//! The thread: when it looks at the kernel, what it believes of it, and what it does about the table.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use ipvs::{Change, Client, Dump, Refused, ServiceKey, Table};

use super::backoff::Backoff;
use super::settings::{Pass, Settings};
use super::{Report, Request, Wanted, last_server};
use crate::config::is_way;

/// A dump younger than this is fresh enough for whoever asks.
const FRESH: Duration = Duration::from_secs(1);
/// What waits for a retry where the kernel could not be read.
const READING: &str = "reading";

pub(super) struct Worker {
    report: Box<dyn Fn(Report) + Send>,
    client: Option<Client>,
    wanted: Wanted,
    /// What our services in the kernel are taken for; `None`: never read.
    believed: Option<Believed>,
    /// The belief is to be compared with the kernel before anything is built on it.
    must_read: bool,
    dumped: Option<(Instant, SystemTime, Arc<Dump>)>,
    reads: u64,
    /// The table was changed since then.
    changed_since_dump: bool,
    settings: Settings,
    backoff: Backoff,
}

/// What our services in the kernel are taken for. A table of tens of thousands of real servers is not
/// copied for that while everything is as it should be.
enum Believed {
    AsWanted,
    Table(Table),
}

/// What became of a batch of changes.
#[derive(Default)]
struct Outcome {
    done: Vec<bool>,
    refused: Vec<Refused>,
}

impl Outcome {
    fn append(&mut self, mut later: Outcome) {
        self.done.append(&mut later.done);
        self.refused.append(&mut later.refused);
    }
}

impl Worker {
    pub(super) fn new(report: Box<dyn Fn(Report) + Send>) -> Worker {
        Worker {
            report,
            client: None,
            wanted: Wanted::default(),
            believed: None,
            must_read: true,
            dumped: None,
            reads: 0,
            changed_since_dump: false,
            settings: Settings::default(),
            backoff: Backoff::default(),
        }
    }

    pub(super) fn run(mut self, requests: &mpsc::Receiver<Request>) {
        // Before anything is wanted there is nothing to do.
        let mut resync_at: Option<Instant> = None;
        loop {
            let next = match (resync_at, self.backoff.next()) {
                (Some(resync), Some(retry)) => Some(resync.min(retry)),
                (resync, _) => resync,
            };
            let first = match next {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(next) => requests.recv_timeout(next.saturating_duration_since(Instant::now())),
            };
            let (mut newest, mut refresh, mut waiting, mut stop) = (None, false, vec![], None);
            let mut orders = Vec::new();
            match first {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(first) => {
                    // Only the newest table counts, however many were sent meanwhile.
                    for request in std::iter::once(first).chain(requests.try_iter()) {
                        match request {
                            Request::Want(wanted) => newest = Some(wanted),
                            Request::Refresh(done) => {
                                refresh |= self.is_stale();
                                waiting.push(done);
                            }
                            Request::Order(order) => orders.push(order),
                            Request::TimeoutsBefore(found) => self.settings.found_before(found),
                            Request::Stop(done) => stop = Some(done),
                        }
                    }
                }
            }
            let now = Instant::now();
            let newly_wanted =
                newest.is_some_and(|wanted| self.take(wanted) || resync_at.is_none());
            let due = resync_at.is_some_and(|at| at <= now);
            let retry = self.backoff.next().is_some_and(|at| at <= now);
            let running = resync_at.is_some() || newly_wanted;
            if running && (due || refresh || newly_wanted || retry) {
                self.must_read |= due || refresh;
                let report = self.pass();
                (self.report)(report);
                let next = Instant::now() + self.wanted.resync_interval;
                resync_at = Some(match resync_at {
                    Some(at) if !due && !refresh => at.min(next),
                    Some(_) | None => next,
                });
            }
            for order in orders {
                self.changed_since_dump |= order.carry_out(&mut self.client, &self.wanted);
            }
            for done in waiting {
                let _ = done.send(());
            }
            if let Some(done) = stop {
                return done();
            }
        }
    }

    fn is_stale(&self) -> bool {
        let dumped = self.dumped.as_ref();
        self.changed_since_dump || dumped.is_none_or(|(at, ..)| at.elapsed() > FRESH)
    }

    /// Takes in what is wanted; whether that is something else than before.
    fn take(&mut self, wanted: Wanted) -> bool {
        if self.wanted == wanted {
            return false;
        }
        // A service that is vipd's from now on was not looked at before.
        self.must_read |= !wanted.managed.is_subset(&self.wanted.managed);
        let before = std::mem::replace(&mut self.wanted, wanted);
        if matches!(self.believed, Some(Believed::AsWanted)) {
            self.believed = Some(Believed::Table(before.table));
        }
        true
    }

    fn pass(&mut self) -> Report {
        let mut report = Report::default();
        self.backoff.begin();
        if self.is_idle() {
            // Without anything to keep there, a kernel without IPVS is no trouble.
            self.believed = Some(Believed::AsWanted);
            self.must_read = false;
            let empty = Arc::new(Dump::default());
            self.dumped = Some((Instant::now(), SystemTime::now(), empty));
        } else if let Err(why) = self.reach(&mut report) {
            self.client = None;
            self.must_read = true;
            let (now, longest) = (Instant::now(), self.wanted.resync_interval);
            self.backoff.refuse(READING.to_owned(), why, now, longest);
        }
        self.backoff.end();
        self.changed_since_dump |= report.has_changes();
        report.in_sync = self.backoff.is_empty();
        report.refused = self.backoff.reasons();
        report.timeouts_before = self.settings.before();
        report.ways = self.ways();
        report.reads = self.reads;
        report.dump = self
            .dumped
            .as_ref()
            .map(|(_, at, dump)| (*at, Arc::clone(dump)));
        report
    }

    fn ways(&self) -> BTreeSet<ServiceKey> {
        let ways = self.wanted.table.iter();
        let ways = ways.filter(|(key, _)| is_way(key));
        let there = ways.filter(|(key, pool)| match &self.believed {
            Some(Believed::AsWanted) => true,
            Some(Believed::Table(table)) => table.get(key) == Some(pool),
            None => false,
        });
        there.map(|(key, _)| *key).collect()
    }

    fn is_idle(&self) -> bool {
        self.client.is_none()
            && self.wanted.managed.is_empty()
            && self.settings.is_idle(&self.wanted)
    }

    fn reach(&mut self, report: &mut Report) -> Result<(), String> {
        if self.client.is_none() {
            self.client = Some(Client::open().map_err(|error| error.to_string())?);
        }
        if self.must_read {
            self.look(report)?;
        }
        let asking = |error: ipvs::Error| format!("asking the kernel's IPVS: {error}");
        if let Some(mut pass) =
            of_settings(&mut self.client, &self.wanted, &mut self.backoff, report)
        {
            self.settings.before_table(&mut pass).map_err(asking)?;
        }
        // What is refused because the kernel is not as we believed is answered by looking, and
        // trying once more.
        let again = self.reach_table(report, true);
        if again {
            self.look(report)?;
            self.reach_table(report, false);
        }
        if let Some(mut pass) =
            of_settings(&mut self.client, &self.wanted, &mut self.backoff, report)
        {
            self.settings.after_table(&mut pass).map_err(asking)?;
        }
        Ok(())
    }

    /// Reads the kernel's table. Where IPVS went away and is back (its module was unloaded), that is
    /// said.
    fn look(&mut self, report: &mut Report) -> Result<(), String> {
        let reading = |error: ipvs::Error| format!("reading the IPVS table: {error}");
        let client = match &mut self.client {
            Some(client) => client,
            None => self
                .client
                .insert(Client::open().map_err(|error| error.to_string())?),
        };
        let dump = match client.dump() {
            Ok(dump) => dump,
            Err(error) => {
                self.client = None;
                let client = self
                    .client
                    .insert(Client::open().map_err(|error| error.to_string())?);
                let dump = client.dump().map_err(reading)?;
                if matches!(error, ipvs::Error::Kernel(_)) {
                    report.notes.push(
                        "the module ip_vs had been unloaded: it is loaded again, and what it \
                         should hold is put back"
                            .to_owned(),
                    );
                    self.backoff.clear();
                }
                dump
            }
        };
        self.dumped = Some((Instant::now(), SystemTime::now(), Arc::new(dump)));
        self.reads += 1;
        self.changed_since_dump = false;
        Ok(())
    }

    /// Changes the table where it is not as wanted; whether it has to be looked at and tried again.
    fn reach_table(&mut self, report: &mut Report, may_look_again: bool) -> bool {
        let looked = std::mem::take(&mut self.must_read);
        let dump = self.dumped.as_ref().filter(|_| looked);
        let dump = dump.map(|(_, _, dump)| Arc::clone(dump));
        let believed = self.believed.take();
        let current = match (&dump, &believed) {
            (Some(dump), _) => &dump.table,
            (None, Some(Believed::Table(table))) => table,
            (None, Some(Believed::AsWanted) | None) => {
                self.believed = Some(Believed::AsWanted);
                return false;
            }
        };
        let wanted = &self.wanted;
        let ours = |key: &ServiceKey| wanted.owns(key);
        let mut changes = ipvs::diff_among(current, &wanted.table, ours);
        let all = changes.len();
        let raising = last_server::before_lowering(current, &changes);
        let mut lowering = changes.split_off(raising);
        let mut short = withhold(&mut changes, &mut self.backoff);
        withhold(&mut lowering, &mut self.backoff);
        let mut outcome = self.apply(&changes);
        short.extend(
            outcome
                .refused
                .iter()
                .map(|refused| refused.change.object().0),
        );
        let raised: Vec<(&Change, bool)> =
            changes.iter().zip(outcome.done.iter().copied()).collect();
        last_server::keep(current, &raised, &self.wanted.table, &short, &mut lowering);
        outcome.append(self.apply(&lowering));
        changes.append(&mut lowering);
        let newly = newly_wanted(&changes, believed.as_ref(), &self.wanted, dump.is_some());
        for ((change, done), newly) in changes.iter().zip(&outcome.done).zip(newly) {
            if *done {
                report.tell(!newly, || change.to_string());
                if !self.backoff.is_empty() {
                    self.backoff.done(&change.to_string());
                }
            }
        }
        if outcome.refused.is_empty() && changes.len() == all {
            self.believed = Some(Believed::AsWanted);
            return false;
        }
        self.believe(dump.as_deref(), believed, &changes, &outcome);
        self.take_refusals(outcome, may_look_again)
    }

    /// Has the kernel make these changes. After a kernel that is gone nothing is done.
    fn apply(&mut self, changes: &[Change]) -> Outcome {
        let Some(client) = self.client.as_mut().filter(|_| !changes.is_empty()) else {
            return Outcome::default();
        };
        let mut outcome = Outcome::default();
        for result in client.apply(changes) {
            outcome.done.push(result.is_ok());
            outcome.refused.extend(result.err());
        }
        // A kernel whose IPVS is gone refuses with the same errno as one that lacks a scheduler.
        let lost = outcome.refused.iter().any(Refused::is_unknown);
        if lost || (!outcome.refused.is_empty() && client.info().is_err()) {
            self.must_read = true;
        }
        if lost {
            // Late answers are nobody's.
            self.client = None;
        }
        outcome
    }

    /// Notes what the kernel holds after some of the changes were made.
    fn believe(
        &mut self,
        dump: Option<&Dump>,
        believed: Option<Believed>,
        changes: &[Change],
        outcome: &Outcome,
    ) {
        let mut table: Table = match (dump, believed) {
            (Some(dump), _) => {
                let wanted = &self.wanted;
                let ours = dump.table.iter().filter(|(key, _)| wanted.owns(key));
                ours.map(|(key, pool)| (*key, pool.clone())).collect()
            }
            (None, Some(Believed::Table(table))) => table,
            (None, Some(Believed::AsWanted) | None) => self.wanted.table.clone(),
        };
        for (change, done) in changes.iter().zip(&outcome.done) {
            if *done && ipvs::apply_to(&mut table, change).is_err() {
                self.must_read = true;
            }
        }
        self.believed = Some(Believed::Table(table));
    }

    fn take_refusals(&mut self, outcome: Outcome, may_look_again: bool) -> bool {
        let now = Instant::now();
        let longest = self.wanted.resync_interval;
        let missing: BTreeSet<ServiceKey> = outcome
            .refused
            .iter()
            .filter(|refused| matches!(*refused.change, Change::AddService(..)))
            .map(|refused| refused.change.object().0)
            .collect();
        let gone = self.must_read;
        let mut surprised = gone;
        for refused in outcome.refused {
            // A service that was refused says it for every real server behind it.
            let follows = matches!(*refused.change, Change::AddDestination(..));
            if follows && missing.contains(&refused.change.object().0) {
                continue;
            }
            let surprise = gone || refused.is_surprise();
            surprised |= surprise;
            if surprise && may_look_again {
                continue;
            }
            let words = refused.change.to_string();
            self.backoff
                .refuse(words, refused.to_string(), now, longest);
        }
        self.must_read |= surprised;
        surprised && may_look_again
    }
}

/// Takes out the changes that have to wait for their retry, and those of real servers whose service
/// has to. Returns the services of what was taken out.
fn withhold(changes: &mut Vec<Change>, backoff: &mut Backoff) -> BTreeSet<ServiceKey> {
    let mut short = BTreeSet::new();
    if backoff.is_empty() {
        return short;
    }
    let now = Instant::now();
    let mut missing = BTreeSet::new();
    changes.retain(|change| {
        let (service, _) = change.object();
        if matches!(change, Change::AddDestination(..)) && missing.contains(&service) {
            return false;
        }
        let held = backoff.holds(&change.to_string(), now);
        if held {
            short.insert(service);
        }
        if held && matches!(change, Change::AddService(..)) {
            missing.insert(service);
        }
        !held
    });
    short
}

/// For each change whether it follows from what is wanted; otherwise somebody else had changed what
/// was right already.
fn newly_wanted(
    changes: &[Change],
    believed: Option<&Believed>,
    wanted: &Wanted,
    looked: bool,
) -> Vec<bool> {
    match believed {
        Some(Believed::AsWanted) => vec![false; changes.len()],
        None => vec![true; changes.len()],
        Some(Believed::Table(_)) if !looked || changes.is_empty() => vec![true; changes.len()],
        Some(Believed::Table(table)) => {
            let unreached: BTreeSet<_> = ipvs::diff(table, &wanted.table)
                .iter()
                .map(Change::object)
                .collect();
            let newly = |change: &Change| unreached.contains(&change.object());
            changes.iter().map(newly).collect()
        }
    }
}

fn of_settings<'a>(
    client: &'a mut Option<Client>,
    wanted: &'a Wanted,
    backoff: &'a mut Backoff,
    report: &'a mut Report,
) -> Option<Pass<'a>> {
    Some(Pass {
        client: client.as_mut()?,
        wanted,
        backoff,
        report,
        now: Instant::now(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use ipvs::{
        Destination, DestinationKey, Forwarding, Pool, Scheduler, SchedulerName, Service,
        ServiceFlags,
    };

    use super::*;

    #[test]
    fn what_was_refused_waits_with_its_real_servers_and_nothing_else_does() {
        let wanted = table(&[(80, 1), (81, 1)]);
        let changes = ipvs::diff(&Table::new(), &wanted);
        let mut backoff = Backoff::default();
        let refused = changes.first().unwrap().to_string();
        let why = "why".to_owned();
        backoff.refuse(refused, why, Instant::now(), Duration::from_secs(10));
        let mut rest = changes.clone();
        withhold(&mut rest, &mut backoff);
        assert_eq!(rest, changes.get(2..).unwrap());
    }

    #[test]
    fn drift_is_what_was_right_before() {
        let wanted = |ports: &[(u16, u32)]| Wanted {
            table: table(ports),
            ..Wanted::default()
        };
        let now = wanted(&[(80, 2), (81, 1)]);
        let changes = |kernel: &Table| ipvs::diff(kernel, &now.table);
        let all_gone = changes(&Table::new());
        let newly =
            |changes: &[Change], believed, looked| newly_wanted(changes, believed, &now, looked);
        assert_eq!(newly(&all_gone, None, true), [true; 4]);
        assert_eq!(
            newly(&all_gone, Some(&Believed::AsWanted), true),
            [false; 4]
        );
        // The weight behind port 80 is newly wanted; port 81 was there.
        let before = Believed::Table(table(&[(80, 1), (81, 1)]));
        let kernel = table(&[(80, 1)]);
        let some = changes(&kernel);
        let words: Vec<String> = some.iter().map(ToString::to_string).collect();
        assert!(
            words.last().unwrap().starts_with("change real server"),
            "{words:?}"
        );
        assert_eq!(newly(&some, Some(&before), true), [false, false, true]);
    }

    /// Services of these ports with one real server of that weight.
    fn table(ports: &[(u16, u32)]) -> Table {
        let service = |port: u16, weight| {
            let key = ServiceKey::Address {
                protocol: ipvs::Protocol::Tcp,
                address: ([192, 0, 2, 1], port).into(),
            };
            let destination = Destination {
                forwarding: Forwarding::DirectRouting,
                weight,
                upper_threshold: 0,
                lower_threshold: 0,
            };
            let pool = Pool {
                service: Service {
                    scheduler: SchedulerName::Known(Scheduler::Rr),
                    flags: ServiceFlags::default(),
                    persistence: None,
                },
                destinations: [(DestinationKey(([192, 0, 2, 9], port).into()), destination)].into(),
            };
            (key, pool)
        };
        ports
            .iter()
            .map(|(port, weight)| service(*port, *weight))
            .collect()
    }
}
