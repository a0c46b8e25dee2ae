//! What is looked at. Nothing here changes anything: questions to neighbours, echoes, files of the kernel,
//! lists.
//!
//! Looks run beside each other and share one deadline (`super::LOOKING`): first what tells whom to ask,
//! then the network for some seconds and this host meanwhile, then what has counted during that time.
//! What does not answer in time is named in `unknown`, and costs nothing else its turn.

pub(super) mod firewall;
pub(super) mod host;
pub(super) mod ipvs;
pub(super) mod packets;
pub(super) mod peers;
pub(super) mod plan;
pub(super) mod programs;
pub(super) mod routes;
pub(super) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::firewall::Firewall;
use self::host::Host;
use self::ipvs::Ipvs;
use self::peers::Peer;
use self::plan::Plan;
use self::routes::Way;
use self::wire::Wire;
use crate::config::{Config, Problem, RealServer, VirtualServer};
use crate::control::client;
use crate::control::server::{ANSWER_TIMEOUT, Api};
use crate::director_loop::Wake;
use crate::net::links::Links;
use crate::net::sys::Mac;
use crate::status::{Status, VrrpStatus};

/// How long the first step may take: what is asked of the kernel and of the daemon.
const FIRST: Duration = Duration::from_millis(1500);
/// What is kept for the third step, of which nothing takes long where nothing hangs.
const THIRD: Duration = Duration::from_millis(1500);

/// Where the daemon is that runs with the configuration.
#[derive(Debug, Clone)]
pub enum Daemon {
    /// Here.
    Here(Api),
    /// Behind this socket, if one runs.
    Behind(PathBuf),
}

/// What the daemon says when it is asked.
enum Answer {
    Status(Box<Status>),
    /// None runs.
    Nobody,
    /// It is there, and says nothing.
    Silence,
    /// It cannot be understood.
    Refused(String),
}

impl Daemon {
    async fn status(&self, until: Instant) -> Answer {
        let asking = async {
            match self {
                Daemon::Here(api) => match api.ask(ANSWER_TIMEOUT, Wake::Status).await {
                    Ok(status) => Answer::Status(Box::new(status)),
                    Err(_) => Answer::Silence,
                },
                Daemon::Behind(socket) => behind(socket).await,
            }
        };
        let answer = tokio::time::timeout_at(until, asking).await;
        answer.unwrap_or(Answer::Silence)
    }

    /// Its process.
    async fn pid(&self) -> Option<u32> {
        match self {
            Daemon::Here(_) => Some(std::process::id()),
            Daemon::Behind(socket) => {
                let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
                u32::try_from(stream.peer_cred().ok()?.pid()?).ok()
            }
        }
    }

    fn socket(&self) -> Option<&Path> {
        match self {
            Daemon::Here(_) => None,
            Daemon::Behind(socket) => Some(socket),
        }
    }
}

async fn behind(socket: &Path) -> Answer {
    if let Err(error) = tokio::net::UnixStream::connect(socket).await {
        let kind = error.kind();
        if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            return Answer::Nobody;
        }
        // The queue of those who want to be heard is full.
        if kind == ErrorKind::WouldBlock {
            return Answer::Silence;
        }
        return Answer::Refused(format!("{}: {error}", socket.display()));
    }
    match client::status(socket).await {
        Ok(status) => Answer::Status(Box::new(status)),
        Err(why) => Answer::Refused(why),
    }
}

/// A daemon that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Silent {
    /// Its control socket, where it was asked through that.
    pub socket: Option<PathBuf>,
    /// Its process, and the state of that as proc(5) has it.
    pub process: Option<(u32, char)>,
    /// How long it had.
    pub patience: Duration,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The interfaces of this host.
    pub links: Links,
    /// The way to each real server.
    pub ways: BTreeMap<IpAddr, Way>,
    /// What was heard on the network.
    pub wire: Wire,
    /// What the daemon says, where one runs.
    pub status: Option<Status>,
    /// The daemon, if one is there and says nothing.
    pub silent: Option<Silent>,
    /// How many adverts the daemon counted meanwhile, heard or discarded, by virtual router.
    pub counted: BTreeMap<String, u64>,
    /// This host.
    pub host: Host,
    /// The kernel's IPVS.
    pub ipvs: Ipvs,
    /// The rules of packet filters.
    pub firewall: Firewall,
    /// The other directors.
    pub peers: Vec<Peer>,
    /// What `vipd check` warns of.
    pub warnings: Vec<Problem>,
    /// What could not be looked at.
    pub unknown: Vec<String>,
}

