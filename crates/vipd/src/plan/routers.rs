//! `[[vrrp]]`: virtual routers, and the addresses that move between them.
//!
//! To the network a virtual router is its interface, family and VRID: one that keeps these keeps its
//! role under any name. Here they are matched by name, as whoever wrote the file thinks of them, and
//! then by what the network knows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use vrrp::{
    Authentication, ChecksumForm, Family, Hmac, PRIORITY_OWNER, Parameters, Peer, TakeoverProbe,
    Unicast, Version,
};

use super::Risk;
use super::words::{Notes, Shown};
use crate::config::{
    Config, Garp, Heartbeat, Reachable, Scope, Track, VirtualAddress, VirtualRoute, VirtualRule,
    Vrrp,
};

pub(super) fn compare(notes: &mut Notes, old: &Config, new: &Config) {
    let pairs = pairs(old, new);
    let moves = Moves::between(old, new, &pairs);
    for (before, after) in &pairs {
        notes.about(format!("vrrp {}", after.name));
        if before.name != after.name {
            let change = format!("is called {} now, was {}", after.name, before.name);
            notes.whole(Risk::None, change, Some("it stays what it is"));
        }
        router(notes, before, after, old, new);
        moves.tell(notes, before, after);
    }
    for before in &old.vrrp {
        if !pairs.iter().any(|(paired, _)| paired.name == before.name) {
            notes.about(format!("vrrp {}", before.name));
            let note =
                "gives up its role; addresses that no other virtual router has leave this host";
            notes.whole(Risk::Breaks, "removed", Some(note));
            moves.tell_gone(notes, before);
        }
    }
    for after in &new.vrrp {
        if !pairs.iter().any(|(_, paired)| paired.name == after.name) {
            notes.about(format!("vrrp {}", after.name));
            let Parameters { vrid, priority, .. } = after.parameters;
            let change = format!(
                "added: {} on {}, priority {priority}",
                named(vrid),
                after.interface
            );
            notes.whole(
                Risk::MayMove,
                change,
                Some("begins as backup; addresses that this host holds stay until it is decided"),
            );
            moves.tell_come(notes, after);
        }
    }
}

fn named(vrid: u8) -> String {
    format!("VRID {vrid}")
}

/// What the network knows a virtual router by.
fn identity(vrrp: &Vrrp) -> (&str, Family, u8) {
    let Parameters { family, vrid, .. } = vrrp.parameters;
    (&vrrp.interface, family, vrid)
}

/// Which is which: by name, and of the others by what the network knows.
fn pairs<'a>(old: &'a Config, new: &'a Config) -> Vec<(&'a Vrrp, &'a Vrrp)> {
    let pair = |before: &'a Vrrp| {
        let renamed = || {
            let mut others = new.vrrp.iter();
            others.find(|after| {
                identity(after) == identity(before) && old.vrrp(&after.name).is_none()
            })
        };
        Some((before, new.vrrp(&before.name).or_else(renamed)?))
    };
    old.vrrp.iter().filter_map(pair).collect()
}

fn router(notes: &mut Notes, before: &Vrrp, after: &Vrrp, old: &Config, new: &Config) {
    let Vrrp {
        name: _,
        interface,
        parameters: _,
        accept,
        virtual_mac,
        // `Moves` tells of them.
        addresses: _,
        routes,
        rules,
        garp,
        heartbeats,
        reachable,
        track,
    } = before;
    let leaves = "gives up there and begins as backup here";
    notes.key_with(
        Risk::Breaks,
        "interface",
        interface,
        &after.interface,
        Some(leaves),
    );
    parameters(notes, before, after, old, new);
    notes.key(Risk::None, "accept", accept, &after.accept);
    let mac = "clients learn another Ethernet address; new ones may wait until they have";
    notes.key_with(
        Risk::Breaks,
        "virtual_mac",
        virtual_mac,
        &after.virtual_mac,
        Some(mac),
    );
    notes.list(Risk::None, "virtual_routes", routes, &after.routes);
    notes.list(Risk::None, "virtual_rules", rules, &after.rules);
    garps(notes, garp, &after.garp);
    notes.list(Risk::None, "heartbeat", heartbeats, &after.heartbeats);
    match (reachable, &after.reachable) {
        (None, None) => {}
        (Some(old), Some(new)) => references(notes, old, new),
        (old, new) => notes.key(Risk::MayMove, "reachable", old, new),
    }
    notes.list(Risk::MayMove, "track", track, &after.track);
}

