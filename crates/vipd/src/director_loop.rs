//! The owner of everything slow: the configuration in force, the roles, the health of the real
//! servers, and what follows from them. One task, one state; what can wake it is [`Wake`].
//!
//! It never waits for the kernel or the network itself: addresses, IPVS, checks and adverts have
//! workers of their own, to which it says what should be and from which it hears what is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use health::{CheckSpec, Health, Runner, Start};
use ipnet::IpNet;
use ipvs::{ServiceKey, Table};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use vrrp::Family;

use crate::config::{Config, OnStop, RealServer, VirtualServer, Vrrp};
use crate::counters::Counters;
use crate::desired::{self, HealthTable, Quorums, Roles};
use crate::listeners::Listeners;
use crate::net::addresses::{self, RouterAddresses, Wanted};
use crate::net::links::{Link, Links};
use crate::reconcile::{self, Reconciler};
use crate::release;
use crate::status::Status;
use crate::vrrp_loop::{self, Command, LinkFacts, RouterReport, Spec, VrrpThread};

/// The name of the worker for virtual addresses.
pub(crate) const ADDRESSES: &str = "virtual addresses";
/// How long a graceful stop waits for each of its steps.
const STOP_STEP: Duration = Duration::from_secs(5);
/// How long it waits for the kernel to lose a large IPVS table.
const STOP_IPVS: Duration = Duration::from_secs(30);

/// Everything that can wake the loop.
#[derive(Debug)]
pub enum Wake {
    /// From the advert path.
    Vrrp(vrrp_loop::Report),
    /// From the reconciler.
    Kernel(reconcile::Report),
    /// From the addresses.
    Addresses(addresses::Report),
    /// Somebody wants to know.
    Status(oneshot::Sender<Status>),
    /// Somebody scrapes.
    Metrics(oneshot::Sender<String>),
    /// SIGHUP.
    Reload,
    /// The file has been read again for a reload.
    Loaded(Box<Result<Loaded, String>>),
    /// SIGTERM or SIGINT.
    Stop,
}

/// A configuration that a reload has read, and what the kernel holds of services that are new in it.
#[derive(Debug)]
pub struct Loaded {
    config: Config,
    kernel: Table,
}

/// A virtual router as the director last heard of it.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    pub(crate) report: RouterReport,
    pub(crate) since: SystemTime,
    pub(crate) transitions: u64,
}

/// What is known of a check beside its verdict.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckDetail {
    pub(crate) last_error: Option<String>,
    pub(crate) last_latency: Option<Duration>,
    pub(crate) failures: BTreeMap<&'static str, u64>,
}

/// A reload, as `status` tells it.
#[derive(Debug, Clone)]
pub(crate) struct Reload {
    pub(crate) at: SystemTime,
    pub(crate) error: Option<String>,
}

/// What the director is made of; [`crate::daemon`] builds it.
pub(crate) struct Parts {
    pub(crate) config_path: PathBuf,
    pub(crate) config: Config,
    pub(crate) wakes: mpsc::UnboundedReceiver<Wake>,
    pub(crate) wake: mpsc::UnboundedSender<Wake>,
    pub(crate) vrrp: VrrpThread,
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) links: watch::Receiver<Arc<Links>>,
    pub(crate) wanted_addresses: watch::Sender<Arc<Wanted>>,
    pub(crate) listeners: Listeners,
    /// Tasks without which the director is none: if one ends, so does the daemon.
    pub(crate) workers: Vec<(&'static str, JoinHandle<()>)>,
    /// What the kernel held of the configured services at the start.
    pub(crate) adopted: Table,
}

