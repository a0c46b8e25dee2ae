//! The IPVS table as a value: services, the destinations behind them, and nothing of the kernel.
//!
//! Keys, settings and statistics are three types, so that equality never looks at counters. Every
//! map is a `BTreeMap`, so that diffs, logs and snapshots have one order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything one kernel (one network namespace) should forward, or does forward.
pub type Table = BTreeMap<ServiceKey, Pool>;

/// A service and the destinations behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// How the service schedules.
    pub service: Service,
    /// Where it schedules to.
    pub destinations: BTreeMap<DestinationKey, Destination>,
}

/// Transport protocol of a service (the kernel's `IPPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

/// Address family of a firewall-mark service, which has no address to tell it from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What the kernel finds a service by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// Packets to this address and port. Port 0 is every port (needs persistence).
    Address {
        /// The protocol.
        protocol: Protocol,
        /// The virtual address and port.
        address: SocketAddr,
    },
    /// Packets that carry this firewall mark.
    FirewallMark {
        /// The family of the packets.
        family: Family,
        /// The mark, never 0.
        mark: u32,
    },
}

/// What the kernel finds a destination (a real server) of a service by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationKey(pub SocketAddr);

impl Ord for DestinationKey {
    /// That of [`SocketAddr`], in a few instructions for IPv4: keys are compared millions of times where a
    /// large table changes.
    fn cmp(&self, other: &DestinationKey) -> Ordering {
        match (self.0, other.0) {
            (SocketAddr::V4(a), SocketAddr::V4(b)) => {
                (a.ip().to_bits(), a.port()).cmp(&(b.ip().to_bits(), b.port()))
            }
            (a, b) => a.cmp(&b),
        }
    }
}

impl PartialOrd for DestinationKey {
    fn partial_cmp(&self, other: &DestinationKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A scheduler of the kernel (`ip_vs_*` modules), by its kernel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the kernel's and say it all")]
pub enum Scheduler {
    Rr,
    Wrr,
    Lc,
    Wlc,
    Lblc,
    Lblcr,
    Dh,
    Sh,
    Sed,
    Nq,
    Fo,
    Ovf,
    Mh,
    Twos,
}

/// The settings of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Which scheduler picks the destination. A name this crate does not know (a module of somebody
    /// else's) is kept as it is, so that a foreign table can be read.
    pub scheduler: SchedulerName,
    /// Scheduler flags.
    pub flags: ServiceFlags,
    /// Persistence, absent: each connection is scheduled by itself.
    pub persistence: Option<Persistence>,
}

/// A scheduler's name as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchedulerName {
    /// One of those this crate knows.
    Known(Scheduler),
    /// Any other.
    Other(String),
}

/// Flags of a service (`IP_VS_SVC_F_*`), without `PERSISTENT` (see [`Persistence`]) and `HASHED`
/// (the kernel's own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceFlags {
    /// One-packet scheduling (UDP): every datagram is scheduled afresh.
    pub one_packet: bool,
    /// `IP_VS_SVC_F_SCHED1`: `sh-fallback`, `mh-fallback`.
    pub sched1: bool,
    /// `IP_VS_SVC_F_SCHED2`: `sh-port`, `mh-port`.
    pub sched2: bool,
    /// `IP_VS_SVC_F_SCHED3`.
    pub sched3: bool,
}

/// Persistence: connections from one client network go to the same destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistence {
    /// How long the template lives after its last connection. Whole seconds.
    pub timeout: Duration,
    /// Prefix length of the client network: 0-32 for IPv4, 0-128 for IPv6.
    pub prefix_length: u8,
    /// The persistence engine (`sip`), absent: by client address.
    pub engine: Option<String>,
}

/// How packets reach a destination (`IP_VS_CONN_F_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarding {
    /// Network address translation; the real server answers through the director.
    Nat,
    /// Direct routing: only the MAC address changes; the real server answers the client itself.
    DirectRouting,
    /// Encapsulated; the real server answers the client itself.
    Tunnel(Tunnel),
    /// The kernel's own: the destination is this host.
    LocalNode,
    /// The kernel's own cache bypass.
    Bypass,
}

/// Encapsulation of [`Forwarding::Tunnel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port at the real server, never 0.
        port: u16,
        /// Outer checksum.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Outer checksum (remote offload is GUE's only).
        checksum: TunnelChecksum,
    },
}

/// Checksum of a tunnel header (`IP_VS_TUNNEL_ENCAP_FLAG_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Full checksum.
    Full,
    /// Remote checksum offload.
    Remote,
}

/// The settings of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// Share of new connections; 0: none (existing ones go on). At most `i32::MAX`.
    pub weight: u32,
    /// Above this many connections (active and inactive) no new one; 0: no limit.
    pub upper_threshold: u32,
    /// Below this many new ones again; 0: three quarters of the upper one.
    pub lower_threshold: u32,
}

/// Counters of a service or a destination, as the kernel's estimator last summed them (they lag by
/// up to 2 s).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients (NAT only).
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients (NAT only).
    pub out_bytes: u64,
    /// How fast these grow.
    pub rates: Rates,
}

