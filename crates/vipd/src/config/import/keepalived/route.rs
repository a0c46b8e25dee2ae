//! `virtual_routes` and `virtual_rules`: what of iproute2's words has a key.

use std::net::IpAddr;

use super::super::document::{Item, Keys};
use super::block::Node;
use super::context::Context;

const OPTION: &str = "it is left out of the result";

/// `[src IP] [to] NETWORK [via IP] [dev IF] [table T] [metric N]`
pub(super) fn route(line: &Node, cx: &mut Context<'_>) -> Option<Item> {
    let mut words = line.words.iter().map(|word| word.text.as_str());
    let (mut to, mut via, mut interface, mut source) = (None, None, None, None);
    let (mut table, mut metric) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "to" => to = words.next(),
            "via" | "gw" => {
                via = match words.next() {
                    Some("inet" | "inet6") => words.next(),
                    gateway => gateway,
                }
            }
            "dev" | "oif" => interface = words.next(),
            "src" => source = words.next(),
            "table" => table = words.next(),
            "metric" | "priority" | "preference" => metric = words.next(),
            // What the kernel does anyway.
            "unicast" | "inet" | "inet6" | "prepend" | "no_track" => {}
            "proto" | "protocol" => {
                words.next();
            }
            "blackhole" | "unreachable" | "prohibit" | "throw" | "nexthop" | "local" | "nat"
            | "multicast" | "broadcast" => {
                let message = format!("vipd has no routes with `{word}`");
                cx.lost(line, message, "the route is left out of the result");
                return None;
            }
            "or" | "scope" | "tos" | "mtu" | "advmss" | "realms" | "hoplimit" | "rtt"
            | "rttvar" | "window" | "cwnd" | "ssthresh" | "rto_min" | "initcwnd" | "initrwnd"
            | "features" | "quickack" | "congctl" | "pref" | "vrf" | "encap" | "expires"
            | "weight" => {
                let value = words.next().unwrap_or_default();
                let message = format!("vipd's routes have no `{word}` ({value})");
                cx.lost(line, message, OPTION);
            }
            "onlink" | "append" | "add" | "lock" | "track_group" => {
                let message = format!("vipd's routes have no `{word}`");
                cx.lost(line, message, OPTION);
            }
            other if to.is_none() => to = Some(other),
            other => {
                let message = format!("{other:?} is not read here");
                cx.lost(line, message, OPTION);
            }
        }
    }
    let mut keys = Keys::default();
    let to = to.unwrap_or("default");
    let everywhere = matches!(to, "0.0.0.0/0" | "::/0");
    keys.set("to", if everywhere { "default" } else { to });
    for (key, value) in [("via", via), ("interface", interface), ("source", source)] {
        if let Some(value) = value {
            keys.set(key, value);
        }
    }
    keys.maybe("table", table.map(number));
    keys.maybe("metric", metric.map(number));
    Some(Item::Table(keys))
}

/// `[from NETWORK] [to NETWORK] [fwmark N] [iif IF] table T preference N`
pub(super) fn rule(line: &Node, cx: &mut Context<'_>) -> Option<Item> {
    let mut keys = Keys::default();
    let mut words = line.words.iter().map(|word| word.text.as_str());
    let (mut priority, mut table) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "from" | "to" => match words.next() {
                Some("all" | "any" | "default") | None => {}
                Some(network) => keys.set(word, network),
            },
            "fwmark" => keys.set("fwmark", number(words.next().unwrap_or_default())),
            "iif" | "dev" => keys.set("interface", words.next().unwrap_or_default()),
            "table" | "lookup" => table = words.next(),
            "preference" | "priority" | "order" | "pref" => priority = words.next(),
            "inet" | "inet6" | "no_track" => {}
            other => {
                let message = format!("vipd has no rules with `{other}`");
                cx.lost(line, message, "the rule is left out of the result");
                return None;
            }
        }
    }
    let Some(priority) = priority else {
        let message = "a rule has no place of its own";
        cx.lost(
            line,
            message,
            "add `preference N`: 1 to 32765 is before the table main",
        );
        return None;
    };
    let mut whole = Keys::default();
    whole.set("priority", number(priority));
    whole.extend(&keys);
    whole.set("table", number(table.unwrap_or("main")));
    Some(Item::Table(whole))
}

/// A number, of any base, or else the word.
fn number(text: &str) -> Item {
    let hexadecimal = text.strip_prefix("0x");
    let parsed = match hexadecimal {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    parsed.map_or_else(|| Item::from(text), Item::from)
}

/// Whether two addresses are on one link, as far as can be told from them: with the length of a virtual
/// address of the same network, or else with the usual ones.
pub(super) fn neighbours(one: IpAddr, other: IpAddr, virtual_addresses: &[(IpAddr, u8)]) -> bool {
    let usual = if one.is_ipv4() { 24 } else { 64 };
    let lengths = virtual_addresses
        .iter()
        .filter(|(ip, length)| same_network(one, *ip, *length))
        .map(|(_, length)| *length)
        .chain([usual]);
    lengths
        .into_iter()
        .any(|length| same_network(one, other, length))
}

fn same_network(one: IpAddr, other: IpAddr, length: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differ = one.to_bits() ^ other.to_bits();
            differ.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}
