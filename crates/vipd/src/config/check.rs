//! `check` and `checks`: how a real server is found healthy. Here is what all types have; a type's own
//! keys are in the module of its name.

mod agent;
mod dns;
mod grpc;
mod http;
mod pace;
mod ping;
mod script;
mod smtp;
mod tls;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use health::{CheckKind, CheckSpec, Flap, Route, Start};
use ipvs::{DestinationKey, Family, Forwarding};

pub(super) use self::pace::INTERVAL;
use self::pace::Pace;
use super::section::Section;
use super::text;
use super::value::Value;
use super::way::{self, Targets, Ways};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const COUNT: RangeInclusive<u32> = 1..=1000;

const FALL: u32 = 2;
/// One datagram may be lost, and so may the next.
const FALL_OF_DATAGRAMS: u32 = 3;

/// The types, in the order in which they are listed to a user.
const TYPES: [&Type; 11] = [
    &NONE,
    &TCP,
    &http::TYPE,
    &tls::TYPE,
    &smtp::TYPE,
    &grpc::TYPE,
    &dns::TYPE,
    &udp::TYPE,
    &ping::TYPE,
    &script::TYPE,
    &agent::TYPE,
];

const NONE: Type = Type {
    name: "none",
    fall: FALL,
    keys: &[],
    tls: false,
    read: |_| Some(CheckKind::None),
};

const TCP: Type = Type {
    name: "tcp",
    fall: FALL,
    keys: &[],
    tls: false,
    read: |_| Some(CheckKind::Tcp),
};

/// A type of check: the word for it, its default, its own keys, and what makes a check of them.
struct Type {
    name: &'static str,
    /// Failures in a row that take a target out, by default.
    fall: u32,
    keys: &'static [&'static str],
    /// Whether it has the keys of TLS, too.
    tls: bool,
    read: fn(&mut Section<'_>) -> Option<CheckKind>,
}

impl Type {
    fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        let of_tls: &[&str] = if self.tls { &tls::KEYS } else { &[] };
        self.keys.iter().chain(of_tls).copied()
    }

    fn has(&self, key: &str) -> bool {
        self.all_keys().any(|own| own == key)
    }
}

/// A check as written: it may stand for many real servers, and has no target yet.
#[derive(Debug, Clone)]
pub(super) struct Template<'a> {
    written: Value<'a>,
    kind: CheckKind,
    pace: Pace,
    timeout: Duration,
    rise: u32,
    fall: u32,
    start: Start,
    flap: Option<Box<Flap>>,
    address: Option<IpAddr>,
    port: Option<u16>,
    route: Route,
    /// `via = "vip"`
    through: bool,
}

