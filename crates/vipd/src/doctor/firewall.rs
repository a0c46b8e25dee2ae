//! Packet filters that drop adverts or clients.
//!
//! A packet is followed through the chains of each hook, with jumps. What decides about it may be more than
//! is known here: who the client is (then it gets the benefit of the doubt, unless the rule has counted
//! adverts), or something that doctor does not understand; then that is said in place of a finding.

mod walk;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ::vrrp::{Family, GROUP_V4, GROUP_V6};
use ipvs::{Protocol, ServiceKey};

use self::walk::{Dropped, Fate, Packet, fate, is_about};
use super::catalogue as c;
use super::facts::wire::Advert;
use super::facts::{Facts, plan};
use super::vrrp::{incoming, of};
use super::{Finding, Remedy};
use crate::config::{Config, VirtualServer, Vrrp};

/// Adverts after which silence is no accident.
const SEVERAL: u32 = 2;
/// The hooks on the way in, before IPVS and the daemon.
const IN: [&str; 3] = ["ingress", "prerouting", "input"];

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for vrrp in &config.vrrp {
        found.extend(adverts_in(facts, vrrp));
        found.extend(adverts_out(facts, vrrp));
    }
    for (object, packet) in clients(config, facts) {
        if let Fate::Dropped(dropped) = fate(facts, &IN, &packet) {
            let evidence = vec![dropped.shown()];
            let remedy = dropped.remedy(&packet);
            found.push(Finding::new(c::FIREWALL_CLIENTS, object, evidence, remedy));
        }
    }
    found
}

/// Rule sets that cannot be judged.
pub(super) fn beyond(config: &Config, facts: &Facts) -> Vec<String> {
    let heard = |vrrp: &&Vrrp| {
        facts
            .counted
            .get(&vrrp.name)
            .is_some_and(|count| *count > 0)
    };
    let adverts = config.vrrp.iter().filter(|vrrp| !heard(vrrp));
    let adverts = adverts.map(|vrrp| (format!("adverts of {}", vrrp.name), advert(vrrp)));
    let clients = clients(config, facts);
    let clients = clients.map(|(object, packet)| (format!("clients of {object}"), packet));
    let mut said = BTreeSet::new();
    for (what, packet) in adverts.chain(clients) {
        if let Fate::Unclear(rule) = fate(facts, &IN, &packet) {
            said.insert(format!(
                "the firewall: whether it lets {what} in cannot be judged: {}",
                rule.shown
            ));
        }
    }
    said.into_iter().collect()
}

/// The first packet of a client to each virtual address and port.
fn clients<'c>(
    config: &'c Config,
    facts: &'c Facts,
) -> impl Iterator<Item = (String, Packet)> + 'c {
    let keys = config
        .virtual_servers
        .iter()
        .flat_map(|server| server.keys.iter().map(move |key| (server, key)));
    keys.filter_map(|(server, key)| {
        let ServiceKey::Address { protocol, address } = key else {
            return None;
        };
        let protocol: &[&str] = match protocol {
            Protocol::Tcp => &["tcp", "6"],
            Protocol::Udp => &["udp", "17"],
            Protocol::Sctp => &["sctp", "132"],
        };
        let packet = Packet {
            protocol,
            to: address.ip(),
            port: Some(address.port()).filter(|port| *port != 0),
            incoming: interface(config, facts, server, address.ip()),
            outgoing: None,
        };
        Some((format!("{} ({address})", server.name), packet))
    })
}

/// By which interface clients of a virtual address come in: the one that has it while this director is master.
fn interface(
    config: &Config,
    facts: &Facts,
    server: &VirtualServer,
    vip: IpAddr,
) -> Option<String> {
    let mut addresses = config.vrrp.iter().flat_map(|vrrp| &vrrp.addresses);
    let address = addresses.find(|address| address.ip() == vip);
    let router = server.vrrp.as_deref().and_then(|name| config.vrrp(name));
    address
        .map(|address| address.interface.clone())
        .or_else(|| router.map(|vrrp| vrrp.interface.clone()))
        .or_else(|| plan::on_link(&facts.links, vip).map(|link| link.name.clone()))
        // Of an address on `lo` nobody knows.
        .filter(|name| name != "lo")
}

fn advert(vrrp: &Vrrp) -> Packet {
    let group = match vrrp.parameters.family {
        Family::V4 => IpAddr::V4(GROUP_V4),
        Family::V6 => IpAddr::V6(GROUP_V6),
    };
    let unicast = vrrp.parameters.unicast.as_ref();
    Packet {
        protocol: &["vrrp", "112"],
        to: unicast.map_or(group, |unicast| unicast.source),
        port: None,
        incoming: Some(vrrp.interface.clone()),
        outgoing: None,
    }
}

