//! What an HTTP check demands of the body, in both versions of HTTP, and what it says where the
//! server speaks another one.

use std::net::SocketAddr;
use std::time::Duration;

use health::{CheckKind, CheckSpec, Failure, HttpSpec, HttpVersion, Pattern, Phase, Probe};

use crate::certificates::self_signed;
use crate::nginx::Nginx;
use crate::scratch::Scratch;
use crate::socket::{free_address, serve, serve_pieces, serve_silence};
use crate::{get, get_tls, probe, spec, tls_policy};

const LOCATIONS: &str = r#"
    location = /health { return 200 "all is well\n"; }
    location = /broken { return 503; }
    location = /moved { return 302 /health; }
    location = /seen { return 200 "$server_protocol $http_host $http_user_agent $http_x_token"; }
"#;

/// Of "all is well\n", by sha256sum.
const WELL: &str = "d40b628baf7f757149f5b6d6d6aca317d478ef3a29433064d21cfdd06fb33b8d";

#[tokio::test]
async fn a_body_is_matched_and_summed_in_both_versions() {
    let nginx = nginx();
    for (target, http) in every_way(&nginx, "/health") {
        let matching = |pattern: &str| HttpSpec {
            body_regex: Some(Pattern::new(pattern).unwrap()),
            ..http.clone()
        };
        check(target, matching(r"^all (is|was) \w+\n$"), "ok").await;
        check(
            target,
            matching("^well"),
            "body (12 bytes) does not match /^well/",
        )
        .await;
        let summed = |sum| HttpSpec {
            body_sha256: Some(sum),
            ..http.clone()
        };
        check(target, summed(sum(WELL)), "ok").await;
        let other = format!(
            "body (12 bytes) has the SHA-256 {WELL}, wanted {}",
            "00".repeat(32)
        );
        check(target, summed([0; 32]), &other).await;
        let all = HttpSpec {
            body_contains: Some("is".into()),
            body_regex: Some(Pattern::new("^all").unwrap()),
            ..summed(sum(WELL))
        };
        check(target, all.clone(), "ok").await;
        let one_wrong = HttpSpec {
            body_contains: Some("ill".into()),
            ..all
        };
        let words = r#"body (12 bytes) does not contain "ill""#;
        check(target, one_wrong, words).await;
    }
}

#[tokio::test]
async fn status_redirect_and_head_are_judged_alike_in_both_versions() {
    let nginx = nginx();
    for (path, words) in [
        ("/health", "ok"),
        ("/broken", "status 503, wanted 200-299"),
        ("/moved", "status 302, wanted 200-299"),
        ("/missing", "status 404, wanted 200-299"),
    ] {
        for (target, http) in every_way(&nginx, path) {
            check(target, http.clone(), words).await;
            let head = HttpSpec {
                method: "HEAD".into(),
                ..http
            };
            check(target, head, words).await;
        }
    }
}

#[tokio::test]
async fn the_server_sees_the_version_and_the_same_headers() {
    let nginx = nginx();
    for (target, http) in every_way(&nginx, "/seen") {
        let version = match http.version {
            HttpVersion::Http1 => "HTTP/1.1",
            HttpVersion::Http2 => "HTTP/2.0",
        };
        let sees = |host: Option<&str>, seen: String| HttpSpec {
            host: host.map(Into::into),
            headers: vec![("X-Token".into(), "t".into())],
            body_contains: Some(seen),
            ..http.clone()
        };
        let agent = concat!("vipd/", env!("CARGO_PKG_VERSION"));
        let own = sees(None, format!("{version} {target} {agent} t"));
        check(target, own, "ok").await;
        let named = "web.test:8080";
        let named = sees(Some(named), format!("{version} {named} {agent} t"));
        check(target, named, "ok").await;
    }
}

#[tokio::test]
async fn a_body_beyond_one_mebibyte_has_no_sum_and_is_matched_up_to_there() {
    const MIB: usize = 1 << 20;
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(answer.len() + 2 * MIB, b'.');
    let address = serve_pieces(vec![answer], Duration::ZERO).await;
    let summed = HttpSpec {
        body_sha256: Some([0; 32]),
        ..get("/")
    };
    let words = format!(
        "the body is longer than {MIB} bytes, and more are not read for its SHA-256, wanted {}",
        "00".repeat(32)
    );
    check(address, summed, &words).await;
    let matching = |pattern: &str| HttpSpec {
        body_regex: Some(Pattern::new(pattern).unwrap()),
        ..get("/")
    };
    check(address, matching(r"^\.+"), "ok").await;
    let words =
        format!("the first {MIB} bytes of the body do not match /x/, and more are not read");
    check(address, matching("x"), &words).await;
}

