//! Messages against those of strangers: requests of ipvsadm, answers of a Linux kernel.
//!
//! The bytes are those of a little-endian machine, as netlink's are on every machine its own.
#![cfg(target_endian = "little")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use ipvs::message::{self, Body, Changes, DecodeError, EncodeError};
use ipvs::{
    Change, Daemon, DaemonRole, Destination, DestinationKey, DestinationStatistics, Family,
    Forwarding, Persistence, Protocol, Service, ServiceFlags, ServiceKey, Statistics, Timeouts,
    Tunnel, TunnelChecksum,
};
use proptest::prelude::*;

const IPVSADM: &str = include_str!("golden/ipvsadm.txt");
/// The number that the kernel had given to the family.
const FAMILY: u16 = 0x20;

#[test]
fn services_are_asked_for_as_ipvsadm_does() {
    let plain = service("wlc", ServiceFlags::default(), None);
    check_request(
        "-A -t 10.0.0.1:80 -s wlc",
        &Change::AddService(web(), plain),
    );
    let flags = ServiceFlags {
        sched1: true,
        sched2: true,
        ..ServiceFlags::default()
    };
    check_request(
        "-A -t [2001:db8::1]:443 -s sh -b sh-fallback,sh-port -p 300 -M 64",
        &Change::AddService(web6(), service("sh", flags, persistence(300, 64))),
    );
    let flags = ServiceFlags {
        one_packet: true,
        ..ServiceFlags::default()
    };
    check_request(
        "-A -f 7 -s rr -o",
        &Change::AddService(mark(), service("rr", flags, None)),
    );
    check_request(
        "-E -t 10.0.0.1:80 -s wrr -p 600 -M 255.255.255.0",
        &Change::SetService(
            web(),
            service("wrr", ServiceFlags::default(), persistence(600, 24)),
        ),
    );
    let every_port = ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: "10.0.0.9:0".parse().unwrap(),
    };
    check_request(
        "-A -t 10.0.0.9:0 -s rr -p 30",
        &Change::AddService(
            every_port,
            service("rr", ServiceFlags::default(), persistence(30, 32)),
        ),
    );
    check_request("-D -t 10.0.0.1:80", &Change::RemoveService(web()));
}

#[test]
fn destinations_are_asked_for_as_ipvsadm_does() {
    let (direct, gue, nat) = destinations();
    check_request(
        "-a -t 10.0.0.1:80 -r 10.0.0.21:80 -g -w 3",
        &Change::AddDestination(
            web(),
            direct.0,
            Destination {
                weight: 3,
                ..direct.1
            },
        ),
    );
    check_request(
        "-a -t [2001:db8::1]:443 -r [2001:db8::21]:443 -i -w 1 --tun-type gue --tun-port 6080 \
         --tun-csum -x 100 -y 50",
        &Change::AddDestination(web6(), gue.0, gue.1),
    );
    check_request(
        "-a -f 7 -r 10.0.0.22:8080 -m -w 0",
        &Change::AddDestination(mark(), nat.0, nat.1),
    );
    check_request(
        "-e -t 10.0.0.1:80 -r 10.0.0.21:80 -g -w 5",
        &Change::SetDestination(web(), direct.0, direct.1),
    );
    check_request(
        "-d -t 10.0.0.1:80 -r 10.0.0.21:80",
        &Change::RemoveDestination(web(), direct.0),
    );
}

