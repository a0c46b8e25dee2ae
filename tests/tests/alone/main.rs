//! What doctor finds of the module of IPVS itself, which has to go and to come back for it: nothing else may
//! use this kernel's IPVS meanwhile. `cargo xtask test` runs these after the others, in the same guest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::cluster::{Cluster, VIP};
use lab::director::Director;
use lab::doctor::{examine, examine_file, found_by};
use lab::pair::router;
use lab::{Host, binary, run, wait_until};

/// Emulated guests are slow; nothing here measures time.
const PATIENCE: Duration = Duration::from_secs(60);
/// The smallest table that the kernel makes has 256 buckets.
const SMALLEST: &str = "conn_tab_bits=8";

/// The program that the kernel loads modules by, where something asks for them.
const ON_DEMAND: &str = "/proc/sys/kernel/modprobe";

/// The kernel's IPVS, for one test at a time. It is there afterwards as it was.
struct Module {
    _alone: MutexGuard<'static, ()>,
    on_demand: String,
}

impl Module {
    fn unloaded() -> Result<Module> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let module = Module {
            _alone: alone,
            on_demand: fs::read_to_string(ON_DEMAND)?,
        };
        unload()?;
        Ok(module)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = fs::write(ON_DEMAND, &self.on_demand);
        let _ = unload();
        let _ = run(Command::new("modprobe").arg("ip_vs"));
    }
}

/// Those that need it go first: the kernel lists the newest first. A namespace that was just removed
/// still has it for a moment.
fn unload() -> Result<()> {
    let mut refused = String::new();
    let gone = wait_until(PATIENCE, "IPVS can be unloaded", || {
        let modules = fs::read_to_string("/proc/modules")?;
        let names = modules.lines().filter_map(|line| line.split(' ').next());
        let of_ipvs: Vec<&str> = names.filter(|name| name.starts_with("ip_vs")).collect();
        if of_ipvs.is_empty() {
            return Ok(true);
        }
        let tried = run(Command::new("rmmod").args(of_ipvs));
        refused = tried.map_or_else(|error| format!("{error:#}"), |_| String::new());
        Ok(false)
    });
    gone.map(|_| ()).with_context(|| refused)
}

/// A virtual server for datagrams.
fn dns() -> String {
    format!(
        "{}[[virtual_server]]\nname = \"dns\"\naddress = \"{VIP}:53\"\nprotocol = \"udp\"\nvrrp = \"web\"\n\
         [[virtual_server.real_server]]\naddress = \"10.77.0.21\"\n",
        router(150)
    )
}

/// Datagrams of so many clients to port 53 of the virtual address.
fn datagrams(client: &Host, count: u32) -> Result<()> {
    let script = format!(
        "import socket, struct\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n\
         ends = socket.inet_aton('10.77.0.100') + socket.inet_aton('{VIP}')\n\
         ip = struct.pack('!BBHHHBBH', 0x45, 0, 28, 0, 0, 64, 17, 0) + ends\n\
         for i in range({count}): s.sendto(ip + struct.pack('!HHHH', 1024 + i, 53, 8, 0), ('{VIP}', 0))\n"
    );
    run(client.command("python3").args(["-c", &script])).map(|_| ())
}

#[test]
fn a_kernel_that_loads_no_module_by_itself_gets_them_by_the_remedy() -> Result<()> {
    let _module = Module::unloaded()?;
    fs::write(ON_DEMAND, "\n")?;
    let cluster = Cluster::new()?;
    let lb2 = Director::start(&cluster.lb2, &router(100))?;
    lb2.wait_for_state("master")?;
    let look = || examine_file(&cluster.lb1, &dns());
    let found = found_by(PATIENCE, &look, &["VIP-IPVS-001"])?;
    // As its unit runs it, without the right to load them itself.
    let file = cluster.lab.folder().join("vipd.toml");
    fs::write(&file, dns())?;
    let line = format!(
        "exec setpriv --bounding-set=-sys_module -- {} run -c {}",
        binary("vipd")?.display(),
        file.display()
    );
    let mut refused = cluster
        .lb1
        .spawn("refused", Path::new("sh"), &["-c", &line])?;
    let end = refused.wait(PATIENCE)?;
    let said = refused.output();
    ensure!(!end.success() && said.contains("no IPVS"), "{end}: {said}");
    found.mend("VIP-IPVS-001", &cluster.lb1)?;
    found_by(PATIENCE, &look, &[])?;
    let lb1 = Director::start(&cluster.lb1, &dns())?;
    lb1.wait_for_state("master")?;
    lb1.wait_for_status("/ipvs/in_sync", &true.into())?;
    found_by(PATIENCE, &|| examine(&lb1), &[])?;
    Ok(())
}

#[test]
fn a_connection_table_with_long_lists_is_enlarged_by_the_lines_of_the_remedy() -> Result<()> {
    let _module = Module::unloaded()?;
    run(Command::new("modprobe").args(["ip_vs", SMALLEST]))?;
    let cluster = Cluster::new()?;
    let start = || -> Result<Director> {
        let lb1 = Director::start(&cluster.lb1, &dns())?;
        lb1.wait_for_state("master")?;
        lb1.wait_for_status("/ipvs/in_sync", &true.into())?;
        Ok(lb1)
    };
    let lb1 = start()?;
    let at_last = |lb1: &Director, codes: &[&str]| found_by(PATIENCE, &|| examine(lb1), codes);
    at_last(&lb1, &[])?;
    datagrams(&cluster.client, 1_500)?;
    let found = at_last(&lb1, &["VIP-IPVS-003"])?;
    let evidence = found.evidence("VIP-IPVS-003")?;
    ensure!(evidence.contains("in 256 buckets"), "{evidence}");
    let words = found.words("VIP-IPVS-003")?;
    let reload = words
        .split('`')
        .find_map(|it| {
            it.strip_prefix("systemctl stop vipd; ")?
                .strip_suffix("; systemctl start vipd")
        })
        .context(words.to_owned())?;
    // The file is for these two only: this may be somebody's machine.
    let folder = cluster.lab.folder().join("modprobe.d");
    fs::create_dir_all(&folder)?;
    let here = format!("mount --bind {} /etc/modprobe.d; ", folder.display());
    cluster
        .lb1
        .sh(&format!("{here}{}", found.line("VIP-IPVS-003")?))?;
    lb1.stop()?;
    cluster.lb1.sh(&format!("{here}{reload}"))?;
    let lb1 = start()?;
    datagrams(&cluster.client, 1_500)?;
    at_last(&lb1, &[])?;
    let table = cluster.lb1.run("cat /proc/net/ip_vs")?;
    let inactive = table.split_whitespace().last().unwrap_or_default();
    ensure!(
        table.contains("(size=512)") && inactive.parse::<u32>()? > 1024,
        "{table}"
    );
    Ok(())
}
