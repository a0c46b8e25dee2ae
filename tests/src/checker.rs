//! Very many checks by the runner of `crates/health` alone, for the benchmark.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use health::{CheckKind, CheckSpec, Health, HttpSpec, HttpVersion, Plan, Route, Runner, Start};

use crate::process::{processor_time, resident_memory};

/// Of each probe.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// What is measured, once all are up for a while.
const WINDOW: Duration = Duration::from_secs(20);

/// A kind of check.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// A connection.
    Tcp,
    /// A request.
    Http,
}

impl Kind {
    /// As the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Http => "http",
        }
    }

    fn spec(self) -> CheckKind {
        match self {
            Kind::Tcp => CheckKind::Tcp,
            Kind::Http => CheckKind::Http(HttpSpec {
                method: "GET".to_owned(),
                path: "/".to_owned(),
                host: None,
                headers: Vec::new(),
                status: vec![(200, 299)],
                version: HttpVersion::Http1,
                body_contains: None,
                body_regex: None,
                body_sha256: None,
                tls: None,
            }),
        }
    }
}

/// Checks port 80 of 10.128.0.1 and so many that follow, says when all are up and what that costs, and
/// ends when all are down.
///
/// # Errors
///
/// No runtime.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub fn run(kind: Kind, count: u32, interval: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    raise_limit();
    runtime.block_on(async {
        let (reports, mut reported) = tokio::sync::mpsc::unbounded_channel();
        let mut runner = Runner::new(reports)?;
        let spec = |number| CheckSpec {
            target: SocketAddr::from((Ipv4Addr::from(0x0a80_0001 + number), 80)),
            route: Route::default(),
            kind: kind.spec(),
            interval,
            timeout: TIMEOUT,
            fast_interval: None,
            down_interval: None,
            rise: 1,
            fall: 1,
            start: Start::Down,
            flap: None,
        };
        let plan = |number| (spec(number), Plan::from(Health::Unknown));
        runner.set((0..count).map(plan).collect::<BTreeMap<_, _>>());
        let this = std::process::id();
        let mut up = 0;
        let mut measured: Option<(Instant, Duration, Vec<u64>)> = None;
        let mut done = false;
        while let Some(report) = reported.recv().await {
            if let Some(transition) = report.transition {
                match transition.to {
                    Health::Up => up += 1,
                    Health::Down if transition.from == Health::Up => up -= 1,
                    Health::Down | Health::Unknown => {}
                }
            }
            match &measured {
                None if up == count => {
                    println!("all are up");
                    tokio::time::sleep(interval).await;
                    let (counts, _) = runner.lateness().read();
                    measured = Some((Instant::now(), processor_time(this)?, counts));
                }
                Some((begin, before, counts)) if !done && begin.elapsed() >= WINDOW => {
                    let share = processor_time(this)?.saturating_sub(*before).as_secs_f64()
                        / begin.elapsed().as_secs_f64();
                    println!("share of a core, %: {:.2}", share * 100.0);
                    println!("resident memory, MiB: {:.1}", resident_memory(this)?);
                    println!("99 % start within, ms: {}", late(&runner, counts));
                    println!("measured");
                    done = true;
                }
                None | Some(_) => {}
            }
            if done && up == 0 {
                println!("all are down");
                return Ok(());
            }
        }
        Ok(())
    })
}

/// The bound below which 99 of 100 probes began since `before`, milliseconds.
fn late(runner: &Runner, before: &[u64]) -> u128 {
    let (counts, _) = runner.lateness().read();
    let new: Vec<u64> = counts
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    let all: u64 = new.iter().sum();
    let mut sum = 0;
    for (count, bound) in new.iter().zip(runner.lateness().bounds()) {
        sum += count;
        if sum * 100 >= all * 99 {
            return bound.as_millis();
        }
    }
    u128::MAX
}

/// As vipd does at its start.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
}
