//! Real servers that are taken out and put back: drain, disable, weights, slow start, `minimum_up`, the
//! sorry server, and all of it at random under load.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::cluster::{Cluster, VIP, config};
use lab::director::Director;
use lab::load::Load;
use lab::nginx::{DOWNLOAD, Nginx};
use lab::process::Process;
use lab::{Host, Lab, binary, wait_until};
use serde_json::{Value, json};

use super::{PATIENCE, always_up, only_rs1_serves};

const RS1: &str = "10.77.0.21:80";
const RS2: &str = "10.77.0.22:80";
const SORRY: &str = "10.77.0.30:80";

/// How long real servers come and go under load, in seconds, unless `VIPD_CHURN_SECONDS` says it.
const CHURN: u64 = 20;

#[test]
fn a_download_from_a_drained_real_server_finishes_and_the_wait_ends_with_it() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let text = config("lb1", 150, 1);
    let mut lb1 = Director::start(&cluster.lb1, &text)?;
    cluster.wait_until_serving()?;
    // Whoever has the download is the one that is drained; the other serves alone.
    let download = download(&cluster)?;
    let busy = |index: usize| format!("/virtual_servers/0/real_servers/{index}/connections/active");
    let mut holder = None;
    wait_until(PATIENCE, "the download has begun", || {
        let status = lb1.status()?;
        holder = (0..2).find(|index| status.pointer(&busy(*index)) == Some(&json!(1)));
        Ok(holder.is_some())
    })?;
    let (index, drained, other) = match holder {
        Some(0) => (0, RS1, "rs2\n"),
        _ => (1, RS2, "rs1\n"),
    };
    let wait = spawn_vipctl(&lb1, &["drain", "http", drained, "--wait"])?;
    wait.wait_for_output(PATIENCE, "1 connection is left")?;
    ensure!(cluster.lb1.weights()?.get(drained) == Some(&0));
    for _ in 0..8 {
        ensure!(cluster.client.get(lab::cluster::URL).as_deref() == Some(other));
    }
    // The drain outlives a reload and a crash, and the download with it.
    lb1.reload(&text)?;
    lb1.wait_for_event(&["config.reloaded"])?;
    lb1.kill()?;
    let lb1 = Director::start(&cluster.lb1, &text)?;
    let state = format!("/virtual_servers/0/real_servers/{index}/state");
    lb1.wait_for_status(&state, &json!("draining"))?;
    ensure!(cluster.lb1.weights()?.get(drained) == Some(&0));
    ensure!(lb1.status_text()?.contains("until `vipctl enable http"));
    ended(download, &DOWNLOAD.to_string())?;
    ended(wait, "no connections are left")?;
    lb1.vipctl(&["enable", "http", drained, "--wait"])?;
    cluster.wait_until_serving()?;
    Ok(())
}

#[test]
fn whoever_waits_for_a_drain_may_leave_it_and_is_told_when_it_is_called_off() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let lb1 = Director::start(&cluster.lb1, &config("lb1", 150, 1))?;
    cluster.wait_until_serving()?;
    let _one = download(&cluster)?;
    let _other = download(&cluster)?;
    // Round robin: each real server has one of the two.
    lb1.wait_for_status(
        "/virtual_servers/0/real_servers/0/connections/active",
        &json!(1),
    )?;
    let mut wait = spawn_vipctl(&lb1, &["drain", "http", "10.77.0.21", "--wait"])?;
    wait.wait_for_output(PATIENCE, "1 connection is left")?;
    wait.signal("INT")?;
    wait.wait(PATIENCE)?;
    let state = "/virtual_servers/0/real_servers/0/state";
    lb1.wait_for_status(state, &json!("draining"))?;
    let mut wait = spawn_vipctl(&lb1, &["drain", "http", "10.77.0.21", "--wait"])?;
    wait.wait_for_output(PATIENCE, "1 connection is left")?;
    lb1.vipctl(&["enable", "http", "10.77.0.21"])?;
    ensure!(!wait.wait(PATIENCE)?.success(), "{}", wait.output());
    let said = wait.output();
    ensure!(said.contains("somebody ordered otherwise"), "{said}");
    Ok(())
}

