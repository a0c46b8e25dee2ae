//! What `vipctl status` shows: the values, fixed by name for `--json`, and the table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The whole director at a glance. The names are the JSON keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What the director calls itself.
    pub name: String,
    /// The version of the daemon.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The virtual routers, in the order of the configuration.
    pub vrrp: Vec<VrrpStatus>,
    /// The virtual servers, in the order of the configuration.
    pub virtual_servers: Vec<VirtualServerStatus>,
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
    /// The master it knows of.
    pub master: Option<MasterStatus>,
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
    /// Address and port, or `fwmark N`.
    pub address: String,
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
    /// Address and port.
    pub address: String,
    /// `up`, `down` or `unknown` (not checked yet).
    pub state: String,
    /// Its weight.
    pub weight: WeightStatus,
    /// Its checks.
    pub checks: Vec<CheckStatus>,
    /// Its connections through this director.
    pub connections: ConnectionsStatus,
}

/// The two weights of a real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightStatus {
    /// That of the configuration.
    pub configured: u32,
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

/// A point in time as the status shows it.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

const WIDTH: usize = 100;

/// The status for people: at most 100 columns, problems first.
#[must_use]
pub fn render(status: &Status, now: SystemTime, color: bool) -> String {
    let paint = Paint { color };
    let mut text = String::new();
    let up = short(Duration::from_secs(status.uptime_seconds));
    let _ = writeln!(text, "{}  vipd {}, up {up}", status.name, status.version);
    for problem in problems(status) {
        for line in wrap(&problem, WIDTH - 2) {
            let _ = writeln!(text, "{} {line}", paint.red("!"));
        }
    }
    if !status.vrrp.is_empty() {
        text.push('\n');
        text.push_str(&routers(status, now, &paint));
    }
    for server in &status.virtual_servers {
        text.push('\n');
        text.push_str(&virtual_server(server, &paint));
    }
    if !status.virtual_servers.is_empty() {
        let ipvs = &status.ipvs;
        let sync = if ipvs.in_sync {
            paint.green("in sync")
        } else {
            paint.red("not in sync")
        };
        let compared = ipvs.last_resync.as_deref().and_then(|at| ago(at, now));
        let compared = compared.map_or("not compared yet".to_owned(), |ago| {
            format!("compared {ago} ago")
        });
        let _ = writeln!(text, "\nIPVS {sync}, repairs {}, {compared}", ipvs.repairs);
    }
    text
}

/// What is not as it should be, worst first.
fn problems(status: &Status) -> Vec<String> {
    let mut found = Vec::new();
    for router in &status.vrrp {
        for fault in &router.faults {
            found.push(format!("virtual router {}: {fault}", router.name));
        }
    }
    for server in &status.virtual_servers {
        if !server.quorum.up {
            let instead = if server.sorry {
                "; the sorry server answers"
            } else {
                ""
            };
            let (have, needed) = (server.quorum.have, server.quorum.needed);
            found.push(format!(
                "virtual server {}: no quorum, weight {have} of {needed}{instead}",
                server.name
            ));
        }
    }
    for refused in status.ipvs.refused.iter().take(3) {
        found.push(format!("IPVS: {refused}"));
    }
    if let Some(ReloadStatus {
        ok: false,
        at,
        error,
    }) = &status.config.last_reload
    {
        let error = error.as_deref().unwrap_or("unknown");
        found.push(format!(
            "reload at {at} refused, the configuration before it is in force:"
        ));
        found.extend(error.lines().take(12).map(|line| format!("  {line}")));
    }
    found
}

