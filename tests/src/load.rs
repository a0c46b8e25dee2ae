//! A client that asks all the time, with many connections at once, and notes what becomes of every
//! single request.

use std::collections::BTreeMap;
use std::io::{Read, Write, stdout};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::host::Host;
use crate::process::Process;
use crate::{binary, wait_until};

/// A request that takes longer has failed. SYNs that are lost come again after 1, 3 and 7 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running client.
#[derive(Debug)]
pub struct Load {
    process: Process,
}

/// What became of the requests so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    /// How many there were.
    pub requests: u64,
    /// How many were answered, by who answered.
    pub answered: BTreeMap<String, u64>,
    /// Why the others were not.
    pub failed: Vec<String>,
    /// How long the slowest answer took.
    pub slowest: Duration,
}

impl Load {
    /// Starts it on a host; returns when the first requests have been made.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub fn start(host: &Host, to: &str, workers: u32, pause: Duration) -> Result<Load> {
        let (workers, pause) = (workers.to_string(), pause.as_millis().to_string());
        let arguments = ["load", to, "--workers", &workers, "--pause", &pause];
        let process = host.spawn("load", &binary("lab")?, &arguments)?;
        let load = Load { process };
        wait_until(Duration::from_secs(60), "the first requests", || {
            Ok(load.totals().is_ok_and(|totals| totals.requests > 0))
        })?;
        Ok(load)
    }

    /// What became of the requests until now, or half a second ago.
    ///
    /// # Errors
    ///
    /// It has not said anything yet.
    pub fn totals(&self) -> Result<Totals> {
        let output = self.process.output();
        let failed = output.lines().filter_map(|l| l.strip_prefix("failed: "));
        let last = output.lines().rev().find_map(|line| {
            let value: Value = serde_json::from_str(line).ok()?;
            value.is_object().then_some(value)
        });
        let last = last.context("no totals yet")?;
        let answered = last.get("answered").and_then(Value::as_object);
        let number = |key| last.get(key).and_then(Value::as_u64).unwrap_or(0);
        Ok(Totals {
            requests: number("requests"),
            answered: answered
                .into_iter()
                .flatten()
                .map(|(who, count)| (who.clone(), count.as_u64().unwrap_or(0)))
                .collect(),
            failed: failed.map(str::to_owned).collect(),
            slowest: Duration::from_millis(number("slowest_ms")),
        })
    }

    /// As [`Load::totals`], at least a second after now.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn next_totals(&self) -> Result<Totals> {
        let before = self.totals()?.requests;
        sleep(Duration::from_secs(1));
        wait_until(Duration::from_secs(60), "further requests", || {
            Ok(self.totals()?.requests > before)
        })?;
        self.totals()
    }
}

/// Asks an HTTP server until it is killed. Prints every failure at once and the totals, as JSON, twice
/// a second.
///
/// # Errors
///
/// There is nobody to work, or nobody to read.
pub fn ask_for_ever(to: SocketAddr, workers: u32, pause: Duration) -> Result<()> {
    ensure!(workers > 0, "no workers");
    let (outcomes, heard) = mpsc::channel();
    for _ in 0..workers {
        let outcomes = outcomes.clone();
        spawn(move || {
            loop {
                let begun = Instant::now();
                let answer = ask(to).map_err(|error| format!("{error:#}"));
                if outcomes.send((answer, begun.elapsed())).is_err() {
                    return;
                }
                sleep(pause);
            }
        });
    }
    let (mut requests, mut slowest) = (0_u64, Duration::ZERO);
    let mut answered: BTreeMap<String, u64> = BTreeMap::new();
    let mut told = Instant::now();
    let mut out = stdout().lock();
    for (answer, took) in heard {
        requests += 1;
        match answer {
            Ok(who) => {
                *answered.entry(who).or_default() += 1;
                slowest = slowest.max(took);
            }
            Err(why) => writeln!(out, "failed: {why} after {} ms", took.as_millis())?,
        }
        if told.elapsed() > Duration::from_millis(500) {
            told = Instant::now();
            let slowest = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
            let totals =
                json!({ "requests": requests, "answered": answered, "slowest_ms": slowest });
            writeln!(out, "{totals}")?;
        }
    }
    Ok(())
}

/// One request on a connection of its own; returns the body.
fn ask(to: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("asking")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("listening")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(body.trim().to_owned())
}
