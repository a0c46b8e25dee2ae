//! Reloads as fast as anybody can send them: the adverts keep their pace, and nothing is left behind.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::capture::longest_gap;
use lab::director::Director;
use lab::pair::Pair;
use lab::process::resident_memory;

use crate::{PATIENCE, router};

const RELOADS: u32 = 200;
/// A minute for all of them is the promise; faster is harder.
const PACE: Duration = Duration::from_millis(60);
/// How much memory may come and go.
const MEMORY_SLACK: f64 = 8.0;

#[test]
fn two_hundred_reloads_leave_the_pace_of_adverts_alone_and_nothing_behind() -> Result<()> {
    let pair = Pair::new()?;
    let steady = |priority| router("steady", 51, priority, "\"10.77.0.10/24\"");
    let config = |turn: u32| {
        let other = match turn % 4 {
            0 => router("a", 52, 100, "\"10.77.0.20/24\", \"10.77.0.21/24\""),
            1 => router("b", 52, 120, "\"10.77.0.20/24\""),
            2 => router("b", 53, 120, "\"10.77.0.22/24\""),
            _ => String::new(),
        };
        format!(
            "{}{other}",
            steady(if turn.is_multiple_of(2) { 150 } else { 140 })
        )
    };
    let lb1 = Director::start(&pair.lb1, &config(3))?;
    pair.wait_for_holders(&["lb1"])?;
    let warm = |turns: u32| -> Result<()> {
        for turn in 0..turns {
            lb1.reload(&config(turn))?;
            sleep(PACE);
        }
        let done = lb1.vipctl(&["reload"])?;
        ensure!(done.contains("configuration reloaded"), "{done}");
        Ok(())
    };
    // What the first ones allocate once is no leak.
    warm(20)?;
    let before = Held::of(&lb1)?;
    let capture = pair.lb2.capture("proto 112")?;
    let began = Instant::now();
    warm(RELOADS)?;
    let took = began.elapsed();
    sleep(Duration::from_millis(300));
    let adverts = capture.packets();
    let of_steady = adverts
        .iter()
        .filter(|packet| packet.text.contains("vrid 51"))
        .collect::<Vec<_>>();
    let longest = longest_gap(of_steady.iter().copied()).context("no adverts")?;
    let mut after = Held::of(&lb1)?;
    lab::wait_until(
        PATIENCE,
        "as many descriptors and addresses as before",
        || {
            after = Held::of(&lb1)?;
            Ok(after.descriptors <= before.descriptors && after.addresses == before.addresses)
        },
    )
    .with_context(|| format!("{before:?} then {after:?}"))?;
    println!(
        "{RELOADS} reloads in {took:?}: longest gap between adverts {longest:?}, {} adverts, \
         {before:?} then {after:?}",
        of_steady.len()
    );
    ensure!(of_steady.len() > 50, "{} adverts", of_steady.len());
    // An interval and 10 ms is what a release build on a quiet machine keeps; a peer would wait for
    // three of them.
    ensure!(longest < Duration::from_millis(300), "a gap of {longest:?}");
    ensure!(
        after.memory < before.memory + MEMORY_SLACK,
        "{before:?} then {after:?}"
    );
    ensure!(
        adverts
            .iter()
            .all(|packet| !packet.text.contains("vrid 51, prio 0")),
        "it gave up"
    );
    Ok(())
}

/// What a daemon has in use.
#[derive(Debug)]
struct Held {
    /// MiB.
    memory: f64,
    descriptors: usize,
    addresses: usize,
}

impl Held {
    fn of(director: &Director) -> Result<Held> {
        let pid = daemon(director.pid())?;
        let addresses = director.host.run("ip -o address show dev eth0")?;
        Ok(Held {
            memory: resident_memory(pid)?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            addresses: addresses.lines().count(),
        })
    }
}

/// The process itself, where the one that was started has only started it.
fn daemon(pid: u32) -> Result<u32> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    if name.trim() == "vipd" {
        return Ok(pid);
    }
    let output = Command::new("pgrep")
        .args(["-P", &pid.to_string(), "vipd"])
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
