//! What `vipctl status` shows: the values, fixed by name for `--json`, and the page for people.

mod json;
mod page;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use self::json::indented;
pub use self::page::{Look, render};
pub(crate) use self::page::{plain, problems};

/// The whole director at a glance. The names are the JSON keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What the director calls itself.
    pub name: String,
    /// The version of the daemon.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it takes no part until an operator says otherwise.
    pub maintenance: bool,
    /// The identifier of the newest event (`/v1/events?after=`).
    pub events_last_id: u64,
    /// The virtual routers, in the order of the configuration.
    pub vrrp: Vec<VrrpStatus>,
    /// The virtual servers, in the order of the configuration.
    pub virtual_servers: Vec<VirtualServerStatus>,
    /// What all checks say of this host.
    #[serde(default)]
    pub checks: ChecksStatus,
    /// The kernel's table.
    pub ipvs: IpvsStatus,
    /// The configuration in force.
    pub config: ConfigStatus,
}

/// A virtual router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpStatus {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Protocol version, 2 or 3.
    pub version: u8,
    /// `initialize`, `backup`, `master` or `fault`.
    pub state: String,
    /// Why the state was entered, in words.
    pub why: String,
    /// What is wrong with it, in words.
    pub faults: Vec<String>,
    /// Its priority.
    pub priority: PriorityStatus,
    /// Its own advert interval, milliseconds.
    pub advert_interval_ms: u64,
    /// Its addresses, with prefix lengths.
    pub virtual_addresses: Vec<String>,
    /// `multicast` or `unicast`.
    pub transport: String,
    /// The name of the macvlan with the virtual MAC.
    pub virtual_mac: Option<String>,
    /// Whether the master takes packets for its addresses that are no traffic of IPVS.
    pub accept: bool,
    /// The name of its sync group.
    pub sync_group: Option<String>,
    /// What a takeover does where somebody still answers for the addresses: `off`, `warn`, `hold`.
    pub takeover_probe: String,
    /// The master it knows of.
    pub master: Option<MasterStatus>,
    /// Another master that is heard while this one is master: a split brain.
    pub rival: Option<MasterStatus>,
    /// The MAC address that answers for the addresses although no master is heard.
    pub suspect: Option<String>,
    /// A living peer that cannot be understood.
    pub incompatible: Option<IncompatibleStatus>,
    /// Who else claims its addresses.
    pub conflicts: Vec<ConflictStatus>,
    /// Whether it handed over by order and waits for its turn.
    pub yielded: bool,
    /// Whether it keeps the addresses until it hears its successor.
    pub lingering: bool,
    /// What it tracks.
    pub track: Vec<TrackStatus>,
    /// When the state was entered, RFC 3339, UTC.
    pub since: String,
    /// How often the state changed since the daemon started.
    pub transitions: u64,
    /// Its adverts.
    pub counters: VrrpCounters,
}

/// The two priorities of a virtual router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityStatus {
    /// That of the configuration.
    pub configured: u8,
    /// That in its adverts.
    pub effective: u8,
}

/// The master a virtual router knows of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterStatus {
    /// The address its adverts come from.
    pub address: String,
    /// The priority in them.
    pub priority: u8,
}

/// A living peer whose adverts break a compatibility rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncompatibleStatus {
    /// The address its adverts come from.
    pub address: String,
    /// Which rule: its name in `counters.discarded`.
    pub reason: String,
    /// When it was first heard so, RFC 3339, UTC.
    pub since: String,
}

/// A foreign claim to a virtual address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictStatus {
    /// The virtual address.
    pub address: String,
    /// The MAC address that claims it.
    pub mac: String,
    /// When it was last heard, RFC 3339, UTC.
    pub last: String,
}

/// Something that the state or the priority of a virtual router depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackStatus {
    /// What: `interface eth1`, `script gateway`, ...
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// How it is, in words.
    pub detail: String,
    /// What it adds to the priority; `null`: a failure is a fault.
    pub weight: Option<i32>,
}

