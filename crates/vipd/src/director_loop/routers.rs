//! The virtual routers as the director sees them: what they are told, what they report, and what
//! follows for addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tracing::{error, info, warn};
use vrrp::{Fault, Notice, StateName};

use super::{Director, Refused, Router, Wake};
use crate::config::{Heartbeat, Vrrp};
use crate::events::{Details, Fields, Kind};
use crate::holdings::{self, Role};
use crate::maintenance;
use crate::net::addresses;
use crate::net::firewall;
use crate::net::ipvs_sysctl;
use crate::net::links::Links;
use crate::net::neighbours::{self, Claim};
use crate::net::routes;
use crate::net::sys::{Mac, mac_text};
use crate::net::virtual_mac;
use crate::status::difference;
use crate::track;
use crate::vrrp_loop::{self, Command, Facts, LinkFacts, RouterFacts, RouterReport, Spec};

/// How long after a change of role an address may have two holders.
const SETTLED: Duration = Duration::from_secs(1);
/// How long a claim counts after it was heard.
const CONFLICT_MEMORY: Duration = Duration::from_secs(60);

/// Claims that are remembered; somebody may make up any number of Ethernet addresses.
const CONFLICTS_MAX: usize = 1024;

/// A switchover whose outcome is not known yet.
pub(super) struct Switchover {
    router: String,
    begun: Instant,
    /// It is not master any more, or was not for a moment.
    left: bool,
    /// What the peer was told of connections, in words.
    sent: Option<String>,
    reply: oneshot::Sender<Result<String, String>>,
}

fn is_recent(at: SystemTime) -> bool {
    at.elapsed().is_ok_and(|age| age < CONFLICT_MEMORY)
}

fn report_is_out(routers: &BTreeMap<String, Box<Router>>, name: &str) -> bool {
    routers
        .get(name)
        .is_some_and(|router| match router.report.state {
            StateName::Fault | StateName::Initialize => true,
            StateName::Backup | StateName::Master => false,
        })
}

impl Director {
    pub(super) fn take_vrrp(&mut self, report: vrrp_loop::Report) {
        match report {
            vrrp_loop::Report::Router(report) => self.take_router(report),
            vrrp_loop::Report::Configured => {
                self.unconfigured = self.unconfigured.saturating_sub(1);
                if self.unconfigured == 0 {
                    let configured = |name: &String| self.config.vrrp(name).is_some();
                    self.routers.retain(|name, _| configured(name));
                    self.judge_carried();
                }
                self.publish_holdings();
                self.publish_table();
            }
            vrrp_loop::Report::Discarded {
                routers,
                from,
                discard,
            } => {
                let from = from.map_or("somebody".to_owned(), |from| from.to_string());
                let reason = discard.name();
                warn!(
                    routers = routers.join(","),
                    from, reason, "advert discarded: {discard}"
                );
            }
            vrrp_loop::Report::Trouble { interface, what } => {
                warn!(interface, "{what}");
            }
            vrrp_loop::Report::Notice { router, notice } => {
                let message = notice.to_string();
                if let Notice::TakesOverAnswered { by } = notice {
                    // Two hosts have the addresses from now on; the status says so, too.
                    let vrrp = self.config.vrrp(&router);
                    let address = vrrp.and_then(|vrrp| vrrp.addresses.first());
                    let conflict = address.map(|address| ((address.ip(), by), SystemTime::now()));
                    self.conflicts.extend(conflict);
                }
                self.events.record((&notice).into(), router, message);
            }
            // Goes straight to the link.
            vrrp_loop::Report::Probe(_)
            | vrrp_loop::Report::HandedOver(_)
            | vrrp_loop::Report::Parked { .. }
            | vrrp_loop::Report::Stopped => {}
        }
    }

