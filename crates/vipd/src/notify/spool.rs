//! What webhooks have not taken yet, over a restart: a file in `state_dir`. It has no URLs, so no
//! tokens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::events::Event;

/// The file, in `state_dir`.
pub const FILE: &str = "notify.json";
/// More than the largest that is written.
const SIZE_MAX: u64 = 64 << 20;

/// An event that is still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spooled {
    /// The name of the `[[notify]]`.
    pub notify: String,
    /// The event.
    pub event: Event,
}

/// What is left of former runs; `None`: there is no file.
///
/// # Errors
///
/// In words: the file is there and cannot be read or understood.
pub fn read(state_dir: &Path) -> Result<Option<Vec<Spooled>>, String> {
    let path = state_dir.join(FILE);
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let opened = OpenOptions::new()
        .read(true)
        // A FIFO that nobody writes to would be waited for.
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    let mut text = String::new();
    file.take(SIZE_MAX)
        .read_to_string(&mut text)
        .map_err(|error| wrong(&error))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| wrong(&error))
}

/// Writes the file, or removes it where nothing is left. When it returns, a power cut does not undo
/// it.
///
/// # Errors
///
/// In words; then the file is as it was.
pub fn write(state_dir: &Path, left: &[Spooled]) -> Result<(), String> {
    let path = state_dir.join(FILE);
    let write = || {
        if left.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        fs::create_dir_all(state_dir)?;
        let new = state_dir.join(format!("{FILE}.new"));
        let text = serde_json::to_vec(left).map_err(io::Error::other)?;
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        // The name is in the directory.
        File::open(state_dir)?.sync_all()
    };
    write().map_err(|error: io::Error| format!("{}: {error}", path.display()))
}
