//! One frame of `vipctl top` as text, for pipes and `--once`: the virtual routers above; the virtual
//! servers below, the busiest first, each with its real servers, as many as there are lines.

use std::fmt::Write as _;

use crate::status::{RealServerStatus, Status, TrafficStatus, VirtualServerStatus};

/// How much there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// One frame: lines no wider than the columns, and no more of them than the rows.
#[must_use]
pub fn frame(status: &Status, size: Size) -> String {
    let mut lines = vec![headline(status)];
    for router in &status.vrrp {
        let master = match &router.master {
            Some(master) if router.state != "master" => format!(", master {}", master.address),
            Some(_) | None => String::new(),
        };
        let faults = router.faults.join("; ");
        lines.push(format!(
            "vrrp {} {} priority {}{master} {faults}",
            router.name, router.state, router.priority.effective
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<30} {:>6} {:>7} {:>8} {:>8} {:>8} {:>7}",
        "VIRTUAL SERVER / real server", "weight", "active", "conn/s", "in B/s", "out B/s", "total"
    ));
    let mut servers: Vec<&VirtualServerStatus> = status.virtual_servers.iter().collect();
    servers.sort_by_key(|server| std::cmp::Reverse(busy(&server.rates)));
    for server in servers {
        lines.push(row(
            &format!("{} {}", server.name, server.address),
            if server.quorum.up { "" } else { "NO QUORUM" },
            active(server),
            &server.rates,
            &server.counters,
        ));
        let mut reals: Vec<&RealServerStatus> = server.real_servers.iter().collect();
        reals.sort_by_key(|real| std::cmp::Reverse(busy(&real.rates)));
        for real in reals {
            let weight = match real.state.as_str() {
                "up" => real.weight.effective.to_string(),
                other => other.to_owned(),
            };
            lines.push(row(
                &format!("  -> {}", real.address),
                &weight,
                real.connections.active.into(),
                &real.rates,
                &real.counters,
            ));
        }
    }
    let hidden = lines.len().saturating_sub(size.rows);
    if hidden > 0 {
        lines.truncate(size.rows.saturating_sub(1));
        lines.push(format!("... {} more lines; q quits", hidden + 1));
    }
    let mut text = String::new();
    for line in lines {
        let line: String = line.trim_end().chars().take(size.columns).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

pub(super) fn headline(status: &Status) -> String {
    let servers = &status.virtual_servers;
    let reals = servers.iter().flat_map(|server| &server.real_servers);
    let (mut count, mut up) = (0_usize, 0_usize);
    for real in reals {
        count += 1;
        up += usize::from(real.state == "up");
    }
    let per_second: u64 = servers.iter().map(|server| server.rates.connections).sum();
    let active: u64 = servers.iter().map(active).sum();
    let trouble = match (status.maintenance, status.ipvs.in_sync) {
        (true, _) => ", MAINTENANCE",
        (false, false) => ", IPVS NOT IN SYNC",
        (false, true) => "",
    };
    format!(
        "{}: {per_second} conn/s, {active} active, {up} of {count} real servers up{trouble}",
        status.name
    )
}

fn row(
    name: &str,
    weight: &str,
    active: u64,
    rates: &TrafficStatus,
    counters: &TrafficStatus,
) -> String {
    let name: String = if name.chars().count() > 30 {
        name.chars().take(29).chain(['~']).collect()
    } else {
        name.to_owned()
    };
    format!(
        "{name:<30} {weight:>6} {:>7} {:>8} {:>8} {:>8} {:>7}",
        short(active),
        short(rates.connections),
        short(rates.in_bytes),
        short(rates.out_bytes),
        short(counters.connections)
    )
}

pub(super) fn active(server: &VirtualServerStatus) -> u64 {
    let reals = server.real_servers.iter();
    reals.map(|real| u64::from(real.connections.active)).sum()
}

/// By what they are sorted: new connections, then packets for those that live long.
pub(super) fn busy(rates: &TrafficStatus) -> (u64, u64) {
    (rates.connections, rates.in_packets)
}

/// A number in at most seven characters.
pub(super) fn short(number: u64) -> String {
    let units = ["", "k", "M", "G", "T", "P", "E"];
    let mut rest = number;
    for unit in units {
        if rest < 100_000 {
            return format!("{rest}{unit}");
        }
        rest /= 1000;
    }
    number.to_string()
}
