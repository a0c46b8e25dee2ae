//! `POST /v1/virtual_servers/NAME/check`: the checks of real servers are run once, now and out of turn,
//! and what each of their steps took is told. The verdicts know nothing of it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use health::{Failure, Passed, Probe, Step};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::real_servers::{self, NotOne};
use super::server::{ANSWER_TIMEOUT, Api, Refusal};
use crate::director_loop::{CheckTarget, PlannedCheck, Wake};
use crate::director_status::asked_status;
use crate::status::AskedStatus;

/// Checks that run at once: all of a large pool together would be a burst.
const AT_ONCE: usize = 64;

/// The body of the request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Whose checks: an address with or without a port; absent: those of every real server.
    pub real_server: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The virtual server.
    pub virtual_server: String,
    /// Its real servers, in the order of the configuration, or the one that was named.
    pub real_servers: Vec<CheckedServer>,
}

/// A real server whose checks were run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckedServer {
    /// Its address, as in `status`.
    pub address: String,
    /// What became of its checks; empty: it has none, and counts as healthy.
    pub checks: Vec<CheckedOnce>,
}

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckedOnce {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was done, where, in words.
    pub check: String,
    /// The address its packets came from, where that is not left to the kernel.
    pub source: Option<IpAddr>,
    /// The interface they were bound to.
    pub interface: Option<String>,
    /// The firewall mark they carried.
    pub fwmark: Option<u32>,
    /// `direct`, or `vip`: along the clients' way through the real server.
    pub via: String,
    /// Whether it passed.
    pub passed: bool,
    /// What became of it, in words.
    pub outcome: String,
    /// What is not wrong yet.
    pub warning: Option<String>,
    /// The weight that the real server asks for.
    pub asks_for: Option<AskedStatus>,
    /// From its start to its outcome, milliseconds.
    pub duration_ms: f64,
    /// Its parts, one after the other; of a check that failed the last is where it did.
    pub steps: Vec<CheckedStep>,
}

/// A part of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckedStep {
    /// What was done or waited for: `connect`, `TLS`, `first byte`, ...
    pub name: String,
    /// How long that took, milliseconds.
    pub ms: f64,
}

pub(super) async fn check(
    State(api): State<Api>,
    Path(name): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Checked>, Refusal> {
    let Json(wanted) = wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    let status = api.ask(ANSWER_TIMEOUT, Wake::Status).await?;
    let unknown = |why: NotOne| Refusal::new(StatusCode::NOT_FOUND, why.code, why.message);
    real_servers::virtual_server(&status, &name).map_err(unknown)?;
    let only = match &wanted.real_server {
        Some(address) => Some(real_servers::find(&status, &name, address).map_err(unknown)?),
        None => None,
    };
    let question = |reply| Wake::Checks {
        virtual_server: name.clone(),
        reply,
    };
    let mut targets = api.ask(ANSWER_TIMEOUT, question).await?;
    targets.retain(|target| only.as_ref().is_none_or(|only| target.real_server == *only));
    let real_servers = run(targets).await;
    let real_servers = real_servers.map_err(Refusal::failed)?;
    Ok(Json(Checked {
        virtual_server: name,
        real_servers,
    }))
}

/// Runs all of them beside each other. Whoever drops the future ends them.
async fn run(targets: Vec<CheckTarget>) -> Result<Vec<CheckedServer>, String> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut servers = Vec::new();
    for (server, target) in targets.into_iter().enumerate() {
        servers.push(CheckedServer {
            address: target.real_server,
            checks: Vec::new(),
        });
        for (position, planned) in target.checks.into_iter().enumerate() {
            let turns = Arc::clone(&turns);
            running.spawn(async move {
                let _turn = turns.acquire_owned().await;
                ((server, position), CheckedOnce::of(planned).await)
            });
        }
    }
    let mut done = Vec::new();
    while let Some(ended) = running.join_next().await {
        done.push(ended.map_err(|error| format!("a check ended badly: {error}"))?);
    }
    done.sort_by_key(|(place, _)| *place);
    for ((server, _), checked) in done {
        if let Some(server) = servers.get_mut(server) {
            server.checks.push(checked);
        }
    }
    Ok(servers)
}

impl CheckedOnce {
    async fn of(planned: PlannedCheck) -> CheckedOnce {
        let spec = planned.spec;
        let started = Instant::now();
        let source = spec.route.source_for(spec.target);
        let (steps, outcome) = match planned.hindered {
            Some(why) => (Vec::new(), Err(Failure::Local(why))),
            None => Probe::trace(&spec).await,
        };
        let took = started.elapsed();
        let passed = outcome.is_ok();
        let (words, Passed { warning, weight }) = match outcome {
            Ok(told) => ("passed".to_owned(), told),
            Err(failure) => (failure.to_string(), Passed::default()),
        };
        CheckedOnce {
            kind: spec.kind.name().to_owned(),
            check: spec.to_string(),
            source: source.ok().flatten(),
            interface: spec.route.interface.clone(),
            fwmark: spec.route.mark.map(Into::into),
            via: match spec.route.through {
                Some(_) => "vip",
                None => "direct",
            }
            .to_owned(),
            passed,
            outcome: words,
            warning,
            asks_for: weight.map(asked_status),
            duration_ms: milliseconds(took),
            steps: steps.iter().map(CheckedStep::of).collect(),
        }
    }
}

impl CheckedStep {
    fn of(step: &Step) -> CheckedStep {
        CheckedStep {
            name: step.name.to_owned(),
            ms: milliseconds(step.took),
        }
    }
}

impl Checked {
    /// Whether every check passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        let mut checks = self.real_servers.iter().flat_map(|server| &server.checks);
        checks.all(|check| check.passed)
    }

    /// As `vipctl check` prints it.
    #[must_use]
    pub fn page(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        for server in &self.real_servers {
            let _ = writeln!(text, "{}/{}", self.virtual_server, server.address);
            if server.checks.is_empty() {
                text.push_str("  no check: it always counts as healthy\n");
            }
            for check in &server.checks {
                let verdict = if check.passed { "passed" } else { "FAILED" };
                let (what, took) = (&check.check, check.duration_ms);
                let _ = writeln!(text, "  {what}: {verdict} after {took:.1} ms");
                if !check.passed {
                    let _ = writeln!(text, "    {}", check.outcome);
                }
                if let Some(warning) = &check.warning {
                    let _ = writeln!(text, "    warning: {warning}");
                }
                match check.asks_for {
                    Some(AskedStatus::Absolute(weight)) => {
                        let _ = writeln!(text, "    asks for weight {weight}");
                    }
                    Some(AskedStatus::Percent(share)) => {
                        let _ = writeln!(text, "    asks for {share} % of its weight");
                    }
                    None => {}
                }
                let route = check.route();
                if !route.is_empty() {
                    let _ = writeln!(text, "    {route}");
                }
                let width = check.steps.iter().map(|step| step.name.len()).max();
                let width = width.unwrap_or(0);
                for CheckedStep { name, ms } in &check.steps {
                    let _ = writeln!(text, "    {name:width$}  {ms:>8.1} ms");
                }
            }
        }
        text
    }
}

impl CheckedOnce {
    /// How its packets left, in words; empty: as the routing table says.
    fn route(&self) -> String {
        let from = self.source.map(|source| format!("from {source}"));
        let by = self.interface.as_ref().map(|name| format!("by {name}"));
        let mark = self.fwmark.map(|mark| format!("firewall mark {mark}"));
        let all: Vec<String> = from.into_iter().chain(by).chain(mark).collect();
        all.join(", ")
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
