//! `vipctl status` for people: fits the terminal, says what is wrong first, colours only when asked.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod fixture;

use std::time::Duration;

use vipd::status::{
    AllFailingStatus, AskedStatus, ConflictStatus, IncompatibleStatus, Look, MasterStatus,
    QuorumStatus, ReloadStatus, ShortageStatus, Status, TrackStatus, render, rfc3339,
};

use self::fixture::{healthy, now};

/// As a terminal without colours shows it.
const TERMINAL: Look = Look {
    color: false,
    width: Some(100),
};
/// As another program reads it.
const PIPE: Look = Look {
    color: false,
    width: None,
};

#[test]
fn a_healthy_director_says_so_and_who_is_master_since_when() {
    let text = render(&healthy(), now(), TERMINAL);
    assert_eq!(
        text,
        "\
lb1  vipd 0.1.0, up 2m14s, all is well: master of 1 of 1, 1 virtual server, 1 of 1 real servers up

ROUTER  INTERFACE  VRID  STATE   PRIO  ADDRESSES
web     eth0       51    master  150   10.77.0.10/24 10.77.0.9/24
  this director is master for 2m10s: no master was heard

http tcp 10.77.0.10:80 rr dr: up, weight 2 (quorum 1)
  REAL SERVER    STATE  WEIGHT  ACTIVE  INACTIVE  CHECK
  10.77.0.21:80  up     1       3       10        http ok, 3 ms

IPVS in sync, repairs 0, compared 4s ago
"
    );
}

#[test]
fn a_backup_names_its_master_and_what_is_particular_about_it() {
    let mut status = healthy();
    status.virtual_servers.clear();
    let router = &mut status.vrrp[0];
    router.state = "backup".to_owned();
    router.why = "hands over".to_owned();
    router.master = Some(peer());
    router.lingering = true;
    router.accept = false;
    router.transport = "unicast".to_owned();
    router.virtual_mac = Some("vrrp4.51".to_owned());
    router.sync_group = Some("both".to_owned());
    assert_eq!(
        render(&status, now(), TERMINAL),
        "\
lb1  vipd 0.1.0, up 2m14s, all is well: master of 0 of 1
! virtual router web: its addresses answer nothing but IPVS services (accept = false)

ROUTER  INTERFACE  VRID  STATE   PRIO  ADDRESSES
web     eth0       51    backup  150   10.77.0.10/24 10.77.0.9/24
  192.168.1.3 (priority 100) is master; this director is backup for 2m10s: hands over; forwards
  until the new master is heard
  answers nothing but IPVS services, unicast, virtual MAC on vrrp4.51, sync group both
"
    );
}

#[test]
fn problems_come_first_each_with_its_object() {
    let mut status = healthy();
    status.vrrp[0].state = "fault".to_owned();
    status.vrrp[0].faults = vec!["the interface is down".to_owned()];
    status.virtual_servers[0].quorum = QuorumStatus {
        needed: 1,
        have: 0,
        up: false,
    };
    let real = &mut status.virtual_servers[0].real_servers[0];
    real.state = "down".to_owned();
    real.weight.effective = 0;
    real.checks[0].last_error = Some("connection refused".to_owned());
    let error = Some("vipd.toml:3:1: vrrp[0].vrid: missing".to_owned());
    status.config.last_reload = Some(ReloadStatus {
        at: rfc3339(now()),
        ok: false,
        error,
    });
    let text = render(&status, now(), TERMINAL);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "lb1  vipd 0.1.0, up 2m14s, 3 problems: master of 0 of 1, 1 virtual server, 0 of 1 real \
         servers up"
    );
    assert_eq!(lines[1], "! virtual router web: the interface is down");
    assert_eq!(
        lines[2..4],
        [
            "! virtual server http: no quorum, weight 0 of 1; 1 of 1 real servers down: 10.77.0.21:80 (http:",
            "! connection refused)",
        ]
    );
    assert!(lines[4].starts_with("! reload at "), "{text}");
    assert_eq!(lines[5], "!   vipd.toml:3:1: vrrp[0].vrid: missing");
    assert!(
        text.contains("down   0/1     3       10        http: connection refused"),
        "{text}"
    );
}

