//! The labs of `docs/labs/` do what they say, command by command. That each has its test says
//! `native/labs.rs`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use lab::document;

/// Each is a test of its own.
macro_rules! labs {
    ($($test:ident $lab:literal),* $(,)?) => {
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
    a_tunnel_across_a_router_runs_as_written "tun",
    the_arp_experiment_runs_as_written "arp",
    persistence_runs_as_written "persistence",
    dns_over_udp_runs_as_written "udp",
    two_directors_in_ten_minutes_run_as_written "../getting-started",
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/labs")
}
