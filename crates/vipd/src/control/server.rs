//! The routes. What the director is and does is answered by its own loop, so that it is one
//! consistent picture; a request that the loop does not answer in time gets an error, not a stale
//! picture. Events are read from their list.
//!
//! Every error is `{"error": {"code", "message"}}`: the code is for programs and stable, the message
//! for people.

pub mod config;
pub mod ipvs;
mod openapi;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{checks, real_servers};
use crate::debug;
use crate::director_loop::Wake;
use crate::doctor::{self, Daemon, Report};
use crate::events::{self, Events};
use crate::metrics::Format;
use crate::reconcile::Reconciler;
use crate::status::{Look, render};

/// How long the loop and the kernel together may take for one answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long fresh counters are waited for before those at hand are shown.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a handover may take; less than the client's patience.
const SWITCHOVER_TIMEOUT: Duration = Duration::from_secs(55);
/// The page for people, for whoever accepts it.
pub(super) const PLAIN: &str = "text/plain";
const PLAIN_UTF8: &str = "text/plain; charset=utf-8";
/// What the status of a real server takes as JSON, bytes.
const JSON_OF_ONE: usize = 768;
/// The longest a follower of events is kept waiting; then it asks again.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a request needs to be answered.
#[derive(Debug, Clone)]
pub struct Api {
    /// The way to the director's loop.
    pub director: mpsc::UnboundedSender<Wake>,
    /// Where fresh counters come from.
    pub reconciler: Arc<Reconciler>,
    /// What happened.
    pub events: Arc<Events>,
}

/// The body of `POST /v1/maintenance`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Whether it should be on.
    pub on: bool,
}

/// What an order led to, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The words; they may have several lines.
    pub message: String,
}

/// The routes of the unix socket.
pub fn control(api: Api) -> Router {
    reading()
        .route("/v1/vrrp/{name}/switchover", post(switchover))
        .route("/v1/maintenance", post(maintenance))
        .route(
            "/v1/virtual_servers/{name}/real_servers/{address}",
            post(real_servers::order),
        )
        .route("/v1/virtual_servers/{name}/check", post(checks::check))
        .route("/v1/ipvs/sync", post(send_connections))
        .route("/v1/debug", get(debug::dump))
        .route("/v1/doctor", get(examine))
        .merge(ipvs::routes())
        .merge(config::routes())
        .layer(map_response(openapi::error_object))
        .with_state(api)
}

/// The routes of the TCP listener: read-only.
pub fn public(api: Api) -> Router {
    reading()
        .route("/metrics", get(metrics))
        .layer(map_response(openapi::error_object))
        .with_state(api)
}

fn reading() -> Router<Api> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(read_events))
        .route("/v1/openapi.json", get(openapi::document()))
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is no such path")
        })
        .method_not_allowed_fallback(async || {
            let message = "this path does not take that method";
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                message,
            )
        })
}

/// How the page for people is to look; JSON is always the same.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shown {
    /// Whether colours are used.
    pub color: bool,
    /// The columns of the terminal; absent: there is none, and lines are as long as they are.
    pub width: Option<usize>,
}

