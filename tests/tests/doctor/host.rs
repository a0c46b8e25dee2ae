//! Settings and limits of the director itself, and what others configure there.

use anyhow::{Result, ensure};
use lab::cluster::{Cluster, VIP};
use lab::director::Director;
use lab::doctor::{Report, examine, examine_file};
use lab::pair::{Pair, fast};
use lab::{binary, run};

use super::{config, with_ipvs};

/// A master alone.
fn alone(more: &str) -> Result<(Pair, Director)> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &fast(150, more))?;
    lb1.wait_for_state("master")?;
    Ok((pair, lb1))
}

#[test]
fn nat_without_forwarding_and_with_redirects_is_mended_by_two_sysctls() -> Result<()> {
    let cluster = Cluster::new()?;
    cluster.lb1.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    cluster.lb1.run(
        "sysctl -q -w net.ipv4.ip_forward=0 net.ipv4.conf.all.send_redirects=1 \
         net.ipv4.conf.eth0.send_redirects=1",
    )?;
    let text = config(150, 1).replace("\"dr\"", "\"nat\"");
    let look = || examine_file(&cluster.lb1, &text);
    let found = look()?;
    found.has(&with_ipvs(&["VIP-NAT-002", "VIP-NAT-003"]))?;
    found.mend("VIP-NAT-002", &cluster.lb1)?;
    look()?.has(&with_ipvs(&["VIP-NAT-003"]))?;
    found.mend("VIP-NAT-003", &cluster.lb1)?;
    look()?.has(&with_ipvs(&[]))?;
    Ok(())
}

#[test]
fn packets_that_the_reverse_path_filter_drops_are_found_while_they_come() -> Result<()> {
    let (pair, lb1) = alone("")?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.88.0.11/24")?;
    // As that of a VLAN is named.
    for words in ["down", "name eth1.100", "up"] {
        let now = pair
            .lb1
            .ip("link show eth1.100")
            .map_or("eth1", |()| "eth1.100");
        pair.lb1.ip(&format!("link set {now} {words}"))?;
    }
    pair.lb1.ip("route add 10.99.0.0/24 dev eth1.100")?;
    pair.lb1.run("sysctl -q -w net.ipv4.conf.all.rp_filter=1")?;
    pair.lb2.ip("addr add 10.99.0.1/32 dev lo")?;
    // The filter drops its questions for the way, too.
    let mac = pair.lb1.mac()?;
    pair.lb2
        .ip(&format!("neigh add 10.77.0.11 lladdr {mac} dev eth0"))?;
    let ping = ["-i", "0.2", "-I", "10.99.0.1", "10.77.0.11"];
    let ping = pair
        .lb2
        .spawn("ping", std::path::Path::new("ping"), &ping)?;
    let found = examine(&lb1)?;
    found.has(&["VIP-NET-001"])?;
    found.mend("VIP-NET-001", &pair.lb1)?;
    examine(&lb1)?.has(&[])?;
    drop(ping);
    Ok(())
}

#[test]
fn answers_to_its_own_echoes_that_the_reverse_path_filter_drops_are_none() -> Result<()> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.88.0.11/24")?;
    pair.lab.add_interface(&pair.lb2, "eth1", "10.88.0.21/24")?;
    pair.lb1.run("sysctl -q -w net.ipv4.conf.all.rp_filter=1")?;
    pair.lb2
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")?;
    pair.lb2.ip(&format!("addr add {VIP}/32 dev lo"))?;
    let mut text = format!(
        "[[virtual_server]]\nname = \"http\"\naddress = \"{VIP}:80\"\nscheduler = \"rr\"\n"
    );
    for number in 21..29 {
        if number > 21 {
            pair.lb2
                .ip(&format!("addr add 10.88.0.{number}/24 dev eth1"))?;
        }
        text += &format!("[[virtual_server.real_server]]\naddress = \"10.88.0.{number}\"\n");
    }
    let dropped = || -> Result<u64> {
        let text = pair.lb1.run("nstat -asz TcpExtIPReversePathFilter")?;
        let line = text
            .lines()
            .find(|it| it.starts_with("TcpExtIPReversePathFilter"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(number.unwrap_or_default().parse()?)
    };
    let before = dropped()?;
    // They come by eth1 from an address whose way is eth0.
    examine_file(&pair.lb1, &text)?.has(&with_ipvs(&[]))?;
    let now = dropped()?;
    ensure!(now >= before + 8, "{before} dropped, then {now}");
    Ok(())
}

#[test]
fn a_full_table_of_tracked_connections_is_enlarged() -> Result<()> {
    let (pair, lb1) = alone("")?;
    pair.lb1
        .run("sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=600")?;
    pair.lb1.sh(
        "nft add table ip t; nft add chain ip t c '{ type filter hook input priority 0; }'
         nft add rule ip t c ct state new counter; ip link set lo up",
    )?;
    let max = "net.netfilter.nf_conntrack_max";
    let before: u64 = pair.lb1.run(&format!("sysctl -n {max}"))?.trim().parse()?;
    let fill = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for i in range({}):\n try: s.sendto(b'', ('127.0.%d.%d' % (i >> 16, i >> 8 & 255), 1 + (i & 255)))\n \
         except OSError: pass\n",
        before * 92 / 100
    );
    run(pair.lb1.command("python3").args(["-c", &fill]))?;
    let found = examine(&lb1)?;
    found.has(&["VIP-CT-001"])?;
    // The limit is that of the machine, which alone may set it.
    let (_, words) = found.command("VIP-CT-001")?;
    let back = Back(format!("{max}={before}"));
    run(std::process::Command::new(&words[0]).args(&words[1..]))?;
    examine(&lb1)?.has(&[])?;
    drop(back);
    Ok(())
}

