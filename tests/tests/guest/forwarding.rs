//! Every way that IPVS forwards, with real packets: who answered, whose address it saw, what went over
//! the wire, and that ipvsadm sees what was configured.

use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use lab::capture::Capture;
use lab::cluster::Cluster;
use lab::director::Director;
use lab::nginx::Nginx;
use lab::{Host, Lab, wait_until};
use serde_json::json;

use crate::PATIENCE;

/// A client behind the director, and three real servers: rs1 answers clients directly, rs2 through
/// the director, rs3 knows no way to them.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) client: Host,
    pub(crate) lb1: Host,
    pub(crate) rs1: Host,
    pub(crate) rs2: Host,
    pub(crate) rs3: Host,
}

impl Scene {
    pub(crate) fn new() -> Result<Scene> {
        let lab = Lab::new()?;
        let scene = Scene {
            client: lab.host("client", "10.78.0.100/24")?,
            lb1: lab.host("lb1", "10.77.0.11/24")?,
            rs1: lab.host("rs1", "10.77.0.21/24")?,
            rs2: lab.host("rs2", "10.77.0.22/24")?,
            rs3: lab.host("rs3", "10.77.0.23/24")?,
            lab,
        };
        scene.client.sh("ip addr add fd78::100/64 dev eth0 nodad
             ip route add default via 10.78.0.11
             ip -6 route add default via fd78::11")?;
        // The client comes through the director, so that virtual addresses need no neighbour.
        scene.lb1.sh("{ echo addr add 10.78.0.11/24 dev eth0
             for a in fd77::11/64 fd78::11/64; do echo addr add $a dev eth0 nodad; done
             for n in 10 40 41 42 43 44 45; do
                 echo addr add 10.77.1.$n/32 dev lo; echo addr add fd77:1::$n/128 dev lo nodad
             done; } | ip -batch -
             sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        scene.rs1.sh(
            "{ echo addr add fd77::21/64 dev eth0 nodad
             for n in 10 41 42 43 45; do
                 echo addr add 10.77.1.$n/32 dev lo; echo addr add fd77:1::$n/128 dev lo nodad
             done
             echo route add 10.78.0.0/24 dev eth0
             echo route add fd78::/64 dev eth0
             echo link add ipip1 type ipip local 10.77.0.21
             echo link add gre1 type gre local 10.77.0.21
             echo link add ip6tnl1 type ip6tnl local fd77::21 mode any
             echo fou add port 6080 gue
             for i in ipip1 gre1 ip6tnl1; do echo link set $i up; done; } | ip -batch -
             settings=
             for i in all eth0 ipip1 gre1 ip6tnl1; do
                 settings=\"$settings net.ipv4.conf.$i.rp_filter=0\"
             done
             sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 $settings",
        )?;
        // The director has both networks on one cable, and would tell it the short way around itself.
        scene
            .rs2
            .sh("sysctl -q -w net.ipv6.conf.eth0.accept_redirects=0
             sysctl -q -w net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.eth0.accept_redirects=0
             ip addr add fd77::22/64 dev eth0 nodad
             ip route add 10.78.0.0/24 via 10.77.0.11
             ip -6 route add fd78::/64 via fd77::11")?;
        scene.rs3.sh("ip addr add fd77::23/64 dev eth0 nodad")?;
        Ok(scene)
    }

    /// What answers to a request, once somebody does.
    pub(crate) fn who(&self, url: &str) -> Result<String> {
        let mut answer = None;
        let asked = wait_until(PATIENCE, url, || {
            answer = self.client.sh(&curl(url)).ok();
            Ok(answer.is_some())
        });
        asked.with_context(|| {
            let table = self.lb1.run("ipvsadm -Ln --stats").unwrap_or_default();
            let connections = self.lb1.run("ipvsadm -Lnc").unwrap_or_default();
            format!("{table}{connections}")
        })?;
        Ok(answer.unwrap_or_default().trim().to_owned())
    }
}

fn curl(url: &str) -> String {
    format!("curl --silent --fail --globoff --max-time 2 'http://{url}/who'")
}

/// A virtual server with one real server that nobody checks.
fn server(name: &str, address: &str, forwarding: &str, real: &str) -> String {
    format!(
        "[[virtual_server]]\nname = \"{name}\"\naddress = \"{address}\"\nscheduler = \"rr\"\n\
         forwarding = {forwarding}\n[[virtual_server.real_server]]\naddress = \"{real}\"\n"
    )
}

pub(crate) fn seen(capture: &Capture, words: &[&str]) -> Result<()> {
    let found = capture.wait_for(PATIENCE, UNIX_EPOCH, words);
    found.map(|_| ()).with_context(|| {
        let packets = capture.packets();
        let lines: Vec<String> = packets.into_iter().map(|packet| packet.text).collect();
        lines.join("\n")
    })
}

#[test]
fn every_way_of_forwarding_reaches_its_real_server_as_it_should() -> Result<()> {
    let scene = Scene::new()?;
    let _real = [
        Nginx::start(&scene.rs1)?,
        Nginx::start(&scene.rs2)?,
        Nginx::start(&scene.rs3)?,
    ];
    let gue = "\"tun\"\ntunnel = { type = \"gue\", port = 6080, checksum = \"full\" }";
    let text = [
        server("dr", "10.77.1.10:80", "\"dr\"", "10.77.0.21"),
        server("dr6", "[fd77:1::10]:80", "\"dr\"", "fd77::21"),
        server("nat", "10.77.1.40:80", "\"nat\"", "10.77.0.22:8080"),
        server("nat6", "[fd77:1::40]:80", "\"nat\"", "[fd77::22]:8080"),
        server("ipip", "10.77.1.41:80", "\"tun\"", "10.77.0.21"),
        server("ipip6", "[fd77:1::41]:80", "\"tun\"", "fd77::21"),
        server("gue", "10.77.1.42:80", gue, "10.77.0.21"),
        server(
            "gre",
            "10.77.1.43:80",
            "\"tun\"\ntunnel = { type = \"gre\" }",
            "10.77.0.21",
        ),
        server("fullnat", "10.77.1.44:80", "\"fullnat\"", "10.77.0.23:8080"),
        server(
            "fullnat6",
            "[fd77:1::44]:80",
            "\"fullnat\"",
            "[fd77::23]:8080",
        ),
        server("mixed", "10.77.1.45:80", "\"tun\"", "fd77::21"),
    ]
    .concat();
    let captures = [
        scene.rs1.capture("ip or ip6")?,
        scene.rs2.capture("tcp")?,
        scene.rs3.capture("tcp")?,
    ];
    let lb1 = Director::start(&scene.lb1, &text)?;
    lb1.wait_for_status("/ipvs/in_sync", &json!(true))?;
    wait_until(PATIENCE, "the rules", || {
        Ok(scene.lb1.run("nft list table inet vipd").is_ok())
    })?;

    // IPv6 addresses in the answers show that the client's own is seen everywhere but with full NAT.
    for (address, answer) in [
        ("10.77.1.10", "rs1 10.78.0.100 80"),
        ("[fd77:1::10]", "rs1 fd78::100 80"),
        ("10.77.1.40", "rs2 10.78.0.100 8080"),
        ("[fd77:1::40]", "rs2 fd78::100 8080"),
        ("10.77.1.41", "rs1 10.78.0.100 80"),
        ("[fd77:1::41]", "rs1 fd78::100 80"),
        ("10.77.1.42", "rs1 10.78.0.100 80"),
        ("10.77.1.43", "rs1 10.78.0.100 80"),
        ("10.77.1.44", "rs3 10.77.0.11 8080"),
        ("[fd77:1::44]", "rs3 fd77::11 8080"),
        ("10.77.1.45", "rs1 10.78.0.100 80"),
    ] {
        let found = scene.who(address)?;
        ensure!(found == answer, "{address}: {found}, not {answer}");
    }

    let (lb_mac, rs_mac) = (scene.lb1.mac()?, scene.rs1.mac()?);
    let direct = format!("{lb_mac} > {rs_mac}");
    let [rs1, rs2, rs3] = &captures;
    seen(rs1, &[&direct, " 10.78.0.100.", " > 10.77.1.10.80: "])?;
    seen(rs1, &[&direct, " fd78::100.", " > fd77:1::10.80: "])?;
    seen(rs2, &[" 10.78.0.100.", " > 10.77.0.22.8080: "])?;
    seen(rs2, &[" fd78::100.", " > fd77::22.8080: "])?;
    seen(rs1, &["10.77.0.11 > 10.77.0.21: ", " > 10.77.1.41.80: "])?;
    seen(rs1, &["fd77::11 > fd77::21: ", " > fd77:1::41.80: "])?;
    seen(rs1, &["10.77.0.11.", " > 10.77.0.21.6080: "])?;
    seen(rs1, &["10.77.0.11 > 10.77.0.21: GRE", " > 10.77.1.43.80: "])?;
    seen(rs1, &["fd77::11 > fd77::21: ", " > 10.77.1.45.80: "])?;
    seen(rs3, &[" 10.77.0.11.", " > 10.77.0.23.8080: "])?;
    seen(rs3, &[" fd77::11.", " > fd77::23.8080: "])?;
    ensure!(
        rs3.count(&["10.78.0.100"]) == 0,
        "full NAT shows the client"
    );

    let table = scene.lb1.ipvsadm_save()?;
    for line in [
        "-a -t 10.77.1.10:80 -r 10.77.0.21:80 -g -w 1",
        "-a -t [fd77:1::10]:80 -r [fd77::21]:80 -g -w 1",
        "-a -t 10.77.1.40:80 -r 10.77.0.22:8080 -m -w 1",
        "-a -t 10.77.1.41:80 -r 10.77.0.21:80 -i -w 1",
        "-a -t 10.77.1.42:80 -r 10.77.0.21:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum",
        "-a -t 10.77.1.43:80 -r 10.77.0.21:80 -i -w 1 --tun-type gre",
        "-a -t 10.77.1.44:80 -r 10.77.0.23:8080 -m -w 1",
        "-a -t 10.77.1.45:80 -r [fd77::21]:80 -i -w 1",
    ] {
        let same = |found: &String| {
            let words: Vec<&str> = found.split_whitespace().collect();
            words.join(" ").starts_with(line)
        };
        ensure!(table.iter().any(same), "{line}: not in {table:#?}");
    }
    ensure!(table.len() == 22, "{table:#?}");
    let status = lb1.status()?;
    ensure!(status["virtual_servers"][8]["forwarding"] == "fullnat");
    ensure!(status["ipvs"]["problems"] == json!([]), "{status:#}");
    drop(scene.lab);
    Ok(())
}

#[test]
fn what_services_need_of_the_host_is_set_repaired_told_and_given_back() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    host.ip("addr add fd77::11/64 dev eth0 nodad")?;
    let setting = |name: &str| -> Result<String> {
        let text = host.run(&format!("sysctl -n net.ipv4.vs.{name}"))?;
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let is = |name: &'static str, value: &'static str| {
        wait_until(PATIENCE, name, || Ok(setting(name)? == value))
    };
    host.run("ipvsadm -Ln")?;
    host.run("sysctl -q -w net.ipv4.vs.expire_quiescent_template=1")?;
    let nat = format!(
        "[sysctl]\nmanage = false\n[ipvs]\nresync_interval = \"1s\"\nsysctl = {{ drop_entry = 1, est_nice = 5 }}\n\
         timeouts = {{ tcp = \"1h\" }}\n{}",
        server("nat", "10.77.1.40:80", "\"nat\"", "10.77.0.22:8080")
    );
    let lb1 = Director::start(&host, &nat)?;
    is("expire_nodest_conn", "1")?;
    is("sync_threshold", "2 50")?;
    is("drop_entry", "1")?;
    ensure!(setting("conntrack")? == "0");
    wait_until(PATIENCE, "the timeout", || {
        Ok(host.run("ipvsadm -L --timeout")?.contains("3600 120 300"))
    })?;
    wait_until(PATIENCE, "what the kernel lacks", || {
        Ok(lb1.log().contains("has no net.ipv4.vs.est_nice"))
    })?;

    // A host that does not forward.
    let told = "sysctl -w net.ipv4.ip_forward=1";
    wait_until(PATIENCE, "that it does not forward", || {
        Ok(lb1.status_text()?.contains(told) && lb1.log().contains(told))
    })?;
    host.run(told)?;
    let told = "sysctl -w net.ipv4.conf.eth0.send_redirects=0";
    wait_until(PATIENCE, "that it sends redirects", || {
        Ok(lb1.log().contains(told))
    })?;
    host.run(
        "sysctl -q -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
    )?;
    lb1.wait_for_status("/ipvs/problems", &json!([]))?;

    // Somebody else's hands.
    host.run("sysctl -q -w net.ipv4.vs.expire_nodest_conn=0")?;
    is("expire_nodest_conn", "1")?;
    wait_until(PATIENCE, "the event", || {
        let events = lb1.events()?;
        Ok(events
            .iter()
            .any(|e| e.starts_with("ipvs.repaired net.ipv4.vs.expire_nodest_conn")))
    })?;

    // Full NAT comes and goes with a reload, and so does what it needs.
    lb1.reload(&nat.replace(
        "\"nat\"\n[[virtual_server.real",
        "\"fullnat\"\n[[virtual_server.real",
    ))?;
    is("conntrack", "1")?;
    let rules = || host.run("nft list table inet vipd").is_ok();
    wait_until(PATIENCE, "the rules", || Ok(rules()))?;
    host.run("nft flush ruleset")?;
    wait_until(PATIENCE, "the rules again", || Ok(rules()))?;
    lb1.reload(&nat)?;
    is("conntrack", "0")?;
    wait_until(PATIENCE, "no rules", || Ok(!rules()))?;

    // After a crash the next one knows what was there before; so does release.
    lb1.kill_and_release(&["--ipvs"])?;
    ensure!(setting("expire_nodest_conn")? == "0" && setting("sync_threshold")? == "3 50");
    ensure!(
        setting("expire_quiescent_template")? == "1",
        "it was 1 before"
    );
    let lb1 = Director::start(&host, &nat)?;
    is("expire_nodest_conn", "1")?;
    lb1.stop()?;
    ensure!(setting("expire_nodest_conn")? == "0" && setting("drop_entry")? == "0");
    Ok(())
}

/// Who answers each of some requests, one character each: `1` or `2`.
fn answers(client: &Host, words: &[&str]) -> Result<String> {
    let mut found = String::new();
    for word in words {
        let script = format!("curl --silent --fail --max-time 5 {word}");
        let answer = client.sh(&script).with_context(|| found.clone())?;
        found.push_str(answer.trim().trim_start_matches("rs"));
    }
    Ok(found)
}

#[test]
fn clients_stick_by_address_port_mark_and_network_and_single_packets_do_not() -> Result<()> {
    let cluster = Cluster::new()?;
    let (client, lb1) = (&cluster.client, &cluster.lb1);
    client.ip("addr add 10.77.0.101/24 dev eth0")?;
    let vips = (51..=58).map(|n| format!("10.77.0.{n}"));
    for vip in vips.collect::<Vec<_>>() {
        lb1.ip(&format!("addr add {vip}/32 dev eth0"))?;
        for real in [&cluster.rs1, &cluster.rs2] {
            real.ip(&format!("addr add {vip}/32 dev lo"))?;
        }
    }
    let (_rs1, _rs2) = cluster.start_real_servers()?;
    let sticky = "persistence = { timeout = \"300s\" }";
    let pool = |name: &str, front: &str, thresholds: &str| {
        format!(
            "[[virtual_server]]\nname = \"{name}\"\nscheduler = \"rr\"\n{front}\n\
             [[virtual_server.real_server]]\naddress = \"10.77.0.21\"\n{thresholds}\n\
             [[virtual_server.real_server]]\naddress = \"10.77.0.22\"\n"
        )
    };
    let text = [
        pool(
            "mark",
            &format!(
                "fwmark = 3\n{sticky}\nmark = [{{ address = \"10.77.0.51\", ports = [80, 443, \"8000-8100\"] }}]"
            ),
            "",
        ),
        pool("client", &format!("address = \"10.77.0.52:0\"\n{sticky}"), ""),
        pool("port", &format!("address = \"10.77.0.53:80\"\n{sticky}"), ""),
        pool(
            "network",
            "address = \"10.77.0.54:80\"\npersistence = { netmask = 24 }",
            "",
        ),
        pool(
            "two",
            "addresses = [\"10.77.0.55:80\", \"10.77.0.56:80\"]",
            "upper_threshold = 1",
        ),
        pool(
            "ops",
            "address = \"10.77.0.57:53\"\nprotocol = \"udp\"\none_packet = true",
            "",
        ),
        pool("udp", "address = \"10.77.0.58:53\"\nprotocol = \"udp\"", ""),
        pool("sctp", "address = \"10.77.0.58:80\"\nprotocol = \"sctp\"", ""),
    ]
    .concat();
    let director = Director::start(lb1, &text)?;
    director.wait_for_status("/ipvs/in_sync", &json!(true))?;
    wait_until(PATIENCE, "the rules", || {
        Ok(lb1.run("nft list table inet vipd").is_ok())
    })?;

    let other = "--interface 10.77.0.101";
    let one = |found: &str| found == "1".repeat(found.len()) || found == "2".repeat(found.len());
    let mark = [
        "10.77.0.51:80",
        "10.77.0.51:443",
        "10.77.0.51:8050",
        "10.77.0.51:8080",
    ];
    let found = answers(client, &mark)?;
    ensure!(one(&found), "by mark: {found}");
    ensure!(
        client.sh("curl -s --max-time 2 10.77.0.51:81").is_err(),
        "no mark"
    );
    let found = answers(
        client,
        &["10.77.0.52:80", "10.77.0.52:8080", "10.77.0.52:443"],
    )?;
    ensure!(one(&found), "by client: {found}");
    let second = format!("{other} 10.77.0.53:80");
    let found = answers(
        client,
        &["10.77.0.53:80", "10.77.0.53:80", &second, &second],
    )?;
    ensure!(
        ["1122", "2211"].contains(&found.as_str()),
        "by port: {found}"
    );
    let second = format!("{other} 10.77.0.54:80");
    let found = answers(
        client,
        &["10.77.0.54:80", &second, "10.77.0.54:80", &second],
    )?;
    ensure!(one(&found), "by network: {found}");

    // A connection that waits counts, too: rs1 takes one and no more, at each address.
    for address in ["10.77.0.55:80", "10.77.0.56:80"] {
        let found = answers(client, &[address; 5])?;
        ensure!(found.matches('1').count() == 1, "{address}: {found}");
    }
    let status = director.status()?;
    let two = &status["virtual_servers"][4];
    ensure!(two["address"] == "10.77.0.55:80");
    ensure!(
        two["addresses"] == json!(["10.77.0.55:80", "10.77.0.56:80"]),
        "{two}"
    );

    // Nobody listens: an answer would end the client's socket.
    let mut captures = Vec::new();
    for real in [&cluster.rs1, &cluster.rs2] {
        captures.push(real.capture("udp port 53")?);
        real.drop_incoming("udp dport 53")?;
    }
    for vip in ["10.77.0.57", "10.77.0.58"] {
        let send = format!("exec 3<>/dev/udp/{vip}/53; for n in 1 2 3 4; do echo $n >&3; done");
        let mut bash = client.command("bash");
        ensure!(bash.args(["-c", &send]).status()?.success());
    }
    let count = |words: &[&str]| captures.iter().map(|c| c.count(words)).collect::<Vec<_>>();
    wait_until(PATIENCE, "eight datagrams", || {
        Ok(count(&["> 10.77.0."]).iter().sum::<usize>() >= 8)
    })?;
    ensure!(count(&["> 10.77.0.57.53"]) == [2, 2], "{:?}", count(&[]));
    let kept = count(&["> 10.77.0.58.53"]);
    ensure!(kept == [4, 0] || kept == [0, 4], "{kept:?}");

    let table = lb1.ipvsadm_save()?;
    for line in [
        "-A -f 3 -s rr -p 300",
        "-A -t 10.77.0.52:0 -s rr -p 300",
        "-A -t 10.77.0.54:80 -s rr -p 300 -M 255.255.255.0",
        "-A -u 10.77.0.57:53 -s rr -o",
        "-A --sctp-service 10.77.0.58:80 -s rr",
    ] {
        ensure!(
            table.iter().any(|found| found == line),
            "{line}: {table:#?}"
        );
    }
    director.stop()?;
    ensure!(
        lb1.run("nft list table inet vipd").is_err(),
        "the rules stayed"
    );
    ensure!(lb1.ipvsadm_save()?.is_empty());
    Ok(())
}
