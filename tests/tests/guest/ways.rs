//! Less trodden ways of forwarding, with real packets: who answers, whose address it sees, what goes
//! over the wire, and that ipvsadm and vipctl see the same.

mod datagrams;
mod marks;
mod tunnels;

use anyhow::{Context, Result, ensure};
use lab::answer::Transport::{Sctp, Udp};
use lab::answer::{ask_on, serve_on};
use lab::capture::Capture;
use lab::director::Director;
use lab::nginx::Nginx;
use lab::{Host, wait_until};
use serde_json::json;

use crate::PATIENCE;
use crate::forwarding::{Scene, seen};
use crate::ipvsctl::{same, without_seconds};

const CLIENT: &str = "10.78.0.100:0";
const CLIENT6: &str = "[fd78::100]:0";
/// The real servers that answer clients themselves.
const DIRECT: [&str; 2] = ["address = \"10.77.0.21\"", "address = \"10.77.0.23\""];

/// The scene with the virtual addresses 50 to 59 more, and rs3 answers clients directly as rs1 does.
fn scene() -> Result<Scene> {
    let scene = Scene::new()?;
    let addresses = "for n in 0 1 2 3 4 5 6 7 8 9; do
         echo addr add 10.77.1.5$n/32 dev lo; echo addr add fd77:1::5$n/128 dev lo nodad
     done | ip -batch -";
    for host in [&scene.lb1, &scene.rs1, &scene.rs3] {
        host.sh(addresses)?;
    }
    scene.rs3.sh(
        "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
         { echo route add 10.78.0.0/24 dev eth0
         echo route add fd78::/64 dev eth0; } | ip -batch -",
    )?;
    // Every refusal counts here.
    scene
        .lb1
        .sh("sysctl -q -w net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")?;
    Ok(scene)
}

/// A virtual server that nobody checks.
fn service(name: &str, keys: &str, servers: &[&str]) -> String {
    let servers = servers
        .iter()
        .map(|server| format!("[[virtual_server.real_server]]\n{server}\n"));
    let servers: String = servers.collect();
    format!("[[virtual_server]]\nname = \"{name}\"\nscheduler = \"rr\"\n{keys}\n{servers}")
}

/// Starts the director; returns when the kernel has everything.
fn direct(host: &Host, text: &str) -> Result<Director> {
    let lb1 = Director::start(host, text)?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    if text.contains("mark = [") || text.contains("\"fullnat\"") {
        wait_until(PATIENCE, "the rules", || {
            Ok(host.run("nft list table inet vipd").is_ok())
        })?;
    }
    Ok(lb1)
}

/// ipvsadm has these lines, and `vipctl ipvs` says all that ipvsadm says.
fn agree(lb1: &Director, lines: &[&str]) -> Result<()> {
    let table = lb1.host.ipvsadm_save()?;
    let has = |line: &str| {
        table
            .iter()
            .any(|found| found.split_whitespace().eq(line.split_whitespace()))
    };
    for line in lines {
        ensure!(has(line), "{line}: not in {table:#?}");
    }
    same(&lb1.host, lb1, "save", "-S -n")?;
    same(&lb1.host, lb1, "list --tun-info", "-Ln --tun-info")?;
    // Timers run, and states change when clients have gone.
    wait_until(PATIENCE, "the same connections", || {
        let ours = lb1.vipctl(&["ipvs", "connections"])?;
        let theirs = lb1.host.run("ipvsadm -Lnc")?;
        Ok(without_seconds(&ours) == without_seconds(&theirs))
    })?;
    Ok(())
}

/// The one answer to one word over UDP.
fn ask(client: &Host, from: &str, to: &str, word: &str) -> Result<String> {
    let answers = ask_on(client, Udp, from, to, 1, &[word])?;
    answers.into_iter().next().context("no line")
}

