//! A virtual router that hears packets, and the peers that send them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use vrrp::{
    Advertisement, Authentication, Datagram, Discard, Event, GROUP_V4, GROUP_V6, Heartbeat, Hmac,
    Key, Parameters, Password, Peer, Received, RouterKey, Routers, Unicast, Version, VirtualRouter,
};

/// The time at which a bench begins.
pub(crate) const WALL: Duration = Duration::from_secs(1_760_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn v2() -> Parameters {
    Parameters::new(51, Version::V2, &[[203, 0, 113, 1].into()])
}

pub(crate) fn v3() -> Parameters {
    Parameters::new(
        51,
        Version::V3,
        &[[203, 0, 113, 1].into(), [203, 0, 113, 2].into()],
    )
}

pub(crate) fn v6() -> Parameters {
    Parameters::new(51, Version::V3, &["fe80::10".parse().unwrap()])
}

pub(crate) fn with(authentication: Authentication, parameters: Parameters) -> Parameters {
    Parameters {
        authentication,
        ..parameters
    }
}

pub(crate) fn password(text: &[u8]) -> Authentication {
    Authentication::Password(Password::new(text).unwrap())
}

/// Keys 1 and 2, of which one signs.
pub(crate) fn hmac(key_id: u8) -> Authentication {
    Authentication::Hmac(keys(key_id))
}

pub(crate) fn permissive(key_id: u8) -> Authentication {
    Authentication::Hmac(Hmac {
        permissive: true,
        ..keys(key_id)
    })
}

/// One key of that number and those bytes, which signs.
pub(crate) fn signing(key_id: u8, byte: u8) -> Authentication {
    Authentication::Hmac(Hmac {
        keys: [(key_id, Key::new(vec![byte; 64]).unwrap())].into(),
        ..keys(key_id)
    })
}

fn keys(key_id: u8) -> Hmac {
    let key = |id: u8| (id, Key::new(vec![id; 32]).unwrap());
    Hmac {
        key_id,
        keys: [key(1), key(2)].into(),
        window: SECOND * 10,
        permissive: false,
    }
}

/// A router that hears packets.
pub(crate) struct Bench {
    pub(crate) routers: Routers,
    pub(crate) key: RouterKey,
    pub(crate) link: u32,
    pub(crate) now: Instant,
    pub(crate) wall: Duration,
    pub(crate) own: IpAddr,
    pub(crate) peer: IpAddr,
    pub(crate) third: IpAddr,
    pub(crate) stranger: IpAddr,
    /// What the senders have configured: what the router has, at first.
    pub(crate) sender: Parameters,
    pub(crate) said: Advertisement,
    pub(crate) destination: IpAddr,
}

#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) payload: Vec<u8>,
}

impl Bench {
    pub(crate) fn new(parameters: Parameters) -> Bench {
        let v4 = parameters.addresses[0].is_ipv4();
        let host = |last: u8| -> IpAddr {
            if v4 {
                [192, 0, 2, last].into()
            } else {
                [0xfe80, 0, 0, 0, 0, 0, 0, u16::from(last)].into()
            }
        };
        let key = RouterKey {
            link: 1,
            family: parameters.family,
            vrid: 51,
        };
        #[expect(clippy::disallowed_methods, reason = "any instant serves as now")]
        let now = Instant::now();
        let mut routers = Routers::default();
        routers.insert(key, VirtualRouter::new(parameters.clone()));
        routers.handle(now, &key, Event::SourceChanged(host(1)));
        routers.handle(now, &key, Event::Startup);
        let said = Advertisement {
            version: parameters.version,
            family: parameters.family,
            vrid: 51,
            priority: 150,
            interval: SECOND,
            addresses: parameters.addresses.clone(),
        };
        Bench {
            routers,
            key,
            link: 1,
            now,
            wall: WALL,
            own: host(1),
            peer: host(2),
            third: host(3),
            stranger: host(99),
            sender: parameters,
            said,
            destination: if v4 { GROUP_V4.into() } else { GROUP_V6.into() },
        }
    }

    /// From now on adverts go to the router alone, and are heard from peers within a TTL.
    pub(crate) fn unicast(&mut self, peers: &[(IpAddr, u8, u8)]) {
        let peer = |(address, min_ttl, max_ttl): &(IpAddr, u8, u8)| Peer {
            address: *address,
            min_ttl: *min_ttl,
            max_ttl: *max_ttl,
        };
        let unicast = Unicast {
            source: self.own,
            peers: peers.iter().map(peer).collect(),
            ttl: 255,
        };
        let router = self.routers.get(&self.key).unwrap();
        let parameters = Parameters {
            unicast: Some(unicast),
            ..router.parameters().clone()
        };
        let event = Event::Reconfigured(parameters);
        self.routers.handle(self.now, &self.key, event);
        self.destination = self.own;
    }

    /// From now on adverts come over a further path.
    pub(crate) fn heartbeat(&mut self, peer: Option<IpAddr>) {
        let heartbeat = Heartbeat {
            own: self.own,
            peer,
        };
        self.routers.set_heartbeats(vec![(2, self.key, heartbeat)]);
        self.link = 2;
        self.destination = peer.map_or(GROUP_V4.into(), |_| self.own);
    }

    /// From now on senders prove themselves like this.
    pub(crate) fn says(&mut self, authentication: Authentication) {
        self.sender.authentication = authentication;
    }

    pub(crate) fn packet(&self) -> Packet {
        self.packet_at(self.wall, 9)
    }

    pub(crate) fn packet_at(&self, wall: Duration, counter: u16) -> Packet {
        self.packet_of(self.peer, wall, counter)
    }

    pub(crate) fn packet_from(&self, source: IpAddr, wall: Duration) -> Packet {
        self.packet_of(source, wall, 9)
    }

    fn packet_of(&self, source: IpAddr, wall: Duration, counter: u16) -> Packet {
        let destination = self.destination;
        Packet {
            source,
            destination,
            ttl: 255,
            payload: self
                .said
                .render(&self.sender, source, destination, wall, counter),
        }
    }

    /// Whether it is heard, or what its discard says.
    pub(crate) fn receive(&mut self, packet: &Packet) -> Result<(), String> {
        self.outcome(packet).map_err(|discard| discard.to_string())
    }

    pub(crate) fn discard(&mut self, packet: &Packet) -> Discard {
        self.outcome(packet).unwrap_err()
    }

    fn outcome(&mut self, packet: &Packet) -> Result<(), Discard> {
        let datagram = Datagram {
            source: packet.source,
            destination: packet.destination,
            ttl: packet.ttl,
            payload: &packet.payload,
        };
        let before = self.routers.get(&self.key).unwrap().state().clone();
        match self
            .routers
            .receive(self.now, self.wall, self.link, &datagram)
        {
            Received::Accepted { key, .. } => {
                assert_eq!(key, self.key);
                Ok(())
            }
            Received::Discarded { discard, .. } => {
                assert_eq!(self.routers.get(&self.key).unwrap().state(), &before);
                Err(discard)
            }
        }
    }

    #[track_caller]
    pub(crate) fn hears(&mut self, wanted: &str, packet: Packet) {
        let outcome = self.outcome(&packet);
        let name = outcome.as_ref().map_or_else(Discard::name, |()| "accepted");
        assert_eq!(name, wanted, "{outcome:?} of {packet:?}");
    }

    #[track_caller]
    pub(crate) fn refuses(&mut self, wanted: &str) {
        let packet = self.packet();
        assert_eq!(self.receive(&packet), Err(wanted.to_owned()));
    }
}
