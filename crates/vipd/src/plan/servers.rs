//! `[[virtual_server]]`: services and their real servers.
//!
//! What is the same change of many real servers is one line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipvs::{
    Destination, DestinationKey, Forwarding, Persistence, SchedulerName, Service, ServiceFlags,
    ServiceKey,
};

use super::Risk;
use super::checks;
use super::words::{Notes, Shown};
use crate::config::{
    Active, Config, MarkRule, Method, MinimumUp, OnFailure, RealServer, Require, SorryServer,
    VirtualServer, When,
};
use crate::director_status::{forwarding_name, method_name, real_server_name};

pub(super) fn compare(notes: &mut Notes, old: &Config, new: &Config) {
    let pairs = pairs(old, new);
    for (before, after) in &pairs {
        notes.about(format!("service {}", after.name));
        if before.name != after.name {
            let change = format!("is called {} now, was {}", after.name, before.name);
            let note = Some("what was ordered of its real servers at run time is forgotten");
            notes.whole(Risk::None, change, note);
        }
        server(notes, before, after);
    }
    for before in &old.virtual_servers {
        if !pairs.iter().any(|(paired, _)| paired.name == before.name) {
            notes.about(format!("service {}", before.name));
            notes.whole(Risk::Breaks, "removed", Some("its connections break"));
        }
    }
    for after in &new.virtual_servers {
        if !pairs.iter().any(|(_, paired)| paired.name == after.name) {
            notes.about(format!("service {}", after.name));
            let count = after.real_servers.len();
            let change = format!("added: {}, real servers: {count}", after.keys.shown());
            notes.whole(Risk::None, change, None);
        }
    }
}

/// Which is which: by name, and of the others by what the kernel knows.
fn pairs<'a>(old: &'a Config, new: &'a Config) -> Vec<(&'a VirtualServer, &'a VirtualServer)> {
    let by_name = |config: &'a Config| -> BTreeMap<&'a str, &'a VirtualServer> {
        let servers = config.virtual_servers.iter();
        servers.map(|server| (&*server.name, server)).collect()
    };
    let (known, now) = (by_name(old), by_name(new));
    let free = new
        .virtual_servers
        .iter()
        .filter(|server| !known.contains_key(&*server.name));
    let free: BTreeMap<ServiceKey, &VirtualServer> = free
        .flat_map(|server| server.keys.iter().map(move |key| (*key, server)))
        .collect();
    let mut taken = BTreeSet::new();
    let mut pair = |before: &'a VirtualServer| {
        if let Some(after) = now.get(&*before.name) {
            return Some((before, *after));
        }
        let after = *before.keys.iter().find_map(|key| free.get(key))?;
        taken.insert(&after.name).then_some((before, after))
    };
    old.virtual_servers.iter().filter_map(&mut pair).collect()
}

fn server(notes: &mut Notes, before: &VirtualServer, after: &VirtualServer) {
    if before == after {
        return;
    }
    let VirtualServer {
        name: _,
        keys,
        service,
        netmask6,
        marks,
        vrrp,
        active,
        when,
        method,
        quorum,
        hysteresis,
        on_failure,
        slow_start,
        minimum_up,
        sorry_server,
        real_servers,
    } = before;
    addresses(notes, keys, &after.keys);
    services(notes, service, &after.service);
    notes.key(
        Risk::None,
        "persistence.netmask6",
        netmask6,
        &after.netmask6,
    );
    notes.list(Risk::Breaks, "mark", marks, &after.marks);
    notes.key(Risk::None, "vrrp", vrrp, &after.vrrp);
    let note = match after.active {
        Active::Always => None,
        Active::Master => Some("a takeover finds the table empty"),
    };
    notes.key_with(Risk::None, "active", active, &after.active, note);
    notes.key(Risk::None, "check policy", when, &after.when);
    let note = Some("connections that are there keep the old one");
    notes.key_with(Risk::Breaks, "forwarding", method, &after.method, note);
    let note = Some("quorum may be gained or lost by it");
    notes.key_with(Risk::None, "quorum", quorum, &after.quorum, note);
    notes.key(Risk::None, "hysteresis", hysteresis, &after.hysteresis);
    notes.key(Risk::None, "on_failure", on_failure, &after.on_failure);
    notes.key(Risk::None, "slow_start", slow_start, &after.slow_start);
    notes.key(Risk::None, "minimum_up", minimum_up, &after.minimum_up);
    sorry(notes, sorry_server.as_ref(), after.sorry_server.as_ref());
    real_server_list(notes, real_servers, &after.real_servers);
}

