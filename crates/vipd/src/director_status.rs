//! The director's state as [`Status`]: how each value of `vipctl status` comes about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use health::{Health, Weight};
use ipvs::{DestinationKey, Dump, Forwarding, ServiceKey};
use vrrp::{StateName, TakeoverProbe, Version};

use crate::config::{Active, Method, RealServer, SyncGroup, VirtualServer, Vrrp};
use crate::desired::{self, PoolState};
use crate::director_loop::checks::{CheckDetail, flap_words};
use crate::director_loop::schedule::Pace;
use crate::director_loop::{Director, Refused};
use crate::net::routes::Item;
use crate::net::sys::mac_text;
use crate::overrides::Out;
use crate::status::{
    AllFailingStatus, AskedStatus, CheckStatus, ChecksStatus, ConfigStatus, ConflictStatus,
    ConnectionsStatus, IncompatibleStatus, IpvsStatus, MasterStatus, PriorityStatus, QuorumStatus,
    RealServerStatus, ReloadStatus, ShortageStatus, Status, TrackStatus, TrafficStatus,
    VirtualServerStatus, VrrpCounters, VrrpStatus, WeightStatus, rfc3339,
};
use crate::track;
use crate::vrrp_loop::{RouterReport, family_name};

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
            maintenance: self.maintenance,
            events_last_id: self.events.last_id(),
            vrrp: self
                .config
                .vrrp
                .iter()
                .map(|vrrp| self.vrrp_status(vrrp))
                .collect(),
            virtual_servers: self.virtual_servers_status(),
            checks: self.checks_status(),
            ipvs: IpvsStatus {
                in_sync: self.kernel.as_ref().is_some_and(|kernel| kernel.in_sync),
                repairs: self.repairs,
                last_resync: dump.map(|(at, _)| rfc3339(*at)),
                refused: self
                    .kernel
                    .as_ref()
                    .map(|k| k.refused.clone())
                    .unwrap_or_default(),
                problems: self.ipvs_problems(),
                sync: self.sync_status(),
            },
            config: ConfigStatus {
                path: self.config_path.display().to_string(),
                loaded: rfc3339(self.loaded),
                last_reload,
                trial_seconds_left: self.reloads.seconds_left(),
                unconfirmed: self.reloads.unconfirmed,
            },
        }
    }

    /// The virtual servers and their real servers.
    pub(crate) fn virtual_servers_status(&self) -> Vec<VirtualServerStatus> {
        let dump = self.kernel.as_ref().and_then(|kernel| kernel.dump.as_ref());
        let dump = dump.map(|(_, dump)| &**dump);
        let servers = self.config.virtual_servers.iter();
        servers
            .map(|server| self.server_status(server, dump))
            .collect()
    }

    fn vrrp_status(&self, vrrp: &Vrrp) -> VrrpStatus {
        let parameters = &vrrp.parameters;
        let router = self.routers.get(&vrrp.name);
        let report = router.map(|router| &router.report);
        let somebody = |(address, priority): (std::net::IpAddr, u8)| MasterStatus {
            address: address.to_string(),
            priority,
        };
        let group = |group: &&SyncGroup| group.members.contains(&vrrp.name);
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
            transport: match parameters.unicast {
                Some(_) => "unicast",
                None => "multicast",
            }
            .to_owned(),
            virtual_mac: vrrp.virtual_mac.clone(),
            accept: vrrp.accept,
            sync_group: self
                .config
                .sync_groups
                .iter()
                .find(group)
                .map(|group| group.name.clone()),
            takeover_probe: match parameters.takeover_probe {
                TakeoverProbe::Off => "off",
                TakeoverProbe::Warn => "warn",
                TakeoverProbe::Hold => "hold",
            }
            .to_owned(),
            master: report.and_then(|report| report.master).map(somebody),
            rival: report.and_then(|report| report.rival).map(somebody),
            suspect: report.and_then(|report| report.suspect).map(mac_text),
            incompatible: self.incompatible_peer(&vrrp.name),
            conflicts: self.address_conflicts(vrrp),
            yielded: report.is_some_and(|report| report.yielded),
            lingering: report.is_some_and(|report| report.lingering),
            track: self.tracked(vrrp),
            since: rfc3339(router.map_or(self.loaded, |router| router.since)),
            transitions: router.map_or(0, |router| router.transitions),
            counters: VrrpCounters {
                adverts_sent: counters.map_or(0, |c| c.sent()),
                adverts_received: counters.map_or(0, |c| c.received()),
                discarded: discarded.unwrap_or_default(),
            },
        }
    }

    /// The living peer of that virtual router whose adverts break a compatibility rule.
    fn incompatible_peer(&self, router: &str) -> Option<IncompatibleStatus> {
        let router = self.routers.get(router)?;
        let (address, reason) = router.report.incompatible?;
        Some(IncompatibleStatus {
            address: address.to_string(),
            reason: reason.to_owned(),
            since: rfc3339(router.incompatible_since?),
        })
    }

    /// Who else claims addresses of that virtual router.
    fn address_conflicts(&self, vrrp: &Vrrp) -> Vec<ConflictStatus> {
        let conflicts = self.conflicts_of(vrrp).into_iter();
        conflicts
            .map(|(address, mac, last)| ConflictStatus {
                address: address.to_string(),
                mac: mac_text(mac),
                last: rfc3339(last),
            })
            .collect()
    }

    /// What a virtual router tracks, and how that is.
    fn tracked(&self, vrrp: &Vrrp) -> Vec<TrackStatus> {
        let tracks = vrrp.track.iter();
        tracks
            .map(|track| {
                let judgement = track::judge_one(track, &self.track);
                let wrong = judgement.faults.union(&judgement.notes);
                let wrong: Vec<&str> = wrong.map(String::as_str).collect();
                TrackStatus {
                    what: track.what.to_string(),
                    ok: wrong.is_empty(),
                    detail: wrong.join("; "),
                    weight: track.weight,
                }
            })
            .collect()
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
        let others = self.refused.iter().filter(|(refused, _)| match refused {
            Refused::VirtualMac(router) => *router == vrrp.name,
            Refused::Firewall => !vrrp.accept,
            Refused::Sysctl(_) => false,
            Refused::Route(item) => {
                let routes = vrrp.routes.iter().cloned().map(Item::Route);
                let rules = vrrp.rules.iter().cloned().map(Item::Rule);
                routes.chain(rules).any(|known| known.to_string() == *item)
            }
        });
        faults
            .map(ToString::to_string)
            .chain(refused)
            .chain(others.map(|(_, why)| why.clone()))
            .collect()
    }

    /// What keeps virtual servers from working beside IPVS's own table.
    fn ipvs_problems(&self) -> Vec<String> {
        let needs_rules =
            |server: &VirtualServer| !server.marks.is_empty() || server.has_full_nat();
        let concern = |refused: &Refused| match refused {
            Refused::Sysctl(_) => true,
            Refused::Firewall => self.config.virtual_servers.iter().any(needs_rules),
            Refused::VirtualMac(_) | Refused::Route(_) => false,
        };
        let refused = self.refused.iter();
        refused
            .filter(|(refused, _)| concern(refused))
            .map(|(_, why)| why.clone())
            .collect()
    }

    fn server_status(&self, server: &VirtualServer, dump: Option<&Dump>) -> VirtualServerStatus {
        let pool = self.pools.states.get(&server.name);
        let up = pool.is_some_and(|pool| pool.quorum);
        let addresses: Vec<String> = server.keys.iter().map(address_name).collect();
        let protocol = match server.first_key() {
            Some(ServiceKey::Address { protocol, .. }) => protocol.to_string(),
            Some(ServiceKey::FirewallMark { .. }) | None => "fwmark".to_owned(),
        };
        let services = server.keys.iter();
        let (counters, rates) =
            traffic(services.filter_map(|key| dump.and_then(|dump| dump.services.get(key))));
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
            missing: self.is_missing(server, dump),
            real_servers: server
                .real_servers
                .iter()
                .map(|real| self.real_status(server, real, dump))
                .collect(),
        }
    }

    fn checks_status(&self) -> ChecksStatus {
        let stopped = |detail: &&CheckDetail| detail.pace == Pace::Stopped;
        let stopped = self.details.values().filter(stopped).count();
        let alarms = &self.alarms;
        let all_failing = alarms.all_failing.map(|(since, targets)| AllFailingStatus {
            targets,
            since: rfc3339(since),
        });
        let shortage = alarms.shortage.recent(Instant::now());
        ChecksStatus {
            running: self.details.len() - stopped,
            stopped,
            all_failing,
            shortage: shortage.map(|(last, why)| ShortageStatus {
                probes: alarms.shortage.total,
                last: rfc3339(last),
                why: why.to_owned(),
            }),
        }
    }

    /// Whether the kernel does not have a service that it should have.
    fn is_missing(&self, server: &VirtualServer, dump: Option<&Dump>) -> bool {
        let wanted = match (server.active, &server.vrrp) {
            (Active::Always, _) | (Active::Master, None) => true,
            (Active::Master, Some(router)) => self.report(router).is_some_and(|report| report.hold),
        };
        // While the kernel holds what is desired, a dump without the service is only an old one.
        let in_sync = self.kernel.as_ref().is_some_and(|kernel| kernel.in_sync);
        wanted
            && !in_sync
            && dump.is_none_or(|dump| server.keys.iter().any(|key| !dump.table.contains_key(key)))
    }

    fn real_status(
        &self,
        server: &VirtualServer,
        real: &RealServer,
        dump: Option<&Dump>,
    ) -> RealServerStatus {
        let services = || {
            server
                .keys
                .iter()
                .filter(|key| server.sends(key, &real.key))
        };
        let effective =
            dump.and_then(|dump| services().find_map(|key| effective_weight(dump, *key, real.key)));
        let mut connections = ConnectionsStatus::default();
        let (mut counters, mut rates) = (TrafficStatus::default(), TrafficStatus::default());
        // The services of one virtual server are one to whoever looks.
        for key in services() {
            let found = dump.and_then(|dump| dump.destinations.get(&(*key, real.key)));
            let Some(found) = found else {
                continue;
            };
            connections.active = connections.active.saturating_add(found.active);
            connections.inactive = connections.inactive.saturating_add(found.inactive);
            connections.persistent = connections.persistent.saturating_add(found.persistent);
            counters = counters.plus(&TrafficStatus::totals(&found.counters));
            rates = rates.plus(&TrafficStatus::rates(&found.counters.rates));
        }
        let ordered = self.pools.overrides.of(&server.name, real.key);
        let pool = self.pools.states.get(&server.name);
        RealServerStatus {
            counters,
            rates,
            address: real_server_name(real.key),
            state: match ordered.out {
                Some(Out::Draining) => "draining",
                Some(Out::Disabled) => "disabled",
                None => health_name(desired::state(real, &self.health)),
            }
            .to_owned(),
            weight: WeightStatus {
                configured: real.destination.weight,
                ordered: ordered.weight.map(|weight| weight.ordered),
                effective: effective.unwrap_or(0),
            },
            kept: pool.is_some_and(|pool| pool.kept.contains(&real.key)),
            slow_start: pool.is_some_and(|pool| pool.slowly(real.key)),
            checks: real
                .checks
                .iter()
                .map(|spec| {
                    let detail = self.details.get(spec);
                    let found = self.health.get(spec);
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
                })
                .collect(),
            connections,
        }
    }
}

