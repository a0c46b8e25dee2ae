//! The frames of `vipctl top`.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod fixture;

use vipd::status::TrafficStatus;
use vipd::top::{Size, frame};

use self::fixture::healthy;

const TERMINAL: Size = Size {
    columns: 80,
    rows: 24,
};

#[test]
fn a_frame_shows_routers_above_and_virtual_servers_with_their_real_servers() {
    let mut status = healthy();
    let server = &mut status.virtual_servers[0];
    server.rates = TrafficStatus {
        connections: 12,
        in_packets: 100,
        out_packets: 0,
        in_bytes: 123_456_789,
        out_bytes: 0,
    };
    server.counters.connections = 1_234_567;
    let text = frame(&status, TERMINAL);
    let wanted = "\
lb1: 12 conn/s, 3 active, 1 of 1 real servers up
vrrp web master priority 150

VIRTUAL SERVER / real server   weight  active   conn/s   in B/s  out B/s   total
http 10.77.0.10:80                          3       12     123M        0   1234k
  -> 10.77.0.21:80                  1       3        0        0        0       0
";
    assert_eq!(text, wanted);
}

#[test]
fn the_busiest_virtual_server_stands_first() {
    let mut status = healthy();
    let mut busy = status.virtual_servers[0].clone();
    busy.name = "busy".to_owned();
    busy.rates.connections = 5;
    status.virtual_servers.push(busy);
    let text = frame(&status, TERMINAL);
    assert!(
        text.find("busy ").unwrap() < text.find("http ").unwrap(),
        "{text}"
    );
}

#[test]
fn a_frame_is_never_larger_than_the_terminal() {
    let mut status = healthy();
    let server = status.virtual_servers[0].clone();
    status.virtual_servers = vec![server; 20];
    status.virtual_servers[3].name = "ü".repeat(50);
    for (columns, rows) in [(80, 24), (40, 5), (1, 1), (80, 1000)] {
        let text = frame(&status, Size { columns, rows });
        assert!(text.lines().count() <= rows, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= columns),
            "{text}"
        );
    }
    let text = frame(&status, TERMINAL);
    assert!(text.ends_with("... 21 more lines; q quits\n"), "{text}");
}
