//! What a real server consists of, what should be so, and where the host differs from that. Pure.
//!
//! Settings come before addresses: a virtual address that is there a moment before `arp_ignore` is has
//! answered for the virtual server meanwhile. They go the other way around.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use ipvs::{Family, Tunnel, TunnelChecksum};
use serde::{Deserialize, Serialize};

use super::role::{Role, Way};
use crate::net::links::Links;

/// The interface of the host itself.
pub(super) const LOOPBACK: &str = "lo";
/// Stands for every interface (`net.ipv4.conf.all`).
const ALL: &str = "all";

/// One thing that should be so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Thing {
    /// The loopback interface is up.
    Loopback,
    /// A setting under `net.ipv4.conf` has a value.
    Setting { interface: String, name: String },
    /// The kernel takes in Generic UDP Encapsulation at a port.
    GuePort { ipv6: bool, port: u16 },
    /// There is a tunnel device, and it is up.
    Device(Device),
    /// An interface has no such address.
    NoAddress { interface: String, address: IpNet },
    /// An interface has an address.
    Address { interface: String, address: IpNet },
    /// Packets to an address are this host's.
    Local { address: IpAddr },
}

/// A tunnel device of vipd's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Where the tunnel ends.
    pub(super) local: IpAddr,
    /// GRE: packets have a checksum.
    pub(super) checksum: bool,
}

/// A kind of tunnel device, by the names of ip-link(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Ipip,
    Sit,
    Ip6Tnl,
    Gre,
    Ip6Gre,
}

/// How the host is.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) links: Links,
    /// Interfaces that answer for none of their addresses on a network of their own: tunnels and dummies.
    pub(super) secluded: BTreeSet<String>,
    /// By interface and name; those that are not there are left out.
    pub(super) settings: BTreeMap<(String, String), String>,
    pub(super) gue_ports: BTreeSet<(bool, u16)>,
    /// Tunnel devices that are up.
    pub(super) devices: BTreeSet<Device>,
    /// Addresses whose packets are this host's.
    pub(super) local: BTreeSet<IpAddr>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) thing: Thing,
    pub(super) is: String,
    pub(super) should: String,
}

/// Everything that a role needs, in the order in which it is to be made so.
pub(super) fn wanted(role: &Role) -> Vec<Thing> {
    let mut things = vec![];
    let (mut devices, mut addresses) = (Vec::<Device>::new(), Vec::new());
    for (ip, ways) in &role.virtual_addresses {
        for way in ways {
            let interface = match way {
                Way::Direct => LOOPBACK.to_owned(),
                Way::Tunnel(end, tunnel) => {
                    if let Tunnel::Gue { port, .. } = tunnel {
                        let ipv6 = end.is_ipv6();
                        things.push(Thing::GuePort { ipv6, port: *port });
                    }
                    device(&mut devices, *ip, *end, tunnel)
                }
            };
            let address = IpNet::from(*ip);
            addresses.push(Thing::Address { interface, address });
        }
    }
    if addresses.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Thing::Loopback];
    if role.virtual_addresses.keys().any(IpAddr::is_ipv4) {
        for interface in [ALL, LOOPBACK] {
            all.extend(["arp_ignore", "arp_announce"].map(|name| setting(interface, name)));
        }
    }
    things.sort();
    all.append(&mut things);
    for device in devices {
        let name = device.name.clone();
        all.push(Thing::Device(device));
        all.push(setting(&name, "rp_filter"));
    }
    all.append(&mut addresses);
    let ips = role.virtual_addresses.keys();
    all.extend(ips.map(|address| Thing::Local { address: *address }));
    let mut seen = BTreeSet::new();
    all.retain(|thing| seen.insert(thing.clone()));
    all
}

fn setting(interface: &str, name: &str) -> Thing {
    Thing::Setting {
        interface: interface.to_owned(),
        name: name.to_owned(),
    }
}

