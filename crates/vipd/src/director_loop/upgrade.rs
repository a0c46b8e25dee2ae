//! The director's part of an upgrade: it starts the process that is to go on, tells it everything, and
//! leaves; or it goes on with what another director told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use health::{CheckSpec, Standing, Weight};
use ipvs::Timeouts;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Director, Reload, Router, Wake};
use crate::config::{Config, RealServer, VirtualServer};
use crate::desired::{Found, PoolState};
use crate::director_status::real_server_name;
use crate::events::Kind;
use crate::guard::Will;
use crate::holdings::Role;
use crate::systemd;
use crate::upgrade::state::{CheckState, RouterState, State, TrialState};
use crate::upgrade::successor::{Files, Successor, own_program};
use crate::upgrade::{Hello, Upgraded};
use crate::vrrp_loop::RouterReport;

/// How long workers may take to stop what they are at.
const WORKERS: Duration = Duration::from_secs(2);

type Reply = oneshot::Sender<Result<Upgraded, String>>;

/// A process that is prepared to take over, or why there is none.
pub struct Prepared {
    successor: Result<Successor, String>,
    /// What it was told is in force.
    text: Arc<str>,
    began: Instant,
    reply: Reply,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// How an attempt to hand over ended.
pub(super) enum Passed {
    /// Another process is the director.
    On,
    /// It died at once: what it held is for the guard.
    Lost,
    /// Nothing has changed.
    Not,
}

impl Director {
    /// Starts a program that is to take over; this goes on meanwhile.
    pub(super) fn begin_upgrade(&mut self, binary: Option<PathBuf>, reply: Reply) {
        if std::mem::replace(&mut self.upgrading, true) {
            let _ = reply.send(Err("an upgrade is under way already".to_owned()));
            return;
        }
        let binary = match binary {
            Some(binary) => Ok(binary),
            None => own_program().map_err(|error| format!("this program: {error}")),
        };
        let files = self.files().map_err(|error| error.to_string());
        let path = std::path::absolute(&self.config_path).unwrap_or(self.config_path.clone());
        let (text, wake, began) = (Arc::clone(&self.text), self.wake.clone(), Instant::now());
        tokio::spawn(async move {
            let hello = Hello {
                text: (*text).to_owned(),
                path,
            };
            let successor = match (binary, files) {
                (Ok(binary), Ok(files)) => Successor::prepare(&binary, &hello, files).await,
                (Err(why), _) | (_, Err(why)) => Err(why),
            };
            let _ = wake.send(Wake::Prepared(Box::new(Prepared {
                successor,
                text,
                began,
                reply,
            })));
        });
    }

    fn files(&self) -> std::io::Result<Files> {
        let (control, http) = self.listeners.pass_on()?;
        let lock = self.lock.pass_on()?;
        Ok(Files {
            lock,
            control,
            http,
        })
    }

    /// Hands everything over to a process that is prepared.
    pub(super) async fn pass_on(&mut self, prepared: Prepared) -> Passed {
        let Prepared {
            successor,
            text,
            began,
            reply,
        } = prepared;
        self.upgrading = false;
        let passed = match successor {
            Ok(successor) => self.try_to_pass_on(successor, &text).await,
            Err(why) => Err(why),
        };
        let mut successor = match passed {
            Ok(successor) => successor,
            Err(why) => {
                let message = format!("not upgraded, everything is as before:\n{why}");
                let name = &self.config.global.name;
                self.events.record(Kind::UpgradeFailed, name, &message);
                let _ = reply.send(Err(message));
                return Passed::Not;
            }
        };
        systemd::watchdog();
        successor.go().await;
        if let Err(why) = successor.guarded().await {
            error!("the process that had taken over is dead: {why}");
            let _ = reply.send(Err(format!("vipd that had taken over is dead: {why}")));
            self.listeners.leave().await;
            return Passed::Lost;
        }
        if let Some(guard) = self.guard.take() {
            guard.dismiss().await;
        }
        systemd::main_process_is(successor.pid).await;
        let (version, pid) = (successor.version.clone(), successor.pid);
        let own = env!("CARGO_PKG_VERSION");
        let took = began.elapsed();
        let message = format!("upgraded from {own} to {version}, process {pid}, in {took:.1?}");
        info!("{message}");
        let _ = reply.send(Ok(Upgraded {
            message,
            version,
            pid,
        }));
        self.notifier.finish().await;
        self.event_store.finish().await;
        self.answer_the_last(pid).await;
        self.listeners.leave().await;
        Passed::On
    }

