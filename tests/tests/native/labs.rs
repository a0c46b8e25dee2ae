//! The labs of `docs/labs/` as documents, and those that need no IPVS as they run. The others are
//! tests of `guest/labs.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::document::{self, Document};

/// Only `cargo xtask lab all` runs these.
const LONG: [&str; 1] = ["nfs"];
const NATIVE: [&str; 1] = ["split-brain"];

#[test]
fn the_split_brain_experiment_runs_as_written() -> Result<()> {
    document::run(&folder().join("split-brain.md"), |line| println!("{line}"))
}

#[test]
fn every_lab_makes_sense_and_is_listed_and_run() -> Result<()> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy();
        if name != "README" {
            Document::read(&path)?;
            found.insert(name.into_owned());
        }
    }
    ensure!(found.len() > 10, "only {found:?}");
    let guest = fs::read_to_string(folder().join("../../tests/tests/guest/labs.rs"))?;
    let list = fs::read_to_string(folder().join("README.md"))?;
    for name in found {
        let here = LONG.contains(&name.as_str()) || NATIVE.contains(&name.as_str());
        ensure!(
            here || guest.contains(&format!("\"{name}\"")),
            "no test runs {name}"
        );
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
