//! The configuration: one TOML file becomes one [`Config`], or a list of every problem in it.
//!
//! Each kind of table, and each key with much to say, has a module that reads it and is named after it,
//! with its defaults, limits and cross references. They read through `section`, `value` and `text`
//! (tables, values, strings), which collect the problems; `problem` shows what is wrong to a person, and
//! `secret` keeps the keys out of that. The rest of the daemon sees only what stands here: durations,
//! addresses and keys that are known to be good.

mod authentication;
mod check;
mod check_policy;
mod examine;
mod file;
mod forwarding;
mod front;
mod garp;
mod global;
mod heartbeat;
pub mod import;
pub mod keys;
pub mod lint;
mod load;
mod locate;
mod notify;
mod peer;
mod place;
mod pool_policy;
mod problem;
mod program;
mod reachable;
mod real_server;
pub mod schema;
mod secret;
mod section;
mod suggest;
mod sync;
mod sync_group;
mod sysctl;
mod text;
mod timing;
mod track;
mod track_script;
mod unicast;
mod value;
mod virtual_address;
mod virtual_route;
mod virtual_router;
mod virtual_server;
mod way;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use health::CheckSpec;
use ipnet::IpNet;
use vrrp::Family;

use crate::net::links::Link;

pub use examine::Examined;
pub use load::LoadError;
pub use peer::{At, Comparison, Disagreement};
pub use problem::{Problem, Problems};
pub use secret::Concealed;
pub use secret::without_secrets;
pub(crate) use text::shown as shown_duration;
pub use way::{MARK_BITS, MARK_MASK, MARKS, is_way};

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[global]`
    pub global: Global,
    /// `[ipvs]`
    pub ipvs: Ipvs,
    /// `[sysctl]`
    pub sysctl: Sysctl,
    /// `[[vrrp]]`, in the order of the file.
    pub vrrp: Vec<Vrrp>,
    /// `[[sync_group]]`, in the order of the file.
    pub sync_groups: Vec<SyncGroup>,
    /// `[[track_script]]`, in the order of the file.
    pub track_scripts: Vec<TrackScript>,
    /// `[[virtual_server]]`, in the order of the file.
    pub virtual_servers: Vec<VirtualServer>,
    /// `[[notify]]`, in the order of the file.
    pub notify: Vec<Notify>,
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
    /// Whether that may be open to others than this host.
    pub http_public: bool,
    /// Where state that outlives the daemon is kept.
    pub state_dir: PathBuf,
}

/// `[sysctl]`: settings of the host beside those of IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl {
    /// Whether vipd sets what forwarding needs, and gives it back; else it only says what is missing.
    pub manage: bool,
}

/// `[ipvs]`: the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipvs {
    /// How often the table is compared with the kernel's.
    pub resync_interval: Duration,
    /// What happens to the table on a graceful stop.
    pub on_stop: OnStop,
    /// How long connections are remembered; `None`, or zero: as the kernel has it.
    pub timeouts: Option<ipvs::Timeouts>,
    /// Settings under `net.ipv4.vs`, as the kernel takes them.
    pub sysctl: BTreeMap<&'static str, String>,
    /// The synchronisation of connections with the peer; `None`: off.
    pub sync: Option<Sync>,
}

/// `ipvs.sync`: connections are told to, and taken in from, the other director.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// The interface that leads to the peer.
    pub interface: String,
    /// Directors of one id tell each other; 0 takes in what those of any id tell.
    pub id: u8,
    /// The multicast group.
    pub group: IpAddr,
    /// The UDP port; the next one is for vipd's own datagrams.
    pub port: u16,
    /// TTL or hop limit of the datagrams.
    pub ttl: u8,
    /// The longest datagram, bytes; `None`: what fits into the interface.
    pub max_length: Option<u16>,
    /// Whether vipd sends the whole table itself, beside what the kernel tells.
    pub full_table: bool,
    /// How often it does so without any occasion; zero: never.
    pub refresh: Duration,
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
    /// Whether the master takes packets that are addressed to its virtual addresses; `false`: only
    /// what IPVS forwards.
    pub accept: bool,
    /// The name of the macvlan that carries adverts and addresses with the virtual MAC.
    pub virtual_mac: Option<String>,
    /// Every address it holds as master, advertised or not.
    pub addresses: Vec<VirtualAddress>,
    /// Routes that exist while it is master.
    pub routes: Vec<VirtualRoute>,
    /// Routing rules that exist while it is master.
    pub rules: Vec<VirtualRule>,
    /// How it announces its addresses.
    pub garp: Garp,
    /// Further paths for its adverts.
    pub heartbeats: Vec<Heartbeat>,
    /// Reference addresses without which a lone router is not master.
    pub reachable: Option<Reachable>,
    /// What its state or priority depends on.
    pub track: Vec<Track>,
}

/// An address that a virtual router holds while it is master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address with its prefix length, host bits kept; without one in the file: /32 or /128.
    pub address: IpNet,
    /// The interface that carries it: with a virtual MAC the macvlan, unless it names its own.
    pub interface: String,
    /// Whether the adverts name it.
    pub advertise: bool,
    /// `label`: the name `ifconfig` shows; it begins with that of the interface. IPv4 only.
    pub label: Option<String>,
    /// Its scope (ip-address(8)). IPv4 only; IPv6 addresses have that of their kind.
    pub scope: Scope,
    /// Whether the kernel makes a route to its prefix (not with `IFA_F_NOPREFIXROUTE`).
    pub prefix_route: bool,
}

/// Where an address or a route is valid (rtnetlink(7), `rtm_scope`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// On its link.
    Link,
    /// On this host.
    Host,
}

/// One of `virtual_routes`: `ip route add ...` while master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualRoute {
    /// Where to; `0.0.0.0/0` and `::/0` are the default routes.
    pub to: IpNet,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface; `None`: the kernel finds it by the gateway.
    pub interface: Option<String>,
    /// The preferred source address, such as a virtual address.
    pub source: Option<IpAddr>,
    /// The routing table; 254 is `main`.
    pub table: u32,
    /// The metric (priority); `None`: the kernel's default.
    pub metric: Option<u32>,
}

/// One of `virtual_rules`: `ip rule add ...` while master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualRule {
    /// The family.
    pub family: Family,
    /// Its place among the rules (`priority`, `preference`).
    pub priority: u32,
    /// Packets from there.
    pub from: Option<IpNet>,
    /// Packets to there.
    pub to: Option<IpNet>,
    /// Packets with this firewall mark.
    pub fwmark: Option<u32>,
    /// Packets that came in there.
    pub interface: Option<String>,
    /// The routing table that is looked up.
    pub table: u32,
}

/// One of `heartbeat`: a further path for adverts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heartbeat {
    /// The group, on another interface.
    Interface(String),
    /// A host.
    Peer {
        /// Its address.
        peer: IpAddr,
        /// The own address; `None`: the one that the route to the peer has.
        source: Option<IpAddr>,
    },
}

/// `reachable`: addresses of which one must answer a ping where no peer is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// The addresses.
    pub any_of: Vec<IpAddr>,
    /// From one round of pings to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Rounds without any answer that count as loss.
    pub fall: u32,
}

/// One of `track`: what the state or the priority of a virtual router depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What.
    pub what: Tracked,
    /// `None`: a failure is a fault. Above 0: added while all is well; below 0: added (so
    /// subtracted) while it is not. -253 to 253, not 0. Of a file: its number is multiplied by it.
    pub weight: Option<i32>,
}

/// What is tracked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracked {
    /// An interface is there and up.
    Interface(String),
    /// A `[[track_script]]`, by name, passes.
    Script(String),
    /// The number in a file: without a weight 0 is well; with one it is added to the priority,
    /// multiplied by the weight.
    File(PathBuf),
    /// At least that many processes of that name (`/proc/PID/comm`) run.
    Process {
        /// The name.
        name: String,
        /// How many.
        count: u32,
    },
    /// A virtual server has quorum.
    VirtualServer(String),
}

impl fmt::Display for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tracked::Interface(name) => write!(f, "interface {name}"),
            Tracked::Script(name) => write!(f, "script {name}"),
            Tracked::File(path) => write!(f, "file {}", path.display()),
            Tracked::Process { name, .. } => write!(f, "process {name}"),
            Tracked::VirtualServer(name) => write!(f, "virtual server {name}"),
        }
    }
}

/// `[[sync_group]]`: virtual routers that are master together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// The names of its virtual routers.
    pub members: Vec<String>,
}

/// `[[track_script]]`: a program whose exit code is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackScript {
    /// Its name.
    pub name: String,
    /// The program and its arguments; no shell.
    pub command: Vec<String>,
    /// From one start to the next.
    pub interval: Duration,
    /// When its process group is killed.
    pub timeout: Duration,
    /// Successes in a row that make a failing one well.
    pub rise: u32,
    /// Failures in a row that make it fail.
    pub fall: u32,
    /// The user it runs as.
    pub user: String,
}

/// `[[notify]]`: who is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Its name.
    pub name: String,
    /// Of which kinds of events: names, in which `*` stands for any characters.
    pub events: Vec<String>,
    /// Of which objects, in the same way; a virtual server stands for its real servers, too. Empty: of
    /// all.
    pub objects: Vec<String>,
    /// How long telling may take.
    pub timeout: Duration,
    /// How.
    pub by: NotifyBy,
}

impl Notify {
    /// Whether it is told of events of that kind and object.
    #[must_use]
    pub fn wants(&self, kind: &str, object: &str) -> bool {
        // It would be told that it cannot be told.
        if kind.starts_with("notify.") {
            return false;
        }
        let whole = object.split_once('/').map(|(server, _)| server);
        let of = |pattern: &String| {
            notify::matches(pattern, object) || whole.is_some_and(|o| notify::matches(pattern, o))
        };
        self.events
            .iter()
            .any(|pattern| notify::matches(pattern, kind))
            && (self.objects.is_empty() || self.objects.iter().any(of))
    }
}

/// How somebody is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyBy {
    /// A program runs.
    Command {
        /// The program.
        program: health::program::Program,
        /// Whether it gets what keepalived's scripts get behind its own arguments.
        keepalived_arguments: bool,
    },
    /// An HTTP server gets a POST.
    Webhook(Webhook),
}

/// Where events are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The URL.
    pub url: String,
    /// Further headers of the request.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook(..)")
    }
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
    /// What the kernel finds its services by, never none: all alike, and of either family.
    pub keys: Vec<ipvs::ServiceKey>,
    /// How they schedule (for IPv6 with `netmask6`, see [`VirtualServer::service_of`]).
    pub service: ipvs::Service,
    /// Prefix length of the IPv6 networks that are one client to persistence.
    pub netmask6: u8,
    /// Packets that get its firewall mark from vipd.
    pub marks: Vec<MarkRule>,
    /// The virtual router that holds its address.
    pub vrrp: Option<String>,
    /// When it is in the kernel's table.
    pub active: Active,
    /// When its checks run.
    pub when: When,
    /// The forwarding of its real servers (each has its own; this one is shown).
    pub method: Method,
    /// Sum of weights of healthy real servers that it needs, at least 1.
    pub quorum: u32,
    /// How far above (below) `quorum` the sum must get before quorum is gained (lost).
    pub hysteresis: u32,
    /// What happens to a real server whose check fails.
    pub on_failure: OnFailure,
    /// Over how long a real server that comes into a serving pool gets its weight; zero: at once.
    pub slow_start: Duration,
    /// With fewer passing their checks, the last good ones stay in the pool.
    pub minimum_up: MinimumUp,
    /// Where clients go while quorum is lost.
    pub sorry_server: Option<SorryServer>,
    /// The real servers, in the order of the file.
    pub real_servers: Vec<RealServer>,
}

/// How many of the real servers that are neither drained nor disabled should pass their checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinimumUp {
    /// So many, or all if there are fewer; 0: off.
    Count(u32),
    /// So many percent, rounded up.
    Percent(u8),
}

impl MinimumUp {
    /// How many that is of so many.
    #[must_use]
    pub fn of(self, available: usize) -> usize {
        match self {
            MinimumUp::Count(count) => available.min(usize::try_from(count).unwrap_or(usize::MAX)),
            MinimumUp::Percent(percent) => {
                available.saturating_mul(usize::from(percent)).div_ceil(100)
            }
        }
    }
}

/// How packets reach a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// What IPVS does.
    pub forwarding: ipvs::Forwarding,
    /// Full NAT: the client's address gives way to the director's, too.
    pub masquerade: bool,
}

/// An entry of `mark`: packets that get the firewall mark of a virtual server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRule {
    /// Their protocol.
    pub protocol: ipvs::Protocol,
    /// Their destination.
    pub address: IpAddr,
    /// Their destination ports.
    pub ports: Vec<RangeInclusive<u16>>,
}

/// When a virtual server is in the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// On both directors, so that a takeover finds it there.
    Always,
    /// Only while its virtual router is master here.
    Master,
}

/// When the checks of a virtual server run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// While its virtual router is master here. Until its first verdict a real server counts as up.
    Master {
        /// How often they run otherwise; `None`: not at all.
        backup_interval: Option<Duration>,
    },
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
    /// Full NAT: see [`Method::masquerade`].
    pub masquerade: bool,
}

/// `[[virtual_server.real_server]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    /// What the kernel finds it by.
    pub key: ipvs::DestinationKey,
    /// Its settings while it is healthy.
    pub destination: ipvs::Destination,
    /// Full NAT: see [`Method::masquerade`].
    pub masquerade: bool,
    /// Its checks. Empty: it always counts as healthy.
    pub checks: Vec<CheckSpec>,
    /// How many of them must pass.
    pub require: Require,
}

