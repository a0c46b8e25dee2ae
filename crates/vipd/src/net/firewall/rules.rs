//! What the table holds, and its text for `nft`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipvs::{DestinationKey, Family, Protocol, ServiceKey};

use crate::config::{Config, OnStop, VirtualAddress, VirtualServer, Vrrp};

/// Every port that a packet can have.
const EVERY_PORT: (u16, u16) = (0, u16::MAX);

/// What the table does. With nothing in its sets there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    /// Addresses, with the interface that carries them, that this host does not take packets for.
    pub refused: BTreeSet<(String, IpAddr)>,
    /// Addresses, and the first and last TCP port, of virtual services for which this host sends no
    /// resets: their connections may still be on their way to this kernel, and until then they look
    /// unknown.
    pub quiet: BTreeSet<(IpAddr, (u16, u16))>,
    /// Packets that get a firewall mark, whoever is master: a mark without a service does nothing.
    pub marks: BTreeSet<Mark>,
    /// Connections whose client address gives way to this host's.
    pub full_nat: BTreeSet<FullNat>,
    /// Whether it stays after a graceful stop, for the services that stay, too.
    pub keep: bool,
}

/// Packets that get a firewall mark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Their destination.
    pub address: IpAddr,
    /// Their protocol.
    pub protocol: Protocol,
    /// Their first and last destination port.
    pub ports: (u16, u16),
    /// The mark.
    pub mark: u32,
}

/// Connections whose client address gives way to this host's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FullNat {
    /// Those to a virtual address that IPVS sends to a real server; port 0 is every port.
    Address {
        /// The virtual address.
        address: IpAddr,
        /// Their protocol.
        protocol: Protocol,
        /// The real server.
        real: SocketAddr,
    },
    /// Those with a firewall mark.
    Mark {
        /// The mark.
        mark: u32,
        /// The real server.
        real: IpAddr,
    },
}

impl Firewall {
    /// What the configuration wants while the virtual routers for which `holds` speaks hold their
    /// addresses, and connections to those for which `arriving` speaks are still on their way. An
    /// owner's addresses are the host's own: it always accepts.
    #[must_use]
    pub fn of(
        config: &Config,
        holds: impl Fn(&str) -> bool,
        arriving: impl Fn(&str) -> bool,
    ) -> Firewall {
        let refuses = |vrrp: &&Vrrp| {
            let owner = vrrp.parameters.priority == vrrp::PRIORITY_OWNER;
            !vrrp.accept && !owner && holds(&vrrp.name)
        };
        let routers = config.vrrp.iter().filter(refuses);
        let place = |address: &VirtualAddress| (address.interface.clone(), address.ip());
        let servers = || config.virtual_servers.iter();
        Firewall {
            refused: routers.flat_map(|v| &v.addresses).map(place).collect(),
            quiet: quiet(config, arriving),
            marks: servers().flat_map(marks_of).collect(),
            full_nat: servers().flat_map(full_nat_of).collect(),
            keep: config.ipvs.on_stop == OnStop::Keep,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.refused.is_empty()
            && self.quiet.is_empty()
            && self.marks.is_empty()
            && self.full_nat.is_empty()
    }
}

/// A service by a mark that somebody else sets is at no address known here.
fn quiet(config: &Config, arriving: impl Fn(&str) -> bool) -> BTreeSet<(IpAddr, (u16, u16))> {
    let arriving = config.vrrp.iter().filter(|vrrp| arriving(&vrrp.name));
    let addresses: BTreeSet<IpAddr> = arriving
        .flat_map(|vrrp| &vrrp.addresses)
        .map(VirtualAddress::ip)
        .collect();
    let servers = || config.virtual_servers.iter();
    let by_address = servers().flat_map(|server| &server.keys);
    let by_address = by_address.filter_map(|key| match key {
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            address,
        } => Some((address.ip(), ports_of(address.port()))),
        ServiceKey::Address { .. } | ServiceKey::FirewallMark { .. } => None,
    });
    let by_mark = servers().flat_map(marks_of);
    let by_mark = by_mark.filter(|mark| mark.protocol == Protocol::Tcp);
    by_address
        .chain(by_mark.map(|mark| (mark.address, mark.ports)))
        .filter(|(address, _)| addresses.contains(address))
        .collect()
}

