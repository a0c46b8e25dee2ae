//! The routes of what is configured: what is in force, what a reload would change, reload and trial,
//! and what operators have ordered beside the configuration. They show more of this director than
//! others need to know, so that all of this is for the unix socket only.
//!
//! No secret leaves: texts are shown with `<hidden>` in their places, and a plan has no values of them.

use std::path::PathBuf;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::{ANSWER_TIMEOUT, Api, Done, Refusal};
use crate::config::{Config, LoadError, without_secrets};
use crate::director_loop::Wake;
use crate::director_loop::reload::{InForce, Request};
use crate::overrides::{Scope, View};
use crate::plan::{self, Plan};
use crate::status::rfc3339;
use crate::upgrade::Upgraded;
use crate::{control::real_servers, trial};

/// How long reading, checking and putting in force may take: a disk and a table of tens of thousands.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(55);
/// How long an upgrade may take: reading, telling, handing over, each with its own bound.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(70);
/// Room for a text of 8 MiB as JSON.
const TEXT_MAX: usize = 20 << 20;
/// Past this a difference is not looked for in the shortest form.
const DIFF_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines around a difference.
const CONTEXT: usize = 3;

/// What is in force, as `GET /v1/config` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The file it was loaded from.
    pub path: String,
    /// When it was put in force, RFC 3339, UTC.
    pub loaded: String,
    /// As it was loaded, without secrets.
    pub text: String,
}

/// The body of `POST /v1/plan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// What the file is called in problems; `null`: as the daemon's own.
    #[serde(default)]
    pub name: Option<String>,
    /// The text; `null`: that of the daemon's file.
    #[serde(default)]
    pub text: Option<String>,
}

/// What a reload would lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The changes.
    #[serde(flatten)]
    pub plan: Plan,
    /// What is suspicious about the new configuration.
    pub warnings: Vec<String>,
    /// The texts as a unified difference, without secrets; empty: none.
    pub diff: String,
}

/// The body of `POST /v1/reload`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// On trial for so long; `null`: for good.
    #[serde(default)]
    pub confirm_seconds: Option<u64>,
}

/// The body of `POST /v1/confirm`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// The former configuration is to come back at once.
    #[serde(default)]
    pub back: bool,
}

/// The body of `POST /v1/upgrade`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The program that is to take over, an absolute path; `null`: the one that a start would run.
    #[serde(default)]
    pub binary: Option<PathBuf>,
}

type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/config", get(show))
        .route(
            "/v1/plan",
            post(propose).layer(DefaultBodyLimit::max(TEXT_MAX)),
        )
        .route("/v1/reload", post(reload))
        .route("/v1/confirm", post(confirm))
        .route("/v1/upgrade", post(upgrade))
        .route("/v1/overrides", get(overrides))
        .route("/v1/overrides/reset", post(reset))
}

async fn show(State(api): State<Api>) -> Result<Json<Shown>, Refusal> {
    let in_force = api.ask(ANSWER_TIMEOUT, Wake::InForce).await?;
    beside(move || Shown {
        path: in_force.path.display().to_string(),
        loaded: rfc3339(in_force.loaded),
        text: without_secrets(&in_force.text),
    })
    .await
    .map(Json)
}

async fn propose(
    State(api): State<Api>,
    proposal: Body<Proposal>,
) -> Result<Json<Planned>, Refusal> {
    let Json(proposal) = proposal.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    let in_force = api.ask(ANSWER_TIMEOUT, Wake::InForce).await?;
    let planned = beside(move || planned(&in_force, proposal)).await?;
    planned.map(Json)
}