fn adverts_in(facts: &Facts, vrrp: &Vrrp) -> Option<Finding> {
    let adverts: Vec<&Advert> = of(vrrp, facts).collect();
    let arrived: u32 = incoming(facts, &adverts).map(|it| it.count).sum();
    let counted = facts.counted.get(&vrrp.name).copied();
    // What the daemon hears is not dropped.
    if counted.is_some_and(|counted| counted > 0) {
        return None;
    }
    let packet = advert(vrrp);
    let dropped = match fate(facts, &IN, &packet) {
        Fate::Dropped(dropped) => Some(dropped),
        Fate::Free | Fate::Unclear(_) => None,
    };
    let lost = arrived >= SEVERAL && counted == Some(0);
    let mut evidence = Vec::new();
    if lost {
        evidence.push(format!(
            "{arrived} adverts came in by {}, and the daemon heard none of them",
            vrrp.interface
        ));
    }
    evidence.extend(dropped.as_ref().map(Dropped::shown));
    if evidence.is_empty() {
        return None;
    }
    let remedy = dropped.map_or_else(
        || {
            Remedy::words(
                "no rule of nftables or iptables that doctor understands explains it: look for one that it \
                 does not (they are named under `not looked at`), and for filters before them (XDP, tc)",
            )
        },
        |dropped| dropped.remedy(&packet),
    );
    Some(Finding::new(c::FIREWALL_IN, &vrrp.name, evidence, remedy))
}

/// The daemon sends adverts as frames, past the hooks of the protocols: only what is on the interface
/// itself drops them.
fn adverts_out(facts: &Facts, vrrp: &Vrrp) -> Option<Finding> {
    let sent = of(vrrp, facts).filter(|advert| advert.outgoing).count();
    if sent > 0 {
        return None;
    }
    let unicast = vrrp.parameters.unicast.as_ref();
    let peer = unicast.and_then(|unicast| unicast.peers.first());
    let packet = advert(vrrp);
    let packet = Packet {
        to: peer.map_or(packet.to, |peer| peer.address),
        outgoing: packet.incoming,
        incoming: None,
        ..packet
    };
    let Fate::Dropped(dropped) = fate(facts, &["egress"], &packet) else {
        return None;
    };
    let mut evidence = vec![dropped.shown()];
    let status = facts.router(&vrrp.name);
    if status.is_some_and(|status| status.state == "master") {
        evidence.push(format!(
            "this director is master, and no advert of it left by {} within {:?}",
            vrrp.interface, facts.wire.window
        ));
    }
    let remedy = dropped.remedy(&packet);
    Some(Finding::new(c::FIREWALL_OUT, &vrrp.name, evidence, remedy))
}

