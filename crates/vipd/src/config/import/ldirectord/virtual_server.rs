//! `virtual = ...` and what is indented under it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::document::{Item, Section};
use super::super::name::Names;
use super::super::notes::Notes;
use super::super::server::{Forwarding, Front, Persistence, RealServer, Server};
use super::address::{self, Ports};
use super::check::Checked;
use super::directive::{Block, Directive};
use super::settings::{Settings, no_mail};

/// A range stands for no more real servers.
const RANGE_MAX: u32 = 1024;

/// What a virtual server takes from the rest of the file, and adds to it.
pub(super) struct Around<'a> {
    pub(super) settings: &'a Settings,
    pub(super) ports: &'a Ports,
    pub(super) names: &'a mut Names,
    pub(super) notifies: &'a mut Vec<Section>,
}

/// Tells of a virtual server, before any of them gets a name.
pub(super) fn announce(block: &Block, ports: &Ports, names: &mut Names) {
    if let Some(Front::Addresses { protocol, port, .. }) = front(block, ports)
        && !block.lines.iter().any(|line| line.key == "servicename")
    {
        names.announce(protocol, port);
    }
}

fn front(block: &Block, ports: &Ports) -> Option<Front> {
    let value = block.head.value.as_str();
    if let Ok(mark) = value.parse() {
        return Some(Front::Mark(mark));
    }
    let (ip, port) = address::split(value)?;
    let last = block.lines.iter().rev();
    let written = last.into_iter().find(|line| line.key == "protocol");
    let of_dns = matches!(port, Some("53" | "domain"));
    let protocol = match written.map(|line| line.value.as_str()) {
        Some("udp") => "udp",
        None if of_dns => "udp",
        Some(_) | None => "tcp",
    };
    Some(Front::Addresses {
        protocol,
        addresses: vec![ip],
        port: ports.port(port?, protocol)?,
    })
}

pub(super) fn read(block: &Block, around: &mut Around<'_>, notes: &mut Notes) -> Option<Server> {
    let Some(front) = front(block, around.ports) else {
        let help = "write an address and a port, or a firewall mark; names are not resolved";
        block.head.lost(notes, "names no address and port", help);
        return None;
    };
    let mut own = Settings::default();
    let mut checked = Checked::new(&front);
    let mut reals = Vec::new();
    let mut name = None;
    let mut server = Server {
        name: String::new(),
        front,
        checked_by: None,
        scheduler: "wrr".to_owned(),
        flags: Vec::new(),
        forwarding: Forwarding::new("dr"),
        persistence: None,
        one_packet: false,
        quorum: 1,
        hysteresis: 0,
        zero_weight: false,
        sorry_server: None,
        comment: None,
        real_servers: Vec::new(),
    };
    let mut netmask = None;
    for line in &block.lines {
        match line.key.as_str() {
            "real" | "real6" => reals.push(line),
            "scheduler" => server.scheduler.clone_from(&line.value),
            "schedflags" => flags(line, &mut server, notes),
            "persistent" => {
                let seconds = line.number(notes).unwrap_or(0);
                server.persistence = (seconds > 0).then(|| Persistence {
                    timeout: Duration::from_secs(seconds.into()),
                    netmask: None,
                    sip: false,
                });
            }
            "netmask" => netmask = mask(line, notes),
            "ops" => server.one_packet = line.yes(notes).unwrap_or(false),
            "servicename" => name = Some(line.value.as_str()),
            "comment" => server.comment = Some(line.value.clone()),
            "protocol" if matches!(line.value.as_str(), "tcp" | "udp" | "fwm") => {}
            "cleanstop" => {
                let help = "write on_stop = \"keep\" in [ipvs]: it is for all";
                line.lost(notes, "vipd's on_stop is for all virtual servers", help);
            }
            "monitorfile" => line.idle(notes, "`vipctl check` and the metrics show every check"),
            "smtp" => no_mail(line, notes),
            _ if own.read(line, notes) || checked.read(line, notes) => {}
            _ => line.lost(notes, "not known here", "it is left out of the result"),
        }
    }
    if own.interval.is_some() && own.interval != around.settings.interval {
        let message = "ldirectord takes it with fork=yes only; vipd does";
        block.head.idle(notes, message);
    }
    server.name = match (name, &server.front) {
        (Some(name), _) => around.names.take(name),
        (None, Front::Mark(mark)) => around.names.take(&format!("mark-{mark}")),
        (
            None,
            Front::Addresses {
                protocol,
                addresses,
                port,
            },
        ) => around
            .names
            .of_service(protocol, *addresses.first()?, *port),
    };
    if let (Some(persistence), Some(length)) = (&mut server.persistence, netmask) {
        persistence.netmask = Some(length);
    }
    let settings = own.within(around.settings);
    server.zero_weight = settings.quiescent == Some(true);
    if settings.quiescent.is_none() {
        let message = "without `quiescent` a failed server is removed (its manual says otherwise)";
        block.head.idle(notes, message);
    }
    for line in reals {
        let read = real_servers(line, &server.front, around.ports, notes);
        for (mut real, pair) in read.into_iter().flatten() {
            real.checks =
                checked.of_real(&real, pair.as_ref(), &server.front, &settings, line, notes);
            server.real_servers.push(real);
        }
    }
    checked.report(block, &mut server, notes);
    let mut methods = server.real_servers.iter().map(|real| &real.forwarding);
    if let Some(first) = methods.next().cloned()
        && methods.all(|other| *other == first)
    {
        server.forwarding = first;
    }
    fallback(&mut server, &settings, around, notes);
    Some(server)
}

