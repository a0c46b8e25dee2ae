//! Scenarios that need a kernel with IPVS: `cargo xtask test` runs them in a guest where this
//! machine's kernel has none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod doctor;
mod faults;
mod forwarding;
mod host_sysctl;
mod import;
mod ipvsctl;
mod labs;
mod observe;
mod pool;
mod realserver;
mod reload;
mod sync;
mod takeover;
mod top;
mod upgrade;
mod verdicts;
mod via_vip;
mod ways;

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, ensure};
use lab::cluster::{Cluster, URL, VIP, config};
use lab::director::Director;
use lab::nginx::Nginx;
use lab::process::Process;
use lab::{Host, Lab, binary, wait_until};
use serde_json::json;

/// Emulated guests are slow; nothing here measures time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn every_step_of_the_demo_is_seen_to_happen() -> Result<()> {
    ensure!(lab::demo::run(false)?, "see the timeline above");
    Ok(())
}

#[test]
fn a_real_server_that_accepts_and_never_answers_is_taken_out_and_said_why() -> Result<()> {
    let cluster = Cluster::new()?;
    let _rs1 = Nginx::start(&cluster.rs1)?;
    let _rs2 = silent(&cluster.rs2)?;
    let lb1 = Director::start(&cluster.lb1, &config("lb1", 150, 1))?;
    lb1.wait_for_status("/virtual_servers/0/real_servers/0/state", &json!("up"))?;
    lb1.wait_for_status("/virtual_servers/0/real_servers/1/state", &json!("down"))?;
    let status = lb1.status()?;
    let error = &status["virtual_servers"][0]["real_servers"][1]["checks"][0]["last_error"];
    ensure!(
        error.as_str().unwrap_or_default().contains("within 2s"),
        "{error}"
    );
    only_rs1_serves(&cluster)
}

#[test]
fn a_real_server_that_answers_503_leaves_the_pool_and_returns_with_200() -> Result<()> {
    let cluster = Cluster::new()?;
    let _rs1 = Nginx::start(&cluster.rs1)?;
    let rs2 = Nginx::start(&cluster.rs2)?;
    let lb1 = Director::start(&cluster.lb1, &config("lb1", 150, 1))?;
    cluster.wait_until_serving()?;
    rs2.stop()?;
    let rs2 = Nginx::with_health(&cluster.rs2, 503)?;
    lb1.wait_for_status("/virtual_servers/0/real_servers/1/state", &json!("down"))?;
    lb1.wait_for_status(
        "/virtual_servers/0/real_servers/1/checks/0/last_error",
        &json!("status 503, wanted 200-299"),
    )?;
    only_rs1_serves(&cluster)?;
    rs2.stop()?;
    let _rs2 = Nginx::start(&cluster.rs2)?;
    cluster.wait_until_serving()?;
    ensure!(
        lb1.status_text()?.contains("in sync"),
        "{}",
        lb1.status_text()?
    );
    Ok(())
}

#[test]
fn quorum_decides_between_the_real_servers_and_the_sorry_server() -> Result<()> {
    let cluster = Cluster::new()?;
    let sorry = cluster.lab.host("sorry", "10.77.0.30/24")?;
    sorry.run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")?;
    sorry.ip(&format!("addr add {VIP}/32 dev lo"))?;
    let _sorry = Nginx::start(&sorry)?;
    let text = config("lb1", 150, 1).replace(
        "scheduler =",
        "sorry_server = \"10.77.0.30:80\"\nquorum = 2\nscheduler =",
    );
    let lb1 = Director::start(&cluster.lb1, &text)?;
    let answer = |wanted: &'static str| {
        wait_until(PATIENCE, wanted, || {
            Ok(cluster.client.get(URL).as_deref() == Some(wanted))
        })
    };
    answer("sorry\n")?;
    lb1.wait_for_status(
        "/virtual_servers/0/quorum",
        &json!({"needed": 2, "have": 0, "up": false}),
    )?;
    let _rs1 = Nginx::start(&cluster.rs1)?;
    lb1.wait_for_status("/virtual_servers/0/quorum/have", &json!(1))?;
    answer("sorry\n")?;
    let rs2 = Nginx::start(&cluster.rs2)?;
    answer("rs1\n")?;
    answer("rs2\n")?;
    ensure!(
        cluster.lb1.weights()?.get("10.77.0.30:80") == Some(&0),
        "the sorry server does not just finish its requests"
    );
    rs2.stop()?;
    answer("sorry\n")?;
    Ok(())
}

