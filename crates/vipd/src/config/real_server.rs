//! `[[virtual_server.real_server]]` and `sorry_server`: where a virtual server sends its clients.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipvs::{Destination, DestinationKey, Family, Forwarding, Tunnel};

use super::check::Template;
use super::forwarding::{self, Kind};
use super::section::{Section, Seen};
use super::value::Value;
use super::way::{Targets, Ways};
use super::{Method, RealServer, Require, SorryServer, text};

/// The kernel refuses a weight that is negative as an `int`.
const WEIGHT_MAX: u32 = i32::MAX.unsigned_abs();

/// What a virtual server gives its real servers. `None`: it is wrong there, and reported.
#[derive(Debug)]
pub(super) struct Defaults<'a> {
    /// The virtual server's port; 0: it has none (every port, or a firewall mark).
    pub(super) port: Option<u16>,
    /// What its clients connect to.
    pub(super) targets: Option<Targets>,
    pub(super) families: Option<BTreeSet<Family>>,
    pub(super) kind: Option<Kind>,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) checks: Option<Vec<Template<'a>>>,
    pub(super) require: Option<Require>,
}

/// A real server as written.
#[derive(Debug)]
pub(super) struct Written<'a> {
    address: Option<Address<'a>>,
    weight: Option<u32>,
    thresholds: Option<(u32, u32)>,
    kind: Option<Option<Kind>>,
    tunnel: Option<Option<(Value<'a>, Tunnel)>>,
    checks: Option<Option<Vec<Template<'a>>>>,
    require: Option<Option<Require>>,
}

/// An address as written, its port still open.
#[derive(Debug)]
pub(super) struct Address<'a> {
    value: Value<'a>,
    ip: IpAddr,
    port: Option<u16>,
}

/// `sorry_server`, forwarded as the virtual server says.
pub(super) fn sorry_server(
    address: &Address<'_>,
    defaults: &Defaults<'_>,
    seen: &mut Seen<DestinationKey>,
) -> Option<SorryServer> {
    let method = defaults.kind?.method(defaults.tunnel)?;
    if let Some(families) = &defaults.families
        && families.len() > 1
    {
        address.value.report(
            "clients of the other family could not reach it",
            "make a virtual server of each family, with a sorry_server of that family",
        );
        return None;
    }
    Some(SorryServer {
        key: address.key(method.forwarding, defaults, seen)?,
        masquerade: method.masquerade,
        destination: Destination {
            forwarding: method.forwarding,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        },
    })
}

impl<'a> Written<'a> {
    pub(super) fn read(mut s: Section<'a>) -> Written<'a> {
        let address = s.need("address", "\"10.0.0.21\"", Address::read);
        let weight = s.or("weight", 1, |v| v.integer(0..=WEIGHT_MAX));
        let upper = s.or("upper_threshold", 0, |v| v.integer(0..=u32::MAX));
        let lower = s.or("lower_threshold", 0, |v| {
            let lower = v.integer(0..=u32::MAX)?;
            match upper {
                Some(0) if lower > 0 => {
                    v.report(
                        "a lower threshold needs an upper one",
                        "add upper_threshold, or remove lower_threshold",
                    );
                    None
                }
                Some(upper) if lower > upper => {
                    v.report(
                        format!("is above upper_threshold, {upper}"),
                        format!("write 0 to {upper}"),
                    );
                    None
                }
                Some(_) | None => Some(lower),
            }
        });
        let kind = s.maybe("forwarding", Kind::read);
        let tunnel = s.maybe("tunnel", |v| Some((v.clone(), forwarding::tunnel(v)?)));
        let checks = Template::read(&mut s);
        let require = Require::read(&mut s);
        s.finish();
        Written {
            address,
            weight,
            thresholds: upper.zip(lower),
            kind,
            tunnel,
            checks,
            require,
        }
    }

    /// The family of its address.
    pub(super) fn family(&self) -> Option<Family> {
        self.address.as_ref().map(Address::family)
    }

    /// Whether it says itself that it is reached through a tunnel.
    pub(super) fn tunnelled(&self) -> bool {
        matches!(self.kind, Some(Some(Kind::Tunnel)))
    }

    /// The real server, with what the virtual server says where it says nothing itself.
    pub(super) fn resolve(
        self,
        defaults: &Defaults<'a>,
        seen: &mut Seen<DestinationKey>,
        ways: &mut Ways,
    ) -> Option<RealServer> {
        let method = self.method(defaults);
        let checks = self
            .checks
            .and_then(|own| own.or_else(|| defaults.checks.clone()));
        let require = self.require.and_then(|own| own.or(defaults.require));
        let address = self.address?;
        let Method {
            forwarding,
            masquerade,
        } = method?;
        let key = address.key(forwarding, defaults, seen)?;
        let checks = checks?;
        let checks = checks.iter().map(|check| {
            if check.goes_through() {
                let targets = defaults.targets.as_ref()?;
                check.specs_through(targets, key, forwarding, ways)
            } else {
                check.spec(key.0).map(|spec| vec![spec])
            }
        });
        // Collected twice, so that a bad check does not hide the next.
        let checks: Vec<Option<Vec<_>>> = checks.collect();
        let checks: Option<Vec<Vec<_>>> = checks.into_iter().collect();
        let (upper_threshold, lower_threshold) = self.thresholds?;
        Some(RealServer {
            key,
            masquerade,
            destination: Destination {
                forwarding,
                weight: self.weight?,
                upper_threshold,
                lower_threshold,
            },
            checks: checks?.concat(),
            require: require?,
        })
    }
}

impl Written<'_> {
    fn method(&self, defaults: &Defaults<'_>) -> Option<Method> {
        let kind = self.kind.and_then(|own| own.or(defaults.kind))?;
        let tunnel = match self.tunnel.as_ref()? {
            Some((value, _)) if kind != Kind::Tunnel => {
                value.report(
                    "this real server is not reached through a tunnel",
                    "remove it, or write forwarding = \"tun\"",
                );
                return None;
            }
            Some((_, tunnel)) => Some(*tunnel),
            None => defaults.tunnel,
        };
        kind.method(tunnel)
    }
}