/// The ports of a service: 0 is every one.
fn ports_of(port: u16) -> (u16, u16) {
    if port == 0 { EVERY_PORT } else { (port, port) }
}

fn marks_of(server: &VirtualServer) -> Vec<Mark> {
    let number = server.keys.iter().find_map(|key| match key {
        ServiceKey::FirewallMark { mark, .. } => Some(*mark),
        ServiceKey::Address { .. } => None,
    });
    let Some(mark) = number else {
        return Vec::new();
    };
    let rules = server.marks.iter().flat_map(|rule| {
        rule.ports.iter().map(move |ports| Mark {
            address: rule.address,
            protocol: rule.protocol,
            ports: (*ports.start(), *ports.end()),
            mark,
        })
    });
    rules.collect()
}

fn full_nat_of(server: &VirtualServer) -> Vec<FullNat> {
    let real_servers = server.real_servers.iter();
    let real_servers = real_servers.map(|real| (real.masquerade, real.key));
    let sorry = server.sorry_server.iter();
    let sorry = sorry.map(|sorry| (sorry.masquerade, sorry.key));
    let masqueraded: Vec<DestinationKey> = real_servers
        .chain(sorry)
        .filter_map(|(masquerade, key)| masquerade.then_some(key))
        .collect();
    let each = server.keys.iter().flat_map(|service| {
        let sent = masqueraded
            .iter()
            .filter(|real| server.sends(service, real));
        sent.map(|real| match *service {
            ServiceKey::Address { protocol, address } => FullNat::Address {
                address: address.ip(),
                protocol,
                real: real.0,
            },
            ServiceKey::FirewallMark { mark, .. } => FullNat::Mark {
                mark,
                real: real.0.ip(),
            },
        })
    });
    each.collect()
}

/// A set or map of the table, and the rule that asks it.
struct Set {
    head: &'static str,
    kind: &'static str,
    rule: &'static str,
    elements: Vec<String>,
}

/// The text that replaces the table by one that does this.
#[must_use]
pub fn render(firewall: &Firewall) -> String {
    // Both lines: deleting what is not there is an error, which would end the transaction.
    let mut text = "table inet vipd\ndelete table inet vipd\n".to_owned();
    if firewall.is_empty() {
        return text;
    }
    let (refused, quiet, marks, full_nat) = (
        refused_sets(&firewall.refused),
        quiet_sets(&firewall.quiet),
        mark_maps(&firewall.marks),
        full_nat_sets(&firewall.full_nat),
    );
    text.push_str("table inet vipd {\n");
    let sets = refused.iter().chain(&quiet).chain(&marks).chain(&full_nat);
    for set in sets {
        let (Set { head, kind, .. }, elements) = (set, set.elements.join(", "));
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "\t{head} {{\n\t\ttype {kind}\n\t\telements = {{ {elements} }}\n\t}}\n"
        );
    }
    // The input chain comes at priority 150, after IPVS, whose hooks are at 98 and 99
    // (`NF_IP_PRI_NAT_SRC` - 2 and - 1): what IPVS takes never gets here, so virtual services work.
    // An earlier priority, such as -1, kills them.
    //
    // Only packets *to* the addresses are dropped. Packets from them leave this host for good
    // reasons: the kernel tells senders of too large packets, which IPVS tunnels, with ICMP from the
    // virtual address.
    let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
    let input = "filter hook input priority 150";
    chain(&mut text, "input", input, Some(neighbours), &refused);
    // A real server on this very host may refuse a connection, too: its resets wait as long.
    let output = "filter hook output priority 0";
    chain(&mut text, "quiet", output, None, &quiet);
    // Before IPVS, for clients elsewhere and on this host. A check through one real server has a mark
    // of its own already (`config::MARKS`).
    for hook in ["prerouting", "output"] {
        let place = format!("filter hook {hook} priority mangle");
        chain(&mut text, &format!("mark_{hook}"), &place, None, &marks);
    }
    let nat = "nat hook postrouting priority srcnat";
    chain(&mut text, "full_nat", nat, None, &full_nat);
    text.push_str("}\n");
    text
}

