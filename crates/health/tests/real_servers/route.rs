//! The route of a check: source address, interface, firewall mark.

use std::future::Future;
use std::num::NonZeroU32;
use std::time::Duration;

use health::{CheckKind, CheckSpec, Failure, GrpcSpec, HttpVersion, Route, SmtpSpec};

use crate::certificates::self_signed;
use crate::nginx::Nginx;
use crate::rerun::rerun_in_namespace;
use crate::scratch::Scratch;
use crate::socket::{listen, serve_silence};
use crate::{get, get_tls, probe, spec, tls_policy};

const LOCATIONS: &str = "location = /from { return 200 from=$remote_addr; }";

/// Only what carries mark 7 gets through.
const ONLY_MARKED: &str = r#"nft add table inet t
nft add chain inet t out "{ type filter hook output priority 0; }"
nft add rule inet t out "tcp flags == syn meta mark != 7 drop""#;

#[tokio::test]
async fn a_source_address_is_where_the_server_sees_the_check_come_from() {
    let (listener, address) = listen().await;
    let source = "127.9.8.7".parse().unwrap();
    let check = CheckSpec {
        route: Route {
            source: Some(source),
            ..Route::default()
        },
        ..spec(address, CheckKind::Http(get("/")))
    };
    let asked = check.clone();
    let probing = tokio::spawn(async move { probe(&asked).await });
    let (_stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), source);
    probing.abort();

    let scratch = Scratch::new();
    self_signed(scratch.path(), "CA:FALSE");
    let nginx = Nginx::https(scratch, LOCATIONS);
    for (target, tls, version) in [
        (nginx.http, None, HttpVersion::Http1),
        (nginx.h2c, None, HttpVersion::Http2),
        (
            nginx.https,
            Some(tls_policy(false, None)),
            HttpVersion::Http1,
        ),
        (
            nginx.https,
            Some(tls_policy(false, None)),
            HttpVersion::Http2,
        ),
    ] {
        let http = health::HttpSpec {
            version,
            tls,
            body_contains: Some("from=127.9.8.7".into()),
            ..get("/from")
        };
        let check = CheckSpec {
            route: check.route.clone(),
            ..spec(target, CheckKind::Http(http))
        };
        assert_eq!(probe(&check).await, Ok(()), "{check:?}");
    }
}

#[tokio::test]
async fn what_this_machine_does_not_have_is_not_held_against_the_target() {
    let (_listener, address) = listen().await;
    let local = |route: Route, words: &'static str| async move {
        let check = CheckSpec {
            route,
            ..spec(address, CheckKind::Tcp)
        };
        let failure = probe(&check).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!("the target was not probed: {words}")
        );
        assert!(!failure.counts());
    };
    let elsewhere = Route {
        source: Some("192.0.2.9".parse().unwrap()),
        ..Route::default()
    };
    local(
        elsewhere,
        "this machine does not have the address 192.0.2.9",
    )
    .await;
    let nowhere = Route {
        interface: Some("nowhere0".into()),
        ..Route::default()
    };
    local(nowhere, "no interface nowhere0").await;
}

#[test]
fn a_firewall_mark_is_on_every_connection_of_every_type() {
    if rerun_in_namespace(
        "route::a_firewall_mark_is_on_every_connection_of_every_type",
        ONLY_MARKED,
    ) {
        return;
    }
    block_on(async {
        let (_listener, address) = listen().await;
        let scratch = Scratch::new();
        self_signed(scratch.path(), "CA:FALSE");
        // nginx shows that it listens by its sockets: nothing unmarked gets to it.
        let nginx = Nginx::https_unseen(scratch, LOCATIONS);
        let two = |http| health::HttpSpec {
            version: HttpVersion::Http2,
            ..http
        };
        for (target, kind) in [
            (address, CheckKind::Tcp),
            (nginx.http, CheckKind::Http(get("/from"))),
            (nginx.h2c, CheckKind::Http(two(get("/from")))),
            (nginx.https, CheckKind::Http(get_tls("/from", false, None))),
            (
                nginx.https,
                CheckKind::Http(two(get_tls("/from", false, None))),
            ),
            (nginx.https, CheckKind::Tls(tls_policy(false, None))),
        ] {
            let marked = CheckSpec {
                route: marked(),
                ..spec(target, kind)
            };
            patiently(|| probe(&marked)).await;
            let unmarked = CheckSpec {
                route: Route::default(),
                timeout: Duration::from_millis(100),
                ..marked
            };
            let failure = probe(&unmarked).await.unwrap_err();
            assert_eq!(failure.reason(), "timeout", "{unmarked:?}: {failure}");
        }
        // Those whose servers are not here get as far as a connection.
        for kind in [
            CheckKind::Smtp(SmtpSpec {
                helo: None,
                starttls: None,
            }),
            CheckKind::Grpc(GrpcSpec {
                service: String::new(),
                host: None,
                tls: None,
            }),
        ] {
            let check = CheckSpec {
                route: marked(),
                timeout: Duration::from_millis(500),
                ..spec(address, kind)
            };
            let failure = probe(&check).await.unwrap_err().to_string();
            assert!(failure.contains("(connected after "), "{failure}");
        }
    });
}