impl<'a> Address<'a> {
    pub(super) fn read(v: &Value<'a>) -> Option<Address<'a>> {
        let (ip, port) = v.parse(text::server_address)?;
        Some(Address {
            value: v.clone(),
            ip,
            port,
        })
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.ip)
    }

    fn key(
        &self,
        forwarding: Forwarding,
        defaults: &Defaults<'_>,
        seen: &mut Seen<DestinationKey>,
    ) -> Option<DestinationKey> {
        let family = self.check_family(forwarding, defaults);
        let port = self.resolve_port(forwarding, defaults.port?);
        let key = DestinationKey(SocketAddr::new(self.ip, port?));
        family?;
        seen.note(
            key,
            &self.value,
            format_args!("{key} is already a server of this virtual server"),
            "remove one of the two, and raise the weight of the other",
        );
        Some(key)
    }

    /// The kernel encapsulates one family in the other, but does not translate between them.
    fn check_family(&self, forwarding: Forwarding, defaults: &Defaults<'_>) -> Option<()> {
        let families = defaults.families.as_ref()?;
        if families.contains(&self.family()) || matches!(forwarding, Forwarding::Tunnel(_)) {
            return Some(());
        }
        let (own, wanted) = match self.family() {
            Family::V4 => ("IPv4", "IPv6"),
            Family::V6 => ("IPv6", "IPv4"),
        };
        self.value.report(
            format!("is {own}, but the virtual server is {wanted}"),
            format!("write an {wanted} address, or forwarding = \"tun\""),
        );
        None
    }

    fn resolve_port(&self, forwarding: Forwarding, service: u16) -> Option<u16> {
        let port = self.port.unwrap_or(service);
        match forwarding {
            Forwarding::Nat | Forwarding::LocalNode | Forwarding::Bypass => {
                if port == 0 && service != 0 {
                    self.value.report(
                        "port 0 is no port",
                        format!("leave it out for port {service}, the virtual server's"),
                    );
                    return None;
                }
                Some(port)
            }
            // The kernel takes another port and then ignores it: packets keep theirs.
            Forwarding::DirectRouting | Forwarding::Tunnel(_) => {
                if port == service {
                    return Some(port);
                }
                let why = if service == 0 {
                    format!("port {port} has no effect: packets keep the port they came to")
                } else {
                    format!(
                        "port {port} is not the virtual server's, {service}, and only NAT changes ports"
                    )
                };
                self.value.report(
                    why,
                    "leave the port out (a check has its own `port`), or write forwarding = \"nat\"",
                );
                None
            }
        }
    }
}
