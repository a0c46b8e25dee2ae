//! Scenarios of virtual routers and of the daemon's start, in network namespaces of this machine.
//! They need root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "native/labs.rs"]
mod labs;
#[path = "native/observe.rs"]
mod observe;

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, router};
use lab::{Host, Lab, binary, wait_for, wait_until};
use serde_json::json;

#[test]
fn hosts_reach_each_other_until_a_cable_is_pulled_and_nothing_is_left_of_a_lab() -> Result<()> {
    let lab = Lab::new()?;
    let (a, b) = (
        lab.host("a", "10.77.0.1/24")?,
        lab.host("b", "10.77.0.2/24")?,
    );
    let capture = b.capture("arp")?;
    let start = SystemTime::now();
    a.run("ping -c 1 -W 5 10.77.0.2")?;
    capture.wait_for(ELECTION, start, &["who-has 10.77.0.2 tell 10.77.0.1"])?;
    lab.pull_cable(&b)?;
    ensure!(
        a.run("ping -c 1 -W 1 10.77.0.2").is_err(),
        "a pulled cable carries packets"
    );
    lab.plug_cable(&b)?;
    a.run("ping -c 1 -W 5 10.77.0.2")?;
    let (prefix, folder) = (lab.prefix().to_owned(), lab.folder().to_owned());
    let tcpdump = capture.pid();
    drop((a, b, capture, lab));
    let left = std::fs::read_dir("/run/netns")?;
    let left: Vec<_> = left
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    ensure!(
        !left.iter().any(|name| name.starts_with(&prefix)),
        "{left:?}"
    );
    ensure!(!folder.exists() && !Path::new(&format!("/proc/{tcpdump}")).exists());
    Ok(())
}

#[test]
fn the_higher_priority_is_master_and_announces_its_address_five_times_and_again_after_five_seconds()
-> Result<()> {
    let pair = Pair::new()?;
    let watcher = pair.lab.host("watcher", "10.77.0.99/24")?;
    let capture = watcher.capture("arp or proto 112")?;
    let (_lb1, _lb2) = pair.start(150, 100)?;
    pair.wait_for_holders(&["lb1"])?;
    let mac = pair.lb1.mac()?;
    let arp = [mac.as_str(), "who-has 10.77.0.10", "tell 10.77.0.10"];
    wait_until(ELECTION, "five announcements", || {
        Ok(capture.count(&arp) == 5)
    })?;
    wait_until(ELECTION, "five more", || Ok(capture.count(&arp) == 10))?;
    let first_advert = capture.wait_for(ELECTION, SystemTime::UNIX_EPOCH, &["prio 150"])?;
    let first_arp = capture.wait_for(ELECTION, SystemTime::UNIX_EPOCH, &arp)?;
    ensure!(
        first_advert.at <= first_arp.at,
        "the advert comes before the announcement"
    );
    // The wire, as tcpdump tells it: TOS 0xc0 and TTL 255 are in its verbose form only.
    let verbose = watcher.run("timeout 10 tcpdump -n -v -c 1 -i eth0 proto 112")?;
    ensure!(verbose.contains("tos 0xc0, ttl 255"), "{verbose}");
    ensure!(capture.count(&["prio 100"]) == 0, "the backup is silent");
    Ok(())
}

#[test]
fn pulling_the_masters_cable_moves_the_address_and_its_return_preempts() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start(150, 100)?;
    pair.wait_for_holders(&["lb1"])?;
    pair.lab.pull_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_status("/vrrp/0/state", &json!("fault"))?;
    lb1.wait_for_status("/vrrp/0/faults/0", &json!("the interface is down"))?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.12"))?;
    pair.lab.plug_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/state", &json!("backup"))?;
    lb2.wait_for_status(
        "/vrrp/0/master",
        &json!({ "address": "10.77.0.11", "priority": 150 }),
    )?;
    Ok(())
}

