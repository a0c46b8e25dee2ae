//! Adverts of a stranger, byte for byte: keepalived 2.2.7 in a network namespace, captured by
//! `tcpdump -x` at the other end of a veth pair. The instances had `virtual_router_id 51` and
//! `priority 150`, the interface 192.0.2.1/24 and fe80::1:1/64; what differs stands at each capture.
//! Every field was compared by hand with the layouts of RFC 3768 §5.1 and RFC 5798 §5.1. One advert
//! is not a stranger's, since that keepalived cannot send it: its sum is added up where it stands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vrrp::{
    Advertisement, ChecksumForm, Datagram, Discard, Family, GROUP_V4, GROUP_V6, Version,
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

/// `vrrp_version 3`, `advert_int 0.25`, two addresses: the sum covers the pseudo-header.
const V3: &[u8] = b"\
    \x45\xc0\x00\x24\x00\x01\x00\x00\xff\x70\x18\x95\xc0\x00\x02\x01\
    \xe0\x00\x00\x12\x31\x33\x96\x02\x00\x19\x1e\x05\xcb\x00\x71\x0a\
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

const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, 1);

#[test]
fn version_2_is_read_and_written_as_keepalived_does() {
    check_ipv4(V2, 1, &advert(Version::V2, 150, 1_000, 2), None);
}

#[test]
fn version_2_giving_up_is_read_and_written_as_keepalived_does() {
    check_ipv4(V2_STOP, 4, &advert(Version::V2, 0, 1_000, 2), None);
}

#[test]
fn version_2_with_a_password_is_discarded() {
    let datagram = Datagram::from_ipv4(V2_PASS).unwrap();
    let heard = Advertisement::parse(&datagram);
    assert_eq!(heard, Err(Discard::Authentication { heard: 1 }));
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
    check_ipv4(
        V3_ONE_MESSAGE_ONLY,
        1,
        &advert(Version::V3, 150, 250, 1),
        form,
    );
}

#[test]
fn version_3_over_ipv6_is_read_and_written_as_keepalived_does() {
    let wanted = Advertisement {
        family: Family::V6,
        addresses: vec!["fe80::10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
        ..advert(Version::V3, 150, 1_000, 0)
    };
    let (source, destination) = (SOURCE_V6.into(), GROUP_V6.into());
    let datagram = Datagram {
        source,
        destination,
        ttl: 255,
        payload: V3_IPV6,
    };
    assert_eq!(Advertisement::parse(&datagram), Ok((wanted.clone(), None)));
    // The form is a matter of IPv4 alone.
    for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly] {
        assert_eq!(wanted.emit(source, destination, form), V3_IPV6);
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

/// The capture is read as `wanted`, and `wanted` is written as the capture, IP header and all.
fn check_ipv4(capture: &[u8], id: u16, wanted: &Advertisement, form: Option<ChecksumForm>) {
    let datagram = Datagram::from_ipv4(capture).unwrap();
    assert_eq!((datagram.source, datagram.ttl), (SOURCE_V4.into(), 255));
    assert_eq!(Advertisement::parse(&datagram), Ok((wanted.clone(), form)));
    let message = wanted.emit(SOURCE_V4.into(), GROUP_V4.into(), form.unwrap_or_default());
    assert_eq!(ipv4_packet(SOURCE_V4, GROUP_V4, id, &message), capture);
}
