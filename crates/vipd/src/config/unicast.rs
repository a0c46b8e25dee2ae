//! `unicast`: adverts from host to host.

use std::net::IpAddr;

use ::vrrp::{Family, PRIORITY_OWNER, Peer, Unicast};

use super::section::Seen;
use super::text;
use super::value::Value;
use super::virtual_router::Facts;

pub(super) fn read(v: &Value<'_>, facts: &Facts<'_>) -> Option<Unicast> {
    let mut s = v.section()?;
    let source = s.need("source", "\"192.168.1.2\"", |v| {
        let source = address(v, facts.family)?;
        if facts.addresses.contains(&source) && facts.priority != Some(PRIORITY_OWNER) {
            v.report(
                format!("{source} is a virtual address, and a backup has none"),
                "write the address that this host always has",
            );
            return None;
        }
        Some(source)
    });
    let peers = s.need("peers", "[\"192.168.1.3\"]", |v| {
        let list = v.list()?;
        if list.is_empty() {
            v.report(
                "without a peer there is nobody to speak to",
                "write the address of the other director, such as [\"192.168.1.3\"]",
            );
            return None;
        }
        let mut seen = Seen::new();
        let peers: Vec<_> = list
            .iter()
            .map(|item| peer(item, facts, source, &mut seen))
            .collect();
        peers.into_iter().collect::<Option<Vec<_>>>()
    });
    let ttl = s.or("ttl", u8::MAX, |v| v.integer(1..=u8::MAX));
    s.finish();
    Some(Unicast {
        source: source?,
        peers: peers?,
        ttl: ttl?,
    })
}

/// `"192.168.1.3"` or `{ address = "192.168.1.3", min_ttl = 250 }`.
fn peer(
    item: &Value<'_>,
    facts: &Facts<'_>,
    source: Option<IpAddr>,
    seen: &mut Seen<IpAddr>,
) -> Option<Peer> {
    let mut read = |v: &Value<'_>| {
        let address = address(v, facts.family)?;
        if Some(address) == source {
            v.report(
                format!("{address} is `source`, this director itself"),
                "write the addresses of the others only",
            );
            return None;
        }
        if facts.addresses.contains(&address) {
            v.report(
                format!("{address} is a virtual address, and only the master has it"),
                "write the address that the other director always has",
            );
            return None;
        }
        seen.note(
            address,
            v,
            format_args!("{address} is already a peer"),
            "remove one of the two",
        );
        Some(address)
    };
    if !item.is_section() {
        return Some(Peer {
            address: read(item)?,
            min_ttl: u8::MAX,
            max_ttl: u8::MAX,
        });
    }
    let mut s = item.section()?;
    let address = s.need("address", "\"192.168.1.3\"", read);
    let min_ttl = s.or("min_ttl", u8::MAX, |v| v.integer(1..=u8::MAX));
    let max_ttl = s.or("max_ttl", u8::MAX, |v| {
        let max = v.integer(1..=u8::MAX)?;
        if let Some(min) = min_ttl
            && max < min
        {
            v.report(
                format!("is below `min_ttl`, {min}"),
                format!("write {min} or more, or a lower `min_ttl` (default 255)"),
            );
            return None;
        }
        Some(max)
    });
    s.finish();
    Some(Peer {
        address: address?,
        min_ttl: min_ttl?,
        max_ttl: max_ttl?,
    })
}

/// An address of the virtual router's family.
pub(super) fn address(v: &Value<'_>, family: Option<Family>) -> Option<IpAddr> {
    let address = v.parse(text::ip_address)?;
    if let Some(family) = family
        && Family::of(address) != family
    {
        let family = text::family(family);
        v.report(
            format!("{address} is not {family}, as the virtual router is"),
            format!("write an {family} address"),
        );
        return None;
    }
    Some(address)
}
