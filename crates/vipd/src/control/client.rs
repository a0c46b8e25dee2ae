//! The client of the control API, used by `vipctl`.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::status::Status;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the daemon behind that socket for its status.
///
/// # Errors
///
/// In words: no daemon, no permission, no answer.
pub async fn status(socket: &Path) -> Result<Status, String> {
    let text = get(socket, "/v1/status").await?;
    serde_json::from_str(&text).map_err(|error| {
        format!("the daemon's answer is not what this vipctl expects (another version?): {error}")
    })
}

async fn get(socket: &Path, path: &str) -> Result<String, String> {
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
                "{}: vipd does not answer within {TIMEOUT:?}",
                socket.display()
            );
        }
        format!("{}: {error}", socket.display())
    };
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .no_proxy()
        .timeout(TIMEOUT)
        // Nothing is encrypted on a unix socket; the system's certificates need not be read.
        .tls_certs_only([])
        .build()
        .map_err(failed)?;
    let response = client
        .get(format!("http://vipd{path}"))
        .send()
        .await
        .map_err(failed)?;
    let status = response.status();
    let text = response.text().await.map_err(failed)?;
    if status.is_success() {
        Ok(text)
    } else {
        Err(format!("vipd answered {status}: {text}"))
    }
}