impl Director {
    /// Why a virtual router cannot be handed over now; `None`: it can be tried.
    #[must_use]
    pub fn switchover_refused(&self, router: &str) -> Option<String> {
        if self.config.vrrp(router).is_none() {
            return Some(format!("there is no virtual router {router}"));
        }
        if self.maintenance {
            return Some("this director is in maintenance and master of nothing".to_owned());
        }
        let state = self.report(router).map(|report| report.state);
        if state == Some(StateName::Master) {
            return None;
        }
        let state = state.map_or("not started".to_owned(), |state| state.to_string());
        let master = self.report(router).and_then(|report| report.master);
        let master = master.map_or("no master is heard".to_owned(), |(address, _)| {
            format!("master {address}")
        });
        Some(format!("{router} is not master here ({state}; {master})"))
    }

    /// How a handover that was begun `took` ago went, or why it failed.
    ///
    /// # Errors
    ///
    /// Nobody else is master.
    pub fn switchover_outcome(&self, router: &str, took: Duration) -> Result<String, String> {
        let report = self.report(router);
        match report.map(|report| (report.state, report.master)) {
            Some((StateName::Backup, Some((address, priority)))) => Ok(format!(
                "{router}: {address} (priority {priority}) is master; handed over in {} ms",
                took.as_millis()
            )),
            Some((StateName::Master, _)) => Err(format!(
                "{router}: nobody took over; this director is still master"
            )),
            Some((state, _)) => Err(format!(
                "{router}: nobody took over yet; this director is in state {state}"
            )),
            None => Err(format!("{router} is not configured any more")),
        }
    }

