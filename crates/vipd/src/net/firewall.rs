//! The nftables table `vipd` (family inet), which makes `accept = false` true: a master that takes
//! no packets addressed to its virtual addresses itself (RFC 5798 §6.4.3, `Accept_Mode`); and, with
//! `ipvs.sync`, keeps back the resets with which a new master's own stack would answer connections
//! that its IPVS is about to be told of.
//!
//! What a user sees: `nft list table inet vipd` while such a router holds its addresses, otherwise
//! no table. Connections to, and pings of, a virtual address that IPVS does not take are dropped and
//! counted there. ARP and IPv6 neighbour discovery go on. Somebody who flushes the table finds it
//! back after [`LOOK`].
//!
//! The table is replaced as a whole in one transaction of `nft -f -`: there is no moment without it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ipvs::{Protocol, ServiceKey};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::{Config, VirtualAddress, Vrrp};

/// How often the kernel's table is compared with what was put there.
pub const LOOK: Duration = Duration::from_secs(5);
/// When what was refused is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long one run of `nft` may take.
const NFT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where `nft` is looked for before `PATH`, which in a service often lacks these.
const DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// What the table does. Empty: there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    /// Addresses, with the interface that carries them, that this host does not take packets for.
    pub refused: BTreeSet<(String, IpAddr)>,
    /// Virtual TCP services (port 0: every port) for which this host sends no resets: their
    /// connections may still be on their way to this kernel, and until then they look unknown.
    pub quiet: BTreeSet<SocketAddr>,
}

impl Firewall {
    /// What the configuration wants while the virtual routers for which `holds` speaks hold their
    /// addresses. An owner's addresses are the host's own: it always accepts.
    #[must_use]
    pub fn of(
        config: &Config,
        holds: impl Fn(&str) -> bool,
        arriving: impl Fn(&str) -> bool,
    ) -> Firewall {
        let refuses = |vrrp: &&Vrrp| {
            let owner = vrrp.parameters.priority == vrrp::PRIORITY_OWNER;
            !vrrp.accept && !owner && holds(&vrrp.name)
        };
        let routers = config.vrrp.iter().filter(refuses);
        let place = |address: &VirtualAddress| (address.interface.clone(), address.ip());
        Firewall {
            refused: routers.flat_map(|v| &v.addresses).map(place).collect(),
            quiet: quiet(config, arriving),
        }
    }
}

fn quiet(config: &Config, arriving: impl Fn(&str) -> bool) -> BTreeSet<SocketAddr> {
    let arriving = config.vrrp.iter().filter(|vrrp| arriving(&vrrp.name));
    let addresses: BTreeSet<IpAddr> = arriving
        .flat_map(|vrrp| &vrrp.addresses)
        .map(VirtualAddress::ip)
        .collect();
    let services = config.virtual_servers.iter().filter_map(|s| match s.key {
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            address,
        } => Some(address),
        ServiceKey::Address { .. } | ServiceKey::FirewallMark { .. } => None,
    });
    services
        .filter(|address| addresses.contains(&address.ip()))
        .collect()
}

/// What was done, for the log, the events and the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Somebody had changed or removed the table; it is as it should be.
    Repaired,
    /// It is not as it should be, and cannot be; tried again every second. Told once for each reason.
    Refused {
        /// Why.
        error: String,
    },
    /// What was refused before is there now.
    Mended,
}

/// Starts the task; it removes the table and ends when `wanted` is dropped.
#[must_use]
pub fn start(
    wanted: watch::Receiver<Arc<Firewall>>,
    reports: impl Fn(Report) + Send + Sync + 'static,
) -> JoinHandle<()> {
    let worker = Worker {
        wanted,
        reports: Box::new(reports),
        applied: None,
        complaint: None,
    };
    tokio::spawn(worker.run())
}

/// Removes the table of a dead daemon. Returns what was done, a line each.
///
/// # Errors
///
/// What `nft` says.
pub async fn release() -> Result<Vec<String>, String> {
    // Without nft there never was a table.
    if find().is_none() || list().await?.is_none() {
        return Ok(Vec::new());
    }
    apply(&Firewall::default()).await?;
    Ok(vec!["removed the nftables table inet vipd".to_owned()])
}

