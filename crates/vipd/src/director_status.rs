//! The director's state as [`Status`]: how each value of `vipctl status` comes about.

use std::collections::BTreeMap;
use std::time::Duration;

use health::Health;
use ipvs::{DestinationKey, Dump, Forwarding, ServiceKey};
use vrrp::Version;

use crate::config::{Active, RealServer, VirtualServer, Vrrp};
use crate::desired;
use crate::director_loop::Director;
use crate::status::{
    CheckStatus, ConfigStatus, ConnectionsStatus, IpvsStatus, MasterStatus, PriorityStatus,
    QuorumStatus, RealServerStatus, ReloadStatus, Status, VirtualServerStatus, VrrpCounters,
    VrrpStatus, WeightStatus, rfc3339,
};
use crate::vrrp_loop::family_name;

impl Director {
    /// Everything `vipctl status` shows, as it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let dump = self.kernel.as_ref().and_then(|kernel| kernel.dump.as_ref());
        let last_reload = self.last_reload.as_ref().map(|reload| ReloadStatus {
            at: rfc3339(reload.at),
            ok: reload.error.is_none(),
            error: reload.error.clone(),
        });
        Status {
            name: self.config.global.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            vrrp: self
                .config
                .vrrp
                .iter()
                .map(|vrrp| self.vrrp_status(vrrp))
                .collect(),
            virtual_servers: self
                .config
                .virtual_servers
                .iter()
                .map(|server| self.server_status(server, dump.map(|(_, dump)| &**dump)))
                .collect(),
            ipvs: IpvsStatus {
                in_sync: self.kernel.as_ref().is_some_and(|kernel| kernel.in_sync),
                repairs: self.repairs,
                last_resync: dump.map(|(at, _)| rfc3339(*at)),
                refused: self
                    .kernel
                    .as_ref()
                    .map(|k| k.refused.clone())
                    .unwrap_or_default(),
            },
            config: ConfigStatus {
                path: self.config_path.display().to_string(),
                loaded: rfc3339(self.loaded),
                last_reload,
            },
        }
    }

    fn vrrp_status(&self, vrrp: &Vrrp) -> VrrpStatus {
        let parameters = &vrrp.parameters;
        let router = self.routers.get(&vrrp.name);
        let report = router.map(|router| &router.report);
        let counters = self.counters.get(&vrrp.name);
        let discarded = counters.map(|c| c.discarded().map(|(k, v)| (k.to_owned(), v)).collect());
        VrrpStatus {
            name: vrrp.name.clone(),
            interface: vrrp.interface.clone(),
            family: family_name(parameters.family).to_owned(),
            vrid: parameters.vrid,
            version: match parameters.version {
                Version::V2 => 2,
                Version::V3 => 3,
            },
            state: report.map_or("initialize".to_owned(), |report| report.state.to_string()),
            why: report.map(|report| report.why.clone()).unwrap_or_default(),
            faults: self.faults(vrrp),
            priority: PriorityStatus {
                configured: parameters.priority,
                effective: report.map_or(parameters.priority, |r| r.effective_priority),
            },
            advert_interval_ms: milliseconds(parameters.advert_interval),
            virtual_addresses: vrrp
                .addresses
                .iter()
                .map(|a| a.address.to_string())
                .collect(),
            master: report
                .and_then(|report| report.master)
                .map(|(address, priority)| MasterStatus {
                    address: address.to_string(),
                    priority,
                }),
            since: rfc3339(router.map_or(self.loaded, |router| router.since)),
            transitions: router.map_or(0, |router| router.transitions),
            counters: VrrpCounters {
                adverts_sent: counters.map_or(0, |c| c.sent()),
                adverts_received: counters.map_or(0, |c| c.received()),
                discarded: discarded.unwrap_or_default(),
            },
        }
    }

    /// What keeps a virtual router from its work, and which of its addresses cannot be had.
    fn faults(&self, vrrp: &Vrrp) -> Vec<String> {
        let report = self.routers.get(&vrrp.name).map(|router| &router.report);
        let faults = report.into_iter().flat_map(|report| &report.faults);
        let refused = vrrp.addresses.iter().filter_map(|address| {
            let place = (address.interface.clone(), address.address);
            let error = self.refused_addresses.get(&place)?;
            Some(format!("{} on {}: {error}", place.1, place.0))
        });
        faults.map(ToString::to_string).chain(refused).collect()
    }

    fn server_status(&self, server: &VirtualServer, dump: Option<&Dump>) -> VirtualServerStatus {
        let up = self.quorums.get(&server.name).copied().unwrap_or(false);
        let (address, protocol) = match server.key {
            ServiceKey::Address { protocol, address } => {
                (address.to_string(), protocol.to_string())
            }
            ServiceKey::FirewallMark { .. } => (server.key.to_string(), "fwmark".to_owned()),
        };
        VirtualServerStatus {
            name: server.name.clone(),
            address,
            protocol,
            scheduler: server.service.scheduler.as_str().to_owned(),
            forwarding: forwarding_name(server.forwarding).to_owned(),
            active: match server.active {
                Active::Always => "always",
                Active::Master => "master",
            }
            .to_owned(),
            quorum: QuorumStatus {
                needed: server.quorum,
                have: desired::healthy_weight(server, &self.health),
                up,
            },
            sorry: server.sorry_server.is_some() && !up,
            real_servers: server
                .real_servers
                .iter()
                .map(|real| self.real_status(server.key, real, dump))
                .collect(),
        }
    }

    fn real_status(
        &self,
        service: ServiceKey,
        real: &RealServer,
        dump: Option<&Dump>,
    ) -> RealServerStatus {
        let effective = dump.and_then(|dump| effective_weight(dump, service, real.key));
        let counts = dump.and_then(|dump| dump.destinations.get(&(service, real.key)));
        RealServerStatus {
            address: real.key.to_string(),
            state: health_name(desired::state(real, &self.health)).to_owned(),
            weight: WeightStatus {
                configured: real.destination.weight,
                effective: effective.unwrap_or(0),
            },
            checks: real
                .checks
                .iter()
                .map(|spec| {
                    let detail = self.details.get(spec);
                    let state = self.health.get(spec).copied().unwrap_or(Health::Unknown);
                    CheckStatus {
                        kind: spec.kind.name().to_owned(),
                        state: health_name(state).to_owned(),
                        last_error: detail.and_then(|detail| detail.last_error.clone()),
                        last_latency_ms: detail.and_then(|d| d.last_latency).map(milliseconds),
                    }
                })
                .collect(),
            connections: counts
                .map(|counts| ConnectionsStatus {
                    active: counts.active,
                    inactive: counts.inactive,
                    persistent: counts.persistent,
                })
                .unwrap_or_default(),
        }
    }
}

fn effective_weight(dump: &Dump, service: ServiceKey, real: DestinationKey) -> Option<u32> {
    Some(dump.table.get(&service)?.destinations.get(&real)?.weight)
}

/// The configuration's name of a forwarding method.
#[must_use]
pub fn forwarding_name(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Nat => "nat",
        Forwarding::DirectRouting => "dr",
        Forwarding::Tunnel(_) => "tun",
        Forwarding::LocalNode => "local",
        Forwarding::Bypass => "bypass",
    }
}

/// The name of a verdict in `status`.
#[must_use]
pub fn health_name(health: Health) -> &'static str {
    match health {
        Health::Unknown => "unknown",
        Health::Up => "up",
        Health::Down => "down",
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Failures of all checks of a real server, by reason.
#[must_use]
pub(crate) fn failures(director: &Director, real: &RealServer) -> BTreeMap<&'static str, u64> {
    let mut sum = BTreeMap::new();
    for detail in real
        .checks
        .iter()
        .filter_map(|spec| director.details.get(spec))
    {
        for (reason, count) in &detail.failures {
            *sum.entry(*reason).or_insert(0) += count;
        }
    }
    sum
}