#[test]
fn what_checks_say_of_this_host_and_of_flapping_servers_is_a_problem() {
    let mut status = healthy();
    status.checks.all_failing = Some(AllFailingStatus {
        targets: 12,
        since: "2027-01-01T00:00:00Z".to_owned(),
    });
    status.checks.shortage = Some(ShortageStatus {
        probes: 7,
        last: "2027-01-01T00:00:00Z".to_owned(),
        why: "Too many open files (os error 24)".to_owned(),
    });
    let real = &mut status.virtual_servers[0].real_servers[0];
    real.checks[0].flapping =
        Some("flapping: 5 changes in 10m, stays out until it has passed for 2m".to_owned());
    let text = render(&status, now(), PIPE);
    let lines: Vec<&str> = text.lines().take(4).collect();
    assert_eq!(
        lines,
        [
            "lb1  vipd 0.1.0, up 2m14s, 3 problems: master of 1 of 1, 1 virtual server, 1 of 1 real servers up",
            "! every one of 12 targets fails since 2027-01-01T00:00:00Z: this host's own network may be gone",
            "! 7 probes could not be made since the start, the last at 2027-01-01T00:00:00Z: this host ran out of something: Too many open files (os error 24)",
            "! virtual server http: 10.77.0.21:80 http flapping: 5 changes in 10m, stays out until it has passed for 2m",
        ]
    );
}

#[test]
fn a_check_that_does_not_run_on_a_backup_says_so() {
    let mut status = healthy();
    let check = &mut status.virtual_servers[0].real_servers[0].checks[0];
    check.runs = "not".to_owned();
    let text = render(&status, now(), TERMINAL);
    assert!(
        text.contains("http ok, 3 ms (not checked while backup)"),
        "{text}"
    );
    let check = &mut status.virtual_servers[0].real_servers[0].checks[0];
    check.last_latency_ms = None;
    let text = render(&status, now(), TERMINAL);
    assert!(text.contains("http (not checked while backup)"), "{text}");
}

#[test]
fn what_operators_ordered_of_real_servers_is_told_with_the_way_back() {
    let mut status = healthy();
    let servers = &mut status.virtual_servers[0].real_servers;
    servers[0].state = "draining".to_owned();
    servers[0].weight.effective = 0;
    let mut second = servers[0].clone();
    second.address = "10.77.0.22:80".to_owned();
    second.state = "disabled".to_owned();
    second.weight.ordered = Some(7);
    servers.push(second);
    let text = render(&status, now(), PIPE);
    let lines: Vec<&str> = text.lines().take(4).collect();
    assert_eq!(
        lines,
        [
            "lb1  vipd 0.1.0, up 2m14s, all is well: master of 1 of 1, 1 virtual server, 0 of 2 real \
             servers up",
            "! virtual server http: 10.77.0.21:80 drains: no new connections until `vipctl enable \
             http 10.77.0.21:80`",
            "! virtual server http: 10.77.0.22:80 is disabled: out of the pool until `vipctl enable \
             http 10.77.0.22:80`",
            "! virtual server http: 10.77.0.22:80 has weight 7 instead of 1 until `vipctl weight http \
             10.77.0.22:80 --reset`",
        ]
    );
    assert!(text.contains("10.77.0.21:80  draining  0/1"), "{text}");
}

#[test]
fn a_panic_is_a_problem_that_names_those_who_are_kept() {
    let mut status = healthy();
    let server = &mut status.virtual_servers[0];
    server.panic = true;
    server.real_servers[0].state = "down".to_owned();
    server.real_servers[0].kept = true;
    let mut second = server.real_servers[0].clone();
    second.kept = false;
    second.slow_start = true;
    second.state = "up".to_owned();
    second.weight.configured = 10;
    server.real_servers.push(second);
    let text = render(&status, now(), PIPE);
    assert!(text.contains(", 2 problems: "), "{text}");
    assert!(text.contains("! virtual server http: 1 of 2 real servers down: 10.77.0.21:80\n"));
    let problem = "! virtual server http: panic: fewer than minimum_up pass; in the pool although \
                   their checks fail: 10.77.0.21:80\n";
    assert!(text.contains(problem), "{text}");
    assert!(text.contains("down, kept"), "{text}");
    assert!(text.contains("up, slow start  1/10"), "{text}");
}

