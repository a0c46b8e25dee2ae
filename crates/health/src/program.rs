//! Programs that are run at an interval, and judged by how they end.
//!
//! A run gets an argument list and no shell, a process group of its own, the configured user without
//! supplementary groups, `/` as its directory, nothing on its standard error, on its standard input what
//! it is told or nothing, and of the daemon's environment only `PATH` and what begins with `VIPD_`. What is left of the group when the
//! program has ended is killed, so that a program has at most one run and its children alive,
//! however often it starts.

use std::fs;
use std::io::{self, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a run that took too long has between `SIGTERM` and `SIGKILL`.
pub const GRACE: Duration = Duration::from_secs(2);
/// How often the rest of a group is looked at during that time.
const LOOK: Duration = Duration::from_millis(20);
/// How long what a program has written is waited for when it has ended: it is there already, unless
/// somebody who left the group keeps the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// As much of a program's first line as is kept, bytes.
const LINE_MAX: usize = 200;
/// Where programs are looked for if the daemon has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USERS: &str = "/etc/passwd";

/// A program, and who runs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Program {
    /// The program's path, and its arguments.
    pub command: Vec<String>,
    /// The name of the user that it runs as.
    pub user: String,
}

/// What is particular about a run.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Variables beside those that every run has.
    pub environment: Vec<(&'static str, String)>,
    /// Whether the first line that it prints is kept; otherwise all it prints is thrown away.
    pub first_line: bool,
    /// What it reads on its standard input.
    pub input: Vec<u8>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited {
        /// Its exit status.
        status: i32,
        /// The first line that it printed, if that was to be kept.
        line: String,
    },
    /// A signal of that number killed it.
    Killed(i32),
    /// It was not done in time, and is being killed.
    TimedOut,
    /// It could not be started; in words.
    NotStarted(String),
    /// This machine ran out of something that a run needs; in words.
    NoResources(String),
}

/// One run, from the start until nothing is left of it. `conclude` is called once, and at the
/// deadline even if the end takes longer.
pub async fn run(
    program: &Program,
    surroundings: &Surroundings,
    deadline: Instant,
    conclude: impl FnOnce(End),
) {
    // A program on a file system that hangs keeps whoever starts it, so that is not the runtime.
    let copy = (program.clone(), surroundings.clone());
    let mut starting = tokio::task::spawn_blocking(move || Running::start(&copy.0, &copy.1));
    let started = match timeout_at(deadline, &mut starting).await {
        Ok(started) => started,
        Err(_elapsed) => {
            conclude(End::TimedOut);
            if let Ok(Ok(mut running)) = starting.await {
                running.end().await;
            }
            return;
        }
    };
    let mut running = match started {
        Ok(Ok(running)) => running,
        Ok(Err(end)) => return conclude(end),
        Err(panic) => return conclude(End::NotStarted(format!("cannot be started: {panic}"))),
    };
    match timeout_at(deadline, running.finished()).await {
        Ok(status) => {
            running.kill_group();
            let line = running.last_words().await;
            conclude(verdict(status, line));
        }
        Err(_elapsed) => {
            conclude(End::TimedOut);
            running.end().await;
        }
    }
}

fn verdict(status: io::Result<ExitStatus>, line: String) -> End {
    let status = match status {
        Ok(status) => status,
        Err(error) => return End::NotStarted(words(&error)),
    };
    match (status.code(), status.signal()) {
        (Some(status), _) => End::Exited { status, line },
        (None, Some(signal)) => End::Killed(signal),
        (None, None) => End::NotStarted(status.to_string()),
    }
}