/// How many rules a text of the table has that do something.
pub(super) fn count(text: &str) -> usize {
    let does = |line: &&str| {
        line.ends_with(" drop") || line.ends_with(" masquerade") || line.contains("meta mark set ")
    };
    text.lines().filter(does).count()
}

fn chain(text: &mut String, name: &str, place: &str, first: Option<&str>, sets: &[Set]) {
    if sets.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "\tchain {name} {{\n\t\ttype {place}; policy accept;\n"
    );
    for rule in first.into_iter().chain(sets.iter().map(|set| set.rule)) {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
}

fn refused_sets(refused: &BTreeSet<(String, IpAddr)>) -> Vec<Set> {
    let (mut v4, mut v6, mut link_local) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (interface, address) in refused {
        match address {
            IpAddr::V4(address) => drop(v4.insert(address.to_string())),
            // The same one may be the host's own on another link.
            IpAddr::V6(address) if is_link_local(*address) => {
                link_local.insert(format!("\"{interface}\" . {address}"));
            }
            IpAddr::V6(address) => drop(v6.insert(address.to_string())),
        }
    }
    let sets = [
        (
            "set virtual4",
            "ipv4_addr",
            "ip daddr @virtual4 counter drop",
            v4,
        ),
        (
            "set virtual6",
            "ipv6_addr",
            "ip6 daddr @virtual6 counter drop",
            v6,
        ),
        (
            "set virtual_link_local",
            "ifname . ipv6_addr",
            "iifname . ip6 daddr @virtual_link_local counter drop",
            link_local,
        ),
    ];
    let set = |(head, kind, rule, elements): (_, _, _, BTreeSet<String>)| Set {
        head,
        kind,
        rule,
        elements: elements.into_iter().collect(),
    };
    let sets = sets.map(set).into_iter();
    sets.filter(|set| !set.elements.is_empty()).collect()
}

