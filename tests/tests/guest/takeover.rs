//! What becomes of connections in the moments around a takeover: those that the new master does not
//! know yet, and those that begin while it comes about.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::cluster::VIP;
use lab::connections::Held;
use lab::process::Process;
use lab::{Host, binary, wait_until};
use serde_json::json;

use crate::PATIENCE;
use crate::sync::{Scene, TO, hand_over, text, text_with_udp, udp};

const MARKED: &str = "10.77.0.10:8080";

/// A virtual server behind a firewall mark of a range of ports.
fn marked() -> String {
    format!(
        "\n[[virtual_server]]\nname = \"marked\"\nfwmark = 7\nvrrp = \"web\"\nscheduler = \"rr\"\n\
         mark = [{{ address = \"{VIP}\", ports = [\"8000-8100\"] }}]\n\
         forwarding = \"dr\"\ncheck = {{ type = \"none\" }}\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.21\"\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.22\"\n"
    )
}

fn talk_on_8080(host: &Host) -> Result<Process> {
    let server = host.spawn("talk8080", &binary("lab")?, &["talk", "8080"])?;
    server.wait_for_output(PATIENCE, "talking")?;
    Ok(server)
}

/// Counts the resets that a host's stack sends from the two ports before vipd's chain, and those
/// that come out behind it.
fn watch_resets(host: &Host) -> Result<()> {
    let reset = |port, counter: &str| {
        format!(
            "ip saddr {VIP} tcp sport {port} tcp flags & rst == rst counter name {counter}{port}\n"
        )
    };
    let chain = |name: &str, priority| {
        let rules: String = [80, 8080].map(|port| reset(port, name)).concat();
        format!("chain {name} {{ type filter hook output priority {priority}\n{rules} }}\n")
    };
    let counters: String = ["before80", "before8080", "after80", "after8080"]
        .map(|name| format!("counter {name} {{ }}\n"))
        .concat();
    let (before, after) = (chain("before", -10), chain("after", 10));
    host.sh(&format!(
        "nft -f - <<'.'\ntable inet witness {{\n{counters}{before}{after}}}\n."
    ))?;
    Ok(())
}

