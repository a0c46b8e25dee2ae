//! What is not of one service: the kernel's timeouts and its sync daemons.
//!
//! Both are kept like the table: set when they differ, repaired when somebody else changed them. A
//! daemon of the kernel stays with the interface it began on: where that was deleted and is back
//! under its name, the daemon starts anew.

use std::collections::BTreeMap;
use std::time::Instant;

use ipvs::{Client, Daemon, DaemonRole, Timeouts};

use super::backoff::Backoff;
use super::{Report, Wanted};

/// What is remembered of them.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The timeouts found before the first were set.
    found: Option<Timeouts>,
    /// The timeouts that were set last.
    set: Option<Timeouts>,
    /// Daemons that run as we wanted them.
    daemons: BTreeMap<DaemonRole, Started>,
}

#[derive(Debug)]
struct Started {
    daemon: Daemon,
    /// The interface's number then.
    interface: Option<u32>,
}

/// What a pass needs of its surroundings.
pub(super) struct Pass<'a> {
    pub(super) client: &'a mut Client,
    pub(super) wanted: &'a Wanted,
    pub(super) backoff: &'a mut Backoff,
    pub(super) report: &'a mut Report,
    pub(super) now: Instant,
}

impl Settings {
    /// The timeouts found before the first were set.
    pub(super) fn before(&self) -> Option<Timeouts> {
        self.found
    }

    /// Another process of ours found them before it set the first.
    pub(super) fn found_before(&mut self, found: Timeouts) {
        self.found = Some(found);
    }

    /// Whether there is nothing to keep, so that the kernel need not be asked.
    pub(super) fn is_idle(&self, wanted: &Wanted) -> bool {
        wanted.timeouts.is_none()
            && wanted.daemons.is_empty()
            && self.found.is_none()
            && self.daemons.is_empty()
    }

    /// Before the table is changed: a real server of the other address family than its service comes
    /// only when no daemon runs.
    ///
    /// # Errors
    ///
    /// The kernel gives no answer.
    pub(super) fn before_table(&mut self, pass: &mut Pass<'_>) -> Result<(), ipvs::Error> {
        self.keep_timeouts(pass)?;
        self.stop_daemons(pass)
    }

    /// After the table was changed.
    ///
    /// # Errors
    ///
    /// The kernel gives no answer.
    pub(super) fn after_table(&mut self, pass: &mut Pass<'_>) -> Result<(), ipvs::Error> {
        let running = running(&self.daemons, pass)?;
        for daemon in &pass.wanted.daemons {
            if running.iter().any(|found| daemon.runs_as(found)) {
                let interface = interface_number(daemon);
                self.daemons.entry(daemon.role).or_insert_with(|| Started {
                    daemon: daemon.clone(),
                    interface,
                });
                continue;
            }
            let words = format!("start {daemon}");
            // A real server that went may have been what it was refused for.
            if pass.backoff.holds(&words, pass.now) && !pass.report.has_changes() {
                continue;
            }
            let interface = interface_number(daemon);
            match pass.client.start_daemon(daemon) {
                Ok(()) => {
                    pass.backoff.done(&words);
                    pass.report.backup_started |= daemon.role == DaemonRole::Backup;
                    let drifted = self.daemons.get(&daemon.role);
                    let drifted = drifted.is_some_and(|started| started.daemon == *daemon);
                    pass.report.tell(drifted, || words);
                    let daemon = daemon.clone();
                    let started = Started { daemon, interface };
                    self.daemons.insert(started.daemon.role, started);
                }
                Err(error) => pass.refuse(words, error)?,
            }
        }
        Ok(())
    }

    fn keep_timeouts(&mut self, pass: &mut Pass<'_>) -> Result<(), ipvs::Error> {
        if pass.wanted.timeouts.is_none() && self.found.is_none() {
            return Ok(());
        }
        let now = pass.client.timeouts()?;
        let found = *self.found.get_or_insert(now);
        let target = pass
            .wanted
            .timeouts
            .map_or(found, |wanted| wanted.over(&found));
        if now != target {
            let words = format!("set {target}");
            if pass.backoff.holds(&words, pass.now) {
                return Ok(());
            }
            match pass.client.set_timeouts(&target) {
                Ok(()) => {
                    pass.backoff.done(&words);
                    pass.report.tell(self.set == Some(target), || words);
                }
                Err(error) => return pass.refuse(words, error),
            }
        }
        self.set = Some(target);
        if pass.wanted.timeouts.is_none() {
            (self.found, self.set) = (None, None);
        }
        Ok(())
    }

    /// Stops those of ours that are not wanted any more, and those that run otherwise than wanted.
    fn stop_daemons(&mut self, pass: &mut Pass<'_>) -> Result<(), ipvs::Error> {
        let running = running(&self.daemons, pass)?;
        // What somebody else stopped need not be stopped.
        self.daemons.retain(|role, _| {
            let wanted = pass.wanted.daemons.iter().any(|d| d.role == *role);
            wanted || running.iter().any(|found| found.role == *role)
        });
        for found in running {
            let role = found.role;
            let wanted = pass
                .wanted
                .daemons
                .iter()
                .find(|daemon| daemon.role == role);
            let ours = self.daemons.get(&role);
            let keep = match (wanted, ours) {
                (None, None) => true,
                (None, Some(_)) => false,
                (Some(wanted), None) => wanted.runs_as(&found),
                (Some(wanted), Some(ours)) => {
                    let there = interface_number(wanted);
                    wanted.runs_as(&found)
                        && ours.daemon == *wanted
                        && (there.is_none() || there == ours.interface)
                }
            };
            if keep {
                continue;
            }
            let words = format!("stop {found}");
            if pass.backoff.holds(&words, pass.now) {
                continue;
            }
            match pass.client.stop_daemon(role) {
                Ok(()) if wanted.is_none() => {
                    pass.backoff.done(&words);
                    pass.report.tell(false, || words);
                    self.daemons.remove(&role);
                }
                Ok(()) => {
                    pass.backoff.done(&words);
                    // One that runs otherwise than we had it was somebody else's doing.
                    let drifted = ours.is_some_and(|ours| wanted == Some(&ours.daemon));
                    pass.report.tell(drifted, || words);
                }
                Err(error) => pass.refuse(words, error)?,
            }
        }
        Ok(())
    }
}

impl Pass<'_> {
    /// What the kernel refused is tried again later; where it gave no answer, nothing else can be
    /// asked.
    fn refuse(&mut self, words: String, error: ipvs::Error) -> Result<(), ipvs::Error> {
        match &error {
            ipvs::Error::Refused { .. } | ipvs::Error::Encode(_) => {
                let longest = self.wanted.resync_interval;
                self.backoff
                    .refuse(words, error.to_string(), self.now, longest);
                Ok(())
            }
            ipvs::Error::Socket(_)
            | ipvs::Error::Silent
            | ipvs::Error::Lost
            | ipvs::Error::Kernel(_)
            | ipvs::Error::Interrupted
            | ipvs::Error::Decode(_) => Err(error),
        }
    }
}

/// The daemons that run, where that matters.
fn running(
    ours: &BTreeMap<DaemonRole, Started>,
    pass: &mut Pass<'_>,
) -> Result<Vec<Daemon>, ipvs::Error> {
    if ours.is_empty() && pass.wanted.daemons.is_empty() {
        return Ok(Vec::new());
    }
    pass.client.daemons()
}

fn interface_number(daemon: &Daemon) -> Option<u32> {
    nix::net::if_::if_nametoindex(daemon.interface.as_str()).ok()
}
