//! What `vipctl plan` says: every change of every key, in words, and nothing where nothing changes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use vipd::config::{Config, without_secrets};
use vipd::plan::{self, Plan, Risk};

/// Every kind of table, with the keys that the changes below are about.
const FULL: &str = r#"
[global]
name = "lb1"
control_socket = "/run/vipd/control.sock"
http = "127.0.0.1:9650"
state_dir = "/var/lib/vipd"

[ipvs]
resync_interval = "10s"
on_stop = "remove"
timeouts = { tcp = "15m", tcp_fin = "2m", udp = "5m" }
sysctl = { expire_nodest_conn = true, sync_ports = 1 }
sync = { interface = "eth1", id = 51, port = 8848, ttl = 1 }

[[vrrp]]
name = "web"
interface = "eth0"
vrid = 51
version = 3
priority = 100
advert_interval = "1s"
preempt = true
preempt_delay = "0s"
start_delay = "0s"
down_adverts = 3
accept = true
checksum = "rfc5798"
takeover_probe = "hold"
virtual_addresses = ["10.0.0.5/24", "10.0.0.6/24", { address = "10.1.0.5/24", interface = "eth1", advertise = false }]
virtual_routes = [{ to = "10.9.0.0/16", via = "10.0.0.1", table = 100, metric = 50 }]
virtual_rules = [{ priority = 100, from = "10.0.0.5", table = 100 }]
authentication = { type = "hmac", key_id = 1, key = "an example of 32 bytes, not a key", keys = [{ id = 2, key = "hex:6b0f8d1c2e3a495867768594a3b2c1d0e1f20312233445566778899aabbccdde" }], window = "6s" }
garp = { repeat = 5, delay = "5s", refresh = "0s" }
heartbeat = [{ interface = "eth1" }]
reachable = { any_of = ["10.0.0.1"], interval = "1s", timeout = "500ms", fall = 3 }
track = [{ interface = "eth1" }, { script = "gateway", weight = -40 }, { process = "nginx", count = 1 }]

[[vrrp]]
name = "shop"
interface = "eth0"
vrid = 52
priority = 150
virtual_addresses = ["10.0.0.7/24"]
authentication = { type = "pass", key = "s3cret" }
unicast = { source = "10.0.0.11", peers = ["10.0.0.12"], ttl = 255 }

[[sync_group]]
name = "both"
members = ["web", "shop"]

[[track_script]]
name = "gateway"
command = ["/usr/bin/ping", "-c1", "10.0.0.1"]
interval = "2s"
timeout = "1s"
rise = 1
fall = 2
user = "nobody"

[[virtual_server]]
name = "http"
address = "10.0.0.5:80"
protocol = "tcp"
vrrp = "web"
active = "always"
scheduler = "sh"
scheduler_flags = ["sh-port"]
forwarding = "dr"
persistence = { timeout = "600s", netmask = 32 }
quorum = 2
hysteresis = 0
on_failure = "remove"
slow_start = "0s"
minimum_up = 0
sorry_server = "10.0.0.99"
when = "master"
backup_interval = "60s"
check = { type = "http", path = "/health", status = "200-299", interval = "5s", timeout = "3s", rise = 1, fall = 2, headers = { Cookie = "s3cret" }, host = "www", method = "GET", body_contains = "ok" }

[[virtual_server.real_server]]
address = "10.0.0.21"
weight = 1
upper_threshold = 0
lower_threshold = 0

[[virtual_server.real_server]]
address = "10.0.0.22"
weight = 3
require = "all"
checks = [{ type = "tcp", start = "down", port = 81, fast_interval = "1s", down_interval = "30s", flap = { count = 5, within = "10m", stable = "2m" } }, { type = "ping", source = "10.0.0.11" }]

[[virtual_server]]
name = "dns"
addresses = ["10.0.0.6:53", "10.0.0.7:53"]
protocol = "udp"
one_packet = true
forwarding = "tun"
tunnel = { type = "ipip" }
check = { type = "dns", name = "example.org", record = "a" }

