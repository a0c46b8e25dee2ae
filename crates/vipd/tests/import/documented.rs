//! docs/from-keepalived.md: both sides of each pair are the same configuration.

use std::fs;
use std::path::Path;

use vipd::config::Config;
use vipd::config::import::Format;

use super::{config, of};

#[test]
fn both_sides_of_each_pair_in_the_document_mean_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/from-keepalived.md");
    let text = fs::read_to_string(path).unwrap();
    let mut pairs = 0;
    for block in text.split("```keepalived\n").skip(1) {
        let (keepalived, rest) = block.split_once("```").unwrap();
        let (between, rest) = rest.split_once("```toml\n").unwrap();
        assert!(between.trim().is_empty(), "{between}");
        let (toml, _) = rest.split_once("```").unwrap();
        let imported = of(Format::Keepalived, keepalived);
        let problems: Vec<_> = imported.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [""; 0]);
        let wanted = Config::parse(toml, "the document").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config(&imported), wanted, "{}", imported.toml);
        pairs += 1;
    }
    assert!(pairs >= 4, "{pairs} pairs");
}
