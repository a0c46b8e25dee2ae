//! The DNS probe, against NSD and against servers that misbehave.

use std::net::SocketAddr;
use std::time::Duration;

use health::{CheckKind, CheckSpec, DnsRecord, DnsSpec, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use crate::nsd::Nsd;
use crate::socket::{black_hole, free_address, listen};
use crate::{probe, spec};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn every_type_of_record_is_asked_for_and_compared() {
    let nsd = Nsd::start();
    for (record, name, expect) in [
        (
            DnsRecord::Soa,
            "example.org",
            "ns.example.org. admin.example.org. 7 3600 600 86400 60",
        ),
        (DnsRecord::Ns, "example.org.", "NS.example.org"),
        (DnsRecord::Mx, "example.org", "10 mail.example.org"),
        (DnsRecord::Txt, "example.org", "v=spf1 -all"),
        (DnsRecord::Caa, "example.org", "0 issue \"ca.example.net\""),
        (DnsRecord::A, "WWW.example.org", "192.0.2.2"),
        (DnsRecord::Aaaa, "www.example.org", "2001:db8::1"),
        (DnsRecord::Cname, "alias.example.org", "www.example.org."),
        (DnsRecord::A, "alias.example.org", "192.0.2.1"),
        (
            DnsRecord::Srv,
            "_sip._tcp.example.org",
            "5 10 5060 sip.example.org",
        ),
        (DnsRecord::Ptr, "ptr.example.org", "host.example.net"),
    ] {
        for tcp in [false, true] {
            let asked = ask(
                nsd.address,
                DnsSpec {
                    tcp,
                    ..dns(record, name, Some(expect))
                },
            )
            .await;
            assert_eq!(asked, Ok(()), "{record} {name}, tcp {tcp}");
        }
        assert_eq!(ask(nsd.address, dns(record, name, None)).await, Ok(()));
        let failure = ask(nsd.address, dns(record, name, Some("other")))
            .await
            .unwrap_err();
        assert_eq!(failure.reason(), "answer", "{failure}");
        let words = failure.to_string();
        assert!(
            words.starts_with("answers ") && words.ends_with(", wanted other"),
            "{words}"
        );
    }
}

#[tokio::test]
async fn what_the_server_says_instead_of_an_answer_is_in_the_words() {
    let nsd = Nsd::start();
    for (record, name, expect, words) in [
        (
            DnsRecord::A,
            "nobody.example.org",
            None,
            "the server answers NXDOMAIN",
        ),
        (DnsRecord::Soa, ".", None, "the server answers REFUSED"),
        (
            DnsRecord::Aaaa,
            "ns.example.org",
            None,
            "no answer of type AAAA",
        ),
        (
            DnsRecord::A,
            "ns.example.org",
            Some("10.0.0.2"),
            "answers 192.0.2.53, wanted 10.0.0.2",
        ),
    ] {
        for tcp in [false, true] {
            let failure = ask(
                nsd.address,
                DnsSpec {
                    tcp,
                    ..dns(record, name, expect)
                },
            )
            .await;
            assert_eq!(failure, Err(Failure::Answer(words.to_owned())), "tcp {tcp}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_truncated_is_asked_for_again_over_tcp() {
    let nsd = Nsd::start();
    let wanted = format!("9 {}", "x".repeat(200));
    let long = dns(DnsRecord::Txt, "long.example.org", Some(&wanted));
    assert_eq!(ask(nsd.address, long.clone()).await, Ok(()));

    // The same where nobody answers over TCP.
    let address = serve_udp(|request| Some(truncated(request))).await;
    assert_eq!(ask(address, long).await, Err(Failure::Refused));
}

#[tokio::test]
async fn a_server_on_ipv6_is_asked() {
    let port = free_address().port();
    let nsd = Nsd::at(SocketAddr::new("::1".parse().unwrap(), port));
    for tcp in [false, true] {
        let www = DnsSpec {
            tcp,
            ..dns(DnsRecord::A, "www.example.org", Some("192.0.2.1"))
        };
        assert_eq!(ask(nsd.address, www).await, Ok(()));
    }
}

#[tokio::test]
async fn where_nobody_listens_it_is_refused_at_once() {
    for tcp in [false, true] {
        let root = DnsSpec {
            tcp,
            ..dns(DnsRecord::Soa, ".", None)
        };
        assert_eq!(ask(free_address(), root).await, Err(Failure::Refused));
    }
}

#[tokio::test]
async fn silence_is_a_timeout_that_says_how_far_it_came() {
    let silent = serve_udp(|_| None).await;
    let (_listener, mute) = listen().await;
    let (hole, _open) = black_hole().await;
    for (address, tcp, words) in [
        (
            silent,
            false,
            "no answer within 200ms (asked, and nothing came)",
        ),
        (hole, true, "no answer within 200ms (still connecting)"),
    ] {
        let check = hasty(
            address,
            DnsSpec {
                tcp,
                ..dns(DnsRecord::Soa, ".", None)
            },
        );
        let failure = probe(&check).await.unwrap_err();
        assert_eq!(failure.to_string(), words);
    }
    let check = hasty(
        mute,
        DnsSpec {
            tcp: true,
            ..dns(DnsRecord::Soa, ".", None)
        },
    );
    let words = probe(&check).await.unwrap_err().to_string();
    assert!(words.contains("waiting for the response"), "{words}");
}

#[tokio::test]
async fn what_is_no_answer_to_the_question_is_left_aside() {
    type Forge = fn(&[u8]) -> Vec<u8>;
    let forgeries: [Forge; 5] = [
        |request| {
            let mut other = good(request);
            other[0] ^= 1;
            other
        },
        |request| request.to_vec(),
        |request| {
            let mut other = good(request);
            other[13] ^= 1;
            other
        },
        |request| good(request)[..20].to_vec(),
        |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    for (position, forge) in forgeries.into_iter().enumerate() {
        let check = dns(DnsRecord::A, "www.example.org", Some("10.0.0.7"));
        let forged = serve_udp(move |request| Some(forge(request))).await;
        let words = probe(&hasty(forged, check.clone()))
            .await
            .unwrap_err()
            .to_string();
        let expected = "no answer within 200ms (asked, and a datagram came that is no answer)";
        assert_eq!(words, expected, "forgery {position}");

        // The good one after it is taken.
        let socket = UdpSocket::bind(free_address()).await.unwrap();
        let both = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let request = &buffer[..length];
            for reply in [forge(request), good(request)] {
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        assert_eq!(ask(both, check).await, Ok(()), "forgery {position}");
    }
}

#[tokio::test]
async fn over_tcp_what_is_no_answer_is_a_failure_at_once() {
    for (reply, reason) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "protocol"),
        (vec![0, 4, 1, 2, 3, 4], "protocol"),
        (vec![0, 40, 1, 2, 3, 4], "protocol"),
        (Vec::new(), "protocol"),
    ] {
        let (listener, address) = listen().await;
        let sent = reply.clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _length = stream.read(&mut request).await.unwrap();
            stream.write_all(&sent).await.unwrap();
        });
        let check = DnsSpec {
            tcp: true,
            ..dns(DnsRecord::Soa, ".", None)
        };
        let failure = ask(address, check).await.unwrap_err();
        assert_eq!(failure.reason(), reason, "{reply:?}: {failure}");
    }
}

#[tokio::test]
async fn a_slow_answer_within_the_timeout_passes() {
    let socket = UdpSocket::bind(free_address()).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        socket
            .send_to(&good(&buffer[..length]), from)
            .await
            .unwrap();
    });
    let check = dns(DnsRecord::A, "www.example.org", Some("10.0.0.7"));
    assert_eq!(ask(address, check).await, Ok(()));
}

fn dns(record: DnsRecord, name: &str, expect: Option<&str>) -> DnsSpec {
    DnsSpec {
        name: name.to_owned(),
        record,
        expect: expect.map(str::to_owned),
        tcp: false,
    }
}

async fn ask(target: SocketAddr, dns: DnsSpec) -> Result<(), Failure> {
    let check = CheckSpec {
        timeout: PATIENCE,
        ..spec(target, CheckKind::Dns(dns))
    };
    probe(&check).await
}

fn hasty(target: SocketAddr, dns: DnsSpec) -> CheckSpec {
    CheckSpec {
        timeout: Duration::from_millis(200),
        ..spec(target, CheckKind::Dns(dns))
    }
}

/// Answers each datagram as `answer` says.
async fn serve_udp(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind(free_address()).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(reply) = answer(&buffer[..length]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    address
}

/// The question as an answer, with the address 10.0.0.7.
fn good(request: &[u8]) -> Vec<u8> {
    let mut answer = request.to_vec();
    // RFC 1035 §4.1: an answer, and one record of it.
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 7]);
    answer
}

fn truncated(request: &[u8]) -> Vec<u8> {
    let mut answer = request.to_vec();
    answer[2] |= 0x82;
    answer
}
