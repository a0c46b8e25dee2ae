//! Everything that can go wrong with a director, done to a running pair with a client in front of it, and
//! what must be true again afterwards: one master, both tables whole, the client answered.

mod inflict;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, VIP, config};
use crate::director::Director;
use crate::load::Load;
use crate::nginx::Nginx;
use crate::process::{Process, resident_memory};
use crate::{Host, binary, run, wait_for, wait_until};

/// Longer than any fault takes to heal in an emulated guest.
const PATIENCE: Duration = Duration::from_secs(60);
/// A director that uses more has a leak: some hundred events and one small table are all it has.
const FILES_MAX: usize = 120;
const MEMORY_MAX: f64 = 60.0;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Fault::words` says each")]
pub enum Fault {
    Killed,
    KilledWithGuard,
    Segfault,
    Frozen,
    OutOfMemory,
    OutOfFiles,
    DiskFull,
    NetlinkOverrun,
    LinkFlaps,
    InterfaceDeleted,
    AddressDeleted,
    TableCleared,
    ModuleUnloaded,
    ClockBack,
    ClockForward,
    DeafOneWay,
    DeafBothWays,
    Isolated,
    LossAndDelay,
    GuardKilled,
    RulesetFlushed,
    SecondDaemon,
    Restarted,
    SwitchedOver,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 24] = [
        Fault::Killed,
        Fault::KilledWithGuard,
        Fault::Segfault,
        Fault::Frozen,
        Fault::OutOfMemory,
        Fault::OutOfFiles,
        Fault::DiskFull,
        Fault::NetlinkOverrun,
        Fault::LinkFlaps,
        Fault::InterfaceDeleted,
        Fault::AddressDeleted,
        Fault::TableCleared,
        Fault::ModuleUnloaded,
        Fault::ClockBack,
        Fault::ClockForward,
        Fault::DeafOneWay,
        Fault::DeafBothWays,
        Fault::Isolated,
        Fault::LossAndDelay,
        Fault::GuardKilled,
        Fault::RulesetFlushed,
        Fault::SecondDaemon,
        Fault::Restarted,
        Fault::SwitchedOver,
    ];

    /// As `docs/reliability.md` has it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Fault::Killed => "SIGKILL",
            Fault::KilledWithGuard => "SIGKILL of daemon and guard",
            Fault::Segfault => "SIGSEGV",
            Fault::Frozen => "SIGSTOP for 4 s, SIGCONT",
            Fault::OutOfMemory => "out of memory (cgroup limit)",
            Fault::OutOfFiles => "out of file descriptors for 4 s",
            Fault::DiskFull => "state_dir full for 4 s",
            Fault::NetlinkOverrun => "1,000 link changes at once (netlink ENOBUFS)",
            Fault::LinkFlaps => "link down and up, five times",
            Fault::InterfaceDeleted => "interface deleted, back after 3 s",
            Fault::AddressDeleted => "virtual address deleted",
            Fault::TableCleared => "ipvsadm -C",
            Fault::ModuleUnloaded => "ip_vs unloaded",
            Fault::ClockBack => "clock one hour back",
            Fault::ClockForward => "clock one hour forward",
            Fault::DeafOneWay => "hears no adverts for 4 s (peer does)",
            Fault::DeafBothWays => "neither hears adverts for 4 s",
            Fault::Isolated => "cut off from the network for 4 s",
            Fault::LossAndDelay => "30 % loss and 50 ms delay for 8 s",
            Fault::GuardKilled => "crash guard killed",
            Fault::RulesetFlushed => "nft flush ruleset",
            Fault::SecondDaemon => "a second daemon of the same file",
            Fault::Restarted => "stop and start",
            Fault::SwitchedOver => "vipctl switchover",
        }
    }
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Target {
    Primary,
    Backup,
}

/// What came of one.
#[derive(Debug)]
pub struct Healed {
    /// What was done.
    pub fault: Fault,
    /// To whom.
    pub target: Target,
    /// From its end until everything was as before.
    pub after: Duration,
    /// Requests of the client meanwhile.
    pub requests: u64,
    /// How many of them nobody answered.
    pub failed: usize,
}

/// A pair of directors that serve.
#[derive(Debug)]
pub struct Arena {
    cluster: Cluster,
    primary: Director,
    backup: Director,
    load: Load,
    table: Vec<String>,
    _servers: (Nginx, Nginx),
}

impl Arena {
    /// A pair, two real servers and a client that asks all the time. The directors' state is on small disks
    /// of their own.
    ///
    /// # Errors
    ///
    /// It cannot be made, or does not serve.
    pub fn new() -> Result<Arena> {
        let cluster = Cluster::new()?;
        let servers = cluster.start_real_servers()?;
        let text = |name, priority| {
            // A table of nftables, so that there is something to flush.
            config(name, priority, 1).replace(
                "virtual_addresses",
                "version = 3\nadvert_interval = \"300ms\"\naccept = false\nvirtual_addresses",
            )
        };
        for host in [&cluster.lb1, &cluster.lb2] {
            let state = disk_of(host);
            fs::create_dir_all(&state)?;
            let disk = ["-t", "tmpfs", "-o", "size=2m", "vipd-state"];
            run(Command::new("mount").args(disk).arg(&state))?;
        }
        let primary = Director::start(&cluster.lb1, &text("lb1", 150))?;
        let backup = Director::start(&cluster.lb2, &text("lb2", 100))?;
        cluster.wait_until_serving()?;
        let pause = Duration::from_millis(50);
        let load = Load::start(&cluster.client, &format!("{VIP}:80"), 2, pause)?;
        let mut arena = Arena {
            cluster,
            primary,
            backup,
            load,
            table: Vec::new(),
            _servers: servers,
        };
        let whole = |table: &Vec<String>| table.len() == 3;
        arena.table = wait_for(PATIENCE, "a whole table", || {
            Ok(Some(arena.table_of(Target::Primary)?).filter(whole))
        })?;
        arena.wait_until_healed()?;
        Ok(arena)
    }

    /// Does it, and waits until everything is as before. `None`: it cannot be done on this machine.
    ///
    /// # Errors
    ///
    /// What is not as before.
    pub fn suffer(&mut self, fault: Fault, target: Target) -> Result<Option<Healed>> {
        let before = self.load.totals()?;
        let done = self
            .inflict(fault, target)
            .with_context(|| format!("{} ({target:?})", fault.words()))?;
        if !done {
            return Ok(None);
        }
        let begin = Instant::now();
        self.wait_until_healed()
            .with_context(|| format!("after {} ({target:?})", fault.words()))?;
        let after = begin.elapsed();
        let now = self.load.totals()?;
        Ok(Some(Healed {
            fault,
            target,
            after,
            requests: now.requests.saturating_sub(before.requests),
            failed: now.failed.len().saturating_sub(before.failed.len()),
        }))
    }

    /// One master, the primary; both tables whole; the client answered; and no leak.
    fn wait_until_healed(&self) -> Result<()> {
        let mut wrong = String::new();
        wait_until(PATIENCE, "everything is as before", || {
            wrong = self.wrong()?;
            Ok(wrong.is_empty())
        })
        .with_context(|| format!("{wrong}\n{}\n{}", self.primary.log(), self.backup.log()))?;
        for director in [&self.primary, &self.backup] {
            let (files, memory) = held_by(director)?;
            let name = director.host.name();
            ensure!(files < FILES_MAX, "{name} has {files} files open");
            ensure!(memory < MEMORY_MAX, "{name} has {memory} MiB");
        }
        Ok(())
    }

    /// What is not as it should be, in words; empty: nothing.
    fn wrong(&self) -> Result<String> {
        let mut wrong = String::new();
        let holders = self.cluster.holders()?;
        if holders != ["lb1"] {
            writeln!(wrong, "the virtual address is on {holders:?}")?;
        }
        for (target, state) in [(Target::Primary, "master"), (Target::Backup, "backup")] {
            let Ok(status) = self.director(target).status() else {
                writeln!(wrong, "the {target:?} does not answer")?;
                continue;
            };
            let is = |pointer: &str| status.pointer(pointer).cloned().unwrap_or(Value::Null);
            if is("/vrrp/0/state") != state {
                writeln!(wrong, "the {target:?} is {}", is("/vrrp/0/state"))?;
            }
            if is("/ipvs/in_sync") != true {
                writeln!(wrong, "the {target:?}'s table is not in sync")?;
            }
            let table = self.table_of(target)?;
            if table != self.table && !self.table.is_empty() {
                writeln!(wrong, "the {target:?}'s table is {table:#?}")?;
            }
            if self.director(target).guard()?.is_none() {
                writeln!(wrong, "the {target:?} has no guard")?;
            }
        }
        // It is a master's, that takes nothing in for an address that is not its own.
        if !self.cluster.lb1.run("nft list tables")?.contains("vipd") {
            writeln!(wrong, "the master has no nftables table")?;
        }
        let answers = self.cluster.requests(4);
        if answers.lost > 0 {
            writeln!(wrong, "the client has {answers:?}")?;
        }
        Ok(wrong)
    }

    fn table_of(&self, target: Target) -> Result<Vec<String>> {
        let mut lines = self.host(target).ipvsadm_save()?;
        lines.sort();
        Ok(lines)
    }

    fn host(&self, target: Target) -> &Host {
        match target {
            Target::Primary => &self.cluster.lb1,
            Target::Backup => &self.cluster.lb2,
        }
    }

    fn director(&self, target: Target) -> &Director {
        match target {
            Target::Primary => &self.primary,
            Target::Backup => &self.backup,
        }
    }

    fn director_mut(&mut self, target: Target) -> &mut Director {
        match target {
            Target::Primary => &mut self.primary,
            Target::Backup => &mut self.backup,
        }
    }

    /// What systemd does when the daemon has ended: `ExecStopPost=`, a second, and a new one.
    fn restart(&mut self, target: Target) -> Result<()> {
        let director = self.director_mut(target);
        let mut release = director.host.command(binary("vipd")?);
        run(release.args(["release", "-c"]).arg(director.config()))?;
        sleep(Duration::from_secs(1));
        director.start_again()
    }

    fn second_daemon(&self, target: Target) -> Result<Process> {
        let director = self.director(target);
        let file = director.config().to_string_lossy().into_owned();
        let arguments = ["run", "-c", &file];
        director.host.spawn("second", &binary("vipd")?, &arguments)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for host in [&self.cluster.lb1, &self.cluster.lb2] {
            let _ = run(Command::new("umount").arg("-l").arg(disk_of(host)));
        }
    }
}

/// How many files a director has open, and its memory, MiB.
fn held_by(director: &Director) -> Result<(usize, f64)> {
    let files = fs::read_dir(format!("/proc/{}/fd", director.pid()))?.count();
    Ok((files, resident_memory(director.pid())?))
}

/// Where a director of the arena keeps its state, as [`Director::state_dir`] has it once it runs.
fn disk_of(host: &Host) -> PathBuf {
    host.folder().join(format!("{}.state", host.name()))
}

/// Every fault, or those with one of these words, to each of the two; prints the table of
/// `docs/reliability.md`.
///
/// # Errors
///
/// One that does not heal, or none that has such a word.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub fn matrix(words: &[String]) -> Result<()> {
    let is_meant = |fault: &Fault| {
        let own = fault.words();
        words.is_empty() || words.iter().any(|word| own.contains(&**word))
    };
    let meant: Vec<Fault> = Fault::ALL.into_iter().filter(is_meant).collect();
    ensure!(!meant.is_empty(), "no fault has any of the words {words:?}");
    let mut arena = Arena::new()?;
    for fault in meant {
        for target in [Target::Primary, Target::Backup] {
            match arena.suffer(fault, target)? {
                Some(healed) => println!("{}", healed.line()),
                None => println!("| {} | {target:?} | not done | |", fault.words()),
            }
        }
    }
    Ok(())
}

/// Random faults for so long; the same seed gives the same ones. Prints each.
///
/// # Errors
///
/// One that does not heal.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub fn soak(time: Duration, seed: u64) -> Result<()> {
    println!("seed {seed}");
    let mut arena = Arena::new()?;
    let (begin, mut state, mut count) = (Instant::now(), seed, 0);
    let mut next = |bound: usize| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or(0) % bound
    };
    let (mut requests, mut failed) = (0, 0);
    while begin.elapsed() < time {
        let fault = Fault::ALL.get(next(Fault::ALL.len()));
        let fault = *fault.context("no such fault")?;
        let target = [Target::Primary, Target::Backup];
        let target = *target.get(next(2)).context("no such target")?;
        match arena.suffer(fault, target) {
            Ok(Some(healed)) => {
                println!("{}", healed.line());
                requests += healed.requests;
                failed += healed.failed;
                count += 1;
            }
            Ok(None) => {}
            Err(error) => bail!("seed {seed}, fault {count}: {error:#}"),
        }
    }
    for director in [&arena.primary, &arena.backup] {
        let (files, memory) = held_by(director)?;
        println!("{}: {files} files, {memory:.1} MiB", director.host.name());
    }
    println!(
        "{count} faults in {:?}, all healed; {failed} of {requests} requests failed",
        begin.elapsed()
    );
    Ok(())
}

impl Healed {
    /// A row of the table in `docs/reliability.md`.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "| {} | {:?} | {:.1} s | {} of {} |",
            self.fault.words(),
            self.target,
            self.after.as_secs_f64(),
            self.failed,
            self.requests
        )
    }
}
