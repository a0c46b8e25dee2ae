//! Virtual routers: who else announces them, and whether the adverts get through.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ::vrrp::{Family, Version};

use super::catalogue as c;
use super::facts::Facts;
use super::facts::wire::Advert;
use super::{Finding, Remedy};
use crate::config::{Config, Vrrp, shown_duration};
use crate::status::VrrpStatus;

/// Adverts of one sender that are no leftover of a handover.
const SEVERAL: u32 = 2;

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for vrrp in &config.vrrp {
        let status = facts.router(&vrrp.name);
        let adverts: Vec<&Advert> = of(vrrp, facts).collect();
        let foreign: Vec<&Advert> = incoming(facts, &adverts).collect();
        found.extend(foreign_vrid(config, facts, vrrp, &foreign));
        found.extend(announced_differently(vrrp, &foreign, status));
        found.extend(two_masters(vrrp, &adverts, &foreign, status));
        found.extend(other_daemons(facts, vrrp));
        found.extend(adverts_lost(facts, vrrp, &adverts));
        found.extend(fault(facts, vrrp, status));
    }
    found
}

/// The adverts with the VRID and the family of a virtual router on its interface.
pub(super) fn of<'f>(vrrp: &'f Vrrp, facts: &'f Facts) -> impl Iterator<Item = &'f Advert> {
    let parameters = &vrrp.parameters;
    facts.wire.adverts.iter().filter(move |advert| {
        let here = advert.interface == vrrp.interface
            || Some(&advert.interface) == vrrp.virtual_mac.as_ref();
        here && advert.vrid == parameters.vrid && Family::of(advert.source) == parameters.family
    })
}

/// Those that others sent.
pub(super) fn incoming<'f>(
    facts: &Facts,
    adverts: &[&'f Advert],
) -> impl Iterator<Item = &'f Advert> {
    let foreign = |advert: &&&Advert| !advert.outgoing && !facts.holds(advert.source);
    let adverts = adverts.iter();
    adverts
        .filter(foreign)
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
}

fn listed(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

pub(super) fn is_of_another_cluster(vrrp: &Vrrp, advert: &Advert) -> bool {
    let own = &vrrp.parameters.addresses;
    !advert.addresses.is_empty() && !advert.addresses.iter().any(|it| own.contains(it))
}

/// What other directors of the same cluster announce for a virtual router.
pub(super) fn announced_lists<'f>(
    vrrp: &'f Vrrp,
    facts: &'f Facts,
) -> impl Iterator<Item = (IpAddr, &'f [IpAddr])> {
    let foreign = of(vrrp, facts).filter(|it| !it.outgoing && !facts.holds(it.source));
    let same = foreign.filter(|it| !it.addresses.is_empty() && !is_of_another_cluster(vrrp, it));
    same.map(|it| (it.source, it.addresses.as_slice()))
}

fn foreign_vrid(
    config: &Config,
    facts: &Facts,
    vrrp: &Vrrp,
    foreign: &[&Advert],
) -> Option<Finding> {
    let advert = foreign
        .iter()
        .find(|advert| is_of_another_cluster(vrrp, advert))?;
    let evidence = vec![format!(
        "{} announces VRID {} on {} for {}; {} has {}",
        advert.source,
        advert.vrid,
        advert.interface,
        listed(&advert.addresses),
        vrrp.name,
        listed(&vrrp.parameters.addresses),
    )];
    let heard = facts.wire.adverts.iter().map(|it| it.vrid);
    let taken: BTreeSet<u8> = heard
        .chain(config.vrrp.iter().map(|it| it.parameters.vrid))
        .collect();
    let free = (1..=255).find(|vrid| !taken.contains(vrid)).unwrap_or(1);
    let remedy = Remedy::words(
        "give one of the two clusters another VRID, on all of its directors",
    )
    .key("vrrp", Some(&vrrp.name), "vrid", free);
    Some(Finding::new(c::FOREIGN_VRID, &vrrp.name, evidence, remedy))
}

