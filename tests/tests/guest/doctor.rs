//! What doctor finds where there is IPVS: healthy clusters of every forwarding have no finding, and each
//! fault has exactly its code, until its remedy is carried out.

mod services;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::cluster::{Cluster, VIP};
use lab::director::Director;
use lab::doctor::{Report, examine, found_by};
use lab::nginx::Nginx;
use lab::{Host, Lab, binary, run, wait_until};
use serde_json::json;

use super::PATIENCE;

/// The classic cluster's configuration, without what `vipd check` warns of.
fn config(forwarding: &str) -> String {
    lab::cluster::config("lb1", 150, 1)
        .replace("timeout = \"2s\"", "timeout = \"1s\"")
        .replace("\"dr\"", &format!("\"{forwarding}\""))
}

fn ready(director: &Director) -> Result<()> {
    director.wait_for_state("master")?;
    director.wait_for_status("/ipvs/in_sync", &json!(true))?;
    for real in 0..2 {
        let pointer = format!("/virtual_servers/0/real_servers/{real}/state");
        director.wait_for_status(&pointer, &json!("up"))?;
    }
    Ok(())
}

/// Exactly these are found at last: a busy guest may lose an echo, and have no time for a look.
fn at_last(director: &Director, codes: &[&str]) -> Result<Report> {
    found_by(PATIENCE, &|| examine(director), codes)
}

#[test]
fn direct_routing_is_healthy_and_a_real_server_without_the_address_is_found() -> Result<()> {
    let cluster = Cluster::new()?;
    let _real = cluster.start_real_servers()?;
    let lb1 = Director::start(&cluster.lb1, &config("dr"))?;
    ready(&lb1)?;
    at_last(&lb1, &[])?;
    cluster.rs2.ip(&format!("addr del {VIP}/32 dev lo"))?;
    let found = at_last(&lb1, &["VIP-DR-002"])?;
    found.mend("VIP-DR-002", &cluster.rs2)?;
    cluster
        .rs1
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=0")?;
    let found = at_last(&lb1, &["VIP-ARP-001"])?;
    found.mend("VIP-ARP-001", &cluster.rs1)?;
    at_last(&lb1, &[])?;
    Ok(())
}

#[test]
fn a_real_server_that_is_off_the_network_is_taken_out_by_the_remedy_until_it_is_back() -> Result<()>
{
    let cluster = Cluster::new()?;
    let _real = cluster.start_real_servers()?;
    let lb1 = Director::start(&cluster.lb1, &config("dr"))?;
    ready(&lb1)?;
    cluster.lab.pull_cable(&cluster.rs2)?;
    let found = at_last(&lb1, &["VIP-RS-001"])?;
    let (_, words) = found.command("VIP-RS-001")?;
    ensure!(
        words == ["vipctl", "disable", "http", "10.77.0.22:80"],
        "{words:?}"
    );
    lb1.vipctl(&["disable", "http", "10.77.0.22:80"])?;
    at_last(&lb1, &[])?;
    cluster.lab.plug_cable(&cluster.rs2)?;
    lb1.vipctl(&["enable", "http", "10.77.0.22:80"])?;
    ready(&lb1)?;
    at_last(&lb1, &[])?;
    Ok(())
}

/// A client behind a network of its own, and real servers behind the director.
fn two_networks() -> Result<(Lab, Host, Host, [Host; 2])> {
    let lab = Lab::new()?;
    let client = lab.host("client", "10.77.0.100/24")?;
    let lb1 = lab.host("lb1", "10.77.0.11/24")?;
    let real = [
        lab.host("rs1", "10.77.0.31/24")?,
        lab.host("rs2", "10.77.0.32/24")?,
    ];
    lab.add_interface(&lb1, "eth1", "10.88.0.11/24")?;
    for (host, number) in real.iter().zip([21, 22]) {
        lab.add_interface(host, "eth1", &format!("10.88.0.{number}/24"))?;
        host.ip("addr flush dev eth0")?;
        host.ip("route add default via 10.88.0.11")?;
    }
    lb1.run("sysctl -q -w net.ipv4.ip_forward=1")?;
    Ok((lab, client, lb1, real))
}

#[test]
fn nat_is_healthy_and_a_real_server_with_another_gateway_is_found() -> Result<()> {
    let (lab, client, host, real) = two_networks()?;
    let _nginx = [Nginx::start(&real[0])?, Nginx::start(&real[1])?];
    let text = config("nat").replace("10.77.0.2", "10.88.0.2");
    let lb1 = Director::start(&host, &text)?;
    ready(&lb1)?;
    wait_until(PATIENCE, "an answer", || {
        Ok(client.get("http://10.77.0.10/").is_some())
    })?;
    at_last(&lb1, &[])?;
    real[1].ip("route del default")?;
    let asks = "while :; do curl --silent --max-time 1 http://10.77.0.10/; done";
    let asking = client.spawn("asks", Path::new("sh"), &["-c", asks])?;
    let mut last = None;
    wait_until(PATIENCE, "half-open connections", || {
        let found = examine(&lb1)?;
        let right = found.codes().contains("VIP-NAT-001");
        last = Some(found);
        Ok(right)
    })
    .with_context(|| format!("{last:#?}"))?;
    let found = last.context("nothing was looked at")?;
    found.has(&["VIP-NAT-001"])?;
    let (on, words) = found.command("VIP-NAT-001")?;
    ensure!(on.as_deref() == Some("10.88.0.22"), "{on:?}");
    ensure!(words.join(" ").ends_with("via 10.88.0.11"), "{words:?}");
    found.mend("VIP-NAT-001", &real[1])?;
    wait_until(PATIENCE, "rs2 answers", || {
        Ok(client.get("http://10.77.0.10/").as_deref() == Some("rs2\n"))
    })?;
    at_last(&lb1, &[])?;
    drop((asking, lab));
    Ok(())
}

