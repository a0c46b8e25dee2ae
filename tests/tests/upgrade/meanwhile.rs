//! What happens while the new process is told everything: the old one is the director still, and neither
//! deaf nor blind.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::pair::Pair;
use lab::process::Process;
use lab::{binary, wait_until};

use crate::{PATIENCE, pretender};

/// How long the new process of these tests takes to take everything in.
const SLOW: &str = "7";
/// Well before that.
const SOON: Duration = Duration::from_secs(4);

/// A director that is at this moment telling a process everything, which takes its time.
struct Telling {
    vipctl: Process,
}

impl Telling {
    fn begin(pair: &Pair, director: &Director) -> Result<Telling> {
        let told = pair.lab.folder().join("told");
        let program = pretender(
            pair,
            "slow",
            &format!("open({told:?}, 'w').close(); time.sleep({SLOW})"),
            "time.sleep(600)",
        )?;
        let socket = director.socket().to_string_lossy();
        let words = ["--socket", &socket, "upgrade", "--binary", &program];
        let vipctl = director.host.spawn("vipctl", &binary("vipctl")?, &words)?;
        wait_until(PATIENCE, "the new process is told", || Ok(told.exists()))?;
        Ok(Telling { vipctl })
    }

    /// It does not come about, and `vipctl upgrade` says why.
    fn fails(mut self, why: &str) -> Result<()> {
        let status = self.vipctl.wait(PATIENCE)?;
        let said = self.vipctl.output();
        ensure!(status.code() == Some(1), "{status}: {said}");
        ensure!(said.contains(why), "{said}");
        Ok(())
    }
}

#[test]
fn a_backup_that_becomes_master_meanwhile_has_the_addresses_at_once() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, mut lb2) = pair.start_fast("")?;
    let telling = Telling::begin(&pair, &lb2)?;
    let begin = Instant::now();
    lb1.kill_alone("KILL")?;
    pair.wait_for_holders(&["lb2"])?;
    let after = begin.elapsed();
    println!("the addresses are there after {after:?}");
    ensure!(after < SOON, "the addresses came {after:?} after the death");
    telling.fails("virtual router web is master since a moment ago: try again")?;
    ensure!(begin.elapsed() < SOON, "it was said late");
    lb2.wait_for_event(&["upgrade.failed", "try again"])?;
    lb2.wait_for_state("master")?;
    lb2.upgrade()?;
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn an_interface_that_is_lost_meanwhile_counts_at_once() -> Result<()> {
    let pair = Pair::new()?;
    for host in [&pair.lb1, &pair.lb2] {
        host.ip("link add uplink type veth peer name upstream")?;
        host.ip("link set upstream up")?;
        host.ip("link set uplink up")?;
    }
    let (lb1, _lb2) = pair.start_fast("track = [{ interface = \"uplink\" }]\n")?;
    let telling = Telling::begin(&pair, &lb1)?;
    let begin = Instant::now();
    // It answers, too.
    lb1.wait_for_state("master")?;
    pair.lb1.ip("link set uplink down")?;
    pair.wait_for_holders(&["lb2"])?;
    let after = begin.elapsed();
    ensure!(after < SOON, "it gave up {after:?} after the loss");
    telling.fails("try again")?;
    lb1.wait_for_state("fault").map(|_| ())
}

#[test]
fn a_stop_meanwhile_is_a_stop() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    let telling = Telling::begin(&pair, &lb1)?;
    let begin = Instant::now();
    lb1.kill_alone("TERM")?;
    let after = begin.elapsed();
    ensure!(after < SOON, "it stopped {after:?} after it was told to");
    telling.fails("it is to stop")?;
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn an_order_that_is_being_written_down_is_not_lost() -> Result<()> {
    let pair = Pair::new()?;
    let (_lb1, mut lb2) = pair.start_fast("")?;
    // A disk that takes its time: who writes waits for who reads.
    let disk = lb2.state_dir().join("maintenance.new");
    fs::create_dir_all(lb2.state_dir())?;
    lab::run(std::process::Command::new("mkfifo").arg(&disk))?;
    let socket = lb2.socket().to_string_lossy().into_owned();
    let words = ["--socket", &*socket, "maintenance", "on"];
    let order = lb2.host.spawn("order", &binary("vipctl")?, &words)?;
    wait_until(PATIENCE, "it is being written", || {
        let mut waits = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", lb2.pid()))? {
            waits.extend(fs::read_to_string(task?.path().join("wchan")));
        }
        Ok(waits.iter().any(|at| at == "wait_for_partner"))
    })?;
    let why = lb2.refused(&["upgrade"])?;
    ensure!(why.contains("an order is being carried out"), "{why}");
    drop(fs::read(&disk)?);
    fs::remove_file(&disk)?;
    drop(order);
    lb2.vipctl(&["maintenance", "on"])?;
    lb2.upgrade()?;
    lb2.wait_for_state("fault").map(|_| ())
}
