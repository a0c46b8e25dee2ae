//! What virtual routers depend on besides their own link: interfaces, scripts, files, processes,
//! virtual servers and reference addresses.
//!
//! Two halves. [`judge`] is pure: from the [`Facts`] it computes what is wrong with a virtual router
//! and what is added to its priority, anew each time, so that no fault outlives its cause and none
//! ends with another one's. [`Tracker`] finds the facts out: a task each, on the runtime, which
//! [`Report`]s what changed. Interfaces and virtual servers are known elsewhere.

mod file;
mod ping;
mod process;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Reachable, Track, TrackScript, Tracked, Vrrp};
use crate::net::links::Links;

pub use file::Content;

/// The largest sum that can matter: it takes the least priority to the greatest.
const WEIGHT_MAX: i64 = 253;

/// What is known of everything that can be tracked. Something that is missing here is not known yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The interfaces.
    #[serde(skip)]
    pub links: Arc<Links>,
    /// Scripts, by name.
    pub scripts: BTreeMap<String, Outcome>,
    /// Files.
    pub files: BTreeMap<PathBuf, Content>,
    /// How many processes of a name run.
    pub processes: BTreeMap<String, u32>,
    /// Whether a virtual server has quorum, by its name.
    #[serde(skip)]
    pub quorums: BTreeMap<String, bool>,
    /// Whether a reference address of a virtual router answers, by the router's name.
    pub reachable: BTreeMap<String, bool>,
}

/// What is believed of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether it counts as well: `rise` and `fall` are in it.
    pub ok: bool,
    /// The words of the last run that speaks for that, e.g. `exit status 1`.
    pub detail: String,
}

/// Something a [`Tracker`] found out that differs from what it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A script ran.
    Script {
        /// Its name.
        name: String,
        /// What is believed of it.
        outcome: Outcome,
    },
    /// A file was read.
    File {
        /// Its path.
        path: PathBuf,
        /// What stands there.
        content: Content,
    },
    /// Processes were counted.
    Process {
        /// Their name.
        name: String,
        /// How many run.
        count: u32,
    },
    /// The reference addresses of a virtual router were asked.
    Reachable {
        /// The virtual router.
        router: String,
        /// Whether one of them answers.
        ok: bool,
    },
}

/// What follows for one virtual router.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Every fault (`vrrp::Fault::Tracked`), in words.
    pub faults: BTreeSet<String>,
    /// What is added to the priority (`vrrp::Event::PriorityOffset`).
    pub offset: i32,
    /// No reference address answers (`vrrp::Event::ReferencesLost`).
    pub references_lost: bool,
    /// What is not as it should be without being a fault: a weight counts, or a file is missing.
    pub notes: BTreeSet<String>,
}

impl Facts {
    /// Takes in what a tracker says.
    pub fn take(&mut self, report: Report) {
        match report {
            Report::Script { name, outcome } => {
                self.scripts.insert(name, outcome);
            }
            Report::File { path, content } => {
                self.files.insert(path, content);
            }
            Report::Process { name, count } => {
                self.processes.insert(name, count);
            }
            Report::Reachable { router, ok } => {
                self.reachable.insert(router, ok);
            }
        }
    }

    /// Forgets what is no longer watched: should it come back, nothing is known of it.
    pub fn keep(&mut self, wanted: &Wanted) {
        self.scripts
            .retain(|name, _| wanted.scripts.contains_key(name));
        self.files.retain(|path, _| wanted.files.contains(path));
        self.processes
            .retain(|name, _| wanted.processes.contains(name));
        self.reachable
            .retain(|router, _| wanted.reachable.contains_key(router));
    }
}

/// What follows for a virtual router from what is true.
#[must_use]
pub fn judge(vrrp: &Vrrp, facts: &Facts) -> Judgement {
    let mut judgement = Judgement::default();
    let mut offset = 0_i64;
    for track in &vrrp.track {
        offset += weigh(track, facts, &mut judgement);
    }
    // Where a weight is set for one of these interfaces, it says what follows.
    let tracked = |name: &String| {
        let is_it = |track: &Track| matches!(&track.what, Tracked::Interface(it) if it == name);
        vrrp.track.iter().any(is_it)
    };
    for name in stands_on(vrrp).filter(|name| !tracked(name)) {
        judgement.faults.extend(interface(name, facts).err());
    }
    let offset = offset.clamp(-WEIGHT_MAX, WEIGHT_MAX);
    judgement.offset = i32::try_from(offset).unwrap_or(0);
    judgement.references_lost =
        vrrp.reachable.is_some() && facts.reachable.get(&vrrp.name) == Some(&false);
    judgement
}

