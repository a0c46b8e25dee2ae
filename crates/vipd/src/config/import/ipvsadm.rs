//! What `ipvsadm -S -n` prints, and `vipctl ipvs save`: read as `vipctl ipvs restore` reads it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipvs::{
    Daemon, Destination, Family, Pool, Protocol, SchedulerName, ServiceKey, Tunnel, TunnelChecksum,
};

use super::document::{Document, Keys, Section};
use super::host::Host;
use super::name::Names;
use super::notes::{Notes, Place};
use super::server::{Forwarding, Front, Persistence, RealServer, Server};
use crate::ipvsadm::{Saved, names, restore};

/// A line that is wrong may make others so.
const ROUNDS: usize = 20;

pub(super) fn read(notes: &mut Notes, host: &dyn Host) -> Document {
    let services = host.read(Path::new("/etc/services")).unwrap_or_default();
    let saved = saved(notes, &services);
    let mut document = Document::default();
    document.push(settings(&saved, notes));
    let mut all = Names::default();
    for key in saved.table.keys() {
        if let ServiceKey::Address { protocol, address } = key {
            all.announce(word(*protocol), address.port());
        }
    }
    for (key, pool) in &saved.table {
        document.push(server(key, pool, &mut all, notes).section());
    }
    document
}

/// The lines that can be read; the others are reported.
fn saved(notes: &mut Notes, services: &str) -> Saved {
    let (_, source) = notes.file(0);
    let port_of = |name: &str, protocol| names::port_of(services, name, protocol);
    let mut lines: Vec<&str> = source.lines().collect();
    let starts: Vec<usize> = std::iter::once(0)
        .chain(
            source
                .match_indices('\n')
                .map(|(at, _)| at.saturating_add(1)),
        )
        .collect();
    for _ in 0..ROUNDS {
        let problems = match restore::parse(&lines.join("\n"), &port_of) {
            Ok(saved) => return saved,
            Err(problems) => problems,
        };
        for problem in problems {
            let index = problem.line.saturating_sub(1);
            let indent = lines
                .get(index)
                .map_or(0, |line| line.len().saturating_sub(line.trim_start().len()));
            let start = starts
                .get(index)
                .copied()
                .unwrap_or(0)
                .saturating_add(indent);
            let place = Place {
                file: 0,
                span: start..start.saturating_add(problem.text.len()),
            };
            notes.lost(
                &place,
                "",
                problem.why,
                "the line is left out of the result",
            );
            if let Some(line) = lines.get_mut(index) {
                *line = "";
            }
        }
    }
    let message = "nothing of the table can be read";
    notes.lost(
        &Place::default(),
        "",
        message,
        "write what `ipvsadm -S -n` prints",
    );
    Saved::default()
}

/// `[ipvs]`
fn settings(saved: &Saved, notes: &mut Notes) -> Section {
    let mut section = Section::new("[ipvs]");
    if let Some(timeouts) = &saved.timeouts {
        let mut keys = Keys::default();
        let all = [
            ("tcp", timeouts.tcp),
            ("tcp_fin", timeouts.tcp_fin),
            ("udp", timeouts.udp),
        ];
        for (key, timeout) in all {
            keys.set_unless(key, timeout, &Duration::ZERO);
        }
        if !keys.is_empty() {
            section.set("timeouts", keys);
        }
    }
    if let Some(first) = saved.daemons.first() {
        section.set("sync", sync(first));
        let same = saved.daemons.iter().all(|other| {
            first.role == other.role || {
                let other = Daemon {
                    role: first.role,
                    ..other.clone()
                };
                other == *first
            }
        });
        let place = Place::default();
        if !same {
            let message = "the two sync daemons differ, and vipd runs both alike";
            notes.lost(
                &place,
                "",
                message,
                "the result has the settings of the first",
            );
        } else if saved.daemons.len() == 1 {
            let message = "vipd runs both sync daemons, the master's and the backup's";
            notes.idle(&place, "", message, "nothing is to be done");
        }
    }
    section
}

