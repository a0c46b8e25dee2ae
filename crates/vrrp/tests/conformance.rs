//! The rules of the wire (docs/conformance.md 1 to 32) that this crate keeps; each test names its
//! numbers. Those about the socket, the virtual MAC and forwarding are the daemon's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use vrrp::{
    Action, Advertisement, ChecksumForm, Datagram, Discard, Event, Family, GROUP_V4, GROUP_V6,
    PROTOCOL, Parameters, Received, RouterKey, Routers, State, StateName, Version, VirtualRouter,
    ipv4_packet,
};

/// No advert here is signed: the time of the wall is of no matter.
const WALL: Duration = Duration::ZERO;
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

// 1, 2, 3, 5
#[test]
fn the_ip_packet_has_our_source_the_group_protocol_112_and_time_to_live_255() {
    let packet = ipv4_packet(Ipv4Addr::new(192, 0, 2, 2), GROUP_V4, 255, 1, &v2(2));
    assert_eq!((packet[8], packet[9], PROTOCOL), (255, 112, 112));
    assert_eq!(packet[12..20], [192, 0, 2, 2, 224, 0, 0, 18]);
    assert_eq!(GROUP_V6, "ff02::12".parse::<std::net::Ipv6Addr>().unwrap());
    assert_eq!(
        (v2(1)[0], v3(1)[0], v6(&["fe80::1"])[0]),
        (0x21, 0x31, 0x31)
    );
}

// 4
#[test]
fn any_time_to_live_but_255_is_discarded() {
    for ttl in 0..255 {
        let payload = &v3(1);
        let datagram = Datagram {
            ttl,
            ..ipv4(payload)
        };
        let (min, max) = (255, 255);
        check_way(&datagram, Discard::Ttl { ttl, min, max });
    }
}

// 2
#[test]
fn a_destination_that_is_not_the_group_of_the_family_is_discarded() {
    let payload = &v3(1);
    for destination in [V4, IpAddr::from([224, 0, 0, 5]), GROUP_V6.into()] {
        let wanted = Discard::Destination {
            destination,
            wanted: GROUP_V4.into(),
        };
        let datagram = Datagram {
            destination,
            ..ipv4(payload)
        };
        check_way(&datagram, wanted);
    }
}

// 9
#[test]
fn the_same_vrid_of_ipv4_and_ipv6_is_two_routers() {
    let (mut routers, now) = started(Version::V3, 100);
    let key = RouterKey {
        link: 1,
        family: Family::V6,
        vrid: 51,
    };
    routers.insert(
        key,
        VirtualRouter::new(Parameters {
            family: Family::V6,
            ..parameters()
        }),
    );
    routers.handle(now, &key, Event::Startup);
    assert!(matches!(
        routers.receive(now, WALL, 1, &ipv4(&v3(1))),
        Received::Accepted { .. }
    ));
    assert_eq!(routers.get(&key).unwrap().master(), None);
    let payload = &v6(&["fe80::1"]);
    assert!(matches!(
        routers.receive(now, WALL, 1, &ipv6(payload)),
        Received::Accepted { .. }
    ));
    assert_eq!(
        routers.get(&key).unwrap().master(),
        Some((source_v6(), 150))
    );
}

// 9
#[test]
fn vrid_zero_is_discarded() {
    check_changed(&v3(1), 1, 0, "vrid");
}

// 10
#[test]
fn every_priority_is_sent_and_heard_as_it_is() {
    for priority in 0..=255 {
        let sent = Advertisement {
            priority,
            ..advert(Version::V3, 1)
        };
        let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
        assert_eq!(payload[2], priority);
        assert_eq!(
            Advertisement::parse(&ipv4(&payload)).unwrap().0.priority,
            priority
        );
    }
}

// 11
#[test]
fn a_count_of_zero_is_discarded() {
    check_parse(&v3(0), "address_count");
    check_parse(&v2(0), "address_count");
}

// 12
#[test]
fn the_reserved_bits_of_version_3_are_sent_as_zero_and_ignored() {
    let payload = v3(1);
    assert_eq!(payload[4] >> 4, 0);
    let reserved = with_sum(&changed(&payload, 4, payload[4] | 0xf0));
    let (heard, _) = Advertisement::parse(&ipv4(&reserved)).unwrap();
    assert_eq!(heard, advert(Version::V3, 1));
}

