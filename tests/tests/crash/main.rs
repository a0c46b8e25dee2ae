//! However the daemon dies, nothing is left behind, and the next one starts. Directors are network
//! namespaces of this machine; `ip` and `tcpdump` tell what happened, and when. They need root, and no
//! IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod death;
mod hang;
mod instances;
mod leftovers;
mod secrets;
