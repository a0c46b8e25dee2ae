//! A configuration on trial: it goes back by itself unless it is confirmed in time.
//!
//! The file in `state_dir` keeps the former text and the tried one, so that a daemon that crashes or
//! is restarted meanwhile goes back, too: a start with a file that holds the very text that was tried
//! and never confirmed uses the former text instead ([`Record::instead_of`]). It stays until the
//! configuration is confirmed, or is put in force without a trial, or the file is another one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const FILE: &str = "trial.json";
/// Only its owner reads it: there may be secrets in the texts.
const MODE: u32 = 0o600;
/// The shortest and the longest trial.
pub const DURATION: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// What a trial needs to be undone, whatever happens to the daemon.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What was in force.
    pub former: String,
    /// What is tried.
    pub tried: String,
}

impl Record {
    /// Reads it; `None`: nothing is on trial.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it.
    pub fn read(state_dir: &Path) -> Result<Option<Record>, String> {
        let file = path(state_dir);
        let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
        match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
                // The words of the error may have a piece of the text in them.
                wrong(&format!("not a record of a trial (line {})", error.line()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(&error)),
        }
    }

    /// Writes it. When it returns, a power cut does not undo it.
    ///
    /// # Errors
    ///
    /// Names the file; then nothing has changed.
    pub fn write(&self, state_dir: &Path) -> Result<(), String> {
        let new = state_dir.join(format!("{FILE}.new"));
        let written = self.try_write(state_dir, &new);
        written.map_err(|error| {
            // Half a file on a full disk would only be in the way.
            let _ = fs::remove_file(&new);
            format!("{}: {error}", path(state_dir).display())
        })
    }

    fn try_write(&self, state_dir: &Path, new: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        fs::create_dir_all(state_dir)?;
        // An old one may have another mode.
        match fs::remove_file(new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let mut writer = options.write(true).create_new(true).mode(MODE).open(new)?;
        writer.write_all(&text)?;
        writer.sync_all()?;
        fs::rename(new, path(state_dir))?;
        // The name is in the directory.
        File::open(state_dir)?.sync_all()
    }

    /// Removes it, if there is one.
    ///
    /// # Errors
    ///
    /// Names the file.
    pub fn remove(state_dir: &Path) -> Result<(), String> {
        let removed = match fs::remove_file(path(state_dir)) {
            Ok(()) => File::open(state_dir).and_then(|directory| directory.sync_all()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|error| format!("{}: {error}", path(state_dir).display()))
    }

    /// The text that a start uses instead of that of the file.
    #[must_use]
    pub fn instead_of(self, file: &str) -> Option<String> {
        (file == self.tried).then_some(self.former)
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_only_its_owner_can() {
        let directory = Directory::new("mode");
        assert_eq!(Record::read(&directory.0), Ok(None));
        record().write(&directory.0).unwrap();
        assert_eq!(Record::read(&directory.0), Ok(Some(record())));
        let mode = fs::metadata(path(&directory.0))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        let names = fs::read_dir(&directory.0).unwrap().count();
        assert_eq!(names, 1);
        Record::remove(&directory.0).unwrap();
        Record::remove(&directory.0).unwrap();
        assert_eq!(Record::read(&directory.0), Ok(None));
    }

    #[test]
    fn a_start_with_the_tried_text_uses_the_former_and_with_any_other_the_file() {
        assert_eq!(record().instead_of("tried"), Some("former".to_owned()));
        assert_eq!(record().instead_of("former"), None);
        assert_eq!(record().instead_of("tried\n"), None);
    }

    #[test]
    fn a_broken_record_is_named_without_a_word_of_it() {
        let directory = Directory::new("broken");
        fs::create_dir_all(&directory.0).unwrap();
        for text in ["", "{\"former\": 1}", "\"s3cret\"", "{\"s3cret\": \"\"}"] {
            fs::write(path(&directory.0), text).unwrap();
            let why = Record::read(&directory.0).unwrap_err();
            assert!(
                why.contains("trial.json") && !why.contains("s3cret"),
                "{why}"
            );
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let directory = Directory::new("file");
        fs::write(&directory.0, "in the way").unwrap();
        let why = record().write(&directory.0.join("state")).unwrap_err();
        assert!(why.contains("state/trial.json"), "{why}");
    }

    fn record() -> Record {
        Record {
            former: "former".to_owned(),
            tried: "tried".to_owned(),
        }
    }

    /// A place that is gone at the end, whatever was made there.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let pid = std::process::id();
            Directory(std::env::temp_dir().join(format!("vipd-trial-{name}-{pid}")))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
            let _ = fs::remove_file(&self.0);
        }
    }
}
