//! What of the socket any kernel shows, with or without IPVS.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::table::{Family, Protocol};

/// A family that no kernel has: it refuses every request, with or without IPVS.
const NOBODYS: u16 = 0x7fff;

#[test]
fn a_kernel_without_ipvs_is_told_how_to_mend_it() {
    match Client::open() {
        Ok(mut client) => assert!(client.info().unwrap().version.starts_with("1.")),
        Err(error @ OpenError::NoIpvs) => {
            let words = error.to_string();
            assert!(words.contains("the running kernel has no IPVS"), "{words}");
            assert!(words.contains("modprobe ip_vs"), "{words}");
        }
        Err(error @ OpenError::NotPermitted) => {
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        }
        Err(OpenError::Failed(error)) => panic!("{error}"),
    }
}

#[test]
fn every_refusal_of_several_batches_is_that_of_its_own_change() {
    let mut client = nobodys_client();
    let changes = removals(3 * BATCH + 7);
    for _ in 0..2 {
        let results = client.apply(&changes);
        assert_eq!(results.len(), changes.len());
        for (change, result) in changes.iter().zip(results) {
            let refused = result.unwrap_err();
            assert_eq!((*refused.change, refused.errno), (change.clone(), 2));
        }
    }
}

#[test]
fn sequence_numbers_begin_anew_before_they_overflow() {
    let mut client = nobodys_client();
    client.sequence = u32::MAX - 3;
    let changes = removals(10);
    assert!(client.apply(&changes).iter().all(Result::is_err));
    assert_eq!(client.sequence, 11);
}

#[test]
fn a_change_without_a_form_is_refused_alone() {
    let mut client = nobodys_client();
    for at in [0, 1, 2] {
        let mut changes = removals(3);
        let key = ServiceKey::FirewallMark {
            family: Family::V4,
            mark: 7,
        };
        let service = crate::Service {
            scheduler: "".into(),
            flags: Default::default(),
            persistence: None,
        };
        changes[at] = Change::AddService(key, service);
        let refusals = client.apply(&changes).into_iter().map(Result::unwrap_err);
        let errnos: Vec<i32> = refusals.map(|refused| refused.errno).collect();
        let expected: Vec<i32> = (0..3).map(|i| if i == at { 22 } else { 2 }).collect();
        assert_eq!(errnos, expected);
    }
}

#[test]
fn answers_that_were_lost_make_a_refusal_and_the_next_request_works() {
    let mut client = nobodys_client();
    sockopt::set_socket_recv_buffer_size(&client.socket, 1).unwrap();
    let changes = removals(BATCH + 1);
    let results = client.apply(&changes);
    let errnos: Vec<i32> = results.into_iter().map(|r| r.unwrap_err().errno).collect();
    let (first, second) = errnos.split_at(BATCH);
    assert!(first.contains(&105), "nothing was lost: {first:?}");
    assert!(
        first.iter().all(|errno| [2, 105].contains(errno)),
        "{first:?}"
    );
    // The next batch is one change: its answer fits, and nothing of the one before confuses it.
    assert_eq!(second, [2]);
}

#[test]
fn a_kernel_that_lost_the_family_says_so() {
    let mut client = nobodys_client();
    let error = client.dump().unwrap_err();
    assert_eq!(errno(&error), Some(Errno::NOENT));
    assert!(error.to_string().contains("the kernel refused"), "{error}");
}

fn nobodys_client() -> Client {
    let mut client = Client::connect().unwrap();
    client.family = NOBODYS;
    client
}

fn removals(count: usize) -> Vec<Change> {
    let key = |port| ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: ([10, 0, 0, 1], port).into(),
    };
    (1..)
        .take(count)
        .map(|port| Change::RemoveService(key(port)))
        .collect()
}