    pub(super) fn take_router(&mut self, report: RouterReport) {
        let name = report.name.clone();
        let before = self.routers.get(&name);
        let role = |report: &RouterReport| (report.hold, report.announce);
        let role_changed = before.map(|before| role(&before.report)) != Some(role(&report));
        let changed = before.is_none_or(|before| before.report.state != report.state);
        if changed {
            let from = before.map_or("initialize".to_owned(), |b| b.report.state.to_string());
            let why = &report.why;
            let message = format!("{}, was {from}: {why}", report.state);
            let details = Details {
                cause: Some(why.clone()),
                fields: Fields::of([
                    ("priority", report.effective_priority.into()),
                    ("from", from.into()),
                ]),
            };
            self.events
                .record_with(report.state.into(), &name, message, details);
        }
        let known = before.and_then(|before| before.report.incompatible);
        if let Some((peer, reason)) = report.incompatible.filter(|now| known != Some(*now)) {
            let reason = difference(reason);
            let message = format!("adverts of {peer} cannot be accepted: {reason}");
            self.events.record(Kind::VrrpIncompatible, &name, message);
        }
        // The first report of a router that has not started yet is no change of state.
        let moved = changed && (before.is_some() || report.state != StateName::Initialize);
        let peer = report.incompatible;
        let router = Router {
            incompatible_since: before
                .filter(|before| peer.is_some() && before.report.incompatible == peer)
                .and_then(|before| before.incompatible_since)
                .or_else(|| peer.map(|_| SystemTime::now())),
            since: before
                .filter(|_| !changed)
                .map_or_else(SystemTime::now, |b| b.since),
            transitions: before.map_or(0, |b| b.transitions) + u64::from(moved),
            report,
        };
        if before.is_some_and(|before| before.report.hold) && !router.report.hold {
            self.send_rest_of_connections();
        }
        self.routers.insert(name.clone(), Box::new(router));
        if changed {
            self.tell_group(&name);
        }
        self.judge_carried();
        self.judge_switchovers(&name);
        if changed || role_changed {
            self.look_when_settled(changed);
            self.unpublished.get_or_insert(0);
        }
    }

    /// Tells the advert path which virtual routers there are.
    pub(super) fn configure_routers(&mut self) {
        self.counters
            .retain(|name, _| self.config.vrrp.iter().any(|v| v.name == *name));
        let tracked = track::Wanted::of(&self.config);
        self.tracker.set(&tracked);
        self.track.keep(&tracked);
        // Facts go by the names of the routers: they come with the configuration that has these.
        self.facts = self.current_facts();
        let specs = self.config.vrrp.iter().map(|vrrp| {
            let counters = self.counters.entry(vrrp.name.clone()).or_default();
            Spec::new(&self.config, vrrp, Arc::clone(counters))
        });
        let specs: Vec<Spec> = specs.collect();
        let watched = specs.iter().flat_map(|spec| spec.addresses.iter().cloned());
        let _ = self
            .neighbours
            .send(neighbours::Order::Watch(watched.collect()));
        // What follows from the roles follows when the advert path has taken the configuration in.
        self.vrrp
            .send(Command::Configure(specs, self.facts.clone()));
        self.unconfigured += 1;
    }

    /// Tells the advert path what is true of its interfaces and routers, if that is another than
    /// before.
    pub(super) fn tell_facts(&mut self) {
        let facts = self.current_facts();
        if facts != self.facts {
            self.facts.clone_from(&facts);
            self.vrrp.send(Command::Facts(facts));
            self.tell_guard();
        }
    }

    fn current_facts(&mut self) -> Facts {
        let links = Arc::clone(&self.links.borrow_and_update());
        self.track.links = Arc::clone(&links);
        self.track.quorums = self.pools.quorums();
        let own = self.config.vrrp.iter().map(|vrrp| &vrrp.interface);
        let further = self.config.vrrp.iter().flat_map(|vrrp| &vrrp.heartbeats);
        let further = further.filter_map(|heartbeat| match heartbeat {
            Heartbeat::Interface(name) => Some(name),
            Heartbeat::Peer { .. } => None,
        });
        let macvlans = self
            .config
            .vrrp
            .iter()
            .filter_map(|vrrp| vrrp.virtual_mac.as_ref());
        let names: BTreeSet<&String> = own.chain(further).chain(macvlans).collect();
        let link_facts = names.into_iter().map(|name| {
            let link = links.named(name);
            LinkFacts {
                interface: name.clone(),
                index: link.map(|link| link.index),
                up: link.is_some_and(|link| link.up),
                mac: link.and_then(|link| link.mac),
            }
        });
        Facts {
            links: link_facts.collect(),
            routers: self
                .config
                .vrrp
                .iter()
                .map(|vrrp| Arc::new(self.router_facts(vrrp, &links)))
                .collect(),
        }
    }

