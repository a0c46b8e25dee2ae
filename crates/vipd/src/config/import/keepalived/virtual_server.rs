//! `virtual_server` and `virtual_server_group`

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::document::Document;
use super::super::name::Names;
use super::super::server::{Forwarding, Front, Persistence, Server};
use super::block::Node;
use super::context::{Context, parse};
use super::front::{endpoint, fronts, protocol};
use super::pace::Pace;
use super::real::{self, Defaults};
use super::{lost, notify};

/// Without a value, and where only a part of it is said.
const PERSISTENCE: Duration = Duration::from_secs(360);
/// Tells of the virtual servers, before any of them gets a name.
pub(super) fn announce(tree: &[Node], names: &mut Names) {
    for node in tree
        .iter()
        .filter(|node| node.keyword() == "virtual_server")
    {
        if let Some((_, port)) = endpoint(node)
            && !node.has("snmp_name")
        {
            names.announce(protocol(node).unwrap_or("udp"), port);
        }
    }
}

/// What a virtual server says beside its real servers.
#[derive(Default)]
struct Settings {
    scheduler: Option<String>,
    flags: Vec<(String, usize)>,
    forwarding: Option<Forwarding>,
    persistence: Option<Duration>,
    netmask: Option<u8>,
    sip: bool,
    one_packet: bool,
    suspended: bool,
    virtualhost: Option<String>,
    weight: Option<u32>,
    quorum: Option<u32>,
    hysteresis: Option<u32>,
    inhibit: bool,
    pace: Pace,
}

pub(super) fn write(node: &Node, cx: &mut Context<'_>, names: &mut Names, document: &mut Document) {
    let settings = Settings::read(node, cx);
    let fronts = fronts(node, cx);
    let more = fronts.len() > 1;
    for (number, front) in fronts.into_iter().enumerate() {
        let name = match (&front, node.last("snmp_name").and_then(|line| line.arg(0))) {
            (_, Some(name)) => names.take(name),
            (Front::Addresses { port, .. }, None) if node.arg(0) == Some("group") => {
                let group = node.arg(1).unwrap_or_default();
                if more {
                    names.take(&format!("{group}-{port}"))
                } else {
                    names.take(group)
                }
            }
            (
                Front::Addresses {
                    protocol,
                    addresses,
                    port,
                },
                None,
            ) => match addresses.first() {
                Some(address) => names.of_service(protocol, *address, *port),
                None => continue,
            },
            (Front::Mark(mark), None) => names.take(&format!("mark-{mark}")),
        };
        // What is wrong with the real servers of a group is said once.
        let count = number == 0;
        if let Some(server) = settings.server(node, name, front, count, cx) {
            document.push(server.section());
        }
    }
}

impl Settings {
    fn read(node: &Node, cx: &mut Context<'_>) -> Settings {
        let mut s = Settings::default();
        for (number, line) in node.children.iter().enumerate() {
            match line.keyword() {
                "lvs_sched" | "lb_algo" => s.scheduler = cx.text(line),
                "lvs_method" | "lb_kind" => s.forwarding = real::forwarding(line, cx),
                keyword @ ("sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "flag-1"
                | "flag-2") => s.flags.push((keyword.to_owned(), number)),
                "ops" => s.one_packet = true,
                "persistence_engine" => match line.arg(0) {
                    Some("sip") => s.sip = true,
                    other => {
                        let message = format!("no persistence engine is called {other:?}");
                        cx.lost(line, message, "write sip, or remove it");
                    }
                },
                "persistence_timeout" => {
                    s.persistence = match line.arg(0) {
                        None => Some(PERSISTENCE),
                        Some(_) => cx.number(line, 0..=2_678_400_u64).map(Duration::from_secs),
                    };
                }
                "persistence_granularity" => s.netmask = netmask(line, cx),
                "ha_suspend" => s.suspended = true,
                "virtualhost" => s.virtualhost = cx.text(line),
                "weight" => s.weight = cx.number(line, 0..=i32::MAX.unsigned_abs()),
                "quorum" => s.quorum = cx.number(line, 1..=u32::MAX),
                "hysteresis" => s.hysteresis = cx.number(line, 0..=u32::MAX),
                "inhibit_on_failure" => s.inhibit = cx.boolean(line),
                "ip_family"
                | "snmp_name"
                | "protocol"
                | "real_server"
                | "sorry_server"
                | "sorry_server_lvs_method"
                | "quorum_up"
                | "quorum_down" => {}
                _ if s.pace.read(line, cx) => {}
                _ => lost::report(line, &lost::SERVER, "virtual_server", cx),
            }
        }
        s
    }

