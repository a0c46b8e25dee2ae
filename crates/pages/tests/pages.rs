//! The pages against the tools that read them: bash, man, and the repository's own document.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap_complete::Shell;

#[test]
fn the_reference_in_the_repository_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config-reference.md");
    let made = pages::reference();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "stale: UPDATE_EXPECT=1 cargo test -p pages writes it anew"
    );
}

#[test]
fn man_shows_every_page_without_a_warning_and_with_every_command() {
    let scratch = Scratch::new("man");
    let mut pages: Vec<(String, String)> = pages::programs()
        .iter()
        .map(|program| {
            (
                format!("{}.8", program.get_name()),
                pages::manual(program).unwrap(),
            )
        })
        .collect();
    pages.push(("vipd.toml.5".to_owned(), pages::config_page()));
    for (name, page) in &pages {
        let file = scratch.0.join(name);
        fs::write(&file, page).unwrap();
        let shown = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(&file)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&shown.stderr);
        assert!(
            shown.status.success() && said.trim().is_empty(),
            "{name}: {said}"
        );
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(text.len() > 1000, "{name}: {text}");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in match name.as_str() {
            "vipd.8" => &[
                "vipd check",
                "--deny-warnings",
                "vipd schema",
                "/etc/vipd/vipd.toml",
            ][..],
            "vipctl.8" => &["vipctl drain", "--wait", "vipctl ipvs save", "vipd.toml(5)"][..],
            _ => &[
                "advert_interval",
                "10ms to 255s",
                "[[VIRTUAL_SERVER.REAL_SERVER]]",
                "expires_within",
            ][..],
        } {
            assert!(text.contains(words), "{name} has no {words:?}:\n{text}");
        }
    }
}

#[test]
fn bash_completes_commands_options_and_the_names_that_the_daemon_knows() {
    let scratch = Scratch::new("bash");
    let [vipd, vipctl] = pages::programs();
    fs::write(
        scratch.0.join("vipd.bash"),
        pages::completion(vipd, Shell::Bash),
    )
    .unwrap();
    fs::write(
        scratch.0.join("vipctl.bash"),
        pages::completion(vipctl, Shell::Bash),
    )
    .unwrap();
    // Stands for a daemon that runs: this is about bash.
    let client = scratch.0.join("vipctl");
    fs::write(
        &client,
        "#!/bin/sh\n[ \"$1 $2\" = '--socket /s' ] && shift 2\nshift\ncase \"$*\" in\n\
         virtual-servers) echo http; echo 'two words';;\n\
         'real-servers http') echo 10.0.0.1;;\nvrrp) echo web;;\nesac\n",
    )
    .unwrap();
    let mut mode = fs::metadata(&client).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&client, mode).unwrap();

    let complete = |program: &str, words: &[&str]| -> Vec<String> {
        let script = format!(
            "source {}/{program}.bash\nCOMP_WORDS=(\"$@\")\nCOMP_CWORD=$(($# - 1))\n\
             f=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
             $f \"$1\" \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            scratch.0.display()
        );
        let first = match program {
            "vipctl" => client.to_str().unwrap(),
            other => other,
        };
        let out = Command::new("bash")
            .args(["--norc", "--noprofile", "-c", &script, "bash", first])
            .args(words)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(
            out.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines()
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
            .collect()
    };
    assert_eq!(complete("vipd", &["che"]), ["check"]);
    assert_eq!(complete("vipd", &["check", "--deny"]), ["--deny-warnings"]);
    assert_eq!(complete("vipctl", &["maintenance", "o"]), ["on", "off"]);
    assert_eq!(complete("vipctl", &["drain", ""]), ["http", "two\\ words"]);
    assert_eq!(
        complete("vipctl", &["drain", "--wait", "http", ""]),
        ["10.0.0.1"]
    );
    assert_eq!(
        complete("vipctl", &["--socket", "/s", "switchover", "w"]),
        ["web"]
    );
    assert_eq!(complete("vipctl", &["drain", "--wa"]), ["--wait"]);
}

#[test]
fn zsh_and_fish_have_every_command() {
    for program in pages::programs() {
        let commands: Vec<String> = program
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|command| command.get_name().to_owned())
            .collect();
        for shell in [Shell::Zsh, Shell::Fish] {
            let script = pages::completion(program.clone(), shell);
            for command in &commands {
                assert!(script.contains(command.as_str()), "{shell}: {command}");
            }
        }
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(kind: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("vipd-pages-{kind}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