/// Adverts of a virtual router since the daemon started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpCounters {
    /// Sent.
    pub adverts_sent: u64,
    /// Received and accepted.
    pub adverts_received: u64,
    /// Received and discarded, by reason; every reason is there.
    pub discarded: BTreeMap<String, u64>,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualServerStatus {
    /// Its name.
    pub name: String,
    /// Address and port, or `fwmark N`; the first of them.
    pub address: String,
    /// All of them.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// `tcp`, `udp`, `sctp`; of a firewall mark: `fwmark`.
    pub protocol: String,
    /// The scheduler.
    pub scheduler: String,
    /// The forwarding of its real servers.
    pub forwarding: String,
    /// When it is in the kernel's table: `always` or `master`.
    pub active: String,
    /// Its quorum.
    pub quorum: QuorumStatus,
    /// Whether the sorry server takes the new connections now.
    pub sorry: bool,
    /// Whether fewer than `minimum_up` pass their checks, and some that fail are kept.
    pub panic: bool,
    /// Whether the kernel's table should have it, and does not.
    pub missing: bool,
    /// What it has scheduled and forwarded since the kernel's counters began.
    #[serde(default)]
    pub counters: TrafficStatus,
    /// The same per second, as the kernel estimates it.
    #[serde(default)]
    pub rates: TrafficStatus,
    /// Its real servers, in the order of the configuration.
    pub real_servers: Vec<RealServerStatus>,
}

/// The quorum of a virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumStatus {
    /// The sum of weights it needs.
    pub needed: u32,
    /// The sum of weights of its healthy real servers.
    pub have: u64,
    /// Whether it has quorum.
    pub up: bool,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServerStatus {
    /// Address and port; of a firewall mark, which leaves the port as it is, the address alone.
    pub address: String,
    /// `draining`, `disabled`; else what its checks say: `up`, `down` or `unknown` (not checked yet).
    pub state: String,
    /// Its weight.
    pub weight: WeightStatus,
    /// Whether it is in the pool although its checks fail, because too few pass.
    pub kept: bool,
    /// Whether it has less than its weight because it has just come.
    pub slow_start: bool,
    /// Its checks.
    pub checks: Vec<CheckStatus>,
    /// Its connections through this director.
    pub connections: ConnectionsStatus,
    /// What went to it and came from it since the kernel's counters began.
    #[serde(default)]
    pub counters: TrafficStatus,
    /// The same per second, as the kernel estimates it.
    #[serde(default)]
    pub rates: TrafficStatus,
}

/// The weights of a real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightStatus {
    /// That of the configuration.
    pub configured: u32,
    /// That of `vipctl weight`, which replaces it; `null`: none.
    pub ordered: Option<u32>,
    /// That in the kernel's table; 0 also where it is not in the table.
    pub effective: u32,
}

/// A check of a real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// `tcp`, `http`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `up`, `down` or `unknown`.
    pub state: String,
    /// Why it last failed, in words; `null` where its last probe passed.
    pub last_error: Option<String>,
    /// How long its last probe took, milliseconds; `null` before the first.
    pub last_latency_ms: Option<u64>,
    /// The weight that the real server asked for when it passed last; `null`: none.
    #[serde(default)]
    pub asks_for: Option<AskedStatus>,
    /// How often it runs: `normally`, `slowly` (`backup_interval`) or `not` (on a backup).
    #[serde(default)]
    pub runs: String,
    /// Why the target stays out although it may pass, in words; `null`: it does not flap.
    #[serde(default)]
    pub flapping: Option<String>,
    /// What the last probe found that is not wrong yet (a certificate that ends soon); `null`: nothing.
    #[serde(default)]
    pub warning: Option<String>,
}

/// All checks of the director.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksStatus {
    /// How many run.
    pub running: usize,
    /// How many do not, because they are for the master only.
    pub stopped: usize,
    /// Every one fails, and began to at once; `null`: no.
    pub all_failing: Option<AllFailingStatus>,
    /// Probes could not be made in the last minute because this host ran out of something; `null`: no.
    pub shortage: Option<ShortageStatus>,
}

/// Every check fails, and began to at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllFailingStatus {
    /// Of so many addresses.
    pub targets: usize,
    /// Since when, RFC 3339.
    pub since: String,
}

/// Probes could not be made because this host ran out of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortageStatus {
    /// How many since the start.
    pub probes: u64,
    /// When the last one was, RFC 3339.
    pub last: String,
    /// Of what.
    pub why: String,
}

/// A weight that a real server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskedStatus {
    /// This one.
    Absolute(u32),
    /// This share of the configured one, percent; rounded up.
    Percent(u32),
}

