//! Files: a number in the first line, read twice a second.
//!
//! Not inotify: a file that is replaced, mounted over or not there yet would need watches on its
//! folders too, and reading again is what is true in all of these cases. A file that is empty at one
//! look is being written (`echo 1 > file` empties it first), so only a second look believes it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Report, Reporter, words};

/// From one look to the next.
pub(super) const PERIOD: Duration = Duration::from_millis(500);
/// A file system that takes longer counts as unreadable.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any number has digits.
const READ_MAX: u64 = 64;

/// What stands in a tracked file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Content {
    /// A number.
    Number(i64),
    /// There is no such file.
    Missing,
    /// Anything else; the words say what.
    Unreadable(String),
}

/// Reads a file over and over.
pub(super) async fn keep_reading(path: PathBuf, period: Duration, report: Reporter) {
    let mut told = None;
    let mut tell = |content: Content| {
        if told.as_ref() != Some(&content) {
            told = Some(content.clone());
            let path = path.clone();
            report(Report::File { path, content });
        }
    };
    let mut was_empty = false;
    let mut beat = interval(period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        // A file system can hang. Then this task does, with one blocked thread, and nothing else.
        let path = path.clone();
        let mut reading = tokio::task::spawn_blocking(move || read(&path));
        let read = match timeout(PATIENCE, &mut reading).await {
            Ok(read) => read,
            Err(_elapsed) => {
                tell(Content::Unreadable("the file system hangs".to_owned()));
                reading.await
            }
        };
        let content = match read {
            Ok(content) => content,
            Err(panic) => Some(Content::Unreadable(panic.to_string())),
        };
        let empty = content.is_none();
        match content {
            Some(content) => tell(content),
            None if was_empty => tell(Content::Unreadable("it is empty".to_owned())),
            None => {}
        }
        was_empty = empty;
    }
}

/// `None`: it is empty. Blocks for as long as the file system does.
fn read(path: &Path) -> Option<Content> {
    match first_bytes(path) {
        Ok(bytes) if bytes.is_empty() => None,
        Ok(bytes) => Some(number(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Content::Missing),
        Err(error) => Some(Content::Unreadable(words(&error))),
    }
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let only_regular = |is_file: bool| {
        let no = || io::Error::other("not a regular file");
        is_file.then_some(()).ok_or_else(no)
    };
    // To open a device can do something, and to open a FIFO can wait: looked at before as well.
    only_regular(fs::metadata(path)?.is_file())?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    only_regular(file.metadata()?.is_file())?;
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn number(bytes: &[u8]) -> Content {
    let line = bytes.split(|byte| *byte == b'\n').next();
    let number = line
        .and_then(|line| std::str::from_utf8(line).ok())
        .and_then(|line| line.trim().parse().ok());
    match number {
        Some(number) => Content::Number(number),
        None => Content::Unreadable("its first line is not a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    #[test]
    fn the_first_line_is_an_integer_with_white_space_around_it() {
        let bad = || Content::Unreadable("its first line is not a number".to_owned());
        for (bytes, expected) in [
            (&b"0\n"[..], Content::Number(0)),
            (b" -17 \r\nwhatever", Content::Number(-17)),
            (b"+5", Content::Number(5)),
            (b"9223372036854775807", Content::Number(i64::MAX)),
            (b"9223372036854775808", bad()),
            (b"\n1\n", bad()),
            (b"1.5\n", bad()),
            (b"\xff\n", bad()),
            (b"1 2\n", bad()),
        ] {
            assert_eq!(number(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_small_regular_file_is_unreadable_and_blocks_nobody() {
        let folder = Folder::new("kinds");
        let fifo = folder.0.join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let big = folder.0.join("big");
        fs::write(&big, vec![b'1'; 1 << 20]).unwrap();
        let unreadable = |why: &str| Some(Content::Unreadable(why.to_owned()));
        assert_eq!(read(&fifo), unreadable("not a regular file"));
        assert_eq!(read(&folder.0), unreadable("not a regular file"));
        assert_eq!(
            read(Path::new("/dev/zero")),
            unreadable("not a regular file")
        );
        assert_eq!(read(&big), unreadable("its first line is not a number"));
        assert_eq!(read(&folder.0.join("none")), Some(Content::Missing));
        assert_eq!(
            read(&big.join("below-a-file")),
            unreadable("Not a directory")
        );
    }

    #[tokio::test]
    async fn every_change_is_reported_once_and_an_empty_file_is_looked_at_twice() {
        let folder = Folder::new("changes");
        let path = folder.0.join("flag");
        let (sender, mut reports) = unbounded_channel();
        let task = tokio::spawn(keep_reading(
            path.clone(),
            Duration::from_millis(50),
            Arc::new(move |report| drop(sender.send(report))),
        ));
        assert_eq!(next(&mut reports).await, Content::Missing);
        fs::write(&path, "1\n").unwrap();
        assert_eq!(next(&mut reports).await, Content::Number(1));
        let emptied = tokio::time::Instant::now();
        fs::write(&path, "").unwrap();
        assert_eq!(
            next(&mut reports).await,
            Content::Unreadable("it is empty".to_owned())
        );
        assert!(
            emptied.elapsed() >= Duration::from_millis(50),
            "{:?}",
            emptied.elapsed()
        );
        fs::rename(folder.with("replacement", "0"), &path).unwrap();
        assert_eq!(next(&mut reports).await, Content::Number(0));
        task.abort();
    }

    async fn next(reports: &mut UnboundedReceiver<Report>) -> Content {
        match timeout(Duration::from_secs(10), reports.recv()).await {
            Ok(Some(Report::File { content, .. })) => content,
            other => panic!("{other:?}"),
        }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("vipd-track-file-{}-{name}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }

        fn with(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }
}
