//! docs/doctor.md has a section for each code, and for no other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use vipd::doctor::catalogue::ALL;

#[test]
fn every_code_has_its_section_and_every_section_its_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections = text.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: Vec<&str> = sections.filter(|it| *it != "CFG-*").collect();
    let codes: BTreeSet<&str> = ALL.iter().map(|kind| kind.code).collect();
    assert_eq!(codes.len(), ALL.len(), "two have one code");
    assert_eq!(sections.iter().copied().collect::<BTreeSet<_>>(), codes);
    assert_eq!(sections.len(), codes.len(), "two sections of one code");
    let form = |code: &&&str| {
        let words: Vec<&str> = code.split('-').collect();
        !matches!(words.as_slice(), ["VIP", _, number] if number.len() == 3)
            && **code != "CFG-INVALID"
    };
    assert_eq!(codes.iter().find(form), None);
}
