//! The settings under `net.ipv4.vs`, what checks through real servers need of interfaces, and whether
//! this host forwards packets at all.
//!
//! A check with `via = "vip"` of a real server by direct routing or through a tunnel is answered by the
//! virtual address. On the master that is an address of this host itself, and the kernel takes no such
//! packet from an interface whose `accept_local` is 0 (IPv6 has no such rule). Measured on Linux 6.1:
//! nothing else stands in the way of a marked packet to an address of this host, neither `rp_filter` (but
//! where the virtual address is on another interface, a macvlan, strict `rp_filter = 1` is; 2 is not) nor
//! `net.ipv4.vs.conntrack`; with NAT the answer comes from the real server's address, and IPVS puts the
//! virtual one in when that has been let in.
//!
//! What IPVS had before is remembered in memory and in `ipvs-sysctl.json` in the state directory, and
//! given back on a graceful stop, by `vipd release`, or when the configuration no longer wants it. A
//! value that somebody else sets meanwhile is put back while the daemon runs, and is theirs after it.
//!
//! The settings exist where the module `ip_vs` is loaded, in each network namespace; until then there
//! is nothing to do. Forwarding is the host's business: that it is off is told, not changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipvs::{Family, Forwarding};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::links::Links;
use super::sysctl::{boot_id, replace_file};
use crate::config::{Config, OnStop};

/// How often the settings are compared.
pub const LOOK: Duration = Duration::from_secs(2);
/// The file in the state directory.
const FILE: &str = "ipvs-sysctl.json";
const SETTINGS: &str = "/proc/sys/net/ipv4";
/// The settings of IPVS begin with this below [`SETTINGS`].
const IPVS: &str = "vs/";
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
        hearing: Hearing::default(),
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
    let names: Vec<String> = memory.values.keys().cloned().collect();
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
    hearing: Hearing,
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
        let interfaces = self.hearing.interfaces(wanted, links).iter();
        let accept = interfaces.map(|name| (format!("conf/{name}/accept_local"), "1".to_owned()));
        let mut values: BTreeMap<String, String> = accept.collect();
        if loaded {
            let of_ipvs = wanted.values.iter();
            values.extend(of_ipvs.map(|(name, value)| (format!("{IPVS}{name}"), value.clone())));
        }
        for (name, value) in &values {
            let result = self.make(name, value);
            self.tell(&shown(name), result);
        }
        let gone: Vec<String> = self.memory.values.keys().cloned().collect();
        let gone = gone.iter().filter(|name| {
            let readable = loaded || !name.starts_with(IPVS);
            readable && !values.contains_key(*name)
        });
        for name in gone {
            self.settled.remove(name);
            let result = self.memory.give_back(name);
            let result = result.map(|_| ()).map_err(|error| error.to_string());
            self.tell(&shown(name), result);
        }
        for family in [Family::V4, Family::V6] {
            let (setting, name) = match family {
                Family::V4 => ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
                Family::V6 => (
                    "net.ipv6.conf.all.forwarding",
                    "/proc/sys/net/ipv6/conf/all/forwarding",
                ),
            };
            let off = || std::fs::read_to_string(name).is_ok_and(|text| text.trim() == "0");
            let result = if wanted.forwards.contains(&family) && off() {
                Err(format!(
                    "is 0, so no answer of a real server behind NAT gets to its client: `sysctl -w {setting}=1`"
                ))
            } else {
                Ok(())
            };
            self.tell(setting, result);
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

/// By which interfaces real servers answer that answer with a virtual address.
#[derive(Default)]
struct Hearing {
    real_servers: BTreeSet<Ipv4Addr>,
    links: Arc<Links>,
    interfaces: BTreeSet<String>,
    age: u32,
}

impl Hearing {
    fn interfaces(&mut self, wanted: &Wanted, links: Arc<Links>) -> &BTreeSet<String> {
        self.age += 1;
        let same = self.real_servers == wanted.answering && Arc::ptr_eq(&self.links, &links);
        if !same || self.age >= ROUTES_EVERY {
            self.age = 0;
            self.links = links;
            self.real_servers.clone_from(&wanted.answering);
            let sources = wanted.answering.iter();
            // Without a route there is no interface.
            let sources = sources.filter_map(|ip| health::address_toward(IpAddr::V4(*ip)).ok());
            let sources: BTreeSet<IpAddr> = sources.collect();
            let links = self.links.iter();
            let hears = links.filter(|link| sources.iter().any(|source| link.has(*source)));
            self.interfaces = hears.map(|link| link.name.clone()).collect();
        }
        &self.interfaces
    }
}

/// The name of a setting as sysctl has it.
fn shown(name: &str) -> String {
    format!("net.ipv4.{}", name.replace('/', "."))
}

/// What settings had before they were changed.
struct Memory {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Value {
    before: String,
    set: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    boot_id: String,
    values: BTreeMap<String, Value>,
}

impl Memory {
    /// A file that cannot be understood, or of another boot, counts as none.
    fn open(state_dir: &Path) -> Memory {
        let path = state_dir.join(FILE);
        let file = std::fs::read(&path).ok();
        let file: Option<File> = file.and_then(|text| serde_json::from_slice(&text).ok());
        let file = file.filter(|file| file.boot_id == boot_id());
        Memory {
            path,
            values: file.map(|file| file.values).unwrap_or_default(),
        }
    }

    /// Sets a value; what was there before is on disk before it changes.
    fn set(&mut self, name: &str, found: &str, value: &str) -> io::Result<()> {
        let before = self.values.get(name).map(|known| known.before.clone());
        let entry = Value {
            before: before.unwrap_or_else(|| found.to_owned()),
            set: value.to_owned(),
        };
        self.values.insert(name.to_owned(), entry);
        self.save()?;
        std::fs::write(Path::new(SETTINGS).join(name), value)
    }

    /// Gives back what was there before, unless somebody else has set something. Returns the value.
    fn give_back(&mut self, name: &str) -> io::Result<Option<String>> {
        let Some(value) = self.values.get(name).cloned() else {
            return Ok(None);
        };
        let found = match read(name) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let ours = found.as_ref() == Some(&value.set);
        if ours {
            std::fs::write(Path::new(SETTINGS).join(name), &value.before)?;
        }
        self.values.remove(name);
        self.save()?;
        Ok(ours.then_some(value.before))
    }

    fn save(&self) -> io::Result<()> {
        if self.values.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let file = File {
            boot_id: boot_id(),
            values: self.values.clone(),
        };
        replace_file(&self.path, &file)
    }
}

/// A value with single spaces between its numbers.
fn read(name: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(Path::new(SETTINGS).join(name))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
