//! The tables of the virtual servers: each with its real servers, or, where those would fill more
//! than a screen, one line for each.

use std::fmt::Write as _;

use super::layout::{Look, cut, plain, table};
use crate::status::{AskedStatus, CheckStatus, Status, VirtualServerStatus};

/// More lines than these are a line for each virtual server on a terminal.
const LINES_MAX: usize = 40;
/// Virtual servers that are well in the short table.
const WELL_MAX: usize = 20;
/// Virtual servers that are not.
const UNWELL_MAX: usize = 20;

/// The longest name of a virtual server that is shown whole in the short table.
const NAME_MAX: usize = 30;

/// All of them.
pub(super) fn servers(status: &Status, look: Look) -> String {
    let servers = &status.virtual_servers;
    let lines = |server: &VirtualServerStatus| server.real_servers.len() + 3;
    if look.width.is_some() && servers.iter().map(lines).sum::<usize>() > LINES_MAX {
        return format!("\n{}", in_short(servers, look));
    }
    let mut text = String::new();
    for server in servers {
        text.push('\n');
        text.push_str(&virtual_server(server, look));
    }
    text
}

fn up(server: &VirtualServerStatus) -> usize {
    let reals = server.real_servers.iter();
    reals.filter(|real| real.state == "up").count()
}

fn is_well(server: &VirtualServerStatus) -> bool {
    server.quorum.up && !server.missing && !server.panic && up(server) == server.real_servers.len()
}

/// A line for each, those that are not well first.
fn in_short(servers: &[VirtualServerStatus], look: Look) -> String {
    let heads = [
        "VIRTUAL SERVER",
        "ADDRESS",
        "UP",
        "WEIGHT",
        "ACTIVE",
        "CONN/S",
        "STATE",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let row = |server: &VirtualServerStatus| {
        let active = server.real_servers.iter();
        let active: u64 = active.map(|real| u64::from(real.connections.active)).sum();
        vec![
            cut(&server.name, NAME_MAX),
            server.address.clone(),
            format!("{}/{}", up(server), server.real_servers.len()),
            server.quorum.have.to_string(),
            active.to_string(),
            server.rates.connections.to_string(),
            state(server).to_owned(),
        ]
    };
    let unwell = || servers.iter().filter(|server| !is_well(server));
    let well = || servers.iter().filter(|server| is_well(server));
    rows.extend(unwell().take(UNWELL_MAX).map(row));
    rows.extend(well().take(WELL_MAX).map(row));
    let rows = table(&rows, look, 1, |row, column, text| {
        match (row, column, text.trim()) {
            (0, _, _) => look.bold(text),
            (_, 6, "up") => look.green(text),
            (_, 6, _) => look.red(text),
            (_, _, _) => text.into(),
        }
    });
    let mut text = rows.concat();
    for (more, how) in [
        (unwell().count().saturating_sub(UNWELL_MAX), "not all well"),
        (well().count().saturating_sub(WELL_MAX), "all well"),
    ] {
        if more > 0 {
            let _ = writeln!(text, "and {more} more virtual servers, {how}");
        }
    }
    text.push_str("every real server: vipctl status | less\n");
    text
}

fn state(server: &VirtualServerStatus) -> &'static str {
    match (server.missing, server.quorum.up) {
        (true, _) => "not in the kernel",
        (false, true) => "up",
        (false, false) => "no quorum",
    }
}

fn virtual_server(server: &VirtualServerStatus, look: Look) -> String {
    let quorum = &server.quorum;
    let state = match state(server) {
        "up" => look.green("up"),
        wrong => look.red(wrong),
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
    let name = match look.width {
        Some(width) => {
            let used = rest.chars().count() + "not in the kernel".len() + weight.chars().count();
            cut(&server.name, width.saturating_sub(used).max(8))
        }
        None => plain(&server.name),
    };
    let mut text = format!("{}{rest}{state}{weight}\n", look.bold(&name));
    let heads = [
        "  REAL SERVER",
        "STATE",
        "WEIGHT",
        "ACTIVE",
        "INACTIVE",
        "CHECK",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for real in &server.real_servers {
        let weight = &real.weight;
        let weight = if weight.configured == weight.effective {
            weight.effective.to_string()
        } else {
            format!("{}/{}", weight.effective, weight.configured)
        };
        let checks: Vec<String> = real.checks.iter().map(check).collect();
        rows.push(vec![
            format!("  {}", real.address),
            match (real.kept, real.slow_start) {
                (true, _) => format!("{}, kept", real.state),
                (false, true) => format!("{}, slow start", real.state),
                (false, false) => real.state.clone(),
            },
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
    let rows = table(&rows, look, usize::MAX, |row, column, text| {
        match (row, column, text.trim()) {
            (0, _, _) => look.bold(text),
            (_, 1, "up" | "up, slow start") => look.green(text),
            (_, 1, "down" | "down, kept") => look.red(text),
            (_, 1, "draining" | "disabled") => look.yellow(text),
            (_, _, _) => text.into(),
        }
    });
    text.push_str(&rows.concat());
    text
}

fn check(check: &CheckStatus) -> String {
    let found = match (&check.last_error, check.last_latency_ms) {
        (Some(error), _) => format!("{}: {error}", check.kind),
        (None, Some(latency)) => {
            let asks = check.asks_for.map(asked).unwrap_or_default();
            format!("{} ok, {latency} ms{asks}", check.kind)
        }
        (None, None) if check.runs == "not" => check.kind.clone(),
        (None, None) => format!("{} waiting", check.kind),
    };
    if check.runs == "not" {
        format!("{found} (not checked while backup)")
    } else {
        found
    }
}

fn asked(weight: AskedStatus) -> String {
    match weight {
        AskedStatus::Absolute(weight) => format!(", asks for weight {weight}"),
        AskedStatus::Percent(share) => format!(", asks for {share} %"),
    }
}