/// What follows from one tracked thing alone.
#[must_use]
pub fn judge_one(track: &Track, facts: &Facts) -> Judgement {
    let mut judgement = Judgement::default();
    let offset = weigh(track, facts, &mut judgement);
    judgement.offset = i32::try_from(offset).unwrap_or(0);
    judgement
}

/// The interfaces that carry addresses and routes of a virtual router. Its own is the router's
/// business, and its macvlan goes up and down with it.
fn stands_on(vrrp: &Vrrp) -> impl Iterator<Item = &String> {
    let addresses = vrrp.addresses.iter().map(|address| &address.interface);
    let routes = vrrp
        .routes
        .iter()
        .filter_map(|route| route.interface.as_ref());
    addresses
        .chain(routes)
        .filter(|name| **name != vrrp.interface && Some(*name) != vrrp.virtual_mac.as_ref())
}

/// Adds what one tracked thing means to the faults and notes; returns what it adds to the priority.
fn weigh(track: &Track, facts: &Facts, judgement: &mut Judgement) -> i64 {
    let found = match &track.what {
        Tracked::Interface(name) => interface(name, facts),
        Tracked::Script(name) => match facts.scripts.get(name) {
            Some(outcome) if outcome.ok => Ok(()),
            Some(outcome) => Err(format!("script {name}: {}", outcome.detail)),
            None => Err(format!("script {name} has not run yet")),
        },
        Tracked::File(path) => return weigh_file(path, track.weight, facts, judgement),
        Tracked::Process { name, count } => match facts.processes.get(name) {
            Some(running) if running >= count => Ok(()),
            Some(running) => Err(format!("process {name}: {running} of {count} run")),
            None => Err(format!("process {name} has not been counted yet")),
        },
        Tracked::VirtualServer(name) => match facts.quorums.get(name) {
            Some(true) => Ok(()),
            Some(false) | None => Err(format!("virtual server {name} has no quorum")),
        },
    };
    match (found, track.weight) {
        (Ok(()), None) => 0,
        (Ok(()), Some(weight)) => i64::from(weight.max(0)),
        (Err(why), None) => {
            judgement.faults.insert(why);
            0
        }
        (Err(why), Some(weight)) => {
            judgement.notes.insert(format!("{why} (weight {weight})"));
            i64::from(weight.min(0))
        }
    }
}

fn interface(name: &str, facts: &Facts) -> Result<(), String> {
    match facts.links.named(name) {
        Some(link) if link.up => Ok(()),
        Some(_) => Err(format!("interface {name} is down")),
        None => Err(format!("interface {name} does not exist")),
    }
}

/// A missing file is as one that says 0, as keepalived has it: whoever wants to raise a flag makes
/// the file.
fn weigh_file(
    path: &std::path::Path,
    weight: Option<i32>,
    facts: &Facts,
    judgement: &mut Judgement,
) -> i64 {
    let name = path.display();
    let fault = |judgement: &mut Judgement, why: String| {
        judgement.faults.insert(why);
        0
    };
    let number = match facts.files.get(path) {
        Some(Content::Number(number)) => *number,
        Some(Content::Missing) => {
            let why = format!("file {name} does not exist, which counts as 0");
            judgement.notes.insert(why);
            0
        }
        Some(Content::Unreadable(why)) if weight.is_none() => {
            return fault(judgement, format!("file {name}: {why}"));
        }
        None if weight.is_none() => {
            return fault(judgement, format!("file {name} has not been read yet"));
        }
        Some(Content::Unreadable(why)) => {
            let why = format!("file {name}: {why}, which counts as 0");
            judgement.notes.insert(why);
            0
        }
        None => 0,
    };
    let Some(weight) = weight else {
        return match number {
            0 => 0,
            _ => fault(judgement, format!("file {name} says {number}")),
        };
    };
    let result = number.saturating_mul(i64::from(weight));
    if result < -WEIGHT_MAX {
        return fault(
            judgement,
            format!("file {name} says {number}, with weight {weight} below -{WEIGHT_MAX}"),
        );
    }
    result.min(WEIGHT_MAX)
}

/// Everything that has to be found out for a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Scripts that a virtual router tracks, by name.
    pub scripts: BTreeMap<String, TrackScript>,
    /// Files.
    pub files: BTreeSet<PathBuf>,
    /// Names of processes.
    pub processes: BTreeSet<String>,
    /// Reference addresses, by virtual router.
    pub reachable: BTreeMap<String, Reachable>,
}

