//! Interfaces that are missing, come late, vanish, and come back as others.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;
use serde_json::json;

const MISSING: &str = "the interface does not exist";

#[test]
fn an_interface_that_is_renamed_away_is_a_fault_until_it_has_its_name_again() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    for _ in 0..2 {
        pair.lb1.ip("link set eth0 down")?;
        pair.lb1.ip("link set eth0 name old0")?;
        pair.lb1.ip("link set old0 up")?;
        lb1.wait_for_status("/vrrp/0/faults", &json!([MISSING]))?;
        pair.wait_for_lb2_alone()?;
        ensure!(
            !pair.lb1.has_address_on("old0", VIP)?,
            "the address stayed on the renamed interface"
        );
        pair.lb1.ip("link set old0 down")?;
        pair.lb1.ip("link set old0 name eth0")?;
        pair.lb1.ip("link set eth0 up")?;
        pair.wait_for_holders(&["lb1"])?;
    }
    Ok(())
}

#[test]
fn an_interface_that_is_renamed_while_it_is_up_takes_no_address_along() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    pair.lb1.ip("link set eth0 name old0")?;
    lb1.wait_for_status("/vrrp/0/faults", &json!([MISSING]))?;
    wait_until(ELECTION, "the address has left the interface", || {
        Ok(!pair.lb1.has_address_on("old0", VIP)?)
    })?;
    pair.wait_for_lb2_alone()?;
    pair.lb1.ip("link set old0 name eth0")?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn an_interface_that_comes_late_and_is_recreated_is_used_each_time() -> Result<()> {
    let pair = Pair::new()?;
    pair.lb1.ip("link del eth0")?;
    let (lb1, lb2) = pair.start_with(&fast(150, ""), &fast(100, ""))?;
    lb1.wait_for_status("/vrrp/0/faults", &json!([MISSING]))?;
    for _ in 0..3 {
        pair.wait_for_lb2_alone()?;
        pair.lab.plug(&pair.lb1)?;
        pair.lb1.ip("addr add 10.77.0.11/24 dev eth0")?;
        pair.wait_for_holders(&["lb1"])?;
        // Adverts of the new interface are heard, and it hears.
        lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.11"))?;
        pair.lb1.ip("link del eth0")?;
        lb1.wait_for_state("fault")?;
    }
    ensure!(lb1.log().contains(MISSING), "{}", lb1.log());
    Ok(())
}

#[test]
fn a_cable_that_flaps_twenty_times_ends_where_it_ends() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    for pause in 0..20 {
        pair.lab.pull_cable(&pair.lb1)?;
        sleep(Duration::from_millis(pause * 7 % 50));
        pair.lab.plug_cable(&pair.lb1)?;
        sleep(Duration::from_millis(pause * 13 % 90));
    }
    pair.wait_for_holders(&["lb1"])?;
    sleep(Duration::from_secs(1));
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/vrrp/0/rival", &json!(null))?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.11"))?;
    pair.lab.pull_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_status("/vrrp/0/faults", &json!(["the interface is down"]))?;
    pair.lab.plug_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_director_alone_whose_cable_flaps_holds_its_address_again() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &fast(150, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    pair.lab.pull_cable(&pair.lb1)?;
    pair.wait_for_holders(&[])?;
    pair.lab.plug_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_state("master")?;
    Ok(())
}

/// `Pair::wait_for_holders` cannot be asked where the first host has no `eth0`.
trait Alone {
    fn wait_for_lb2_alone(&self) -> Result<()>;
}

impl Alone for Pair {
    fn wait_for_lb2_alone(&self) -> Result<()> {
        wait_until(ELECTION, "the address on lb2", || self.lb2.has_address(VIP)).map(|_| ())
    }
}