#[test]
fn a_split_brain_is_the_loudest_of_all() {
    let mut status = healthy();
    status.maintenance = true;
    let router = &mut status.vrrp[0];
    router.rival = Some(peer());
    router.conflicts = vec![ConflictStatus {
        address: "10.77.0.10".to_owned(),
        mac: "02:00:00:00:00:03".to_owned(),
        last: rfc3339(now()),
    }];
    router.suspect = Some("02:00:00:00:00:04".to_owned());
    router.incompatible = Some(IncompatibleStatus {
        address: "192.168.1.4".to_owned(),
        reason: "version".to_owned(),
        since: rfc3339(now() - Duration::from_secs(70)),
    });
    router.yielded = true;
    router.track = vec![
        track("script gateway", false, Some(-40)),
        track("interface eth1", false, None),
        track("interface eth2", true, None),
    ];
    let text = render(&status, now(), PIPE);
    let problems: Vec<&str> = text.lines().filter(|line| line.starts_with('!')).collect();
    assert_eq!(
        problems,
        [
            "! virtual router web: two masters: 192.168.1.3 (priority 100) is master, too",
            "! virtual router web: address conflict: 02:00:00:00:00:03 claims 10.77.0.10",
            "! virtual router web: suspect: no master is heard, but 02:00:00:00:00:04 answers for \
             the addresses; waiting",
            "! virtual router web: the peer 192.168.1.4 lives, but cannot be understood, for \
             1m10s: it speaks another version (version)",
            "! maintenance is on: this director takes no part until `vipctl maintenance off`",
            "! virtual router web: script gateway: exit status 1 (weight -40)",
            // No problem, but not what everybody expects.
            "! virtual router web: handed over by `vipctl switchover`: does not take back from a \
             living master",
        ]
    );
    assert!(text.starts_with("lb1  vipd 0.1.0, up 2m14s, 6 problems: "));
}

#[test]
fn a_service_that_the_kernel_does_not_have_is_not_up() {
    let mut status = healthy();
    status.ipvs.in_sync = false;
    status.ipvs.refused = vec!["add service tcp 10.77.0.10:80: no module".to_owned(); 5];
    status.virtual_servers[0].missing = true;
    let text = render(&status, now(), PIPE);
    assert!(
        text.contains("rr dr: not in the kernel, weight 2"),
        "{text}"
    );
    assert!(text.contains("! virtual server http: the kernel does not have it\n"));
    assert!(text.contains("! IPVS: add service tcp 10.77.0.10:80: no module\n"));
    assert!(
        text.contains("! IPVS: 2 more changes are refused"),
        "{text}"
    );
}

#[test]
fn on_a_terminal_every_line_fits_and_words_stay_whole() {
    let status = crowded();
    for width in [100, 120, 200] {
        let look = Look {
            color: false,
            width: Some(width),
        };
        let text = render(&status, now(), look);
        for line in text.lines() {
            let columns = line.chars().count();
            assert!(columns <= width, "{columns} columns: {line}");
        }
        assert_eq!(text.matches("reason").count(), 60, "{text}");
        assert_eq!(text.matches("word").count(), 80, "{text}");
    }
}

#[test]
fn a_pipe_gets_whole_lines_however_long() {
    let text = render(&crowded(), now(), PIPE);
    let fault = format!(
        "! virtual router {}: {}",
        "long-".repeat(20),
        "word ".repeat(80)
    );
    assert!(text.lines().any(|line| line == fault), "{text}");
    let addresses: Vec<String> = (1..=200).map(|n| format!("10.0.0.{n}/32")).collect();
    assert!(text.contains(&addresses.join(" ")), "{text}");
}

#[test]
fn a_terminal_shows_addresses_on_a_few_lines_and_counts_the_rest() {
    let mut status = healthy();
    status.virtual_servers.clear();
    let addresses = (101..=125).map(|n| format!("10.77.0.{n}/24"));
    status.vrrp[0].virtual_addresses = addresses.collect();
    let text = render(&status, now(), TERMINAL);
    let lines: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "web     eth0       51    master  150   10.77.0.101/24 10.77.0.102/24 10.77.0.103/24 10.77.0.104/24",
            "                                       10.77.0.105/24 10.77.0.106/24 10.77.0.107/24 10.77.0.108/24",
            "                                       10.77.0.109/24 10.77.0.110/24 10.77.0.111/24 10.77.0.112/24",
            "                                       10.77.0.113/24 10.77.0.114/24 10.77.0.115/24 10.77.0.116/24",
            "                                       and 9 more",
            "  this director is master for 2m10s: no master was heard",
        ]
    );
}

