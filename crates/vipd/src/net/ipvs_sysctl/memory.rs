//! What settings had before they were changed: in memory and in `ipvs-sysctl.json` in the state directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SETTINGS;
use super::host::companions;
use crate::net::sysctl::{boot_id, replace_file};

/// The file in the state directory.
const FILE: &str = "ipvs-sysctl.json";

/// What settings had before they were changed.
pub(super) struct Memory {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Value {
    before: String,
    set: String,
    /// What other settings had that the kernel changes with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    with: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct File {
    boot_id: String,
    values: BTreeMap<String, Value>,
}

impl Memory {
    /// A file that cannot be understood, or of another boot, counts as none.
    pub(super) fn open(state_dir: &Path) -> Memory {
        let path = state_dir.join(FILE);
        let file = std::fs::read(&path).ok();
        let file: Option<File> = file.and_then(|text| serde_json::from_slice(&text).ok());
        let file = file.filter(|file| file.boot_id == boot_id());
        let values = file.map(|file| file.values).unwrap_or_default();
        // Older versions left the family out: it was always IPv4.
        let whole = |name: String| match name.starts_with("ipv4/") || name.starts_with("ipv6/") {
            true => name,
            false => format!("ipv4/{name}"),
        };
        Memory {
            path,
            values: values
                .into_iter()
                .map(|(name, value)| (whole(name), value))
                .collect(),
        }
    }

    /// Everything that is remembered, in the order in which it is to be given back: a router becomes a host
    /// before it takes in again what only hosts do.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.values.keys().cloned().collect();
        names.sort_by_key(|name| !name.ends_with("forwarding"));
        names
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Sets a value; what was there before is on disk before it changes.
    pub(super) fn set(&mut self, name: &str, found: &str, value: &str) -> io::Result<()> {
        let (before, with) = match self.values.remove(name) {
            Some(known) => (known.before, known.with),
            None => (found.to_owned(), companions(name)),
        };
        let set = value.to_owned();
        self.values
            .insert(name.to_owned(), Value { before, set, with });
        self.save()?;
        std::fs::write(Path::new(SETTINGS).join(name), value)
    }

    /// Gives back what was there before, unless somebody else has set something. Returns the value.
    pub(super) fn give_back(&mut self, name: &str) -> io::Result<Option<String>> {
        let Some(value) = self.values.get(name).cloned() else {
            return Ok(None);
        };
        let found = match read(name) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let ours = found.as_ref() == Some(&value.set);
        if ours {
            std::fs::write(Path::new(SETTINGS).join(name), &value.before)?;
            for (other, before) in &value.with {
                // An interface may be gone.
                if read(other).is_ok_and(|found| found != *before) {
                    std::fs::write(Path::new(SETTINGS).join(other), before)?;
                }
            }
        }
        self.values.remove(name);
        self.save()?;
        Ok(ours.then_some(value.before))
    }

    fn save(&self) -> io::Result<()> {
        if self.values.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let file = File {
            boot_id: boot_id(),
            values: self.values.clone(),
        };
        replace_file(&self.path, &file)
    }
}

/// A value with single spaces between its numbers.
pub(super) fn read(name: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(Path::new(SETTINGS).join(name))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
