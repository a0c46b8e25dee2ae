//! Virtual routers that move together.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;
use serde_json::json;

const INSIDE: &str = "10.78.0.10";

fn both(priority: u8) -> String {
    let outside = fast(priority, "");
    let inside = outside
        .replace("web", "inside")
        .replace("eth0", "eth1")
        .replace("vrid = 51", "vrid = 52")
        .replace(VIP, INSIDE);
    format!("{outside}{inside}[[sync_group]]\nname = \"both\"\nmembers = [\"web\", \"inside\"]\n")
}

fn start() -> Result<(Pair, Director, Director)> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.78.0.11/24")?;
    pair.lab.add_interface(&pair.lb2, "eth1", "10.78.0.12/24")?;
    let (lb1, lb2) = pair.start_with(&both(150), &both(100))?;
    wait_for_both(&pair, "lb1")?;
    Ok((pair, lb1, lb2))
}

/// Waits until one director has both addresses, and the other none.
fn wait_for_both(pair: &Pair, wanted: &str) -> Result<()> {
    let mut seen = Vec::new();
    let what = format!("both addresses on {wanted}");
    wait_until(ELECTION, &what, || {
        seen.clear();
        for host in [&pair.lb1, &pair.lb2] {
            let has = [host.has_address(VIP)?, host.has_address_on("eth1", INSIDE)?];
            seen.push((host.name().to_owned(), has));
        }
        Ok(seen.iter().all(|(name, has)| *has == [name == wanted; 2]))
    })
    .with_context(|| format!("{seen:?}"))
    .map(|_| ())
}

#[test]
fn pulling_one_cable_of_a_sync_group_moves_both_and_its_return_brings_both_back() -> Result<()> {
    let (pair, lb1, lb2) = start()?;
    for (cable, other) in [("eth1", 0), ("eth0", 1)] {
        lb1.wait_for_event(&["sync_group.master both: master"])?;
        pair.lab.pull_cable_of(&pair.lb1, cable)?;
        wait_for_both(&pair, "lb2")?;
        lb1.wait_for_event(&["sync_group.fault both: fault, was master"])?;
        lb2.wait_for_event(&["sync_group.master both: master, was backup"])?;
        let faults = lb1.status()?["vrrp"][other]["faults"].to_string();
        anyhow::ensure!(faults.contains("sync group"), "{faults}");
        lb2.wait_for_status("/vrrp/0/state", &json!("master"))?;
        lb2.wait_for_status("/vrrp/1/state", &json!("master"))?;
        pair.lab.plug_cable_of(&pair.lb1, cable)?;
        wait_for_both(&pair, "lb1")?;
    }
    Ok(())
}

#[test]
fn a_stop_hands_both_members_of_a_sync_group_over() -> Result<()> {
    let (pair, lb1, lb2) = start()?;
    lb1.stop()?;
    wait_for_both(&pair, "lb2")?;
    lb2.wait_for_event(&["vrrp.master web", "10.77.0.11 gave up"])?;
    lb2.wait_for_event(&["vrrp.master inside", "10.78.0.11 gave up"])?;
    Ok(())
}

#[test]
fn a_switchover_of_one_member_moves_the_whole_sync_group() -> Result<()> {
    let (pair, lb1, lb2) = start()?;
    lb1.vipctl(&["switchover", "inside"])?;
    wait_for_both(&pair, "lb2")?;
    std::thread::sleep(Duration::from_secs(1));
    wait_for_both(&pair, "lb2")?;
    lb2.vipctl(&["switchover", "web"])?;
    wait_for_both(&pair, "lb1")
}