/// The device that packets for a virtual address come out of; new ones are added.
fn device(devices: &mut Vec<Device>, inner: IpAddr, end: IpAddr, tunnel: &Tunnel) -> String {
    let (kind, checksum) = match tunnel {
        Tunnel::Ipip | Tunnel::Gue { .. } => (Kind::between(inner, end), false),
        Tunnel::Gre { checksum } => {
            let kind = if end.is_ipv4() {
                Kind::Gre
            } else {
                Kind::Ip6Gre
            };
            (kind, *checksum != TunnelChecksum::None)
        }
    };
    let same = |device: &&Device| device.kind == kind && device.local == end;
    if let Some(known) = devices.iter().find(same) {
        return known.name.clone();
    }
    let others = devices.iter().filter(|device| device.kind == kind).count();
    let number = if others == 0 {
        String::new()
    } else {
        (others + 1).to_string()
    };
    let name = format!("vipd-{kind}{number}");
    devices.push(Device {
        name: name.clone(),
        kind,
        local: end,
        checksum,
    });
    name
}

impl Kind {
    /// For packets of one family in those of another.
    fn between(inner: IpAddr, outer: IpAddr) -> Kind {
        match (Family::of(inner), Family::of(outer)) {
            (Family::V4, Family::V4) => Kind::Ipip,
            (Family::V6, Family::V4) => Kind::Sit,
            (Family::V4 | Family::V6, Family::V6) => Kind::Ip6Tnl,
        }
    }
}

/// The values of a setting with which all is well; the first is the one that is set.
///
/// Of `arp_ignore` 2 is stricter and does no harm. `rp_filter` of a tunnel device is 2 because the larger of
/// it and that of `all` counts: the answers leave by another interface, which 1 forbids whatever `all` is.
pub(super) fn good_values(name: &str) -> &'static [&'static str] {
    match name {
        "arp_ignore" => &["1", "2"],
        "arp_announce" | "rp_filter" => &["2"],
        _ => &[],
    }
}

/// Where the host differs, in the order in which it is to be changed. `earlier` is what was set up before.
pub(super) fn differences(wanted: &[Thing], earlier: &[Thing], facts: &Facts) -> Vec<Difference> {
    let left = earlier
        .iter()
        .rev()
        .filter(|thing| !is_wanted(wanted, thing));
    let left = left.map(|thing| Difference {
        thing: thing.clone(),
        is: "set up by an earlier run".to_owned(),
        should: "as it was before".to_owned(),
    });
    let mut found: Vec<Difference> = left.collect();
    found.extend(strays(wanted, facts));
    for thing in wanted {
        let differs = |is: &str, should: &str| {
            Some(Difference {
                thing: thing.clone(),
                is: is.to_owned(),
                should: should.to_owned(),
            })
        };
        found.extend(match thing {
            Thing::Loopback => {
                let up = facts.links.named(LOOPBACK).is_some_and(|link| link.up);
                (!up).then(|| differs("down", "up")).flatten()
            }
            Thing::Setting { interface, name } => {
                let value = facts.settings.get(&(interface.clone(), name.clone()));
                let value = value.map_or("absent", String::as_str);
                let good = good_values(name);
                let first = good.first().copied().unwrap_or_default();
                (!good.contains(&value))
                    .then(|| differs(value, first))
                    .flatten()
            }
            Thing::GuePort { ipv6, port } => {
                let open = facts.gue_ports.contains(&(*ipv6, *port));
                (!open).then(|| differs("closed", "open")).flatten()
            }
            Thing::Device(device) => {
                let there = facts.devices.contains(device);
                let other = facts.links.named(&device.name).is_some();
                let is = if other { "another, or down" } else { "absent" };
                (!there).then(|| differs(is, "there and up")).flatten()
            }
            Thing::Address { interface, address } => {
                let link = facts.links.named(interface);
                let known = link.and_then(|link| link.addresses.get(*address));
                match known {
                    Some(known) if known.usable() => None,
                    Some(_) => differs("tentative or a duplicate", "there"),
                    None => differs("absent", "there"),
                }
            }
            // An address that is absent has no route, and gets one with itself.
            Thing::Local { address } => {
                let has = facts.links.iter().any(|link| link.has(*address));
                let lost = has && !facts.local.contains(address);
                lost.then(|| differs("absent", "there")).flatten()
            }
            Thing::NoAddress { interface, address } => {
                let link = facts.links.named(interface);
                let known = link.and_then(|link| link.addresses.get(*address));
                // One that an earlier run has added goes with what that left.
                let own = Thing::Address {
                    interface: interface.clone(),
                    address: *address,
                };
                known
                    .filter(|_| !earlier.contains(&own))
                    .and_then(|_| differs("there", "absent"))
            }
        });
    }
    found
}

