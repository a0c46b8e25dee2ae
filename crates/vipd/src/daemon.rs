//! `vipd run`: puts the parts together, and takes them apart.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use health::Runner;
use ipvs::Table;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::{Config, LoadError};
use crate::control::server::Api;
use crate::director_loop::upgrade::role_of;
use crate::director_loop::{Director, Ended, Parts, Wake, reload};
use crate::events::store::{self, Store};
use crate::events::{Events, Kind};
use crate::guard::{Guard, Pulse};
use crate::holdings::Holdings;
use crate::instance::Lock;
use crate::listeners::Listeners;
use crate::net::connection_sync::ConnectionSync;
use crate::net::links::{self, Links};
use crate::net::neighbours;
use crate::net::sys::{forget_text, give_memory_back, share_arena};
use crate::notify::Notifier;
use crate::privileges;
use crate::reconcile::Reconciler;
use crate::trial::Record;
use crate::upgrade::fitness::{self, Unfit};
use crate::upgrade::predecessor::{self, Predecessor, Taken, Talk};
use crate::upgrade::{Hello, State};
use crate::vrrp_loop::{self, VrrpThread};

/// Checks of tens of thousands of targets do not need more, and scripts inherit it: some programs close
/// every descriptor that there might be.
const OPEN_FILES: u64 = 65_536;

/// How long threads that wait for a disk may hold up the end.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// When a start is over, and routers have the roles that they begin with.
const SETTLED: Duration = Duration::from_secs(10);
/// How long what runs needs to have its code back: two adverts of the usual interval.
const BACK: Duration = Duration::from_secs(2);

/// Runs the daemon until it is told to stop; with `before` in the place of that one.
pub fn run(config_path: &Path, before: Option<Predecessor>) -> ExitCode {
    let complaints = before.as_ref().map(Predecessor::complaints).transpose();
    let ended = complaints
        .map_err(|error| error.to_string())
        .and_then(|complaints| {
            let ended = try_to_run(config_path, before);
            if let (Err(why), Some(to)) = (&ended, &complaints) {
                predecessor::fail(to, why);
            }
            ended
        });
    match ended {
        Ok(Ended::Stopped | Ended::HandedOver) => ExitCode::SUCCESS,
        Ok(Ended::WorkerDied | Ended::SuccessorDied) => ExitCode::FAILURE,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn try_to_run(config_path: &Path, before: Option<Predecessor>) -> Result<Ended, String> {
    share_arena();
    let unusable = |error| format!("the configuration cannot be used:\n{error}");
    let first = match &before {
        None => First::load(config_path).map_err(unusable)?,
        Some(before) => First::in_force(before.hello())?,
    };
    give_memory_back();
    privileges::sufficient()?;
    privileges::keep()
        .map_err(|error| format!("programs would inherit the daemon's capabilities: {error}"))?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let ended = runtime.block_on(async {
        match before {
            None => serve(config_path, first).await,
            Some(before) => take_over(config_path, first, before).await,
        }
    });
    // A file system that hangs holds a thread that reads from it, not the end of the daemon.
    runtime.shutdown_timeout(SHUTDOWN);
    ended
}

/// Raises the soft limit of open files to the hard one: it bounds how many probes are on their way at
/// once.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    if current.is_some_and(|soft| soft < wanted) {
        let limit = Rlimit {
            current: Some(wanted),
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!("the limit of open files stays at {current:?}: {error}");
        }
    }
}

/// What a start puts in force.
struct First {
    config: Config,
    text: String,
    /// The file was on trial and never confirmed: this is what was in force before.
    unconfirmed: bool,
}

