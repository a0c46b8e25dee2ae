//! The rules that a received advert must keep which depend on configuration.

use std::net::IpAddr;
use std::time::Duration;

use crate::datagram::Datagram;
use crate::discard::Discard;
use crate::packet::Advertisement;
use crate::parameters::{ChecksumForm, Parameters, Version};
use crate::routers::Heartbeat;

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

/// Which signed adverts were heard already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replay {}

/// Checks a packet for a virtual router. `wall` is the time since 1970.
pub(crate) fn check(
    parameters: &Parameters,
    arrival: Arrival,
    _replay: &mut Replay,
    _wall: Duration,
    datagram: &Datagram<'_>,
) -> Result<(Advertisement, Option<ChecksumForm>), Discard> {
    // The version comes first: the other rules are not those of a message of another version.
    let wanted = parameters.version.number();
    if let Some(heard) = datagram.payload.first().map(|first| first >> 4)
        && heard != wanted
    {
        return Err(Discard::Version { heard, wanted });
    }
    let (advertisement, form) = Advertisement::parse(datagram)?;
    let own = match arrival {
        Arrival::Link { own } => own,
        Arrival::Heartbeat(heartbeat) => Some(heartbeat.own),
    };
    if own == Some(datagram.source) {
        return Err(Discard::Own {
            source_address: datagram.source,
        });
    }
    match advertisement.version {
        // RFC 3768 §7.1: the interval must be the one configured here.
        Version::V2 if advertisement.interval != parameters.interval() => {
            let (heard, wanted) = (advertisement.interval, parameters.interval());
            Err(Discard::Interval { heard, wanted })
        }
        // RFC 5798 §6.4.2: in version 3 the master's interval is followed.
        Version::V2 | Version::V3 => Ok((advertisement, form)),
    }
}
