//! The save format: one line of options for each object, a service before its real servers.
//!
//! The lines of services and real servers are those of `ipvsadm -S -n`, with the thresholds, which it
//! leaves out, at their end. `ipvsadm -R` takes no comments, but it takes any command: so timeouts and
//! daemons are saved as the commands that set them.

use std::fmt::Write;
use std::time::Duration;

use ipvs::{
    Daemon, Destination, DestinationKey, Family, Forwarding, Persistence, Pool, ServiceKey, Table,
    Timeouts, Tunnel, TunnelChecksum,
};

use super::{flag_names, mask, service_option};

/// A table in the save format, in the order of [`super::order::in_order`].
#[must_use]
pub fn table(table: &Table, order: &[(ServiceKey, Vec<DestinationKey>)]) -> String {
    let mut text = String::new();
    for (key, servers) in order {
        let Some(pool) = table.get(key) else {
            continue;
        };
        let name = service(key);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "-A {name}{}", service_options(key.family(), pool));
        for server in servers {
            if let Some(destination) = pool.destinations.get(server) {
                let options = destination_options(destination);
                let _ = writeln!(text, "-a {name} -r {server}{options}");
            }
        }
    }
    text
}

/// What the save format of ipvsadm leaves out.
#[must_use]
pub fn settings(timeouts: Option<&Timeouts>, daemons: &[Daemon]) -> String {
    let mut text = String::new();
    if let Some(Timeouts { tcp, tcp_fin, udp }) = timeouts {
        let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(Duration::as_secs);
        let _ = writeln!(text, "--set {tcp} {tcp_fin} {udp}");
    }
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
        let _ = write!(
            text,
            "--start-daemon {role} --mcast-interface {interface} --syncid {id}"
        );
        if *max_length != 0 {
            let _ = write!(text, " --sync-maxlen {max_length}");
        }
        if let Some(group) = group {
            let _ = write!(text, " --mcast-group {group}");
        }
        if *port != 0 {
            let _ = write!(text, " --mcast-port {port}");
        }
        if *ttl != 0 {
            let _ = write!(text, " --mcast-ttl {ttl}");
        }
        text.push('\n');
    }
    text
}

/// The option that names a service.
fn service(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, address } => {
            format!("{} {address}", service_option(*protocol))
        }
        ServiceKey::FirewallMark { family, mark } => match family {
            Family::V4 => format!("-f {mark}"),
            Family::V6 => format!("-f {mark} -6"),
        },
    }
}

fn service_options(family: Family, pool: &Pool) -> String {
    let service = &pool.service;
    let mut text = format!(" -s {}", service.scheduler.as_str());
    if let Some(persistence) = &service.persistence {
        let Persistence {
            timeout,
            prefix_length,
            engine,
        } = persistence;
        let _ = write!(text, " -p {}", timeout.as_secs());
        if let Some(mask) = mask(family, *prefix_length) {
            let _ = write!(text, " -M {mask}");
        }
        if let Some(engine) = engine {
            let _ = write!(text, " --pe {engine}");
        }
    }
    if service.flags.one_packet {
        text.push_str(" -o");
    }
    let flags = flag_names(&service.scheduler, service.flags);
    if !flags.is_empty() {
        let _ = write!(text, " -b {flags}");
    }
    text
}

fn destination_options(destination: &Destination) -> String {
    let Destination {
        forwarding,
        weight,
        upper_threshold,
        lower_threshold,
    } = destination;
    let (method, tunnel) = match forwarding {
        Forwarding::Nat => ("-m", String::new()),
        // The kernel decides by itself that a real server is this host.
        Forwarding::DirectRouting | Forwarding::LocalNode | Forwarding::Bypass => {
            ("-g", String::new())
        }
        Forwarding::Tunnel(tunnel) => ("-i", tunnel_options(*tunnel)),
    };
    let mut text = format!(" {method} -w {weight}{tunnel}");
    for (option, threshold) in [("-x", upper_threshold), ("-y", lower_threshold)] {
        if *threshold != 0 {
            let _ = write!(text, " {option} {threshold}");
        }
    }
    text
}

fn tunnel_options(tunnel: Tunnel) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    match tunnel {
        Tunnel::Ipip => " --tun-type ipip".to_owned(),
        Tunnel::Gue {
            port,
            checksum: sum,
        } => format!(" --tun-type gue --tun-port {port} {}", checksum(sum)),
        Tunnel::Gre { checksum: sum } => format!(" --tun-type gre {}", checksum(sum)),
    }
}