impl First {
    fn load(path: &Path) -> Result<First, LoadError> {
        let text = Config::read_text(path)?;
        let parsed = Config::parse(&text, &path.display().to_string());
        let config = parsed.map_err(LoadError::Invalid)?;
        let state_dir = config.global.state_dir.clone();
        let record = Record::read(&state_dir).unwrap_or_else(|why| {
            warn!("whether the file was on trial is unknown, it counts as confirmed: {why}");
            None
        });
        let Some(record) = record else {
            return Ok(First::of_file(config, text));
        };
        let Some(former) = record.instead_of(&text) else {
            // Somebody has written another file since: what was tried is of no interest any more.
            if let Err(why) = Record::remove(&state_dir) {
                warn!("{why}");
            }
            return Ok(First::of_file(config, text));
        };
        match Config::parse(&former, "the former configuration") {
            Ok(config) => Ok(First {
                config,
                text: former,
                unconfirmed: true,
            }),
            Err(problems) => {
                error!(
                    "the file was not confirmed, but what was in force before it cannot be used:\n{problems}"
                );
                Ok(First::of_file(config, text))
            }
        }
    }

    /// What another daemon has in force; whether that is on trial, it tells later.
    fn in_force(hello: &Hello) -> Result<First, String> {
        let text = hello.text.clone();
        let parsed = Config::parse(&text, &hello.path.display().to_string());
        let config =
            parsed.map_err(|problems| format!("it refuses the configuration:\n{problems}"))?;
        Ok(First::of_file(config, text))
    }

    fn of_file(config: Config, text: String) -> First {
        First {
            config,
            text,
            unconfirmed: false,
        }
    }
}

/// What there is before anything is done: what the director hears by, and what does no harm beside
/// another daemon.
struct Ground {
    wake: mpsc::UnboundedSender<Wake>,
    wakes: mpsc::UnboundedReceiver<Wake>,
    adopted: Table,
    links: watch::Receiver<Arc<Links>>,
    monitor: JoinHandle<()>,
    reconciler: Arc<Reconciler>,
}

