//! The director's state as [`Status`]: how each value of `vipctl status` comes about.

#[cfg(test)]
mod bench;
mod servers;

use std::time::{Duration, Instant};

use health::{Health, Weight};
use ipvs::{DestinationKey, Forwarding};
use vrrp::{StateName, TakeoverProbe, Version};

use crate::config::{Method, SyncGroup, VirtualServer, Vrrp};
use crate::director_loop::checks::CheckDetail;
use crate::director_loop::schedule::Pace;
use crate::director_loop::{Director, Refused};
use crate::net::routes::Item;
use crate::net::sys::mac_text;
use crate::status::{
    AllFailingStatus, AskedStatus, ChecksStatus, ConfigStatus, ConflictStatus, IncompatibleStatus,
    IpvsStatus, MasterStatus, PriorityStatus, ReloadStatus, ShortageStatus, Status, TrackStatus,
    VirtualServerStatus, VrrpCounters, VrrpStatus, rfc3339,
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
        let kernel = self.kernel.as_ref();
        let servers = servers::Servers {
            config: &self.config,
            pools: &self.pools,
            health: &self.health,
            details: &self.details,
            dump: kernel.and_then(|kernel| kernel.dump.as_ref().map(|(_, dump)| &**dump)),
            in_sync: kernel.is_some_and(|kernel| kernel.in_sync),
            holds: &|router| self.report(router).is_some_and(|report| report.hold),
        };
        servers.status()
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
