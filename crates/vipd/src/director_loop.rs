//! The owner of everything slow: the configuration in force, the roles, the health of the real
//! servers, and what follows from them. One task, one state; what can wake it is [`Wake`].
//!
//! It never waits for the kernel or the network itself: addresses, IPVS, checks and adverts have
//! workers of their own, to which it says what should be and from which it hears what is.

pub(crate) mod alarms;
mod carried;
pub(crate) mod checks;
pub(crate) mod connections;
mod groups;
mod guarded;
mod inherited;
mod meanwhile;
pub(crate) mod pools;
pub mod reload;
mod routers;
pub(crate) mod schedule;
mod stop;
pub mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use health::{CheckSpec, Health, Runner};
use ipnet::IpNet;
use ipvs::{ServiceKey, Table};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::{Config, RealServer, VirtualServer, is_way};
use crate::counters::Counters;
use crate::desired::{self, HealthTable, Roles};
use crate::events::store::Store;
use crate::events::{Events, Kind};
use crate::guard::{self, Guard};
use crate::holdings::{self, Holdings, Workers};
use crate::instance::Lock;
use crate::listeners::Listeners;
use crate::maintenance;
use crate::metrics;
use crate::net::connection_sync::{self, ConnectionSync};
use crate::net::links::Links;
use crate::net::neighbours::{self, Claim};
use crate::net::sys::Mac;
use crate::notify::Notifier;
use crate::overrides;
use crate::plan::Plan;
use crate::reconcile::{self, Reconciler};
use crate::status::Status;
use crate::systemd;
use crate::track::{self, Tracker};
use crate::upgrade::{State, Upgraded};
use crate::vrrp_loop::{self, Facts, RouterReport, VrrpThread};

use self::checks::{Alarms, CheckDetail};
pub use self::checks::{CheckTarget, PlannedCheck};
use self::inherited::serves;
use self::pools::Pools;
pub use self::pools::RealServerOrder;
use self::reload::{InForce, Loaded, Reloads};
use self::routers::Switchover;
use self::upgrade::{Passed, Prepared};

/// After so many wakes, roles that changed are told of even if more waits.
const PUBLISH_AFTER: u32 = 64;