#[test]
fn disable_and_weight_change_the_table_and_outlive_reload_and_restart() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let text = always_up("wrr", "dr");
    let mut lb1 = Director::start(&host, &text)?;
    let table = |wanted: &[(&str, u32)]| {
        let wanted = wanted.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        wait_until(PATIENCE, &format!("{wanted:?}"), || {
            Ok(host.weights()? == wanted)
        })
    };
    table(&[(RS1, 1), (RS2, 1)])?;
    lb1.vipctl(&["weight", "always-up", "10.77.0.21", "7"])?;
    table(&[(RS1, 7), (RS2, 1)])?;
    lb1.vipctl(&["disable", "always-up", RS2, "--wait"])?;
    table(&[(RS1, 7)])?;
    let status = lb1.status()?;
    let reals = &status["virtual_servers"][0]["real_servers"];
    ensure!(reals[1]["state"] == "disabled", "{reals}");
    let weight = json!({ "configured": 1, "ordered": 7, "effective": 7 });
    ensure!(reals[0]["weight"] == weight, "{reals}");
    let refused = lb1.refused(&["drain", "always-up", RS1])?;
    let words = "would leave always-up without any real server; --force does it all the same";
    ensure!(refused.contains(words), "{refused}");
    let refused = lb1.refused(&["weight", "always-up", RS1, "0"])?;
    ensure!(refused.contains(words), "{refused}");
    table(&[(RS1, 7)])?;

    lb1.reload(&text)?;
    lb1.wait_for_event(&["config.reloaded"])?;
    table(&[(RS1, 7)])?;
    lb1.kill()?;
    let lb1 = Director::start(&host, &text)?;
    table(&[(RS1, 7)])?;
    lb1.vipctl(&["enable", "always-up", RS2, "--wait"])?;
    table(&[(RS1, 7), (RS2, 1)])?;
    let heavier = text.replacen("10.77.0.21:80\"", "10.77.0.21:80\"\nweight = 3", 1);
    lb1.reload(&heavier)?;
    lb1.wait_for_event(&["real_server.weight", "the configuration has changed it"])?;
    table(&[(RS1, 3), (RS2, 1)])?;
    lb1.vipctl(&["weight", "always-up", RS1, "9"])?;
    lb1.vipctl(&["weight", "always-up", RS1, "--reset"])?;
    table(&[(RS1, 3), (RS2, 1)])?;
    lb1.vipctl(&["drain", "always-up", RS1])?;
    lb1.vipctl(&["drain", "always-up", RS2, "--force"])?;
    table(&[(RS1, 0), (RS2, 0)])?;

    // A file that cannot be read is told of, and the director works.
    let state = lb1.socket().with_extension("state");
    lb1.stop()?;
    std::fs::write(state.join("real_servers.json"), "{ nonsense")?;
    let lb1 = Director::start(&host, &heavier)?;
    lb1.wait_for_event(&["state.unreadable", "real_servers.json"])?;
    table(&[(RS1, 3), (RS2, 1)])?;
    Ok(())
}

#[test]
fn a_real_server_that_comes_back_gets_its_weight_in_steps() -> Result<()> {
    let cluster = Cluster::new()?;
    let (rs1, _rs2) = cluster.start_real_servers()?;
    let text = config("lb1", 150, 100).replace("scheduler =", "slow_start = \"10s\"\nscheduler =");
    let lb1 = Director::start(&cluster.lb1, &text)?;
    let weight = || Ok::<_, anyhow::Error>(cluster.lb1.weights()?.get(RS1).copied());
    let becomes = |wanted| wait_until(PATIENCE, &format!("{wanted:?}"), || Ok(weight()? == wanted));
    let steps = lb1
        .log()
        .matches("change real server 10.77.0.21:80")
        .count();
    becomes(Some(100))?;
    ensure!(
        lb1.log()
            .matches("change real server 10.77.0.21:80")
            .count()
            == steps,
        "slow at the start of the daemon: {}",
        lb1.log()
    );
    rs1.set_unwell(true)?;
    becomes(None)?;
    let told = || {
        let events = lb1.events()?;
        let of_servers = events.iter().filter(|e| e.starts_with("real_server."));
        Ok::<_, anyhow::Error>(of_servers.count())
    };
    let before = told()?;
    rs1.set_unwell(false)?;
    let mut seen = Vec::new();
    wait_until(PATIENCE, "the whole weight", || {
        seen.extend(weight()?);
        Ok(seen.last() == Some(&100))
    })?;
    seen.dedup();
    ensure!(seen.is_sorted() && seen.len() > 3, "{seen:?}");
    ensure!(seen.first().is_some_and(|first| *first < 50), "{seen:?}");
    // Steps are no events: there is one that it is up.
    ensure!(told()? == before + 1, "{:#?}", lb1.events()?);
    Ok(())
}

