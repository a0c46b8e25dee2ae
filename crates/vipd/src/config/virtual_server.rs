//! `[[virtual_server]]`: IPVS services.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipvs::{
    Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerName, Service, ServiceFlags,
    ServiceKey,
};

use super::check::Template;
use super::pool_policy::PoolPolicy;
use super::real_server::{self, Address, Defaults, Written};
use super::section::{Section, Seen};
use super::value::Value;
use super::{Active, VirtualServer, text};

/// The upper end is keepalived's; the kernel's own counter of jiffies overflows after 49 days.
const PERSISTENCE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(31 * 86_400);

/// Reads the virtual servers; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader<'r> {
    routers: &'r [String],
    names: Seen<String>,
    keys: Seen<ServiceKey>,
}

/// What the kernel finds a service by, the family of a mark still open.
#[derive(Debug, Clone)]
struct Front<'a> {
    value: Value<'a>,
    kind: FrontKind,
}

#[derive(Debug, Clone, Copy)]
enum FrontKind {
    Address {
        protocol: Option<Protocol>,
        address: SocketAddr,
    },
    Mark(u32),
}

impl<'r> Reader<'r> {
    /// `routers` are the names that the key `vrrp` may give.
    pub(super) fn new(routers: &'r [String]) -> Reader<'r> {
        Reader {
            routers,
            names: Seen::new(),
            keys: Seen::new(),
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
        let front = Front::read(&mut s);
        let vrrp = s.maybe("vrrp", |v| v.named(self.routers, "vrrp", "`vrrp`"));
        let active = active(&mut s);
        let forwarding = s.or(
            "forwarding",
            Forwarding::DirectRouting,
            real_server::forwarding,
        );
        let checks = Template::read(&mut s);
        let sorry = s.maybe("sorry_server", Address::read);
        let written: Vec<Written<'_>> = s
            .sections("real_server", "virtual_server.real_server", "address")
            .into_iter()
            .map(Written::read)
            .collect();
        let tunnelled = forwarding.is_none_or(|f| matches!(f, Forwarding::Tunnel(_)))
            || written.iter().any(Written::tunnelled);
        tunnel(&mut s, tunnelled);

        let family = front.as_ref().map(|front| front.family(&written));
        let service = service(&mut s, front.as_ref(), family);
        let pool = PoolPolicy::read(&mut s, written.len());
        s.refuse(&["addresses", "mark"]);
        s.finish();

        let key = front.as_ref().and_then(|front| {
            let key = front.key(family?)?;
            self.keys.note(
                key,
                &front.value,
                &format!("another virtual server is {key} already"),
                "give each its own address, port or protocol, or put their real servers together",
            );
            Some(key)
        });
        let defaults = Defaults {
            port: front.as_ref().map(Front::port),
            family,
            forwarding,
            checks: checks.map(Option::unwrap_or_default),
        };
        let mut seen = Seen::new();
        let real_servers: Vec<_> = written
            .into_iter()
            .map(|server| server.resolve(&defaults, &mut seen))
            .collect();
        let sorry_server = sorry.and_then(|sorry| match sorry {
            None => Some(None),
            Some(sorry) => real_server::sorry_server(&sorry, &defaults, &mut seen).map(Some),
        });
        let pool = pool?;
        Some(VirtualServer {
            name: name?,
            key: key?,
            service: service?,
            vrrp: vrrp?,
            active: active?,
            forwarding: forwarding?,
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

impl<'a> Front<'a> {
    fn read(s: &mut Section<'a>) -> Option<Front<'a>> {
        let (address, mark) = (s.get("address"), s.get("fwmark"));
        match (address, mark) {
            (Some(value), None) => {
                let protocol = s.or("protocol", Protocol::Tcp, protocol);
                let address = value.parse(text::service_address)?;
                Some(Front {
                    value,
                    kind: FrontKind::Address { protocol, address },
                })
            }
            (None, Some(value)) => {
                s.pointless(
                    &["protocol"],
                    "a firewall mark stands for every protocol",
                    "remove it, and match the protocol where the mark is set",
                );
                let mark = value.integer(1..=u32::MAX)?;
                Some(Front {
                    value,
                    kind: FrontKind::Mark(mark),
                })
            }
            (Some(_), Some(mark)) => {
                s.or("protocol", Protocol::Tcp, protocol);
                mark.report("`address` is there too", "keep one of the two");
                None
            }
            (None, None) => {
                s.or("protocol", Protocol::Tcp, protocol);
                // `addresses` is reported as not supported; that the other two are missing is no news.
                if !s.has("addresses") {
                    s.missing(
                        "address",
                        "add `address = \"192.168.1.10:80\"` or `fwmark = 1`".to_owned(),
                    );
                }
                None
            }
        }
    }

    fn port(&self) -> u16 {
        match self.kind {
            FrontKind::Address { address, .. } => address.port(),
            FrontKind::Mark(_) => 0,
        }
    }

    /// A firewall mark has the family of its first real server.
    fn family(&self, servers: &[Written<'_>]) -> Family {
        match self.kind {
            FrontKind::Address { address, .. } => Family::of(address.ip()),
            FrontKind::Mark(_) => servers
                .iter()
                .find_map(Written::family)
                .unwrap_or(Family::V4),
        }
    }

    fn key(&self, family: Family) -> Option<ServiceKey> {
        Some(match self.kind {
            FrontKind::Address { protocol, address } => ServiceKey::Address {
                protocol: protocol?,
                address,
            },
            FrontKind::Mark(mark) => ServiceKey::FirewallMark { family, mark },
        })
    }
}

fn protocol(v: &Value<'_>) -> Option<Protocol> {
    v.choice(
        &[
            ("tcp", Protocol::Tcp),
            ("udp", Protocol::Udp),
            ("sctp", Protocol::Sctp),
        ],
        &[],
    )
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

/// `tunnel`: its only type so far is what forwarding "tun" is anyway.
fn tunnel(s: &mut Section<'_>, used: bool) {
    let Some(value) = s.get("tunnel") else {
        return;
    };
    if !used {
        value.report(
            "nothing here is forwarded through a tunnel",
            "remove it, or write forwarding = \"tun\"",
        );
    }
    let Some(mut tunnel) = value.section() else {
        return;
    };
    tunnel.or("type", (), |v| v.choice(&[("ipip", ())], &["gue", "gre"]));
    tunnel.refuse(&["port", "checksum"]);
    tunnel.finish();
}

fn service(
    s: &mut Section<'_>,
    front: Option<&Front<'_>>,
    family: Option<Family>,
) -> Option<Service> {
    let scheduler = s.or("scheduler", Scheduler::Wlc, |v| {
        let words = Scheduler::ALL.map(|scheduler| (scheduler.name(), scheduler));
        v.choice(&words, &[])
    });
    let flags = scheduler_flags(s, scheduler);
    let persistence = s.maybe("persistence", |v| persistence(v, family));
    let one_packet = s.or("one_packet", false, |v| {
        let one_packet = v.boolean()?;
        if let Some(FrontKind::Address {
            protocol: Some(protocol @ (Protocol::Tcp | Protocol::Sctp)),
            ..
        }) = front.map(|front| front.kind)
            && one_packet
        {
            v.report(
                format!("{protocol} has connections, not single packets"),
                "remove it, or write protocol = \"udp\"",
            );
            return None;
        }
        Some(one_packet)
    });
    if let Some(front) = front
        && let FrontKind::Address { address, .. } = front.kind
        && address.port() == 0
        && matches!(persistence, Some(None))
    {
        front.value.report(
            "port 0, every port, needs persistence",
            "add `persistence = { timeout = \"300s\" }`, or name a port",
        );
        return None;
    }
    Some(Service {
        scheduler: SchedulerName::Known(scheduler?),
        flags: ServiceFlags {
            one_packet: one_packet?,
            ..flags?
        },
        persistence: persistence?,
    })
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

fn persistence(v: &Value<'_>, family: Option<Family>) -> Option<Persistence> {
    let mut s = v.section()?;
    let timeout = s.or("timeout", Duration::from_secs(300), |v| {
        let timeout = v.duration(PERSISTENCE_TIMEOUT)?;
        if timeout.subsec_nanos() != 0 {
            v.report("IPVS counts whole seconds", "write it without a fraction");
            return None;
        }
        Some(timeout)
    });
    let longest = match family {
        Some(Family::V4) => 32,
        Some(Family::V6) | None => 128,
    };
    let netmask = s.or("netmask", longest, |v| v.integer(1..=longest));
    s.finish();
    Some(Persistence {
        timeout: timeout?,
        prefix_length: netmask?,
        engine: None,
    })
}
