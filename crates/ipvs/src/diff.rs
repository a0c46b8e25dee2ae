//! The difference between two tables, as changes in an order that no client notices.

use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::table::{
    Destination, DestinationKey, Family, Forwarding, Persistence, Pool, Service, ServiceKey, Table,
};

/// One change of the kernel's table: one netlink request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new service, without destinations.
    AddService(ServiceKey, Service),
    /// New settings of a service that is there.
    SetService(ServiceKey, Service),
    /// The end of a service and of every destination behind it.
    RemoveService(ServiceKey),
    /// A new destination behind a service.
    AddDestination(ServiceKey, DestinationKey, Destination),
    /// New settings of a destination that is there.
    SetDestination(ServiceKey, DestinationKey, Destination),
    /// The end of a destination.
    RemoveDestination(ServiceKey, DestinationKey),
}

/// Why a table does not admit a change. The kernel says the same with an errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Impossible {
    /// `EEXIST` for a service.
    #[error("the service is there already")]
    ServiceExists,
    /// `ESRCH`.
    #[error("there is no such service")]
    NoService,
    /// `EEXIST` for a destination.
    #[error("the real server is in the service already")]
    DestinationExists,
    /// `ENOENT`.
    #[error("there is no such real server in the service")]
    NoDestination,
}

/// The changes that lead from `current` to `desired`, in an order in which no client meets an empty
/// pool on the way: new services (each with its destinations at once), changed services, new and
/// raised destinations, then lowered and removed ones, then removed services. A service that goes
/// takes its destinations with it, so those are not named.
///
/// Applying them gives `desired`, and `diff(x, x)` is empty. Equal is what the kernel cannot hold
/// differently, lest the same difference come back with every dump:
///
/// * [`Forwarding::LocalNode`] in `current`, whatever forwarding is desired: a kernel that sets it
///   because the real server is this host would set it again;
/// * persistence timeouts that differ by less than a second;
/// * prefix lengths beyond the family's, which mean the longest.
///
/// IPv6 keys should carry neither flow label nor scope: the kernel has no place for them.
#[must_use]
pub fn diff(current: &Table, desired: &Table) -> Vec<Change> {
    diff_among(current, desired, |_| true)
}

/// [`diff`] that leaves services of `current` alone which are not `ours` (and not desired).
#[must_use]
pub fn diff_among(
    current: &Table,
    desired: &Table,
    ours: impl Fn(&ServiceKey) -> bool,
) -> Vec<Change> {
    let mut new = Vec::new();
    let mut set = Vec::new();
    let mut up = Vec::new();
    let mut down = Vec::new();
    for (&key, pool) in desired {
        match current.get(&key) {
            None => {
                new.push(Change::AddService(key, pool.service.clone()));
                for (&server, &destination) in &pool.destinations {
                    new.push(Change::AddDestination(key, server, destination));
                }
            }
            Some(existing) => {
                if !same_service(key.family(), &existing.service, &pool.service) {
                    set.push(Change::SetService(key, pool.service.clone()));
                }
                diff_destinations(key, existing, pool, &mut up, &mut down);
            }
        }
    }
    let gone = current
        .keys()
        .filter(|key| !desired.contains_key(key) && ours(key));
    let gone = gone.map(|key| Change::RemoveService(*key));
    let mut all = new;
    for mut part in [set, up, down] {
        all.append(&mut part);
    }
    all.extend(gone);
    all
}