#[test]
fn every_tunnel_threshold_and_engine_is_asked_for_as_ipvsadm_does() {
    let sip = Persistence {
        timeout: Duration::from_secs(60),
        prefix_length: 32,
        engine: Some("sip".to_owned()),
    };
    let (sip, phone) = (service("rr", ServiceFlags::default(), Some(sip)), phone());
    check_request(
        "-A -u 10.0.0.1:5060 -s rr -p 60 --pe sip",
        &Change::AddService(phone, sip),
    );
    let flags = ServiceFlags {
        sched1: true,
        sched2: true,
        ..ServiceFlags::default()
    };
    check_request(
        "-A -t 10.0.0.1:80 -s mh -b mh-fallback,mh-port",
        &Change::AddService(web(), service("mh", flags, None)),
    );
    let sctp = ServiceKey::Address {
        protocol: Protocol::Sctp,
        address: "10.0.0.1:9".parse().unwrap(),
    };
    check_request(
        "-A --sctp-service 10.0.0.1:9 -s lc",
        &Change::AddService(sctp, service("lc", ServiceFlags::default(), None)),
    );
    let mark6 = ServiceKey::FirewallMark {
        family: Family::V6,
        mark: 9,
    };
    check_request(
        "-A -f 9 -6 -s rr -p 60 -M 48",
        &Change::AddService(
            mark6,
            service("rr", ServiceFlags::default(), persistence(60, 48)),
        ),
    );
    let words = [
        "-g -w 7 -x 1000 -y 10",
        "-i -w 2 --tun-type gue --tun-port 6080 --tun-nocsum",
        "-i -w 2 --tun-type gue --tun-port 6080 --tun-remcsum",
        "-i -w 2 --tun-type gre",
        "-i -w 2 --tun-type gre --tun-csum",
    ];
    for ((server, settings), words) in tunnels().into_iter().zip(words) {
        check_request(
            &format!("-a -t 10.0.0.1:80 -r {server} {words}"),
            &Change::AddDestination(web(), server, settings),
        );
    }
}

#[test]
fn every_tunnel_threshold_and_engine_of_a_kernel_is_read() {
    let answers = golden("-L -n #2", '<');
    let services: Vec<_> = bodies(&answers[0])
        .map(|answer| message::service_from(answer).unwrap())
        .collect();
    let engine = services
        .iter()
        .find(|(key, ..)| *key == phone())
        .and_then(|(_, service, _)| service.persistence.as_ref()?.engine.as_deref());
    assert_eq!(engine, Some("sip"));
    let read: Vec<_> = bodies(&answers[1])
        .map(|answer| message::destination_from(answer, &web()).unwrap())
        .map(|(server, settings, _)| (server, settings))
        .collect();
    assert_eq!(read, tunnels());
}

#[test]
fn what_several_changes_have_in_common_is_in_each_of_their_messages() {
    let (nat, direct, six) = destinations();
    let (one, other) = (web(), phone());
    let add = |key, (server, settings): Real| Change::AddDestination(key, server, settings);
    let set = |key, (server, settings): Real| Change::SetDestination(key, server, settings);
    let changes = [
        Change::AddService(one, service("wlc", ServiceFlags::default(), None)),
        add(one, nat),
        add(one, direct),
        add(one, (nat.0, direct.1)),
        set(other, direct),
        Change::RemoveDestination(other, nat.0),
        Change::RemoveDestination(one, nat.0),
        Change::SetService(web6(), service("wlc", ServiceFlags::default(), None)),
        set(web6(), six),
        set(one, nat),
        Change::RemoveService(one),
        add(mark(), nat),
    ];
    let mut together = Changes::new(FAMILY);
    let mut each = Vec::new();
    for (sequence, change) in (1..).zip(&changes) {
        together.add(sequence, change).unwrap();
        each.extend(asked(sequence, false, change).unwrap());
    }
    let wrong = service(&"x".repeat(16), ServiceFlags::default(), None);
    let wrong = Change::AddService(one, wrong);
    together.add(99, &wrong).unwrap_err();
    assert_eq!(hex(together.bytes()), hex(&each));
    // The answer that is asked for is that of the last.
    together.acknowledge();
    let last = asked(12, true, &changes[11]).unwrap();
    let begin = each.len() - last.len();
    assert_eq!(hex(&together.bytes()[begin..]), hex(&last));
    assert_eq!(hex(&together.bytes()[..begin]), hex(&each[..begin]));
}

