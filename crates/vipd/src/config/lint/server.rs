//! Lints of virtual servers.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipvs::{Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerName, ServiceKey};

use super::Lint;
use crate::config::locate::Step::{Item, Key};
use crate::config::text::shown;
use crate::config::{Config, MinimumUp, VirtualServer};

/// The addresses of each virtual router, by its name.
pub(super) type Held<'c> = HashMap<&'c str, HashSet<IpAddr>>;

pub(super) fn lints(
    config: &Config,
    held: &Held<'_>,
    index: usize,
    server: &VirtualServer,
    found: &mut Vec<Lint>,
) {
    scheduling(index, server, found);
    pool(index, server, found);
    checks(index, server, found);
    address(held, index, server, found);
    shadowed(config, index, server, found);
}

fn scheduling(index: usize, server: &VirtualServer, found: &mut Vec<Lint>) {
    let at = |key| vec![Key("virtual_server"), Item(index), Key(key)];
    let service = &server.service;
    if let SchedulerName::Known(scheduler @ (Scheduler::Sh | Scheduler::Mh)) = service.scheduler
        && !service.flags.sched1
    {
        let name = scheduler.name();
        found.push(Lint::new(
            "no-fallback",
            at("scheduler_flags"),
            format!(
                "without \"{name}-fallback\" in scheduler_flags clients of a real server with weight 0 are refused"
            ),
            format!("add \"{name}-fallback\""),
        ));
    }
    // The Call-ID of SIP tells the datagrams of one client apart.
    let by_client = |persistence: &Persistence| persistence.engine.is_none();
    if service.flags.one_packet && service.persistence.as_ref().is_some_and(by_client) {
        found.push(Lint::new(
            "one-packet-persistence",
            at("one_packet"),
            "with persistence and one_packet every datagram of a client goes to one real server",
            "remove one of the two, or write `engine = \"sip\"` for SIP",
        ));
    }
    let mut servers = server.servers();
    if service.flags.one_packet && servers.any(|(_, forwarding, _)| forwarding == Forwarding::Nat) {
        found.push(Lint::new(
            "one-packet-nat",
            at("one_packet"),
            "with one_packet and NAT answers keep the real server's address: nothing remembers the client",
            "remove it, or write forwarding = \"dr\" or \"tun\"",
        ));
    }
}

fn pool(index: usize, server: &VirtualServer, found: &mut Vec<Lint>) {
    let at = |key| vec![Key("virtual_server"), Item(index), Key(key)];
    let real_servers = &server.real_servers;
    for family in [Family::V4, Family::V6] {
        let mut services = server.keys.iter().filter(|key| key.family() == family);
        if let Some(service) = services.next()
            && !real_servers.is_empty()
            && !real_servers
                .iter()
                .any(|real| server.sends(service, &real.key))
        {
            found.push(Lint::new(
                "no-real-server",
                at("addresses"),
                format!("{service} has no real server"),
                "add one of its family, or take the address out",
            ));
        }
    }
    let weights = real_servers
        .iter()
        .map(|real| u64::from(real.destination.weight));
    let sum: u64 = weights.sum();
    let (quorum, hysteresis) = (u64::from(server.quorum), u64::from(server.hysteresis));
    if real_servers.is_empty() {
        return;
    }
    if quorum > sum {
        found.push(Lint::new(
            "quorum-unreachable",
            at("quorum"),
            format!("a quorum of {quorum} is never reached: the weights are {sum} together"),
            format!(
                "write 1 to {}, or give real servers more weight",
                sum.max(1)
            ),
        ));
    } else if quorum.saturating_add(hysteresis) > sum {
        found.push(Lint::new(
            "quorum-regain",
            at("hysteresis"),
            format!(
                "quorum, once lost, is not gained again: that takes {}, and the weights are {sum} together",
                quorum.saturating_add(hysteresis)
            ),
            format!("write 0 to {}", sum.saturating_sub(quorum)),
        ));
    }
    if !server.slow_start.is_zero() && real_servers.iter().all(|real| real.destination.weight <= 1)
    {
        found.push(Lint::new(
            "slow-start-steps",
            at("slow_start"),
            "a weight of 1 has no steps: real servers get all their clients at once",
            "give each a weight such as 100",
        ));
    }
    let panics = match server.minimum_up {
        MinimumUp::Count(count) => count > 0,
        MinimumUp::Percent(percent) => percent > 0,
    };
    if panics && server.sorry_server.is_some() {
        found.push(Lint::new(
            "panic-or-sorry",
            at("minimum_up"),
            "keeps the sorry server out, too: failing real servers stay in the pool and count for quorum",
            "choose one of `minimum_up` and `sorry_server`",
        ));
    }
    let unchecked = real_servers.iter().all(|real| real.checks.is_empty());
    if server.sorry_server.is_some() && unchecked && quorum <= sum {
        found.push(Lint::new(
            "sorry-never",
            at("sorry_server"),
            "no real server has a check, so that quorum is never lost",
            "add `check = { type = \"tcp\" }`, or remove the sorry server",
        ));
    }
}