/// Does to `table` what the kernel does with `change`.
///
/// # Errors
///
/// The kernel would refuse the change for what is in the table, or is not. What it finds wrong with
/// the settings themselves (an unknown scheduler, thresholds) is not modelled.
pub fn apply_to(table: &mut Table, change: &Change) -> Result<(), Impossible> {
    match change {
        Change::AddService(key, service) => match table.entry(*key) {
            Entry::Occupied(_) => Err(Impossible::ServiceExists),
            Entry::Vacant(entry) => {
                let service = service.clone();
                entry.insert(Pool {
                    service,
                    destinations: Default::default(),
                });
                Ok(())
            }
        },
        Change::SetService(key, service) => {
            table.get_mut(key).ok_or(Impossible::NoService)?.service = service.clone();
            Ok(())
        }
        Change::RemoveService(key) => table.remove(key).map(|_| ()).ok_or(Impossible::NoService),
        Change::AddDestination(key, server, destination) => {
            let pool = table.get_mut(key).ok_or(Impossible::NoService)?;
            match pool.destinations.entry(*server) {
                Entry::Occupied(_) => Err(Impossible::DestinationExists),
                Entry::Vacant(entry) => {
                    entry.insert(*destination);
                    Ok(())
                }
            }
        }
        Change::SetDestination(key, server, destination) => {
            let pool = table.get_mut(key).ok_or(Impossible::NoService)?;
            let existing = pool
                .destinations
                .get_mut(server)
                .ok_or(Impossible::NoDestination)?;
            *existing = *destination;
            Ok(())
        }
        Change::RemoveDestination(key, server) => {
            let pool = table.get_mut(key).ok_or(Impossible::NoService)?;
            pool.destinations
                .remove(server)
                .map(|_| ())
                .ok_or(Impossible::NoDestination)
        }
    }
}

impl Change {
    /// The object that it changes: a service, or a destination of it. No difference names one twice.
    #[must_use]
    pub fn object(&self) -> (ServiceKey, Option<DestinationKey>) {
        match self {
            Change::AddService(key, _)
            | Change::SetService(key, _)
            | Change::RemoveService(key) => (*key, None),
            Change::AddDestination(key, server, _)
            | Change::SetDestination(key, server, _)
            | Change::RemoveDestination(key, server) => (*key, Some(*server)),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddService(key, service) => write!(f, "add service {key}, {service}"),
            Change::SetService(key, service) => write!(f, "change service {key} to {service}"),
            Change::RemoveService(key) => write!(f, "remove service {key}"),
            Change::AddDestination(key, server, destination) => {
                write!(f, "add real server {server} to {key}, {destination}")
            }
            Change::SetDestination(key, server, destination) => {
                write!(f, "change real server {server} of {key} to {destination}")
            }
            Change::RemoveDestination(key, server) => {
                write!(f, "remove real server {server} from {key}")
            }
        }
    }
}

fn diff_destinations(
    key: ServiceKey,
    current: &Pool,
    desired: &Pool,
    up: &mut Vec<Change>,
    down: &mut Vec<Change>,
) {
    let mut found = 0;
    for (&server, &destination) in &desired.destinations {
        let existing = current.destinations.get(&server);
        found += usize::from(existing.is_some());
        match existing {
            None => up.push(Change::AddDestination(key, server, destination)),
            Some(existing) if same_destination(existing, &destination) => {}
            Some(existing) => {
                let lowered = destination.weight < existing.weight;
                let changes = if lowered { &mut *down } else { &mut *up };
                changes.push(Change::SetDestination(key, server, destination));
            }
        }
    }
    if found == current.destinations.len() {
        return;
    }
    let gone = current
        .destinations
        .keys()
        .filter(|key| !desired.destinations.contains_key(key));
    down.extend(gone.map(|server| Change::RemoveDestination(key, *server)));
}

fn same_service(family: Family, current: &Service, desired: &Service) -> bool {
    let kernel_has = |service: &Service| {
        service.persistence.clone().map(|persistence| Persistence {
            timeout: Duration::from_secs(persistence.timeout.as_secs()),
            prefix_length: persistence.prefix_length.min(family.address_bits()),
            engine: persistence.engine,
        })
    };
    current.scheduler == desired.scheduler
        && current.flags == desired.flags
        && kernel_has(current) == kernel_has(desired)
}

fn same_destination(current: &Destination, desired: &Destination) -> bool {
    let forwarding = match current.forwarding {
        Forwarding::LocalNode => desired.forwarding,
        Forwarding::Nat
        | Forwarding::DirectRouting
        | Forwarding::Tunnel(_)
        | Forwarding::Bypass => current.forwarding,
    };
    Destination {
        forwarding,
        ..*current
    } == *desired
}
