//! The health service that gRPC servers have in common: `grpc.health.v1.Health/Check`.
//!
//! One message goes out with one text in it, one comes back with one enumeration in it, so both are
//! written and read by hand.

mod message;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::http::uri::{Authority, Scheme, Uri};
use hyper::{Method, Response, StatusCode};

use super::h2;
use super::http::{authority, server_name};
use super::tls::Tls;
use super::{Passed, progress, stream};
use crate::check::{CheckSpec, GrpcSpec, Route};
use crate::failure::{Failure, Phase};

use message::{Health, Malformed};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// Longest answer, in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// How much of a server's words is quoted, in characters.
const QUOTED_MAX: usize = 100;

#[derive(Debug)]
pub(super) struct GrpcProbe {
    target: SocketAddr,
    route: Route,
    tls: Option<Tls>,
    service: String,
    request: hyper::Request<Full<Bytes>>,
    timeout: Duration,
}

impl GrpcProbe {
    pub(super) fn new(spec: &CheckSpec, grpc: &GrpcSpec) -> Result<GrpcProbe, Failure> {
        let tls = match &grpc.tls {
            Some(tls) => {
                let name = server_name(spec.target, grpc.host.as_deref(), tls)?;
                Some(Tls::new(tls, &name, &[b"h2"])?)
            }
            None => None,
        };
        Ok(GrpcProbe {
            target: spec.target,
            route: spec.route.clone(),
            tls,
            service: grpc.service.clone(),
            request: request(spec.target, grpc)?,
            timeout: spec.timeout,
        })
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        progress::within(self.timeout, Phase::Connecting, self.exchange()).await
    }

    async fn exchange(&self) -> Result<Passed, Failure> {
        let mut opened = stream::open(self.target, &self.route, self.tls.as_ref()).await?;
        let warning = opened.warning.take();
        progress::enter(|connected_after| Phase::Waiting { connected_after });
        let judge = |response| self.judge(response);
        h2::exchange(opened, self.tls.is_some(), self.request.clone(), judge).await?;
        Ok(Passed {
            warning,
            weight: None,
        })
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<(), Failure> {
        if response.status() != StatusCode::OK {
            return Err(Failure::Status {
                got: response.status().as_u16(),
                wanted: vec![(200, 200)],
            });
        }
        let kind = response.headers().get(CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return Err(Failure::Protocol(format!(
                "no gRPC, but content of type {}",
                kind.map_or("nothing".into(), quoted)
            )));
        }
        // An answer without a message has its status where headers stand.
        if response.headers().contains_key("grpc-status") {
            self.judge_status(response.headers())?;
            return Err(Failure::Protocol(
                "gRPC: an answer without a message".into(),
            ));
        }
        let (message, trailers) = read(response.into_body()).await?;
        self.judge_status(&trailers)?;
        let health = message::decode(&message)
            .map_err(|Malformed(what)| Failure::Protocol(format!("gRPC: {what}")))?;
        self.judge_health(health)
    }

    fn judge_status(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(status) = headers.get("grpc-status") else {
            return Err(Failure::Protocol("gRPC: no grpc-status".into()));
        };
        let code: Option<u8> = status.to_str().ok().and_then(|code| code.parse().ok());
        let said = headers.get("grpc-message").map(quoted);
        let said = said.map_or(String::new(), |words| format!(": {words}"));
        Err(Failure::Grpc(match code {
            Some(0) => return Ok(()),
            Some(5) => self.unknown_service("NOT_FOUND"),
            Some(12) => format!("the server has no health service (UNIMPLEMENTED{said})"),
            Some(code) => format!("the call failed with {}{said}", status_name(code)),
            None => format!("grpc-status is {}", quoted(status)),
        }))
    }

    fn judge_health(&self, health: Health) -> Result<(), Failure> {
        Err(Failure::Grpc(match health {
            Health::Serving => return Ok(()),
            Health::NotServing => format!("{} is NOT_SERVING", self.subject()),
            Health::Unknown => format!(
                "the server does not know how {} is (UNKNOWN)",
                self.subject()
            ),
            Health::ServiceUnknown => self.unknown_service("SERVICE_UNKNOWN"),
            Health::Other(value) => format!("{} has the unknown status {value}", self.subject()),
        }))
    }

    fn unknown_service(&self, word: &str) -> String {
        format!("the server does not know {} ({word})", self.subject())
    }

    fn subject(&self) -> String {
        if self.service.is_empty() {
            "the server as a whole".into()
        } else {
            format!("service {:?}", self.service)
        }
    }
}

fn request(target: SocketAddr, grpc: &GrpcSpec) -> Result<hyper::Request<Full<Bytes>>, Failure> {
    let tls = grpc.tls.is_some();
    let host = match &grpc.host {
        Some(host) => host.clone(),
        None => authority(target, tls),
    };
    let host = Authority::try_from(host.as_str())
        .map_err(|error| Failure::Invalid(format!("host {host:?}: {error}")))?;
    let uri = Uri::builder()
        .scheme(if tls { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(host)
        .path_and_query(METHOD)
        .build()
        .map_err(|error| Failure::Invalid(error.to_string()))?;
    let mut request = hyper::Request::new(Full::from(message::encode(&grpc.service)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("vipd/", env!("CARGO_PKG_VERSION"))),
    );
    Ok(request)
}

/// The whole body, and the trailers after it.
async fn read(mut body: Incoming) -> Result<(Vec<u8>, HeaderMap), Failure> {
    let mut message = Vec::new();
    let mut trailers = HeaderMap::new();
    loop {
        let received = message.len();
        progress::enter(|_| Phase::Reading {
            status: 200,
            received,
        });
        let Some(frame) = body.frame().await else {
            return Ok((message, trailers));
        };
        match frame.map_err(|error| h2::explain(&error))?.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
        if message.len() > ANSWER_MAX {
            return Err(Failure::Protocol(format!(
                "gRPC: an answer of more than {ANSWER_MAX} bytes"
            )));
        }
    }
}

fn quoted(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    let short: String = text.chars().take(QUOTED_MAX).collect();
    format!("{short:?}")
}

/// The codes of gRPC that have no words of their own here.
fn status_name(code: u8) -> String {
    let name = match code {
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        other => return format!("the unknown code {other}"),
    };
    name.into()
}
