//! What a master holds beside addresses, in network namespaces of this machine: real ARP, real
//! packets, `ip` and `nft` as witnesses.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what fails here fails the test"
)]

mod adverts;
mod firewall;
mod lan;
mod routes;
mod virtual_mac;
