//! The metrics of virtual servers and their real servers.

use super::checks::{self, Failures};
use super::family::{Families, Labels};
use super::totals::{Totals, numbers};
use crate::status::VirtualServerStatus;

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

/// One virtual server with its real servers.
pub(super) fn write(
    server: &VirtualServerStatus,
    failures: &[Failures],
    totals: &mut Totals,
    families: &mut Families,
) {
    let labels = Labels::new([("virtual_server", &server.name)]);
    families
        .gauge(
            "vipd_virtual_server_quorum_up",
            "Whether the virtual server has quorum",
        )
        .push((labels.clone(), u64::from(server.quorum.up)));
    families
        .gauge(
            "vipd_virtual_server_panic",
            "Whether fewer than minimum_up pass and some that fail are kept",
        )
        .push((labels.clone(), u64::from(server.panic)));
    let counted = totals.count(&server.name, None, numbers(&server.counters));
    for ((name, help), value) in OF_VIRTUAL_SERVERS.into_iter().zip(counted) {
        families.counter(name, help).push((labels.clone(), value));
    }
    for (real, failures) in server.real_servers.iter().zip(failures) {
        let labels = Labels::new([
            ("virtual_server", &server.name),
            ("real_server", &real.address),
        ]);
        // A real server that drains may pass all the same.
        let passes = real.checks.iter().all(|check| check.state == "up");
        families
            .gauge("vipd_real_server_up", "Whether all checks pass")
            .push((labels.clone(), u64::from(passes)));
        families
            .gauge(
                "vipd_real_server_weight",
                "The weight in the kernel's table",
            )
            .push((labels.clone(), u64::from(real.weight.effective)));
        let connections = &real.connections;
        for (state, value) in [
            ("active", connections.active),
            ("inactive", connections.inactive),
            ("persistent", connections.persistent),
        ] {
            families
                .gauge(
                    "vipd_real_server_connections",
                    "Connections, as the kernel counts",
                )
                .push((labels.with("state", state), u64::from(value)));
        }
        let counted = totals.count(&server.name, Some(&real.address), numbers(&real.counters));
        for ((name, help), value) in OF_REAL_SERVERS.into_iter().zip(counted) {
            families.counter(name, help).push((labels.clone(), value));
        }
        checks::failures(&labels, failures, families);
    }
}
