//! Properties of the packet reader: no bytes make it panic, and what is written is read back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use vrrp::{
    Advertisement, Authentication, ChecksumForm, Datagram, Event, Family, GROUP_V4, GROUP_V6,
    Heartbeat, Hmac, Key, Parameters, Password, Peer, Received, RouterKey, Routers, Unicast,
    Version, VirtualRouter, ipv4_packet,
};

const WALL: Duration = Duration::from_secs(1_760_000_000);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(datagram) = Datagram::from_ipv4(&bytes) {
            let _ = Advertisement::parse(&datagram);
        }
    }

    #[test]
    fn arbitrary_messages_never_panic_nor_list_more_than_they_hold(
        payload in prop::collection::vec(any::<u8>(), 0..80),
        first in prop_oneof![Just(0x21), Just(0x31), any::<u8>()],
        count in 0..8_u8,
        v6 in any::<bool>(),
    ) {
        let mut payload = payload;
        for (position, value) in [(0, first), (3, count)] {
            if let Some(byte) = payload.get_mut(position) {
                *byte = value;
            }
        }
        let (source, destination) = ends(if v6 { Family::V6 } else { Family::V4 });
        // Damaged sums would hide what lies behind them: the second round has a right one.
        for _ in 0..2 {
            let datagram = Datagram { source, destination, ttl: 255, payload: &payload };
            match Advertisement::parse(&datagram) {
                Ok((advert, _)) => {
                    prop_assert_eq!(advert.addresses.len(), usize::from(count));
                    prop_assert!(advert.addresses.len() * 4 < payload.len());
                }
                Err(vrrp::Discard::Checksum { wanted, .. }) => {
                    payload.splice(6..8, wanted.to_be_bytes());
                    continue;
                }
                Err(_) => {}
            }
            break;
        }
        let mut routers = routers();
        let datagram = Datagram { source, destination, ttl: 255, payload: &payload };
        let _ = routers.receive(start(), WALL, 1, &datagram);
    }

    #[test]
    fn what_is_emitted_is_parsed_back(advert in advert(), message_only in any::<bool>()) {
        let (source, destination) = ends(advert.family);
        let form =
            if message_only { ChecksumForm::MessageOnly } else { ChecksumForm::PseudoHeader };
        let payload = render(&advert, form);
        let datagram = Datagram { source, destination, ttl: 255, payload: &payload };
        let choice = advert.version == Version::V3 && advert.family == Family::V4;
        prop_assert_eq!(
            Advertisement::parse(&datagram),
            Ok((advert.clone(), choice.then_some(form)))
        );
        if let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) {
            let packet = ipv4_packet(source, destination, 255, 1, &payload);
            prop_assert_eq!(Datagram::from_ipv4(&packet), Ok(datagram));
        }
    }

    #[test]
    fn one_flipped_bit_is_never_heard_as_the_same_advert(
        advert in advert(),
        bit in any::<prop::sample::Index>(),
    ) {
        let (source, destination) = ends(advert.family);
        let mut payload = render(&advert, ChecksumForm::PseudoHeader);
        let bit = bit.index(payload.len() * 8);
        if let Some(byte) = payload.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        let datagram = Datagram { source, destination, ttl: 255, payload: &payload };
        prop_assert!(Advertisement::parse(&datagram).is_err());
    }

    #[test]
    fn what_is_received_at_random_moves_only_the_router_that_it_names(advert in advert()) {
        let mut routers = routers();
        let (source, destination) = ends(advert.family);
        let payload = render(&advert, ChecksumForm::PseudoHeader);
        let datagram = Datagram { source, destination, ttl: 255, payload: &payload };
        let heard = matches!(routers.receive(start(), WALL, 1, &datagram), Received::Accepted { .. });
        let ours = advert.vrid == 51 && advert.version == Version::V3;
        prop_assert_eq!(heard, ours);
    }

    #[test]
    fn a_right_advert_is_heard_and_a_changed_one_never_moves_a_router_that_asks_for_a_digest(
        kind in 0..KINDS,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        longer in prop::collection::vec(any::<u8>(), 0..40),
        by in any::<(bool, bool)>(),
        ttl in prop_oneof![3 => Just(255), 1 => any::<u8>()],
    ) {
        let (parameters, heartbeat) = configuration(kind);
        let (peer, own) = sides(parameters.family);
        let directed = parameters.unicast.is_some() || heartbeat.is_some();
        let (_, group) = ends(parameters.family);
        let right = (peer, if directed { own } else { group });
        let said = Advertisement {
            priority: 150,
            interval: parameters.advert_interval,
            version: parameters.version,
            family: parameters.family,
            vrid: parameters.vrid,
            addresses: parameters.addresses.clone(),
        };
        let rendered = said.render(&parameters, right.0, right.1, WALL, 1);
        let mut payload = rendered.clone();
        for (position, value) in changes {
            let position = position.index(payload.len());
            payload[position] = value;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        } else {
            payload.extend(longer);
        }
        let source = if by.0 { right.0 } else { own };
        let destination = if by.1 { right.1 } else { group };
        let key = RouterKey { link: 1, family: parameters.family, vrid: parameters.vrid };
        let mut routers = Routers::default();
        routers.insert(key, VirtualRouter::new(parameters.clone()));
        let paths = heartbeat.map(|path| (2, key, path));
        let link = if paths.is_some() { 2 } else { 1 };
        routers.set_heartbeats(paths.into_iter().collect());
        routers.handle(start(), &key, Event::SourceChanged(own));
        routers.handle(start(), &key, Event::Startup);
        let fresh = routers.clone();
        let datagram = Datagram { source, destination, ttl, payload: &payload };
        let heard = is_heard(&mut routers, link, &datagram);
        let state = |routers: &Routers| routers.get(&key).map(VirtualRouter::state).cloned();
        if !heard {
            prop_assert_eq!(state(&routers), state(&fresh));
        }
        let signed = matches!(parameters.authentication, Authentication::Hmac(_));
        if signed && heard {
            // The sum is no part of the digest.
            prop_assert_eq!(&payload[..6], &rendered[..6]);
            prop_assert_eq!(&payload[8..], &rendered[8..]);
        }
        // Whatever came before, a right advert is heard: once if it is signed.
        let right = Datagram { source: right.0, destination: right.1, ttl: 255, payload: &rendered };
        prop_assert_eq!(is_heard(&mut routers, link, &right), !(signed && heard));
        prop_assert_eq!(is_heard(&mut routers, link, &right), !signed);
    }
}

