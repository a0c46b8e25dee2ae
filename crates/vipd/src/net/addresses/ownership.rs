//! Whose an address is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Place, Wanted};
use crate::config::VirtualAddress;
use crate::net::links::{Link, LinkAddress, Links};

/// What the configuration says of the places it names, found without a search.
pub(super) struct Claims<'a> {
    places: HashMap<&'a str, HashMap<IpNet, Claim<'a>>>,
    /// The virtual addresses that are not an owner's, wherever they are.
    managed: HashSet<IpAddr>,
}

#[derive(Default)]
struct Claim<'a> {
    /// What is to be there now.
    held: Option<&'a VirtualAddress>,
    /// A virtual address that is not the owner's.
    managed: bool,
    /// The owner's.
    owned: bool,
}

impl<'a> Claims<'a> {
    pub(super) fn new(wanted: &'a Wanted) -> Claims<'a> {
        let mut claims = Claims {
            places: HashMap::new(),
            managed: HashSet::new(),
        };
        for router in wanted.values() {
            for address in &router.addresses {
                let places = claims.places.entry(&address.interface).or_default();
                let claim = places.entry(address.address).or_default();
                claim.managed |= !router.owner;
                claim.owned |= router.owner;
                if router.hold {
                    claim.held = Some(address);
                }
                if !router.owner {
                    claims.managed.insert(address.ip());
                }
            }
        }
        claims
    }

    fn get(&self, interface: &str, address: IpNet) -> Option<&Claim<'a>> {
        self.places.get(interface)?.get(&address)
    }

    /// Whether the address is to be there now.
    pub(super) fn holds(&self, interface: &str, address: IpNet) -> bool {
        self.get(interface, address)
            .is_some_and(|claim| claim.held.is_some())
    }

    /// Whether it is an owner's own address.
    pub(super) fn owned(&self, interface: &str, address: IpNet) -> bool {
        self.get(interface, address)
            .is_some_and(|claim| claim.owned)
    }

    /// Whether an address that is on an interface is vipd's, to be removed or replaced.
    pub(super) fn is_ours(&self, link: &Link, known: &LinkAddress) -> bool {
        self.is_ours_if(link, known, || self.has_own(link))
    }

    /// All addresses that are on an interface and are vipd's.
    pub(super) fn ours<'l>(
        &self,
        links: &'l Links,
    ) -> impl Iterator<Item = (&'l Link, &'l LinkAddress)> {
        links.iter().flat_map(move |link| {
            let has_own = self.has_own(link);
            let ours = move |known: &&LinkAddress| self.is_ours_if(link, known, || has_own);
            link.addresses
                .iter()
                .filter(ours)
                .map(move |known| (link, known))
        })
    }

    fn is_ours_if(&self, link: &Link, known: &LinkAddress, has_own: impl FnOnce() -> bool) -> bool {
        if known.ours {
            return true;
        }
        // What the owner has without our mark is the host's own, whatever else names it.
        let managed = self
            .get(&link.name, known.address)
            .is_some_and(|claim| claim.managed && !claim.owned);
        managed
            && match known.address.addr() {
                // Neither is the only address of an interface taken: that is the host's own, put into
                // the configuration by mistake, and a fault there.
                IpAddr::V4(_) => has_own(),
                // The kernel makes a link-local address for the interface. If the configuration names
                // that, IPv6 itself would end there.
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            }
    }

    /// Whether an interface has an IPv4 address that is certainly the host's.
    fn has_own(&self, link: &Link) -> bool {
        link.addresses.iter().any(|known| {
            let ip = known.address.addr();
            ip.is_ipv4() && !known.ours && !self.managed.contains(&ip)
        })
    }
}

