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

use ipvs::message::{self, Body, DecodeError, EncodeError};
use ipvs::{
    Change, Destination, DestinationKey, DestinationStatistics, Family, Forwarding, Persistence,
    Protocol, Service, ServiceFlags, ServiceKey, Statistics, Tunnel, TunnelChecksum,
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
fn the_table_is_asked_for_as_ipvsadm_does() {
    let requests: Vec<Vec<u8>> = golden("-L -n", '>');
    let ours = [
        message::get_services(FAMILY, 1),
        message::get_destinations(FAMILY, 1, &web()),
        message::get_destinations(FAMILY, 1, &web6()),
        message::get_destinations(FAMILY, 1, &mark()),
    ];
    for (theirs, ours) in requests.iter().zip(ours) {
        assert_eq!(hex(&ours[16..]), hex(&theirs[16..]));
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
    let mut bytes = Vec::new();
    message::change(&mut bytes, FAMILY, sequence, acknowledge, change)?;
    Ok(bytes)
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