/// The text that replaces the table by one that does this.
///
/// The input chain comes at priority 150, after IPVS, whose hooks are at 98 and 99
/// (`NF_IP_PRI_NAT_SRC` - 2 and - 1): what IPVS takes never gets here, so virtual services work. An
/// earlier priority, such as -1, kills them.
///
/// Only packets *to* the addresses are dropped. Packets from them leave this host for good reasons:
/// the kernel tells senders of too large packets, which IPVS tunnels, with ICMP from the virtual
/// address.
#[must_use]
pub fn render(firewall: &Firewall) -> String {
    // Both lines: deleting what is not there is an error, which would end the transaction.
    let mut text = "table inet vipd\ndelete table inet vipd\n".to_owned();
    if *firewall == Firewall::default() {
        return text;
    }
    let (mut v4, mut v6, mut link_local) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (interface, address) in &firewall.refused {
        match address {
            IpAddr::V4(address) => drop(v4.insert(address.to_string())),
            // The same one may be the host's own on another link.
            IpAddr::V6(address) if is_link_local(*address) => {
                link_local.insert(format!("\"{interface}\" . {address}"));
            }
            IpAddr::V6(address) => drop(v6.insert(address.to_string())),
        }
    }
    let sets = [
        ("virtual4", "ipv4_addr", "ip daddr", v4),
        ("virtual6", "ipv6_addr", "ip6 daddr", v6),
        (
            "virtual_link_local",
            "ifname . ipv6_addr",
            "iifname . ip6 daddr",
            link_local,
        ),
    ];
    let (mut definitions, mut rules, mut chains) = (String::new(), String::new(), String::new());
    for (name, kind, selector, elements) in sets {
        if elements.is_empty() {
            continue;
        }
        let elements = elements.into_iter().collect::<Vec<_>>().join(", ");
        // Writing to a String does not fail.
        let _ = write!(
            definitions,
            "\tset {name} {{\n\t\ttype {kind}\n\t\telements = {{ {elements} }}\n\t}}\n"
        );
        let _ = writeln!(rules, "\t\t{selector} @{name} counter drop");
    }
    if !firewall.quiet.is_empty() {
        chains.push_str(&quiet_chain(&firewall.quiet));
    }
    let _ = write!(
        text,
        "table inet vipd {{\n{definitions}\tchain input {{\n\
         \t\ttype filter hook input priority 150; policy accept;\n\
         \t\ticmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept\n\
         {rules}\t}}\n{chains}}}\n"
    );
    text
}

