//! `vipd check`: what is warned of and where, what two directors' files disagree on, exit codes, JSON.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use vipd::config::lint::NAMES;
use vipd::config::{Examined, LoadError};

const ROUTER: &str = "[[vrrp]]\nname = 'web'\ninterface = 'eth-none'\nvrid = 51\n\
                      virtual_addresses = ['192.0.2.10/24']\n";
const SERVER: &str = "[[virtual_server]]\nname = 'http'\naddress = '192.0.2.10:80'\n";
const REAL: &str = "[[virtual_server.real_server]]\naddress = '198.51.100.1'\n";
const HMAC: &str = "authentication = { type = 'hmac', key_id = 1, key = 'an example of 32 bytes, not a key', mode = 'permissive' }\n";

/// Each lint with a file that it warns of, and the line where.
fn examples() -> Vec<(&'static str, String, usize)> {
    vec![
        (
            "address-not-held",
            format!("{ROUTER}{SERVER}vrrp = 'web'\n").replace("10:80", "11:80"),
            9,
        ),
        ("auth-permissive", format!("{ROUTER}{HMAC}"), 6),
        (
            "check-overlap",
            format!("{SERVER}check = {{ type = 'tcp', interval = '1s' }}\n{REAL}"),
            4,
        ),
        (
            "check-overlap",
            format!(
                "{SERVER}check = {{ type = 'tcp' }}\n{REAL}checks = [{{ type = 'tcp' }}, {{ type = 'tcp', timeout = '6s', port = 1 }}]\n"
            ),
            7,
        ),
        (
            "mark-takes-clients",
            format!(
                "[[virtual_server]]\nname = 'm'\nfwmark = 1\nmark = [{{ address = '192.0.2.10', ports = ['1-99'] }}]\n{SERVER}"
            ),
            7,
        ),
        (
            "no-fallback",
            format!("{SERVER}scheduler = 'mh'\nscheduler_flags = ['mh-port']\n"),
            5,
        ),
        (
            "no-real-server",
            format!("{SERVER}{REAL}").replace(
                "address = '192.0.2.10:80'",
                "addresses = ['192.0.2.10:80', '[2001:db8::1]:80']",
            ),
            3,
        ),
        (
            "one-packet-nat",
            format!("{SERVER}protocol = 'udp'\none_packet = true\nforwarding = 'nat'\n{REAL}"),
            5,
        ),
        (
            "one-packet-persistence",
            format!("{SERVER}protocol = 'udp'\none_packet = true\npersistence = {{}}\n"),
            5,
        ),
        (
            "owner-delay",
            format!("{ROUTER}priority = 255\npreempt_delay = '5s'\n"),
            7,
        ),
        (
            "panic-or-sorry",
            format!(
                "{SERVER}minimum_up = '50%'\nsorry_server = '198.51.100.9'\ncheck = {{ type = 'tcp' }}\n{REAL}"
            ),
            4,
        ),
        (
            "quorum-regain",
            format!("{SERVER}quorum = 2\nhysteresis = 1\n{REAL}weight = 2\n"),
            5,
        ),
        (
            "quorum-unreachable",
            format!("{SERVER}quorum = 2\n{REAL}"),
            4,
        ),
        // Not written, so that the place is that of the virtual server.
        (
            "quorum-unreachable",
            format!("{SERVER}{REAL}weight = 0\n"),
            1,
        ),
        (
            "slow-start-steps",
            format!("{SERVER}slow_start = '1m'\n{REAL}"),
            4,
        ),
        (
            "sorry-never",
            format!("{SERVER}sorry_server = '198.51.100.9'\n{REAL}"),
            4,
        ),
        (
            "track-unchecked",
            format!(
                "{ROUTER}track = [{{ virtual_server = 'http' }}]\n{SERVER}vrrp = 'web'\nwhen = 'master'\n"
            ),
            6,
        ),
    ]
}

