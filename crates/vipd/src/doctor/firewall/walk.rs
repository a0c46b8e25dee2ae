//! The way of a packet through the chains, as far as it can be known.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::facts::Facts;
use super::super::facts::firewall::{Chain, Match, Rule, Verdict};

/// Chains that jump to each other; the kernel allows 16.
const DEPTH: usize = 16;

/// What may meet a rule.
pub(super) struct Packet {
    pub protocol: &'static [&'static str],
    pub to: IpAddr,
    pub port: Option<u16>,
    pub incoming: Option<String>,
    pub outgoing: Option<String>,
}

/// Whether a packet meets the conditions of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    No,
    /// It asks for what is not understood.
    Beyond,
    /// It asks for what differs from sender to sender.
    Depends,
    Yes,
}

/// Where a packet ends.
pub(super) enum Dropped<'f> {
    By(&'f Chain, &'f Rule),
    ByPolicy(&'f Chain),
}

/// What becomes of a packet.
pub(super) enum Fate<'f> {
    Free,
    Dropped(Dropped<'f>),
    /// It is dropped, unless this rule does what is not understood.
    Unclear(&'f Rule),
}

/// The end of a chain.
enum End<'f> {
    Accepted,
    Dropped(Dropped<'f>),
    Through,
}

/// What becomes of such a packet at these hooks.
pub(super) fn fate<'f>(facts: &'f Facts, hooks: &[&str], packet: &Packet) -> Fate<'f> {
    let chains = &facts.firewall.chains;
    let on_the_way = chains
        .iter()
        .filter(|chain| hooks.contains(&chain.hook.as_str()) && sees(chain, packet));
    let mut unclear = None;
    for chain in on_the_way {
        let mut walk = Walk {
            chains,
            packet,
            beyond: None,
            depends: false,
        };
        let end = walk.through(chain, Met::Yes, 0);
        let dropped = match end {
            End::Accepted => None,
            End::Dropped(dropped) => Some(dropped),
            End::Through => chain.drops.then_some(Dropped::ByPolicy(chain)),
        };
        match (dropped, walk.beyond) {
            // Some are let in: it may be just those that are meant.
            (Some(_), _) if walk.depends => {}
            (Some(_), Some(rule)) => unclear = unclear.or(Some(rule)),
            (Some(dropped), None) => return Fate::Dropped(dropped),
            (None, _) => {}
        }
    }
    unclear.map_or(Fate::Free, Fate::Unclear)
}

/// The way of a packet through a chain and those it jumps to.
struct Walk<'f, 'p> {
    chains: &'f [Chain],
    packet: &'p Packet,
    /// The first rule that may have decided otherwise, and is not understood.
    beyond: Option<&'f Rule>,
    /// Whether it may have been accepted, depending on its sender.
    depends: bool,
}

impl<'f> Walk<'f, '_> {
    /// `sure`: how sure it is that the packet gets here.
    fn through(&mut self, chain: &'f Chain, mut sure: Met, depth: usize) -> End<'f> {
        for rule in &chain.rules {
            let met = met(rule, self.packet).min(sure);
            if met == Met::No {
                continue;
            }
            match &rule.verdict {
                Verdict::Next => {}
                Verdict::Accept if met == Met::Yes => return End::Accepted,
                Verdict::Accept => self.doubt(rule, met),
                Verdict::Drop => {
                    if self.drops(rule, met) {
                        return End::Dropped(Dropped::By(chain, rule));
                    }
                }
                Verdict::Unknown => self.doubt(rule, Met::Beyond),
                Verdict::Return if met == Met::Yes => return End::Through,
                Verdict::Return => sure = sure.min(met),
                Verdict::Jump(target) | Verdict::Goto(target) => {
                    let name = chain.beside(target);
                    let target = self.chains.iter().find(|it| it.name == name);
                    let Some(target) = target.filter(|_| depth < DEPTH) else {
                        self.doubt(rule, Met::Beyond);
                        continue;
                    };
                    match self.through(target, met, depth + 1) {
                        End::Through => {}
                        end @ (End::Accepted | End::Dropped(_)) => return end,
                    }
                    if matches!(rule.verdict, Verdict::Goto(_)) {
                        if met == Met::Yes {
                            return End::Through;
                        }
                        sure = sure.min(met);
                    }
                }
            }
        }
        End::Through
    }

    fn doubt(&mut self, rule: &'f Rule, met: Met) {
        if met == Met::Beyond {
            self.beyond = self.beyond.or(Some(rule));
        } else {
            self.depends = true;
        }
    }

    /// Whether a rule drops the packet, as far as it can be said. One that counted nothing has not.
    fn drops(&mut self, rule: &Rule, met: Met) -> bool {
        if rule.packets == Some(0) {
            return false;
        }
        // Clients are many, and a rule may well drop some of them. Adverts are few.
        let adverts = self.packet.port.is_none() && self.packet.protocol.contains(&"vrrp");
        met == Met::Yes || (adverts && rule.packets.is_some() && names(rule, self.packet))
    }
}