/// Ranges have sets of their own: a service by address may have a port of one, which one set would
/// not take.
fn quiet_sets(quiet: &BTreeSet<(IpAddr, (u16, u16))>) -> Vec<Set> {
    let (mut one_port, mut every_port, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
    for (address, ports) in quiet {
        let ((first, last), family) = (*ports, Family::of(*address));
        if *ports == EVERY_PORT {
            every_port.push((family, address.to_string()));
        } else if first == last {
            one_port.push((family, format!("{address} . {first}")));
        } else {
            ranges.push((family, format!("{address} . {first}-{last}")));
        }
    }
    let mut sets = by_family(one_port.into_iter(), |family| match family {
        Family::V4 => (
            "set quiet4",
            "ipv4_addr . inet_service",
            "tcp flags & rst == rst ip saddr . tcp sport @quiet4 counter drop",
        ),
        Family::V6 => (
            "set quiet6",
            "ipv6_addr . inet_service",
            "tcp flags & rst == rst ip6 saddr . tcp sport @quiet6 counter drop",
        ),
    });
    sets.extend(by_family(ranges.into_iter(), |family| match family {
        Family::V4 => (
            "set quiet_ranges4",
            "ipv4_addr . inet_service\n\t\tflags interval",
            "tcp flags & rst == rst ip saddr . tcp sport @quiet_ranges4 counter drop",
        ),
        Family::V6 => (
            "set quiet_ranges6",
            "ipv6_addr . inet_service\n\t\tflags interval",
            "tcp flags & rst == rst ip6 saddr . tcp sport @quiet_ranges6 counter drop",
        ),
    }));
    sets.extend(by_family(every_port.into_iter(), |family| match family {
        Family::V4 => (
            "set quiet_every_port4",
            "ipv4_addr",
            "tcp flags & rst == rst ip saddr @quiet_every_port4 counter drop",
        ),
        Family::V6 => (
            "set quiet_every_port6",
            "ipv6_addr",
            "tcp flags & rst == rst ip6 saddr @quiet_every_port6 counter drop",
        ),
    }));
    sets
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

fn mark_maps(marks: &BTreeSet<Mark>) -> Vec<Set> {
    let elements = marks.iter().map(|rule| {
        let ((first, last), mark) = (rule.ports, rule.mark);
        let ports = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        let (address, protocol) = (rule.address, number(rule.protocol));
        let element = format!("{address} . {protocol} . {ports} : {mark}");
        (Family::of(address), element)
    });
    by_family(elements, |family| match family {
        Family::V4 => (
            "map mark4",
            "ipv4_addr . inet_proto . inet_service : mark\n\t\tflags interval",
            "meta mark & 0xfff00000 != 0x76700000 meta mark set ip daddr . meta l4proto . th dport map @mark4",
        ),
        Family::V6 => (
            "map mark6",
            "ipv6_addr . inet_proto . inet_service : mark\n\t\tflags interval",
            "meta mark & 0xfff00000 != 0x76700000 meta mark set ip6 daddr . meta l4proto . th dport map @mark6",
        ),
    })
}

/// IPVS has chosen the real server by then: what is asked is where the client meant to go, and where
/// the packet goes.
fn full_nat_sets(full_nat: &BTreeSet<FullNat>) -> Vec<Set> {
    let (mut one_port, mut every_port, mut marked) = (Vec::new(), Vec::new(), Vec::new());
    for rule in full_nat {
        match rule {
            FullNat::Address {
                address,
                protocol,
                real,
            } => {
                let (family, ip, port) = (Family::of(*address), real.ip(), real.port());
                let to = format!("{address} . {} . {ip}", number(*protocol));
                if port == 0 {
                    every_port.push((family, to));
                } else {
                    one_port.push((family, format!("{to} . {port}")));
                }
            }
            FullNat::Mark { mark, real } => {
                marked.push((Family::of(*real), format!("{mark} . {real}")));
            }
        }
    }
    let mut sets = by_family(one_port.into_iter(), |family| match family {
        Family::V4 => (
            "set full_nat4",
            "ipv4_addr . inet_proto . ipv4_addr . inet_service",
            "ct original ip daddr . meta l4proto . ip daddr . th dport @full_nat4 masquerade",
        ),
        Family::V6 => (
            "set full_nat6",
            "ipv6_addr . inet_proto . ipv6_addr . inet_service",
            "ct original ip6 daddr . meta l4proto . ip6 daddr . th dport @full_nat6 masquerade",
        ),
    });
    sets.extend(by_family(every_port.into_iter(), |family| match family {
        Family::V4 => (
            "set full_nat_every_port4",
            "ipv4_addr . inet_proto . ipv4_addr",
            "ct original ip daddr . meta l4proto . ip daddr @full_nat_every_port4 masquerade",
        ),
        Family::V6 => (
            "set full_nat_every_port6",
            "ipv6_addr . inet_proto . ipv6_addr",
            "ct original ip6 daddr . meta l4proto . ip6 daddr @full_nat_every_port6 masquerade",
        ),
    }));
    sets.extend(by_family(marked.into_iter(), |family| match family {
        Family::V4 => (
            "set full_nat_mark4",
            "mark . ipv4_addr",
            "meta mark . ip daddr @full_nat_mark4 masquerade",
        ),
        Family::V6 => (
            "set full_nat_mark6",
            "mark . ipv6_addr",
            "meta mark . ip6 daddr @full_nat_mark6 masquerade",
        ),
    }));
    sets
}

/// The protocol's number: a small system need not have /etc/protocols.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// A set for each family that has elements; `words` are its head, type and rule.
fn by_family(
    elements: impl Iterator<Item = (Family, impl Display)>,
    words: impl Fn(Family) -> (&'static str, &'static str, &'static str),
) -> Vec<Set> {
    let mut families: BTreeMap<Family, Vec<String>> = BTreeMap::new();
    for (family, element) in elements {
        families
            .entry(family)
            .or_default()
            .push(element.to_string());
    }
    let set = |(family, elements)| {
        let (head, kind, rule) = words(family);
        Set {
            head,
            kind,
            rule,
            elements,
        }
    };
    families.into_iter().map(set).collect()
}
