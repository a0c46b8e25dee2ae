//! Everything that virtual routers do, seen from outside: directors, clients and strangers are
//! network namespaces of this machine; `ip`, `ping` and `tcpdump` tell what happened. They need
//! root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod accept;
mod authentication;
mod discards;
mod election;
mod interface;
mod ipv6;
mod operator;
mod paths;
mod split_brain;
mod sync_group;
mod track;
mod virtual_mac;