#[test]
fn each_lint_warns_of_its_example_alone_with_the_line() {
    let folder = Folder::new();
    for (name, source, line) in examples() {
        let examined = examine(&folder.file("a.toml", &source));
        let found: Vec<(&str, usize)> = examined
            .warnings
            .iter()
            .map(|warning| (warning.lint.unwrap(), warning.line))
            .collect();
        assert_eq!(found, [(name, line)], "{source}\n{}", examined.warnings);
        let text = examined.warnings.to_string();
        assert!(
            text.contains(&format!("a.toml:{line}:")) && text.contains(": warning: "),
            "{text}"
        );
        assert!(
            text.ends_with("1 warning in ") || text.contains("\n1 warning in "),
            "{text}"
        );
    }
}

#[test]
fn every_lint_is_tested_and_in_the_documentation() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let docs = fs::read_to_string(docs).unwrap();
    let mut tested: BTreeSet<&str> = examples().iter().map(|(name, ..)| *name).collect();
    // They need files and interfaces, and have tests of their own.
    tested.extend([
        "script-directory",
        "script-owner",
        "secret-readable",
        "vip-outside-subnets",
    ]);
    assert_eq!(tested, NAMES.into_iter().collect());
    for name in NAMES {
        assert!(
            docs.contains(&format!("| `{name}` |")),
            "docs/config.md has no {name}"
        );
    }
}

#[test]
fn a_good_file_is_not_warned_of() {
    let folder = Folder::new();
    let source = format!("{ROUTER}{SERVER}vrrp = 'web'\ncheck = {{ type = 'tcp' }}\n{REAL}");
    assert_eq!(examine(&folder.file("a.toml", &source)).warnings.count(), 0);
}

#[test]
fn a_script_that_others_could_replace_is_warned_of() {
    let folder = Folder::new();
    let script = folder.file("script", "#!/bin/sh\n");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let source = format!(
        "[[track_script]]\nname = 'a'\ncommand = ['{}']\n",
        script.display()
    );
    let file = folder.file("a.toml", &source);
    let names = || {
        let examined = examine(&file);
        let lints = examined.warnings.iter();
        lints
            .map(|it| (it.lint.unwrap(), it.line))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), []);
    fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(names(), [("script-directory", 3)]);
    // /tmp is like that: others may add files, but not replace them.
    fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o1777)).unwrap();
    assert_eq!(names(), []);
    chown(&script, Some(65534), None).unwrap();
    assert_eq!(names(), [("script-owner", 3)]);
}

