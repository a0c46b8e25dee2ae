//! Thousands of health checks: what they cost, and how soon what dies is known. Beside keepalived only
//! where the kernel has IPVS, without which it checks nothing.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::ipvs::{self, Subject};
use super::{Line, milliseconds};
use crate::checker::{Kind, TIMEOUT};
use crate::host::Host;
use crate::process::{Process, processor_time};
use crate::{Lab, wait_for, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);
/// How long processor time is counted.
const WINDOW: Duration = Duration::from_secs(20);
/// All targets are addresses of one host.
const TARGETS: &str = "10.128.0.0/16";

/// Ten thousand checks of two kinds.
pub(super) fn run() -> Result<Vec<Line>> {
    let mut lines = many(Kind::Tcp, Duration::from_secs(3))?;
    lines.extend(many(Kind::Http, Duration::from_secs(5))?);
    Ok(lines)
}

/// Ten thousand checks by the runner alone: what they cost once they are at it, and the death of all.
fn many(kind: Kind, interval: Duration) -> Result<Vec<Line>> {
    let (lab, host, servers, nginx) = scene()?;
    let lab_itself = std::env::current_exe().context("this program")?;
    let seconds = interval.as_secs().to_string();
    let arguments = ["check-many", kind.name(), "10000", &seconds];
    let checker = host.spawn("checker", &lab_itself, &arguments)?;
    checker.wait_for_output(PATIENCE, "all are up")?;
    checker.wait_for_output(PATIENCE, "measured")?;
    let mut lines: Vec<Line> = checker
        .output()
        .lines()
        .filter_map(|line| Some((line.split_once(": ")?, kind)))
        .filter_map(|((what, value), kind)| {
            let what = format!("10,000 {} every {seconds} s: {what}", kind.name());
            Some(line(what, "", value.parse().ok()?, None))
        })
        .collect();
    let begin = Instant::now();
    servers.drop_incoming("tcp dport 80")?;
    checker.wait_for_output(PATIENCE, "all are down")?;
    let what = format!(
        "10,000 {} dead at once: all marked, beyond timeout",
        kind.name()
    );
    let beyond = begin.elapsed().saturating_sub(TIMEOUT);
    lines.push(line(what, "ms", milliseconds(beyond), None));
    drop((nginx, lab));
    Ok(lines)
}