/// Whether packets of that family come by.
fn sees(chain: &Chain, packet: &Packet) -> bool {
    let family = match chain.name.split(' ').next() {
        Some("ip" | "iptables-legacy") => packet.to.is_ipv4(),
        Some("ip6" | "ip6tables-legacy") => packet.to.is_ipv6(),
        Some("arp" | "bridge") => false,
        Some(_) | None => true,
    };
    let by = packet.incoming.as_ref().or(packet.outgoing.as_ref());
    let devices = &chain.devices;
    family && (devices.is_empty() || by.is_some_and(|by| devices.contains(by)))
}

/// Whether a rule is about just such packets: it names their address or their protocol, if that has no
/// ports.
pub(super) fn names(rule: &Rule, packet: &Packet) -> bool {
    rule.matches.iter().any(|condition| {
        let field = &condition.field;
        let protocol = packet.port.is_none() && is_protocol(field);
        let about = protocol || field.ends_with("daddr");
        about && !condition.not && holds(condition, packet) == Met::Yes
    })
}

/// Whether nothing else goes with a rule when it is removed.
pub(super) fn is_about(rule: &Rule, packet: &Packet) -> bool {
    let port = |condition: &Match| {
        let port = condition.field.ends_with("dport") && !condition.not;
        port && holds(condition, packet) == Met::Yes
    };
    !rule.remove.is_empty() && (names(rule, packet) || rule.matches.iter().any(port))
}

fn met(rule: &Rule, packet: &Packet) -> Met {
    let each = rule.matches.iter();
    let least = each.map(|condition| holds(condition, packet)).min();
    let least = least.unwrap_or(Met::Yes);
    if rule.more {
        least.min(Met::Beyond)
    } else {
        least
    }
}

fn is_protocol(field: &str) -> bool {
    matches!(field, "ip protocol" | "ip6 nexthdr" | "meta l4proto")
}

fn holds(condition: &Match, packet: &Packet) -> Met {
    let held = has_one_of(&condition.field, &condition.values, packet);
    match held {
        Met::Yes if condition.not => Met::No,
        Met::No if condition.not => Met::Yes,
        Met::Yes | Met::No | Met::Beyond | Met::Depends => held,
    }
}

fn has_one_of(field: &str, values: &[String], packet: &Packet) -> Met {
    let sure = |yes: bool| if yes { Met::Yes } else { Met::No };
    let among = |names: &[&str]| sure(values.iter().any(|value| names.contains(&value.as_str())));
    let interface = |name: &str| sure(values.iter().any(|value| is_interface(value, name)));
    let (kind, word) = field.split_once(' ').unwrap_or((field, ""));
    if matches!(word, "saddr" | "sport") {
        return Met::Depends;
    }
    if values.iter().any(|value| value.starts_with('@')) {
        return Met::Beyond;
    }
    let cast = packet.to.is_multicast();
    match field {
        _ if is_protocol(field) => among(packet.protocol),
        "ip daddr" | "ip6 daddr" => sure(values.iter().any(|value| covers(value, packet.to))),
        "meta iifname" | "meta iif" => match &packet.incoming {
            Some(name) => interface(name),
            // Nothing of the network comes in there.
            None if values.iter().all(|value| value == "lo") => Met::No,
            None => Met::Depends,
        },
        "meta oifname" | "meta oif" => match &packet.outgoing {
            Some(name) => interface(name),
            None => Met::No,
        },
        "meta nfproto" => among(&[if packet.to.is_ipv4() { "ipv4" } else { "ipv6" }]),
        "meta protocol" => among(&[if packet.to.is_ipv4() { "ip" } else { "ip6" }]),
        "meta pkttype" if cast => among(&["multicast"]),
        "meta pkttype" => among(&["host", "unicast"]),
        "fib daddr type" if cast => among(&["multicast"]),
        "fib daddr type" => among(&["local"]),
        "ct state" => among(&["new", "untracked"]),
        _ => match (word, packet.port) {
            ("dport", Some(port)) => {
                let same = kind == "th" || packet.protocol.contains(&kind);
                sure(same && values.iter().any(|value| has_port(value, port)))
            }
            // Packets without ports, such as adverts.
            (_, None) if PORTS.contains(&kind) || ICMP.contains(&kind) => Met::No,
            _ if (PORTS.contains(&kind) || ICMP.contains(&kind))
                && kind != "th"
                && !packet.protocol.contains(&kind) =>
            {
                Met::No
            }
            _ => Met::Beyond,
        },
    }
}

/// Protocols with ports; `th` is whichever of them.
const PORTS: [&str; 5] = ["tcp", "udp", "sctp", "udplite", "th"];
const ICMP: [&str; 3] = ["icmp", "icmpv6", "igmp"];

/// A name may end with `*` (nft) or `+` (iptables).
fn is_interface(value: &str, name: &str) -> bool {
    let stem = value.strip_suffix(['*', '+']);
    stem.map_or(value == name, |stem| name.starts_with(stem))
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