#[test]
fn colour_is_only_there_when_asked_for() {
    assert!(!render(&healthy(), now(), TERMINAL).contains('\x1b'));
    let look = Look {
        color: true,
        ..TERMINAL
    };
    let text = render(&healthy(), now(), look);
    assert!(text.contains("\x1b[32mmaster"), "{text}");
    assert!(text.contains("\x1b[32mall is well"), "{text}");
}

#[test]
fn the_json_names_are_those_users_were_promised() {
    let json = serde_json::to_value(healthy()).unwrap();
    for pointer in [
        "/name",
        "/version",
        "/uptime_seconds",
        "/maintenance",
        "/events_last_id",
        "/vrrp/0/name",
        "/vrrp/0/interface",
        "/vrrp/0/family",
        "/vrrp/0/vrid",
        "/vrrp/0/version",
        "/vrrp/0/state",
        "/vrrp/0/faults",
        "/vrrp/0/priority/configured",
        "/vrrp/0/priority/effective",
        "/vrrp/0/advert_interval_ms",
        "/vrrp/0/virtual_addresses/0",
        "/vrrp/0/transport",
        "/vrrp/0/virtual_mac",
        "/vrrp/0/accept",
        "/vrrp/0/sync_group",
        "/vrrp/0/rival",
        "/vrrp/0/suspect",
        "/vrrp/0/incompatible",
        "/vrrp/0/yielded",
        "/vrrp/0/lingering",
        "/vrrp/0/track",
        "/vrrp/0/takeover_probe",
        "/vrrp/0/master/address",
        "/vrrp/0/master/priority",
        "/vrrp/0/since",
        "/vrrp/0/transitions",
        "/vrrp/0/counters/adverts_sent",
        "/vrrp/0/counters/adverts_received",
        "/vrrp/0/counters/discarded/ttl",
        "/virtual_servers/0/name",
        "/virtual_servers/0/address",
        "/virtual_servers/0/protocol",
        "/virtual_servers/0/scheduler",
        "/virtual_servers/0/forwarding",
        "/virtual_servers/0/active",
        "/virtual_servers/0/quorum/needed",
        "/virtual_servers/0/quorum/have",
        "/virtual_servers/0/quorum/up",
        "/virtual_servers/0/real_servers/0/address",
        "/virtual_servers/0/real_servers/0/state",
        "/virtual_servers/0/real_servers/0/weight/configured",
        "/virtual_servers/0/real_servers/0/weight/effective",
        "/virtual_servers/0/real_servers/0/checks/0/type",
        "/virtual_servers/0/real_servers/0/checks/0/state",
        "/virtual_servers/0/real_servers/0/checks/0/last_error",
        "/virtual_servers/0/real_servers/0/checks/0/last_latency_ms",
        "/virtual_servers/0/real_servers/0/connections/active",
        "/virtual_servers/0/real_servers/0/connections/inactive",
        "/virtual_servers/0/real_servers/0/connections/persistent",
        "/ipvs/in_sync",
        "/ipvs/repairs",
        "/ipvs/last_resync",
    ] {
        assert!(
            json.pointer(pointer).is_some(),
            "{pointer} is missing in {json:#}"
        );
    }
}

#[test]
fn a_check_that_asks_for_a_weight_says_so() {
    let mut status = healthy();
    let real = &mut status.virtual_servers[0].real_servers[0];
    real.weight.configured = 40;
    real.weight.effective = 30;
    for (asks_for, words) in [
        (AskedStatus::Percent(75), "http ok, 3 ms, asks for 75 %"),
        (
            AskedStatus::Absolute(30),
            "http ok, 3 ms, asks for weight 30",
        ),
    ] {
        status.virtual_servers[0].real_servers[0].checks[0].asks_for = Some(asks_for);
        let page = render(&status, now(), PIPE);
        assert!(page.contains(words) && page.contains("30/40"), "{page}");
    }
}

