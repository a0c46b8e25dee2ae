//! `cargo xtask packages`: installs, upgrades, removes and purges the Debian package where it will live: in a
//! Debian with systemd as its init, in a container (systemd-nspawn) or, with IPVS, in the guest.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::dist::{self, Build};
use crate::guest::workspace;
use crate::{provision, say};

const TRIAL: &str = include_str!("packages/trial.sh");
/// Of a Debian that is made for it: what a server has.
const DEBIAN: &str = "systemd,systemd-sysv,dbus,kmod,iproute2,nftables,procps";
const UNIT: &str = "[Unit]\n\
                    After=multi-user.target\n\
                    [Service]\n\
                    Type=oneshot\n\
                    ExecStart=-/bin/bash /trial/trial.sh\n\
                    ExecStopPost=/bin/systemctl --no-block poweroff --force\n\
                    StandardOutput=file:/trial/log\n\
                    StandardError=file:/trial/log\n";

/// `cargo xtask packages`.
pub(crate) fn trial(build: Build) -> Result<u8> {
    provision::install()?;
    dist::compile(build)?;
    let folder = workspace().join("target/packages");
    let shared = folder.join("trial");
    if shared.exists() {
        fs::remove_dir_all(&shared)?;
    }
    fs::create_dir_all(&shared)?;
    for revision in [1, 2] {
        let packages = dist::pack(build, revision)?;
        fs::copy(packages.deb, shared.join(format!("{revision}.deb")))?;
    }
    fs::write(shared.join("trial.sh"), TRIAL)?;
    let root = debian(&folder)?;
    let start = Instant::now();
    container(&root, &shared)?;
    report(&shared.join("log"), start)
}

/// A small Debian, made once.
fn debian(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("base");
    let complete = folder.join("base-complete");
    if !complete.exists() {
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        say("making a small Debian");
        let mut make = Command::new("debootstrap");
        make.args([
            "--variant=minbase",
            &format!("--include={DEBIAN}"),
            "bookworm",
        ]);
        provision::run(make.arg(&root).arg("http://deb.debian.org/debian"))?;
        fs::write(complete, "")?;
    }
    let units = root.join("etc/systemd/system");
    fs::write(units.join("trial.service"), UNIT)?;
    let wanted = units.join("multi-user.target.wants/trial.service");
    if fs::symlink_metadata(&wanted).is_err() {
        symlink("../trial.service", wanted)?;
    }
    Ok(root)
}

/// Boots it in a container, over a layer in memory, until it has powered itself off.
fn container(root: &Path, shared: &Path) -> Result<()> {
    let mut boot = Command::new("timeout");
    boot.args([
        "--kill-after=10",
        "400",
        "systemd-nspawn",
        "--quiet",
        "--boot",
    ]);
    boot.args([
        "--volatile=overlay",
        "--private-network",
        "--register=no",
        "--keep-unit",
    ]);
    boot.args([
        "--console=pipe",
        "--machine",
        &format!("vipd-{}", std::process::id()),
    ]);
    boot.arg("--directory").arg(root);
    boot.arg(format!("--bind={}:/trial", shared.display()));
    let console = fs::File::create(shared.join("console"))?;
    boot.stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console);
    let status = boot.status().context("systemd-nspawn cannot be run")?;
    let text = fs::read_to_string(shared.join("console")).unwrap_or_default();
    ensure!(
        status.success(),
        "the container ended with {status}:\n{text}"
    );
    Ok(())
}

fn report(log: &Path, start: Instant) -> Result<u8> {
    let text = fs::read_to_string(log).with_context(|| log.display().to_string())?;
    say(text.trim_end());
    let count = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    let ended = text.lines().any(|line| line == "done");
    let (passed, failed) = (count("ok: "), count("FAILED: ") + usize::from(!ended));
    let seconds = start.elapsed().as_secs();
    say(&format!(
        "packages: {passed} passed, {failed} failed, {seconds} s"
    ));
    Ok(u8::from(failed > 0))
}
