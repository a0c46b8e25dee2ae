//! The tables of `ipvsadm -L`: the list and its variants, `--stats` and `--rate`.

use std::fmt::Write;

use ipvs::{
    Destination, DestinationStatistics, Dump, Family, Forwarding, Info, Pool, Protocol, Rates,
    ServiceKey, Statistics, Tunnel, TunnelChecksum,
};

use super::names::Names;
use super::order::in_order;
use super::{flag_names, mask, upper};

/// Which columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Columns {
    /// Forwarding, weight and connections.
    #[default]
    Plain,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    Persistent,
    /// `--tun-info`.
    Tunnels,
    /// `--stats`.
    Statistics,
    /// `--rate`.
    Rates,
}

/// How a table is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Its columns.
    pub columns: Columns,
    /// Large counters in full.
    pub exact: bool,
    /// In the order of the kernel's hash table.
    pub unsorted: bool,
}

/// A table. `info` makes the first line; ipvsadm leaves it out where one service alone is shown.
#[must_use]
pub fn table(dump: &Dump, info: Option<&Info>, look: Look, names: &Names) -> String {
    let mut text = String::new();
    if let Some(info) = info {
        let Info {
            version,
            connection_table_size,
        } = info;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "IP Virtual Server version {version} (size={connection_table_size})"
        );
    }
    text.push_str(header(look.columns));
    for (key, servers) in in_order(dump, look.unsorted) {
        let Some(pool) = dump.table.get(&key) else {
            continue;
        };
        service_line(&mut text, dump, &key, pool, look, names);
        for server in servers {
            let Some(destination) = pool.destinations.get(&server) else {
                continue;
            };
            let counts = dump.destinations.get(&(key, server)).copied();
            let protocol = protocol(&key);
            let _ = write!(text, "  -> {:<28}", names.endpoint(protocol, server.0));
            destination_line(&mut text, destination, &counts.unwrap_or_default(), look);
        }
    }
    text
}

fn header(columns: Columns) -> &'static str {
    match columns {
        Columns::Plain => concat!(
            "Prot LocalAddress:Port Scheduler Flags\n",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
        ),
        Columns::Thresholds => concat!(
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n",
            "  -> RemoteAddress:Port\n",
        ),
        Columns::Persistent => concat!(
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n",
            "  -> RemoteAddress:Port\n",
        ),
        Columns::Tunnels => concat!(
            "Prot LocalAddress:Port Scheduler Flags\n",
            "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n",
        ),
        Columns::Statistics => concat!(
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n",
            "  -> RemoteAddress:Port\n",
        ),
        Columns::Rates => concat!(
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n",
            "  -> RemoteAddress:Port\n",
        ),
    }
}

fn service_line(
    text: &mut String,
    dump: &Dump,
    key: &ServiceKey,
    pool: &Pool,
    look: Look,
    names: &Names,
) {
    let (kind, name) = match key {
        ServiceKey::Address { protocol, address } => {
            (upper(*protocol), names.endpoint(*protocol, *address))
        }
        ServiceKey::FirewallMark { family, mark } => (
            "FWM",
            match family {
                Family::V4 => mark.to_string(),
                Family::V6 => format!("{mark} IPv6"),
            },
        ),
    };
    let counters = || dump.services.get(key).copied().unwrap_or_default();
    match look.columns {
        Columns::Statistics => {
            let _ = write!(text, "{kind:<4} {name:<28}");
            numbers(text, totals(&counters()), look.exact);
        }
        Columns::Rates => {
            let _ = write!(text, "{kind:<4} {name:<28}");
            numbers(text, rates(&counters().rates), look.exact);
        }
        Columns::Plain | Columns::Thresholds | Columns::Persistent | Columns::Tunnels => {
            let service = &pool.service;
            let _ = write!(text, "{kind:<4} {name} {}", service.scheduler.as_str());
            let mut flags = service.flags;
            // ipvsadm does not show what these two schedulers have no name for.
            flags.sched3 &= !matches!(service.scheduler.as_str(), "sh" | "mh");
            let flags = flag_names(&service.scheduler, flags);
            if !flags.is_empty() {
                let _ = write!(text, " ({flags})");
            }
            if let Some(persistence) = &service.persistence {
                let _ = write!(text, " persistent {}", persistence.timeout.as_secs());
                if let Some(mask) = mask(key.family(), persistence.prefix_length) {
                    let _ = write!(text, " mask {mask}");
                }
                if let Some(engine) = &persistence.engine {
                    let _ = write!(text, " pe {engine}");
                }
            }
            if service.flags.one_packet {
                text.push_str(" ops");
            }
        }
    }
    text.push('\n');
}

