//! How each fault is done, and undone where it does not heal by itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Arena, Fault, PATIENCE, Target};
use crate::cluster::VIP;
use crate::director::signal;
use crate::run;

/// How long those last that last.
const WHILE: Duration = Duration::from_secs(4);
const ADVERTS: &str = "ip protocol 112";
const HOUR: i64 = 3600;

impl Arena {
    /// Whether it could be done.
    pub(super) fn inflict(&mut self, fault: Fault, target: Target) -> Result<bool> {
        match fault {
            Fault::Killed => self.kill(target, "KILL")?,
            Fault::Segfault => {
                // The first one that is only sent, by nobody's fault, the runtime lets pass.
                signal(self.director(target).pid(), "SEGV")?;
                sleep(Duration::from_millis(200));
                self.kill(target, "SEGV")?;
            }
            Fault::KilledWithGuard => {
                self.director_mut(target).kill()?;
                self.restart(target)?;
            }
            Fault::Frozen => {
                let id = self.director(target).pid();
                signal(id, "STOP")?;
                sleep(WHILE);
                signal(id, "CONT")?;
            }
            Fault::OutOfMemory => return self.exhaust_memory(target),
            Fault::OutOfFiles => self.exhaust_files(target)?,
            Fault::DiskFull => {
                let file = self.director(target).state_dir().join("ballast");
                // Until the disk is full, which is no success.
                let _ = run(Command::new("dd")
                    .args(["if=/dev/zero", "bs=4k"])
                    .arg(format!("of={}", file.display())));
                sleep(WHILE);
                fs::remove_file(file)?;
            }
            Fault::NetlinkOverrun => {
                let file = self.host(target).folder().join("links");
                let lines =
                    (0..500).map(|n| format!("link add many{n} type dummy\nlink del many{n}\n"));
                fs::write(&file, lines.collect::<String>())?;
                self.host(target)
                    .run(&format!("ip -batch {}", file.display()))?;
            }
            Fault::LinkFlaps => {
                for _ in 0..5 {
                    self.cluster.lab.pull_cable(self.host(target))?;
                    sleep(Duration::from_millis(300));
                    self.cluster.lab.plug_cable(self.host(target))?;
                    sleep(Duration::from_millis(300));
                }
            }
            Fault::InterfaceDeleted => {
                let host = self.host(target);
                host.ip("link del eth0")?;
                sleep(Duration::from_secs(3));
                self.cluster.lab.plug(host)?;
                let own = match target {
                    Target::Primary => 11,
                    Target::Backup => 12,
                };
                host.ip(&format!("addr add 10.77.0.{own}/24 dev eth0"))?;
            }
            Fault::AddressDeleted => {
                // Only the master has it.
                if target == Target::Backup {
                    return Ok(false);
                }
                self.host(target)
                    .ip(&format!("addr del {VIP}/24 dev eth0"))?;
            }
            Fault::TableCleared => {
                self.host(target).run("ipvsadm -C")?;
            }
            Fault::ModuleUnloaded => return self.unload(),
            Fault::ClockBack => return set_clock(-HOUR),
            Fault::ClockForward => return set_clock(HOUR),
            Fault::DeafOneWay => {
                self.host(target).drop_incoming(ADVERTS)?;
                sleep(WHILE);
                self.host(target).drop_nothing()?;
            }
            Fault::DeafBothWays => {
                for target in [Target::Primary, Target::Backup] {
                    self.host(target).drop_incoming(ADVERTS)?;
                }
                sleep(WHILE);
                for target in [Target::Primary, Target::Backup] {
                    self.host(target).drop_nothing()?;
                }
            }
            Fault::Isolated => {
                self.cluster.lab.isolate(self.host(target))?;
                sleep(WHILE);
                self.cluster.lab.rejoin(self.host(target))?;
            }
            Fault::LossAndDelay => {
                let host = self.host(target);
                let netem = "tc qdisc add dev eth0 root netem loss 30% delay 50ms";
                if host.run(netem).is_err() {
                    return Ok(false);
                }
                sleep(2 * WHILE);
                host.run("tc qdisc del dev eth0 root")?;
            }
            Fault::GuardKilled => {
                let guard = self.director(target).guard()?.context("no guard")?;
                signal(guard, "KILL")?;
            }
            Fault::RulesetFlushed => {
                self.host(target).run("nft flush ruleset")?;
            }
            Fault::SecondDaemon => {
                let status = self.second_daemon(target)?.wait(PATIENCE)?;
                ensure!(!status.success(), "the second daemon ended well: {status}");
            }
            Fault::Restarted => {
                let director = self.director_mut(target);
                director.kill_alone("TERM")?;
                self.restart(target)?;
            }
            Fault::SwitchedOver => {
                // Only a master has something to hand over.
                if target == Target::Backup {
                    return Ok(false);
                }
                self.director(target).vipctl(&["switchover", "web"])?;
                self.backup.wait_for_state("master")?;
                // Who has handed over does not take back by itself.
                self.backup.vipctl(&["switchover", "web"])?;
            }
        }
        Ok(true)
    }