    fn server(
        &self,
        node: &Node,
        name: String,
        front: Front,
        first: bool,
        cx: &mut Context<'_>,
    ) -> Option<Server> {
        let quiet = cx.notes.lines();
        let scheduler = self.scheduler.clone().unwrap_or_else(|| "wlc".to_owned());
        let forwarding = self.common_forwarding(node, cx);
        let defaults = Defaults {
            forwarding: &forwarding,
            pace: self.pace,
            virtualhost: self.virtualhost.as_deref(),
            weight: self.weight.unwrap_or(1),
        };
        let reals: Vec<_> = node
            .all("real_server")
            .filter_map(|line| real::read(line, &front, &defaults, cx))
            .collect();
        for read in &reals {
            real::tell(read, &name, &front, cx);
        }
        for (keyword, event) in [
            ("quorum_up", "quorum.gained"),
            ("quorum_down", "quorum.lost"),
        ] {
            if let Some(line) = node.last(keyword) {
                notify::add(line, &[event], false, name.clone(), cx);
            }
        }
        let inhibited: Vec<bool> = reals
            .iter()
            .map(|read| read.inhibit.unwrap_or(self.inhibit))
            .collect();
        let zero_weight = inhibited.iter().any(|inhibit| *inhibit);
        if zero_weight && inhibited.iter().any(|inhibit| !*inhibit) {
            let message =
                "inhibit_on_failure is for all real servers of a virtual server or for none";
            cx.lost(
                node,
                message,
                "on_failure = \"zero-weight\" is for all of them in the result",
            );
        }
        let weights: u64 = reals.iter().map(|read| u64::from(read.server.weight)).sum();
        let (quorum, hysteresis) = self.quorum(node, weights, cx);
        let persistence = self.persistence(&front);
        let flags = self.flags(node, &scheduler, cx);
        let sorry_server = self.sorry_server(node, &front, &forwarding, cx);
        self.about_front(node, &front, cx);
        let checked_by = self.checked_by(node, &front, cx);
        if !first {
            cx.notes.forget(&quiet);
        }
        Some(Server {
            name,
            checked_by,
            scheduler,
            flags,
            forwarding,
            persistence,
            one_packet: self.one_packet,
            quorum,
            hysteresis,
            zero_weight,
            sorry_server,
            comment: None,
            real_servers: reals.into_iter().map(|read| read.server).collect(),
            front,
        })
    }

    /// That of the virtual server; where it says nothing, what all real servers say, or NAT.
    fn common_forwarding(&self, node: &Node, cx: &mut Context<'_>) -> Forwarding {
        if let Some(own) = &self.forwarding {
            return own.clone();
        }
        let mut methods = node.all("real_server").map(|real| {
            let line = real.last("lvs_method").or_else(|| real.last("lb_kind"))?;
            Some((
                line,
                line.args()
                    .iter()
                    .map(|word| &word.text)
                    .collect::<Vec<_>>(),
            ))
        });
        let first = methods.next().flatten();
        if let Some((line, words)) = first
            && methods.all(|method| method.is_some_and(|(_, other)| other == words))
            && !node.has("sorry_server")
            && let Some(forwarding) = real::forwarding(line, cx)
        {
            return forwarding;
        }
        Forwarding::new("nat")
    }

    fn quorum(&self, node: &Node, weights: u64, cx: &mut Context<'_>) -> (u32, u32) {
        let mut quorum = self.quorum.unwrap_or(1);
        let most = u32::try_from(weights).unwrap_or(u32::MAX).max(1);
        if quorum > most {
            let line = node.last("quorum").unwrap_or(node);
            let message = format!("the real servers together weigh {most}");
            cx.idle(line, message, format!("keepalived takes {most}, too"));
            quorum = most;
        }
        let mut hysteresis = self.hysteresis.unwrap_or(0);
        if hysteresis >= quorum {
            let line = node.last("hysteresis").unwrap_or(node);
            hysteresis = quorum.saturating_sub(1);
            if self.hysteresis.is_some_and(|written| written > 0) {
                let message = "is not below `quorum`";
                cx.idle(line, message, format!("keepalived takes {hysteresis}, too"));
            }
        }
        (quorum, hysteresis)
    }

    fn persistence(&self, front: &Front) -> Option<Persistence> {
        let every_port = matches!(front, Front::Addresses { port: 0, .. });
        let wanted = self.persistence.is_some_and(|time| !time.is_zero());
        if !wanted && !every_port && self.netmask.is_none() && !self.sip {
            return None;
        }
        Some(Persistence {
            timeout: self.persistence.filter(|_| wanted).unwrap_or(PERSISTENCE),
            netmask: self.netmask,
            sip: self.sip,
        })
    }

