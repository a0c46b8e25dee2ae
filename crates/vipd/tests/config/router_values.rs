//! What good `[[vrrp]]`, `[[sync_group]]` and `[[track_script]]` become.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, process};

use vipd::config::{
    Config, Garp, Heartbeat, Reachable, Scope, SyncGroup, Track, TrackScript, Tracked,
    VirtualAddress, VirtualRoute, VirtualRule, Vrrp,
};
use vrrp::{
    Authentication, ChecksumForm, Family, Hmac, Key, Parameters, Password, Peer, TakeoverProbe,
    Unicast, Version,
};

use super::{parse, secs};

/// 32 bytes.
const KEY: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_virtual_router_needs_four_keys_and_has_defaults_for_the_rest() {
    let vrrp = router("virtual_addresses = ['192.168.1.10']");
    assert_eq!(
        vrrp,
        Vrrp {
            name: "web".into(),
            interface: "eth0".into(),
            parameters: Parameters {
                vrid: 51,
                version: Version::V2,
                family: Family::V4,
                priority: 100,
                advert_interval: secs(1),
                preempt: true,
                preempt_delay: Duration::ZERO,
                start_delay: Duration::ZERO,
                down_adverts: 3,
                checksum: ChecksumForm::PseudoHeader,
                takeover_probe: TakeoverProbe::Hold,
                authentication: Authentication::None,
                unicast: None,
                addresses: Arc::new([ip("192.168.1.10")]),
            },
            accept: true,
            virtual_mac: None,
            addresses: vec![address("192.168.1.10/32", "eth0")],
            routes: vec![],
            rules: vec![],
            garp: Garp {
                repeat: 5,
                delay: secs(5),
                refresh: Duration::ZERO,
            },
            heartbeats: vec![],
            reachable: None,
            track: vec![],
        }
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
        start_delay = "1h"
        down_adverts = 100
        accept = false
        checksum = "rfc9568"
        takeover_probe = "warn"
        virtual_mac = { interface = "vmac0" }
        virtual_addresses = [
          "192.168.1.10/24",
          { address = "192.168.1.11/24", label = "vmac0:vip", scope = "link", prefix_route = false },
          { address = "10.0.0.1/24", interface = "eth1", advertise = false, scope = "host" },
          { address = "2001:db8::1/64", advertise = false, prefix_route = false },
        ]
        virtual_routes = [{ to = "default", via = "192.168.1.1", interface = "vmac0", source = "192.168.1.10", table = 100, metric = 7 }]
        virtual_rules = [{ priority = 100, from = "192.168.1.10", to = "10.9.0.0/16", fwmark = 4, interface = "eth1", table = "default" }]
        authentication = { type = "hmac", key_id = 1, key = "0123456789abcdef0123456789abcdef", keys = [{ id = 255, key = "hex:000102030405060708090a0b0c0d0e0f000102030405060708090A0B0C0D0E0F" }], window = "300s", mode = "permissive" }
        unicast = { source = "192.168.1.2", peers = ["192.168.1.3", { address = "192.168.7.4", min_ttl = 250, max_ttl = 254 }], ttl = 64 }
        garp = { repeat = 3, delay = "0s", refresh = "60s" }
        heartbeat = [{ interface = "eth1" }, { peer = "10.9.0.2", source = "10.9.0.1" }, { peer = "10.9.1.2" }]
        reachable = { any_of = ["192.168.1.1", "2001:db8::53"], interval = "100ms", timeout = "1ms", fall = 1000 }
        track = [
          { interface = "eth1" },
          { script = "gateway", weight = -253 },
          { file = "/run/x", weight = 1 },
          { process = "nginx", count = 2, weight = 253 },
          { process = "haproxy" },
          { virtual_server = "http" },
        ]

        [[track_script]]
        name = "gateway"
        command = ["/bin/true", "-x", ""]
        interval = "100ms"
        timeout = "100ms"
        rise = 1000
        fall = 2
        user = "root"

        [[virtual_server]]
        name = "http"
        address = "192.168.1.10:80"
        "#,
    );
    let config = good(config);
    let hex: Vec<u8> = (0..16).chain(0..16).collect();
    let vrrp = Vrrp {
        name: "web".into(),
        interface: "eth0".into(),
        parameters: Parameters {
            vrid: 255,
            version: Version::V3,
            family: Family::V4,
            priority: 254,
            advert_interval: Duration::from_millis(40_950),
            preempt: true,
            preempt_delay: secs(1000),
            start_delay: secs(3600),
            down_adverts: 100,
            checksum: ChecksumForm::MessageOnly,
            takeover_probe: TakeoverProbe::Warn,
            authentication: Authentication::Hmac(Hmac {
                key_id: 1,
                keys: BTreeMap::from([(1, key(KEY.as_bytes())), (255, key(&hex))]),
                window: secs(300),
                permissive: true,
            }),
            unicast: Some(Unicast {
                source: ip("192.168.1.2"),
                peers: vec![peer("192.168.1.3", 255, 255), peer("192.168.7.4", 250, 254)],
                ttl: 64,
            }),
            addresses: Arc::new([ip("192.168.1.10"), ip("192.168.1.11")]),
        },
        accept: false,
        virtual_mac: Some("vmac0".into()),
        addresses: vec![
            address("192.168.1.10/24", "vmac0"),
            VirtualAddress {
                label: Some("vmac0:vip".into()),
                scope: Scope::Link,
                prefix_route: false,
                ..address("192.168.1.11/24", "vmac0")
            },
            VirtualAddress {
                advertise: false,
                scope: Scope::Host,
                ..address("10.0.0.1/24", "eth1")
            },
            VirtualAddress {
                advertise: false,
                prefix_route: false,
                ..address("2001:db8::1/64", "vmac0")
            },
        ],
        routes: vec![VirtualRoute {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some(ip("192.168.1.1")),
            interface: Some("vmac0".into()),
            source: Some(ip("192.168.1.10")),
            table: 100,
            metric: Some(7),
        }],
        rules: vec![VirtualRule {
            family: Family::V4,
            priority: 100,
            from: Some("192.168.1.10/32".parse().unwrap()),
            to: Some("10.9.0.0/16".parse().unwrap()),
            fwmark: Some(4),
            interface: Some("eth1".into()),
            table: 253,
        }],
        garp: Garp {
            repeat: 3,
            delay: Duration::ZERO,
            refresh: secs(60),
        },
        heartbeats: vec![
            Heartbeat::Interface("eth1".into()),
            Heartbeat::Peer {
                peer: ip("10.9.0.2"),
                source: Some(ip("10.9.0.1")),
            },
            Heartbeat::Peer {
                peer: ip("10.9.1.2"),
                source: None,
            },
        ],
        reachable: Some(Reachable {
            any_of: vec![ip("192.168.1.1"), ip("2001:db8::53")],
            interval: Duration::from_millis(100),
            timeout: Duration::from_millis(1),
            fall: 1000,
        }),
        track: vec![
            track(Tracked::Interface("eth1".into()), None),
            track(Tracked::Script("gateway".into()), Some(-253)),
            track(Tracked::File("/run/x".into()), Some(1)),
            track(process_of("nginx", 2), Some(253)),
            track(process_of("haproxy", 1), None),
            track(Tracked::VirtualServer("http".into()), None),
        ],
    };
    assert_eq!(config.vrrp, [vrrp]);
    assert_eq!(
        config.track_scripts,
        [TrackScript {
            name: "gateway".into(),
            command: vec!["/bin/true".into(), "-x".into(), String::new()],
            interval: Duration::from_millis(100),
            timeout: Duration::from_millis(100),
            rise: 1000,
            fall: 2,
            user: "root".into(),
        }]
    );
}

