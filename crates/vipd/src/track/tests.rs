//! What follows from what is true, as tables.

use std::path::Path;

use super::*;
use crate::config::{Garp, Scope, VirtualAddress, VirtualRoute};
use crate::net::links::{Link, LinkAddresses};

/// A fact's words in the tables: `eth1 up`, `eth1 down`, `script ok`, `script exit status 1`,
/// `file 3`, `file missing`, `file bad`, `nginx 2`, `quorum`, `no quorum`.
type Known<'a> = &'a [&'a str];

#[test]
fn an_interface_that_is_down_or_not_there_is_a_fault() {
    let track = [(interface_of("eth1"), None)];
    check(&track, &["eth1 up"], &[], 0);
    check(&track, &["eth1 down"], &["interface eth1 is down"], 0);
    check(&track, &[], &["interface eth1 does not exist"], 0);
}

#[test]
fn a_script_is_a_fault_until_it_has_run_and_while_it_fails() {
    let track = [(Tracked::Script("gateway".to_owned()), None)];
    check(&track, &[], &["script gateway has not run yet"], 0);
    check(&track, &["script ok"], &[], 0);
    check(
        &track,
        &["script exit status 1"],
        &["script gateway: exit status 1"],
        0,
    );
}

#[test]
fn too_few_processes_are_a_fault() {
    let track = [(process("nginx", 2), None)];
    check(&track, &[], &["process nginx has not been counted yet"], 0);
    check(&track, &["nginx 1"], &["process nginx: 1 of 2 run"], 0);
    check(&track, &["nginx 2"], &[], 0);
    check(&track, &["nginx 9"], &[], 0);
}

#[test]
fn a_virtual_server_without_quorum_is_a_fault() {
    let track = [(Tracked::VirtualServer("http".to_owned()), None)];
    let fault = "virtual server http has no quorum";
    check(&track, &[], &[fault], 0);
    check(&track, &["no quorum"], &[fault], 0);
    check(&track, &["quorum"], &[], 0);
}

#[test]
fn a_weight_above_zero_is_added_while_well_and_one_below_while_failing() {
    for (what, well, failing) in [
        (interface_of("eth1"), "eth1 up", "eth1 down"),
        (
            Tracked::Script("gateway".to_owned()),
            "script ok",
            "script exit status 1",
        ),
        (process("nginx", 1), "nginx 1", "nginx 0"),
        (
            Tracked::VirtualServer("http".to_owned()),
            "quorum",
            "no quorum",
        ),
    ] {
        let track = |weight| [(what.clone(), Some(weight))];
        check(&track(20), &[well], &[], 20);
        check(&track(20), &[failing], &[], 0);
        check(&track(-20), &[well], &[], 0);
        check(&track(-20), &[failing], &[], -20);
        // What is not known yet counts as failing.
        check(&track(20), &[], &[], 0);
        check(&track(-20), &[], &[], -20);
    }
}

#[test]
fn a_files_number_is_a_fault_without_a_weight_unless_it_is_zero() {
    let track = [(file(), None)];
    check(&track, &["file 0"], &[], 0);
    check(&track, &["file 1"], &["file /run/x says 1"], 0);
    check(&track, &["file -1"], &["file /run/x says -1"], 0);
    check(&track, &["file missing"], &[], 0);
    check(&track, &["file bad"], &["file /run/x: it is empty"], 0);
    check(&track, &[], &["file /run/x has not been read yet"], 0);
}

#[test]
fn a_files_number_is_multiplied_by_its_weight_and_too_low_a_result_is_a_fault() {
    let track = |weight| [(file(), Some(weight))];
    check(&track(2), &["file 10"], &[], 20);
    check(&track(-2), &["file 10"], &[], -20);
    check(&track(1), &["file -253"], &[], -253);
    let fault = "file /run/x says -254, with weight 1 below -253";
    check(&track(1), &["file -254"], &[fault], 0);
    check(&track(2), &["file 9223372036854775807"], &[], 253);
    let fault = "file /run/x says 9223372036854775807, with weight -253 below -253";
    check(&track(-253), &["file 9223372036854775807"], &[fault], 0);
    check(&track(5), &["file missing"], &[], 0);
    check(&track(5), &["file bad"], &[], 0);
    check(&track(5), &[], &[], 0);
}

#[test]
fn of_two_faults_one_that_clears_leaves_the_other() {
    let track = [(interface_of("eth1"), None), (interface_of("eth2"), None)];
    let (first, second) = ("interface eth1 is down", "interface eth2 is down");
    check(&track, &["eth1 down", "eth2 down"], &[first, second], 0);
    check(&track, &["eth1 up", "eth2 down"], &[second], 0);
    check(&track, &["eth1 down", "eth2 up"], &[first], 0);
    check(&track, &["eth1 up", "eth2 up"], &[], 0);
}

#[test]
fn weights_add_up_and_stay_within_what_can_matter() {
    let track = [
        (interface_of("eth1"), Some(30)),
        (process("nginx", 1), Some(-50)),
        (file(), Some(1)),
    ];
    check(&track, &["eth1 up", "nginx 0", "file 3"], &[], -17);
    let high = [(file(), Some(253)), (interface_of("eth1"), Some(253))];
    check(&high, &["file 1", "eth1 up"], &[], 253);
    let low = [
        (interface_of("eth1"), Some(-253)),
        (process("nginx", 1), Some(-253)),
    ];
    check(&low, &["eth1 down", "nginx 0"], &[], -253);
}

#[test]
fn an_interface_that_carries_an_address_or_a_route_is_tracked_unless_a_weight_says_otherwise() {
    let mut vrrp = router(&[]);
    vrrp.virtual_mac = Some("vrrp.51".to_owned());
    for interface in ["eth0", "vrrp.51", "eth1"] {
        vrrp.addresses.push(VirtualAddress {
            address: "10.0.1.10/24".parse().unwrap(),
            interface: interface.to_owned(),
            advertise: false,
            label: None,
            scope: Scope::Global,
            prefix_route: true,
        });
    }
    for interface in [None, Some("eth2".to_owned())] {
        vrrp.routes.push(VirtualRoute {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some("10.0.2.1".parse().unwrap()),
            interface,
            source: None,
            table: 254,
            metric: None,
        });
    }
    let faults = |vrrp: &Vrrp, known: Known<'_>| -> Vec<String> {
        judge(vrrp, &facts(known)).faults.into_iter().collect()
    };
    assert_eq!(
        faults(&vrrp, &["eth1 down"]),
        ["interface eth1 is down", "interface eth2 does not exist"]
    );
    assert!(faults(&vrrp, &["eth1 up", "eth2 up"]).is_empty());
    vrrp.track = vec![Track {
        what: interface_of("eth1"),
        weight: Some(-10),
    }];
    let judgement = judge(&vrrp, &facts(&["eth1 down", "eth2 up"]));
    assert_eq!((judgement.faults.len(), judgement.offset), (0, -10));
}

