//! Whether this director is in maintenance: a file in `state_dir`, so that it is kept over a
//! restart. That the file is there is what counts; its text is for whoever finds it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use tracing::warn;

const FILE: &str = "maintenance";
const TEXT: &str = "This director is in maintenance. `vipctl maintenance off` ends it.\n";

/// Whether maintenance is on. Where that cannot be found out it is off, and the log says so: a
/// broken disk on both directors must not take the service away.
#[must_use]
pub fn read(state_dir: &Path) -> bool {
    let file = state_dir.join(FILE);
    file.try_exists().unwrap_or_else(|error| {
        warn!(file = %file.display(), "cannot see whether maintenance is on: {error}");
        false
    })
}

/// Turns maintenance on or off. When it returns, a power cut does not undo it.
///
/// # Errors
///
/// The directory cannot be made or written; then nothing has changed.
pub fn write(state_dir: &Path, on: bool) -> io::Result<()> {
    let file = state_dir.join(FILE);
    if on {
        fs::create_dir_all(state_dir)?;
        let new = state_dir.join(format!("{FILE}.new"));
        let mut writer = File::create(&new)?;
        writer.write_all(TEXT.as_bytes())?;
        writer.sync_all()?;
        fs::rename(&new, &file)?;
    } else {
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    // The name is in the directory.
    File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn maintenance_is_off_until_turned_on_and_again_when_turned_off() {
        let directory = Directory::new("on-off");
        assert!(!read(&directory.0));
        write(&directory.0, true).unwrap();
        assert!(read(&directory.0));
        write(&directory.0, true).unwrap();
        assert!(read(&directory.0));
        write(&directory.0, false).unwrap();
        assert!(!read(&directory.0));
    }

    #[test]
    fn off_without_a_directory_is_no_error_and_makes_none() {
        let directory = Directory::new("absent");
        write(&directory.0, false).unwrap();
        assert!(!directory.0.exists());
    }

    #[test]
    fn on_leaves_the_file_and_nothing_beside_it() {
        let directory = Directory::new("alone");
        let nested = directory.0.join("a/b");
        write(&nested, true).unwrap();
        let names: Vec<_> = fs::read_dir(&nested)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["maintenance"]);
        assert!(
            fs::read_to_string(nested.join("maintenance"))
                .unwrap()
                .contains("vipctl maintenance off")
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_that_changes_nothing() {
        let directory = Directory::new("file");
        fs::write(&directory.0, "in the way").unwrap();
        assert!(write(&directory.0.join("state"), true).is_err());
        assert!(!read(&directory.0.join("state")));
    }

    /// A place that is gone at the end, whatever was made there.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let pid = std::process::id();
            Directory(std::env::temp_dir().join(format!("vipd-maintenance-{name}-{pid}")))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
            let _ = fs::remove_file(&self.0);
        }
    }
}