#[test]
fn the_files_that_users_are_promised_are_valid() {
    let config = good(parse(
        r#"
        [[vrrp]]
        name = "web"
        interface = "eth0"
        vrid = 51
        version = 2
        priority = 150
        advert_interval = "1s"
        preempt = true
        preempt_delay = "0s"
        accept = true
        virtual_mac = false
        checksum = "rfc5798"
        virtual_addresses = ["192.168.1.10/24", { address = "10.0.0.1/24", interface = "eth1", advertise = false }]
        authentication = { type = "pass", key = "s3cret" }
        unicast = { source = "192.168.1.2", peers = ["192.168.1.3"] }
        garp = { repeat = 5, delay = "5s", refresh = "0s" }
        takeover_probe = "hold"
        heartbeat = [{ interface = "eth1" }]
        track = [
          { interface = "eth1" },
          { script = "gateway", weight = -40 },
          { virtual_server = "http" },
        ]

        [[vrrp]]
        name = "inside"
        interface = "eth1"
        vrid = 52
        virtual_addresses = ["10.0.0.10/24"]

        [[sync_group]]
        name = "both"
        members = ["web", "inside"]

        [[track_script]]
        name = "gateway"
        command = ["/bin/true", "-c1", "-W1", "192.168.1.1"]
        interval = "2s"
        timeout = "1s"
        rise = 1
        fall = 2
        user = "nobody"

        [[virtual_server]]
        name = "http"
        address = "192.168.1.10:80"
        vrrp = "web"
        "#,
    ));
    assert_eq!(
        config.vrrp[0].parameters.authentication,
        Authentication::Password(Password::new(b"s3cret").unwrap())
    );
    assert_eq!(
        config.sync_groups,
        [SyncGroup {
            name: "both".into(),
            members: vec!["web".into(), "inside".into()],
        }]
    );
    assert_eq!(
        config.vrrp[0].track[1],
        track(Tracked::Script("gateway".into()), Some(-40))
    );
}