#[test]
fn a_graceful_stop_hands_over_within_skew_time_and_leaves_nothing() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start(150, 100)?;
    pair.wait_for_holders(&["lb1"])?;
    let capture = pair.lb2.capture("proto 112")?;
    let socket = lb1.socket().to_owned();
    lb1.stop()?;
    let last = capture.wait_for(ELECTION, SystemTime::UNIX_EPOCH, &["prio 0"])?;
    let first = capture.wait_for(ELECTION, last.at, &["10.77.0.12 >", "prio 100"])?;
    let gap = first.at.duration_since(last.at)?;
    // Skew at priority 100 is 609 ms; silence would have cost 3 s more.
    ensure!(gap < Duration::from_secs(2), "handed over after {gap:?}");
    ensure!(!pair.lb1.has_address(VIP)?, "the address stayed");
    ensure!(!socket.exists(), "the control socket stayed");
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn an_address_that_somebody_deletes_is_back_at_once_without_leaving_master() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start(150, 100)?;
    pair.wait_for_holders(&["lb1"])?;
    let capture = pair.lb2.capture("arp or proto 112")?;
    let deleted = SystemTime::now();
    pair.lb1.ip(&format!("addr del {VIP}/24 dev eth0"))?;
    wait_until(ELECTION, "the address again", || pair.lb1.has_address(VIP))?;
    let arp = capture.wait_for(ELECTION, deleted, &["tell 10.77.0.10"])?;
    ensure!(
        arp.at.duration_since(deleted)? < Duration::from_millis(500),
        "announced late"
    );
    lb1.wait_for_status("/vrrp/0/transitions", &json!(2))?;
    lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
    ensure!(capture.count(&["prio 0"]) == 0, "it gave up for a moment");
    // Taking it away again and again does not help either.
    for _ in 0..5 {
        pair.lb1.ip(&format!("addr flush dev eth0 to {VIP}/32"))?;
        wait_until(ELECTION, "the address again", || pair.lb1.has_address(VIP))?;
    }
    Ok(())
}

#[test]
fn of_two_routers_of_equal_priority_the_greater_address_stays_master() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start(100, 100)?;
    // Whoever waited first is master: a backup does not look at the address of an equal master.
    lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.11"))?;
    // Both are masters while they do not hear each other.
    pair.lab.isolate(&pair.lb1)?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    pair.lab.rejoin(&pair.lb1)?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_status("/vrrp/0/state", &json!("backup"))?;
    Ok(())
}

#[test]
fn without_preemption_the_returning_router_leaves_the_master_alone() -> Result<()> {
    let pair = Pair::new()?;
    let calm = |priority| router(priority).replace("vrid = 51", "vrid = 51\npreempt = false");
    let _lb2 = Director::start(&pair.lb2, &calm(100))?;
    pair.wait_for_holders(&["lb2"])?;
    let lb1 = Director::start(&pair.lb1, &calm(150))?;
    lb1.wait_for_status("/vrrp/0/master/priority", &json!(100))?;
    std::thread::sleep(Duration::from_secs(5));
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn a_missing_interface_is_a_fault_until_it_comes_and_again_when_it_is_recreated() -> Result<()> {
    let pair = Pair::new()?;
    let late = router(150).replace("\"eth0\"", "\"eth9\"");
    let lb1 = Director::start(&pair.lb1, &late)?;
    lb1.wait_for_status("/vrrp/0/state", &json!("fault"))?;
    lb1.wait_for_status("/vrrp/0/faults", &json!(["the interface does not exist"]))?;
    ensure!(
        lb1.log().contains("eth9"),
        "the log does not name it:\n{}",
        lb1.log()
    );
    for _ in 0..2 {
        pair.lb1.ip("link add eth9 type veth peer name peer9")?;
        pair.lb1.ip("link set peer9 up")?;
        pair.lb1.ip("link set eth9 up")?;
        lb1.wait_for_status("/vrrp/0/faults", &json!([NO_ADDRESS]))?;
        pair.lb1.ip("addr add 10.78.0.1/24 dev eth9")?;
        lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
        let text = || pair.lb1.run("ip -o address show dev eth9");
        wait_until(ELECTION, "the address", || Ok(text()?.contains(VIP)))?;
        pair.lb1.ip("link del eth9")?;
        lb1.wait_for_status("/vrrp/0/state", &json!("fault"))?;
    }
    lb1.stop()
}

#[test]
fn a_killed_daemons_address_is_released_and_the_peer_is_told() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start(150, 100)?;
    pair.wait_for_holders(&["lb1"])?;
    let capture = pair.lb2.capture("proto 112")?;
    let printed = lb1.kill_and_release(&[])?;
    ensure!(
        printed.contains("gives up") && printed.contains("removed 10.77.0.10/24"),
        "{printed}"
    );
    ensure!(!pair.lb1.has_address(VIP)?);
    capture.wait_for(
        ELECTION,
        SystemTime::UNIX_EPOCH,
        &["10.77.0.11 >", "prio 0"],
    )?;
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn release_refuses_while_the_daemon_runs() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    pair.wait_for_holders(&["lb1"])?;
    let mut release = pair.lb1.command(binary("vipd")?);
    let output = release.args(["release", "-c"]).arg(lb1.config()).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && text.contains("vipd is running"),
        "{text}"
    );
    ensure!(pair.lb1.has_address(VIP)?);
    Ok(())
}