/// Six thousand TCP checks in five seconds by both daemons, with their tables.
pub(super) fn beside_keepalived() -> Result<Vec<Line>> {
    let (_lab, host, servers, _nginx) = scene()?;
    let socket = host.folder().join("vipd.sock");
    let (mut ours, mut theirs) = (String::new(), String::new());
    let interval = ipvs::INTERVAL.as_millis();
    writeln!(
        ours,
        "[global]\ncontrol_socket = {socket:?}\n[[vrrp]]\nname = \"r\"\ninterface = \"eth0\"\n\
         version = 3\nvrid = 1\nadvert_interval = \"{interval}ms\"\n\
         virtual_addresses = [\"10.77.0.10/32\"]"
    )?;
    for service in 0..300_u32 {
        let vip = std::net::Ipv4Addr::from(0x0a40_0001 + service);
        writeln!(
            ours,
            "[[virtual_server]]\nname = \"s{service}\"\naddress = \"{vip}:80\"\nforwarding = \"dr\"\n\
             check = {{ type = \"tcp\", interval = \"5s\", timeout = \"{}s\", start = \"up\" }}",
            TIMEOUT.as_secs()
        )?;
        writeln!(
            theirs,
            "virtual_server {vip} 80 {{\n delay_loop 5\n lb_algo wlc\n lb_kind DR\n protocol TCP"
        )?;
        for server in 0..20 {
            let real = std::net::Ipv4Addr::from(0x0a80_0001 + service * 20 + server);
            writeln!(
                ours,
                "[[virtual_server.real_server]]\naddress = \"{real}:80\""
            )?;
            writeln!(
                theirs,
                " real_server {real} 80 {{\n weight 1\n TCP_CHECK {{\n connect_timeout {}\n }}\n }}",
                TIMEOUT.as_secs()
            )?;
        }
        writeln!(theirs, "}}")?;
    }
    let measured = |kind, text: &str| -> Result<(f64, Option<Duration>, Duration)> {
        let capture = servers.capture("proto 112")?;
        let begin = Instant::now();
        let mut subject = Subject::start(&host, kind, text)?;
        // Both take a real server in before its first check has passed.
        subject.wait_for_weight(1, 6000)?;
        let programmed = begin.elapsed();
        let mut processes = vec![subject.process.id()];
        if kind == ipvs::Kind::Keepalived {
            processes.push(wait_for(PATIENCE, "keepalived's checkers", || {
                let text = fs::read_to_string(host.folder().join("checkers.pid"));
                Ok(text.ok().and_then(|text| text.trim().parse().ok()))
            })?);
        }
        let used = once_settled(&host, &processes)?;
        // keepalived runs its checkers only.
        let late = (kind == ipvs::Kind::Vipd)
            .then(|| ipvs::lateness(&capture.packets(), "10.77.0.11"))
            .transpose()?;
        subject.process.signal("TERM")?;
        subject.process.wait(PATIENCE)?;
        Ok((used, late, programmed))
    };
    let vipd = measured(ipvs::Kind::Vipd, &ours)?;
    let keepalived = measured(ipvs::Kind::Keepalived, &theirs)?;
    Ok(vec![
        line(
            "300 x 20 with tcp checks: programmed".to_owned(),
            "ms",
            milliseconds(vipd.2),
            Some(milliseconds(keepalived.2)),
        ),
        line(
            "6,000 tcp every 5 s: share of a core".to_owned(),
            "%",
            vipd.0 * 100.0,
            Some(keepalived.0 * 100.0),
        ),
        line(
            "6,000 tcp: adverts meanwhile, worst lateness".to_owned(),
            "ms",
            vipd.1.map_or(f64::NAN, milliseconds),
            None,
        ),
    ])
}

/// How soon a real server that fails is out of the table, at worst: it refuses, or it hangs.
pub(super) fn verdicts() -> Result<Vec<Line>> {
    const ROUNDS: usize = 8;
    let (_lab, host, servers, _nginx) = scene()?;
    let socket = host.folder().join("vipd.sock");
    let ours = format!(
        "[global]\ncontrol_socket = {socket:?}\n[[virtual_server]]\nname = \"s\"\n\
         address = \"10.64.0.1:80\"\nforwarding = \"dr\"\n\
         check = {{ type = \"tcp\", interval = \"1s\", timeout = \"1s\", fall = 1 }}\n\
         [[virtual_server.real_server]]\naddress = \"10.128.0.1\"\n\
         [[virtual_server.real_server]]\naddress = \"10.128.0.2\"\n"
    );
    let server = |address: &str| {
        format!(
            " real_server {address} 80 {{\n TCP_CHECK {{\n connect_timeout 1\n retry 0\n }}\n }}\n"
        )
    };
    let theirs = format!(
        "virtual_server 10.64.0.1 80 {{\n delay_loop 1\n lb_algo wlc\n lb_kind DR\n protocol TCP\n{}{}}}",
        server("10.128.0.1"),
        server("10.128.0.2")
    );
    let measured = |kind, text: &str| -> Result<[Duration; 2]> {
        let mut subject = Subject::start(&host, kind, text)?;
        let mut worst = [Duration::ZERO; 2];
        let table_has = |count: usize| {
            wait_until(PATIENCE, "the table", || {
                let table = fs::read_to_string(subject.table())?;
                Ok(table.lines().filter(|l| l.starts_with("  -> 0A8")).count() == count)
            })
        };
        servers.sh(
            "nft add table ip f; nft add chain ip f in '{ type filter hook input priority 0; }'",
        )?;
        for round in 0..ROUNDS {
            for (worst, how) in worst.iter_mut().zip(["reject with tcp reset", "drop"]) {
                table_has(2)?;
                // At another moment of its interval each time.
                std::thread::sleep(Duration::from_millis(1000 + 130 * u64::try_from(round)?));

                servers.sh(&format!(
                    "nft add rule ip f in ip daddr 10.128.0.2 tcp dport 80 {how}"
                ))?;
                // `nft` itself takes a while in an emulated guest.
                let begin = Instant::now();
                table_has(1)?;
                *worst = begin.elapsed().max(*worst);
                servers.sh("nft flush chain ip f in")?;
            }
        }
        servers.sh("nft delete table ip f")?;
        subject.process.signal("TERM")?;
        subject.process.wait(PATIENCE)?;
        Ok(worst)
    };
    let vipd = measured(ipvs::Kind::Vipd, &ours)?;
    let keepalived = measured(ipvs::Kind::Keepalived, &theirs)?;
    let names = [
        "refuses: out after (interval 1 s)",
        "hangs: out after (interval 1 s, timeout 1 s)",
    ];
    let all = names.into_iter().zip(vipd).zip(keepalived);
    let lines = all.map(|((what, vipd), keepalived)| {
        let (vipd, keepalived) = (milliseconds(vipd), milliseconds(keepalived));
        line(what.to_owned(), "ms", vipd, Some(keepalived))
    });
    Ok(lines.collect())
}

