//! However often it was upgraded, a daemon that dies leaves nothing behind.

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use lab::pair::{ELECTION, Pair};
use lab::process::is_alive;
use lab::wait_until;

use crate::PATIENCE;

#[test]
fn the_guard_of_the_one_that_has_taken_over_does_its_work() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    let mut guards = vec![lb1.guard()?.context("no guard")?];
    for _ in 0..2 {
        lb1.upgrade()?;
        guards.push(lb1.guard()?.context("no guard after an upgrade")?);
    }
    let last = guards.pop().unwrap();
    wait_until(PATIENCE, "the end of the guards before", || {
        Ok(guards.iter().all(|guard| !is_alive(*guard)))
    })?;
    ensure!(!lb1.log().contains("vipd guard:"), "{}", lb1.log());
    let capture = pair.lb2.capture("proto 112")?;
    capture.wait_for(ELECTION, SystemTime::UNIX_EPOCH, &["10.77.0.11 >"])?;
    let at = lb1.kill_alone("KILL")?;
    let told = capture.wait_for(ELECTION, at, &["10.77.0.11 >", "prio 0"])?;
    println!(
        "priority 0 {:?} after the death",
        told.at.duration_since(at)?
    );
    pair.wait_for_holders(&["lb2"])?;
    wait_until(PATIENCE, "the end of the guard", || Ok(!is_alive(last)))?;
    // And the next one starts.
    lb1.start_again()?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_stop_after_an_upgrade_gives_everything_up() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    lb1.upgrade()?;
    let guard = lb1.guard()?.context("no guard")?;
    let socket = lb1.socket().to_owned();
    lb1.stop()?;
    pair.wait_for_holders(&["lb2"])?;
    ensure!(!is_alive(guard), "the guard outlives its daemon");
    ensure!(!socket.exists(), "the control socket is left");
    Ok(())
}