#[test]
fn two_hundred_virtual_servers_are_one_screen_with_those_first_that_are_not_well() {
    let mut status = healthy();
    let server = status.virtual_servers.remove(0);
    status.virtual_servers = (0..200)
        .map(|number| {
            let mut server = server.clone();
            server.name = format!("service-{number}");
            server
        })
        .collect();
    for number in [150, 170] {
        let real = &mut status.virtual_servers[number].real_servers[0];
        real.state = "down".to_owned();
        real.checks[0].last_error = Some("connection refused".to_owned());
    }
    let text = render(&status, now(), TERMINAL);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() < 45, "{text}");
    assert!(
        lines[0].ends_with("2 problems") && lines[1].ends_with("198 of 200 real servers up"),
        "{text}"
    );
    assert_eq!(
        lines[2..4],
        [
            "! virtual server service-150: 1 of 1 real servers down: 10.77.0.21:80 (http: connection refused)",
            "! virtual server service-170: 1 of 1 real servers down: 10.77.0.21:80 (http: connection refused)",
        ]
    );
    let table: Vec<&str> = lines
        .iter()
        .filter(|l| l.starts_with("service-"))
        .copied()
        .collect();
    assert!(
        table[0].starts_with("service-150     10.77.0.10:80  0/1"),
        "{text}"
    );
    assert!(
        table[1].starts_with("service-170     10.77.0.10:80  0/1"),
        "{text}"
    );
    assert!(
        table[2].starts_with("service-0       10.77.0.10:80  1/1"),
        "{text}"
    );
    assert!(
        text.contains("and 178 more virtual servers, all well\n"),
        "{text}"
    );
    // Whoever reads it with a program gets everything.
    let all = render(&status, now(), PIPE);
    assert_eq!(all.matches("REAL SERVER").count(), 200);
}

#[test]
fn many_problems_of_one_kind_do_not_hide_how_many_there_are() {
    let mut status = healthy();
    let mut server = status.virtual_servers.remove(0);
    server.quorum.up = false;
    server.missing = true;
    status.virtual_servers = vec![server; 50];
    status.ipvs.refused = vec!["the kernel has no IPVS".to_owned()];
    let text = render(&status, now(), TERMINAL);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("52 problems"), "{text}");
    // The cause, then what follows from it.
    assert_eq!(lines[2], "! IPVS: the kernel has no IPVS");
    assert_eq!(
        lines[3],
        "! virtual servers http, http, http and 47 more: the kernel does not have them"
    );
    assert!(
        text.contains("! and 36 more (vipctl status | less)\n"),
        "{text}"
    );
}

#[test]
fn a_hundred_virtual_routers_are_some_and_how_many_more() {
    let mut status = healthy();
    status.vrrp = vec![status.vrrp[0].clone(); 100];
    let text = render(&status, now(), TERMINAL);
    let more = "and 84 more virtual routers, master of 84 of them (vipctl status | less)\n";
    assert!(text.contains(more), "{text}");
    assert_eq!(
        render(&status, now(), PIPE).matches("web     eth0").count(),
        100
    );
}

/// Names and reasons as long as they can be.
fn crowded() -> Status {
    let mut status = healthy();
    let router = &mut status.vrrp[0];
    router.name = "long-".repeat(20);
    router.interface = "wlp0s20f0u3u4.1".to_owned();
    router.faults = vec!["word ".repeat(80)];
    router.virtual_addresses = (1..=200).map(|n| format!("10.0.0.{n}/32")).collect();
    let server = &mut status.virtual_servers[0];
    server.name = "another-very-long-name".repeat(10);
    server.real_servers[0].checks[0].last_error = Some("reason ".repeat(60));
    server.address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".to_owned();
    server.real_servers[0].address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".to_owned();
    status
}

fn peer() -> MasterStatus {
    MasterStatus {
        address: "192.168.1.3".to_owned(),
        priority: 100,
    }
}

fn track(what: &str, ok: bool, weight: Option<i32>) -> TrackStatus {
    TrackStatus {
        what: what.to_owned(),
        ok,
        // As the director says it: `what` is in it.
        detail: weight.map_or_else(
            || format!("{what}: exit status 1"),
            |weight| format!("{what}: exit status 1 (weight {weight})"),
        ),
        weight,
    }
}