#[test]
fn timeouts_daemons_and_zero_are_asked_for_as_ipvsadm_does() {
    let seconds = |tcp, tcp_fin, udp| Timeouts {
        tcp: Duration::from_secs(tcp),
        tcp_fin: Duration::from_secs(tcp_fin),
        udp: Duration::from_secs(udp),
    };
    let (master, backup, master6) = daemons();
    let start = |daemon: &Daemon| message::start_daemon(FAMILY, 1, daemon);
    for (arguments, ours) in [
        (
            "--set 600 60 120",
            message::set_timeouts(FAMILY, 1, &seconds(600, 60, 120)),
        ),
        (
            "--set 0 0 90",
            message::set_timeouts(FAMILY, 1, &seconds(0, 0, 90)),
        ),
        ("-L --timeout", message::get_timeouts(FAMILY, 1)),
        (
            "--start-daemon master --mcast-interface d0 --syncid 7 --sync-maxlen 1400 \
             --mcast-group 239.0.0.7 --mcast-port 8849 --mcast-ttl 3",
            start(&master),
        ),
        ("--start-daemon backup --mcast-interface d0", start(&backup)),
        (
            "--start-daemon master --mcast-interface d0 --mcast-group ff02::51",
            start(&master6),
        ),
        ("-L --daemon", message::get_daemons(FAMILY, 1)),
        ("-Z", message::zero(FAMILY, 1, None)),
    ] {
        let (ours, theirs) = (ours.unwrap(), golden(arguments, '>').remove(0));
        assert_eq!(hex(&ours[16..]), hex(&theirs[16..]), "{arguments}");
    }
    // ipvsadm names more than the kernel looks at.
    for (arguments, ours) in [
        (
            "--stop-daemon master",
            message::stop_daemon(FAMILY, 1, DaemonRole::Master),
        ),
        (
            "--stop-daemon backup",
            message::stop_daemon(FAMILY, 1, DaemonRole::Backup),
        ),
        ("-Z -t 10.0.0.1:80", message::zero(FAMILY, 1, Some(&web()))),
    ] {
        let (ours, theirs) = (ours.unwrap(), golden(arguments, '>').remove(0));
        assert_eq!(hex(&ours[16..20]), hex(&theirs[16..20]), "{arguments}");
        let (ours, theirs) = (nests(&ours[20..]), nests(&theirs[20..]));
        assert_eq!(ours[0].0, theirs[0].0, "{arguments}");
        assert_eq!(
            hex(&ours[0].1),
            hex(&theirs[0].1[..ours[0].1.len()]),
            "{arguments}"
        );
    }
}

#[test]
fn timeouts_and_daemons_of_a_kernel_are_read() {
    let read = |arguments: &str| {
        let answers = golden(arguments, '<');
        bodies(&answers[0])
            .map(|answer| message::daemon_from(answer).unwrap())
            .collect::<Vec<_>>()
    };
    let (master, backup, master6) = daemons();
    let found = read("-L --daemon");
    assert_eq!(found[0], master);
    let completed = Daemon {
        max_length: 1472,
        group: Some("224.0.0.81".parse().unwrap()),
        port: 8848,
        ttl: 1,
        ..backup.clone()
    };
    assert_eq!(found[1..], [completed]);
    let found6 = read("-L --daemon #2");
    assert_eq!(found6[0].group, master6.group);
    for (wanted, found) in [
        (&master, &found[0]),
        (&backup, &found[1]),
        (&master6, &found6[0]),
    ] {
        assert!(wanted.runs_as(found), "{wanted} does not run as {found}");
    }
    for other in [
        Daemon {
            id: 8,
            ..master.clone()
        },
        Daemon {
            port: 0,
            ..master.clone()
        },
        Daemon {
            ttl: 0,
            ..master.clone()
        },
        Daemon {
            group: None,
            ..master.clone()
        },
        Daemon {
            max_length: 1399,
            ..master.clone()
        },
        Daemon {
            interface: "d1".to_owned(),
            ..master.clone()
        },
        Daemon {
            role: DaemonRole::Backup,
            ..master.clone()
        },
    ] {
        assert!(!other.runs_as(&found[0]), "{other} runs as {}", found[0]);
    }
    let answers = golden("-L --timeout", '<');
    let timeouts = message::timeouts_from(bodies(&answers[0]).next().unwrap()).unwrap();
    assert_eq!(
        timeouts.to_string(),
        "timeouts tcp 600 s, tcp fin 60 s, udp 90 s"
    );
}

