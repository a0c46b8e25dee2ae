//! The gRPC probe: against tonic's server with its health service, behind nginx for TLS, and against
//! servers that speak something else.

use std::net::SocketAddr;
use std::time::Duration;

use health::{CheckKind, CheckSpec, Failure, GrpcSpec, Phase, Probe};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::health_reporter;

use crate::certificates::self_signed;
use crate::nginx::Nginx;
use crate::scratch::Scratch;
use crate::socket::{black_hole, free_address, listen, serve, serve_pieces, serve_silence};
use crate::{probe, spec, tls_policy};

#[tokio::test]
async fn a_server_is_believed_about_itself_and_its_services() {
    let address = healthy("127.0.0.1:0").await;
    check(address, of(""), "ok").await;
    check(address, of("shop.v1.Orders"), "ok").await;
    check(
        address,
        of("shop.v1.Bills"),
        r#"service "shop.v1.Bills" is NOT_SERVING"#,
    )
    .await;
    check(
        address,
        of("shop.v1.Stock"),
        r#"the server does not know how service "shop.v1.Stock" is (UNKNOWN)"#,
    )
    .await;
    check(
        address,
        of("nobody.v1"),
        r#"the server does not know service "nobody.v1" (NOT_FOUND)"#,
    )
    .await;
    let address = healthy("[::1]:0").await;
    check(address, of("shop.v1.Orders"), "ok").await;
}

#[tokio::test]
async fn a_server_without_the_health_service_says_so() {
    let address = run("127.0.0.1:0", Routes::default()).await;
    check(
        address,
        of(""),
        "the server has no health service (UNIMPLEMENTED)",
    )
    .await;
}

#[tokio::test]
async fn behind_tls_the_authority_and_the_certificate_are_the_checks() {
    let backend = healthy("127.0.0.1:0").await;
    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:FALSE");
    let nginx = Nginx::https(
        scratch,
        &format!(
            "location / {{ if ($host != shop.test) {{ return 421; }} grpc_pass grpc://{backend}; }}"
        ),
    );
    let over_tls = |host: &str, verify| GrpcSpec {
        host: Some(host.into()),
        tls: Some(tls_policy(verify, None)),
        ..of("shop.v1.Orders")
    };
    check(nginx.https, over_tls("shop.test", false), "ok").await;
    check(
        nginx.https,
        over_tls("other.test", false),
        "status 421, wanted 200",
    )
    .await;
    let failure = outcome(nginx.https, over_tls("shop.test", true)).await;
    assert_eq!(failure.unwrap_err().reason(), "tls");
    // Without TLS, through HTTP/2 with prior knowledge.
    let plain = GrpcSpec {
        host: Some("shop.test".into()),
        ..of("shop.v1.Orders")
    };
    check(nginx.h2c, plain, "ok").await;
}