impl Facts {
    pub(super) async fn gather(
        path: &Path,
        config: &Arc<Config>,
        daemon: &Daemon,
        until: Instant,
    ) -> Facts {
        let mut facts = Facts::default();
        // The HTTP client wants a TLS provider even where it never speaks TLS.
        let _there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let begin = Instant::now();
        let first = until.min(begin + FIRST);
        let window = plan::window(config);
        // One that is busy may answer later, while the network is listened to.
        let second = until.checked_sub(THIRD).unwrap_or(until);
        let asked = daemon.clone();
        let mut asked = tokio::spawn(async move { asked.status(second).await });
        let servers = serving(config, None).map(|(_, real)| real.key.0.ip());
        let (links, ways, answer, pid) = tokio::join!(
            limited("the interfaces", first, routes::links()),
            limited("routes", first, routes::look(servers.collect())),
            tokio::time::timeout_at(first, &mut asked),
            tokio::time::timeout_at(first, daemon.pid()),
        );
        facts.links = facts.note(links);
        facts.ways = facts.note(ways);
        let pid = pid.ok().flatten();
        let at_once = answer.ok().and_then(Result::ok);
        let was_late = at_once.is_none();
        let before = facts.heard(at_once);
        let (links, ways) = (facts.links.clone(), facts.ways.clone());
        let (plan_of, status) = (Arc::clone(config), before.clone());
        let (file, wanted) = (path.to_owned(), Arc::clone(config));
        let (wire, host, ipvs, warnings) = tokio::join!(
            beside("the network", second, move || {
                wire::listen(&Plan::of(&plan_of, status.as_ref(), &links, &ways))
            }),
            beside("this host", second, move || Ok(host::look(
                &wanted, pid, window
            ))),
            beside("IPVS", second, move || ipvs::look(window / 2)),
            beside("the file", second, move || Ok(super::warnings(&file))),
        );
        facts.wire = facts.note(wire);
        facts.host = facts.note(host);
        facts.ipvs = facts.note(ipvs);
        facts.warnings = facts.note(warnings);
        // Its counters have had that time to count.
        let after = async {
            match &before {
                Some(_) => Some(daemon.status(until).await),
                None if was_late => asked.await.ok(),
                None => None,
            }
        };
        let known = facts.peer_addresses(config, before.as_ref());
        let (firewall, after, peers) = tokio::join!(
            firewall::look(until),
            after,
            peers::look(config, &known, until)
        );
        facts.firewall = firewall.0;
        facts.unknown.extend(firewall.1);
        facts.peers = peers.0;
        facts.unknown.extend(peers.1);
        facts.silent = matches!(after, Some(Answer::Silence)).then(|| Silent {
            socket: daemon.socket().map(Path::to_owned),
            process: pid.and_then(|pid| Some((pid, host::state(pid)?))),
            patience: begin.elapsed(),
        });
        if before.is_some() && facts.silent.take().is_some() {
            let why = "the daemon: no second answer in time, what is told is the first";
            facts.unknown.push(why.to_owned());
        }
        facts.status = facts.heard(after).or_else(|| before.clone());
        facts.counted = counted(before.as_ref(), facts.status.as_ref());
        facts
    }

    /// The status of an answer; one that cannot be understood is noted.
    fn heard(&mut self, answer: Option<Answer>) -> Option<Status> {
        match answer? {
            Answer::Status(status) => Some(*status),
            Answer::Refused(why) => {
                self.unknown.push(format!("the daemon: {why}"));
                None
            }
            Answer::Nobody | Answer::Silence => None,
        }
    }

    fn note<T: Default>(&mut self, looked: Result<T, String>) -> T {
        looked.unwrap_or_else(|why| {
            self.unknown.push(why);
            T::default()
        })
    }