/// What the kernel's estimator says of the last seconds, each per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients (NAT only).
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients (NAT only).
    pub out_bytes: u64,
}

/// Counters of a destination and the connections it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DestinationStatistics {
    /// The counters.
    pub counters: Statistics,
    /// Connections in an active state (TCP: established).
    pub active: u32,
    /// Other connections (TCP: closing, waiting).
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}

/// What one dump of the kernel gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dump {
    /// The table.
    pub table: Table,
    /// Counters by service.
    pub services: BTreeMap<ServiceKey, Statistics>,
    /// Counters by destination.
    pub destinations: BTreeMap<(ServiceKey, DestinationKey), DestinationStatistics>,
    /// The services in the order of the kernel's hash table.
    pub service_order: Vec<ServiceKey>,
    /// The destinations in the kernel's order, those of one service together.
    pub destination_order: Vec<(ServiceKey, DestinationKey)>,
}

impl ServiceKey {
    /// The address family of the service's clients.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            ServiceKey::Address { address, .. } => Family::of(address.ip()),
            ServiceKey::FirewallMark { family, .. } => *family,
        }
    }
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// How many bits an address has: 32 or 128.
    #[must_use]
    pub fn address_bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl Scheduler {
    /// All of them, in the order `docs/` lists them.
    pub const ALL: [Scheduler; 14] = [
        Scheduler::Rr,
        Scheduler::Wrr,
        Scheduler::Lc,
        Scheduler::Wlc,
        Scheduler::Lblc,
        Scheduler::Lblcr,
        Scheduler::Dh,
        Scheduler::Sh,
        Scheduler::Sed,
        Scheduler::Nq,
        Scheduler::Fo,
        Scheduler::Ovf,
        Scheduler::Mh,
        Scheduler::Twos,
    ];

    /// The kernel's name, also the configuration's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scheduler::Rr => "rr",
            Scheduler::Wrr => "wrr",
            Scheduler::Lc => "lc",
            Scheduler::Wlc => "wlc",
            Scheduler::Lblc => "lblc",
            Scheduler::Lblcr => "lblcr",
            Scheduler::Dh => "dh",
            Scheduler::Sh => "sh",
            Scheduler::Sed => "sed",
            Scheduler::Nq => "nq",
            Scheduler::Fo => "fo",
            Scheduler::Ovf => "ovf",
            Scheduler::Mh => "mh",
            Scheduler::Twos => "twos",
        }
    }

    /// The scheduler of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Scheduler> {
        Scheduler::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl SchedulerName {
    /// The kernel's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            SchedulerName::Known(scheduler) => scheduler.name(),
            SchedulerName::Other(name) => name,
        }
    }
}

impl From<&str> for SchedulerName {
    fn from(name: &str) -> SchedulerName {
        match Scheduler::from_name(name) {
            Some(scheduler) => SchedulerName::Known(scheduler),
            None => SchedulerName::Other(name.to_owned()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address { protocol, address } => write!(f, "{protocol} {address}"),
            ServiceKey::FirewallMark {
                family: Family::V4,
                mark,
            } => write!(f, "fwmark {mark}"),
            ServiceKey::FirewallMark {
                family: Family::V6,
                mark,
            } => {
                write!(f, "fwmark {mark} (IPv6)")
            }
        }
    }
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scheduler {}", self.scheduler.as_str())?;
        let ServiceFlags {
            one_packet,
            sched1,
            sched2,
            sched3,
        } = self.flags;
        for (set, name) in [(sched1, "flag-1"), (sched2, "flag-2"), (sched3, "flag-3")] {
            if set {
                write!(f, ", {name}")?;
            }
        }
        if one_packet {
            f.write_str(", one packet")?;
        }
        if let Some(persistence) = &self.persistence {
            let Persistence {
                timeout,
                prefix_length,
                engine,
            } = persistence;
            write!(
                f,
                ", persistent {} s for each /{prefix_length}",
                timeout.as_secs()
            )?;
            if let Some(engine) = engine {
                write!(f, " by {engine}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {}, {}", self.weight, self.forwarding)?;
        if self.upper_threshold != 0 || self.lower_threshold != 0 {
            let Destination {
                upper_threshold,
                lower_threshold,
                ..
            } = self;
            write!(
                f,
                ", at most {upper_threshold} connections, again below {lower_threshold}"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forwarding::Nat => f.write_str("nat"),
            Forwarding::DirectRouting => f.write_str("dr"),
            Forwarding::Tunnel(tunnel) => write!(f, "tun {tunnel}"),
            Forwarding::LocalNode => f.write_str("local"),
            Forwarding::Bypass => f.write_str("bypass"),
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checksum = match self {
            Tunnel::Ipip => return f.write_str("ipip"),
            Tunnel::Gue { port, checksum } => {
                write!(f, "gue port {port}")?;
                checksum
            }
            Tunnel::Gre { checksum } => {
                f.write_str("gre")?;
                checksum
            }
        };
        f.write_str(match checksum {
            TunnelChecksum::None => "",
            TunnelChecksum::Full => " with checksum",
            TunnelChecksum::Remote => " with remote checksum",
        })
    }
}