fn checks(index: usize, server: &VirtualServer, found: &mut Vec<Lint>) {
    let begun = found.len();
    for (number, real) in server.real_servers.iter().enumerate() {
        for (order, check) in real.checks.iter().enumerate() {
            if check.timeout <= check.interval {
                continue;
            }
            let (timeout, interval) = (shown(check.timeout), shown(check.interval));
            let message = format!(
                "a server that is silent is probed every {timeout} only: `timeout` is longer than `interval`, {interval}"
            );
            // Most real servers have the check of their virtual server.
            let known = found.get(begun..).unwrap_or_default();
            if known.iter().any(|other| other.message == message) {
                continue;
            }
            let vs = [Key("virtual_server"), Item(index)];
            let rs = [vs, [Key("real_server"), Item(number)]].concat();
            let places = [&rs[..], &vs[..]].map(|table| {
                [
                    [table, &[Key("check"), Key("timeout")]].concat(),
                    [table, &[Key("checks"), Item(order), Key("timeout")]].concat(),
                    [table, &[Key("check"), Key("interval")]].concat(),
                    [table, &[Key("checks"), Item(order), Key("interval")]].concat(),
                ]
            });
            found.push(Lint {
                name: "check-overlap",
                places: places.concat(),
                message,
                help: format!("write timeout = \"{interval}\" or less, or a longer `interval`"),
            });
        }
    }
}

/// A virtual server of a virtual router that does not hold its address.
fn address(held: &Held<'_>, index: usize, server: &VirtualServer, found: &mut Vec<Lint>) {
    let Some(router) = server.vrrp.as_deref() else {
        return;
    };
    for key in &server.keys {
        if let ServiceKey::Address { address, .. } = key
            && let Some(held) = held.get(router)
            && !held.contains(&address.ip())
        {
            found.push(Lint::new(
                "address-not-held",
                vec![Key("virtual_server"), Item(index), Key("vrrp")],
                format!("{} is no virtual address of vrrp {router:?}", address.ip()),
                "add it to the virtual_addresses there, or name the virtual router that has it",
            ));
        }
    }
}

/// Services that never see a client, because a mark catches them.
fn shadowed(config: &Config, index: usize, server: &VirtualServer, found: &mut Vec<Lint>) {
    let marking = config.virtual_servers.iter();
    for marking in marking.filter(|server| !server.marks.is_empty()) {
        for key in &server.keys {
            if let ServiceKey::Address { protocol, address } = key
                && catches(marking, *protocol, *address)
            {
                found.push(Lint::new(
                    "mark-takes-clients",
                    vec![Key("virtual_server"), Item(index), Key("address")],
                    format!(
                        "{key} gets the firewall mark of {:?}, which takes its clients",
                        marking.name
                    ),
                    "take its port out of that `mark`, or remove this virtual server",
                ));
            }
        }
    }
}

fn catches(marking: &VirtualServer, protocol: Protocol, address: SocketAddr) -> bool {
    marking.marks.iter().any(|rule| {
        rule.protocol == protocol
            && rule.address == address.ip()
            && rule
                .ports
                .iter()
                .any(|ports| ports.contains(&address.port()))
    })
}
