//! The labs of `docs/labs/` do what they say, command by command.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::document::{self, Document};

/// Only `cargo xtask lab all` runs these.
const LONG: [&str; 0] = [];

/// Each is a test of its own.
macro_rules! labs {
    ($($test:ident $lab:literal),* $(,)?) => {
        const HERE: &[&str] = &[$($lab),*];
        $(
            #[test]
            fn $test() -> Result<()> {
                document::run(&folder().join(concat!($lab, ".md")), |line| println!("{line}"))
            }
        )*
    };
}

labs! {
    direct_routing_runs_as_written "dr",
    nat_with_two_networks_runs_as_written "nat",
    full_nat_runs_as_written "fullnat",
    a_tunnel_across_a_router_runs_as_written "tun",
    the_arp_experiment_runs_as_written "arp",
    persistence_runs_as_written "persistence",
    layer_4_before_layer_7_runs_as_written "tomcat",
    content_shared_by_nfs_runs_as_written "nfs",
    checks_in_place_of_scripts_run_as_written "checks",
    dns_over_udp_runs_as_written "udp",
    sctp_runs_as_written "sctp",
    ipv6_runs_as_written "ipv6",
    the_move_from_keepalived_runs_as_written "keepalived",
    the_split_brain_experiment_runs_as_written "split-brain",
}

#[test]
fn every_lab_is_run_and_listed() -> Result<()> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy();
        if name != "README" {
            Document::read(&path)?;
            found.insert(name.into_owned());
        }
    }
    let known: BTreeSet<String> = HERE.iter().chain(&LONG).map(|&n| n.to_owned()).collect();
    ensure!(found == known, "{found:?} are there, {known:?} are run");
    let list = fs::read_to_string(folder().join("README.md"))?;
    for name in found {
        ensure!(
            list.contains(&format!("| [{name}]({name}.md) |")),
            "{name} is not in docs/labs/README.md"
        );
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/labs")
}