#[tokio::test]
async fn what_is_not_grpc_is_told_what_it_is() {
    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:FALSE");
    let nginx = Nginx::https(scratch, "location / { return 200 hello; }");
    check(
        nginx.h2c,
        of(""),
        r#"not a valid answer: no gRPC, but content of type "text/plain""#,
    )
    .await;
    let failure = outcome(nginx.http, of("")).await.unwrap_err();
    assert_eq!(failure.reason(), "protocol", "{failure}");
    assert!(failure.to_string().contains("HTTP/2: "), "{failure}");
    // A server that knows TLS, but not HTTP/2.
    let tls = Some(tls_policy(false, None));
    let plain = GrpcSpec { tls, ..of("") };
    let failure = outcome(nginx.http, plain).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the server does not speak TLS on this port"
    );
    let garbage = vec![b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()];
    let address = serve_pieces(garbage, Duration::from_secs(1)).await;
    let failure = outcome(address, of("")).await.unwrap_err();
    assert_eq!(failure.reason(), "protocol", "{failure}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_health_services_is_told_what_it_lacks() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("huge"), vec![b'.'; 1 << 20]).unwrap();
    self_signed(scratch.path(), "CA:FALSE");
    let answers = "types { } default_type application/grpc;
        if ($host = busy) { return 463; }
        if ($host = hollow) { return 460; }
        if ($host = mute) { return 461; }
        if ($host = huge) { return 462; }
        error_page 460 = @hollow; error_page 461 = @mute; error_page 462 = @huge;
        error_page 463 = @busy;
        location @hollow { add_header grpc-status 0; return 200; }
        location @mute { return 200 hello; }
        location @busy { add_header grpc-status 14; add_header grpc-message busy; return 200; }
        location @huge { proxy_method GET; proxy_pass http://unix:FILES; }";
    // A POST gets no file of nginx's, so the huge one comes from a second server.
    let files = scratch.path().join("files.sock");
    let files = files.display().to_string();
    let second = format!(
        "}} server {{ listen unix:{files}; root .; types {{ }} default_type application/grpc;
         location / {{ try_files /huge =404; }}"
    );
    let answers = answers.replace("FILES", &files) + &second;
    let nginx = Nginx::https(scratch, &answers);
    for (host, words) in [
        (
            "hollow",
            "not a valid answer: gRPC: an answer without a message",
        ),
        ("mute", "not a valid answer: gRPC: no grpc-status"),
        ("busy", r#"the call failed with UNAVAILABLE: "busy""#),
        (
            "huge",
            "not a valid answer: gRPC: an answer of more than 65536 bytes",
        ),
    ] {
        let host = Some(host.to_owned());
        check(nginx.h2c, GrpcSpec { host, ..of("") }, words).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_goes_away_is_told_as_for_every_check() {
    check(free_address(), of(""), "connection refused").await;
    let reset = serve(|stream, _| async move {
        stream.set_zero_linger().unwrap();
        drop(stream);
    })
    .await;
    check(reset, of(""), "connection reset by the peer").await;
    let closes = serve(|stream, _| async move { drop(stream) }).await;
    let failure = outcome(closes, of("")).await.unwrap_err();
    assert!(
        ["protocol", "reset"].contains(&failure.reason()),
        "{failure}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_a_timeout_that_says_where() {
    let (hole, _open) = black_hole().await;
    let said = hasty(hole, of("")).await.to_string();
    assert_eq!(said, "no answer within 400ms (still connecting)");
    let failure = hasty(serve_silence().await, of("")).await;
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
    let tls = Some(tls_policy(false, None));
    let failure = hasty(serve_silence().await, GrpcSpec { tls, ..of("") }).await;
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
}

#[tokio::test]
async fn nothing_of_a_probe_that_timed_out_stays_connected() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Until the other end is gone.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    });
    assert_eq!(hasty(address, of("")).await.reason(), "timeout");
    let gone = tokio::time::timeout(Duration::from_secs(60), server).await;
    assert!(gone.unwrap().unwrap().is_err(), "with a RST");
}

fn of(service: &str) -> GrpcSpec {
    GrpcSpec {
        service: service.into(),
        host: None,
        tls: None,
    }
}

/// A server with a good, a bad and an unsure service.
async fn healthy(at: &str) -> SocketAddr {
    let (reporter, service) = health_reporter();
    for (name, status) in [
        ("shop.v1.Orders", ServingStatus::Serving),
        ("shop.v1.Bills", ServingStatus::NotServing),
        ("shop.v1.Stock", ServingStatus::Unknown),
    ] {
        reporter.set_service_status(name, status).await;
    }
    run(at, Routes::new(service)).await
}

async fn run(at: &str, routes: Routes) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(
        Server::builder()
            .add_routes(routes)
            .serve_with_incoming(incoming),
    );
    address
}

async fn outcome(target: SocketAddr, grpc: GrpcSpec) -> Result<(), Failure> {
    probe(&spec(target, CheckKind::Grpc(grpc))).await
}

async fn check(target: SocketAddr, grpc: GrpcSpec, expected: &str) {
    let words = match outcome(target, grpc).await {
        Ok(()) => "ok".into(),
        Err(failure) => failure.to_string(),
    };
    assert_eq!(words, expected);
}

async fn hasty(target: SocketAddr, grpc: GrpcSpec) -> Failure {
    let check = CheckSpec {
        timeout: Duration::from_millis(400),
        ..spec(target, CheckKind::Grpc(grpc))
    };
    Probe::new(&check).unwrap().run().await.unwrap_err()
}
