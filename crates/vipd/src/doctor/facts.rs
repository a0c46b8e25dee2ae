//! What is looked at. Each look has its own limit, and nothing here changes anything: questions to
//! neighbours, echoes, files of the kernel, lists.

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
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// How long anything but the wire may take.
const STATUS: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(4);

/// Where the daemon is that runs with the configuration.
#[derive(Debug, Clone)]
pub enum Daemon {
    /// Here.
    Here(Api),
    /// Behind this socket, if one runs.
    Behind(PathBuf),
}

impl Daemon {
    async fn status(&self) -> Option<Status> {
        let asking = async {
            match self {
                Daemon::Here(api) => api.ask(ANSWER_TIMEOUT, Wake::Status).await.ok(),
                Daemon::Behind(socket) => client::status(socket).await.ok(),
            }
        };
        tokio::time::timeout(STATUS, asking).await.ok()?
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
    pub(super) async fn gather(path: &Path, config: &Config, daemon: &Daemon) -> Facts {
        let mut facts = Facts::default();
        // The HTTP client wants a TLS provider even where it never speaks TLS.
        let _there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let links = limited("the interfaces", routes::links()).await;
        facts.links = facts.note(links);
        let before = daemon.status().await;
        let servers: BTreeSet<IpAddr> = serving(config, before.as_ref())
            .map(|(_, real)| real.key.0.ip())
            .collect();
        let ways = limited("routes", routes::look(servers)).await;
        facts.ways = facts.note(ways);
        let plan = Plan::of(config, before.as_ref(), &facts.links, &facts.ways);
        let window = plan.window;
        let pid = daemon.pid().await;
        let (file, wanted) = (path.to_owned(), config.clone());
        let (wire, host, ipvs, warnings) = tokio::join!(
            beside("the network", window + LIMIT, move || wire::listen(&plan)),
            beside("this host", window + LIMIT, move || Ok(host::look(
                &wanted, pid, window
            ))),
            beside("IPVS", window + LIMIT, move || ipvs::look(window / 2)),
            beside("the file", LIMIT, move || Ok(super::warnings(&file))),
        );
        facts.wire = facts.note(wire);
        facts.host = facts.note(host);
        facts.ipvs = facts.note(ipvs);
        // Their counters have had that time to count.
        let firewall = limited("the firewall", firewall::look()).await;
        facts.firewall = facts.note(firewall);
        facts.warnings = facts.note(warnings);
        facts.status = daemon.status().await;
        facts.counted = counted(before.as_ref(), facts.status.as_ref());
        let peers = facts.peer_addresses(config);
        facts.peers = peers::look(config, &peers).await;
        facts
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
    pub(super) fn peer_addresses(&self, config: &Config) -> BTreeSet<IpAddr> {
        let mut all = plan::configured_peers(config);
        for vrrp in &config.vrrp {
            let heard = super::vrrp::of(vrrp, self).filter(|it| !it.outgoing);
            let same = heard.filter(|it| !super::vrrp::is_of_another_cluster(vrrp, it));
            all.extend(same.map(|it| it.source));
        }
        let masters = self.status.iter().flat_map(|status| &status.vrrp);
        for router in masters {
            for master in router.master.iter().chain(&router.rival) {
                all.extend(master.address.parse::<IpAddr>());
            }
        }
        let sync = self.status.iter().filter_map(|it| it.ipvs.sync.as_ref());
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
    look: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, look).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(why)) => Err(format!("{what}: {why}")),
        Err(_) => Err(format!("{what}: no answer within {LIMIT:?}")),
    }
}

/// Does what blocks on a thread of its own.
async fn beside<T: Send + 'static>(
    what: &str,
    limit: Duration,
    look: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let looked = tokio::task::spawn_blocking(look);
    match tokio::time::timeout(limit, looked).await {
        Ok(Ok(found)) => found.map_err(|why| format!("{what}: {why}")),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: it took longer than {limit:?}")),
    }
}