#[test]
fn one_source_address_has_all_its_ports_for_each_target() {
    if rerun_in_namespace(
        "route::one_source_address_has_all_its_ports_for_each_target",
        r#"sysctl -qw net.ipv4.ip_local_port_range="40000 40001""#,
    ) {
        return;
    }
    block_on(async {
        let (one, two, three) = (
            serve_silence().await,
            serve_silence().await,
            serve_silence().await,
        );
        let from = |target| {
            let check = CheckSpec {
                route: Route {
                    source: Some("127.9.8.7".parse().unwrap()),
                    ..Route::default()
                },
                timeout: Duration::from_millis(500),
                ..spec(target, CheckKind::Http(get("/")))
            };
            async move { probe(&check).await.unwrap_err() }
        };
        let (one, two, three) = tokio::join!(from(one), from(two), from(three));
        for failure in [one, two, three] {
            let words = failure.to_string();
            assert!(words.contains("(connected after "), "{words}");
        }
    });
}

#[test]
fn an_interface_is_the_only_one_that_a_check_leaves_by() {
    if rerun_in_namespace(
        "route::an_interface_is_the_only_one_that_a_check_leaves_by",
        "ip link add other type veth peer name beyond\nip link set other up",
    ) {
        return;
    }
    block_on(async {
        let (_listener, address) = listen().await;
        let by = |interface: &str| CheckSpec {
            route: Route {
                interface: Some(interface.into()),
                ..Route::default()
            },
            timeout: Duration::from_millis(500),
            ..spec(address, CheckKind::Tcp)
        };
        assert_eq!(probe(&by("lo")).await, Ok(()));
        assert!(probe(&by("other")).await.is_err());
    });
}

#[test]
fn without_the_capability_a_mark_is_not_set_and_the_failure_says_so() {
    if rerun_in_namespace(
        "route::without_the_capability_a_mark_is_not_set_and_the_failure_says_so",
        r#"exec setpriv --bounding-set=-net_admin,-net_raw "$0" "$@""#,
    ) {
        return;
    }
    block_on(async {
        let (_listener, address) = listen().await;
        let check = CheckSpec {
            route: marked(),
            ..spec(address, CheckKind::Tcp)
        };
        let failure = probe(&check).await.unwrap_err();
        assert_eq!(
            failure,
            Failure::Local(
                "firewall mark 7 cannot be set without the capability CAP_NET_ADMIN".into()
            )
        );
    });
}

#[tokio::test]
async fn a_check_through_a_real_server_comes_from_this_machines_own_address_on_the_way_there() {
    let through = |real: &str| Route {
        through: Some(real.parse().unwrap()),
        ..Route::default()
    };
    let target = "192.0.2.10:80".parse().unwrap();
    let source = |route: Route| route.source_for(target);
    assert_eq!(source(Route::default()), Ok(None));
    let loopback = Some("127.0.0.1".parse().unwrap());
    assert_eq!(source(through("127.0.0.1")), Ok(loopback));
    let written = Route {
        source: Some("192.0.2.3".parse().unwrap()),
        ..through("127.0.0.1")
    };
    assert_eq!(source(written.clone()), Ok(written.source));
    // It would be its own client, or is of no use to the target.
    let own = through("127.0.0.1").source_for("127.0.0.1:80".parse().unwrap());
    let other_family = source(through("::1"));
    for failure in [own.unwrap_err(), other_family.unwrap_err()] {
        assert!(
            failure
                .to_string()
                .contains("write another one as `source`"),
            "{failure}"
        );
        assert!(!failure.counts());
    }
}

fn marked() -> Route {
    Route {
        mark: NonZeroU32::new(7),
        ..Route::default()
    }
}

/// Until it passes.
async fn patiently<F: Future<Output = Result<(), Failure>>>(probe: impl Fn() -> F) {
    let passing = async {
        while probe().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let passed = tokio::time::timeout(Duration::from_secs(60), passing).await;
    assert!(passed.is_ok(), "never passes: {:?}", probe().await);
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}
