//! What a client sees of a planned stop.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Line;
use super::subject::{Kind, Setup, Subject};
use crate::{Host, Lab, wait_until};

const VIP: &str = "10.128.0.1";
const PACKETS: u32 = 6_000;

pub(super) fn run() -> Result<Vec<Line>> {
    let (ours, lost) = measure(Kind::Vipd, Kind::Vipd)?;
    let (mixed, mixed_lost) = measure(Kind::Vipd, Kind::Keepalived)?;
    let (theirs, theirs_lost) = measure(Kind::Keepalived, Kind::Keepalived)?;
    let line = |what: &str, unit, vipd, keepalived| Line {
        what: what.to_owned(),
        unit,
        vipd,
        keepalived: Some(keepalived),
        floor: None,
    };
    Ok(vec![
        line("peer is the same daemon: longest gap", "ms", ours, theirs),
        line(
            "peer is the same daemon: lost",
            "packets",
            lost,
            theirs_lost,
        ),
        line(
            "vipd's peer is keepalived: longest gap",
            "ms",
            mixed,
            theirs,
        ),
        line(
            "vipd's peer is keepalived: lost",
            "packets",
            mixed_lost,
            theirs_lost,
        ),
    ])
}

/// The longest time without an answer in milliseconds, and the packets that were not answered.
fn measure(first: Kind, second: Kind) -> Result<(f64, f64)> {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a", "10.77.0.1/8")?, lab.host("b", "10.77.0.2/8")?);
    let client = lab.host("client", "10.77.0.3/8")?;
    let interval = Duration::from_secs(1);
    let master = Subject::start(&a, first, &Setup::one(150, interval))?;
    let _backup = Subject::start(&b, second, &Setup::one(100, interval))?;
    wait_until(Duration::from_secs(20), "a master", || has_vip(&a))?;
    // The second round of announcements is over, too.
    std::thread::sleep(Duration::from_secs(6));
    let count = PACKETS.to_string();
    let arguments = ["-D", "-i", "0.001", "-c", &count, "-W", "1", VIP];
    let mut ping = client.spawn("ping", std::path::Path::new("ping"), &arguments)?;
    std::thread::sleep(Duration::from_secs(2));
    master.stop()?;
    let _ = ping.wait(Duration::from_secs(60))?;
    let output = ping.output();
    let times: Vec<f64> = output
        .lines()
        .filter(|line| line.contains("bytes from"))
        .filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok())
        .collect();
    let pairs = times.iter().zip(times.iter().skip(1));
    let longest = pairs.map(|(before, after)| after - before).reduce(f64::max);
    let answered = u32::try_from(times.len())?;
    Ok((
        longest.context("nothing was answered")? * 1e3,
        f64::from(PACKETS.saturating_sub(answered)),
    ))
}

fn has_vip(host: &Host) -> Result<bool> {
    host.has_address(VIP)
}
