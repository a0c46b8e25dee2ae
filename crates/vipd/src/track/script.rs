//! Scripts: a program is started at an interval, and its exit status counts.
//!
//! A run gets an argument list and no shell, a process group of its own, the configured user without
//! supplementary groups, `/` as its directory, nothing on its standard streams, and of the daemon's
//! environment only `PATH` and what begins with `VIPD_`. What is left of the group when the
//! program has ended is killed, so that a script has at most one run and its children alive,
//! however often it starts.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use health::{Health, Verdict};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::{Outcome, Report, Reporter, words};
use crate::config::TrackScript;

/// How long a run that took too long has between `SIGTERM` and `SIGKILL`.
const GRACE: Duration = Duration::from_secs(2);
/// How often the rest of a group is looked at during that time.
const LOOK: Duration = Duration::from_millis(20);
/// A shorter interval counts as this one, so that no mistake makes a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// Where programs are looked for if the daemon has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a script over and over, never twice at once: a run that outlasts the interval delays the next.
pub(super) async fn keep_running(script: TrackScript, report: Reporter) {
    let mut belief = Belief::new(&script);
    let mut beat = interval(script.interval.max(SHORTEST_INTERVAL));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let conclude = |result: Result<(), String>| {
            if let Some(outcome) = belief.record(result) {
                report(Report::Script {
                    name: script.name.clone(),
                    outcome,
                });
            }
        };
        run(&script, conclude).await;
    }
}

/// One run, from the start until nothing is left of it. `conclude` is called once, and at the timeout
/// even if the end takes longer.
async fn run(script: &TrackScript, conclude: impl FnOnce(Result<(), String>)) {
    let deadline = Instant::now() + script.timeout;
    let timed_out = || {
        let after = humantime::format_duration(script.timeout);
        Err(format!("timed out after {after}"))
    };
    // A program on a file system that hangs keeps whoever starts it, so that is not the runtime.
    let copy = script.clone();
    let mut starting = tokio::task::spawn_blocking(move || Running::start(&copy));
    let started = match timeout_at(deadline, &mut starting).await {
        Ok(started) => started,
        Err(_elapsed) => {
            conclude(timed_out());
            if let Ok(Ok(mut running)) = starting.await {
                running.end().await;
            }
            return;
        }
    };
    let mut running = match started {
        Ok(Ok(running)) => running,
        Ok(Err(why)) => return conclude(Err(why)),
        Err(panic) => return conclude(Err(format!("cannot be started: {panic}"))),
    };
    match timeout_at(deadline, running.child.wait()).await {
        Ok(status) => {
            running.kill_group();
            conclude(verdict(status));
        }
        Err(_elapsed) => {
            conclude(timed_out());
            running.end().await;
        }
    }
}

fn verdict(status: io::Result<ExitStatus>) -> Result<(), String> {
    let status = status.map_err(|error| words(&error))?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("exit status {code}")),
        (None, Some(signal)) => Err(format!("killed by signal {signal}")),
        (None, None) => Err(status.to_string()),
    }
}

/// A started program; its process group dies with this value.
struct Running {
    child: Child,
    /// `None` once it has been killed: the number may belong to others from then on.
    group: Option<Pid>,
}

impl Running {
    /// Blocks: it reads the user's entry and waits until the program is loaded.
    fn start(script: &TrackScript) -> Result<Running, String> {
        let [program, arguments @ ..] = script.command.as_slice() else {
            return Err("the command is empty".to_owned());
        };
        let user = User::named(&script.user)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(std::env::vars_os().filter(|(name, _)| {
                name == "PATH" || name.as_encoded_bytes().starts_with(b"VIPD_")
            }))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        // A daemon that is that user already may lack the capability to become it.
        if user.id != rustix::process::getuid().as_raw() {
            // For root, setting the user drops the supplementary groups too.
            command.gid(user.group).uid(user.id);
        }
        let child = command.spawn().map_err(|error| {
            // Whether it is allowed depends on who does it.
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let who = denied.then(|| format!(" as {}", script.user));
            let who = who.unwrap_or_default();
            format!("cannot run {program}{who}: {}", words(&error))
        })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Running {
            child,
            group: group.and_then(Pid::from_raw),
        })
    }

    /// Ends it: `SIGTERM` to the group, after a while `SIGKILL`.
    async fn end(&mut self) {
        if let Some(group) = self.group {
            let _gone = kill_process_group(group, Signal::TERM);
            let _elapsed = timeout(GRACE, self.gone(group)).await;
        }
        self.kill_group();
        // Not for the rest of the group: where nobody reaps orphans it never goes.
        let _status = self.child.wait().await;
    }

    async fn gone(&mut self, group: Pid) {
        let _status = self.child.wait().await;
        while test_kill_process_group(group).is_ok() {
            sleep(LOOK).await;
        }
    }

    /// The number of a group stays its own while anybody is in it, and is not given away in the
    /// moment between the end of the last one and this.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// An entry of `/etc/passwd`.
#[derive(Debug, PartialEq, Eq)]
struct User {
    id: u32,
    group: u32,
}

impl User {
    fn named(name: &str) -> Result<User, String> {
        let entries = std::fs::read_to_string("/etc/passwd")
            .map_err(|error| format!("cannot read /etc/passwd: {}", words(&error)))?;
        User::find(&entries, name)
            .ok_or_else(|| format!("user {name} does not exist in /etc/passwd"))
    }

    /// passwd(5): `name:password:UID:GID:...`
    fn find(entries: &str, name: &str) -> Option<User> {
        entries.lines().find_map(|entry| {
            let mut fields = entry.split(':');
            if fields.next()? != name {
                return None;
            }
            let id = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some(User { id, group })
        })
    }
}

/// What is believed of a script: the first run decides, after that `rise` and `fall` in a row.
struct Belief {
    rise: u32,
    fall: u32,
    verdict: Option<Verdict>,
    told: Option<Outcome>,
}

impl Belief {
    fn new(script: &TrackScript) -> Belief {
        Belief {
            rise: script.rise,
            fall: script.fall,
            verdict: None,
            told: None,
        }
    }

    /// Takes a run in. Returns what is believed if that is new, or if it fails for another reason.
    fn record(&mut self, result: Result<(), String>) -> Option<Outcome> {
        let health = if result.is_ok() {
            Health::Up
        } else {
            Health::Down
        };
        match &mut self.verdict {
            Some(verdict) => drop(verdict.record(result.is_ok())),
            None => self.verdict = Some(Verdict::new(health, self.rise, self.fall)),
        }
        if self.verdict.as_ref()?.health() != health {
            return None;
        }
        let outcome = Outcome {
            ok: result.is_ok(),
            detail: result.err().unwrap_or_else(|| "exit status 0".to_owned()),
        };
        let new = self.told.as_ref() != Some(&outcome);
        self.told = Some(outcome.clone());
        new.then_some(outcome)
    }
}

#[cfg(test)]
mod tests;