/// Connections of a real server, as the kernel counts them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsStatus {
    /// Established.
    pub active: u32,
    /// Closing or waiting.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}

/// What went through a service or a real server: as counters or per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients; only NAT and full NAT see them.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients; only NAT and full NAT see them.
    pub out_bytes: u64,
}

impl TrafficStatus {
    /// This and that.
    #[must_use]
    pub fn plus(&self, other: &TrafficStatus) -> TrafficStatus {
        TrafficStatus {
            connections: self.connections.saturating_add(other.connections),
            in_packets: self.in_packets.saturating_add(other.in_packets),
            out_packets: self.out_packets.saturating_add(other.out_packets),
            in_bytes: self.in_bytes.saturating_add(other.in_bytes),
            out_bytes: self.out_bytes.saturating_add(other.out_bytes),
        }
    }

    /// The counters of an IPVS object.
    #[must_use]
    pub fn totals(counters: &ipvs::Statistics) -> TrafficStatus {
        TrafficStatus {
            connections: counters.connections,
            in_packets: counters.in_packets,
            out_packets: counters.out_packets,
            in_bytes: counters.in_bytes,
            out_bytes: counters.out_bytes,
        }
    }

    /// The rates of an IPVS object.
    #[must_use]
    pub fn rates(rates: &ipvs::Rates) -> TrafficStatus {
        TrafficStatus {
            connections: rates.connections,
            in_packets: rates.in_packets,
            out_packets: rates.out_packets,
            in_bytes: rates.in_bytes,
            out_bytes: rates.out_bytes,
        }
    }
}

/// The kernel's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpvsStatus {
    /// Whether the kernel holds what is desired.
    pub in_sync: bool,
    /// Changes made since the start because somebody else had changed the table.
    pub repairs: u64,
    /// When it was last compared, RFC 3339, UTC; `null` before the first time.
    pub last_resync: Option<String>,
    /// What the kernel refused at the last attempt, in words.
    pub refused: Vec<String>,
    /// What else keeps virtual servers from working, and how to mend it.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The synchronisation of connections with the peer; absent: not configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
}

/// The synchronisation of connections with the peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// The interface.
    pub interface: String,
    /// The sync id.
    pub id: u8,
    /// Whether the kernel's daemon that takes connections in runs.
    pub running: bool,
    /// The directors that are heard.
    pub peers: Vec<SyncPeerStatus>,
    /// How often the whole table was sent since the start.
    pub transfers: u64,
    /// How many connections were sent so.
    pub connections: u64,
    /// How many were not, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// When it was last sent, RFC 3339, UTC; `null`: not yet.
    pub last: Option<String>,
    /// What was sent then, in words.
    pub last_words: Option<String>,
    /// Why nothing is heard or sent.
    pub trouble: Option<String>,
}

/// Another director.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPeerStatus {
    /// Its address on the link.
    pub address: String,
    /// Whether its kernel takes connections in.
    pub ready: bool,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub path: String,
    /// When it was put in force, RFC 3339, UTC.
    pub loaded: String,
    /// The last reload, `null` where there was none since the start.
    pub last_reload: Option<ReloadStatus>,
    /// Whole seconds until it goes back to the former one; `null`: it is not on trial.
    #[serde(default)]
    pub trial_seconds_left: Option<u64>,
    /// It is the former one: what the file holds was on trial and not confirmed.
    #[serde(default)]
    pub unconfirmed: bool,
}

/// A reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When, RFC 3339, UTC.
    pub at: String,
    /// Whether the file was put in force.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
}

/// What a peer does differently whose adverts are discarded for a reason, in words that end with its
/// name, by which `counters.discarded` knows it.
pub(crate) fn difference(reason: &str) -> String {
    let words = match reason {
        "peer" => "it is not one of unicast.peers",
        "version" => "it speaks another version",
        "interval" => "it has another advert_interval",
        "authentication" => "it has another authentication, or another password",
        "hmac_missing" => "it does not sign",
        "hmac_key" => "it signs with a key that is not configured here",
        "hmac_window" => "its clock is too far from ours",
        "hmac" => "it signs with another key of the same number",
        "link_local" => "its first address is not link-local",
        other => return other.to_owned(),
    };
    format!("{words} ({reason})")
}

/// A point in time as the status shows it.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