#[test]
fn with_zero_weight_a_failing_real_server_stays_in_the_table() -> Result<()> {
    let cluster = Cluster::new()?;
    let text =
        config("lb1", 150, 1).replace("scheduler =", "on_failure = \"zero-weight\"\nscheduler =");
    let (_rs1, rs2) = cluster.start_real_servers()?;
    let _lb1 = Director::start(&cluster.lb1, &text)?;
    cluster.wait_until_serving()?;
    rs2.stop()?;
    wait_until(PATIENCE, "weight 0", || {
        Ok(cluster.lb1.weights()?.get("10.77.0.22:80") == Some(&0))
    })?;
    only_rs1_serves(&cluster)
}

#[test]
fn drift_of_any_kind_is_repaired_and_foreign_services_are_left_alone() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    host.run("ipvsadm -A -t 10.99.0.1:443 -s rr")?;
    host.run("ipvsadm -a -t 10.99.0.1:443 -r 10.99.0.2:443 -m -w 7")?;
    let foreign = host.ipvsadm_save()?;
    let lb1 = Director::start(&host, &always_up("rr", "dr"))?;
    let settled = || Ok(host.ipvsadm_save()?.len() == foreign.len() + 3);
    wait_until(PATIENCE, "the table", settled)?;
    let right = host.ipvsadm_save()?;
    for drift in [
        "ipvsadm -d -t 10.77.0.10:80 -r 10.77.0.21:80",
        "ipvsadm -e -t 10.77.0.10:80 -r 10.77.0.21:80 -g -w 9",
        "ipvsadm -a -t 10.77.0.10:80 -r 10.77.0.29:80 -g -w 1",
        "ipvsadm -E -t 10.77.0.10:80 -s wlc -p 60",
        "ipvsadm -D -t 10.77.0.10:80",
    ] {
        let repairs = || Ok::<_, anyhow::Error>(lb1.status()?["ipvs"]["repairs"].as_u64());
        let before = repairs()?;
        host.run(drift)?;
        wait_until(PATIENCE, drift, || Ok(host.ipvsadm_save()? == right))?;
        // The kernel is mended a moment before the status says so.
        wait_until(
            PATIENCE,
            "the repair is counted",
            || Ok(repairs()? > before),
        )?;
    }
    ensure!(
        lb1.log().contains("somebody else had changed it"),
        "{}",
        lb1.log()
    );
    lb1.stop()?;
    ensure!(
        host.ipvsadm_save()? == foreign,
        "{:?}",
        host.ipvsadm_save()?
    );
    Ok(())
}

#[test]
fn a_restart_adopts_the_table_and_no_real_server_leaves_it() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let lb1 = Director::start(&cluster.lb1, &config("lb1", 150, 1))?;
    cluster.wait_until_serving()?;
    let before = cluster.lb1.ipvsadm_save()?;
    // A crash leaves the table; release without --ipvs leaves it, too.
    lb1.kill_and_release(&[])?;
    ensure!(cluster.lb1.ipvsadm_save()? == before);
    let monitor = cluster.lb1.spawn(
        "monitor",
        Path::new("sh"),
        &[
            "-c",
            "while :; do ipvsadm -Sn | grep -c -- -r; sleep 0.1; done",
        ],
    )?;
    let lb1 = Director::start(&cluster.lb1, &config("lb1", 150, 1))?;
    ensure!(lb1.log().contains("adopted"), "{}", lb1.log());
    lb1.wait_for_status(
        "/virtual_servers/0/real_servers/0/checks/0/state",
        &json!("up"),
    )?;
    cluster.wait_until_serving()?;
    let seen = monitor.output();
    ensure!(seen.lines().all(|line| line == "2"), "the pool was {seen}");
    // What is really dead goes after its checks, adopted or not.
    let printed = lb1.kill_and_release(&["--ipvs"])?;
    ensure!(printed.contains("remove service"), "{printed}");
    ensure!(
        cluster.lb1.ipvsadm_save()?.is_empty(),
        "release --ipvs left something"
    );
    Ok(())
}

#[test]
fn on_stop_keep_leaves_the_table_and_the_default_removes_it() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let lines = |wanted| {
        wait_until(PATIENCE, "the table", || {
            Ok(host.ipvsadm_save()?.len() == wanted)
        })
    };
    let keep = always_up("rr", "dr").replacen("[ipvs]", "[ipvs]\non_stop = \"keep\"", 1);
    let lb1 = Director::start(&host, &keep)?;
    lines(3)?;
    lb1.stop()?;
    ensure!(host.ipvsadm_save()?.len() == 3, "the table went");
    let lb1 = Director::start(&host, &always_up("rr", "dr"))?;
    lb1.stop()?;
    ensure!(host.ipvsadm_save()?.is_empty(), "the table stayed");
    Ok(())
}