fn parameters(notes: &mut Notes, before: &Vrrp, after: &Vrrp, old: &Config, new: &Config) {
    let Parameters {
        vrid,
        version,
        family,
        priority,
        advert_interval,
        preempt,
        preempt_delay,
        start_delay,
        down_adverts,
        checksum,
        takeover_probe,
        authentication,
        unicast,
        // They follow from `virtual_addresses`, which `Moves` tells of.
        addresses: _,
    } = &before.parameters;
    let now = &after.parameters;
    let known = |config: &Config, vrrp: &Vrrp| {
        let mut routers = config.vrrp.iter();
        routers
            .find(|other| identity(other) == identity(vrrp))
            .map(|known| known.name.clone())
    };
    if vrid != &now.vrid {
        // Whoever has the VRID has the role.
        match known(old, after) {
            Some(other) => {
                let note = format!("takes the role of {other} over, which had it");
                notes.key_with(Risk::MayMove, "vrid", vrid, &now.vrid, Some(&note));
            }
            None => {
                let left = match known(new, before) {
                    Some(heir) => format!("{heir} has the old one"),
                    None => "the peers take the old one over".to_owned(),
                };
                let note = format!("{left}; begins as backup: change it on the peers, too");
                notes.key_with(Risk::Breaks, "vrid", vrid, &now.vrid, Some(&note));
            }
        }
    }
    let both = Some("peers that have another do not hear it");
    let anew = Some("gives up and begins as backup; peers of another version do not hear it");
    notes.key_with(Risk::Breaks, "version", version, &now.version, anew);
    notes.key_with(Risk::Breaks, "family", family, &now.family, anew);
    let note = match (now.priority > *priority, *priority, now.priority) {
        (_, PRIORITY_OWNER, _) | (_, _, PRIORITY_OWNER) => {
            "owner or not: its addresses are the host's own"
        }
        (true, _, _) if now.preempt => "may take over",
        (true, _, _) => "does not take over: preempt is false",
        (false, _, _) => "a peer may take over",
    };
    let risk = Risk::MayMove;
    notes.key_with(risk, "priority", priority, &now.priority, Some(note));
    let pace = match (now.version, version) {
        (Version::V2, _) | (_, Version::V2) => both,
        (Version::V3, Version::V3) => None,
    };
    let interval = (advert_interval, &now.advert_interval);
    notes.key_with(
        Risk::MayMove,
        "advert_interval",
        interval.0,
        interval.1,
        pace,
    );
    notes.key(Risk::MayMove, "preempt", preempt, &now.preempt);
    notes.key(
        Risk::MayMove,
        "preempt_delay",
        preempt_delay,
        &now.preempt_delay,
    );
    let at_start = Some("matters at a start");
    notes.key_with(
        Risk::None,
        "start_delay",
        start_delay,
        &now.start_delay,
        at_start,
    );
    notes.key(Risk::None, "down_adverts", down_adverts, &now.down_adverts);
    let sum = Some("peers that take one form only must take this one");
    notes.key_with(Risk::None, "checksum", checksum, &now.checksum, sum);
    notes.key(
        Risk::None,
        "takeover_probe",
        takeover_probe,
        &now.takeover_probe,
    );
    authentications(notes, authentication, &now.authentication);
    match (unicast, &now.unicast) {
        (Some(old), Some(new)) => unicasts(notes, old, new),
        (old, new) => notes.key_with(Risk::MayMove, "unicast", old, new, both),
    }
}

