//! Settings of interfaces under `/proc/sys/net`: read, set, and given back as they were.
//!
//! What an interface that is not vipd's had before is remembered in memory and in `sysctl.json` in
//! the state directory, so that neither a stop nor a crash leaves a host changed. A value that
//! somebody else has set meanwhile is theirs: it is not given back. What is remembered counts only
//! for the same interface (by its index) and the same boot.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The file in the state directory.
const FILE: &str = "sysctl.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A setting of one interface that could not be read or set, or a file that could not be.
#[derive(Debug, Error)]
#[error("{what}: {error}")]
pub struct Failure {
    what: String,
    error: io::Error,
}

/// Reads a setting, such as `ipv4`, `eth0`, `arp_ignore`.
///
/// # Errors
///
/// There is no such interface or setting.
pub fn read(family: &str, interface: &str, setting: &str) -> Result<String, Failure> {
    let path = path(family, interface, setting);
    let value = std::fs::read_to_string(&path).map_err(|error| failure("reading", &path, error))?;
    Ok(value.trim().to_owned())
}

/// Sets a setting unless it has that value already.
///
/// # Errors
///
/// There is no such interface or setting, or it may not be set.
pub fn write(family: &str, interface: &str, setting: &str, value: &str) -> Result<(), Failure> {
    if read(family, interface, setting)? == value {
        return Ok(());
    }
    let path = path(family, interface, setting);
    std::fs::write(&path, value).map_err(|error| failure("setting", &path, error))
}

/// What other interfaces than vipd's own had before vipd changed it.
#[derive(Debug)]
pub struct Remembered {
    path: PathBuf,
    boot: String,
    /// By index of the interface and the setting's family and name.
    values: BTreeMap<Key, Value>,
}

type Key = (u32, String, String);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    before: String,
    set: String,
}

impl Remembered {
    /// What an earlier vipd that could not give it back has left in the file, if anything.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be understood; then nothing is remembered.
    pub fn open(state_dir: &Path) -> (Remembered, Result<(), Failure>) {
        let mut remembered = Remembered {
            path: state_dir.join(FILE),
            boot: boot_id(),
            values: BTreeMap::new(),
        };
        let result = remembered.load();
        (remembered, result)
    }

    /// Gives a setting of an interface the first of the values that are `good`, unless it has one
    /// of them. What it had is on disk before it changes.
    ///
    /// # Errors
    ///
    /// The setting could not be read or set, or the file not be written.
    pub fn set(
        &mut self,
        interface: (u32, &str),
        family: &str,
        setting: &str,
        good: &[&str],
    ) -> Result<(), Failure> {
        let (index, name) = interface;
        let before = read(family, name, setting)?;
        let Some(value) = good.first().filter(|_| !good.contains(&before.as_str())) else {
            return Ok(());
        };
        let key = (index, family.to_owned(), setting.to_owned());
        let set = (*value).to_owned();
        self.values.insert(key, Value { before, set });
        self.save()?;
        write(family, name, setting, value)
    }

    /// Gives back what interfaces had for which `keep` does not speak. `name` knows the interfaces
    /// that still are there. Returns the settings that were given back, in words.
    ///
    /// # Errors
    ///
    /// The first that could not be; it stays remembered.
    pub fn restore(
        &mut self,
        keep: impl Fn(u32) -> bool,
        name: impl Fn(u32) -> Option<String>,
    ) -> Result<Vec<String>, Failure> {
        let (mut restored, mut result) = (Vec::new(), Ok(()));
        let known = self.values.len();
        self.values.retain(|(index, family, setting), value| {
            if keep(*index) {
                return true;
            }
            let Some(interface) = name(*index) else {
                return false;
            };
            match give_back(family, &interface, setting, value) {
                Ok(true) => {
                    restored.push(format!("{interface}: {setting} = {}", value.before));
                    false
                }
                Ok(false) => false,
                Err(error) => {
                    result = Err(error);
                    true
                }
            }
        });
        if self.values.len() != known {
            self.save()?;
        }
        result.map(|()| restored)
    }

    fn load(&mut self) -> Result<(), Failure> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failure("reading", &self.path, error)),
        };
        let file: File = serde_json::from_str(&text)
            .map_err(|error| failure("reading", &self.path, error.into()))?;
        if file.boot_id == self.boot {
            let entry = |saved: Saved| {
                let key = (saved.index, saved.family, saved.setting);
                let (before, set) = (saved.before, saved.set);
                (key, Value { before, set })
            };
            self.values = file.values.into_iter().map(entry).collect();
        }
        Ok(())
    }

    fn save(&self) -> Result<(), Failure> {
        let result = if self.values.is_empty() {
            match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        } else {
            self.replace_file()
        };
        result.map_err(|error| failure("writing", &self.path, error))
    }

    fn replace_file(&self) -> io::Result<()> {
        let saved = |(key, value): (&Key, &Value)| Saved {
            index: key.0,
            family: key.1.clone(),
            setting: key.2.clone(),
            before: value.before.clone(),
            set: value.set.clone(),
        };
        let file = File {
            boot_id: self.boot.clone(),
            values: self.values.iter().map(saved).collect(),
        };
        replace_file(&self.path, &file)
    }
}

/// Writes a file of the state directory. Whoever reads it sees the old or the new one, never a part.
pub(crate) fn replace_file(path: &Path, content: &impl Serialize) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let new = path.with_extension("json.new");
    std::fs::write(&new, serde_json::to_vec_pretty(content)?)?;
    std::fs::rename(&new, path)
}

/// Tells one boot of the host from another.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    text.trim().to_owned()
}

/// Returns whether there was anything to do: somebody else's value stays.
fn give_back(family: &str, interface: &str, setting: &str, value: &Value) -> Result<bool, Failure> {
    if read(family, interface, setting)? != value.set {
        return Ok(false);
    }
    write(family, interface, setting, &value.before).map(|()| true)
}

#[derive(Serialize, Deserialize)]
struct File {
    boot_id: String,
    values: Vec<Saved>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    index: u32,
    family: String,
    setting: String,
    before: String,
    set: String,
}

fn path(family: &str, interface: &str, setting: &str) -> PathBuf {
    Path::new("/proc/sys/net")
        .join(family)
        .join("conf")
        .join(interface)
        .join(setting)
}

fn failure(doing: &str, path: &Path, error: io::Error) -> Failure {
    let what = format!("{doing} {}", path.display());
    Failure { what, error }
}
