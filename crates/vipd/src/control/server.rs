//! The routes. Every answer is made by the director's own loop, so that it is one consistent
//! picture; a request that the loop does not answer in time gets an error, not a stale picture.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};

use crate::director_loop::Wake;
use crate::reconcile::Reconciler;

/// How long the loop and the kernel together may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long fresh counters are waited for before those at hand are shown.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// What a request needs to be answered.
#[derive(Debug, Clone)]
pub struct Api {
    /// The way to the director's loop.
    pub director: mpsc::UnboundedSender<Wake>,
    /// Where fresh counters come from.
    pub reconciler: Arc<Reconciler>,
}

/// The routes of the unix socket.
pub fn control(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .with_state(api)
}

/// The routes of the TCP listener: read-only.
pub fn public(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(api)
}

async fn status(State(api): State<Api>) -> Response {
    match api.ask(Wake::Status).await {
        Some(status) => Json(status).into_response(),
        None => no_answer(),
    }
}

async fn metrics(State(api): State<Api>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match api.ask(Wake::Metrics).await {
        Some(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        None => no_answer(),
    }
}

impl Api {
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Wake) -> Option<T> {
        let _ = tokio::time::timeout(REFRESH_TIMEOUT, self.reconciler.refresh()).await;
        let (reply, answer) = oneshot::channel();
        self.director.send(question(reply)).ok()?;
        tokio::time::timeout(ANSWER_TIMEOUT, answer)
            .await
            .ok()?
            .ok()
    }
}

fn no_answer() -> Response {
    let error = serde_json::json!({ "error": {
        "code": "no_answer",
        "message": "the director did not answer in time; it is starting, stopping or overloaded",
    }});
    (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
}