    fn flags(&self, node: &Node, scheduler: &str, cx: &mut Context<'_>) -> Vec<&'static str> {
        let mut flags = Vec::new();
        for (word, number) in &self.flags {
            let flag = match (scheduler, word.as_str()) {
                ("sh", "sh-fallback" | "flag-1") => "sh-fallback",
                ("sh", "sh-port" | "flag-2") => "sh-port",
                ("mh", "mh-fallback" | "flag-1") => "mh-fallback",
                ("mh", "mh-port" | "flag-2") => "mh-port",
                _ => {
                    if let Some(line) = node.children.get(*number) {
                        let message = format!("the scheduler {scheduler} has no flag {word:?}");
                        cx.lost(line, message, "it is left out of the result");
                    }
                    continue;
                }
            };
            if !flags.contains(&flag) {
                flags.push(flag);
            }
        }
        flags
    }

    fn sorry_server(
        &self,
        node: &Node,
        front: &Front,
        forwarding: &Forwarding,
        cx: &mut Context<'_>,
    ) -> Option<std::net::SocketAddr> {
        let line = node.last("sorry_server")?;
        if let Some(method) = node.last("sorry_server_lvs_method")
            && real::forwarding(method, cx).is_some_and(|own| own != *forwarding)
        {
            let message = "the sorry server is reached as the real servers are";
            cx.lost(method, message, "it is left out of the result");
        }
        let address = real::address(line, front.port(), cx)?;
        if address.port() != front.port() && address.port() != 0 && !forwarding.changes_ports() {
            let message = "only NAT leads to another port: packets keep theirs";
            cx.idle(line, message, "remove the port");
        }
        Some(address)
    }

    /// What is said of the protocol and the family.
    fn about_front(&self, node: &Node, front: &Front, cx: &mut Context<'_>) {
        let line = node.last("protocol");
        let is_mark = matches!(front, Front::Mark(_));
        match (line, is_mark) {
            (Some(line), true) => {
                let message = "a firewall mark stands for every protocol";
                cx.idle(line, message, "remove it");
            }
            (Some(line), false) if protocol(node).is_none() => {
                let message = "is no protocol of IPVS";
                cx.lost(line, message, "write TCP, UDP or SCTP; the result has UDP");
            }
            (None, false) => {
                let message = "names no protocol, and keepalived takes UDP";
                cx.idle(
                    node,
                    message,
                    "write protocol = \"tcp\" in the result if that is meant",
                );
            }
            (Some(_), false) | (None, true) => {}
        }
        if let Some(line) = node.last("ip_family") {
            let message = "the real servers say the family";
            cx.idle(line, message, "nothing is to be done");
        }
        if is_mark && self.persistence.is_none() && node.has("persistence_granularity") {
            cx.idle(
                node,
                "a granularity makes it persistent",
                "nothing is to be done",
            );
        }
    }

    /// With `ha_suspend` the virtual router that has the address.
    fn checked_by(&self, node: &Node, front: &Front, cx: &mut Context<'_>) -> Option<String> {
        if !self.suspended {
            return None;
        }
        let line = node.last("ha_suspend").unwrap_or(node);
        let addresses = match front {
            Front::Addresses { addresses, .. } => addresses.as_slice(),
            Front::Mark(_) => &[],
        };
        let holds = |instance: &&&Node| {
            let lists = ["virtual_ipaddress", "virtual_ipaddress_excluded"];
            let lists = instance
                .children
                .iter()
                .filter(|list| lists.contains(&list.keyword()));
            let mut held = lists.flat_map(|list| &list.children).map(|line| {
                let address = line.keyword().split('/').next().unwrap_or_default();
                address.parse::<IpAddr>().ok()
            });
            held.any(|held| held.is_some_and(|held| addresses.contains(&held)))
        };
        let router = cx.instances.iter().find(holds).and_then(|node| node.arg(0));
        let router = router.map(str::to_owned);
        if router.is_none() {
            let message = "no vrrp_instance of the file has its address";
            cx.lost(line, message, "write `vrrp` and when = \"master\"");
        }
        router
    }
}

/// A mask such as 255.255.255.0, or the length of a prefix.
fn netmask(line: &Node, cx: &mut Context<'_>) -> Option<u8> {
    let text = cx.text(line)?;
    let length = match text.parse::<Ipv4Addr>() {
        Ok(mask) => {
            let ones = mask.to_bits().leading_ones();
            (mask.to_bits().count_ones() == ones).then_some(ones)
        }
        Err(_) => parse(&text, &(1..=128)),
    };
    let length = length.and_then(|length| u8::try_from(length).ok());
    if length.is_none_or(|length| length == 0) {
        let message = format!("{text:?} is no netmask");
        cx.lost(line, message, "it is left out of the result");
        return None;
    }
    length
}
