//! The ping probe, against the kernel of a neighbour and what routers say.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use health::{CheckKind, CheckSpec, Failure, Route};

use crate::peer::{Peer, run, with_peer};
use crate::{probe, spec};

const NEIGHBOUR: [&str; 2] = ["10.99.0.2", "2001:db8:99::2"];

#[test]
fn a_host_that_answers_passes_and_one_that_does_not_is_a_timeout() {
    with_peer(async |peer| {
        for address in ["127.0.0.1", "::1"].into_iter().chain(NEIGHBOUR) {
            answers(&ping(address)).await;
        }
        ignore_echo(peer, true);
        for address in NEIGHBOUR {
            let hasty = CheckSpec {
                timeout: Duration::from_millis(200),
                ..ping(address)
            };
            let failure = probe(&hasty).await.unwrap_err();
            let words = "no answer within 200ms (asked, and nothing came)";
            assert_eq!(failure.to_string(), words);
        }
        ignore_echo(peer, false);
        for address in NEIGHBOUR {
            answers(&ping(address)).await;
        }
    });
}

#[test]
fn what_a_router_says_is_a_failure_at_once_with_its_words() {
    with_peer(async |peer| {
        for address in NEIGHBOUR {
            answers(&ping(address)).await;
        }
        peer.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        peer.run("ip route add unreachable 10.98.0.0/16");
        peer.run("ip route add unreachable 2001:db8:98::/64");
        run("ip route add 10.98.0.0/16 via 10.99.0.2");
        run("ip route add 2001:db8:98::/64 via 2001:db8:99::2");
        for address in ["10.98.0.1", "2001:db8:98::1"] {
            let patient = CheckSpec {
                timeout: Duration::from_secs(30),
                ..ping(address)
            };
            let begin = Instant::now();
            let failure = probe(&patient).await.unwrap_err();
            assert_eq!(failure.reason(), "unreachable", "{failure}");
            assert!(begin.elapsed() < Duration::from_secs(20), "{failure}");
        }
    });
}

#[test]
fn a_neighbour_that_is_not_there_and_an_address_without_a_route_are_unreachable() {
    with_peer(async |_peer| {
        for (address, words) in [
            ("10.99.0.77", "host unreachable"),
            ("192.0.2.77", "network unreachable"),
            ("2001:db8:1::77", "network unreachable"),
        ] {
            // The kernel asks three times for a neighbour, a second apart.
            let patient = CheckSpec {
                timeout: Duration::from_secs(30),
                ..ping(address)
            };
            let failure = probe(&patient).await.unwrap_err();
            assert_eq!(failure, Failure::Unreachable(words.to_owned()), "{address}");
        }
    });
}

#[test]
fn a_ping_takes_the_route_of_the_check() {
    with_peer(async |peer| {
        run("ip address add 10.99.0.9/24 dev e0");
        // Only who asks from there is answered.
        peer.run("ip route add blackhole 10.99.0.1");
        answers(&CheckSpec {
            route: Route {
                source: Some("10.99.0.9".parse().unwrap()),
                interface: Some("e0".to_owned()),
                ..Route::default()
            },
            ..ping("10.99.0.2")
        })
        .await;
        let elsewhere = CheckSpec {
            route: Route {
                interface: Some("nowhere".to_owned()),
                ..Route::default()
            },
            ..ping("10.99.0.2")
        };
        let failure = probe(&elsewhere).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the target was not probed: no interface nowhere"
        );
    });
}

/// For a moment after the link is up, IPv6 does not work yet.
async fn answers(check: &CheckSpec) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(failure) = probe(check).await {
        assert!(Instant::now() < deadline, "{check}: {failure}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ping(address: &str) -> CheckSpec {
    let address: IpAddr = address.parse().unwrap();
    CheckSpec {
        timeout: Duration::from_secs(2),
        ..spec(SocketAddr::new(address, 0), CheckKind::Ping)
    }
}

fn ignore_echo(peer: &Peer, ignore: bool) {
    let ignore = u8::from(ignore);
    peer.run(&format!(
        "sysctl -qw net.ipv4.icmp_echo_ignore_all={ignore} net.ipv6.icmp.echo_ignore_all={ignore}"
    ));
}
