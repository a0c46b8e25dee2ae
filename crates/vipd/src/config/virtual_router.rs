//! `[[vrrp]]`: virtual routers.

use std::net::IpAddr;
use std::time::Duration;

use ::vrrp::{Authentication, Family, PRIORITY_OWNER, Parameters, TakeoverProbe, Version};

use super::section::{Section, Seen};
use super::timing::Timing;
use super::track::Known;
use super::value::Value;
use super::virtual_address::List;
use super::virtual_route::Installed;
use super::{Garp, VirtualAddress, Vrrp, authentication, heartbeat, reachable, text, unicast};

/// Reads the virtual routers; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader<'r> {
    /// What their `track` may name.
    trackable: Known<'r>,
    names: Seen<String>,
    vrids: Vrids,
    macvlans: Seen<String>,
    addresses: Seen<(IpAddr, Option<String>)>,
    installed: Installed,
    /// The names of all of them, also of those with problems.
    pub(super) known: Vec<String>,
    /// The names of those that own their addresses (priority 255).
    pub(super) owners: Vec<String>,
}

/// Where which VRID is spoken; IPv4 and IPv6 have a space each.
#[derive(Debug)]
pub(super) struct Vrids(Seen<(String, Family, u8)>);

/// What the parts of a virtual router must know of the whole. `None`: that is wrong, and reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'f> {
    /// The interface of its adverts.
    pub(super) interface: Option<&'f str>,
    /// The interface of its addresses, unless they name their own.
    pub(super) carrier: Option<&'f str>,
    pub(super) vrid: Option<u8>,
    pub(super) family: Option<Family>,
    pub(super) version: Option<Version>,
    pub(super) priority: Option<u8>,
    pub(super) advert_interval: Option<Duration>,
    /// The virtual addresses that could be read.
    pub(super) addresses: &'f [IpAddr],
}

