//! Real servers that are set up by `vipd realserver` alone, with real packets.

use std::fs;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use lab::cluster::{Cluster, VIP, config};
use lab::director::Director;
use lab::nginx::Nginx;
use lab::{Host, Lab, binary, wait_until};
use serde_json::json;

use super::PATIENCE;
use crate::forwarding::seen;

/// `vipd realserver WORDS` on a host; what it said.
fn real_server(host: &Host, words: &[&str]) -> Result<String> {
    let state = host.folder().join(format!("{}-state", host.name()));
    let mut vipd = host.command(binary("vipd")?);
    lab::run(
        vipd.arg("realserver")
            .args(words)
            .arg("--state-dir")
            .arg(state),
    )
}

/// What all of it may change.
fn all(host: &Host) -> Result<String> {
    host.sh(
        "ip -o link show | grep -v -E 'tunl0|gre0|sit0|gretap0|erspan0|ip6tnl0|ip6gre0'
         ip -o -4 address show; ip -o -6 address show dev lo; ip fou show
         sysctl net.ipv4.conf.all net.ipv4.conf.lo | grep -E 'arp_ignore|arp_announce|rp_filter'",
    )
}

#[test]
fn a_cluster_whose_real_servers_are_set_up_from_the_directors_file_serves() -> Result<()> {
    let cluster = Cluster::new()?;
    let text = config("lb1", 150, 1);
    let file = cluster.lab.folder().join("directors.toml");
    fs::write(&file, &text)?;
    let file = file.to_string_lossy().into_owned();
    for real in [&cluster.rs1, &cluster.rs2] {
        real.ip(&format!("addr del {VIP}/32 dev lo"))?;
        real.run("sysctl -q -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0")?;
        real_server(real, &["-c", &file])?;
        real_server(real, &["-c", &file, "--check"])?;
    }
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let capture = cluster.client.capture("arp or tcp port 80")?;
    let lb1 = Director::start(&cluster.lb1, &text)?;
    cluster.wait_until_serving()?;
    let answers = cluster.requests(10);
    ensure!(
        answers.rs1 > 0 && answers.rs2 > 0 && answers.lost == 0,
        "{answers:?}"
    );
    // Requests leave for the director; answers come from the real servers themselves.
    let (client, director) = (cluster.client.mac()?, cluster.lb1.mac()?);
    seen(
        &capture,
        &[&format!("{client} > {director}"), "> 10.77.0.10.80: "],
    )?;
    for real in [&cluster.rs1, &cluster.rs2] {
        let mac = real.mac()?;
        seen(
            &capture,
            &[&format!("{mac} > {client}"), " 10.77.0.10.80 > "],
        )?;
        let claims = capture.count(&[&format!("10.77.0.10 is-at {mac}")]);
        ensure!(
            claims == 0,
            "{} answers for the virtual address",
            real.name()
        );
    }
    lb1.stop()
}

