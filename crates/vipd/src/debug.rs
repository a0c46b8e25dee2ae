//! `vipctl debug dump`: what a bug report needs, as the daemon sees it. Secrets of the configuration
//! are hidden in the file, and wherever else their words turn up.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::config::Concealed;
use crate::control::server::{ANSWER_TIMEOUT, Api, Refusal};
use crate::director_loop::Wake;
use crate::ipvsadm::order::in_order;
use crate::ipvsadm::save;
use crate::metrics::Format;

/// How long a program may take that shows what the kernel has.
const PROGRAM: Duration = Duration::from_secs(5);
/// As much of what it prints as is taken, bytes.
const OUTPUT_MAX: u64 = 8 << 20;
/// What shows what the kernel has.
const PROGRAMS: [&str; 9] = [
    "ip -d -s link",
    "ip address",
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip -4 rule",
    "ip -6 rule",
    "ip -s neighbour",
    "nft list table inet vipd",
    "uname -a",
];
/// Settings of the kernel that decide whether a director works; below `/proc/sys`.
const SYSCTLS: [&str; 7] = [
    "net/ipv4/vs",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv6/conf/all/forwarding",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_count",
    "kernel/sched_rt_runtime_us",
];
/// The same of every interface, below `/proc/sys/net/ipv4/conf`.
const OF_INTERFACES: [&str; 8] = [
    "accept_local",
    "arp_accept",
    "arp_announce",
    "arp_filter",
    "arp_ignore",
    "forwarding",
    "promote_secondaries",
    "rp_filter",
];
/// What the names of modules begin with that matter.
const MODULES: [&str; 7] = ["ip_vs", "nf_", "nft_", "macvlan", "ipip", "ip_gre", "fou"];

/// The bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// What was looked at, in this order.
    pub sections: Vec<Section>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// What.
    pub title: String,
    /// What was found, or why nothing could be.
    pub text: String,
}

impl Bundle {
    /// One text, for a person and for `grep`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Section { title, text: found } in &self.sections {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "======== {title}\n{}\n", found.trim_end());
        }
        text
    }

    fn add(&mut self, title: &str, found: Result<String, String>) {
        self.sections.push(Section {
            title: title.to_owned(),
            text: found.unwrap_or_else(|why| format!("cannot be had: {why}")),
        });
    }
}

/// `GET /v1/debug`. What cannot be had is said in its section: a bundle is wanted most where things do
/// not work.
pub(crate) async fn dump(State(api): State<Api>) -> Result<Json<Bundle>, Refusal> {
    let mut bundle = Bundle {
        sections: Vec::new(),
    };
    let version = env!("CARGO_PKG_VERSION");
    let pid = std::process::id();
    let at = crate::status::rfc3339(std::time::SystemTime::now());
    bundle.add("vipd", Ok(format!("version {version}, pid {pid}, at {at}")));
    let refused = |refusal: Refusal| refusal.to_string();
    let status = api.ask(ANSWER_TIMEOUT, Wake::Status).await.map_err(refused);
    let path = status
        .as_ref()
        .map(|status| status.config.path.clone())
        .map_err(String::clone);
    let shown = status.map(|status| serde_json::to_string_pretty(&status));
    bundle.add("status", flat(shown));
    let concealed = match path {
        Ok(path) => read_config(&path).await,
        Err(why) => Err(why),
    };
    let shown = concealed.as_ref().map(|concealed| concealed.source.clone());
    bundle.add(
        "configuration file, secrets hidden",
        shown.map_err(Clone::clone),
    );
    let events = api.events.newest(usize::MAX).events;
    let lines = events.iter().map(serde_json::to_string);
    let lines: Result<Vec<String>, _> = lines.collect();
    bundle.add("events", flat(Ok(lines)).map(|lines| lines.join("\n")));
    let metrics = api
        .ask(ANSWER_TIMEOUT, Wake::Metrics)
        .await
        .map_err(refused);
    bundle.add(
        "metrics",
        metrics.map(|snapshot| snapshot.encode(Format::Text)),
    );
    let kernel = api.reconciler.look().await;
    let saved = kernel.map(|kernel| {
        let table = save::table(&kernel.dump.table, &in_order(&kernel.dump, false));
        table + &save::settings(Some(&kernel.timeouts), &kernel.daemons)
    });
    bundle.add("ipvs, as ipvsadm saves it", saved);
    for line in PROGRAMS {
        bundle.add(line, print(line).await);
    }
    let files = tokio::task::spawn_blocking(|| {
        [
            ("sysctls", sysctls()),
            ("kernel modules", modules()),
            ("process", process()),
            ("threads", threads()),
            ("open files", open_files()),
            ("limits", read("/proc/self/limits")),
        ]
    });
    let files = files
        .await
        .map_err(|error| Refusal::failed(error.to_string()))?;
    for (title, found) in files {
        bundle.add(title, found);
    }
    if let Ok(concealed) = concealed {
        for section in &mut bundle.sections {
            concealed.hide(&mut section.text);
        }
    }
    Ok(Json(bundle))
}

