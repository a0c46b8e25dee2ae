//! The virtual MAC.

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::ping::Ping;
use lab::{Host, wait_until};
use serde_json::json;

const MAC: &str = "00:00:5e:00:01:33";
const MAC6: &str = "00:00:5e:00:02:33";
const MORE: &str = "virtual_mac = true";

fn wait_for_holder(pair: &Pair, wanted: &Host) -> Result<()> {
    wait_until(
        ELECTION,
        &format!("the address on {}", wanted.name()),
        || {
            let on = |host: &Host| {
                let text = host.run("ip -o address show")?;
                Ok::<_, anyhow::Error>(text.contains(&format!(" {VIP}/24")))
            };
            let other = if wanted.name() == "lb1" {
                &pair.lb2
            } else {
                &pair.lb1
            };
            Ok(on(wanted)? && !on(other)?)
        },
    )
    .map(|_| ())
}

fn start(pair: &Pair, more: &str) -> Result<(Director, Director)> {
    let (lb1, lb2) = pair.start_with(&fast(150, more), &fast(100, more))?;
    wait_for_holder(pair, &pair.lb1)?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.11"))?;
    Ok((lb1, lb2))
}

/// Everything that the kernel can be told of the interfaces that a host has without vipd.
fn sysctls(host: &Host) -> Result<String> {
    let text = host.run("sysctl -a --pattern net.ipv[46].conf")?;
    let lines = text.lines().filter(|line| !line.contains("vrrp"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn with_a_virtual_mac_neighbours_learn_that_alone_and_a_takeover_changes_nothing_for_them()
-> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let capture = client.capture("arp or proto 112")?;
    let (lb1, lb2) = start(&pair, MORE)?;
    for _ in 0..3 {
        client.ip("neigh flush all")?;
        client.run(&format!("ping -c 1 -W 5 {VIP}"))?;
    }
    let neighbours = client.run("ip neigh")?;
    ensure!(
        neighbours.contains(&format!("{VIP} dev eth0 lladdr {MAC}")),
        "{neighbours}"
    );
    wait_until(ELECTION, "adverts from the virtual MAC", || {
        Ok(capture.count(&[&format!("{MAC} >"), "10.77.0.11 > 224.0.0.18"]) > 3)
    })?;
    for own in [pair.lb1.mac()?, pair.lb2.mac()?] {
        let from = format!("{own} >");
        ensure!(
            capture.count(&[&from, "224.0.0.18"]) == 0,
            "an advert left from {own}"
        );
        ensure!(
            capture.count(&[&from, "10.77.0.10 is-at"]) == 0,
            "{own} answered"
        );
        ensure!(
            capture.count(&[&from, "tell 10.77.0.10"]) == 0,
            "{own} announced"
        );
    }
    wait_until(ELECTION, "its announcements", || {
        let announced = [&format!("{MAC} >"), "who-has 10.77.0.10", "tell 10.77.0.10"];
        Ok(capture.count(&announced) >= 5)
    })?;

    let ping = Ping::start(&client, VIP)?;
    lb1.vipctl(&["switchover", "web"])?;
    wait_for_holder(&pair, &pair.lb2)?;
    lb2.vipctl(&["switchover", "web"])?;
    wait_for_holder(&pair, &pair.lb1)?;
    let answers = ping.stop()?;
    ensure!(answers.longest_silence < 250, "a gap: {answers:?}");
    let neighbours = client.run("ip neigh")?;
    ensure!(
        neighbours.contains(&format!("{VIP} dev eth0 lladdr {MAC}")),
        "{neighbours}"
    );
    pair.lab.pull_cable(&pair.lb1)?;
    wait_for_holder(&pair, &pair.lb2)?;
    client.run(&format!("ping -c 1 -W 5 {VIP}"))?;
    Ok(())
}

#[test]
fn a_backups_virtual_mac_takes_no_frames_and_makes_no_address() -> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let (_lb1, _lb2) = start(&pair, MORE)?;
    let link = pair.lb2.run("ip -br link show vrrp.51")?;
    ensure!(link.contains("DOWN"), "{link}");
    // Whoever still sends to the virtual MAC, the backup does not answer: the client talks to its own
    // address by that MAC.
    client.ip(&format!("neigh replace 10.77.0.12 lladdr {MAC} dev eth0"))?;
    ensure!(client.run("ping -c 3 -i 0.2 -W 1 10.77.0.12").is_err());
    let text = pair.lb1.run("ip -6 -o addr show dev vrrp.51")?;
    ensure!(
        text.is_empty(),
        "the macvlan made itself an address: {text}"
    );
    Ok(())
}

#[test]
fn a_master_forwards_what_comes_to_its_virtual_mac() -> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let server = pair.lab.host("server", "10.77.0.200/24")?;
    server.ip("link del eth0")?;
    pair.lab.add_interface(&server, "eth1", "10.78.0.50/24")?;
    for (host, address) in [(&pair.lb1, "10.78.0.11/24"), (&pair.lb2, "10.78.0.12/24")] {
        pair.lab.add_interface(host, "eth1", address)?;
        host.run("sysctl -q -w net.ipv4.ip_forward=1")?;
    }
    let inside = "virtual_mac = true\nvirtual_addresses = [\"10.77.0.10/24\", { address = \
                  \"10.78.0.1/24\", interface = \"eth1\", advertise = false }]";
    let with = |priority| {
        let text = fast(priority, inside);
        text.replace(&format!("virtual_addresses = [\"{VIP}/24\"]\n"), "")
    };
    let (lb1, _lb2) = pair.start_with(&with(150), &with(100))?;
    wait_for_holder(&pair, &pair.lb1)?;
    client.ip(&format!("route add 10.78.0.0/24 via {VIP}"))?;
    server.ip("route add default via 10.78.0.1")?;
    client.run("ping -c 1 -W 5 10.78.0.50")?;
    lb1.stop()?;
    wait_for_holder(&pair, &pair.lb2)?;
    client.run("ping -c 1 -W 5 10.78.0.50")?;
    Ok(())
}

