//! Reload as a transaction, seen from outside: what takes effect, what stays in place meanwhile, what
//! goes back by itself, and what changes nothing. Directors are network namespaces of this machine;
//! they need root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod in_place;
mod matrix;
mod orders;
mod refused;
mod storm;
mod trial;

use std::process::Output;
use std::time::Duration;

use anyhow::Result;
use lab::director::Director;
use lab::process::Process;
use lab::{Host, binary};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A virtual router of version 3 with ten adverts a second.
pub(crate) fn router(name: &str, vrid: u8, priority: u8, addresses: &str) -> String {
    format!(
        "[[vrrp]]\nname = \"{name}\"\ninterface = \"eth0\"\nvrid = {vrid}\nversion = 3\n\
         priority = {priority}\nadvert_interval = \"100ms\"\nvirtual_addresses = [{addresses}]\n"
    )
}

/// `vipctl WORDS` with its exit code and all that it says.
pub(crate) fn vipctl(director: &Director, words: &[&str]) -> Result<Output> {
    let mut vipctl = director.host.command(binary("vipctl")?);
    vipctl.arg("--socket").arg(director.socket()).args(words);
    Ok(vipctl.output()?)
}

/// What happens to addresses on a host from now on, as `ip monitor` tells.
pub(crate) fn monitor(host: &Host) -> Result<Process> {
    host.monitor(&["address"])
}

/// The addresses that `ip monitor` saw go, but for those of the loopback interface.
pub(crate) fn deleted(monitor: &Process) -> Vec<String> {
    let text = monitor.output();
    let gone = text
        .lines()
        .filter(|line| line.contains("Deleted") && !line.contains(" lo "));
    gone.map(str::to_owned).collect()
}
