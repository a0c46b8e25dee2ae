//! What doctor finds, each fault made for real in network namespaces: exactly its code is found, what the
//! remedy says is done literally, and it is gone. A healthy cluster has no finding. What needs IPVS is in
//! `tests/tests/guest/doctor.rs`.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod addresses;
mod adverts;
mod clock;
mod files;
mod hang;
mod host;
mod real_servers;

use anyhow::Result;
use lab::cluster::VIP;
use lab::doctor::{examine, examine_file};
use lab::pair::{Pair, fast};

/// This machine's kernel may have no IPVS: doctor says so where virtual servers are configured.
pub(crate) fn with_ipvs<'c>(codes: &[&'c str]) -> Vec<&'c str> {
    let mut codes = codes.to_vec();
    if !std::path::Path::new("/proc/net/ip_vs").exists() {
        codes.push("VIP-IPVS-001");
    }
    codes
}

/// The classic cluster's configuration without its `[global]`, which is doctor's own.
pub(crate) fn config(priority: u8, weight: u32) -> String {
    let text = lab::cluster::config("lb1", priority, weight);
    let text = text.replacen("[global]\nname = \"lb1\"\n", "", 1);
    // Else `vipd check` warns, and doctor with it.
    text.replace("timeout = \"2s\"", "timeout = \"1s\"")
}

#[test]
fn virtual_servers_without_ipvs_are_found_where_the_kernel_has_none() -> Result<()> {
    let pair = Pair::new()?;
    let server = format!(
        "[[virtual_server]]\nname = \"http\"\naddress = \"{VIP}:80\"\nscheduler = \"rr\"\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.11\"\n"
    );
    let found = examine_file(&pair.lb1, &server)?;
    found.has(&with_ipvs(&[]))?;
    if found.codes().contains("VIP-IPVS-001") {
        let line = found.line("VIP-IPVS-001")?;
        anyhow::ensure!(line == "'modprobe' '-a' 'ip_vs' 'ip_vs_rr'", "{line}");
    }
    Ok(())
}

#[test]
fn a_healthy_pair_has_no_finding_on_master_and_backup_with_and_without_the_daemon() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    for director in [&lb1, &lb2] {
        let report = examine(director)?;
        report.has(&[])?;
        let took = report.took_ms();
        anyhow::ensure!(took.is_some_and(|took| took < 10_000), "{took:?}");
        examine_file(&director.host, &fast(150, ""))?.has(&[])?;
        let page = director.vipctl(&["doctor"])?;
        anyhow::ensure!(page.starts_with("nothing found, after "), "{page}");
    }
    // Looking is no event, and moves nothing.
    for director in [&lb1, &lb2] {
        let events = director.events()?.join("\n");
        for kind in ["conflict", "suspect", "answered", "rival"] {
            anyhow::ensure!(!events.contains(kind), "{events}");
        }
    }
    pair.wait_for_holders(&["lb1"])
}
