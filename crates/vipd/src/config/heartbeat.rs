//! `heartbeat`: further paths for the adverts of a virtual router.

use std::net::IpAddr;

use ::vrrp::Unicast;

use super::section::Seen;
use super::unicast::address;
use super::value::Value;
use super::virtual_router::{Facts, Vrids};
use super::{Heartbeat, text};

/// `[{ interface = "eth1" }, { peer = "10.9.0.2", source = "10.9.0.1" }]`
pub(super) fn read(
    v: &Value<'_>,
    facts: &Facts<'_>,
    unicast: Option<&Unicast>,
    vrids: &mut Vrids,
) -> Option<Vec<Heartbeat>> {
    let mut peers = Seen::new();
    let list = v.list()?;
    let read: Vec<_> = list
        .iter()
        .map(|item| one(item, facts, unicast, vrids, &mut peers))
        .collect();
    read.into_iter().collect()
}

fn one(
    item: &Value<'_>,
    facts: &Facts<'_>,
    unicast: Option<&Unicast>,
    vrids: &mut Vrids,
    peers: &mut Seen<IpAddr>,
) -> Option<Heartbeat> {
    let mut s = item.section()?;
    let interface = s.maybe("interface", |v| {
        let interface = v.parse(text::interface)?;
        if facts.interface == Some(interface.as_str()) || facts.carrier == Some(interface.as_str())
        {
            v.report(
                format!("the adverts are on {interface:?} anyway"),
                "write another interface: a second path must not fail with the first",
            );
            return None;
        }
        if let Some(vrid) = facts.vrid {
            vrids.note(Some(&interface), facts.family, vrid, v);
        }
        Some(interface)
    });
    let peer = s.maybe("peer", |v| {
        let peer = address(v, facts.family)?;
        if unicast.is_some_and(|u| u.source == peer || u.peers.iter().any(|p| p.address == peer)) {
            v.report(
                format!("{peer} stands in `unicast` already"),
                "write an address of that host in another network, or remove it",
            );
            return None;
        }
        if facts.addresses.contains(&peer) {
            v.report(
                format!("{peer} is a virtual address, and only the master has it"),
                "write an address that the other director always has",
            );
            return None;
        }
        peers.note(
            peer,
            v,
            format_args!("{peer} is already a heartbeat"),
            "remove one of the two",
        );
        Some(peer)
    });
    let source = s.maybe("source", |v| {
        let source = address(v, facts.family)?;
        if peer == Some(Some(source)) {
            v.report(
                format!("{source} is the peer"),
                "write the address of this director, or leave it out",
            );
            return None;
        }
        Some(source)
    });
    let (has_interface, has_peer) = (s.has("interface"), s.has("peer"));
    if has_interface && s.has("source") {
        s.pointless(
            &["source"],
            "only a peer has one",
            "remove it: the interface's own address is used",
        );
    }
    s.finish();
    match (has_interface, has_peer) {
        (true, false) => Some(Heartbeat::Interface(interface??)),
        (false, true) => Some(Heartbeat::Peer {
            peer: peer??,
            source: source?,
        }),
        (true, true) => {
            item.report(
                "`interface` and `peer` are two paths",
                "write them as two tables: [{ interface = \"...\" }, { peer = \"...\" }]",
            );
            None
        }
        (false, false) => {
            item.report(
                "names no path",
                "write `interface = \"eth1\"` or `peer = \"10.9.0.2\"`",
            );
            None
        }
    }
}
