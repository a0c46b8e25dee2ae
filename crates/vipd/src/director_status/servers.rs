//! The virtual servers and their real servers as `status` shows them. There may be ten thousand, so
//! that this is a function of what it needs and can be measured by itself.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use health::{CheckSpec, Health};
use ipvs::{DestinationKey, DestinationStatistics, Dump, ServiceKey};

use super::{asked_status, health_name, method_name, milliseconds, real_server_name};
use crate::config::{Active, Config, RealServer, VirtualServer};
use crate::desired::{self, Found, HealthTable, PoolState};
use crate::director_loop::checks::{CheckDetail, flap_words};
use crate::director_loop::pools::Pools;
use crate::director_loop::schedule::Pace;
use crate::overrides::Out;
use crate::status::{
    CheckStatus, ConnectionsStatus, QuorumStatus, RealServerStatus, TrafficStatus,
    VirtualServerStatus, WeightStatus,
};

/// No real server comes before it.
const FIRST: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// What the status of virtual servers comes from.
pub(super) struct Servers<'a> {
    pub(super) config: &'a Config,
    pub(super) pools: &'a Pools,
    pub(super) health: &'a HealthTable,
    pub(super) details: &'a BTreeMap<CheckSpec, CheckDetail>,
    /// What the kernel held when it was last read.
    pub(super) dump: Option<&'a Dump>,
    /// Whether the kernel holds what is desired.
    pub(super) in_sync: bool,
    /// Whether this host holds the addresses of that virtual router.
    pub(super) holds: &'a dyn Fn(&str) -> bool,
}

/// A check of a real server, and what is known of it.
struct Known<'a> {
    /// The positions of the virtual server and of the real server.
    user: (usize, usize),
    spec: &'a CheckSpec,
    detail: &'a CheckDetail,
    found: Option<&'a Found>,
}

/// What the kernel says of a real server, in all services of its virtual server: to whoever looks, they
/// are one.
#[derive(Clone, Default)]
struct Counted {
    /// In the first service that has it.
    weight: u32,
    connections: ConnectionsStatus,
    counters: TrafficStatus,
    rates: TrafficStatus,
}

