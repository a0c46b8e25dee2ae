//! Properties of the packet reader: no bytes make it panic, and what is written is read back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use vrrp::{
    Advertisement, ChecksumForm, Datagram, Event, Family, GROUP_V4, GROUP_V6, Parameters, Received,
    RouterKey, Routers, Version, VirtualRouter, ipv4_packet,
};

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
        let _ = routers.receive(start(), 1, &datagram);
    }

    #[test]
    fn what_is_emitted_is_parsed_back(advert in advert(), message_only in any::<bool>()) {
        let (source, destination) = ends(advert.family);
        let form =
            if message_only { ChecksumForm::MessageOnly } else { ChecksumForm::PseudoHeader };
        let payload = advert.emit(source, destination, form);
        let datagram = Datagram { source, destination, ttl: 255, payload: &payload };
        let choice = advert.version == Version::V3 && advert.family == Family::V4;
        prop_assert_eq!(
            Advertisement::parse(&datagram),
            Ok((advert.clone(), choice.then_some(form)))
        );
        if let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) {
            let packet = ipv4_packet(source, destination, 1, &payload);
            prop_assert_eq!(Datagram::from_ipv4(&packet), Ok(datagram));
        }
    }

    #[test]
    fn one_flipped_bit_is_never_heard_as_the_same_advert(
        advert in advert(),
        bit in any::<prop::sample::Index>(),
    ) {
        let (source, destination) = ends(advert.family);
        let mut payload = advert.emit(source, destination, ChecksumForm::PseudoHeader);
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
        let payload = advert.emit(source, destination, ChecksumForm::PseudoHeader);
        let datagram = Datagram { source, destination, ttl: 255, payload: &payload };
        let heard = matches!(routers.receive(start(), 1, &datagram), Received::Accepted { .. });
        let ours = advert.vrid == 51 && advert.version == Version::V3;
        prop_assert_eq!(heard, ours);
    }
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
            vrid: 51,
            version: Version::V3,
            family,
            priority: 100,
            advert_interval: Duration::from_secs(1),
            preempt: true,
            preempt_delay: Duration::ZERO,
            checksum: ChecksumForm::PseudoHeader,
            addresses: Vec::new(),
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