#[test]
fn when_too_few_pass_the_last_good_ones_stay_and_it_is_told_everywhere() -> Result<()> {
    let cluster = Cluster::new()?;
    let (rs1, rs2) = cluster.start_real_servers()?;
    let text = config("lb1", 150, 1)
        .replace("scheduler =", "minimum_up = \"50%\"\nscheduler =")
        .replace("[global]", "[global]\nhttp = \"127.0.0.1:9650\"");
    let lb1 = Director::start(&cluster.lb1, &text)?;
    cluster.wait_until_serving()?;
    let metric = |value: u8| {
        let wanted = format!("vipd_virtual_server_panic{{virtual_server=\"http\"}} {value}");
        wait_until(PATIENCE, &wanted, || {
            let text = cluster.lb1.get("http://127.0.0.1:9650/metrics");
            Ok(text.is_some_and(|text| text.contains(&wanted)))
        })
    };
    metric(0)?;
    rs2.set_unwell(true)?;
    only_rs1_serves(&cluster)?;
    rs1.set_unwell(true)?;
    lb1.wait_for_event(&["pool.panic http", "10.77.0.21:80"])?;
    only_rs1_serves(&cluster)?;
    ensure!(lb1.status_text()?.contains("virtual server http: panic:"));
    lb1.wait_for_status("/virtual_servers/0/quorum/up", &json!(true))?;
    lb1.wait_for_status("/virtual_servers/0/real_servers/0/kept", &json!(true))?;
    metric(1)?;
    rs2.set_unwell(false)?;
    lb1.wait_for_event(&["pool.panic_gone http"])?;
    wait_until(PATIENCE, "only rs2 is there", || {
        Ok(cluster.lb1.weights()?.into_keys().collect::<Vec<_>>() == [RS2])
    })?;
    metric(0)?;
    Ok(())
}

#[test]
fn no_request_fails_while_real_servers_come_and_go_by_direct_routing() -> Result<()> {
    churn("dr")
}

#[test]
fn no_request_fails_while_real_servers_come_and_go_behind_nat() -> Result<()> {
    churn("nat")
}

