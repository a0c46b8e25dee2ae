//! What the fuzz targets do with an input, and the test of `crates/vrrp` that replays the corpus.
//!
//! Each function returns what became of the packet: `accepted`, or the name of the discard.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use vrrp::{
    Advertisement, Authentication, Datagram, Event, Family, GROUP_V4, GROUP_V6, Heartbeat, Hmac,
    Key, Parameters, Password, Peer, Received, RouterKey, Routers, Unicast, Version, VirtualRouter,
};

/// The time in every input: 2025-10-09 08:53:20.5 UTC.
pub const WALL: Duration = Duration::from_millis(1_760_000_000_500);
/// The address of the router.
pub const OWN: [IpAddr; 2] = [v4(1), v6(1)];
/// The address of its peer, which has a key and has spoken 5 s ago.
pub const PEER: [IpAddr; 2] = [v4(2), v6(2)];
/// The address of somebody else.
pub const STRANGER: [IpAddr; 2] = [v4(3), v6(3)];
/// Bytes before the message in an input of [`receive`]: the configuration, the ends, the TTL.
pub const HEAD: usize = 3;
/// How many configurations there are.
pub const KINDS: u8 = 11;

const LINK: u32 = 1;
const FURTHER: u32 = 2;

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last))
}

/// Reads a packet: an IPv4 packet, or after a byte that no IPv4 packet begins with, an IPv6 message.
pub fn parse(bytes: &[u8]) -> &'static str {
    let datagram = match bytes.split_first() {
        Some((0x60, payload)) => Ok(Datagram {
            source: v6(2),
            destination: GROUP_V6.into(),
            ttl: 255,
            payload,
        }),
        Some(_) | None => Datagram::from_ipv4(bytes),
    };
    let (datagram, (advertisement, form)) = match datagram
        .and_then(|datagram| Advertisement::parse(&datagram).map(|heard| (datagram, heard)))
    {
        Ok(heard) => heard,
        Err(discard) => return discard.name(),
    };
    // What is heard has room for every address that it names, and is said in the same way.
    assert!(advertisement.addresses.len() * 4 + 8 <= datagram.payload.len());
    let parameters = Parameters {
        checksum: form.unwrap_or_default(),
        ..Parameters::new(51, advertisement.version, &advertisement.addresses)
    };
    let (source, destination) = (datagram.source, datagram.destination);
    let payload = advertisement.render(&parameters, source, destination, WALL, 0);
    let said = Datagram {
        payload: &payload,
        ..datagram
    };
    assert_eq!(
        Advertisement::parse(&said).map(|(said, _)| said),
        Ok(advertisement)
    );
    "accepted"
}

/// Gives a packet to a router: one byte each for its configuration, for the ends of the packet and
/// for its TTL, then the message.
pub fn receive(now: Instant, bytes: &[u8]) -> &'static str {
    let Some(([kind, ends, ttl], payload)) = bytes.split_first_chunk::<HEAD>() else {
        return "truncated";
    };
    let (parameters, heartbeat) = configuration(*kind);
    let (source, destination) = ends_of(&parameters, heartbeat, *ends);
    let datagram = Datagram {
        source,
        destination,
        ttl: *ttl,
        payload,
    };
    let key = RouterKey {
        link: LINK,
        family: parameters.family,
        vrid: parameters.vrid,
    };
    let link = heartbeat.map_or(LINK, |_| FURTHER);
    let mut routers = Routers::default();
    routers.insert(key, VirtualRouter::new(parameters.clone()));
    routers.set_heartbeats(
        heartbeat
            .map(|path| (link, key, path))
            .into_iter()
            .collect(),
    );
    let own = OWN[index(parameters.family)];
    routers.handle(now, &key, Event::SourceChanged(own));
    routers.handle(now, &key, Event::Startup);
    if matches!(parameters.authentication, Authentication::Hmac(_)) {
        speak(now, &mut routers, &parameters);
    }
    let before = routers.clone();
    let outcome = |received: &Received| match received {
        Received::Accepted { .. } => "accepted",
        Received::Discarded { discard, .. } => discard.name(),
    };
    let first = outcome(&routers.receive(now, WALL, link, &datagram));
    if first != "accepted" {
        // What is discarded leaves no trace: not in the router, and not in what is heard next.
        let state = |routers: &Routers| routers.get(&key).map(VirtualRouter::state).cloned();
        assert_eq!(state(&routers), state(&before));
        assert_eq!(routers.poll_timeout(), before.poll_timeout());
        assert_eq!(outcome(&routers.receive(now, WALL, link, &datagram)), first);
    } else if let Authentication::Hmac(hmac) = &parameters.authentication
        && !hmac.permissive
    {
        let again = outcome(&routers.receive(now, WALL, link, &datagram));
        assert_eq!(again, "hmac_replay");
    }
    first
}