/// Whether a change that was made is to stay. An address that was in the way stays away as long as the
/// virtual address is there.
pub(super) fn is_wanted(wanted: &[Thing], thing: &Thing) -> bool {
    match thing {
        Thing::NoAddress { address, .. } => {
            let same = |other: &Thing| match other {
                Thing::NoAddress { address: other, .. } | Thing::Address { address: other, .. } => {
                    other.addr() == address.addr()
                }
                Thing::Loopback
                | Thing::Setting { .. }
                | Thing::GuePort { .. }
                | Thing::Device(_)
                | Thing::Local { .. } => false,
            };
            wanted.iter().any(same)
        }
        Thing::Loopback
        | Thing::Setting { .. }
        | Thing::GuePort { .. }
        | Thing::Device(_)
        | Thing::Address { .. }
        | Thing::Local { .. } => wanted.contains(thing),
    }
}

/// Virtual addresses on `lo` with the prefix of their network: the host takes all of it for its own.
fn strays(wanted: &[Thing], facts: &Facts) -> Vec<Difference> {
    let ips: BTreeSet<IpAddr> = wanted.iter().filter_map(Thing::virtual_address).collect();
    let Some(lo) = facts.links.named(LOOPBACK) else {
        return Vec::new();
    };
    let stray = |address: &IpNet| {
        ips.contains(&address.addr()) && address.prefix_len() != address.max_prefix_len()
    };
    let found = lo.addresses.iter().map(|known| known.address).filter(stray);
    let found = found.map(|address| Difference {
        thing: Thing::NoAddress {
            interface: LOOPBACK.to_owned(),
            address,
        },
        is: "there, so that its whole network counts as this host's own".to_owned(),
        should: "absent".to_owned(),
    });
    found.collect()
}

/// Why this host must not be made a real server.
pub(super) fn objection(role: &Role, facts: &Facts) -> Option<String> {
    for (ip, ways) in &role.virtual_addresses {
        if role.itself.contains(ip) && ways.contains(&Way::Direct) {
            return Some(format!(
                "{ip} is both the virtual address and the real server's own"
            ));
        }
        if ip.is_unspecified()
            || ip.is_multicast()
            || ip.is_loopback()
            || *ip == IpAddr::V4(Ipv4Addr::BROADCAST)
        {
            return Some(format!("{ip} cannot be a virtual address"));
        }
        for link in facts.links.iter() {
            if link.name == LOOPBACK || facts.secluded.contains(&link.name) {
                continue;
            }
            let Some(known) = link
                .addresses
                .iter()
                .find(|known| known.address.addr() == *ip)
            else {
                continue;
            };
            let interface = &link.name;
            return Some(match known.ours {
                true => format!(
                    "this host is the director that holds {ip} (vipd has put it on {interface}): a director is \
                     no real server of its own while it is master"
                ),
                false => format!(
                    "{ip} is an ordinary address of this host, on {interface}: others find this host by it, so it \
                     cannot be a virtual address here"
                ),
            });
        }
    }
    None
}