/// All of the input at once: nobody waits for a program that does not read it.
fn stdin(input: &[u8]) -> io::Result<Stdio> {
    if input.is_empty() {
        return Ok(Stdio::null());
    }
    let memory = memfd_create("stdin", MemfdFlags::CLOEXEC)?;
    let mut file = fs::File::from(memory);
    file.write_all(input)?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

/// A started program; its process group dies with this value.
struct Running {
    child: Child,
    /// `None` once it has been killed: the number may belong to others from then on.
    group: Option<Pid>,
    output: Output,
}

impl Running {
    /// Blocks: it reads the user's entry and waits until the program is loaded.
    fn start(program: &Program, surroundings: &Surroundings) -> Result<Running, End> {
        let [path, arguments @ ..] = program.command.as_slice() else {
            return Err(End::NotStarted("the command is empty".to_owned()));
        };
        let user = User::named(&program.user).map_err(End::NotStarted)?;
        let mut command = Command::new(path);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(std::env::vars_os().filter(|(name, _)| {
                name == "PATH" || name.as_encoded_bytes().starts_with(b"VIPD_")
            }))
            .envs(surroundings.environment.iter().cloned())
            .current_dir("/")
            .stdin(stdin(&surroundings.input).map_err(|error| {
                End::NoResources(format!("no standard input: {}", words(&error)))
            })?)
            .stdout(if surroundings.first_line {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        // A daemon that is that user already may lack the capability to become it.
        if user.id != rustix::process::getuid().as_raw() {
            // For root, setting the user drops the supplementary groups too.
            command.gid(user.group).uid(user.id);
        }
        let mut child = command
            .spawn()
            .map_err(|error| not_started(path, &program.user, &error))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Running {
            output: Output::new(child.stdout.take()),
            child,
            group: group.and_then(Pid::from_raw),
        })
    }

    /// Waits for its end, and takes what it prints meanwhile.
    async fn finished(&mut self) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                () = self.output.more(), if self.output.is_open() => {}
            }
        }
    }

    async fn last_words(&mut self) -> String {
        let rest = async {
            while self.output.is_open() {
                self.output.more().await;
            }
        };
        let _elapsed = timeout(LAST_WORDS, rest).await;
        self.output.line()
    }

    /// Ends it: `SIGTERM` to the group, after a while `SIGKILL`.
    async fn end(&mut self) {
        if let Some(group) = self.group {
            let _gone = kill_process_group(group, Signal::TERM);
            let _elapsed = timeout(GRACE, self.gone(group)).await;
        }
        self.kill_group();
        // Not for the rest of the group: where nobody reaps orphans it never goes.
        let _status = self.child.wait().await;
    }

    async fn gone(&mut self, group: Pid) {
        let _status = self.finished().await;
        while test_kill_process_group(group).is_ok() {
            sleep(LOOK).await;
        }
    }

    /// The number of a group stays its own while anybody is in it, and is not given away in the
    /// moment between the end of the last one and this.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// What a program prints: the beginning is kept, all of it is read, so that it never waits for us.
struct Output {
    pipe: Option<ChildStdout>,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: Option<ChildStdout>) -> Output {
        Output {
            pipe,
            kept: Vec::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    async fn more(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 1024];
        let read = pipe.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            self.pipe = None;
        }
        let room = LINE_MAX.saturating_sub(self.kept.len());
        self.kept.extend(buffer.iter().take(read.min(room)));
    }

    /// Its first line, as it may be shown anywhere.
    fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let line = text.lines().next().unwrap_or_default();
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        line.chars()
            .map(plain)
            .collect::<String>()
            .trim()
            .to_owned()
    }
}

fn not_started(path: &str, user: &str, error: &io::Error) -> End {
    // fork(2), and execve(2) where the user has too many processes.
    let ours = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE];
    // Whether it is allowed depends on who does it.
    let who = if error.kind() == io::ErrorKind::PermissionDenied {
        format!(" as {user}")
    } else {
        String::new()
    };
    let why = if error.raw_os_error() == Some(libc::EPERM) {
        "this daemon may not run programs as another user (docs/security.md)".to_owned()
    } else {
        words(error)
    };
    let words = format!("cannot run {path}{who}: {why}");
    match error.raw_os_error() {
        Some(errno) if ours.contains(&errno) => End::NoResources(words),
        Some(_) | None => End::NotStarted(words),
    }
}

/// What the system says, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _number)) => words.to_owned(),
        None => text,
    }
}

/// An entry of `/etc/passwd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: u32,
    /// The number of its group.
    pub group: u32,
}

impl User {
    /// The user of that name.
    ///
    /// # Errors
    ///
    /// In words: there is none, or nobody can tell.
    pub fn named(name: &str) -> Result<User, String> {
        let entries =
            fs::read(USERS).map_err(|error| format!("cannot read {USERS}: {}", words(&error)))?;
        User::find(&String::from_utf8_lossy(&entries), name)
            .ok_or_else(|| format!("user {name} does not exist in {USERS}"))
    }

    /// The name of the user with that number, if it has one.
    #[must_use]
    pub fn name(id: u32) -> Option<String> {
        let entries = fs::read(USERS).ok()?;
        let entries = String::from_utf8_lossy(&entries);
        let mut names = entries.lines().filter_map(|entry| entry.split(':').next());
        names
            .find(|name| User::find(&entries, name).is_some_and(|user| user.id == id))
            .map(str::to_owned)
    }

    /// passwd(5): `name:password:UID:GID:...`
    fn find(entries: &str, name: &str) -> Option<User> {
        entries.lines().find_map(|entry| {
            let mut fields = entry.split(':');
            if fields.next()? != name {
                return None;
            }
            let id = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some(User { id, group })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_the_one_whose_whole_name_it_is() {
        let entries =
            "rooty:x:5:5::/:/bin/sh\nroot:x:0:7:root:/root:/bin/sh\nbroken:x:y:1\nshort\n";
        let found = |name| User::find(entries, name);
        assert_eq!(found("root"), Some(User { id: 0, group: 7 }));
        for name in ["roo", "x", "", "broken", "short"] {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn a_first_line_is_plain_and_short() {
        let line = |bytes: &[u8]| {
            let mut output = Output::new(None);
            output.kept.extend(bytes);
            output.line()
        };
        assert_eq!(line(b"  disk full \r\nmore"), "disk full");
        assert_eq!(line(b"a\x1b[31mb\xff"), "a [31mb\u{fffd}");
        assert_eq!(line(b""), "");
        assert_eq!(line(b"\nsecond"), "");
    }
}
