//! A stranger on the link, and one at the listener: adverts go on, memory and logs stay small, counters
//! tell. Directors are network namespaces of this machine. They need root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use lab::flood::{Kind, endure};

/// All in one: each of them takes the whole machine.
#[test]
fn a_flood_of_adverts_changes_no_role_and_is_counted_and_not_logged_line_by_line() {
    for kind in [Kind::Garbage, Kind::WrongPassword, Kind::Foreign] {
        let endured = endure(kind, 100_000, Duration::from_secs(4)).unwrap();
        eprintln!("{kind:?}: {endured:?}");
        // A debug build does not keep up with all of it; what the kernel dropped is not counted.
        assert!(endured.sent > 1_000.0, "{kind:?}: {endured:?}");
        assert!(endured.discarded > 1_000.0, "{kind:?}: {endured:?}");
        // The peer calls a master dead after three intervals and its skew.
        let bound = 3 * kind.interval();
        assert!(endured.longest_gap < bound, "{kind:?}: {endured:?}");
        assert!(endured.growth < 4.0, "{kind:?}: {endured:?}");
        assert!(endured.lines < 20, "{kind:?}: {endured:?}");
    }
}
