//! Whole files through the configuration: what good ones become, and what bad ones are told.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vipd::config::{Config, LoadError, Problems};

#[path = "config/advert_source.rs"]
mod advert_source;
#[path = "config/notify.rs"]
mod notify;
#[path = "config/probes.rs"]
mod probes;
#[path = "config/router_values.rs"]
mod router_values;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/services.rs"]
mod services;
#[path = "config/sync.rs"]
mod sync;
#[path = "config/values.rs"]
mod values;
#[path = "config/ways.rs"]
mod ways;
#[path = "config/written.rs"]
mod written;

// What bad files are told.

#[test]
fn every_broken_file_gets_exactly_its_report() {
    let files = files(&here("tests/config"), "toml");
    assert!(!files.is_empty());
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let report = format!("{}\n", Config::parse(&source, name).unwrap_err());
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected, &report).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(report, expected, "{name}: UPDATE_EXPECT=1 accepts this");
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once_in_its_order() {
    let source = fs::read_to_string(here("tests/config/kitchen_sink.toml")).unwrap();
    let problems = parse(&source).unwrap_err();
    let found: Vec<(usize, &str)> = problems
        .iter()
        .map(|problem| (problem.line, problem.key.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (3, "global.control_socket"),
            (6, "ipvs.resync_intervall"),
            (11, "vrrp \"web\".vrid"),
            (13, "vrrp \"web\".advert_interval"),
            (19, "virtual_server \"http\".vrrp"),
            (20, "virtual_server \"http\".scheduler"),
            (
                23,
                "virtual_server \"http\".real_server \"www1.example.com:80\".address"
            ),
            (
                24,
                "virtual_server \"http\".real_server \"www1.example.com:80\".weight"
            ),
            (26, "virtual_server \"http\".real_server[1].address"),
            (27, "virtual_server \"http\".real_server[1].check.interval"),
        ]
    );
    assert!(problems.iter().all(|problem| !problem.help.is_empty()));
}

#[test]
fn columns_count_characters_whatever_the_line_endings() {
    let source = "\u{feff}[global]\r\n\"äöü\" = 1\r\nname = \"ä\"; x\r\n";
    let found: Vec<(usize, usize)> = parse(source)
        .unwrap_err()
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(found, [(2, 1), (3, 11)]);
}

#[test]
fn a_report_has_colours_only_if_asked_and_never_the_files_control_characters() {
    let source = "[global]\nname = \"\\u001b[31m\"\n\"\\u001b\" = 1\n#\u{7}\nhttp = \"\u{9b}\"\n";
    let problems = parse(source).unwrap_err();
    let plain = problems.to_string();
    assert!(
        !plain.contains(|c: char| c.is_control() && c != '\n'),
        "{plain:?}"
    );
    assert_eq!(problems.render(false), plain);
    assert!(problems.render(true).contains('\u{1b}'));
}

#[test]
fn a_megabyte_of_nonsense_is_refused_in_seconds() {
    let began = Instant::now();
    for line in ["x\n", "[[vrrp]]\n", "a.b.c = [\n", "\"", "[[[[", "x = 1, "] {
        let source = line.repeat(1024 * 1024 / line.len());
        let problems = parse(&source).unwrap_err();
        assert!(problems.to_string().len() < 4 << 20);
    }
    assert!(began.elapsed() < secs(120), "{:?}", began.elapsed());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_fail_without_a_reason(source in "\\PC*|(.|\\n){0,200}") {
        explained(&source);
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic_or_fail_without_a_reason(
        cuts in prop::collection::vec((0usize..4000, 0usize..40, "[\\[\\]{}=\".,#\na-z0-9 ]{0,3}"), 1..6)
    ) {
        let mut source = uncommented(&fs::read_to_string(repository("config/vipd.toml")).unwrap());
        for (at, length, insert) in cuts {
            let mut at = at % source.len().max(1);
            let mut end = (at + length).min(source.len());
            while !source.is_char_boundary(at) { at -= 1; }
            while !source.is_char_boundary(end) { end += 1; }
            source.replace_range(at..end, &insert);
        }
        explained(&source);
    }
}

// The files that come with vipd.

#[test]
fn the_default_file_and_every_example_are_valid() {
    let mut all = files(&repository("config/examples"), "toml");
    assert_eq!(all.len(), 6);
    all.push(repository("config/vipd.toml"));
    for file in all {
        if let Err(error) = Config::load(&file) {
            panic!("{error}");
        }
    }
}

#[test]
fn the_default_file_is_valid_with_everything_in_it_switched_on() {
    let source = fs::read_to_string(repository("config/vipd.toml")).unwrap();
    let config = Config::parse(&uncommented(&source), "vipd.toml");
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!config.vrrp.is_empty());
    assert!(!config.virtual_servers.is_empty());
}