// 13
#[test]
fn an_interval_of_zero_is_discarded_in_either_version() {
    check_changed(&v2(1), 5, 0, "interval");
    check_changed(&v3(1), 5, 0, "interval");
}

// 13
#[test]
fn the_interval_field_of_version_3_has_12_bits_of_centiseconds() {
    for (millis, bytes) in [(10, [0, 1]), (1_000, [0, 100]), (40_950, [0x0f, 0xff])] {
        let interval = Duration::from_millis(millis);
        let sent = Advertisement {
            interval,
            ..advert(Version::V3, 1)
        };
        let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
        assert_eq!(payload[4..6], bytes);
        assert_eq!(Advertisement::parse(&ipv4(&payload)).unwrap().0, sent);
    }
}

// 14
#[test]
fn both_sums_of_version_3_over_ipv4_are_heard_and_told_apart() {
    for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly] {
        let payload = advert(Version::V3, 2).render(
            &Parameters {
                checksum: form,
                ..parameters()
            },
            V4,
            GROUP_V4.into(),
            Duration::ZERO,
            0,
        );
        assert_eq!(Advertisement::parse(&ipv4(&payload)).unwrap().1, Some(form));
        let (mut routers, now) = started(Version::V3, 100);
        let received = routers.receive(now, WALL, 1, &ipv4(&payload));
        let Received::Accepted { form: heard, .. } = received else {
            panic!("{received:?}")
        };
        assert_eq!(heard, Some(form));
    }
}

// 14, 24
#[test]
fn of_all_sums_only_the_right_ones_are_heard() {
    for (payload, right) in [(v2(2), 1), (v3(2), 2)] {
        check_sums(&payload, right, ipv4);
    }
    check_sums(&v6(&["fe80::1"]), 1, ipv6);
}

// 15
#[test]
fn the_sum_of_ipv6_covers_source_and_destination() {
    let payload = &v6(&["fe80::1"]);
    let datagram = Datagram {
        source: "fe80::99".parse().unwrap(),
        ..ipv6(payload)
    };
    assert_eq!(
        Advertisement::parse(&datagram).unwrap_err().name(),
        "checksum"
    );
}

// 16
#[test]
fn the_sum_of_version_2_covers_the_authentication_data_and_no_pseudo_header() {
    let payload = v2(1);
    let datagram = Datagram {
        source: IpAddr::from([198, 51, 100, 7]),
        ..ipv4(&payload)
    };
    assert!(Advertisement::parse(&datagram).is_ok());
    check_parse(&changed(&payload, payload.len() - 1, 1), "checksum");
}

// 17
#[test]
fn version_2_ends_with_8_zero_bytes_which_are_ignored_on_receive() {
    let payload = v2(2);
    assert_eq!(payload[16..], [0; 8]);
    let password = with_sum(&changed(&payload, 16, b's'));
    assert_eq!(
        Advertisement::parse(&ipv4(&password)).unwrap().0,
        advert(Version::V2, 2)
    );
}

// 17, 23
#[test]
fn version_2_without_its_authentication_data_is_truncated() {
    let payload = v2(2);
    check_parse(&with_sum(&payload[..16]), "truncated");
}

// 18
#[test]
fn the_first_address_over_ipv6_must_be_link_local() {
    for (addresses, wanted) in [
        (&["fe80::1", "2001:db8::1"][..], None),
        (&["2001:db8::1", "fe80::1"], Some("link_local")),
        (&["::"], Some("link_local")),
    ] {
        let heard = Advertisement::parse(&ipv6(&v6(addresses)));
        assert_eq!(heard.err().map(|discard| discard.name()), wanted);
    }
}

// 19
#[test]
fn the_family_of_an_advert_is_that_of_its_packet() {
    assert_eq!(
        Advertisement::parse(&ipv4(&v3(1))).unwrap().0.family,
        Family::V4
    );
    let payload = &v6(&["fe80::1"]);
    assert_eq!(
        Advertisement::parse(&ipv6(payload)).unwrap().0.family,
        Family::V6
    );
    let mut mixed = advert(Version::V3, 1);
    mixed.addresses = [source_v6(), mixed.addresses[0]].into();
    let payload = mixed.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
    assert_eq!(
        Advertisement::parse(&ipv4(&payload)).unwrap().0,
        advert(Version::V3, 1)
    );
}

