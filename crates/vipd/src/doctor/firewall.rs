//! Packet filters that drop adverts or clients. Where a rule asks for what is not known here, it gets the
//! benefit of the doubt, unless it has counted.

use std::net::IpAddr;

use ::vrrp::{Family, GROUP_V4, GROUP_V6};
use ipnet::IpNet;
use ipvs::{Protocol, ServiceKey};

use super::catalogue as c;
use super::facts::Facts;
use super::facts::firewall::{Chain, Rule, Verdict};
use super::facts::wire::Advert;
use super::vrrp::{incoming, of};
use super::{Finding, Remedy};
use crate::config::{Config, Vrrp};

/// Adverts after which silence is no accident.
const SEVERAL: u32 = 2;

/// What may meet a rule.
struct Packet {
    protocol: &'static [&'static str],
    to: IpAddr,
    port: Option<u16>,
    incoming: Option<String>,
    outgoing: Option<String>,
}

/// Whether a packet meets the conditions of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    No,
    Maybe,
    Yes,
}

/// Where a packet ends.
enum Dropped<'f> {
    By(&'f Chain, &'f Rule),
    ByPolicy(&'f Chain),
}

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for vrrp in &config.vrrp {
        found.extend(adverts_in(facts, vrrp));
        found.extend(adverts_out(facts, vrrp));
    }
    for server in &config.virtual_servers {
        for key in &server.keys {
            let ServiceKey::Address { protocol, address } = key else {
                continue;
            };
            let protocol: &[&str] = match protocol {
                Protocol::Tcp => &["tcp", "6"],
                Protocol::Udp => &["udp", "17"],
                Protocol::Sctp => &["sctp", "132"],
            };
            let router = server.vrrp.as_deref().and_then(|name| config.vrrp(name));
            let packet = Packet {
                protocol,
                to: address.ip(),
                port: Some(address.port()).filter(|port| *port != 0),
                incoming: router.map(|vrrp| vrrp.interface.clone()),
                outgoing: None,
            };
            if let Some(dropped) = dropped(facts, &["prerouting", "input"], &packet) {
                let object = format!("{} ({address})", server.name);
                let evidence = vec![dropped.shown()];
                let remedy = dropped.remedy(&packet);
                found.push(Finding::new(c::FIREWALL_CLIENTS, object, evidence, remedy));
            }
        }
    }
    found
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
    let dropped = dropped(facts, &["ingress", "prerouting", "input"], &packet);
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
        || Remedy::words("no rule of nftables or iptables explains it: look for filters before them (XDP, tc)"),
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
    let dropped = dropped(facts, &["egress"], &packet)?;
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

/// The first that drops such a packet.
fn dropped<'f>(facts: &'f Facts, hooks: &[&str], packet: &Packet) -> Option<Dropped<'f>> {
    let chains = &facts.firewall.chains;
    let on_the_way = chains
        .iter()
        .filter(|chain| hooks.contains(&chain.hook.as_str()) && sees(chain, packet));
    // Where a chain is jumped to from is not followed: an accept there counts for all, and a drop of
    // exactly such packets, too.
    let jumped_to = || {
        let inner = chains.iter().filter(|chain| chain.hook.is_empty());
        inner.filter(|chain| sees(chain, packet))
    };
    let accepted_elsewhere = || {
        let mut rules = jumped_to().flat_map(|chain| &chain.rules);
        rules.any(|rule| rule.verdict == Verdict::Accept && met(rule, packet) > Met::No)
    };
    for chain in on_the_way {
        match in_chain(chain, packet) {
            None => {}
            Some(Dropped::ByPolicy(_)) if accepted_elsewhere() => {}
            Some(dropped) => return Some(dropped),
        }
    }
    jumped_to().find_map(|chain| {
        let named = |rule: &&Rule| names(rule, packet) && drops(rule, packet);
        Some(Dropped::By(chain, chain.rules.iter().find(named)?))
    })
}

/// Whether packets of that family come by.
fn sees(chain: &Chain, packet: &Packet) -> bool {
    match chain.name.split(' ').next() {
        Some("ip" | "iptables") => packet.to.is_ipv4(),
        Some("ip6") => packet.to.is_ipv6(),
        Some("arp") => false,
        Some(_) | None => true,
    }
}

