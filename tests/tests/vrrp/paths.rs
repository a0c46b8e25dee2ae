//! The ways that adverts take, and what is master at the end of none.

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;
use serde_json::json;

#[test]
fn while_heartbeats_come_on_a_second_link_a_cut_main_link_makes_no_second_master() -> Result<()> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.78.0.11/24")?;
    pair.lab.add_interface(&pair.lb2, "eth1", "10.78.0.12/24")?;
    let (lb1, lb2) = pair.start_fast("heartbeat = [{ interface = \"eth1\" }]")?;
    check_heartbeat(&pair, &lb1, &lb2, || {
        pair.lab.isolate_interface(&pair.lb1, "eth1")
    })
}

#[test]
fn heartbeats_reach_a_peer_behind_a_router() -> Result<()> {
    let pair = Pair::new()?;
    let hop = pair.lab.host("hop", "10.77.0.1/24")?;
    hop.run("sysctl -q -w net.ipv4.ip_forward=1")?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.78.0.11/24")?;
    pair.lab.add_interface(&hop, "eth1", "10.78.0.1/24")?;
    pair.lab.add_interface(&hop, "eth2", "10.79.0.1/24")?;
    pair.lab.add_interface(&pair.lb2, "eth2", "10.79.0.12/24")?;
    pair.lb1.ip("route add 10.79.0.0/24 via 10.78.0.1")?;
    pair.lb2.ip("route add 10.78.0.0/24 via 10.79.0.1")?;
    let (lb1, lb2) = pair.start_with(
        &fast(150, "heartbeat = [{ peer = \"10.79.0.12\" }]"),
        &fast(100, "heartbeat = [{ peer = \"10.78.0.11\" }]"),
    )?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    check_heartbeat(&pair, &lb1, &lb2, || hop.ip("link set eth1 down"))
}

/// Cuts the main link, then the other one.
fn check_heartbeat(
    pair: &Pair,
    lb1: &Director,
    lb2: &Director,
    cut: impl Fn() -> Result<()>,
) -> Result<()> {
    pair.lab.isolate(&pair.lb1)?;
    sleep(Duration::from_secs(2));
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/transitions", &json!(1))?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    cut()?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    // The main link again: one master.
    pair.lab.rejoin(&pair.lb1)?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/vrrp/0/rival", &json!(null))?;
    Ok(())
}

#[test]
fn a_master_whose_own_cable_is_pulled_leaves_although_heartbeats_come() -> Result<()> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.78.0.11/24")?;
    pair.lab.add_interface(&pair.lb2, "eth1", "10.78.0.12/24")?;
    let (lb1, _lb2) = pair.start_fast("heartbeat = [{ interface = \"eth1\" }]")?;
    pair.lab.pull_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_state("fault")?;
    pair.lab.plug_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_lone_master_without_any_reference_address_leaves_until_one_answers() -> Result<()> {
    let pair = Pair::new()?;
    let gateway = pair.lab.host("gateway", "10.77.0.1/24")?;
    let reachable = "reachable = { any_of = [\"10.77.0.1\", \"10.77.0.2\"], interval = \"200ms\", \
                     timeout = \"100ms\", fall = 2 }";
    let lb1 = Director::start(&pair.lb1, &fast(150, reachable))?;
    pair.wait_for_holders(&["lb1"])?;
    pair.lab.isolate(&gateway)?;
    lb1.wait_for_state("fault")?;
    pair.wait_for_holders(&[])?;
    let page = lb1.status_text()?;
    ensure!(page.contains("reference address"), "{page}");
    lb1.wait_for_event(&["vrrp.fault web", "reference address"])?;
    pair.lab.rejoin(&gateway)?;
    pair.wait_for_holders(&["lb1"])?;
    // With a peer that is heard it may go on: somebody else is on this side of the cut.
    let lb2 = Director::start(&pair.lb2, &fast(100, ""))?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    Ok(())
}

fn unicast(priority: u8, source: &str, peers: &str) -> String {
    let unicast = format!("unicast = {{ source = \"{source}\", peers = [\"{peers}\"] }}");
    fast(priority, &unicast)
}

#[test]
fn unicast_directors_hear_each_other_and_nobody_else_and_never_use_the_group() -> Result<()> {
    let pair = Pair::new()?;
    let lb3 = pair.lab.host("lb3", "10.77.0.13/24")?;
    let started = SystemTime::now();
    // On lb1's own link: it sees unicast, too.
    let capture = pair.lb1.capture("proto 112")?;
    let (lb1, lb2) = pair.start_with(
        &unicast(150, "10.77.0.11", "10.77.0.12"),
        &unicast(100, "10.77.0.12", "10.77.0.11"),
    )?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.11"))?;
    capture.wait_for(ELECTION, started, &["10.77.0.11 > 10.77.0.12"])?;

    let stranger = Director::start(&lb3, &unicast(200, "10.77.0.13", "10.77.0.11"))?;
    wait_until(ELECTION, "adverts of a stranger", || {
        Ok(lb1.discarded("peer")? > 3)
    })?;
    lb1.wait_for_event(&[
        "vrrp.incompatible web",
        "10.77.0.13",
        "not one of unicast.peers",
    ])?;
    stranger.stop()?;
    ensure!(
        capture.count(&["224.0.0.18"]) == 0,
        "an advert went to the group"
    );
    // What comes to the group is not heard either.
    let loud = Director::start(&lb3, &fast(200, ""))?;
    wait_until(ELECTION, "adverts to the group", || {
        Ok(lb1.discarded("destination")? > 3)
    })?;
    loud.stop()?;
    lb1.wait_for_status("/vrrp/0/transitions", &json!(2))?;
    pair.lab.pull_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb2"])?;
    pair.lab.plug_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn unicast_directors_of_ipv6_sign_their_adverts_and_relieve_each_other() -> Result<()> {
    let (pair, client) = super::ipv6::hosts()?;
    let capture = client.capture("ip6 multicast and ip6 proto 112")?;
    let with = |priority, source: &str, peer: &str| {
        let more = format!(
            "unicast = {{ source = \"2001:db8::{source}\", peers = [\"2001:db8::{peer}\"] }}\n\
             authentication = {{ type = \"hmac\", key_id = 1, key = \"{}\" }}",
            "k".repeat(32)
        );
        super::ipv6::router6(priority, &more)
    };
    let (lb1, lb2) = pair.start_with(&with(150, "11", "12"), &with(100, "12", "11"))?;
    lb1.wait_for_state("master")?;
    let master = json!({ "address": "2001:db8::11", "priority": 150 });
    lb2.wait_for_status("/vrrp/0/master", &master)?;
    pair.lab.pull_cable(&pair.lb1)?;
    lb2.wait_for_state("master")?;
    client.run("ping -c 1 -W 5 2001:db8::10")?;
    pair.lab.plug_cable(&pair.lb1)?;
    lb2.wait_for_status("/vrrp/0/master", &master)?;
    lb1.stop()?;
    lb2.wait_for_event(&["vrrp.master web", "2001:db8::11 gave up"])?;
    for reason in ["hmac", "hmac_replay", "hmac_missing", "peer", "destination"] {
        ensure!(lb2.discarded(reason)? == 0, "{reason}");
    }
    ensure!(capture.count(&[]) == 0, "an advert went to the group");
    Ok(())
}
