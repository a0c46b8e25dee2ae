//! The client of the control API, used by `vipctl`.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;

use super::checks::{Checked, Wanted};
use super::real_servers::Order;
use super::server::config::Upgrade;
use super::server::ipvs::{Restore, Zero};
use super::server::{Done, Maintenance, PLAIN, WAIT_MAX};
use crate::debug::Bundle;
use crate::doctor::{self, Report};
use crate::events;
use crate::ipvs_view::{ConnectionView, View};
use crate::status::{Look, Status};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a table of tens of thousands of real servers may take.
const IPVS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long checks may take: the longest timeout is an hour, and a large pool takes turns.
const CHECK_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How long an upgrade may take: longer than all that the daemon bounds of it.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a handover may take: two master-down intervals of the slowest usual adverts.
const SWITCHOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the daemon behind that socket for its status.
///
/// # Errors
///
/// In words: no daemon, no permission, no answer.
pub async fn status(socket: &Path) -> Result<Status, String> {
    understand(&status_json(socket).await?)
}

/// The same as the daemon says it, JSON on one line.
///
/// # Errors
///
/// As [`status`].
pub async fn status_json(socket: &Path) -> Result<String, String> {
    let url = url(&["v1", "status"])?;
    request(socket, Method::GET, url, None, TIMEOUT).await
}

/// The same as a page for people, which the daemon makes: what ten thousand real servers are as JSON
/// takes longer to send and to take apart than everything else.
///
/// # Errors
///
/// As [`status`].
pub async fn status_page(socket: &Path, look: Look) -> Result<String, String> {
    let Look { color, width } = look;
    let mut url = url(&["v1", "status"])?;
    url.query_pairs_mut()
        .append_pair("color", &color.to_string());
    if let Some(width) = width {
        url.query_pairs_mut()
            .append_pair("width", &width.to_string());
    }
    let accept = |request: RequestBuilder| request.header("accept", PLAIN);
    send(socket, Method::GET, url, accept, TIMEOUT).await
}

/// The last `limit` events.
///
/// # Errors
///
/// As [`status`].
pub async fn newest_events(socket: &Path, limit: usize) -> Result<events::Page, String> {
    let mut url = url(&["v1", "events"])?;
    url.query_pairs_mut()
        .append_pair("limit", &limit.to_string());
    understand(&request(socket, Method::GET, url, None, TIMEOUT).await?)
}

/// The events after that one; if there are none, waits for some, but not for ever.
///
/// # Errors
///
/// As [`status`].
pub async fn next_events(socket: &Path, after: u64) -> Result<events::Page, String> {
    let mut url = url(&["v1", "events"])?;
    url.query_pairs_mut()
        .append_pair("after", &after.to_string())
        .append_pair("wait", &WAIT_MAX.as_secs().to_string());
    understand(&request(socket, Method::GET, url, None, WAIT_MAX + TIMEOUT).await?)
}

/// Has a virtual router handed over to its peer; returns how it went.
///
/// # Errors
///
/// As [`status`], or why it was not handed over.
pub async fn switchover(socket: &Path, router: &str) -> Result<String, String> {
    let url = url(&["v1", "vrrp", router, "switchover"])?;
    let answer = request(socket, Method::POST, url, None, SWITCHOVER_TIMEOUT).await?;
    understand::<Done>(&answer).map(|done| done.message)
}

/// Has the whole connection table sent to the peer; returns what was sent.
///
/// # Errors
///
/// As [`status`], or why nothing was sent.
pub async fn send_connections(socket: &Path) -> Result<String, String> {
    let url = url(&["v1", "ipvs", "sync"])?;
    let answer = request(socket, Method::POST, url, None, SWITCHOVER_TIMEOUT).await?;
    understand::<Done>(&answer).map(|done| done.message)
}

/// Turns maintenance on or off; returns what that does.
///
/// # Errors
///
/// As [`status`], or why it was not turned.
pub async fn maintenance(socket: &Path, on: bool) -> Result<String, String> {
    let body = serde_json::to_string(&Maintenance { on }).map_err(|error| error.to_string())?;
    let url = url(&["v1", "maintenance"])?;
    let answer = request(socket, Method::POST, url, Some(body), TIMEOUT).await?;
    understand::<Done>(&answer).map(|done| done.message)
}

/// Has another program take the daemon's place; returns how it went, as JSON.
///
/// # Errors
///
/// As [`status`], or why nothing has changed.
pub async fn upgrade(socket: &Path, binary: Option<&Path>) -> Result<String, String> {
    let binary = binary.map(std::path::absolute).transpose();
    let binary = binary.map_err(|error| error.to_string())?;
    let body = serde_json::to_string(&Upgrade { binary }).map_err(|error| error.to_string())?;
    let url = url(&["v1", "upgrade"])?;
    request(socket, Method::POST, url, Some(body), UPGRADE_TIMEOUT).await
}

/// Gives an order for a real server; returns what follows.
///
/// # Errors
///
/// As [`status`], or why it was not carried out.
pub async fn real_server(
    socket: &Path,
    virtual_server: &str,
    real_server: &str,
    order: Order,
) -> Result<String, String> {
    let body = serde_json::to_string(&order).map_err(|error| error.to_string())?;
    let url = url(&[
        "v1",
        "virtual_servers",
        virtual_server,
        "real_servers",
        real_server,
    ])?;
    let answer = request(socket, Method::POST, url, Some(body), TIMEOUT).await?;
    understand::<Done>(&answer).map(|done| done.message)
}