#[test]
fn the_reference_and_the_default_file_have_every_key() {
    let reference = fs::read_to_string(repository("docs/config.md")).unwrap();
    let default = fs::read_to_string(repository("config/vipd.toml")).unwrap();
    let server = "[[virtual_server]]\nname = 'a'\nfwmark = 1\n";
    let mut keys = BTreeSet::new();
    for section in [
        "[global]\nqqqqqqqq = 1",
        "[ipvs]\nqqqqqqqq = 1",
        "[ipvs]\ntimeouts = { qqqqqqqq = 1 }",
        "[ipvs]\nsysctl = { qqqqqqqq = 1 }",
        "[[vrrp]]\nqqqqqqqq = 1",
        "[[vrrp]]\nvirtual_addresses = [{ qqqqqqqq = 1 }]",
        "[[vrrp]]\ngarp = { qqqqqqqq = 1 }",
        "[[vrrp]]\nvirtual_mac = { qqqqqqqq = 1 }",
        "[[vrrp]]\nvirtual_routes = [{ qqqqqqqq = 1 }]",
        "[[vrrp]]\nvirtual_rules = [{ qqqqqqqq = 1 }]",
        "[[vrrp]]\nauthentication = { type = 'hmac', qqqqqqqq = 1 }",
        "[[vrrp]]\nauthentication = { type = 'hmac', keys = [{ qqqqqqqq = 1 }] }",
        "[[vrrp]]\nunicast = { qqqqqqqq = 1 }",
        "[[vrrp]]\nunicast = { peers = [{ qqqqqqqq = 1 }] }",
        "[[vrrp]]\nheartbeat = [{ qqqqqqqq = 1 }]",
        "[[vrrp]]\nreachable = { qqqqqqqq = 1 }",
        "[[vrrp]]\ntrack = [{ process = 'a', qqqqqqqq = 1 }]",
        "[[sync_group]]\nqqqqqqqq = 1",
        "[[track_script]]\nqqqqqqqq = 1",
        "[[notify]]\ncommand = ['/usr/bin/true']\nqqqqqqqq = 1",
        "[[notify]]\nwebhook = 'http://a/'\nqqqqqqqq = 1",
        &format!("{server}qqqqqqqq = 1"),
        &format!("{server}mark = [{{ qqqqqqqq = 1 }}]"),
        &format!("{server}persistence = {{ qqqqqqqq = 1 }}"),
        "[[virtual_server]]\naddresses = ['192.0.2.1:80', '[2001:db8::1]:80']\npersistence = { qqqqqqqq = 1 }",
        &format!("{server}tunnel = {{ type = 'gue', qqqqqqqq = 1 }}"),
        &format!("{server}real_server = [{{ qqqqqqqq = 1 }}]"),
        &format!("{server}check = {{ type = 'http', tls = true, qqqqqqqq = 1 }}"),
        &format!("{server}check = {{ type = 'tcp', flap = {{ qqqqqqqq = 1 }} }}"),
        &format!("{server}vrrp = 'w'\nwhen = 'master'\nqqqqqqqq = 1"),
        &format!("{server}check = {{ type = 'dns', qqqqqqqq = 1 }}"),
        &format!("{server}check = {{ type = 'udp', qqqqqqqq = 1 }}"),
        &format!("{server}check = {{ type = 'ping', qqqqqqqq = 1 }}"),
        &format!(
            "{server}check = {{ type = 'script', command = ['/usr/bin/true'], qqqqqqqq = 1 }}"
        ),
        &format!("{server}check = {{ type = 'agent', port = 1, qqqqqqqq = 1 }}"),
        &format!("{server}check = {{ type = 'tls', qqqqqqqq = 1 }}"),
        &format!("{server}check = {{ type = 'smtp', starttls = true, qqqqqqqq = 1 }}"),
        &format!("{server}check = {{ type = 'grpc', tls = true, qqqqqqqq = 1 }}"),
    ] {
        let problems = parse(section).unwrap_err();
        let unknown = problems.iter().find(|p| p.key.ends_with("qqqqqqqq"));
        let help = unknown.unwrap().help.clone();
        keys.extend(help.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    assert!(keys.len() > 80, "{keys:?}");
    for key in keys {
        assert!(reference.contains(&format!("`{key}`")), "docs: {key}");
        assert!(default.contains(&key), "vipd.toml: {key}");
    }
}

// Files that cannot be read.

#[test]
fn what_is_not_a_readable_file_is_said_so_without_waiting() {
    let directory = std::env::temp_dir().join(format!("vipd-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("vipd.toml");

    cannot_read(&file, "No such file");
    cannot_read(&directory, "not a regular file");
    let fifo = directory.join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    cannot_read(&fifo, "not a regular file");
    fs::write(&file, b"[global]\nname = \"\xff\"\n").unwrap();
    cannot_read(&file, "not UTF-8 text (byte 17)");
    fs::write(&file, "#".repeat((8 << 20) + 1)).unwrap();
    cannot_read(&file, "larger than 8 MiB");
    fs::write(&file, "#".repeat(8 << 20)).unwrap();
    assert!(Config::load(&file).is_ok());
    fs::write(&file, "[global]\nnmae = 1\n").unwrap();
    match Config::load(&file) {
        Err(LoadError::Invalid(problems)) => {
            let headline = format!("{}:2:1: global.nmae: unknown key\n", file.display());
            assert!(problems.to_string().starts_with(&headline), "{problems}");
        }
        other => panic!("{other:?}"),
    }

    fs::remove_dir_all(&directory).unwrap();
}

fn parse(source: &str) -> Result<Config, Problems> {
    Config::parse(source, "vipd.toml")
}

/// Whatever the text is: a configuration, or at least one problem that can be shown.
fn explained(source: &str) {
    if let Err(problems) = parse(source) {
        assert_ne!(problems.count(), 0, "{source:?}");
        assert!(problems.to_string().contains("vipd.toml:"));
        for problem in &problems {
            assert!(problem.span.end <= source.len() && problem.line >= 1);
        }
    }
}

fn cannot_read(path: &Path, why: &str) {
    match Config::load(path) {
        Err(error @ LoadError::Read { .. }) => {
            let text = error.to_string();
            assert!(text.contains(why), "{text}");
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

/// `#key = value` is a key switched off; `# words` is a comment.
fn uncommented(source: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c != ' ' && c != '#') => rest.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    let lines: Vec<String> = source.lines().map(line).collect();
    lines.join("\n")
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn repository(path: &str) -> PathBuf {
    here("../..").join(path)
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}
