//! How long whoever looks waits with 10,000 real servers: `vipctl status`, and a scrape. It needs a kernel
//! with IPVS: `cargo xtask guest -- target/release/lab bench observe`.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::ipvs::{INTERVAL, Kind, Size, Subject, is_possible, lateness};
use super::{Line, median, milliseconds};
use crate::host::Host;
use crate::{Lab, binary, wait_until};

const PATIENCE: Duration = Duration::from_secs(120);
/// How often each is asked.
const TIMES: usize = 7;
/// A dump that is older is not used again.
const OLD: Duration = Duration::from_millis(1_100);
/// How long somebody looks without a pause while adverts are measured.
const STORM: Duration = Duration::from_secs(10);
const PORT: u16 = 9650;

pub(super) fn run() -> Result<Vec<Line>> {
    ensure!(
        is_possible(),
        "this kernel has no IPVS: `cargo xtask guest -- target/release/lab bench observe`"
    );
    let size = Size {
        services: 100,
        servers: 100,
    };
    let lab = Lab::new()?;
    let (host, peer) = (
        lab.host("lb", "10.77.0.11/24")?,
        lab.host("peer", "10.77.0.12/24")?,
    );
    let capture = peer.capture("proto 112")?;
    let more = format!(
        "http = \"127.0.0.1:{PORT}\"\n[[vrrp]]\nname = \"r\"\ninterface = \"eth0\"\n\
         version = 3\nvrid = 1\npriority = 150\nadvert_interval = \"{}ms\"\n\
         virtual_addresses = [\"10.77.0.10/32\"]\n",
        INTERVAL.as_millis()
    );
    let subject = Subject::start(
        &host,
        Kind::Vipd,
        &size.render(Kind::Vipd, &host, 1, &more)?,
    )?;
    subject.wait_for_weight(1, size.count())?;
    capture.wait_for(PATIENCE, SystemTime::UNIX_EPOCH, &["10.77.0.11 >"])?;
    wait_until(PATIENCE, "ten thousand real servers", || {
        let (_, text) = vipctl(&host, &["status"])?;
        Ok(text.contains("10000 of 10000 real servers up"))
    })?;
    let mut lines = Vec::new();
    let mut tell = |what: &str, times: Vec<Duration>| {
        let worst = times.iter().max().copied().unwrap_or_default();
        let times = times.into_iter().map(milliseconds);
        eprintln!("{what}: worst {worst:?}");
        lines.push(Line {
            what: what.to_owned(),
            unit: "ms",
            vipd: median(times.collect()),
            keepalived: None,
            floor: None,
        });
    };
    for (what, pause) in [("", OLD), (" again at once", Duration::ZERO)] {
        let page = |arguments: &[&str]| {
            repeat(pause, || {
                let (took, text) = vipctl(&host, arguments)?;
                ensure!(text.contains("10.128.39.16:80"), "{}", text.len());
                Ok(took)
            })
        };
        tell(&format!("vipctl status{what}"), page(&["status"])?);
        tell(
            &format!("vipctl status --json{what}"),
            page(&["status", "--json"])?,
        );
        // Without the start of a program, and without its reading.
        for (of, accept) in [
            ("status", "text/plain"),
            ("status --json", "application/json"),
        ] {
            let answers = repeat(pause, || {
                let (took, text) = answer(&host, accept)?;
                ensure!(text.contains("10.128.39.16:80"), "{}", text.len());
                Ok(took)
            })?;
            tell(&format!("the daemon's answer to {of}{what}"), answers);
        }
        let scrapes = repeat(pause, || {
            let (took, text) = scrape(&host)?;
            ensure!(text.contains("10.128.39.16:80"), "{}", text.len());
            Ok(took)
        })?;
        tell(&format!("a scrape{what}"), scrapes);
    }
    tell("vipctl --version (no daemon)", {
        repeat(Duration::ZERO, || Ok(vipctl(&host, &["--version"])?.0))?
    });
    let from = capture.packets().len();
    let began = Instant::now();
    while began.elapsed() < STORM {
        scrape(&host)?;
        vipctl(&host, &["status"])?;
    }
    thread::sleep(3 * INTERVAL);
    let packets = capture.packets();
    let late = lateness(packets.get(from..).unwrap_or_default(), "10.77.0.11")?;
    tell(
        "adverts while both are asked all the time: late",
        vec![late],
    );
    Ok(lines)
}

/// So many times, each after a pause.
fn repeat(pause: Duration, mut once: impl FnMut() -> Result<Duration>) -> Result<Vec<Duration>> {
    let each = |_| {
        thread::sleep(pause);
        once()
    };
    (0..TIMES).map(each).collect()
}

/// What vipctl prints to a pipe, and how long that takes from its start to its end.
fn vipctl(host: &Host, arguments: &[&str]) -> Result<(Duration, String)> {
    let mut command = Command::new(binary("vipctl")?);
    let socket = host.folder().join("vipd.sock");
    command.arg("--socket").arg(socket).args(arguments);
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let (output, took) = (output.context("vipctl cannot be run")?, began.elapsed());
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "vipctl: {text}");
    Ok((took, text))
}

/// What vipctl is answered, and how long that takes to the last byte.
fn answer(host: &Host, accept: &str) -> Result<(Duration, String)> {
    let socket = host.folder().join("vipd.sock");
    let socket = socket.display();
    curl(
        host,
        accept,
        &format!("--unix-socket {socket} http://vipd/v1/status?color=false"),
    )
}

/// The metrics as Prometheus asks for them, and how long that takes to the last byte.
fn scrape(host: &Host) -> Result<(Duration, String)> {
    let url = format!("http://127.0.0.1:{PORT}/metrics");
    curl(host, "application/openmetrics-text", &url)
}

/// What a server answers, and how long that took, as curl tells.
fn curl(host: &Host, accept: &str, url: &str) -> Result<(Duration, String)> {
    let file = host.folder().join("answer");
    let took = host.run(&format!(
        "curl --silent --fail --header Accept:{accept} --output {} --write-out %{{time_total}} {url}",
        file.display()
    ))?;
    let took = Duration::from_secs_f64(took.trim().parse()?);
    Ok((took, fs::read_to_string(file)?))
}