/// A real server on this very host may refuse a connection, too: its resets wait as long.
fn quiet_chain(quiet: &BTreeSet<SocketAddr>) -> String {
    let mut chain =
        "\tchain output {\n\t\ttype filter hook output priority 0; policy accept;\n".to_owned();
    for address in quiet {
        let family = match address {
            SocketAddr::V4(_) => "ip",
            SocketAddr::V6(_) => "ip6",
        };
        let port = match address.port() {
            0 => String::new(),
            port => format!("tcp sport {port} "),
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            chain,
            "\t\t{family} saddr {} {port}tcp flags & rst == rst counter drop",
            address.ip()
        );
    }
    chain.push_str("\t}\n");
    chain
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

struct Worker {
    wanted: watch::Receiver<Arc<Firewall>>,
    reports: Box<dyn Fn(Report) + Send + Sync>,
    /// What was put there last, and how `nft` shows it.
    applied: Option<(Arc<Firewall>, Option<String>)>,
    complaint: Option<String>,
}

impl Worker {
    async fn run(mut self) {
        let mut next = Some(Instant::now());
        loop {
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() {
                    return self.finish().await;
                },
                () = timer => {}
            }
            next = self.reconcile().await;
        }
    }

    /// The last pass: nobody will say more.
    async fn finish(&mut self) {
        let clean = |(applied, _): &(Arc<Firewall>, _)| **applied == Firewall::default();
        if !self.applied.as_ref().is_some_and(clean) && matches!(list().await, Ok(Some(_))) {
            self.put(Arc::new(Firewall::default())).await;
        }
    }

    /// Makes one pass. Returns when the next one is due if nothing changes before.
    async fn reconcile(&mut self) -> Option<Instant> {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let known = self
            .applied
            .clone()
            .filter(|(applied, _)| *applied == wanted);
        let mut fine = known.is_some();
        // A dead daemon may have left its table. That there is none to remove must not need nft, nor
        // a kernel that has nftables.
        let clean = wanted.refused.is_empty() && self.applied.is_none();
        if clean && !matches!(list().await, Ok(Some(_))) {
            self.settled(wanted, None);
            return None;
        }
        if let Some((_, shown)) = known.filter(|_| !wanted.refused.is_empty()) {
            // If it cannot be read, putting it there says why.
            fine = list().await.is_ok_and(|now| now == shown);
            if !fine && self.put(Arc::clone(&wanted)).await {
                (self.reports)(Report::Repaired);
            }
        } else if !fine {
            self.put(Arc::clone(&wanted)).await;
        }
        if self.complaint.is_some() {
            Some(Instant::now() + RETRY)
        } else {
            (!wanted.refused.is_empty()).then(|| Instant::now() + LOOK)
        }
    }

    fn settled(&mut self, applied: Arc<Firewall>, shown: Option<String>) {
        self.applied = Some((applied, shown));
        if self.complaint.take().is_some() {
            (self.reports)(Report::Mended);
        }
    }

    /// Returns whether the table is as wanted.
    async fn put(&mut self, wanted: Arc<Firewall>) -> bool {
        let result = match apply(&wanted).await {
            Ok(()) => list().await,
            Err(error) => Err(error),
        };
        // What is read here is what the table is held to from now on: somebody's change a moment
        // after ours must not become part of it.
        let result = result.and_then(|shown| {
            let whole = drops(&render(&wanted)) == shown.as_deref().map_or(0, drops);
            let changed = || "somebody else changes the table inet vipd".to_owned();
            whole.then_some(shown).ok_or_else(changed)
        });
        match result {
            Ok(shown) => {
                self.settled(wanted, shown);
                true
            }
            Err(error) => {
                self.applied = None;
                if self.complaint.as_ref() != Some(&error) {
                    self.complaint = Some(error.clone());
                    (self.reports)(Report::Refused { error });
                }
                false
            }
        }
    }
}

async fn apply(firewall: &Firewall) -> Result<(), String> {
    let output = nft(&["-f", "-"], render(firewall)).await?;
    if output.status.success() {
        Ok(())
    } else {
        Err(first_line(&output))
    }
}

/// The table as `nft` shows it, without counters; `None` if there is none.
async fn list() -> Result<Option<String>, String> {
    let arguments = ["--stateless", "list", "table", "inet", "vipd"];
    let output = nft(&arguments, String::new()).await?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let error = first_line(&output);
    if error.contains("No such file or directory") {
        Ok(None)
    } else {
        Err(error)
    }
}

async fn nft(arguments: &[&str], input: String) -> Result<Output, String> {
    let program = find().ok_or("nft is missing: install nftables")?;
    let run = async {
        let mut child = Command::new(&program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take();
        let feed = async {
            if let Some(stdin) = &mut stdin {
                // If it ends without having read everything, its status says so.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            drop(stdin);
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output
    };
    match tokio::time::timeout(NFT_TIMEOUT, run).await {
        Ok(output) => output.map_err(|error| format!("running {}: {error}", program.display())),
        Err(_) => Err(format!("nft did not end within {NFT_TIMEOUT:?}")),
    }
}

/// How many rules drop.
fn drops(text: &str) -> usize {
    text.lines().filter(|line| line.ends_with(" drop")).count()
}

fn first_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.map_or_else(
        || format!("nft failed ({})", output.status),
        |line| format!("nft: {line}"),
    )
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = DIRECTORIES.iter().map(PathBuf::from);
    directories
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join("nft"))
        .find(|program| Path::is_file(program))
}
