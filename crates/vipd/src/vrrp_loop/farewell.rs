//! Priority 0 in the name of a virtual router that nobody runs any more.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use vrrp::{Advertisement, Parameters};

use super::advert_path::wall_time;
use super::seat::{Way, group, packet, virtual_mac};
use super::station::{Place, Station};
use super::{LinkFacts, Spec};
use crate::net::links::Link;

/// Tells the peers of a virtual router that its master is gone (RFC 5798 §6.4.3).
///
/// # Errors
///
/// The kernel's: no socket, or it did not leave.
pub fn say_stop(spec: &Spec, link: &Link, source: IpAddr) -> io::Result<()> {
    let parameters = &spec.parameters;
    let advertisement = Advertisement {
        version: parameters.version,
        family: parameters.family,
        vrid: parameters.vrid,
        priority: vrrp::PRIORITY_STOP,
        interval: parameters.interval(),
        addresses: parameters.addresses.clone(),
    };
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

/// Whom the adverts of a virtual router are sent to on its link.
pub(super) fn destinations(parameters: &Parameters) -> Vec<IpAddr> {
    match &parameters.unicast {
        None => vec![group(parameters.family)],
        Some(unicast) => unicast.peers.iter().map(|peer| peer.address).collect(),
    }
}
