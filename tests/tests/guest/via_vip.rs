//! `via = "vip"`: checks that go the clients' way through one real server.

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::nginx::Nginx;
use lab::{Host, Lab, wait_for, wait_until};
use serde_json::Value;

use super::PATIENCE;

/// The virtual servers, by the way to their real server.
const SERVERS: [&str; 5] = ["dr", "tun", "nat", "dr6", "tun6"];
/// Each has this check, and the same with `via = "vip"` after it.
const CHECK: &str = "type = \"tcp\", interval = \"1s\", timeout = \"3s\", fall = 1";

#[test]
fn a_check_via_the_vip_finds_what_a_direct_one_does_not_on_master_and_backup() -> Result<()> {
    let lab = Lab::new()?;
    let lb1 = lab.host("lb1", "10.77.0.11/24")?;
    let lb2 = lab.host("lb2", "10.77.0.12/24")?;
    let real = lab.host("rs1", "10.77.0.21/24")?;
    for (host, own) in [(&lb1, "fd77::11"), (&lb2, "fd77::12")] {
        // Addresses that vipd has nothing to do with: both hosts are as a master is to IPv6.
        host.sh(&format!(
            "ip addr add {own}/64 dev eth0 nodad
             for vip in fd77:1::10 fd77:1::41; do ip addr add $vip/128 dev lo nodad; done"
        ))?;
    }
    // The real server answers on its own addresses, and is not ready for clients.
    real.sh(
        "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
         ip addr add fd77::21/64 dev eth0 nodad
         ip link add ipip1 type ipip local 10.77.0.21
         ip link add ip6tnl1 type ip6tnl local fd77::21 mode any
         for i in all eth0 ipip1; do sysctl -q -w net.ipv4.conf.$i.rp_filter=0; done
         ip addr add 10.77.0.41/32 dev lo
         ip addr add fd77:1::41/128 dev lo nodad",
    )?;
    real.drop_incoming("tcp dport 8080")?;
    let _nginx = Nginx::start(&real)?;
    let master = Director::start(&lb1, &config(150))?;
    let backup = Director::start(&lb2, &config(100))?;
    for (director, role) in [(&master, "master"), (&backup, "backup")] {
        let status = all_are(director, role, ["up", "down"])?;
        let state = at(&status, "/virtual_servers/0/real_servers/0/state");
        ensure!(state == "down", "one failing check of two: {state}");
        let events = director.events()?;
        let passed =
            |event: &&String| event.contains("real_server.up") && event.contains("through");
        let early = events.iter().find(passed);
        ensure!(early.is_none(), "went another way: {early:?}");
    }
    // Its exit code is 1.
    master.refused(&["check", "dr"])?;

    real.sh("ip addr add 10.77.0.10/32 dev lo
         ip addr add fd77:1::10/128 dev lo nodad
         ip link set ipip1 up
         ip link set ip6tnl1 up")?;
    real.drop_nothing()?;
    all_are(&backup, "backup", ["up", "up"])?;
    let status = all_are(&master, "master", ["up", "up"])?;
    hidden_but_not_from_ipvsadm(&lb1, &status)?;
    the_way_is_told(&master)?;

    // Whoever takes them away finds them back, and nothing is left in the end.
    let table = sorted(&lb1)?;
    lb1.run("ipvsadm -C")?;
    wait_until(PATIENCE, "the services", || Ok(sorted(&lb1)? == table))?;
    for (host, director) in [(&lb1, master), (&lb2, backup)] {
        let accept = || host.run("sysctl -n net.ipv4.conf.eth0.accept_local");
        ensure!(accept()?.trim() == "1", "accept_local is {}", accept()?);
        director.stop()?;
        ensure!(accept()?.trim() == "0", "accept_local is {}", accept()?);
        ensure!(sorted(host)?.is_empty(), "{:?}", sorted(host)?);
    }
    Ok(())
}

#[test]
fn the_ways_of_checks_go_at_a_stop_that_keeps_the_table_and_those_of_the_dead_at_the_start()
-> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    // Of a killed daemon with another configuration, and of somebody else.
    host.sh("ipvsadm -A -f 1987051521 -s rr; ipvsadm -A -f 9 -s rr")?;
    let text = "[ipvs]\non_stop = \"keep\"\n\
        [[virtual_server]]\nname = \"web\"\naddress = \"10.77.0.10:80\"\nscheduler = \"rr\"\n\
        check = { type = \"tcp\", via = \"vip\", start = \"up\", fall = 1000 }\n\
        [[virtual_server.real_server]]\naddress = \"10.77.0.21\"\n";
    let director = Director::start(&host, text)?;
    let kept = [
        "-A -f 9 -s rr",
        "-A -t 10.77.0.10:80 -s rr",
        "-a -t 10.77.0.10:80 -r 10.77.0.21:80 -g -w 1",
    ];
    wait_until(PATIENCE, "the service and the way", || {
        let lines = sorted(&host)?;
        let dead = lines.iter().any(|line| line.contains("1987051521"));
        Ok(lines.len() == kept.len() + 2 && !dead)
    })?;
    director.stop()?;
    let lines = sorted(&host)?;
    ensure!(lines.len() == kept.len(), "{lines:?}");
    let all = lines.iter().zip(kept);
    for (line, wanted) in all {
        // Some versions of ipvsadm name the tunnel type of every real server.
        ensure!(line.starts_with(wanted), "{line}: {wanted}");
    }
    let accept = host.run("sysctl -n net.ipv4.conf.eth0.accept_local")?;
    ensure!(accept.trim() == "0", "accept_local is {accept}");
    Ok(())
}