#[test]
fn an_interface_that_there_cannot_be_is_not_asked_for() {
    for interface in ["", "sixteen-letters-", "a\0b"] {
        let interface = interface.to_owned();
        let daemon = Daemon {
            interface: interface.clone(),
            ..daemons().0
        };
        let error = message::start_daemon(FAMILY, 1, &daemon);
        assert_eq!(error, Err(EncodeError::Interface(interface)));
    }
}

#[test]
fn the_table_is_asked_for_as_ipvsadm_does() {
    let requests: Vec<Vec<u8>> = golden("-L -n", '>');
    let ours = [
        message::get_services(FAMILY, 1),
        message::get_destinations(FAMILY, 1, &web()),
        message::get_destinations(FAMILY, 1, &web6()),
        message::get_destinations(FAMILY, 1, &mark()),
    ];
    for (theirs, ours) in requests.iter().zip(ours) {
        assert_eq!(hex(&ours.unwrap()[16..]), hex(&theirs[16..]));
    }
}

#[test]
fn services_of_a_kernel_are_read() {
    let answers = golden("-L -n", '<');
    let services: Vec<_> = bodies(&answers[0])
        .map(|answer| message::service_from(answer).unwrap())
        .collect();
    let nothing = Statistics::default();
    let flags = ServiceFlags {
        sched1: true,
        sched2: true,
        ..ServiceFlags::default()
    };
    let one_packet = ServiceFlags {
        one_packet: true,
        ..ServiceFlags::default()
    };
    let persistent = service("wrr", ServiceFlags::default(), persistence(600, 24));
    assert_eq!(
        services,
        [
            (web6(), service("sh", flags, persistence(300, 64)), nothing),
            (web(), persistent, nothing),
            (mark(), service("rr", one_packet, None), nothing),
        ]
    );
}

#[test]
fn destinations_of_a_kernel_are_read() {
    let answers = golden("-L -n", '<');
    let (direct, gue, nat) = destinations();
    for (datagram, service, (key, settings)) in [
        (&answers[1], web(), direct),
        (&answers[2], web6(), gue),
        (&answers[3], mark(), nat),
    ] {
        let read: Vec<_> = bodies(datagram)
            .map(|answer| message::destination_from(answer, &service).unwrap())
            .collect();
        assert_eq!(read, [(key, settings, DestinationStatistics::default())]);
    }
}

#[test]
fn counters_are_those_of_64_bits_or_else_those_of_32() {
    let datagram = golden("-L -n", '<').remove(1);
    let answer = bodies(&datagram).next().unwrap().to_vec();
    // Connections are the first counter, 4 bytes behind the head of the nest of either width.
    let narrow = find(&answer, &[0x5c, 0, 0x0a, 0]);
    let wide = find(&answer, &[0x7c, 0, 0x0c, 0]);
    let mut answer = answer;
    answer[narrow + 8] = 7;
    answer[wide + 8] = 9;
    let connections = |answer: &[u8]| {
        message::destination_from(answer, &web()).map(|(_, _, read)| read.counters.connections)
    };
    assert_eq!(connections(&answer), Ok(9));
    answer[wide + 2] = 0x70; // An attribute of which nobody has heard.
    assert_eq!(connections(&answer), Ok(7));
    answer[narrow + 2] = 0x71;
    assert_eq!(
        connections(&answer),
        Err(DecodeError::Missing("the statistics"))
    );
}

#[test]
fn what_is_missing_in_an_answer_is_named() {
    let request = asked(1, false, &Change::RemoveService(web())).unwrap();
    let error = message::service_from(&request[16..]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel's answer lacks a service's scheduler"
    );
    let error = message::destination_from(&request[16..], &web()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel's answer lacks the real server"
    );
    assert_eq!(message::info_from(&[]), Err(DecodeError::Truncated));
}

