//! `address`, `addresses`, `fwmark` and `mark`: what clients of a virtual server connect to, and so
//! what the kernel finds its services by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};

use ipvs::{Family, Protocol, ServiceKey};

use super::real_server::Written;
use super::section::{Section, Seen};
use super::value::Value;
use super::way::{self, Targets};
use super::{MarkRule, text};

/// What a virtual server stands for. With a mark alone, the family is still open.
#[derive(Debug, Clone)]
pub(super) enum Front<'a> {
    Addresses {
        protocol: Option<Protocol>,
        /// Never empty, all with the same port.
        addresses: Vec<(Value<'a>, SocketAddr)>,
    },
    Mark {
        value: Value<'a>,
        mark: u32,
        rules: Vec<MarkRule>,
    },
}

/// Ports, and where they stand in the file.
type Ports = (RangeInclusive<u16>, Range<usize>);

/// What must be unique among the virtual servers.
#[derive(Debug)]
pub(super) struct Taken {
    keys: Seen<ServiceKey>,
    /// The ports of each address that get a mark, and where that stands.
    marked: BTreeMap<(Protocol, IpAddr), Vec<Ports>>,
}

impl<'a> Front<'a> {
    pub(super) fn read(s: &mut Section<'a>, taken: &mut Taken) -> Option<Front<'a>> {
        let forms = [s.get("address"), s.get("addresses"), s.get("fwmark")];
        let mark = match &forms {
            [_, _, Some(_)] => s.maybe("mark", |v| marks(v, taken)),
            [_, _, None] => {
                s.pointless(
                    &["mark"],
                    "there is no firewall mark to set",
                    "add `fwmark = 1`, with a number of its own",
                );
                None
            }
        };
        match forms {
            [Some(value), None, None] => {
                let protocol = s.or("protocol", Protocol::Tcp, protocol);
                let address = value.parse(text::service_address)?;
                let addresses = vec![(value, address)];
                Some(Front::Addresses {
                    protocol,
                    addresses,
                })
            }
            [None, Some(list), None] => {
                let protocol = s.or("protocol", Protocol::Tcp, protocol);
                let addresses = addresses(&list)?;
                Some(Front::Addresses {
                    protocol,
                    addresses,
                })
            }
            [None, None, Some(value)] => {
                s.pointless(
                    &["protocol"],
                    "a firewall mark stands for every protocol",
                    "remove it, and match the protocol where the mark is set",
                );
                let mark_number = way::others_mark(&value)?.get();
                Some(Front::Mark {
                    value,
                    mark: mark_number,
                    rules: mark?.unwrap_or_default(),
                })
            }
            [None, None, None] => {
                s.or("protocol", Protocol::Tcp, protocol);
                s.missing(
                    "address",
                    "add `address = \"192.168.1.10:80\"` or `fwmark = 1`".to_owned(),
                );
                None
            }
            [first, second, third] => {
                s.or("protocol", Protocol::Tcp, protocol);
                let first = first.map(|_| "address");
                let other = first.unwrap_or("addresses");
                if let Some(last) = third.or(second) {
                    last.report(format!("`{other}` is there too"), "keep one of the two");
                }
                None
            }
        }
    }

    /// The port of its clients; 0: every port, or whatever gets the mark.
    pub(super) fn port(&self) -> u16 {
        match self {
            Front::Addresses { addresses, .. } => {
                addresses.first().map_or(0, |(_, address)| address.port())
            }
            Front::Mark { .. } => 0,
        }
    }

    /// Where it says that it is every port of an address.
    pub(super) fn every_port(&self) -> Option<&Value<'a>> {
        match self {
            Front::Addresses { addresses, .. } => {
                let every = addresses.iter().find(|(_, address)| address.port() == 0);
                every.map(|(value, _)| value)
            }
            Front::Mark { .. } => None,
        }
    }

    /// The protocols its packets are known to have; empty: any.
    pub(super) fn protocols(&self) -> BTreeSet<Protocol> {
        match self {
            Front::Addresses { protocol, .. } => protocol.iter().copied().collect(),
            Front::Mark { rules, .. } => rules.iter().map(|rule| rule.protocol).collect(),
        }
    }

    /// The families of its clients, never none. A mark that somebody else sets has the family of the
    /// first real server.
    pub(super) fn families(&self, servers: &[Written<'_>]) -> BTreeSet<Family> {
        let families: BTreeSet<Family> = match self {
            Front::Addresses { addresses, .. } => {
                let ips = addresses.iter().map(|(_, address)| address.ip());
                ips.map(Family::of).collect()
            }
            Front::Mark { rules, .. } => {
                rules.iter().map(|rule| Family::of(rule.address)).collect()
            }
        };
        if families.is_empty() {
            let first = servers.iter().find_map(Written::family);
            return [first.unwrap_or(Family::V4)].into();
        }
        families
    }

    /// What the kernel finds its services by, in the order of the file.
    pub(super) fn keys(
        &self,
        families: &BTreeSet<Family>,
        taken: &mut Taken,
    ) -> Option<Vec<ServiceKey>> {
        let keys: Vec<(&Value<'_>, ServiceKey)> = match self {
            Front::Addresses {
                protocol,
                addresses,
            } => {
                let protocol = (*protocol)?;
                let key = |address: SocketAddr| ServiceKey::Address { protocol, address };
                addresses
                    .iter()
                    .map(|(value, address)| (value, key(*address)))
                    .collect()
            }
            Front::Mark { value, mark, .. } => {
                let key = |family: &Family| ServiceKey::FirewallMark {
                    family: *family,
                    mark: *mark,
                };
                families.iter().map(|family| (value, key(family))).collect()
            }
        };
        for (value, key) in &keys {
            taken.keys.note(
                *key,
                value,
                format_args!("{key} is served by a virtual server already"),
                "give each its own address, port or protocol, or put their real servers together",
            );
        }
        Some(keys.into_iter().map(|(_, key)| key).collect())
    }

    /// Where clients connect to, as far as is known: with a mark to the first port of each of its
    /// rules.
    pub(super) fn targets(&self) -> Targets {
        Targets(match self {
            Front::Addresses { addresses, .. } => {
                addresses.iter().map(|(_, address)| *address).collect()
            }
            Front::Mark { rules, .. } => {
                let first = |rule: &MarkRule| {
                    let port = *rule.ports.first()?.start();
                    Some(SocketAddr::new(rule.address, port))
                };
                rules.iter().filter_map(first).collect()
            }
        })
    }

    /// Which packets vipd gives the mark.
    pub(super) fn into_marks(self) -> Vec<MarkRule> {
        match self {
            Front::Addresses { .. } => Vec::new(),
            Front::Mark { rules, .. } => rules,
        }
    }
}

impl Taken {
    pub(super) fn new() -> Taken {
        Taken {
            keys: Seen::new(),
            marked: BTreeMap::new(),
        }
    }

