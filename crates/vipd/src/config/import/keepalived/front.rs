//! What clients of a `virtual_server` connect to, and the ranges of a `virtual_server_group`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::server::Front;
use super::block::Node;
use super::context::{Context, parse};
use super::lost;

/// A group stands for no more addresses.
const ADDRESSES_MAX: usize = 1024;

/// The address and port of a virtual server that has them.
pub(super) fn endpoint(node: &Node) -> Option<(IpAddr, u16)> {
    let ip = node.arg(0)?.parse().ok()?;
    let port = node.arg(1).map_or(Some(0), |port| port.parse().ok())?;
    Some((ip, port))
}

pub(super) fn protocol(node: &Node) -> Option<&'static str> {
    match node.last("protocol")?.arg(0)? {
        "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    }
}

/// What clients connect to: of a group one for each port.
pub(super) fn fronts(node: &Node, cx: &mut Context<'_>) -> Vec<Front> {
    let protocol = protocol(node).unwrap_or("udp");
    match node.arg(0) {
        Some("fwmark") => {
            let mark = node.arg(1).and_then(|text| parse(text, &(1..=u32::MAX)));
            if mark.is_none() {
                cx.lost(node, "has no firewall mark", "write 1 to 4294967295");
            }
            mark.map(Front::Mark).into_iter().collect()
        }
        Some("group") => {
            let name = node.arg(1).unwrap_or_default();
            match cx.server_groups.get(name).copied() {
                Some(group) => of_group(group, protocol, cx),
                None => {
                    let message = format!("no virtual_server_group {name:?} is defined");
                    cx.lost(node, message, "it is left out of the result");
                    Vec::new()
                }
            }
        }
        _ => {
            lost::extra(node, 2, cx);
            let endpoint = endpoint(node);
            if endpoint.is_none() {
                let message = "names no address and port";
                cx.lost(node, message, "it is left out; names are not resolved");
            }
            let front = endpoint.map(|(ip, port)| Front::Addresses {
                protocol,
                addresses: vec![ip],
                port,
            });
            front.into_iter().collect()
        }
    }
}

fn of_group(group: &Node, protocol: &'static str, cx: &mut Context<'_>) -> Vec<Front> {
    let mut by_port: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
    let mut marks = Vec::new();
    let mut count: usize = 0;
    for line in &group.children {
        if line.keyword() == "fwmark" {
            match cx.number(line, 1..=u32::MAX) {
                Some(mark) => marks.push(Front::Mark(mark)),
                None => continue,
            }
            continue;
        }
        let port = match line.arg(0) {
            None => Some(0),
            Some(text) => text.parse::<u16>().ok(),
        };
        let addresses = range(line.keyword(), ADDRESSES_MAX.saturating_sub(count));
        match (addresses, port) {
            (Some(addresses), Some(port)) => {
                count = count.saturating_add(addresses.len());
                let known = by_port.entry(port).or_default();
                known.extend(addresses.into_iter().filter(|ip| !ip.is_unspecified()));
            }
            _ => {
                let message = "is no address, no range of them, or a range of too many";
                let help = format!("a group has at most {ADDRESSES_MAX} in all; it is left out");
                cx.lost(line, message, help);
            }
        }
    }
    let fronts = by_port
        .into_iter()
        .map(|(port, addresses)| Front::Addresses {
            protocol,
            addresses,
            port,
        });
    fronts.chain(marks).collect()
}

/// `10.0.0.1`, `10.0.0.1-9`, `10.0.0.1-10.0.1.9` or `10.0.0.0/28`, if these are not too many.
fn range(text: &str, most: usize) -> Option<Vec<IpAddr>> {
    let (first, last) = if let Some((network, length)) = text.split_once('/') {
        match network.parse().ok()? {
            IpAddr::V4(ip) => {
                let host = u32::MAX
                    .checked_shr(parse(length, &(0..=32_u32))?)
                    .unwrap_or(0);
                let base = ip.to_bits() & !host;
                (IpAddr::V4(ip), IpAddr::V4(Ipv4Addr::from(base | host)))
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX
                    .checked_shr(parse(length, &(0..=128_u32))?)
                    .unwrap_or(0);
                let base = ip.to_bits() & !host;
                (IpAddr::V6(ip), IpAddr::V6(Ipv6Addr::from(base | host)))
            }
        }
    } else if let Some((first, last)) = text.split_once('-') {
        let first: IpAddr = first.parse().ok()?;
        let last = match (first, last.parse::<IpAddr>()) {
            (_, Ok(last)) => last,
            (IpAddr::V4(first), Err(_)) => {
                let [a, b, c, _] = first.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, last.parse().ok()?))
            }
            (IpAddr::V6(first), Err(_)) => {
                let group = u128::from(u16::from_str_radix(last, 16).ok()?);
                IpAddr::V6(Ipv6Addr::from((first.to_bits() & !0xffff) | group))
            }
        };
        (first, last)
    } else {
        let ip: IpAddr = text.parse().ok()?;
        (ip, ip)
    };
    let count = |few: u128| usize::try_from(few).ok().filter(|count| *count <= most);
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            count(u128::from(last.checked_sub(first)?).saturating_add(1))?;
            Some(
                (first..=last)
                    .map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
                    .collect(),
            )
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            count(last.checked_sub(first)?.saturating_add(1))?;
            Some(
                (first..=last)
                    .map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
                    .collect(),
            )
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_three_forms() {
        let read = |text| {
            let ips = range(text, 16)?;
            Some(
                ips.iter()
                    .map(IpAddr::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        assert_eq!(read("10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(read("10.0.0.1-2").as_deref(), Some("10.0.0.1 10.0.0.2"));
        assert_eq!(
            read("10.0.0.255-10.0.1.0").as_deref(),
            Some("10.0.0.255 10.0.1.0")
        );
        assert_eq!(read("10.0.0.4/31").as_deref(), Some("10.0.0.4 10.0.0.5"));
        assert_eq!(read("fd00::a-b").as_deref(), Some("fd00::a fd00::b"));
        for wrong in [
            "10.0.0.0/8",
            "::/0",
            "10.0.0.2-1",
            "10.0.0.1-fd00::1",
            "x",
            "10.0.0.1/33",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
