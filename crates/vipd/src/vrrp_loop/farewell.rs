//! Priority 0 in the name of a virtual router that nobody runs any more: after a crash, and made ready
//! for one.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use vrrp::{Advertisement, Family, Parameters};

use super::advert_path::wall_time;
use super::seat::{Way, group, packet, virtual_mac};
use super::station::{Place, Station};
use super::{LinkFacts, Spec};
use crate::net::links::Link;
use crate::net::sys::Mac;

/// Tells the peers of a virtual router that its master is gone (RFC 5798 §6.4.3).
///
/// # Errors
///
/// The kernel's: no socket, or it did not leave.
pub fn say_stop(spec: &Spec, link: &Link, source: IpAddr) -> io::Result<()> {
    let parameters = &spec.parameters;
    let advertisement = stopping(parameters);
    let mut station = Station::new(Place::Interface(link.name.clone()), parameters.family);
    station.used = true;
    station.take(&LinkFacts {
        interface: link.name.clone(),
        index: Some(link.index),
        up: link.up,
        mac: link.mac,
    });
    station.open(Instant::now())?;
    let Some(socket) = &station.socket else {
        return Err(io::Error::other("no socket"));
    };
    let mac = match &spec.virtual_mac {
        Some(_) => Some(virtual_mac(parameters.family, parameters.vrid)),
        None => station.mac,
    };
    let mac = mac.filter(|_| station.frames.is_some());
    for destination in destinations(parameters) {
        let way = Way {
            station: 0,
            source,
            destination,
            from: mac.filter(|_| destination.is_multicast()),
        };
        let bytes = packet(&advertisement, parameters, &way, (wall_time(), 0));
        match (&station.frames, way.from) {
            (Some(frames), Some(_)) => drop(frames.send(std::iter::once(&*bytes))?),
            (Some(_) | None, _) => socket.send(&bytes, destination)?,
        }
    }
    Ok(())
}

/// Where a farewell goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// The interface that it leaves by; `None`: that of the route.
    pub interface: Option<String>,
    /// Its sender.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// As an Ethernet frame from that address; `None`: as an IP packet.
    pub from: Option<Mac>,
}

/// The farewells on a virtual router's own link.
#[must_use]
pub fn partings(spec: &Spec, link: &Link, source: IpAddr) -> Vec<Parting> {
    let parameters = &spec.parameters;
    let ethernet = link.mac.filter(|mac| *mac != Mac::default());
    let mac = ethernet.map(|mac| match &spec.virtual_mac {
        Some(_) => virtual_mac(parameters.family, parameters.vrid),
        None => mac,
    });
    let destinations = destinations(parameters).into_iter();
    destinations
        .map(|destination| Parting {
            interface: Some(link.name.clone()),
            source,
            destination,
            from: mac.filter(|_| destination.is_multicast()),
        })
        .collect()
}

/// A farewell by a further path: to the group on that interface, or to that host.
#[must_use]
pub fn further_parting(
    family: Family,
    link: Option<&Link>,
    source: IpAddr,
    peer: Option<IpAddr>,
) -> Parting {
    let mac = link.and_then(|link| link.mac.filter(|mac| *mac != Mac::default()));
    Parting {
        interface: link.map(|link| link.name.clone()),
        source,
        destination: peer.unwrap_or(group(family)),
        from: mac.filter(|_| peer.is_none()),
    }
}

/// The farewell as bytes, signed as of now if it is signed.
#[must_use]
pub fn last_words(parameters: &Parameters, parting: &Parting) -> Vec<u8> {
    let way = Way {
        station: 0,
        source: parting.source,
        destination: parting.destination,
        from: parting.from,
    };
    packet(&stopping(parameters), parameters, &way, (wall_time(), 0))
}

fn stopping(parameters: &Parameters) -> Advertisement {
    Advertisement {
        version: parameters.version,
        family: parameters.family,
        vrid: parameters.vrid,
        priority: vrrp::PRIORITY_STOP,
        interval: parameters.interval(),
        addresses: parameters.addresses.clone(),
    }
}

/// Whom the adverts of a virtual router are sent to on its link.
pub(super) fn destinations(parameters: &Parameters) -> Vec<IpAddr> {
    match &parameters.unicast {
        None => vec![group(parameters.family)],
        Some(unicast) => unicast.peers.iter().map(|peer| peer.address).collect(),
    }
}
