//! Files that the configuration is in.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The whole of a regular file of at most so many bytes.
pub(super) fn read(path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
    contents(open(path)?, size_max)
}

/// The same of a file that nobody but its owner has access to.
pub(super) fn read_private(path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "others than its owner have access (mode {:04o})",
            mode & 0o7777
        )));
    }
    contents(file, size_max)
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a FIFO that nobody writes to would wait for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

fn contents(file: File, size_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(size_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > size_max) {
        return Err(io::Error::other(format!("larger than {}", shown(size_max))));
    }
    Ok(bytes)
}

fn shown(size: u64) -> String {
    if size.is_multiple_of(1 << 20) {
        format!("{} MiB", size >> 20)
    } else {
        format!("{} KiB", size >> 10)
    }
}
