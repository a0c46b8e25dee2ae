//! `vipd run`: puts the parts together, and takes them apart.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use health::Runner;
use ipvs::Table;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::config::{Config, LoadError};
use crate::control::server::Api;
use crate::director_loop::{Director, Ended, Parts, Wake, reload};
use crate::events::store::{self, Store};
use crate::events::{Events, Kind};
use crate::guard::{Guard, Pulse};
use crate::holdings::Holdings;
use crate::instance::Lock;
use crate::listeners::Listeners;
use crate::net::connection_sync::ConnectionSync;
use crate::net::sys::{give_memory_back, share_arena};
use crate::net::{links, neighbours};
use crate::notify::Notifier;
use crate::privileges;
use crate::reconcile::Reconciler;
use crate::trial::Record;
use crate::vrrp_loop::{self, VrrpThread};

/// Checks of tens of thousands of targets do not need more, and scripts inherit it: some programs close
/// every descriptor that there might be.
const OPEN_FILES: u64 = 65_536;

/// How long threads that wait for a disk may hold up the end.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop.
pub fn run(config_path: &Path) -> ExitCode {
    share_arena();
    let first = match First::load(config_path) {
        Ok(first) => first,
        Err(error) => {
            error!("the configuration cannot be used:\n{error}");
            return ExitCode::FAILURE;
        }
    };
    give_memory_back();
    if let Err(why) = privileges::sufficient() {
        error!("{why}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = privileges::keep() {
        error!("programs would inherit the daemon's capabilities: {error}");
        return ExitCode::FAILURE;
    }
    raise_open_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(serve(config_path, first));
    // A file system that hangs holds a thread that reads from it, not the end of the daemon.
    runtime.shutdown_timeout(SHUTDOWN);
    match ended {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::WorkerDied) => ExitCode::FAILURE,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
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

    fn of_file(config: Config, text: String) -> First {
        First {
            config,
            text,
            unconfirmed: false,
        }
    }
}

async fn serve(config_path: &Path, first: First) -> Result<Ended, String> {
    let First {
        config,
        text,
        unconfirmed,
    } = first;
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let (wake, wakes) = mpsc::unbounded_channel();
    signals(&wake).map_err(failed("signals"))?;
    // A director that cannot forward must not become master: it does not start.
    let adopted = adopt(&config)?;
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
    let (before, remembered) = store::read(&config.global.state_dir);
    let events = Arc::new(Events::after(before));
    let api = Api {
        director: wake.clone(),
        events: Arc::clone(&events),
        reconciler: Arc::clone(&reconciler),
    };
    let listeners = Listeners::open(&config.global, api).await?;
    let _lock = tokio::task::spawn_blocking(Lock::daemon)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
        .inspect_err(|_| listeners.close())?;
    // From here on no other daemon uses this folder: it would have the socket.
    let event_store = Store::start(Arc::clone(&events), &config.global.state_dir);
    let notifier = Notifier::start(&config, &events);
    if let Err(why) = remembered {
        let message = format!("{why}; goes on without the events of former runs");
        events.record(Kind::StateUnreadable, &config.global.name, message);
    }
    let (holdings, holding, announcing) = {
        let wake = wake.clone();
        let report = move |report| drop(wake.send(Wake::Holdings(report)));
        Holdings::start(&config, &links, report)?
    };
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
    let report = move |report| {
        // The advert path asks shortly before its deadline: this does not wait for the director.
        if let vrrp_loop::Report::Probe(addresses) = &report {
            let _ = probes.send(neighbours::Order::Probe(addresses.to_vec()));
        } else {
            let _ = wake.send(Wake::Vrrp(report));
        }
    };
    let (pulse, felt) = Pulse::new().map_err(failed("an eventfd"))?;
    let vrrp = VrrpThread::start(report, pulse).map_err(failed("the advert thread"))?;
    let guard = {
        let wake = director_wake.clone();
        Guard::start(felt, move |report| drop(wake.send(Wake::Guard(report))))
    };
    let (routers, servers) = (config.vrrp.len(), config.virtual_servers.len());
    let mut workers = vec![
        ("interfaces", monitor),
        ("neighbours", watching),
        ("the connection sync", syncing),
    ];
    workers.extend(announcing);
    let (reports, checks) = mpsc::unbounded_channel();
    let runner = Runner::new(reports).map_err(failed("a thread for checks"))?;
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
    });
    let version = env!("CARGO_PKG_VERSION");
    info!(
        version,
        virtual_routers = routers,
        virtual_servers = servers,
        "vipd is running"
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(director.run(sd_notify::watchdog_enabled()).await)
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