impl<'r> Reader<'r> {
    pub(super) fn new(trackable: Known<'r>) -> Reader<'r> {
        Reader {
            trackable,
            names: Seen::new(),
            vrids: Vrids(Seen::new()),
            macvlans: Seen::new(),
            addresses: Seen::new(),
            installed: Installed::new(),
            known: Vec::new(),
            owners: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, mut s: Section<'_>) -> Option<Vrrp> {
        let name = s.need("name", "\"...\"", |v| self.name(v));
        let interface = s.need("interface", "\"eth0\"", |v| v.parse(text::interface));
        let list = s.need("virtual_addresses", "[\"192.168.1.10/24\"]", List::read);
        let family = list.as_ref().and_then(List::family);
        let timing = Timing::read(&mut s, family);
        if let Some(name) = &name
            && timing.priority == Some(PRIORITY_OWNER)
        {
            self.owners.push(name.clone());
        }
        let vrid = s.need("vrid", "51", |v| {
            let vrid = v.integer(1..=u8::MAX)?;
            self.vrids.note(interface.as_deref(), family, vrid, v);
            Some(vrid)
        });
        let virtual_mac = s.or("virtual_mac", None, |v| {
            self.virtual_mac(v, interface.as_deref(), vrid, family)
        });
        let carrier = match &virtual_mac {
            None => None,
            Some(None) => interface.as_deref(),
            Some(Some(macvlan)) => Some(macvlan.as_str()),
        };
        let ips = list.as_ref().map(List::ips).unwrap_or_default();
        let facts = Facts {
            interface: interface.as_deref(),
            carrier,
            vrid,
            family,
            version: timing.version,
            priority: timing.priority,
            advert_interval: timing.advert_interval,
            addresses: &ips,
        };
        let authentication = s.or("authentication", Authentication::None, |v| {
            authentication::read(v, &facts)
        });
        let signed = matches!(authentication, Some(Authentication::Hmac(_)));
        let addresses = list.and_then(|list| list.resolve(&facts, signed, &mut self.addresses));
        let accept = accept(&mut s, &facts);
        let takeover_probe = s.or("takeover_probe", TakeoverProbe::Hold, |v| {
            v.choice(
                &[
                    ("off", TakeoverProbe::Off),
                    ("warn", TakeoverProbe::Warn),
                    ("hold", TakeoverProbe::Hold),
                ],
                &[],
            )
        });
        let routes = s.or("virtual_routes", Vec::new(), |v| {
            self.installed.routes(v, &facts)
        });
        let rules = s.or("virtual_rules", Vec::new(), |v| {
            self.installed.rules(v, &facts)
        });
        let garp = s.or("garp", Garp::default(), |v| Garp::read(v.section()?));
        let unicast = s.maybe("unicast", |v| unicast::read(v, &facts));
        let peers = unicast.as_ref().and_then(Option::as_ref);
        let heartbeats = s.or("heartbeat", Vec::new(), |v| {
            heartbeat::read(v, &facts, peers, &mut self.vrids)
        });
        let reachable = s.maybe("reachable", |v| reachable::read(v, &facts));
        let track = s.or("track", Vec::new(), |v| self.trackable.read(v, &facts));
        s.finish();

        let addresses = addresses?;
        let parameters = Parameters {
            authentication: authentication?,
            unicast: unicast?,
            takeover_probe: takeover_probe?,
            ..timing.parameters(vrid?, &advertised(&addresses))?
        };
        Some(Vrrp {
            name: name?,
            interface: interface?,
            parameters,
            accept: accept?,
            virtual_mac: virtual_mac?,
            addresses,
            routes: routes?,
            rules: rules?,
            garp: garp?,
            heartbeats: heartbeats?,
            reachable: reachable?,
            track: track?,
        })
    }

    fn name(&mut self, v: &Value<'_>) -> Option<String> {
        let name = v.parse(text::name)?;
        self.known.push(name.clone());
        self.names.note(
            name.clone(),
            v,
            "another virtual router has this name",
            "give each its own",
        );
        Some(name)
    }

    /// The name of the macvlan, if there is to be one.
    fn virtual_mac(
        &mut self,
        v: &Value<'_>,
        interface: Option<&str>,
        vrid: Option<u8>,
        family: Option<Family>,
    ) -> Option<Option<String>> {
        let (place, name) = if v.is_section() {
            let mut s = v.section()?;
            let named = s.need("interface", "\"vrrp.51\"", |v| {
                Some((v.clone(), v.parse(text::interface)?))
            });
            s.finish();
            named?
        } else if v.boolean()? {
            let name = match family? {
                Family::V4 => format!("vrrp.{}", vrid?),
                Family::V6 => format!("vrrp6.{}", vrid?),
            };
            (v.clone(), name)
        } else {
            return Some(None);
        };
        if interface == Some(name.as_str()) {
            place.report(
                format!("{name:?} is the interface of the virtual router itself"),
                "write another name: vipd creates a macvlan of that name on top of it",
            );
            return None;
        }
        self.macvlans.note(
            name.clone(),
            &place,
            format_args!("another virtual router has the macvlan {name:?}"),
            "name one of them: `virtual_mac = { interface = \"...\" }`",
        );
        Some(Some(name))
    }
}

impl Vrids {
    /// Takes note of who speaks where, and reports a second one.
    pub(super) fn note(
        &mut self,
        interface: Option<&str>,
        family: Option<Family>,
        vrid: u8,
        value: &Value<'_>,
    ) {
        let (Some(interface), Some(family)) = (interface, family) else {
            return;
        };
        self.0.note(
            (interface.to_owned(), family, vrid),
            value,
            format_args!("VRID {vrid} is taken on {interface:?}"),
            "give each virtual router of a network its own, from 1 to 255",
        );
    }
}

fn accept(s: &mut Section<'_>, facts: &Facts<'_>) -> Option<bool> {
    s.or("accept", true, |v| {
        let accept = v.boolean()?;
        if !accept && facts.priority == Some(PRIORITY_OWNER) {
            v.report(
                "the address owner (priority 255) always accepts",
                "write accept = true, or a priority from 1 to 254",
            );
            return None;
        }
        Some(accept)
    })
}

fn advertised(addresses: &[VirtualAddress]) -> Vec<IpAddr> {
    addresses
        .iter()
        .filter(|address| address.advertise)
        .map(VirtualAddress::ip)
        .collect()
}