[[virtual_server.real_server]]
address = "10.0.0.31"

[[virtual_server]]
name = "marked"
fwmark = 3
mark = [{ protocol = "tcp", address = "10.0.0.5", ports = [443] }]
check = { type = "script", command = ["/usr/bin/true"], user = "nobody" }

[[virtual_server.real_server]]
address = "10.0.0.41"
"#;

/// What is replaced by what, and a piece of what the plan says of it.
const CHANGES: &[(&str, &str, &str)] = &[
    ("\"lb1\"", "\"lb2\"", "global: name lb1 → lb2"),
    ("vipd/control.sock", "vipd/c.sock", "control_socket"),
    (
        "\"127.0.0.1:9650\"",
        "\"127.0.0.1:9651\"",
        "http 127.0.0.1:9650 → 127.0.0.1:9651",
    ),
    ("\"/var/lib/vipd\"", "\"/var/lib/v\"", "state_dir"),
    (
        "resync_interval = \"10s\"",
        "resync_interval = \"20s\"",
        "resync_interval 10s → 20s",
    ),
    (
        "on_stop = \"remove\"",
        "on_stop = \"keep\"",
        "ipvs: on_stop remove → keep",
    ),
    ("tcp_fin = \"2m\"", "tcp_fin = \"3m\"", "timeouts"),
    (
        "expire_nodest_conn = true",
        "expire_nodest_conn = false",
        "sysctl expire_nodest_conn 1 → 0",
    ),
    (
        "sync_ports = 1",
        "sync_ports = 2",
        "sysctl sync_ports 1 → 2",
    ),
    ("id = 51, port", "id = 52, port", "sync.id 51 → 52"),
    ("port = 8848", "port = 8850", "sync.port"),
    ("ttl = 1 }", "ttl = 2 }", "sync.ttl 1 → 2"),
    (
        "sync = { interface = \"eth1\"",
        "sync = { interface = \"eth2\"",
        "sync.interface",
    ),
    ("vrid = 51", "vrid = 61", "vrrp web: vrid 51 → 61"),
    (
        "priority = 100\nadvert",
        "priority = 150\nadvert",
        "vrrp web: priority 100 → 150; may take over",
    ),
    (
        "priority = 150\nvirtual",
        "priority = 15\nvirtual",
        "vrrp shop: priority 150 → 15; a peer may take over",
    ),
    (
        "advert_interval = \"1s\"",
        "advert_interval = \"500ms\"",
        "advert_interval 1s → 500ms",
    ),
    ("preempt = true", "preempt = false", "preempt true → false"),
    (
        "preempt_delay = \"0s\"",
        "preempt_delay = \"9s\"",
        "preempt_delay 0s → 9s",
    ),
    (
        "start_delay = \"0s\"",
        "start_delay = \"9s\"",
        "start_delay 0s → 9s",
    ),
    ("down_adverts = 3", "down_adverts = 5", "down_adverts 3 → 5"),
    ("accept = true", "accept = false", "accept true → false"),
    ("\"rfc5798\"", "\"rfc9568\"", "checksum rfc5798 → rfc9568"),
    (
        "takeover_probe = \"hold\"",
        "takeover_probe = \"off\"",
        "takeover_probe hold → off",
    ),
    (
        "\"10.0.0.5/24\", \"10.0.0.6/24\"",
        "\"10.0.0.6/24\", \"10.0.0.5/24\"",
        "virtual_addresses in another order",
    ),
    (
        "\"10.0.0.7/24\"",
        "\"10.0.0.8/24\"",
        "vrrp shop: without VIP 10.0.0.7/24",
    ),
    (
        "{ address = \"10.1.0.5/24\", interface = \"eth1\"",
        "{ address = \"10.1.0.5/24\", interface = \"eth2\"",
        "VIP 10.1.0.5: interface eth1 → eth2",
    ),
    (
        "\"10.1.0.5/24\"",
        "\"10.1.0.5/16\"",
        "VIP 10.1.0.5: prefix length 24 → 16",
    ),
    (
        "metric = 50",
        "metric = 60",
        "virtual_routes with 10.9.0.0/16 via 10.0.0.1 table 100 metric 60",
    ),
    (
        "virtual_rules = [{ priority = 100",
        "virtual_rules = [{ priority = 101",
        "virtual_rules",
    ),
    (
        "an example of 32",
        "An example of 32",
        "authentication key 1 is another",
    ),
    ("hex:6b", "hex:6c", "authentication key 2 is another"),
    (
        "window = \"6s\"",
        "window = \"7s\"",
        "authentication.window 6s → 7s",
    ),
    (
        "garp = { repeat = 5",
        "garp = { repeat = 6",
        "garp.repeat 5 → 6",
    ),
    (
        "refresh = \"0s\"",
        "refresh = \"60s\"",
        "garp.refresh 0s → 1m",
    ),
    (
        "heartbeat = [{ interface = \"eth1\" }]",
        "heartbeat = []",
        "heartbeat without eth1",
    ),
    (
        "any_of = [\"10.0.0.1\"]",
        "any_of = [\"10.0.0.2\"]",
        "reachable.any_of with 10.0.0.2",
    ),
    (
        "timeout = \"500ms\"",
        "timeout = \"400ms\"",
        "reachable.timeout",
    ),
    (
        "weight = -40",
        "weight = -50",
        "track with script gateway, weight -50",
    ),
    (
        "count = 1 }",
        "count = 2 }",
        "track with process nginx (at least 2)",
    ),
    (
        "\"s3cret\" }\nunicast",
        "\"t3cret\" }\nunicast",
        "vrrp shop: authentication another password",
    ),
    (
        "peers = [\"10.0.0.12\"]",
        "peers = [\"10.0.0.13\"]",
        "unicast.peers with 10.0.0.13",
    ),
    (
        "source = \"10.0.0.11\", peers",
        "source = \"10.0.0.14\", peers",
        "unicast.source",
    ),
    (
        "name = \"both\"",
        "name = \"all\"",
        "sync_group both: removed",
    ),
    (
        "[\"web\", \"shop\"]",
        "[\"shop\", \"web\"]",
        "sync_group both: members in another order",
    ),
    (
        "\"-c1\"",
        "\"-c2\"",
        "track_script gateway: command /usr/bin/ping -c1 10.0.0.1 → ",
    ),
    (
        "interval = \"2s\"",
        "interval = \"3s\"",
        "track_script gateway: interval 2s → 3s",
    ),
    (
        "fall = 2\nuser",
        "fall = 3\nuser",
        "track_script gateway: fall 2 → 3",
    ),
    (
        "user = \"nobody\"\n",
        "user = \"root\"\n",
        "track_script gateway: user nobody → root",
    ),
    (
        "\"10.0.0.5:80\"",
        "\"10.0.0.5:81\"",
        "service http: address tcp 10.0.0.5:80 → tcp 10.0.0.5:81",
    ),
    (
        "protocol = \"tcp\"\nvrrp",
        "protocol = \"sctp\"\nvrrp",
        "service http: address",
    ),
    (
        "vrrp = \"web\"\n",
        "vrrp = \"shop\"\n",
        "service http: vrrp web → shop",
    ),
    (
        "active = \"always\"",
        "active = \"master\"",
        "active always → master",
    ),
    ("[\"sh-port\"]", "[\"sh-fallback\"]", "scheduler flag"),
    (
        "forwarding = \"dr\"",
        "forwarding = \"nat\"",
        "service http: forwarding dr → nat",
    ),
    (
        "timeout = \"600s\"",
        "timeout = \"300s\"",
        "persistence.timeout 10m → 5m",
    ),
    (
        "netmask = 32",
        "netmask = 24",
        "persistence.netmask 32 → 24",
    ),
    ("quorum = 2", "quorum = 3", "quorum 2 → 3"),
    ("hysteresis = 0", "hysteresis = 1", "hysteresis 0 → 1"),
    (
        "on_failure = \"remove\"",
        "on_failure = \"zero-weight\"",
        "on_failure remove → zero-weight",
    ),
    (
        "slow_start = \"0s\"",
        "slow_start = \"30s\"",
        "slow_start 0s → 30s",
    ),
    (
        "minimum_up = 0",
        "minimum_up = \"50%\"",
        "minimum_up 0 → 50%",
    ),
    (
        "\"10.0.0.99\"",
        "\"10.0.0.98\"",
        "sorry_server 10.0.0.99:80 → 10.0.0.98:80",
    ),
    (
        "backup_interval = \"60s\"",
        "backup_interval = \"90s\"",
        "check policy",
    ),
    (
        "path = \"/health\"",
        "path = \"/up\"",
        "path of the http check of 10.0.0.21 /health → /up",
    ),
    (
        "\"200-299\"",
        "\"200\"",
        "status of the http check of 10.0.0.21 200-299 → 200",
    ),
    (
        "interval = \"5s\", timeout",
        "interval = \"6s\", timeout",
        "interval of the http check of 10.0.0.21 5s → 6s",
    ),
    (
        "\"3s\", rise = 1",
        "\"3s\", rise = 2",
        "rise of the http check of 10.0.0.21 1 → 2",
    ),
    (
        "Cookie = \"s3cret\"",
        "Cookie = \"t3cret\"",
        "headers of the http check of 10.0.0.21 changes",
    ),
    (
        "host = \"www\"",
        "host = \"web\"",
        "host of the http check of 10.0.0.21 www → web",
    ),
    ("\"GET\"", "\"POST\"", "method of the http check"),
    (
        "body_contains = \"ok\"",
        "body_contains = \"up\"",
        "body_contains",
    ),
    (
        "weight = 1\n",
        "weight = 5\n",
        "service http: weight of 10.0.0.21 1 → 5",
    ),
    (
        "weight = 3\n",
        "weight = 0\n",
        "service http: weight of 10.0.0.22 3 → 0; no new connections",
    ),
    (
        "upper_threshold = 0",
        "upper_threshold = 100",
        "upper_threshold of 10.0.0.21 0 → 100",
    ),
    (
        "\"10.0.0.21\"",
        "\"10.0.0.23\"",
        "service http: 10.0.0.21 goes; connections to it break",
    ),
    (
        "require = \"all\"",
        "require = \"any\"",
        "require of 10.0.0.22 all → any",
    ),
    (
        "start = \"down\"",
        "start = \"up\"",
        "start of the tcp check of 10.0.0.22 down → up",
    ),
    (
        "port = 81",
        "port = 82",
        "target of the tcp check of 10.0.0.22",
    ),
    (
        "fast_interval = \"1s\"",
        "fast_interval = \"2s\"",
        "fast_interval of the tcp check",
    ),
    (
        "down_interval = \"30s\"",
        "down_interval = \"31s\"",
        "down_interval of the tcp check",
    ),
    (
        "flap = { count = 5",
        "flap = { count = 6",
        "flap of the tcp check",
    ),
    (
        "{ type = \"ping\", source = \"10.0.0.11\" }",
        "{ type = \"ping\" }",
        "source of the ping check of 10.0.0.22 10.0.0.11 → none",
    ),
    (
        "{ type = \"ping\", source = \"10.0.0.11\" }",
        "{ type = \"tcp\" }",
        "check of 10.0.0.22 tcp, ping → tcp, tcp",
    ),
    (
        "\"10.0.0.6:53\", \"10.0.0.7:53\"",
        "\"10.0.0.6:53\"",
        "service dns: without udp 10.0.0.7:53",
    ),
    (
        "\"10.0.0.6:53\", \"10.0.0.7:53\"",
        "\"10.0.0.7:53\", \"10.0.0.6:53\"",
        "service dns: its addresses stand in another order",
    ),
    (
        "one_packet = true",
        "one_packet = false",
        "one_packet true → false",
    ),
    (
        "{ type = \"ipip\" }",
        "{ type = \"gre\" }",
        "service dns: forwarding tun",
    ),
    (
        "record = \"a\"",
        "record = \"aaaa\"",
        "request or expectation of the dns check of 10.0.0.31 changes",
    ),
    ("fwmark = 3", "fwmark = 4", "service marked: address"),
    (
        "ports = [443]",
        "ports = [444]",
        "service marked: mark with tcp 10.0.0.5 444",
    ),
    (
        "/usr/bin/true",
        "/usr/bin/false",
        "request or expectation of the script check of 10.0.0.41",
    ),
    (
        "name = \"marked\"",
        "name = \"secure\"",
        "service secure: is called secure now, was marked",
    ),
];

