//! The lab: several hosts on one machine as network namespaces, cables between them, real servers
//! and strangers as witnesses. It drives the built binaries from outside and knows nothing of their
//! insides.

pub mod advert;
pub mod answer;
pub mod bench;
pub mod capture;
pub mod checker;
pub mod cluster;
pub mod connections;
pub mod demo;
pub mod director;
pub mod doctor;
pub mod document;
pub mod faults;
pub mod flood;
pub mod frr;
pub mod host;
pub mod import;
pub mod keepalived;
pub mod load;
pub mod machine;
pub mod nginx;
pub mod pair;
pub mod ping;
pub mod process;
pub mod promtool;
pub mod uml;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use host::Host;

/// Every namespace of a lab begins with this, the process that made it, and the lab's number.
const PREFIX: &str = "vipd";

static LABS: AtomicU32 = AtomicU32::new(0);

/// A set of hosts on one switch. Dropping it removes everything, whatever happened.
#[derive(Debug)]
pub struct Lab {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    prefix: String,
    folder: PathBuf,
}

impl Lab {
    /// Makes an empty lab: a switch without hosts.
    ///
    /// # Errors
    ///
    /// Not root, or no network namespaces.
    pub fn new() -> Result<Lab> {
        sweep();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}-{}-{number}-", std::process::id());
        let folder = std::env::temp_dir().join(prefix.trim_end_matches('-'));
        fs::create_dir_all(&folder)?;
        let lab = Lab {
            inner: Arc::new(Inner { prefix, folder }),
        };
        let switch = lab.switch();
        run(Command::new("ip").args(["netns", "add", &switch]))
            .context("no network namespace; the lab needs root")?;
        ip(&switch, "link add br0 type bridge mcast_snooping 0")?;
        ip(&switch, "link set br0 up")?;
        Ok(lab)
    }

    /// Adds a host with one interface, `eth0`, on the switch.
    ///
    /// # Errors
    ///
    /// The name is taken, or the kernel refused.
    pub fn host(&self, name: &str, address: &str) -> Result<Host> {
        let namespace = format!("{}{name}", self.inner.prefix);
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        let host = Host::new(name, namespace, Arc::clone(&self.inner));
        ip(host.namespace(), "link set lo up")?;
        self.plug(&host)?;
        ip(host.namespace(), &format!("addr add {address} dev eth0"))?;
        Ok(host)
    }

    /// Adds hosts without interfaces.
    pub(crate) fn bare_hosts(&self, names: &[&str]) -> Result<Vec<Host>> {
        let mut hosts = Vec::new();
        let mut batch = String::new();
        for name in names {
            let namespace = format!("{}{name}", self.inner.prefix);
            batch.push_str(&format!("netns add {namespace}\n"));
            hosts.push(Host::new(name, namespace, Arc::clone(&self.inner)));
        }
        self.ip_batch(None, &batch)?;
        Ok(hosts)
    }

    /// Puts cables from a host's interfaces to the switches of networks of any names.
    pub(crate) fn wire(&self, cables: &[(&Host, &str, &str)]) -> Result<()> {
        let (mut known, mut batch) = (HashSet::new(), String::new());
        for (host, interface, network) in cables {
            let (port, namespace) = (port(host, interface), host.namespace());
            if known.insert(*network) {
                batch.push_str(&format!(
                    "link add n-{network} type bridge mcast_snooping 0\nlink set n-{network} up\n"
                ));
            }
            batch.push_str(&format!(
                "link add {port} type veth peer name {interface} netns {namespace}\n\
                 link set {port} master n-{network} up\n"
            ));
        }
        self.ip_batch(Some(&self.switch()), &batch)
    }

    /// Many commands of `ip` at once: each program that is started takes its time in an emulated
    /// guest.
    pub(crate) fn ip_batch(&self, namespace: Option<&str>, lines: &str) -> Result<()> {
        let file = self.inner.folder.join("batch");
        fs::write(&file, lines)?;
        let mut ip = Command::new("ip");
        if let Some(namespace) = namespace {
            ip.args(["-n", namespace]);
        }
        run(ip.arg("-batch").arg(&file)).map(|_| ())
    }

    /// Gives a host one more interface. Those of one name are on one switch.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn add_interface(&self, host: &Host, name: &str, address: &str) -> Result<()> {
        let (switch, bridge) = (self.switch(), bridge(name));
        if ip(&switch, &format!("link show {bridge}")).is_err() {
            ip(
                &switch,
                &format!("link add {bridge} type bridge mcast_snooping 0"),
            )?;
            ip(&switch, &format!("link set {bridge} up"))?;
        }
        self.plug_interface(host, name)?;
        host.ip(&format!("addr add {address} dev {name}"))
    }

    /// Gives a host a new `eth0` with a cable to the switch.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn plug(&self, host: &Host) -> Result<()> {
        self.plug_interface(host, "eth0")
    }

    fn plug_interface(&self, host: &Host, name: &str) -> Result<()> {
        let (switch, port, bridge) = (self.switch(), port(host, name), bridge(name));
        let namespace = host.namespace();
        ip(
            &switch,
            &format!("link add {port} type veth peer name {name} netns {namespace}"),
        )?;
        ip(&switch, &format!("link set {port} master {bridge} up"))?;
        ip(namespace, &format!("link set {name} up"))
    }

    /// Pulls the cable of a host out of the switch: both ends see it.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn pull_cable(&self, host: &Host) -> Result<()> {
        self.pull_cable_of(host, "eth0")
    }

    /// As [`Lab::pull_cable`], of another interface.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn pull_cable_of(&self, host: &Host, name: &str) -> Result<()> {
        ip(
            &self.switch(),
            &format!("link set {} down", port(host, name)),
        )
    }

    /// Puts it back.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn plug_cable(&self, host: &Host) -> Result<()> {
        self.plug_cable_of(host, "eth0")
    }

    /// As [`Lab::plug_cable`], of another interface.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn plug_cable_of(&self, host: &Host, name: &str) -> Result<()> {
        ip(&self.switch(), &format!("link set {} up", port(host, name)))
    }

    /// The switch forgets the port of a host: the link stays up, and nothing arrives.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn isolate(&self, host: &Host) -> Result<()> {
        self.isolate_interface(host, "eth0")
    }

    /// As [`Lab::isolate`], of another interface.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn isolate_interface(&self, host: &Host, name: &str) -> Result<()> {
        ip(
            &self.switch(),
            &format!("link set {} nomaster", port(host, name)),
        )
    }

    /// The switch knows the port again.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn rejoin(&self, host: &Host) -> Result<()> {
        ip(
            &self.switch(),
            &format!("link set {} master br0", port(host, "eth0")),
        )
    }

    /// A folder that goes with the lab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// What every namespace of this lab begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    fn switch(&self) -> String {
        format!("{}switch", self.inner.prefix)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for namespace in namespaces()
            .into_iter()
            .filter(|n| n.starts_with(&self.prefix))
        {
            remove(&namespace);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The switch's end of a cable.
fn port(host: &Host, interface: &str) -> String {
    format!("{}-{interface}", host.name())
}

/// The switch that interfaces of that name are on.
fn bridge(interface: &str) -> String {
    interface.replace("eth", "br")
}

/// Removes what processes left that were killed before they could.
fn sweep() {
    for namespace in namespaces() {
        let mut parts = namespace.split('-');
        let (first, pid) = (
            parts.next(),
            parts.next().and_then(|pid| pid.parse::<u32>().ok()),
        );
        let Some(pid) = pid.filter(|_| first == Some(PREFIX)) else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            remove(&namespace);
        }
    }
}

