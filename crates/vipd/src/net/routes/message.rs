//! Routes and rules in the kernel's words, and back.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteVia,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use vrrp::Family;

use super::{Item, PROTOCOL};
use crate::config::{VirtualRoute, VirtualRule};
use crate::net::links::Links;

/// The metric of an IPv6 route that names none (`IP6_RT_PRIO_USER`).
const DEFAULT_METRIC_V6: u32 = 1024;

/// A route or a rule with our mark, in the kernel's words.
pub(super) enum Marked {
    Route(RouteMessage),
    Rule(RuleMessage),
}

impl Marked {
    pub(super) fn of(item: &Item, links: &Links) -> Result<Marked, String> {
        match item {
            Item::Route(route) => route_message(route, links).map(Marked::Route),
            Item::Rule(rule) => Ok(Marked::Rule(rule_message(rule))),
        }
    }

    /// Whether it is that one, in every respect.
    pub(super) fn is(&self, item: &Item, links: &Links) -> bool {
        match (self, item) {
            (Marked::Route(message), Item::Route(wanted)) => {
                let mut there = decode_route(message, links);
                let mut wanted = wanted.clone();
                wanted.to = wanted.to.trunc();
                if wanted.interface.is_none() {
                    there.interface = None;
                }
                wanted.metric = Some(metric(&wanted));
                there.metric = Some(metric(&there));
                there == wanted
            }
            (Marked::Rule(message), Item::Rule(wanted)) => {
                let mut wanted = wanted.clone();
                wanted.from = wanted.from.map(|net| net.trunc());
                wanted.to = wanted.to.map(|net| net.trunc());
                decode_rule(message) == wanted
            }
            (Marked::Route(_), Item::Rule(_)) | (Marked::Rule(_), Item::Route(_)) => false,
        }
    }

    pub(super) fn item(&self, links: &Links) -> Item {
        match self {
            Marked::Route(message) => Item::Route(decode_route(message, links)),
            Marked::Rule(message) => Item::Rule(decode_rule(message)),
        }
    }
}

fn metric(route: &VirtualRoute) -> u32 {
    let default = if route.to.addr().is_ipv6() {
        DEFAULT_METRIC_V6
    } else {
        0
    };
    // IPv6 takes 0 for none.
    route
        .metric
        .filter(|metric| *metric != 0)
        .unwrap_or(default)
}

fn route_message(route: &VirtualRoute, links: &Links) -> Result<RouteMessage, String> {
    let to = route.to.trunc();
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to.addr(), to.prefix_len())
        .map_err(|error| error.to_string())?
        .protocol(RouteProtocol::from(PROTOCOL))
        .table_id(route.table);
    if let Some(gateway) = route.via {
        builder = builder.gateway(gateway).map_err(|e| e.to_string())?;
    } else if to.addr().is_ipv4() {
        builder = builder.scope(RouteScope::Link);
    }
    if let Some(name) = &route.interface {
        let link = links.named(name);
        let link = link.ok_or_else(|| format!("there is no interface {name}"))?;
        builder = builder.output_interface(link.index);
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(|e| e.to_string())?;
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    Ok(builder.build())
}

fn rule_message(rule: &VirtualRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match rule.family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message.header.action = RuleAction::ToTable;
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.extend(rule.fwmark.map(RuleAttribute::FwMark));
    attributes.extend(rule.interface.clone().map(RuleAttribute::Iifname));
    if let Some(from) = rule.from.map(|net| net.trunc()) {
        message.header.src_len = from.prefix_len();
        attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to.map(|net| net.trunc()) {
        message.header.dst_len = to.prefix_len();
        attributes.push(RuleAttribute::Destination(to.addr()));
    }
    message
}

fn decode_route(message: &RouteMessage, links: &Links) -> VirtualRoute {
    let header = &message.header;
    let v6 = header.address_family == AddressFamily::Inet6;
    let mut route = VirtualRoute {
        to: net(unspecified(v6), header.destination_prefix_length),
        via: None,
        interface: None,
        source: None,
        table: header.table.into(),
        metric: None,
    };
    for attribute in &message.attributes {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "vipd sets no other attributes"
        )]
        match attribute {
            RouteAttribute::Destination(to) => {
                let to = ip(to).unwrap_or_else(|| unspecified(v6));
                route.to = net(to, header.destination_prefix_length);
            }
            RouteAttribute::Gateway(gateway) => route.via = ip(gateway),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => route.via = Some((*gateway).into()),
            RouteAttribute::Oif(index) => {
                let link = links.iter().find(|link| link.index == *index);
                route.interface = link.map(|link| link.name.clone());
            }
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            _ => {}
        }
    }
    route
}

fn decode_rule(message: &RuleMessage) -> VirtualRule {
    let header = &message.header;
    let family = if header.family == AddressFamily::Inet6 {
        Family::V6
    } else {
        Family::V4
    };
    let mut rule = VirtualRule {
        family,
        priority: 0,
        from: None,
        to: None,
        fwmark: None,
        interface: None,
        table: header.table.into(),
    };
    for attribute in &message.attributes {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "vipd sets no other attributes"
        )]
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(from) => rule.from = Some(net(*from, header.src_len)),
            RuleAttribute::Destination(to) => rule.to = Some(net(*to, header.dst_len)),
            RuleAttribute::FwMark(mark) => rule.fwmark = Some(*mark),
            RuleAttribute::Iifname(name) => rule.interface = Some(name.clone()),
            RuleAttribute::Table(table) => rule.table = *table,
            _ => {}
        }
    }
    rule
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        RouteAddress::Mpls(_) | RouteAddress::Other(_) => None,
        // `RouteAddress` may get further variants; no route of vipd's has one.
        _ => None,
    }
}

fn unspecified(v6: bool) -> IpAddr {
    if v6 {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    }
}

fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).unwrap_or_else(|_| address.into())
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn part(
            f: &mut fmt::Formatter<'_>,
            name: &str,
            value: Option<&dyn fmt::Display>,
        ) -> fmt::Result {
            value.map_or(Ok(()), |value| write!(f, " {name} {value}"))
        }
        match self {
            Item::Route(route) => {
                write!(f, "route {}", route.to)?;
                part(f, "via", route.via.as_ref().map(|v| v as _))?;
                part(f, "dev", route.interface.as_ref().map(|v| v as _))?;
                part(f, "src", route.source.as_ref().map(|v| v as _))?;
                part(f, "metric", route.metric.as_ref().map(|v| v as _))?;
                write!(f, " table {}", route.table)
            }
            Item::Rule(rule) => {
                write!(f, "rule {}", rule.priority)?;
                part(f, "from", rule.from.as_ref().map(|v| v as _))?;
                part(f, "to", rule.to.as_ref().map(|v| v as _))?;
                part(f, "fwmark", rule.fwmark.as_ref().map(|v| v as _))?;
                part(f, "iif", rule.interface.as_ref().map(|v| v as _))?;
                write!(f, " lookup {}", rule.table)
            }
        }
    }
}
