//! Connections over a failover: the kernel's daemons and vipd's own sender of the whole table.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lab::cluster::{Cluster, VIP, config};
use lab::connections::{Held, talk_on};
use lab::director::Director;
use lab::process::Process;
use lab::{Host, wait_until};
use serde_json::json;

use super::PATIENCE;

pub(super) const TO: &str = "10.77.0.10:80";

/// The classic cluster with a link between the directors, and servers that talk.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    _servers: [Process; 2],
}

impl Scene {
    pub(super) fn new(forwarding: &str) -> Result<Scene> {
        let cluster = Cluster::new()?;
        for (host, address) in [
            (&cluster.lb1, "10.78.0.11/24"),
            (&cluster.lb2, "10.78.0.12/24"),
        ] {
            cluster.lab.add_interface(host, "eth1", address)?;
            host.run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0")?;
            host.run("sysctl -q -w net.ipv4.conf.eth0.send_redirects=0")?;
        }
        if forwarding == "nat" {
            for real_server in [&cluster.rs1, &cluster.rs2] {
                // The answers come back through whoever has the virtual address.
                real_server.ip(&format!("addr del {VIP}/32 dev lo"))?;
                real_server.ip(&format!("route add 10.77.0.100/32 via {VIP}"))?;
            }
        }
        let servers = [talk_on(&cluster.rs1)?, talk_on(&cluster.rs2)?];
        Ok(Scene {
            cluster,
            _servers: servers,
        })
    }

    /// Starts both directors; the first is master, with both real servers.
    pub(super) fn start(&self, text: impl Fn(&str, u8) -> String) -> Result<(Director, Director)> {
        let lb1 = Director::start(&self.cluster.lb1, &text("lb1", 150))?;
        let lb2 = Director::start(&self.cluster.lb2, &text("lb2", 100))?;
        lb1.wait_for_state("master")?;
        for director in [&lb1, &lb2] {
            wait_until(PATIENCE, "both real servers", || {
                Ok(director.host.weights()?.len() >= 2)
            })?;
        }
        lb2.wait_for_state("backup")?;
        Ok((lb1, lb2))
    }
}

/// The configuration of a director; `sync`: further keys of `ipvs.sync`, none: without it.
pub(super) fn text(name: &str, priority: u8, forwarding: &str, sync: Option<&str>) -> String {
    let sync = sync.map_or(String::new(), |more| {
        format!("\nsync = {{ interface = \"eth1\", id = 51{more} }}")
    });
    config(name, priority, 1)
        .replacen("\"2s\"", &format!("\"2s\"{sync}"), 1)
        .replace(
            "forwarding = \"dr\"",
            &format!("forwarding = \"{forwarding}\""),
        )
        .lines()
        // A starved check would move connections, too.
        .map(|line| match line.starts_with("check = ") {
            true => "check = { type = \"none\" }\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect()
}

/// The same, told only on an occasion, with a virtual server of UDP: of a connection of one datagram
/// the kernel never tells.
pub(super) fn text_with_udp(name: &str, priority: u8) -> String {
    let text = text(name, priority, "dr", Some(", refresh = \"0s\""));
    format!(
        "{text}\n[[virtual_server]]\nname = \"udp\"\naddress = \"{VIP}:53\"\nprotocol = \"udp\"\n\
         scheduler = \"rr\"\nforwarding = \"dr\"\ncheck = {{ type = \"none\" }}\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.21\"\n"
    )
}

/// The clients of UDP that a director's kernel holds.
pub(super) fn udp(host: &Host) -> Result<BTreeSet<String>> {
    let list = host.run("cat /proc/net/ip_vs_conn")?;
    let udp = list.lines().filter(|line| line.starts_with("UDP"));
    let client = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        words.join(" ")
    };
    Ok(udp.map(client).collect())
}

/// How often a director has sent the whole table.
fn transfers(director: &Director) -> Result<u64> {
    let status = director.status()?;
    let transfers = status.pointer("/ipvs/sync/transfers");
    let transfers = transfers.and_then(serde_json::Value::as_u64);
    transfers.context("no ipvs.sync in the status")
}

/// The clients of the open connections that a director's kernel holds.
fn open(host: &Host) -> Result<BTreeSet<String>> {
    let list = host.run("cat /proc/net/ip_vs_conn")?;
    let open = list.lines().filter(|line| line.contains("ESTABLISHED"));
    let client = |line: &str| {
        line.split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" ")
    };
    Ok(open.map(client).collect())
}

