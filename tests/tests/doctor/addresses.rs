//! Who answers for a virtual address.

use anyhow::{Result, ensure};
use lab::cluster::{Cluster, VIP};
use lab::director::Director;
use lab::doctor::{examine, examine_file};
use lab::pair::{Pair, fast};

use super::{config, with_ipvs};

#[test]
fn a_real_server_that_answers_for_the_address_is_named_and_silenced() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.lb1.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    let look = || examine_file(&cluster.lb1, &config(150, 1));
    look()?.has(&with_ipvs(&[]))?;
    cluster
        .rs1
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=0")?;
    let found = look()?;
    found.has(&with_ipvs(&["VIP-ARP-001"]))?;
    let evidence = found.evidence("VIP-ARP-001")?;
    ensure!(evidence.contains(&cluster.rs1.mac()?), "{evidence}");
    let (on, _) = found.command("VIP-ARP-001")?;
    ensure!(on.as_deref() == Some("10.77.0.21"), "{on:?}");
    found.mend("VIP-ARP-001", &cluster.rs1)?;
    look()?.has(&with_ipvs(&[]))?;
    Ok(())
}

#[test]
fn a_stranger_with_the_address_is_found_until_it_gives_it_up() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    let thief = pair.lab.host("thief", "10.77.0.66/24")?;
    thief.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    let found = examine(&lb1)?;
    found.has(&["VIP-ARP-003"])?;
    let evidence = found.evidence("VIP-ARP-003")?;
    ensure!(evidence.contains(&thief.mac()?), "{evidence}");
    found.mend("VIP-ARP-003", &thief)?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

#[test]
fn an_address_that_a_dead_director_left_behind_is_found_and_released() -> Result<()> {
    let pair = Pair::new()?;
    let unicast = |own, peer| {
        format!("unicast = {{ source = \"10.77.0.{own}\", peers = [\"10.77.0.{peer}\"] }}")
    };
    let (mut lb1, lb2) =
        pair.start_with(&fast(150, &unicast(11, 12)), &fast(100, &unicast(12, 11)))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/address", &"10.77.0.11".into())?;
    lb1.kill()?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    let found = examine(&lb2)?;
    found.has(&["VIP-ARP-002"])?;
    let (on, mut words) = found.command("VIP-ARP-002")?;
    ensure!(on.as_deref() == Some("10.77.0.11"), "{on:?}");
    words[0] = lab::binary("vipd")?.display().to_string();
    pair.lb1.run(&words.join(" "))?;
    pair.wait_for_holders(&["lb2"])?;
    examine(&lb2)?.has(&[])?;
    Ok(())
}

#[test]
fn without_any_director_nobody_holds_the_address() -> Result<()> {
    let pair = Pair::new()?;
    examine_file(&pair.lb1, &fast(150, ""))?.has(&["VIP-ARP-004"])?;
    let lb1 = Director::start(&pair.lb1, &fast(150, ""))?;
    lb1.wait_for_state("master")?;
    examine_file(&pair.lb1, &fast(150, ""))?.has(&[])?;
    Ok(())
}