fn announced_differently(
    vrrp: &Vrrp,
    foreign: &[&Advert],
    status: Option<&VrrpStatus>,
) -> Option<Finding> {
    let parameters = &vrrp.parameters;
    let own = parameters.version.number();
    let key =
        |remedy: Remedy, key: &str, value: String| remedy.key("vrrp", Some(&vrrp.name), key, value);
    let same = |advert: &&&Advert| !is_of_another_cluster(vrrp, advert);
    let words = Remedy::words("let both directors have the same: here, or on the other one");
    for advert in foreign.iter().filter(same) {
        let source = advert.source;
        if advert.version != own {
            let said = format!(
                "{source} sends version {}, and {} has {own}",
                advert.version, vrrp.name
            );
            let remedy = key(words, "version", advert.version.to_string());
            return Some(Finding::new(
                c::ANNOUNCED_DIFFERENTLY,
                &vrrp.name,
                vec![said],
                remedy,
            ));
        }
        if parameters.version == Version::V2 && advert.interval != parameters.advert_interval {
            let (theirs, ours) = (
                shown_duration(advert.interval),
                shown_duration(parameters.advert_interval),
            );
            let said = format!(
                "{source} sends every {theirs}, and {} every {ours}",
                vrrp.name
            );
            let remedy = key(words, "advert_interval", format!("{theirs:?}"));
            return Some(Finding::new(
                c::ANNOUNCED_DIFFERENTLY,
                &vrrp.name,
                vec![said],
                remedy,
            ));
        }
    }
    let other = status?.incompatible.as_ref()?;
    let said = format!(
        "adverts of {} are discarded since {}: {}",
        other.address,
        other.since,
        crate::status::difference(&other.reason)
    );
    Some(Finding::new(
        c::ANNOUNCED_DIFFERENTLY,
        &vrrp.name,
        vec![said],
        words,
    ))
}

fn two_masters(
    vrrp: &Vrrp,
    adverts: &[&Advert],
    foreign: &[&Advert],
    status: Option<&VrrpStatus>,
) -> Option<Finding> {
    let ours = adverts.iter().filter(|it| it.outgoing && it.priority > 0);
    let ours: u32 = ours.map(|advert| advert.count).sum();
    let mut others: Vec<(IpAddr, u8, u32)> = foreign
        .iter()
        .filter(|it| it.count >= SEVERAL && it.priority > 0 && !is_of_another_cluster(vrrp, it))
        .map(|it| (it.source, it.priority, it.count))
        .collect();
    others.dedup_by_key(|(source, _, _)| *source);
    let rival = status.and_then(|status| status.rival.as_ref());
    let mut evidence = Vec::new();
    if ours >= SEVERAL {
        evidence.push(format!("this director sent {ours} adverts"));
    }
    for (source, priority, count) in &others {
        evidence.push(format!("{source} (priority {priority}) sent {count}"));
    }
    if let (Some(rival), true) = (rival, others.is_empty()) {
        evidence.push(format!(
            "{} (priority {}) is master, too, as vipctl status says",
            rival.address, rival.priority
        ));
    }
    if evidence.len() < 2 {
        return None;
    }
    let loser = others
        .iter()
        .min_by_key(|(_, priority, _)| *priority)
        .map(|(source, _, _)| source.to_string())
        .or_else(|| rival.map(|rival| rival.address.clone()));
    let words = "one of them does not hear the other: take the one with the lower priority out now, then \
                 run doctor there to find what drops the adverts";
    let mut remedy = Remedy::words(words).command("vipctl maintenance on");
    remedy.on = loser;
    Some(Finding::new(c::TWO_MASTERS, &vrrp.name, evidence, remedy))
}

fn other_daemons(facts: &Facts, vrrp: &Vrrp) -> Option<Finding> {
    let vrid = vrrp.parameters.vrid;
    let mut daemons = facts.host.keepalived.iter();
    let daemon = daemons.find(|daemon| daemon.vrids.contains(&vrid))?;
    let evidence = vec![format!(
        "keepalived (process {}) runs with virtual_router_id {vrid} in {}",
        daemon.pid, daemon.config
    )];
    let remedy = Remedy::words(
        "keep one of the two: stop keepalived, and see that it does not start at boot",
    );
    let remedy = if daemon.unit {
        remedy.command("systemctl disable --now keepalived.service")
    } else {
        remedy.command(&format!("kill {}", daemon.pid))
    };
    Some(Finding::new(c::OTHER_DAEMON, &vrrp.name, evidence, remedy))
}

/// Whether the other director says that it is master and hears nobody, while this one sends.
fn adverts_lost(facts: &Facts, vrrp: &Vrrp, adverts: &[&Advert]) -> Option<Finding> {
    let ours: u32 = adverts
        .iter()
        .filter(|it| it.outgoing)
        .map(|advert| advert.count)
        .sum();
    if ours < SEVERAL {
        return None;
    }
    let deaf = |it: &&VrrpStatus| {
        let same = it.vrid == vrrp.parameters.vrid && family(it) == vrrp.parameters.family;
        same && it.state == "master" && it.rival.is_none() && it.incompatible.is_none()
    };
    let (peer, router) = facts
        .peers
        .iter()
        .find_map(|peer| Some((peer, peer.status.vrrp.iter().find(deaf)?)))?;
    let evidence = vec![
        format!(
            "this director sent {ours} adverts in {:?}",
            facts.wire.window
        ),
        format!(
            "{} says that it is master of {} and hears no other",
            peer.address, router.name
        ),
    ];
    let source = adverts.iter().find(|it| it.outgoing).map(|it| it.source);
    let remedy = Remedy::words(
        "let the switch carry 224.0.0.18 (a querier, or no IGMP snooping), and firewalls between the \
         directors protocol 112; or send adverts from host to host, on both directors",
    );
    let remedy = match source {
        Some(source) if vrrp.parameters.unicast.is_none() => remedy.key(
            "vrrp",
            Some(&vrrp.name),
            "unicast",
            format!(
                "{{ source = \"{source}\", peers = [\"{}\"] }}",
                peer.address
            ),
        ),
        Some(_) | None => remedy,
    };
    Some(Finding::new(c::ADVERTS_LOST, &vrrp.name, evidence, remedy))
}

