//! IPv6 from end to end.

use std::net::Ipv6Addr;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use lab::capture::Capture;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::ping::Ping;
use lab::{Host, wait_until};
use serde_json::json;

const VIP6: &str = "2001:db8::10";

/// The virtual router `web` with IPv6 addresses.
pub(crate) fn router6(priority: u8, more: &str) -> String {
    fast(priority, more).replace("10.77.0.10/24\"", "fe80::51/64\", \"2001:db8::10/64\"")
}

/// A pair with an address in the subnet, which they answer echoes from, and a client.
pub(crate) fn hosts() -> Result<(Pair, Host)> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    for (host, address) in [(&pair.lb1, "11"), (&pair.lb2, "12"), (&client, "100")] {
        host.ip(&format!("addr add 2001:db8::{address}/64 dev eth0 nodad"))?;
        wait_until(ELECTION, "a link-local address", || {
            let text = host.run("ip -6 -o addr show dev eth0 scope link")?;
            Ok(text.contains("fe80::") && !text.contains("tentative"))
        })?;
    }
    Ok((pair, client))
}

fn wait_for_holder(pair: &Pair, wanted: &str) -> Result<()> {
    wait_until(ELECTION, &format!("{VIP6} on {wanted}"), || {
        let on = |host: &Host| {
            Ok::<_, anyhow::Error>(host.has_address(VIP6)? == (host.name() == wanted))
        };
        Ok(on(&pair.lb1)? && on(&pair.lb2)?)
    })
    .map(|_| ())
}

fn link_local(host: &Host) -> Result<Ipv6Addr> {
    let text = host.run("ip -6 -o addr show dev eth0 scope link")?;
    let mut words = text
        .split_whitespace()
        .filter_map(|word| word.strip_suffix("/64"));
    Ok(words
        .find(|word| *word != "fe80::51")
        .context("no link-local address")?
        .parse()?)
}

#[test]
fn an_ipv6_router_takes_over_and_is_found_by_clients() -> Result<()> {
    let (pair, client) = hosts()?;
    let (lb1, lb2) = pair.start_with(&router6(150, ""), &router6(100, ""))?;
    wait_for_holder(&pair, "lb1")?;
    let from = link_local(&pair.lb1)?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!(from.to_string()))?;
    client.run(&format!("ping -c 1 -W 5 {VIP6}"))?;
    for host in [&pair.lb1, &pair.lb2] {
        let text = host.run("ip -6 addr show dev eth0")?;
        ensure!(
            !text.contains("tentative") && !text.contains("dadfailed"),
            "{text}"
        );
    }

    // The advert, byte by byte.
    let adverts = Capture::bytes_of_next(&client, "eth0", "ip6 proto 112", 1)?;
    let advert = &adverts[0];
    ensure!(
        advert[6..8] == [112, 255],
        "next header, hop limit: {advert:02x?}"
    );
    ensure!(
        advert[8..24] == from.octets(),
        "the source is the link-local address: {advert:02x?}"
    );
    let group: Ipv6Addr = "ff02::12".parse()?;
    ensure!(advert[24..40] == group.octets(), "{advert:02x?}");
    ensure!(advert[40..46] == [0x31, 51, 150, 2, 0, 10], "{advert:02x?}");
    let first: Ipv6Addr = "fe80::51".parse()?;
    ensure!(advert[48..64] == first.octets(), "{advert:02x?}");

    let ping = Ping::start(&client, VIP6)?;
    let capture = client.capture("icmp6")?;
    let pulled = SystemTime::now();
    pair.lab.pull_cable(&pair.lb1)?;
    wait_until(ELECTION, "the address on lb2", || {
        pair.lb2.has_address(VIP6)
    })?;
    let announced = ["neighbor advertisement, tgt is 2001:db8::10", "> ff02::1:"];
    let announced = capture.wait_for(ELECTION, pulled, &announced)?;
    ensure!(announced.text.contains(&pair.lb2.mac()?), "{announced:?}");
    capture.wait_for(
        ELECTION,
        pulled,
        &["neighbor advertisement, tgt is fe80::51"],
    )?;
    // The neighbour cache of the client follows the announcement: answers go on.
    let silent = ping.stop()?.longest_silence;
    let ping = Ping::start(&client, VIP6)?;
    ensure!(silent < 3_000, "no answer for {silent} ms");
    pair.lab.plug_cable(&pair.lb1)?;
    wait_for_holder(&pair, "lb1")?;
    lb1.wait_for_state("master")?;
    let preempted = ping.stop()?;
    ensure!(preempted.longest_silence < 250, "{preempted:?}");
    Ok(())
}