async fn status(
    State(api): State<Api>,
    shown: Result<Query<Shown>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(Shown { color, width }) =
        shown.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    // Clients that take everything name both.
    let page =
        accept.is_some_and(|accept| accept.contains(PLAIN) && !accept.contains("application/json"));
    api.refresh().await;
    let status = api.ask(ANSWER_TIMEOUT, Wake::Status).await?;
    // With 10,000 real servers both are megabytes: nobody waits for them but who asked.
    let written = tokio::task::spawn_blocking(move || {
        if page {
            let page = render(&status, SystemTime::now(), Look { color, width });
            return Ok((PLAIN_UTF8, page.into_bytes()));
        }
        let reals = status.virtual_servers.iter();
        let reals: usize = reals.map(|server| server.real_servers.len()).sum();
        let mut json = Vec::with_capacity(4096 + JSON_OF_ONE * reals);
        serde_json::to_writer(&mut json, &status)?;
        Ok(("application/json", json))
    });
    let written = written
        .await
        .map_err(|error| Refusal::failed(error.to_string()))?;
    let (kind, body) =
        written.map_err(|error: serde_json::Error| Refusal::failed(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Refusal> {
    api.refresh().await;
    let accept = headers.get(header::ACCEPT);
    let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
    let snapshot = api.ask(ANSWER_TIMEOUT, Wake::Metrics).await?;
    // The text of 10,000 real servers takes a while: neither the director nor a worker waits for it.
    let text = tokio::task::spawn_blocking(move || snapshot.encode(format)).await;
    let text = text.map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

async fn examine(State(api): State<Api>) -> Result<Json<Report>, Refusal> {
    let in_force = api.ask(doctor::FIRST, Wake::InForce).await?;
    let daemon = Daemon::Here(api);
    let report = doctor::examine(&in_force.path, &in_force.config, &daemon).await;
    Ok(Json(report))
}

/// Which events: without `after` the newest `limit`; with it those that follow that one, oldest
/// first, for which up to `wait` seconds are waited if there are none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    after: Option<u64>,
    limit: Option<usize>,
    wait: Option<u64>,
}

async fn read_events(
    State(api): State<Api>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<events::Page>, Refusal> {
    let Query(wanted) = wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    let limit = wanted.limit.unwrap_or(events::CAPACITY);
    let Some(after) = wanted.after else {
        return Ok(Json(api.events.newest(limit)));
    };
    let wait = Duration::from_secs(wanted.wait.unwrap_or(0)).min(WAIT_MAX);
    // Nothing happened in time: an empty page says so.
    let _ = tokio::time::timeout(wait, api.events.wait(after)).await;
    Ok(Json(api.events.since(after, limit)))
}

async fn switchover(
    State(api): State<Api>,
    Path(router): Path<String>,
) -> Result<Json<Done>, Refusal> {
    let status = api.ask(ANSWER_TIMEOUT, Wake::Status).await?;
    if !status.vrrp.iter().any(|known| known.name == router) {
        let known: Vec<&str> = status
            .vrrp
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        let message = match known.as_slice() {
            [] => "this director has no virtual routers".to_owned(),
            known => format!(
                "there is no virtual router {router}; known: {}",
                known.join(", ")
            ),
        };
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "unknown_router",
            message,
        ));
    }
    api.order(SWITCHOVER_TIMEOUT, |reply| Wake::Switchover {
        router,
        reply,
    })
    .await
}

async fn send_connections(State(api): State<Api>) -> Result<Json<Done>, Refusal> {
    api.order(SWITCHOVER_TIMEOUT, Wake::SendConnections).await
}

async fn maintenance(
    State(api): State<Api>,
    wanted: Result<Json<Maintenance>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let Json(Maintenance { on }) = wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    api.order(ANSWER_TIMEOUT, |reply| Wake::Maintenance { on, reply })
        .await
}

impl Api {
    async fn refresh(&self) {
        let _ = tokio::time::timeout(REFRESH_TIMEOUT, self.reconciler.refresh()).await;
    }

    pub(crate) async fn ask<T>(
        &self,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> Wake,
    ) -> Result<T, Refusal> {
        let no_answer = || {
            let message = "the director did not answer in time; it is starting, stopping or \
                           overloaded";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_answer", message)
        };
        let (reply, answer) = oneshot::channel();
        self.director
            .send(question(reply))
            .map_err(|_| no_answer())?;
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(no_answer()),
        }
    }

    /// Gives an order that the director may refuse.
    pub(super) async fn order(
        &self,
        patience: Duration,
        order: impl FnOnce(oneshot::Sender<Result<String, String>>) -> Wake,
    ) -> Result<Json<Done>, Refusal> {
        match self.ask(patience, order).await? {
            Ok(message) => Ok(Json(Done { message })),
            Err(why) => Err(Refusal::new(StatusCode::CONFLICT, "refused", why)),
        }
    }
}

/// An error as the client gets it.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
        }
    }

    /// Nothing that the client could do better.
    pub(crate) fn failed(why: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", why)
    }

    pub(super) fn bad_request(why: &str) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "bad_request", why)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { code, message, .. } = self;
        let body = serde_json::json!({ "error": { "code": code, "message": message } });
        (self.status, Json(body)).into_response()
    }
}
