//! The labs of `docs/labs/` as documents, and those that need no IPVS as they run. The others are
//! tests of `guest/labs.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::document::{self, Document};

/// Only `cargo xtask lab all` runs these.
const LONG: [&str; 7] = [
    "checks",
    "fullnat",
    "ipv6",
    "keepalived",
    "nfs",
    "sctp",
    "tomcat",
];
const NATIVE: [&str; 1] = ["split-brain"];

#[test]
fn the_split_brain_experiment_runs_as_written() -> Result<()> {
    document::run(&folder().join("split-brain.md"), |line| println!("{line}"))
}

#[test]
fn a_document_that_is_not_true_fails_with_its_line() -> Result<()> {
    let text = "A drawing.\n\n```lab\nrs1 eth0 lan 10.77.0.21/24\n```\n\n\
                On rs1, `/etc/word`:\n\n```text rs1:/etc/word\nyes\n```\n\n\
                On rs1:\n\n```sh rs1 once\ncat /etc/word; hostname\n```\n```prints\nno\nrs1\n```\n";
    let file = std::env::temp_dir().join(format!("vipd-lab-{}.md", std::process::id()));
    let run = |text: &str| -> Result<()> {
        fs::write(&file, text)?;
        document::run(&file, |_| ())
    };
    let (wrong, right) = (run(text), run(&text.replace("no\n", "yes\n")));
    let failing = run(&text
        .replace("cat /etc/word; hostname", "false")
        .replace("prints", "text"));
    fs::remove_file(&file)?;
    right?;
    let said =
        |result: Result<()>| result.map_or_else(|error| format!("{error:#}"), |()| String::new());
    let (wrong, failing) = (said(wrong), said(failing));
    ensure!(
        wrong.contains(".md:15: rs1") && wrong.contains("yes"),
        "{wrong}"
    );
    ensure!(
        failing.contains(".md:15: rs1: the commands failed"),
        "{failing}"
    );
    ensure!(
        !Path::new("/etc/word").exists(),
        "the machine's file is this one's"
    );
    Ok(())
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
        let long = LONG.contains(&name.as_str());
        let star = if long { "" } else { "* " };
        ensure!(
            list.contains(&format!("| [{name}]({name}.md) {star}|")),
            "{name} is not in docs/labs/README.md as it is run"
        );
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/labs")
}
