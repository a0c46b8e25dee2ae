//! Addresses that a reload gives to a virtual router that begins anew.
//!
//! To the network, another VRID, version or interface is another virtual router: it begins as a backup
//! and listens for a master-down interval. Addresses that this host held before the reload stay while
//! it does, so that nobody misses them; they go at once where it hears another master, or has a fault.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use vrrp::StateName;

use super::{Director, Wake};
use crate::config::{Config, Vrrp};
use crate::vrrp_loop::RouterReport;

/// How much later than it should a virtual router may become master.
const SLACK: Duration = Duration::from_secs(1);

/// What this host holds of virtual addresses, and where.
type Held = BTreeSet<(String, IpNet)>;

impl Director {
    /// The virtual addresses that this host holds.
    pub(super) fn held(&self) -> Held {
        let holders = self
            .config
            .vrrp
            .iter()
            .filter(|vrrp| self.holds_addresses(&vrrp.name));
        let addresses = holders.flat_map(|vrrp| &vrrp.addresses);
        addresses
            .map(|address| (address.interface.clone(), address.address))
            .collect()
    }

    /// Whether this host holds the addresses of a virtual router: it is master, was a moment ago, or
    /// carries them over a reload.
    pub(super) fn holds_addresses(&self, name: &str) -> bool {
        let router = self.routers.get(name);
        router.is_some_and(|router| router.report.hold) || self.carries(name)
    }

    fn carries(&self, name: &str) -> bool {
        let until = self.carried.get(name);
        until.is_some_and(|until| *until > Instant::now())
    }

    /// After a reload: which routers begin anew with addresses that are held.
    pub(super) fn carry(&mut self, old: &Config, held: &Held) {
        let config = &self.config;
        self.carried.retain(|name, _| config.vrrp(name).is_some());
        let begins = |vrrp: &&Vrrp| !old.vrrp.iter().any(|known| is_same(known, vrrp));
        let carries = |vrrp: &&Vrrp| {
            let mut addresses = vrrp.addresses.iter();
            addresses.any(|a| held.contains(&(a.interface.clone(), a.address)))
        };
        let anew: Vec<&Vrrp> = config.vrrp.iter().filter(begins).filter(carries).collect();
        for vrrp in anew {
            let parameters = &vrrp.parameters;
            let intervals = u32::from(parameters.down_adverts).saturating_add(2);
            let patience = parameters.interval() * intervals + parameters.start_delay + SLACK;
            let until = Instant::now() + patience;
            self.carried.insert(vrrp.name.clone(), until);
            let wake = self.wake.clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(until.into()).await;
                let _ = wake.send(Wake::Settled);
            });
        }
    }

    /// A router that carries addresses has come to a decision, or has not. What is said before the
    /// advert path has taken the configuration in may be of the router that had the name before.
    pub(super) fn judge_carried(&mut self) {
        if self.unconfigured > 0 || self.carried.is_empty() {
            return;
        }
        let (count, routers) = (self.carried.len(), &self.routers);
        self.carried.retain(|name, _| {
            let report = routers.get(name).map(|router| &router.report);
            report.is_none_or(|report| !is_decided(report))
        });
        if self.carried.len() < count {
            self.unpublished.get_or_insert(0);
        }
    }

    /// Time is over for some.
    pub(super) fn drop_carried(&mut self) {
        let (count, now) = (self.carried.len(), Instant::now());
        self.carried.retain(|_, until| *until > now);
        if self.carried.len() < count {
            self.publish_table();
        }
    }
}

fn is_decided(report: &RouterReport) -> bool {
    match report.state {
        StateName::Master | StateName::Fault => true,
        StateName::Backup => report.master.is_some(),
        StateName::Initialize => false,
    }
}

/// Whether the advert path goes on with it.
fn is_same(old: &Vrrp, new: &Vrrp) -> bool {
    let (before, after) = (&old.parameters, &new.parameters);
    old.interface == new.interface
        && before.family == after.family
        && before.vrid == after.vrid
        && before.version == after.version
}