#[test]
fn services_of_every_kind_look_to_ipvsadm_as_configured() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let server = |name: &str, keys: &str, real: &str| {
        format!(
            "[[virtual_server]]\nname = \"{name}\"\n{keys}\n[[virtual_server.real_server]]\n{real}\n"
        )
    };
    let text = [
        server(
            "dns",
            "address = \"10.77.0.10:53\"\nprotocol = \"udp\"\nscheduler = \"rr\"\nforwarding = \"nat\"\n\
             one_packet = true",
            "address = \"10.77.0.21:5353\"\nweight = 3",
        ),
        server(
            "sctp",
            "address = \"10.77.0.10:9\"\nprotocol = \"sctp\"\nscheduler = \"lc\"\nforwarding = \"tun\"",
            "address = \"10.77.0.21\"",
        ),
        server(
            "mark",
            "fwmark = 7\nscheduler = \"mh\"\nforwarding = \"dr\"\n\
             persistence = { timeout = \"300s\", netmask = 24 }",
            "address = \"10.77.0.21\"\nupper_threshold = 100\nlower_threshold = 50",
        ),
        server(
            "v6",
            "address = \"[2001:db8::10]:80\"\nscheduler = \"wlc\"\nforwarding = \"nat\"",
            "address = \"[2001:db8::21]:80\"",
        ),
    ]
    .concat();
    let lb1 = Director::start(&host, &text)?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    let saved = host.ipvsadm_save()?;
    let mut wanted = vec![
        "-A -u 10.77.0.10:53 -s rr -o",
        "-a -u 10.77.0.10:53 -r 10.77.0.21:5353 -m -w 3",
        "-A --sctp-service 10.77.0.10:9 -s lc",
        "-a --sctp-service 10.77.0.10:9 -r 10.77.0.21:9 -i -w 1",
        "-A -f 7 -s mh -p 300 -M 255.255.255.0 -b mh-fallback",
        "-a -f 7 -r 10.77.0.21:0 -g -w 1",
        "-A -t [2001:db8::10]:80 -s wlc",
        "-a -t [2001:db8::10]:80 -r [2001:db8::21]:80 -m -w 1",
    ];
    let mut found: Vec<&str> = saved.iter().map(|line| plain(line)).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    ensure!(found == wanted, "ipvsadm says {saved:#?}");
    let thresholds = host.run("ipvsadm -L -n --thresholds")?;
    ensure!(
        thresholds.contains("100") && thresholds.contains("50"),
        "{thresholds}"
    );
    Ok(())
}

#[test]
fn every_scheduler_of_debians_kernel_is_set_by_a_reload() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let lb1 = Director::start(&host, &always_up("rr", "dr"))?;
    for scheduler in [
        "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "rr",
    ] {
        lb1.reload(&always_up(scheduler, "dr"))?;
        let word = format!("-s {scheduler}");
        wait_until(PATIENCE, &word, || {
            let saved = host.ipvsadm_save()?;
            Ok(saved
                .iter()
                .any(|line| line.split(" -b").next().unwrap().ends_with(&word)))
        })?;
    }
    Ok(())
}

#[test]
fn a_refused_service_is_named_in_status_and_the_others_are_there() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    // Debian's kernel is built without it.
    let second = always_up("twos", "dr")
        .replace("always-up", "refused")
        .replace(":80", ":81");
    let second = second.replace("[ipvs]\nresync_interval = \"1s\"\n", "");
    let text = format!("{}{second}", always_up("rr", "dr"));
    let lb1 = Director::start(&host, &text)?;
    wait_until(PATIENCE, "the good service", || {
        Ok(host.ipvsadm_save()?.len() >= 3)
    })?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(false))?;
    let refused = lb1.status()?["ipvs"]["refused"].to_string();
    ensure!(
        refused.contains("10.77.0.10:81") && refused.contains("twos"),
        "{refused}"
    );
    lb1.reload(&always_up("rr", "dr"))?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    Ok(())
}

