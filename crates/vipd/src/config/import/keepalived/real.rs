//! `real_server`, and the words that it shares with its virtual server.

use std::net::{IpAddr, SocketAddr};

use super::super::document::Keys;
use super::super::server::{Check, Forwarding, Front, RealServer};
use super::block::Node;
use super::check::{self, Around};
use super::context::{Context, parse};
use super::lost;
use super::notify;
use super::pace::Pace;

/// What the real servers take from their virtual server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults<'a> {
    pub(super) forwarding: &'a Forwarding,
    pub(super) pace: Pace,
    pub(super) virtualhost: Option<&'a str>,
    pub(super) weight: u32,
}

/// A real server, and what is not its own affair alone.
pub(super) struct Read<'n> {
    pub(super) server: RealServer,
    pub(super) inhibit: Option<bool>,
    /// Programs that are told when it goes and comes.
    pub(super) told: Vec<(&'n Node, &'static str)>,
}

/// `IP [PORT]`; without a port that of the virtual server.
pub(super) fn address(node: &Node, port: u16, cx: &mut Context<'_>) -> Option<SocketAddr> {
    let text = node.arg(0).unwrap_or_default();
    let Ok(ip) = text.parse::<IpAddr>() else {
        let message = format!("{text:?} is no address");
        cx.lost(node, message, "names are not resolved: write the address");
        return None;
    };
    let port = match node.arg(1) {
        None => port,
        Some(text) => match parse(text, &(0..=u16::MAX)) {
            Some(port) => port,
            None => {
                let message = format!("{text:?} is no port");
                cx.lost(node, message, "write its number");
                return None;
            }
        },
    };
    Some(SocketAddr::new(ip, port))
}

/// `NAT`, `DR`, or `TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]`
pub(super) fn forwarding(node: &Node, cx: &mut Context<'_>) -> Option<Forwarding> {
    let kind = match node.arg(0) {
        Some("NAT") => "nat",
        Some("DR") => "dr",
        Some("TUN") => "tun",
        other => {
            let message = format!("{:?} is no way to a real server", other.unwrap_or_default());
            cx.lost(node, message, "write NAT, DR or TUN");
            return None;
        }
    };
    let mut tunnel = Keys::default();
    let mut words = node.args().iter().skip(1).map(|word| word.text.as_str());
    while let Some(word) = words.next() {
        match word {
            "type" => match words.next() {
                Some("ipip") => {}
                Some(kind @ ("gue" | "gre")) => tunnel.set("type", kind),
                other => {
                    let message = format!("{:?} is no tunnel", other.unwrap_or_default());
                    cx.lost(node, message, "write ipip, gue or gre");
                }
            },
            "port" => match words.next().and_then(|text| parse(text, &(1..=u16::MAX))) {
                Some(port) => tunnel.set("port", port),
                None => cx.lost(node, "the tunnel's port is none", "write 1 to 65535"),
            },
            "nocsum" => {}
            "csum" => tunnel.set("checksum", "full"),
            "remcsum" => tunnel.set("checksum", "remote"),
            other => {
                let message = format!("{other:?} is not read here");
                cx.lost(node, message, "it is left out of the result");
            }
        }
    }
    Some(Forwarding { kind, tunnel })
}

pub(super) fn read<'n>(
    node: &'n Node,
    front: &Front,
    defaults: &Defaults<'_>,
    cx: &mut Context<'_>,
) -> Option<Read<'n>> {
    let mut address = address(node, front.port(), cx)?;
    let mut pace = Pace::default();
    let mut virtualhost = defaults.virtualhost.map(str::to_owned);
    let mut own_forwarding = None;
    let (mut weight, mut upper, mut lower) = (defaults.weight, 0, 0);
    let mut inhibit = None;
    let (mut told, mut checkers) = (Vec::new(), Vec::new());
    for line in &node.children {
        match line.keyword() {
            "weight" => {
                weight = cx
                    .number(line, 0..=i32::MAX.unsigned_abs())
                    .unwrap_or(weight);
            }
            "lvs_method" | "lb_kind" => own_forwarding = forwarding(line, cx),
            "uthreshold" => upper = cx.number(line, 0..=u32::MAX).unwrap_or(0),
            "lthreshold" => lower = cx.number(line, 0..=u32::MAX).unwrap_or(0),
            "inhibit_on_failure" => inhibit = Some(cx.boolean(line)),
            "virtualhost" => virtualhost = cx.text(line),
            "notify_up" => told.push((line, "real_server.up")),
            "notify_down" => told.push((line, "real_server.down")),
            "TCP_CHECK" | "HTTP_GET" | "SSL_GET" | "SMTP_CHECK" | "DNS_CHECK" | "UDP_CHECK"
            | "PING_CHECK" | "MISC_CHECK" => checkers.push(line),
            _ if pace.read(line, cx) => {}
            _ => lost::report(line, &lost::REAL, "real_server", cx),
        }
    }
    let forwarding = own_forwarding.unwrap_or_else(|| defaults.forwarding.clone());
    let differs = address.port() != front.port() && address.port() != 0;
    let mut port = None;
    if differs && !forwarding.changes_ports() {
        if front.port() == 0 {
            port = Some(address.port());
        } else {
            let message = format!(
                "only NAT leads to another port: keepalived takes {}, too",
                front.port()
            );
            cx.idle(node, message, "write connect_port if the checks go there");
        }
        address.set_port(front.port());
    }
    let around = Around {
        pace: pace.within(defaults.pace),
        virtualhost: virtualhost.as_deref(),
        port,
    };
    let checks: Vec<Check> = checkers
        .into_iter()
        .filter_map(|line| check::read(line, around, cx))
        .flatten()
        .collect();
    if lower > 0 && (upper == 0 || lower > upper) {
        let line = node.last("lthreshold").unwrap_or(node);
        let message = "a lower threshold needs an upper one above it";
        cx.lost(line, message, "it is left out of the result");
        lower = 0;
    }
    Some(Read {
        server: RealServer {
            address,
            weight,
            upper_threshold: upper,
            lower_threshold: lower,
            forwarding,
            checks,
        },
        inhibit,
        told,
    })
}

/// Whom a real server's changes are told to.
pub(super) fn tell(read: &Read<'_>, server: &str, front: &Front, cx: &mut Context<'_>) {
    let mut address = read.server.address;
    if address.port() == 0 {
        address.set_port(front.port());
    }
    for (line, event) in &read.told {
        notify::add(line, &[event], false, format!("{server}/{address}"), cx);
    }
}
