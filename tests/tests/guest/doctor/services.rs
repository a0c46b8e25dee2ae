//! Services whose forwarding, table or checks are not as they should be.

use std::path::Path;

use anyhow::{Result, ensure};
use lab::cluster::{Cluster, VIP};
use lab::director::Director;
use lab::pair::{fast, router};
use lab::process::Process;
use lab::{Host, Lab, binary, run, wait_until};
use serde_json::json;

use super::at_last;
use crate::PATIENCE;

/// A server that shows a certificate of its own for so many days.
fn server(host: &Host, days: u32) -> Result<Process> {
    let folder = host.folder();
    let (key, certificate) = (folder.join("tls.key"), folder.join("tls.crt"));
    let (key, certificate) = (key.to_string_lossy(), certificate.to_string_lossy());
    let days = days.to_string();
    run(std::process::Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=rs.example",
        "-days",
        &days,
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]))?;
    let words = [
        "s_server",
        "-quiet",
        "-accept",
        "443",
        "-key",
        &key,
        "-cert",
        &certificate,
    ];
    let server = host.spawn("tls", Path::new("openssl"), &words)?;
    wait_until(PATIENCE, "it listens", || {
        Ok(host.run("ss -ltn")?.contains(":443"))
    })?;
    Ok(server)
}

#[test]
fn a_certificate_that_ends_soon_is_found_until_it_is_renewed() -> Result<()> {
    let cluster = Cluster::new()?;
    let text = fast(
        150,
        &format!(
            "[[virtual_server]]\nname = \"https\"\naddress = \"{VIP}:443\"\nvrrp = \"web\"\n\
             [virtual_server.check]\ntype = \"tls\"\ninterval = \"2s\"\ntimeout = \"1900ms\"\nverify = false\n\
             [[virtual_server.real_server]]\naddress = \"10.77.0.21\"\n"
        ),
    );
    let ending = server(&cluster.rs1, 5)?;
    let lb1 = Director::start(&cluster.lb1, &text)?;
    lb1.wait_for_state("master")?;
    let up = "/virtual_servers/0/real_servers/0/checks/0";
    lb1.wait_for_status(&format!("{up}/state"), &json!("up"))?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    let found = at_last(&lb1, &["VIP-CHK-002"])?;
    let evidence = found.evidence("VIP-CHK-002")?;
    ensure!(evidence.contains("certificate"), "{evidence}");
    let words = found.words("VIP-CHK-002")?;
    ensure!(
        words.contains("renew it there, and have the service read it"),
        "{words}"
    );
    drop(ending);
    let _renewed = server(&cluster.rs1, 365)?;
    lb1.wait_for_status(&format!("{up}/warning"), &json!(null))?;
    lb1.wait_for_status(&format!("{up}/state"), &json!("up"))?;
    at_last(&lb1, &[])?;
    Ok(())
}

#[test]
fn direct_routing_over_a_gateway_becomes_a_tunnel_by_the_remedy() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let gateway = lab.host("gateway", "10.77.0.1/24")?;
    let real = lab.host("rs1", "10.77.0.31/24")?;
    lab.add_interface(&gateway, "eth1", "10.99.0.1/24")?;
    lab.add_interface(&real, "eth1", "10.99.0.22/24")?;
    real.sh(&format!(
        "ip addr flush dev eth0; ip link set eth0 down; ip route add default via 10.99.0.1
         sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
         ip addr add {VIP}/32 dev lo"
    ))?;
    gateway.run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0")?;
    host.ip("route add 10.99.0.0/24 via 10.77.0.1")?;
    let text = format!(
        "{}[[virtual_server]]\nname = \"http\"\naddress = \"{VIP}:80\"\nvrrp = \"web\"\n\
         [[virtual_server.real_server]]\naddress = \"10.99.0.22\"\n",
        router(150)
    );
    let lb1 = Director::start(&host, &text)?;
    lb1.wait_for_state("master")?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    let found = at_last(&lb1, &["VIP-DR-001"])?;
    let words = found.words("VIP-DR-001")?;
    let command = "vipd realserver --forwarding tun";
    ensure!(words.contains(command), "{words}");
    // The key here, and that command there.
    real.ip(&format!("addr del {VIP}/32 dev lo"))?;
    let state = lab.folder().join("real-state");
    let mut vipd = real.command(binary("vipd")?);
    vipd.args(command.split(' ').skip(1)).args(["--vip", VIP]);
    run(vipd.arg("--state-dir").arg(state))?;
    lb1.reload(&found.mended("VIP-DR-001", &text)?)?;
    lb1.wait_for_status("/virtual_servers/0/forwarding", &json!("tun"))?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    at_last(&lb1, &[])?;
    Ok(())
}

#[test]
fn a_real_server_that_the_kernel_refuses_is_told_until_its_key_is_mended() -> Result<()> {
    let cluster = Cluster::new()?;
    // By the director's prefix length this is no host's address, by that of the real server it is.
    cluster
        .rs1
        .sh("ip addr flush dev eth0; ip addr add 10.77.0.255/16 dev eth0")?;
    let text = format!(
        "{}[[virtual_server]]\nname = \"http\"\naddress = \"{VIP}:80\"\nvrrp = \"web\"\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.255\"\n",
        router(150)
    );
    let lb1 = Director::start(&cluster.lb1, &text)?;
    lb1.wait_for_state("master")?;
    wait_until(PATIENCE, "the refusal", || {
        Ok(lb1.status()?["ipvs"]["refused"] != json!([]))
    })?;
    let found = at_last(&lb1, &["VIP-IPVS-004"])?;
    let evidence = found.evidence("VIP-IPVS-004")?;
    ensure!(evidence.contains("10.77.0.255"), "{evidence}");
    let words = found.words("VIP-IPVS-004")?;
    ensure!(
        words.contains("mend the keys that they are about, and reload"),
        "{words}"
    );
    cluster.rs1.ip("addr add 10.77.0.21/24 dev eth0")?;
    lb1.reload(&text.replace("10.77.0.255", "10.77.0.21"))?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    at_last(&lb1, &[])?;
    Ok(())
}
