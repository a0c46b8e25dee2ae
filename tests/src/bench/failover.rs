//! How exact the master-down time is.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::subject::{Kind, Setup, Subject};
use super::{Line, median, milliseconds};
use crate::Lab;
use crate::capture::Packet;

const RUNS: usize = 5;

pub(super) fn run() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for millis in [1_000, 100, 10] {
        let interval = Duration::from_millis(millis);
        // RFC 5798 §6.1 at priority 100: 3 x interval + 156/256 x interval.
        let theory = milliseconds(interval * 3 + interval * 156 / 256);
        let over = |silences: Vec<f64>| {
            silences
                .into_iter()
                .map(|silence| silence - theory)
                .collect::<Vec<_>>()
        };
        let vipd = over(measure(Kind::Vipd, interval)?);
        let keepalived = over(measure(Kind::Keepalived, interval)?);
        let worst = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
        for (what, ours, theirs) in [
            ("median", median(vipd.clone()), median(keepalived.clone())),
            ("worst", worst(&vipd), worst(&keepalived)),
        ] {
            lines.push(Line {
                what: format!("{millis} ms: over theory ({theory:.1}), {what}"),
                unit: "ms",
                vipd: ours,
                keepalived: Some(theirs),
                floor: None,
            });
        }
    }
    Ok(lines)
}

/// Silence between the last advert of the old master and the first of the new one, as the new one's
/// interface sees it, in milliseconds.
fn measure(kind: Kind, interval: Duration) -> Result<Vec<f64>> {
    let lab = Lab::new()?;
    let (a, b) = (
        lab.host("a", "10.77.0.1/24")?,
        lab.host("b", "10.77.0.2/24")?,
    );
    let capture = b.capture("proto 112")?;
    let _first = Subject::start(&a, kind, &Setup::one(150, interval))?;
    let _second = Subject::start(&b, kind, &Setup::one(100, interval))?;
    let patience = Duration::from_secs(20);
    let mut silences = Vec::new();
    let mut since = SystemTime::now();
    for _ in 0..RUNS {
        capture.wait_for(patience, since, &["10.77.0.1 >"])?;
        // Long enough that the backup follows it, whatever it was before.
        std::thread::sleep(interval * 5);
        since = SystemTime::now();
        lab.pull_cable(&a)?;
        let taken = capture.wait_for(patience, since, &["10.77.0.2 >"])?;
        let before = |packet: &Packet| packet.at < taken.at && packet.text.contains("10.77.0.1 >");
        let last = capture.packets().into_iter().rfind(before);
        let last = last.context("the first master was never heard")?;
        silences.push(milliseconds(taken.at.duration_since(last.at)?));
        since = SystemTime::now();
        lab.plug_cable(&a)?;
    }
    Ok(silences)
}
