//! The command: what is printed where, and its exit codes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const GOOD: &str = "vrrp_instance a {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n192.0.2.10/24\n}\n}\n";

/// `vipd import WORDS`, with something on standard input.
fn vipd(words: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
    command.arg("import").args(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_file_that_is_wholly_translated_exits_0_and_says_nothing() {
    let (code, out, err) = said(&vipd(&["keepalived", "-"], GOOD));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("[[vrrp]]\nname = \"a\"\n"), "{out}");
}

#[test]
fn what_is_lost_exits_1_and_the_rest_is_printed() {
    let text = format!("{GOOD}bfd_instance x {{\n}}\n");
    let (code, out, err) = said(&vipd(&["keepalived", "-"], &text));
    assert_eq!(code, Some(1));
    assert!(out.starts_with("[[vrrp]]"), "{out}");
    assert!(
        err.starts_with("<stdin>:8:1: bfd_instance x: vipd has no BFD\n"),
        "{err}"
    );
    // Also what is valid nowhere but here is not.
    let script = "vrrp_script s {\nscript /nowhere/x\nuser nobody\n}\n";
    let (code, _, err) = said(&vipd(&["keepalived", "-"], script));
    assert_eq!(code, Some(1));
    assert!(
        err.starts_with("vipd.toml:3:12: track_script \"s\".command"),
        "{err}"
    );
}

#[test]
fn a_file_that_cannot_be_read_exits_2() {
    let (code, out, err) = said(&vipd(&["keepalived", "/nowhere/keepalived.conf"], ""));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("/nowhere/keepalived.conf"), "{err}");
    assert_eq!(said(&vipd(&["nginx", "-"], "")).0, Some(2));
}

#[test]
fn json_has_the_result_and_each_problem_with_its_file() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("import-json");
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    file(
        "b.conf",
        "global_defs {\n  process_names\n  enable_traps\n}\n",
    );
    let main = file(
        "a.conf",
        &format!("include b.conf\n@x include c.conf\n{GOOD}"),
    );
    let output = vipd(&["keepalived", &main, "--id", "x", "--json"], "");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["good"], false);
    assert!(json["toml"].as_str().unwrap().starts_with("[[vrrp]]"));
    let problem = &json["problems"][0];
    assert_eq!(problem["line"], 3);
    assert_eq!(problem["key"], "global_defs.enable_traps");
    assert!(problem["file"].as_str().unwrap().ends_with("/b.conf"));
    let warnings: Vec<&str> = json["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["key"].as_str().unwrap())
        .collect();
    assert_eq!(warnings, ["include", "global_defs.process_names"]);
}
