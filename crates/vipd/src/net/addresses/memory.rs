//! What was done on an interface, and how an address is known again: the picture of the interfaces
//! comes later than the kernel's answers, and does not say who did what.

use std::collections::HashMap;

use ipnet::IpNet;
use tokio::time::Instant;

use super::{REPAIR_PACE, RETRY, requests};
use crate::config::{Scope, VirtualAddress};
use crate::net::links::{Link, LinkAddress};

/// What was done on one interface.
#[derive(Default)]
pub(super) struct Memory {
    /// What the kernel acknowledged or had before, and shall be there.
    pub(super) installed: HashMap<IpNet, Installed>,
    /// What was deleted, and when: the picture may still show it.
    pub(super) deleted: HashMap<IpNet, Instant>,
    /// What cannot be had now, and why.
    pub(super) complaints: HashMap<IpNet, String>,
}

pub(super) struct Installed {
    /// The interface's, which is another when it is recreated.
    pub(super) index: u32,
    pub(super) at: Instant,
    /// Whether the picture has shown it since.
    pub(super) seen: bool,
    /// Whether it is ours to remove: not an owner's own address.
    pub(super) ours: bool,
    pub(super) shape: Shape,
}

/// What two addresses that are otherwise the same can differ in.
#[derive(PartialEq, Eq)]
pub(super) struct Shape {
    label: Option<String>,
    scope: Scope,
    prefix_route: bool,
}

impl Memory {
    pub(super) fn is_empty(&self) -> bool {
        self.installed.is_empty() && self.deleted.is_empty() && self.complaints.is_empty()
    }
}

impl Installed {
    pub(super) fn new(link: &Link, address: &VirtualAddress, seen: bool, ours: bool) -> Installed {
        Installed {
            index: link.index,
            at: Instant::now(),
            seen,
            ours,
            shape: Shape::of(address),
        }
    }

    /// Until when it is left alone if it is missing.
    pub(super) fn not_before(&self) -> Instant {
        self.at + if self.seen { REPAIR_PACE } else { RETRY }
    }
}

impl Shape {
    pub(super) fn of(address: &VirtualAddress) -> Shape {
        Shape {
            label: address.label.clone(),
            scope: address.scope,
            prefix_route: address.prefix_route,
        }
    }
}

/// Whether an address that is there is as it should be. Labels differ by themselves when an
/// interface is renamed, so without a wish for one any will do.
pub(super) fn has_shape(shown: &LinkAddress, address: &VirtualAddress) -> bool {
    let label = match (&address.label, &shown.label) {
        (None, _) => true,
        (Some(wanted), Some(label)) => **wanted == **label,
        (Some(wanted), None) => *wanted == address.interface,
    };
    let v4 = address.address.addr().is_ipv4();
    let scope = !v4 || shown.scope == requests::scope(address.scope);
    (label || !v4) && scope && shown.no_prefix_route != address.prefix_route
}