impl Wanted {
    /// What a configuration needs; a script that nobody tracks is not run.
    #[must_use]
    pub fn of(config: &Config) -> Wanted {
        let mut wanted = Wanted::default();
        for track in config.vrrp.iter().flat_map(|vrrp| &vrrp.track) {
            match &track.what {
                Tracked::Script(name) => {
                    let script = config.track_scripts.iter().find(|it| it.name == *name);
                    wanted
                        .scripts
                        .extend(script.map(|it| (name.clone(), it.clone())));
                }
                Tracked::File(path) => drop(wanted.files.insert(path.clone())),
                Tracked::Process { name, .. } => drop(wanted.processes.insert(name.clone())),
                Tracked::Interface(_) | Tracked::VirtualServer(_) => {}
            }
        }
        for vrrp in &config.vrrp {
            let reachable = vrrp.reachable.clone();
            wanted
                .reachable
                .extend(reachable.map(|it| (vrrp.name.clone(), it)));
        }
        wanted
    }
}

/// Where reports go. Called from the runtime's threads; must not wait.
type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// Watches what is wanted until it is dropped. What runs then is killed.
pub struct Tracker {
    report: Reporter,
    scripts: Tasks<String, TrackScript>,
    /// What is believed of scripts that are not watched yet.
    believed: BTreeMap<String, Outcome>,
    files: Tasks<PathBuf, ()>,
    reachable: Tasks<String, Reachable>,
    processes: watch::Sender<BTreeSet<String>>,
}

impl Tracker {
    /// A tracker that watches nothing yet. Only changes are reported, and the first of everything.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time and I/O.
    pub fn start(report: impl Fn(Report) + Send + Sync + 'static) -> Tracker {
        let report: Reporter = Arc::new(report);
        let (processes, names) = watch::channel(BTreeSet::new());
        // It ends when the sender is gone.
        tokio::spawn(process::keep_counting(
            names,
            process::PERIOD,
            Arc::clone(&report),
        ));
        Tracker {
            report,
            scripts: Tasks::default(),
            believed: BTreeMap::new(),
            files: Tasks::default(),
            reachable: Tasks::default(),
            processes,
        }
    }

    /// What another process believed of scripts: it takes `rise` or `fall` runs to change that.
    pub fn believe(&mut self, scripts: BTreeMap<String, Outcome>) {
        self.believed = scripts;
    }

    /// Watches exactly this from now on. What stays the same goes on undisturbed; a script that is
    /// gone or different is killed where it runs. One that is different is reported anew with its
    /// first run: until then what was believed of it may stand. A report of something that is gone
    /// may still be on its way.
    pub fn set(&mut self, wanted: &Wanted) {
        let believed = std::mem::take(&mut self.believed);
        self.scripts.set(wanted.scripts.clone(), |name, script| {
            script::keep_running(
                script,
                believed.get(&name).cloned(),
                Arc::clone(&self.report),
            )
        });
        let files = wanted.files.iter().map(|path| (path.clone(), ()));
        self.files.set(files.collect(), |path, ()| {
            file::keep_reading(path, file::PERIOD, Arc::clone(&self.report))
        });
        self.reachable
            .set(wanted.reachable.clone(), |router, reachable| {
                ping::keep_asking(router, reachable, Arc::clone(&self.report))
            });
        self.processes.send_if_modified(|names| {
            let changed = *names != wanted.processes;
            names.clone_from(&wanted.processes);
            changed
        });
    }
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").finish_non_exhaustive()
    }
}

/// A task for each key, with what it was started for.
struct Tasks<K, W>(BTreeMap<K, (W, JoinHandle<()>)>);

impl<K: Ord + Clone, W: PartialEq + Clone> Tasks<K, W> {
    fn set<F>(&mut self, wanted: BTreeMap<K, W>, work: impl Fn(K, W) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.retain(|key, (_, task)| {
            let stays = wanted.contains_key(key);
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, want) in wanted {
            let before = match self.0.remove(&key) {
                Some((had, task)) if had == want => {
                    self.0.insert(key, (had, task));
                    continue;
                }
                Some((_, task)) => {
                    task.abort();
                    Some(task)
                }
                None => None,
            };
            let work = work(key.clone(), want.clone());
            let task = tokio::spawn(async move {
                // After the end of the old one none of its reports can come behind the new one's.
                if let Some(before) = before {
                    let _aborted = before.await;
                }
                work.await;
            });
            self.0.insert(key, (want, task));
        }
    }
}

impl<K, W> Default for Tasks<K, W> {
    fn default() -> Self {
        Tasks(BTreeMap::new())
    }
}

impl<K, W> Drop for Tasks<K, W> {
    fn drop(&mut self) {
        for (_, task) in self.0.values() {
            task.abort();
        }
    }
}

/// The words of a system error without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _number)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests;
