//! From the save format to a table: what `ipvsadm -R` takes, as far as it says what a table holds.
//!
//! A file is read as a whole. Its commands work on an empty table, one after the other, and every line
//! that ipvsadm or the kernel would refuse is a [`Problem`]; blank lines and lines that begin with `#`
//! are left out. Names of hosts are refused: what one resolves to changes, and a table must not change
//! with it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipvs::{
    Change, Daemon, DaemonRole, Destination, DestinationKey, Family, Forwarding, Persistence,
    Protocol, SchedulerName, Service, ServiceFlags, ServiceKey, Timeouts, Tunnel, TunnelChecksum,
    apply_to,
};

use super::line::{Command, Line};
use super::{Problem, Saved};

/// Of a service for which `-p` names none.
const PERSISTENCE_DEFAULT: u64 = 360;
/// The longest persistence, seconds.
const PERSISTENCE_MAX: u64 = 31 * 24 * 60 * 60;
/// A scheduler's or an engine's name is no longer.
const NAME_MAX: usize = 15;
/// An interface's name is no longer.
const INTERFACE_MAX: usize = 15;

/// Reads a file. `port_of` knows the ports of services by name (`/etc/services`).
///
/// # Errors
///
/// Every line that is wrong.
pub fn parse(
    text: &str,
    port_of: &dyn Fn(&str, Protocol) -> Option<u16>,
) -> Result<Saved, Vec<Problem>> {
    let mut reader = Reader {
        saved: Saved::default(),
        doubtful: BTreeSet::new(),
        port_of,
    };
    let mut problems = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        if let Err(why) = reader.line(text) {
            problems.push(Problem {
                line: number,
                text: text.trim().to_owned(),
                why,
            });
        }
    }
    if problems.is_empty() {
        Ok(reader.saved)
    } else {
        Err(problems)
    }
}

struct Reader<'a> {
    saved: Saved,
    /// Services whose own line is wrong: that they are missing is not told again for each real server.
    doubtful: BTreeSet<ServiceKey>,
    port_of: &'a dyn Fn(&str, Protocol) -> Option<u16>,
}