fn addresses(notes: &mut Notes, old: &[ServiceKey], new: &[ServiceKey]) {
    if let ([old], [new]) = (old, new) {
        let note = Some("connections to the old one break");
        notes.key_with(Risk::Breaks, "address", old, new, note);
        return;
    }
    let count = notes.count();
    for gone in old.iter().filter(|key| !new.contains(key)) {
        let note = Some("its connections break");
        notes.whole(Risk::Breaks, format!("without {}", gone.shown()), note);
    }
    for come in new.iter().filter(|key| !old.contains(key)) {
        notes.whole(Risk::None, format!("with {}", come.shown()), None);
    }
    if notes.count() == count && old != new {
        notes.whole(Risk::None, "its addresses stand in another order", None);
    }
}

fn services(notes: &mut Notes, old: &Service, new: &Service) {
    let Service {
        scheduler,
        flags,
        persistence,
    } = old;
    // net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_edit_service: between the old scheduler and the new one lies a
    // grace period of RCU, in which new connections are answered with "port unreachable".
    let refused = Some("new connections are refused for some milliseconds");
    notes.key_with(
        Risk::Breaks,
        "scheduler",
        scheduler,
        &new.scheduler,
        refused,
    );
    let ServiceFlags {
        one_packet,
        sched1,
        sched2,
        sched3,
    } = flags;
    notes.key(Risk::None, "one_packet", one_packet, &new.flags.one_packet);
    let fallback = (sched1, &new.flags.sched1);
    notes.key(
        Risk::None,
        "scheduler flag fallback",
        fallback.0,
        fallback.1,
    );
    notes.key(Risk::None, "scheduler flag port", sched2, &new.flags.sched2);
    notes.key(Risk::None, "scheduler flag 3", sched3, &new.flags.sched3);
    match (persistence, &new.persistence) {
        (Some(old), Some(new)) => {
            let Persistence {
                timeout,
                prefix_length,
                engine,
            } = old;
            notes.key(Risk::None, "persistence.timeout", timeout, &new.timeout);
            let mask = (prefix_length, &new.prefix_length);
            notes.key(Risk::None, "persistence.netmask", mask.0, mask.1);
            notes.key(Risk::None, "persistence.engine", engine, &new.engine);
        }
        (old, new) => {
            let note = Some("clients may come to another real server");
            notes.key_with(Risk::None, "persistence", old, new, note);
        }
    }
}

fn sorry(notes: &mut Notes, old: Option<&SorryServer>, new: Option<&SorryServer>) {
    let (Some(before), Some(after)) = (old, new) else {
        let name = |sorry: &SorryServer| real_server_name(sorry.key);
        notes.key(Risk::None, "sorry_server", &old.map(name), &new.map(name));
        return;
    };
    let SorryServer {
        key,
        destination,
        masquerade,
    } = before;
    let names = (real_server_name(*key), real_server_name(after.key));
    notes.key(Risk::None, "sorry_server", &names.0, &names.1);
    let method = |sorry: &SorryServer| Method {
        forwarding: sorry.destination.forwarding,
        masquerade: sorry.masquerade,
    };
    notes.key(
        Risk::None,
        "sorry_server forwarding",
        &method(before),
        &method(after),
    );
    if destination != &after.destination || masquerade != &after.masquerade {
        let Destination {
            forwarding: _,
            weight,
            upper_threshold,
            lower_threshold,
        } = destination;
        let now = &after.destination;
        notes.key(Risk::None, "sorry_server weight", weight, &now.weight);
        let upper = (upper_threshold, &now.upper_threshold);
        notes.key(Risk::None, "sorry_server upper_threshold", upper.0, upper.1);
        let lower = (lower_threshold, &now.lower_threshold);
        notes.key(Risk::None, "sorry_server lower_threshold", lower.0, lower.1);
    }
}

/// What the same change of several real servers is told by.
type Same = (Risk, String, String, Option<String>);