impl<'a> Template<'a> {
    /// Reads `check` or `checks`: `Some(None)` where neither is written.
    pub(super) fn read(s: &mut Section<'a>) -> Option<Option<Vec<Template<'a>>>> {
        let (one, many) = (s.get("check"), s.get("checks"));
        match (one, many) {
            (None, None) => Some(None),
            (Some(one), None) if one.is_list() => {
                one.report(
                    "must be a table, but is a list",
                    "write `checks = [...]` for more than one",
                );
                None
            }
            (Some(one), None) => Some(Some(Template::one(&one)?.into_iter().collect())),
            (one, Some(many)) => {
                let list = many.list()?;
                let read: Vec<_> = list.iter().map(Template::one).collect();
                if let Some(one) = one {
                    Template::one(&one);
                    one.report("`checks` is there too", "put this one into `checks`");
                    return None;
                }
                let read: Option<Vec<_>> = read.into_iter().collect();
                Some(Some(read?.into_iter().flatten().collect()))
            }
        }
    }

    /// One check; `Some(None)` is type `none`, which is no check at all.
    fn one(written: &Value<'a>) -> Option<Option<Template<'a>>> {
        let mut s = written.section()?;
        let kind = s.need("type", "\"tcp\"", |v| {
            if v.text()? == "https" {
                v.report(
                    "\"https\" is not one of the values of this key",
                    "write type = \"http\" with tls = true",
                );
                return None;
            }
            v.choice(&TYPES.map(|kind| (kind.name, kind)), &[])
        });
        let pace = Pace::read(&mut s);
        let timeout = s.or("timeout", Duration::from_secs(3), |v| v.duration(TIMEOUT));
        let rise = s.or("rise", 1, |v| v.integer(COUNT));
        let fall = s.or("fall", kind.map_or(FALL, |kind| kind.fall), |v| {
            v.integer(COUNT)
        });
        let start = s.or("start", Start::Down, |v| {
            v.choice(&[("down", Start::Down), ("up", Start::Up)], &[])
        });
        let flap = s.maybe("flap", pace::flap);
        let address = s.maybe("address", |v| v.parse(text::host_address));
        let port = s.maybe("port", |v| v.integer(1..=u16::MAX));
        let through = s.or("via", false, |v| {
            v.choice(&[("direct", false), ("vip", true)], &[])
        });
        if through == Some(true) {
            s.pointless(
                &["address"],
                "a check with via = \"vip\" goes to the virtual address",
                "remove it, or write via = \"direct\"",
            );
            s.pointless(
                &["interface", "fwmark"],
                "a check with via = \"vip\" goes the way that IPVS sends it, by a mark of vipd's own",
                "remove it, or write via = \"direct\"",
            );
        }
        let route = route(&mut s);
        // Which of the other keys it knows depends on the type.
        let kind = kind?;
        let read = (kind.read)(&mut s);
        of_other_types(&mut s, kind);
        s.finish();
        if through == Some(true)
            && let Some(kind) = &read
        {
            can_go_through(kind, written)?;
        }
        if matches!(read, Some(CheckKind::None)) {
            return Some(None);
        }
        Some(Some(Template {
            written: written.clone(),
            kind: read?,
            pace: pace?,
            timeout: timeout?,
            rise: rise?,
            fall: fall?,
            start: start?,
            flap: flap?,
            address: address?,
            port: port?,
            route: route?,
            through: through?,
        }))
    }

    /// The check of one real server; port 0 of the server is none.
    pub(super) fn spec(&self, server: SocketAddr) -> Option<CheckSpec> {
        let port = if self.kind == CheckKind::Ping {
            // The same for every port of the host: one check.
            0
        } else {
            self.port.unwrap_or(server.port())
        };
        if port == 0 && !matches!(self.kind, CheckKind::Ping | CheckKind::Script(_)) {
            self.written.report(
                "has no port to connect to",
                "add `port = ...` to the check: neither the virtual server nor the real server says one",
            );
            return None;
        }
        let address = self.address.unwrap_or(server.ip());
        self.check_source(address)?;
        Some(self.aimed_at(SocketAddr::new(address, port), self.route.clone()))
    }

    /// Whether it goes the clients' way (`via = "vip"`).
    pub(super) fn goes_through(&self) -> bool {
        self.through
    }

    /// The checks that go the clients' way to one real server: one for each address that they connect
    /// to.
    pub(super) fn specs_through(
        &self,
        targets: &Targets,
        real: DestinationKey,
        forwarding: Forwarding,
        ways: &mut Ways,
    ) -> Option<Vec<CheckSpec>> {
        let targets = targets.of(Family::of(real.0.ip()));
        if targets.is_empty() {
            self.written.report(
                "there is no address to connect to: somebody else sets the firewall mark",
                "write via = \"direct\", or let vipd set the mark with `mark = [...]`",
            );
            return None;
        }
        let specs = targets.into_iter();
        specs
            .map(|target| self.spec_through(target, real, forwarding, ways))
            .collect()
    }

    fn spec_through(
        &self,
        target: SocketAddr,
        real: DestinationKey,
        forwarding: Forwarding,
        ways: &mut Ways,
    ) -> Option<CheckSpec> {
        let port = self.port.unwrap_or(target.port());
        if port == 0 {
            self.written.report(
                "has no port to connect to",
                "add `port = ...` to the check: the virtual server has every port",
            );
            return None;
        }
        if forwarding == Forwarding::Nat && real.0.port() != 0 && port != target.port() {
            self.written.report(
                format!("port {port} would become {}: NAT changes the port of everything that goes to {real}", real.0.port()),
                "remove the check's `port`, or write via = \"direct\"",
            );
            return None;
        }
        let (own, wanted) = (Family::of(real.0.ip()), Family::of(target.ip()));
        if own != wanted && self.route.source.is_none() {
            self.written.report(
                format!(
                    "no own address is known for {}: {real} is of another family",
                    target.ip()
                ),
                "add `source = \"...\"`, an address of this host that is not virtual",
            );
            return None;
        }
        self.check_source(target.ip())?;
        let Some(mark) = ways.mark((wanted, forwarding, real)) else {
            self.written.report(
                "more than a million real servers are checked with via = \"vip\"",
                "write via = \"direct\"",
            );
            return None;
        };
        let route = Route {
            mark: Some(mark),
            through: Some(real.0.ip()),
            ..self.route.clone()
        };
        Some(self.aimed_at(SocketAddr::new(target.ip(), port), route))
    }

    /// `source` has the family of what the check goes to.
    fn check_source(&self, address: IpAddr) -> Option<()> {
        if let Some(source) = self.route.source
            && source.is_ipv4() != address.is_ipv4()
        {
            self.written.report(
                format!("`source` is {source}, but the check goes to {address}"),
                "write a source of the same family, or give this real server a check of its own",
            );
            return None;
        }
        Some(())
    }

    fn aimed_at(&self, target: SocketAddr, route: Route) -> CheckSpec {
        CheckSpec {
            target,
            route,
            kind: self.kind.clone(),
            interval: self.pace.interval,
            fast_interval: self.pace.fast,
            down_interval: self.pace.down,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
            start: self.start,
            flap: self.flap.clone(),
        }
    }
}

/// Whether a check can go through the virtual address, and would find anything there.
fn can_go_through(kind: &CheckKind, written: &Value<'_>) -> Option<()> {
    match kind {
        CheckKind::Ping | CheckKind::Script(_) | CheckKind::Agent(_) => {
            written.report(
                format!(
                    "a check of type {:?} cannot go through the virtual address",
                    kind.name()
                ),
                "write via = \"direct\", or a check of the service itself, such as type = \"tcp\"",
            );
            None
        }
        CheckKind::Udp(udp) if udp.send.is_empty() && udp.expect.is_none() => {
            written.report(
                "silence would pass, also that of a real server without the virtual address",
                "add `send = \"...\"`, to which the real server replies",
            );
            None
        }
        CheckKind::None
        | CheckKind::Tcp
        | CheckKind::Http(_)
        | CheckKind::Tls(_)
        | CheckKind::Smtp(_)
        | CheckKind::Grpc(_)
        | CheckKind::Dns(_)
        | CheckKind::Udp(_) => Some(()),
    }
}

/// How the packets of a check leave this machine.
fn route(s: &mut Section<'_>) -> Option<Route> {
    let source = s.maybe("source", |v| v.parse(text::host_address));
    let interface = s.maybe("interface", |v| v.parse(text::interface));
    let mark = s.maybe("fwmark", way::others_mark);
    Some(Route {
        source: source?,
        interface: interface?,
        mark: mark?,
        through: None,
    })
}

/// Reports the keys that only checks of other types have.
fn of_other_types(s: &mut Section<'_>, kind: &Type) {
    for written in s.unasked() {
        let mut keys = TYPES.iter().flat_map(|other| other.all_keys());
        let Some(key) = keys.find(|key| *key == written) else {
            continue;
        };
        let owners = TYPES.iter().filter(|other| other.has(key));
        let owners = owners.map(|owner| format!("{:?}", owner.name));
        s.pointless(
            &[key],
            &format!("not a key of a check of type {:?}", kind.name),
            &format!(
                "remove it, or write type = {}",
                owners.collect::<Vec<_>>().join(" or ")
            ),
        );
    }
}
