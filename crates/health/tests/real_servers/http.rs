//! The HTTP probe without TLS.

use std::time::Duration;

use health::{CheckKind, CheckSpec, Failure, HttpSpec, Phase};
use tokio::io::AsyncWriteExt;

use crate::nginx::Nginx;
use crate::socket::{black_hole, free_address, listen, serve, serve_pieces, serve_silence};
use crate::{both_ways, get, probe, spec};

const LOCATIONS: &str = r#"
    location = /health { return 200 "all is well\n"; }
    location = /broken { return 503; }
    location = /moved { return 302 /health; }
    location = /host { return 200 "host=$http_host;"; }
    location = /method { return 200 "method=$request_method;"; }
    location = /agent { return 200 "agent=$http_user_agent;token=$http_x_token;"; }
"#;

#[tokio::test]
async fn nginx_is_judged_by_its_status() {
    let nginx = Nginx::http(LOCATIONS);
    check(&nginx, get("/health"), "ok").await;
    check(&nginx, get("/health?with=query"), "ok").await;
    check(&nginx, get("/broken"), "status 503, wanted 200-299").await;
    check(&nginx, get("/missing"), "status 404, wanted 200-299").await;
    check(&nginx, get("/moved"), "status 302, wanted 200-299").await;
    let either = HttpSpec {
        status: vec![(200, 204), (503, 503)],
        ..get("/broken")
    };
    check(&nginx, either, "ok").await;
}

#[tokio::test]
async fn nginx_is_judged_by_its_body() {
    let nginx = Nginx::http(LOCATIONS);
    check(&nginx, containing("/health", "is well"), "ok").await;
    check(
        &nginx,
        containing("/health", "ill"),
        r#"body (12 bytes) does not contain "ill""#,
    )
    .await;
    check(&nginx, containing("/health", ""), "ok").await;
    // The status is judged first.
    check(
        &nginx,
        containing("/broken", "503"),
        "status 503, wanted 200-299",
    )
    .await;
}

#[tokio::test]
async fn the_request_carries_the_checks_method_host_and_headers() {
    let nginx = Nginx::http(LOCATIONS);
    let address = format!("host={};", nginx.http);
    check(&nginx, containing("/host", &address), "ok").await;
    let named = HttpSpec {
        host: Some("web.test:8080".into()),
        ..containing("/host", "host=web.test:8080;")
    };
    check(&nginx, named, "ok").await;
    let post = HttpSpec {
        method: "POST".into(),
        ..containing("/method", "method=POST;")
    };
    check(&nginx, post, "ok").await;
    let head = HttpSpec {
        method: "HEAD".into(),
        ..get("/health")
    };
    check(&nginx, head, "ok").await;
    let own = HttpSpec {
        headers: vec![
            ("User-Agent".into(), "probe/1".into()),
            ("X-Token".into(), "t".into()),
        ],
        ..containing("/agent", "agent=probe/1;token=t;")
    };
    check(&nginx, own, "ok").await;
}