fn authentications(notes: &mut Notes, old: &Authentication, new: &Authentication) {
    if old == new {
        return;
    }
    let note = Some("peers that have another do not hear it, nor it them");
    let (Authentication::Hmac(old), Authentication::Hmac(new)) = (old, new) else {
        let change = match (old, new) {
            (Authentication::Password(_), Authentication::Password(_)) => {
                "another password".to_owned()
            }
            _ => format!("{} → {}", kind_of(old), kind_of(new)),
        };
        notes.add(Risk::MayMove, "authentication", Vec::new(), change, note);
        return;
    };
    let Hmac {
        key_id,
        keys,
        window,
        permissive,
    } = old;
    notes.key_with(
        Risk::MayMove,
        "authentication.key_id",
        key_id,
        &new.key_id,
        note,
    );
    for (id, key) in keys {
        let change = match new.keys.get(id) {
            Some(other) if other == key => continue,
            Some(_) => "is another",
            None => "is gone",
        };
        let name = format!("authentication key {id}");
        notes.add(Risk::MayMove, &name, Vec::new(), change.to_owned(), note);
    }
    for id in new.keys.keys().filter(|id| !keys.contains_key(id)) {
        let name = format!("authentication key {id}");
        notes.add(Risk::None, &name, Vec::new(), "is new".to_owned(), None);
    }
    notes.key(Risk::None, "authentication.window", window, &new.window);
    let mode = |permissive| if permissive { "permissive" } else { "strict" };
    let (before, after) = (mode(*permissive), mode(new.permissive));
    notes.key(Risk::MayMove, "authentication.mode", before, after);
}

fn kind_of(authentication: &Authentication) -> &'static str {
    match authentication {
        Authentication::None => "none",
        Authentication::Password(_) => "pass",
        Authentication::Hmac(_) => "hmac",
    }
}

fn unicasts(notes: &mut Notes, old: &Unicast, new: &Unicast) {
    let Unicast { source, peers, ttl } = old;
    let note = Some("the peers must know it");
    notes.key_with(Risk::MayMove, "unicast.source", source, &new.source, note);
    notes.list(Risk::MayMove, "unicast.peers", peers, &new.peers);
    notes.key(Risk::None, "unicast.ttl", ttl, &new.ttl);
}

fn garps(notes: &mut Notes, old: &Garp, new: &Garp) {
    let Garp {
        repeat,
        delay,
        refresh,
    } = old;
    notes.key(Risk::None, "garp.repeat", repeat, &new.repeat);
    notes.key(Risk::None, "garp.delay", delay, &new.delay);
    notes.key(Risk::None, "garp.refresh", refresh, &new.refresh);
}

fn references(notes: &mut Notes, old: &Reachable, new: &Reachable) {
    let Reachable {
        any_of,
        interval,
        timeout,
        fall,
    } = old;
    notes.list(Risk::MayMove, "reachable.any_of", any_of, &new.any_of);
    notes.key(Risk::None, "reachable.interval", interval, &new.interval);
    notes.key(Risk::None, "reachable.timeout", timeout, &new.timeout);
    notes.key(Risk::None, "reachable.fall", fall, &new.fall);
}

/// A virtual address, and the virtual router that has it, by its new name.
type Holder<'a> = (&'a str, &'a VirtualAddress);

/// Where every virtual address was and is.
struct Moves<'a> {
    old: BTreeMap<IpAddr, Vec<Holder<'a>>>,
    new: BTreeMap<IpAddr, Vec<Holder<'a>>>,
}