fn sync(daemon: &Daemon) -> Keys {
    let mut keys = Keys::default();
    keys.set("interface", daemon.interface.as_str());
    keys.set("id", daemon.id);
    if let Some(group) = daemon.group {
        keys.set_unless("group", group.to_string(), &"224.0.0.81".to_owned());
    }
    for (key, number, default) in [
        ("port", daemon.port, 8848),
        ("max_length", daemon.max_length, 0),
    ] {
        if number != 0 {
            keys.set_unless(key, number, &default);
        }
    }
    if daemon.ttl != 0 {
        keys.set_unless("ttl", daemon.ttl, &1);
    }
    keys
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn server(key: &ServiceKey, pool: &Pool, names: &mut Names, notes: &mut Notes) -> Server {
    let (name, front) = match key {
        ServiceKey::Address { protocol, address } => {
            let protocol = word(*protocol);
            let (ip, port) = (address.ip(), address.port());
            let front = Front::Addresses {
                protocol,
                addresses: vec![ip],
                port,
            };
            (names.of_service(protocol, ip, port), front)
        }
        ServiceKey::FirewallMark { mark, .. } => {
            (names.take(&format!("mark-{mark}")), Front::Mark(*mark))
        }
    };
    let mut lost = |message: String| {
        let help = "it is left out of the result";
        notes.lost(&Place::default(), &format!("{key}"), message, help);
    };
    let service = &pool.service;
    let scheduler = match &service.scheduler {
        SchedulerName::Known(scheduler) => scheduler.name().to_owned(),
        SchedulerName::Other(other) => {
            lost(format!("vipd knows no scheduler {other:?}"));
            "wlc".to_owned()
        }
    };
    let mut flags = Vec::new();
    for (set, flag) in [
        (service.flags.sched1, 0_u8),
        (service.flags.sched2, 1),
        (service.flags.sched3, 2),
    ] {
        if !set {
            continue;
        }
        match (scheduler.as_str(), flag) {
            ("sh", 0) => flags.push("sh-fallback"),
            ("sh", 1) => flags.push("sh-port"),
            ("mh", 0) => flags.push("mh-fallback"),
            ("mh", 1) => flags.push("mh-port"),
            _ => lost(format!(
                "the scheduler {scheduler} has no flag-{}",
                flag.saturating_add(1)
            )),
        }
    }
    let persistence = service.persistence.as_ref().map(|persistence| {
        let bits = key.family().address_bits();
        if persistence
            .engine
            .as_deref()
            .is_some_and(|engine| engine != "sip")
        {
            lost("vipd knows no persistence engine but sip".to_owned());
        }
        Persistence {
            timeout: persistence.timeout,
            netmask: Some(persistence.prefix_length).filter(|length| *length != bits),
            sip: persistence.engine.as_deref() == Some("sip"),
        }
    });
    if let (ServiceKey::FirewallMark { family, .. }, first) = (key, pool.destinations.keys().next())
    {
        let told = first.map_or(Family::V4, |first| Family::of(first.0.ip()));
        if told != *family {
            lost("the first real server says the family of a mark, and it has another".to_owned());
        }
    }
    let servers = pool.destinations.iter();
    let real_servers: Vec<RealServer> = servers.map(|(key, to)| real(key.0, to)).collect();
    let mut methods = real_servers.iter().map(|real| &real.forwarding);
    let common = methods.next().cloned();
    let common = common.filter(|first| methods.all(|other| other == first));
    Server {
        name,
        front,
        checked_by: None,
        scheduler,
        flags,
        forwarding: common.unwrap_or_else(|| Forwarding::new("dr")),
        persistence,
        one_packet: service.flags.one_packet,
        quorum: 1,
        hysteresis: 0,
        zero_weight: false,
        sorry_server: None,
        comment: None,
        real_servers,
    }
}

fn real(address: SocketAddr, to: &Destination) -> RealServer {
    RealServer {
        address,
        weight: to.weight,
        upper_threshold: to.upper_threshold,
        lower_threshold: to.lower_threshold,
        forwarding: forwarding(to.forwarding),
        checks: Vec::new(),
    }
}

fn forwarding(forwarding: ipvs::Forwarding) -> Forwarding {
    let tunnel = match forwarding {
        ipvs::Forwarding::Nat => return Forwarding::new("nat"),
        // The kernel decides by itself that a real server is this host.
        ipvs::Forwarding::DirectRouting
        | ipvs::Forwarding::LocalNode
        | ipvs::Forwarding::Bypass => return Forwarding::new("dr"),
        ipvs::Forwarding::Tunnel(tunnel) => tunnel,
    };
    let mut keys = Keys::default();
    let checksum = match tunnel {
        Tunnel::Ipip => TunnelChecksum::None,
        Tunnel::Gue { port, checksum } => {
            keys.set("type", "gue");
            keys.set("port", port);
            checksum
        }
        Tunnel::Gre { checksum } => {
            keys.set("type", "gre");
            checksum
        }
    };
    match checksum {
        TunnelChecksum::None => {}
        TunnelChecksum::Full => keys.set("checksum", "full"),
        TunnelChecksum::Remote => keys.set("checksum", "remote"),
    }
    Forwarding {
        kind: "tun",
        tunnel: keys,
    }
}
