//! Adverts of strangers, byte for byte: keepalived 2.2.7, run as `keepalived -n -P -f FILE`, and the
//! vrrpd of FRR 8.4.4 in a network namespace, captured at the other end of a veth pair by
//! `tcpdump -n -v -x "proto 112 or ip6 proto 112"`. The instances had `virtual_router_id 51` and
//! `priority 150`, the interface 192.0.2.1/24, fe80::1:1/64 and 2001:db8::1/64, its peer 192.0.2.2/24
//! and 2001:db8::2/64; what differs stands at each capture. Every field was compared by hand with the
//! layouts of RFC 3768 §5.1 and RFC 5798 §5.1.
//!
//! What is not a stranger's, since neither can send it, says how it was made.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use vrrp::{
    Advertisement, Authentication, ChecksumForm, Datagram, Event, Family, GROUP_V4, GROUP_V6, Hmac,
    Key, Parameters, Password, Peer, Received, RouterKey, Routers, Unicast, Version, VirtualRouter,
    ipv4_packet,
};

/// `vrrp_version 2`, `advert_int 1`, two addresses.
const V2: &[u8] = b"\
    \x45\xc0\x00\x2c\x00\x01\x00\x00\xff\x70\x18\x8d\xc0\x00\x02\x01\
    \xe0\x00\x00\x12\x21\x33\x96\x02\x00\x01\xd0\xb1\xcb\x00\x71\x0a\
    \xcb\x00\x71\x0b\x00\x00\x00\x00\x00\x00\x00\x00";

/// The same, stopped by SIGTERM.
const V2_STOP: &[u8] = b"\
    \x45\xc0\x00\x2c\x00\x04\x00\x00\xff\x70\x18\x8a\xc0\x00\x02\x01\
    \xe0\x00\x00\x12\x21\x33\x00\x02\x00\x01\x66\xb2\xcb\x00\x71\x0a\
    \xcb\x00\x71\x0b\x00\x00\x00\x00\x00\x00\x00\x00";

/// `vrrp_version 2`, `auth_type PASS`, `auth_pass s3cret`, one address.
const V2_PASS: &[u8] = b"\
    \x45\xc0\x00\x28\x00\x01\x00\x00\xff\x70\x18\x91\xc0\x00\x02\x01\
    \xe0\x00\x00\x12\x21\x33\x96\x01\x01\x01\xcf\xa4\xcb\x00\x71\x0a\
    \x73\x33\x63\x72\x65\x74\x00\x00";

/// `vrrp_version 2`, `auth_type PASS`, `auth_pass longerthan8`, `unicast_src_ip 192.0.2.1`,
/// `unicast_peer { 192.0.2.2 }`, one address.
const V2_PASS_UNICAST: &[u8] = b"\
    \x45\xc0\x00\x28\x00\x01\x00\x00\xff\x70\x36\xa1\xc0\x00\x02\x01\
    \xc0\x00\x02\x02\x21\x33\x96\x01\x01\x01\x57\x0d\xcb\x00\x71\x0a\
    \x6c\x6f\x6e\x67\x65\x72\x74\x68";

/// `vrrp_version 3`, `advert_int 0.25`, two addresses: the sum covers the pseudo-header.
const V3: &[u8] = b"\
    \x45\xc0\x00\x24\x00\x01\x00\x00\xff\x70\x18\x95\xc0\x00\x02\x01\
    \xe0\x00\x00\x12\x31\x33\x96\x02\x00\x19\x1e\x05\xcb\x00\x71\x0a\
    \xcb\x00\x71\x0b";

/// `vrrp_version 3`, `advert_int 0.25`, `unicast_src_ip 192.0.2.1`, `unicast_peer { 192.0.2.2 }`,
/// `unicast_ttl 64`, two addresses.
const V3_UNICAST: &[u8] = b"\
    \x45\xc0\x00\x24\x00\x01\x00\x00\x40\x70\xf5\xa5\xc0\x00\x02\x01\
    \xc0\x00\x02\x02\x31\x33\x96\x02\x00\x19\x3c\x15\xcb\x00\x71\x0a\
    \xcb\x00\x71\x0b";

/// `vrrp_version 3`, `advert_int 0.25`, one address.
const V3_ONE: &[u8] = b"\
    \x45\xc0\x00\x20\x00\x01\x00\x00\xff\x70\x18\x99\xc0\x00\x02\x01\
    \xe0\x00\x00\x12\x31\x33\x96\x01\x00\x19\x5a\x16\xcb\x00\x71\x0a";