#[test]
fn an_address_left_by_a_killed_daemon_goes_when_the_next_one_starts_as_backup() -> Result<()> {
    let pair = Pair::new()?;
    let _lb1 = Director::start(&pair.lb1, &router(150))?;
    pair.wait_for_holders(&["lb1"])?;
    pair.lb2.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    let _lb2 = Director::start(&pair.lb2, &router(100))?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_reload_that_renames_a_router_and_swaps_the_names_of_two_keeps_them_master() -> Result<()> {
    let pair = Pair::new()?;
    let second = |name: &str| {
        format!(
            "[[vrrp]]\nname = {name:?}\ninterface = \"eth0\"\nvrid = 52\npriority = 150\n\
             virtual_addresses = [\"10.77.0.9/24\"]\n"
        )
    };
    let text = format!("{}{}", router(150), second("two"));
    let lb1 = Director::start(&pair.lb1, &text)?;
    pair.wait_for_holders(&["lb1"])?;
    let capture = pair.lb2.capture("proto 112")?;
    for (number, names) in (1..).zip([("renamed", "two"), ("two", "renamed")]) {
        let text = router(150).replace("\"web\"", &format!("{:?}", names.0));
        lb1.reload(&format!("{text}{}", second(names.1)))?;
        wait_until(ELECTION, "reloaded", || {
            Ok(lb1.log().matches("configuration reloaded").count() == number)
        })?;
        lb1.wait_for_status("/vrrp/0/name", &json!(names.0))?;
        lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
        lb1.wait_for_status("/vrrp/1/state", &json!("master"))?;
        ensure!(pair.lb1.has_address(VIP)? && pair.lb1.has_address("10.77.0.9")?);
    }
    std::thread::sleep(Duration::from_millis(500));
    ensure!(capture.count(&["prio 0"]) == 0, "it gave up for a moment");
    Ok(())
}

#[test]
fn a_reload_changes_priority_without_a_restart_and_a_broken_file_changes_nothing() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start(150, 100)?;
    pair.wait_for_holders(&["lb1"])?;
    let before = lb1.status()?;
    for (broken, words) in [
        ("[[vrrp]\nnonsense", "nonsense"),
        (&*router(150).replace("priority", "priorty"), "priorty"),
        (&*router(150).replace("vrid = 51", "vrid = 0"), "vrid"),
    ] {
        lb1.reload(broken)?;
        let error = wait_for(ELECTION, "the reload is refused", || {
            let status = lb1.status()?;
            let error = status
                .pointer("/config/last_reload/error")
                .and_then(|e| e.as_str());
            Ok(error.filter(|text| text.contains(words)).map(str::to_owned))
        })?;
        ensure!(error.contains("lb1.toml"), "no file name in {error}");
        ensure!(
            lb1.status_text()?.contains("refused"),
            "{}",
            lb1.status_text()?
        );
        lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
        ensure!(lb1.status()?.pointer("/vrrp/0/since") == before.pointer("/vrrp/0/since"));
    }
    lb1.reload(&router(50))?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_status(
        "/vrrp/0/priority",
        &json!({ "configured": 50, "effective": 50 }),
    )?;
    lb1.wait_for_status("/config/last_reload/ok", &json!(true))?;
    lb2.wait_for_status("/vrrp/0/state", &json!("master"))?;
    Ok(())
}

