//! Who answers for each virtual address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::catalogue as c;
use super::facts::{Facts, plan, serving};
use super::{Finding, Remedy};
use crate::config::{Config, Vrrp};
use crate::net::sys::{Mac, mac_text};

/// Whose an Ethernet address is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    RealServer(IpAddr),
    Director(Option<IpAddr>),
    Unknown,
}

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut own = BTreeSet::new();
    for vrrp in &config.vrrp {
        for address in &vrrp.addresses {
            own.insert(address.ip());
            of_router(config, facts, vrrp, address.ip(), &mut found);
        }
    }
    let others = config.virtual_servers.iter().flat_map(plan::vips);
    let others: BTreeSet<IpAddr> = others.filter(|vip| !own.contains(vip)).collect();
    for vip in others {
        for mac in facts.macs(vip).collect::<BTreeSet<Mac>>() {
            if let Who::RealServer(server) = who(config, facts, mac) {
                found.push(real_server(vip, mac, server));
            }
        }
    }
    found
}

/// Of an address that a virtual router holds.
fn of_router(config: &Config, facts: &Facts, vrrp: &Vrrp, vip: IpAddr, found: &mut Vec<Finding>) {
    let asked = facts.wire.answers.keys().any(|(_, asked)| *asked == vip);
    let macs: BTreeSet<Mac> = facts.macs(vip).collect();
    let mut directors = Vec::new();
    let mut strangers = Vec::new();
    for mac in macs {
        match who(config, facts, mac) {
            Who::RealServer(server) => found.push(real_server(vip, mac, server)),
            Who::Director(address) => directors.push((mac, address)),
            Who::Unknown => strangers.push(mac),
        }
    }
    let held = facts.holds(vip);
    let masters = masters(facts, vrrp, vip);
    // A master that is not heard may be the other director, of whom nothing else is known.
    let one_may_be_the_peer = !held && directors.is_empty() && masters.is_empty();
    if one_may_be_the_peer && strangers.len() == 1 {
        return;
    }
    for mac in &strangers {
        let mut evidence = vec![format!(
            "{} answers for {vip}; no real server and no director that is known has this MAC",
            mac_text(*mac)
        )];
        if let Some(address) = facts.host.neighbours.get(mac) {
            evidence.push(format!("it was last seen with the address {address}"));
        }
        if held {
            evidence.push(format!("this director holds {vip}"));
        }
        let words = format!(
            "find the host by its MAC in the tables of the switch (`bridge fdb show`), and take {vip} off \
             it; or give the cluster another address"
        );
        let remedy = Remedy::words(words)
            .on(mac_text(*mac))
            .command(&format!("ip addr del {vip}/{} dev eth0", prefix(vrrp, vip)));
        found.push(Finding::new(
            c::ARP_UNKNOWN_HOST,
            vip.to_string(),
            evidence,
            remedy,
        ));
    }
    if directors.len() + usize::from(held) > 1 {
        found.push(two_directors(facts, vrrp, vip, held, &directors));
    }
    // A master that does not have it in its list is configured differently, which is told.
    let lacking = super::vrrp::announced_lists(vrrp, facts).any(|(_, list)| !list.contains(&vip));
    if asked && !held && !lacking && directors.is_empty() && strangers.is_empty() {
        let evidence = vec![
            format!("nobody answered for {vip} within {:?}", facts.wire.window),
            format!("it is on no interface of this host that is up"),
        ];
        let words = "start vipd on a director (`systemctl start vipd`), or see with `vipctl status` why none \
                     of them is master";
        let remedy = Remedy::words(words).command("systemctl start vipd");
        found.push(Finding::new(c::ARP_NOBODY, &vrrp.name, evidence, remedy));
    }
}

fn two_directors(
    facts: &Facts,
    vrrp: &Vrrp,
    vip: IpAddr,
    held: bool,
    directors: &[(Mac, Option<IpAddr>)],
) -> Finding {
    let mut evidence = Vec::new();
    if held {
        evidence.push(format!("this director holds {vip}"));
    }
    let mut silent = None;
    for (mac, address) in directors {
        let name = address.map_or_else(String::new, |address| format!(" ({address})"));
        evidence.push(format!("{}{name} answers for {vip}", mac_text(*mac)));
        let heard = facts.wire.adverts.iter().any(|it| it.mac == Some(*mac));
        if !heard {
            evidence.push(format!("no adverts of {} were heard", mac_text(*mac)));
            silent = silent.or(*address);
        }
    }
    let words = "a director that sends no adverts is dead and left its addresses behind, or its adverts do \
                 not get here: `vipctl status` there tells which";
    let mut remedy = Remedy::words(words).command("vipd release");
    if let Some(address) = silent {
        remedy = remedy.on(address);
    }
    Finding::new(c::ARP_TWO_DIRECTORS, &vrrp.name, evidence, remedy)
}

fn real_server(vip: IpAddr, mac: Mac, server: IpAddr) -> Finding {
    let evidence = vec![format!(
        "{} answers for {vip}: it is the real server {server}",
        mac_text(mac)
    )];
    let remedy = match vip {
        IpAddr::V4(_) => Remedy::words(format!(
            "let it answer only for addresses of the interface that is asked, and keep {vip} on lo alone; \
             clients that learned its MAC keep it until their entry ends"
        ))
        .command(
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
        ),
        IpAddr::V6(_) => Remedy::words(format!(
            "{vip} is on an interface of its that leads here: it belongs on lo, without detection of \
             duplicates (`ip addr add {vip}/128 dev lo nodad`)"
        ))
        .command(&format!("ip addr del {vip}/128 dev eth0")),
    };
    let remedy = remedy.on(server);
    Finding::new(c::ARP_REAL_SERVER, vip.to_string(), evidence, remedy)
}

