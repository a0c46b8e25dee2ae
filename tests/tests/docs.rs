//! The documents are true: every path they name exists.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_path_in_the_architecture_table_exists() {
    let text = read("ARCHITECTURE.md");
    let table = text
        .split("## I want to change X")
        .nth(1)
        .expect("the table is there");
    let paths: Vec<&str> = backquoted(table)
        .filter(|word| word.contains('/'))
        .collect();
    assert!(paths.len() > 30, "only {} paths found", paths.len());
    check(&paths);
}

#[test]
fn every_source_file_of_the_daemon_is_in_the_architecture_table() {
    let text = read("ARCHITECTURE.md");
    let crates = [
        "crates/vipd/src",
        "crates/ipvs/src",
        "crates/vrrp/src",
        "crates/health/src",
    ];
    for directory in crates {
        for file in fs::read_dir(root().join(directory)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let known = text.contains(&format!("{directory}/{name}"))
                || text.contains(&format!("`{name}`"));
            let plain = !name.ends_with(".rs") || name == "lib.rs";
            assert!(
                known || plain,
                "{directory}/{name} is not in ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn every_relative_link_of_the_readme_leads_somewhere() {
    let text = read("README.md");
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let links: Vec<&str> = links.filter(|link| !link.starts_with("http")).collect();
    assert!(!links.is_empty());
    check(&links);
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    assert!(read("README.md").contains("cargo xtask test"));
    assert!(read(".ci/run").contains("cargo xtask test"));
}

#[test]
fn every_metric_of_the_daemon_is_documented() {
    let folder = root().join("crates/vipd/src/metrics");
    let files = fs::read_dir(folder).unwrap();
    let mut code = read("crates/vipd/src/metrics.rs");
    for file in files {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let without_tests = text.split("#[cfg(test)]").next();
        code.push_str(without_tests.unwrap_or_default());
    }
    let docs = read("docs/metrics.md");
    let names = code
        .split('"')
        .filter(|word| word.starts_with("vipd_") && !word.contains(' '));
    let short = |name: &str| name.trim_start_matches("vipd_virtual_server").to_owned();
    let mut count = 0;
    for name in names {
        count += 1;
        assert!(
            docs.contains(name) || docs.contains(&short(name)),
            "{name} is not in metrics.md"
        );
    }
    assert!(count > 15, "only {count} metrics found");
}

#[test]
fn every_rule_of_the_protocol_is_mapped_to_tests_that_exist() {
    let text = read("docs/conformance.md");
    let rows: Vec<(&str, &str)> = text.lines().filter_map(rule_and_proof).collect();
    let found: Vec<&str> = rows.iter().map(|(rule, _)| *rule).collect();
    let numbered = (1..=74).map(|number| number.to_string());
    let whole = (1..=10).map(|number| format!("W{number}"));
    assert_eq!(found, numbered.chain(whole).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (rule, proof) in rows {
        let words = backquoted(proof);
        let tests: Vec<&str> = words.filter(|word| word.contains("::")).collect();
        let missing: Vec<_> = tests.iter().filter(|test| !test_exists(test)).collect();
        if !missing.is_empty() {
            wrong.push(format!("{rule}: there is no {missing:?}"));
        }
        let excused = proof.split_once("not applicable: ");
        if tests.is_empty() && excused.is_none_or(|(_, reason)| reason.len() < 20) {
            wrong.push(format!("{rule}: neither a test nor a reason"));
        }
        if proof.contains("to come") {
            wrong.push(format!("{rule}: a test is to come"));
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/conformance.md:\n{}",
        wrong.join("\n")
    );
}

/// The first and the last cell of a table's row, where the first is a rule's number.
fn rule_and_proof(line: &str) -> Option<(&str, &str)> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, rule, _, proof, _] = cells.as_slice() else {
        return None;
    };
    let number = rule.strip_prefix('W').unwrap_or(rule);
    number.parse::<u8>().is_ok().then_some((*rule, *proof))
}

/// Whether `file::name` is a test of that file.
fn test_exists(test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else {
        return false;
    };
    let file = if file.contains('/') {
        file.to_owned()
    } else {
        format!("crates/vrrp/tests/{file}")
    };
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    // A test is a function right under its attribute; other attributes may stand between.
    text.split("#[test]").skip(1).any(|after| {
        let function = after.split("fn ").nth(1).unwrap_or_default();
        function.split('(').next() == Some(name)
    })
}

fn check(paths: &[&str]) {
    let missing: Vec<_> = paths
        .iter()
        .filter(|path| !root().join(path).exists())
        .collect();
    assert!(missing.is_empty(), "these do not exist: {missing:?}");
}

fn backquoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}
