//! The addresses of an interface: kept in the kernel's order, found without a search, because there
//! may be ten thousand.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use crate::net::ADDRESS_PROTOCOL;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkAddress {
    /// The address and its prefix length.
    pub address: IpNet,
    /// Whether vipd put it there (`IFA_PROTO`).
    pub ours: bool,
    /// Whether it is a secondary address of its subnet. IPv4 only: there is no such thing in IPv6.
    pub secondary: bool,
    /// `IFA_LABEL`, where it is not just the name of the interface. IPv4 only.
    pub label: Option<Arc<str>>,
    /// The scope (`rtm_scope`, rtnetlink(7)): 0 is global, 253 link, 254 host.
    pub scope: u8,
    /// Without a route to its prefix (`IFA_F_NOPREFIXROUTE`).
    pub no_prefix_route: bool,
    /// Duplicate address detection has not ended: not in use (`IFA_F_TENTATIVE` without
    /// `IFA_F_OPTIMISTIC`).
    pub tentative: bool,
    /// Another host has it: not in use (`IFA_F_DADFAILED`).
    pub dad_failed: bool,
    /// Not chosen as the source of new connections (`IFA_F_DEPRECATED`).
    pub deprecated: bool,
}

impl LinkAddress {
    /// Whether the host takes packets for it.
    #[must_use]
    pub fn usable(&self) -> bool {
        !self.tentative && !self.dad_failed
    }
}

/// The addresses of an interface.
#[derive(Debug, Clone, Default)]
pub struct LinkAddresses {
    in_order: BTreeMap<u64, LinkAddress>,
    position: HashMap<IpNet, u64>,
    next: u64,
}

impl LinkAddresses {
    /// What is known of that address.
    #[must_use]
    pub fn get(&self, address: IpNet) -> Option<&LinkAddress> {
        self.in_order.get(self.position.get(&address)?)
    }

    /// All of them, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = &LinkAddress> {
        self.in_order.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.in_order.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// Adds one at the end, or replaces what was known of it.
    pub(super) fn insert(&mut self, address: LinkAddress) {
        let position = *self.position.entry(address.address).or_insert(self.next);
        self.next += 1;
        self.in_order.insert(position, address);
    }

    /// Returns whether it was there.
    pub(super) fn remove(&mut self, address: IpNet) -> bool {
        let position = self.position.remove(&address);
        position.is_some_and(|position| self.in_order.remove(&position).is_some())
    }
}

impl PartialEq for LinkAddresses {
    fn eq(&self, other: &LinkAddresses) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for LinkAddresses {}

impl FromIterator<LinkAddress> for LinkAddresses {
    fn from_iter<T: IntoIterator<Item = LinkAddress>>(addresses: T) -> LinkAddresses {
        let mut all = LinkAddresses::default();
        addresses
            .into_iter()
            .for_each(|address| all.insert(address));
        all
    }
}

/// The address that a message is about; `interface` is the name of its link.
pub(super) fn decode(message: &AddressMessage, interface: &str) -> Option<LinkAddress> {
    let (mut local, mut address, mut ours, mut label) = (None, None, false, None);
    // The header has the low eight, for kernels and messages without the attribute.
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "other attributes do not matter here"
        )]
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Label(name) => label = Some(name).filter(|name| *name != interface),
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == ADDRESS_PROTOCOL,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has only the first.
    let prefix = message.header.prefix_len;
    let address = match local.or(address)? {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new(ip, prefix).ok()?),
        IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new(ip, prefix).ok()?),
    };
    let has = |flag| flags.contains(flag);
    Some(LinkAddress {
        address,
        ours,
        // For IPv6 the same bit is IFA_F_TEMPORARY.
        secondary: has(AddressFlags::Secondary) && address.addr().is_ipv4(),
        label: label.map(|label| Arc::from(label.as_str())),
        scope: u8::from(message.header.scope),
        no_prefix_route: has(AddressFlags::Noprefixroute),
        tentative: has(AddressFlags::Tentative) && !has(AddressFlags::Optimistic),
        dad_failed: has(AddressFlags::Dadfailed),
        deprecated: has(AddressFlags::Deprecated),
    })
}