    /// Up to the moment from which there is no way back.
    async fn try_to_pass_on(
        &mut self,
        mut successor: Successor,
        text: &Arc<str>,
    ) -> Result<Successor, String> {
        if !Arc::ptr_eq(text, &self.text) {
            return Err("another configuration was put in force meanwhile".to_owned());
        }
        let orders = self.under_way > 0 || !self.switchovers.is_empty();
        if orders || self.reloads.is_busy() || self.pools.is_busy() {
            return Err("an order is being carried out: try again when it is done".to_owned());
        }
        if self.unconfigured > 0 || !self.carried.is_empty() {
            return Err("virtual routers are just beginning: try again in a moment".to_owned());
        }
        let mut later = Vec::new();
        let handed_over = self.hand_everything_over(&mut successor, &mut later).await;
        // Where it came about, they are answered at the end.
        for wake in later {
            let _ = self.wake.send(wake);
        }
        handed_over?;
        // The old advert path is silent for good: that is no hang. Our death still counts.
        if let Some(guard) = &self.guard {
            guard.tell(&Will {
                patience: None,
                ..self.will()
            });
        }
        // The table is another's, too.
        self.reconciler.stop(|| {});
        // What they hold is another's from here on. Dropped, they would give it up.
        for (_, worker) in &self.holding {
            worker.abort();
        }
        self.listeners.refuse_new();
        for (_, worker) in std::mem::take(&mut self.holding) {
            let _aborted = tokio::time::timeout(WORKERS, worker).await;
        }
        Ok(successor)
    }