fn planned(in_force: &InForce, proposal: Proposal) -> Result<Planned, Refusal> {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let path = in_force.path.display().to_string();
    let name = proposal.name.unwrap_or(path);
    let wrong = |error: LoadError| match error {
        LoadError::Read { .. } => Refusal::new(status, "unreadable", error.to_string()),
        LoadError::Invalid(_) => Refusal::new(status, "invalid_config", error.to_string()),
    };
    let read = match proposal.text {
        Some(text) => Config::parse(&text, &name)
            .map(|config| (text, config))
            .map_err(LoadError::Invalid),
        None => Config::load_written(&in_force.path, &name),
    };
    let (text, config) = read.map_err(wrong)?;
    let warnings = config.warnings().iter().map(ToString::to_string).collect();
    Ok(Planned {
        plan: plan::compare(&in_force.config, &config),
        warnings,
        diff: difference(&in_force.text, &text, &name),
    })
}

/// A unified difference, without secrets: what differs in a secret only is no difference here.
fn difference(old: &str, new: &str, name: &str) -> String {
    if old == new {
        return String::new();
    }
    let (old, new) = (without_secrets(old), without_secrets(new));
    let diff = TextDiff::configure()
        .timeout(DIFF_TIMEOUT)
        .diff_lines(&old, &new);
    let mut unified = diff.unified_diff();
    unified.context_radius(CONTEXT).header("in force", name);
    unified.to_string()
}

async fn reload(State(api): State<Api>, wanted: Body<Reload>) -> Result<Json<Done>, Refusal> {
    let Json(wanted) = wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    let confirm = wanted.confirm_seconds.map(Duration::from_secs);
    if confirm.is_some_and(|duration| !trial::DURATION.contains(&duration)) {
        let why = "confirm_seconds is out of range: 1 to 86400";
        return Err(Refusal::bad_request(why));
    }
    api.order(RELOAD_TIMEOUT, |reply| {
        Wake::Reload(Request {
            confirm,
            reply: Some(reply),
        })
    })
    .await
}

async fn confirm(State(api): State<Api>, wanted: Body<Confirm>) -> Result<Json<Done>, Refusal> {
    let Json(Confirm { back }) = wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    api.order(RELOAD_TIMEOUT, |reply| Wake::Confirm { back, reply })
        .await
}

async fn upgrade(State(api): State<Api>, wanted: Body<Upgrade>) -> Result<Json<Upgraded>, Refusal> {
    let Json(Upgrade { binary }) = wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    if binary.as_ref().is_some_and(|binary| !binary.is_absolute()) {
        return Err(Refusal::bad_request("binary is not an absolute path"));
    }
    let upgraded = api.ask(UPGRADE_TIMEOUT, |reply| Wake::Upgrade { binary, reply });
    let refused = |why| Refusal::new(StatusCode::CONFLICT, "refused", why);
    upgraded.await?.map(Json).map_err(refused)
}

async fn overrides(State(api): State<Api>) -> Result<Json<View>, Refusal> {
    api.ask(ANSWER_TIMEOUT, Wake::Overrides).await.map(Json)
}

async fn reset(State(api): State<Api>, scope: Body<Scope>) -> Result<Json<Done>, Refusal> {
    let Json(mut scope) = scope.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    if scope.virtual_server.is_none() && scope.real_server.is_some() {
        let why = "a real server is one of a virtual server: name that, too";
        return Err(Refusal::bad_request(why));
    }
    if let Some(name) = &scope.virtual_server {
        let status = api.ask(ANSWER_TIMEOUT, Wake::Status).await?;
        let found = match &scope.real_server {
            Some(address) => real_servers::find(&status, name, address).map(Some),
            None => real_servers::virtual_server(&status, name).map(|_| None),
        };
        let unknown =
            |why: real_servers::NotOne| Refusal::new(StatusCode::NOT_FOUND, why.code, why.message);
        scope.real_server = found.map_err(unknown)?;
    }
    api.order(ANSWER_TIMEOUT, |reply| Wake::ResetOverrides {
        scope,
        reply,
    })
    .await
}

/// Does what may take a while where nobody waits for it.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::failed(error.to_string()))
}
