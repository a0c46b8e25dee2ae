//! Probes and the runner against real servers: nginx, NSD, certificates made by openssl, a neighbour's
//! kernel, real programs, and plain sockets that misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod agent;
mod answers;
mod certificates;
mod dns;
mod grpc;
mod http;
mod nginx;
mod nsd;
mod peer;
mod ping;
mod rerun;
mod route;
mod runner;
mod scratch;
mod script;
mod smtp;
mod socket;
mod tcp;
mod tls;
mod tls_check;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use health::{CheckKind, CheckSpec, Failure, HttpSpec, HttpVersion, Probe, Route, Start, TlsSpec};

/// A check that is patient enough for a busy machine; each test narrows what it is about.
fn spec(target: SocketAddr, kind: CheckKind) -> CheckSpec {
    CheckSpec {
        route: Route::default(),
        target,
        kind,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 1,
        start: Start::Down,
    }
}

/// `GET path`, 200 to 299 passes.
fn get(path: &str) -> HttpSpec {
    HttpSpec {
        method: "GET".into(),
        path: path.into(),
        host: None,
        headers: Vec::new(),
        status: vec![(200, 299)],
        version: HttpVersion::Http1,
        body_contains: None,
        body_regex: None,
        body_sha256: None,
        tls: None,
    }
}

/// `GET path` over TLS.
fn get_tls(path: &str, verify: bool, sni: Option<&str>) -> HttpSpec {
    HttpSpec {
        tls: Some(tls_policy(verify, sni)),
        ..get(path)
    }
}

/// TLS with the roots of the system, no client certificate, and no warning of the end.
fn tls_policy(verify: bool, sni: Option<&str>) -> TlsSpec {
    TlsSpec {
        verify,
        sni: sni.map(Into::into),
        ca: None,
        identity: None,
        expires_within: Duration::ZERO,
    }
}

/// The check as it goes through reqwest, and over a socket of our own: with a source address, the one
/// that the routing table would choose too.
fn both_ways(check: CheckSpec) -> [CheckSpec; 2] {
    let own = CheckSpec {
        route: Route {
            source: Some("127.0.0.1".parse().unwrap()),
            ..Route::default()
        },
        ..check.clone()
    };
    [check, own]
}

async fn probe(spec: &CheckSpec) -> Result<(), Failure> {
    Probe::new(spec)?.run().await.map(|_| ())
}