#[test]
fn the_first_advertised_address_says_which_family_a_router_has() {
    let vrrp = router(
        "version = 3\nvirtual_addresses = [{ address = '192.0.2.1', advertise = false }, \
         'fe80::51/64', '2001:db8::10/64']",
    );
    assert_eq!(vrrp.parameters.family, Family::V6);
    assert_eq!(
        *vrrp.parameters.addresses,
        [ip("fe80::51"), ip("2001:db8::10")]
    );
}

#[test]
fn one_vrid_is_for_two_routers_of_an_interface_if_they_differ_in_family() {
    let config = good(parse(
        r#"
        [[vrrp]]
        name = "v4"
        interface = "eth0"
        vrid = 51
        virtual_mac = true
        virtual_addresses = ["192.168.1.10/24"]
        [[vrrp]]
        name = "v6"
        interface = "eth0"
        vrid = 51
        version = 3
        virtual_mac = true
        virtual_addresses = ["fe80::51/64", { address = "2001:db8::10/64", interface = "eth1" }]
        heartbeat = [{ interface = "eth2" }]
        [[vrrp]]
        name = "other link"
        interface = "eth1"
        vrid = 51
        version = 3
        virtual_addresses = ["fe80::51/64"]
        "#,
    ));
    let macvlans: Vec<_> = config.vrrp.iter().map(|v| v.virtual_mac.clone()).collect();
    assert_eq!(
        macvlans,
        [Some("vrrp.51".into()), Some("vrrp6.51".into()), None]
    );
    let interfaces = |v: &Vrrp| -> Vec<String> {
        let interfaces = v.addresses.iter().map(|a| a.interface.clone());
        interfaces.collect()
    };
    assert_eq!(interfaces(&config.vrrp[0]), ["vrrp.51"]);
    assert_eq!(interfaces(&config.vrrp[1]), ["vrrp6.51", "eth1"]);
}

#[test]
fn an_advert_holds_as_many_addresses_as_fit_in_a_packet() {
    let with = |v6: bool, count: usize, more: &str| {
        let addresses: Vec<String> = (0..count)
            .map(|n| match (v6, n) {
                (true, 0) => "'fe80::1'".to_owned(),
                (true, n) => format!("'2001:db8::{n:x}'"),
                (false, n) => format!("'10.0.{}.1'", n),
            })
            .collect();
        let version = if v6 { 3 } else { 2 };
        let list = addresses.join(", ");
        parse(&source(&format!(
            "version = {version}\nvirtual_addresses = [{list}]\n{more}"
        )))
        .is_ok()
    };
    let hmac = format!("authentication = {{ type = 'hmac', key_id = 1, key = '{KEY}' }}");
    assert!(with(false, 255, &hmac));
    assert!(!with(false, 256, ""));
    assert!(with(true, 90, ""));
    assert!(!with(true, 91, ""));
    assert!(with(true, 89, &hmac));
    assert!(!with(true, 90, &hmac));
}