#[test]
fn a_reload_swaps_addresses_while_the_router_stays_master() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.reload(&router(150).replace("10.77.0.10/24", "10.77.0.8/24\", \"10.77.0.9/24"))?;
    for (address, there) in [("10.77.0.8", true), ("10.77.0.9", true), (VIP, false)] {
        wait_until(ELECTION, address, || {
            Ok(pair.lb1.has_address(address)? == there)
        })?;
    }
    lb1.wait_for_status("/vrrp/0/transitions", &json!(2))?;
    // A renamed router is the same router.
    lb1.reload(&router(150).replace("\"web\"", "\"renamed\""))?;
    wait_until(ELECTION, VIP, || pair.lb1.has_address(VIP))?;
    lb1.wait_for_status("/vrrp/0/name", &json!("renamed"))?;
    lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
    Ok(())
}

#[test]
fn version_3_elects_at_a_tenth_of_a_second() -> Result<()> {
    let pair = Pair::new()?;
    let fast = |priority| {
        router(priority).replace(
            "vrid = 51",
            "vrid = 51\nversion = 3\nadvert_interval = \"100ms\"",
        )
    };
    let lb1 = Director::start(&pair.lb1, &fast(150))?;
    let lb2 = Director::start(&pair.lb2, &fast(100))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    lb2.wait_for_status("/vrrp/0/counters/discarded/checksum", &json!(0))?;
    pair.lab.pull_cable(&pair.lb1)?;
    pair.wait_for_holders(&["lb2"])?;
    drop(lb1);
    Ok(())
}

#[test]
fn a_stock_keepalived_is_backup_takes_over_and_yields() -> Result<()> {
    let pair = Pair::new()?;
    let file = pair.lab.folder().join("keepalived.conf");
    let text = format!(
        "vrrp_instance web {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
         priority 100\n advert_int 1\n virtual_ipaddress {{ {VIP}/24 }}\n}}\n"
    );
    std::fs::write(&file, text)?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    pair.wait_for_holders(&["lb1"])?;
    let pid = pair
        .lab
        .folder()
        .join("keepalived.pid")
        .display()
        .to_string();
    let child = pair.lab.folder().join("vrrp.pid").display().to_string();
    let mut keepalived = pair.lb2.spawn(
        "keepalived",
        Path::new("/usr/sbin/keepalived"),
        &[
            "-n",
            "-l",
            "-D",
            "-P",
            "-f",
            &file.to_string_lossy(),
            "-p",
            &pid,
            "-r",
            &child,
        ],
    )?;
    let capture = pair.lb1.capture("proto 112")?;
    keepalived.wait_for_output(ELECTION, "Entering BACKUP STATE")?;
    std::thread::sleep(Duration::from_secs(5));
    pair.wait_for_holders(&["lb1"])?;
    ensure!(
        capture.count(&["10.77.0.12 >"]) == 0,
        "keepalived did not accept our adverts"
    );
    lb1.stop()?;
    pair.wait_for_holders(&["lb2"])?;
    let resigned = capture.wait_for(ELECTION, SystemTime::UNIX_EPOCH, &["prio 0"])?;
    let taken = capture.wait_for(ELECTION, resigned.at, &["10.77.0.12 >"])?;
    let gap = taken.at.duration_since(resigned.at)?;
    ensure!(
        gap < Duration::from_secs(2),
        "keepalived took {gap:?}: it did not hear priority 0"
    );
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    lb1.wait_for_status(
        "/vrrp/0/master",
        &json!({ "address": "10.77.0.12", "priority": 100 }),
    )?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/vrrp/0/counters/discarded/checksum", &json!(0))?;
    // And the other way round: keepalived resigns, and we take over after skew time.
    lb1.reload(&router(50))?;
    pair.wait_for_holders(&["lb2"])?;
    keepalived.signal("TERM")?;
    pair.wait_for_holders(&["lb1"])?;
    keepalived.wait(ELECTION)?;
    let status = lb1.status()?;
    ensure!(
        status["vrrp"][0]["why"] == "the master 10.77.0.12 gave up",
        "{status:#}"
    );
    Ok(())
}

