//! `cargo xtask packages`: installs, upgrades, removes and purges the Debian package where it will live: in a
//! Debian with systemd as its init, in a container (systemd-nspawn) or, with IPVS, in the guest.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::dist::{self, Build};
use crate::guest::{Guest, Terminal, workspace};
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

/// Modules that a container cannot load.
const SCHEDULERS: &str = "rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos";

/// Where the trial runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Here,
    Guest,
}

impl Place {
    /// The guest is emulated.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Place::Here => 300,
            Place::Guest => 1200,
        })
    }
}

/// `cargo xtask packages`.
pub(crate) fn trial(build: Build, place: Place) -> Result<u8> {
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
    boot(&root, &shared, place)?;
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

/// Boots it in a container, over a layer in memory, until it has powered itself off. In the guest there is
/// IPVS, and no limit that this machine may have.
fn boot(root: &Path, shared: &Path, place: Place) -> Result<()> {
    let (root, trial) = (root.display(), shared.display());
    // Memory is locked by limit; the capability only opens the container's own filter of system calls.
    let boot = format!(
        "timeout --kill-after=10 {} systemd-nspawn --quiet --boot --volatile=overlay --private-network \
         --register=no --keep-unit --console=pipe --capability=CAP_IPC_LOCK --machine=vipd-packages-$$ \
         --directory={root} --bind={trial}:/trial </dev/null >{trial}/console 2>&1",
        place.limit().as_secs()
    );
    let good = match place {
        Place::Here => Command::new("sh").args(["-c", &boot]).status()?.success(),
        Place::Guest => {
            let guest = Guest::prepare()?;
            let kept = workspace().join("target/lab/out/packages.log");
            let _ = fs::remove_file(&kept);
            let command = format!(
                "mount -t cgroup2 cgroup /sys/fs/cgroup; for name in {SCHEDULERS}; do modprobe -q ip_vs_$name; \
                 done; {boot}; ended=$?; cp {trial}/log /out/packages.log; exit $ended"
            );
            let limit = place.limit() + Duration::from_secs(60);
            let code = guest.run(&command, Terminal::Output, Some(limit))?;
            fs::copy(kept, shared.join("log")).context("the guest left no log")?;
            code == 0
        }
    };
    let console = fs::read_to_string(shared.join("console")).unwrap_or_default();
    ensure!(good, "the container did not end well:\n{console}");
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