#[test]
fn a_default_route_has_the_family_of_what_stands_beside_it() {
    let to = |v6: bool, written: &str| {
        let addresses = if v6 {
            "version = 3\nvirtual_addresses = ['fe80::51/64']"
        } else {
            "virtual_addresses = ['192.168.1.10/24']"
        };
        let vrrp = router(&format!("{addresses}\nvirtual_routes = [{{ {written} }}]"));
        assert_eq!(vrrp.routes[0].table, 254);
        vrrp.routes[0].to.to_string()
    };
    assert_eq!(
        to(false, "to = 'default', via = '192.168.1.1'"),
        "0.0.0.0/0"
    );
    assert_eq!(to(false, "to = 'default', via = '2001:db8::1'"), "::/0");
    assert_eq!(
        to(
            false,
            "to = 'default', interface = 'eth0', source = '2001:db8::1'"
        ),
        "::/0"
    );
    assert_eq!(to(false, "to = 'default', interface = 'eth0'"), "0.0.0.0/0");
    assert_eq!(to(true, "to = 'default', interface = 'eth0'"), "::/0");
    assert_eq!(
        to(true, "to = '192.0.2.7', interface = 'eth0', table = 'main'"),
        "192.0.2.7/32"
    );
}

#[test]
fn a_rule_by_mark_has_the_family_of_its_router() {
    let vrrp = router(
        "version = 3\nvirtual_addresses = ['fe80::51/64']\n\
         virtual_rules = [{ priority = 4294967295, fwmark = 1, table = 4294967295 }]",
    );
    assert_eq!(vrrp.rules[0].family, Family::V6);
    assert_eq!(vrrp.rules[0].table, u32::MAX);
}

#[test]
fn a_window_is_three_intervals_but_at_least_five_seconds_and_at_most_five_minutes() {
    for (interval, window) in [(1, 5), (2, 6), (255, 300)] {
        let vrrp = router(&format!(
            "virtual_addresses = ['192.168.1.10']\nadvert_interval = '{interval}s'\n\
             authentication = {{ type = 'hmac', key_id = 9, key = '{KEY}' }}"
        ));
        let Authentication::Hmac(hmac) = vrrp.parameters.authentication else {
            panic!("{vrrp:?}");
        };
        assert_eq!(hmac.window, secs(window));
        assert_eq!((hmac.key_id, hmac.permissive), (9, false));
    }
}

#[test]
fn a_timeout_that_is_not_written_fits_in_the_interval() {
    let reachable = |interval: &str| {
        let vrrp = router(&format!(
            "virtual_addresses = ['192.168.1.10']\n\
             reachable = {{ any_of = ['192.168.1.1']{interval} }}"
        ));
        vrrp.reachable.unwrap()
    };
    let default = reachable("");
    assert_eq!(default.interval, secs(1));
    assert_eq!(default.timeout, Duration::from_millis(500));
    assert_eq!(default.fall, 3);
    assert_eq!(
        reachable(", interval = '100ms'").timeout,
        Duration::from_millis(100)
    );

    let script = |interval: &str| {
        let config = parse(&format!(
            "[[track_script]]\nname = 'a'\ncommand = ['/bin/true']\n{interval}"
        ));
        good(config).track_scripts.remove(0)
    };
    let default = script("");
    assert_eq!((default.interval, default.timeout), (secs(1), secs(1)));
    assert_eq!((default.rise, default.fall), (1, 1));
    assert_eq!(default.user, "nobody");
    assert_eq!(script("interval = '3s'").timeout, secs(3));
}

