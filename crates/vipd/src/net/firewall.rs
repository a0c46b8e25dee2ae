//! The nftables table `vipd` (family inet): what packets need beside IPVS. It refuses what is sent to
//! virtual addresses themselves (`accept = false`), sets firewall marks (`mark`), and puts this host's
//! address in the place of the client's (`forwarding = "fullnat"`); `rules` has the text.
//!
//! What a user sees: `nft list table inet vipd`, and no table where nothing of this is needed.
//! Somebody who flushes the table finds it back after [`LOOK`].
//!
//! The table is replaced as a whole in one transaction of `nft -f -`: there is no moment without it.

mod rules;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use rules::{Firewall, FullNat, Mark, render};

use crate::privileges;

/// How often the kernel's table is compared with what was put there.
pub const LOOK: Duration = Duration::from_secs(5);
/// When a table is looked for that a dead daemon may have left, where none is wanted: the start of a director
/// has more urgent things to do than to run a program that most likely finds nothing.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// When what was refused is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long one run of `nft` may take.
const NFT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where `nft` is looked for before `PATH`, which in a service often lacks these.
const DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

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

struct Worker {
    wanted: watch::Receiver<Arc<Firewall>>,
    reports: Box<dyn Fn(Report) + Send + Sync>,
    /// What was put there last, and how `nft` shows it.
    applied: Option<(Arc<Firewall>, Option<String>)>,
    complaint: Option<String>,
}

impl Worker {
    async fn run(mut self) {
        let nothing = self.wanted.borrow().is_empty();
        let mut next = Some(Instant::now() + if nothing { LEFTOVERS } else { Duration::ZERO });
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

    /// The last pass: nobody will say more. What services need that stay, stays.
    async fn finish(&mut self) {
        let clean = |(applied, _): &(Arc<Firewall>, _)| applied.is_empty() || applied.keep;
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
        let clean = wanted.is_empty() && self.applied.is_none();
        if clean && !matches!(list().await, Ok(Some(_))) {
            self.settled(wanted, None);
            return None;
        }
        if let Some((_, shown)) = known.filter(|_| !wanted.is_empty()) {
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
            (!wanted.is_empty()).then(|| Instant::now() + LOOK)
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
            let whole = rules::count(&render(&wanted)) == shown.as_deref().map_or(0, rules::count);
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
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = privileges::lend(|| command.spawn())?;
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