#[test]
fn a_scheduler_that_can_be_no_module_is_not_asked_for() {
    for name in ["", "sixteen-letters-", "a\0b"] {
        let service = service(name, ServiceFlags::default(), None);
        let error = asked(1, false, &Change::AddService(web(), service));
        assert_eq!(error, Err(EncodeError::Name(name.to_owned())));
    }
}

#[test]
fn refusals_are_read_with_and_without_a_copy_of_the_request() {
    let request = asked(5, true, &Change::RemoveService(web())).unwrap();
    for copied in [16, request.len()] {
        let mut answer = vec![];
        answer.extend(u32::try_from(16 + 4 + copied).unwrap().to_ne_bytes());
        answer.extend([2, 0, 0, 0]);
        answer.extend(5_u32.to_ne_bytes());
        answer.extend(0_u32.to_ne_bytes());
        answer.extend((-3_i32).to_ne_bytes());
        answer.extend(&request[..copied]);
        let replies: Vec<_> = message::replies(&answer).map(Result::unwrap).collect();
        assert_eq!(replies.len(), 1);
        assert_eq!((replies[0].sequence, replies[0].body), (5, Body::Status(3)));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn mutilated_answers_never_panic(
        answer in 0..4_usize,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        length in any::<proptest::sample::Index>(),
    ) {
        let mut datagram = golden("-L -n", '<').remove(answer);
        for (at, byte) in damage {
            let at = at.index(datagram.len());
            datagram[at] = byte;
        }
        read_everything(&datagram);
        datagram.truncate(length.index(datagram.len()));
        read_everything(&datagram);
    }
}

/// Asserts that the request for `change` is what `ipvsadm ARGUMENTS` sends. Where ipvsadm sends more
/// than what names an object, ours is the beginning of it.
fn check_request(arguments: &str, change: &Change) {
    let theirs = golden(arguments, '>').remove(0);
    let ours = asked(1, true, change).unwrap();
    let lengths = [&ours, &theirs].map(|bytes| u32::from_ne_bytes(bytes[..4].try_into().unwrap()));
    assert_eq!(
        lengths.map(|l| usize::try_from(l).unwrap()),
        [ours.len(), theirs.len()]
    );
    // Netlink's type and flags, generic netlink's command and version.
    assert_eq!(hex(&ours[4..8]), hex(&theirs[4..8]), "{change}");
    assert_eq!(hex(&ours[16..20]), hex(&theirs[16..20]), "{change}");
    let theirs = nests(&theirs[20..]);
    let ours = nests(&ours[20..]);
    assert_eq!(ours.len(), theirs.len(), "{change}");
    let names_only = match change {
        Change::AddService(..) | Change::SetService(..) => [false, false],
        Change::AddDestination(..) | Change::SetDestination(..) => [true, false],
        Change::RemoveService(_) | Change::RemoveDestination(..) => [true, true],
    };
    for ((ours, theirs), names_only) in ours.iter().zip(&theirs).zip(names_only) {
        assert_eq!(ours.0, theirs.0, "{change}");
        let theirs = if names_only {
            &theirs.1[..ours.1.len()]
        } else {
            &theirs.1
        };
        assert_eq!(hex(&ours.1), hex(theirs), "{change}");
    }
}

fn asked(sequence: u32, acknowledge: bool, change: &Change) -> Result<Vec<u8>, EncodeError> {
    let mut changes = Changes::new(FAMILY);
    changes.add(sequence, change)?;
    if acknowledge {
        changes.acknowledge();
    }
    Ok(changes.bytes().to_vec())
}

fn read_everything(bytes: &[u8]) {
    for bytes in std::iter::once(bytes).chain(bodies(bytes)) {
        let _ = message::service_from(bytes);
        let _ = message::destination_from(bytes, &web());
        let _ = message::info_from(bytes);
        let _ = message::family_from(bytes);
        let _ = message::daemon_from(bytes);
        let _ = message::timeouts_from(bytes);
    }
}

/// What `ipvsadm ARGUMENTS` sent (`>`) or received (`<`).
fn golden(arguments: &str, direction: char) -> Vec<Vec<u8>> {
    let prefix = format!("ipvsadm {arguments} {direction} ");
    let lines = IPVSADM
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix));
    let found: Vec<_> = lines.map(bytes).collect();
    assert!(!found.is_empty(), "no golden bytes for {prefix}");
    found
}

