//! The other directors, as far as they tell: whether they are configured alike, and their clocks.

use std::collections::BTreeSet;

use ::vrrp::{Authentication, Family};

use super::catalogue as c;
use super::facts::Facts;
use super::facts::peers::Peer;
use super::vrrp::family;
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
    found.extend(clocks(config, facts));
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