#[test]
fn the_http_listener_shows_metrics_and_a_taken_port_is_a_clear_error() -> Result<()> {
    let pair = Pair::new()?;
    let with_http = format!("[global]\nhttp = \"127.0.0.1:9650\"\n{}", router(150));
    let lb1 = Director::start(&pair.lb1, &with_http)?;
    pair.wait_for_holders(&["lb1"])?;
    let metrics = pair
        .lb1
        .get("http://127.0.0.1:9650/metrics")
        .unwrap_or_default();
    ensure!(
        metrics.contains("vipd_vrrp_state{name=\"web\",state=\"master\"} 1"),
        "{metrics}"
    );
    ensure!(metrics.contains("vipd_vrrp_adverts_discarded_total{name=\"web\",reason=\"ttl\"} 0"));
    ensure!(
        metrics.contains("vipd_vrrp_advert_lateness_seconds_bucket{le=\"+Inf\"}"),
        "{metrics}"
    );
    ensure!(metrics.ends_with("# EOF\n"), "{metrics}");
    let status = pair
        .lb1
        .get("http://127.0.0.1:9650/v1/status")
        .unwrap_or_default();
    ensure!(serde_json::from_str::<serde_json::Value>(&status)?["vrrp"][0]["state"] == "master");
    // Another daemon on the same host, with another control socket and the same port.
    let mut second = pair.lb1.command(binary("vipd")?);
    let file = pair.lab.folder().join("second.toml");
    let socket = pair.lab.folder().join("second.sock");
    let text = with_http.replace(
        "[global]",
        &format!("[global]\ncontrol_socket = {socket:?}"),
    );
    std::fs::write(&file, text)?;
    let output = second.args(["run", "-c"]).arg(&file).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(
        text.contains("127.0.0.1:9650") && text.contains("another program"),
        "{text}"
    );
    ensure!(!socket.exists(), "the second daemon left its socket");
    // A reload takes the same port on every address.
    let everywhere = "http_public = true\nhttp = \"0.0.0.0:9650\"";
    lb1.reload(&with_http.replace("http = \"127.0.0.1:9650\"", everywhere))?;
    lb1.wait_for_status("/config/last_reload/ok", &json!(true))?;
    let metrics = pair
        .lb1
        .get("http://10.77.0.11:9650/metrics")
        .unwrap_or_default();
    ensure!(metrics.ends_with("# EOF\n"), "{metrics}");
    // And with the same socket.
    let (code, log) = run_vipd(&pair.lb1, lb1.config())?;
    ensure!(code == Some(1) && log.contains("9650"), "{log}");
    lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
    Ok(())
}

