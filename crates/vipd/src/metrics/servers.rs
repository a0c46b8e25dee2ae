//! The metrics of virtual servers and their real servers.

use super::checks::{self, Failures};
use super::family::{Families, Labels};
use super::totals::{Totals, numbers};
use crate::status::{RealServerStatus, VirtualServerStatus};

/// Name and help of what is counted of every virtual server, in the order of [`numbers`].
const OF_VIRTUAL_SERVERS: [(&str, &str); 5] = [
    ("vipd_virtual_server_connections", "Connections scheduled"),
    ("vipd_virtual_server_in_packets", "Packets from clients"),
    (
        "vipd_virtual_server_out_packets",
        "Packets to clients (NAT)",
    ),
    ("vipd_virtual_server_in_bytes", "Bytes from clients"),
    ("vipd_virtual_server_out_bytes", "Bytes to clients (NAT)"),
];

/// The same of every real server. The connections that it has now are called
/// `vipd_real_server_connections`, so those that it was given have another name.
const OF_REAL_SERVERS: [(&str, &str); 5] = [
    (
        "vipd_real_server_scheduled_connections",
        "Connections scheduled to it",
    ),
    ("vipd_real_server_in_packets", "Packets from clients to it"),
    (
        "vipd_real_server_out_packets",
        "Packets from it to clients (NAT)",
    ),
    ("vipd_real_server_in_bytes", "Bytes from clients to it"),
    (
        "vipd_real_server_out_bytes",
        "Bytes from it to clients (NAT)",
    ),
];

/// A real server, its labels and what is counted of it.
struct Row<'a> {
    real: &'a RealServerStatus,
    labels: Labels,
    counted: [u64; 5],
    failures: &'a Failures,
}

/// The virtual servers and their real servers, of which there may be ten thousand: each metric is written
/// for all of them at once.
pub(super) fn write(
    servers: &[VirtualServerStatus],
    failures: &[Vec<Failures>],
    totals: &mut Totals,
    families: &mut Families,
) {
    totals.begin();
    let mut rows = Vec::with_capacity(failures.iter().map(Vec::len).sum());
    for (server, failures) in servers.iter().zip(failures) {
        let labels = Labels::new([("virtual_server", &server.name)]);
        virtual_server(server, &labels, totals, families);
        for (real, failures) in server.real_servers.iter().zip(failures) {
            let counted = numbers(&real.counters);
            rows.push(Row {
                real,
                labels: labels.with("real_server", &real.address),
                counted: totals.count(&server.name, Some(&real.address), counted),
                failures,
            });
        }
    }
    totals.end();
    real_servers(&rows, families);
}

fn virtual_server(
    server: &VirtualServerStatus,
    labels: &Labels,
    totals: &mut Totals,
    families: &mut Families,
) {
    families
        .gauge(
            "vipd_virtual_server_quorum_up",
            "Whether the virtual server has quorum",
        )
        .push((labels, u64::from(server.quorum.up)));
    families
        .gauge(
            "vipd_virtual_server_panic",
            "Whether fewer than minimum_up pass and some that fail are kept",
        )
        .push((labels, u64::from(server.panic)));
    let counted = totals.count(&server.name, None, numbers(&server.counters));
    for ((name, help), value) in OF_VIRTUAL_SERVERS.into_iter().zip(counted) {
        families.counter(name, help).push((labels, value));
    }
}

fn real_servers(rows: &[Row<'_>], families: &mut Families) {
    let Some(row) = rows.first() else {
        return;
    };
    let line = row.labels.len() + 64;
    let up = families.gauge("vipd_real_server_up", "Whether all checks pass");
    up.reserve(rows.len() * line);
    for row in rows {
        // A real server that drains may pass all the same.
        let passes = row.real.checks.iter().all(|check| check.state == "up");
        up.push((&row.labels, u64::from(passes)));
    }
    let weight = families.gauge(
        "vipd_real_server_weight",
        "The weight in the kernel's table",
    );
    weight.reserve(rows.len() * line);
    for row in rows {
        weight.push((&row.labels, u64::from(row.real.weight.effective)));
    }
    let connections = families.gauge(
        "vipd_real_server_connections",
        "Connections, as the kernel counts",
    );
    connections.reserve(rows.len() * 3 * line);
    for Row { real, labels, .. } in rows {
        let now = &real.connections;
        for (state, value) in [
            ("active", now.active),
            ("inactive", now.inactive),
            ("persistent", now.persistent),
        ] {
            connections.push_with(labels, "state", state, u64::from(value));
        }
    }
    for (index, (name, help)) in OF_REAL_SERVERS.into_iter().enumerate() {
        let counter = families.counter(name, help);
        counter.reserve(rows.len() * line);
        for row in rows {
            let value = row.counted.get(index).copied().unwrap_or(0);
            counter.push((&row.labels, value));
        }
    }
    for row in rows {
        checks::failures(&row.labels, row.failures, families);
    }
}