#[test]
fn the_same_configuration_is_an_empty_plan() {
    let plan = plan_of(FULL, &format!("# with a comment\n{FULL}"));
    assert!(plan.is_empty(), "{}", plan.page());
    assert_eq!(plan.page(), "nothing would change\n");
}

#[test]
fn every_change_of_a_key_is_told_in_words_there_and_back() {
    let mut wrong = Vec::new();
    for (old, new, words) in CHANGES {
        let changed = replaced(FULL, old, new);
        if let Err(problems) = Config::parse(&changed, "vipd.toml") {
            wrong.push(format!("{new}: {problems}"));
            continue;
        }
        let page = plan_of(FULL, &changed).page();
        if !page.contains(words) {
            wrong.push(format!("{old} → {new}: no {words:?} in\n{page}"));
        }
        let back = plan_of(&changed, FULL);
        if back.is_empty() {
            wrong.push(format!("{new} → {old} is not told"));
        }
        for page in [page, back.page()] {
            if page.contains("cret") || page.contains("xample of") {
                wrong.push(format!("a secret: {page}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_address_that_moves_is_told_once_and_with_both_routers() {
    let moved = replaced(FULL, "\"10.0.0.5/24\", ", "");
    let moved = replaced(
        &moved,
        "[\"10.0.0.7/24\"]",
        "[\"10.0.0.7/24\", \"10.0.0.5/24\"]",
    );
    let plan = plan_of(FULL, &moved);
    let words: Vec<String> = plan.changes.iter().map(plan::Change::words).collect();
    let expected = "vrrp shop: moves VIP 10.0.0.5 from vrrp web to shop; stays in place where this \
                    director is master of both";
    assert_eq!(words, [expected]);
    assert!(
        plan.page()
            .ends_with("1 change; 1 may move addresses (~); restarts nothing\n")
    );
}

#[test]
fn swapped_vrids_name_the_router_whose_role_is_taken_over() {
    let swapped = replaced(FULL, "vrid = 51", "vrid = 0");
    let swapped = replaced(&swapped, "vrid = 52", "vrid = 51");
    let swapped = replaced(&swapped, "vrid = 0", "vrid = 52");
    let page = plan_of(FULL, &swapped).page();
    assert!(
        page.contains("vrrp web: vrid 51 → 52; takes the role of shop over"),
        "{page}"
    );
    assert!(
        page.contains("vrrp shop: vrid 52 → 51; takes the role of web over"),
        "{page}"
    );
}

#[test]
fn a_renamed_router_is_the_same_router() {
    let text = FULL.replace("\"web\"", "\"front\"");
    let page = plan_of(FULL, &text).page();
    assert!(
        page.contains("vrrp front: is called front now, was web"),
        "{page}"
    );
    assert!(!page.contains("VIP") && !page.contains("removed"), "{page}");
}

#[test]
fn only_what_breaks_something_is_marked_so() {
    let risk = |old, new| {
        let plan = plan_of(FULL, &replaced(FULL, old, new));
        plan.changes.iter().map(|change| change.risk).max()
    };
    assert_eq!(risk("weight = 1\n", "weight = 5\n"), Some(Risk::None));
    assert_eq!(
        risk("priority = 100\n", "priority = 90\n"),
        Some(Risk::MayMove)
    );
    assert_eq!(risk("\"10.0.0.21\"", "\"10.0.0.23\""), Some(Risk::Breaks));
    assert_eq!(risk("/var/lib/vipd", "/var/lib/v"), Some(Risk::Restart));
}

#[test]
fn the_same_change_of_many_real_servers_is_one_line() {
    let many = |weight| {
        let head = "[[virtual_server]]\nname = \"http\"\naddress = \"10.0.0.5:80\"\n";
        let real = |n| {
            format!("[[virtual_server.real_server]]\naddress = \"10.0.1.{n}\"\nweight = {weight}\n")
        };
        let reals: String = (1..=50).map(real).collect();
        format!("{head}{reals}")
    };
    let plan = plan_of(&many(1), &many(2));
    let words = "  service http: weight of 10.0.1.1, 10.0.1.2, 10.0.1.3 and 47 more 1 → 2\n";
    assert!(plan.page().starts_with(words), "{}", plan.page());
    assert_eq!(plan.changes.first().unwrap().of.len(), 50);
}

#[test]
fn no_secret_is_left_in_a_text_that_is_shown() {
    let text = format!(
        "{FULL}\n# authentication = {{ type = \"pass\", key = \"0ldpass\" }}\n#key=0ldkey\n\
         # the key of both directors\n"
    );
    let shown = without_secrets(&text);
    for secret in ["s3cret", "an example", "6b0f8d1c", "0ldpass", "0ldkey"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(
        shown.contains("key = \"<hidden>\", keys = [{ id = 2, key = \"<hidden>\" }]"),
        "{shown}"
    );
    assert!(shown.contains("# the key of both directors\n"), "{shown}");
    assert!(
        shown.contains("type = \"pass\", key = \"<hidden>\""),
        "{shown}"
    );
    let broken = without_secrets("[[vrrp]]\nauthentication = { key = \"s3cret\n");
    assert!(!broken.contains("s3cret"), "{broken}");
}

proptest! {
    /// Any number of changes at once: a plan is empty if and only if nothing differs.
    #[test]
    fn configurations_that_differ_never_have_an_empty_plan(
        old in prop::collection::vec(0..CHANGES.len(), 0..6),
        new in prop::collection::vec(0..CHANGES.len(), 0..6),
    ) {
        let (old, new) = (changed(&old), changed(&new));
        // Some changes exclude each other: that is no configuration, then.
        if let (Ok(old), Ok(new)) = (Config::parse(&old, "old"), Config::parse(&new, "new")) {
            let plan = plan::compare(&old, &new);
            prop_assert_eq!(plan.is_empty(), old == new, "{}", plan.page());
            prop_assert!(plan::compare(&new, &new).is_empty());
        }
    }
}

fn changed(numbers: &[usize]) -> String {
    numbers.iter().fold(FULL.to_owned(), |text, number| {
        CHANGES
            .get(*number)
            .map_or(text.clone(), |(old, new, _)| text.replacen(old, new, 1))
    })
}

fn replaced(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old} is not there once");
    text.replacen(old, new, 1)
}

fn plan_of(old: &str, new: &str) -> Plan {
    plan::compare(&config(old), &config(new))
}

fn config(text: &str) -> Config {
    Config::parse(text, "vipd.toml").unwrap_or_else(|problems| panic!("{problems}"))
}