fn in_chain<'f>(chain: &'f Chain, packet: &Packet) -> Option<Dropped<'f>> {
    for rule in &chain.rules {
        if rule.verdict == Verdict::Accept && met(rule, packet) > Met::No {
            return None;
        }
        if drops(rule, packet) {
            return Some(Dropped::By(chain, rule));
        }
    }
    chain.drops.then_some(Dropped::ByPolicy(chain))
}

fn drops(rule: &Rule, packet: &Packet) -> bool {
    rule.verdict == Verdict::Drop
        && match (met(rule, packet), rule.packets) {
            (Met::No, _) | (_, Some(0)) => false,
            (Met::Maybe, counted) => counted.is_some() && names(rule, packet),
            (Met::Yes, _) => true,
        }
}

/// Whether a rule is about just such packets: it names their address or their protocol, if that has no
/// ports.
fn names(rule: &Rule, packet: &Packet) -> bool {
    rule.matches.iter().any(|(field, values)| {
        let protocol = packet.port.is_none() && is_protocol(field);
        (protocol || field.ends_with("daddr")) && holds(field, values, packet) == Met::Yes
    })
}

fn met(rule: &Rule, packet: &Packet) -> Met {
    let each = rule.matches.iter();
    let least = each
        .map(|(field, values)| holds(field, values, packet))
        .min();
    let least = least.unwrap_or(Met::Yes);
    if rule.more {
        least.min(Met::Maybe)
    } else {
        least
    }
}

fn is_protocol(field: &str) -> bool {
    matches!(field, "ip protocol" | "ip6 nexthdr" | "meta l4proto")
}

fn holds(field: &str, values: &[String], packet: &Packet) -> Met {
    let sure = |yes: bool| if yes { Met::Yes } else { Met::No };
    if values.iter().any(|value| value.starts_with('@')) {
        return Met::Maybe;
    }
    let among = |names: &[&str]| sure(values.iter().any(|value| names.contains(&value.as_str())));
    match field {
        _ if is_protocol(field) => among(packet.protocol),
        "ip daddr" | "ip6 daddr" => sure(values.iter().any(|value| covers(value, packet.to))),
        "meta iifname" | "meta iif" => match &packet.incoming {
            Some(name) => among(&[name]),
            // Nothing of the network comes in there.
            None if values.iter().all(|value| value == "lo") => Met::No,
            None => Met::Maybe,
        },
        "meta oifname" | "meta oif" => match &packet.outgoing {
            Some(name) => among(&[name]),
            None => Met::Maybe,
        },
        "meta nfproto" => among(&[if packet.to.is_ipv4() { "ipv4" } else { "ipv6" }]),
        "ct state" => among(&["new", "untracked"]),
        _ => match (field.split_once(' '), packet.port) {
            (Some((protocol, "dport")), Some(port)) => {
                let same = protocol == "th" || packet.protocol.contains(&protocol);
                sure(same && values.iter().any(|value| has_port(value, port)))
            }
            // Packets without ports, such as adverts.
            (Some(("tcp" | "udp" | "sctp" | "th" | "icmp" | "icmpv6" | "igmp", _)), None) => {
                Met::No
            }
            (Some((protocol @ ("tcp" | "udp" | "sctp" | "icmp" | "icmpv6"), _)), _)
                if !packet.protocol.contains(&protocol) =>
            {
                Met::No
            }
            _ => Met::Maybe,
        },
    }
}

fn covers(value: &str, address: IpAddr) -> bool {
    let single = value.parse::<IpAddr>().is_ok_and(|it| it == address);
    single
        || value
            .parse::<IpNet>()
            .is_ok_and(|net| net.contains(&address))
}