/// The loop's state.
pub struct Director {
    pub(crate) config_path: PathBuf,
    pub(crate) config: Config,
    pub(crate) started: Instant,
    pub(crate) loaded: SystemTime,
    pub(crate) last_reload: Option<Reload>,
    pub(crate) counters: BTreeMap<String, Arc<Counters>>,
    pub(crate) routers: BTreeMap<String, Router>,
    pub(crate) health: HealthTable,
    pub(crate) details: BTreeMap<CheckSpec, CheckDetail>,
    pub(crate) quorums: Quorums,
    pub(crate) kernel: Option<reconcile::Report>,
    pub(crate) repairs: u64,
    pub(crate) address_repairs: u64,
    pub(crate) vrrp: VrrpThread,
    /// Virtual addresses that the kernel refuses, and why.
    pub(crate) refused_addresses: BTreeMap<(String, IpNet), String>,
    /// Configurations that the advert path has not taken in yet. Until it has, its reports speak of
    /// another configuration than ours, and nothing follows from them.
    unconfigured: u32,
    stopping: bool,
    /// Every service that was ever configured since the start.
    managed: BTreeSet<ServiceKey>,
    facts: Vec<LinkFacts>,
    runner: Runner,
    checks: mpsc::UnboundedReceiver<health::Report>,
    reconciler: Arc<Reconciler>,
    links: watch::Receiver<Arc<Links>>,
    /// `None` once it has been told to finish.
    wanted_addresses: Option<watch::Sender<Arc<Wanted>>>,
    listeners: Listeners,
    wake: mpsc::UnboundedSender<Wake>,
    workers: Vec<(&'static str, JoinHandle<()>)>,
    wakes: mpsc::UnboundedReceiver<Wake>,
}

/// How the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked: everything was given up.
    Stopped,
    /// A worker died: what is left behind is released, and a new daemon should start.
    WorkerDied,
}

impl Director {
    /// Puts the first configuration in force.
    pub(crate) fn start(parts: Parts) -> Director {
        let (reports, checks) = mpsc::unbounded_channel();
        let mut director = Director {
            config_path: parts.config_path,
            config: parts.config,
            started: Instant::now(),
            loaded: SystemTime::now(),
            last_reload: None,
            counters: BTreeMap::new(),
            routers: BTreeMap::new(),
            health: HealthTable::new(),
            details: BTreeMap::new(),
            quorums: Quorums::new(),
            kernel: None,
            repairs: 0,
            address_repairs: 0,
            vrrp: parts.vrrp,
            refused_addresses: BTreeMap::new(),
            unconfigured: 0,
            stopping: false,
            managed: BTreeSet::new(),
            facts: Vec::new(),
            runner: Runner::new(reports),
            checks,
            reconciler: parts.reconciler,
            links: parts.links,
            wanted_addresses: Some(parts.wanted_addresses),
            listeners: parts.listeners,
            wake: parts.wake,
            workers: parts.workers,
            wakes: parts.wakes,
        };
        let before = |server: &VirtualServer, real: &RealServer| {
            serves(&parts.adopted, server, real).then_some(Health::Up)
        };
        director.enforce(&before);
        director
    }

    /// Runs until it is told to stop. `watchdog` is how often systemd wants to hear of us.
    pub async fn run(mut self, watchdog: Option<Duration>) -> Ended {
        let mut tick = tokio::time::interval(watchdog.map_or(Duration::from_secs(5), |w| w / 2));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turns = 0;
        loop {
            tokio::select! {
                wake = self.wakes.recv() => match wake {
                    None | Some(Wake::Stop) => {
                        self.stop().await;
                        return Ended::Stopped;
                    }
                    Some(wake) => self.wake(wake).await,
                },
                Some(report) = self.checks.recv() => self.take_checks(report),
                changed = self.links.changed() => if changed.is_ok() { self.tell_links() },
                _ = tick.tick() => {
                    if let Some(worker) = self.dead_worker() {
                        error!("the worker for {worker} has died");
                        self.stop().await;
                        return Ended::WorkerDied;
                    }
                    // systemd hears of us only while the advert path turns.
                    if watchdog.is_some() && self.vrrp.turns() != turns {
                        turns = self.vrrp.turns();
                        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
                    }
                }
            }
        }
    }

