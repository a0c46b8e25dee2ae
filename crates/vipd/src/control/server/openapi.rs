//! The document that describes the API, and the shape of its errors.
//!
//! The document is `control/openapi.json`, written by hand; `tests/api.rs` compares it with the routes and
//! with what they answer, and says what it lacks.

use axum::body::{Body, to_bytes};
use axum::http::header::{self, HeaderName};
use axum::response::{IntoResponse, Response};

use super::Refusal;

const DOCUMENT: &str = include_str!("../openapi.json");
/// The longest complaint that axum makes, and more.
const COMPLAINT_MAX: usize = 64 << 10;

/// The document, as it is answered.
pub(super) fn document() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

/// Errors that axum makes itself are in plain words: they get the shape of all others.
pub(super) async fn error_object(response: Response) -> Response {
    let status = response.status();
    let is_object = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if is_object || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (_, body) = response.into_parts();
    let words = to_bytes(Body::new(body), COMPLAINT_MAX).await;
    let words = words.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let code = if status.is_client_error() {
        "bad_request"
    } else {
        "failed"
    };
    Refusal::new(status, code, words).into_response()
}