#[test]
fn an_address_on_an_interface_that_does_not_exist_is_a_fault_until_it_does() -> Result<()> {
    let pair = Pair::new()?;
    let elsewhere =
        "10.77.0.10/24\", { address = \"10.79.0.1/24\", interface = \"eth9\" }, \"10.77.0.9/24";
    let lb1 = Director::start(&pair.lb1, &router(150).replace("10.77.0.10/24", elsewhere))?;
    let fault = "interface eth9 does not exist";
    lb1.wait_for_status("/vrrp/0/faults", &json!([fault]))?;
    ensure!(lb1.status_text()?.contains(fault), "{}", lb1.status_text()?);
    pair.wait_for_holders(&[])?;
    pair.lb1.ip("link add eth9 type veth peer name peer9")?;
    lb1.wait_for_status("/vrrp/0/faults", &json!(["interface eth9 is down"]))?;
    pair.lb1.ip("link set peer9 up")?;
    pair.lb1.ip("link set eth9 up")?;
    pair.wait_for_holders(&["lb1"])?;
    ensure!(pair.lb1.has_address("10.77.0.9")?);
    pair.lb1.ip("link del eth9")?;
    lb1.wait_for_status("/vrrp/0/faults", &json!([fault]))?;
    pair.wait_for_holders(&[])
}

#[test]
fn an_interface_that_leaves_a_bridge_keeps_its_router() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    pair.wait_for_holders(&["lb1"])?;
    pair.lb1.ip("link add br9 type bridge")?;
    pair.lb1.ip("link set eth0 master br9")?;
    pair.lb1.ip("link set eth0 nomaster")?;
    std::thread::sleep(Duration::from_secs(2));
    lb1.wait_for_status("/vrrp/0/transitions", &json!(2))?;
    lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn adverts_never_leave_from_a_virtual_address() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    pair.wait_for_holders(&["lb1"])?;
    pair.lb1
        .run("sysctl -q -w net.ipv4.conf.eth0.promote_secondaries=1")?;
    let capture = pair.lb2.capture("proto 112")?;
    pair.lb1.ip("addr del 10.77.0.11/24 dev eth0")?;
    lb1.wait_for_status("/vrrp/0/faults", &json!([NO_ADDRESS]))?;
    pair.wait_for_holders(&[])?;
    ensure!(
        capture.count(&["10.77.0.10 >"]) == 0,
        "an advert left from the virtual address"
    );
    Ok(())
}

#[test]
fn the_hosts_only_address_is_not_taken_by_a_file_that_names_it_as_virtual() -> Result<()> {
    let pair = Pair::new()?;
    let mistaken = router(100).replace("10.77.0.10/24", "10.77.0.11/24");
    let lb1 = Director::start(&pair.lb1, &mistaken)?;
    lb1.wait_for_status("/vrrp/0/faults", &json!([NO_ADDRESS]))?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(pair.lb1.has_address("10.77.0.11")?, "{}", lb1.log());
    lb1.stop()?;
    ensure!(pair.lb1.has_address("10.77.0.11")?, "taken by the stop");
    Ok(())
}

#[test]
fn a_reader_who_has_had_enough_is_no_failure() -> Result<()> {
    let lab = Lab::new()?;
    let file = lab.folder().join("vipd.toml");
    std::fs::write(&file, "nonsense = 1\n".repeat(2000))?;
    let vipd = binary("vipd")?;
    let line = format!(
        "{} check -c {} | head -0; echo ${{PIPESTATUS[0]}}",
        vipd.display(),
        file.display()
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &line])
        .output()?;
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(out.trim() == "1" && error.is_empty(), "{out} {error}");
    Ok(())
}

#[test]
fn a_file_where_the_control_socket_should_be_is_left_alone() -> Result<()> {
    let pair = Pair::new()?;
    let precious = pair.lab.folder().join("lb1.sock");
    std::fs::write(&precious, "precious")?;
    let (code, log) = Director::launch(&pair.lb1, &router(150))?.ended()?;
    ensure!(code == Some(1) && log.contains("left alone"), "{log}");
    ensure!(std::fs::read_to_string(&precious)? == "precious");
    Ok(())
}