/// Who answers to an HTTP request: asked once, so that those who take turns can be told.
fn web(client: &Host, url: &str) -> Result<String> {
    let script = format!("curl --silent --fail --globoff --max-time 30 'http://{url}/who'");
    Ok(client.sh(&script)?.trim().to_owned())
}

/// Who has answered: the first words.
fn names(answers: &[String]) -> Vec<&str> {
    let names = answers.iter().map(|answer| answer.split(' ').next());
    names.map(Option::unwrap_or_default).collect()
}

#[test]
fn sctp_and_a_pool_of_every_method_reach_their_real_servers() -> Result<()> {
    let scene = scene()?;
    let rs4 = scene.lab.host("rs4", "10.77.0.24/24")?;
    let _servers = [
        serve_on(&scene.rs1, Sctp, &["10.77.1.50:9000", "[fd77:1::50]:9000"])?,
        serve_on(&scene.rs2, Sctp, &["10.77.0.22:9001", "[fd77::22]:9001"])?,
        serve_on(&scene.rs3, Sctp, &["10.77.0.23:9001"])?,
    ];
    let _nginx = [
        Nginx::start(&scene.rs1)?,
        Nginx::start(&scene.rs2)?,
        Nginx::start(&scene.rs3)?,
        Nginx::start(&rs4)?,
    ];
    scene.rs1.sh("ip -6 fou add port 6083 gue")?;
    let captures = [
        scene.rs1.capture("ip or ip6")?,
        scene.rs2.capture("sctp or tcp")?,
        scene.rs3.capture("sctp or tcp")?,
        rs4.capture("tcp")?,
    ];
    let lb1 = direct(&scene.lb1, &(sctp() + &pool()))?;
    sctp_arrives(&scene, &captures)?;
    each_real_server_is_reached_in_its_own_way(&scene, &captures)?;
    agree(
        &lb1,
        &[
            "-A --sctp-service 10.77.1.50:9000 -s rr",
            "-a --sctp-service 10.77.1.50:9000 -r 10.77.0.21:9000 -g -w 1",
            "-a --sctp-service [fd77:1::50]:9000 -r [fd77::21]:9000 -g -w 1",
            "-a --sctp-service 10.77.1.51:9000 -r 10.77.0.22:9001 -m -w 1",
            "-a --sctp-service [fd77:1::51]:9000 -r [fd77::22]:9001 -m -w 1",
            "-a --sctp-service 10.77.1.52:9000 -r 10.77.0.23:9001 -m -w 1",
            "-a -t 10.77.1.50:80 -r 10.77.0.23:80 -g -w 1",
            "-a -t 10.77.1.50:80 -r 10.77.0.21:80 -i -w 1 --tun-type ipip",
            "-a -t 10.77.1.50:80 -r 10.77.0.22:8080 -m -w 1",
            "-a -t 10.77.1.50:80 -r 10.77.0.24:8080 -m -w 1",
            "-a -t 10.77.1.50:80 -r [fd77::21]:80 -i -w 1 --tun-type gue --tun-port 6083 --tun-nocsum",
        ],
    )
}

fn sctp() -> String {
    let sctp = |name: &str, address: &str, forwarding: &str, real: &str| {
        let keys =
            format!("address = \"{address}\"\nprotocol = \"sctp\"\nforwarding = \"{forwarding}\"");
        service(name, &keys, &[&format!("address = \"{real}\"")])
    };
    [
        sctp("dr", "10.77.1.50:9000", "dr", "10.77.0.21"),
        sctp("dr6", "[fd77:1::50]:9000", "dr", "fd77::21"),
        sctp("nat", "10.77.1.51:9000", "nat", "10.77.0.22:9001"),
        sctp("nat6", "[fd77:1::51]:9000", "nat", "[fd77::22]:9001"),
        sctp("fullnat", "10.77.1.52:9000", "fullnat", "10.77.0.23:9001"),
    ]
    .concat()
}