impl<'a> Moves<'a> {
    fn between(old: &'a Config, new: &'a Config, pairs: &[(&'a Vrrp, &'a Vrrp)]) -> Moves<'a> {
        let name_now = |vrrp: &'a Vrrp| {
            let mut known = pairs.iter().filter(|(before, _)| before.name == vrrp.name);
            known.next().map_or(&*vrrp.name, |(_, after)| &*after.name)
        };
        let mut moves = Moves {
            old: BTreeMap::new(),
            new: BTreeMap::new(),
        };
        for vrrp in &old.vrrp {
            for address in &vrrp.addresses {
                let holders = moves.old.entry(address.ip()).or_default();
                holders.push((name_now(vrrp), address));
            }
        }
        for vrrp in &new.vrrp {
            for address in &vrrp.addresses {
                let holders = moves.new.entry(address.ip()).or_default();
                holders.push((&vrrp.name, address));
            }
        }
        moves
    }

    /// What becomes of the addresses of a router that stays.
    fn tell(&self, notes: &mut Notes, before: &Vrrp, after: &Vrrp) {
        let count = notes.count();
        for address in &before.addresses {
            let mine = after
                .addresses
                .iter()
                .find(|other| other.ip() == address.ip());
            match mine {
                Some(mine) => one(notes, address, mine),
                None => self.gone(notes, address),
            }
        }
        for address in &after.addresses {
            if !before
                .addresses
                .iter()
                .any(|known| known.ip() == address.ip())
            {
                self.come(notes, after, address);
            }
        }
        let order = |mine: &'_ Vrrp, other: &Vrrp| -> Vec<IpAddr> {
            let mine = mine.addresses.iter().map(VirtualAddress::ip);
            mine.filter(|ip| other.addresses.iter().any(|known| known.ip() == *ip))
                .collect()
        };
        if notes.count() == count && order(before, after) != order(after, before) {
            let change = "in another order".to_owned();
            notes.add(Risk::None, "virtual_addresses", Vec::new(), change, None);
        }
    }

    fn tell_gone(&self, notes: &mut Notes, before: &Vrrp) {
        for address in &before.addresses {
            self.gone(notes, address);
        }
    }

    fn tell_come(&self, notes: &mut Notes, after: &Vrrp) {
        for address in &after.addresses {
            self.come(notes, after, address);
        }
    }

    /// An address that a router does not have any more. Where another one has it, that one tells.
    fn gone(&self, notes: &mut Notes, address: &VirtualAddress) {
        if !self.has_come(address.ip()) {
            let change = format!("without VIP {}", address.address.shown());
            let note = match self.new.contains_key(&address.ip()) {
                true => "another virtual router has it still",
                false => "it leaves this host",
            };
            notes.whole(Risk::Breaks, change, Some(note));
        }
    }

    /// Whether a virtual router has the address that did not have it before.
    fn has_come(&self, ip: IpAddr) -> bool {
        let before = self.old.get(&ip).map_or(&[][..], Vec::as_slice);
        let mut after = self.new.get(&ip).into_iter().flatten();
        after.any(|(name, _)| !before.iter().any(|(known, _)| known == name))
    }

    /// Who had the address and has it no more.
    fn left(&self, ip: IpAddr) -> Option<Holder<'a>> {
        let after = self.new.get(&ip).map_or(&[][..], Vec::as_slice);
        let mut before = self.old.get(&ip).into_iter().flatten();
        let left = before.find(|(name, _)| !after.iter().any(|(known, _)| known == name));
        left.copied()
    }

    fn come(&self, notes: &mut Notes, after: &Vrrp, address: &VirtualAddress) {
        let ip = address.ip();
        let Some((from, was)) = self.left(ip) else {
            notes.whole(
                Risk::None,
                format!("with VIP {}", address.address.shown()),
                None,
            );
            return;
        };
        let change = format!("moves VIP {ip} from vrrp {from} to {}", after.name);
        let note = if was.interface == address.interface {
            "stays in place where this director is master of both"
        } else {
            "to another interface"
        };
        let risk = if was.interface == address.interface {
            Risk::MayMove
        } else {
            Risk::Breaks
        };
        notes.whole(risk, change, Some(note));
        one(notes, was, address);
    }
}

/// What else becomes of an address.
fn one(notes: &mut Notes, old: &VirtualAddress, new: &VirtualAddress) {
    let VirtualAddress {
        address,
        interface,
        advertise,
        label,
        scope,
        prefix_route,
    } = old;
    let ip = old.ip();
    let again = Some("it is taken off and put on again");
    let key = |what: &str| format!("VIP {ip}: {what}");
    let prefix = (address.prefix_len(), new.address.prefix_len());
    notes.key_with(
        Risk::Breaks,
        &key("prefix length"),
        &prefix.0,
        &prefix.1,
        again,
    );
    notes.key(Risk::Breaks, &key("interface"), interface, &new.interface);
    let peers = Some("peers compare the list in the adverts with theirs");
    notes.key_with(
        Risk::None,
        &key("advertise"),
        advertise,
        &new.advertise,
        peers,
    );
    notes.key_with(Risk::Breaks, &key("label"), label, &new.label, again);
    notes.key_with(Risk::Breaks, &key("scope"), scope, &new.scope, again);
    let route = (prefix_route, &new.prefix_route);
    notes.key_with(Risk::Breaks, &key("prefix_route"), route.0, route.1, again);
}

