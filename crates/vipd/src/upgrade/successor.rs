//! The new process, as the old one sees it.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as Pair;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};

use super::{FromNew, FromOld, Greeting, Hello, PROTOCOL, State, wire};
use crate::privileges;

/// How long the new program may take to read the configuration.
const PREPARE: Duration = Duration::from_secs(15);
/// How long it may take to know what the old director knows; that one decides nothing meanwhile, and
/// says so to nobody: less than the watchdog of the unit.
const READY: Duration = Duration::from_secs(8);
/// How long it may take to have a guard.
const GUARDED: Duration = Duration::from_secs(8);
/// How long what it says before its end is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is kept of what it says, bytes.
const WORDS_MAX: usize = 4096;
/// Files that are not readable by everybody are none that everybody may write.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// What goes over as open files.
pub(crate) struct Files {
    pub(crate) lock: Option<OwnedFd>,
    pub(crate) control: OwnedFd,
    pub(crate) http: Option<OwnedFd>,
}

/// A process that is to take over.
pub(crate) struct Successor {
    child: Child,
    stream: UnixStream,
    /// The advert path's end.
    adverts: Option<OwnedFd>,
    words: Arc<Mutex<Vec<u8>>>,
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// It goes on without us.
    released: bool,
}

impl Successor {
    /// Starts a program, and returns when it is prepared.
    ///
    /// # Errors
    ///
    /// Why it is not; it has ended.
    pub(crate) async fn prepare(
        binary: &Path,
        hello: &Hello,
        files: Files,
    ) -> Result<Successor, String> {
        let program = trustworthy(binary)?;
        let named = |error: io::Error| format!("{}: {error}", binary.display());
        let mut successor = Successor::spawn(&program, &hello.path, files).map_err(named)?;
        let greeted = async {
            let greeting = Greeting {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            wire::say(&mut successor.stream, &greeting).await?;
            wire::say(&mut successor.stream, &FromOld::Hello(hello.clone())).await?;
            wire::hear(&mut successor.stream).await
        };
        let heard = tokio::time::timeout(PREPARE, greeted).await;
        match successor.judge("get ready", PREPARE, heard).await? {
            FromNew::Prepared { version } => {
                successor.version = version;
                Ok(successor)
            }
            FromNew::Ready | FromNew::Guarded | FromNew::Failed(_) => {
                Err(successor.out_of_turn().await)
            }
        }
    }

    fn spawn(program: &Path, config: &Path, files: Files) -> io::Result<Successor> {
        let (ours, theirs) = Pair::pair()?;
        let (adverts, their_adverts) = Pair::pair()?;
        let log = io::stderr().as_fd().try_clone_to_owned()?;
        // The optional ones are told apart by what is said of them.
        let mut passed: Vec<BorrowedFd<'_>> =
            vec![log.as_fd(), their_adverts.as_fd(), files.control.as_fd()];
        passed.extend(files.lock.as_ref().map(AsFd::as_fd));
        passed.extend(files.http.as_ref().map(AsFd::as_fd));
        wire::send_files(&ours, &passed)?;
        wire::say_blocking(&ours, &(files.lock.is_some(), files.http.is_some()))?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let mut command = Command::new(program);
        command
            .args(["run", "--take-over", "-c"])
            .arg(config)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            // It names the process that feeds the watchdog: that is the new one.
            .env_remove("WATCHDOG_PID")
            .kill_on_drop(false);
        let mut child = privileges::hand_on(|| command.spawn())?;
        let words = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(listen(stderr, Arc::clone(&words)));
        }
        Ok(Successor {
            pid: child.id().unwrap_or(0),
            child,
            stream,
            adverts: Some(adverts.into()),
            words,
            version: String::new(),
            released: false,
        })
    }

    /// Tells it everything.
    ///
    /// # Errors
    ///
    /// Why it cannot take over; it has ended.
    pub(crate) async fn tell(&mut self, state: State) -> Result<(), String> {
        let told = async {
            wire::say(&mut self.stream, &FromOld::State(Box::new(state))).await?;
            wire::hear(&mut self.stream).await
        };
        let heard = tokio::time::timeout(READY, told).await;
        match self.judge("take everything in", READY, heard).await? {
            FromNew::Ready => Ok(()),
            FromNew::Prepared { .. } | FromNew::Guarded | FromNew::Failed(_) => {
                Err(self.out_of_turn().await)
            }
        }
    }

    /// The end at which the advert path hands over.
    pub(crate) fn adverts(&mut self) -> Option<OwnedFd> {
        self.adverts.take()
    }

