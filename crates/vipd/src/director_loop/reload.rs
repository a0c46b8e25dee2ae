//! Another configuration comes into force, wholly or not at all: by SIGHUP or by an order, for good or
//! on trial; and one on trial that is not confirmed in time goes back.
//!
//! Reloads are done one after the other. The disk and the kernel are waited for beside the loop.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipvs::{ServiceKey, Table};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::inherited::Former;
use super::{Director, Reload, Wake};
use crate::config::{Config, RealServer, VirtualServer};
use crate::events::Kind;
use crate::maintenance;
use crate::plan::{self, Plan};
use crate::trial::Record;
use crate::upgrade::state::TrialState;

/// Changes that the log tells one by one.
const LOGGED: usize = 30;

/// Whom to tell what became of an order.
type Reply = oneshot::Sender<Result<String, String>>;

/// Somebody wants the file read again.
#[derive(Debug, Default)]
pub struct Request {
    /// On trial: it goes back after so long.
    pub confirm: Option<Duration>,
    /// Whom to tell; SIGHUP has nobody.
    pub reply: Option<Reply>,
}

/// What is in force, as it was loaded.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The file it came from.
    pub path: PathBuf,
    /// When.
    pub loaded: SystemTime,
    /// As text.
    pub text: Arc<str>,
    /// As a value.
    pub config: Arc<Config>,
}

/// A configuration that a reload has read, and what the kernel holds of services that are new in it.
#[derive(Debug)]
pub struct Loaded {
    config: Arc<Config>,
    text: Arc<str>,
    kernel: Table,
}

/// What stands for itself between two reloads.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    waiting: VecDeque<Request>,
    /// Being read.
    running: Option<Request>,
    /// What goes back unless it is confirmed.
    trial: Option<Trial>,
    /// The file holds what was on trial and not confirmed; what is in force is what was before it.
    pub(crate) unconfirmed: bool,
}

#[derive(Debug)]
struct Trial {
    former: Arc<Config>,
    text: Arc<str>,
    until: Instant,
    /// A confirmation is being written down.
    confirming: bool,
}

impl Reloads {
    /// When the configuration on trial goes back.
    pub(crate) fn until(&self) -> Option<Instant> {
        let trial = self.trial.as_ref().filter(|trial| !trial.confirming);
        trial.map(|trial| trial.until)
    }

    /// How long the trial goes on; `None`: there is none.
    pub(crate) fn seconds_left(&self) -> Option<u64> {
        let left = self.trial.as_ref()?.until;
        let left = left.saturating_duration_since(Instant::now());
        Some(
            left.as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
        )
    }

    /// Whether something is being read or waits for it.
    pub(super) fn is_busy(&self) -> bool {
        let confirming = self.trial.as_ref().is_some_and(|trial| trial.confirming);
        confirming || self.running.is_some() || !self.waiting.is_empty()
    }

    /// The trial, for another process.
    pub(super) fn trial_state(&self, now: Instant) -> Option<TrialState> {
        self.trial.as_ref().map(|trial| TrialState {
            former: (*trial.text).to_owned(),
            left: trial.until.saturating_duration_since(now),
        })
    }

    /// Goes on with the trial of another process.
    pub(super) fn resume_trial(&mut self, former: Arc<Config>, text: Arc<str>, until: Instant) {
        self.trial = Some(Trial {
            former,
            text,
            until,
            confirming: false,
        });
    }

    /// Why a reload cannot begin: it would be unclear what goes back to what.
    fn refused(&self) -> Option<String> {
        let left = self.seconds_left()?;
        Some(format!(
            "a configuration is on trial for another {left} s: `vipctl confirm` keeps it, \
             `vipctl confirm --back` ends it"
        ))
    }
}

impl Director {
    /// What is in force.
    pub(super) fn in_force(&self) -> InForce {
        InForce {
            path: self.config_path.clone(),
            loaded: self.loaded,
            text: Arc::clone(&self.text),
            config: Arc::clone(&self.config),
        }
    }

    /// Takes an order to reload in.
    pub(super) fn request_reload(&mut self, request: Request) {
        // One that waits reads the file later than whoever asks now has changed it.
        let served = |waits: &Request| waits.confirm.is_none() && waits.reply.is_none();
        let plain = request.confirm.is_none() && request.reply.is_none();
        if !(plain && self.reloads.waiting.iter().any(served)) {
            self.reloads.waiting.push_back(request);
        }
        self.next_reload();
    }

