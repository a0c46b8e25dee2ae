//! The interfaces of this host and their addresses, as the kernel has them now. `monitor.rs` keeps the
//! picture.

mod address;
mod monitor;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

pub use address::{LinkAddress, LinkAddresses};
pub use monitor::{dump, watch};

use super::sys::Mac;

/// Every interface of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// Shared with the pictures published before: a change copies only the link it is about.
    by_index: BTreeMap<u32, Arc<Link>>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it; a recreated interface of the same name has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// Switched on (`IFF_UP`) and with carrier (`IFF_LOWER_UP`): a packet can leave it.
    pub up: bool,
    /// Its addresses, in the kernel's order.
    pub addresses: LinkAddresses,
}

impl Links {
    /// The interface of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.iter().find(|link| link.name == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values().map(Arc::as_ref)
    }

    /// Takes one message of the kernel in. Returns whether anything changed.
    fn apply(&mut self, message: &RouteNetlinkMessage) -> bool {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "all other messages are not about links"
        )]
        match message {
            RouteNetlinkMessage::NewLink(message) => self.new_link(message),
            // A port that leaves a bridge is deleted from the bridge's own list, not from the host.
            RouteNetlinkMessage::DelLink(message)
                if message.header.interface_family == AddressFamily::Bridge =>
            {
                false
            }
            RouteNetlinkMessage::DelLink(message) => {
                self.by_index.remove(&message.header.index).is_some()
            }
            RouteNetlinkMessage::NewAddress(message) => self.new_address(message),
            RouteNetlinkMessage::DelAddress(message) => self.delete_address(message),
            _ => false,
        }
    }

    fn new_link(&mut self, message: &LinkMessage) -> bool {
        let (mut name, mut mac) = (None, None);
        for attribute in &message.attributes {
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "other attributes do not matter here"
            )]
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value.clone()),
                LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
                _ => {}
            }
        }
        let index = message.header.index;
        let up = message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp);
        let known = self.by_index.get(&index);
        // A bridge reports its ports' events in its own family, without all attributes.
        let Some(name) = name.or_else(|| known.map(|link| link.name.clone())) else {
            return false;
        };
        let mac = mac.or_else(|| known.and_then(|link| link.mac));
        let addresses = known.map(|link| link.addresses.clone()).unwrap_or_default();
        let link = Link {
            index,
            name,
            mac,
            up,
            addresses,
        };
        if known.is_some_and(|known| **known == link) {
            return false;
        }
        self.by_index.insert(index, Arc::new(link));
        true
    }

    fn new_address(&mut self, message: &AddressMessage) -> bool {
        let Some(link) = self.by_index.get_mut(&message.header.index) else {
            return false;
        };
        let Some(address) = address::decode(message, &link.name) else {
            return false;
        };
        if link.addresses.get(address.address) == Some(&address) {
            return false;
        }
        Arc::make_mut(link).addresses.insert(address);
        true
    }

    fn delete_address(&mut self, message: &AddressMessage) -> bool {
        let Some(link) = self.by_index.get_mut(&message.header.index) else {
            return false;
        };
        let address = address::decode(message, &link.name).map(|address| address.address);
        let Some(address) = address.filter(|address| link.addresses.get(*address).is_some()) else {
            return false;
        };
        Arc::make_mut(link).addresses.remove(address)
    }

    /// How many addresses there are.
    fn count(&self) -> usize {
        self.iter().map(|link| link.addresses.len()).sum()
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<T: IntoIterator<Item = Link>>(links: T) -> Links {
        let by_index = links.into_iter().map(|link| (link.index, Arc::new(link)));
        Links {
            by_index: by_index.collect(),
        }
    }
}

impl Link {
    /// The IPv4 address that adverts are sent from: the first one that is not a virtual address
    /// (RFC 3768 §5.2.1, "primary IP address").
    pub fn primary_v4(&self, is_virtual: impl Fn(IpAddr) -> bool) -> Option<Ipv4Addr> {
        let candidates = || {
            self.addresses
                .iter()
                .filter_map(|address| match address.address {
                    IpNet::V4(net) if !address.ours && !is_virtual(net.addr().into()) => {
                        Some((address.secondary, net.addr()))
                    }
                    IpNet::V4(_) | IpNet::V6(_) => None,
                })
        };
        let primary = candidates().find(|(secondary, _)| !secondary);
        primary
            .or_else(|| candidates().next())
            .map(|(_, address)| address)
    }

    /// The first IPv4 address of any kind: what an address owner has left to send from when its
    /// only address is the virtual one.
    #[must_use]
    pub fn any_v4(&self) -> Option<Ipv4Addr> {
        self.addresses
            .iter()
            .find_map(|address| match address.address {
                IpNet::V4(net) => Some(net.addr()),
                IpNet::V6(_) => None,
            })
    }

