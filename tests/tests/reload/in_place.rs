//! Addresses that only move between virtual routers of one interface never leave it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::pair::Pair;
use lab::ping::Ping;
use serde_json::json;

use crate::{deleted, monitor, router};

const A: &str = "\"10.77.0.10/24\"";
const B: &str = "\"10.77.0.9/24\"";

fn two(first: &str, second: &str) -> String {
    format!("{first}{second}")
}

#[test]
fn moving_swapping_renaming_and_retiming_never_take_an_address_off() -> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let both = "\"10.77.0.9/24\", \"10.77.0.10/24\"";
    let backup = two(&router("a", 51, 50, A), &router("b", 52, 50, B));
    let first = two(&router("a", 51, 150, A), &router("b", 52, 150, B));
    let (lb1, lb2) = pair.start_with(&first, &backup)?;
    for (director, state) in [(&lb1, "master"), (&lb2, "backup")] {
        for number in 0..2 {
            director.wait_for_status(&format!("/vrrp/{number}/state"), &json!(state))?;
        }
    }
    pair.wait_for_holders(&["lb1"])?;
    let (watch, other) = (monitor(&pair.lb1)?, monitor(&pair.lb2)?);
    let ping = Ping::start(&client, "10.77.0.10")?;
    for (what, config) in [
        (
            "a VIP moves from a to b",
            two(
                &router("a", 51, 150, "\"10.77.0.8/24\""),
                &router("b", 52, 150, both),
            ),
        ),
        ("and back", first.clone()),
        (
            "VRIDs are swapped",
            two(&router("a", 52, 150, A), &router("b", 51, 150, B)),
        ),
        (
            "names are swapped, too",
            two(&router("b", 52, 150, A), &router("a", 51, 150, B)),
        ),
        (
            "one is renamed",
            two(&router("c", 52, 150, A), &router("a", 51, 150, B)),
        ),
        (
            "priority and order",
            two(&router("a", 51, 120, B), &router("c", 52, 140, A)),
        ),
        (
            "interval",
            two(&router("a", 51, 120, B), &router("c", 52, 140, A)).replace("100ms", "150ms"),
        ),
        (
            "a sync group",
            format!("{first}[[sync_group]]\nname = \"g\"\nmembers = [\"a\", \"b\"]\n"),
        ),
    ] {
        lb1.write_config(&config)?;
        let said = lb1.vipctl(&["reload"])?;
        ensure!(said.contains("configuration reloaded"), "{what}: {said}");
        // Longer than a peer waits, and than a worker takes.
        sleep(Duration::from_millis(700));
        for number in 0..2 {
            lb1.wait_for_status(&format!("/vrrp/{number}/state"), &json!("master"))?;
        }
        for address in ["10.77.0.9", "10.77.0.10"] {
            ensure!(pair.lb1.has_address(address)?, "{what}: {address} is gone");
        }
        let gone = deleted(&watch);
        ensure!(
            !gone.iter().any(|line| line.contains("10.77.0.10/")),
            "{what}: {gone:#?}"
        );
        ensure!(
            !gone.iter().any(|line| line.contains("10.77.0.9/")),
            "{what}: {gone:#?}"
        );
    }
    let answers = ping.stop()?;
    ensure!(answers.longest_silence < 250, "a gap: {answers:?}");
    let taken = other.output();
    ensure!(
        !taken.contains("10.77.0.9/") && !taken.contains("10.77.0.10/"),
        "{taken}"
    );
    Ok(())
}

#[test]
fn a_new_vrid_for_an_address_does_not_take_it_off_either() -> Result<()> {
    let pair = Pair::new()?;
    let client = pair.lab.host("client", "10.77.0.100/24")?;
    let lb1 = Director::start(
        &pair.lb1,
        &router("a", 51, 150, A).replace("100ms", "500ms"),
    )?;
    pair.wait_for_holders(&["lb1"])?;
    let watch = monitor(&pair.lb1)?;
    let ping = Ping::start(&client, "10.77.0.10")?;
    let moved = router("new", 53, 150, A).replace("100ms", "500ms");
    lb1.write_config(&moved)?;
    lb1.vipctl(&["reload"])?;
    lb1.wait_for_status("/vrrp/0/vrid", &json!(53))?;
    lb1.wait_for_state("master")?;
    sleep(Duration::from_millis(500));
    let answers = ping.stop()?;
    ensure!(deleted(&watch).is_empty(), "{:#?}", deleted(&watch));
    ensure!(answers.longest_silence < 250, "a gap: {answers:?}");
    // Where another director is master of the new one, the address goes at once.
    let lb2 = Director::start(
        &pair.lb2,
        &router("x", 54, 200, A).replace("100ms", "500ms"),
    )?;
    lb2.wait_for_state("master")?;
    lb1.write_config(&moved.replace("vrid = 53", "vrid = 54"))?;
    lb1.vipctl(&["reload"])?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_state("backup")?;
    Ok(())
}
