//! What was there before: a file in the state directory, from which `--undo` restores it.
//!
//! The kernel forgets settings, devices and addresses over a reboot, and so does this: a file of another boot
//! says nothing of the host as it is. What was there is on disk before it changes, so that a run that dies can
//! be undone, too. Network namespaces that share a state directory have a file each.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::thing::Thing;
use crate::net::sysctl::{boot_id, replace_file};

/// What the files are called, with the number of the network namespace behind it.
const PREFIX: &str = "realserver-";

/// What was done, oldest first.
pub(super) struct Record {
    path: PathBuf,
    pub(super) done: Vec<Done>,
    /// Held while something changes; two runs would lose what the other one remembers.
    _lock: Option<File>,
}

/// One thing that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    #[serde(flatten)]
    pub(super) thing: Thing,
    /// A setting: what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<String>,
    /// A setting: what it was made. Another value is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) set: Option<String>,
    /// An address that was taken away: its label and scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<u8>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    boot_id: String,
    done: Vec<Done>,
}

impl Record {
    /// To read only.
    pub(super) fn look(state_dir: &Path) -> Result<Record, String> {
        let path = state_dir.join(name());
        let shown = path.display();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("reading {shown}: {error}")),
        };
        let mut done = Vec::new();
        if !text.is_empty() {
            let saved: Saved = serde_json::from_slice(&text).map_err(|error| {
                format!("{shown} does not say what was there before: {error}; remove it if nothing is to be undone")
            })?;
            if saved.boot_id == boot_id() {
                done = saved.done;
            }
        }
        Ok(Record {
            path,
            done,
            _lock: None,
        })
    }

    /// To change; waits for another run's end.
    pub(super) fn open(state_dir: &Path) -> Result<Record, String> {
        let failed =
            |error: io::Error| format!("the state directory {}: {error}", state_dir.display());
        std::fs::create_dir_all(state_dir).map_err(failed)?;
        let lock = File::open(state_dir).map_err(failed)?;
        let locked = rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive);
        locked.map_err(|error| failed(error.into()))?;
        sweep(state_dir);
        let record = Record::look(state_dir)?;
        Ok(Record {
            _lock: Some(lock),
            ..record
        })
    }

    pub(super) fn things(&self) -> Vec<Thing> {
        self.done.iter().map(|done| done.thing.clone()).collect()
    }

    pub(super) fn of(&self, thing: &Thing) -> Option<&Done> {
        self.done.iter().find(|done| done.thing == *thing)
    }

    /// Remembers a change that is to be made. What was there before the first one stays remembered.
    pub(super) fn remember(&mut self, mut new: Done) -> Result<(), String> {
        match self.done.iter_mut().find(|done| done.thing == new.thing) {
            Some(known) => {
                new.before = known.before.take().or(new.before);
                new.label = known.label.take().or(new.label);
                new.scope = known.scope.take().or(new.scope);
                *known = new;
            }
            None => self.done.push(new),
        }
        self.save()
    }

    pub(super) fn forget(&mut self, thing: &Thing) -> Result<(), String> {
        self.done.retain(|done| done.thing != *thing);
        self.save()
    }

    fn save(&self) -> Result<(), String> {
        let saved = if self.done.is_empty() {
            match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        } else {
            let file = Saved {
                boot_id: boot_id(),
                done: self.done.clone(),
            };
            replace_file(&self.path, &file)
        };
        saved.map_err(|error| format!("writing {}: {error}", self.path.display()))
    }
}

/// Of this network namespace.
fn name() -> String {
    let number = std::fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino());
    format!("{PREFIX}{number}.json")
}

/// Removes what the kernel has forgotten with the boot that it is of.
fn sweep(state_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(state_dir) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(PREFIX) || !name.ends_with(".json") {
            continue;
        }
        let text = std::fs::read(&path).unwrap_or_default();
        let saved: Option<Saved> = serde_json::from_slice(&text).ok();
        if saved.is_some_and(|saved| saved.boot_id != boot_id()) {
            // One that stays says nothing, either.
            let _ = std::fs::remove_file(&path);
        }
    }
}
