//! An upgrade under load: connections, the kernel's table and the verdicts of checks stay as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::cluster::{Cluster, VIP, config};
use lab::connections::Held;
use lab::director::Director;
use lab::load::Load;
use lab::{Host, binary, wait_until};
use serde_json::json;

use crate::PATIENCE;
use crate::sync::{Scene, hand_over, text_with_udp, udp};

const TALK: &str = "10.77.0.10:8090";

#[test]
fn under_load_no_request_fails_no_connection_breaks_and_the_table_is_not_touched() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, rs2) = cluster.start_real_servers()?;
    let talk = cluster
        .rs1
        .spawn("talk", &binary("lab")?, &["talk", "8090"])?;
    talk.wait_for_output(PATIENCE, "talking")?;
    let text = config("lb1", 150, 1).replace(
        "resync_interval = \"2s\"",
        "resync_interval = \"2s\"\ntimeouts = { tcp = \"1234s\" }",
    );
    let more = format!(
        "\n[[virtual_server]]\nname = \"talk\"\naddress = \"{VIP}:8090\"\nvrrp = \"web\"\nscheduler = \"rr\"\n\
         forwarding = \"dr\"\ncheck = {{ type = \"none\" }}\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.21\"\n"
    );
    let timeout = |host: &Host| host.run("ipvsadm -L --timeout");
    cluster.lb1.run("ipvsadm --set 777 0 0")?;
    let before_all = timeout(&cluster.lb1)?;
    let mut lb1 = Director::start(&cluster.lb1, &(text + &more))?;
    cluster.wait_until_serving()?;
    lb1.vipctl(&["weight", "http", "10.77.0.21", "7"])?;
    rs2.stop()?;
    lb1.wait_for_status("/virtual_servers/0/real_servers/1/state", &json!("down"))?;
    lb1.wait_for_status("/virtual_servers/1/real_servers/0/state", &json!("up"))?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    ensure!(
        timeout(&cluster.lb1)?.contains("1234"),
        "{}",
        timeout(&cluster.lb1)?
    );

    let held = Held::open(&cluster.client, "held", TALK)?;
    let load = Load::start(
        &cluster.client,
        &format!("{VIP}:80"),
        1,
        Duration::from_millis(100),
    )?;
    let (table, changes) = (table(&cluster.lb1)?, changes(&lb1));
    let connections = connections(&cluster.lb1)?;
    let events = lb1.events()?.len();
    lb1.upgrade()?;
    let status = lb1.status()?;
    for (real, state) in [("0", "up"), ("1", "down")] {
        let pointer = format!("/virtual_servers/0/real_servers/{real}/state");
        ensure!(
            status.pointer(&pointer) == Some(&json!(state)),
            "{status:#}"
        );
    }
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    let totals = load.next_totals()?;
    ensure!(totals.failed.is_empty(), "{totals:?}");
    drop(load);
    ensure!(
        self::table(&cluster.lb1)? == table,
        "the table is another one"
    );
    ensure!(self::changes(&lb1) == changes, "{}", lb1.log());
    ensure!(
        self::connections(&cluster.lb1)? > connections,
        "the counters began anew"
    );
    let news = lb1.events()?;
    ensure!(
        news.len() == events + 1,
        "{:#?}",
        &news[events.min(news.len())..]
    );
    let (survivors, output) = held.survivors()?;
    ensure!(survivors == 4, "{output}");

    // What was ordered, and what the kernel had before, is known to the last one.
    lb1.vipctl(&["weight", "http", "10.77.0.21", "--reset"])?;
    wait_until(PATIENCE, "the weight of the configuration", || {
        Ok(cluster.lb1.weights()?.get("10.77.0.21:80") == Some(&1))
    })?;
    lb1.stop()?;
    ensure!(
        timeout(&cluster.lb1)? == before_all,
        "{}",
        timeout(&cluster.lb1)?
    );
    Ok(())
}

/// The kernel's threads are the same ones afterwards, and what sends the table still has somebody to send it
/// to.
#[test]
fn sync_daemons_run_on_and_the_table_still_goes_to_the_peer() -> Result<()> {
    let scene = Scene::new("dr")?;
    let cluster = &scene.cluster;
    // Only on an occasion.
    let (mut lb1, mut lb2) = scene.start(text_with_udp)?;
    for director in [&mut lb1, &mut lb2] {
        director.wait_for_status("/ipvs/in_sync", &json!(true))?;
        director.wait_for_status("/ipvs/sync/running", &json!(true))?;
        let (host, changes) = (director.host.clone(), changes(director));
        let (daemons, sockets) = (sync_daemons(&host)?, sync_sockets(&host)?);
        ensure!(daemons.matches("syncid=51").count() == 2, "{daemons}");
        director.upgrade()?;
        director.wait_for_status("/ipvs/in_sync", &json!(true))?;
        director.wait_for_status("/ipvs/sync/running", &json!(true))?;
        ensure!(self::changes(director) == changes, "{}", director.log());
        let after = sync_daemons(&host)?;
        ensure!(daemons == after, "{daemons} then {after}");
        // What the same threads have open.
        let after = sync_sockets(&host)?;
        let kept = sockets.intersection(&after).count();
        ensure!(kept == 2, "{sockets:?} then {after:?}");
    }
    // Of a connection of one datagram the kernel never tells.
    let few = ["many", "10.77.0.10:53", "50"];
    let sender = cluster.client.spawn("few", &binary("lab")?, &few)?;
    sender.wait_for_output(PATIENCE, "sent 50")?;
    let mut said = String::new();
    wait_until(PATIENCE, "all of them at the peer", || {
        said = lb1.vipctl(&["sync"])?;
        let (here, there) = (udp(&cluster.lb1)?, udp(&cluster.lb2)?);
        Ok(!here.is_empty() && here.is_subset(&there))
    })
    .with_context(|| said.clone())?;
    // And the other way round, after a handover.
    hand_over(&lb1, &lb2)?;
    lb2.wait_for_state("master")?;
    let host = lb1.host.clone();
    lb1.stop()?;
    let left = sync_daemons(&host)?;
    ensure!(!left.contains("syncid"), "they run still: {left}");
    Ok(())
}

/// What the kernel says of its sync daemons on a host.
fn sync_daemons(host: &Host) -> Result<String> {
    host.run("ipvsadm -Ln --daemon")
}

/// The sockets of port 8848: those of the kernel's daemons, and vipd's own.
fn sync_sockets(host: &Host) -> Result<BTreeSet<String>> {
    let sockets = host.run("cat /proc/net/udp")?;
    let sockets = sockets.lines().filter(|line| line.contains(":2290 "));
    let inode = |line: &str| line.split_whitespace().nth(9).map(str::to_owned);
    Ok(sockets.filter_map(inode).collect())
}

/// Services and real servers with their weights.
fn table(host: &Host) -> Result<Vec<String>> {
    let mut lines = host.ipvsadm_save()?;
    lines.sort();
    Ok(lines)
}

/// Changes to IPVS that were told so far, by whichever process.
fn changes(director: &Director) -> Vec<String> {
    let log = director.log();
    let told = log.lines().filter(|line| line.contains("ipvs"));
    told.filter(|line| line.contains("INFO ipvs: ") || line.contains("ipvs.repaired"))
        .map(str::to_owned)
        .collect()
}

/// Connections that the first service was given since it was made.
fn connections(host: &Host) -> Result<u64> {
    let text = host.run("ipvsadm -Ln --stats --exact")?;
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains(&format!("{VIP}:80 ")));
    let count = line.and_then(|line| line.split_whitespace().nth(2)?.parse().ok());
    count.context(text)
}