/// An advert of the peer 5 s ago.
fn speak(now: Instant, routers: &mut Routers, parameters: &Parameters) {
    let (source, destination) = ends_of(parameters, None, 0);
    let wall = WALL - Duration::from_secs(5);
    let payload = advertisement(parameters).render(parameters, source, destination, wall, 7);
    let datagram = Datagram {
        source,
        destination,
        ttl: 255,
        payload: &payload,
    };
    let received = routers.receive(now, wall, LINK, &datagram);
    assert!(
        matches!(received, Received::Accepted { .. }),
        "{received:?}"
    );
}

/// What a peer of the same configuration says.
pub fn advertisement(parameters: &Parameters) -> Advertisement {
    Advertisement {
        version: parameters.version,
        family: parameters.family,
        vrid: parameters.vrid,
        priority: 150,
        interval: parameters.advert_interval,
        addresses: parameters.addresses.clone(),
    }
}

/// Source and destination: right, from ourselves, to somebody else, from a stranger, from nobody.
pub fn ends_of(
    parameters: &Parameters,
    heartbeat: Option<Heartbeat>,
    ends: u8,
) -> (IpAddr, IpAddr) {
    let at = index(parameters.family);
    let group = [IpAddr::V4(GROUP_V4), IpAddr::V6(GROUP_V6)][at];
    let directed =
        parameters.unicast.is_some() || heartbeat.is_some_and(|path| path.peer.is_some());
    let right = if directed { OWN[at] } else { group };
    let wrong = if directed { group } else { OWN[at] };
    match ends % 5 {
        0 => (PEER[at], right),
        1 => (OWN[at], right),
        2 => (PEER[at], wrong),
        3 => (STRANGER[at], right),
        _ => (group, right),
    }
}

/// The configurations: versions, families, ways of authentication, ways.
pub fn configuration(kind: u8) -> (Parameters, Option<Heartbeat>) {
    let four = |version| Parameters::new(51, version, &[[203, 0, 113, 1].into(), v4(9)]);
    let six = Parameters::new(51, Version::V3, &[v6(16), v6(17)]);
    let signed = |permissive, parameters| Parameters {
        authentication: Authentication::Hmac(hmac(permissive)),
        ..parameters
    };
    let unicast = |parameters: Parameters| Parameters {
        unicast: Some(Unicast {
            source: OWN[index(parameters.family)],
            peers: vec![Peer {
                address: PEER[index(parameters.family)],
                min_ttl: 250,
                max_ttl: 254,
            }],
            ttl: 255,
        }),
        ..parameters
    };
    let path = |peer| Some(Heartbeat { own: OWN[0], peer });
    match kind % KINDS {
        0 => (four(Version::V3), None),
        1 => (six, None),
        2 => (four(Version::V2), None),
        3 => {
            let authentication =
                Password::new(b"s3cret").map_or(Authentication::None, Authentication::Password);
            let parameters = Parameters {
                authentication,
                ..four(Version::V2)
            };
            (parameters, None)
        }
        4 => (signed(false, four(Version::V3)), None),
        5 => (signed(true, four(Version::V2)), None),
        6 => (signed(false, six), None),
        7 => (unicast(four(Version::V3)), None),
        8 => (unicast(six), None),
        9 => (four(Version::V3), path(Some(PEER[0]))),
        _ => (four(Version::V2), path(None)),
    }
}

/// Two keys, 1 and 2; the first signs.
fn hmac(permissive: bool) -> Hmac {
    let key = |id: u8| Key::new(vec![id; 32]).map(|key| (id, key));
    let keys: BTreeMap<u8, Key> = [1, 2].into_iter().filter_map(key).collect();
    Hmac {
        key_id: 1,
        keys,
        window: Duration::from_secs(10),
        permissive,
    }
}

fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
