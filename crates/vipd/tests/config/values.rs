//! What good files become: every key ends in its value, and what is not written in its default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use health::{
    CheckKind, CheckSpec, Flap, GrpcSpec, HttpSpec, HttpVersion, Identity, Pattern, Route,
    SmtpSpec, Start, TlsSpec,
};
use ipvs::{
    Destination, DestinationKey, Family, Forwarding, Persistence, Protocol, Scheduler,
    SchedulerName, Service, ServiceFlags, ServiceKey, Timeouts, Tunnel,
};
use vipd::config::{
    Active, Config, Global, Ipvs, Method, MinimumUp, OnFailure, OnStop, RealServer, Require,
    SorryServer, Sysctl, VirtualServer, When,
};

use super::{parse, secs};

#[test]
fn an_empty_file_is_a_director_with_nothing_to_do() {
    let config = parse("").unwrap();
    assert!(!config.global.name.is_empty());
    let expected = Config {
        global: Global {
            name: config.global.name.clone(),
            control_socket: PathBuf::from("/run/vipd/control.sock"),
            http: None,
            http_public: false,
            state_dir: PathBuf::from("/var/lib/vipd"),
        },
        ipvs: Ipvs {
            resync_interval: secs(10),
            on_stop: OnStop::Remove,
            timeouts: None,
            sysctl: sysctl(&[]),
            sync: None,
        },
        sysctl: Sysctl { manage: true },
        vrrp: vec![],
        sync_groups: vec![],
        track_scripts: vec![],
        virtual_servers: vec![],
        notify: vec![],
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_of_the_daemon_ends_in_its_value() {
    let config = parse(
        r#"
        [global]
        name = "lb1"
        control_socket = "/tmp/control.sock"
        http = "[::1]:9650"
        state_dir = "/tmp/state"
        [ipvs]
        resync_interval = "250ms"
        on_stop = "keep"
        timeouts = { tcp = "15m", udp = "1m" }
        [sysctl]
        manage = false
        [ipvs.sysctl]
        expire_nodest_conn = false
        sync_threshold = [1, 0]
        drop_entry = 3
        conntrack = 1
        est_cpulist = "0-3,8"
        est_nice = -20
        "#,
    );
    let expected = Config {
        global: Global {
            name: "lb1".into(),
            control_socket: "/tmp/control.sock".into(),
            http: Some(socket("[::1]:9650")),
            http_public: false,
            state_dir: "/tmp/state".into(),
        },
        ipvs: Ipvs {
            resync_interval: Duration::from_millis(250),
            on_stop: OnStop::Keep,
            timeouts: Some(Timeouts {
                tcp: secs(900),
                tcp_fin: Duration::ZERO,
                udp: secs(60),
            }),
            sysctl: sysctl(&[
                ("conntrack", "1"),
                ("drop_entry", "3"),
                ("est_cpulist", "0-3,8"),
                ("est_nice", "-20"),
                ("expire_nodest_conn", "0"),
                ("sync_threshold", "1 0"),
            ]),
            sync: None,
        },
        sysctl: Sysctl { manage: false },
        vrrp: vec![],
        sync_groups: vec![],
        track_scripts: vec![],
        virtual_servers: vec![],
        notify: vec![],
    };
    assert_eq!(config.unwrap(), expected);
}

#[test]
fn a_virtual_server_needs_a_name_and_an_address() {
    let config = parse("[[virtual_server]]\nname = 'http'\naddress = '192.168.1.10:80'").unwrap();
    assert_eq!(
        config.virtual_servers,
        [VirtualServer {
            name: "http".into(),
            keys: vec![ServiceKey::Address {
                protocol: Protocol::Tcp,
                address: socket("192.168.1.10:80"),
            }],
            service: service(Scheduler::Wlc),
            netmask6: 128,
            marks: vec![],
            vrrp: None,
            active: Active::Always,
            when: When::Always,
            method: Method::plain(Forwarding::DirectRouting),
            quorum: 1,
            hysteresis: 0,
            on_failure: OnFailure::Remove,
            slow_start: Duration::ZERO,
            minimum_up: MinimumUp::Count(0),
            sorry_server: None,
            real_servers: vec![],
        }]
    );
}

#[test]
fn every_key_of_a_virtual_server_ends_in_its_value() {
    let config = parse(
        r#"
        [[vrrp]]
        name = "dns"
        interface = "eth0"
        vrid = 51
        virtual_addresses = ["192.168.1.10/24"]

        [[virtual_server]]
        name = "dns"
        address = "192.168.1.10:53"
        protocol = "udp"
        vrrp = "dns"
        active = "master"
        when = "master"
        backup_interval = "60s"
        scheduler = "mh"
        scheduler_flags = ["mh-port"]
        forwarding = "nat"
        tunnel = { type = "ipip" }
        persistence = { timeout = "10m", netmask = 24 }
        one_packet = true
        quorum = 3
        hysteresis = 2
        on_failure = "zero-weight"
        slow_start = "90s"
        minimum_up = "50%"
        sorry_server = "192.168.1.99:5353"

          [[virtual_server.real_server]]
          address = "10.0.0.21"
          weight = 2147483647
          upper_threshold = 100
          lower_threshold = 80

          [[virtual_server.real_server]]
          address = "[2001:db8::22]"
          forwarding = "tun"
          require = "any"
        "#,
    );
    let service = Service {
        flags: ServiceFlags {
            one_packet: true,
            sched2: true,
            ..ServiceFlags::default()
        },
        persistence: Some(Persistence {
            timeout: secs(600),
            prefix_length: 24,
            engine: None,
        }),
        ..service(Scheduler::Mh)
    };
    assert_eq!(
        config.unwrap().virtual_servers,
        [VirtualServer {
            name: "dns".into(),
            keys: vec![ServiceKey::Address {
                protocol: Protocol::Udp,
                address: socket("192.168.1.10:53"),
            }],
            service,
            netmask6: 24,
            marks: vec![],
            vrrp: Some("dns".into()),
            active: Active::Master,
            when: When::Master {
                backup_interval: Some(secs(60)),
            },
            method: Method::plain(Forwarding::Nat),
            quorum: 3,
            hysteresis: 2,
            on_failure: OnFailure::ZeroWeight,
            slow_start: secs(90),
            minimum_up: MinimumUp::Percent(50),
            sorry_server: Some(SorryServer {
                key: DestinationKey(socket("192.168.1.99:5353")),
                destination: destination(Forwarding::Nat),
                masquerade: false,
            }),
            real_servers: vec![
                RealServer {
                    key: DestinationKey(socket("10.0.0.21:53")),
                    destination: Destination {
                        weight: 2_147_483_647,
                        upper_threshold: 100,
                        lower_threshold: 80,
                        ..destination(Forwarding::Nat)
                    },
                    masquerade: false,
                    checks: vec![],
                    require: Require::All,
                },
                RealServer {
                    key: DestinationKey(socket("[2001:db8::22]:53")),
                    destination: destination(Forwarding::Tunnel(Tunnel::Ipip)),
                    masquerade: false,
                    checks: vec![],
                    require: Require::Any,
                },
            ],
        }]
    );
}

#[test]
fn a_firewall_mark_has_the_family_of_its_first_real_server() {
    let with = |server: &str| {
        let server = format!("[[virtual_server.real_server]]\naddress = '{server}'");
        parse(&format!(
            "[[virtual_server]]\nname = 'm'\nfwmark = 3\none_packet = true\n{server}"
        ))
        .unwrap()
        .virtual_servers[0]
            .keys[0]
    };
    let mark = |family| ServiceKey::FirewallMark { family, mark: 3 };
    assert_eq!(with("10.0.0.21"), mark(Family::V4));
    assert_eq!(with("2001:db8::21"), mark(Family::V6));
}

#[test]
fn hashing_schedulers_fall_back_unless_the_flags_say_otherwise() {
    let flags = |scheduler: &str, flags: &str| {
        let text = format!(
            "[[virtual_server]]\nname = 'a'\naddress = '192.0.2.1:80'\nscheduler = '{scheduler}'\n{flags}"
        );
        let service = parse(&text).unwrap().virtual_servers[0].service.clone();
        (service.flags.sched1, service.flags.sched2)
    };
    assert_eq!(flags("sh", ""), (true, false));
    assert_eq!(flags("mh", ""), (true, false));
    assert_eq!(flags("rr", ""), (false, false));
    assert_eq!(flags("sh", "scheduler_flags = []"), (false, false));
    assert_eq!(flags("mh", "scheduler_flags = ['mh-port']"), (false, true));
    assert_eq!(
        flags("sh", "scheduler_flags = ['sh-port', 'sh-fallback']"),
        (true, true)
    );
}

#[test]
fn persistence_covers_single_clients_by_default() {
    let persistence = |address: &str| {
        let text =
            format!("[[virtual_server]]\nname = 'a'\naddress = '{address}'\npersistence = {{}}");
        let service = parse(&text).unwrap().virtual_servers[0].service.clone();
        let persistence = service.persistence.unwrap();
        (persistence.timeout, persistence.prefix_length)
    };
    assert_eq!(persistence("192.0.2.1:0"), (secs(300), 32));
    assert_eq!(persistence("[2001:db8::1]:80"), (secs(300), 128));
}

#[test]
fn every_key_of_a_check_ends_in_its_value() {
    let tcp = CheckSpec {
        route: health::Route::default(),
        target: socket("10.0.0.21:80"),
        kind: CheckKind::Tcp,
        interval: secs(5),
        fast_interval: None,
        down_interval: None,
        timeout: secs(3),
        rise: 1,
        fall: 2,
        start: Start::Down,
        flap: None,
    };
    let http = HttpSpec {
        method: "GET".into(),
        path: "/".into(),
        host: None,
        headers: vec![],
        status: vec![(200, 299)],
        version: HttpVersion::Http1,
        body_contains: None,
        body_regex: None,
        body_sha256: None,
        tls: None,
    };
    let tls = TlsSpec {
        verify: true,
        sni: None,
        ca: None,
        identity: None,
        expires_within: secs(14 * 86_400),
    };
    check("", &[]);
    check("check = { type = 'none' }", &[]);
    check("check = { type = 'tcp' }", std::slice::from_ref(&tcp));
    check(
        "check = { type = 'tcp', interval = '2s', timeout = '4s', rise = 2, fall = 3, port = 8080, \
         address = '10.0.0.99', start = 'up', via = 'direct' }",
        &[CheckSpec {
            route: health::Route::default(),
            target: socket("10.0.0.99:8080"),
            interval: secs(2),
            timeout: secs(4),
            rise: 2,
            fall: 3,
            start: Start::Up,
            ..tcp.clone()
        }],
    );
    check(
        "check = { type = 'tcp', interval = '10s', fast_interval = '1s', down_interval = '30s', \
         flap = { count = 4, within = '5m', stable = '1m' } }",
        &[CheckSpec {
            interval: secs(10),
            fast_interval: Some(secs(1)),
            down_interval: Some(secs(30)),
            flap: Some(Box::new(Flap {
                count: 4,
                within: secs(300),
                stable: secs(60),
            })),
            ..tcp.clone()
        }],
    );
    // What is the same as the default is the same check.
    check(
        "check = { type = 'tcp', fast_interval = '5s', down_interval = '5s' }",
        std::slice::from_ref(&tcp),
    );
    check(
        "checks = [{ type = 'tcp' }, { type = 'none' }, { type = 'http' }]",
        &[
            tcp.clone(),
            CheckSpec {
                kind: CheckKind::Http(http.clone()),
                ..tcp.clone()
            },
        ],
    );
    check(
        "check = { type = 'http', method = 'POST', path = '/a?b=c', host = 'www.example.com:8080', \
         headers = { X-B = 'two words', X-A = '' }, status = [200, '301-302,404'], \
         version = '2', body_contains = 'fine', body_regex = '^up [0-9]+', \
         body_sha256 = 'ABababababababababababababababababababababababababababababababab', \
         tls = true, verify = false, sni = 'www.example.com' }",
        &[CheckSpec {
            kind: CheckKind::Http(HttpSpec {
                method: "POST".into(),
                path: "/a?b=c".into(),
                host: Some("www.example.com:8080".into()),
                headers: vec![
                    ("X-B".into(), "two words".into()),
                    ("X-A".into(), String::new()),
                ],
                status: vec![(200, 200), (301, 302), (404, 404)],
                version: HttpVersion::Http2,
                body_contains: Some("fine".into()),
                body_regex: Some(Pattern::new("^up [0-9]+").unwrap()),
                body_sha256: Some([0xab; 32]),
                tls: Some(TlsSpec {
                    verify: false,
                    sni: Some("www.example.com".into()),
                    ..tls.clone()
                }),
            }),
            ..tcp.clone()
        }],
    );
    check(
        "check = { type = 'http', status = 204, tls = true }",
        &[CheckSpec {
            kind: CheckKind::Http(HttpSpec {
                status: vec![(204, 204)],
                tls: Some(tls.clone()),
                ..http
            }),
            ..tcp.clone()
        }],
    );
    check(
        "check = { type = 'tls', sni = 'www.example.com', ca = '/etc/ca.pem', \
         certificate = '/etc/vipd/me.pem', key = '/etc/vipd/me.key', expires_within = '48h' }",
        &[CheckSpec {
            kind: CheckKind::Tls(TlsSpec {
                verify: true,
                sni: Some("www.example.com".into()),
                ca: Some("/etc/ca.pem".into()),
                identity: Some(Identity {
                    certificate: "/etc/vipd/me.pem".into(),
                    key: "/etc/vipd/me.key".into(),
                }),
                expires_within: secs(48 * 3600),
            }),
            ..tcp.clone()
        }],
    );
    let smtp = |helo: Option<&str>, starttls| CheckSpec {
        kind: CheckKind::Smtp(SmtpSpec {
            helo: helo.map(Into::into),
            starttls,
        }),
        ..tcp.clone()
    };
    check("check = { type = 'smtp' }", &[smtp(None, None)]);
    check(
        "check = { type = 'smtp', helo = 'lb1.example.com', starttls = true }",
        &[smtp(Some("lb1.example.com"), Some(tls.clone()))],
    );
    let grpc = |service: &str, host: Option<&str>, tls| CheckSpec {
        kind: CheckKind::Grpc(GrpcSpec {
            service: service.into(),
            host: host.map(Into::into),
            tls,
        }),
        ..tcp.clone()
    };
    check("check = { type = 'grpc' }", &[grpc("", None, None)]);
    check(
        "check = { type = 'grpc', service = 'shop.v1.Orders', host = 'orders', tls = true }",
        &[grpc("shop.v1.Orders", Some("orders"), Some(tls))],
    );
    check(
        "check = { type = 'tcp', source = '10.0.0.5', interface = 'eth1', fwmark = 3 }",
        &[CheckSpec {
            route: Route {
                through: None,
                source: Some("10.0.0.5".parse().unwrap()),
                interface: Some("eth1".into()),
                mark: NonZeroU32::new(3),
            },
            ..tcp
        }],
    );
}

#[test]
fn a_real_servers_own_checks_replace_the_virtual_servers() {
    let config = parse(
        r#"
        [[virtual_server]]
        name = "http"
        address = "192.0.2.1:80"
        check = { type = "tcp" }
          [[virtual_server.real_server]]
          address = "10.0.0.21"
          [[virtual_server.real_server]]
          address = "10.0.0.22"
          check = { type = "tcp", port = 81 }
          [[virtual_server.real_server]]
          address = "10.0.0.23"
          checks = []
        "#,
    )
    .unwrap();
    let targets = |server: &RealServer| -> Vec<String> {
        let targets = server.checks.iter().map(|check| check.target.to_string());
        targets.collect()
    };
    let servers = &config.virtual_servers[0].real_servers;
    assert_eq!(targets(&servers[0]), ["10.0.0.21:80"]);
    assert_eq!(targets(&servers[1]), ["10.0.0.22:81"]);
    assert!(servers[2].checks.is_empty());
}

#[test]
fn durations_have_a_unit() {
    let read = |written: &str| {
        let config = parse(&format!("[ipvs]\nresync_interval = {written}"));
        config.map(|config| config.ipvs.resync_interval)
    };
    for (written, millis) in [
        ("'100ms'", 100),
        ("'1s'", 1000),
        ("'0.5s'", 500),
        ("'10m'", 600_000),
        ("'1h'", 3_600_000),
        ("'1m30s'", 90_000),
        ("'1m 30s'", 90_000),
    ] {
        let wanted = Duration::from_millis(millis);
        assert_eq!(read(written).unwrap(), wanted, "{written}");
    }
    for written in [
        "5",
        "5.0",
        "'5'",
        "''",
        "' '",
        "'s'",
        "'-1s'",
        "'5 s s'",
        "'5sx'",
        "'1e3s'",
        "true",
        "'99ms'",
        "'1h1ms'",
        "'99999999999999999999s'",
        "'9999999999999999y'",
    ] {
        assert!(read(written).is_err(), "{written}");
    }
}

/// The checks of a real server 10.0.0.21:80 that has `written`.
fn check(written: &str, expected: &[CheckSpec]) {
    let config = parse(&format!(
        "[[virtual_server]]\nname = 'a'\naddress = '192.0.2.1:80'\n\
         [[virtual_server.real_server]]\naddress = '10.0.0.21'\n{written}"
    ));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.virtual_servers[0].real_servers[0].checks, expected);
}

/// The default settings under `net.ipv4.vs`, but for these.
fn sysctl(but: &[(&'static str, &str)]) -> BTreeMap<&'static str, String> {
    let defaults = [
        ("expire_nodest_conn", "1"),
        ("expire_quiescent_template", "1"),
        ("sync_threshold", "2 50"),
    ];
    let all = defaults.iter().chain(but);
    all.map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

fn service(scheduler: Scheduler) -> Service {
    Service {
        scheduler: SchedulerName::Known(scheduler),
        flags: ServiceFlags::default(),
        persistence: None,
    }
}

fn destination(forwarding: Forwarding) -> Destination {
    Destination {
        forwarding,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