#[test]
fn a_key_comes_from_a_file_that_only_its_owner_can_read() {
    let folder = Folder::new("keys");
    let file = folder.file("vrrp.key");
    let hmac = |path: &str| {
        parse(&source(&format!(
            "virtual_addresses = ['192.168.1.10']\n\
             authentication = {{ type = 'hmac', key_id = 1, key = 'file:{path}' }}"
        )))
    };
    let read = |contents: &[u8]| {
        fs::write(&file, contents).unwrap();
        mode(&file, 0o600);
        let vrrp = good(hmac(&file)).vrrp.remove(0);
        let Authentication::Hmac(hmac) = vrrp.parameters.authentication else {
            panic!("{vrrp:?}");
        };
        hmac.keys[&1].clone()
    };
    let random: Vec<u8> = (200..=240).collect();
    assert_eq!(read(&random), key(&random));
    assert_eq!(read(format!("{KEY}\n").as_bytes()), key(KEY.as_bytes()));
    assert_eq!(read(format!("{KEY}\r\n").as_bytes()), key(KEY.as_bytes()));
    let hex = format!("hex:{}\n", "ab".repeat(64));
    assert_eq!(read(hex.as_bytes()), key(&[0xab; 64]));

    fs::write(&file, "s3cret\n").unwrap();
    let config = good(parse(&source(&format!(
        "virtual_addresses = ['192.168.1.10']\n\
         authentication = {{ type = 'pass', key = 'file:{file}' }}"
    ))));
    assert_eq!(
        config.vrrp[0].parameters.authentication,
        Authentication::Password(Password::new(b"s3cret").unwrap())
    );

    fs::write(&file, KEY).unwrap();
    for others in [0o640, 0o604, 0o620] {
        mode(&file, others);
        let problem = problem(hmac(&file));
        assert!(
            problem.contains("others than its owner have access"),
            "{problem}"
        );
        assert!(problem.contains(&format!("chmod 600 {file}")), "{problem}");
        assert!(!problem.contains(KEY), "{problem}");
    }
    assert!(problem(hmac(&folder.file("missing"))).contains("No such file"));
    assert!(problem(hmac(&folder.0)).contains("not a regular file"));
    let fifo = folder.file("fifo");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    assert!(problem(hmac(&fifo)).contains("not a regular file"));
    fs::write(&file, "x".repeat(5000)).unwrap();
    mode(&file, 0o600);
    assert!(problem(hmac(&file)).contains("larger than 4 KiB"));
}

#[test]
fn a_script_that_others_may_write_is_refused() {
    let folder = Folder::new("scripts");
    let file = folder.file("check");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    let load = || {
        parse(&format!(
            "[[track_script]]\nname = 'a'\ncommand = ['{file}']"
        ))
    };
    mode(&file, 0o755);
    good(load());
    for (bits, why) in [
        (0o775, "others than its owner may write"),
        (0o757, "others than its owner may write"),
        (0o644, "is not executable"),
    ] {
        mode(&file, bits);
        let problem = problem(load());
        assert!(problem.contains(why), "{problem}");
    }
}

/// The one router of a file that has `written` beside the keys that must be there.
fn router(written: &str) -> Vrrp {
    good(parse(&source(written))).vrrp.remove(0)
}

fn source(written: &str) -> String {
    format!("[[vrrp]]\nname = 'web'\ninterface = 'eth0'\nvrid = 51\n{written}")
}

fn good(config: Result<Config, vipd::config::Problems>) -> Config {
    config.unwrap_or_else(|problems| panic!("{problems}"))
}

fn problem(config: Result<Config, vipd::config::Problems>) -> String {
    config.unwrap_err().to_string()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(address: &str, interface: &str) -> VirtualAddress {
    VirtualAddress {
        address: address.parse().unwrap(),
        interface: interface.into(),
        advertise: true,
        label: None,
        scope: Scope::Global,
        prefix_route: true,
    }
}

fn peer(address: &str, min_ttl: u8, max_ttl: u8) -> Peer {
    Peer {
        address: ip(address),
        min_ttl,
        max_ttl,
    }
}

fn track(what: Tracked, weight: Option<i32>) -> Track {
    Track { what, weight }
}

fn process_of(name: &str, count: u32) -> Tracked {
    Tracked::Process {
        name: name.into(),
        count,
    }
}

fn key(bytes: &[u8]) -> Key {
    Key::new(bytes.to_vec()).unwrap()
}

fn mode(path: &str, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

/// A folder that is gone at the end of the test.
struct Folder(String);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vipd-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path.to_str().unwrap().to_owned())
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
