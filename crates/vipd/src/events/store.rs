//! Events over a restart: a file of JSON lines in `state_dir` that is appended to and, when it has
//! grown to its bound, becomes the old one.
//!
//! Whoever records an event never waits for the disk. Where it is full or gone, the newest events wait in
//! memory, and are written when it is back.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{CAPACITY, Event, Events, Kind};

/// The file, in `state_dir`.
pub const FILE: &str = "events.jsonl";
/// What it becomes when it is full.
pub const OLD_FILE: &str = "events.jsonl.1";
/// A file of that size is full, bytes: some thousand events.
pub const FILE_MAX: u64 = 1 << 20;
/// How much of a file is read at the start: one batch of events may go beyond the bound.
const READ_MAX: u64 = 4 * FILE_MAX;
/// Where as many events as the list holds have room, most often.
const TAIL: u64 = READ_MAX / 8;
/// Events that wait for a disk, at most; a burst of ten thousand real servers is whole.
const PENDING_MAX: usize = 20_000;
/// When a disk that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long the end of the daemon waits for the last events to be written.
const LAST: Duration = Duration::from_secs(1);

/// The writer, from the director's side.
#[derive(Debug)]
pub struct Store {
    state_dir: watch::Sender<PathBuf>,
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Store {
    /// Starts to write what is recorded from here on.
    #[must_use]
    pub fn start(events: Arc<Events>, state_dir: &Path) -> Store {
        let (state_dir, directory) = watch::channel(state_dir.to_owned());
        let (end, ending) = watch::channel(false);
        let writer = Writer {
            news: events.follow(),
            events,
            directory,
            ending,
            pending: VecDeque::new(),
            broken: false,
        };
        Store {
            state_dir,
            end,
            task: tokio::spawn(writer.run()),
        }
    }

    /// From here on it is that folder.
    pub fn set(&self, state_dir: &Path) {
        self.state_dir.send_if_modified(|known| {
            let news = known != state_dir;
            if news {
                state_dir.clone_into(known);
            }
            news
        });
    }

    /// Writes what is left, if that does not take long.
    pub async fn finish(&mut self) {
        self.end.send_replace(true);
        let _hung = tokio::time::timeout(LAST, &mut self.task).await;
    }
}

struct Writer {
    events: Arc<Events>,
    news: mpsc::UnboundedReceiver<Event>,
    directory: watch::Receiver<PathBuf>,
    ending: watch::Receiver<bool>,
    /// Not written yet.
    pending: VecDeque<Event>,
    broken: bool,
}

impl Writer {
    async fn run(mut self) {
        loop {
            let ending = *self.ending.borrow();
            while let Ok(event) = self.news.try_recv() {
                push(&mut self.pending, event);
            }
            if self.pending.is_empty() && !ending {
                tokio::select! {
                    Some(event) = self.news.recv() => push(&mut self.pending, event),
                    _ = self.ending.wait_for(|ending| *ending) => {}
                }
                continue;
            }
            let wrote = self.write().await;
            if ending {
                return;
            }
            if !wrote {
                self.rest().await;
            }
        }
    }

    async fn write(&mut self) -> bool {
        let directory = self.directory.borrow_and_update().clone();
        let file = directory.join(FILE).display().to_string();
        let batch = Vec::from(std::mem::take(&mut self.pending));
        // Disks hang.
        let mut writing = tokio::task::spawn_blocking(move || {
            let done = append(&directory, &batch);
            (batch, done)
        });
        let done = loop {
            tokio::select! {
                done = &mut writing => break done,
                Some(event) = self.news.recv() => push(&mut self.pending, event),
            }
        };
        let error = match done {
            Ok((_, Ok(()))) => {
                if std::mem::take(&mut self.broken) {
                    self.events
                        .record(Kind::StateWritten, file, "events are written again");
                }
                return true;
            }
            Ok((batch, Err(error))) => {
                let newer = std::mem::replace(&mut self.pending, batch.into());
                for event in newer {
                    push(&mut self.pending, event);
                }
                error.to_string()
            }
            Err(panic) => panic.to_string(),
        };
        if !std::mem::replace(&mut self.broken, true) {
            let message = format!(
                "events cannot be written and are kept in memory only: {error}; tried again every \
                 {} s",
                RETRY.as_secs()
            );
            self.events.record(Kind::StateUnwritable, file, message);
        }
        false
    }