/// Every address of vipd's that is on an interface and should not be.
#[must_use]
pub fn unwanted(links: &Links, wanted: &Wanted, hold: &BTreeSet<Place>) -> Vec<(u32, Place)> {
    Claims::new(wanted)
        .ours(links)
        .map(|(link, known)| (link.index, (link.name.clone(), known.address)))
        .filter(|(_, place)| !hold.contains(place))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Garp, Scope};
    use crate::net::addresses::RouterAddresses;

    #[test]
    fn an_address_that_nobody_configured_and_nobody_marked_is_left_alone() {
        check(&[("10.0.0.1/24", false)], false, false, &[]);
    }

    #[test]
    fn a_virtual_address_that_is_not_held_goes_marked_or_not() {
        let own = ("10.0.0.1/24", false);
        check(
            &[own, ("10.0.0.9/24", false)],
            false,
            false,
            &["10.0.0.9/24"],
        );
        check(
            &[own, ("10.0.0.9/24", true)],
            false,
            false,
            &["10.0.0.9/24"],
        );
        check(&[own, ("10.0.0.9/24", true)], false, true, &[]);
    }

    #[test]
    fn the_only_address_of_an_interface_stays_unless_it_has_our_mark() {
        check(&[("10.0.0.9/24", false)], false, false, &[]);
        check(&[("10.0.0.9/24", true)], false, false, &["10.0.0.9/24"]);
    }

    #[test]
    fn an_address_with_our_mark_that_is_not_configured_any_more_goes() {
        check(
            &[("10.0.0.8/24", true), ("10.0.0.9/24", true)],
            false,
            true,
            &["10.0.0.8/24"],
        );
    }

    #[test]
    fn the_owners_address_stays_unless_it_has_our_mark() {
        check(&[("10.0.0.9/24", false)], true, false, &[]);
        check(&[("10.0.0.9/24", true)], true, false, &["10.0.0.9/24"]);
    }

    #[test]
    fn the_same_address_with_another_prefix_length_is_another_one() {
        check(&[("10.0.0.9/32", false)], false, false, &[]);
        check(&[("10.0.0.9/32", true)], false, true, &["10.0.0.9/32"]);
    }

    #[test]
    fn a_virtual_ipv6_address_goes_even_if_it_is_the_only_one() {
        let address = "2001:db8::9/64";
        check_of(address, &[(address, false)], false, false, &[address]);
        check_of(address, &[(address, true)], false, false, &[address]);
        check_of(address, &[(address, false)], true, false, &[]);
        check_of(address, &[(address, true)], false, true, &[]);
        check_of(address, &[("2001:db8::9/128", false)], false, false, &[]);
    }

    #[test]
    fn a_link_local_address_without_our_mark_is_the_kernels() {
        let address = "fe80::9/64";
        check_of(address, &[(address, false)], false, false, &[]);
        check_of(address, &[(address, true)], false, false, &[address]);
    }

    /// The one virtual router has 10.0.0.9/24 on eth0.
    fn check(present: &[(&str, bool)], owner: bool, hold: bool, unwanted: &[&str]) {
        check_of("10.0.0.9/24", present, owner, hold, unwanted);
    }

    fn check_of(
        virtual_address: &str,
        present: &[(&str, bool)],
        owner: bool,
        hold: bool,
        unwanted: &[&str],
    ) {
        let virtual_address = virtual_address.parse().unwrap();
        let addresses = present.iter().map(|(address, ours)| LinkAddress {
            address: address.parse().unwrap(),
            ours: *ours,
            ..LinkAddress::default()
        });
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            up: true,
            addresses: addresses.collect(),
        };
        let address = VirtualAddress {
            address: virtual_address,
            interface: "eth0".to_owned(),
            advertise: true,
            label: None,
            scope: Scope::Global,
            prefix_route: true,
        };
        let garp = Garp {
            repeat: 5,
            delay: Duration::ZERO,
            refresh: Duration::ZERO,
        };
        let router = RouterAddresses {
            addresses: vec![address],
            hold,
            owner,
            announce: 0,
            garp,
        };
        let place = ("eth0".to_owned(), virtual_address);
        let held = if hold {
            BTreeSet::from([place])
        } else {
            BTreeSet::new()
        };
        let wanted = Wanted::from([("web".to_owned(), router)]);
        let found = super::unwanted(&[link].into_iter().collect(), &wanted, &held);
        let found: Vec<String> = found.iter().map(|(_, place)| place.1.to_string()).collect();
        assert_eq!(found, unwanted);
    }
}