/// Two real servers and a sorry server; drains, weights, reloads and failing checks at random.
fn churn(forwarding: &str) -> Result<()> {
    let cluster = Cluster::new()?;
    let sorry = cluster.lab.host("sorry", "10.77.0.30/24")?;
    sorry.run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")?;
    sorry.ip(&format!("addr add {VIP}/32 dev lo"))?;
    if forwarding == "nat" {
        through_the_director(&cluster, &sorry)?;
    }
    let _sorry = Nginx::start(&sorry)?;
    let (rs1, rs2) = cluster.start_real_servers()?;
    let text = |weight| {
        let keys = format!(
            "sorry_server = \"{SORRY}\"\non_failure = \"zero-weight\"\nslow_start = \"5s\"\nscheduler ="
        );
        config("lb1", 150, weight)
            .replace("scheduler =", &keys)
            .replace(
                "forwarding = \"dr\"",
                &format!("forwarding = \"{forwarding}\""),
            )
    };
    let lb1 = Director::start(&cluster.lb1, &text(10))?;
    cluster.wait_until_serving()?;
    let load = Load::start(
        &cluster.client,
        &format!("{VIP}:80"),
        4,
        Duration::from_millis(30),
    )?;
    let seconds = std::env::var("VIPD_CHURN_SECONDS").ok();
    let seconds = seconds.map_or(Ok(CHURN), |text| text.parse::<u64>())?;
    let seed = u64::from(std::process::id()) ^ u64::from(forwarding == "nat");
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    let reals = ("10.77.0.21", "10.77.0.22");
    let (begun, mut steps, mut sorries) = (Instant::now(), 0_u32, 0_u32);
    while begun.elapsed() < Duration::from_secs(seconds) {
        steps += 1;
        let real = if roll(2) == 1 { reals.1 } else { reals.0 };
        match roll(7) {
            0 => order(&lb1, real, &json!("drain"))?,
            1 => order(&lb1, real, &json!("enable"))?,
            2 => order(&lb1, real, &json!({ "weight": roll(30) }))?,
            3 => order(&lb1, real, &json!("reset"))?,
            4 => lb1.reload(&text(u32::try_from(1 + roll(20))?))?,
            5 => {
                // Out with both, and the sorry server in; then out with that.
                sorries += 1;
                for real in [reals.0, reals.1] {
                    order(&lb1, real, &json!("drain"))?;
                }
                let before = answers(&load, "sorry")?;
                wait_until(PATIENCE, "the sorry server answers", || {
                    Ok(answers(&load, "sorry")? > before)
                })
                .with_context(|| format!("seed {seed}: {:?}", load.totals()))?;
                for real in [reals.0, reals.1] {
                    order(&lb1, real, &json!("reset"))?;
                    order(&lb1, real, &json!("enable"))?;
                }
            }
            _ => {
                let unwell = roll(2) == 1;
                let which = if roll(2) == 1 { &rs1 } else { &rs2 };
                which.set_unwell(unwell)?;
            }
        }
        sleep(Duration::from_millis(roll(300)));
    }
    let totals = load.next_totals()?;
    eprintln!(
        "{forwarding}: {seconds} s, seed {seed}, {steps} changes, {sorries} times to the sorry server, \
         {} requests, {} failed, slowest {} ms, {:?}, repairs {}",
        totals.requests,
        totals.failed.len(),
        totals.slowest.as_millis(),
        totals.answered,
        lb1.status()?
            .pointer("/ipvs/repairs")
            .unwrap_or(&Value::Null)
    );
    ensure!(
        totals.failed.is_empty(),
        "seed {seed}: {:#?}\n{}",
        totals.failed,
        lb1.log()
    );
    for who in ["rs1", "rs2"] {
        ensure!(totals.answered.contains_key(who), "{totals:?}");
    }
    Ok(())
}

/// As `vipctl`, of which an emulated machine starts few in 20 seconds.
fn order(lb1: &Director, real: &str, change: &Value) -> Result<()> {
    let body = json!({ "change": change }).to_string();
    let request = format!(
        "POST /v1/virtual_servers/http/real_servers/{real} HTTP/1.1\r\nHost: vipd\r\n\
         Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(lb1.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 200 "),
        "{real}, {change}: {answer}"
    );
    Ok(())
}

fn answers(load: &Load, who: &str) -> Result<u64> {
    Ok(load.totals()?.answered.get(who).copied().unwrap_or(0))
}

/// The answers must come back through the director, also to a client of the same network.
fn through_the_director(cluster: &Cluster, sorry: &Host) -> Result<()> {
    for key in [
        "ip_forward",
        "conf.all.send_redirects",
        "conf.eth0.send_redirects",
    ] {
        let value = u8::from(key == "ip_forward");
        let line = format!("sysctl -q -w net.ipv4.{key}={value}");
        cluster.lb1.run(&line)?;
    }
    for real_server in [&cluster.rs1, &cluster.rs2, sorry] {
        real_server.ip(&format!("addr del {VIP}/32 dev lo"))?;
        real_server.ip("route add 10.77.0.100/32 via 10.77.0.11")?;
    }
    Ok(())
}

/// A slow download through the virtual address; at its end it prints how many bytes it got.
fn download(cluster: &Cluster) -> Result<Process> {
    let url = format!("http://{VIP}/download");
    let arguments = [
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{size_download}",
        &url,
    ];
    cluster
        .client
        .spawn("download", Path::new("curl"), &arguments)
}

fn spawn_vipctl(lb1: &Director, words: &[&str]) -> Result<Process> {
    let socket = lb1.socket().to_string_lossy();
    let arguments = [&["--socket", &socket], words].concat();
    lb1.host.spawn("vipctl", &binary("vipctl")?, &arguments)
}

/// Ends with success, having said so.
fn ended(mut process: Process, words: &str) -> Result<()> {
    let status = process.wait(PATIENCE)?;
    let said = process.output();
    ensure!(status.success() && said.contains(words), "{status}: {said}");
    Ok(())
}