fn who(config: &Config, facts: &Facts, mac: Mac) -> Who {
    let sent = facts.wire.adverts.iter();
    let mut sent = sent.filter(|advert| !advert.outgoing && advert.mac == Some(mac));
    if let Some(advert) = sent.next() {
        return Who::Director(Some(advert.source));
    }
    let has = |address: &IpAddr| facts.macs(*address).any(|known| known == mac);
    if let Some(peer) = plan::configured_peers(config).into_iter().find(has) {
        return Who::Director(Some(peer));
    }
    let known = facts.host.neighbours.get(&mac);
    if let Some(peer) = facts.peers.iter().find(|peer| Some(&peer.address) == known) {
        return Who::Director(Some(peer.address));
    }
    // Of the virtual routers themselves (RFC 9568 §7.3).
    if matches!(mac, [0, 0, 0x5e, 0, 1 | 2, _]) {
        return Who::Director(None);
    }
    let servers = serving(config, None).map(|(_, real)| real.key.0.ip());
    let mut servers: BTreeSet<IpAddr> = servers.collect();
    servers.retain(has);
    servers
        .first()
        .map_or(Who::Unknown, |server| Who::RealServer(*server))
}

/// The Ethernet addresses of those who announce a virtual router.
fn masters(facts: &Facts, vrrp: &Vrrp, vip: IpAddr) -> BTreeSet<Mac> {
    // One that announces itself on another interface answers with another Ethernet address than that.
    let asked = facts.wire.answers.keys();
    let asked: BTreeSet<&str> = asked
        .filter(|(_, address)| *address == vip)
        .map(|(name, _)| name.as_str())
        .collect();
    let adverts = facts.wire.adverts.iter();
    let of = adverts.filter(|advert| {
        !advert.outgoing
            && advert.vrid == vrrp.parameters.vrid
            && advert.priority > 0
            && asked.contains(advert.interface.as_str())
    });
    of.filter_map(|advert| advert.mac).collect()
}

fn prefix(vrrp: &Vrrp, vip: IpAddr) -> u8 {
    let mut addresses = vrrp.addresses.iter();
    let address = addresses.find(|address| address.ip() == vip);
    address.map_or(32, |address| address.address.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::super::testbed::{RS, VIP, advert, codes, config, facts, held, link};
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const PEER: Mac = [2, 0, 0, 0, 0, 2];
    const REAL: Mac = [2, 0, 0, 0, 0, 21];
    const STRANGER: Mac = [2, 0, 0, 0, 0, 66];

    fn asked(facts: &mut Facts, address: &str, macs: &[Mac]) {
        let key = ("eth0".to_owned(), address.parse().unwrap());
        facts
            .wire
            .answers
            .insert(key, macs.iter().copied().collect());
    }

    #[test]
    fn a_master_whom_nobody_contradicts_is_well_and_so_is_its_backup() {
        let config = config("");
        let mut facts = held();
        asked(&mut facts, VIP, &[]);
        asked(&mut facts, RS, &[REAL]);
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
        let mut facts = self::facts();
        asked(&mut facts, VIP, &[PEER]);
        assert_eq!(
            codes(&findings(&config, &facts)),
            [""; 0],
            "a peer that is not heard yet"
        );
        facts.wire.adverts.push(advert("10.77.0.12", PEER));
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
    }

    #[test]
    fn a_real_server_that_answers_is_named_by_its_address() {
        let config = config("");
        let mut facts = held();
        asked(&mut facts, VIP, &[REAL]);
        asked(&mut facts, RS, &[REAL]);
        let found = findings(&config, &facts);
        assert_eq!(codes(&found), ["VIP-ARP-001"]);
        assert_eq!(found[0].remedy.on.as_deref(), Some(RS));
        assert!(
            found[0].evidence[0].contains("02:00:00:00:00:15"),
            "{found:?}"
        );
    }

    #[test]
    fn a_peer_that_answers_too_and_a_stranger_are_told_apart() {
        let config = config("");
        let mut facts = held();
        facts.wire.adverts.push(advert("10.77.0.12", PEER));
        asked(&mut facts, VIP, &[PEER]);
        assert_eq!(codes(&findings(&config, &facts)), ["VIP-ARP-002"]);
        asked(&mut facts, VIP, &[STRANGER]);
        assert_eq!(codes(&findings(&config, &facts)), ["VIP-ARP-003"]);
        asked(&mut facts, VIP, &[[0, 0, 0x5e, 0, 1, 51]]);
        assert_eq!(
            codes(&findings(&config, &facts)),
            ["VIP-ARP-002"],
            "a virtual MAC"
        );
    }

    #[test]
    fn an_address_that_nobody_holds_is_found_where_it_could_be_asked_for() {
        let config = config("");
        let mut facts = facts();
        assert_eq!(
            codes(&findings(&config, &facts)),
            [""; 0],
            "nobody was asked"
        );
        asked(&mut facts, VIP, &[]);
        assert_eq!(codes(&findings(&config, &facts)), ["VIP-ARP-004"]);
        facts.links = [link(2, "eth0", OURS, &["10.77.0.10/24"])]
            .into_iter()
            .collect();
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
    }
}