// 20
#[test]
fn addresses_are_sent_in_the_order_of_the_configuration() {
    let mut sent = advert(Version::V3, 3);
    sent.addresses = sent.addresses.iter().rev().copied().collect();
    let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
    assert_eq!(
        payload[8..],
        [203, 0, 113, 3, 203, 0, 113, 2, 203, 0, 113, 1]
    );
}

// 20
#[test]
fn at_most_255_addresses_are_sent() {
    let addresses = (0..300_u32).map(|n| Ipv4Addr::from(n + 1).into()).collect();
    let sent = Advertisement {
        addresses,
        ..advert(Version::V3, 0)
    };
    let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
    assert_eq!(
        Advertisement::parse(&ipv4(&payload)).unwrap().0.addresses,
        sent.addresses[..255].into()
    );
}

// 21
#[test]
fn a_version_that_is_none_is_discarded() {
    for version in (0..16).filter(|version| ![2, 3].contains(version)) {
        check_changed(&v3(1), 0, version << 4 | 1, "version");
    }
    let payload = v6(&["fe80::1"]);
    let v2 = changed(&payload, 0, 0x21);
    assert_eq!(
        Advertisement::parse(&ipv6(&v2)).unwrap_err().name(),
        "version"
    );
}

// 21, 26
#[test]
fn the_version_that_a_router_does_not_speak_is_discarded() {
    check_received(Version::V2, &v3(1), "version");
    check_received(Version::V3, &v2(1), "version");
}

// 22
#[test]
fn a_type_that_is_not_an_advertisement_is_discarded() {
    for kind in (0..16).filter(|kind| *kind != 1) {
        check_changed(&v3(1), 0, 0x30 | kind, "type");
    }
}

// 23
#[test]
fn every_length_but_the_right_one_is_discarded() {
    for payload in [v2(1), v2(3), v3(1), v3(3)] {
        for length in 0..payload.len() {
            check_parse(&payload[..length], "truncated");
        }
        let mut longer = payload.clone();
        for _ in 0..40 {
            longer.push(0);
            check_parse(&longer, "address_count");
        }
    }
    let payload = v6(&["fe80::1", "2001:db8::1"]);
    for length in 0..payload.len() {
        let heard = Advertisement::parse(&ipv6(&payload[..length]));
        assert_eq!(heard.unwrap_err().name(), "truncated");
    }
}

// 23
#[test]
fn a_count_beyond_the_packet_is_truncated() {
    check_changed(&v3(1), 3, 255, "truncated");
}

// Field note: padding of the link is no error.
#[test]
fn padding_of_the_link_is_cut_off() {
    let mut packet = ipv4_packet(Ipv4Addr::new(192, 0, 2, 2), GROUP_V4, 255, 1, &v3(1));
    packet.resize(46, 0);
    let datagram = Datagram::from_ipv4(&packet).unwrap();
    assert!(Advertisement::parse(&datagram).is_ok());
}

// 25, 26
#[test]
fn an_unknown_vrid_is_ignored() {
    let sent = Advertisement {
        vrid: 52,
        ..advert(Version::V3, 1)
    };
    let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
    let (mut routers, now) = started(Version::V3, 100);
    let received = routers.receive(now, WALL, 1, &ipv4(&payload));
    let wanted = Received::Discarded {
        key: None,
        discard: Discard::Vrid { vrid: 52 },
    };
    assert_eq!(received, wanted);
}

// 26
#[test]
fn what_a_router_discards_does_not_move_its_deadline() {
    let (mut routers, now) = started(Version::V3, 100);
    let before = routers.poll_timeout();
    let later = now + Duration::from_secs(1);
    let payload = v3(1);
    let datagram = Datagram {
        ttl: 254,
        ..ipv4(&payload)
    };
    let received = routers.receive(later, WALL, 1, &datagram);
    let discard = Discard::Ttl {
        ttl: 254,
        min: 255,
        max: 255,
    };
    assert_eq!(
        received,
        Received::Discarded {
            key: Some(key()),
            discard
        }
    );
    assert_eq!(routers.poll_timeout(), before);
    routers.receive(later, WALL, 1, &ipv4(&payload));
    assert!(routers.poll_timeout() > before);
}