    fn next_reload(&mut self) {
        while self.reloads.running.is_none() {
            let Some(request) = self.reloads.waiting.pop_front() else {
                return;
            };
            let _ = sd_notify::NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]));
            if let Some(why) = self.reloads.refused() {
                self.end_reload(request, Err(why));
                continue;
            }
            let (in_force, known) = (self.in_force(), self.managed.clone());
            let (trial, wake) = (request.confirm.is_some(), self.wake.clone());
            self.reloads.running = Some(request);
            tokio::task::spawn_blocking(move || {
                let loaded = load(&in_force, &known, trial);
                let _ = wake.send(Wake::Loaded(Box::new(loaded)));
            });
        }
    }

    /// Puts what was read in force. What does not validate changes nothing.
    pub(super) async fn finish_reload(&mut self, loaded: Result<Loaded, String>) {
        let trial = self.reloads.running.as_ref().and_then(|it| it.confirm);
        let why = match loaded {
            // The listeners are the last thing that can fail, and the first that changes.
            Ok(loaded) => match self.listeners.rebind(&loaded.config.global).await {
                Ok(()) => return self.put_in_force(loaded, trial),
                Err(why) => {
                    if trial.is_some() && !self.reloads.unconfirmed {
                        self.forget_trial(|_| {});
                    }
                    why
                }
            },
            Err(why) => why,
        };
        let request = self.reloads.running.take().unwrap_or_default();
        self.end_reload(request, Err(why));
        self.next_reload();
    }

    /// What changed is found out when it is in force: nobody waits for that but who asked.
    fn put_in_force(&mut self, loaded: Loaded, trial: Option<Duration>) {
        let (former, text) = self.replace(loaded);
        let unconfirmed = std::mem::take(&mut self.reloads.unconfirmed);
        if let Some(duration) = trial {
            self.reloads.trial = Some(Trial {
                former: Arc::clone(&former),
                text,
                until: Instant::now() + duration,
                confirming: false,
            });
        } else if unconfirmed {
            self.forget_trial(|why| {
                warn!("a restart may use the former configuration: {why}");
            });
        }
        let (config, wake) = (Arc::clone(&self.config), self.wake.clone());
        tokio::task::spawn_blocking(move || {
            let plan = plan::compare(&former, &config);
            let _ = wake.send(Wake::Compared(plan));
        });
    }

    /// Tells what a reload has changed.
    pub(super) fn tell_reload(&mut self, plan: &Plan) {
        let request = self.reloads.running.take().unwrap_or_default();
        for change in plan.changes.iter().take(LOGGED) {
            info!("reload: {}", change.words());
        }
        let file = self.config_path.display().to_string();
        let message = if let Some(duration) = request.confirm {
            let seconds = duration.as_secs();
            let words = format!("goes back in {seconds} s unless `vipctl confirm`");
            let message = format!("configuration on trial, {words}");
            self.events.record(Kind::ConfigTrial, file, &message);
            message
        } else {
            let count = plan.changes.len();
            let message = format!("configuration reloaded, changes: {count}");
            self.events.record(Kind::ConfigReloaded, file, message);
            "configuration reloaded".to_owned()
        };
        // A page of thousands of changes is made for who reads it.
        let page = request.reply.as_ref().map(|_| plan.page());
        let told = page.map(|page| format!("{page}{message}"));
        self.end_reload(request, Ok(told.unwrap_or_default()));
        self.next_reload();
    }

    fn end_reload(&mut self, request: Request, result: Result<String, String>) {
        if let Err(why) = &result {
            let file = self.config_path.display().to_string();
            let message = format!("reload refused, nothing changed:\n{why}");
            self.events.record(Kind::ConfigRefused, file, message);
        }
        self.last_reload = Some(Reload {
            at: SystemTime::now(),
            error: result.as_ref().err().cloned(),
        });
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        if let Some(reply) = request.reply {
            let refused = |why| format!("reload refused, nothing changed:\n{why}");
            let _ = reply.send(result.map_err(refused));
        }
    }

    /// Removes the record of a trial beside the loop.
    fn forget_trial(&self, failed: impl FnOnce(String) + Send + 'static) {
        let state_dir = self.config.global.state_dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(why) = Record::remove(&state_dir) {
                failed(why);
            }
        });
    }

    /// An operator keeps what is on trial, or has had enough of it.
    pub(super) async fn confirm(&mut self, back: bool, reply: Reply) {
        let Some(trial) = self.reloads.trial.as_mut().filter(|t| !t.confirming) else {
            let _ = reply.send(Err("no configuration is on trial".to_owned()));
            return;
        };
        if back {
            self.go_back("ordered by an operator").await;
            let _ = reply.send(Ok("the former configuration is in force again".to_owned()));
            return;
        }
        trial.confirming = true;
        let (state_dir, wake) = (self.config.global.state_dir.clone(), self.wake.clone());
        tokio::task::spawn_blocking(move || {
            let forgotten = Record::remove(&state_dir);
            let _ = wake.send(Wake::Confirmed { forgotten, reply });
        });
    }

    /// That is written down, or could not be.
    pub(super) fn finish_confirm(&mut self, forgotten: Result<(), String>, reply: Reply) {
        let answer = match forgotten {
            Ok(()) => {
                self.reloads.trial = None;
                let file = self.config_path.display().to_string();
                let message = "configuration confirmed: it stays";
                self.events.record(Kind::ConfigConfirmed, file, message);
                Ok(message.to_owned())
            }
            Err(why) => {
                if let Some(trial) = &mut self.reloads.trial {
                    trial.confirming = false;
                }
                Err(format!("not confirmed, the trial goes on: {why}"))
            }
        };
        let _ = reply.send(answer);
    }

    /// The former configuration comes back. The record of the trial stays: the file still holds what
    /// was not confirmed, and a start must not use it.
    pub(super) async fn go_back(&mut self, why: &str) {
        let Some(Trial { former, text, .. }) = self.reloads.trial.take() else {
            return;
        };
        // Somebody may have taken the old port: that must not keep the rest from going back.
        if let Err(why) = self.listeners.rebind(&former.global).await {
            warn!("goes back, but for what it listens on: {why}");
        }
        let plan = plan::compare(&self.config, &former);
        for change in plan.changes.iter().take(LOGGED) {
            info!("goes back: {}", change.words());
        }
        self.replace(Loaded {
            config: former,
            text,
            // Everything in it was managed already.
            kernel: Table::new(),
        });
        self.reloads.unconfirmed = true;
        let file = self.config_path.display().to_string();
        let message = format!("the former configuration is in force again: {why}");
        self.events.record(Kind::ConfigWentBack, file, message);
    }

    /// Returns what was in force.
    fn replace(&mut self, loaded: Loaded) -> (Arc<Config>, Arc<str>) {
        let held = self.held();
        let old = std::mem::replace(&mut self.config, loaded.config);
        self.carry(&old, &held);
        let old_text = std::mem::replace(&mut self.text, loaded.text);
        let health = self.health.clone();
        let former = Former::new(&old, &health, &loaded.kernel);
        let before = |server: &VirtualServer, real: &RealServer| former.state(server, real);
        self.loaded = SystemTime::now();
        self.keep_overrides();
        self.keep_maintenance(&old.global.state_dir);
        self.enforce(&before);
        (old, old_text)
    }

    /// Where the folder of what outlives the daemon is another one, maintenance goes along.
    fn keep_maintenance(&self, before: &Path) {
        let state_dir = self.config.global.state_dir.clone();
        if !self.maintenance || state_dir == before {
            return;
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = maintenance::write(&state_dir, true) {
                let folder = state_dir.display();
                warn!("maintenance is not kept over a restart: {folder}: {error}");
            }
        });
    }
}