pub(super) fn family(status: &VrrpStatus) -> Family {
    if status.family == "ipv6" {
        Family::V6
    } else {
        Family::V4
    }
}

fn fault(facts: &Facts, vrrp: &Vrrp, status: Option<&VrrpStatus>) -> Option<Finding> {
    let status = status.filter(|status| !status.faults.is_empty())?;
    let interfaces = vrrp.track.iter().filter_map(|track| match &track.what {
        crate::config::Tracked::Interface(name) => Some(name),
        crate::config::Tracked::Script(_)
        | crate::config::Tracked::File(_)
        | crate::config::Tracked::Process { .. }
        | crate::config::Tracked::VirtualServer(_) => None,
    });
    let mut interfaces = interfaces.chain([&vrrp.interface]);
    let down = interfaces.find(|name| facts.links.named(name).is_some_and(|link| !link.up));
    let remedy = match down {
        Some(name) => Remedy::words(format!(
            "switch {name} on; if it stays down, its cable or the port of the switch is to blame"
        ))
        .command(&format!("ip link set {name} up")),
        None => Remedy::words("mend what is named above; the virtual router recovers by itself"),
    };
    Some(Finding::new(
        c::FAULT,
        &vrrp.name,
        status.faults.clone(),
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::facts::host::Keepalived;
    use super::super::testbed::{advert, codes, config, facts, held};
    use super::*;

    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn own() -> Advert {
        Advert {
            outgoing: true,
            ..advert("10.77.0.11", [2, 0, 0, 0, 0, 1])
        }
    }

    #[test]
    fn one_master_is_well_here_and_there() {
        let config = config("");
        let mut facts = held();
        facts.wire.adverts = vec![own()];
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
        let mut facts = self::facts();
        facts.wire.adverts = vec![advert("10.77.0.12", PEER)];
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
    }

    #[test]
    fn two_that_go_on_are_two_masters_and_a_last_advert_is_a_handover() {
        let config = config("");
        let mut facts = held();
        facts.wire.adverts = vec![own(), advert("10.77.0.12", PEER)];
        let found = findings(&config, &facts);
        assert_eq!(codes(&found), ["VIP-VRRP-001"]);
        assert_eq!(found[0].remedy.on.as_deref(), Some("10.77.0.12"));
        facts.wire.adverts[1].count = 1;
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
    }

    #[test]
    fn another_version_or_interval_is_a_difference_and_other_addresses_are_another_cluster() {
        let config = config("");
        let mut facts = facts();
        let third = Advert {
            version: 3,
            ..advert("10.77.0.12", PEER)
        };
        facts.wire.adverts = vec![third];
        let found = findings(&config, &facts);
        assert_eq!(codes(&found), ["VIP-VRRP-002"]);
        let key = found[0].remedy.key.as_ref().unwrap();
        assert_eq!((key.key.as_str(), key.value.as_str()), ("version", "3"));
        let slow = Advert {
            interval: Duration::from_secs(3),
            ..advert("10.77.0.12", PEER)
        };
        facts.wire.adverts = vec![slow];
        let found = findings(&config, &facts);
        assert_eq!(found[0].remedy.key.as_ref().unwrap().value, "\"3s\"");
        let foreign = Advert {
            addresses: vec!["10.77.0.200".parse().unwrap()],
            ..advert("10.77.0.12", PEER)
        };
        facts.wire.adverts = vec![foreign];
        let found = findings(&config, &facts);
        assert_eq!(codes(&found), ["VIP-VRRP-003"]);
        assert_eq!(found[0].remedy.key.as_ref().unwrap().value, "1");
    }

    #[test]
    fn a_keepalived_with_the_same_vrid_is_found_and_one_with_another_is_not() {
        let config = config("");
        let mut facts = facts();
        facts.host.keepalived = vec![Keepalived {
            pid: 7,
            config: "k.conf".to_owned(),
            vrids: BTreeSet::from([51]),
            unit: false,
        }];
        let found = findings(&config, &facts);
        assert_eq!(codes(&found), ["VIP-VRRP-004"]);
        assert_eq!(
            found[0].remedy.command.as_ref().unwrap().join(" "),
            "kill 7"
        );
        facts.host.keepalived[0].vrids = BTreeSet::from([52]);
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
    }
}
