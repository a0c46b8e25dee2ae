//! `virtual_ipaddress` and `virtual_ipaddress_excluded`

use std::net::IpAddr;

use ipnet::Ipv4Net;

use super::super::document::{Item, Keys};
use super::block::Node;
use super::context::Context;

/// An address as vipd.toml has it.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    pub(super) length: u8,
    pub(super) item: Item,
}

/// `IP[/LENGTH] [dev IF] [label L] [scope S] ...`
pub(super) fn read(line: &Node, advertised: bool, cx: &mut Context<'_>) -> Option<Address> {
    let written = line.keyword();
    let (ip, length) = written.split_once('/').unwrap_or((written, ""));
    let parsed = ip.parse::<IpAddr>().ok().and_then(|ip| {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let length = if length.is_empty() {
            Some(most)
        } else {
            length.parse().ok().filter(|length| *length <= most)
        };
        Some((ip, length?))
    });
    let Some((ip, length)) = parsed else {
        let message = format!("{written:?} is no address");
        cx.lost(line, message, "it is left out of the result");
        return None;
    };
    let mut keys = Keys::default();
    keys.set("address", written);
    keys.set_unless("advertise", advertised, &true);
    options(line, broadcast(ip, length), &mut keys, cx);
    let item = if keys.len() == 1 {
        Item::from(written)
    } else {
        Item::Table(keys)
    };
    Some(Address { ip, length, item })
}

/// The broadcast address of its network, where that has one.
fn broadcast(ip: IpAddr, length: u8) -> Option<IpAddr> {
    let IpAddr::V4(ip) = ip else { return None };
    let net = Ipv4Net::new(ip, length).ok()?;
    (length < 31).then(|| IpAddr::V4(net.broadcast()))
}

/// `usual`: the broadcast address that it has anyway.
fn options(line: &Node, usual: Option<IpAddr>, keys: &mut Keys, cx: &mut Context<'_>) {
    let mut words = line.args().iter().map(|word| word.text.as_str());
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word {
            "dev" => keys.set("interface", value()),
            "label" => keys.set("label", value()),
            "scope" => match value() {
                "global" => {}
                scope @ ("link" | "host") => keys.set("scope", scope),
                scope => {
                    let message = format!("an address has no scope {scope:?}");
                    cx.lost(line, message, "its scope is \"global\" in the result");
                }
            },
            "noprefixroute" => keys.set("prefix_route", false),
            "brd" | "broadcast" => {
                let written = value();
                if written != "+" && written.parse().ok() != usual {
                    let message = "vipd's addresses have the broadcast address of their network";
                    cx.lost(line, message, "it is left out of the result");
                }
            }
            "no_track" => {
                let message = "vipd puts an address back that somebody took away";
                cx.idle(line, message, "nothing is to be done");
            }
            "-nodad" | "nodad" => cx.idle(
                line,
                "vipd's addresses skip duplicate address detection",
                "nothing is to be done",
            ),
            "peer" | "preferred_lft" => {
                let option = value();
                let message = format!("vipd's addresses have no `{word}` ({option})");
                cx.lost(line, message, "it is left out of the result");
            }
            other => {
                let message = format!("vipd's addresses have no `{other}`");
                cx.lost(line, message, "it is left out of the result");
            }
        }
    }
}