fn destination_line(
    text: &mut String,
    destination: &Destination,
    counts: &DestinationStatistics,
    look: Look,
) {
    let Destination {
        forwarding,
        weight,
        upper_threshold,
        lower_threshold,
    } = destination;
    let DestinationStatistics {
        counters,
        active,
        inactive,
        persistent,
    } = counts;
    let _ = match look.columns {
        Columns::Plain => write!(
            text,
            " {:<7} {weight:<6} {active:<10} {inactive:<10}",
            method(*forwarding)
        ),
        Columns::Tunnels => write!(
            text,
            " {:<7} {:<13} {weight:<6} {active:<10} {inactive:<10}",
            method(*forwarding),
            tunnel(*forwarding)
        ),
        Columns::Thresholds => write!(
            text,
            " {upper_threshold:<10} {lower_threshold:<10} {active:<10} {inactive:<10}"
        ),
        Columns::Persistent => write!(
            text,
            " {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"
        ),
        Columns::Statistics => {
            numbers(text, totals(counters), look.exact);
            Ok(())
        }
        Columns::Rates => {
            numbers(text, rates(&counters.rates), look.exact);
            Ok(())
        }
    };
    text.push('\n');
}

/// The protocol by which the ports of a service are named.
fn protocol(key: &ServiceKey) -> Protocol {
    match key {
        ServiceKey::Address { protocol, .. } => *protocol,
        ServiceKey::FirewallMark { .. } => Protocol::Tcp,
    }
}

fn method(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Nat => "Masq",
        Forwarding::DirectRouting => "Route",
        Forwarding::Tunnel(_) => "Tunnel",
        Forwarding::LocalNode => "Local",
        Forwarding::Bypass => "Bypass",
    }
}

fn tunnel(forwarding: Forwarding) -> String {
    let sign = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match forwarding {
        Forwarding::Tunnel(Tunnel::Ipip) => "ipip".to_owned(),
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }) => {
            format!("gue:{port}:{}", sign(checksum))
        }
        Forwarding::Tunnel(Tunnel::Gre { checksum }) => format!("gre:{}", sign(checksum)),
        Forwarding::Nat
        | Forwarding::DirectRouting
        | Forwarding::LocalNode
        | Forwarding::Bypass => "n/a".to_owned(),
    }
}

fn totals(counters: &Statistics) -> [u64; 5] {
    let Statistics {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        rates: _,
    } = *counters;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

fn rates(rates: &Rates) -> [u64; 5] {
    let Rates {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = *rates;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

fn numbers(text: &mut String, numbers: [u64; 5], exact: bool) {
    for number in numbers {
        let _ = write!(text, " {:>8}", shortened(number, exact));
    }
}

/// A number of at most eight digits, or one in thousands, millions and so on, as ipvsadm has it.
fn shortened(number: u64, exact: bool) -> String {
    const MILLION: u64 = 1_000_000;
    match number {
        _ if exact => number.to_string(),
        0..100_000_000 => number.to_string(),
        100_000_000..1_000_000_000 => format!("{}K", number / 1000),
        1_000_000_000..100_000_000_000 => format!("{}M", number / MILLION),
        100_000_000_000..100_000_000_000_000 => format!("{}G", number / MILLION / 1000),
        _ => format!("{}T", number / MILLION / MILLION),
    }
}
