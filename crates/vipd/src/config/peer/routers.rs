//! Virtual routers and sync groups of two directors.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ::vrrp::{Authentication, PRIORITY_OWNER, Version};

use super::Differences;
use crate::config::locate::Step::{self, Item, Key};
use crate::config::text::{family, shown};
use crate::config::{Config, Vrrp};

pub(super) fn compare(own: &Config, peer: &Config, found: &mut Differences) {
    for (index, router) in own.vrrp.iter().enumerate() {
        let at = vec![Key("vrrp"), Item(index)];
        match counterpart(router, peer) {
            Some((other, theirs)) => {
                let pair = Pair {
                    own: index,
                    peer: other,
                };
                routers(pair, router, theirs, found);
            }
            None => found.add(
                at,
                Vec::new(),
                format!(
                    "the peer has no virtual router {:?}, nor one of VRID {} over {}",
                    router.name,
                    router.parameters.vrid,
                    family(router.parameters.family)
                ),
                "add it there, or nobody takes its addresses over",
            ),
        }
    }
    for (index, router) in peer.vrrp.iter().enumerate() {
        if counterpart(router, own).is_none() {
            found.add(
                Vec::new(),
                vec![Key("vrrp"), Item(index)],
                format!(
                    "only the peer has the virtual router {:?}, VRID {} over {}",
                    router.name,
                    router.parameters.vrid,
                    family(router.parameters.family)
                ),
                "add it here, or nobody takes its addresses over",
            );
        }
    }
    groups(own, peer, found);
}

/// The virtual router of that name, or else that of its VRID and family.
fn counterpart<'c>(router: &Vrrp, of: &'c Config) -> Option<(usize, &'c Vrrp)> {
    let routers = || of.vrrp.iter().enumerate();
    let key = |it: &Vrrp| (it.parameters.family, it.parameters.vrid);
    routers()
        .find(|(_, it)| it.name == router.name)
        .or_else(|| routers().find(|(_, it)| key(it) == key(router)))
}

/// A virtual router's number in both files.
#[derive(Clone, Copy)]
struct Pair {
    own: usize,
    peer: usize,
}

impl Pair {
    /// The place of a key in both files.
    fn at(self, key: &'static str) -> [Vec<Step>; 2] {
        [self.own, self.peer].map(|index| vec![Key("vrrp"), Item(index), Key(key)])
    }
}

fn routers(pair: Pair, own: &Vrrp, peer: &Vrrp, found: &mut Differences) {
    let (mine, theirs) = (&own.parameters, &peer.parameters);
    let mut differ = |key, what: &str, here: &str, there: &str| {
        if here != there {
            let [own, peer] = pair.at(key);
            found.add(
                own,
                peer,
                format!("{what} is {here} here and {there} there"),
                "write the same in both files",
            );
        }
    };
    differ(
        "name",
        "the name",
        &format!("{:?}", own.name),
        &format!("{:?}", peer.name),
    );
    differ(
        "virtual_addresses",
        "the family",
        family(mine.family),
        family(theirs.family),
    );
    differ(
        "vrid",
        "the VRID",
        &mine.vrid.to_string(),
        &theirs.vrid.to_string(),
    );
    let version = |version| match version {
        Version::V2 => "2",
        Version::V3 => "3",
    };
    differ(
        "version",
        "the version",
        version(mine.version),
        version(theirs.version),
    );
    differ(
        "advert_interval",
        "the interval",
        &shown(mine.advert_interval),
        &shown(theirs.advert_interval),
    );
    differ(
        "down_adverts",
        "down_adverts",
        &mine.down_adverts.to_string(),
        &theirs.down_adverts.to_string(),
    );
    let mac = |it: &Vrrp| {
        if it.virtual_mac.is_some() {
            "on"
        } else {
            "off"
        }
    };
    differ("virtual_mac", "the virtual MAC", mac(own), mac(peer));
    differ(
        "authentication",
        "the authentication",
        authentication(&mine.authentication),
        authentication(&theirs.authentication),
    );
    addresses(pair, own, peer, found);
    keys(pair, own, peer, found);
    unicast(pair, own, peer, found);
    if mine.priority == theirs.priority {
        let [here, there] = pair.at("priority");
        let priority = mine.priority;
        if priority == PRIORITY_OWNER {
            found.add(
                here,
                there,
                "both own the addresses (priority 255), and both would be master",
                "write a priority from 1 to 254 in one of the files, or in both",
            );
        } else {
            found.warn(
                here,
                there,
                format!("both have priority {priority}: the higher IP address is master"),
                "write a higher one for the director that should be master, such as 150 and 100",
            );
        }
    }
}

fn authentication(authentication: &Authentication) -> &'static str {
    match authentication {
        Authentication::None => "none",
        Authentication::Password(_) => "of type \"pass\"",
        Authentication::Hmac(_) => "of type \"hmac\"",
    }
}