fn routers(status: &Status, now: SystemTime, paint: &Paint) -> String {
    let mut rows = vec![
        [
            "ROUTER",
            "INTERFACE",
            "VRID",
            "STATE",
            "PRIO",
            "MASTER",
            "SINCE",
            "ADDRESSES",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for router in &status.vrrp {
        let priority = if router.priority.configured == router.priority.effective {
            router.priority.effective.to_string()
        } else {
            format!(
                "{}/{}",
                router.priority.effective, router.priority.configured
            )
        };
        let master = match &router.master {
            Some(_) if router.state == "master" => "this".to_owned(),
            Some(master) => format!("{} ({})", master.address, master.priority),
            None => "-".to_owned(),
        };
        let more = router.virtual_addresses.len().saturating_sub(1);
        let first = router
            .virtual_addresses
            .first()
            .cloned()
            .unwrap_or_default();
        let addresses = if more > 0 {
            format!("{first} +{more}")
        } else {
            first
        };
        rows.push(vec![
            cut(&router.name, 16),
            router.interface.clone(),
            router.vrid.to_string(),
            router.state.clone(),
            priority,
            master,
            ago(&router.since, now).unwrap_or_else(|| "-".to_owned()),
            addresses,
        ]);
    }
    table(&rows, |row, column, text| {
        match (row, column, text.trim()) {
            (0, _, _) => paint.bold(text),
            (_, 3, "master") => paint.green(text),
            (_, 3, "fault") => paint.red(text),
            (_, _, _) => text.to_owned(),
        }
    })
}

fn virtual_server(server: &VirtualServerStatus, paint: &Paint) -> String {
    let quorum = &server.quorum;
    let state = if quorum.up {
        paint.green("up")
    } else {
        paint.red("no quorum")
    };
    let only_master = if server.active == "master" {
        ", while master"
    } else {
        ""
    };
    // A firewall mark's address begins with the word, so the protocol need not be said again.
    let what = match server.protocol.as_str() {
        "fwmark" => server.address.clone(),
        protocol => format!("{protocol} {}", server.address),
    };
    let (scheduler, forwarding) = (&server.scheduler, &server.forwarding);
    let rest = format!(" {what} {scheduler} {forwarding}{only_master}: ");
    let weight = format!(", weight {} (quorum {})", quorum.have, quorum.needed);
    let used = rest.chars().count() + "no quorum".len() + weight.chars().count();
    let name = cut(&server.name, WIDTH.saturating_sub(used));
    let mut text = format!("{}{rest}{state}{weight}\n", paint.bold(&name));
    let mut rows = vec![
        [
            "  REAL SERVER",
            "STATE",
            "WEIGHT",
            "ACTIVE",
            "INACTIVE",
            "CHECK",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for real in &server.real_servers {
        let weight = if real.weight.configured == real.weight.effective {
            real.weight.effective.to_string()
        } else {
            format!("{}/{}", real.weight.effective, real.weight.configured)
        };
        let checks: Vec<String> = real.checks.iter().map(check).collect();
        rows.push(vec![
            format!("  {}", real.address),
            real.state.clone(),
            weight,
            real.connections.active.to_string(),
            real.connections.inactive.to_string(),
            if checks.is_empty() {
                "none".to_owned()
            } else {
                checks.join("; ")
            },
        ]);
    }
    text.push_str(&table(&rows, |row, column, text| {
        match (row, column, text.trim()) {
            (0, _, _) => paint.bold(text),
            (_, 1, "up") => paint.green(text),
            (_, 1, "down") => paint.red(text),
            (_, _, _) => text.to_owned(),
        }
    }));
    text
}

fn check(check: &CheckStatus) -> String {
    match (&check.last_error, check.last_latency_ms) {
        (Some(error), _) => format!("{}: {error}", check.kind),
        (None, Some(latency)) => format!("{} ok, {latency} ms", check.kind),
        (None, None) => format!("{} waiting", check.kind),
    }
}

/// Columns as wide as their widest cell; the last one is cut at the width of the page.
fn table(rows: &[Vec<String>], paint: impl Fn(usize, usize, &str) -> String) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        let mut used = 0;
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == row.len();
            let width = widths.get(column).copied().unwrap_or(0);
            let cell = if last {
                cut(cell, WIDTH.saturating_sub(used))
            } else {
                format!("{cell:<width$}")
            };
            used += width + 2;
            line.push_str(&paint(number, column, &cell));
            if !last {
                line.push_str("  ");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(width)
        .map(|line| line.iter().collect())
        .collect()
}

fn ago(at: &str, now: SystemTime) -> Option<String> {
    let at = humantime::parse_rfc3339_weak(at).ok()?;
    Some(short(now.duration_since(at).unwrap_or_default()))
}

/// The two largest units: `3d4h`, `5m10s`, `7s`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, _, _) => format!("{days}d{hours}h"),
    }
}

struct Paint {
    color: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
}