/// Waits until the peer's kernel holds the open connections of the master's, of which there are so
/// many. The peer may hold more: that one has ended it is not told at once.
fn peer_holds(master: &Host, peer: &Host, wanted: usize) -> Result<()> {
    let mut lists = (BTreeSet::new(), BTreeSet::new());
    wait_until(PATIENCE, "the connections", || {
        lists = (open(master)?, open(peer)?);
        Ok(lists.0.len() >= wanted && lists.0.is_subset(&lists.1))
    })
    .with_context(|| format!("{} and {}: {lists:?}", master.name(), peer.name()))
    .map(|_| ())
}

fn all_survive(held: Held) -> Result<()> {
    let (survivors, output) = held.survivors()?;
    ensure!(survivors == 4, "{output}");
    Ok(())
}

/// Hands over; again if a starved peer did not take over in time.
pub(super) fn hand_over(from: &Director, to: &Director) -> Result<String> {
    let mut said = String::new();
    wait_until(PATIENCE, "the handover", || {
        match from.vipctl(&["switchover", "web"]) {
            Ok(words) => said = words,
            Err(error) => said = format!("{error:#}"),
        }
        Ok(!said.contains("nobody took over"))
    })
    .with_context(|| said.clone())?;
    to.wait_for_state("master")?;
    Ok(said)
}

/// A planned handover to lb2, then lb2 dies with its cables.
fn planned_and_unplanned(forwarding: &str) -> Result<()> {
    let scene = Scene::new(forwarding)?;
    let cluster = &scene.cluster;
    // What opens is with the peer a second later, also where the kernel says nothing of it.
    let sync = Some(", refresh = \"1s\"");
    let (lb1, mut lb2) = scene.start(|name, priority| text(name, priority, forwarding, sync))?;
    for director in [&lb1, &lb2] {
        director
            .wait_for_status("/ipvs/in_sync", &json!(true))
            .context("the sync daemons")?;
    }
    let held = Held::open(&cluster.client, "planned", TO)?;
    let said = hand_over(&lb1, &lb2)?;
    ensure!(said.contains("connections: sent "), "{said}");
    ensure!(said.contains("the peer holds "), "{said}");
    all_survive(held).with_context(|| said)?;

    let held = Held::open(&cluster.client, "unplanned", TO)?;
    // Those of before are closed; these four are open, and the silent one, too.
    peer_holds(&cluster.lb2, &cluster.lb1, 4)?;
    lb2.kill()?;
    cluster.lab.pull_cable(&cluster.lb2)?;
    cluster.lab.pull_cable_of(&cluster.lb2, "eth1")?;
    lb1.wait_for_state("master")?;
    all_survive(held)
}

#[test]
fn with_sync_every_connection_survives_a_failover_by_direct_routing() -> Result<()> {
    planned_and_unplanned("dr")
}

#[test]
fn with_sync_every_connection_survives_a_failover_by_nat() -> Result<()> {
    planned_and_unplanned("nat")
}

