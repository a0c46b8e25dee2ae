//! Sync groups: their members are master together or not at all. Level-triggered: what follows depends
//! on the members' states as they are, never on how they came about.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{RouterKey, Routers};
use crate::action::{Action, Reason, StateName};
use crate::event::{Event, Fault};
use crate::router::VirtualRouter;

/// A sync group.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) keys: BTreeSet<RouterKey>,
    /// When its members last stopped being masters because of one of them.
    gave_way_at: Option<Instant>,
    /// They are not masters again before then.
    pub(super) patience: Option<Instant>,
}

impl Group {
    pub(super) fn new(keys: BTreeSet<RouterKey>) -> Group {
        Group {
            keys,
            gave_way_at: None,
            patience: None,
        }
    }
}

impl Routers {
    /// All or none: what follows from the states of a group's members as they are now.
    pub(super) fn settle_group(
        &mut self,
        now: Instant,
        group: usize,
        actions: &mut Vec<(RouterKey, Action)>,
    ) {
        let members = self.routers.iter();
        let keys: Vec<RouterKey> = members
            .filter(|(_, member)| member.group == Some(group))
            .map(|(key, _)| *key)
            .collect();
        self.share_faults(now, &keys, actions);
        let gave_way = self.give_way(now, &keys, actions);
        if self.must_wait(now, group, &keys, gave_way) {
            return;
        }
        let members = || keys.iter().filter_map(|key| self.get(key));
        if members().all(VirtualRouter::is_ready) {
            for key in &keys {
                self.act(*key, actions, |router| router.promote(now));
            }
        }
    }

    /// A fault of one is a fault of all.
    fn share_faults(
        &mut self,
        now: Instant,
        keys: &[RouterKey],
        actions: &mut Vec<(RouterKey, Action)>,
    ) {
        let standings: Vec<(RouterKey, Standing)> = keys
            .iter()
            .filter_map(|key| Some((*key, Standing::of(self.get(key)?))))
            .collect();
        for (key, standing) in &standings {
            let others = standings.iter().filter(|(other, _)| other != key);
            let worst = others.map(|(_, other)| other.fault).max();
            match (worst.unwrap_or_default(), standing.group_fault) {
                (OwnFault::None, false) | (OwnFault::Planned | OwnFault::Broken, true) => {}
                (OwnFault::None, true) => {
                    let cleared = Event::FaultCleared(Fault::SyncGroup);
                    self.act(*key, actions, |router| router.handle(now, cleared));
                }
                (fault @ (OwnFault::Planned | OwnFault::Broken), false) => {
                    let planned = fault == OwnFault::Planned;
                    self.act(*key, actions, |router| {
                        router.raise(now, Fault::SyncGroup, planned)
                    });
                }
            }
        }
    }

    /// Where one follows a better master, or has handed over by order, none is master. Returns
    /// whether a master was among them.
    fn give_way(
        &mut self,
        now: Instant,
        keys: &[RouterKey],
        actions: &mut Vec<(RouterKey, Action)>,
    ) -> bool {
        let members = || keys.iter().filter_map(|key| self.get(key));
        let yielded = members().any(VirtualRouter::has_yielded);
        let is_master = |router: &VirtualRouter| router.state_name() == StateName::Master;
        if !(yielded || members().any(VirtualRouter::follows)) || !members().any(is_master) {
            return false;
        }
        let why = if yielded {
            Reason::Yielded
        } else {
            Reason::SyncGroup
        };
        for key in keys {
            self.act(*key, actions, |router| router.hand_over(now, why.clone()));
        }
        !yielded
    }

    /// Hosts that become masters in the same moment, each better in another member, all give way,
    /// and would do so again and again. The one comes back first that nobody outranks in the first
    /// member, which is the same one on every host: there is exactly one such host.
    fn must_wait(
        &mut self,
        now: Instant,
        group: usize,
        keys: &[RouterKey],
        gave_way: bool,
    ) -> bool {
        let members = || keys.iter().filter_map(|key| self.get(key));
        let first = members().min_by_key(|router| {
            let parameters = router.parameters();
            let addresses = parameters.addresses.clone();
            (parameters.vrid, parameters.family, addresses)
        });
        let outranked = first.is_some_and(VirtualRouter::is_outranked);
        // Who is outranked in every member has simply lost.
        let beaten = members().all(VirtualRouter::is_outranked);
        let longest = members().map(|router| router.parameters().interval()).max();
        let slowest = members().map(VirtualRouter::succession).max();
        let (longest, slowest) = (longest.unwrap_or_default(), slowest.unwrap_or_default());
        let Some(group) = self.groups.get_mut(group) else {
            return false;
        };
        if gave_way {
            group.gave_way_at = Some(now);
        }
        if let Some(at) = group.gave_way_at.filter(|at| now < *at + longest)
            && outranked
        {
            group.patience = Some(at + slowest + longest * 2).filter(|_| !beaten);
        }
        group.patience = group.patience.filter(|until| now < *until);
        group.patience.is_some()
    }
}

/// What the other members of a sync group need to know of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    fault: OwnFault,
    group_fault: bool,
    follows: bool,
    yielded: bool,
    ready: bool,
    state: StateName,
}

/// Whether a started router has a fault that is not its group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum OwnFault {
    #[default]
    None,
    /// Only because it was taken out of service.
    Planned,
    Broken,
}

impl Standing {
    pub(super) fn of(router: &VirtualRouter) -> Standing {
        let faults = router.faults();
        let own = faults.iter().filter(|fault| **fault != Fault::SyncGroup);
        let worst = own
            .map(|fault| match fault {
                Fault::Maintenance => OwnFault::Planned,
                Fault::InterfaceMissing
                | Fault::InterfaceDown
                | Fault::NoAddress
                | Fault::NoSocket
                | Fault::Tracked(_)
                | Fault::Unreachable
                | Fault::SyncGroup => OwnFault::Broken,
            })
            .max();
        Standing {
            fault: worst.filter(|_| router.has_started()).unwrap_or_default(),
            group_fault: faults.contains(&Fault::SyncGroup),
            follows: router.follows(),
            yielded: router.has_yielded(),
            ready: router.is_ready(),
            state: router.state_name(),
        }
    }
}