/// Everything that can wake the loop.
#[derive(Debug)]
pub enum Wake {
    /// From the advert path.
    Vrrp(vrrp_loop::Report),
    /// From the reconciler.
    Kernel(reconcile::Report),
    /// From what holds addresses, virtual MACs, routes and rules of the firewall.
    Holdings(holdings::Report),
    /// Somebody on the link says that a virtual address is theirs.
    Claim(Claim),
    /// Somebody wants to know.
    Status(oneshot::Sender<Status>),
    /// Somebody scrapes.
    Metrics(oneshot::Sender<metrics::Snapshot>),
    /// Somebody wants to know which services are which virtual servers'.
    Names(oneshot::Sender<BTreeMap<ServiceKey, String>>),
    /// Somebody wants to run the checks of that virtual server; none where it is gone.
    Checks {
        /// The virtual server.
        virtual_server: String,
        /// Its real servers and their checks.
        reply: oneshot::Sender<Vec<CheckTarget>>,
    },
    /// Somebody wants another director to be master of that virtual router. The answer comes when it
    /// is known what became of it.
    Switchover {
        /// The virtual router.
        router: String,
        /// What became of it, in words; `Err`: it did not come about.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// What can be sent to the peer before a handover is sent; it goes on.
    Handover {
        /// The virtual router.
        router: String,
        /// What was sent, in words.
        sent: String,
        /// What became of the handover.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// From what sends connections to the peer.
    ConnectionSync(connection_sync::Report),
    /// Somebody wants the connections sent to the peer now.
    SendConnections(oneshot::Sender<Result<String, String>>),
    /// A takeover is some seconds old.
    Settled,
    /// An operator wants everything given up, or taken part in again.
    Maintenance {
        /// Which of the two.
        on: bool,
        /// What happens to each virtual router, a line each.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// That is written down, or could not be.
    MaintenanceWritten {
        /// What was asked for.
        on: bool,
        /// Whether it will be remembered.
        written: Result<(), String>,
        /// Whom to tell.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// An operator wants something of a real server.
    RealServer {
        /// What, and of which.
        order: RealServerOrder,
        /// What follows, in words; `Err`: nothing has changed, and why.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// What operators have ordered of real servers is written down, or could not be.
    OverridesWritten(Result<(), String>),
    /// From a tracker.
    Track(track::Report),
    /// SIGHUP, or an operator: the file is to be read again.
    Reload(reload::Request),
    /// The file has been read again for a reload.
    Loaded(Box<Result<Loaded, String>>),
    /// What a reload has changed.
    Compared(Plan),
    /// An operator keeps the configuration that is on trial, or ends the trial.
    Confirm {
        /// The former one is to come back.
        back: bool,
        /// What became of it.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// The record of the trial is removed, or could not be.
    Confirmed {
        /// Which of the two.
        forgotten: Result<(), String>,
        /// Whom to tell.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Somebody wants to know what is in force.
    InForce(oneshot::Sender<InForce>),
    /// Somebody wants to know what operators have ordered.
    Overrides(oneshot::Sender<overrides::View>),
    /// An operator takes back what was ordered of real servers.
    ResetOverrides {
        /// Of which.
        scope: overrides::Scope,
        /// What follows, in words.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// From what keeps a crash guard.
    Guard(guard::Report),
    /// Another program is to take this one's place.
    Upgrade {
        /// Which; `None`: what a start of the service would run.
        binary: Option<PathBuf>,
        /// What became of it.
        reply: oneshot::Sender<Result<Upgraded, String>>,
    },
    /// It is prepared, or cannot be.
    Prepared(Box<Prepared>),
    /// SIGTERM or SIGINT.
    Stop,
}

/// A virtual router as the director last heard of it.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    pub(crate) report: RouterReport,
    pub(crate) since: SystemTime,
    pub(crate) transitions: u64,
    pub(crate) incompatible_since: Option<SystemTime>,
}

/// Something other than an address that a master should hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    /// The macvlan of that virtual router.
    VirtualMac(String),
    /// The table of nftables.
    Firewall,
    /// A setting of the kernel that virtual servers need.
    Sysctl(String),
    /// A route or rule, in words.
    Route(String),
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
    /// The text that it was read from.
    pub(crate) text: String,
    /// It is the former one: the file's was on trial and never confirmed.
    pub(crate) unconfirmed: bool,
    pub(crate) wakes: mpsc::UnboundedReceiver<Wake>,
    pub(crate) wake: mpsc::UnboundedSender<Wake>,
    pub(crate) vrrp: VrrpThread,
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) runner: Runner,
    /// What the runner reports.
    pub(crate) checks: mpsc::UnboundedReceiver<health::Report>,
    pub(crate) links: watch::Receiver<Arc<Links>>,
    pub(crate) holdings: Holdings,
    /// The workers that hold something: they are waited for at the end.
    pub(crate) holding: Workers,
    pub(crate) neighbours: mpsc::UnboundedSender<neighbours::Order>,
    pub(crate) connection_sync: ConnectionSync,
    pub(crate) listeners: Listeners,
    pub(crate) guard: Guard,
    pub(crate) events: Arc<Events>,
    pub(crate) event_store: Store,
    pub(crate) notifier: Notifier,
    /// Tasks without which the director is none: if one ends, so does the daemon.
    pub(crate) workers: Vec<(&'static str, JoinHandle<()>)>,
    /// What the kernel held of the configured services at the start.
    pub(crate) adopted: Table,
    /// That of this network namespace.
    pub(crate) lock: Lock,
    /// What another director knew, whose place this one takes.
    pub(crate) before: Option<State>,
}

/// The loop's state.
pub struct Director {
    pub(crate) config_path: PathBuf,
    pub(crate) config: Arc<Config>,
    /// The text of `config`, secrets and all.
    text: Arc<str>,
    pub(crate) reloads: Reloads,
    /// Virtual routers that begin anew with addresses that are held, and how long these stay.
    carried: BTreeMap<String, Instant>,
    pub(crate) started: Instant,
    pub(crate) loaded: SystemTime,
    pub(crate) last_reload: Option<Reload>,
    pub(crate) counters: BTreeMap<String, Arc<Counters>>,
    pub(crate) routers: BTreeMap<String, Box<Router>>,
    /// What was last said of each sync group.
    groups: BTreeMap<String, vrrp::StateName>,
    pub(crate) health: HealthTable,
    pub(crate) details: BTreeMap<CheckSpec, CheckDetail>,
    pub(crate) alarms: Alarms,
    pub(crate) pools: Pools,
    pub(crate) kernel: Option<reconcile::Report>,
    pub(crate) repairs: u64,
    pub(crate) address_repairs: u64,
    /// What the metrics have counted.
    pub(crate) totals: Arc<Mutex<metrics::Totals>>,
    pub(crate) vrrp: VrrpThread,
    pub(crate) events: Arc<Events>,
    /// What keeps them over a restart.
    event_store: Store,
    /// Who tells others of them.
    pub(crate) notifier: Notifier,
    /// Whether this director takes no part until an operator says otherwise.
    pub(crate) maintenance: bool,
    /// What is known of everything that virtual routers track.
    pub(crate) track: track::Facts,
    tracker: Tracker,
    /// Virtual addresses that the kernel refuses, and why.
    pub(crate) refused_addresses: BTreeMap<(String, IpNet), String>,
    /// What else cannot be had, and why.
    pub(crate) refused: BTreeMap<Refused, String>,
    /// Configurations that the advert path has not taken in yet. Until it has, its reports speak of
    /// another configuration than ours, and nothing follows from them.
    unconfigured: u32,
    /// How many times the loop was woken since roles changed that nobody was told of yet.
    unpublished: Option<u32>,
    stopping: bool,
    /// Every service that was ever configured since the start.
    managed: BTreeSet<ServiceKey>,
    /// The services of checks through real servers that the kernel has.
    ways: BTreeSet<ServiceKey>,
    facts: Facts,
    switchovers: Vec<Switchover>,
    pub(crate) runner: Runner,
    checks: mpsc::UnboundedReceiver<health::Report>,
    reconciler: Arc<Reconciler>,
    links: watch::Receiver<Arc<Links>>,
    /// `None` once it has been told to finish.
    holdings: Option<Holdings>,
    holding: Workers,
    neighbours: mpsc::UnboundedSender<neighbours::Order>,
    pub(crate) connection_sync: ConnectionSync,
    /// What the kernel's table should be.
    table: Arc<Table>,
    /// Whether the kernel's backup daemon runs, and how often it was seen to start.
    backup_runs: bool,
    backup_starts: u32,
    /// Who claims an address that this host holds, and when that was last heard.
    pub(crate) conflicts: BTreeMap<(IpAddr, Mac), SystemTime>,
    pub(crate) address_conflicts: u64,
    listeners: Listeners,
    /// `None` once it has been dismissed.
    guard: Option<Guard>,
    wake: mpsc::UnboundedSender<Wake>,
    workers: Vec<(&'static str, JoinHandle<()>)>,
    lock: Lock,
    /// A process is being prepared to take over.
    upgrading: bool,
    /// Orders that wait for the disk or the peer: maintenance, and what goes ahead of a handover.
    under_way: u32,
    wakes: mpsc::UnboundedReceiver<Wake>,
}

/// How the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked: everything was given up.
    Stopped,
    /// A worker died: what is left behind is released, and a new daemon should start.
    WorkerDied,
    /// Another process is the director.
    HandedOver,
    /// Another process was the director, and died at once.
    SuccessorDied,
}

impl Director {
    /// Puts the first configuration in force.
    pub(crate) fn start(parts: Parts) -> Director {
        let wake = parts.wake.clone();
        let tracker = Tracker::start(move |report| drop(wake.send(Wake::Track(report))));
        let maintenance = maintenance::read(&parts.config.global.state_dir);
        if maintenance && parts.before.is_none() {
            let name = &parts.config.global.name;
            let message = "starts in maintenance: `vipctl maintenance off` ends it";
            parts.events.record(Kind::MaintenanceOn, name, message);
        }
        let mut director = Director {
            config_path: parts.config_path,
            config: Arc::new(parts.config),
            text: parts.text.into(),
            reloads: Reloads::default(),
            carried: BTreeMap::new(),
            started: Instant::now(),
            loaded: SystemTime::now(),
            last_reload: None,
            counters: BTreeMap::new(),
            routers: BTreeMap::new(),
            groups: BTreeMap::new(),
            health: HealthTable::new(),
            details: BTreeMap::new(),
            alarms: Alarms::default(),
            pools: Pools::default(),
            kernel: None,
            repairs: 0,
            address_repairs: 0,
            totals: Arc::default(),
            vrrp: parts.vrrp,
            events: parts.events,
            event_store: parts.event_store,
            notifier: parts.notifier,
            maintenance,
            track: track::Facts::default(),
            tracker,
            refused_addresses: BTreeMap::new(),
            refused: BTreeMap::new(),
            unconfigured: 0,
            unpublished: None,
            stopping: false,
            managed: BTreeSet::new(),
            ways: BTreeSet::new(),
            facts: Facts::default(),
            switchovers: Vec::new(),
            runner: parts.runner,
            checks: parts.checks,
            reconciler: parts.reconciler,
            links: parts.links,
            holdings: Some(parts.holdings),
            holding: parts.holding,
            neighbours: parts.neighbours,
            connection_sync: parts.connection_sync,
            table: Arc::default(),
            backup_runs: false,
            backup_starts: 0,
            conflicts: BTreeMap::new(),
            address_conflicts: 0,
            listeners: parts.listeners,
            guard: Some(parts.guard),
            wake: parts.wake,
            workers: parts.workers,
            lock: parts.lock,
            upgrading: false,
            under_way: 0,
            wakes: parts.wakes,
        };
        let before = |server: &VirtualServer, real: &RealServer| {
            serves(&parts.adopted, server, real).then_some(Health::Up)
        };
        if parts.unconfirmed {
            director.reloads.unconfirmed = true;
            let file = director.config_path.display().to_string();
            let message = "starts with the former configuration: the file was on trial and not \
                           confirmed; `vipctl reload` puts it in force";
            director.events.record(Kind::ConfigWentBack, file, message);
        }
        director.read_overrides();
        if let Some(state) = parts.before {
            director.go_on_with(state);
        }
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
                    Some(Wake::Prepared(prepared)) => match self.pass_on(*prepared).await {
                        Passed::On => return Ended::HandedOver,
                        Passed::Lost => return Ended::SuccessorDied,
                        Passed::Not => {}
                    },
                    Some(wake) => {
                        self.wake(wake).await;
                        self.publish_when_quiet();
                    }
                },
                () = pools::reached(self.pools.next_step) => {
                    self.pools.next_step = None;
                    self.publish_table();
                }
                () = pools::reached(self.reloads.until()) => {
                    self.go_back("it was not confirmed in time").await;
                }
                Some(report) = self.checks.recv() => self.take_checks(report),
                changed = self.links.changed() => if changed.is_ok() { self.tell_facts() },
                _ = tick.tick() => {
                    if let Some(worker) = self.dead_worker() {
                        error!("the worker for {worker} has died");
                        self.stop().await;
                        return Ended::WorkerDied;
                    }
                    // systemd hears of us only while the advert path turns.
                    if watchdog.is_some() && self.vrrp.turns() != turns {
                        turns = self.vrrp.turns();
                        systemd::watchdog();
                    }
                }
            }
        }
    }

    /// Tells what follows from the roles. Hundreds of routers that change theirs at once are one
    /// change for those who are told.
    fn publish_when_quiet(&mut self) {
        if let Some(reports) = self.unpublished {
            if self.wakes.is_empty() || reports >= PUBLISH_AFTER {
                self.unpublished = None;
                self.publish_holdings();
                self.publish_table();
            } else {
                self.unpublished = Some(reports + 1);
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
            .chain(&self.holding)
            .map(|(name, task)| (*name, task.is_finished()));
        threads
            .into_iter()
            .chain(tasks)
            .find(|(_, dead)| *dead)
            .map(|(name, _)| name)
    }

    pub(super) async fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Vrrp(report) => self.take_vrrp(report),
            Wake::Kernel(report) => self.take_kernel(report),
            Wake::Holdings(report) => self.take_holdings(report),
            Wake::Claim(claim) => self.take_claim(&claim),
            // Whoever asked has given up.
            Wake::Status(reply) if reply.is_closed() => {}
            Wake::Metrics(reply) if reply.is_closed() => {}
            Wake::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Wake::Metrics(reply) => {
                let _ = reply.send(metrics::Snapshot::of(self));
            }
            Wake::Names(reply) => {
                let servers = self.config.virtual_servers.iter();
                let names = servers.flat_map(|server| {
                    let keys = server.keys.iter();
                    let named = keys.map(|key| (*key, server.name.clone()));
                    let name = format!("{} (checks)", server.name);
                    named.chain(desired::ways(server).map(move |(key, _)| (key, name.clone())))
                });
                let _ = reply.send(names.collect());
            }
            Wake::Checks {
                virtual_server,
                reply,
            } => {
                let _ = reply.send(self.checks_of(&virtual_server));
            }
            Wake::Switchover { router, reply } => self.begin_switchover(&router, reply),
            Wake::Handover {
                router,
                sent,
                reply,
            } => {
                self.under_way = self.under_way.saturating_sub(1);
                self.hand_over(&router, Some(sent), reply);
            }
            Wake::ConnectionSync(report) => self.take_connection_sync(report),
            Wake::SendConnections(reply) => self.send_connections(reply),
            Wake::Settled => {
                self.drop_carried();
                self.publish_holdings();
            }
            Wake::Maintenance { on, reply } => self.begin_maintenance(on, reply),
            Wake::MaintenanceWritten { on, written, reply } => {
                self.under_way = self.under_way.saturating_sub(1);
                let _ = reply.send(written.map(|()| self.set_maintenance(on)));
            }
            Wake::RealServer { order, reply } => self.begin_order(order, reply),
            Wake::OverridesWritten(written) => self.finish_order(written),
            Wake::Guard(report) => self.take_guard(report),
            Wake::Track(report) => {
                self.track.take(report);
                self.tell_facts();
            }
            Wake::Reload(request) => self.request_reload(request),
            Wake::Confirm { back, reply } => self.confirm(back, reply).await,
            Wake::Confirmed { forgotten, reply } => self.finish_confirm(forgotten, reply),
            Wake::InForce(reply) => {
                let _ = reply.send(self.in_force());
            }
            Wake::Overrides(reply) => {
                let _ = reply.send(self.pools.overrides.view(self.maintenance));
            }
            Wake::ResetOverrides { scope, reply } => self.begin_reset(scope, reply),
            Wake::Loaded(loaded) => self.finish_reload(*loaded).await,
            Wake::Compared(plan) => self.tell_reload(&plan),
            Wake::Upgrade { binary, reply } => self.begin_upgrade(binary, reply),
            // Dropped, the one that was prepared ends.
            Wake::Prepared(_) | Wake::Stop => {}
        }
    }

    fn take_kernel(&mut self, report: reconcile::Report) {
        for change in report.changes.lines() {
            info!("ipvs: {change}");
        }
        for note in &report.notes {
            self.events.record(Kind::IpvsRepaired, "ipvs", note);
        }
        for repair in report.repairs.lines() {
            let message = format!("somebody else had changed it: {repair}");
            self.events.record(Kind::IpvsRepaired, "ipvs", message);
        }
        self.note_backup_daemon(&report);
        let known = self.kernel.as_ref().map(|kernel| &kernel.refused);
        for refused in report
            .refused
            .iter()
            .filter(|r| known.is_none_or(|k| !k.contains(r)))
        {
            self.events.record(Kind::IpvsRefused, "ipvs", refused);
        }
        self.repairs += report.repairs.count;
        if self.ways != report.ways && !self.stopping {
            self.ways.clone_from(&report.ways);
            self.schedule_checks();
        }
        self.kernel = Some(report);
    }

    /// Puts `self.config` in force: start and reload are this one path. `before` says what is
    /// known of a real server whose check is new, so that the check does not begin at nothing.
    fn enforce(&mut self, before: &dyn Fn(&VirtualServer, &RealServer) -> Option<Health>) {
        // Nothing waits for what is only told.
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || {
            for warning in config.warnings() {
                warn!("{warning}");
            }
        });
        self.event_store.set(&self.config.global.state_dir);
        self.notifier.set(&self.config);
        self.configure_checks(before);
        inherited::manage(&mut self.managed, &self.config);
        self.counters
            .retain(|name, _| self.config.vrrp.iter().any(|v| v.name == *name));
        self.configure_routers();
    }

    fn publish_table(&mut self) {
        // On a stop the table goes, or stays, as a whole.
        if self.unconfigured > 0 || self.stopping {
            return;
        }
        let roles = self.roles();
        self.follow_roles(&roles);
        self.judge_pools();
        let table = desired::desired(&self.config, &roles, &self.pools.states);
        self.want(table);
    }

    /// Whoever holds the addresses gets the clients, also for the moment after it was master.
    fn roles(&self) -> Roles {
        let names = self.routers.keys().chain(self.carried.keys());
        names
            .map(|name| (name.clone(), self.holds_addresses(name)))
            .collect()
    }

    /// What a graceful stop with `on_stop = "keep"` leaves: what clients need.
    fn want_no_ways(&mut self) {
        let mut table = (*self.table).clone();
        table.retain(|key, _| !is_way(key));
        if table.len() < self.table.len() {
            self.want(table);
        }
    }

    /// What a graceful stop with `on_stop = "remove"` leaves.
    fn want_nothing(&self) {
        self.reconciler.want(reconcile::Wanted {
            managed: self.managed.clone(),
            resync_interval: self.config.ipvs.resync_interval,
            ..reconcile::Wanted::default()
        });
    }

    fn want(&mut self, table: Table) {
        self.table = Arc::new(table.clone());
        self.publish_connection_sync();
        self.reconciler.want(reconcile::Wanted {
            table,
            managed: self.managed.clone(),
            resync_interval: self.config.ipvs.resync_interval,
            timeouts: self.config.ipvs.timeouts,
            daemons: self.daemons(),
        });
    }
}