/// A setting of this machine, as it was.
struct Back(String);

impl Drop for Back {
    fn drop(&mut self) {
        let _ = std::process::Command::new("sysctl")
            .args(["-q", "-w", &self.0])
            .status();
    }
}

#[test]
fn a_director_that_may_not_answer_arp_is_found_by_itself_and_its_peer() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    pair.lb1
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=8")?;
    let found = examine(&lb1)?;
    found.has(&["VIP-NET-003"])?;
    examine(&lb2)?.has(&["VIP-ARP-004"])?;
    found.mend("VIP-NET-003", &pair.lb1)?;
    for director in [&lb1, &lb2] {
        examine(director)?.has(&[])?;
    }
    Ok(())
}

#[test]
fn a_file_of_networkd_that_has_the_address_is_named_with_its_line() -> Result<()> {
    let (pair, _lb1) = alone("")?;
    let folder = pair.lab.folder().join("network");
    std::fs::create_dir_all(&folder)?;
    let text = format!("[Match]\nName=eth0\n[Network]\nAddress={VIP}/24\nAddress=10.77.0.11/24\n");
    std::fs::write(folder.join("eth0.network"), text)?;
    let file = pair.lb1.folder().join("networkd.toml");
    let socket = pair.lb1.folder().join("lb1.sock");
    std::fs::write(
        &file,
        format!("[global]\ncontrol_socket = {socket:?}\n{}", fast(150, "")),
    )?;
    let there = format!(
        "mount --bind {} /etc/systemd/network; exec",
        folder.display()
    );
    let vipd = binary("vipd")?;
    let (vipd, file) = (vipd.display(), file.display());
    let look = || {
        Report::of(
            pair.lb1
                .command("sh")
                .args(["-c", &format!("{there} {vipd} doctor --json -c {file}")]),
        )
    };
    let found = look()?;
    found.has(&["VIP-NET-002"])?;
    let evidence = found.evidence("VIP-NET-002")?;
    ensure!(
        evidence.contains("/etc/systemd/network/eth0.network:4: Address=10.77.0.10/24"),
        "{evidence}"
    );
    // By then somebody else has written something above it.
    let text = std::fs::read_to_string(folder.join("eth0.network"))?;
    let text = format!("# servers of names\n{text}DNS={VIP}\n# Address={VIP}/24\n");
    std::fs::write(folder.join("eth0.network"), &text)?;
    let line = found.line("VIP-NET-002")?;
    run(pair
        .lb1
        .command("sh")
        .args(["-c", &format!("{there} {line}")]))?;
    look()?.has(&[])?;
    let left = std::fs::read_to_string(folder.join("eth0.network"))?;
    let wanted = text.replace(&format!("\nAddress={VIP}/24\n"), "\n");
    ensure!(left == wanted, "{left}");
    Ok(())
}

#[test]
fn a_daemon_that_runs_out_of_descriptors_gets_more() -> Result<()> {
    let (pair, lb1) = alone("")?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", lb1.pid()))?.count();
    let limit = format!("{}:", open + 4);
    let pid = lb1.pid().to_string();
    pair.lb1
        .run(&format!("prlimit --pid {pid} --nofile={limit}"))?;
    let text = fast(150, "");
    let found = examine_file(&pair.lb1, &text)?;
    found.has(&["VIP-LIM-001"])?;
    found.mend("VIP-LIM-001", &pair.lb1)?;
    examine_file(&pair.lb1, &text)?.has(&[])?;
    Ok(())
}

#[test]
fn a_fault_is_told_with_what_ends_it() -> Result<()> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.88.0.11/24")?;
    let (lb1, lb2) = pair.start_with(
        &fast(150, "track = [{ interface = \"eth1\" }]"),
        &fast(100, ""),
    )?;
    pair.wait_for_holders(&["lb1"])?;
    pair.lb1.ip("link set eth1 down")?;
    pair.wait_for_holders(&["lb2"])?;
    let found = examine(&lb1)?;
    found.has(&["VIP-VRRP-006"])?;
    examine(&lb2)?.has(&[])?;
    found.mend("VIP-VRRP-006", &pair.lb1)?;
    pair.wait_for_holders(&["lb1"])?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

#[test]
fn directors_with_different_addresses_are_found_with_the_key() -> Result<()> {
    let pair = Pair::new()?;
    let with_http = |own: u8, text: &str| {
        format!("[global]\nhttp = \"10.77.0.{own}:9650\"\nhttp_public = true\n{text}")
    };
    let other = format!("\"{VIP}/24\", \"10.77.0.9/24\"");
    let first = with_http(11, &fast(150, ""));
    let second = with_http(12, &fast(100, "").replace(&format!("\"{VIP}/24\""), &other));
    let (lb1, lb2) = pair.start_with(&first, &second)?;
    pair.wait_for_holders(&["lb1"])?;
    let found = examine(&lb2)?;
    found.has(&["VIP-PEER-001"])?;
    lb2.reload(&found.mended("VIP-PEER-001", &second)?)?;
    lb2.wait_for_status(
        "/vrrp/0/virtual_addresses",
        &serde_json::json!(["10.77.0.10/24"]),
    )?;
    examine(&lb2)?.has(&[])?;
    drop(lb1);
    Ok(())
}

#[test]
fn what_cannot_be_looked_at_is_exit_code_2() -> Result<()> {
    let pair = Pair::new()?;
    for (program, words) in [
        ("vipd", ["doctor", "-c", "/nonexistent"]),
        ("vipctl", ["--socket", "/nonexistent", "doctor"]),
    ] {
        let output = pair.lb1.command(binary(program)?).args(words).output()?;
        ensure!(output.status.code() == Some(2), "{program}: {output:?}");
        ensure!(!output.stderr.is_empty());
    }
    Ok(())
}