#[test]
fn without_sync_none_survives_and_with_mh_and_sloppy_tcp_all_do() -> Result<()> {
    let scene = Scene::new("dr")?;
    let (lb1, lb2) = scene.start(|name, priority| text(name, priority, "dr", None))?;
    let held = Held::open(&scene.cluster.client, "without", TO)?;
    hand_over(&lb1, &lb2)?;
    let (survivors, output) = held.survivors()?;
    ensure!(survivors == 0, "{output}");
    ensure!(output.matches("reset").count() == 4, "{output}");
    let rules = lb2.host.run("nft list ruleset")?;
    ensure!(!rules.contains("vipd"), "{rules}");

    let stateless = |name: &str, priority| {
        text(name, priority, "dr", None).replace(
            "scheduler = \"wrr\"",
            "scheduler = \"mh\"\nscheduler_flags = [\"mh-port\"]",
        )
    };
    for (director, name, priority) in [(&lb1, "lb1", 150), (&lb2, "lb2", 100)] {
        director.host.run("sysctl -q -w net.ipv4.vs.sloppy_tcp=1")?;
        director.reload(&stateless(name, priority))?;
        wait_until(PATIENCE, "the scheduler", || {
            let saved = director.host.ipvsadm_save()?;
            Ok(saved.iter().any(|line| line.contains("-s mh")))
        })?;
    }
    let held = Held::open(&scene.cluster.client, "stateless", TO)?;
    hand_over(&lb2, &lb1)?;
    all_survive(held)
}

#[test]
fn a_peer_that_comes_up_gets_the_table_and_twenty_thousand_arrive_complete() -> Result<()> {
    const MANY: usize = 20_000;
    let scene = Scene::new("dr")?;
    let cluster = &scene.cluster;
    let (lb1, lb2) = scene.start(text_with_udp)?;
    lb2.stop()?;
    let held = Held::open(&cluster.client, "held", TO)?;
    let lb2 = Director::start(&cluster.lb2, &text_with_udp("lb2", 100))?;
    peer_holds(&cluster.lb1, &cluster.lb2, 4).with_context(|| lb1.log())?;
    all_survive(held)?;

    // Nobody there listens; a word from each port is a connection all the same.
    cluster.rs1.drop_incoming("udp dport 53")?;
    restarted_alone(&scene, &lb1)?;
    let sender = cluster.client.spawn(
        "many",
        &lab::binary("lab")?,
        &["many", "10.77.0.10:53", &MANY.to_string()],
    )?;
    sender.wait_for_output(PATIENCE, "sent 20000")?;
    let (mut here, mut said) = (udp(&cluster.lb1)?.len(), String::new());
    ensure!(
        here > MANY / 2,
        "only {here} of {MANY} connections were made"
    );
    wait_until(PATIENCE, "all of them at the peer", || {
        said = lb1.vipctl(&["sync"])?;
        here = udp(&cluster.lb1)?.len();
        Ok(udp(&cluster.lb2)?.len() == here)
    })
    .with_context(|| said.clone())?;
    println!("{here} connections of a client: {said}");
    let status = lb1.status()?;
    ensure!(
        status["ipvs"]["sync"]["peers"][0]["ready"] == json!(true),
        "{}",
        status["ipvs"]
    );
    lb2.stop()
}

/// The backup daemon of the peer's kernel is stopped, and vipd there starts it again: it gets what
/// it lacks.
fn restarted_alone(scene: &Scene, lb1: &Director) -> Result<()> {
    let cluster = &scene.cluster;
    let few = ["many", "10.77.0.10:53", "300"];
    let sender = cluster.client.spawn("few", &lab::binary("lab")?, &few)?;
    sender.wait_for_output(PATIENCE, "sent 300")?;
    let before = transfers(lb1)?;
    cluster.lb2.run("ipvsadm --stop-daemon backup")?;
    wait_until(PATIENCE, "the table goes out again", || {
        Ok(transfers(lb1)? > before)
    })?;
    wait_until(PATIENCE, "the peer has it", || {
        let (here, there) = (udp(&cluster.lb1)?, udp(&cluster.lb2)?);
        Ok(!here.is_empty() && here.is_subset(&there))
    })
    .map(|_| ())
}