fn has_port(value: &str, port: u16) -> bool {
    let (from, to) = value.split_once('-').unwrap_or((value, value));
    let bounds = from.parse::<u16>().ok().zip(to.parse::<u16>().ok());
    bounds.is_some_and(|(from, to)| (from..=to).contains(&port))
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
            Dropped::By(_, rule) if !rule.matches.is_empty() || rule.more => {
                let words = "remove that rule, also from the file it is loaded from at boot";
                Remedy::words(words).run(rule.remove.clone())
            }
            Dropped::By(chain, _) | Dropped::ByPolicy(chain) => {
                let words = "accept it, also in the file that is loaded at boot";
                let iptables = chain.name.starts_with("iptables ");
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
    use super::super::facts::firewall::Firewall;
    use super::super::testbed::{advert, codes, config, facts};
    use super::*;

    fn rule(verdict: Verdict, matches: &[(&str, &str)], packets: Option<u64>) -> Rule {
        let owned =
            |(field, value): &(&str, &str)| ((*field).to_owned(), vec![(*value).to_owned()]);
        Rule {
            verdict,
            matches: matches.iter().map(owned).collect(),
            packets,
            remove: vec!["nft".to_owned()],
            ..Rule::default()
        }
    }

    fn with(hook: &str, drops: bool, rules: Vec<Rule>) -> Facts {
        let chain = Chain {
            name: "inet filter x".to_owned(),
            hook: hook.to_owned(),
            drops,
            rules,
        };
        Facts {
            firewall: Firewall {
                chains: vec![chain],
            },
            ..facts()
        }
    }

    fn found(facts: &Facts) -> Vec<String> {
        let found = findings(&config(""), facts);
        codes(&found).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_rule_that_drops_adverts_is_found_on_its_side() {
        let drop = || vec![rule(Verdict::Drop, &[("ip protocol", "vrrp")], None)];
        assert_eq!(found(&with("input", false, drop())), ["VIP-FW-001"]);
        assert_eq!(found(&with("egress", false, drop())), ["VIP-FW-002"]);
        assert_eq!(
            found(&with("output", false, drop())),
            [""; 0],
            "no frame goes there"
        );
        assert_eq!(found(&with("forward", false, drop())), [""; 0]);
        let group = vec![rule(
            Verdict::Drop,
            &[("ip daddr", "224.0.0.0/24")],
            Some(3),
        )];
        assert_eq!(found(&with("prerouting", false, group)), ["VIP-FW-001"]);
        let unused = vec![rule(Verdict::Drop, &[("ip protocol", "112")], Some(0))];
        assert_eq!(found(&with("input", false, unused)), [""; 0]);
    }

    #[test]
    fn a_rule_for_some_senders_counts_only_once_it_has_counted() {
        let matches = [("ip protocol", "112"), ("ip saddr", "10.0.0.0/8")];
        let some = |packets| vec![rule(Verdict::Drop, &matches, packets)];
        assert_eq!(found(&with("input", false, some(None))), [""; 0]);
        assert_eq!(found(&with("input", false, some(Some(5)))), ["VIP-FW-001"]);
    }

    #[test]
    fn what_the_daemon_hears_is_not_dropped_and_what_only_the_interface_hears_is() {
        let mut facts = with("input", false, Vec::new());
        facts.wire.adverts = vec![advert("10.77.0.12", [2, 0, 0, 0, 0, 2])];
        facts.counted.insert("web".to_owned(), 3);
        assert_eq!(found(&facts), [""; 0]);
        facts.counted.insert("web".to_owned(), 0);
        assert_eq!(found(&facts), ["VIP-FW-001"]);
    }

    #[test]
    fn a_policy_that_drops_needs_a_rule_that_accepts() {
        let established = || rule(Verdict::Accept, &[("ct state", "established")], None);
        let both = found(&with("input", true, vec![established()]));
        assert_eq!(both, ["VIP-FW-001", "VIP-FW-003"]);
        let vrrp = rule(Verdict::Accept, &[("meta l4proto", "vrrp")], None);
        let web = rule(Verdict::Accept, &[("tcp dport", "80")], None);
        let rules = vec![established(), vrrp, web];
        assert_eq!(found(&with("input", true, rules)), [""; 0]);
        let port = rule(Verdict::Accept, &[("tcp dport", "22-79")], None);
        let lo = rule(Verdict::Accept, &[("meta iifname", "lo")], None);
        let known = rule(Verdict::Accept, &[("ip saddr", "10.0.0.0/8")], None);
        assert_eq!(
            found(&with("input", true, vec![port, lo])),
            ["VIP-FW-001", "VIP-FW-003"]
        );
        assert_eq!(
            found(&with("input", true, vec![known])),
            [""; 0],
            "clients may be there"
        );
    }

    #[test]
    fn a_rule_against_the_address_or_the_port_is_one_against_clients() {
        let address = vec![rule(Verdict::Drop, &[("ip daddr", "10.77.0.10")], None)];
        assert_eq!(found(&with("prerouting", false, address)), ["VIP-FW-003"]);
        let port = vec![rule(Verdict::Drop, &[("tcp dport", "80")], None)];
        assert_eq!(found(&with("input", false, port)), ["VIP-FW-003"]);
        let other = vec![rule(Verdict::Drop, &[("udp dport", "80")], None)];
        assert_eq!(found(&with("input", false, other)), [""; 0]);
    }
}