impl Servers<'_> {
    /// All of them, in the order of the configuration.
    pub(super) fn status(&self) -> Vec<VirtualServerStatus> {
        let known = self.known();
        let servers = self.config.virtual_servers.iter().enumerate();
        servers
            .map(|(position, server)| self.server_status(position, server, &known))
            .collect()
    }

    /// What is known of all checks, by whose they are: a search for each of them would be one among all.
    fn known(&self) -> Vec<Known<'_>> {
        let mut all = Vec::with_capacity(self.details.len());
        let mut health = self.health.iter().peekable();
        for (spec, detail) in self.details {
            while health.next_if(|(other, _)| *other < spec).is_some() {}
            let found = health.next_if(|(other, _)| *other == spec);
            let found = found.map(|(_, found)| found);
            all.extend(detail.users.iter().map(|user| Known {
                user: *user,
                spec,
                detail,
                found,
            }));
        }
        all.sort_by_key(|known| known.user);
        all
    }

    /// What the kernel says of the real servers of a virtual server.
    fn counted(&self, server: &VirtualServer) -> HashMap<DestinationKey, Counted> {
        let mut all: HashMap<DestinationKey, Counted> = HashMap::new();
        let Some(dump) = self.dump else {
            return all;
        };
        for service in &server.keys {
            let destinations = dump.table.get(service);
            let destinations = destinations.into_iter().flat_map(|pool| &pool.destinations);
            let first = (*service, DestinationKey(FIRST));
            let mut counts = dump.destinations.range(first..).peekable();
            for (real, destination) in destinations {
                if !server.sends(service, real) {
                    continue;
                }
                let counted = all.entry(*real).or_insert_with(|| Counted {
                    weight: destination.weight,
                    ..Counted::default()
                });
                let key = (*service, *real);
                while counts.next_if(|(other, _)| **other < key).is_some() {}
                if let Some((_, found)) = counts.next_if(|(other, _)| **other == key) {
                    counted.add(found);
                }
            }
        }
        all
    }

    fn server_status(
        &self,
        position: usize,
        server: &VirtualServer,
        known: &[Known<'_>],
    ) -> VirtualServerStatus {
        let counted = self.counted(server);
        let pool = self.pools.states.get(&server.name);
        let up = pool.is_some_and(|pool| pool.quorum);
        let addresses: Vec<String> = server.keys.iter().map(address_name).collect();
        let protocol = match server.first_key() {
            Some(ServiceKey::Address { protocol, .. }) => protocol.to_string(),
            Some(ServiceKey::FirewallMark { .. }) | None => "fwmark".to_owned(),
        };
        let services = server.keys.iter();
        let (counters, rates) = traffic(services.filter_map(|key| self.dump?.services.get(key)));
        VirtualServerStatus {
            name: server.name.clone(),
            address: addresses.first().cloned().unwrap_or_default(),
            addresses,
            counters,
            rates,
            protocol,
            scheduler: server.service.scheduler.as_str().to_owned(),
            forwarding: method_name(server.method).to_owned(),
            active: match server.active {
                Active::Always => "always",
                Active::Master => "master",
            }
            .to_owned(),
            quorum: QuorumStatus {
                needed: server.quorum,
                have: pool.map_or(0, |pool| pool.weight),
                up,
            },
            sorry: server.sorry_server.is_some() && !up,
            panic: pool.is_some_and(PoolState::panic),
            missing: self.is_missing(server),
            real_servers: server
                .real_servers
                .iter()
                .enumerate()
                .map(|(number, real)| {
                    let user = (position, number);
                    let first = known.partition_point(|known| known.user < user);
                    let known = known.get(first..).unwrap_or_default();
                    let own = known.partition_point(|known| known.user == user);
                    let known = known.get(..own).unwrap_or_default();
                    let counted = counted.get(&real.key).cloned().unwrap_or_default();
                    self.real_status(server, real, pool, known, counted)
                })
                .collect(),
        }
    }

    /// Whether the kernel does not have a service that it should have.
    fn is_missing(&self, server: &VirtualServer) -> bool {
        let wanted = match (server.active, &server.vrrp) {
            (Active::Always, _) | (Active::Master, None) => true,
            (Active::Master, Some(router)) => (self.holds)(router),
        };
        // While the kernel holds what is desired, a dump without the service is only an old one.
        wanted
            && !self.in_sync
            && self
                .dump
                .is_none_or(|dump| server.keys.iter().any(|key| !dump.table.contains_key(key)))
    }

    fn real_status(
        &self,
        server: &VirtualServer,
        real: &RealServer,
        pool: Option<&PoolState>,
        known: &[Known<'_>],
        counted: Counted,
    ) -> RealServerStatus {
        let Counted {
            weight,
            connections,
            counters,
            rates,
        } = counted;
        let of = |spec: &CheckSpec| {
            let own = known.iter().find(|known| known.spec == spec);
            own.map_or((None, None), |own| (Some(own.detail), own.found))
        };
        let ordered = self.pools.overrides.of(&server.name, real.key);
        RealServerStatus {
            counters,
            rates,
            address: real_server_name(real.key),
            state: match ordered.out {
                Some(Out::Draining) => "draining",
                Some(Out::Disabled) => "disabled",
                None => health_name(desired::state_by(real, |spec| of(spec).1)),
            }
            .to_owned(),
            weight: WeightStatus {
                configured: real.destination.weight,
                ordered: ordered.weight.map(|weight| weight.ordered),
                effective: weight,
            },
            kept: pool.is_some_and(|pool| pool.kept.contains(&real.key)),
            slow_start: pool.is_some_and(|pool| pool.slowly(real.key)),
            checks: real
                .checks
                .iter()
                .map(|spec| {
                    let (detail, found) = of(spec);
                    check_status(spec, detail, found)
                })
                .collect(),
            connections,
        }
    }
}

impl Counted {
    fn add(&mut self, found: &DestinationStatistics) {
        let sum = &mut self.connections;
        sum.active = sum.active.saturating_add(found.active);
        sum.inactive = sum.inactive.saturating_add(found.inactive);
        sum.persistent = sum.persistent.saturating_add(found.persistent);
        self.counters = self.counters.plus(&TrafficStatus::totals(&found.counters));
        self.rates = self
            .rates
            .plus(&TrafficStatus::rates(&found.counters.rates));
    }
}

fn check_status(
    spec: &CheckSpec,
    detail: Option<&CheckDetail>,
    found: Option<&Found>,
) -> CheckStatus {
    let state = found.map_or(Health::Unknown, |found| found.health);
    CheckStatus {
        kind: spec.kind.name().to_owned(),
        state: health_name(state).to_owned(),
        last_error: detail.and_then(|detail| detail.last_error.clone()),
        last_latency_ms: detail.and_then(|d| d.last_latency).map(milliseconds),
        asks_for: found.and_then(|found| found.weight).map(asked_status),
        runs: runs_name(detail.map_or(Pace::Own, |detail| detail.pace)).to_owned(),
        flapping: detail
            .filter(|detail| detail.flapping)
            .and(spec.flap.as_deref())
            .map(flap_words),
        warning: detail.and_then(|detail| detail.warning.clone()),
    }
}

/// Counters and rates of what is one to whoever looks.
fn traffic<'a>(each: impl Iterator<Item = &'a ipvs::Statistics>) -> (TrafficStatus, TrafficStatus) {
    let nothing = TrafficStatus::default();
    each.fold((nothing, nothing), |(counters, rates), next| {
        (
            counters.plus(&TrafficStatus::totals(next)),
            rates.plus(&TrafficStatus::rates(&next.rates)),
        )
    })
}

/// A service as `status` names it: its address and port, or its mark.
fn address_name(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { address, .. } => address.to_string(),
        ServiceKey::FirewallMark { .. } => key.to_string(),
    }
}

fn runs_name(pace: Pace) -> &'static str {
    match pace {
        Pace::Own => "normally",
        Pace::Slow(_) => "slowly",
        Pace::Stopped => "not",
    }
}
