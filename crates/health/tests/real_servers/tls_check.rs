//! The type `tls`: certificates of every kind, with nginx and `openssl s_server` to show them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use health::{CheckKind, CheckSpec, Failure, Identity, Phase, Probe, TlsSpec};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Validity, authority, issue};
use crate::nginx::Nginx;
use crate::scratch::Scratch;
use crate::socket::{
    black_hole, free_address, free_address_v6, listen, serve, serve_pieces, serve_silence,
};
use crate::{get, probe, spec, tls_policy};

#[tokio::test]
async fn a_certificate_is_verified_with_the_checks_own_roots_over_ipv4_and_ipv6() {
    let files = Files::new();
    issue(files.dir(), "server", "DNS:web.test,IP:::1", Validity::Now);
    let server = SServer::start(&files, "server", free_address(), &[]);
    check(server.address, files.policy("web.test"), "ok").await;
    check(
        server.address,
        files.policy("other.test"),
        "certificate is not for other.test but for web.test, ::1",
    )
    .await;
    let any = tls_policy(false, Some("other.test"));
    check(server.address, any, "ok").await;
    let unknown = tls_policy(true, Some("web.test"));
    let failure = outcome(server.address, unknown).await.unwrap_err();
    assert_eq!(failure.reason(), "tls", "{failure}");

    let server = SServer::start(&files, "server", free_address_v6(), &[]);
    let by_address = TlsSpec {
        sni: None,
        ..files.policy("")
    };
    check(server.address, by_address, "ok").await;
}

#[tokio::test]
async fn the_end_of_a_certificate_is_a_warning_before_it_is_a_failure() {
    let files = Files::new();
    issue(files.dir(), "server", "DNS:web.test", Validity::Now);
    issue(files.dir(), "old", "DNS:web.test", Validity::Past);
    let within = |days: u64, policy| TlsSpec {
        expires_within: Duration::from_secs(days * 86_400),
        ..policy
    };
    let server = SServer::start(&files, "server", free_address(), &[]);
    for policy in [files.policy("web.test"), tls_policy(false, None)] {
        let warning = warning(server.address, within(14, policy.clone())).await;
        assert_ends_soon(warning.as_deref());
        let none = self::warning(server.address, within(1, policy.clone())).await;
        assert_eq!(none, None);
        assert_eq!(self::warning(server.address, within(0, policy)).await, None);
    }
    let server = SServer::start(&files, "old", free_address(), &[]);
    check(
        server.address,
        files.policy("web.test"),
        "certificate has expired",
    )
    .await;
    let unverified = within(14, tls_policy(false, None));
    let words = warning(server.address, unverified).await.unwrap();
    assert!(
        words.starts_with("certificate expired ") && words.ends_with(" days ago"),
        "{words}"
    );
}