#[test]
fn real_servers_behind_nat_answer_through_the_director() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster
        .lb1
        .run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0")?;
    cluster
        .lb1
        .run("sysctl -q -w net.ipv4.conf.eth0.send_redirects=0")?;
    for real_server in [&cluster.rs1, &cluster.rs2] {
        // The answers must come back through the director, also to a client of the same network.
        real_server.ip(&format!("addr del {VIP}/32 dev lo"))?;
        real_server.ip("route add 10.77.0.100/32 via 10.77.0.11")?;
    }
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let text = config("lb1", 150, 1).replace("forwarding = \"dr\"", "forwarding = \"nat\"");
    let _lb1 = Director::start(&cluster.lb1, &text)?;
    let capture = cluster.rs1.capture("tcp port 80 and host 10.77.0.100")?;
    cluster.wait_until_serving()?;
    // tcpdump may print later than the client reads.
    capture.wait_for(PATIENCE, UNIX_EPOCH, &["10.77.0.100", "10.77.0.21.80"])?;
    Ok(())
}

#[test]
fn real_servers_behind_a_tunnel_answer_the_client_themselves() -> Result<()> {
    let cluster = Cluster::new()?;
    for real_server in [&cluster.rs1, &cluster.rs2] {
        // The device that the ipip module makes in every namespace; it takes what no other does.
        real_server.ip("link set tunl0 up")?;
        real_server.run("sysctl -q -w net.ipv4.conf.all.rp_filter=0")?;
        real_server.run("sysctl -q -w net.ipv4.conf.tunl0.rp_filter=0")?;
    }
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let text = config("lb1", 150, 1).replace("forwarding = \"dr\"", "forwarding = \"tun\"");
    let _lb1 = Director::start(&cluster.lb1, &text)?;
    let capture = cluster
        .rs1
        .capture("ip proto 4 or (tcp and src host 10.77.0.10)")?;
    cluster.wait_until_serving()?;
    let encapsulated = ["10.77.0.11 > 10.77.0.21", "10.77.0.100"];
    capture.wait_for(PATIENCE, UNIX_EPOCH, &encapsulated)?;
    capture.wait_for(PATIENCE, UNIX_EPOCH, &["10.77.0.10.80 > 10.77.0.100"])?;
    Ok(())
}

#[test]
fn a_service_for_the_master_only_follows_the_master() -> Result<()> {
    let cluster = Cluster::new()?;
    let only = |name, priority| {
        config(name, priority, 1).replace("vrrp = \"web\"", "vrrp = \"web\"\nactive = \"master\"")
    };
    let lb1 = Director::start(&cluster.lb1, &only("lb1", 150))?;
    let _lb2 = Director::start(&cluster.lb2, &only("lb2", 100))?;
    let has = |host: &Host, wanted: bool| {
        wait_until(PATIENCE, host.name(), || {
            Ok(host.ipvsadm_save()?.is_empty() != wanted)
        })
    };
    lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
    has(&cluster.lb1, true)?;
    has(&cluster.lb2, false)?;
    lb1.stop()?;
    has(&cluster.lb2, true)?;
    has(&cluster.lb1, false)?;
    Ok(())
}

#[test]
fn with_accept_off_the_master_forwards_but_answers_nothing_itself() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let text = config("lb1", 150, 1).replace("[[vrrp]]\n", "[[vrrp]]\naccept = false\n");
    let lb1 = Director::start(&cluster.lb1, &text)?;
    cluster.wait_until_serving()?;
    wait_until(PATIENCE, "the rules", || {
        Ok(cluster.lb1.run("nft list table inet vipd").is_ok())
    })?;
    for _ in 0..10 {
        ensure!(cluster.client.get(URL).is_some(), "the service is filtered");
    }
    let ping = format!("ping -c 1 -W 1 {VIP}");
    ensure!(
        cluster.client.run(&ping).is_err(),
        "the master answers a ping"
    );
    ensure!(
        cluster
            .lb1
            .ipvsadm_save()?
            .iter()
            .any(|line| line.contains("-r")),
        "the pool is empty"
    );
    lb1.stop()?;
    ensure!(cluster.lb1.run("nft list table inet vipd").is_err());
    Ok(())
}

#[test]
fn a_router_that_tracks_a_virtual_server_is_in_fault_without_its_quorum() -> Result<()> {
    let cluster = Cluster::new()?;
    let text = config("lb1", 150, 1).replace(
        "[[vrrp]]\n",
        "[[vrrp]]\ntrack = [{ virtual_server = \"http\" }]\n",
    );
    let lb1 = Director::start(&cluster.lb1, &text)?;
    let fault = json!(["virtual server http has no quorum"]);
    lb1.wait_for_status("/vrrp/0/faults", &fault)?;
    let real_servers = cluster.start_real_servers()?;
    lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
    cluster.wait_until_serving()?;
    drop(real_servers);
    lb1.wait_for_status("/vrrp/0/faults", &fault)?;
    wait_until(PATIENCE, "the address goes", || {
        Ok(!cluster.lb1.has_address(VIP)?)
    })?;
    Ok(())
}