fn flat<T>(found: Result<Result<T, serde_json::Error>, String>) -> Result<T, String> {
    found.and_then(|found| found.map_err(|error| error.to_string()))
}

async fn read_config(path: &str) -> Result<Concealed, String> {
    let path = Path::new(path).to_owned();
    let read = tokio::task::spawn_blocking(move || Concealed::read(&path));
    let read = read.await.map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())
}

/// What a program prints.
async fn print(line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let running = command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut running = running.map_err(|error| error.to_string())?;
    let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
    let whole = async {
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(OUTPUT_MAX).read_to_end(&mut said).await?;
        }
        let mut complaint = Vec::new();
        if let Some(stderr) = stderr {
            stderr.take(OUTPUT_MAX).read_to_end(&mut complaint).await?;
        }
        said.extend(complaint);
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&said).into_owned())
    };
    match tokio::time::timeout(PROGRAM, whole).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no end within {PROGRAM:?}")),
    }
}

fn read(path: &str) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a folder, sorted; none where it cannot be read.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn sysctls() -> Result<String, String> {
    let mut paths = Vec::new();
    for setting in SYSCTLS {
        let path = format!("/proc/sys/{setting}");
        let inside = names(&path);
        if inside.is_empty() {
            paths.push(path);
        } else {
            paths.extend(inside.iter().map(|name| format!("{path}/{name}")));
        }
    }
    for interface in names("/proc/sys/net/ipv4/conf") {
        let folder = format!("/proc/sys/net/ipv4/conf/{interface}");
        paths.extend(OF_INTERFACES.map(|name| format!("{folder}/{name}")));
    }
    let lines = paths.iter().map(|path| {
        let name = path.trim_start_matches("/proc/sys/");
        match read(path) {
            Ok(value) => format!("{name} = {}", value.trim()),
            Err(why) => format!("{name}: {why}"),
        }
    });
    Ok(lines.collect::<Vec<String>>().join("\n"))
}

fn modules() -> Result<String, String> {
    let text = read("/proc/modules")?;
    let matter = |line: &&str| MODULES.iter().any(|module| line.starts_with(module));
    Ok(text
        .lines()
        .filter(matter)
        .collect::<Vec<&str>>()
        .join("\n"))
}

fn process() -> Result<String, String> {
    Ok(read("/proc/self/status")? + &read("/proc/self/sched").unwrap_or_default())
}

fn threads() -> Result<String, String> {
    let threads = names("/proc/self/task").into_iter().map(|id| {
        let of = |file: &str| read(&format!("/proc/self/task/{id}/{file}")).unwrap_or_default();
        let (name, waits, stat) = (of("comm"), of("wchan"), of("stat"));
        // proc_pid_stat(5), behind the name in parentheses.
        let fields: Vec<&str> = match stat.rsplit_once(')') {
            Some((_, fields)) => fields.split_whitespace().collect(),
            None => Vec::new(),
        };
        let field = |nth: usize| fields.get(nth).copied().unwrap_or("?");
        format!(
            "{id} {:<16} state {}, user {} and system {} ticks, priority {}, policy {}, in {waits}",
            name.trim(),
            field(0),
            field(11),
            field(12),
            field(15),
            field(38),
        )
    });
    Ok(threads.collect::<Vec<String>>().join("\n"))
}

fn open_files() -> Result<String, String> {
    let files = names("/proc/self/fd").into_iter().map(|number| {
        let target = fs::read_link(format!("/proc/self/fd/{number}"));
        let target = target.map_or_else(|_| "gone".to_owned(), |to| to.display().to_string());
        format!("{number} {target}")
    });
    Ok(files.collect::<Vec<String>>().join("\n"))
}
