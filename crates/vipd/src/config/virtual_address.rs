//! `virtual_addresses`: what a virtual router holds while it is master.

use std::net::IpAddr;

use ::vrrp::{Family, Version};
use ipnet::IpNet;

use super::section::Seen;
use super::value::Value;
use super::virtual_router::Facts;
use super::{Scope, VirtualAddress, text};

/// The count of addresses in an advert is one byte (RFC 3768 §5.3.5).
const ADVERTISED_V4_MAX: usize = 255;
/// An advert is one packet, and Ethernet has 1500 bytes for it.
const MTU: usize = 1500;
const IPV6_HEADER: usize = 40;
const ADVERT_HEADER: usize = 8;
/// What `type = "hmac"` puts behind an advert.
const HMAC_TRAILER: usize = 28;

/// The list as written.
#[derive(Debug)]
pub(super) struct List<'a> {
    value: Value<'a>,
    items: Vec<Option<Written<'a>>>,
}

#[derive(Debug)]
struct Written<'a> {
    value: Value<'a>,
    address: IpNet,
    interface: Option<String>,
    advertise: bool,
    label: Option<(Value<'a>, String)>,
    scope: Scope,
    prefix_route: bool,
}

impl<'a> List<'a> {
    pub(super) fn read(v: &Value<'a>) -> Option<List<'a>> {
        let items = v.list()?;
        Some(List {
            value: v.clone(),
            items: items.iter().map(Written::read).collect(),
        })
    }

    /// The family of the virtual router: that of the first advertised address.
    pub(super) fn family(&self) -> Option<Family> {
        self.advertised()
            .find_map(|item| Some(Family::of(item?.address.addr())))
    }

    /// Every address that could be read.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        let readable = self.items.iter().flatten();
        readable.map(|item| item.address.addr()).collect()
    }

    /// The advertised ones; an unreadable one may be advertised, so that it counts.
    fn advertised(&self) -> impl Iterator<Item = Option<&Written<'a>>> {
        self.items
            .iter()
            .map(Option::as_ref)
            .filter(|item| item.is_none_or(|item| item.advertise))
    }

    /// The addresses, with what the virtual router gives them. With `signed` adverts are longer.
    pub(super) fn resolve(
        self,
        facts: &Facts<'_>,
        signed: bool,
        seen: &mut Seen<(IpAddr, Option<String>)>,
    ) -> Option<Vec<VirtualAddress>> {
        let together = self.go_together(facts) & self.fit(facts, signed);
        let resolved: Vec<_> = self
            .items
            .into_iter()
            .map(|item| item?.resolve(facts, seen))
            .collect();
        let resolved: Option<Vec<_>> = resolved.into_iter().collect();
        resolved.filter(|_| together)
    }

    /// An advert carries one family, and over IPv6 a link-local address first.
    fn go_together(&self, facts: &Facts<'_>) -> bool {
        let Some(family) = facts.family else {
            return true;
        };
        let mut good = true;
        for item in self.advertised().flatten() {
            if Family::of(item.address.addr()) != family {
                item.value.report(
                    format!(
                        "an advert carries one family, and the first address is {}",
                        text::family(family)
                    ),
                    "give it `advertise = false` (on both directors), or a virtual router of its own",
                );
                good = false;
            }
        }
        let Some(Some(first)) = self.advertised().next() else {
            return good;
        };
        if family == Family::V6 && facts.version == Some(Version::V2) {
            first.value.report(
                "version 2 knows only IPv4",
                "add `version = 3` (on both directors)",
            );
            good = false;
        }
        // RFC 9568 §5.2.9.
        if let IpAddr::V6(ip) = first.address.addr()
            && !ip.is_unicast_link_local()
        {
            first.value.report(
                "the first address of an IPv6 router must be link-local (RFC 9568)",
                format!(
                    "add one before it (on both directors), such as \"fe80::{}/64\"",
                    facts.vrid.unwrap_or(51)
                ),
            );
            good = false;
        }
        good
    }

    fn fit(&self, facts: &Facts<'_>, signed: bool) -> bool {
        let max = match facts.family {
            Some(Family::V4) | None => ADVERTISED_V4_MAX,
            Some(Family::V6) => {
                let trailer = if signed { HMAC_TRAILER } else { 0 };
                (MTU - IPV6_HEADER - ADVERT_HEADER - trailer) / 16
            }
        };
        let advertised = self.advertised().count();
        if advertised == 0 {
            self.value.report(
                "a virtual router must advertise at least one address",
                "add one, such as \"192.168.1.10/24\"",
            );
        } else if advertised > max {
            self.value.report(
                format!("{advertised} advertised addresses do not fit in an advert"),
                format!("keep {max}, and give the others `advertise = false` (on both directors)"),
            );
        }
        (1..=max).contains(&advertised)
    }
}

impl<'a> Written<'a> {
    fn read(item: &Value<'a>) -> Option<Written<'a>> {
        if !item.is_section() {
            return Some(Written {
                value: item.clone(),
                address: item.parse(text::virtual_address)?,
                interface: None,
                advertise: true,
                label: None,
                scope: Scope::Global,
                prefix_route: true,
            });
        }
        let mut s = item.section()?;
        let address = s.need("address", "\"192.168.1.10/24\"", |v| {
            Some((v.clone(), v.parse(text::virtual_address)?))
        });
        let v4_only = |v: &Value<'_>| match &address {
            Some((_, IpNet::V6(_))) => {
                v.report("only IPv4 addresses have one", "remove it");
                None
            }
            Some((_, IpNet::V4(_))) | None => Some(()),
        };
        let interface = s.maybe("interface", |v| v.parse(text::interface));
        let advertise = s.or("advertise", true, |v| v.boolean());
        let label = s.maybe("label", |v| {
            let label = v.parse(text::address_label)?;
            v4_only(v)?;
            Some((v.clone(), label))
        });
        let scope = s.or("scope", Scope::Global, |v| {
            let words = [
                ("global", Scope::Global),
                ("link", Scope::Link),
                ("host", Scope::Host),
            ];
            let scope = v.choice(&words, &[])?;
            v4_only(v)?;
            Some(scope)
        });
        let prefix_route = s.or("prefix_route", true, |v| v.boolean());
        s.finish();
        let (value, address) = address?;
        Some(Written {
            value,
            address,
            interface: interface?,
            advertise: advertise?,
            label: label?,
            scope: scope?,
            prefix_route: prefix_route?,
        })
    }

    fn resolve(
        self,
        facts: &Facts<'_>,
        seen: &mut Seen<(IpAddr, Option<String>)>,
    ) -> Option<VirtualAddress> {
        let ip = self.address.addr();
        let interface = match self.interface {
            Some(own) => Some(own),
            None => facts.carrier.map(str::to_owned),
        };
        // Each link has its own fe80::/10.
        let place = match ip {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(interface.clone()?),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        seen.note(
            (ip, place),
            &self.value,
            format_args!("{ip} is already a virtual address"),
            "remove one of the two",
        );
        let interface = interface?;
        let label = match self.label {
            Some((v, label)) if !label.starts_with(&interface) => {
                v.report(
                    format!("{label:?} does not begin with the interface, {interface:?}"),
                    format!("write one such as \"{interface}:vip\""),
                );
                return None;
            }
            Some((_, label)) => Some(label),
            None => None,
        };
        Some(VirtualAddress {
            address: self.address,
            interface,
            advertise: self.advertise,
            label,
            scope: self.scope,
            prefix_route: self.prefix_route,
        })
    }
}