/// What differs between a start and an upgrade.
struct Place {
    listeners: Listeners,
    lock: Lock,
    events: Arc<Events>,
    /// What another director knew.
    before: Option<State>,
    /// The advert path's end towards that of the other daemon.
    adverts: Option<OwnedFd>,
    /// This is the director.
    begin: watch::Receiver<bool>,
    /// The other daemon is gone.
    alone: watch::Receiver<bool>,
    /// The advert path has taken over.
    taken: Arc<AtomicBool>,
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

async fn prepare(config: &Config) -> Result<Ground, String> {
    let (wake, wakes) = mpsc::unbounded_channel();
    signals(&wake).map_err(failed("signals"))?;
    // A director that cannot forward must not become master: it does not start.
    let adopted = adopt(config)?;
    let (links, monitor) = links::watch().await.map_err(failed("rtnetlink"))?;
    for vrrp in &config.vrrp {
        if links.borrow().named(&vrrp.interface).is_none() {
            let (router, interface) = (&vrrp.name, &vrrp.interface);
            warn!(
                router,
                interface, "the interface does not exist yet; waiting for it"
            );
        }
    }
    let reconciler = {
        let wake = wake.clone();
        let report = move |report| drop(wake.send(Wake::Kernel(report)));
        Arc::new(Reconciler::start(report).map_err(failed("the IPVS thread"))?)
    };
    Ok(Ground {
        wake,
        wakes,
        adopted,
        links,
        monitor,
        reconciler,
    })
}

impl Ground {
    fn api(&self, events: &Arc<Events>) -> Api {
        Api {
            director: self.wake.clone(),
            events: Arc::clone(events),
            reconciler: Arc::clone(&self.reconciler),
        }
    }
}

async fn serve(config_path: &Path, first: First) -> Result<Ended, String> {
    let config = &first.config;
    let ground = prepare(config).await?;
    let (before, remembered) = store::read(&config.global.state_dir);
    let events = Arc::new(Events::after(before));
    let listeners = Listeners::open(&config.global, ground.api(&events)).await?;
    let lock = tokio::task::spawn_blocking(Lock::daemon)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
        .inspect_err(|_| listeners.close())?;
    // From here on no other daemon uses this folder: it would have the socket.
    if let Err(why) = remembered {
        let message = format!("{why}; goes on without the events of former runs");
        events.record(Kind::StateUnreadable, &config.global.name, message);
    }
    let now = watch::Sender::new(true).subscribe();
    let place = Place {
        listeners,
        lock,
        events,
        before: None,
        adverts: None,
        begin: now.clone(),
        alone: now,
        taken: Arc::default(),
    };
    let Begun { director, .. } = begin(config_path, first, ground, place)?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(director.run(sd_notify::watchdog_enabled()).await)
}

/// Locks the daemon's memory once the start is over: the code that only that needed is forgotten before,
/// and cannot be any more after.
async fn settle() {
    tokio::time::sleep(SETTLED).await;
    let _ = tokio::task::spawn_blocking(forget_text).await;
    // Locking a large memory takes a while, in which nobody gets a page that is missing: whoever runs has
    // its code back before.
    tokio::time::sleep(BACK).await;
    let locked = tokio::task::spawn_blocking(|| {
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    });
    if let Ok(Err(error)) = locked.await {
        warn!("memory is not locked: {error}");
    }
}

/// Takes the place of another daemon.
async fn take_over(config_path: &Path, first: First, before: Predecessor) -> Result<Ended, String> {
    let ground = prepare(&first.config).await?;
    let Taken {
        stream,
        log,
        adverts,
        control,
        http,
        lock,
    } = before.take();
    let taken = Arc::new(AtomicBool::new(false));
    let mut talk = Talk::new(stream, log, Arc::clone(&taken)).map_err(failed("the daemon"))?;
    let mut state = talk.prepared().await?;
    let running = fitness::running(&state);
    let events = Arc::new(Events::after(std::mem::take(&mut state.events)));
    let (begun, begin_when) = watch::channel(false);
    let (left, alone) = watch::channel(false);
    let (global, api) = (&first.config.global, ground.api(&events));
    let listeners = Listeners::inherit(global, control, http, api, &begin_when).await?;
    let place = Place {
        listeners,
        lock,
        events: Arc::clone(&events),
        before: Some(state),
        adverts: Some(adverts),
        begin: begin_when,
        alone,
        taken,
    };
    let name = first.config.global.name.clone();
    let Begun {
        director,
        guarded,
        unfit,
    } = begin(config_path, first, ground, place)?;
    if let Err(why) = fitness::judge(unfit, &running).await {
        error!("{why}");
        talk.refuse(&why).await;
        std::process::exit(1);
    }
    if let Err(why) = talk.ready().await {
        error!("{why}");
        // Whatever is held is the other daemon's: nothing is given up here.
        std::process::exit(1);
    }
    begun.send_replace(true);
    tokio::spawn(talk.finish(guarded, left));
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let message = format!("vipd {version}, process {pid}, goes on in the place of the one before");
    events.record(Kind::Upgraded, name, message);
    Ok(director.run(sd_notify::watchdog_enabled()).await)
}

/// A director that is put together and does not run yet.
struct Begun {
    director: Director,
    /// Its guard knows what is to be done.
    guarded: watch::Receiver<bool>,
    /// What a parked advert path lacks.
    unfit: watch::Receiver<Option<Unfit>>,
}

/// Puts the director together.
fn begin(config_path: &Path, first: First, ground: Ground, place: Place) -> Result<Begun, String> {
    let First {
        config,
        text,
        unconfirmed,
    } = first;
    let Ground {
        wake,
        wakes,
        adopted,
        links,
        monitor,
        reconciler,
    } = ground;
    let Place {
        listeners,
        lock,
        events,
        before,
        adverts,
        begin,
        alone,
        taken,
    } = place;
    let event_store = Store::start(Arc::clone(&events), &config.global.state_dir);
    let notifier = Notifier::start_when(alone, &config, &events);
    let (neighbours, watching) = {
        let wake = wake.clone();
        let report = move |claim| drop(wake.send(Wake::Claim(claim)));
        neighbours::start(links.clone(), report).map_err(failed("packet sockets"))?
    };
    let (connection_sync, syncing) = {
        let wake = wake.clone();
        let report = move |report| drop(wake.send(Wake::ConnectionSync(report)));
        ConnectionSync::start(links.clone(), report)
    };
    let director_wake = wake.clone();
    let probes = neighbours.clone();
    let (parked, unfit) = watch::channel(None);
    let report = move |report| {
        // The advert path asks shortly before its deadline: this does not wait for the director.
        if let vrrp_loop::Report::Probe(addresses) = &report {
            let _ = probes.send(neighbours::Order::Probe(addresses.to_vec()));
            return;
        }
        if let vrrp_loop::Report::Parked { unfit } = report {
            parked.send_replace(Some(unfit));
            return;
        }
        if matches!(report, vrrp_loop::Report::HandedOver(Ok(()))) {
            taken.store(true, Ordering::Release);
        }
        let _ = wake.send(Wake::Vrrp(report));
    };
    let (pulse, felt) = Pulse::new().map_err(failed("an eventfd"))?;
    let vrrp = VrrpThread::start(report, pulse, adverts).map_err(failed("the advert thread"))?;
    let (guard, guarded) = {
        let wake = director_wake.clone();
        Guard::start(felt, begin, move |report| {
            drop(wake.send(Wake::Guard(report)))
        })
    };
    let (routers, servers) = (config.vrrp.len(), config.virtual_servers.len());
    let mut workers = vec![
        ("interfaces", monitor),
        ("neighbours", watching),
        ("the connection sync", syncing),
    ];
    let (reports, checks) = mpsc::unbounded_channel();
    let runner = Runner::new(reports).map_err(failed("a thread for checks"))?;
    // The last that can fail: dropped, it would give up what another daemon may hold.
    let (holdings, holding, announcing) = {
        let wake = director_wake.clone();
        let report = move |report| drop(wake.send(Wake::Holdings(report)));
        let known = before.as_ref().map(|state| {
            let config = &config;
            move |name: &str| role_of(state, config, name)
        });
        Holdings::start(&config, &links, known, report)?
    };
    workers.extend(announcing);
    tokio::spawn(settle());
    let director = Director::start(Parts {
        config_path: config_path.to_owned(),
        config,
        text,
        unconfirmed,
        wakes,
        wake: director_wake,
        vrrp,
        reconciler,
        runner,
        checks,
        links,
        holdings,
        holding,
        neighbours,
        connection_sync,
        listeners,
        guard,
        events,
        event_store,
        notifier,
        workers,
        adopted,
        lock,
        before,
    });
    let version = env!("CARGO_PKG_VERSION");
    info!(
        version,
        virtual_routers = routers,
        virtual_servers = servers,
        "vipd is running"
    );
    Ok(Begun {
        director,
        guarded,
        unfit,
    })
}

/// Reads what the kernel holds of the configured services: what is there stays in use.
fn adopt(config: &Config) -> Result<Table, String> {
    if config.virtual_servers.is_empty() {
        return Ok(Table::new());
    }
    let dump = ipvs::Client::open()
        .map_err(|error| error.to_string())?
        .dump()
        .map_err(|e| format!("reading the IPVS table: {e}"))?;
    let configured = |key| {
        config
            .virtual_servers
            .iter()
            .any(|server| server.keys.contains(&key))
    };
    let table: Table = dump
        .table
        .into_iter()
        .filter(|(key, _)| configured(*key))
        .collect();
    if !table.is_empty() {
        info!(
            services = table.len(),
            "adopted what the kernel's IPVS table holds already"
        );
    }
    Ok(table)
}

fn signals(wake: &mpsc::UnboundedSender<Wake>) -> std::io::Result<()> {
    for (kind, event) in [
        (
            SignalKind::hangup(),
            (|| Wake::Reload(reload::Request::default())) as fn() -> Wake,
        ),
        (SignalKind::terminate(), || Wake::Stop),
        (SignalKind::interrupt(), || Wake::Stop),
    ] {
        let (mut signal, wake) = (signal(kind)?, wake.clone());
        tokio::spawn(async move {
            while signal.recv().await.is_some() && wake.send(event()).is_ok() {}
        });
    }
    Ok(())
}