#[test]
fn the_macvlan_and_the_settings_of_a_virtual_mac_go_with_a_stop_and_with_a_release() -> Result<()> {
    let pair = Pair::new()?;
    let before = [sysctls(&pair.lb1)?, sysctls(&pair.lb2)?];
    let (lb1, lb2) = start(&pair, MORE)?;
    ensure!(
        sysctls(&pair.lb1)? != before[0],
        "nothing had to be set: what does this test?"
    );
    lb1.stop()?;
    wait_for_holder(&pair, &pair.lb2)?;
    let links = pair.lb1.run("ip -br link")?;
    ensure!(!links.contains("vrrp"), "{links}");
    ensure!(sysctls(&pair.lb1)? == before[0]);
    let printed = lb2.kill_and_release(&[])?;
    ensure!(printed.contains("removed the macvlan vrrp.51"), "{printed}");
    let links = pair.lb2.run("ip -br link")?;
    ensure!(!links.contains("vrrp"), "{links}");
    ensure!(sysctls(&pair.lb2)? == before[1]);
    Ok(())
}

#[test]
fn a_killed_directors_macvlan_is_taken_over_by_the_next_start() -> Result<()> {
    let pair = Pair::new()?;
    let before = sysctls(&pair.lb1)?;
    let (mut lb1, _lb2) = start(&pair, &format!("{MORE}\ntakeover_probe = \"off\""))?;
    lb1.kill()?;
    wait_until(ELECTION, "the peer has it, too", || {
        Ok(pair.lb2.run("ip -o address show")?.contains(VIP))
    })?;
    let lb1 = Director::start(&pair.lb1, &fast(150, MORE))?;
    wait_for_holder(&pair, &pair.lb1)?;
    lb1.stop()?;
    ensure!(sysctls(&pair.lb1)? == before);
    let links = pair.lb1.run("ip -br link")?;
    ensure!(!links.contains("vrrp"), "{links}");
    Ok(())
}

#[test]
fn an_ipv6_router_with_a_virtual_mac_is_found_under_it() -> Result<()> {
    let (pair, client) = super::ipv6::hosts()?;
    let (lb1, lb2) = pair.start_with(
        &super::ipv6::router6(150, MORE),
        &super::ipv6::router6(100, MORE),
    )?;
    lb1.wait_for_state("master")?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    let capture = client.capture("ip6 proto 112")?;
    client.run("ping -c 1 -W 5 2001:db8::10")?;
    let neighbours = client.run("ip -6 neigh")?;
    ensure!(
        neighbours.contains(&format!("2001:db8::10 dev eth0 lladdr {MAC6}")),
        "{neighbours}"
    );
    wait_until(ELECTION, "adverts from the virtual MAC", || {
        Ok(capture.count(&[&format!("{MAC6} >")]) > 3)
    })?;
    ensure!(
        capture
            .packets()
            .iter()
            .all(|packet| packet.text.contains(&format!("{MAC6} >")))
    );
    let text = pair.lb1.run("ip -6 -o addr show dev vrrp6.51")?;
    ensure!(
        text.lines().count() == 2 && text.contains("fe80::51/64"),
        "{text}"
    );
    // From its own link-local address: a router's would be the same on both.
    ensure!(
        !lb2.status()?["vrrp"][0]["master"]["address"]
            .to_string()
            .contains("fe80::51")
    );
    pair.lab.pull_cable(&pair.lb1)?;
    lb2.wait_for_state("master")?;
    client.run("ping -c 1 -W 5 2001:db8::10")?;
    Ok(())
}