fn bodies(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    message::replies(datagram).filter_map(|reply| match reply.ok()?.body {
        Body::Message(answer) => Some(answer),
        Body::Done(_) | Body::Status(_) | Body::Nothing => None,
    })
}

/// Kind and contents of the attributes.
fn nests(mut attributes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut nests = vec![];
    while !attributes.is_empty() {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        nests.push((kind, attributes[4..length].to_vec()));
        attributes = &attributes[length.next_multiple_of(4)..];
    }
    nests
}

fn find(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
        .unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn web() -> ServiceKey {
    let address = "10.0.0.1:80".parse().unwrap();
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address,
    }
}

fn web6() -> ServiceKey {
    let address = "[2001:db8::1]:443".parse().unwrap();
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address,
    }
}

fn phone() -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Udp,
        address: "10.0.0.1:5060".parse().unwrap(),
    }
}

fn mark() -> ServiceKey {
    ServiceKey::FirewallMark {
        family: Family::V4,
        mark: 7,
    }
}

fn service(scheduler: &str, flags: ServiceFlags, persistence: Option<Persistence>) -> Service {
    Service {
        scheduler: scheduler.into(),
        flags,
        persistence,
    }
}

fn persistence(seconds: u64, prefix_length: u8) -> Option<Persistence> {
    Some(Persistence {
        timeout: Duration::from_secs(seconds),
        prefix_length,
        engine: None,
    })
}

/// A daemon with every setting, one with none, one of IPv6.
fn daemons() -> (Daemon, Daemon, Daemon) {
    let plain = |role| Daemon {
        role,
        interface: "d0".to_owned(),
        id: 0,
        max_length: 0,
        group: None,
        port: 0,
        ttl: 0,
    };
    let master = Daemon {
        id: 7,
        max_length: 1400,
        group: Some("239.0.0.7".parse().unwrap()),
        port: 8849,
        ttl: 3,
        ..plain(DaemonRole::Master)
    };
    let master6 = Daemon {
        group: Some("ff02::51".parse().unwrap()),
        ..plain(DaemonRole::Master)
    };
    (master, plain(DaemonRole::Backup), master6)
}

/// Real servers with thresholds and behind every tunnel, as the kernel lists them: the last first.
fn tunnels() -> Vec<Real> {
    let real = |last: u8, forwarding, weight, upper_threshold, lower_threshold| {
        let settings = Destination {
            forwarding,
            weight,
            upper_threshold,
            lower_threshold,
        };
        (DestinationKey(([10, 0, 0, last], 80).into()), settings)
    };
    let gue = |checksum| {
        let port = 6080;
        Forwarding::Tunnel(Tunnel::Gue { port, checksum })
    };
    let gre = |checksum| Forwarding::Tunnel(Tunnel::Gre { checksum });
    vec![
        real(27, Forwarding::DirectRouting, 7, 1000, 10),
        real(26, gue(TunnelChecksum::None), 2, 0, 0),
        real(25, gue(TunnelChecksum::Remote), 2, 0, 0),
        real(24, gre(TunnelChecksum::None), 2, 0, 0),
        real(23, gre(TunnelChecksum::Full), 2, 0, 0),
    ]
}

type Real = (DestinationKey, Destination);

/// The destinations that the listing shows: of `web`, of `web6`, of `mark`.
fn destinations() -> (Real, Real, Real) {
    let real = |address: &str, forwarding, weight, upper_threshold, lower_threshold| {
        let settings = Destination {
            forwarding,
            weight,
            upper_threshold,
            lower_threshold,
        };
        (DestinationKey(address.parse().unwrap()), settings)
    };
    let gue = Forwarding::Tunnel(Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::Full,
    });
    (
        real("10.0.0.21:80", Forwarding::DirectRouting, 5, 0, 0),
        real("[2001:db8::21]:443", gue, 1, 100, 50),
        real("10.0.0.22:8080", Forwarding::Nat, 0, 0, 0),
    )
}