/// Not captured: `V3_ONE` with the sum of RFC 9568, made by hand. The words of the message,
/// 3133 + 9601 + 0019 + cb00 + 710a, add up to 0359 with the carries; its complement is fca6.
const V3_ONE_MESSAGE_ONLY: &[u8] = b"\
    \x45\xc0\x00\x20\x00\x01\x00\x00\xff\x70\x18\x99\xc0\x00\x02\x01\
    \xe0\x00\x00\x12\x31\x33\x96\x01\x00\x19\xfc\xa6\xcb\x00\x71\x0a";

/// `vrrp_version 3`, `advert_int 1`, IPv6, without the IP header.
const V3_IPV6: &[u8] = b"\
    \x31\x33\x96\x02\x00\x64\x0d\xdc\
    \xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\
    \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10";

/// `vrrp_version 3`, `advert_int 0.25`, IPv6, `unicast_src_ip 2001:db8::1`,
/// `unicast_peer { 2001:db8::2 }`, without the IP header, whose hop limit was 64.
const V3_IPV6_UNICAST: &[u8] = b"\
    \x31\x33\x96\x02\x00\x19\xb0\x49\
    \xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\
    \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10";

/// FRR's vrrpd, `vrrp 51 version 2`, `advertisement-interval 1000`, two addresses, as the four that
/// follow on macvlans of the virtual MAC. Without the IP header, as those.
const FRR_V2: &[u8] = b"\
    \x21\x33\x96\x02\x00\x01\xd0\xb1\xcb\x00\x71\x0a\xcb\x00\x71\x0b\
    \x00\x00\x00\x00\x00\x00\x00\x00";

/// `vrrp 51 version 3`.
const FRR_V3: &[u8] = b"\x31\x33\x96\x02\x00\x64\x1d\xba\xcb\x00\x71\x0a\xcb\x00\x71\x0b";

/// The same, stopped by SIGTERM.
const FRR_V3_STOP: &[u8] = b"\x31\x33\x00\x02\x00\x64\xb3\xba\xcb\x00\x71\x0a\xcb\x00\x71\x0b";

/// `vrrp 51 version 3`, IPv6. Its source is the first address, fe80::10.
const FRR_V3_IPV6: &[u8] = b"\
    \x31\x33\x96\x02\x00\x64\x0d\xce\
    \xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\
    \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10";

/// The same, stopped by SIGTERM.
const FRR_V3_IPV6_STOP: &[u8] = b"\
    \x31\x33\x00\x02\x00\x64\xa3\xce\
    \xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\
    \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10";

// Not captured, since no keepalived that signs was at hand: trailers made by Python's hmac module
// from the layout in `trailer.rs`, with key number 7, the bytes 0 to 31, at 1,760,000,000.5 s and
// with the counter 9:
//
//     head = bytes([1, 7, 0, 0]) + struct.pack(">IHH", 1760000000, 0x8000, 9)
//     pseudo = bytes([4 or 6, version, 51, 0]) + source.ljust(16, b"\0")
//     zeroed = message[:6] + b"\0\0" + message[8:]
//     data = pseudo + zeroed + head + bytes(16)
//     head + hmac.new(bytes(range(32)), data, hashlib.sha256).digest()[:16]

/// After the message of `V3_ONE`.
const TRAILER_V3_ONE: &[u8] = b"\
    \x01\x07\x00\x00\x68\xe7\x78\x00\x80\x00\x00\x09\
    \x8c\xdd\x12\x59\xcc\x1c\x40\x55\x54\x4a\x57\x6d\x19\xfe\x49\xec";

/// After the message of `V2`.
const TRAILER_V2: &[u8] = b"\
    \x01\x07\x00\x00\x68\xe7\x78\x00\x80\x00\x00\x09\
    \xfc\xe4\x10\x58\x05\xd6\xbb\x79\x13\x13\x9c\x0d\x0b\xa5\x44\x77";

/// After `V3_IPV6`, whose sum covers it and becomes 5fd5 (added up by Python, too).
const TRAILER_V3_IPV6: &[u8] = b"\
    \x01\x07\x00\x00\x68\xe7\x78\x00\x80\x00\x00\x09\
    \xcd\xdb\xe4\x45\xca\x65\x88\xa4\x22\x6a\x41\x43\x21\x6a\xc1\xae";