// 27
#[test]
fn another_interval_is_adopted_in_version_3() {
    let interval = Duration::from_secs(7);
    let sent = Advertisement {
        interval,
        ..advert(Version::V3, 1)
    };
    let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
    let (mut routers, now) = started(Version::V3, 100);
    routers.receive(now, WALL, 1, &ipv4(&payload));
    let State::Backup(listening) = routers.get(&key()).unwrap().state() else {
        panic!("{routers:?}");
    };
    assert_eq!(listening.master_adver_interval, interval);
}

// 28
#[test]
fn another_interval_longer_or_shorter_is_discarded_in_version_2() {
    let (mut routers, now) = started(Version::V2, 100);
    let advert_interval = Duration::from_secs(2);
    let two = Parameters {
        version: Version::V2,
        advert_interval,
        ..parameters()
    };
    routers.handle(now, &key(), Event::Reconfigured(two));
    for (seconds, heard) in [(1, false), (2, true), (3, false)] {
        let interval = Duration::from_secs(seconds);
        let sent = Advertisement {
            interval,
            ..advert(Version::V2, 1)
        };
        let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
        let discard = Discard::Interval {
            heard: interval,
            wanted: advert_interval,
        };
        let discarded = Received::Discarded {
            key: Some(key()),
            discard,
        };
        let received = routers.receive(now, WALL, 1, &ipv4(&payload));
        assert_eq!(received != discarded, heard);
        assert_eq!(matches!(received, Received::Accepted { .. }), heard);
    }
}

// 29
#[test]
fn another_address_list_is_reported_and_heard() {
    for version in [Version::V2, Version::V3] {
        for (count, other) in [(1, false), (2, true)] {
            let payload = advert(version, count).render(
                &parameters(),
                V4,
                GROUP_V4.into(),
                Duration::ZERO,
                0,
            );
            let (mut routers, now) = started(version, 100);
            let received = routers.receive(now, WALL, 1, &ipv4(&payload));
            let Received::Accepted {
                other_addresses, ..
            } = received
            else {
                panic!("{received:?}")
            };
            assert_eq!(other_addresses, other);
            assert_eq!(routers.get(&key()).unwrap().master(), Some((V4, 150)));
        }
    }
}

// 31
#[test]
fn version_2_with_authentication_is_discarded() {
    for kind in 1..=255 {
        check_changed(&v2(1), 4, kind, "authentication");
    }
}

// 32
#[test]
fn between_two_owners_the_greater_address_decides() {
    for (own, state) in [
        ([192, 0, 2, 1], StateName::Backup),
        ([192, 0, 2, 3], StateName::Master),
    ] {
        let (mut routers, now) = started(Version::V3, 255);
        routers.handle(now, &key(), Event::SourceChanged(own.into()));
        let sent = Advertisement {
            priority: 255,
            ..advert(Version::V3, 1)
        };
        let payload = sent.render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0);
        routers.receive(now, WALL, 1, &ipv4(&payload));
        assert_eq!(routers.get(&key()).unwrap().state_name(), state);
    }
}

// Field note: our own adverts that come back are ignored.
#[test]
fn an_advert_that_came_back_is_discarded() {
    let (mut routers, now) = started(Version::V3, 100);
    routers.handle(now, &key(), Event::SourceChanged(V4));
    let received = routers.receive(now, WALL, 1, &ipv4(&v3(1)));
    let discard = Discard::Own { source_address: V4 };
    assert_eq!(
        received,
        Received::Discarded {
            key: Some(key()),
            discard
        }
    );
}

// 70
#[test]
fn what_a_master_sends_is_what_is_configured_now() {
    let (mut routers, now) = started(Version::V3, 255);
    let addresses = advert(Version::V3, 3).addresses;
    let changed = Parameters {
        priority: 7,
        addresses: addresses.clone(),
        ..parameters()
    };
    let actions = routers.handle(now, &key(), Event::Reconfigured(changed));
    let Some((_, Action::SendAdvertisement(sent))) = actions.first() else {
        panic!("{actions:?}")
    };
    assert_eq!((sent.priority, &sent.addresses), (7, &addresses));
}

fn key() -> RouterKey {
    RouterKey {
        link: 1,
        family: Family::V4,
        vrid: 51,
    }
}

fn source_v6() -> IpAddr {
    "fe80::2".parse().unwrap()
}

fn parameters() -> Parameters {
    Parameters::new(51, Version::V3, &[[203, 0, 113, 1].into()])
}