    /// Takes note of ports that get a mark; reports those that get one already.
    fn mark(&mut self, rule: &MarkRule, value: &Value<'_>) {
        let known = self
            .marked
            .entry((rule.protocol, rule.address))
            .or_default();
        for ports in &rule.ports {
            let overlap = known
                .iter()
                .find(|(other, _)| other.start() <= ports.end() && ports.start() <= other.end());
            match overlap {
                Some((_, first)) => value.repeats(
                    first.clone(),
                    format!(
                        "{} {} gets a firewall mark already",
                        rule.protocol,
                        MarkRule::shown(rule.address, ports)
                    ),
                    "a packet carries one mark: take the port out of one of the two",
                ),
                None => known.push((ports.clone(), value.span())),
            }
        }
    }
}

fn addresses<'a>(list: &Value<'a>) -> Option<Vec<(Value<'a>, SocketAddr)>> {
    let items = list.list()?;
    let Some(first) = items.first() else {
        list.report(
            "no address",
            "write [\"192.168.1.10:80\", \"[2001:db8::10]:80\"]",
        );
        return None;
    };
    let read = items
        .iter()
        .map(|item| Some((item.clone(), item.parse(text::service_address)?)));
    // Collected twice, so that a bad address does not hide the next.
    let read: Vec<Option<(Value<'a>, SocketAddr)>> = read.collect();
    let read: Vec<_> = read.into_iter().collect::<Option<_>>()?;
    let port = read.first().map_or(0, |(_, address)| address.port());
    for (value, address) in &read {
        if address.port() != port {
            value.repeats(
                first.span(),
                format!("port {} is not that of the first address, {port}", address.port()),
                "give each port a virtual server of its own, or collect ports with `fwmark` and `mark`",
            );
            return None;
        }
    }
    Some(read)
}

/// `mark`: which packets get the mark.
fn marks(v: &Value<'_>, taken: &mut Taken) -> Option<Vec<MarkRule>> {
    let items = v.list()?;
    if items.is_empty() {
        v.report(
            "no packet would ever get the mark",
            "write [{ address = \"192.168.1.10\", ports = [80, 443] }], or remove it and set the mark yourself",
        );
        return None;
    }
    let read: Vec<Option<MarkRule>> = items.iter().map(|item| mark(item, taken)).collect();
    read.into_iter().collect()
}

fn mark(v: &Value<'_>, taken: &mut Taken) -> Option<MarkRule> {
    let mut s = v.section()?;
    let protocol = s.or("protocol", Protocol::Tcp, protocol);
    let address = s.need("address", "\"192.168.1.10\"", |v| {
        v.parse(text::host_address)
    });
    let ports = s.or("ports", vec![1..=u16::MAX], ports);
    s.finish();
    let rule = MarkRule {
        protocol: protocol?,
        address: address?,
        ports: ports?,
    };
    taken.mark(&rule, v);
    Some(rule)
}

/// `[80, 443, "8000-8100"]`
fn ports(v: &Value<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let help = "write ports and ranges, such as [80, 443, \"8000-8100\"]";
    let items = v.list()?;
    if items.is_empty() {
        v.report("no port", help);
        return None;
    }
    let port = |item: &Value<'_>| {
        if item.is_integer() {
            let port = item.integer(1..=u16::MAX)?;
            return Some(port..=port);
        }
        let written = item.text()?;
        let (from, to) = written.split_once('-').unwrap_or((written, written));
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => Some(from..=to),
            (_, _) => {
                item.report(format!("{written:?} is no range of ports"), help);
                None
            }
        }
    };
    let read: Vec<Option<RangeInclusive<u16>>> = items.iter().map(port).collect();
    read.into_iter().collect()
}

fn protocol(v: &Value<'_>) -> Option<Protocol> {
    v.choice(
        &[
            ("tcp", Protocol::Tcp),
            ("udp", Protocol::Udp),
            ("sctp", Protocol::Sctp),
        ],
        &[],
    )
}

impl MarkRule {
    /// `192.168.1.10:80`, `[2001:db8::1]:8000-8100`
    #[must_use]
    pub fn shown(address: IpAddr, ports: &RangeInclusive<u16>) -> String {
        let first = SocketAddr::new(address, *ports.start());
        if ports.start() == ports.end() {
            first.to_string()
        } else {
            format!("{first}-{}", ports.end())
        }
    }
}