    /// What maintenance, turned on or off now, does to each virtual router; a line each.
    #[must_use]
    pub fn maintenance_words(&self, on: bool) -> String {
        let mut lines = vec![
            match (on, self.maintenance) {
                (true, false) => {
                    "maintenance is on, also after a restart, until `vipctl maintenance off`"
                }
                (true, true) => "maintenance was on already",
                (false, true) => "maintenance is off",
                (false, false) => "maintenance was off already",
            }
            .to_owned(),
        ];
        if on != self.maintenance {
            for vrrp in &self.config.vrrp {
                let state = self.report(&vrrp.name).map(|report| report.state);
                let what = match (on, state) {
                    (true, Some(StateName::Master)) => "was master, gives its addresses up",
                    (true, Some(StateName::Backup)) => "was backup, does not take over any more",
                    (true, Some(StateName::Fault)) => "was in fault, takes no part any more",
                    (true, Some(StateName::Initialize) | None) => "takes no part",
                    (false, _) => "takes part again, beginning as backup",
                };
                lines.push(format!("{}: {what}", vrrp.name));
            }
        }
        lines.join("\n")
    }

    /// The quorum of a virtual server in words.
    #[must_use]
    pub(crate) fn quorum_words(&self, server: &VirtualServer) -> String {
        let pool = self.pools.states.get(&server.name);
        let have = pool.map_or(0, |pool| pool.weight);
        format!(
            "healthy real servers have weight {have}, {} is needed",
            server.quorum
        )
    }