impl Dropped<'_> {
    fn shown(&self) -> String {
        match self {
            Dropped::By(_, rule) => match rule.packets {
                Some(packets) => format!("{}: {packets} packets", rule.shown),
                None => rule.shown.clone(),
            },
            Dropped::ByPolicy(chain) => format!(
                "{} drops whatever no rule accepts, and none accepts this",
                chain.name
            ),
        }
    }

    fn remedy(&self, packet: &Packet) -> Remedy {
        match self {
            Dropped::By(chain, rule) if is_about(rule, packet) => {
                let words = "remove that rule, also from the file it is loaded from at boot; its handle \
                             changes whenever the rules are loaded anew, so look at it right before \
                             (`nft -a list ruleset`)";
                let legacy = "remove that rule, also from the file it is loaded from at boot";
                let words = chain.legacy().map_or(words, |_| legacy);
                Remedy::words(words).run(rule.remove.clone())
            }
            Dropped::By(chain, _) | Dropped::ByPolicy(chain) => {
                let words = "accept it, also in the file that is loaded at boot";
                let iptables = chain.legacy().is_some();
                let family = if packet.to.is_ipv4() { "ip" } else { "ip6" };
                let to = packet.to;
                let what = match (packet.port, iptables) {
                    (None, true) => "-p 112".to_owned(),
                    (None, false) => "meta l4proto 112".to_owned(),
                    (Some(_), true) => format!("-d {to}"),
                    (Some(_), false) => format!("{family} daddr {to}"),
                };
                Remedy::words(words).run(chain.accept(&what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::firewall::{Chain, Firewall, Match, Rule, Verdict};
    use super::super::testbed::{advert, codes, config, facts};
    use super::*;

    fn rule(verdict: Verdict, matches: &[(&str, &str)], packets: Option<u64>) -> Rule {
        let owned = |(field, values): &(&str, &str)| Match {
            not: field.starts_with('!'),
            ..Match::of(
                field.trim_start_matches('!'),
                &values.split(',').collect::<Vec<_>>(),
            )
        };
        Rule {
            shown: format!("{matches:?}"),
            verdict,
            matches: matches.iter().map(owned).collect(),
            packets,
            remove: vec!["nft".to_owned()],
            ..Rule::default()
        }
    }

    fn chain(name: &str, hook: &str, drops: bool, rules: Vec<Rule>) -> Chain {
        Chain {
            name: format!("inet filter {name}"),
            hook: hook.to_owned(),
            drops,
            rules,
            ..Chain::default()
        }
    }

    fn of_chains(chains: Vec<Chain>) -> Facts {
        Facts {
            firewall: Firewall { chains },
            ..facts()
        }
    }

    fn with(hook: &str, drops: bool, rules: Vec<Rule>) -> Facts {
        of_chains(vec![chain("x", hook, drops, rules)])
    }

    fn found(facts: &Facts) -> Vec<String> {
        let found = findings(&config(""), facts);
        codes(&found).into_iter().map(str::to_owned).collect()
    }

    fn unclear(facts: &Facts) -> usize {
        beyond(&config(""), facts).len()
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn a_rule_that_drops_adverts_is_found_on_its_side() {
        let drop = || vec![rule(Verdict::Drop, &[("ip protocol", "vrrp")], None)];
        assert_eq!(found(&with("input", false, drop())), ["VIP-FW-001"]);
        assert_eq!(found(&with("egress", false, drop())), ["VIP-FW-002"]);
        assert_eq!(
            found(&with("output", false, drop())),
            NOTHING,
            "no frame goes there"
        );
        assert_eq!(found(&with("forward", false, drop())), NOTHING);
        let group = vec![rule(
            Verdict::Drop,
            &[("ip daddr", "224.0.0.0/24")],
            Some(3),
        )];
        assert_eq!(found(&with("prerouting", false, group)), ["VIP-FW-001"]);
        let unused = vec![rule(Verdict::Drop, &[("ip protocol", "112")], Some(0))];
        assert_eq!(found(&with("input", false, unused)), NOTHING);
        let mut elsewhere = with("ingress", false, drop());
        elsewhere.firewall.chains[0].devices = vec!["eth1".to_owned()];
        assert_eq!(found(&elsewhere), NOTHING, "of another interface");
        elsewhere.firewall.chains[0].devices = vec!["eth0".to_owned()];
        assert_eq!(found(&elsewhere), ["VIP-FW-001"]);
    }

    #[test]
    fn a_rule_for_some_senders_counts_only_once_it_has_counted_and_never_against_clients() {
        let matches = [("ip protocol", "112"), ("ip saddr", "10.0.0.0/8")];
        let some = |packets| vec![rule(Verdict::Drop, &matches, packets)];
        assert_eq!(found(&with("input", false, some(None))), NOTHING);
        assert_eq!(found(&with("input", false, some(Some(5)))), ["VIP-FW-001"]);
        let block = [("ip daddr", "10.77.0.10"), ("ip saddr", "192.0.2.0/24")];
        let block = vec![rule(Verdict::Drop, &block, Some(5))];
        assert_eq!(found(&with("input", false, block)), NOTHING);
    }

    #[test]
    fn what_the_daemon_hears_is_not_dropped_and_what_only_the_interface_hears_is() {
        let mut facts = with("input", false, Vec::new());
        facts.wire.adverts = vec![advert("10.77.0.12", [2, 0, 0, 0, 0, 2])];
        facts.counted.insert("web".to_owned(), 3);
        assert_eq!(found(&facts), NOTHING);
        facts.counted.insert("web".to_owned(), 0);
        assert_eq!(found(&facts), ["VIP-FW-001"]);
    }

    #[test]
    fn a_policy_or_a_last_rule_that_drops_needs_a_rule_that_accepts() {
        let established = || {
            rule(
                Verdict::Accept,
                &[("ct state", "established,related")],
                None,
            )
        };
        let accept = |field, value| rule(Verdict::Accept, &[(field, value)], None);
        for policy in [true, false] {
            let with = |mut rules: Vec<Rule>| {
                if !policy {
                    rules.push(rule(Verdict::Drop, &[], None));
                }
                with("input", policy, rules)
            };
            let both = ["VIP-FW-001", "VIP-FW-003"];
            assert_eq!(found(&with(vec![established()])), both);
            let vrrp = accept("meta l4proto", "vrrp");
            let web = accept("tcp dport", "80");
            let all = with(vec![established(), vrrp, web]);
            assert_eq!(found(&all), NOTHING);
            let new = accept("ct state", "new,established");
            assert_eq!(found(&with(vec![new])), NOTHING);
            let invalid = accept("!ct state", "invalid");
            assert_eq!(found(&with(vec![invalid])), NOTHING);
            let (port, lo) = (accept("tcp dport", "22-79"), accept("meta iifname", "lo"));
            assert_eq!(found(&with(vec![port, lo])), both);
            let known = with(vec![accept("ip saddr", "10.0.0.0/8")]);
            assert_eq!(found(&known), NOTHING, "clients may be there");
            assert_eq!(unclear(&known), 0);
        }
    }

    #[test]
    fn a_drop_behind_a_jump_is_no_drop_of_what_the_chain_accepts() {
        let jump = |to: &str| rule(Verdict::Jump(to.to_owned()), &[], None);
        let drop = || rule(Verdict::Drop, &[], None);
        let accepts = vec![
            rule(Verdict::Accept, &[("meta l4proto", "vrrp")], None),
            rule(Verdict::Accept, &[("tcp dport", "80")], None),
        ];
        let both = |services: Vec<Rule>, input: Vec<Rule>| {
            of_chains(vec![
                chain("services", "", false, services),
                chain("input", "input", false, input),
            ])
        };
        let well = both(accepts.clone(), vec![jump("services"), drop()]);
        assert_eq!(found(&well), NOTHING);
        let none = both(Vec::new(), vec![jump("services"), drop()]);
        assert_eq!(found(&none), ["VIP-FW-001", "VIP-FW-003"]);
        let uncalled = both(accepts.clone(), vec![drop()]);
        assert_eq!(found(&uncalled), ["VIP-FW-001", "VIP-FW-003"]);
        let inner = both(vec![drop()], vec![jump("services")]);
        assert_eq!(found(&inner), ["VIP-FW-001", "VIP-FW-003"]);
        let back = rule(Verdict::Return, &[("meta l4proto", "vrrp")], None);
        let back = both(vec![back, drop()], vec![jump("services")]);
        assert_eq!(found(&back), ["VIP-FW-003"], "adverts return");
        let goto = rule(Verdict::Goto("services".to_owned()), &[], None);
        let gone = both(accepts, vec![goto, drop()]);
        assert_eq!(found(&gone), NOTHING);
        let endless = both(vec![jump("services")], vec![jump("services"), drop()]);
        assert_eq!((found(&endless).len(), unclear(&endless)), (0, 2));
    }

    #[test]
    fn what_is_not_understood_is_said_in_place_of_a_finding() {
        let mut odd = rule(Verdict::Accept, &[], None);
        odd.more = true;
        let drop = rule(Verdict::Drop, &[], None);
        let facts = with("input", false, vec![odd.clone(), drop]);
        assert_eq!((found(&facts).len(), unclear(&facts)), (0, 2));
        let harmless = with("input", false, vec![odd]);
        assert_eq!((found(&harmless).len(), unclear(&harmless)), (0, 0));
        let unknown = rule(Verdict::Unknown, &[], None);
        let facts = with("input", true, vec![unknown]);
        assert_eq!((found(&facts).len(), unclear(&facts)), (0, 2));
        let mut heard = facts;
        heard.counted.insert("web".to_owned(), 3);
        assert_eq!(unclear(&heard), 1, "adverts come in");
    }

    #[test]
    fn a_rule_against_the_address_or_the_port_is_one_against_clients() {
        let address = vec![rule(Verdict::Drop, &[("ip daddr", "10.77.0.10")], None)];
        assert_eq!(found(&with("prerouting", false, address)), ["VIP-FW-003"]);
        let port = vec![rule(Verdict::Drop, &[("tcp dport", "80")], None)];
        assert_eq!(found(&with("input", false, port)), ["VIP-FW-003"]);
        let other = vec![rule(Verdict::Drop, &[("udp dport", "80")], None)];
        assert_eq!(found(&with("input", false, other)), NOTHING);
    }

    #[test]
    fn the_interface_of_the_address_counts_and_no_other() {
        let on = |name| {
            let matches = [("meta iifname", name), ("tcp dport", "80")];
            with("input", false, vec![rule(Verdict::Drop, &matches, None)])
        };
        assert_eq!(found(&on("eth1")), NOTHING);
        assert_eq!(found(&on("eth0")), ["VIP-FW-003"]);
        assert_eq!(found(&on("eth*")), ["VIP-FW-003"]);
    }

    #[test]
    fn a_rule_is_removed_only_if_nothing_else_goes_with_it() {
        let command = |rules| {
            let found = findings(&config(""), &with("input", false, rules));
            let last = found.last().unwrap();
            last.remedy.command.as_ref().unwrap().join(" ")
        };
        let port = rule(Verdict::Drop, &[("tcp dport", "80")], None);
        assert_eq!(command(vec![port]), "nft");
        let all = rule(Verdict::Drop, &[("meta iifname", "eth0")], None);
        assert_eq!(
            command(vec![all]),
            "nft insert rule inet filter x ip daddr 10.77.0.10 accept"
        );
    }
}