/// `sh-port,sh-fallback`
fn flags(line: &Directive, server: &mut Server, notes: &mut Notes) {
    for word in line.value.split(',') {
        let known = ["sh-fallback", "sh-port", "mh-fallback", "mh-port"];
        match known.into_iter().find(|known| *known == word) {
            Some(flag) => server.flags.push(flag),
            None => {
                let message = format!("vipd knows no scheduler flag {word:?}");
                line.lost(notes, message, "it is left out of the result");
            }
        }
    }
}

fn mask(line: &Directive, notes: &mut Notes) -> Option<u8> {
    let length = match line.value.parse::<Ipv4Addr>() {
        Ok(mask) => {
            let ones = mask.to_bits().leading_ones();
            let whole = mask.to_bits().count_ones() == ones && ones > 0;
            whole
                .then_some(ones)
                .and_then(|ones| u8::try_from(ones).ok())
        }
        Err(_) => line
            .value
            .parse()
            .ok()
            .filter(|length| (1..=128).contains(length)),
    };
    if length.is_none() {
        let message = format!("{:?} is no netmask", line.value);
        line.lost(notes, message, "it is left out of the result");
    }
    length
}

/// What a real server is asked and must answer.
pub(super) type Pair = (String, String);

/// `IP[->IP][:PORT] gate|masq|ipip [WEIGHT] ["REQUEST", "RECEIVE"] [l:N] [u:N]`
fn real_servers(
    line: &Directive,
    front: &Front,
    ports: &Ports,
    notes: &mut Notes,
) -> Option<Vec<(RealServer, Option<Pair>)>> {
    let wrong = |notes: &mut Notes, what: &str| {
        let help = "the real server is left out of the result; names are not resolved";
        line.lost(notes, what, help);
    };
    let protocol = match front {
        Front::Addresses { protocol, .. } => protocol,
        Front::Mark(_) => "tcp",
    };
    let (target, rest) = line
        .value
        .split_once(char::is_whitespace)
        .unwrap_or((&line.value, ""));
    let (rest, pair) = without_pair(rest);
    let mut words = rest.split_whitespace();
    let forwarding = match words.next() {
        Some("gate") => Forwarding::new("dr"),
        Some("masq") => Forwarding::new("nat"),
        Some("ipip") => Forwarding::new("tun"),
        _ => {
            wrong(notes, "names no way: gate, masq or ipip");
            return None;
        }
    };
    let (mut weight, mut upper, mut lower) = (1, 0, 0);
    for word in words {
        let threshold = |prefix| {
            word.strip_prefix(prefix)
                .and_then(|text: &str| text.parse().ok())
        };
        if let Ok(number) = word.parse() {
            weight = number;
        } else if let Some(number) = threshold("l:") {
            lower = number;
        } else if let Some(number) = threshold("u:") {
            upper = number;
        } else {
            let message = format!("{word:?} is not read here");
            line.lost(notes, message, "it is left out of the result");
        }
    }
    let (first, last) = match target.split_once("->") {
        Some((first, rest)) => (first, Some(rest)),
        None => (target, None),
    };
    let port = front.port();
    let addresses = match last {
        None => ports.endpoint(first, protocol, 0).map(|one| vec![one]),
        Some(last) => ports
            .endpoint(last, protocol, 0)
            .and_then(|last| range(first, last)),
    };
    let Some(addresses) = addresses else {
        wrong(notes, "names no address, or a range of too many");
        return None;
    };
    if lower > 0 && (upper == 0 || lower > upper) {
        line.lost(
            notes,
            "a lower threshold needs an upper one above it",
            "it is left out",
        );
        lower = 0;
    }
    let servers = addresses.into_iter().map(|mut address| {
        if address.port() != port && address.port() != 0 && port != 0 && !forwarding.changes_ports()
        {
            let message = format!("only masq leads to another port: ldirectord takes {port}, too");
            line.idle(notes, message);
            address.set_port(port);
        }
        let real = RealServer {
            address,
            weight,
            upper_threshold: upper,
            lower_threshold: lower,
            forwarding: forwarding.clone(),
            checks: Vec::new(),
        };
        (real, pair.clone())
    });
    Some(servers.collect())
}