#[test]
fn a_reload_of_names_and_checks_leaves_the_pool_alone() -> Result<()> {
    let cluster = Cluster::new()?;
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let text =
        config("lb1", 150, 1).replace("vrrp = \"web\"", "vrrp = \"web\"\nactive = \"master\"");
    let lb1 = Director::start(&cluster.lb1, &text)?;
    cluster.wait_until_serving()?;
    let before = cluster.lb1.ipvsadm_save()?;
    let reloads = [
        text.replace("\"web\"", "\"renamed\""),
        text.replace("interval = \"1s\"", "interval = \"1500ms\""),
        text.replace("path = \"/health\"", "path = \"/\""),
    ];
    for (number, text) in (1..).zip(&reloads) {
        lb1.reload(text)?;
        wait_until(PATIENCE, "reloaded", || {
            Ok(lb1.log().matches("configuration reloaded").count() == number)
        })?;
        std::thread::sleep(Duration::from_secs(2));
        ensure!(
            cluster.lb1.ipvsadm_save()? == before,
            "{:?}",
            cluster.lb1.ipvsadm_save()?
        );
    }
    ensure!(!lb1.log().contains("ipvs: remove"), "{}", lb1.log());
    // A service that somebody made by hand is taken over with its pool.
    cluster.lb1.run("ipvsadm -A -t 10.77.0.10:81 -s wrr")?;
    cluster
        .lb1
        .run("ipvsadm -a -t 10.77.0.10:81 -r 10.77.0.21:81 -g -w 1")?;
    let (_, second) = text.split_once("[[virtual_server]]").unwrap();
    let second = second
        .replace(":80\"", ":81\"")
        .replace("\"http\"\naddress", "\"two\"\naddress");
    let second = second.replace(
        "type = \"http\", path = \"/health\"",
        "type = \"tcp\", port = 80",
    );
    lb1.reload(&format!("{text}\n[[virtual_server]]{second}"))?;
    wait_until(PATIENCE, "both real servers behind port 81", || {
        Ok(cluster.lb1.weights()?.contains_key("10.77.0.22:81"))
    })?;
    ensure!(!lb1.log().contains("ipvs: remove"), "{}", lb1.log());
    Ok(())
}

#[test]
fn on_stop_keep_keeps_the_services_of_the_master_too() -> Result<()> {
    let cluster = Cluster::new()?;
    let text = config("lb1", 150, 1)
        .replace("vrrp = \"web\"", "vrrp = \"web\"\nactive = \"master\"")
        .replace("resync_interval", "on_stop = \"keep\"\nresync_interval");
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let lb1 = Director::start(&cluster.lb1, &text)?;
    cluster.wait_until_serving()?;
    let before = cluster.lb1.ipvsadm_save()?;
    lb1.stop()?;
    ensure!(
        cluster.lb1.ipvsadm_save()? == before,
        "{:?}",
        cluster.lb1.ipvsadm_save()?
    );
    ensure!(!cluster.lb1.has_address(VIP)?);
    Ok(())
}

fn only_rs1_serves(cluster: &Cluster) -> Result<()> {
    let answers = || cluster.requests(6);
    wait_until(PATIENCE, "only rs1 answers", || {
        let answers = answers();
        Ok(answers.rs1 == 6 && answers.rs2 == 0 && answers.lost == 0)
    })
    .map(|_| ())
}

/// A service with two real servers that nobody checks.
fn always_up(scheduler: &str, forwarding: &str) -> String {
    format!(
        "[ipvs]\nresync_interval = \"1s\"\n[[virtual_server]]\nname = \"always-up\"\n\
         address = \"{VIP}:80\"\nscheduler = \"{scheduler}\"\nforwarding = \"{forwarding}\"\n\
         check = {{ type = \"none\" }}\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.21:80\"\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.22:80\"\n"
    )
}

/// ipvsadm prints the tunnel type with a double space.
fn plain(line: &str) -> &str {
    line.split("  ")
        .next()
        .unwrap_or(line)
        .split(" --tun-type")
        .next()
        .unwrap_or(line)
}

/// A listener that accepts and never says a word.
fn silent(host: &Host) -> Result<Process> {
    let process = host.spawn("silent", &binary("lab")?, &["silent", "80"])?;
    process.wait_for_output(PATIENCE, "silent")?;
    Ok(process)
}
