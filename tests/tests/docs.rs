//! The documents are true: every path and link leads somewhere, every command is one that the programs take,
//! every configuration is valid.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::binary;

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

#[test]
fn every_relative_link_of_every_document_leads_somewhere() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document).parent().unwrap_or(Path::new(""));
        for link in prose(&text).split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("http") || link.contains(char::is_whitespace) {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = match path {
                "" => PathBuf::from(&document),
                path => folder.join(path),
            };
            let target = root().join(&to);
            if !target.exists() {
                wrong.push(format!("{document}: {link}: there is no such file"));
            } else if !anchor.is_empty() && !anchors(&target).contains(&anchor.to_owned()) {
                wrong.push(format!("{document}: {link}: there is no such heading"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 40, "only {count} links found");
}

#[test]
fn every_command_line_of_the_documents_is_one_that_the_programs_take() {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for document in documents() {
        for line in commands(&read(&document)) {
            if !seen.insert(line.clone()) {
                continue;
            }
            let mut words = line.split(' ').map(meant);
            let program = binary(&words.next().unwrap_or_default()).unwrap();
            // With --help all before it is read, and nothing is done.
            let output = Command::new(program)
                .args(words)
                .arg("--help")
                .output()
                .unwrap();
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let said = said.lines().next().unwrap_or_default().to_owned();
                wrong.push(format!("{document}: {line}: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.len() > 60, "only {} command lines found", seen.len());
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    let file = std::env::temp_dir().join(format!("vipd-docs-{}.toml", std::process::id()));
    // Those of the labs are files of machines that have programs of their own, and are run there.
    let pages = documents().into_iter();
    for document in pages.filter(|page| !page.starts_with("docs/labs/")) {
        for (language, text) in fenced(&read(&document)) {
            // A whole file, or a table of one.
            if language != "toml" || !text.trim_start().starts_with('[') {
                continue;
            }
            count += 1;
            fs::write(&file, &text).unwrap();
            let mut check = Command::new(binary("vipd").unwrap());
            let output = check.args(["check", "-c"]).arg(&file).output().unwrap();
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                wrong.push(format!("{document}:\n{text}\n{said}"));
            }
        }
    }
    let _ = fs::remove_file(&file);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 6, "only {count} configurations found");
}

#[test]
fn the_keepalived_side_of_each_pair_is_what_keepalived_takes() {
    let text = read("docs/from-keepalived.md");
    let blocks = fenced(&text);
    let pairs: Vec<_> = blocks.windows(2).collect();
    let lab = lab::Lab::new().unwrap();
    let host = lab.host("lb1", "192.168.1.2/24").unwrap();
    lab.add_interface(&host, "eth1", "10.0.0.2/24").unwrap();
    let mut count = 0;
    for (language, text) in &blocks {
        if language != "keepalived" {
            continue;
        }
        count += 1;
        let file = lab.folder().join(format!("{count}.conf"));
        // What it says of scripts is not about the pair.
        let safe = "global_defs {\n script_user nobody\n enable_script_security\n}\n";
        fs::write(&file, format!("{safe}{text}")).unwrap();
        let mut keepalived = host.command("keepalived");
        let output = keepalived
            .args(["--config-test", "-f"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // With a script keepalived 2.2 ends its test by ending itself.
        let ended = output.status.success() || output.status.signal() == Some(15);
        assert!(ended && said.is_empty(), "{text}\n{said}");
    }
    assert!(count >= 4);
    let paired = |pair: &&&[(String, String)]| matches!(pair, [(one, _), (other, _)] if one == "keepalived" && other == "toml");
    assert_eq!(pairs.iter().filter(paired).count(), count);
}

#[test]
fn the_outages_of_the_failover_page_follow_from_the_formulas() {
    let text = read("docs/failover.md");
    let mut count = 0;
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, priority, interval, version, skew, down, _] = cells.as_slice() else {
            continue;
        };
        let Ok(priority) = priority.parse::<f64>() else {
            continue;
        };
        count += 1;
        let milliseconds = |text: &str| -> f64 {
            let (number, factor) = match text.strip_suffix("ms") {
                Some(number) => (number, 1.0),
                None => (text.trim_end_matches('s'), 1000.0),
            };
            number.trim().parse::<f64>().unwrap() * factor
        };
        let interval = milliseconds(interval);
        let unit = if *version == "2" { 1000.0 } else { interval };
        let expected = (256.0 - priority) / 256.0 * unit;
        let near = |shown: &str, wanted: f64| (milliseconds(shown) - wanted).abs() <= 1.0;
        assert!(near(skew, expected), "{line}: skew is {expected}");
        let expected = 3.0 * interval + expected;
        assert!(near(down, expected), "{line}: master-down is {expected}");
    }
    assert!(count > 6, "only {count} rows found");
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

/// What people read.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for folder in ["docs", "docs/labs"] {
        let Ok(entries) = fs::read_dir(root().join(folder)) else {
            continue;
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pages = names.filter(|name| name.ends_with(".md"));
        found.extend(pages.map(|name| format!("{folder}/{name}")));
    }
    found.sort();
    found
}

/// Fenced blocks: the first word behind the fence, and the text.
fn fenced(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let language = info.split_whitespace().next().unwrap_or_default();
                open = Some((language.to_owned(), String::new()));
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// A text without its blocks.
fn prose(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence && !line.starts_with("    ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors that a document's headings have, as GitHub makes them.
fn anchors(path: &Path) -> Vec<String> {
    let text = prose(&fs::read_to_string(path).unwrap());
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Everything that is typed: in blocks a line, in the text between backquotes.
fn commands(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (language, block) in fenced(text) {
        if language == "sh" {
            lines.extend(block.lines().map(str::to_owned));
        }
    }
    let indented = text.lines().filter_map(|line| line.strip_prefix("    "));
    let typed = indented.map(|line| line.trim_start_matches("# ").trim_start_matches("$ "));
    lines.extend(typed.map(str::to_owned));
    let prose = prose(text);
    lines.extend(backquoted(&prose).map(|words| words.replace('\n', " ")));
    let ends = [" #", " >", " |", " &", ";", " 2>", " <", " (", ": "];
    let ours = lines
        .iter()
        .flat_map(|line| line.split("&& "))
        .filter_map(|line| {
            let line = line.trim();
            let end = ends.iter().filter_map(|end| line.find(end)).min();
            let line = line.get(..end.unwrap_or(line.len()))?;
            let program = line.split(' ').next()?;
            let ours = ["vipd", "vipctl"].contains(&program) && line != program;
            let words: Vec<&str> = line.split_whitespace().collect();
            ours.then(|| words.join(" "))
        });
    ours.collect()
}

/// A word as somebody would type it who reads it: one of several, something for a placeholder.
fn meant(word: &str) -> String {
    let word = word.trim_matches(['[', ']', ',']).trim_end_matches("...");
    let word = word.split('|').next().unwrap_or_default();
    match word {
        "N" => "1".to_owned(),
        "ADDRESS" => "192.0.2.1".to_owned(),
        "DURATION" => "1m".to_owned(),
        "KIND" => "ipip".to_owned(),
        _ => word.trim_matches('\'').to_owned(),
    }
}