fn advert(version: Version, count: u8) -> Advertisement {
    let addresses = (1..=count)
        .map(|n| IpAddr::from([203, 0, 113, n]))
        .collect();
    let interval = Duration::from_secs(1);
    Advertisement {
        version,
        family: Family::V4,
        vrid: 51,
        priority: 150,
        interval,
        addresses,
    }
}

fn v2(count: u8) -> Vec<u8> {
    advert(Version::V2, count).render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0)
}

fn v3(count: u8) -> Vec<u8> {
    advert(Version::V3, count).render(&parameters(), V4, GROUP_V4.into(), Duration::ZERO, 0)
}

fn v6(addresses: &[&str]) -> Vec<u8> {
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let advert = Advertisement {
        family: Family::V6,
        addresses,
        ..advert(Version::V3, 0)
    };
    advert.render(
        &parameters(),
        source_v6(),
        GROUP_V6.into(),
        Duration::ZERO,
        0,
    )
}

fn ipv4(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source: V4,
        destination: GROUP_V4.into(),
        ttl: 255,
        payload,
    }
}

fn ipv6(payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source: source_v6(),
        destination: GROUP_V6.into(),
        ttl: 255,
        payload,
    }
}

/// One IPv4 router, VRID 51 on link 1.
fn started(version: Version, priority: u8) -> (Routers, Instant) {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
    let now = Instant::now();
    let mut routers = Routers::default();
    routers.insert(
        key(),
        VirtualRouter::new(Parameters {
            version,
            priority,
            ..parameters()
        }),
    );
    routers.handle(now, &key(), Event::Startup);
    (routers, now)
}

fn changed(payload: &[u8], position: usize, value: u8) -> Vec<u8> {
    let mut payload = payload.to_vec();
    payload[position] = value;
    payload
}

/// The message with the sum over the message alone, which is right for both versions over IPv4.
/// It is worked out here, the slow way, so that a wrong sum of the crate does not prove itself.
fn with_sum(payload: &[u8]) -> Vec<u8> {
    let zero = changed(&changed(payload, 6, 0), 7, 0);
    let sum = zero
        .chunks(2)
        .map(|w| u32::from(w[0]) * 256 + u32::from(w[1]))
        .sum::<u32>();
    let sum = u16::try_from(0xffff - sum % 0xffff).unwrap();
    [&zero[..6], &sum.to_be_bytes(), &zero[8..]].concat()
}

/// Over all 65,536 sums, exactly `right` are heard; +0 and -0 are the same sum (RFC 1071).
fn check_sums(payload: &[u8], right: usize, packet: fn(&[u8]) -> Datagram<'_>) {
    let heard = (0..=u16::MAX)
        .filter(|sum| {
            let payload = [&payload[..6], &sum.to_be_bytes(), &payload[8..]].concat();
            match Advertisement::parse(&packet(&payload)) {
                Ok(_) => true,
                Err(discard) => {
                    assert_eq!(discard.name(), "checksum");
                    false
                }
            }
        })
        .count();
    assert_eq!(heard, right);
}

fn check_parse(payload: &[u8], wanted: &str) {
    let heard = Advertisement::parse(&ipv4(payload));
    assert_eq!(heard.unwrap_err().name(), wanted);
}

/// The message is heard as it is, and discarded with one byte changed and its sum put right.
fn check_changed(payload: &[u8], position: usize, value: u8, wanted: &str) {
    assert!(Advertisement::parse(&ipv4(payload)).is_ok());
    check_parse(&with_sum(&changed(payload, position, value)), wanted);
}

/// The message is good, but not for a router of that version with an interval of 1 s.
fn check_received(version: Version, payload: &[u8], wanted: &str) {
    assert!(Advertisement::parse(&ipv4(payload)).is_ok());
    let (mut routers, now) = started(version, 100);
    let received = routers.receive(now, WALL, 1, &ipv4(payload));
    let Received::Discarded {
        key: victim,
        discard,
    } = received
    else {
        panic!("{received:?}")
    };
    assert_eq!((victim, discard.name()), (Some(key()), wanted));
    assert_eq!(routers.get(&key()).unwrap().master(), None);
}

/// A good message that came in a way that is none.
fn check_way(datagram: &Datagram<'_>, discard: Discard) {
    let (mut routers, now) = started(Version::V3, 100);
    let key = Some(key());
    let received = routers.receive(now, Duration::ZERO, 1, datagram);
    assert_eq!(received, Received::Discarded { key, discard });
}
