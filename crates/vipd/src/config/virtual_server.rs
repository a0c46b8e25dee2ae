//! `[[virtual_server]]`: IPVS services.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipvs::{
    DestinationKey, Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerName, Service,
    ServiceFlags, ServiceKey, Tunnel,
};

use super::check::Template;
use super::forwarding::{self, Kind};
use super::front::{Front, Taken};
use super::pool_policy::PoolPolicy;
use super::real_server::{self, Address, Defaults, Written};
use super::section::{Section, Seen};
use super::value::Value;
use super::way::Ways;
use super::{Active, Require, VirtualServer, When, text};

/// The upper end is keepalived's; the kernel's own counter of jiffies overflows after 49 days.
const PERSISTENCE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(31 * 86_400);

/// Reads the virtual servers; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader<'r> {
    routers: &'r [String],
    names: Seen<String>,
    taken: Taken,
    ways: Ways,
}

impl<'r> Reader<'r> {
    /// `routers` are the names that the key `vrrp` may give.
    pub(super) fn new(routers: &'r [String]) -> Reader<'r> {
        Reader {
            routers,
            names: Seen::new(),
            taken: Taken::new(),
            ways: Ways::default(),
        }
    }

    pub(super) fn read(&mut self, mut s: Section<'_>) -> Option<VirtualServer> {
        let name = s.need("name", "\"...\"", |v| {
            let name = v.parse(text::name)?;
            self.names.note(
                name.clone(),
                v,
                "another virtual server has this name",
                "give each its own",
            );
            Some(name)
        });
        let front = Front::read(&mut s, &mut self.taken);
        let vrrp = s.maybe("vrrp", |v| v.named(self.routers, "vrrp", "`vrrp`"));
        let active = active(&mut s);
        let when = When::read(&mut s);
        let kind = s.or("forwarding", Kind::DirectRouting, Kind::read);
        let checks = Template::read(&mut s);
        let require = Require::read(&mut s);
        let sorry = s.maybe("sorry_server", Address::read);
        let written: Vec<Written<'_>> = s
            .sections("real_server", "virtual_server.real_server", "address")
            .into_iter()
            .map(Written::read)
            .collect();
        let tunnelled =
            kind.is_none_or(|k| k == Kind::Tunnel) || written.iter().any(Written::tunnelled);
        let tunnel = tunnel(&mut s, tunnelled);

        let families = front.as_ref().map(|front| front.families(&written));
        let service = service(&mut s, front.as_ref(), families.as_ref());
        let pool = PoolPolicy::read(&mut s, written.len());
        s.finish();

        let keys = front
            .as_ref()
            .zip(families.as_ref())
            .and_then(|(front, families)| front.keys(families, &mut self.taken));
        let defaults = Defaults {
            port: front.as_ref().map(Front::port),
            targets: front.as_ref().map(Front::targets),
            families,
            kind,
            tunnel,
            checks: checks.map(Option::unwrap_or_default),
            require: require.map(Option::unwrap_or_default),
        };
        let mut seen = Seen::new();
        let real_servers: Vec<_> = written
            .into_iter()
            .map(|server| server.resolve(&defaults, &mut seen, &mut self.ways))
            .collect();
        let sorry_server = sorry.and_then(|sorry| match sorry {
            None => Some(None),
            Some(sorry) => real_server::sorry_server(&sorry, &defaults, &mut seen).map(Some),
        });
        let (pool, (service, netmask6)) = (pool?, service?);
        Some(VirtualServer {
            name: name?,
            keys: keys?,
            service,
            netmask6,
            marks: front?.into_marks(),
            vrrp: vrrp?,
            active: active?,
            when: when?,
            method: kind?.method(tunnel)?,
            quorum: pool.quorum,
            hysteresis: pool.hysteresis,
            on_failure: pool.on_failure,
            slow_start: pool.slow_start,
            minimum_up: pool.minimum_up,
            sorry_server: sorry_server?,
            real_servers: real_servers.into_iter().collect::<Option<Vec<_>>>()?,
        })
    }
}

fn active(s: &mut Section<'_>) -> Option<Active> {
    let has_router = s.has("vrrp");
    s.or("active", Active::Always, |v| {
        let active = v.choice(
            &[("always", Active::Always), ("master", Active::Master)],
            &[],
        )?;
        if active == Active::Master && !has_router {
            v.report(
                "\"master\" needs to know of which virtual router",
                "add `vrrp = \"...\"`",
            );
            return None;
        }
        Some(active)
    })
}

/// `tunnel`, by default ipip.
fn tunnel(s: &mut Section<'_>, used: bool) -> Option<Tunnel> {
    s.or("tunnel", Tunnel::Ipip, |v| {
        if !used {
            v.report(
                "nothing here is forwarded through a tunnel",
                "remove it, or write forwarding = \"tun\"",
            );
        }
        forwarding::tunnel(v)
    })
}

/// The settings of its services; those for IPv6 have the prefix length of clients' networks beside.
fn service(
    s: &mut Section<'_>,
    front: Option<&Front<'_>>,
    families: Option<&BTreeSet<Family>>,
) -> Option<(Service, u8)> {
    let scheduler = s.or("scheduler", Scheduler::Wlc, |v| {
        let words = Scheduler::ALL.map(|scheduler| (scheduler.name(), scheduler));
        v.choice(&words, &[])
    });
    let flags = scheduler_flags(s, scheduler);
    let protocols = front.map(Front::protocols).unwrap_or_default();
    let persistence = s.maybe("persistence", |v| persistence(v, families, &protocols));
    let one_packet = s.or("one_packet", false, |v| {
        let one_packet = v.boolean()?;
        let streams = !protocols.is_empty() && !protocols.contains(&Protocol::Udp);
        if let Some(protocol) = protocols.first().filter(|_| streams && one_packet) {
            v.report(
                format!("{protocol} has connections, not single packets"),
                "remove it, or write protocol = \"udp\"",
            );
            return None;
        }
        Some(one_packet)
    });
    if let Some(value) = front.and_then(Front::every_port)
        && matches!(persistence, Some(None))
    {
        value.report(
            "port 0, every port, needs persistence",
            "add `persistence = { timeout = \"300s\" }`, or name a port",
        );
        return None;
    }
    let (persistence, netmask6) = match persistence? {
        Some((persistence, netmask6)) => (Some(persistence), netmask6),
        None => (None, Family::V6.address_bits()),
    };
    let service = Service {
        scheduler: SchedulerName::Known(scheduler?),
        flags: ServiceFlags {
            one_packet: one_packet?,
            ..flags?
        },
        persistence,
    };
    Some((service, netmask6))
}

/// Without the key, `sh` and `mh` fall back: otherwise every client of a drained server is refused.
fn scheduler_flags(s: &mut Section<'_>, scheduler: Option<Scheduler>) -> Option<ServiceFlags> {
    let hashing = matches!(scheduler, Some(Scheduler::Sh | Scheduler::Mh));
    let default = ServiceFlags {
        sched1: hashing,
        ..ServiceFlags::default()
    };
    s.or("scheduler_flags", default, |v| {
        let words = [
            ("sh-fallback", Scheduler::Sh, true),
            ("sh-port", Scheduler::Sh, false),
            ("mh-fallback", Scheduler::Mh, true),
            ("mh-port", Scheduler::Mh, false),
        ];
        let choices = words.map(|word| (word.0, word));
        let mut flags = Some(ServiceFlags::default());
        for item in v.list()? {
            let Some((word, of, fallback)) = item.choice(&choices, &[]) else {
                flags = None;
                continue;
            };
            if let Some(scheduler) = scheduler
                && scheduler != of
            {
                item.report(
                    format!(
                        "{word:?} is not a flag of the scheduler {}",
                        scheduler.name()
                    ),
                    format!("remove it, or write scheduler = \"{}\"", of.name()),
                );
                flags = None;
            }
            if let Some(flags) = &mut flags {
                flags.sched1 |= fallback;
                flags.sched2 |= !fallback;
            }
        }
        flags
    })
}

/// Returns the prefix length of IPv6 clients' networks beside.
fn persistence(
    v: &Value<'_>,
    families: Option<&BTreeSet<Family>>,
    protocols: &BTreeSet<Protocol>,
) -> Option<(Persistence, u8)> {
    let mut s = v.section()?;
    let timeout = s.or("timeout", Duration::from_secs(300), |v| {
        let timeout = v.duration(PERSISTENCE_TIMEOUT)?;
        if timeout.subsec_nanos() != 0 {
            v.report("IPVS counts whole seconds", "write it without a fraction");
            return None;
        }
        Some(timeout)
    });
    let only_v6 = families.is_none_or(|families| !families.contains(&Family::V4));
    let both = families.is_some_and(|families| families.len() > 1);
    let bits = if only_v6 { Family::V6 } else { Family::V4 }.address_bits();
    let netmask = s.or("netmask", bits, |v| v.integer(1..=bits));
    let bits6 = Family::V6.address_bits();
    let netmask6 = if both {
        s.or("netmask6", bits6, |v| v.integer(1..=bits6))
    } else {
        s.pointless(
            &["netmask6"],
            "only a virtual server of both families has two netmasks",
            "write `netmask`",
        );
        netmask
    };
    let engine = s.maybe("engine", |v| {
        let engine = v.choice(&[("sip", "sip")], &[])?;
        if protocols.iter().any(|protocol| *protocol != Protocol::Udp) {
            v.report(
                "SIP's Call-ID is looked for in UDP only",
                "remove it, or write protocol = \"udp\"",
            );
            return None;
        }
        Some(engine.to_owned())
    });
    s.finish();
    let persistence = Persistence {
        timeout: timeout?,
        prefix_length: netmask?,
        engine: engine?,
    };
    Some((persistence, netmask6?))
}

impl VirtualServer {
    /// What the kernel finds its first service by.
    #[must_use]
    pub fn first_key(&self) -> Option<ServiceKey> {
        self.keys.first().copied()
    }

