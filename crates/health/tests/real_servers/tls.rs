//! The HTTP probe over TLS, with certificates made by openssl.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use health::{CheckKind, CheckSpec, Failure, HttpSpec, Phase, Probe};

use crate::certificates::{Validity, self_signed, signed};
use crate::nginx::Nginx;
use crate::rerun::rerun;
use crate::scratch::Scratch;
use crate::socket::{serve_pieces, serve_silence};
use crate::{both_ways, get, get_tls, probe, spec};

const LOCATIONS: &str = r#"
    location = /health { return 200 "all is well\n"; }
    location = /broken { return 503; }
    location = /resumed { return 200 "resumed=$ssl_session_reused;"; }
    location = /sni { return 200 "sni=$ssl_server_name;host=$http_host;"; }
"#;

#[tokio::test]
async fn a_self_signed_certificate_passes_only_unverified() {
    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:FALSE");
    let nginx = Nginx::https(scratch, LOCATIONS);
    check(nginx.https, get_tls("/health", false, None), "ok").await;
    check(
        nginx.https,
        get_tls("/broken", false, None),
        "status 503, wanted 200-299",
    )
    .await;
    check(
        nginx.https,
        get_tls("/health", true, Some("web.test")),
        "certificate is signed by nobody this machine trusts (self-signed, a private CA, or an \
         intermediate that the server does not send)",
    )
    .await;
}

#[tokio::test]
async fn a_certificate_that_openssl_self_signs_by_default_is_called_a_cas() {
    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:TRUE");
    let nginx = Nginx::https(scratch, LOCATIONS);
    check(
        nginx.https,
        get_tls("/health", true, Some("web.test")),
        "certificate is a CA's (CA:TRUE, as openssl makes self-signed ones) and cannot be a server's",
    )
    .await;
}

#[tokio::test]
async fn every_probe_makes_a_full_handshake_so_that_it_sees_the_certificate_of_today() {
    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:FALSE");
    let nginx = Nginx::https(scratch, LOCATIONS);
    let http = HttpSpec {
        body_contains: Some("resumed=.;".into()),
        ..get_tls("/resumed", false, Some("web.test"))
    };
    let probe = Probe::new(&spec(nginx.https, CheckKind::Http(http))).unwrap();
    for _ in 0..3 {
        assert_eq!(probe.run().await, Ok(health::Passed::default()));
    }
}

#[tokio::test]
async fn sni_comes_from_the_check_and_else_from_the_host() {
    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:FALSE");
    let nginx = Nginx::https(scratch, LOCATIONS);
    let sees = |host: Option<&str>, sni: Option<&str>, text: &str| HttpSpec {
        host: host.map(Into::into),
        body_contains: Some(text.into()),
        ..get_tls("/sni", false, sni)
    };
    let address = nginx.https;
    let own = format!("sni=;host={address};");
    check(address, sees(None, None, &own), "ok").await;
    let both = "sni=a.test;host=b.test;";
    check(address, sees(Some("b.test"), Some("a.test"), both), "ok").await;
    let named = "sni=b.test;host=b.test:8443;";
    check(address, sees(Some("b.test:8443"), None, named), "ok").await;
    let vip = "sni=;host=192.0.2.10;";
    check(address, sees(Some("192.0.2.10"), None, vip), "ok").await;
}

#[test]
fn a_certificate_of_a_ca_in_the_systems_roots_is_verified() {
    verified_in_a_process_of_its_own(
        "tls::a_certificate_of_a_ca_in_the_systems_roots_is_verified",
        |dir, server| async move {
            signed(&dir, "DNS:web.test,IP:127.0.0.1", Validity::Now);
            let (nginx, address) = server();
            check(address, get_tls("/health", true, Some("web.test")), "ok").await;
            let by_host = HttpSpec {
                host: Some("web.test:8443".into()),
                ..get_tls("/health", true, None)
            };
            check(address, by_host, "ok").await;
            check(
                address,
                get_tls("/health", true, Some("other.test")),
                "certificate is not for other.test but for web.test, 127.0.0.1",
            )
            .await;
            let ip = address.ip();
            check(
                address,
                get_tls("/health", true, None),
                &format!("certificate is not for {ip} but for web.test, 127.0.0.1"),
            )
            .await;
            drop(nginx);
        },
    );
}

