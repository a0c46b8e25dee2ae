//! An upgrade that nobody notices: another process takes the daemon's place while adverts, addresses and
//! everything else go on; and one that fails, after which everything is as it was. Directors are network
//! namespaces of this machine; they need root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod carried;
mod failed;
mod guarded;
mod instances;
mod meanwhile;
mod unnoticed;

use std::time::Duration;

use anyhow::Result;
use lab::Host;
use lab::process::Process;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What happens on a host from now on to interfaces, addresses, routes and rules, as `ip monitor` tells.
pub(crate) fn monitor(host: &Host) -> Result<Process> {
    host.monitor(&["link", "address", "route", "rule"])
}

/// What `ip monitor` saw, but for what it was tried with, and the addresses that the kernel makes for an
/// interface of its own accord.
pub(crate) fn seen(monitor: &Process) -> Vec<String> {
    let text = monitor.output();
    // iproute2 complains of interfaces whose other end is in a namespace without a number.
    let noise = ["192.0.2.99", "fe80::", "Error: Peer netns reference"];
    let ours = |line: &&str| !noise.iter().any(|noise| line.contains(noise));
    text.lines().filter(ours).map(str::to_owned).collect()
}