    fn dead_worker(&self) -> Option<&'static str> {
        let threads = [
            ("adverts", self.vrrp.is_finished()),
            ("the IPVS table", self.reconciler.is_finished()),
        ];
        let tasks = self
            .workers
            .iter()
            .map(|(name, task)| (*name, task.is_finished()));
        threads
            .into_iter()
            .chain(tasks)
            .find(|(_, dead)| *dead)
            .map(|(name, _)| name)
    }

    async fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Vrrp(report) => self.take_vrrp(report),
            Wake::Kernel(report) => self.take_kernel(report),
            Wake::Addresses(report) => self.take_addresses(report),
            // Whoever asked has given up.
            Wake::Status(reply) if reply.is_closed() => {}
            Wake::Metrics(reply) if reply.is_closed() => {}
            Wake::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Wake::Metrics(reply) => {
                let _ = reply.send(crate::metrics::encode(self));
            }
            Wake::Reload => self.begin_reload(),
            Wake::Loaded(loaded) => self.finish_reload(*loaded).await,
            Wake::Stop => {}
        }
    }

    fn take_vrrp(&mut self, report: vrrp_loop::Report) {
        match report {
            vrrp_loop::Report::Router(report) => self.take_router(report),
            vrrp_loop::Report::Configured => {
                self.unconfigured = self.unconfigured.saturating_sub(1);
                if self.unconfigured == 0 {
                    let configured = |name: &String| self.config.vrrp(name).is_some();
                    self.routers.retain(|name, _| configured(name));
                }
                self.publish_addresses();
                self.publish_table();
            }
            vrrp_loop::Report::Discarded {
                routers,
                from,
                discard,
            } => {
                let from = from.map_or("somebody".to_owned(), |from| from.to_string());
                let reason = discard.name();
                warn!(
                    routers = routers.join(","),
                    from, reason, "advert discarded: {discard}"
                );
            }
            vrrp_loop::Report::Trouble { interface, what } => {
                warn!(interface, "{what}");
            }
            vrrp_loop::Report::Stopped => {}
        }
    }

    fn take_router(&mut self, report: RouterReport) {
        let name = report.name.clone();
        let before = self.routers.get(&name);
        let changed = before.is_none_or(|before| before.report.state != report.state);
        if changed {
            let from = before.map_or("initialize".to_owned(), |b| b.report.state.to_string());
            let why = &report.why;
            info!(router = name, from, to = %report.state, why, "virtual router is {}", report.state);
        }
        // The first report of a router that has not started yet is no change of state.
        let moved = changed && (before.is_some() || report.state != vrrp::StateName::Initialize);
        let router = Router {
            since: before
                .filter(|_| !changed)
                .map_or_else(SystemTime::now, |b| b.since),
            transitions: before.map_or(0, |b| b.transitions) + u64::from(moved),
            report,
        };
        self.routers.insert(name, router);
        self.publish_addresses();
        if changed {
            self.publish_table();
        }
    }

    fn take_checks(&mut self, first: health::Report) {
        let mut transitions = false;
        transitions |= self.take_check(first);
        // A wave of verdicts is one new table.
        while let Ok(report) = self.checks.try_recv() {
            transitions |= self.take_check(report);
        }
        if transitions {
            self.publish_table();
        }
    }

    fn take_check(&mut self, report: health::Report) -> bool {
        // A probe that was on its way when its check was dropped by a reload has no say any more.
        if !self.health.contains_key(&*report.spec) {
            return false;
        }
        let detail = self.details.entry((*report.spec).clone()).or_default();
        detail.last_latency = Some(report.latency);
        detail.last_error = report.outcome.as_ref().err().map(ToString::to_string);
        if let Err(failure) = &report.outcome {
            *detail.failures.entry(failure.reason()).or_insert(0) += 1;
        }
        let before = self.health.insert((*report.spec).clone(), report.health);
        if before == Some(report.health) {
            return false;
        }
        let why = match &report.outcome {
            Ok(()) => format!("passed after {} ms", report.latency.as_millis()),
            Err(failure) => failure.to_string(),
        };
        for server in &self.config.virtual_servers {
            for real in server
                .real_servers
                .iter()
                .filter(|r| r.checks.contains(&report.spec))
            {
                let (virtual_server, real_server) = (&server.name, real.key.to_string());
                let check = report.spec.to_string();
                match report.health {
                    Health::Up => {
                        info!(virtual_server, real_server, check, "real server up: {why}")
                    }
                    Health::Down => {
                        warn!(
                            virtual_server,
                            real_server, check, "real server down: {why}"
                        );
                    }
                    Health::Unknown => {}
                }
            }
        }
        true
    }

    fn take_kernel(&mut self, report: reconcile::Report) {
        for change in &report.changes {
            info!("ipvs: {change}");
        }
        for repair in &report.repairs {
            warn!("ipvs repaired, somebody else had changed it: {repair}");
        }
        let known = self.kernel.as_ref().map(|kernel| &kernel.refused);
        for refused in report
            .refused
            .iter()
            .filter(|r| known.is_none_or(|k| !k.contains(r)))
        {
            error!("ipvs: {refused}");
        }
        self.repairs += u64::try_from(report.repairs.len()).unwrap_or(0);
        self.kernel = Some(report);
    }

    fn take_addresses(&mut self, report: addresses::Report) {
        match report {
            addresses::Report::Repaired { interface, address } => {
                self.address_repairs += 1;
                warn!(interface, %address, "virtual address repaired, somebody had deleted it");
            }
            addresses::Report::Refused {
                interface,
                address,
                error,
            } => {
                error!(interface, %address, "virtual address refused: {error}");
                self.refused_addresses.insert((interface, address), error);
            }
            addresses::Report::Mended { interface, address } => {
                info!(interface, %address, "virtual address no longer refused");
                self.refused_addresses.remove(&(interface, address));
            }
            addresses::Report::Changed { added, removed } => {
                info!(added, removed, "virtual addresses changed");
            }
        }
    }

    /// Puts `self.config` in force: start and reload are this one path. `before` says what is
    /// known of a real server whose check is new, so that the check does not begin at nothing.
    fn enforce(&mut self, before: &dyn Fn(&VirtualServer, &RealServer) -> Option<Health>) {
        let mut checks = BTreeMap::new();
        for server in &self.config.virtual_servers {
            for real in &server.real_servers {
                for spec in &real.checks {
                    let known = self.health.get(spec).copied();
                    let begin = known.unwrap_or_else(|| match before(server, real) {
                        Some(known @ (Health::Up | Health::Down)) => known,
                        Some(Health::Unknown) | None if spec.start == Start::Up => Health::Up,
                        Some(Health::Unknown) | None => Health::Unknown,
                    });
                    // The same check of two virtual servers is one: the better beginning counts.
                    let entry = checks.entry(spec.clone()).or_insert(begin);
                    if begin == Health::Up {
                        *entry = Health::Up;
                    }
                }
            }
        }
        self.details.retain(|spec, _| checks.contains_key(spec));
        self.health = checks.clone();
        self.runner.set(checks);
        self.managed
            .extend(self.config.virtual_servers.iter().map(|server| server.key));
        self.counters
            .retain(|name, _| self.config.vrrp.iter().any(|v| v.name == *name));
        self.facts.clear();
        self.tell_links();
        let specs = self.config.vrrp.iter().map(|vrrp| Spec {
            name: vrrp.name.clone(),
            interface: vrrp.interface.clone(),
            parameters: vrrp.parameters.clone(),
            counters: Arc::clone(self.counters.entry(vrrp.name.clone()).or_default()),
        });
        // What follows from the roles follows when the advert path has taken the configuration in.
        self.vrrp.send(Command::Configure(specs.collect()));
        self.unconfigured += 1;
    }

    /// Tells the advert path what is true of its interfaces.
    fn tell_links(&mut self) {
        let links = Arc::clone(&self.links.borrow_and_update());
        let names: BTreeSet<&String> = self.config.vrrp.iter().map(|v| &v.interface).collect();
        let facts: Vec<LinkFacts> = names
            .into_iter()
            .map(|name| {
                let link = links.named(name);
                LinkFacts {
                    interface: name.clone(),
                    index: link.map(|link| link.index),
                    up: link.is_some_and(|link| link.up),
                    source: link.and_then(|link| self.source_v4(link)),
                }
            })
            .collect();
        if facts != self.facts {
            self.facts.clone_from(&facts);
            self.vrrp.send(Command::Links(facts));
        }
    }

    /// Where adverts over IPv4 come from.
    fn source_v4(&self, link: &Link) -> Option<Ipv4Addr> {
        let v4 = |v: &&Vrrp| v.interface == link.name && v.parameters.family == Family::V4;
        let vrrp = self.config.vrrp.iter().find(v4)?;
        match self.config.advert_source(vrrp, link)? {
            IpAddr::V4(source) => Some(source),
            IpAddr::V6(_) => None,
        }
    }

    fn publish_addresses(&mut self) {
        let Some(sender) = self
            .wanted_addresses
            .as_ref()
            .filter(|_| self.unconfigured == 0)
        else {
            return;
        };
        let mut wanted = Wanted::new();
        for vrrp in &self.config.vrrp {
            let router = self.routers.get(&vrrp.name).map(|router| &router.report);
            let addresses = RouterAddresses {
                addresses: vrrp.addresses.clone(),
                hold: router.is_some_and(|router| router.hold),
                owner: vrrp.parameters.priority == vrrp::PRIORITY_OWNER,
                announce: router.map_or(0, |router| router.announce),
                garp: vrrp.garp,
            };
            wanted.insert(vrrp.name.clone(), addresses);
        }
        if **sender.borrow() != wanted {
            sender.send_replace(Arc::new(wanted));
        }
    }

    fn publish_table(&mut self) {
        // On a stop the table goes, or stays, as a whole.
        if self.unconfigured > 0 || self.stopping {
            return;
        }
        let quorums = desired::quorums(&self.config, &self.health, &self.quorums);
        for (name, up) in &quorums {
            match (self.quorums.get(name), up) {
                (Some(true), false) => warn!(virtual_server = name, "quorum lost"),
                (Some(false), true) => info!(virtual_server = name, "quorum gained"),
                (_, _) => {}
            }
        }
        self.quorums = quorums;
        let master = |router: &Router| router.report.state == vrrp::StateName::Master;
        let roles: Roles = self
            .routers
            .iter()
            .map(|(name, r)| (name.clone(), master(r)))
            .collect();
        let table = desired::desired(&self.config, &roles, &self.health, &self.quorums);
        self.want(table);
    }

    fn want(&self, table: Table) {
        self.reconciler.want(reconcile::Wanted {
            table,
            managed: self.managed.clone(),
            resync_interval: self.config.ipvs.resync_interval,
        });
    }

    /// Reads the file again, beside the loop: a slow disk or a slow kernel must not hold up a change
    /// of role.
    fn begin_reload(&mut self) {
        let _ = sd_notify::NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]));
        let (path, known) = (self.config_path.clone(), self.managed.clone());
        let wake = self.wake.clone();
        tokio::task::spawn_blocking(move || {
            let loaded = load(&path, &known);
            let _ = wake.send(Wake::Loaded(Box::new(loaded)));
        });
    }

    /// Puts what was read in force. What does not validate changes nothing.
    async fn finish_reload(&mut self, loaded: Result<Loaded, String>) {
        let result = match loaded {
            // The listeners are the last thing that can fail, and the first that changes.
            Ok(loaded) => self
                .listeners
                .rebind(&loaded.config.global)
                .await
                .map(|()| loaded),
            Err(why) => Err(why),
        };
        let error = match result {
            Ok(loaded) => {
                self.replace(loaded);
                info!(file = %self.config_path.display(), "configuration reloaded");
                None
            }
            Err(why) => {
                error!("reload refused, nothing changed:\n{why}");
                Some(why)
            }
        };
        self.last_reload = Some(Reload {
            at: SystemTime::now(),
            error,
        });
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    fn replace(&mut self, loaded: Loaded) {
        let old = std::mem::replace(&mut self.config, loaded.config);
        let health = self.health.clone();
        let before = |server: &VirtualServer, real: &RealServer| {
            let known = old.virtual_servers.iter().find(|s| s.key == server.key);
            let known = known.and_then(|s| s.real_servers.iter().find(|r| r.key == real.key));
            match known {
                Some(real) => Some(desired::state(real, &health)),
                None => serves(&loaded.kernel, server, real).then_some(Health::Up),
            }
        };
        self.loaded = SystemTime::now();
        self.enforce(&before);
    }

    /// Gives everything up: the peers are told, the addresses go, then the table.
    async fn stop(&mut self) {
        self.stopping = true;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        info!("stopping");
        self.runner.set(BTreeMap::new());
        self.vrrp.send(Command::Stop);
        let stopped = tokio::time::timeout(STOP_STEP, async {
            while let Some(wake) = self.wakes.recv().await {
                match wake {
                    Wake::Vrrp(vrrp_loop::Report::Stopped) => return,
                    // What is being given up is not configured anew.
                    Wake::Reload | Wake::Loaded(_) | Wake::Stop => {}
                    Wake::Vrrp(_)
                    | Wake::Kernel(_)
                    | Wake::Addresses(_)
                    | Wake::Status(_)
                    | Wake::Metrics(_) => self.wake(wake).await,
                }
            }
        });
        if stopped.await.is_err() {
            error!("the advert path did not stop in time");
        }
        for router in self.routers.values_mut() {
            router.report.hold = false;
        }
        self.unconfigured = 0;
        self.publish_addresses();
        // Without anybody to tell it more, the worker finishes what it was told and ends.
        self.wanted_addresses = None;
        let position = self.workers.iter().position(|(name, _)| *name == ADDRESSES);
        let worker = position.map(|position| self.workers.swap_remove(position).1);
        if let Some(worker) = worker {
            match tokio::time::timeout(STOP_STEP, worker).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => self.release_addresses().await,
            }
        }
        if self.config.ipvs.on_stop == OnStop::Remove {
            self.want(Table::new());
        }
        let (done, waiting) = oneshot::channel();
        self.reconciler.stop(move || {
            let _ = done.send(());
        });
        if tokio::time::timeout(STOP_IPVS, waiting).await.is_err() {
            error!("the IPVS table was not removed in time");
        }
        while let Ok(wake) = self.wakes.try_recv() {
            if !matches!(wake, Wake::Reload | Wake::Loaded(_)) {
                self.wake(wake).await;
            }
        }
        self.listeners.close();
        info!("stopped");
    }

    /// What `vipd release` does, for when the worker for addresses cannot.
    async fn release_addresses(&self) {
        error!("the worker for virtual addresses did not finish; releasing them without it");
        match tokio::time::timeout(STOP_STEP, release::release_addresses(&self.config)).await {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => error!("{why}"),
            Err(_) => error!("virtual addresses may still be on an interface"),
        }
    }
}

/// Reads a file for a reload, and what the kernel holds of services that are new in it: they are
/// adopted as at the start.
fn load(path: &Path, known: &BTreeSet<ServiceKey>) -> Result<Loaded, String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    let new = config
        .virtual_servers
        .iter()
        .any(|server| !known.contains(&server.key));
    let kernel = if new {
        let dump = reconcile::open()?.dump();
        dump.map_err(|error| format!("reading the IPVS table: {error}"))?
            .table
    } else {
        Table::new()
    };
    Ok(Loaded { config, kernel })
}

/// Whether a table has a real server with a weight.
fn serves(table: &Table, server: &VirtualServer, real: &RealServer) -> bool {
    let destination = table
        .get(&server.key)
        .and_then(|pool| pool.destinations.get(&real.key));
    destination.is_some_and(|destination| destination.weight > 0)
}