    fn report(&self, router: &str) -> Option<&RouterReport> {
        self.routers.get(router).map(|router| &router.report)
    }
}

/// A real server as the configuration names it: without a port where the service decides on it.
#[must_use]
pub fn real_server_name(key: DestinationKey) -> String {
    match key.0.port() {
        0 => key.0.ip().to_string(),
        _ => key.to_string(),
    }
}

fn effective_weight(dump: &Dump, service: ServiceKey, real: DestinationKey) -> Option<u32> {
    Some(dump.table.get(&service)?.destinations.get(&real)?.weight)
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

/// The configuration's name of a forwarding method.
#[must_use]
pub fn method_name(method: Method) -> &'static str {
    if method.masquerade {
        "fullnat"
    } else {
        forwarding_name(method.forwarding)
    }
}

/// The configuration's name of what IPVS does.
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

/// A weight that a real server asks for, in `status`.
pub(crate) fn asked_status(weight: Weight) -> AskedStatus {
    match weight {
        Weight::Absolute(weight) => AskedStatus::Absolute(weight),
        Weight::Percent(share) => AskedStatus::Percent(share),
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

fn runs_name(pace: Pace) -> &'static str {
    match pace {
        Pace::Own => "normally",
        Pace::Slow(_) => "slowly",
        Pace::Stopped => "not",
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