#[tokio::test]
async fn an_http_check_warns_of_its_certificates_end_too() {
    let files = Files::new();
    issue(files.dir(), "server", "DNS:web.test", Validity::Now);
    let scratch = files.copy(&["server.pem", "server.key"]);
    let nginx = Nginx::https(scratch, "location / { return 204; }");
    for version in [health::HttpVersion::Http1, health::HttpVersion::Http2] {
        let tls = TlsSpec {
            expires_within: Duration::from_secs(14 * 86_400),
            ..files.policy("web.test")
        };
        let http = health::HttpSpec {
            version,
            tls: Some(tls),
            ..get("/")
        };
        let check = spec(nginx.https, CheckKind::Http(http));
        let passed = Probe::new(&check).unwrap().run().await.unwrap();
        assert_ends_soon(passed.warning.as_deref());
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_takes_only_one_of_its_authority() {
    let files = Files::new();
    issue(files.dir(), "server", "DNS:web.test", Validity::Now);
    issue(files.dir(), "me", "DNS:director.test", Validity::Now);
    let other = Files::new();
    issue(other.dir(), "me", "DNS:director.test", Validity::Now);
    let identified = |by: &Files| TlsSpec {
        identity: Some(by.identity("me")),
        ..files.policy("web.test")
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let ca = files.dir().join("ca.pem");
        let wants = ["-Verify", "1", "-verify_return_error", "-CAfile"];
        let arguments = [&wants[..], &[ca.to_str().unwrap(), version]].concat();
        let server = SServer::start(&files, "server", free_address(), &arguments);
        check(server.address, identified(&files), "ok").await;
        let failure = outcome(server.address, files.policy("web.test")).await;
        assert_refused(version, failure);
        assert_refused(version, outcome(server.address, identified(&other)).await);
    }

    // The same with an HTTP check.
    let scratch = files.copy(&["server.pem", "server.key", "ca.pem"]);
    let verified = "ssl_client_certificate ca.pem; ssl_verify_client on;
                    location / { return 200 $ssl_client_s_dn; }";
    let nginx = Nginx::https(scratch, verified);
    let http = |tls| {
        CheckKind::Http(health::HttpSpec {
            body_contains: Some("CN=me".into()),
            tls: Some(tls),
            ..get("/")
        })
    };
    let known = probe(&spec(nginx.https, http(identified(&files)))).await;
    assert_eq!(known, Ok(()));
    let unknown = probe(&spec(nginx.https, http(files.policy("web.test")))).await;
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "status 400, wanted 200-299"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let files = Files::new();
    issue(files.dir(), "me", "DNS:director.test", Validity::Now);
    issue(files.dir(), "other", "DNS:director.test", Validity::Now);
    let dir = files.dir().display();
    std::fs::write(files.dir().join("empty.pem"), "nothing\n").unwrap();
    let mixed = |certificate: &str, key: &str| TlsSpec {
        identity: Some(Identity {
            certificate: files.dir().join(certificate),
            key: files.dir().join(key),
        }),
        ..tls_policy(false, None)
    };
    let ca = |file: &str| TlsSpec {
        ca: Some(files.dir().join(file)),
        ..tls_policy(true, None)
    };
    for (policy, words) in [
        (
            ca("missing.pem"),
            format!("ca {dir}/missing.pem: No such file or directory (os error 2)"),
        ),
        (
            ca("empty.pem"),
            format!("ca {dir}/empty.pem: there is no certificate in it"),
        ),
        (
            mixed("empty.pem", "me.key"),
            format!("certificate {dir}/empty.pem: there is no certificate in it"),
        ),
        (
            mixed("me.pem", "me.pem"),
            format!("key {dir}/me.pem: there is no private key in it"),
        ),
    ] {
        let words = format!("the check cannot be made: {words}");
        check(free_address(), policy, &words).await;
    }
    let failure = outcome(free_address(), mixed("me.pem", "other.key")).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.reason(), "invalid");
    let pair = format!("certificate {dir}/me.pem with key {dir}/other.key: ");
    assert!(failure.to_string().contains(&pair), "{failure}");
}

#[tokio::test]
async fn a_server_that_is_no_tls_server_is_told_what_it_does() {
    let any = || tls_policy(false, None);
    check(free_address(), any(), "connection refused").await;
    let garbage = serve_pieces(vec![b"220 mail.test\r\n".to_vec()], Duration::ZERO).await;
    check(garbage, any(), "the server does not speak TLS on this port").await;
    let closes = serve(|stream, _| async move { drop(stream) }).await;
    check(
        closes,
        any(),
        "the server closed the connection in the TLS handshake",
    )
    .await;
    let resets = serve(|stream, _| async move {
        stream.set_zero_linger().unwrap();
        drop(stream);
    })
    .await;
    check(resets, any(), "connection reset by the peer").await;
}

#[tokio::test]
async fn a_server_that_hangs_is_a_timeout_that_says_where() {
    let (hole, _open) = black_hole().await;
    let failure = hasty(hole).await;
    assert_eq!(
        failure.to_string(),
        "no answer within 400ms (still connecting)"
    );
    // The head of a record (a handshake of 1024 bytes), then its bytes one by one.
    let head = [0x16, 3, 3, 4, 0].into_iter().chain([2; 1000]);
    let pieces = head.map(|byte| vec![byte]).collect();
    let drips = serve_pieces(pieces, Duration::from_millis(20)).await;
    for address in [serve_silence().await, drips] {
        let failure = hasty(address).await;
        assert!(
            matches!(
                failure,
                Failure::Timeout {
                    phase: Phase::Handshake { .. },
                    ..
                }
            ),
            "{failure}"
        );
        assert!(
            failure.to_string().ends_with(" ms, in the TLS handshake)"),
            "{failure}"
        );
    }
}

/// The certificates here last two days, less the time since they were made.
pub(crate) fn assert_ends_soon(warning: Option<&str>) {
    let expected = [
        "certificate expires in 2 days",
        "certificate expires in 1 day",
    ];
    assert!(
        warning.is_some_and(|warning| expected.contains(&warning)),
        "{warning:?}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_after_the_handshake_has_accepted_it() {
    let files = Files::new();
    issue(files.dir(), "server", "DNS:web.test", Validity::Now);
    let acceptor = acceptor(&files);
    for resets in [false, true] {
        let (listener, address) = listen().await;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            if resets {
                stream.get_ref().0.set_zero_linger().unwrap();
            } else {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        });
        check(address, files.policy("web.test"), "ok").await;
    }
}

fn acceptor(files: &Files) -> TlsAcceptor {
    let file = |name| std::fs::read(files.dir().join(name)).unwrap();
    let certificate = CertificateDer::from_pem_slice(&file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

fn assert_refused(version: &str, outcome: Result<(), Failure>) {
    let failure = outcome.expect_err(version);
    assert_eq!(failure.reason(), "tls", "{version}: {failure}");
    let words = failure.to_string();
    assert!(
        words.starts_with("the server broke the TLS handshake off: "),
        "{version}: {words}"
    );
}

async fn outcome(target: SocketAddr, tls: TlsSpec) -> Result<(), Failure> {
    probe(&spec(target, CheckKind::Tls(tls))).await
}

async fn check(target: SocketAddr, tls: TlsSpec, expected: &str) {
    let words = match outcome(target, tls.clone()).await {
        Ok(()) => "ok".into(),
        Err(failure) => failure.to_string(),
    };
    assert_eq!(words, expected, "{tls:?}");
}

async fn warning(target: SocketAddr, tls: TlsSpec) -> Option<String> {
    let probe = Probe::new(&spec(target, CheckKind::Tls(tls))).unwrap();
    probe.run().await.unwrap().warning
}

async fn hasty(target: SocketAddr) -> Failure {
    let check = CheckSpec {
        timeout: Duration::from_millis(400),
        ..spec(target, CheckKind::Tls(tls_policy(false, None)))
    };
    probe(&check).await.unwrap_err()
}

/// An authority's directory.
struct Files(Scratch);

impl Files {
    fn new() -> Files {
        let scratch = Scratch::new();
        authority(scratch.path());
        Files(scratch)
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Trusts the authority, and no other.
    fn policy(&self, name: &str) -> TlsSpec {
        TlsSpec {
            ca: Some(self.dir().join("ca.pem")),
            ..tls_policy(true, Some(name))
        }
    }

    fn identity(&self, who: &str) -> Identity {
        Identity {
            certificate: self.dir().join(format!("{who}.pem")),
            key: self.dir().join(format!("{who}.key")),
        }
    }

    fn copy(&self, names: &[&str]) -> Scratch {
        let copy = Scratch::new();
        for name in names {
            std::fs::copy(self.dir().join(name), copy.path().join(name)).unwrap();
        }
        copy
    }
}

/// `openssl s_server`, as a child of the test.
struct SServer {
    child: Child,
    address: SocketAddr,
}

impl SServer {
    fn start(files: &Files, who: &str, address: SocketAddr, arguments: &[&str]) -> SServer {
        let mut child = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &address.to_string()])
            .args([
                "-cert",
                &format!("{who}.pem"),
                "-key",
                &format!("{who}.key"),
            ])
            .args(arguments)
            .current_dir(files.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need openssl");
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(address).is_err() {
            let gone = child.try_wait().unwrap();
            if gone.is_some() || Instant::now() > deadline {
                let _gone_already = child.kill();
                panic!("s_server does not serve: {gone:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        SServer { child, address }
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