#[test]
fn a_tunnel_is_healthy_and_one_that_is_missing_is_made_by_the_remedy() -> Result<()> {
    let cluster = Cluster::new()?;
    let _real = cluster.start_real_servers()?;
    let tunnel = |host: &Host| {
        host.ip(&format!("addr del {VIP}/32 dev lo"))?;
        host.sh(&format!(
            "modprobe ipip; ip link set tunl0 up; ip addr add {VIP}/32 dev tunl0
             for i in all eth0 tunl0; do sysctl -q -w net.ipv4.conf.$i.rp_filter=0; done"
        ))
    };
    tunnel(&cluster.rs1)?;
    tunnel(&cluster.rs2)?;
    let lb1 = Director::start(&cluster.lb1, &config("tun"))?;
    ready(&lb1)?;
    at_last(&lb1, &[])?;
    cluster
        .rs1
        .sh("ip link set tunl0 down; ip addr flush dev tunl0")?;
    let found = at_last(&lb1, &["VIP-TUN-001"])?;
    let (on, _) = found.command("VIP-TUN-001")?;
    ensure!(on.as_deref() == Some("10.77.0.21"), "{on:?}");
    found.mend("VIP-TUN-001", &cluster.rs1)?;
    at_last(&lb1, &[])?;
    Ok(())
}

#[test]
fn full_nat_and_every_service_of_one_host_are_healthy() -> Result<()> {
    let cluster = Cluster::new()?;
    let _real = cluster.start_real_servers()?;
    cluster.lb1.run("sysctl -q -w net.ipv4.ip_forward=1")?;
    let lb1 = Director::start(&cluster.lb1, &config("fullnat"))?;
    ready(&lb1)?;
    at_last(&lb1, &[])?;
    Ok(())
}

#[test]
fn a_scheduler_that_the_kernel_lacks_and_sysctls_of_others_are_found() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    // Debian's kernel is built without it.
    let text = "[[virtual_server]]\nname = \"few\"\naddress = \"10.77.0.10:80\"\nscheduler = \"twos\"\n\
        [[virtual_server.real_server]]\naddress = \"10.77.0.11\"\n";
    let lb1 = Director::start(&host, text)?;
    wait_until(PATIENCE, "the refusal", || {
        Ok(lb1.status()?["ipvs"]["refused"] != json!([]))
    })?;
    let found = at_last(&lb1, &["VIP-IPVS-002"])?;
    lb1.reload(&found.mended("VIP-IPVS-002", text)?)?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    at_last(&lb1, &[])?;

    let folder = lab.folder().join("sysctl.d");
    std::fs::create_dir_all(&folder)?;
    let file = "# of somebody else\nnet.ipv4.vs.expire_nodest_conn = 0\n";
    std::fs::write(folder.join("90-lvs.conf"), file)?;
    let there = format!("mount --bind {} /etc/sysctl.d; exec", folder.display());
    let (vipd, config) = (binary("vipd")?, lb1.config().display().to_string());
    let vipd = format!("{there} {} doctor --json -c {config}", vipd.display());
    let look = || Report::of(host.command("sh").args(["-c", &vipd]));
    let found = found_by(PATIENCE, &look, &["VIP-SYS-001"])?;
    let evidence = found.evidence("VIP-SYS-001")?;
    ensure!(evidence.contains("90-lvs.conf:2"), "{evidence}");
    let line = found.line("VIP-SYS-001")?;
    run(host.command("sh").args(["-c", &format!("{there} {line}")]))?;
    found_by(PATIENCE, &look, &[])?;
    Ok(())
}

#[test]
fn checks_that_all_fail_from_here_are_one_finding() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let lb1 = Director::start(&cluster.lb1, &config("dr"))?;
    ready(&lb1)?;
    // The director's own packets to port 80 leave no more.
    cluster.lb1.sh(
        "nft add table ip out; nft add chain ip out out '{ type filter hook output priority 0; }'
         nft add rule ip out out tcp dport 80 drop",
    )?;
    wait_until(PATIENCE, "the alarm", || {
        Ok(lb1.status()?["checks"]["all_failing"] != json!(null))
    })?;
    let found = at_last(&lb1, &["VIP-CHK-001"])?;
    let (_, words) = found.command("VIP-CHK-001")?;
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    lb1.vipctl(&words)?;
    cluster.lb1.run("nft delete table ip out")?;
    lb1.vipctl(&["maintenance", "off"])?;
    ready(&lb1)?;
    at_last(&lb1, &[])?;
    Ok(())
}