/// How many of several checks must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Require {
    /// All of them.
    #[default]
    All,
    /// One of them.
    Any,
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
    /// The address that the adverts of a virtual router leave its link with: with unicast its `source`,
    /// if the link has it; else this host's own.
    #[must_use]
    pub fn advert_source(&self, vrrp: &Vrrp, link: &Link) -> Option<IpAddr> {
        match &vrrp.parameters.unicast {
            Some(unicast) => link.has(unicast.source).then_some(unicast.source),
            None => self.own_address(link, vrrp.parameters.family),
        }
    }

    /// This host's own address on a link, over IPv6 link-local (RFC 9568 §5.1.2.1); never a virtual
    /// one, but for an owner's, whose virtual address is its own (RFC 3768 §5.3.4).
    #[must_use]
    pub fn own_address(&self, link: &Link, family: Family) -> Option<IpAddr> {
        let is_virtual = |ip| {
            self.vrrp
                .iter()
                .flat_map(|v| &v.addresses)
                .any(|address| address.ip() == ip)
        };
        let owner = |v: &Vrrp| {
            v.interface == link.name
                && v.parameters.family == family
                && v.parameters.priority == vrrp::PRIORITY_OWNER
        };
        let owned = self.vrrp.iter().any(owner);
        match family {
            Family::V4 => link
                .primary_v4(is_virtual)
                .or_else(|| link.any_v4().filter(|_| owned))
                .map(IpAddr::V4),
            Family::V6 => link
                .primary_v6(is_virtual)
                .or_else(|| link.any_link_local().filter(|_| owned))
                .map(IpAddr::V6),
        }
    }
}

impl VirtualAddress {
    /// The address without its prefix length.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.addr()
    }
}