#[test]
fn without_privileges_the_daemon_says_which_it_needs() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let file = lab.folder().join("vipd.toml");
    std::fs::write(&file, router(150))?;
    let mut vipd = host.command("setpriv");
    vipd.args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(binary("vipd")?);
    let output = vipd.args(["run", "-c"]).arg(&file).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && text.contains("CAP_NET_ADMIN"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_kernel_without_ipvs_is_one_clear_message_and_nothing_is_started() -> Result<()> {
    if Path::new("/proc/net/ip_vs").exists() {
        // This kernel has it; the guest's scenarios cover the rest.
        return Ok(());
    }
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let director = Director::launch(&host, &lab::cluster::config("lb1", 150, 1))?;
    let (code, log) = director.ended()?;
    ensure!(code == Some(1), "{log}");
    ensure!(log.contains("modprobe ip_vs"), "{log}");
    ensure!(!host.has_address(VIP)?);
    Ok(())
}

#[test]
fn a_hostname_in_the_configuration_is_refused_with_its_place() -> Result<()> {
    let lab = Lab::new()?;
    let file = lab.folder().join("vipd.toml");
    let named =
        lab::cluster::config("lb1", 150, 1).replace("\"10.77.0.21\"", "\"no-such.invalid\"");
    std::fs::write(&file, named)?;
    let output = std::process::Command::new(binary("vipd")?)
        .args(["check", "-c"])
        .arg(&file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(1), "{text}");
    let first = text.lines().next().unwrap_or_default();
    ensure!(
        first.contains("vipd.toml:23:") && first.contains("address"),
        "{text}"
    );
    ensure!(
        text.contains("no-such.invalid") && text.contains("help"),
        "{text}"
    );
    Ok(())
}

#[test]
fn systemd_is_told_of_readiness_reload_stop_and_life() -> Result<()> {
    let pair = Pair::new()?;
    let path = pair.lab.folder().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(ELECTION))?;
    let next = |wanted: &str| -> Result<()> {
        let mut heard = String::new();
        while !heard.contains(wanted) {
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer)?;
            heard = String::from_utf8_lossy(&buffer[..length]).into_owned();
        }
        Ok(())
    };
    let file = pair.lab.folder().join("vipd.toml");
    let control = pair.lab.folder().join("vipd.sock");
    std::fs::write(
        &file,
        format!("[global]\ncontrol_socket = {control:?}\n{}", router(150)),
    )?;
    let mut vipd = pair.lb1.spawn(
        "vipd",
        Path::new("env"),
        &[
            &format!("NOTIFY_SOCKET={}", path.display()),
            "WATCHDOG_USEC=1000000",
            &binary("vipd")?.to_string_lossy(),
            "run",
            "-c",
            &file.to_string_lossy(),
        ],
    )?;
    next("READY=1")?;
    next("WATCHDOG=1")?;
    next("WATCHDOG=1")?;
    vipd.signal("HUP")?;
    next("RELOADING=1")?;
    next("READY=1")?;
    vipd.signal("TERM")?;
    next("STOPPING=1")?;
    ensure!(vipd.wait(ELECTION)?.success(), "{}", vipd.output());
    Ok(())
}

#[test]
fn the_systemd_unit_is_valid() -> Result<()> {
    let lab = Lab::new()?;
    let unit = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../systemd/vipd.service"
    ))?;
    // systemd wants the programs to be there; here they are where they were built.
    let built = binary("vipd")?;
    let unit = unit.replace("/usr/sbin/vipd", &built.to_string_lossy());
    let file = lab.folder().join("vipd.service");
    std::fs::write(&file, unit)?;
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = text.lines().filter(|line| line.contains("vipd")).collect();
    ensure!(output.status.success() && ours.is_empty(), "{text}");
    Ok(())
}

#[test]
fn vipctl_without_a_daemon_says_so() -> Result<()> {
    let mut vipctl = std::process::Command::new(binary("vipctl")?);
    let output = vipctl
        .args(["--socket", "/nonexistent/vipd.sock", "status"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && text.contains("is vipd running?"),
        "{text}"
    );
    Ok(())
}

const NO_ADDRESS: &str = "the interface has no address to send adverts from";

fn run_vipd(host: &Host, config: &Path) -> Result<(Option<i32>, String)> {
    let output = host
        .command(binary("vipd")?)
        .args(["run", "-c"])
        .arg(config)
        .output()?;
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}