const KINDS: u8 = 8;

/// One of each way of authentication and each way of travel.
fn configuration(kind: u8) -> (Parameters, Option<Heartbeat>) {
    let four = [[203, 0, 113, 1].into(), [203, 0, 113, 2].into()];
    let six = ["fe80::10".parse().unwrap(), "2001:db8::10".parse().unwrap()];
    let v2 = Parameters::new(51, Version::V2, &four);
    let v3 = Parameters::new(51, Version::V3, &four);
    let v6 = Parameters::new(51, Version::V3, &six);
    let password = Authentication::Password(Password::new(b"s3cret").unwrap());
    let hmac = Authentication::Hmac(Hmac {
        key_id: 1,
        keys: [(1, Key::new(vec![1; 32]).unwrap())].into(),
        window: Duration::from_secs(5),
        permissive: false,
    });
    let unicast = |family| {
        let (peer, own) = sides(family);
        Some(Unicast {
            source: own,
            peers: vec![Peer {
                address: peer,
                min_ttl: 1,
                max_ttl: 255,
            }],
            ttl: 255,
        })
    };
    let proved = |authentication: &Authentication, parameters: &Parameters| Parameters {
        authentication: authentication.clone(),
        ..parameters.clone()
    };
    match kind {
        0 => (v2, None),
        1 => (v3, None),
        2 => (v6, None),
        3 => (proved(&password, &v2), None),
        4 => (proved(&hmac, &v3), None),
        5 => (proved(&hmac, &v6), None),
        6 => {
            let unicast = unicast(Family::V6);
            (Parameters { unicast, ..v6 }, None)
        }
        _ => {
            let (peer, own) = sides(Family::V4);
            let peer = Some(peer);
            (proved(&hmac, &v3), Some(Heartbeat { own, peer }))
        }
    }
}

/// The peer and the router itself.
fn sides(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => ([192, 0, 2, 1].into(), [192, 0, 2, 9].into()),
        Family::V6 => ("fe80::1".parse().unwrap(), "fe80::9".parse().unwrap()),
    }
}

fn is_heard(routers: &mut Routers, link: u32, datagram: &Datagram<'_>) -> bool {
    let received = routers.receive(start(), WALL, link, datagram);
    matches!(received, Received::Accepted { .. })
}

/// The message of a router without authentication to its group.
fn render(advert: &Advertisement, checksum: ChecksumForm) -> Vec<u8> {
    let (source, destination) = ends(advert.family);
    let parameters = Parameters {
        checksum,
        ..Parameters::new(advert.vrid, advert.version, &advert.addresses)
    };
    advert.render(&parameters, source, destination, WALL, 0)
}

fn advert() -> impl Strategy<Value = Advertisement> {
    let kind = prop_oneof![
        Just((Version::V2, Family::V4)),
        Just((Version::V3, Family::V4)),
        Just((Version::V3, Family::V6)),
    ];
    let vrid = prop_oneof![Just(51), 1..=255_u8];
    (
        kind,
        vrid,
        any::<u8>(),
        1..=4095_u16,
        prop::collection::vec(any::<u32>(), 1..=255),
    )
        .prop_map(|((version, family), vrid, priority, field, numbers)| {
            let address = |number: u32| match family {
                Family::V4 => IpAddr::V4(Ipv4Addr::from(number)),
                Family::V6 => IpAddr::V6(Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(number))),
            };
            let interval = match version {
                Version::V2 => Duration::from_secs(u64::from(field % 255) + 1),
                Version::V3 => Duration::from_millis(u64::from(field) * 10),
            };
            let addresses = numbers.into_iter().map(address).collect();
            Advertisement {
                version,
                family,
                vrid,
                priority,
                interval,
                addresses,
            }
        })
}

fn ends(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => (IpAddr::from([192, 0, 2, 1]), GROUP_V4.into()),
        Family::V6 => (IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]), GROUP_V6.into()),
    }
}

/// One router of each family on link 1, VRID 51, version 3.
fn routers() -> Routers {
    let mut routers = Routers::default();
    for family in [Family::V4, Family::V6] {
        let key = RouterKey {
            link: 1,
            family,
            vrid: 51,
        };
        let parameters = Parameters {
            family,
            ..Parameters::new(51, Version::V3, &[])
        };
        routers.insert(key, VirtualRouter::new(parameters));
        routers.handle(start(), &key, Event::Startup);
    }
    routers
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as now")]
fn start() -> Instant {
    Instant::now()
}
