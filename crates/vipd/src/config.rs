//! The configuration: one TOML file becomes one [`Config`], or a list of every problem in it.
//!
//! Each kind of table has a module that reads it (`global`, `virtual_router`, `virtual_server`,
//! `real_server`, `check`), with its defaults, limits and cross references. They read through
//! `section`, `value` and `text` (tables, values, strings), which collect the problems; `problem` shows what
//! is wrong to a person. The rest of the daemon sees only what stands here: durations, addresses and
//! keys that are known to be good.

mod check;
mod global;
mod load;
mod problem;
mod real_server;
mod section;
mod text;
mod value;
mod virtual_router;
mod virtual_server;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use health::CheckSpec;
use ipnet::IpNet;

use crate::net::links::Link;

pub use load::LoadError;
pub use problem::{Problem, Problems};

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[global]`
    pub global: Global,
    /// `[ipvs]`
    pub ipvs: Ipvs,
    /// `[[vrrp]]`, in the order of the file.
    pub vrrp: Vec<Vrrp>,
    /// `[[virtual_server]]`, in the order of the file.
    pub virtual_servers: Vec<VirtualServer>,
}

/// `[global]`: the daemon itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// What the director calls itself.
    pub name: String,
    /// Unix socket of the control API.
    pub control_socket: PathBuf,
    /// TCP listener of metrics and the read-only API; absent: off.
    pub http: Option<SocketAddr>,
    /// Where state that outlives the daemon is kept.
    pub state_dir: PathBuf,
}

/// `[ipvs]`: the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipvs {
    /// How often the table is compared with the kernel's.
    pub resync_interval: Duration,
    /// What happens to the table on a graceful stop.
    pub on_stop: OnStop,
}

/// What a graceful stop does with the daemon's IPVS entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// They are removed.
    Remove,
    /// They stay and go on forwarding.
    Keep,
}

/// `[[vrrp]]`: a virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrrp {
    /// Its name, unique among the virtual routers.
    pub name: String,
    /// The interface its adverts use.
    pub interface: String,
    /// What the protocol needs.
    pub parameters: vrrp::Parameters,
    /// Every address it holds as master, advertised or not.
    pub addresses: Vec<VirtualAddress>,
    /// How it announces them.
    pub garp: Garp,
}

/// An address that a virtual router holds while it is master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address with its prefix length, host bits kept; without one in the file: /32 or /128.
    pub address: IpNet,
    /// The interface that carries it.
    pub interface: String,
    /// Whether the adverts name it.
    pub advertise: bool,
}

/// `garp`: gratuitous ARP after a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garp {
    /// How many at once, for each address.
    pub repeat: u32,
    /// When as many follow once more; zero: never.
    pub delay: Duration,
    /// How often one is sent while master; zero: never.
    pub refresh: Duration,
}

/// `[[virtual_server]]`: an IPVS service and its real servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    /// Its name, unique among the virtual servers.
    pub name: String,
    /// What the kernel finds it by.
    pub key: ipvs::ServiceKey,
    /// How it schedules.
    pub service: ipvs::Service,
    /// The virtual router that holds its address.
    pub vrrp: Option<String>,
    /// When it is in the kernel's table.
    pub active: Active,
    /// The forwarding of its real servers (each has its own; this one is shown).
    pub forwarding: ipvs::Forwarding,
    /// Sum of weights of healthy real servers that it needs, at least 1.
    pub quorum: u32,
    /// How far above (below) `quorum` the sum must get before quorum is gained (lost).
    pub hysteresis: u32,
    /// What happens to a real server whose check fails.
    pub on_failure: OnFailure,
    /// Where clients go while quorum is lost.
    pub sorry_server: Option<SorryServer>,
    /// The real servers, in the order of the file.
    pub real_servers: Vec<RealServer>,
}

/// When a virtual server is in the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// On both directors, so that a takeover finds it there.
    Always,
    /// Only while its virtual router is master here.
    Master,
}

/// What happens to a real server whose check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It leaves the pool; its connections break.
    Remove,
    /// It stays with weight 0: no new connections, existing ones go on.
    ZeroWeight,
}

/// `sorry_server`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SorryServer {
    /// Where.
    pub key: ipvs::DestinationKey,
    /// How.
    pub destination: ipvs::Destination,
}

/// `[[virtual_server.real_server]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    /// What the kernel finds it by.
    pub key: ipvs::DestinationKey,
    /// Its settings while it is healthy.
    pub destination: ipvs::Destination,
    /// Its checks; all must pass. Empty: it always counts as healthy.
    pub checks: Vec<CheckSpec>,
}

impl Config {
    /// The virtual router of that name.
    #[must_use]
    pub fn vrrp(&self, name: &str) -> Option<&Vrrp> {
        self.vrrp.iter().find(|v| v.name == name)
    }

    /// The virtual server of that name.
    #[must_use]
    pub fn virtual_server(&self, name: &str) -> Option<&VirtualServer> {
        self.virtual_servers.iter().find(|v| v.name == name)
    }
}

impl Config {
    /// The IPv4 address that adverts leave a link with: its own, never a virtual one, but for an
    /// owner's, whose virtual address is its own (RFC 3768 §5.3.4).
    #[must_use]
    pub fn advert_source(&self, link: &Link) -> Option<Ipv4Addr> {
        let is_virtual = |ip| {
            self.vrrp
                .iter()
                .flat_map(|v| &v.addresses)
                .any(|address| address.ip() == ip)
        };
        let owned = || {
            let owner = |v: &Vrrp| {
                v.interface == link.name && v.parameters.priority == vrrp::PRIORITY_OWNER
            };
            self.vrrp.iter().any(owner).then(|| link.any_v4()).flatten()
        };
        link.primary_v4(is_virtual).or_else(owned)
    }
}

impl VirtualAddress {
    /// The address without its prefix length.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.addr()
    }
}