#[tokio::test]
async fn the_request_is_plain_http_1_1_and_asks_the_server_to_close() {
    let (seen, mut request) = tokio::sync::mpsc::unbounded_channel();
    let address = serve(move |mut stream, request| {
        seen.send(request).unwrap();
        async move {
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    for check in both_ways(spec(address, CheckKind::Http(get("/a?b=c")))) {
        assert_eq!(probe(&check).await, Ok(()));
        assert_eq!(
            request.recv().await.unwrap(),
            format!(
                "GET /a?b=c HTTP/1.1\r\nhost: {address}\r\nuser-agent: vipd/{}\r\n\
                 connection: close\r\naccept: */*\r\n\r\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}

#[tokio::test]
async fn a_slow_application_behind_nginx_is_a_timeout_that_says_it_was_connected() {
    let silent = serve_silence().await;
    let nginx = Nginx::http(&format!("location / {{ proxy_pass http://{silent}; }}"));
    let failure = hasty(nginx.http, get("/")).await.unwrap_err();
    let Failure::Timeout {
        phase: Phase::Waiting { connected_after },
        ..
    } = failure
    else {
        panic!("{failure}");
    };
    assert!(connected_after < Duration::from_millis(200));
    let words = failure.to_string();
    assert!(
        words.starts_with("no answer within 200ms (connected after ")
            && words.ends_with(" ms, waiting for the response)"),
        "{words}"
    );
}

#[tokio::test]
async fn dropped_syns_are_a_timeout_while_connecting() {
    let (address, _open) = black_hole().await;
    check_hasty(
        address,
        get("/"),
        "no answer within 200ms (still connecting)",
    )
    .await;
}

#[tokio::test]
async fn a_body_that_drips_is_a_timeout_that_says_how_much_came() {
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc".to_vec();
    let address = serve_pieces(vec![begun], Duration::from_secs(2)).await;
    // The head alone is an answer; only a body check waits for more.
    assert_eq!(hasty(address, get("/")).await, Ok(()));
    check_hasty(
        address,
        containing("/", "x"),
        "no answer within 200ms (status 200 came, then 3 bytes of a body that goes on)",
    )
    .await;
}

#[tokio::test]
async fn a_head_that_drips_is_a_timeout() {
    let pieces = b"HTTP/1.1 200 OK\r\nx: ".iter().chain(&[b'y'; 1000]);
    let address = serve_pieces(
        pieces.map(|b| vec![*b]).collect(),
        Duration::from_millis(20),
    )
    .await;
    let failure = hasty(address, get("/")).await.unwrap_err();
    assert_eq!(failure.reason(), "timeout", "{failure}");
}

#[tokio::test]
async fn a_refused_port_is_refused() {
    check_hasty(free_address(), get("/"), "connection refused").await;
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_failure() {
    let pieces = vec![b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()];
    let address = serve_pieces(pieces, Duration::ZERO).await;
    check_hasty(
        address,
        get("/"),
        "not a valid answer: invalid HTTP version parsed",
    )
    .await;
}

#[tokio::test]
async fn a_server_that_closes_without_an_answer_is_a_protocol_failure() {
    let address = serve_pieces(Vec::new(), Duration::ZERO).await;
    check_hasty(
        address,
        get("/"),
        "not a valid answer: connection closed before message completed",
    )
    .await;
}

#[tokio::test]
async fn a_body_cut_short_is_a_protocol_failure() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
    let address = serve_pieces(vec![answer], Duration::ZERO).await;
    let failure = hasty(address, containing("/", "x")).await.unwrap_err();
    assert_eq!(failure.reason(), "protocol", "{failure}");
}

#[tokio::test]
async fn a_server_that_resets_the_connection_is_told_from_one_that_closes_it() {
    let address = serve(|stream, _| async move {
        stream.set_zero_linger().unwrap();
        drop(stream);
    })
    .await;
    check_hasty(address, get("/"), "connection reset by the peer").await;
}

#[tokio::test]
async fn the_wanted_text_is_found_across_pieces() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let pieces = vec![head, b"wor".to_vec(), b"ki".to_vec(), b"ng".to_vec()];
    let address = serve_pieces(pieces, Duration::from_millis(10)).await;
    let outcome = probe(&spec(address, CheckKind::Http(containing("/", "working")))).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test]
async fn a_body_is_searched_up_to_one_mebibyte_and_no_further() {
    const MIB: usize = 1 << 20;
    let body = |fill: usize, rest: &str| {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(answer.len() + fill, b'.');
        answer.extend_from_slice(rest.as_bytes());
        serve_pieces(vec![answer], Duration::ZERO)
    };
    let ok = "ok".to_string();
    let whole = format!("body ({MIB} bytes) does not contain \"ok\"");
    let cut =
        format!("the first {MIB} bytes of the body do not contain \"ok\", and more are not read");
    for (fill, rest, expected) in [
        (MIB - 2, "ok and more", &ok),
        (MIB - 1, "ok", &cut),
        (MIB, "", &whole),
        (5 * MIB, "", &cut),
    ] {
        let address = body(fill, rest).await;
        let check = spec(address, CheckKind::Http(containing("/", "ok")));
        assert_eq!(words(probe(&check).await), *expected, "{fill} {rest}");
    }
}

#[tokio::test]
async fn a_check_that_cannot_be_made_says_why() {
    let (_listener, address) = listen().await;
    let wrong = |http: HttpSpec, expected: &'static str| async move {
        check_hasty(address, http, expected).await;
    };
    wrong(
        get("health"),
        r#"the check cannot be made: path "health" does not begin with /"#,
    )
    .await;
    wrong(
        HttpSpec {
            method: "G E T".into(),
            ..get("/")
        },
        r#"the check cannot be made: "G E T" is not an HTTP method"#,
    )
    .await;
    wrong(
        HttpSpec {
            headers: vec![("x y".into(), String::new())],
            ..get("/")
        },
        r#"the check cannot be made: "x y" is not a header name"#,
    )
    .await;
    wrong(
        HttpSpec {
            host: Some("a\nb".into()),
            ..get("/")
        },
        r#"the check cannot be made: "a\nb" is not a header value"#,
    )
    .await;
}

fn containing(path: &str, text: &str) -> HttpSpec {
    HttpSpec {
        body_contains: Some(text.into()),
        ..get(path)
    }
}

async fn check(nginx: &Nginx, http: HttpSpec, expected: &str) {
    for check in both_ways(spec(nginx.http, CheckKind::Http(http))) {
        assert_eq!(words(probe(&check).await), expected, "{check:?}");
    }
}

fn hasty_spec(target: std::net::SocketAddr, http: HttpSpec) -> CheckSpec {
    CheckSpec {
        timeout: Duration::from_millis(200),
        ..spec(target, CheckKind::Http(http))
    }
}

/// A probe with a timeout of 200 ms.
async fn hasty(target: std::net::SocketAddr, http: HttpSpec) -> Result<(), Failure> {
    probe(&hasty_spec(target, http)).await
}

async fn check_hasty(target: std::net::SocketAddr, http: HttpSpec, expected: &str) {
    for check in both_ways(hasty_spec(target, http)) {
        assert_eq!(words(probe(&check).await), expected, "{check:?}");
    }
}

fn words(outcome: Result<(), Failure>) -> String {
    outcome.map_or_else(|failure| failure.to_string(), |()| "ok".into())
}
