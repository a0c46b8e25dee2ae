//! `vipctl status` for people: fits the page, says what is wrong first, colours only when asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use vipd::status::{
    CheckStatus, ConfigStatus, ConnectionsStatus, IpvsStatus, MasterStatus, PriorityStatus,
    QuorumStatus, RealServerStatus, ReloadStatus, Status, VirtualServerStatus, VrrpCounters,
    VrrpStatus, WeightStatus, render, rfc3339,
};

#[test]
fn a_healthy_director_fits_on_one_page_and_has_no_problems() {
    let text = render(&healthy(), now(), false);
    assert_eq!(
        text,
        "\
lb1  vipd 0.1.0, up 2m14s

ROUTER  INTERFACE  VRID  STATE   PRIO  MASTER  SINCE  ADDRESSES
web     eth0       51    master  150   this    2m10s  10.77.0.10/24 +1

http tcp 10.77.0.10:80 rr dr: up, weight 2 (quorum 1)
  REAL SERVER    STATE  WEIGHT  ACTIVE  INACTIVE  CHECK
  10.77.0.21:80  up     1       3       10        http ok, 3 ms

IPVS in sync, repairs 0, compared 4s ago
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
    let text = render(&status, now(), false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "! virtual router web: the interface is down");
    assert_eq!(lines[2], "! virtual server http: no quorum, weight 0 of 1");
    assert!(lines[3].starts_with("! reload at "), "{text}");
    assert_eq!(lines[4], "!   vipd.toml:3:1: vrrp[0].vrid: missing");
    assert!(
        text.contains("down   0/1     3       10        http: connection refused"),
        "{text}"
    );
}

#[test]
fn no_line_is_wider_than_a_hundred_columns_whatever_the_names() {
    let mut status = healthy();
    status.vrrp[0].name = "a-very-long-name-".repeat(10);
    status.vrrp[0].interface = "wlp0s20f0u3u4.10".to_owned();
    status.vrrp[0].faults = vec!["word ".repeat(80)];
    let server = &mut status.virtual_servers[0];
    server.name = "another-very-long-name".repeat(10);
    server.real_servers[0].checks[0].last_error = Some("reason ".repeat(60));
    server.address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".to_owned();
    server.real_servers[0].address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".to_owned();
    let text = render(&status, now(), false);
    for line in text.lines() {
        assert!(
            line.chars().count() <= 100,
            "{} columns: {line}",
            line.chars().count()
        );
    }
}

#[test]
fn colour_is_only_there_when_asked_for() {
    assert!(!render(&healthy(), now(), false).contains('\x1b'));
    assert!(render(&healthy(), now(), true).contains("\x1b[32mmaster"));
}

#[test]
fn the_json_names_are_those_users_were_promised() {
    let json = serde_json::to_value(healthy()).unwrap();
    for pointer in [
        "/name",
        "/version",
        "/uptime_seconds",
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

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn healthy() -> Status {
    let ago = |seconds| rfc3339(now() - Duration::from_secs(seconds));
    Status {
        name: "lb1".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_seconds: 134,
        vrrp: vec![VrrpStatus {
            name: "web".to_owned(),
            interface: "eth0".to_owned(),
            family: "ipv4".to_owned(),
            vrid: 51,
            version: 2,
            state: "master".to_owned(),
            why: "no master was heard".to_owned(),
            faults: vec![],
            priority: PriorityStatus {
                configured: 150,
                effective: 150,
            },
            advert_interval_ms: 1000,
            virtual_addresses: vec!["10.77.0.10/24".to_owned(), "10.77.0.9/24".to_owned()],
            master: Some(MasterStatus {
                address: "10.77.0.11".to_owned(),
                priority: 150,
            }),
            since: ago(130),
            transitions: 2,
            counters: VrrpCounters {
                adverts_sent: 130,
                adverts_received: 0,
                discarded: BTreeMap::from([("ttl".to_owned(), 0)]),
            },
        }],
        virtual_servers: vec![VirtualServerStatus {
            name: "http".to_owned(),
            address: "10.77.0.10:80".to_owned(),
            protocol: "tcp".to_owned(),
            scheduler: "rr".to_owned(),
            forwarding: "dr".to_owned(),
            active: "always".to_owned(),
            quorum: QuorumStatus {
                needed: 1,
                have: 2,
                up: true,
            },
            sorry: false,
            real_servers: vec![RealServerStatus {
                address: "10.77.0.21:80".to_owned(),
                state: "up".to_owned(),
                weight: WeightStatus {
                    configured: 1,
                    effective: 1,
                },
                checks: vec![CheckStatus {
                    kind: "http".to_owned(),
                    state: "up".to_owned(),
                    last_error: None,
                    last_latency_ms: Some(3),
                }],
                connections: ConnectionsStatus {
                    active: 3,
                    inactive: 10,
                    persistent: 0,
                },
            }],
        }],
        ipvs: IpvsStatus {
            in_sync: true,
            repairs: 0,
            last_resync: Some(ago(4)),
            refused: vec![],
        },
        config: ConfigStatus {
            path: "/etc/vipd/vipd.toml".to_owned(),
            loaded: ago(134),
            last_reload: None,
        },
    }
}