#[tokio::test]
async fn a_server_that_does_not_speak_http_2_is_told_so() {
    let two = |http| HttpSpec {
        version: HttpVersion::Http2,
        ..http
    };
    let nginx = nginx();
    let failure = outcome(nginx.http, two(get("/"))).await.unwrap_err();
    assert_eq!(failure.reason(), "protocol", "{failure}");
    assert!(
        failure
            .to_string()
            .starts_with("not a valid answer: HTTP/2: "),
        "{failure}"
    );
    let garbage = serve_pieces(vec![b"hello\r\n".to_vec()], Duration::from_secs(1)).await;
    let failure = outcome(garbage, two(get("/"))).await.unwrap_err();
    assert_eq!(failure.reason(), "protocol", "{failure}");
    check(free_address(), two(get("/")), "connection refused").await;
    let resets = serve(|stream, _| async move {
        stream.set_zero_linger().unwrap();
        drop(stream);
    })
    .await;
    check(resets, two(get("/")), "connection reset by the peer").await;
    let silent = CheckSpec {
        timeout: Duration::from_millis(200),
        ..spec(serve_silence().await, CheckKind::Http(two(get("/"))))
    };
    let failure = probe(&silent).await.unwrap_err();
    assert!(
        matches!(
            failure,
            Failure::Timeout {
                phase: Phase::Waiting { .. },
                ..
            }
        ),
        "{failure}"
    );
}

#[tokio::test]
async fn a_traced_check_tells_how_long_each_part_took() {
    let nginx = nginx();
    let reads = |http| HttpSpec {
        body_contains: Some("well".into()),
        ..http
    };
    for (target, http) in every_way(&nginx, "/health") {
        let tls = http.tls.is_some();
        let check = spec(target, CheckKind::Http(reads(http)));
        let (steps, outcome) = Probe::trace(&check).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        let expected: &[_] = if tls {
            &["connect", "TLS", "first byte", "body"]
        } else {
            &["connect", "first byte", "body"]
        };
        assert_eq!(names, expected);
    }
    let slow = spec(serve_silence().await, CheckKind::Http(get("/")));
    let slow = CheckSpec {
        timeout: Duration::from_millis(200),
        ..slow
    };
    let (steps, outcome) = Probe::trace(&slow).await;
    assert_eq!(outcome.unwrap_err().reason(), "timeout");
    let last = steps.last().unwrap();
    assert_eq!(last.name, "first byte");
    assert!(last.took >= Duration::from_millis(100), "{steps:?}");
    let nobody = spec(free_address(), CheckKind::Tcp);
    let (steps, outcome) = Probe::trace(&nobody).await;
    assert_eq!(outcome.unwrap_err(), Failure::Refused);
    assert_eq!(steps.last().unwrap().name, "connect");
}

fn nginx() -> Nginx {
    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:FALSE");
    Nginx::https(scratch, LOCATIONS)
}

/// The request in both versions, with TLS and without.
fn every_way(nginx: &Nginx, path: &str) -> [(SocketAddr, HttpSpec); 4] {
    let two = |http| HttpSpec {
        version: HttpVersion::Http2,
        ..http
    };
    let tls = || HttpSpec {
        tls: Some(tls_policy(false, None)),
        ..get_tls(path, false, None)
    };
    [
        (nginx.http, get(path)),
        (nginx.h2c, two(get(path))),
        (nginx.https, tls()),
        (nginx.https, two(tls())),
    ]
}

fn sum(text: &str) -> [u8; 32] {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    std::array::from_fn(|i| byte(2 * i))
}

async fn outcome(target: SocketAddr, http: HttpSpec) -> Result<(), Failure> {
    probe(&spec(target, CheckKind::Http(http))).await
}

async fn check(target: SocketAddr, http: HttpSpec, expected: &str) {
    let words = match outcome(target, http.clone()).await {
        Ok(()) => "ok".into(),
        Err(failure) => failure.to_string(),
    };
    assert_eq!(words, expected, "{target} {http:?}");
}
