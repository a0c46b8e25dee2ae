//! The other directors, as far as they tell: whether they are configured alike, and their clocks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ::vrrp::{Authentication, Family};

use super::catalogue as c;
use super::facts::Facts;
use super::facts::peers::Peer;
use super::vrrp::{announced_lists, family};
use super::{Finding, Remedy};
use crate::config::Config;
use crate::status::{Status, VirtualServerStatus};

/// Clocks farther apart than that, in seconds, are not kept by anybody.
const APART: i64 = 2;

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for peer in &facts.peers {
        if let Some(status) = &facts.status {
            found.extend(differs(config, status, peer));
        }
    }
    found.extend(lists(config, facts, &found));
    found.extend(clocks(config, facts));
    found
}

/// Lists of addresses, by the adverts alone: of directors that say no more of themselves.
fn lists(config: &Config, facts: &Facts, told: &[Finding]) -> Vec<Finding> {
    let text = |list: &BTreeSet<IpAddr>| {
        let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let mut found: Vec<Finding> = Vec::new();
    for vrrp in &config.vrrp {
        let ours: BTreeSet<IpAddr> = vrrp.parameters.addresses.iter().copied().collect();
        for (source, list) in announced_lists(vrrp, facts) {
            let theirs: BTreeSet<IpAddr> = list.iter().copied().collect();
            let object = source.to_string();
            let known = told.iter().chain(&found).any(|it| it.object == object);
            if theirs == ours || known {
                continue;
            }
            let evidence = vec![format!(
                "it announces {} for VRID {}, and {} has {}",
                text(&theirs),
                vrrp.parameters.vrid,
                vrrp.name,
                text(&ours)
            )];
            let remedy = Remedy::words("let virtual_addresses be the same on both");
            found.push(Finding::new(c::PEER_DIFFERS, object, evidence, remedy));
        }
    }
    found
}

/// A key in which the two differ: its table, the name, the key, and the value of the peer.
struct Difference {
    table: &'static str,
    name: String,
    key: &'static str,
    theirs: String,
    ours: String,
}

fn differs(config: &Config, own: &Status, peer: &Peer) -> Option<Finding> {
    let mut differences = Vec::new();
    routers(config, peer, &mut differences);
    let mut evidence = servers(own, &peer.status, &mut differences);
    for difference in &differences {
        let Difference {
            table,
            name,
            key,
            theirs,
            ours,
        } = difference;
        evidence.push(format!(
            "{table} {name}: {key} is {ours} here, and {theirs} there"
        ));
    }
    if evidence.is_empty() {
        return None;
    }
    let words =
        "let both have the same; `vipd check --peer FILE` shows each place in the two files";
    let mut remedy = Remedy::words(words);
    if let Some(first) = differences.first() {
        remedy = remedy.key(first.table, Some(&first.name), first.key, &first.theirs);
    }
    Some(Finding::new(
        c::PEER_DIFFERS,
        peer.address.to_string(),
        evidence,
        remedy,
    ))
}

fn routers(config: &Config, peer: &Peer, found: &mut Vec<Difference>) {
    for vrrp in &config.vrrp {
        let parameters = &vrrp.parameters;
        let mut theirs = peer.status.vrrp.iter();
        let same = |it: &&crate::status::VrrpStatus| {
            it.vrid == parameters.vrid && family(it) == parameters.family
        };
        let Some(theirs) = theirs.find(same) else {
            continue;
        };
        let list = |addresses: BTreeSet<String>| {
            let quoted: Vec<String> = addresses.iter().map(|it| format!("{it:?}")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let mine = vrrp
            .addresses
            .iter()
            .map(|it| it.address.to_string())
            .collect();
        let others = theirs.virtual_addresses.iter().cloned().collect();
        if mine != others {
            found.push(Difference {
                table: "vrrp",
                name: vrrp.name.clone(),
                key: "virtual_addresses",
                theirs: list(others),
                ours: list(mine),
            });
        }
    }
}

/// What cannot be said by a key is returned.
fn servers(own: &Status, peer: &Status, found: &mut Vec<Difference>) -> Vec<String> {
    let key = |it: &VirtualServerStatus| (it.addresses.clone(), it.protocol.clone());
    let mut lacking = Vec::new();
    for mine in &own.virtual_servers {
        let Some(theirs) = peer.virtual_servers.iter().find(|it| key(it) == key(mine)) else {
            lacking.push(format!("it has no virtual server {}", mine.address));
            continue;
        };
        for (key, mine_is, theirs_is) in [
            ("scheduler", &mine.scheduler, &theirs.scheduler),
            ("forwarding", &mine.forwarding, &theirs.forwarding),
        ] {
            if mine_is != theirs_is {
                found.push(Difference {
                    table: "virtual_server",
                    name: mine.name.clone(),
                    key,
                    theirs: format!("{theirs_is:?}"),
                    ours: format!("{mine_is:?}"),
                });
            }
        }
        let real = |it: &VirtualServerStatus| -> BTreeSet<String> {
            it.real_servers
                .iter()
                .map(|real| real.address.clone())
                .collect()
        };
        let (mine_has, theirs_has) = (real(mine), real(theirs));
        for address in mine_has.difference(&theirs_has) {
            lacking.push(format!(
                "virtual_server {}: it has no real server {address}",
                mine.name
            ));
        }
        for address in theirs_has.difference(&mine_has) {
            lacking.push(format!(
                "virtual_server {}: only it has {address}",
                mine.name
            ));
        }
    }
    for theirs in &peer.virtual_servers {
        if !own.virtual_servers.iter().any(|it| key(it) == key(theirs)) {
            lacking.push(format!("only it has the virtual server {}", theirs.address));
        }
    }
    lacking
}

fn clocks(config: &Config, facts: &Facts) -> Vec<Finding> {
    let asked = facts
        .peers
        .iter()
        .filter_map(|peer| Some((peer.address, peer.clock?, APART)));
    let signed = config.vrrp.iter().filter_map(|vrrp| {
        let Authentication::Hmac(hmac) = &vrrp.parameters.authentication else {
            return None;
        };
        let window = i64::try_from(hmac.window.as_secs()).unwrap_or(i64::MAX);
        let of = |advert: &&super::facts::wire::Advert| {
            let same = Family::of(advert.source) == vrrp.parameters.family;
            same && !advert.outgoing && advert.vrid == vrrp.parameters.vrid
        };
        let advert = facts.wire.adverts.iter().find(of)?;
        Some((advert.source, advert.clock?, (window / 2).max(1)))
    });
    let mut found: Vec<Finding> = Vec::new();
    for (address, ahead, limit) in asked.chain(signed) {
        let object = address.to_string();
        if ahead.saturating_abs() <= limit || found.iter().any(|it| it.object == object) {
            continue;
        }
        let evidence = vec![format!(
            "the clock of {address} is {} s {} of this one",
            ahead.saturating_abs(),
            if ahead > 0 { "ahead" } else { "behind" }
        )];
        let remedy = Remedy::words("have both synchronise with the same servers of time")
            .command("timedatectl set-ntp true");
        found.push(Finding::new(c::CLOCKS_DIFFER, object, evidence, remedy));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::wire::Advert;
    use super::super::testbed::{VIP, advert, codes, config, facts};
    use super::*;

    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn another_list_of_addresses_is_a_difference_and_the_same_in_another_order_is_none() {
        let mut config = config("");
        let mut facts = facts();
        facts.wire.adverts = vec![advert("10.77.0.12", PEER)];
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
        let both = [VIP.parse().unwrap(), "10.77.0.9".parse().unwrap()];
        facts.wire.adverts[0].addresses = both.to_vec();
        assert_eq!(codes(&findings(&config, &facts)), ["VIP-PEER-001"]);
        config.vrrp[0].parameters.addresses = both.iter().rev().copied().collect();
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
    }

    #[test]
    fn the_clock_of_signed_adverts_may_differ_by_half_the_window() {
        let key = "0123456789abcdef0123456789abcdef";
        let hmac = format!(
            "authentication = {{ type = \"hmac\", key_id = 1, key = \"{key}\", window = \"10s\" }}"
        );
        let config = config(&hmac);
        let mut facts = facts();
        let at = |clock| Advert {
            clock: Some(clock),
            ..advert("10.77.0.12", PEER)
        };
        for (clock, found) in [(5, 0), (-5, 0), (6, 1), (-6, 1)] {
            facts.wire.adverts = vec![at(clock)];
            assert_eq!(findings(&config, &facts).len(), found, "{clock} s");
        }
        assert_eq!(codes(&findings(&config, &facts)), ["VIP-CLOCK-001"]);
        facts.wire.adverts = vec![advert("10.77.0.12", PEER)];
        assert_eq!(
            codes(&findings(&config, &facts)),
            [""; 0],
            "it does not sign"
        );
    }
}
