//! The corpus of the fuzz target `dump`, replayed: answers of a Linux kernel, damaged ones, and what
//! fuzzing found.
//!
//! The name of each file begins with what becomes of it, up to the first dot.
#![cfg(target_endian = "little")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../../fuzz/src/dump.rs"]
#[allow(missing_docs, unreachable_pub, reason = "the library of another crate")]
mod dump;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_file_of_the_corpus_comes_to_what_its_name_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dump");
    let mut outcomes = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let outcome = dump::read(&bytes);
        assert_eq!(name.split('.').next(), Some(outcome), "{name}");
        outcomes.insert(outcome);
        // A newer kernel says more: nothing changes for that.
        let longer = with_an_unknown_attribute(&bytes);
        assert_eq!(dump::read(&longer), outcome, "{name}, of a newer kernel");
    }
    let wanted = [
        "daemon",
        "destination",
        "done",
        "info",
        "malformed",
        "missing",
        "service",
        "status",
        "timeouts",
        "truncated",
        "unknown",
    ];
    assert_eq!(outcomes, wanted.into());
}

/// The first message of a datagram with one more attribute at its end.
fn with_an_unknown_attribute(datagram: &[u8]) -> Vec<u8> {
    let Some(length) = datagram.first_chunk::<4>() else {
        return datagram.to_vec();
    };
    let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap();
    let kind = datagram
        .get(4..6)
        .map_or(0, |kind| u16::from_ne_bytes([kind[0], kind[1]]));
    if kind < 16 || length % 4 != 0 || datagram.len() < length {
        return datagram.to_vec();
    }
    let (first, rest) = datagram.split_at(length);
    let attribute = [8, 0, 0x77, 0x01, 1, 2, 3, 4];
    let length = u32::try_from(length + attribute.len())
        .unwrap()
        .to_ne_bytes();
    [&length, first.get(4..).unwrap(), &attribute, rest].concat()
}