fn namespaces() -> HashSet<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return HashSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

/// Ends what still runs in a namespace (a daemon's own children), then removes it. Only programs of
/// the lab that made the namespace can be in it.
fn remove(namespace: &str) {
    let pids = run(Command::new("ip").args(["netns", "pids", namespace])).unwrap_or_default();
    for pid in pids.split_whitespace() {
        let _ = run(Command::new("kill").args(["-KILL", pid]));
    }
    let _ = Command::new("ip")
        .args(["netns", "del", namespace])
        .stderr(Stdio::null())
        .status();
}

/// `ip -n NAMESPACE WORDS`.
pub(crate) fn ip(namespace: &str, words: &str) -> Result<()> {
    run(Command::new("ip")
        .args(["-n", namespace])
        .args(words.split(' ')))
    .map(|_| ())
}

/// Runs a command and returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be run", command.get_program().to_string_lossy()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}{text}", output.status, error.trim());
    }
    Ok(text)
}

/// A built binary of the workspace.
///
/// # Errors
///
/// It has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    // Test executables are in target/debug/deps, the others in target/debug.
    let found = here
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name));
    let given = std::env::var_os("VIPD_BIN_DIR").map(|folder| PathBuf::from(folder).join(name));
    let path = given.into_iter().chain(found).find(|path| path.is_file());
    path.with_context(|| format!("{name} is not built: cargo build --workspace --bins"))
}

/// Asks until the answer is there.
///
/// # Errors
///
/// It did not come in time, or asking failed.
pub fn wait_for<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(
            start.elapsed() < patience,
            "{what}: not seen within {patience:?}"
        );
        sleep(Duration::from_millis(20));
    }
}

/// Asks until it is so.
///
/// # Errors
///
/// As [`wait_for`].
pub fn wait_until(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    wait_for(patience, what, || Ok(ask()?.then_some(())))?;
    Ok(start.elapsed())
}
