//! The daemon is alive and does nothing.

use anyhow::Result;
use lab::cluster::VIP;
use lab::director::signal;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;

#[test]
fn a_hung_master_loses_its_addresses_and_has_them_again_when_it_wakes() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    signal(lb1.pid(), "STOP")?;
    pair.wait_for_holders(&["lb2"])?;
    let guard = "has not turned for";
    lb1.process().wait_for_output(ELECTION, guard)?;
    signal(lb1.pid(), "CONT")?;
    // Of the higher priority, it is master again.
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_event(&["guard.acted"])?;
    // And again: the guard has seen that it lived meanwhile.
    signal(lb1.pid(), "STOP")?;
    pair.wait_for_holders(&["lb2"])?;
    signal(lb1.pid(), "CONT")?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_hung_master_that_wakes_beside_a_better_one_is_backup_and_holds_nothing() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, mut lb2) = pair.start_fast("")?;
    // lb1 is the only one left, with less priority than the one that comes while it hangs.
    lb2.kill_alone("KILL")?;
    lb1.reload(&fast(90, ""))?;
    lb1.wait_for_status("/vrrp/0/priority/effective", &90.into())?;
    signal(lb1.pid(), "STOP")?;
    wait_until(ELECTION, "the address gone", || {
        Ok(!pair.lb1.has_address(VIP)?)
    })?;
    lb2.start_again()?;
    pair.wait_for_holders(&["lb2"])?;
    signal(lb1.pid(), "CONT")?;
    lb1.wait_for_state("backup")?;
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn a_hung_master_that_is_killed_leaves_nothing() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    signal(lb1.pid(), "STOP")?;
    lb1.kill_alone("KILL")?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.process().wait_for_output(ELECTION, "is dead")?;
    lb1.start_again()?;
    pair.wait_for_holders(&["lb1"])
}