#[test]
fn a_virtual_address_outside_the_networks_of_its_interface_is_warned_of() {
    let folder = Folder::new();
    let router = |name: &str, vrid: u8, interface: &str, address: &str| {
        format!(
            "[[vrrp]]\nname = '{name}'\ninterface = '{interface}'\nvrid = {vrid}\n\
             virtual_addresses = ['{address}']\n"
        )
    };
    let source = router("in", 1, "d0", "192.0.2.10/24")
        + &router("out", 2, "d0", "198.51.100.10/24")
        + &router("held", 3, "d0", "203.0.113.10/24")
        + &router("empty", 4, "d1", "198.51.100.11/24")
        + &router("absent", 5, "d2", "198.51.100.12/24")
        + &router("on a macvlan", 6, "d0", "198.51.100.13")
        + "virtual_mac = true\n";
    let file = folder.file("a.toml", &source);
    // A master has its virtual addresses, and they are no reason to be where they are.
    let setup = "ip link add d0 type veth peer name d1 && ip link set d0 up \
                 && ip address add 192.0.2.1/24 dev d0 && ip address add 203.0.113.10/24 dev d0";
    let output = Command::new("unshare")
        .args([
            "-n",
            "sh",
            "-c",
            &format!("{setup} && exec \"$0\" check -c \"$1\" --json"),
        ])
        .arg(env!("CARGO_BIN_EXE_vipd"))
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<(&str, u64)> = json["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["lint"].as_str().unwrap(), it["line"].as_u64().unwrap()))
        .collect();
    let outside = "vip-outside-subnets";
    assert_eq!(found, [(outside, 10), (outside, 15), (outside, 30)]);
}

#[test]
fn a_key_that_everybody_may_read_is_warned_of_and_not_shown() {
    let folder = Folder::new();
    let source = format!("{ROUTER}{}", HMAC.replace("permissive", "enforce"));
    let file = folder.file("a.toml", &source);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let warnings = examine(&file).warnings;
    let lints: Vec<_> = warnings
        .iter()
        .map(|it| (it.lint.unwrap(), it.line, it.key.clone()))
        .collect();
    assert_eq!(
        lints,
        [(
            "secret-readable",
            6,
            "vrrp \"web\".authentication.key".to_owned()
        )]
    );
    assert!(!warnings.to_string().contains("an example"), "{warnings}");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(examine(&file).warnings.is_empty());
}

#[test]
fn warnings_fail_only_where_they_are_denied() {
    let folder = Folder::new();
    let warned = folder.file("warned.toml", &format!("{SERVER}quorum = 2\n{REAL}"));
    let (code, out, _) = check(&[&warned], &[]);
    assert_eq!(code, 0);
    assert!(
        out.contains("quorum: a quorum of 2 is never reached"),
        "{out}"
    );
    assert!(out.contains("[quorum-unreachable]\n"), "{out}");
    assert!(
        out.ends_with("warned.toml: good: 0 vrrp, 1 virtual_server\n"),
        "{out}"
    );
    assert_eq!(check(&[&warned], &["--deny-warnings"]).0, 1);
    let good = folder.file("good.toml", &format!("{SERVER}{REAL}"));
    assert_eq!(check(&[&good], &["--deny-warnings"]).0, 0);
    let broken = folder.file("broken.toml", "[global]\nnmae = 1\n");
    assert_eq!(check(&[&broken], &[]).0, 1);
    assert_eq!(check(&[&folder.0.join("none.toml")], &[]).0, 2);
    assert_eq!(check(&[&good, &folder.0.join("none.toml")], &[]).0, 2);
    assert_eq!(check(&[&good, &broken], &[]).0, 1);
}

#[test]
fn json_has_the_same_for_programs() {
    let folder = Folder::new();
    let warned = folder.file("warned.toml", &format!("{SERVER}quorum = 2\n{REAL}"));
    let (code, out, _) = check(&[&warned], &["--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(json["good"], true);
    assert_eq!(json["warnings"][0]["lint"], "quorum-unreachable");
    assert_eq!(json["warnings"][0]["line"], 4);
    assert_eq!(json["warnings"][0]["column"], 10);
    assert_eq!(json["warnings"][0]["key"], "virtual_server \"http\".quorum");
    let broken = folder.file("broken.toml", "[global]\nnmae = 1\n");
    let (code, out, _) = check(&[&broken], &["--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(json["good"], false);
    assert_eq!(json["problems"][0]["message"], "unknown key");
    assert_eq!(json["problems"][0]["help"], "did you mean `name`?");
}

#[test]
fn the_schema_is_printed_as_json() {
    let output = Command::new(env!("CARGO_BIN_EXE_vipd"))
        .arg("schema")
        .output()
        .unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success());
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}

// Two directors.

const PAIR: &str = "[ipvs]
sync = { interface = 'eth1', id = 7 }
[[vrrp]]
name = 'web'
interface = 'eth0'
vrid = 51
priority = 150
virtual_addresses = ['192.0.2.10/24', '192.0.2.11/24']
unicast = { source = '192.0.2.2', peers = ['192.0.2.3'] }
authentication = { type = 'pass', key = 's3cret' }
[[vrrp]]
name = 'inside'
interface = 'eth2'
vrid = 52
priority = 150
virtual_addresses = ['198.51.100.10/24']
[[sync_group]]
name = 'both'
members = ['web', 'inside']
[[virtual_server]]
name = 'http'
address = '192.0.2.10:80'
scheduler = 'wlc'
persistence = { timeout = '300s' }
[[virtual_server.real_server]]
address = '203.0.113.1'
[[virtual_server.real_server]]
address = '203.0.113.2'
";

/// The other director's file: what must differ does.
fn other() -> String {
    PAIR.replace("priority = 150", "priority = 100")
        .replace(
            "source = '192.0.2.2', peers = ['192.0.2.3']",
            "source = '192.0.2.3', peers = ['192.0.2.2']",
        )
        .replace("interface = 'eth0'", "interface = 'ens3'")
        .replace("members = ['web', 'inside']", "members = ['inside', 'web']")
}

#[test]
fn two_files_of_a_pair_agree() {
    let folder = Folder::new();
    let (own, peer) = (folder.file("a.toml", PAIR), folder.file("b.toml", &other()));
    let (code, out, _) = check(&[&own, &peer], &["--deny-warnings"]);
    assert!(out.contains("b.toml agree\n"), "{out}");
    assert_eq!(code, 0);
}

#[test]
fn each_disagreement_is_told_with_its_places_in_both_files() {
    for (from, to, message, lines) in [
        (
            "vrid = 51",
            "vrid = 53",
            "the VRID is 51 here and 53 there",
            (6, 6),
        ),
        (
            "vrid = 52",
            "vrid = 52\nversion = 3",
            "the version is 2 here and 3 there",
            (11, 15),
        ),
        (
            "vrid = 51",
            "vrid = 51\nadvert_interval = '2s'",
            "the interval is 1s here and 2s there",
            (3, 7),
        ),
        (
            "vrid = 51",
            "vrid = 51\ndown_adverts = 4",
            "down_adverts is 3 here and 4 there",
            (3, 7),
        ),
        (
            "vrid = 51",
            "vrid = 51\nvirtual_mac = true",
            "the virtual MAC is off here and on there",
            (3, 7),
        ),
        (
            "'inside'",
            "'outside'",
            "the name is \"inside\" here and \"outside\" there",
            (12, 12),
        ),
        (
            ", '192.0.2.11/24'",
            "",
            "only this file has the advertised address 192.0.2.11",
            (8, 8),
        ),
        (
            "'192.0.2.11/24'",
            "{ address = '192.0.2.11/24', advertise = false }",
            "only the peer's file has the address that is not advertised 192.0.2.11",
            (8, 8),
        ),
        ("s3cret", "s4cret", "the passwords differ", (10, 10)),
        (
            "authentication = { type = 'pass', key = 's3cret' }\n",
            "",
            "the authentication is of type \"pass\" here and none there",
            (10, 3),
        ),
        (
            "peers = ['192.0.2.2']",
            "peers = ['192.0.2.4']",
            "the peer does not hear 192.0.2.2",
            (9, 9),
        ),
        (
            "source = '192.0.2.3'",
            "source = '192.0.2.5'",
            "192.0.2.5 is not heard",
            (9, 9),
        ),
        (
            "unicast = ",
            "#",
            "adverts are unicast here and multicast there",
            (9, 3),
        ),
        (
            "name = 'both'",
            "name = 'all'",
            "the peer has no sync group \"both\"",
            (17, 1),
        ),
        ("id = 7", "id = 8", "is 7 here and 8 there", (2, 2)),
        (
            "sync = ",
            "#",
            "connections are synchronised only here",
            (2, 1),
        ),
        (
            "scheduler = 'wlc'",
            "scheduler = 'rr'",
            "the scheduler is wlc here and rr there",
            (23, 23),
        ),
        ("300s", "301s", "the persistence differs", (24, 24)),
        (
            "203.0.113.2",
            "203.0.113.3",
            "the peer has no real server 203.0.113.2:80",
            (27, 20),
        ),
        (
            "203.0.113.2'",
            "203.0.113.2'\nweight = 2",
            "the weight is 1 here and 2 there",
            (27, 27),
        ),
        (
            "name = 'http'\naddress = '192.0.2.10:80'",
            "name = 'https'\naddress = '192.0.2.10:443'",
            "the peer has no virtual server \"http\"",
            (20, 1),
        ),
    ] {
        let folder = Folder::new();
        let theirs = other().replace(from, to);
        assert_ne!(theirs, other(), "{from}");
        let (own, peer) = (folder.file("a.toml", PAIR), folder.file("b.toml", &theirs));
        let (code, out, _) = check(&[&own, &peer], &[]);
        assert_eq!(code, 1, "{to}: {out}");
        assert!(!out.contains("s3cret") && !out.contains("s4cret"), "{out}");
        let (_, json, _) = check(&[&own, &peer], &["--json"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        let found = json["disagreements"].as_array().unwrap();
        let one = found
            .iter()
            .find(|one| one["message"].as_str().unwrap().contains(message));
        let one = one.unwrap_or_else(|| panic!("{to}: no {message:?} in {out}"));
        let (own, peer) = (one["own"]["line"].as_u64(), one["peer"]["line"].as_u64());
        assert_eq!((own, peer), (Some(lines.0), Some(lines.1)), "{to}: {out}");
    }
}

#[test]
fn equal_priorities_are_a_warning_and_two_owners_are_not() {
    let folder = Folder::new();
    let own = folder.file("a.toml", PAIR);
    let peer = folder.file(
        "b.toml",
        &other().replace("priority = 100", "priority = 150"),
    );
    let (code, out, _) = check(&[&own, &peer], &[]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("warning: vrrp \"web\".priority: both have priority 150"),
        "{out}"
    );
    assert!(out.contains("\n2 disagreements between "), "{out}");
    assert_eq!(check(&[&own, &peer], &["--deny-warnings"]).0, 1);
    let alone = ROUTER.to_owned() + "priority = 255\n";
    let (own, peer) = (folder.file("a.toml", &alone), folder.file("b.toml", &alone));
    let (code, out, _) = check(&[&own, &peer], &[]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("both own the addresses"), "{out}");
}

#[test]
fn a_change_of_keys_in_two_steps_is_no_disagreement() {
    let folder = Folder::new();
    let key = |text: &str| format!("{text} of thirty-two bytes and a few more");
    let hmac = |id: u8, signs: &str, other: u8, accepted: &str| {
        format!(
            "{ROUTER}authentication = {{ type = 'hmac', key_id = {id}, key = '{}', keys = [{{ id = {other}, key = '{}' }}] }}\n",
            key(signs),
            key(accepted)
        )
    };
    let compare = |own: &str, peer: &str| {
        let peer = format!("{peer}priority = 50\n");
        let (own, peer) = (folder.file("a.toml", own), folder.file("b.toml", &peer));
        check(&[&own, &peer], &[])
    };
    let (code, out, _) = compare(&hmac(1, "one", 2, "two"), &hmac(2, "two", 1, "one"));
    assert_eq!(code, 0, "{out}");
    let (code, out, _) = compare(&hmac(1, "one", 2, "two"), &hmac(2, "two", 1, "three"));
    assert_eq!(code, 1);
    assert!(out.contains("the peer does not accept the key 1"), "{out}");
    let (code, out, _) = compare(&hmac(1, "one", 2, "two"), &hmac(3, "two", 1, "one"));
    assert_eq!(code, 1);
    assert!(
        out.contains("the key 3, which signs there, is not accepted here"),
        "{out}"
    );
}

fn examine(path: &Path) -> Examined {
    match Examined::load(path) {
        Ok(examined) => examined,
        Err(LoadError::Invalid(problems)) => panic!("{problems}"),
        Err(error) => panic!("{error}"),
    }
}

/// `vipd check` of a file, and of a peer's.
fn check(files: &[&Path], options: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
    command.arg("check").arg("-c").arg(files[0]).args(options);
    if let Some(peer) = files.get(1) {
        command.arg("--peer").arg(peer);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A directory of this test alone.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vipd-lint-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A file that only its owner may read, because there are keys in some.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