/// Has the checks of a virtual server, or of one of its real servers, run once and now.
///
/// # Errors
///
/// As [`status`], or there is no such server.
pub async fn check(
    socket: &Path,
    virtual_server: &str,
    real_server: Option<String>,
) -> Result<Checked, String> {
    let wanted = Wanted { real_server };
    let body = serde_json::to_string(&wanted).map_err(|error| error.to_string())?;
    let url = url(&["v1", "virtual_servers", virtual_server, "check"])?;
    let answer = request(socket, Method::POST, url, Some(body), CHECK_TIMEOUT).await?;
    understand(&answer)
}

/// What the kernel's IPVS holds.
///
/// # Errors
///
/// As [`status`].
pub async fn ipvs(socket: &Path) -> Result<View, String> {
    let url = url(&["v1", "ipvs"])?;
    understand(&request(socket, Method::GET, url, None, IPVS_TIMEOUT).await?)
}

/// The connections.
///
/// # Errors
///
/// As [`status`].
pub async fn ipvs_connections(socket: &Path) -> Result<Vec<ConnectionView>, String> {
    let url = url(&["v1", "ipvs", "connections"])?;
    understand(&request(socket, Method::GET, url, None, IPVS_TIMEOUT).await?)
}

/// Sets the counters of a virtual server, or all, to zero; returns what was done.
///
/// # Errors
///
/// As [`status`], or why not.
pub async fn ipvs_zero(socket: &Path, virtual_server: Option<String>) -> Result<String, String> {
    let body =
        serde_json::to_string(&Zero { virtual_server }).map_err(|error| error.to_string())?;
    let url = url(&["v1", "ipvs", "zero"])?;
    let answer = request(socket, Method::POST, url, Some(body), IPVS_TIMEOUT).await?;
    understand::<Done>(&answer).map(|done| done.message)
}

/// Puts a table in that is in the save format; returns what was done.
///
/// # Errors
///
/// As [`status`], or every line that is wrong, or why not.
pub async fn ipvs_restore(socket: &Path, text: String) -> Result<String, String> {
    let body = serde_json::to_string(&Restore { text }).map_err(|error| error.to_string())?;
    let url = url(&["v1", "ipvs", "restore"])?;
    let answer = request(socket, Method::POST, url, Some(body), IPVS_TIMEOUT).await?;
    understand::<Done>(&answer).map(|done| done.message)
}

/// The bundle for a bug report.
///
/// # Errors
///
/// As [`status`].
pub async fn debug(socket: &Path) -> Result<Bundle, String> {
    let url = url(&["v1", "debug"])?;
    understand(&request(socket, Method::GET, url, None, IPVS_TIMEOUT).await?)
}

/// Has the daemon look for what is wrong.
///
/// # Errors
///
/// As [`status`].
pub async fn doctor(socket: &Path) -> Result<Report, String> {
    let url = url(&["v1", "doctor"])?;
    let answer = request(socket, Method::GET, url, None, doctor::TIMEOUT).await;
    let answer =
        answer.map_err(|why| format!("{why}\n`vipd doctor -c FILE` looks without the daemon"))?;
    understand(&answer)
}

/// A URL with those path segments, whatever characters are in them.
pub(crate) fn url(segments: &[&str]) -> Result<Url, String> {
    let mut url = Url::parse("http://vipd/").map_err(|error| error.to_string())?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(segments);
    }
    Ok(url)
}

/// What an answer says.
///
/// # Errors
///
/// It is of another version.
pub fn understand<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("the daemon's answer is not what this vipctl expects (another version?): {error}")
    })
}

pub(crate) async fn request(
    socket: &Path,
    method: Method,
    url: Url,
    body: Option<String>,
    timeout: Duration,
) -> Result<String, String> {
    let with_body = |request: RequestBuilder| match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(body),
        None => request,
    };
    send(socket, method, url, with_body, timeout).await
}

async fn send(
    socket: &Path,
    method: Method,
    url: Url,
    with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    timeout: Duration,
) -> Result<String, String> {
    // A socket that is missing or closed to us is told apart here; the HTTP client would only say
    // that it could not connect.
    if let Err(error) = tokio::net::UnixStream::connect(socket).await {
        let hints = [
            (
                ErrorKind::NotFound,
                "; is vipd running? (--socket names another one)",
            ),
            (ErrorKind::ConnectionRefused, "; vipd is not running"),
            (
                ErrorKind::PermissionDenied,
                "; you must be root or in the group of the socket",
            ),
        ];
        let hint = hints
            .iter()
            .find(|(kind, _)| *kind == error.kind())
            .map_or("", |(_, hint)| hint);
        return Err(format!("{}: {error}{hint}", socket.display()));
    }
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            return format!(
                "{}: vipd does not answer within {timeout:?}",
                socket.display()
            );
        }
        format!("{}: {error}", socket.display())
    };
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .no_proxy()
        .timeout(timeout)
        // Nothing is encrypted on a unix socket; the system's certificates need not be read.
        .tls_certs_only([])
        .build()
        .map_err(failed)?;
    let request = with(client.request(method, url));
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let text = response.text().await.map_err(failed)?;
    if status.is_success() {
        return Ok(text);
    }
    let answer: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let message = answer
        .as_ref()
        .and_then(|a| a.pointer("/error/message")?.as_str());
    Err(message.map_or_else(|| format!("vipd answered {status}: {text}"), str::to_owned))
}
