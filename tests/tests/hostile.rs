//! A stranger on the link, and one at the listener: adverts go on, memory and logs stay small, counters
//! tell. Directors are network namespaces of this machine. They need root, and no IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::time::Duration;

use lab::capture::longest_gap;
use lab::flood::{Kind, endure};
use lab::pair::Pair;
use lab::process::resident_memory;
use lab::{binary, wait_until};
/// How many the daemon has open at once (docs/security.md).
const CONNECTIONS: usize = 128;

/// All in one: each of them takes the whole machine.
#[test]
fn a_flood_of_adverts_changes_no_role_and_is_counted_and_not_logged_line_by_line() {
    for kind in [Kind::Garbage, Kind::WrongPassword, Kind::Foreign] {
        let endured = endure(kind, 130_000, Duration::from_secs(4)).unwrap();
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

#[test]
fn slow_clients_of_the_http_listener_cost_a_bounded_number_of_connections() {
    let pair = Pair::new().unwrap();
    let (lb1, _lb2) = pair
        .start_with(
            &format!(
                "[global]\nhttp = \"127.0.0.1:9650\"\n{}",
                lab::pair::fast(150, "")
            ),
            &lab::pair::fast(100, ""),
        )
        .unwrap();
    pair.wait_for_holders(&["lb1"]).unwrap();
    let files = || {
        fs::read_dir(format!("/proc/{}/fd", lb1.pid()))
            .unwrap()
            .count()
    };
    let scrape = || {
        let curl = "curl -s -m 5 http://127.0.0.1:9650/metrics";
        pair.lb1
            .run(curl)
            .is_ok_and(|text| text.contains("vipd_build_info"))
    };
    assert!(scrape());
    let (known, memory) = (files(), resident_memory(lb1.pid()).unwrap());
    let capture = pair.lb2.capture("proto 112 and src 10.77.0.11").unwrap();
    let lab = binary("lab").unwrap();
    let words = ["dawdle", "127.0.0.1:9650", "--connections", "1000"];
    let dawdler = pair.lb1.spawn("dawdler", &lab, &words).unwrap();
    dawdler
        .wait_for_output(Duration::from_secs(60), "are open")
        .unwrap();
    for _ in 0..10 {
        assert!(scrape(), "{}", lb1.log());
        assert!(files() <= known + CONNECTIONS + 10, "{} files", files());
        std::thread::sleep(Duration::from_millis(300));
    }
    let grown = resident_memory(lb1.pid()).unwrap() - memory;
    let gap = longest_gap(&capture.packets()).unwrap();
    eprintln!("grown by {grown:.1} MiB, longest gap {gap:?}");
    assert!(grown < 8.0, "{grown} MiB");
    assert!(gap < Duration::from_millis(300), "{gap:?}");
    drop(dawdler);
    wait_until(Duration::from_secs(20), "they are gone", || {
        Ok(files() <= known + 3)
    })
    .unwrap();
}
