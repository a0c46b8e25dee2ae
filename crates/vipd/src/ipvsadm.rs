//! What ipvsadm shows and saves, in its columns and words, as pure functions: text comes from values
//! and values from text, and nothing here talks to a kernel or a daemon. Its output in version 1.31
//! is the measure; `tests/tests/guest/ipvsctl.rs` holds both side by side.

pub mod connections;
pub mod names;
pub mod order;
pub mod restore;
pub mod save;
pub mod tables;

mod line;

use std::time::Duration;

use ipvs::{Daemon, Family, Protocol, SchedulerName, ServiceFlags, Table, Timeouts};

/// Everything that a file of ipvsadm's can hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// Services and real servers.
    pub table: Table,
    /// The timeouts; those of zero stay as they are. Absent: all do.
    pub timeouts: Option<Timeouts>,
    /// The connection sync daemons, at most one of each role.
    pub daemons: Vec<Daemon>,
}

/// A line that cannot be understood, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its number, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Problem { line, text, why } = self;
        write!(f, "line {line}: {why}\n    {text}")
    }
}

/// The scheduler flags by the names that the scheduler gives them.
#[must_use]
pub fn flag_names(scheduler: &SchedulerName, flags: ServiceFlags) -> String {
    let [first, second] = match scheduler.as_str() {
        "sh" => ["sh-fallback", "sh-port"],
        "mh" => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    let names = [
        (flags.sched1, first),
        (flags.sched2, second),
        (flags.sched3, "flag-3"),
    ];
    let set: Vec<&str> = names
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| name)
        .collect();
    set.join(",")
}

/// A persistence mask as `-M` has it; `None`: every client by itself, which is not said.
fn mask(family: Family, prefix_length: u8) -> Option<String> {
    if prefix_length >= family.address_bits() {
        return None;
    }
    Some(match family {
        Family::V4 => {
            let host = u32::MAX.checked_shr(prefix_length.into()).unwrap_or(0);
            std::net::Ipv4Addr::from(!host).to_string()
        }
        Family::V6 => prefix_length.to_string(),
    })
}

/// The protocol in the tables.
fn upper(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// The option that names a service of that protocol in what is saved.
fn service_option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

/// `Timeout (tcp tcpfin udp): 900 120 300`.
#[must_use]
pub fn timeouts(timeouts: &Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(Duration::as_secs);
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

/// A line for each daemon that runs, the master's first.
#[must_use]
pub fn daemons(daemons: &[Daemon]) -> String {
    let mut text = String::new();
    for daemon in daemons {
        let Daemon {
            role,
            interface,
            id,
            max_length,
            group,
            port,
            ttl,
        } = daemon;
        let group = group.map_or(String::new(), |group| format!("group={group}, "));
        text.push_str(&format!(
            "{role} sync daemon (mcast={interface}, syncid={id}, maxlen={max_length}, \
             {group}port={port}, ttl={ttl})\n"
        ));
    }
    text
}
