//! `vipctl switchover` and `vipctl maintenance`.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{Pair, fast};
use lab::ping::Ping;
use serde_json::json;

/// A handover without an overlap would be silent for the peer's skew, a third of a second or more.
const SLOW: &str = "advert_interval = \"500ms\"";

fn slow(priority: u8) -> String {
    fast(priority, "").replace("advert_interval = \"100ms\"", SLOW)
}

#[test]
fn a_switchover_moves_the_address_without_a_gap_and_back_again_from_the_other_side() -> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let (lb1, lb2) = pair.start_with(&slow(150), &slow(100))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    let ping = Ping::start(&client, VIP)?;
    let said = lb1.vipctl(&["switchover", "web"])?;
    ensure!(
        said.contains("10.77.0.12 (priority 100) is master; handed over in"),
        "{said}"
    );
    pair.wait_for_holders(&["lb2"])?;
    // Its priority is higher, and it stays backup: more than two master-down times.
    sleep(Duration::from_secs(4));
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_state("backup")?;
    lb1.wait_for_status("/vrrp/0/yielded", &json!(true))?;
    lb1.wait_for_event(&["switchover web", "operator"])?;
    lb2.wait_for_event(&["vrrp.master web", "10.77.0.11 gave up"])?;
    let said = lb2.vipctl(&["switchover", "web"])?;
    ensure!(
        said.contains("10.77.0.11 (priority 150) is master"),
        "{said}"
    );
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/vrrp/0/yielded", &json!(false))?;
    let answers = ping.stop()?;
    ensure!(answers.longest_silence < 250, "a gap: {answers:?}");
    ensure!(answers.answered > 1_000, "{answers:?}");
    Ok(())
}

#[test]
fn a_switchover_without_a_peer_says_so_and_loses_no_packet() -> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let lb1 = Director::start(&pair.lb1, &fast(150, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    let ping = Ping::start(&client, VIP)?;
    let said = lb1.refused(&["switchover", "web"])?;
    ensure!(
        said.contains("web: nobody took over; this director is still master"),
        "{said}"
    );
    lb1.wait_for_state("master")?;
    let answers = ping.stop()?;
    ensure!(answers.longest_silence == 0, "{answers:?}");
    lb1.wait_for_event(&["vrrp.master web", "nobody took over"])?;
    Ok(())
}

#[test]
fn a_switchover_that_cannot_be_is_refused_with_words() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    let said = lb2.refused(&["switchover", "web"])?;
    ensure!(
        said.contains("web is not master here (backup; master 10.77.0.11)"),
        "{said}"
    );
    let said = lb1.refused(&["switchover", "wbe"])?;
    ensure!(
        said.contains("there is no virtual router wbe; known: web"),
        "{said}"
    );
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/vrrp/0/transitions", &json!(2))?;
    Ok(())
}

#[test]
fn a_director_that_handed_over_takes_back_from_a_dead_successor() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, mut lb2) = pair.start_fast("takeover_probe = \"off\"")?;
    lb1.vipctl(&["switchover", "web"])?;
    pair.wait_for_holders(&["lb2"])?;
    lb2.kill()?;
    lb1.wait_for_state("master")?;
    lb1.wait_for_status("/vrrp/0/yielded", &json!(false))?;
    Ok(())
}

#[test]
fn a_director_in_maintenance_stays_out_over_a_restart_until_it_is_off() -> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let (lb1, lb2) = pair.start_with(&slow(150), &slow(100))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    let ping = Ping::start(&client, VIP)?;
    let said = lb1.vipctl(&["maintenance", "on"])?;
    ensure!(
        said.contains("web: was master, gives its addresses up"),
        "{said}"
    );
    pair.wait_for_holders(&["lb2"])?;
    let answers = ping.stop()?;
    ensure!(answers.longest_silence < 250, "a gap: {answers:?}");
    check_maintenance(&lb1)?;
    let said = lb1.refused(&["switchover", "web"])?;
    ensure!(said.contains("this director is in maintenance"), "{said}");

    lb1.stop()?;
    let lb1 = Director::start(&pair.lb1, &slow(150))?;
    check_maintenance(&lb1)?;
    sleep(Duration::from_secs(3));
    pair.wait_for_holders(&["lb2"])?;
    let said = lb1.vipctl(&["maintenance", "on"])?;
    ensure!(said.contains("was on already"), "{said}");

    let said = lb1.vipctl(&["maintenance", "off"])?;
    ensure!(said.contains("web: takes part again"), "{said}");
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_event(&["maintenance.off"])?;
    lb1.wait_for_status("/maintenance", &json!(false))?;
    lb1.wait_for_status("/vrrp/0/faults", &json!([]))?;
    lb1.stop()?;
    let lb1 = Director::start(&pair.lb1, &slow(150))?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/maintenance", &json!(false))?;
    Ok(())
}

fn check_maintenance(lb1: &Director) -> Result<()> {
    lb1.wait_for_status("/maintenance", &json!(true))?;
    lb1.wait_for_state("fault")?;
    lb1.wait_for_status("/vrrp/0/faults", &json!(["maintenance"]))?;
    lb1.wait_for_event(&["maintenance.on"])?;
    lb1.wait_for_event(&["vrrp.fault web", "maintenance"])?;
    let page = lb1.status_text()?;
    ensure!(page.contains("maintenance is on"), "{page}");
    Ok(())
}