#[test]
fn an_unsolicited_neighbour_advertisement_says_router_override_and_its_mac() -> Result<()> {
    let (pair, client) = hosts()?;
    // A host that forwards is a router to its neighbours.
    pair.lb1
        .run("sysctl -q -w net.ipv6.conf.eth0.forwarding=1")?;
    let filter = "icmp6 and ip6[40] == 136 and dst host ff02::1";
    let capture = std::thread::spawn(move || Capture::bytes_of_next(&client, "eth0", filter, 2));
    let _lb1 = Director::start(&pair.lb1, &router6(150, ""))?;
    let packets = capture
        .join()
        .map_err(|_| anyhow::anyhow!("the capture ended"))??;
    let mac = pair.lb1.mac()?;
    let mac: Vec<u8> = mac
        .split(':')
        .filter_map(|b| u8::from_str_radix(b, 16).ok())
        .collect();
    let mut targets = Vec::new();
    for packet in packets {
        ensure!(packet[7] == 255, "hop limit: {packet:02x?}");
        ensure!(
            packet[44] == 0xa0,
            "router, not solicited, override: {packet:02x?}"
        );
        ensure!(
            packet[64..66] == [2, 1] && packet[66..72] == mac[..],
            "{packet:02x?}"
        );
        let target: [u8; 16] = packet[48..64].try_into()?;
        targets.push(Ipv6Addr::from(target).to_string());
    }
    targets.sort();
    ensure!(targets == [VIP6, "fe80::51"], "{targets:?}");
    Ok(())
}

#[test]
fn a_backup_answers_neither_arp_nor_neighbour_solicitations_for_the_addresses() -> Result<()> {
    let (pair, client) = hosts()?;
    let both = |priority| {
        let six = router6(priority, "").replace("\"web\"", "\"web6\"");
        format!("{}{six}", fast(priority, ""))
    };
    let (_lb1, _lb2) = pair.start_with(&both(150), &both(100))?;
    pair.wait_for_holders(&["lb1"])?;
    wait_for_holder(&pair, "lb1")?;
    let capture = client.capture("arp or icmp6")?;
    for _ in 0..3 {
        client.ip("neigh flush all")?;
        client.run("ping -c 1 -W 5 10.77.0.10")?;
        client.run(&format!("ping -c 1 -W 5 {VIP6}"))?;
    }
    let (master, backup) = (pair.lb1.mac()?, pair.lb2.mac()?);
    for answer in [
        "Reply 10.77.0.10 is-at",
        "neighbor advertisement, tgt is 2001:db8::10",
    ] {
        wait_until(ELECTION, answer, || {
            Ok(capture.count(&[&master, answer]) >= 3)
        })?;
        ensure!(
            capture.count(&[&backup, answer]) == 0,
            "{:#?}",
            capture.packets()
        );
    }
    Ok(())
}

#[test]
fn an_ipv6_address_is_handed_over_without_a_gap() -> Result<()> {
    let (pair, client) = hosts()?;
    let slow = |priority| router6(priority, "").replace("\"100ms\"", "\"500ms\"");
    let (lb1, _lb2) = pair.start_with(&slow(150), &slow(100))?;
    wait_for_holder(&pair, "lb1")?;
    let ping = Ping::start(&client, VIP6)?;
    lb1.vipctl(&["switchover", "web"])?;
    wait_for_holder(&pair, "lb2")?;
    let answers = ping.stop()?;
    ensure!(answers.longest_silence < 250, "a gap: {answers:?}");
    Ok(())
}

#[test]
fn an_interface_without_a_link_local_address_is_a_fault_until_it_has_one() -> Result<()> {
    let pair = Pair::new()?;
    pair.lb1
        .run("sysctl -q -w net.ipv6.conf.eth0.addr_gen_mode=1")?;
    pair.lb1.ip("-6 addr flush dev eth0 scope link")?;
    let lb1 = Director::start(&pair.lb1, &router6(150, ""))?;
    let fault = "the interface has no address to send adverts from";
    lb1.wait_for_status("/vrrp/0/faults", &json!([fault]))?;
    pair.lb1.ip("addr add fe80::11/64 dev eth0 nodad")?;
    lb1.wait_for_state("master")?;
    lb1.wait_for_status("/vrrp/0/master/address", &json!("fe80::11"))?;
    Ok(())
}

#[test]
fn a_master_that_forwards_answers_solicitations_as_a_router() -> Result<()> {
    let (pair, client) = hosts()?;
    pair.lb1
        .run("sysctl -q -w net.ipv6.conf.all.forwarding=1")?;
    let lb1 = Director::start(&pair.lb1, &router6(150, ""))?;
    lb1.wait_for_state("master")?;
    let groups = || pair.lb1.run("ip maddr show dev eth0");
    wait_until(ELECTION, "its solicited-node group", || {
        Ok(groups()?.contains("ff02::1:ff00:10"))
    })?;
    let filter = "icmp6 and ip6[40] == 136 and dst host 2001:db8::100";
    let asking = client.clone();
    let capture = std::thread::spawn(move || Capture::bytes_of_next(&client, "eth0", filter, 1));
    wait_until(ELECTION, "the capture has its packet", || {
        asking.ip("neigh flush all")?;
        asking.run(&format!("ping -c 1 -W 5 {VIP6}"))?;
        Ok(capture.is_finished())
    })?;
    let packets = capture
        .join()
        .map_err(|_| anyhow::anyhow!("the capture ended"))??;
    let packet = &packets[0];
    ensure!(
        packet[44] & 0xc0 == 0xc0,
        "router, solicited: {packet:02x?}"
    );
    let target: [u8; 16] = packet[48..64].try_into()?;
    ensure!(Ipv6Addr::from(target).to_string() == VIP6, "{packet:02x?}");
    Ok(())
}
