//! The UDP probe, against NSD and against sockets that do what a test says.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use health::{Beginning, CheckKind, CheckSpec, Failure, Route, UdpSpec};
use tokio::net::UdpSocket;

use crate::nsd::Nsd;
use crate::socket::free_address;
use crate::{probe, spec};

#[tokio::test]
async fn a_real_server_is_asked_in_its_own_protocol() {
    let nsd = Nsd::start();
    // SOA of example.org, as DNS has it.
    let question = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x06\0\x01";
    // The same id, an authoritative answer, any flags, NOERROR or not.
    let beginning = vec![Some(0x12), Some(0x34), Some(0x84), None];
    let udp = UdpSpec {
        send: question.to_vec(),
        expect: Some(Beginning(beginning)),
    };
    assert_eq!(probe(&udp_check(nsd.address, udp.clone())).await, Ok(()));
    let other = UdpSpec {
        expect: Some(Beginning(vec![Some(0x12), Some(0x35)])),
        ..udp
    };
    let failure = probe(&udp_check(nsd.address, other)).await.unwrap_err();
    assert_eq!(failure.reason(), "answer", "{failure}");
}

#[tokio::test]
async fn the_reply_must_begin_with_what_is_expected() {
    let (_task, address) = serve(Some(b"pong 1".as_slice())).await;
    assert_eq!(probe(&asking(address, "ping", Some("pong"))).await, Ok(()));
    assert_eq!(
        probe(&asking(address, "ping", None)).await,
        Ok(()),
        "any reply"
    );
    let failure = probe(&asking(address, "ping", Some("ready")))
        .await
        .unwrap_err();
    let words = r#"answers "pong 1", wanted "ready" at its beginning"#;
    assert_eq!(failure, Failure::Answer(words.to_owned()));
}

#[tokio::test]
async fn an_empty_reply_is_one_and_an_expected_text_is_not_in_it() {
    let (_task, address) = serve(Some(b"".as_slice())).await;
    assert_eq!(probe(&asking(address, "ping", None)).await, Ok(()));
    let failure = probe(&asking(address, "ping", Some("x")))
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("an empty datagram"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_server_on_ipv6_is_asked_and_refuses() {
    let socket = UdpSocket::bind("[::1]:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = tokio::spawn(answer(socket, Some(b"pong".as_slice())));
    assert_eq!(probe(&asking(address, "ping", Some("pong"))).await, Ok(()));
    server.abort();
    let _aborted = server.await;
    let outcome = probe(&asking(address, "ping", None)).await;
    assert_eq!(outcome, Err(Failure::Refused));
}

#[tokio::test]
async fn where_nobody_listens_the_failure_comes_at_once_whatever_is_expected() {
    for (send, expect) in [("", None), ("ping", None), ("ping", Some("pong"))] {
        let begin = Instant::now();
        let outcome = probe(&asking(free_address(), send, expect)).await;
        assert_eq!(outcome, Err(Failure::Refused));
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{:?}",
            begin.elapsed()
        );
    }
}

#[tokio::test]
async fn silence_passes_only_where_nothing_is_asked() {
    let (_task, address) = serve(None).await;
    let hasty = |check: CheckSpec| CheckSpec {
        timeout: Duration::from_millis(200),
        ..check
    };
    let begin = Instant::now();
    assert_eq!(probe(&hasty(asking(address, "", None))).await, Ok(()));
    assert!(begin.elapsed() >= Duration::from_millis(200));
    for (send, expect) in [("ping", None), ("", Some("pong"))] {
        let failure = probe(&hasty(asking(address, send, expect)))
            .await
            .unwrap_err();
        let words = "no answer within 200ms (asked, and nothing came)";
        assert_eq!(failure.to_string(), words);
    }
}

#[tokio::test]
async fn the_datagram_takes_the_route_of_the_check() {
    let socket = UdpSocket::bind(free_address()).await.unwrap();
    let address = socket.local_addr().unwrap();
    let source = free_address().ip();
    let check = CheckSpec {
        route: Route {
            source: Some(source),
            interface: Some("lo".to_owned()),
            mark: NonZeroU32::new(7),
            ..Route::default()
        },
        ..asking(address, "ping", Some("pong"))
    };
    let (outcome, from) = tokio::join!(probe(&check), async {
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"ping");
        socket.send_to(b"pong", from).await.unwrap();
        from
    });
    assert_eq!(outcome, Ok(()));
    assert_eq!(from.ip(), source);
}

#[tokio::test]
async fn a_route_that_is_not_there_is_not_held_against_the_target() {
    let routes = [
        Route {
            interface: Some("vipd-none".to_owned()),
            ..Route::default()
        },
        Route {
            source: Some("192.0.2.99".parse().unwrap()),
            ..Route::default()
        },
    ];
    for route in routes {
        let check = CheckSpec {
            route,
            ..asking(free_address(), "ping", None)
        };
        let failure = probe(&check).await.unwrap_err();
        assert!(!failure.counts(), "{failure}");
    }
}

fn udp_check(target: SocketAddr, udp: UdpSpec) -> CheckSpec {
    spec(target, CheckKind::Udp(udp))
}

fn asking(target: SocketAddr, send: &str, expect: Option<&str>) -> CheckSpec {
    let expect = expect.map(|text| Beginning(text.bytes().map(Some).collect()));
    udp_check(
        target,
        UdpSpec {
            send: send.as_bytes().to_vec(),
            expect,
        },
    )
}

/// A server that answers every datagram so, or never.
async fn serve(reply: Option<&'static [u8]>) -> (tokio::task::JoinHandle<()>, SocketAddr) {
    let socket = UdpSocket::bind(free_address()).await.unwrap();
    let address = socket.local_addr().unwrap();
    (tokio::spawn(answer(socket, reply)), address)
}

async fn answer(socket: UdpSocket, reply: Option<&'static [u8]>) {
    let mut buffer = [0; 2048];
    loop {
        let (_length, from) = socket.recv_from(&mut buffer).await.unwrap();
        if let Some(reply) = reply {
            socket.send_to(reply, from).await.unwrap();
        }
    }
}
