//! A virtual server as other programs have it, and how vipd.toml says the same: what differs from vipd's
//! defaults is written, a check that all real servers have stands once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::document::{Item, Keys, Section};
use crate::shell;

/// vipd's own defaults of a check.
const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(3);

/// A virtual server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) front: Front,
    /// The virtual router whose master alone checks the real servers.
    pub(super) checked_by: Option<String>,
    pub(super) scheduler: String,
    /// As `scheduler_flags` has them.
    pub(super) flags: Vec<&'static str>,
    pub(super) forwarding: Forwarding,
    pub(super) persistence: Option<Persistence>,
    pub(super) one_packet: bool,
    pub(super) quorum: u32,
    pub(super) hysteresis: u32,
    pub(super) zero_weight: bool,
    pub(super) sorry_server: Option<SocketAddr>,
    /// What somebody wrote about it.
    pub(super) comment: Option<String>,
    pub(super) real_servers: Vec<RealServer>,
}

/// What clients connect to.
#[derive(Debug, Clone)]
pub(super) enum Front {
    /// Addresses of one port.
    Addresses {
        protocol: &'static str,
        addresses: Vec<IpAddr>,
        /// 0: every port.
        port: u16,
    },
    Mark(u32),
}

/// How packets reach a real server.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Forwarding {
    /// As `forwarding` has it.
    pub(super) kind: &'static str,
    /// `tunnel`, where it is not the default.
    pub(super) tunnel: Keys,
}

/// Persistence.
#[derive(Debug, Clone)]
pub(super) struct Persistence {
    pub(super) timeout: Duration,
    pub(super) netmask: Option<u8>,
    pub(super) sip: bool,
}

/// A real server.
#[derive(Debug, Clone)]
pub(super) struct RealServer {
    /// Port 0: it has none.
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
    pub(super) forwarding: Forwarding,
    pub(super) checks: Vec<Check>,
}

/// A check.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    pub(super) kind: &'static str,
    /// The keys that only its type has, and where it goes.
    pub(super) own: Keys,
    pub(super) interval: Duration,
    /// While it fails and the real server is still up.
    pub(super) fast_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: u32,
    pub(super) fall: u32,
    /// The real server is in the pool until it fails.
    pub(super) starts_up: bool,
    /// What a person must know of it.
    pub(super) comment: Option<&'static str>,
}

impl Forwarding {
    pub(super) fn new(kind: &'static str) -> Forwarding {
        Forwarding {
            kind,
            tunnel: Keys::default(),
        }
    }

    /// Whether only this one can lead to another port.
    pub(super) fn changes_ports(&self) -> bool {
        self.kind == "nat" || self.kind == "fullnat"
    }

    fn write(&self, section: &mut Section, default: &Forwarding) {
        if self.kind != default.kind {
            section.set("forwarding", self.kind);
        }
        if self.tunnel != default.tunnel {
            let tunnel = if self.tunnel.is_empty() && self.kind == "tun" {
                let mut keys = Keys::default();
                keys.set("type", "ipip");
                keys
            } else {
                self.tunnel.clone()
            };
            if !tunnel.is_empty() {
                section.set("tunnel", tunnel);
            }
        }
    }
}

impl Front {
    /// The port of the real servers that name none.
    pub(super) fn port(&self) -> u16 {
        match self {
            Front::Addresses { port, .. } => *port,
            Front::Mark(_) => 0,
        }
    }

    fn write(&self, section: &mut Section) {
        match self {
            Front::Addresses {
                protocol,
                addresses,
                port,
            } => {
                let text = |ip: &IpAddr| SocketAddr::new(*ip, *port).to_string();
                match addresses.as_slice() {
                    [one] => section.set("address", text(one)),
                    more => section.set("addresses", Item::texts(more.iter().map(text))),
                }
                section.set_unless("protocol", *protocol, &"tcp");
            }
            Front::Mark(mark) => section.set("fwmark", *mark),
        }
    }
}