    fn router_facts(&self, vrrp: &Vrrp, links: &Links) -> RouterFacts {
        let link = links.named(&vrrp.interface);
        let heartbeat_source = |heartbeat: &Heartbeat| match heartbeat {
            Heartbeat::Interface(name) => links
                .named(name)
                .and_then(|link| self.config.own_address(link, vrrp.parameters.family)),
            Heartbeat::Peer { .. } => None,
        };
        let track::Judgement {
            faults,
            offset,
            references_lost,
            ..
        } = track::judge(vrrp, &self.track);
        let mut faults: BTreeSet<Fault> = faults.into_iter().map(Fault::Tracked).collect();
        faults.extend(self.maintenance.then_some(Fault::Maintenance));
        RouterFacts {
            name: vrrp.name.clone(),
            source: link.and_then(|link| self.config.advert_source(vrrp, link)),
            heartbeat_sources: vrrp.heartbeats.iter().map(heartbeat_source).collect(),
            faults,
            priority_offset: offset,
            references_lost,
        }
    }

    /// Somebody says that a virtual address is theirs: news for a backup that wonders whether the
    /// master lives, and a conflict for whoever holds the address.
    pub(super) fn take_claim(&mut self, claim: &Claim) {
        let (address, by) = (claim.address, claim.mac);
        if claim.answer {
            self.vrrp.send(Command::Answered { address, by });
        }
        let has = |vrrp: &&Vrrp| vrrp.addresses.iter().any(|known| known.ip() == address);
        let holder = self.config.vrrp.iter().find(has);
        let holder = holder.and_then(|vrrp| self.routers.get(&vrrp.name));
        // While a role moves, the old and the new holder are both right for a moment.
        let settled = |router: &Router| {
            let in_state = router.since.elapsed().unwrap_or_default();
            router.report.hold && !router.report.lingering && in_state >= SETTLED
        };
        let Some(router) = holder.filter(|router| settled(router)) else {
            return;
        };
        let (now, name) = (SystemTime::now(), router.report.name.clone());
        self.address_conflicts += 1;
        if self.conflicts.len() >= CONFLICTS_MAX {
            self.conflicts.retain(|_, at| is_recent(*at));
        }
        if self.conflicts.len() >= CONFLICTS_MAX {
            return;
        }
        let known = self.conflicts.insert((address, by), now);
        if !known.is_some_and(is_recent) {
            let (by, interface) = (mac_text(by), &claim.interface);
            let message =
                format!("{by} claims it on {interface}, too, although {name} holds it here");
            self.events
                .record(Kind::AddressConflict, address.to_string(), message);
        }
    }

    /// Who claims addresses of that virtual router, and when that was last heard.
    pub(crate) fn conflicts_of(&self, vrrp: &Vrrp) -> Vec<(IpAddr, Mac, SystemTime)> {
        let recent = self.conflicts.iter().filter(|(_, at)| is_recent(**at));
        recent
            .map(|((address, by), at)| (*address, *by, *at))
            .filter(|(ip, _, _)| vrrp.addresses.iter().any(|known| known.ip() == *ip))
            .collect()
    }

    /// Hands a virtual router over; the answer waits for what becomes of it.
    pub(super) fn begin_switchover(
        &mut self,
        name: &str,
        reply: oneshot::Sender<Result<String, String>>,
    ) {
        if let Some(why) = self.switchover_refused(name) {
            let _ = reply.send(Err(why));
            return;
        }
        self.events
            .record(Kind::Switchover, name, "ordered by an operator");
        match self.send_before_handover(name, reply) {
            Some(reply) => self.hand_over(name, None, reply),
            None => self.under_way += 1,
        }
    }