const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, 1);
const PEER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const WALL: Duration = Duration::from_millis(1_760_000_000_500);

#[test]
fn version_2_is_read_and_written_as_keepalived_does() {
    check_ipv4(V2, 1, &advert(Version::V2, 150, 1_000, 2), None);
}

#[test]
fn version_2_giving_up_is_read_and_written_as_keepalived_does() {
    check_ipv4(V2_STOP, 4, &advert(Version::V2, 0, 1_000, 2), None);
}

#[test]
fn version_2_with_a_password_is_read_and_written_as_keepalived_does() {
    let said = advert(Version::V2, 150, 1_000, 1);
    let parameters = Parameters {
        authentication: password(b"s3cret"),
        ..parameters(&said)
    };
    check_packet(V2_PASS, &parameters, &said, GROUP_V4, 255);
    // keepalived cuts a password after 8 characters.
    let parameters = Parameters {
        authentication: password(b"longerth"),
        unicast: Some(unicast(255)),
        ..parameters
    };
    check_packet(V2_PASS_UNICAST, &parameters, &said, PEER_V4, 255);
}

#[test]
fn version_3_with_pseudo_header_is_read_and_written_as_keepalived_does() {
    let form = Some(ChecksumForm::PseudoHeader);
    check_ipv4(V3, 1, &advert(Version::V3, 150, 250, 2), form);
    check_ipv4(V3_ONE, 1, &advert(Version::V3, 150, 250, 1), form);
}

#[test]
fn version_3_without_pseudo_header_is_read_and_written_as_added_up_by_hand() {
    let form = Some(ChecksumForm::MessageOnly);
    let said = advert(Version::V3, 150, 250, 1);
    check_ipv4(V3_ONE_MESSAGE_ONLY, 1, &said, form);
}

#[test]
fn version_3_to_a_peer_beyond_a_router_is_read_and_written_as_keepalived_does() {
    let said = advert(Version::V3, 150, 250, 2);
    let parameters = Parameters {
        unicast: Some(unicast(64)),
        ..parameters(&said)
    };
    check_packet(V3_UNICAST, &parameters, &said, PEER_V4, 64);
}

#[test]
fn version_3_over_ipv6_is_read_and_written_as_keepalived_does() {
    let source = SOURCE_V6.into();
    check_message(V3_IPV6, &six(150, 1_000), source, GROUP_V6.into());
    let [source, peer] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
    check_message(V3_IPV6_UNICAST, &six(150, 250), source, peer);
}

#[test]
fn every_advert_of_frr_is_read_and_written_as_it_does() {
    for (capture, version, priority) in [
        (FRR_V2, Version::V2, 150),
        (FRR_V3, Version::V3, 150),
        (FRR_V3_STOP, Version::V3, 0),
    ] {
        let said = advert(version, priority, 1_000, 2);
        check_message(capture, &said, SOURCE_V4.into(), GROUP_V4.into());
    }
    for (capture, priority) in [(FRR_V3_IPV6, 150), (FRR_V3_IPV6_STOP, 0)] {
        let source = "fe80::10".parse().unwrap();
        check_message(capture, &six(priority, 1_000), source, GROUP_V6.into());
    }
}

#[test]
fn a_trailer_has_the_digest_that_python_works_out() {
    let hmac = Hmac {
        key_id: 7,
        keys: [(7, Key::new((0..32).collect()).unwrap())].into(),
        window: Duration::from_secs(1),
        permissive: false,
    };
    let v4 = (SOURCE_V4.into(), GROUP_V4.into());
    let v6 = (SOURCE_V6.into(), GROUP_V6.into());
    let summed = [&V3_IPV6[..6], &[0x5f, 0xd5], &V3_IPV6[8..]].concat();
    for (said, (source, destination), message, trailer) in [
        (
            advert(Version::V3, 150, 250, 1),
            v4,
            &V3_ONE[20..],
            TRAILER_V3_ONE,
        ),
        (
            advert(Version::V2, 150, 1_000, 2),
            v4,
            &V2[20..],
            TRAILER_V2,
        ),
        (six(150, 1_000), v6, &summed, TRAILER_V3_IPV6),
    ] {
        let parameters = Parameters {
            authentication: Authentication::Hmac(hmac.clone()),
            ..parameters(&said)
        };
        let payload = said.render(&parameters, source, destination, WALL, 9);
        assert_eq!(payload, [message, trailer].concat());
        let datagram = Datagram {
            source,
            destination,
            ttl: 255,
            payload: &payload,
        };
        check_heard(&parameters, &datagram);
    }
}