/// What is counted so far, of each port.
fn resets(host: &Host, counter: &str) -> Result<[u64; 2]> {
    let text = host.run("nft list table inet witness")?;
    let packets = |port: u16| {
        let (_, rest) = text.split_once(&format!("counter {counter}{port} {{"))?;
        let (_, rest) = rest.split_once("packets ")?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let counted = packets(80).zip(packets(8080));
    let (by_address, by_mark) = counted.with_context(|| text.clone())?;
    Ok([by_address, by_mark])
}

fn is_quiet(host: &Host) -> Result<bool> {
    Ok(host.run("nft list ruleset")?.contains("chain quiet"))
}

#[test]
fn a_new_master_resets_no_connection_that_it_does_not_know_until_a_while_has_passed() -> Result<()>
{
    let scene = Scene::new("dr")?;
    let cluster = &scene.cluster;
    let _servers = [talk_on_8080(&cluster.rs1)?, talk_on_8080(&cluster.rs2)?];
    let (lb1, lb2) = scene.start(|name, priority| {
        let never = Some(", full_table = false, refresh = \"0s\"");
        text(name, priority, "dr", never) + &marked()
    })?;
    for director in [&lb1, &lb2] {
        director.wait_for_status("/ipvs/in_sync", &json!(true))?;
    }
    // Nothing is told to the peer.
    cluster.lab.isolate_interface(&cluster.lb2, "eth1")?;
    let held = [
        Held::open(&cluster.client, "by-address", TO)?,
        Held::open(&cluster.client, "by-mark", MARKED)?,
    ];
    wait_until(PATIENCE, "the rules are there ahead", || {
        is_quiet(&cluster.lb2)
    })?;
    watch_resets(&cluster.lb2)?;
    // The downloads go on past the director, and their clients answer to it.
    std::thread::scope(|scope| {
        let handover = scope.spawn(|| hand_over(&lb1, &lb2));
        wait_until(PATIENCE, "resets in the end", || {
            let after = resets(&cluster.lb2, "after")?;
            // The rules that are still there were there when the counters were read.
            ensure!(
                after == [0, 0] || !is_quiet(&cluster.lb2)?,
                "resets of quiet services: {after:?}"
            );
            Ok(after.iter().all(|count| *count > 0))
        })?;
        handover.join().unwrap()
    })?;
    for held in held {
        let (survivors, output) = held.survivors()?;
        ensure!(survivors == 0, "{output}");
        ensure!(output.matches("reset").count() == 4, "{output}");
    }
    let (after, before) = (
        resets(&cluster.lb2, "after")?,
        resets(&cluster.lb2, "before")?,
    );
    let dropped = before
        .iter()
        .zip(&after)
        .all(|(before, after)| before > after);
    ensure!(dropped, "resets: {before:?}, of which came out {after:?}");
    Ok(())
}

#[test]
fn connections_that_begin_during_a_handover_come_along_and_it_is_told_what_was_sent() -> Result<()>
{
    let scene = Scene::new("dr")?;
    let cluster = &scene.cluster;
    let (lb1, lb2) = scene.start(|name, priority| {
        let http = "[global]\nhttp = \"127.0.0.1:9650\"";
        let text = text_with_udp(name, priority).replacen("[global]", http, 1);
        // A table that goes takes its connections along.
        text.replacen("[ipvs]", "[ipvs]\non_stop = \"keep\"", 1)
    })?;
    for director in [&lb1, &lb2] {
        director.wait_for_status("/ipvs/in_sync", &json!(true))?;
    }
    cluster.rs1.drop_incoming("udp dport 53")?;
    // It takes in, but does not hear that it is asked: the handover waits for it for a while.
    cluster.lb2.drop_incoming("udp dport 8849")?;
    // Each from another port.
    let words = "while :; do echo > /dev/udp/10.77.0.10/53; sleep 0.02; done";
    let _trickle = cluster
        .client
        .spawn("trickle", Path::new("bash"), &["-c", words])?;
    wait_until(PATIENCE, "some connections", || {
        Ok(udp(&cluster.lb1)?.len() > 10)
    })?;
    let said = hand_over(&lb1, &lb2)?;
    ensure!(said.contains("no peer says"), "{said}");
    lb1.wait_for_event(&["connections.peer_silent eth1", "no peer says"])?;
    all_come_along(&cluster.lb1, &cluster.lb2).context(said)?;

    let peer = "connections.peer_silent 10.78.0.11";
    lb2.wait_for_event(&[peer, "not heard on eth1"])?;
    cluster.lb2.drop_nothing()?;
    // A busy peer may be too slow with its answer.
    wait_until(PATIENCE, "an answer of the peer", || {
        Ok(lb2.vipctl(&["sync"])?.contains("the peer holds"))
    })?;
    lb2.wait_for_event(&["connections.sent eth1", "the peer holds"])?;
    let metrics = cluster.lb2.get("http://127.0.0.1:9650/metrics");
    let metrics = metrics.context("no metrics")?;
    let value = |name: &str| -> Result<u64> {
        let mut lines = metrics.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(found.with_context(|| metrics.clone())?.parse()?)
    };
    for (name, least) in [
        ("transfers_total", 1),
        ("sent_total", 10),
        ("datagrams_total", 1),
        ("skipped_total{reason=\"engine\"}", 0),
        ("peers", 1),
        ("peer_connections", 10),
        ("last_success_timestamp_seconds", 1_700_000_000),
        ("failures_total", 0),
    ] {
        let value = value(&format!("vipd_connection_sync_{name}"))?;
        ensure!(value >= least, "{name} {value}");
    }

    // The same when it is stopped.
    lb2.stop()?;
    lb1.wait_for_state("master")?;
    all_come_along(&cluster.lb2, &cluster.lb1)?;

    cluster.lb1.ip("link del eth1")?;
    wait_until(PATIENCE, "the trouble", || {
        Ok(lb1.status_text()?.contains("no such interface"))
    })?;
    lb1.refused(&["sync"])?;
    lb1.wait_for_event(&["connections.failed eth1", "no such interface"])?;
    Ok(())
}

/// Waits until the new master has every connection of the old one.
fn all_come_along(old: &Host, new: &Host) -> Result<()> {
    let (mut before, mut after) = Default::default();
    wait_until(PATIENCE, "all of the old master's connections", || {
        (before, after) = (udp(old)?, udp(new)?);
        Ok(before.is_subset(&after))
    })
    .with_context(|| {
        let lost: Vec<_> = before.difference(&after).collect();
        format!("of {} are lost: {lost:?}", before.len())
    })?;
    ensure!(before.len() > 10, "only {before:?}");
    Ok(())
}
