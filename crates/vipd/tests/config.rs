//! Whole files through the configuration: what good ones become, and what bad ones are told.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use health::{CheckKind, CheckSpec, HttpSpec, Start, TlsSpec};
use ipvs::{
    Destination, DestinationKey, Family, Forwarding, Persistence, Protocol, Scheduler,
    SchedulerName, Service, ServiceFlags, ServiceKey, Tunnel,
};
use proptest::prelude::*;
use vipd::config::{
    Active, Config, Garp, Global, Ipvs, LoadError, OnFailure, OnStop, Problems, RealServer,
    SorryServer, VirtualAddress, VirtualServer, Vrrp,
};
use vrrp::{ChecksumForm, Parameters, Version};

// What good files become.

#[test]
fn an_empty_file_is_a_director_with_nothing_to_do() {
    let config = parse("").unwrap();
    assert!(!config.global.name.is_empty());
    let expected = Config {
        global: Global {
            name: config.global.name.clone(),
            control_socket: PathBuf::from("/run/vipd/control.sock"),
            http: None,
            state_dir: PathBuf::from("/var/lib/vipd"),
        },
        ipvs: Ipvs {
            resync_interval: secs(10),
            on_stop: OnStop::Remove,
        },
        vrrp: vec![],
        virtual_servers: vec![],
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
        "#,
    );
    let expected = Config {
        global: Global {
            name: "lb1".into(),
            control_socket: "/tmp/control.sock".into(),
            http: Some(socket("[::1]:9650")),
            state_dir: "/tmp/state".into(),
        },
        ipvs: Ipvs {
            resync_interval: Duration::from_millis(250),
            on_stop: OnStop::Keep,
        },
        vrrp: vec![],
        virtual_servers: vec![],
    };
    assert_eq!(config.unwrap(), expected);
}

#[test]
fn a_virtual_router_needs_four_keys_and_has_defaults_for_the_rest() {
    let config = parse(
        r#"
        [[vrrp]]
        name = "web"
        interface = "eth0"
        vrid = 51
        virtual_addresses = ["192.168.1.10"]
        "#,
    );
    assert_eq!(
        config.unwrap().vrrp,
        [Vrrp {
            name: "web".into(),
            interface: "eth0".into(),
            parameters: Parameters {
                vrid: 51,
                version: Version::V2,
                family: vrrp::Family::V4,
                priority: 100,
                advert_interval: secs(1),
                preempt: true,
                preempt_delay: Duration::ZERO,
                checksum: ChecksumForm::PseudoHeader,
                addresses: vec!["192.168.1.10".parse().unwrap()],
            },
            addresses: vec![address("192.168.1.10/32", "eth0", true)],
            garp: Garp {
                repeat: 5,
                delay: secs(5),
                refresh: Duration::ZERO,
            },
        }]
    );
}

#[test]
fn every_key_of_a_virtual_router_ends_in_its_value() {
    let config = parse(
        r#"
        [[vrrp]]
        name = "web"
        interface = "eth0"
        vrid = 255
        version = 3
        priority = 254
        advert_interval = "40.95s"
        preempt = true
        preempt_delay = "1000s"
        accept = true
        virtual_mac = false
        takeover_probe = "off"
        checksum = "rfc9568"
        virtual_addresses = [
          "192.168.1.10/24",
          { address = "10.0.0.1/24", interface = "eth1", advertise = false },
        ]
        garp = { repeat = 3, delay = "0s", refresh = "60s" }
        "#,
    );
    assert_eq!(
        config.unwrap().vrrp,
        [Vrrp {
            name: "web".into(),
            interface: "eth0".into(),
            parameters: Parameters {
                vrid: 255,
                version: Version::V3,
                family: vrrp::Family::V4,
                priority: 254,
                advert_interval: Duration::from_millis(40_950),
                preempt: true,
                preempt_delay: secs(1000),
                checksum: ChecksumForm::MessageOnly,
                addresses: vec!["192.168.1.10".parse().unwrap()],
            },
            addresses: vec![
                address("192.168.1.10/24", "eth0", true),
                address("10.0.0.1/24", "eth1", false),
            ],
            garp: Garp {
                repeat: 3,
                delay: Duration::ZERO,
                refresh: secs(60),
            },
        }]
    );
}