    /// Whoever asked this process is answered.
    async fn answer_the_last(&mut self, successor: u32) {
        while let Ok(wake) = self.wakes.try_recv() {
            let asks = matches!(
                wake,
                Wake::Status(_)
                    | Wake::Metrics(_)
                    | Wake::Names(_)
                    | Wake::Checks { .. }
                    | Wake::InForce(_)
                    | Wake::Overrides(_)
            );
            if asks {
                self.wake(wake).await;
                continue;
            }
            // Signals were meant for the other one, too. An order that is dropped is refused.
            let signal = if matches!(wake, Wake::Stop) {
                Some(Signal::TERM)
            } else if matches!(&wake, Wake::Reload(request) if request.reply.is_none()) {
                Some(Signal::HUP)
            } else {
                None
            };
            let pid = i32::try_from(successor).ok().and_then(Pid::from_raw);
            if let Some((pid, signal)) = pid.zip(signal) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    pub(super) fn state(&self) -> State {
        let now = Instant::now();
        let routers = self.routers.iter().map(|(name, router)| {
            let report = &router.report;
            let state = RouterState {
                state: report.state,
                why: report.why.clone(),
                effective_priority: report.effective_priority,
                master: report.master,
                hold: report.hold,
                announce: report.announce,
                yielded: report.yielded,
                lingering: report.lingering,
                since: router.since,
                transitions: router.transitions,
            };
            (name.clone(), state)
        });
        let counts = self.counters.iter();
        let pools = self.pools.states.iter();
        let kernel = self.kernel.as_ref();
        State {
            loaded: self.loaded,
            last_reload: self.last_reload.clone().map(|it| (it.at, it.error)),
            unconfirmed: self.reloads.unconfirmed,
            trial: self.reloads.trial_state(now),
            routers: routers.collect(),
            counts: counts
                .map(|(name, it)| (name.clone(), it.counts()))
                .collect(),
            checks: self.check_states(),
            pools: pools
                .map(|(name, it)| (name.clone(), it.carried(now)))
                .collect(),
            track: self.track.clone(),
            timeouts_before: kernel
                .and_then(|kernel| kernel.timeouts_before)
                .map(|before| [before.tcp, before.tcp_fin, before.udp]),
            repairs: self.repairs,
            address_repairs: self.address_repairs,
            address_conflicts: self.address_conflicts,
            events: self.events.newest(usize::MAX).events,
        }
    }

    fn check_states(&self) -> Vec<(String, String, usize, CheckState)> {
        let standings = self.runner.standings();
        let mut states = Vec::new();
        for (server, real, place, spec) in checks(&self.config) {
            let Some(found) = self.health.get(spec) else {
                continue;
            };
            let detail = self.details.get(spec);
            let state = CheckState {
                health: found.health,
                weight: found.weight.map(|weight| match weight {
                    Weight::Absolute(weight) => (weight, false),
                    Weight::Percent(weight) => (weight, true),
                }),
                standing: standings.get(spec).cloned(),
                flapping: detail.is_some_and(|detail| detail.flapping),
                last_error: detail.and_then(|detail| detail.last_error.clone()),
                last_latency: detail.and_then(|detail| detail.last_latency),
            };
            let real = real_server_name(real.key);
            states.push((server.name.clone(), real, place, state));
        }
        states
    }

    /// Goes on with what another director knew; before anything is put in force.
    pub(super) fn go_on_with(&mut self, state: State) {
        let now = Instant::now();
        self.loaded = state.loaded;
        self.last_reload = state.last_reload.map(|(at, error)| Reload { at, error });
        self.reloads.unconfirmed = state.unconfirmed;
        if let Some(trial) = state.trial {
            self.resume_trial(trial, now);
        }
        for (name, router) in state.routers {
            self.routers.insert(name.clone(), router_of(name, router));
        }
        for (name, counts) in state.counts {
            self.counters.entry(name).or_default().go_on(&counts);
        }
        self.go_on_with_checks(state.checks);
        for server in &self.config.virtual_servers {
            if let Some(carried) = state.pools.get(&server.name) {
                let pool = PoolState::gone_on(server, carried, now);
                self.pools.states.insert(server.name.clone(), pool);
            }
        }
        self.tracker.believe(state.track.scripts.clone());
        self.track = state.track;
        if let Some([tcp, tcp_fin, udp]) = state.timeouts_before {
            self.reconciler
                .timeouts_were(Timeouts { tcp, tcp_fin, udp });
        }
        self.repairs = state.repairs;
        self.address_repairs = state.address_repairs;
        self.address_conflicts = state.address_conflicts;
    }

    fn resume_trial(&mut self, trial: TrialState, now: Instant) {
        let file = self.config_path.display().to_string();
        match Config::parse(&trial.former, "the former configuration") {
            Ok(former) => {
                let until = now + trial.left;
                self.reloads
                    .resume_trial(Arc::new(former), trial.former.into(), until);
            }
            Err(problems) => {
                // It cannot go back to that. Confirmed or not, what is in force stays.
                let message = format!("the trial ends, what was before it is refused:\n{problems}");
                self.events.record(Kind::ConfigConfirmed, file, message);
            }
        }
    }

    fn go_on_with_checks(&mut self, states: Vec<(String, String, usize, CheckState)>) {
        let states = states.into_iter();
        let mut states: BTreeMap<(String, String, usize), CheckState> = states
            .map(|(server, real, place, state)| ((server, real, place), state))
            .collect();
        let config = Arc::clone(&self.config);
        let mut standings: BTreeMap<CheckSpec, Standing> = BTreeMap::new();
        for (server, real, place, spec) in checks(&config) {
            let key = (server.name.clone(), real_server_name(real.key), place);
            let Some(state) = states.remove(&key) else {
                continue;
            };
            let weight = state.weight.map(|(weight, percent)| match percent {
                true => Weight::Percent(weight),
                false => Weight::Absolute(weight),
            });
            let health = state.health;
            self.health.insert(spec.clone(), Found { health, weight });
            let detail = self.details.entry(spec.clone()).or_default();
            detail.flapping = state.flapping;
            detail.last_error = state.last_error;
            detail.last_latency = state.last_latency;
            standings.extend(state.standing.map(|standing| (spec.clone(), standing)));
        }
        self.runner.go_on_with(standings);
    }
}

/// Every check, with its virtual server, its real server, and its place there.
fn checks(
    config: &Config,
) -> impl Iterator<Item = (&VirtualServer, &RealServer, usize, &CheckSpec)> {
    config.virtual_servers.iter().flat_map(|server| {
        server.real_servers.iter().flat_map(move |real| {
            let checks = real.checks.iter().enumerate();
            checks.map(move |(place, spec)| (server, real, place, spec))
        })
    })
}

fn router_of(name: String, state: RouterState) -> Box<Router> {
    Box::new(Router {
        since: state.since,
        transitions: state.transitions,
        incompatible_since: None,
        report: RouterReport {
            name,
            state: state.state,
            why: state.why,
            faults: Vec::new(),
            effective_priority: state.effective_priority,
            master: state.master,
            hold: state.hold,
            announce: state.announce,
            rival: None,
            suspect: None,
            yielded: state.yielded,
            lingering: state.lingering,
            incompatible: None,
        },
    })
}

/// What a router held by another process means for what is held.
pub(crate) fn role_of(state: &State, config: &Config, name: &str) -> Role {
    let Some(router) = state.routers.get(name) else {
        return Role::default();
    };
    let in_state = SystemTime::now().duration_since(router.since);
    let settled = in_state.unwrap_or_default() >= super::connections::ARRIVING;
    Role {
        hold: router.hold,
        announce: router.announce,
        arriving: config.ipvs.sync.is_some() && !(router.hold && settled),
    }
}