    /// What the daemon says of a virtual router.
    pub(super) fn router(&self, name: &str) -> Option<&VrrpStatus> {
        let status = self.status.as_ref()?;
        status.vrrp.iter().find(|router| router.name == name)
    }

    /// Whether an address is on an interface of this host that is up.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        self.links.iter().any(|link| link.up && link.has(address))
    }

    /// The MACs of an address, as it was asked for.
    pub(super) fn macs(&self, address: IpAddr) -> impl Iterator<Item = Mac> {
        let asked = self.wire.answers.iter();
        let of = asked.filter(move |((_, asked), _)| *asked == address);
        of.flat_map(|(_, macs)| macs.iter().copied())
    }

    /// The addresses of the other directors that are known.
    fn peer_addresses(&self, config: &Config, status: Option<&Status>) -> BTreeSet<IpAddr> {
        let mut all = plan::configured_peers(config);
        for vrrp in &config.vrrp {
            let heard = super::vrrp::of(vrrp, self).filter(|it| !it.outgoing);
            let same = heard.filter(|it| !super::vrrp::is_of_another_cluster(vrrp, it));
            all.extend(same.map(|it| it.source));
        }
        let masters = status.iter().flat_map(|status| &status.vrrp);
        for router in masters {
            for master in router.master.iter().chain(&router.rival) {
                all.extend(master.address.parse::<IpAddr>());
            }
        }
        let sync = status.iter().filter_map(|it| it.ipvs.sync.as_ref());
        for peer in sync.flat_map(|sync| &sync.peers) {
            all.extend(peer.address.parse::<IpAddr>());
        }
        // Whoever answers for a virtual address may be one that is not heard.
        let vips = config.vrrp.iter().flat_map(|vrrp| &vrrp.addresses);
        for mac in vips.flat_map(|vip| self.macs(vip.ip())) {
            all.extend(self.host.neighbours.get(&mac));
        }
        all.retain(|address| !self.holds(*address));
        all
    }
}

/// The real servers of a configuration that are in use, each with its virtual server.
pub(super) fn serving<'c>(
    config: &'c Config,
    status: Option<&'c Status>,
) -> impl Iterator<Item = (&'c VirtualServer, &'c RealServer)> {
    let of_status = status.iter().flat_map(|it| &it.virtual_servers);
    let disabled = of_status.flat_map(|server| {
        let reals = server.real_servers.iter();
        let out = reals.filter(|real| real.state == "disabled");
        out.map(|real| (server.name.as_str(), real.address.as_str()))
    });
    let disabled: BTreeSet<(&str, &str)> = disabled.collect();
    let all = config.virtual_servers.iter();
    let all = all.flat_map(|server| server.real_servers.iter().map(move |real| (server, real)));
    all.filter(move |(server, real)| {
        if disabled.is_empty() {
            return true;
        }
        let (name, address) = (server.name.as_str(), real.key.0);
        !disabled.contains(&(name, &address.to_string()))
            && !disabled.contains(&(name, &address.ip().to_string()))
    })
}

fn counted(before: Option<&Status>, after: Option<&Status>) -> BTreeMap<String, u64> {
    let sum = |router: &VrrpStatus| {
        let counters = &router.counters;
        counters.adverts_received + counters.discarded.values().sum::<u64>()
    };
    let Some((before, after)) = before.zip(after) else {
        return BTreeMap::new();
    };
    let grown = |router: &VrrpStatus| {
        let then = before.vrrp.iter().find(|it| it.name == router.name)?;
        let count = sum(router).saturating_sub(sum(then));
        Some((router.name.clone(), count))
    };
    after.vrrp.iter().filter_map(grown).collect()
}

async fn limited<T>(
    what: &str,
    until: Instant,
    look: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout_at(until, look).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(why)) => Err(format!("{what}: {why}")),
        Err(_) => Err(format!("{what}: no answer in time")),
    }
}

/// Does what blocks on a thread of its own. One that does not end in time is left to itself.
pub(super) async fn beside<T: Send + 'static>(
    what: &str,
    until: Instant,
    look: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let looked = tokio::task::spawn_blocking(look);
    match tokio::time::timeout_at(until, looked).await {
        Ok(Ok(found)) => found.map_err(|why| format!("{what}: {why}")),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: not done in time")),
    }
}