/// Reads a file for a reload, and what the kernel holds of services that are new in it: they are
/// adopted as at the start. Before a trial, what is in force is written down.
fn load(in_force: &InForce, known: &BTreeSet<ServiceKey>, trial: bool) -> Result<Loaded, String> {
    let file_name = in_force.path.display().to_string();
    let read = Config::load_written(&in_force.path, &file_name);
    let (text, config) = read.map_err(|error| error.to_string())?;
    let new = config
        .virtual_servers
        .iter()
        .flat_map(|server| &server.keys)
        .any(|key| !known.contains(key));
    let kernel = if new {
        let dump = ipvs::Client::open()
            .map_err(|error| error.to_string())?
            .dump();
        dump.map_err(|error| format!("reading the IPVS table: {error}"))?
            .table
    } else {
        Table::new()
    };
    if trial {
        let state_dir = &in_force.config.global.state_dir;
        if *state_dir != config.global.state_dir {
            return Err(
                "global.state_dir changes: that cannot be tried, because a start would look for \
                 the former configuration in the other folder"
                    .to_owned(),
            );
        }
        let record = Record {
            former: (*in_force.text).to_owned(),
            tried: text.clone(),
        };
        let written = record.write(state_dir);
        written.map_err(|why| format!("what is in force cannot be kept for going back: {why}"))?;
    }
    Ok(Loaded {
        config: Arc::new(config),
        text: text.into(),
        kernel,
    })
}