#[test]
fn reference_addresses_are_lost_when_they_are_known_to_be() {
    let mut vrrp = router(&[]);
    let mut facts = Facts::default();
    let mut lost = |vrrp: &Vrrp, ok: Option<bool>| {
        if let Some(ok) = ok {
            let router = vrrp.name.clone();
            facts.take(Report::Reachable { router, ok });
        }
        judge(vrrp, &facts).references_lost
    };
    assert!(!lost(&vrrp, Some(false)), "nobody asks");
    vrrp.reachable = Some(references());
    assert!(lost(&vrrp, None));
    assert!(!lost(&vrrp, Some(true)));
    assert!(lost(&vrrp, Some(false)));
}

#[test]
fn what_is_no_fault_but_counts_is_noted() {
    let track = [(interface_of("eth1"), Some(-10)), (file(), None)];
    let judgement = judge(&router(&track), &facts(&["eth1 down", "file missing"]));
    let notes: Vec<String> = judgement.notes.into_iter().collect();
    assert_eq!(
        notes,
        [
            "file /run/x does not exist, which counts as 0",
            "interface eth1 is down (weight -10)",
        ]
    );
}

#[test]
fn what_is_not_watched_any_more_is_forgotten() {
    let mut known = facts(&["script ok", "file 1", "nginx 1"]);
    let router = "web".to_owned();
    known.take(Report::Reachable { router, ok: true });
    let all = Wanted {
        scripts: BTreeMap::from([("gateway".to_owned(), script())]),
        files: BTreeSet::from(["/run/x".into()]),
        processes: BTreeSet::from(["nginx".to_owned()]),
        reachable: BTreeMap::from([("web".to_owned(), references())]),
    };
    let sizes = |facts: &Facts| {
        [
            facts.scripts.len(),
            facts.files.len(),
            facts.processes.len(),
            facts.reachable.len(),
        ]
    };
    known.keep(&all);
    assert_eq!(sizes(&known), [1, 1, 1, 1]);
    known.keep(&Wanted::default());
    assert_eq!(sizes(&known), [0, 0, 0, 0]);
}