    /// The handover itself, after what goes ahead of it.
    pub(super) fn hand_over(
        &mut self,
        name: &str,
        sent: Option<String>,
        reply: oneshot::Sender<Result<String, String>>,
    ) {
        if let Some(why) = self.switchover_refused(name) {
            let _ = reply.send(Err(why));
            return;
        }
        self.switchovers.push(Switchover {
            router: name.to_owned(),
            begun: Instant::now(),
            left: false,
            sent,
            reply,
        });
        self.vrrp.send(Command::Yield(name.to_owned()));
    }

    /// Answers those whose switchover has come to an end.
    fn judge_switchovers(&mut self, name: &str) {
        let Some(report) = self.routers.get(name).map(|router| &router.report) else {
            return;
        };
        let left = report.state != StateName::Master;
        let followed = report.master.is_some();
        let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.switchovers)
            .into_iter()
            .partition(|switchover| switchover.router == name);
        self.switchovers = others;
        for mut switchover in mine {
            let over = match (left, switchover.left) {
                // Somebody is followed, or it is no backup any more; or it is master again.
                (true, _) => followed || report_is_out(&self.routers, name),
                (false, was_out) => was_out,
            };
            switchover.left |= left;
            if over {
                let outcome = self.switchover_outcome(name, switchover.begun.elapsed());
                let outcome = outcome.map(|words| match switchover.sent {
                    Some(sent) => format!("{words}\nconnections: {sent}"),
                    None => words,
                });
                let _ = switchover.reply.send(outcome);
            } else {
                self.switchovers.push(switchover);
            }
        }
    }

    /// Writes down that this director is out of service, or in again, so that a restart changes
    /// nothing of it. The disk is waited for beside the loop.
    pub(super) fn begin_maintenance(
        &mut self,
        on: bool,
        reply: oneshot::Sender<Result<String, String>>,
    ) {
        let (state_dir, wake) = (self.config.global.state_dir.clone(), self.wake.clone());
        let sending = (on && !self.maintenance).then(|| self.send_before_leaving());
        self.under_way += 1;
        tokio::spawn(async move {
            if let Some(sending) = sending {
                sending.await;
            }
            tokio::task::spawn_blocking(move || {
                let written = maintenance::write(&state_dir, on)
                    .map_err(|error| format!("nothing changed: {}: {error}", state_dir.display()));
                let _ = wake.send(Wake::MaintenanceWritten { on, written, reply });
            });
        });
    }

    /// Takes this director out of service or in again. Returns what that does, in words.
    pub(super) fn set_maintenance(&mut self, on: bool) -> String {
        let words = self.maintenance_words(on);
        if self.maintenance != on {
            self.maintenance = on;
            let (kind, message) = if on {
                (Kind::MaintenanceOn, "gives everything up until it is off")
            } else {
                (Kind::MaintenanceOff, "takes part again")
            };
            self.events.record(kind, &self.config.global.name, message);
            self.tell_facts();
        }
        words
    }

    /// Tells what holds addresses and what goes with them what follows from the roles.
    pub(super) fn publish_holdings(&self) {
        let Some(holdings) = self.holdings.as_ref().filter(|_| self.unconfigured == 0) else {
            return;
        };
        // First, so that nothing is ever held that the guard does not know of.
        self.tell_guard();
        let links = Arc::clone(&self.links.borrow());
        holdings.publish(&self.config, &links, |name| {
            let report = self.routers.get(name).map(|router| &router.report);
            let arriving = self.connections_arrive_at(name);
            Role {
                hold: self.holds_addresses(name),
                announce: report.map_or(0, |report| report.announce),
                arriving: report.is_some() && arriving,
            }
        });
    }

    pub(super) fn take_holdings(&mut self, report: holdings::Report) {
        match report {
            holdings::Report::Addresses(report) => self.take_addresses(report),
            holdings::Report::VirtualMac(report) => self.take_virtual_mac(report),
            holdings::Report::Firewall(report) => match report {
                firewall::Report::Repaired => self.repaired("nftables table inet vipd"),
                firewall::Report::Refused { error } => {
                    self.refuse(Refused::Firewall, "nftables table inet vipd", &error);
                }
                firewall::Report::Mended => self.mend(&Refused::Firewall),
            },
            holdings::Report::Sysctl(report) => self.take_sysctl(report),
            holdings::Report::Routes(report) => match report {
                routes::Report::Repaired { item } => self.repaired(&item.to_string()),
                routes::Report::Refused { item, error } => {
                    let item = item.to_string();
                    self.refuse(Refused::Route(item.clone()), &item, &error);
                }
                routes::Report::Mended { item } => self.mend(&Refused::Route(item.to_string())),
                routes::Report::Changed { added, removed } => {
                    info!(added, removed, "virtual routes and rules changed");
                }
                routes::Report::Trouble { error } => error!("{error}"),
            },
        }
    }

    fn take_sysctl(&mut self, report: ipvs_sysctl::Report) {
        match report {
            ipvs_sysctl::Report::Repaired { name, found } => {
                self.repairs += 1;
                let message = format!("somebody else had made it {found}");
                self.events.record(Kind::IpvsRepaired, name, message);
            }
            ipvs_sysctl::Report::Missing { name } => {
                warn!("this kernel has no {name}: what the configuration says of it has no effect");
            }
            ipvs_sysctl::Report::Refused { name, error } => {
                self.events.record(Kind::IpvsRefused, name.as_str(), &error);
                let what = format!("{name} {error}");
                self.refused.insert(Refused::Sysctl(name), what);
            }
            ipvs_sysctl::Report::Mended { name } => self.mend(&Refused::Sysctl(name)),
        }
    }

    fn take_virtual_mac(&mut self, report: virtual_mac::Report) {
        match report {
            virtual_mac::Report::Repaired { name, .. } => self.repaired(&name),
            virtual_mac::Report::Refused {
                router,
                name,
                error,
            } => self.refuse(Refused::VirtualMac(router), &name, &error),
            virtual_mac::Report::Mended { router, .. } => self.mend(&Refused::VirtualMac(router)),
            virtual_mac::Report::Changed { created, removed } => {
                info!(created, removed, "virtual MACs changed");
            }
            virtual_mac::Report::Trouble { error } => error!("{error}"),
        }
    }

    fn repaired(&mut self, what: &str) {
        self.address_repairs += 1;
        let message = "put back, somebody had changed or deleted it";
        self.events.record(Kind::AddressRepaired, what, message);
    }

    fn refuse(&mut self, refused: Refused, what: &str, error: &str) {
        let message = format!("refused: {error}");
        self.events.record(Kind::AddressRefused, what, message);
        self.refused.insert(refused, format!("{what}: {error}"));
    }

    fn mend(&mut self, refused: &Refused) {
        if let Some(what) = self.refused.remove(refused) {
            info!("no longer refused: {what}");
        }
    }

    pub(super) fn take_addresses(&mut self, report: addresses::Report) {
        match report {
            addresses::Report::Repaired { interface, address } => {
                self.address_repairs += 1;
                let message = format!("put back on {interface}, somebody had deleted it");
                self.events
                    .record(Kind::AddressRepaired, address.to_string(), message);
            }
            addresses::Report::Refused {
                interface,
                address,
                error,
            } => {
                let message = format!("refused on {interface}: {error}");
                self.events
                    .record(Kind::AddressRefused, address.to_string(), message);
                self.refused_addresses.insert((interface, address), error);
            }
            addresses::Report::Mended { interface, address } => {
                info!(interface, %address, "virtual address no longer refused");
                self.refused_addresses.remove(&(interface, address));
            }
            addresses::Report::Changed { added, removed } => {
                info!(added, removed, "virtual addresses changed");
                // Only now nothing more can begin here.
                if removed > 0 {
                    self.send_rest_of_connections();
                }
            }
        }
    }
}