#[test]
fn every_kind_of_tunnel_ends_at_a_real_server_that_was_set_up_from_the_directors_file() -> Result<()>
{
    let lab = Lab::new()?;
    let client = lab.host("client", "10.78.0.100/24")?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let real = lab.host("rs1", "10.77.0.21/24")?;
    client.sh("ip addr add fd78::100/64 dev eth0 nodad
         ip route add default via 10.78.0.11
         ip -6 route add default via fd78::11")?;
    // The client comes through the director, so that virtual addresses need no neighbour.
    host.sh("{ echo addr add 10.78.0.11/24 dev eth0
         for a in fd77::11/64 fd78::11/64; do echo addr add $a dev eth0 nodad; done
         for n in 41 42 43 44 45 46; do
             echo addr add 10.77.1.$n/32 dev lo; echo addr add fd77:1::$n/128 dev lo nodad
         done; } | ip -batch -
         sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
    // As strict as a host may be.
    real.sh("ip addr add fd77::21/64 dev eth0 nodad
         ip route add 10.78.0.0/24 dev eth0
         ip -6 route add fd78::/64 dev eth0
         sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1")?;
    let server = |name: &str, address: &str, tunnel: &str, real: &str| {
        format!(
            "[[virtual_server]]\nname = \"{name}\"\naddress = \"{address}\"\nforwarding = \"tun\"\n\
             tunnel = {{ type = {tunnel} }}\n[[virtual_server.real_server]]\naddress = \"{real}\"\n"
        )
    };
    let gue = "\"gue\", port = 6080, checksum = \"full\"";
    let gre = "\"gre\", checksum = \"full\"";
    let text = [
        server("ipip", "10.77.1.41:80", "\"ipip\"", "10.77.0.21"),
        server("gue", "10.77.1.42:80", gue, "10.77.0.21"),
        server("gre", "10.77.1.43:80", gre, "10.77.0.21"),
        server("both", "10.77.1.44:80", "\"ipip\"", "10.77.0.21"),
        server("both-gre", "10.77.1.44:8080", gre, "10.77.0.21"),
        server("mixed", "10.77.1.45:80", "\"ipip\"", "fd77::21"),
        server("ip6", "[fd77:1::41]:80", "\"ipip\"", "fd77::21"),
        server("gre6", "[fd77:1::43]:80", "\"gre\"", "fd77::21"),
        server("sit", "[fd77:1::45]:80", "\"ipip\"", "10.77.0.21"),
    ]
    .concat();
    let file = lab.folder().join("directors.toml");
    fs::write(&file, &text)?;
    let file = file.to_string_lossy().into_owned();

    let before = all(&real)?;
    let said = real_server(&real, &["-c", &file])?;
    let set = all(&real)?;
    let again = real_server(&real, &["-c", &file])?;
    ensure!(again.starts_with("nothing to change: "), "{again}");
    ensure!(all(&real)? == set, "the second run has changed something");

    let _nginx = Nginx::start(&real)?;
    let capture = real.capture("ip or ip6")?;
    let director = Director::start(&host, &text)?;
    director.wait_for_status("/ipvs/in_sync", &json!(true))?;
    for (address, answer) in [
        ("10.77.1.41", "rs1 10.78.0.100 80"),
        ("10.77.1.42", "rs1 10.78.0.100 80"),
        ("10.77.1.43", "rs1 10.78.0.100 80"),
        ("10.77.1.44", "rs1 10.78.0.100 80"),
        ("10.77.1.44:8080", "rs1 10.78.0.100 8080"),
        ("10.77.1.45", "rs1 10.78.0.100 80"),
        ("[fd77:1::41]", "rs1 fd78::100 80"),
        ("[fd77:1::43]", "rs1 fd78::100 80"),
        ("[fd77:1::45]", "rs1 fd78::100 80"),
    ] {
        let curl = format!("curl --silent --fail --globoff --max-time 2 'http://{address}/who'");
        let mut found = String::new();
        let answered = wait_until(PATIENCE, address, || {
            found = client.sh(&curl).unwrap_or_default();
            Ok(!found.is_empty())
        });
        answered.with_context(|| format!("{said}\n{}", all(&real).unwrap_or_default()))?;
        ensure!(found.trim() == answer, "{address}: {found}, not {answer}");
    }
    for words in [
        ["10.77.0.11 > 10.77.0.21: ", " > 10.77.1.41.80: "],
        ["10.77.0.11.", " > 10.77.0.21.6080: "],
        ["10.77.0.11 > 10.77.0.21: GRE", " > 10.77.1.44.8080: "],
        ["fd77::11 > fd77::21: ", " > 10.77.1.45.80: "],
        ["10.77.0.11 > 10.77.0.21: ", " > fd77:1::45.80: "],
    ] {
        capture.wait_for(PATIENCE, UNIX_EPOCH, &words)?;
    }
    director.stop()?;

    real_server(&real, &["--undo"])?;
    let after = all(&real)?;
    ensure!(after == before, "{after}\nbefore:\n{before}");
    Ok(())
}