    /// The IPv6 address that adverts are sent from: the first link-local one that is not a virtual
    /// address (RFC 9568 §5.1.2.1).
    pub fn primary_v6(&self, is_virtual: impl Fn(IpAddr) -> bool) -> Option<Ipv6Addr> {
        self.link_local()
            .find(|(ours, ip)| !ours && !is_virtual((*ip).into()))
            .map(|(_, ip)| ip)
    }

    /// The first link-local IPv6 address of any kind, for an address owner.
    #[must_use]
    pub fn any_link_local(&self) -> Option<Ipv6Addr> {
        self.link_local().next().map(|(_, ip)| ip)
    }

    /// Whether it has that address.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|known| known.address.addr() == ip)
    }

    /// The link-local IPv6 addresses, and whether vipd put each there. Not those that another host
    /// uses, or may still turn out to use: the kernel sends nothing from them.
    fn link_local(&self) -> impl Iterator<Item = (bool, Ipv6Addr)> {
        self.addresses
            .iter()
            .filter(|known| known.usable())
            .filter_map(|known| match known.address {
                IpNet::V6(net) if net.addr().is_unicast_link_local() => {
                    Some((known.ours, net.addr()))
                }
                IpNet::V4(_) | IpNet::V6(_) => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testbed::{between_hosts, ip};

    #[test]
    fn a_renamed_interface_keeps_its_index_and_addresses() {
        between_hosts(|testbed| {
            ip("addr add 10.0.0.1/24 dev near");
            let has = |links: &Links, name: &str| {
                let link = links.named(name)?;
                let address = "10.0.0.1/24".parse().unwrap();
                link.addresses.get(address).map(|_| link.index)
            };
            testbed.wait_for(|links| has(links, "near").is_some());
            let before = has(&testbed.links.borrow(), "near");
            ip("link set near down");
            ip("link set near name other");
            ip("link set other up");
            testbed.wait_for(|links| has(links, "other") == before);
            assert!(testbed.links.borrow().named("near").is_none());
        });
    }

    #[test]
    fn an_interface_that_is_recreated_has_another_index() {
        between_hosts(|testbed| {
            let index = |links: &Links| links.named("again").map(|link| link.index);
            ip("link add again type bridge");
            testbed.wait_for(|links| index(links).is_some());
            let first = index(&testbed.links.borrow());
            ip("link del again");
            ip("link add again type bridge");
            testbed.wait_for(|links| index(links).is_some_and(|now| Some(now) != first));
        });
    }

    #[test]
    fn ipv6_adverts_come_from_a_link_local_address_that_is_in_use() {
        let address = |address: &str| LinkAddress {
            address: address.parse().unwrap(),
            ..LinkAddress::default()
        };
        let tentative = LinkAddress {
            tentative: true,
            ..address("fe80::1/64")
        };
        let failed = LinkAddress {
            dad_failed: true,
            ..address("fe80::2/64")
        };
        let ours = LinkAddress {
            ours: true,
            ..address("fe80::3/64")
        };
        let (global, good) = (address("2001:db8::1/64"), address("fe80::4/64"));
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            up: true,
            addresses: [global, tentative, failed, ours, good]
                .into_iter()
                .collect(),
        };
        let expected = "fe80::4".parse().ok();
        assert_eq!(link.primary_v6(|_| false), expected);
        assert_eq!(
            link.primary_v6(|ip| Some(ip) == expected.map(IpAddr::V6)),
            None
        );
    }

    #[test]
    fn adverts_come_from_the_first_address_that_is_not_virtual() {
        check(
            &[("10.0.0.9/24", false, false), ("10.0.0.1/24", false, false)],
            Some("10.0.0.1"),
        );
    }

    #[test]
    fn an_address_with_our_mark_is_virtual_whatever_the_configuration_says() {
        check(
            &[("10.0.0.8/24", true, false), ("10.0.0.1/24", false, false)],
            Some("10.0.0.1"),
        );
    }

    #[test]
    fn a_primary_address_comes_before_a_secondary_one() {
        check(
            &[("10.0.0.2/24", false, true), ("10.0.0.1/24", false, false)],
            Some("10.0.0.1"),
        );
        check(&[("10.0.0.2/24", false, true)], Some("10.0.0.2"));
    }

    #[test]
    fn an_interface_with_virtual_and_ipv6_addresses_only_has_none_to_send_from() {
        check(
            &[
                ("10.0.0.9/24", false, false),
                ("2001:db8::1/64", false, false),
            ],
            None,
        );
    }

    /// 10.0.0.9 is virtual.
    fn check(addresses: &[(&str, bool, bool)], primary: Option<&str>) {
        let addresses = addresses
            .iter()
            .map(|(address, ours, secondary)| LinkAddress {
                address: address.parse().unwrap(),
                ours: *ours,
                secondary: *secondary,
                ..LinkAddress::default()
            });
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            up: true,
            addresses: addresses.collect(),
        };
        let is_virtual = |ip: IpAddr| ip.to_string() == "10.0.0.9";
        assert_eq!(
            link.primary_v4(is_virtual),
            primary.map(|ip| ip.parse().unwrap())
        );
    }
}