    /// From here on it is the director.
    pub(crate) async fn go(&mut self) {
        self.released = true;
        // That it has ended is seen in a moment.
        let _ = wire::say(&mut self.stream, &FromOld::Go).await;
    }

    /// Returns when it is guarded, or takes too long for that.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) async fn guarded(&mut self) -> Result<(), String> {
        let heard = tokio::time::timeout(GUARDED, wire::hear(&mut self.stream)).await;
        match heard {
            Ok(Ok(FromNew::Guarded)) | Err(_) => Ok(()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.last_words(&error.to_string()).await),
        }
    }

    /// What it said, or why nothing is to be expected any more.
    async fn judge(
        &mut self,
        to: &str,
        within: Duration,
        heard: Result<io::Result<FromNew>, tokio::time::error::Elapsed>,
    ) -> Result<FromNew, String> {
        match heard {
            Ok(Ok(FromNew::Failed(why))) => Err(why),
            Ok(Ok(other)) => Ok(other),
            Ok(Err(error)) => Err(self.last_words(&error.to_string()).await),
            Err(_) => {
                let why = format!("it did not {to} within {within:?}");
                let _ = self.child.start_kill();
                Err(self.last_words(&why).await)
            }
        }
    }

    async fn out_of_turn(&mut self) -> String {
        let _ = self.child.start_kill();
        self.last_words("it said something out of turn").await
    }

    /// How it ended, and what it said before.
    async fn last_words(&mut self, otherwise: &str) -> String {
        let ended = tokio::time::timeout(LAST_WORDS, self.child.wait()).await;
        let how = match ended {
            Ok(Ok(status)) if status.code().is_some() => format!("it ended: {status}"),
            Ok(Ok(status)) => format!("{otherwise}, it ended: {status}"),
            Ok(Err(_)) | Err(_) => otherwise.to_owned(),
        };
        // Its end and the end of what it says are two things.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        if words.is_empty() {
            how
        } else {
            format!("{how}; it said:\n{words}")
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.released {
            let _ = self.child.start_kill();
        }
    }
}

/// What it says goes to the log, and its end is kept.
async fn listen(mut stderr: ChildStderr, words: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; WORDS_MAX];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let read = buffer.get(..length).unwrap_or_default();
        {
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            words.extend_from_slice(read);
            let more = words.len().saturating_sub(WORDS_MAX);
            words.drain(..more);
        }
        let _ = io::stderr().write_all(read);
    }
}

/// The program that a start of the service would run: ours, or what stands in its place by now.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(match text.strip_suffix(" (deleted)") {
        Some(path) => PathBuf::from(path),
        None => path,
    })
}

/// Whoever may use the control socket must not have this daemon run what they wrote themselves: the
/// program, and every folder on the way to it, belongs to root or to the owner of the running program, and
/// nobody else may write it. (Not to the user that the daemon runs as: its scripts are that user, too,
/// without its rights.)
fn trustworthy(binary: &Path) -> Result<PathBuf, String> {
    let named = |error: io::Error| format!("{}: {error}", binary.display());
    let path = binary.canonicalize().map_err(named)?;
    let own = Path::new("/proc/self/exe").metadata().map_err(named)?.uid();
    for place in path.ancestors() {
        // In a canonical path there is no link, unless somebody has just put one there.
        let found = place.symlink_metadata().map_err(named)?;
        let (mode, owner) = (found.mode(), found.uid());
        let sticky = found.is_dir() && mode & STICKY != 0;
        let writable = found.is_symlink() || (mode & OTHERS_WRITE != 0 && !sticky);
        if (owner != 0 && owner != own) || writable {
            return Err(format!(
                "{}: not run, because others than root may write {}",
                binary.display(),
                place.display()
            ));
        }
    }
    if !path.is_file() {
        return Err(format!("{}: not a file", binary.display()));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_that_others_may_write_is_not_run() {
        let folder = std::env::temp_dir().join(format!("vipd-successor-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("vipd");
        fs::write(&program, "").unwrap();
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        chmod(&folder, 0o755);
        chmod(&program, 0o755);
        assert_eq!(trustworthy(&program), Ok(program.clone()));
        chmod(&program, 0o775);
        let why = trustworthy(&program).unwrap_err();
        assert!(why.contains("others than root may write"), "{why}");
        chmod(&program, 0o755);
        chmod(&folder, 0o777);
        assert!(trustworthy(&program).is_err());
        chmod(&folder, 0o755);
        let why = trustworthy(&folder.join("none")).unwrap_err();
        assert!(why.contains("No such file"), "{why}");
        assert!(trustworthy(&folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
