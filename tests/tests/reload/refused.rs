//! What cannot be put in force changes nothing, says why, and the daemon lives.

use std::fs;

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::pair::{Pair, router};
use serde_json::json;

use crate::vipctl;

#[test]
fn a_vanished_file_a_pipe_a_huge_one_and_a_broken_one_are_clear_errors() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    lb1.wait_for_state("master")?;
    let file = lb1.config().to_owned();
    let path = file.display().to_string();
    let refused = |words: &str| -> Result<()> {
        for command in [
            &["reload"][..],
            &["reload", "--confirm", "10s"],
            &["plan"],
            &["config", "diff"],
        ] {
            let why = lb1.refused(command)?;
            ensure!(
                why.contains(words) && why.contains("lb1.toml"),
                "{command:?}: {why}"
            );
        }
        lb1.wait_for_status("/config/last_reload/ok", &json!(false))?;
        lb1.wait_for_status("/vrrp/0/state", &json!("master"))?;
        lb1.wait_for_status("/vrrp/0/transitions", &json!(2))
            .map(|_| ())
    };
    fs::remove_file(&file)?;
    refused("No such file")?;
    pair.lb1.run(&format!("mkfifo {path}"))?;
    refused("not a regular file")?;
    fs::remove_file(&file)?;
    // Sparse: a hundred megabytes that are no burden to the disk.
    fs::File::create(&file)?.set_len(100 << 20)?;
    refused("larger than 8 MiB")?;
    fs::write(&file, "[[vrrp]]\nname = \"web\"\npriorty = 1\n")?;
    refused("priorty")?;
    fs::write(&file, [0xff, 0xfe])?;
    refused("not UTF-8")?;
    lb1.reload(&router(140))?;
    lb1.wait_for_status("/vrrp/0/priority/configured", &json!(140))?;
    Ok(())
}

#[test]
fn a_full_disk_refuses_a_trial_and_changes_nothing() -> Result<()> {
    let pair = Pair::new()?;
    let folder = pair.lb1.folder().join("lb1.state");
    fs::create_dir_all(&folder)?;
    // Before the start: the daemon's mount namespace is a copy.
    let mounted = Mounted::new(&folder.display().to_string())?;
    let lb1 = Director::start(&pair.lb1, &router(150))?;
    ensure!(lb1.state_dir() == folder);
    let full = fs::write(folder.join("ballast"), vec![0; 1 << 20]);
    ensure!(full.is_err(), "the disk has room");
    lb1.write_config(&router(140))?;
    let why = lb1.refused(&["reload", "--confirm", "10s"])?;
    ensure!(
        why.contains("No space left") && why.contains("trial.json"),
        "{why}"
    );
    ensure!(why.contains("nothing changed"), "{why}");
    lb1.wait_for_status("/vrrp/0/priority/configured", &json!(150))?;
    ensure!(!folder.join("trial.json").exists() && !folder.join("trial.json.new").exists());
    // Without a trial nothing has to be written.
    lb1.vipctl(&["reload"])?;
    lb1.wait_for_status("/vrrp/0/priority/configured", &json!(140))?;
    drop((lb1, mounted));
    Ok(())
}

#[test]
fn a_plan_changes_nothing_and_its_exit_code_tells_whether_a_reload_would() -> Result<()> {
    let pair = Pair::new()?;
    let secret = "authentication = { type = \"pass\", key = \"s3cret\" }\n";
    let lb1 = Director::start(&pair.lb1, &format!("{}{secret}", router(150)))?;
    let same = vipctl(&lb1, &["plan"])?;
    ensure!(same.status.code() == Some(0), "{same:?}");
    let other = pair.lb1.folder().join("other.toml");
    let text = fs::read_to_string(lb1.config())?.replace("priority = 150", "priority = 160");
    fs::write(&other, text.replace("s3cret", "t3cret"))?;
    let other = other.display().to_string();
    let plan = vipctl(&lb1, &["plan", &other])?;
    let said = String::from_utf8_lossy(&plan.stdout).into_owned();
    ensure!(plan.status.code() == Some(2), "{plan:?}");
    ensure!(
        said.contains("~ vrrp web: priority 150 → 160; may take over"),
        "{said}"
    );
    ensure!(
        said.contains("vrrp web: authentication another password"),
        "{said}"
    );
    ensure!(said.contains("restarts nothing"), "{said}");
    let diff = vipctl(&lb1, &["config", "diff", &other])?;
    let diff = String::from_utf8_lossy(&diff.stdout).into_owned();
    ensure!(
        diff.contains("-priority = 150\n") && diff.contains("+priority = 160\n"),
        "{diff}"
    );
    let shown = lb1.vipctl(&["config", "show"])?;
    ensure!(
        shown.contains("key = \"<hidden>\"") && shown.contains("priority = 150"),
        "{shown}"
    );
    for text in [
        said,
        diff,
        shown,
        lb1.vipctl(&["config", "show", "--json"])?,
    ] {
        ensure!(!text.contains("3cret"), "{text}");
    }
    // What only the one who asks can read is read by that one.
    let gone = lb1.refused(&["plan", "/nonexistent.toml"])?;
    ensure!(gone.contains("/nonexistent.toml"), "{gone}");
    fs::write(&other, "[[vrrp]]\npriorty = 1\n")?;
    let wrong = lb1.refused(&["plan", &other])?;
    ensure!(
        wrong.contains("other.toml:2:1") && wrong.contains("priorty"),
        "{wrong}"
    );
    lb1.wait_for_status("/config/last_reload", &json!(null))?;
    Ok(())
}

/// A disk of 64 KiB.
struct Mounted(String);

impl Mounted {
    fn new(path: &str) -> Result<Mounted> {
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs", path])
            .status()?;
        ensure!(status.success(), "no tmpfs");
        Ok(Mounted(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .args(["-l", &self.0])
            .status();
    }
}