    /// Until it is tried again.
    async fn rest(&mut self) {
        let again = tokio::time::Instant::now() + RETRY;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(again) => return,
                // Another folder may be better.
                Ok(()) = self.directory.changed() => return,
                _ = self.ending.wait_for(|ending| *ending) => return,
                Some(event) = self.news.recv() => push(&mut self.pending, event),
            }
        }
    }
}

fn push(pending: &mut VecDeque<Event>, event: Event) {
    if pending.len() >= PENDING_MAX {
        pending.pop_front();
    }
    pending.push_back(event);
}

/// Appends them, all or none.
fn append(state_dir: &Path, events: &[Event]) -> io::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut text = Vec::new();
    for event in events {
        serde_json::to_writer(&mut text, event).map_err(io::Error::other)?;
        text.push(b'\n');
    }
    fs::create_dir_all(state_dir)?;
    let (file, old) = (state_dir.join(FILE), state_dir.join(OLD_FILE));
    let mut to = open(&file, true)?;
    let mut size = to.metadata()?.len();
    if size >= FILE_MAX {
        fs::rename(&file, &old)?;
        to = open(&file, true)?;
        size = to.metadata()?.len();
    }
    let written = end_of_line(&to, size).and_then(|()| to.write_all(&text));
    if written.is_err() {
        let _half_a_line_is_skipped_when_read = to.set_len(size);
    }
    written
}

/// After a power cut the last line may be cut off: what comes begins on its own.
fn end_of_line(file: &File, size: u64) -> io::Result<()> {
    let Some(last) = size.checked_sub(1) else {
        return Ok(());
    };
    let mut byte = [b'\n'];
    file.read_exact_at(&mut byte, last)?;
    let mut file = file;
    if byte == *b"\n" {
        Ok(())
    } else {
        file.write_all(b"\n")
    }
}

fn open(file: &Path, write: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(write)
        .create(write)
        .mode(0o640)
        // A FIFO that nobody reads from would be waited for.
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(file)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// The events of former runs, oldest first, as many as the list holds.
///
/// # Errors
///
/// In words: a file is there and cannot be read. What could be read comes all the same.
pub fn read(state_dir: &Path) -> (Vec<Event>, Result<(), String>) {
    // Newest first: the files hold more than the list does.
    let mut events: Vec<Event> = Vec::new();
    let mut result = Ok(());
    // Most often the end of the newer file is enough. What is read twice is known by its number.
    let mut whole = false;
    for (name, most) in [(FILE, TAIL), (FILE, READ_MAX), (OLD_FILE, READ_MAX)] {
        if events.len() == CAPACITY {
            break;
        }
        if whole && name == FILE {
            continue;
        }
        let path = state_dir.join(name);
        let text = match contents(&path, most) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                result = Err(format!("{}: {error}", path.display()));
                continue;
            }
        };
        whole = u64::try_from(text.len()).is_ok_and(|length| length < most);
        // A line that is none was cut off by a power cut, by a full disk, or where the tail begins.
        let lines = text.rsplit(|byte| *byte == b'\n');
        let read = lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok());
        for event in read {
            if events.len() == CAPACITY {
                break;
            }
            if events.last().is_none_or(|next| event.id < next.id) {
                events.push(event.of_this_program());
            }
        }
    }
    events.reverse();
    (events, result)
}

impl Event {
    /// With the words that this program has anyway in place of copies of them.
    fn of_this_program(mut self) -> Event {
        if let Some(kind) = Kind::named(&self.kind) {
            self.kind = Cow::Borrowed(kind.name());
            if self.consequence == kind.consequence() {
                self.consequence = Cow::Borrowed(kind.consequence());
            }
        }
        self
    }
}

fn contents(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path, false)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
