//! From any table to any other by a reload, and what operators have ordered on the way.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::cluster::{Cluster, VIP, config};
use lab::director::Director;
use lab::load::Load;
use lab::{Lab, wait_until};
use serde_json::json;

use super::{PATIENCE, always_up};

const RS1: &str = "10.77.0.21:80";

#[test]
fn a_reload_leaves_the_table_that_a_fresh_start_with_the_new_file_makes() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let base = always_up("wrr", "dr");
    let (_, other) = base.split_once("[[virtual_server]]").unwrap_or_default();
    let other = format!("[[virtual_server]]{}", other.replace("always-up", "other"));
    let configurations = [
        String::new(),
        base.clone(),
        base.replace("10.77.0.21", "10.77.0.23")
            .replace("wrr", "sh"),
        format!("{base}weight = 7\n").replace("10.77.0.10:80", "10.77.0.9:80"),
        base.replace("\"dr\"", "\"nat\""),
        format!("{base}{}", other.replace(":80", ":8080")),
    ];
    let table = || -> Result<Vec<String>> {
        let mut lines = host.ipvsadm_save()?;
        lines.sort();
        Ok(lines)
    };
    let mut fresh = Vec::new();
    for text in &configurations {
        let director = Director::start(&host, text)?;
        director.wait_for_status("/ipvs/in_sync", &json!(true))?;
        fresh.push(table()?);
        director.stop()?;
    }
    ensure!(fresh[1].len() == 3 && fresh[5].len() == 6, "{fresh:#?}");
    let director = Director::start(&host, "")?;
    // Two walks through all of them.
    let (count, mut at) = (configurations.len(), 0);
    for step in [1, 5] {
        for _ in 0..count {
            at = (at + step) % count;
            director.write_config(&configurations[at])?;
            director.vipctl(&["reload"])?;
            let mut found = Vec::new();
            let reached = wait_until(PATIENCE, "the table of a fresh start", || {
                found = table()?;
                Ok(found == fresh[at])
            });
            ensure!(reached.is_ok(), "{found:#?} and not {:#?}", fresh[at]);
        }
    }
    Ok(())
}

#[test]
fn orders_are_listed_outlive_a_trial_and_are_taken_back() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let text = always_up("wrr", "dr");
    let director = Director::start(&host, &text)?;
    let weight = |wanted: Option<u32>| {
        wait_until(PATIENCE, &format!("weight {wanted:?}"), || {
            Ok(host.weights()?.get(RS1).copied() == wanted)
        })
    };
    weight(Some(1))?;
    director.vipctl(&["weight", "always-up", "10.77.0.21", "9"])?;
    director.vipctl(&["drain", "always-up", "10.77.0.22"])?;
    let listed = director.vipctl(&["overrides"])?;
    ensure!(
        listed.contains("always-up/10.77.0.21:80: weight 9 instead of 1"),
        "{listed}"
    );
    ensure!(
        listed.contains("always-up/10.77.0.22:80: drains"),
        "{listed}"
    );
    director.write_config(&text.replace("wrr", "wlc"))?;
    director.vipctl(&["reload", "--confirm", "1h"])?;
    weight(Some(9))?;
    director.vipctl(&["confirm", "--back"])?;
    weight(Some(9))?;
    ensure!(director.vipctl(&["overrides"])? == listed);
    let reset = director.vipctl(&["overrides", "reset", "always-up", "10.77.0.21"])?;
    ensure!(
        reset.contains("always-up/10.77.0.21:80: as the configuration says"),
        "{reset}"
    );
    weight(Some(1))?;
    director.vipctl(&["overrides", "reset"])?;
    director.wait_for_status(
        "/virtual_servers/0/real_servers/1/weight/effective",
        &json!(1),
    )?;
    let nothing = director.vipctl(&["overrides"])?;
    ensure!(nothing.contains("nothing is ordered"), "{nothing}");
    Ok(())
}

/// Weights, checks and a whole virtual server come and go, three times a second and more. (Not the
/// scheduler: while it changes, the kernel has none and refuses.)
#[test]
fn no_request_fails_while_two_hundred_reloads_go_by_in_a_minute() -> Result<()> {
    const RELOADS: u32 = 200;
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let text = |turn: u32| {
        let text = config("lb1", 150, 1 + turn % 7);
        let text = match turn % 3 {
            0 => text,
            1 => text.replace("interval = \"1s\"", "interval = \"2s\""),
            _ => text.replace("scheduler =", "on_failure = \"zero-weight\"\nscheduler ="),
        };
        if turn.is_multiple_of(2) {
            return text;
        }
        let other = always_up("rr", "dr").replace(":80", ":8080");
        let (_, other) = other.split_once("[[virtual_server]]").unwrap_or_default();
        format!("{text}\n[[virtual_server]]{other}")
    };
    let lb1 = Director::start(&cluster.lb1, &text(0))?;
    cluster.wait_until_serving()?;
    let pause = Duration::from_millis(30);
    let load = Load::start(&cluster.client, &format!("{VIP}:80"), 4, pause)?;
    let begun = Instant::now();
    for turn in 0..RELOADS {
        lb1.reload(&text(turn))?;
        let next = Duration::from_secs(60) / RELOADS * (turn + 1);
        sleep(next.saturating_sub(begun.elapsed()));
    }
    let took = begun.elapsed();
    let totals = load.next_totals()?;
    eprintln!(
        "{RELOADS} reloads in {took:?}: {} requests, {} failed, slowest {:?}, {:?}",
        totals.requests,
        totals.failed.len(),
        totals.slowest,
        totals.answered,
    );
    ensure!(
        totals.failed.is_empty(),
        "{:#?}\n{}",
        totals.failed,
        lb1.log()
    );
    ensure!(totals.answered.len() == 2, "{totals:?}");
    Ok(())
}
