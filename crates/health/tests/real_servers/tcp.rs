//! The TCP probe.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use health::{CheckKind, CheckSpec, Failure, Phase};

use crate::rerun::rerun;
use crate::socket::{black_hole, free_address, listen};
use crate::{probe, spec};

#[tokio::test]
async fn a_listening_port_passes_and_nothing_is_left_of_the_check_on_either_side() {
    let (listener, address) = listen().await;
    for _ in 0..3 {
        assert_eq!(probe(&spec(address, CheckKind::Tcp)).await, Ok(()));
    }
    // The server's program is not woken for a connection that is over.
    let woken = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(woken.is_err(), "{woken:?}");
    // Addresses are little-endian there; the listener is the one line that may have its address.
    let SocketAddr::V4(v4) = address else {
        panic!("{address} is not IPv4");
    };
    let shown = format!("{:08X}:{:04X}", v4.ip().to_bits().swap_bytes(), v4.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let left: Vec<_> = sockets.lines().filter(|l| l.contains(&shown)).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_listener_on_ipv6_passes() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(probe(&spec(address, CheckKind::Tcp)).await, Ok(()));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused() {
    let outcome = probe(&spec(free_address(), CheckKind::Tcp)).await;
    assert_eq!(outcome, Err(Failure::Refused));
}

#[tokio::test]
async fn dropped_syns_are_a_timeout_while_connecting_and_on_time() {
    let (address, _open) = black_hole().await;
    let timeout = Duration::from_millis(150);
    let check = CheckSpec {
        timeout,
        ..spec(address, CheckKind::Tcp)
    };
    let begin = Instant::now();
    let outcome = probe(&check).await;
    assert_eq!(
        outcome,
        Err(Failure::Timeout {
            after: timeout,
            phase: Phase::Connecting
        })
    );
    assert!(begin.elapsed() >= timeout);
    assert!(begin.elapsed() < timeout + Duration::from_secs(1));
}

#[tokio::test]
async fn without_a_check_every_target_passes() {
    assert_eq!(probe(&spec(free_address(), CheckKind::None)).await, Ok(()));
}

#[test]
fn running_out_of_file_descriptors_is_our_fault_and_not_the_targets() {
    if rerun(
        "tcp::running_out_of_file_descriptors_is_our_fault_and_not_the_targets",
        None,
        Some(40),
    ) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (_listener, address) = listen().await;
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        for kind in [CheckKind::Tcp, CheckKind::Http(crate::get("/"))] {
            let failure = probe(&spec(address, kind)).await.unwrap_err();
            assert_eq!(failure.reason(), "resource", "{failure}");
            assert!(
                failure.to_string().contains("Too many open files"),
                "{failure}"
            );
        }
        drop(hoard);
        assert_eq!(probe(&spec(address, CheckKind::Tcp)).await, Ok(()));
    });
}
