//! What the director knows goes along.

use std::fs;

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::pair::{Pair, fast, router};
use lab::wait_until;
use serde_json::json;

use crate::{PATIENCE, monitor, seen};

const PRIORITY: &str = "/vrrp/0/priority/configured";

#[test]
fn what_is_tracked_needs_no_first_look() -> Result<()> {
    let pair = Pair::new()?;
    let file = pair.lab.folder().join("slow");
    let script = format!("test -e {0} && sleep 3; exit 0", file.display());
    let more = format!(
        "track = [{{ script = \"slow\" }}]\n[[track_script]]\nname = \"slow\"\n\
         command = [\"/bin/sh\", \"-c\", {script:?}]\ninterval = \"20s\"\ntimeout = \"20s\"\nuser = \"root\"\n"
    );
    let (mut lb1, lb2) = pair.start_fast(&more)?;
    // A script that has not run yet is a fault, and from here on it takes its time.
    fs::write(&file, "")?;
    let watch = monitor(&pair.lb1)?;
    let before = [lb1.events()?.len(), lb2.events()?.len()];
    lb1.upgrade()?;
    lb1.wait_for_state("master")?;
    ensure!(seen(&watch).is_empty(), "{:?}", seen(&watch));
    let news = [&lb1.events()?[before[0]..], &lb2.events()?[before[1]..]].concat();
    ensure!(news.len() == 1, "{news:#?}");
    Ok(())
}

#[test]
fn events_counters_maintenance_and_the_configuration_in_force_go_along() -> Result<()> {
    let pair = Pair::new()?;
    let (_lb1, mut lb2) = pair.start_fast("")?;
    lb2.vipctl(&["maintenance", "on"])?;
    lb2.wait_for_state("fault")?;
    let received = |director: &Director| -> Result<u64> {
        let status = director.status()?;
        let count = status.pointer("/vrrp/0/counters/adverts_received");
        count
            .and_then(serde_json::Value::as_u64)
            .context("no count")
    };
    let (events, count) = (lb2.events()?, received(&lb2)?);
    // The file is another one by now: an upgrade is no reload.
    lb2.write_config(&fast(77, ""))?;
    lb2.upgrade()?;
    let status = lb2.status()?;
    ensure!(
        status.pointer("/maintenance") == Some(&json!(true)),
        "{status:#}"
    );
    ensure!(status.pointer(PRIORITY) == Some(&json!(100)), "{status:#}");
    let after = lb2.events()?;
    ensure!(
        after[..events.len()] == events,
        "{events:#?} then {after:#?}"
    );
    ensure!(after.len() == events.len() + 1, "{after:#?}");
    ensure!(received(&lb2)? >= count, "{count} adverts before");
    lb2.vipctl(&["maintenance", "off"])?;
    lb2.wait_for_state("backup")?;
    lb2.vipctl(&["reload"])?;
    lb2.wait_for_status(PRIORITY, &json!(77)).map(|_| ())
}

#[test]
fn a_configuration_on_trial_goes_back_all_the_same() -> Result<()> {
    let pair = Pair::new()?;
    let mut lb1 = Director::start(&pair.lb1, &router(150))?;
    lb1.write_config(&router(140))?;
    lb1.vipctl(&["reload", "--confirm", "5s"])?;
    lb1.upgrade()?;
    lb1.wait_for_status(PRIORITY, &json!(140))?;
    let page = lb1.status_text()?;
    ensure!(
        page.contains("configuration on trial, goes back in"),
        "{page}"
    );
    lb1.wait_for_status(PRIORITY, &json!(150))?;
    lb1.wait_for_event(&["config.went_back", "not confirmed in time"])?;
    // And one that is confirmed stays.
    lb1.vipctl(&["reload"])?;
    lb1.write_config(&router(130))?;
    lb1.vipctl(&["reload", "--confirm", "1h"])?;
    lb1.upgrade()?;
    lb1.vipctl(&["confirm"])?;
    lb1.wait_for_status(PRIORITY, &json!(130)).map(|_| ())
}

#[test]
fn members_of_a_sync_group_stay_together() -> Result<()> {
    let pair = Pair::new()?;
    let more = "[[vrrp]]\nname = \"other\"\ninterface = \"eth0\"\nvrid = 52\nversion = 3\npriority = 150\n\
                advert_interval = \"100ms\"\nvirtual_addresses = [\"10.77.0.20/24\"]\n\
                [[sync_group]]\nname = \"both\"\nmembers = [\"web\", \"other\"]\n";
    let (mut lb1, _lb2) = pair.start_fast(more)?;
    let both = |state: &str| -> Result<()> {
        lb1_wait(&lb1, "/vrrp/0/state", state)?;
        lb1_wait(&lb1, "/vrrp/1/state", state)
    };
    both("master")?;
    let watch = monitor(&pair.lb1)?;
    lb1.upgrade()?;
    lb1_wait(&lb1, "/vrrp/0/state", "master")?;
    lb1_wait(&lb1, "/vrrp/1/state", "master")?;
    ensure!(seen(&watch).is_empty(), "{:?}", seen(&watch));
    // One hands over, and the other with it.
    lb1.vipctl(&["switchover", "web"])?;
    lb1_wait(&lb1, "/vrrp/1/state", "backup")?;
    // That it was by order is not forgotten: it leaves the peer alone.
    lb1.upgrade()?;
    lb1_wait(&lb1, "/vrrp/0/state", "backup")?;
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn the_next_one_is_found_under_the_lock_and_answers_at_the_same_sockets() -> Result<()> {
    let pair = Pair::new()?;
    let http = "[global]\nhttp = \"127.0.0.1:9110\"\n";
    let mut lb1 = Director::start(&pair.lb1, &(http.to_owned() + &fast(150, "")))?;
    lb1.wait_for_state("master")?;
    let url = "http://127.0.0.1:9110/v1/status";
    std::thread::scope(|scope| -> Result<()> {
        let host = pair.lb1.clone();
        let asking = scope.spawn(move || (0..40).filter(|_| host.get(url).is_none()).count());
        for _ in 0..3 {
            lb1.upgrade()?;
        }
        let unanswered = asking.join().unwrap();
        ensure!(
            unanswered == 0,
            "{unanswered} of 40 requests were not answered"
        );
        Ok(())
    })?;
    let second = pair.lab.folder().join("second.toml");
    fs::write(&second, fast(200, ""))?;
    let mut command = pair.lb1.command(lab::binary("vipd")?);
    let output = command.args(["run", "-c"]).arg(&second).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let words = format!("another vipd (process {})", lb1.pid());
    ensure!(text.contains(&words), "{text}");
    wait_until(PATIENCE, "the metrics", || {
        Ok(pair.lb1.get("http://127.0.0.1:9110/metrics").is_some())
    })?;
    lb1.stop()?;
    ensure!(pair.lb1.get(url).is_none());
    Ok(())
}

fn lb1_wait(lb1: &Director, pointer: &str, state: &str) -> Result<()> {
    lb1.wait_for_status(pointer, &json!(state)).map(|_| ())
}