impl Thing {
    /// The virtual address that it is about.
    pub(super) fn virtual_address(&self) -> Option<IpAddr> {
        match self {
            Thing::Address { address, .. } => Some(address.addr()),
            Thing::Local { address } => Some(*address),
            Thing::Loopback
            | Thing::Setting { .. }
            | Thing::GuePort { .. }
            | Thing::Device(_)
            | Thing::NoAddress { .. } => None,
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Loopback => f.write_str(LOOPBACK),
            Thing::Setting { interface, name } => write!(f, "net.ipv4.conf.{interface}.{name}"),
            Thing::GuePort { ipv6, port } => {
                let family = if *ipv6 { "IPv6" } else { "IPv4" };
                write!(f, "GUE port {port} ({family})")
            }
            Thing::Device(device) => write!(f, "{device}"),
            Thing::NoAddress { interface, address } | Thing::Address { interface, address } => {
                write!(f, "{address} on {interface}")
            }
            Thing::Local { address } => write!(f, "local route of {address}"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Device {
            name,
            kind,
            local,
            checksum,
        } = self;
        let checksum = if *checksum { ", with checksum" } else { "" };
        write!(f, "tunnel {name} ({kind}, local {local}{checksum})")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ipip => "ipip",
            Kind::Sit => "sit",
            Kind::Ip6Tnl => "ip6tnl",
            Kind::Gre => "gre",
            Kind::Ip6Gre => "ip6gre",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: is {}, should be {}",
            self.thing, self.is, self.should
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::net::links::{Link, LinkAddress};

    fn role(ways: &[(&str, Way)]) -> Role {
        let mut role = Role::default();
        for (ip, way) in ways {
            let ip = ip.parse().unwrap();
            role.virtual_addresses.entry(ip).or_default().insert(*way);
        }
        role
    }

    fn link(name: &str, index: u32, addresses: &[&str]) -> Link {
        let address = |text: &&str| LinkAddress {
            address: text.parse().unwrap(),
            ..LinkAddress::default()
        };
        Link {
            index,
            name: name.to_owned(),
            mac: None,
            up: true,
            addresses: addresses.iter().map(address).collect(),
        }
    }

    fn shown(things: &[Thing]) -> Vec<String> {
        things.iter().map(Thing::to_string).collect()
    }

    fn told(wanted: &[Thing], earlier: &[Thing], facts: &Facts) -> Vec<String> {
        let found = differences(wanted, earlier, facts);
        found.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn direct_routing_wants_silence_before_the_address() {
        let wanted = wanted(&role(&[
            ("192.0.2.10", Way::Direct),
            ("2001:db8::10", Way::Direct),
        ]));
        let expected = [
            "lo",
            "net.ipv4.conf.all.arp_ignore",
            "net.ipv4.conf.all.arp_announce",
            "net.ipv4.conf.lo.arp_ignore",
            "net.ipv4.conf.lo.arp_announce",
            "192.0.2.10/32 on lo",
            "2001:db8::10/128 on lo",
            "local route of 192.0.2.10",
            "local route of 2001:db8::10",
        ];
        assert_eq!(shown(&wanted), expected);
        let only = super::wanted(&role(&[("2001:db8::10", Way::Direct)]));
        assert_eq!(
            shown(&only),
            [
                "lo",
                "2001:db8::10/128 on lo",
                "local route of 2001:db8::10"
            ]
        );
        assert!(super::wanted(&Role::default()).is_empty());
    }

    #[test]
    fn each_tunnel_has_the_device_of_its_kind_and_the_address_on_it() {
        let (v4, v6): (IpAddr, IpAddr) = (
            "10.0.0.21".parse().unwrap(),
            "2001:db8::21".parse().unwrap(),
        );
        let gue = Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::Full,
        };
        let gre = Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        };
        let role = role(&[
            ("192.0.2.10", Way::Tunnel(v4, Tunnel::Ipip)),
            ("192.0.2.10", Way::Tunnel(v4, gue)),
            ("192.0.2.11", Way::Tunnel(v6, Tunnel::Ipip)),
            ("192.0.2.12", Way::Tunnel(v4, gre)),
            ("2001:db8::10", Way::Tunnel(v4, Tunnel::Ipip)),
        ]);
        let things = shown(&wanted(&role));
        for thing in [
            "GUE port 6080 (IPv4)",
            "tunnel vipd-ipip (ipip, local 10.0.0.21)",
            "net.ipv4.conf.vipd-ipip.rp_filter",
            "192.0.2.10/32 on vipd-ipip",
            "tunnel vipd-ip6tnl (ip6tnl, local 2001:db8::21)",
            "192.0.2.11/32 on vipd-ip6tnl",
            "tunnel vipd-gre (gre, local 10.0.0.21, with checksum)",
            "192.0.2.12/32 on vipd-gre",
            "tunnel vipd-sit (sit, local 10.0.0.21)",
            "2001:db8::10/128 on vipd-sit",
        ] {
            assert_eq!(
                things.iter().filter(|it| *it == thing).count(),
                1,
                "{thing}: {things:#?}"
            );
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_not_told() {
        let wanted = wanted(&role(&[("192.0.2.10", Way::Direct)]));
        let mut facts = Facts {
            links: [link("lo", 1, &["127.0.0.1/8", "192.0.2.10/32"])]
                .into_iter()
                .collect(),
            local: ["192.0.2.10".parse().unwrap()].into(),
            ..Facts::default()
        };
        for (interface, ignore) in [("all", "2"), ("lo", "1")] {
            for (name, value) in [("arp_ignore", ignore), ("arp_announce", "2")] {
                let key = (interface.to_owned(), name.to_owned());
                facts.settings.insert(key, value.to_owned());
            }
        }
        assert!(told(&wanted, &[], &facts).is_empty());
        let key = ("all".to_owned(), "arp_ignore".to_owned());
        facts.settings.insert(key, "8".to_owned());
        facts.local.clear();
        let expected = [
            "net.ipv4.conf.all.arp_ignore: is 8, should be 1",
            "local route of 192.0.2.10: is absent, should be there",
        ];
        assert_eq!(told(&wanted, &[], &facts), expected);
    }

    #[test]
    fn an_address_of_a_whole_network_on_lo_and_what_an_earlier_run_left_are_told_first() {
        let wanted = wanted(&role(&[("2001:db8::10", Way::Direct)]));
        let facts = Facts {
            links: [link("lo", 1, &["2001:db8::10/64"])].into_iter().collect(),
            local: ["2001:db8::10".parse().unwrap()].into(),
            ..Facts::default()
        };
        let earlier = [Thing::Address {
            interface: "lo".to_owned(),
            address: "192.0.2.9/32".parse().unwrap(),
        }];
        let expected = [
            "192.0.2.9/32 on lo: is set up by an earlier run, should be as it was before",
            "2001:db8::10/64 on lo: is there, so that its whole network counts as this host's own, should be absent",
            "2001:db8::10/128 on lo: is absent, should be there",
        ];
        assert_eq!(told(&wanted, &earlier, &facts), expected);
    }

    #[test]
    fn an_address_by_which_others_find_the_host_is_refused_and_one_on_a_dummy_is_not() {
        let role = role(&[("192.0.2.10", Way::Direct)]);
        let mut facts = Facts {
            links: [link("eth0", 2, &["192.0.2.10/24"])].into_iter().collect(),
            ..Facts::default()
        };
        let why = objection(&role, &facts).unwrap();
        assert!(
            why.starts_with("192.0.2.10 is an ordinary address of this host, on eth0"),
            "{why}"
        );
        facts.secluded.insert("eth0".to_owned());
        assert_eq!(objection(&role, &facts), None);
        let mut director = link("eth0", 2, &[]);
        director.addresses = [LinkAddress {
            address: "192.0.2.10/24".parse().unwrap(),
            ours: true,
            ..LinkAddress::default()
        }]
        .into_iter()
        .collect();
        facts = Facts {
            links: [director].into_iter().collect(),
            ..Facts::default()
        };
        let why = objection(&role, &facts).unwrap();
        assert!(
            why.starts_with("this host is the director that holds 192.0.2.10"),
            "{why}"
        );
    }
}
