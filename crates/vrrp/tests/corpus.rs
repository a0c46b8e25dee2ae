//! The corpus of the fuzz targets, replayed: what fuzzing starts from, and what it once found.
//!
//! The name of each file begins with what becomes of it, up to the first dot.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::indexing_slicing,
    reason = "the library of another crate"
)]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use vrrp::Discard;

#[test]
fn every_file_of_the_corpus_comes_to_what_its_name_says_and_every_discard_is_among_them() {
    #[expect(clippy::disallowed_methods, reason = "any instant serves as now")]
    let now = Instant::now();
    let mut names = replay("parse", fuzz::parse);
    names.extend(replay("receive", |bytes| fuzz::receive(now, bytes)));
    let mut wanted: BTreeSet<_> = Discard::NAMES.iter().copied().collect();
    wanted.insert("accepted");
    assert_eq!(names, wanted);
}

fn replay(target: &str, run: impl Fn(&[u8]) -> &'static str) -> BTreeSet<&'static str> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder.join(target)).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let outcome = run(&fs::read(&path).unwrap());
        assert_eq!(name.split('.').next(), Some(outcome), "{name}");
        names.insert(outcome);
    }
    names
}
