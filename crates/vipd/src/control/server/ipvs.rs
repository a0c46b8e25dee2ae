//! The routes of `vipctl ipvs`. The connections name clients, so that all of this is for the unix
//! socket only.

use std::collections::BTreeMap;

use ::ipvs::{Protocol, ServiceKey};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::{ANSWER_TIMEOUT, Api, Done, Refusal};
use crate::director_loop::Wake;
use crate::ipvs_view::{ConnectionView, View};
use crate::ipvsadm::connections::connections;
use crate::ipvsadm::names::port_of;
use crate::ipvsadm::{Problem, Saved, restore};

/// The kernel's list of connections, in the daemon's network namespace.
const CONNECTIONS: &str = "/proc/thread-self/net/ip_vs_conn";
const SERVICES: &str = "/etc/services";
/// Room for a hundred thousand real servers.
const RESTORE_MAX: usize = 16 << 20;

/// The body of `POST /v1/ipvs/zero`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zero {
    /// Whose counters: a name or an address, as [`View::only`] takes it; `null`: everybody's.
    pub virtual_server: Option<String>,
}

/// The body of `POST /v1/ipvs/restore`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// What is put in, in the save format.
    pub text: String,
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/ipvs", get(look))
        .route("/v1/ipvs/connections", get(list_connections))
        .route("/v1/ipvs/zero", post(zero))
        .route(
            "/v1/ipvs/restore",
            post(restore_text).layer(DefaultBodyLimit::max(RESTORE_MAX)),
        )
}

async fn look(State(api): State<Api>) -> Result<Json<View>, Refusal> {
    api.view().await.map(Json)
}

async fn list_connections() -> Result<Json<Vec<ConnectionView>>, Refusal> {
    // The kernel needs a second or two for 50,000 of them.
    let read = tokio::task::spawn_blocking(|| {
        let text = std::fs::read_to_string(CONNECTIONS)
            .map_err(|error| format!("{CONNECTIONS}: {error}; is the module ip_vs loaded?"))?;
        let views = connections(&text).into_iter().map(ConnectionView::of);
        Ok::<_, String>(views.collect())
    });
    let views = read
        .await
        .map_err(|error| Refusal::failed(error.to_string()))?;
    views.map(Json).map_err(Refusal::failed)
}

async fn zero(
    State(api): State<Api>,
    wanted: Result<Json<Zero>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let Json(Zero { virtual_server }) =
        wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    let mut keys = Vec::new();
    let message = match virtual_server {
        None => "every counter is zero".to_owned(),
        Some(wanted) => {
            let mut view = api.view().await?;
            let unknown = |why| Refusal::new(StatusCode::NOT_FOUND, "unknown_service", why);
            view.only(&wanted).map_err(unknown)?;
            for service in &view.services {
                keys.push(service.key().map_err(Refusal::failed)?);
            }
            format!("the counters of {wanted} are zero")
        }
    };
    api.reconciler.zero(keys).await.map_err(Refusal::failed)?;
    Ok(Json(Done { message }))
}

async fn restore_text(
    State(api): State<Api>,
    wanted: Result<Json<Restore>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let Json(Restore { text }) = wanted.map_err(|why| Refusal::bad_request(&why.body_text()))?;
    let parsed = tokio::task::spawn_blocking(move || {
        // Where the file is missing, ports have numbers only.
        let services = std::fs::read_to_string(SERVICES).unwrap_or_default();
        restore::parse(&text, &|name, protocol: Protocol| {
            port_of(&services, name, protocol)
        })
    });
    let saved = parsed
        .await
        .map_err(|error| Refusal::failed(error.to_string()))?
        .map_err(|problems| Refusal::bad_request(&told(&problems)))?;
    let names = api.ask(ANSWER_TIMEOUT, Wake::Names).await?;
    if let Some(why) = configured(&saved, &names) {
        return Err(Refusal::new(StatusCode::CONFLICT, "configured", why));
    }
    let services = saved.table.len();
    let servers: usize = saved
        .table
        .values()
        .map(|pool| pool.destinations.len())
        .sum();
    let refused = |why| Refusal::new(StatusCode::CONFLICT, "refused", why);
    let changes = api.reconciler.restore(saved).await.map_err(refused)?;
    let message =
        format!("restored: {services} services, {servers} real servers; changes made: {changes}");
    Ok(Json(Done { message }))
}

/// Every line that is wrong, and that nothing was done.
fn told(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let count = match problems.len() {
        1 => "1 line is wrong".to_owned(),
        count => format!("{count} lines are wrong"),
    };
    format!("{count}; nothing was restored\n{}", lines.join("\n"))
}

/// Which services belong to virtual servers of the configuration.
fn configured(saved: &Saved, names: &BTreeMap<ServiceKey, String>) -> Option<String> {
    let taken = saved.table.keys().filter_map(|key| {
        let name = names.get(key)?;
        Some(format!(
            "{key} is the virtual server {name} of the configuration: change it there"
        ))
    });
    let taken: Vec<String> = taken.collect();
    (!taken.is_empty()).then(|| format!("{}\nnothing was restored", taken.join("\n")))
}

impl Api {
    async fn view(&self) -> Result<View, Refusal> {
        let names = self.ask(ANSWER_TIMEOUT, Wake::Names).await?;
        let kernel = self.reconciler.look().await.map_err(Refusal::failed)?;
        Ok(View::of(&kernel, |key| names.get(key).cloned()))
    }
}