fn sctp_arrives(scene: &Scene, captures: &[Capture; 4]) -> Result<()> {
    let [rs1, rs2, rs3, _] = captures;
    for (from, to, answer) in [
        (CLIENT, "10.77.1.50:9000", "rs1 10.78.0.100 9000"),
        (CLIENT6, "[fd77:1::50]:9000", "rs1 fd78::100 9000"),
        (CLIENT, "10.77.1.51:9000", "rs2 10.78.0.100 9001"),
        (CLIENT6, "[fd77:1::51]:9000", "rs2 fd78::100 9001"),
        (CLIENT, "10.77.1.52:9000", "rs3 10.77.0.11 9001"),
    ] {
        // Two exchanges: the association holds.
        let found = ask_on(&scene.client, Sctp, from, to, 1, &["one", "two"])?;
        ensure!(found == [answer, answer], "{to}: {found:?}");
    }

    let hop = format!("{} > {}", scene.lb1.mac()?, scene.rs1.mac()?);
    let init = "[INIT]";
    seen(rs1, &[&hop, " 10.78.0.100.", " > 10.77.1.50.9000: ", init])?;
    seen(rs1, &[&hop, " fd78::100.", " > fd77:1::50.9000: ", init])?;
    seen(rs2, &[" 10.78.0.100.", " > 10.77.0.22.9001: ", init])?;
    seen(rs2, &[" fd78::100.", " > fd77::22.9001: ", init])?;
    seen(rs3, &[" 10.77.0.11.", " > 10.77.0.23.9001: ", init])?;
    ensure!(
        rs3.count(&["10.78.0.100"]) == 0,
        "full NAT shows the client"
    );
    let connections = scene.lb1.run("ipvsadm -Lnc")?;
    ensure!(connections.matches("SCTP ").count() == 5, "{connections}");
    Ok(())
}

fn pool() -> String {
    service(
        "all",
        "address = \"10.77.1.50:80\"",
        &[
            "address = \"10.77.0.23\"",
            "address = \"10.77.0.21\"\nforwarding = \"tun\"",
            "address = \"10.77.0.22:8080\"\nforwarding = \"nat\"",
            "address = \"10.77.0.24:8080\"\nforwarding = \"fullnat\"",
            "address = \"fd77::21\"\nforwarding = \"tun\"\ntunnel = { type = \"gue\", port = 6083 }",
        ],
    )
}

fn each_real_server_is_reached_in_its_own_way(
    scene: &Scene,
    captures: &[Capture; 4],
) -> Result<()> {
    let [rs1, rs2, rs3, rs4] = captures;
    let mut found = Vec::new();
    for _ in 0..10 {
        found.push(web(&scene.client, "10.77.1.50")?);
    }
    found.sort();
    // By two tunnels twice each.
    let once = [
        "rs1 10.78.0.100 80",
        "rs1 10.78.0.100 80",
        "rs2 10.78.0.100 8080",
        "rs3 10.78.0.100 80",
        "rs4 10.77.0.11 8080",
    ];
    let twice: Vec<&str> = once.iter().flat_map(|answer| [*answer; 2]).collect();
    ensure!(found == twice, "{found:#?}");

    let hop = format!("{} > {}", scene.lb1.mac()?, scene.rs3.mac()?);
    seen(rs3, &[&hop, " 10.78.0.100.", " > 10.77.1.50.80: "])?;
    seen(rs1, &["10.77.0.11 > 10.77.0.21: ", " > 10.77.1.50.80: "])?;
    seen(rs1, &["fd77::11.", " > fd77::21.6083: "])?;
    seen(rs2, &[" 10.78.0.100.", " > 10.77.0.22.8080: "])?;
    seen(rs4, &[" 10.77.0.11.", " > 10.77.0.24.8080: "])?;
    ensure!(
        rs4.count(&["10.78.0.100"]) == 0,
        "full NAT shows the client"
    );
    Ok(())
}
