//! The rules that a received advert must keep which depend on configuration.
//!
//! In this order: the way (whom it is from and to, and how far it came), the version and the length,
//! the authentication, the interval of version 2, and then what the message says. So the first rule
//! that is broken says most about the sender: a stranger before a wrong password, and that before
//! what only a peer can get wrong.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::authentication::{Authentication, Mismatch};
use crate::datagram::Datagram;
use crate::discard::Discard;
use crate::event::Path;
use crate::packet::{Advertisement, Message, TYPE_PASSWORD, group};
use crate::parameters::{ChecksumForm, Parameters, Version};
use crate::routers::Heartbeat;
use crate::trailer::{self, Stamp};

/// Senders on one multicast path whose last stamps are remembered. One of them is master at a time.
const REMEMBERED: usize = 4;

/// The way a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The link of the virtual router, where this host has that address.
    Link {
        /// Its own address there, if it is known.
        own: Option<IpAddr>,
    },
    /// A further path.
    Heartbeat(Heartbeat),
}

/// When the last signed advert of each sender on each path was signed: nothing older is heard. An
/// advert that breaks any rule leaves no trace here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replay {
    /// The one heard last is the last.
    heard: Vec<(Path, IpAddr, Stamp)>,
}

/// Checks a packet for a virtual router. `wall` is the time since 1970.
pub(crate) fn check(
    parameters: &Parameters,
    arrival: Arrival,
    replay: &mut Replay,
    wall: Duration,
    datagram: &Datagram<'_>,
) -> Result<(Advertisement, Option<ChecksumForm>), Discard> {
    let way = Way::new(parameters, arrival, datagram.source);
    way.check(datagram)?;
    let message = Message::read(datagram, Some(parameters.version))?;
    let source = datagram.source;
    let stamp = authenticate(&parameters.authentication, &message, source, wall)?;
    if let Some(stamp) = stamp {
        replay.check(way.path, source, stamp)?;
    }
    let (heard, wanted) = (message.interval(), parameters.interval());
    match parameters.version {
        // RFC 3768 §7.1: the interval must be the one configured here.
        Version::V2 if heard != wanted => return Err(Discard::Interval { heard, wanted }),
        // RFC 5798 §6.4.2: in version 3 the master's interval is followed.
        Version::V2 | Version::V3 => {}
    }
    let heard = message.finish(datagram)?;
    if let Some(stamp) = stamp {
        replay.note(way.path, source, stamp, way.senders);
    }
    Ok(heard)
}

/// What the IP header of an advert from one source must say.
struct Way {
    path: Path,
    /// Our address there: what comes from it came back.
    own: Option<IpAddr>,
    destination: IpAddr,
    /// `None`: the source may not send here.
    ttl: Option<RangeInclusive<u8>>,
    /// How many may send here, as far as they are remembered.
    senders: usize,
}

impl Way {
    fn new(parameters: &Parameters, arrival: Arrival, source: IpAddr) -> Way {
        match arrival {
            Arrival::Link { own } => match &parameters.unicast {
                None => Way {
                    path: Path::Link,
                    own,
                    destination: group(parameters.family),
                    ttl: Some(255..=255),
                    senders: REMEMBERED,
                },
                Some(unicast) => Way {
                    path: Path::Link,
                    own: Some(unicast.source),
                    destination: unicast.source,
                    ttl: unicast
                        .peers
                        .iter()
                        .find(|peer| peer.address == source)
                        .map(|peer| peer.min_ttl..=peer.max_ttl),
                    senders: unicast.peers.len(),
                },
            },
            Arrival::Heartbeat(Heartbeat { own, peer }) => Way {
                path: Path::Heartbeat { own },
                own: Some(own),
                destination: peer.map_or(group(parameters.family), |_| own),
                ttl: match peer {
                    None => Some(255..=255),
                    Some(peer) => (peer == source).then_some(0..=255),
                },
                senders: REMEMBERED,
            },
        }
    }

    fn check(&self, datagram: &Datagram<'_>) -> Result<(), Discard> {
        let (source_address, destination) = (datagram.source, datagram.destination);
        if self.own == Some(source_address) {
            return Err(Discard::Own { source_address });
        }
        if destination != self.destination {
            let wanted = self.destination;
            return Err(Discard::Destination {
                destination,
                wanted,
            });
        }
        let (ttl, Some(range)) = (datagram.ttl, &self.ttl) else {
            return Err(Discard::Peer { source_address });
        };
        if !range.contains(&ttl) {
            let (min, max) = (*range.start(), *range.end());
            return Err(Discard::Ttl { ttl, min, max });
        }
        Ok(())
    }
}

/// When the message was signed, if it is signed and must or may be.
fn authenticate(
    authentication: &Authentication,
    message: &Message<'_>,
    source: IpAddr,
    wall: Duration,
) -> Result<Option<Stamp>, Discard> {
    match authentication {
        Authentication::None => message.check_unauthenticated().map(|()| None),
        Authentication::Password(password) => {
            message.check_type(TYPE_PASSWORD)?;
            let right = message.password().is_some_and(|heard| password.is(heard));
            if !right {
                return Err(Discard::Authentication(Mismatch::Password));
            }
            message.check_no_trailer().map(|()| None)
        }
        Authentication::Hmac(hmac) => {
            message.check_type(0)?;
            match message.trailer {
                Some(trailer) => trailer::verify(hmac, message, trailer, source, wall).map(Some),
                None if hmac.permissive => Ok(None),
                None => Err(Discard::HmacMissing),
            }
        }
    }
}

impl Replay {
    fn check(&self, path: Path, source_address: IpAddr, stamp: Stamp) -> Result<(), Discard> {
        let last = self
            .heard
            .iter()
            .find(|(way, from, _)| (*way, *from) == (path, source_address));
        match last {
            Some((_, _, last)) if !stamp.is_after(*last) => {
                Err(Discard::HmacReplay { source_address })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Forgets the sender on that path that was silent for longest, if there are more than `senders`.
    fn note(&mut self, path: Path, source: IpAddr, stamp: Stamp, senders: usize) {
        self.heard
            .retain(|(way, from, _)| (*way, *from) != (path, source));
        self.heard.push((path, source, stamp));
        let on_path = self.heard.iter().filter(|(way, _, _)| *way == path).count();
        if on_path > senders
            && let Some(oldest) = self.heard.iter().position(|(way, _, _)| *way == path)
        {
            self.heard.remove(oldest);
        }
    }
}