fn advert(version: Version, priority: u8, millis: u64, addresses: u8) -> Advertisement {
    let addresses = (0..addresses)
        .map(|n| IpAddr::from([203, 0, 113, 10 + n]))
        .collect();
    let interval = Duration::from_millis(millis);
    Advertisement {
        version,
        family: Family::V4,
        vrid: 51,
        priority,
        interval,
        addresses,
    }
}

fn six(priority: u8, millis: u64) -> Advertisement {
    let addresses = ["fe80::10", "2001:db8::10"].map(|text| text.parse().unwrap());
    Advertisement {
        family: Family::V6,
        addresses: addresses.into(),
        ..advert(Version::V3, priority, millis, 0)
    }
}

/// What one who says that has configured.
fn parameters(said: &Advertisement) -> Parameters {
    Parameters {
        advert_interval: said.interval,
        ..Parameters::new(said.vrid, said.version, &said.addresses)
    }
}

fn password(text: &[u8]) -> Authentication {
    Authentication::Password(Password::new(text).unwrap())
}

/// What the one that adverts were captured from hears from and the one that captured them is.
fn unicast(ttl: u8) -> Unicast {
    let peer = Peer {
        address: SOURCE_V4.into(),
        min_ttl: ttl,
        max_ttl: ttl,
    };
    Unicast {
        source: PEER_V4.into(),
        peers: vec![peer],
        ttl,
    }
}

/// The capture is read as `wanted`, and `wanted` is written as the capture, IP header and all.
fn check_ipv4(capture: &[u8], id: u16, wanted: &Advertisement, form: Option<ChecksumForm>) {
    let datagram = Datagram::from_ipv4(capture).unwrap();
    assert_eq!((datagram.source, datagram.ttl), (SOURCE_V4.into(), 255));
    assert_eq!(Advertisement::parse(&datagram), Ok((wanted.clone(), form)));
    let parameters = Parameters {
        checksum: form.unwrap_or_default(),
        ..parameters(wanted)
    };
    let ends = (SOURCE_V4.into(), GROUP_V4.into());
    let message = wanted.render(&parameters, ends.0, ends.1, Duration::ZERO, 0);
    assert_eq!(ipv4_packet(SOURCE_V4, GROUP_V4, 255, id, &message), capture);
}

/// The capture, with identification 1, is heard by a router of these parameters and written as it is
/// by one.
fn check_packet(
    capture: &[u8],
    parameters: &Parameters,
    said: &Advertisement,
    destination: Ipv4Addr,
    ttl: u8,
) {
    check_heard(parameters, &Datagram::from_ipv4(capture).unwrap());
    let ends = (SOURCE_V4.into(), destination.into());
    let message = said.render(parameters, ends.0, ends.1, Duration::ZERO, 0);
    assert_eq!(
        ipv4_packet(SOURCE_V4, destination, ttl, 1, &message),
        capture
    );
}

/// The capture is read as `wanted`, and `wanted` is written as the capture.
fn check_message(payload: &[u8], wanted: &Advertisement, source: IpAddr, destination: IpAddr) {
    let datagram = Datagram {
        source,
        destination,
        ttl: 255,
        payload,
    };
    let heard = Advertisement::parse(&datagram).map(|(heard, _)| heard);
    assert_eq!(heard, Ok(wanted.clone()));
    let parameters = parameters(wanted);
    let said = wanted.render(&parameters, source, destination, Duration::ZERO, 0);
    assert_eq!(said, payload);
}

fn check_heard(parameters: &Parameters, datagram: &Datagram<'_>) {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as now")]
    let now = Instant::now();
    let key = RouterKey {
        link: 1,
        family: parameters.family,
        vrid: parameters.vrid,
    };
    let mut routers = Routers::default();
    routers.insert(key, VirtualRouter::new(parameters.clone()));
    routers.handle(now, &key, Event::Startup);
    let received = routers.receive(now, WALL, 1, datagram);
    let Received::Accepted {
        other_addresses, ..
    } = received
    else {
        panic!("{received:?}");
    };
    assert!(!other_addresses);
    let master = routers.get(&key).and_then(VirtualRouter::master);
    assert_eq!(master, Some((datagram.source, 150)));
}