    fn kill(&mut self, target: Target, name: &str) -> Result<()> {
        self.director_mut(target).kill_alone(name)?;
        self.restart(target)
    }

    /// The kernel kills the daemon for what it has.
    fn exhaust_memory(&mut self, target: Target) -> Result<bool> {
        let root = Path::new("/sys/fs/cgroup");
        if !root.join("cgroup.controllers").exists() {
            let mount = ["-t", "cgroup2", "none", "/sys/fs/cgroup"];
            if run(Command::new("mount").args(mount)).is_err() {
                return Ok(false);
            }
        }
        let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        let id = self.director(target).pid();
        let cgroup = root.join(format!("vipd-{id}"));
        fs::create_dir(&cgroup)?;
        if !cgroup.join("memory.max").exists() {
            fs::remove_dir(&cgroup)?;
            return Ok(false);
        }
        fs::write(cgroup.join("cgroup.procs"), id.to_string())?;
        // What it had before counts elsewhere: everything it takes from now on is too much.
        fs::write(cgroup.join("memory.max"), "65536")?;
        let _ = self.director(target).vipctl(&["status", "--json"]);
        let _ = self.director(target).vipctl(&["debug", "dump"]);
        self.director_mut(target)
            .ended_within(PATIENCE)
            .context("the kernel let it live")?;
        // A guard that was started in it may still be at work.
        let _ = fs::remove_dir(&cgroup);
        self.restart(target)?;
        Ok(true)
    }

    /// It can open nothing more, for a while.
    fn exhaust_files(&self, target: Target) -> Result<()> {
        let id = self.director(target).pid();
        let pid = id.to_string();
        let limits = fs::read_to_string(format!("/proc/{id}/limits"))?;
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let mut words = line.unwrap_or_default().split_whitespace().skip(3);
        let (soft, hard) = (
            words.next().context("no limit")?,
            words.next().context("no limit")?,
        );
        let set = |soft: &str| {
            let limit = format!("--nofile={soft}:{hard}");
            run(Command::new("prlimit").args(["--pid", &pid, &limit]))
        };
        set("3")?;
        sleep(WHILE);
        set(soft).map(|_| ())
    }

    /// Takes the module out from under both: only an empty one can go.
    fn unload(&self) -> Result<bool> {
        for _ in 0..20 {
            for target in [Target::Primary, Target::Backup] {
                self.host(target).run("ipvsadm -C")?;
            }
            // Those that need it first.
            let modules = fs::read_to_string("/proc/modules")?;
            let names = modules.lines().filter_map(|line| line.split(' ').next());
            let of_ipvs = names.filter(|name| name.starts_with("ip_vs"));
            let (own, others): (Vec<&str>, Vec<&str>) = of_ipvs.partition(|name| *name == "ip_vs");
            if run(Command::new("rmmod").args(others).args(own)).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Sets the clock of the whole machine, by so many seconds: only of a guest that was made for this.
fn set_clock(by: i64) -> Result<bool> {
    let guest = fs::read_to_string("/proc/cmdline")?.contains("vipd.guest");
    if !guest {
        return Ok(false);
    }
    let now = run(Command::new("date").arg("+%s"))?;
    let then = now.trim().parse::<i64>()? + by;
    run(Command::new("date").args(["-s", &format!("@{then}")]))?;
    // Whoever counts on the clock had the time to be wrong.
    sleep(Duration::from_secs(2));
    Ok(true)
}
