//! The settings under `net.ipv4.vs`, and what forwarding and checks need of the host beside them
//! (`host.rs`).
//!
//! A check with `via = "vip"` of a real server by direct routing or through a tunnel is answered by the
//! virtual address. On the master that is an address of this host itself, and the kernel takes no such
//! packet from an interface whose `accept_local` is 0 (IPv6 has no such rule). Measured on Linux 6.1:
//! nothing else stands in the way of a marked packet to an address of this host, neither `rp_filter` (but
//! where the virtual address is on another interface, a macvlan, strict `rp_filter = 1` is; 2 is not) nor
//! `net.ipv4.vs.conntrack`; with NAT the answer comes from the real server's address, and IPVS puts the
//! virtual one in when that has been let in.
//!
//! What was there before is remembered (`memory.rs`), and given back on a graceful stop, by `vipd release`, or
//! when the configuration no longer wants it. A value that somebody else sets meanwhile is put back while the
//! daemon runs, and is theirs after it.
//!
//! The settings of IPVS exist where the module `ip_vs` is loaded, in each network namespace; until then there
//! is nothing to do. With `sysctl.manage = false` what the host should have beside them is told, not changed.

mod host;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipvs::{Family, Forwarding};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::host::Setting;
use self::memory::{Memory, read};
use super::links::Links;
use crate::config::{Config, OnStop, VirtualServer};

/// How often the settings are compared.
pub const LOOK: Duration = Duration::from_secs(2);
const SETTINGS: &str = "/proc/sys/net";
/// The settings of IPVS begin with this below [`SETTINGS`].
const IPVS: &str = "ipv4/vs/";
/// After so many looks without news the way to each real server is looked up again.
const ROUTES_EVERY: u32 = 15;

/// What should be so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Values by name, as the kernel takes them, of settings of IPVS.
    pub values: BTreeMap<String, String>,
    /// Real servers that answer checks with a virtual address.
    pub answering: BTreeSet<Ipv4Addr>,
    /// Families of which this host must forward packets.
    pub forwards: BTreeSet<Family>,
    /// Real servers whose answers this host translates.
    pub translated: BTreeSet<Ipv4Addr>,
    /// Whether settings of the host beside those of IPVS are only told.
    pub only_told: bool,
    /// Whether the settings stay after a graceful stop, for the services that stay, too.
    pub keep: bool,
}

impl Wanted {
    /// What the configuration wants; without virtual servers nothing.
    #[must_use]
    pub fn of(config: &Config) -> Wanted {
        if config.virtual_servers.is_empty() {
            return Wanted::default();
        }
        let values = config.ipvs.sysctl.iter();
        Wanted {
            values: values.map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            answering: answering(config),
            forwards: config.translated_families(),
            translated: translated(config),
            only_told: !config.sysctl.manage,
            keep: config.ipvs.on_stop == OnStop::Keep,
        }
    }
}

fn answering(config: &Config) -> BTreeSet<Ipv4Addr> {
    let servers = config.virtual_servers.iter();
    let real_servers = servers.flat_map(|server| &server.real_servers);
    let themselves = real_servers.filter(|real| real.destination.forwarding != Forwarding::Nat);
    let answering = themselves.flat_map(|real| {
        let through = real.checks.iter().filter(|check| check.target.is_ipv4());
        through.filter_map(|check| check.route.through)
    });
    answering
        .filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            // Their packets come out of an IPv6 tunnel, but the answers are IPv4's.
            IpAddr::V6(_) => None,
        })
        .collect()
}

fn translated(config: &Config) -> BTreeSet<Ipv4Addr> {
    let servers = config
        .virtual_servers
        .iter()
        .flat_map(VirtualServer::servers);
    let translated = servers.filter(|(_, forwarding, _)| *forwarding == Forwarding::Nat);
    translated
        .filter_map(|(key, _, _)| match key.0.ip() {
            IpAddr::V4(ip) => Some(ip),
            // Redirects of IPv6 have no switch.
            IpAddr::V6(_) => None,
        })
        .collect()
}

/// What was found or done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Somebody had changed a setting; it is as it should be.
    Repaired {
        /// Which.
        name: String,
        /// What they had made it.
        found: String,
    },
    /// This kernel has no such setting. Told once.
    Missing {
        /// Which.
        name: String,
    },
    /// Something is not as it should be, and cannot be made so. Told once for each reason.
    Refused {
        /// The setting, or what else is about.
        name: String,
        /// Why, and what to do.
        error: String,
    },
    /// It is as it should be.
    Mended {
        /// The setting, or what else was about.
        name: String,
    },
}

/// Starts the task; it gives back what was there before and ends when `wanted` is dropped.
#[must_use]
pub fn start(
    wanted: watch::Receiver<Arc<Wanted>>,
    links: watch::Receiver<Arc<Links>>,
    state_dir: &Path,
    reports: impl Fn(Report) + Send + Sync + 'static,
) -> JoinHandle<()> {
    let mut worker = Worker {
        memory: Memory::open(state_dir),
        links,
        hearing: Interfaces::default(),
        translating: Interfaces::default(),
        settled: BTreeMap::new(),
        missing: BTreeSet::new(),
        refused: BTreeMap::new(),
        reports: Box::new(reports),
    };
    tokio::spawn(async move {
        let mut wanted = wanted;
        loop {
            let now = Arc::clone(&wanted.borrow_and_update());
            worker.pass(&now);
            let changed = tokio::time::timeout(LOOK, wanted.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                // Services that stay need their settings; nobody checks any more.
                let last = match wanted.borrow().as_ref() {
                    kept @ Wanted { keep: true, .. } => Wanted {
                        answering: BTreeSet::new(),
                        ..kept.clone()
                    },
                    Wanted { keep: false, .. } => Wanted::default(),
                };
                worker.pass(&last);
                return;
            }
        }
    })
}