#[test]
fn an_expired_certificate_is_called_expired() {
    verified_in_a_process_of_its_own(
        "tls::an_expired_certificate_is_called_expired",
        |dir, server| async move {
            signed(&dir, "DNS:web.test", Validity::Past);
            let (nginx, address) = server();
            check(
                address,
                get_tls("/health", true, Some("web.test")),
                "certificate has expired",
            )
            .await;
            check(address, get_tls("/health", false, None), "ok").await;
            drop(nginx);
        },
    );
}

#[test]
fn a_machine_without_roots_says_so_and_goes_on_once_they_are_there() {
    verified_in_a_process_of_its_own(
        "tls::a_machine_without_roots_says_so_and_goes_on_once_they_are_there",
        |dir, server| async move {
            let later = dir.join("later.pem");
            signed(&dir, "DNS:web.test", Validity::Now);
            std::fs::rename(dir.join("ca.pem"), &later).unwrap();
            let (nginx, address) = server();
            let verified = get_tls("/health", true, Some("web.test"));
            let failure = outcome(address, verified.clone()).await.unwrap_err();
            assert_eq!(failure.reason(), "tls");
            let words = failure.to_string();
            assert!(
                words.starts_with("this machine has no root certificates to verify with"),
                "{words}"
            );
            check(address, get_tls("/health", false, None), "ok").await;
            check(nginx.http, get("/health"), "ok").await;

            std::fs::rename(&later, dir.join("ca.pem")).unwrap();
            check(address, verified, "ok").await;
        },
    );
}

#[tokio::test]
async fn a_port_that_does_not_speak_tls_is_told_so() {
    let nginx = Nginx::http(LOCATIONS);
    check(
        nginx.http,
        get_tls("/health", false, None),
        "the server does not speak TLS on this port",
    )
    .await;
    let closes = serve_pieces(Vec::new(), Duration::ZERO).await;
    check(
        closes,
        get_tls("/", false, None),
        "the server closed the connection in the TLS handshake",
    )
    .await;
}

#[tokio::test]
async fn a_server_that_hangs_in_the_handshake_is_a_timeout_of_the_handshake() {
    let check = CheckSpec {
        timeout: Duration::from_millis(200),
        ..spec(
            serve_silence().await,
            CheckKind::Http(get_tls("/", false, None)),
        )
    };
    assert_eq!(
        probe(&check).await,
        Err(Failure::Timeout {
            after: check.timeout,
            phase: Phase::ConnectingTls
        })
    );
}

#[tokio::test]
async fn a_name_that_means_another_address_is_never_dialled() {
    let target = "127.0.0.1:1".parse().unwrap();
    for (name, verify) in [
        ("192.0.2.1", true),
        ("192.0.2", false),
        ("0xc0000201", false),
    ] {
        let failure = outcome(target, get_tls("/", verify, Some(name)))
            .await
            .unwrap_err();
        assert_eq!(failure.reason(), "invalid", "{name}: {failure}");
    }
}

/// Runs `body` in a process whose system roots are `ca.pem` of the directory it is given. The second
/// argument starts nginx there, once `server.pem` is made.
fn verified_in_a_process_of_its_own<F>(
    test: &str,
    body: impl FnOnce(std::path::PathBuf, Box<dyn FnOnce() -> (Nginx, SocketAddr)>) -> F,
) where
    F: Future<Output = ()>,
{
    const ROOTS: &str = "SSL_CERT_FILE";
    let scratch = Scratch::new();
    if rerun(test, Some((ROOTS, &scratch.path().join("ca.pem"))), None) {
        return;
    }
    drop(scratch);
    let roots = std::env::var_os(ROOTS).unwrap();
    let dir = Path::new(&roots).parent().unwrap().to_owned();
    let served = dir.clone();
    let server = Box::new(move || {
        let scratch = Scratch::new();
        for file in ["server.pem", "server.key"] {
            std::fs::copy(served.join(file), scratch.path().join(file)).unwrap();
        }
        let nginx = Nginx::https(scratch, LOCATIONS);
        let address = nginx.https;
        (nginx, address)
    });
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(body(dir, server));
}

async fn outcome(target: SocketAddr, http: HttpSpec) -> Result<(), Failure> {
    probe(&spec(target, CheckKind::Http(http))).await
}

async fn check(target: SocketAddr, http: HttpSpec, expected: &str) {
    for check in both_ways(spec(target, CheckKind::Http(http))) {
        let words = match probe(&check).await {
            Ok(()) => "ok".into(),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(words, expected, "{check:?}");
    }
}
