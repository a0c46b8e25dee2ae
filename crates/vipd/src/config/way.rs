//! `via = "vip"`: how a check goes the clients' way through one real server. Its packets go to the virtual
//! address and carry a firewall mark of vipd's own, and a service of that mark has that real server
//! alone (Google's Seesaw does it so). Such a service is a *way*.
//!
//! A mark follows from what the way leads to, so that it is the same after a reload, a restart and a
//! crash.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use ipvs::{DestinationKey, Family, Forwarding, ServiceKey};

use super::value::Value;

/// The marks of ways. Nobody else may use them: a service with one of them is vipd's.
pub const MARKS: RangeInclusive<u32> = MARK_BITS..=MARK_BITS | !MARK_MASK;
/// What the marks have in common, ...
pub const MARK_BITS: u32 = 0x7670_0000;
/// ... and which of their bits that are.
pub const MARK_MASK: u32 = 0xfff0_0000;

/// What a way leads to, and how. The real server's port counts with NAT only, where it is the one
/// that packets get.
type Way = (Family, Forwarding, DestinationKey);

/// The ways of a configuration.
#[derive(Debug, Default)]
pub(super) struct Ways(BTreeMap<u32, Way>);

/// What the checks of one virtual server go to.
#[derive(Debug)]
pub(super) struct Targets(pub(super) Vec<SocketAddr>);

impl Ways {
    /// The mark of a way; `None`: there are more of them than marks.
    pub(super) fn mark(&mut self, way: Way) -> Option<NonZeroU32> {
        let first = hash(&way) & !MARK_MASK;
        let numbers = (first..=!MARK_MASK).chain(0..first);
        let mut marks = numbers.map(|number| MARK_BITS | number);
        let mark = marks.find(|mark| *self.0.entry(*mark).or_insert(way) == way)?;
        NonZeroU32::new(mark)
    }
}

impl Targets {
    /// Those whose packets are sent to that real server: those of its family, or all where none is
    /// (a tunnel to the other family).
    pub(super) fn of(&self, real: Family) -> Vec<SocketAddr> {
        let same = |target: &&SocketAddr| Family::of(target.ip()) == real;
        let found: Vec<SocketAddr> = self.0.iter().filter(same).copied().collect();
        if found.is_empty() {
            return self.0.clone();
        }
        found
    }
}

/// Whether a service is a way.
#[must_use]
pub fn is_way(key: &ServiceKey) -> bool {
    match key {
        ServiceKey::FirewallMark { mark, .. } => MARKS.contains(mark),
        ServiceKey::Address { .. } => false,
    }
}

/// A firewall mark that a user chooses.
pub(super) fn others_mark(v: &Value<'_>) -> Option<NonZeroU32> {
    let mark = v.integer(1..=u32::MAX)?;
    if MARKS.contains(&mark) {
        v.report(
            "is one of the marks that vipd keeps for checks with via = \"vip\"",
            format!(
                "choose one below {:#x} or above {:#x}",
                MARKS.start(),
                MARKS.end()
            ),
        );
        return None;
    }
    NonZeroU32::new(mark)
}

/// FNV-1a: the same in every version of vipd.
fn hash((family, forwarding, real): &Way) -> u32 {
    let words = format!("{family:?} {forwarding:?} {}", real.0);
    words.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn way(port: u16) -> Way {
        let real = DestinationKey(([10, 0, 0, 9], port).into());
        (Family::V4, Forwarding::Nat, real)
    }

    #[test]
    fn each_way_has_a_mark_of_its_own_and_always_the_same() {
        let mut ways = Ways::default();
        let marks: Vec<_> = (1..=5000)
            .map(|port| ways.mark(way(port)).unwrap())
            .collect();
        let again: Vec<_> = (1..=5000)
            .map(|port| ways.mark(way(port)).unwrap())
            .collect();
        assert_eq!(marks, again);
        let different: std::collections::BTreeSet<_> = marks.iter().collect();
        assert_eq!(different.len(), marks.len());
        assert!(marks.iter().all(|mark| MARKS.contains(&mark.get())));
        // A restart with fewer of them before it.
        assert_eq!(Ways::default().mark(way(1)), marks.first().copied());
        assert_eq!(marks.first().unwrap().get(), FIRST);
    }

    /// Marks outlive the version of vipd that chose them.
    const FIRST: u32 = 0x767f_115d;

    #[test]
    fn real_servers_get_the_addresses_of_their_family_and_tunnels_the_others() {
        let all = ["192.0.2.1:80", "[2001:db8::1]:80"].map(|text| text.parse().unwrap());
        let targets = Targets(all.to_vec());
        assert_eq!(targets.of(Family::V4), all[..1]);
        assert_eq!(targets.of(Family::V6), all[1..]);
        assert_eq!(Targets(all[1..].to_vec()).of(Family::V4), all[1..]);
    }
}