    /// The settings of one of its services.
    #[must_use]
    pub fn service_of(&self, key: &ServiceKey) -> Service {
        let mut service = self.service.clone();
        if let Some(persistence) = &mut service.persistence
            && key.family() == Family::V6
        {
            persistence.prefix_length = self.netmask6;
        }
        service
    }

    /// Its real servers and its sorry server: where, how, and whether with full NAT.
    pub fn servers(&self) -> impl Iterator<Item = (DestinationKey, Forwarding, bool)> + '_ {
        let real = self.real_servers.iter();
        let real = real.map(|real| (real.key, real.destination, real.masquerade));
        let sorry = self.sorry_server.iter();
        let sorry = sorry.map(|sorry| (sorry.key, sorry.destination, sorry.masquerade));
        real.chain(sorry)
            .map(|(key, destination, masquerade)| (key, destination.forwarding, masquerade))
    }

    /// Whether a server is reached by full NAT.
    #[must_use]
    pub fn has_full_nat(&self) -> bool {
        self.servers().any(|(_, _, masquerade)| masquerade)
    }

    /// Whether one of its services sends clients to that real server. Each family has its own, and
    /// the tunnel to another family is only for a virtual server that has no clients of that one.
    #[must_use]
    pub fn sends(&self, service: &ServiceKey, to: &DestinationKey) -> bool {
        let family = Family::of(to.0.ip());
        service.family() == family || self.keys.iter().all(|key| key.family() != family)
    }
}
