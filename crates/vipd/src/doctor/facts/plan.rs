//! Whom to ask what, worked out from the configuration and the interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipvs::{Forwarding, ServiceKey, Tunnel};

use super::routes::Way;
use super::serving;
use crate::config::{Config, Heartbeat, VirtualServer};
use crate::net::links::{Link, Links};
use crate::net::sys::Mac;
use crate::status::Status;

/// At least so long is listened, ...
const WINDOW_MIN: Duration = Duration::from_secs(3);
/// ... and at most so long.
const WINDOW_MAX: Duration = Duration::from_secs(4);
/// Addresses that are asked for; of more than that the first ones must do.
const ASKED_MAX: usize = 1024;
/// Real servers that are tried with each of their virtual addresses.
const TRIED_MAX: usize = 256;

/// What is to be done on the network.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Who has these addresses, on these interfaces?
    pub ask: BTreeSet<(Port, IpAddr)>,
    /// Do these take packets for their virtual addresses?
    pub attempts: Vec<Attempt>,
    /// The interfaces that adverts come in by.
    pub listen: BTreeSet<u32>,
    /// How long.
    pub window: Duration,
    /// The names of all interfaces.
    pub names: BTreeMap<u32, String>,
    /// The own Ethernet addresses.
    pub own: BTreeSet<Mac>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub index: u32,
    pub name: String,
    pub mac: Mac,
}

/// One try of a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub server: IpAddr,
    pub vip: IpAddr,
    /// The own address the echo comes from.
    pub source: IpAddr,
    /// Straight onto its link, by this interface; `None`: through an IPIP tunnel.
    pub link: Option<Port>,
}

impl Plan {
    pub(super) fn of(
        config: &Config,
        status: Option<&Status>,
        links: &Links,
        ways: &BTreeMap<IpAddr, Way>,
    ) -> Plan {
        let names = links.iter().map(|link| (link.index, link.name.clone()));
        let own = links.iter().filter(|link| link.up).filter_map(|it| it.mac);
        let mut plan = Plan {
            window: window(config),
            names: names.collect(),
            own: own.collect(),
            ..Plan::default()
        };
        for vrrp in &config.vrrp {
            plan.listen
                .extend(links.named(&vrrp.interface).map(|it| it.index));
            for address in &vrrp.addresses {
                let own = Some(&address.interface) != vrrp.virtual_mac.as_ref();
                let name = if own {
                    &address.interface
                } else {
                    &vrrp.interface
                };
                plan.ask_on(links.named(name), address.ip());
            }
        }
        for peer in configured_peers(config) {
            plan.ask_on(on_link(links, peer), peer);
        }
        for (server, real) in serving(config, status) {
            let host = real.key.0.ip();
            let here = links.iter().any(|link| link.has(host));
            let Some(way) = ways.get(&host).filter(|_| !here) else {
                continue;
            };
            let link = links.iter().find(|link| link.index == way.interface);
            let link = link.filter(|_| way.gateway.is_none());
            plan.ask_on(link, host);
            for vip in vips(server) {
                plan.ask_on(on_link(links, vip), vip);
                plan.attempt(real.destination.forwarding, host, vip, way, link);
            }
        }
        plan
    }

    fn ask_on(&mut self, link: Option<&Link>, address: IpAddr) {
        let port = link.filter(|link| link.up).and_then(port);
        if let Some(port) = port.filter(|_| self.ask.len() < ASKED_MAX) {
            self.ask.insert((port, address));
        }
    }

    fn attempt(
        &mut self,
        forwarding: Forwarding,
        server: IpAddr,
        vip: IpAddr,
        way: &Way,
        link: Option<&Link>,
    ) {
        // An address that is the virtual one would be answered to the real server itself.
        let Some(source) = way.source.filter(|source| *source != vip) else {
            return;
        };
        let link = match forwarding {
            Forwarding::DirectRouting if vip.is_ipv4() == server.is_ipv4() => {
                match link.and_then(port) {
                    Some(port) => Some(port),
                    None => return,
                }
            }
            Forwarding::Tunnel(Tunnel::Ipip) if vip.is_ipv4() && server.is_ipv4() => None,
            Forwarding::DirectRouting
            | Forwarding::Tunnel(_)
            | Forwarding::Nat
            | Forwarding::LocalNode
            | Forwarding::Bypass => return,
        };
        let attempt = Attempt {
            server,
            vip,
            source,
            link,
        };
        if self.attempts.len() < TRIED_MAX && !self.attempts.contains(&attempt) {
            self.attempts.push(attempt);
        }
    }
}

/// What clients of a virtual server connect to.
pub(in crate::doctor) fn vips(server: &VirtualServer) -> BTreeSet<IpAddr> {
    let of_keys = server.keys.iter().filter_map(|key| match key {
        ServiceKey::Address { address, .. } => Some(address.ip()),
        ServiceKey::FirewallMark { .. } => None,
    });
    let of_marks = server.marks.iter().map(|rule| rule.address);
    of_keys.chain(of_marks).collect()
}

/// The addresses that the configuration gives other directors.
pub(in crate::doctor) fn configured_peers(config: &Config) -> BTreeSet<IpAddr> {
    let mut peers = BTreeSet::new();
    for vrrp in &config.vrrp {
        let unicast = vrrp.parameters.unicast.iter().flat_map(|it| &it.peers);
        peers.extend(unicast.map(|peer| peer.address));
        for heartbeat in &vrrp.heartbeats {
            match heartbeat {
                Heartbeat::Peer { peer, .. } => peers.insert(*peer),
                Heartbeat::Interface(_) => false,
            };
        }
    }
    peers
}

/// The interface whose network has an address.
pub(in crate::doctor) fn on_link(links: &Links, address: IpAddr) -> Option<&Link> {
    let has = |link: &&Link| {
        let mut own = link.addresses.iter();
        link.name != "lo" && own.any(|known| known.address.contains(&address))
    };
    links.iter().find(has)
}

fn port(link: &Link) -> Option<Port> {
    Some(Port {
        index: link.index,
        name: link.name.clone(),
        mac: link.mac.filter(|mac| *mac != [0; 6])?,
    })
}

/// Two adverts of the slowest virtual router, and a little.
pub(super) fn window(config: &Config) -> Duration {
    let intervals = config.vrrp.iter().map(|it| it.parameters.advert_interval);
    let slowest = intervals.max().unwrap_or_default();
    (slowest * 5 / 2).clamp(WINDOW_MIN, WINDOW_MAX)
}