/// What is judged of a router that tracks this, with these facts.
fn check(track: &[(Tracked, Option<i32>)], known: Known<'_>, faults: &[&str], offset: i32) {
    let judgement = judge(&router(track), &facts(known));
    let got: Vec<&str> = judgement.faults.iter().map(String::as_str).collect();
    assert_eq!(got, faults, "{known:?}");
    assert_eq!(judgement.offset, offset, "{known:?}");
}

fn facts(known: Known<'_>) -> Facts {
    let mut facts = Facts::default();
    let mut links = Vec::new();
    for words in known {
        let (what, state) = words.split_once(' ').unwrap_or((words, ""));
        match what {
            "script" => facts.take(Report::Script {
                name: "gateway".to_owned(),
                outcome: Outcome {
                    ok: state == "ok",
                    detail: state.to_owned(),
                },
            }),
            "file" => facts.take(Report::File {
                path: Path::new("/run/x").to_owned(),
                content: match state {
                    "missing" => Content::Missing,
                    "bad" => Content::Unreadable("it is empty".to_owned()),
                    number => Content::Number(number.parse().unwrap()),
                },
            }),
            "nginx" => facts.take(Report::Process {
                name: what.to_owned(),
                count: state.parse().unwrap(),
            }),
            "quorum" => drop(facts.quorums.insert("http".to_owned(), true)),
            "no" => drop(facts.quorums.insert("http".to_owned(), false)),
            name => links.push(Link {
                index: u32::try_from(links.len()).unwrap() + 2,
                name: name.to_owned(),
                mac: None,
                up: state == "up",
                addresses: LinkAddresses::default(),
            }),
        }
    }
    facts.links = Arc::new(links.into_iter().collect());
    facts
}

fn router(track: &[(Tracked, Option<i32>)]) -> Vrrp {
    let track = track.iter().cloned();
    Vrrp {
        name: "web".to_owned(),
        interface: "eth0".to_owned(),
        parameters: vrrp::Parameters::new(51, vrrp::Version::V3, &["10.0.0.10".parse().unwrap()]),
        accept: true,
        virtual_mac: None,
        addresses: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        garp: Garp::default(),
        heartbeats: Vec::new(),
        reachable: None,
        track: track.map(|(what, weight)| Track { what, weight }).collect(),
    }
}

fn interface_of(name: &str) -> Tracked {
    Tracked::Interface(name.to_owned())
}

fn process(name: &str, count: u32) -> Tracked {
    let name = name.to_owned();
    Tracked::Process { name, count }
}

fn file() -> Tracked {
    Tracked::File("/run/x".into())
}

fn script() -> TrackScript {
    let second = std::time::Duration::from_secs(1);
    TrackScript {
        name: "gateway".to_owned(),
        command: vec!["/bin/true".to_owned()],
        interval: second,
        timeout: second,
        rise: 1,
        fall: 1,
        user: "nobody".to_owned(),
    }
}

fn references() -> Reachable {
    let second = std::time::Duration::from_secs(1);
    Reachable {
        any_of: vec!["10.0.0.1".parse().unwrap()],
        interval: second,
        timeout: second,
        fall: 2,
    }
}