fn real_server_list(notes: &mut Notes, old: &[RealServer], new: &[RealServer]) {
    let count = notes.count();
    let known: BTreeMap<_, _> = old.iter().map(|real| (real.key, real)).collect();
    let now: BTreeSet<_> = new.iter().map(|real| real.key).collect();
    // The port is of interest only where it tells one from another.
    let mut ports: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    for real in old.iter().chain(new) {
        let address = real.key.0;
        ports
            .entry(address.ip())
            .or_default()
            .insert(address.port());
    }
    let name = |key: DestinationKey| match ports.get(&key.0.ip()) {
        Some(ports) if ports.len() == 1 => key.0.ip().to_string(),
        Some(_) | None => real_server_name(key),
    };
    let mut changes: Vec<(Same, Vec<String>)> = Vec::new();
    let mut places: BTreeMap<Same, usize> = BTreeMap::new();
    let mut add = |same: Same, name: String| {
        let place = places.get(&same).copied().unwrap_or_else(|| {
            places.insert(same.clone(), changes.len());
            changes.push((same, Vec::new()));
            changes.len() - 1
        });
        if let Some((_, names)) = changes.get_mut(place) {
            names.push(name);
        }
    };
    for gone in old.iter().filter(|real| !now.contains(&real.key)) {
        let note = Some("connections to it break".to_owned());
        let same = (Risk::Breaks, String::new(), "goes".to_owned(), note);
        add(same, name(gone.key));
    }
    for after in new {
        let Some(before) = known.get(&after.key) else {
            let change = format!("comes in, weight {}", after.destination.weight);
            add((Risk::None, String::new(), change, None), name(after.key));
            continue;
        };
        if *before == after {
            continue;
        }
        let mut own = Notes::default();
        real_server(&mut own, before, after);
        for change in own.changes {
            let same = (change.risk, change.key, change.change, change.note);
            add(same, name(after.key));
        }
    }
    for ((risk, key, change, note), names) in changes {
        notes.add(risk, &key, names, change, note.as_deref());
    }
    if notes.count() == count && old != new {
        notes.whole(Risk::None, "its real servers stand in another order", None);
    }
}

fn real_server(notes: &mut Notes, before: &RealServer, after: &RealServer) {
    let RealServer {
        key: _,
        destination,
        masquerade,
        checks,
        require,
    } = before;
    let Destination {
        forwarding,
        weight,
        upper_threshold,
        lower_threshold,
    } = destination;
    let now = &after.destination;
    let note = (now.weight == 0).then_some("no new connections");
    notes.key_with(Risk::None, "weight", weight, &now.weight, note);
    let note = Some("connections that are there keep the old one");
    let method = |forwarding, masquerade| Method {
        forwarding,
        masquerade,
    };
    let methods = (
        method(*forwarding, *masquerade),
        method(now.forwarding, after.masquerade),
    );
    notes.key_with(Risk::Breaks, "forwarding", &methods.0, &methods.1, note);
    let upper = (upper_threshold, &now.upper_threshold);
    notes.key(Risk::None, "upper_threshold", upper.0, upper.1);
    let lower = (lower_threshold, &now.lower_threshold);
    notes.key(Risk::None, "lower_threshold", lower.0, lower.1);
    notes.key(Risk::None, "require", require, &after.require);
    checks::compare(notes, checks, &after.checks);
}

impl Shown for ServiceKey {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for SchedulerName {
    fn shown(&self) -> String {
        match self {
            SchedulerName::Known(scheduler) => scheduler.name().to_owned(),
            SchedulerName::Other(name) => name.clone(),
        }
    }
}

impl Shown for Persistence {
    fn shown(&self) -> String {
        let Persistence {
            timeout,
            prefix_length,
            engine,
        } = self;
        let engine = engine
            .as_ref()
            .map_or(String::new(), |name| format!(", {name}"));
        format!("{}, netmask {prefix_length}{engine}", timeout.shown())
    }
}

impl Shown for MarkRule {
    fn shown(&self) -> String {
        let MarkRule {
            protocol,
            address,
            ports,
        } = self;
        format!("{protocol} {address} {}", ports.shown())
    }
}

impl Shown for Active {
    fn shown(&self) -> String {
        match self {
            Active::Always => "always",
            Active::Master => "master",
        }
        .to_owned()
    }
}

impl Shown for When {
    fn shown(&self) -> String {
        match self {
            When::Always => "always".to_owned(),
            When::Master {
                backup_interval: None,
            } => "master".to_owned(),
            When::Master {
                backup_interval: Some(interval),
            } => format!("master, every {} on a backup", interval.shown()),
        }
    }
}

impl Shown for Method {
    fn shown(&self) -> String {
        match self.forwarding {
            Forwarding::Tunnel(tunnel) => format!("tun ({tunnel})"),
            Forwarding::Nat
            | Forwarding::DirectRouting
            | Forwarding::LocalNode
            | Forwarding::Bypass => method_name(*self).to_owned(),
        }
    }
}

impl Shown for Forwarding {
    fn shown(&self) -> String {
        forwarding_name(*self).to_owned()
    }
}

impl Shown for OnFailure {
    fn shown(&self) -> String {
        match self {
            OnFailure::Remove => "remove",
            OnFailure::ZeroWeight => "zero-weight",
        }
        .to_owned()
    }
}

impl Shown for MinimumUp {
    fn shown(&self) -> String {
        match self {
            MinimumUp::Count(count) => count.to_string(),
            MinimumUp::Percent(percent) => format!("{percent}%"),
        }
    }
}

impl Shown for Require {
    fn shown(&self) -> String {
        match self {
            Require::All => "all",
            Require::Any => "any",
        }
        .to_owned()
    }
}