impl Shown for Version {
    fn shown(&self) -> String {
        self.number().to_string()
    }
}

impl Shown for Family {
    fn shown(&self) -> String {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
        .to_owned()
    }
}

impl Shown for ChecksumForm {
    fn shown(&self) -> String {
        match self {
            ChecksumForm::PseudoHeader => "rfc5798",
            ChecksumForm::MessageOnly => "rfc9568",
        }
        .to_owned()
    }
}

impl Shown for TakeoverProbe {
    fn shown(&self) -> String {
        match self {
            TakeoverProbe::Off => "off",
            TakeoverProbe::Warn => "warn",
            TakeoverProbe::Hold => "hold",
        }
        .to_owned()
    }
}

impl Shown for Scope {
    fn shown(&self) -> String {
        match self {
            Scope::Global => "global",
            Scope::Link => "link",
            Scope::Host => "host",
        }
        .to_owned()
    }
}

impl Shown for Unicast {
    fn shown(&self) -> String {
        let Unicast { source, peers, ttl } = self;
        format!("from {source} to {} (ttl {ttl})", peers.shown())
    }
}

impl Shown for Peer {
    fn shown(&self) -> String {
        let Peer {
            address,
            min_ttl,
            max_ttl,
        } = self;
        match (min_ttl, max_ttl) {
            (255, 255) => address.to_string(),
            (min, max) => format!("{address} (ttl {min} to {max})"),
        }
    }
}

impl Shown for Reachable {
    fn shown(&self) -> String {
        self.any_of.shown()
    }
}

impl Shown for Heartbeat {
    fn shown(&self) -> String {
        match self {
            Heartbeat::Interface(name) => name.clone(),
            Heartbeat::Peer { peer, source: None } => peer.to_string(),
            Heartbeat::Peer {
                peer,
                source: Some(source),
            } => format!("{peer} from {source}"),
        }
    }
}

impl Shown for Track {
    fn shown(&self) -> String {
        let Track { what, weight } = self;
        let count = match what {
            crate::config::Tracked::Process { count, .. } => format!(" (at least {count})"),
            crate::config::Tracked::Interface(_)
            | crate::config::Tracked::Script(_)
            | crate::config::Tracked::File(_)
            | crate::config::Tracked::VirtualServer(_) => String::new(),
        };
        match weight {
            Some(weight) => format!("{what}{count}, weight {weight}"),
            None => format!("{what}{count}"),
        }
    }
}

impl Shown for VirtualRoute {
    fn shown(&self) -> String {
        let VirtualRoute {
            to,
            via,
            interface,
            source,
            table,
            metric,
        } = self;
        let mut text = to.shown();
        let mut word = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(" {name} {value}"));
            }
        };
        word("via", via.map(|via| via.to_string()));
        word("dev", interface.clone());
        word("src", source.map(|source| source.to_string()));
        word("table", Some(table.to_string()));
        word("metric", metric.map(|metric| metric.to_string()));
        text
    }
}

impl Shown for VirtualRule {
    fn shown(&self) -> String {
        let VirtualRule {
            family,
            priority,
            from,
            to,
            fwmark,
            interface,
            table,
        } = self;
        let mut text = format!("{} rule {priority}:", family.shown());
        let mut word = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(" {name} {value}"));
            }
        };
        word("from", from.map(|net: IpNet| net.to_string()));
        word("to", to.map(|net: IpNet| net.to_string()));
        word("fwmark", fwmark.map(|mark| mark.to_string()));
        word("iif", interface.clone());
        word("lookup", Some(table.to_string()));
        text
    }
}