/// The words without `"REQUEST", "RECEIVE"`, and those.
fn without_pair(text: &str) -> (String, Option<Pair>) {
    let mut parts = text.splitn(5, '"');
    let whole = || (text.to_owned(), None);
    let (Some(before), Some(request), Some(_), Some(receive), Some(after)) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return whole();
    };
    let pair = (request.to_owned(), receive.to_owned());
    (format!("{before} {after}"), Some(pair))
}

fn range(first: &str, last: SocketAddr) -> Option<Vec<SocketAddr>> {
    let (IpAddr::V4(low), IpAddr::V4(high)) = (first.parse().ok()?, last.ip()) else {
        return None;
    };
    let (low, high) = (low.to_bits(), high.to_bits());
    if high.checked_sub(low)? >= RANGE_MAX {
        return None;
    }
    let addresses = (low..=high).map(Ipv4Addr::from);
    Some(
        addresses
            .map(|ip| SocketAddr::new(IpAddr::V4(ip), last.port()))
            .collect(),
    )
}

fn fallback(server: &mut Server, settings: &Settings, around: &mut Around<'_>, notes: &mut Notes) {
    if let Some(line) = &settings.fallback {
        let (target, way) = line
            .value
            .split_once(char::is_whitespace)
            .unwrap_or((&line.value, ""));
        let kind = match way.trim() {
            "masq" => "nat",
            "ipip" => "tun",
            _ => "dr",
        };
        let protocol = match &server.front {
            Front::Addresses { protocol, .. } => protocol,
            Front::Mark(_) => "tcp",
        };
        match around.ports.endpoint(target, protocol, server.front.port()) {
            // The kernel knows this host, whatever way is written.
            Some(address) => {
                if kind != server.forwarding.kind && !address.ip().is_loopback() {
                    let message =
                        format!("it is reached as the real servers of {:?} are", server.name);
                    line.lost(notes, message, "write the same way for all");
                }
                server.sorry_server = Some(address);
            }
            None => line.lost(notes, "names no address", "names are not resolved"),
        }
    }
    if let Some(line) = &settings.fallback_command {
        let (object, protocol) = match &server.front {
            Front::Addresses {
                protocol,
                addresses,
                port,
            } => {
                let address = addresses
                    .first()
                    .map(|ip| SocketAddr::new(*ip, *port).to_string());
                (address.unwrap_or_default(), *protocol)
            }
            Front::Mark(mark) => (mark.to_string(), "fwm"),
        };
        for (event, word) in [("quorum.lost", "start"), ("quorum.gained", "stop")] {
            let mut section = Section::new("[[notify]]");
            section.set("events", Item::texts([event]));
            section.set("objects", Item::texts([server.name.as_str()]));
            let command = [line.unquoted(), word, &object, protocol];
            section.set("command", Item::texts(command));
            section.set("user", "root");
            around.notifies.push(section);
        }
    }
}
