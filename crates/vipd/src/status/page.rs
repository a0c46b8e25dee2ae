//! The status as a page for people.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::{CheckStatus, ReloadStatus, Status, VirtualServerStatus};

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