/// Gives back what a dead daemon left. Returns what was done, a line each.
///
/// # Errors
///
/// A setting that could not be given back.
pub fn release(state_dir: &Path) -> Result<Vec<String>, String> {
    let mut memory = Memory::open(state_dir);
    let names = memory.names();
    let mut done = Vec::new();
    for name in names {
        if let Some(value) = memory.give_back(&name).map_err(|e| e.to_string())? {
            done.push(format!("{} = {value}", shown(&name)));
        }
    }
    Ok(done)
}

struct Worker {
    memory: Memory,
    links: watch::Receiver<Arc<Links>>,
    /// By which checks through real servers are answered.
    hearing: Interfaces,
    /// By which real servers answer whose answers are translated.
    translating: Interfaces,
    /// What was seen to be in force.
    settled: BTreeMap<String, String>,
    missing: BTreeSet<String>,
    refused: BTreeMap<String, String>,
    reports: Box<dyn Fn(Report) + Send + Sync>,
}

impl Worker {
    fn pass(&mut self, wanted: &Wanted) {
        let loaded = Path::new(SETTINGS).join(IPVS).is_dir();
        let links = Arc::clone(&self.links.borrow());
        let hears = self.hearing.toward(&wanted.answering, &links);
        let translates = self.translating.toward(&wanted.translated, &links);
        let host = host::settings(wanted, hears, translates, &links, &self.memory);
        let (mut kept, mut told) = (BTreeSet::new(), BTreeSet::new());
        for Setting { name, value, why } in host {
            let result = match wanted.only_told {
                true => host::differs(&name, &value, why),
                false => {
                    kept.insert(name.clone());
                    self.make(&name, &value)
                }
            };
            told.insert(shown(&name));
            self.tell(&shown(&name), result);
        }
        if loaded {
            for (name, value) in &wanted.values {
                let name = format!("{IPVS}{name}");
                let result = self.make(&name, value);
                self.tell(&shown(&name), result);
                kept.insert(name);
            }
        }
        let gone = self.memory.names().into_iter().filter(|name| {
            let readable = loaded || !name.starts_with(IPVS);
            readable && !kept.contains(name)
        });
        for name in gone {
            self.settled.remove(&name);
            let result = self.memory.give_back(&name);
            let result = result.map(|_| ()).map_err(|error| error.to_string());
            self.tell(&shown(&name), result);
            told.insert(shown(&name));
        }
        told.extend(kept.iter().map(|name| shown(name)));
        // What is not wanted any more is no problem any more.
        let past = self
            .refused
            .keys()
            .filter(|name| !told.contains(*name))
            .cloned();
        for name in past.collect::<Vec<_>>() {
            self.tell(&name, Ok(()));
        }
    }

    /// Gives a setting its value.
    fn make(&mut self, name: &str, value: &str) -> Result<(), String> {
        let found = match read(name) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // An interface may be gone.
                if name.starts_with(IPVS) && self.missing.insert(name.to_owned()) {
                    (self.reports)(Report::Missing { name: shown(name) });
                }
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        if found != value {
            let set = self.memory.set(name, &found, value);
            set.map_err(|error| format!("cannot be set to {value}: {error}"))?;
            if self.settled.get(name).is_some_and(|known| known == value) {
                let name = shown(name);
                (self.reports)(Report::Repaired { name, found });
            }
        }
        self.settled.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn tell(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                if self.refused.remove(name).is_some() {
                    let name = name.to_owned();
                    (self.reports)(Report::Mended { name });
                }
            }
            Err(error) => {
                let known = self.refused.insert(name.to_owned(), error.clone());
                if known.as_ref() != Some(&error) {
                    let name = name.to_owned();
                    (self.reports)(Report::Refused { name, error });
                }
            }
        }
    }
}

/// By which interfaces some real servers are reached.
#[derive(Default)]
struct Interfaces {
    real_servers: BTreeSet<Ipv4Addr>,
    links: Arc<Links>,
    names: BTreeSet<String>,
    age: u32,
}

impl Interfaces {
    fn toward(
        &mut self,
        real_servers: &BTreeSet<Ipv4Addr>,
        links: &Arc<Links>,
    ) -> &BTreeSet<String> {
        self.age += 1;
        let same = self.real_servers == *real_servers && Arc::ptr_eq(&self.links, links);
        if !same || self.age >= ROUTES_EVERY {
            self.age = 0;
            self.links = Arc::clone(links);
            self.real_servers.clone_from(real_servers);
            let sources = real_servers.iter();
            // Without a route there is no interface.
            let sources = sources.filter_map(|ip| health::address_toward(IpAddr::V4(*ip)).ok());
            let sources: BTreeSet<IpAddr> = sources.collect();
            let has = links
                .iter()
                .filter(|link| sources.iter().any(|source| link.has(*source)));
            self.names = has.map(|link| link.name.clone()).collect();
        }
        &self.names
    }
}

/// The name of a setting as sysctl has it, which swaps dots and slashes.
fn shown(name: &str) -> String {
    let swapped = name.chars().map(|c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    });
    format!("net.{}", swapped.collect::<String>())
}