/// The keys themselves; what they are is never told.
fn keys(pair: Pair, own: &Vrrp, peer: &Vrrp, found: &mut Differences) {
    let [mut here, mut there] = pair.at("authentication");
    let message = match (
        &own.parameters.authentication,
        &peer.parameters.authentication,
    ) {
        (Authentication::Password(a), Authentication::Password(b)) if a != b => {
            "the passwords differ".to_owned()
        }
        (Authentication::Hmac(a), Authentication::Hmac(b)) => {
            let knows = |a: &::vrrp::Hmac, b: &::vrrp::Hmac| {
                b.permissive || a.keys.get(&a.key_id) == b.keys.get(&a.key_id)
            };
            if !knows(a, b) {
                format!(
                    "the peer does not accept the key {}, which signs here",
                    a.key_id
                )
            } else if !knows(b, a) {
                format!(
                    "the key {}, which signs there, is not accepted here",
                    b.key_id
                )
            } else {
                return;
            }
        }
        _ => return,
    };
    for place in [&mut here, &mut there] {
        place.push(Key("key"));
    }
    found.add(
        here,
        there,
        message,
        "write the same key with the same number in both files",
    );
}

fn addresses(pair: Pair, own: &Vrrp, peer: &Vrrp, found: &mut Differences) {
    let set = |router: &Vrrp, advertised: bool| -> BTreeSet<IpAddr> {
        let of_kind = router
            .addresses
            .iter()
            .filter(|it| it.advertise == advertised);
        of_kind.map(|it| it.ip()).collect()
    };
    for (advertised, what) in [
        (true, "advertised address"),
        (false, "address that is not advertised"),
    ] {
        let (here, there) = (set(own, advertised), set(peer, advertised));
        let list = |only: Vec<&IpAddr>| {
            let only: Vec<String> = only.into_iter().map(IpAddr::to_string).collect();
            only.join(", ")
        };
        for (only, whose) in [
            (
                list(here.difference(&there).collect()),
                "only this file has",
            ),
            (
                list(there.difference(&here).collect()),
                "only the peer's file has",
            ),
        ] {
            if !only.is_empty() {
                let [own, peer] = pair.at("virtual_addresses");
                found.add(
                    own,
                    peer,
                    format!("{whose} the {what} {only}"),
                    "write the same addresses in both files, all advertised or none of them",
                );
            }
        }
    }
}

/// What the one sends from, the other must listen to.
fn unicast(pair: Pair, own: &Vrrp, peer: &Vrrp, found: &mut Differences) {
    let [here, there] = pair.at("unicast");
    match (&own.parameters.unicast, &peer.parameters.unicast) {
        (None, None) => {}
        (Some(_), None) => found.add(
            here,
            there,
            "adverts are unicast here and multicast there",
            "add `unicast` there, or remove it here",
        ),
        (None, Some(_)) => found.add(
            here,
            there,
            "adverts are multicast here and unicast there",
            "add `unicast` here, or remove it there",
        ),
        (Some(a), Some(b)) => {
            let at = |mut place: Vec<Step>, key| {
                place.push(Key(key));
                place
            };
            if a.source == b.source {
                found.add(
                    at(here, "source"),
                    at(there, "source"),
                    format!("both send from {}", a.source),
                    "write the address of each director in its own file",
                );
                return;
            }
            if b.peers.iter().all(|peer| peer.address != a.source) {
                found.add(
                    at(here.clone(), "source"),
                    at(there.clone(), "peers"),
                    format!(
                        "the peer does not hear {}, which adverts come from here",
                        a.source
                    ),
                    format!("add \"{}\" to the peers there", a.source),
                );
            }
            if a.peers.iter().all(|peer| peer.address != b.source) {
                found.add(
                    at(here, "peers"),
                    at(there, "source"),
                    format!("{} is not heard, which adverts come from there", b.source),
                    format!("add \"{}\" to the peers here", b.source),
                );
            }
        }
    }
}

fn groups(own: &Config, peer: &Config, found: &mut Differences) {
    for (index, group) in own.sync_groups.iter().enumerate() {
        let mut other = peer.sync_groups.iter().enumerate();
        let at = vec![Key("sync_group"), Item(index)];
        let Some((number, theirs)) = other.find(|(_, it)| it.name == group.name) else {
            found.add(
                at,
                Vec::new(),
                format!("the peer has no sync group {:?}", group.name),
                "add it there, or its members part at the first failure",
            );
            continue;
        };
        let members = |members: &[String]| members.iter().cloned().collect::<BTreeSet<String>>();
        if members(&group.members) != members(&theirs.members) {
            found.add(
                [at, vec![Key("members")]].concat(),
                vec![Key("sync_group"), Item(number), Key("members")],
                "the members differ",
                "write the same members in both files",
            );
        }
    }
    for (index, group) in peer.sync_groups.iter().enumerate() {
        if own.sync_groups.iter().all(|it| it.name != group.name) {
            found.add(
                Vec::new(),
                vec![Key("sync_group"), Item(index)],
                format!("only the peer has the sync group {:?}", group.name),
                "add it here, or its members part at the first failure",
            );
        }
    }
}