impl Reader<'_> {
    fn line(&mut self, text: &str) -> Result<(), String> {
        let Some(mut line) = Line::parse(text)? else {
            return Ok(());
        };
        match line.command {
            Command::AddService | Command::EditService => {
                let key = self.service_key(&mut line)?;
                let change = service(&mut line, &key).and_then(|service| {
                    finished(&line)?;
                    Ok(if line.command == Command::EditService {
                        Change::SetService(key, service)
                    } else {
                        Change::AddService(key, service)
                    })
                });
                let done = change.and_then(|change| self.apply(&change));
                if done.is_err() {
                    self.doubtful.insert(key);
                }
                done
            }
            Command::DeleteService => {
                let key = self.service_key(&mut line)?;
                finished(&line)?;
                self.apply(&Change::RemoveService(key))
            }
            Command::Clear => {
                finished(&line)?;
                self.saved.table.clear();
                Ok(())
            }
            Command::AddServer | Command::EditServer => {
                let key = self.service_key(&mut line)?;
                let method = method(&mut line)?;
                let server = self.server(&mut line, &key, method)?;
                let destination = destination(&mut line, method)?;
                finished(&line)?;
                self.apply(&if line.command == Command::EditServer {
                    Change::SetDestination(key, server, destination)
                } else {
                    Change::AddDestination(key, server, destination)
                })
            }
            Command::DeleteServer => {
                let key = self.service_key(&mut line)?;
                let server = self.server(&mut line, &key, Forwarding::Nat)?;
                finished(&line)?;
                self.apply(&Change::RemoveDestination(key, server))
            }
            Command::SetTimeouts => {
                self.saved.timeouts = Some(timeouts(&line)?);
                finished(&line)
            }
            Command::StartDaemon => {
                let daemon = daemon(&mut line)?;
                finished(&line)?;
                if self
                    .saved
                    .daemons
                    .iter()
                    .any(|known| known.role == daemon.role)
                {
                    return Err(format!("there is a {} daemon already", daemon.role));
                }
                self.saved.daemons.push(daemon);
                Ok(())
            }
            Command::StopDaemon => {
                let role = role(line.take("stop-daemon"))?;
                finished(&line)?;
                let before = self.saved.daemons.len();
                self.saved.daemons.retain(|daemon| daemon.role != role);
                if self.saved.daemons.len() == before {
                    return Err(format!("no {role} daemon was started before"));
                }
                Ok(())
            }
        }
    }

    fn apply(&mut self, change: &Change) -> Result<(), String> {
        let (Change::AddService(key, _)
        | Change::SetService(key, _)
        | Change::RemoveService(key)
        | Change::AddDestination(key, ..)
        | Change::SetDestination(key, ..)
        | Change::RemoveDestination(key, ..)) = change;
        match apply_to(&mut self.saved.table, change) {
            Ok(()) => Ok(()),
            Err(_) if self.doubtful.contains(key) => Ok(()),
            Err(why) => Err(format!("{why} in the lines before this one")),
        }
    }

    fn service_key(&self, line: &mut Line) -> Result<ServiceKey, String> {
        let mut found = Vec::new();
        for (option, protocol) in [
            ("tcp-service", Protocol::Tcp),
            ("udp-service", Protocol::Udp),
            ("sctp-service", Protocol::Sctp),
        ] {
            if let Some(value) = line.take(option) {
                let address = self.endpoint(&value, protocol, 0)?;
                found.push(ServiceKey::Address { protocol, address });
            }
        }
        if let Some(mark) = line.take("fwmark-service") {
            let mark = number(&mark, 1..=u32::MAX, "a firewall mark")?;
            let family = if line.flag("ipv6") {
                Family::V6
            } else {
                Family::V4
            };
            found.push(ServiceKey::FirewallMark { family, mark });
        }
        match found.as_slice() {
            [key] => Ok(*key),
            [] => Err("no service is named; -t, -u, --sctp-service or -f does".to_owned()),
            _ => Err("more than one service is named".to_owned()),
        }
    }

    fn server(
        &self,
        line: &mut Line,
        service: &ServiceKey,
        method: Forwarding,
    ) -> Result<DestinationKey, String> {
        let value = line.take("real-server");
        let value = value.ok_or("no real server is named; -r does")?;
        let (protocol, port) = match service {
            ServiceKey::Address { protocol, address } => (*protocol, address.port()),
            ServiceKey::FirewallMark { .. } => (Protocol::Tcp, 0),
        };
        let mut server = self.endpoint(&value, protocol, port)?;
        let port_stays = match method {
            Forwarding::Nat => false,
            Forwarding::DirectRouting
            | Forwarding::Tunnel(_)
            | Forwarding::LocalNode
            | Forwarding::Bypass => true,
        };
        // ipvsadm does the same without a word: only NAT can change a port.
        if port_stays && line.command != Command::DeleteServer && !is_mark(service) {
            server.set_port(port);
        }
        let tunnel = matches!(method, Forwarding::Tunnel(_));
        let same_family = Family::of(server.ip()) == service.family();
        if !same_family && !tunnel && line.command != Command::DeleteServer {
            return Err("only a tunnel (-i) leads to a real server of the other family".to_owned());
        }
        Ok(DestinationKey(server))
    }

    /// `ADDRESS[:PORT]`, an IPv6 address in brackets if it has a port.
    fn endpoint(&self, text: &str, protocol: Protocol, port: u16) -> Result<SocketAddr, String> {
        let (host, named) = if let Some(inner) = text.strip_prefix('[') {
            let (host, rest) = inner.split_once(']').ok_or("a ] is missing")?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(format!("\"{rest}\" follows the address")),
            }
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let address: IpAddr = host.parse().map_err(|_| {
            format!("\"{host}\" is no address; names of hosts are not looked up: `ipvsadm -S -n` saves addresses")
        })?;
        let port = match named {
            None => port,
            Some(named) if named.starts_with(|first: char| first.is_ascii_digit()) => {
                number(named, 0..=u16::MAX, "a port")?
            }
            Some(named) => (self.port_of)(named, protocol)
                .ok_or_else(|| format!("\"{named}\" is no {protocol} service in /etc/services"))?,
        };
        Ok(SocketAddr::new(address, port))
    }
}

fn finished(line: &Line) -> Result<(), String> {
    match line.left_over() {
        None => Ok(()),
        Some(name) => Err(format!("--{name} has no meaning here")),
    }
}

fn is_mark(key: &ServiceKey) -> bool {
    matches!(key, ServiceKey::FirewallMark { .. })
}