impl Server {
    /// What it is in vipd.toml.
    pub(super) fn section(&self) -> Section {
        let mut section = Section::new("[[virtual_server]]");
        if let Some(comment) = &self.comment {
            section.comment(comment.as_str());
        }
        section.set("name", self.name.as_str());
        self.front.write(&mut section);
        if let Some(router) = &self.checked_by {
            section.set("vrrp", router.as_str());
            section.set("when", "master");
        }
        section.set_unless("scheduler", self.scheduler.as_str(), &"wlc");
        let hashing = match self.scheduler.as_str() {
            "sh" => vec!["sh-fallback"],
            "mh" => vec!["mh-fallback"],
            _ => Vec::new(),
        };
        if self.flags != hashing {
            section.set("scheduler_flags", Item::texts(self.flags.iter().copied()));
        }
        self.forwarding.write(&mut section, &Forwarding::new("dr"));
        if let Some(persistence) = &self.persistence {
            let mut keys = Keys::default();
            keys.set("timeout", persistence.timeout);
            if let Some(netmask) = persistence.netmask {
                keys.set("netmask", netmask);
            }
            if persistence.sip {
                keys.set("engine", "sip");
            }
            section.set("persistence", keys);
        }
        section.set_unless("one_packet", self.one_packet, &false);
        section.set_unless("quorum", self.quorum, &1);
        section.set_unless("hysteresis", self.hysteresis, &0);
        if self.zero_weight {
            section.set("on_failure", "zero-weight");
        }
        if let Some(sorry) = self.sorry_server {
            section.set("sorry_server", self.address(sorry, &self.forwarding));
        }
        let shared = self.shared_checks();
        if let Some(checks) = shared {
            write_checks(&mut section, checks);
        }
        for real in &self.real_servers {
            section.push(self.real_section(real, shared.is_none()));
        }
        section
    }

    /// The checks of every real server, where they are the same.
    fn shared_checks(&self) -> Option<&[Check]> {
        let (first, rest) = self.real_servers.split_first()?;
        let same = rest.iter().all(|real| real.checks == first.checks);
        (same && !first.checks.is_empty()).then_some(&first.checks)
    }

    fn real_section(&self, real: &RealServer, own_checks: bool) -> Section {
        let mut section = Section::new("[[virtual_server.real_server]]");
        section.set("address", self.address(real.address, &real.forwarding));
        section.set_unless("weight", real.weight, &1);
        section.set_unless("upper_threshold", real.upper_threshold, &0);
        section.set_unless("lower_threshold", real.lower_threshold, &0);
        real.forwarding.write(&mut section, &self.forwarding);
        if own_checks {
            write_checks(&mut section, &real.checks);
        }
        section
    }

    /// With a port only where that differs, and can.
    fn address(&self, address: SocketAddr, forwarding: &Forwarding) -> String {
        let differs = address.port() != self.front.port() && address.port() != 0;
        if differs && forwarding.changes_ports() {
            address.to_string()
        } else {
            address.ip().to_string()
        }
    }
}

impl Check {
    fn keys(&self) -> Keys {
        let mut keys = Keys::default();
        keys.set("type", self.kind);
        keys.extend(&self.own);
        keys.set_unless("interval", self.interval, &INTERVAL);
        if self.fall > 1 && self.fast_interval < self.interval {
            keys.set("fast_interval", self.fast_interval);
        }
        keys.set_unless("timeout", self.timeout, &TIMEOUT);
        keys.set_unless("rise", self.rise, &1);
        let fall = match self.kind {
            "dns" | "udp" | "ping" => 3,
            _ => 2,
        };
        keys.set_unless("fall", self.fall, &fall);
        if self.starts_up {
            keys.set("start", "up");
        }
        keys
    }
}

fn write_checks(section: &mut Section, checks: &[Check]) {
    for comment in checks.iter().filter_map(|check| check.comment).take(1) {
        section.comment(comment);
    }
    match checks {
        [] => {}
        [one] => section.set("check", one.keys()),
        more => {
            let tables = more.iter().map(|check| Item::Table(check.keys()));
            section.set("checks", Item::List(tables.collect()));
        }
    }
}

/// Why a program is run by a shell.
pub(super) const FAILURES: &str =
    "Exit status 2 and above asks vipd for a weight; here it is a failure.";

/// A command whose every failure is exit status 1.
pub(super) fn failing_with_one(command: &[String]) -> Vec<String> {
    let line = format!("{} || exit 1", shell::line(command));
    vec!["/bin/sh".to_owned(), "-c".to_owned(), line]
}
