//! Real servers and the way to them, without IPVS: doctor asks them itself.

use anyhow::{Result, ensure};
use lab::cluster::{Cluster, VIP};
use lab::doctor::{Report, examine_file};

use super::{config, with_ipvs};

/// A director that holds the address.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::new()?;
    cluster.lb1.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    look(&cluster)?.has(&with_ipvs(&[]))?;
    Ok(cluster)
}

fn look(cluster: &Cluster) -> Result<Report> {
    examine_file(&cluster.lb1, &config(150, 1))
}

#[test]
fn a_real_server_that_is_off_the_network_is_unreachable_until_it_is_back() -> Result<()> {
    let cluster = cluster()?;
    cluster.lab.pull_cable(&cluster.rs2)?;
    let found = look(&cluster)?;
    found.has(&with_ipvs(&["VIP-RS-001"]))?;
    let evidence = found.evidence("VIP-RS-001")?;
    ensure!(evidence.contains("for 10.77.0.22 on eth0"), "{evidence}");
    cluster.lab.plug_cable(&cluster.rs2)?;
    look(&cluster)?.has(&with_ipvs(&[]))?;
    Ok(())
}

#[test]
fn a_real_server_without_the_virtual_address_gets_it_by_the_remedy() -> Result<()> {
    let cluster = cluster()?;
    cluster.rs1.ip(&format!("addr del {VIP}/32 dev lo"))?;
    let found = look(&cluster)?;
    found.has(&with_ipvs(&["VIP-DR-002"]))?;
    let (on, _) = found.command("VIP-DR-002")?;
    ensure!(on.as_deref() == Some("10.77.0.21"), "{on:?}");
    found.mend("VIP-DR-002", &cluster.rs1)?;
    look(&cluster)?.has(&with_ipvs(&[]))?;
    // Whoever takes no echoes at all tells nothing.
    cluster.rs1.ip(&format!("addr del {VIP}/32 dev lo"))?;
    cluster
        .rs1
        .run("sysctl -q -w net.ipv4.icmp_echo_ignore_all=1")?;
    look(&cluster)?.has(&with_ipvs(&[]))?;
    Ok(())
}

#[test]
fn the_same_of_ipv6() -> Result<()> {
    let cluster = Cluster::new()?;
    let text = "[[virtual_server]]\nname = \"six\"\naddress = \"[fd77:1::10]:80\"\nscheduler = \"rr\"\n\
        [[virtual_server.real_server]]\naddress = \"fd77::21\"\n";
    cluster.lb1.ip("addr add fd77::11/64 dev eth0 nodad")?;
    cluster.rs1.ip("addr add fd77::21/64 dev eth0 nodad")?;
    let look = || examine_file(&cluster.lb1, text);
    let found = look()?;
    found.has(&with_ipvs(&["VIP-DR-002"]))?;
    found.mend("VIP-DR-002", &cluster.rs1)?;
    look()?.has(&with_ipvs(&[]))?;
    Ok(())
}

#[test]
fn direct_routing_to_a_real_server_behind_a_gateway_is_found_with_the_key_that_mends_it()
-> Result<()> {
    let cluster = cluster()?;
    cluster.lb1.ip("route add 10.99.0.0/24 via 10.77.0.12")?;
    let text = config(150, 1).replace("10.77.0.22", "10.99.0.22");
    let found = examine_file(&cluster.lb1, &text)?;
    found.has(&with_ipvs(&["VIP-DR-001"]))?;
    let mended = found.mended("VIP-DR-001", &text)?;
    // The other real server is none of tunnels.
    let found = examine_file(&cluster.lb1, &mended)?;
    ensure!(!found.codes().contains("VIP-DR-001"), "{found:?}");
    Ok(())
}

#[test]
fn a_tunnel_that_is_narrower_than_the_clients_network_is_widened() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.lb1.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    for (host, number) in [(&cluster.lb1, 11), (&cluster.rs1, 21)] {
        cluster
            .lab
            .add_interface(host, "eth1", &format!("10.88.0.{number}/24"))?;
        // Wide enough to be made wider.
        host.ip("link set eth1 mtu 1400")?;
    }
    let text = config(150, 1)
        .replace(
            "forwarding = \"dr\"",
            "forwarding = \"tun\"\ntunnel = { type = \"gre\" }",
        )
        .replace("10.77.0.21", "10.88.0.21");
    let (text, _) = text.rsplit_once("[[virtual_server.real_server]]").unwrap();
    let found = examine_file(&cluster.lb1, text)?;
    found.has(&with_ipvs(&["VIP-TUN-002"]))?;
    found.mend("VIP-TUN-002", &cluster.lb1)?;
    examine_file(&cluster.lb1, text)?.has(&with_ipvs(&[]))?;
    Ok(())
}