fn service(line: &mut Line, key: &ServiceKey) -> Result<Service, String> {
    let scheduler = line.take("scheduler").unwrap_or_else(|| "wlc".to_owned());
    let scheduler = SchedulerName::from(name(&scheduler, "a scheduler")?);
    let mut flags = match line.take("sched-flags") {
        Some(names) => flags(&names, &scheduler)?,
        None => ServiceFlags::default(),
    };
    flags.one_packet = line.flag("ops");
    let of_udp = match key {
        ServiceKey::Address { protocol, .. } => *protocol == Protocol::Udp,
        ServiceKey::FirewallMark { .. } => true,
    };
    if flags.one_packet && !of_udp {
        return Err("one-packet scheduling (-o) is for UDP and marks only".to_owned());
    }
    let persistence = persistence(line, key.family())?;
    let every_port = matches!(key, ServiceKey::Address { address, .. } if address.port() == 0);
    if every_port && persistence.is_none() {
        return Err("port 0, which is every port, needs persistence (-p)".to_owned());
    }
    Ok(Service {
        scheduler,
        flags,
        persistence,
    })
}

/// Scheduler flags from their names, separated by commas.
///
/// # Errors
///
/// A name that the scheduler does not have.
pub fn flags(names: &str, scheduler: &SchedulerName) -> Result<ServiceFlags, String> {
    let mut flags = ServiceFlags::default();
    for name in names.split(',') {
        let of = scheduler.as_str();
        let flag = match name {
            "flag-1" => &mut flags.sched1,
            "flag-2" => &mut flags.sched2,
            "flag-3" => &mut flags.sched3,
            "sh-fallback" if of == "sh" => &mut flags.sched1,
            "mh-fallback" if of == "mh" => &mut flags.sched1,
            "sh-port" if of == "sh" => &mut flags.sched2,
            "mh-port" if of == "mh" => &mut flags.sched2,
            _ => return Err(format!("the scheduler {of} has no flag \"{name}\"")),
        };
        *flag = true;
    }
    Ok(flags)
}

fn persistence(line: &mut Line, family: Family) -> Result<Option<Persistence>, String> {
    let mask = line.take("netmask");
    let engine = line.take("pe");
    let Some(timeout) = line.take("persistent") else {
        return match (mask, engine) {
            (None, None) => Ok(None),
            (Some(_), _) => Err("-M has no meaning without -p".to_owned()),
            (None, Some(_)) => Err("--pe has no meaning without -p".to_owned()),
        };
    };
    let timeout = match timeout.as_str() {
        "" => PERSISTENCE_DEFAULT,
        text => number(
            text,
            1..=PERSISTENCE_MAX,
            "a persistence timeout in seconds",
        )?,
    };
    let prefix_length = match mask {
        None => family.address_bits(),
        Some(mask) => prefix_length(&mask, family)?,
    };
    let engine = match engine {
        None => None,
        Some(engine) => Some(name(&engine, "a persistence engine")?.to_owned()),
    };
    Ok(Some(Persistence {
        timeout: Duration::from_secs(timeout),
        prefix_length,
        engine,
    }))
}

fn prefix_length(mask: &str, family: Family) -> Result<u8, String> {
    match family {
        Family::V6 => number(mask, 1..=128, "a prefix length"),
        Family::V4 => {
            let wrong = || format!("\"{mask}\" is no netmask such as 255.255.255.0");
            let bits = mask.parse::<Ipv4Addr>().map_err(|_| wrong())?.to_bits();
            let length = bits.leading_ones();
            if bits.count_ones() != length {
                return Err(wrong());
            }
            u8::try_from(length).map_err(|_| wrong())
        }
    }
}

/// How packets go on, with the tunnel's options.
fn method(line: &mut Line) -> Result<Forwarding, String> {
    let [direct, tunnel, nat] =
        ["gatewaying", "ipip", "masquerading"].map(|option| line.flag(option));
    match (direct, tunnel, nat) {
        (_, false, false) => Ok(Forwarding::DirectRouting),
        (false, false, true) => Ok(Forwarding::Nat),
        (false, true, false) => self::tunnel(line).map(Forwarding::Tunnel),
        _ => Err("only one of -g, -i and -m can be".to_owned()),
    }
}

