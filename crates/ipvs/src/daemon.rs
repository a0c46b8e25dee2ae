//! The kernel's daemons that tell other directors of connections (`ipvsadm --start-daemon`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// What a daemon does. Both may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonRole {
    /// Tells others of the connections here (`IP_VS_STATE_MASTER`).
    Master,
    /// Takes in the connections that others tell of (`IP_VS_STATE_BACKUP`).
    Backup,
}

/// A daemon. There is at most one of each role in a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Daemon {
    /// What it does.
    pub role: DaemonRole,
    /// The interface that it sends or listens on. It has to be there when the daemon starts.
    pub interface: String,
    /// Only daemons of one id hear each other. A backup with id 0 hears all.
    pub id: u8,
    /// The longest message, bytes of UDP payload. 0: the kernel's, what fits into the interface.
    pub max_length: u16,
    /// The multicast group. Absent: the kernel's, 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The UDP port. 0: the kernel's, 8848.
    pub port: u16,
    /// TTL or hop limit. 0: the kernel's, 1.
    pub ttl: u8,
}

impl DaemonRole {
    /// Both.
    pub const ALL: [DaemonRole; 2] = [DaemonRole::Master, DaemonRole::Backup];
}

impl Daemon {
    /// Whether the kernel that was asked for `self` would show `running`. The length that the kernel
    /// chooses by itself depends on the interface: any fits.
    #[must_use]
    pub fn runs_as(&self, running: &Daemon) -> bool {
        let group = |daemon: &Daemon| daemon.group.unwrap_or(DEFAULT_GROUP);
        let or = |value, default| if value == 0 { default } else { value };
        let header = match group(self) {
            IpAddr::V4(_) => 20 + 8,
            IpAddr::V6(_) => 40 + 8,
        };
        let shortest = match self.role {
            DaemonRole::Master => 1,
            DaemonRole::Backup => SHORTEST_OF_BACKUP,
        };
        let length = self.max_length.clamp(shortest, u16::MAX - header);
        self.role == running.role
            && self.interface == running.interface
            && self.id == running.id
            && (self.max_length == 0 || length == running.max_length)
            && group(self) == group(running)
            && or(self.port, DEFAULT_PORT) == or(running.port, DEFAULT_PORT)
            && or(self.ttl.into(), DEFAULT_TTL) == or(running.ttl.into(), DEFAULT_TTL)
    }
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DaemonRole::Master => "master",
            DaemonRole::Backup => "backup",
        })
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Daemon {
            role,
            interface,
            id,
            max_length,
            group,
            port,
            ttl,
        } = self;
        write!(f, "sync daemon {role} on {interface}, id {id}")?;
        if let Some(group) = group {
            write!(f, ", group {group}")?;
        }
        for (name, value) in [
            ("port", *port),
            ("ttl", u16::from(*ttl)),
            ("at most", *max_length),
        ] {
            if value != 0 {
                write!(f, ", {name} {value}")?;
            }
        }
        if *max_length != 0 {
            f.write_str(" bytes")?;
        }
        Ok(())
    }
}

// net/netfilter/ipvs/ip_vs_sync.c of the kernel: what it takes where nothing is said.
const DEFAULT_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const DEFAULT_PORT: u16 = 8848;
const DEFAULT_TTL: u16 = 1;
/// A backup's buffer is not smaller.
const SHORTEST_OF_BACKUP: u16 = 1024;