#[test]
fn a_virtual_server_needs_a_name_and_an_address() {
    let config = parse("[[virtual_server]]\nname = 'http'\naddress = '192.168.1.10:80'").unwrap();
    assert_eq!(
        config.virtual_servers,
        [VirtualServer {
            name: "http".into(),
            key: ServiceKey::Address {
                protocol: Protocol::Tcp,
                address: socket("192.168.1.10:80"),
            },
            service: service(Scheduler::Wlc),
            vrrp: None,
            active: Active::Always,
            forwarding: Forwarding::DirectRouting,
            quorum: 1,
            hysteresis: 0,
            on_failure: OnFailure::Remove,
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
        scheduler = "mh"
        scheduler_flags = ["mh-port"]
        forwarding = "nat"
        tunnel = { type = "ipip" }
        persistence = { timeout = "10m", netmask = 24 }
        one_packet = true
        quorum = 3
        hysteresis = 2
        on_failure = "zero-weight"
        slow_start = "0s"
        sorry_server = "192.168.1.99:5353"

          [[virtual_server.real_server]]
          address = "10.0.0.21"
          weight = 2147483647
          upper_threshold = 100
          lower_threshold = 80

          [[virtual_server.real_server]]
          address = "[2001:db8::22]"
          forwarding = "tun"
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
            key: ServiceKey::Address {
                protocol: Protocol::Udp,
                address: socket("192.168.1.10:53"),
            },
            service,
            vrrp: Some("dns".into()),
            active: Active::Master,
            forwarding: Forwarding::Nat,
            quorum: 3,
            hysteresis: 2,
            on_failure: OnFailure::ZeroWeight,
            sorry_server: Some(SorryServer {
                key: DestinationKey(socket("192.168.1.99:5353")),
                destination: destination(Forwarding::Nat),
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
                    checks: vec![],
                },
                RealServer {
                    key: DestinationKey(socket("[2001:db8::22]:53")),
                    destination: destination(Forwarding::Tunnel(Tunnel::Ipip)),
                    checks: vec![],
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
            .key
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
        target: socket("10.0.0.21:80"),
        kind: CheckKind::Tcp,
        interval: secs(5),
        timeout: secs(3),
        rise: 1,
        fall: 2,
        start: Start::Down,
    };
    let http = HttpSpec {
        method: "GET".into(),
        path: "/".into(),
        host: None,
        headers: vec![],
        status: vec![(200, 299)],
        body_contains: None,
        tls: None,
    };
    check("", &[]);
    check("check = { type = 'none' }", &[]);
    check("check = { type = 'tcp' }", std::slice::from_ref(&tcp));
    check(
        "check = { type = 'tcp', interval = '2s', timeout = '4s', rise = 2, fall = 3, port = 8080, \
         address = '10.0.0.99', start = 'up', via = 'direct' }",
        &[CheckSpec {
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
         body_contains = 'fine', tls = true, verify = false, sni = 'www.example.com' }",
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
                body_contains: Some("fine".into()),
                tls: Some(TlsSpec {
                    verify: false,
                    sni: Some("www.example.com".into()),
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
                tls: Some(TlsSpec {
                    verify: true,
                    sni: None,
                }),
                ..http
            }),
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

// What bad files are told.

#[test]
fn every_broken_file_gets_exactly_its_report() {
    let files = files(&here("tests/config"), "toml");
    assert!(!files.is_empty());
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let report = format!("{}\n", Config::parse(&source, name).unwrap_err());
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected, &report).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(report, expected, "{name}: UPDATE_EXPECT=1 accepts this");
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once_in_its_order() {
    let source = fs::read_to_string(here("tests/config/kitchen_sink.toml")).unwrap();
    let problems = parse(&source).unwrap_err();
    let found: Vec<(usize, &str)> = problems
        .iter()
        .map(|problem| (problem.line, problem.key.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (3, "global.control_socket"),
            (6, "ipvs.resync_intervall"),
            (11, "vrrp \"web\".vrid"),
            (13, "vrrp \"web\".advert_interval"),
            (19, "virtual_server \"http\".vrrp"),
            (20, "virtual_server \"http\".scheduler"),
            (
                23,
                "virtual_server \"http\".real_server \"www1.example.com:80\".address"
            ),
            (
                24,
                "virtual_server \"http\".real_server \"www1.example.com:80\".weight"
            ),
            (26, "virtual_server \"http\".real_server[1].address"),
            (27, "virtual_server \"http\".real_server[1].check.interval"),
        ]
    );
    assert!(problems.iter().all(|problem| !problem.help.is_empty()));
}

#[test]
fn columns_count_characters_whatever_the_line_endings() {
    let source = "\u{feff}[global]\r\n\"äöü\" = 1\r\nname = \"ä\"; x\r\n";
    let found: Vec<(usize, usize)> = parse(source)
        .unwrap_err()
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(found, [(2, 1), (3, 11)]);
}

#[test]
fn a_report_has_colours_only_if_asked_and_never_the_files_control_characters() {
    let source = "[global]\nname = \"\\u001b[31m\"\n\"\\u001b\" = 1\n#\u{7}\nhttp = \"\u{9b}\"\n";
    let problems = parse(source).unwrap_err();
    let plain = problems.to_string();
    assert!(
        !plain.contains(|c: char| c.is_control() && c != '\n'),
        "{plain:?}"
    );
    assert_eq!(problems.render(false), plain);
    assert!(problems.render(true).contains('\u{1b}'));
}

#[test]
fn a_megabyte_of_nonsense_is_refused_in_seconds() {
    let began = Instant::now();
    for line in ["x\n", "[[vrrp]]\n", "a.b.c = [\n", "\"", "[[[[", "x = 1, "] {
        let source = line.repeat(1024 * 1024 / line.len());
        let problems = parse(&source).unwrap_err();
        assert!(problems.to_string().len() < 4 << 20);
    }
    assert!(began.elapsed() < secs(120), "{:?}", began.elapsed());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_fail_without_a_reason(source in "\\PC*|(.|\\n){0,200}") {
        explained(&source);
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic_or_fail_without_a_reason(
        cuts in prop::collection::vec((0usize..4000, 0usize..40, "[\\[\\]{}=\".,#\na-z0-9 ]{0,3}"), 1..6)
    ) {
        let mut source = uncommented(&fs::read_to_string(repository("config/vipd.toml")).unwrap());
        for (at, length, insert) in cuts {
            let mut at = at % source.len().max(1);
            let mut end = (at + length).min(source.len());
            while !source.is_char_boundary(at) { at -= 1; }
            while !source.is_char_boundary(end) { end += 1; }
            source.replace_range(at..end, &insert);
        }
        explained(&source);
    }
}

// The files that come with vipd.

#[test]
fn the_default_file_and_every_example_are_valid() {
    let mut all = files(&repository("config/examples"), "toml");
    assert_eq!(all.len(), 3);
    all.push(repository("config/vipd.toml"));
    for file in all {
        if let Err(error) = Config::load(&file) {
            panic!("{error}");
        }
    }
}

#[test]
fn the_default_file_is_valid_with_everything_in_it_switched_on() {
    let source = fs::read_to_string(repository("config/vipd.toml")).unwrap();
    let config = Config::parse(&uncommented(&source), "vipd.toml");
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!config.vrrp.is_empty());
    assert!(!config.virtual_servers.is_empty());
}

#[test]
fn the_reference_and_the_default_file_have_every_key() {
    let reference = fs::read_to_string(repository("docs/config.md")).unwrap();
    let default = fs::read_to_string(repository("config/vipd.toml")).unwrap();
    let server = "[[virtual_server]]\nname = 'a'\nfwmark = 1\n";
    let mut keys = BTreeSet::new();
    for section in [
        "qqqqqqqq = 1",
        "[global]\nqqqqqqqq = 1",
        "[ipvs]\nqqqqqqqq = 1",
        "[[vrrp]]\nqqqqqqqq = 1",
        "[[vrrp]]\nvirtual_addresses = [{ qqqqqqqq = 1 }]",
        "[[vrrp]]\ngarp = { qqqqqqqq = 1 }",
        &format!("{server}qqqqqqqq = 1"),
        &format!("{server}persistence = {{ qqqqqqqq = 1 }}"),
        &format!("{server}tunnel = {{ qqqqqqqq = 1 }}"),
        &format!("{server}real_server = [{{ qqqqqqqq = 1 }}]"),
        &format!("{server}check = {{ type = 'http', tls = true, qqqqqqqq = 1 }}"),
    ] {
        let problems = parse(section).unwrap_err();
        let unknown = problems.iter().find(|p| p.key.ends_with("qqqqqqqq"));
        let help = unknown.unwrap().help.clone();
        keys.extend(help.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        assert!(reference.contains(&format!("`{key}`")), "docs: {key}");
        assert!(default.contains(&key), "vipd.toml: {key}");
    }
}

// Files that cannot be read.

#[test]
fn what_is_not_a_readable_file_is_said_so_without_waiting() {
    let directory = std::env::temp_dir().join(format!("vipd-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("vipd.toml");

    cannot_read(&file, "No such file");
    cannot_read(&directory, "not a regular file");
    let fifo = directory.join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    cannot_read(&fifo, "not a regular file");
    fs::write(&file, b"[global]\nname = \"\xff\"\n").unwrap();
    cannot_read(&file, "not UTF-8 text (byte 17)");
    fs::write(&file, "#".repeat(1024 * 1024 + 1)).unwrap();
    cannot_read(&file, "larger than 1 MiB");
    fs::write(&file, "#".repeat(1024 * 1024)).unwrap();
    assert!(Config::load(&file).is_ok());
    fs::write(&file, "[global]\nnmae = 1\n").unwrap();
    match Config::load(&file) {
        Err(LoadError::Invalid(problems)) => {
            let headline = format!("{}:2:1: global.nmae: unknown key\n", file.display());
            assert!(problems.to_string().starts_with(&headline), "{problems}");
        }
        other => panic!("{other:?}"),
    }

    fs::remove_dir_all(&directory).unwrap();
}

fn parse(source: &str) -> Result<Config, Problems> {
    Config::parse(source, "vipd.toml")
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

/// Whatever the text is: a configuration, or at least one problem that can be shown.
fn explained(source: &str) {
    if let Err(problems) = parse(source) {
        assert_ne!(problems.count(), 0, "{source:?}");
        assert!(problems.to_string().contains("vipd.toml:"));
        for problem in &problems {
            assert!(problem.span.end <= source.len() && problem.line >= 1);
        }
    }
}

fn cannot_read(path: &Path, why: &str) {
    match Config::load(path) {
        Err(error @ LoadError::Read { .. }) => {
            let text = error.to_string();
            assert!(text.contains(why), "{text}");
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

/// `#key = value` is a key switched off; `# words` is a comment.
fn uncommented(source: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c != ' ' && c != '#') => rest.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    let lines: Vec<String> = source.lines().map(line).collect();
    lines.join("\n")
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

fn address(address: &str, interface: &str, advertise: bool) -> VirtualAddress {
    VirtualAddress {
        address: address.parse().unwrap(),
        interface: interface.into(),
        advertise,
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn repository(path: &str) -> PathBuf {
    here("../..").join(path)
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}