/// The part of a core that these processes take once every real server is in the table.
fn once_settled(host: &Host, processes: &[u32]) -> Result<f64> {
    wait_until(PATIENCE, "every real server in the table", || {
        let table = host.run("cat /proc/net/ip_vs")?;
        // Addresses are hexadecimal there: 10.128.0.0.
        let servers = table.lines().filter(|line| line.starts_with("  -> 0A8"));
        Ok(servers.count() == 6000)
    })?;
    std::thread::sleep(Duration::from_secs(10));
    let begin = Instant::now();
    let all = || -> Result<Duration> { processes.iter().map(|id| processor_time(*id)).sum() };
    let before = all()?;
    std::thread::sleep(WINDOW);
    let used = all()?.saturating_sub(before);
    Ok(used.as_secs_f64() / begin.elapsed().as_secs_f64())
}

/// A host that checks, and one that is every target.
fn scene() -> Result<(Lab, Host, Host, Process)> {
    let lab = Lab::new()?;
    let host = lab.host("lb", "10.77.0.11/24")?;
    let servers = lab.host("rs", "10.77.0.21/24")?;
    servers.ip(&format!("route add local {TARGETS} dev lo"))?;
    host.ip(&format!("route add {TARGETS} via 10.77.0.21"))?;
    let folder = host.folder().join("nginx");
    fs::create_dir_all(&folder)?;
    let prefix = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {prefix}/pid; error_log stderr;
         worker_rlimit_nofile 30000;
         events {{ worker_connections 20000; }}
         http {{
             access_log off;
             client_body_temp_path {prefix}; proxy_temp_path {prefix}; uwsgi_temp_path {prefix};
             fastcgi_temp_path {prefix}; scgi_temp_path {prefix};
             server {{ listen 80 backlog=4096; location / {{ return 200 \"ok\"; }} }}
         }}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let (prefix, file) = (folder.to_string_lossy(), file.to_string_lossy());
    let arguments = ["-p", &prefix, "-e", "stderr", "-c", &file];
    let nginx = servers.spawn("nginx", Path::new("/usr/sbin/nginx"), &arguments)?;
    wait_until(Duration::from_secs(20), "nginx answers", || {
        Ok(host.get("http://10.128.0.1/").is_some())
    })?;
    Ok((lab, host, servers, nginx))
}

fn line(what: String, unit: &'static str, vipd: f64, keepalived: Option<f64>) -> Line {
    Line {
        what,
        unit,
        vipd,
        keepalived,
        floor: None,
    }
}
