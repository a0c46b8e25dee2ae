//! Checks and the host that makes them: for the master only, and a network of its own that is gone.

use anyhow::{Result, ensure};
use lab::cluster::{Cluster, config};
use lab::director::Director;
use lab::nginx::Nginx;
use lab::wait_until;
use serde_json::json;

use super::PATIENCE;

#[test]
fn a_backup_does_not_check_for_the_master_and_begins_at_once_when_it_takes_over() -> Result<()> {
    let cluster = Cluster::new()?;
    let (rs1, _rs2) = cluster.start_real_servers()?;
    let only_master = |name, priority, further: &str| {
        let keys = format!("vrrp = \"web\"\nwhen = \"master\"\n{further}");
        config(name, priority, 1).replace("vrrp = \"web\"\n", &keys)
    };
    let lb1 = Director::start(&cluster.lb1, &only_master("lb1", 150, ""))?;
    lb1.wait_for_state("master")?;
    let lb2 = Director::start(&cluster.lb2, &only_master("lb2", 100, ""))?;
    let checks = |index| format!("/virtual_servers/0/real_servers/{index}/checks/0");
    let state = |index| checks(index) + "/state";
    for index in 0..2 {
        lb1.wait_for_status(&state(index), &json!("up"))?;
    }
    // Never checked, and in the pool: the takeover does not begin with an empty one.
    lb2.wait_for_status("/checks/running", &json!(0))?;
    lb2.wait_for_status("/checks/stopped", &json!(2))?;
    lb2.wait_for_status(&state(0), &json!("unknown"))?;
    wait_until(PATIENCE, "both are in the pool of the backup", || {
        let weights = cluster.lb2.weights()?;
        Ok(weights.len() == 2 && weights.values().all(|weight| *weight == 1))
    })?;
    let page = lb2.status_text()?;
    ensure!(page.contains("http (not checked while backup)"), "{page}");

    lb1.vipctl(&["maintenance", "on"])?;
    lb2.wait_for_state("master")?;
    for index in 0..2 {
        lb2.wait_for_status(&state(index), &json!("up"))?;
        lb2.wait_for_status(&(checks(index) + "/runs"), &json!("normally"))?;
    }
    drop(rs1);
    let words = [
        "real_server.down http/10.77.0.21:80",
        "http GET /health at",
        "refused, after",
    ];
    lb2.wait_for_event(&words)?;

    // What the master found is not forgotten by the backup.
    lb1.vipctl(&["maintenance", "off"])?;
    lb2.wait_for_state("backup")?;
    lb2.wait_for_status("/checks/running", &json!(0))?;
    lb2.wait_for_status(&state(0), &json!("down"))?;
    let page = lb2.status_text()?;
    ensure!(
        page.contains("refused (not checked while backup)"),
        "{page}"
    );

    // Checked slowly it comes back.
    let _rs1 = Nginx::start(&cluster.rs1)?;
    lb2.reload(&only_master("lb2", 100, "backup_interval = \"2s\"\n"))?;
    lb2.wait_for_status("/checks/running", &json!(2))?;
    lb2.wait_for_status(&(checks(0) + "/runs"), &json!("slowly"))?;
    lb2.wait_for_status(&state(0), &json!("up"))?;
    Ok(())
}

#[test]
fn a_director_out_of_file_descriptors_says_so_and_takes_nobody_down() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let text = config("lb1", 150, 1).replace(
        "type = \"http\", path = \"/health\"",
        // One with a source takes a socket for each probe.
        "type = \"tcp\", source = \"10.77.0.11\"",
    );
    let lb1 = Director::start(&cluster.lb1, &text)?;
    let up = |index| format!("/virtual_servers/0/real_servers/{index}/state");
    for index in 0..2 {
        lb1.wait_for_status(&up(index), &json!("up"))?;
    }
    let pid = lb1.process().id();
    let limit = |files| {
        cluster
            .lb1
            .run(&format!("prlimit --pid {pid} --nofile={files}:"))
    };
    limit(5)?;
    // Nobody can connect to its control socket either.
    wait_until(PATIENCE, "the alarm in the log", || {
        Ok(lb1.log().contains("this host ran out of something"))
    })?;
    limit(1024)?;
    lb1.wait_for_event(&[
        "checks.resources lb1",
        "1 probe could not be made",
        "open files",
    ])?;
    let page = lb1.status_text()?;
    ensure!(page.contains("this host ran out of something"), "{page}");
    for index in 0..2 {
        lb1.wait_for_status(&up(index), &json!("up"))?;
    }
    let events = lb1.events()?;
    ensure!(
        !events.iter().any(|it| it.contains("real_server.down")),
        "{events:#?}"
    );
    Ok(())
}

#[test]
fn a_director_whose_network_is_gone_says_so_and_who_comes_back_too_often_waits() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let second = "address = \"10.77.0.22\"";
    let any = format!(
        "{second}\nrequire = \"any\"\nchecks = [{{ type = \"tcp\", interval = \"1s\" }}, {{ type = \
         \"tcp\", port = 9, interval = \"1s\" }}]"
    );
    let flap = "fall = 2, flap = { count = 2, within = \"10m\", stable = \"3s\" }";
    let text = config("lb1", 150, 1)
        .replace(second, &any)
        .replace("fall = 2", flap);
    let lb1 = Director::start(&cluster.lb1, &text)?;
    let up = |index| format!("/virtual_servers/0/real_servers/{index}/state");
    for index in 0..2 {
        lb1.wait_for_status(&up(index), &json!("up"))?;
    }
    lb1.wait_for_event(&[
        "check.down http/10.77.0.22:80",
        "tcp 10.77.0.22:9: connection refused",
    ])?;

    cluster.lab.pull_cable(&cluster.lb1)?;
    lb1.wait_for_event(&["checks.all_failing lb1", "every one of 2 targets fails"])?;
    let page = lb1.status_text()?;
    ensure!(
        page.contains("this host's own network may be gone"),
        "{page}"
    );
    for server in ["10.77.0.21", "10.77.0.22"] {
        lb1.wait_for_event(&["real_server.down http/", server])?;
    }

    cluster.lab.plug_cable(&cluster.lb1)?;
    lb1.wait_for_event(&["checks.all_failing_gone lb1", "passed after"])?;
    lb1.wait_for_status("/checks/all_failing", &json!(null))?;
    lb1.wait_for_event(&[
        "real_server.flapping http/10.77.0.21:80",
        "flapping: 2 changes in 10m, stays out until it has passed for 3s",
    ])?;
    for index in 0..2 {
        lb1.wait_for_status(&up(index), &json!("up"))?;
    }
    Ok(())
}
