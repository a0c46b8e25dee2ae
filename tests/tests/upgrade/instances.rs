//! Two instances on one machine, each in a network namespace of its own, as `vipd@.service` runs them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{Pair, fast};
use lab::process::is_alive;
use lab::{binary, wait_until};

use crate::{PATIENCE, monitor, seen};

/// The address of the second one.
const OTHER: &str = "10.77.0.20";

/// The network namespace of a process.
fn namespace(id: u32) -> Result<PathBuf> {
    fs::read_link(format!("/proc/{id}/ns/net")).with_context(|| format!("process {id}"))
}

#[test]
fn one_is_upgraded_in_its_namespace_and_the_other_notices_nothing() -> Result<()> {
    let pair = Pair::new()?;
    // What they share is the machine.
    let instance = fast(150, "accept = false\n");
    let other = instance
        .replace(VIP, OTHER)
        .replace("vrid = 51", "vrid = 52");
    let mut red = Director::start(&pair.lb1, &instance)?;
    let mut blue = Director::start(&pair.lb2, &other)?;
    red.wait_for_state("master")?;
    blue.wait_for_state("master")?;
    let spaces = [namespace(red.pid())?, namespace(blue.pid())?];
    ensure!(spaces[0] != spaces[1]);
    for _ in 0..2 {
        upgraded_alone(&pair, &mut red, &blue)?;
        upgraded_alone(&pair, &mut blue, &red)?;
    }
    for (director, space) in [(&red, &spaces[0]), (&blue, &spaces[1])] {
        let guard = director.guard()?.context("no guard")?;
        ensure!(namespace(director.pid())? == *space && namespace(guard)? == *space);
        // The lock of each namespace is its own one's.
        let file = pair.lab.folder().join("third.toml");
        fs::write(&file, fast(200, "").replace(VIP, "10.77.0.99"))?;
        let mut third = director.host.command(binary("vipd")?);
        let output = third.args(["run", "-c"]).arg(&file).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = format!("another vipd (process {})", director.pid());
        ensure!(text.contains(&words), "{text}");
    }
    // And the end of one is its own.
    let guard = red.guard()?.context("no guard")?;
    red.kill_alone("KILL")?;
    wait_until(PATIENCE, "the end of the guard", || Ok(!is_alive(guard)))?;
    pair.wait_for_holders(&[])?;
    ensure!(pair.lb2.has_address(OTHER)?);
    blue.wait_for_state("master").map(|_| ())
}

fn upgraded_alone(pair: &Pair, director: &mut Director, other: &Director) -> Result<()> {
    let watches = [monitor(&pair.lb1)?, monitor(&pair.lb2)?];
    let before = (other.pid(), other.guard()?, other.events()?);
    director.upgrade()?;
    director.wait_for_state("master")?;
    ensure!((other.pid(), other.guard()?, other.events()?) == before);
    for watch in &watches {
        let deleted = seen(watch).into_iter();
        let deleted: Vec<String> = deleted.filter(|line| line.contains("Deleted")).collect();
        ensure!(deleted.is_empty(), "{deleted:?}");
    }
    Ok(())
}