/// Waits until a director has that role, and in its eyes all direct checks and all checks via the VIP
/// have these states. Returns the status that says so.
fn all_are(director: &Director, role: &str, wanted: [&str; 2]) -> Result<Value> {
    let mut last = Value::Null;
    let found = wait_for(PATIENCE, &format!("{role} with {wanted:?}"), || {
        last = director.status()?;
        let is = |pointer: &str, value| at(&last, pointer) == value;
        let all = (0..SERVERS.len()).all(|server| {
            let checks = format!("/virtual_servers/{server}/real_servers/0/checks");
            let states = (0..).zip(wanted);
            let mut states =
                states.map(|(check, state)| is(&format!("{checks}/{check}/state"), state));
            states.all(|as_wanted| as_wanted)
        });
        let there = all && is("/vrrp/0/state", role);
        Ok(there.then(|| last.clone()))
    });
    found.with_context(|| format!("{last:#}\n{}", director.log()))
}

/// A text in JSON; empty where there is none.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn hidden_but_not_from_ipvsadm(host: &Host, status: &Value) -> Result<()> {
    let servers = status.pointer("/virtual_servers").and_then(Value::as_array);
    let servers = servers.context("no list")?.iter();
    let names: Vec<&str> = servers.map(|server| at(server, "/name")).collect();
    ensure!(names == SERVERS, "{names:?}");
    let marked = sorted(host)?;
    let marked = marked.iter().filter(|line| line.starts_with("-A -f "));
    ensure!(marked.count() == SERVERS.len(), "{:?}", sorted(host)?);
    Ok(())
}

fn the_way_is_told(director: &Director) -> Result<()> {
    let checked: Value = serde_json::from_str(&director.vipctl(&["check", "tun", "--json"])?)?;
    let check = "/real_servers/0/checks/1";
    for (key, value) in [
        ("via", "vip"),
        ("source", "10.77.0.11"),
        ("steps/0/name", "connect"),
    ] {
        let found = at(&checked, &format!("{check}/{key}"));
        ensure!(found == value, "{key} is {found:?}: {checked:#}");
    }
    Ok(())
}

fn sorted(host: &Host) -> Result<Vec<String>> {
    let mut lines = host.ipvsadm_save()?;
    lines.sort();
    Ok(lines)
}

fn config(priority: u8) -> String {
    let server = |name: &str, vip: &str, forwarding: &str, real: &str, direct: &str| {
        format!(
            "[[virtual_server]]\nname = \"{name}\"\naddress = \"{vip}\"\nscheduler = \"rr\"\n\
             forwarding = \"{forwarding}\"\n\
             checks = [{{ {CHECK}{direct} }}, {{ {CHECK}, via = \"vip\" }}]\n\
             [[virtual_server.real_server]]\naddress = \"{real}\"\n"
        )
    };
    let head = format!(
        "[ipvs]\nresync_interval = \"2s\"\n\
         [[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\npriority = {priority}\n\
         virtual_addresses = [\"10.77.0.10/24\", \"10.77.0.41/24\", \"10.77.0.42/24\"]\n"
    );
    [
        head,
        server("dr", "10.77.0.10:80", "dr", "10.77.0.21", ""),
        server("tun", "10.77.0.41:80", "tun", "10.77.0.21", ""),
        server(
            "nat",
            "10.77.0.42:80",
            "nat",
            "10.77.0.21:8080",
            ", port = 80",
        ),
        server("dr6", "[fd77:1::10]:80", "dr", "fd77::21", ""),
        server("tun6", "[fd77:1::41]:80", "tun", "fd77::21", ""),
    ]
    .concat()
}