fn tunnel(line: &mut Line) -> Result<Tunnel, String> {
    let kind = line.take("tun-type").unwrap_or_else(|| "ipip".to_owned());
    let checksums = [
        ("tun-nocsum", TunnelChecksum::None),
        ("tun-csum", TunnelChecksum::Full),
        ("tun-remcsum", TunnelChecksum::Remote),
    ];
    // Those of another kind of tunnel are left over, and found then.
    let mut checksum = |known: &[TunnelChecksum]| {
        let mut found = Vec::new();
        for (option, checksum) in checksums {
            if known.contains(&checksum) && line.flag(option) {
                found.push(checksum);
            }
        }
        match found.as_slice() {
            [] => Ok(TunnelChecksum::None),
            [checksum] => Ok(*checksum),
            _ => Err("only one checksum of the tunnel can be".to_owned()),
        }
    };
    const NONE: TunnelChecksum = TunnelChecksum::None;
    const FULL: TunnelChecksum = TunnelChecksum::Full;
    match kind.as_str() {
        "ipip" => checksum(&[NONE]).map(|_| Tunnel::Ipip),
        "gre" => checksum(&[NONE, FULL]).map(|checksum| Tunnel::Gre { checksum }),
        "gue" => {
            let checksum = checksum(&[NONE, FULL, TunnelChecksum::Remote])?;
            let port = line.take("tun-port");
            let port = port.ok_or("a gue tunnel needs --tun-port")?;
            let port = number(&port, 1..=u16::MAX, "a port of a tunnel")?;
            Ok(Tunnel::Gue { port, checksum })
        }
        _ => Err(format!("\"{kind}\" is no tunnel; known: ipip, gue, gre")),
    }
}

fn destination(line: &mut Line, forwarding: Forwarding) -> Result<Destination, String> {
    const MAX: u32 = i32::MAX.cast_unsigned();
    let mut limit = |option, default, what| match line.take(option) {
        None => Ok(default),
        Some(value) => number(&value, 0..=MAX, what),
    };
    let destination = Destination {
        forwarding,
        weight: limit("weight", 1, "a weight")?,
        upper_threshold: limit("u-threshold", 0, "an upper threshold")?,
        lower_threshold: limit("l-threshold", 0, "a lower threshold")?,
    };
    if destination.lower_threshold > destination.upper_threshold {
        return Err("the lower threshold (-y) is above the upper one (-x)".to_owned());
    }
    Ok(destination)
}

fn timeouts(line: &Line) -> Result<Timeouts, String> {
    let [tcp, tcp_fin, udp] = line.operands.as_slice() else {
        return Err("--set takes three timeouts in seconds: tcp, tcp fin, udp".to_owned());
    };
    // The kernel counts in ticks of up to 1000 a second.
    let seconds = |text: &str| {
        let seconds = number(
            text,
            0..=i32::MAX.cast_unsigned() / 1000,
            "a timeout in seconds",
        )?;
        Ok::<_, String>(Duration::from_secs(seconds.into()))
    };
    Ok(Timeouts {
        tcp: seconds(tcp)?,
        tcp_fin: seconds(tcp_fin)?,
        udp: seconds(udp)?,
    })
}

fn daemon(line: &mut Line) -> Result<Daemon, String> {
    let role = role(line.take("start-daemon"))?;
    let interface = line.take("mcast-interface");
    let interface = interface.ok_or("a daemon needs --mcast-interface")?;
    if interface.len() > INTERFACE_MAX {
        return Err(format!("\"{interface}\" is too long for an interface"));
    }
    let group = match line.take("mcast-group") {
        None => None,
        Some(text) => {
            let group = text.parse::<IpAddr>().ok().filter(IpAddr::is_multicast);
            Some(group.ok_or_else(|| format!("\"{text}\" is no multicast group"))?)
        }
    };
    Ok(Daemon {
        role,
        interface,
        id: match line.take("syncid") {
            None => 0,
            Some(text) => number(&text, 0..=u8::MAX, "a syncid")?,
        },
        max_length: match line.take("sync-maxlen") {
            None => 0,
            Some(text) => number(&text, 1..=u16::MAX, "a length")?,
        },
        group,
        port: match line.take("mcast-port") {
            None => 0,
            Some(text) => number(&text, 1..=u16::MAX, "a port")?,
        },
        ttl: match line.take("mcast-ttl") {
            None => 0,
            Some(text) => number(&text, 1..=u8::MAX, "a ttl")?,
        },
    })
}

fn role(word: Option<String>) -> Result<DaemonRole, String> {
    match word.as_deref() {
        Some("master") => Ok(DaemonRole::Master),
        Some("backup") => Ok(DaemonRole::Backup),
        _ => Err("a daemon is either master or backup".to_owned()),
    }
}

fn name<'a>(text: &'a str, what: &str) -> Result<&'a str, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(known) {
        return Err(format!("\"{text}\" is no name of {what}"));
    }
    Ok(text)
}

fn number<T>(text: &str, range: RangeInclusive<T>, what: &str) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let number = text
        .parse::<T>()
        .ok()
        .filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("\"{text}\" is not {what} ({least} to {most})")
    })
}
