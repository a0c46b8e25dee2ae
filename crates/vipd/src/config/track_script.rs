//! `[[track_script]]`: programs whose exit code is tracked.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::section::{Section, Seen};
use super::value::Value;
use super::{TrackScript, text};

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const COUNT: RangeInclusive<u32> = 1..=1000;
const USERS: &str = "/etc/passwd";
const DEFAULT_USER: &str = "nobody";
const NO_SHELL: &str = "write the whole path of a program; it runs without a shell";

/// Reads the scripts; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader {
    names: Seen<String>,
    /// The users of this host; `None`: they cannot be read.
    users: Option<String>,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader {
            names: Seen::new(),
            users: fs::read(USERS)
                .ok()
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    pub(super) fn read(&mut self, mut s: Section<'_>) -> Option<TrackScript> {
        let name = s.need("name", "\"...\"", |v| {
            let name = v.parse(text::name)?;
            self.names.note(
                name.clone(),
                v,
                "another script has this name",
                "give each its own",
            );
            Some(name)
        });
        let command = s.need(
            "command",
            "[\"/usr/bin/ping\", \"-c1\", \"192.168.1.1\"]",
            command,
        );
        let interval = s.or("interval", Duration::from_secs(1), |v| v.duration(INTERVAL));
        let timeout = match s.get("timeout") {
            Some(v) => v.timeout(INTERVAL, interval),
            None => interval,
        };
        let rise = s.or("rise", 1, |v| v.integer(COUNT));
        let fall = s.or("fall", 1, |v| v.integer(COUNT));
        let user = self.user(&mut s);
        s.finish();
        Some(TrackScript {
            name: name?,
            command: command?,
            interval: interval?,
            timeout: timeout?,
            rise: rise?,
            fall: fall?,
            user: user?,
        })
    }

    fn user(&self, s: &mut Section<'_>) -> Option<String> {
        let written = s.get("user");
        let user = match &written {
            Some(v) => v.text()?,
            None => DEFAULT_USER,
        };
        let exists = |user: &str| {
            let users = self.users.as_ref();
            users.is_some_and(|users| {
                users
                    .lines()
                    .any(|line| line.split(':').next() == Some(user))
            })
        };
        if !user.is_empty() && exists(user) {
            return Some(user.to_owned());
        }
        match written {
            Some(v) => v.report(
                format!("{user:?} is not a user of this host"),
                format!("write one that stands in {USERS}, such as \"{DEFAULT_USER}\""),
            ),
            None => s.missing(
                "user",
                format!("add `user = \"...\"`: {USERS} has no {DEFAULT_USER:?}"),
            ),
        }
        None
    }
}

/// The program, by its whole path, and its arguments.
fn command(v: &Value<'_>) -> Option<Vec<String>> {
    let list = v.list()?;
    let Some((first, arguments)) = list.split_first() else {
        v.report(
            "names no program",
            "write the program and its arguments, such as [\"/usr/bin/ping\", \"-c1\", \"192.168.1.1\"]",
        );
        return None;
    };
    let program = program(first);
    let arguments: Vec<_> = arguments.iter().map(|v| v.parse(text::argument)).collect();
    std::iter::once(program).chain(arguments).collect()
}

/// Whoever may write the program decides what it does, and the daemon is root.
fn program(v: &Value<'_>) -> Option<String> {
    let path = v.parse(text::path)?;
    let (message, help) = match fs::metadata(&path) {
        Err(error) => (format!("{}: {error}", path.display()), NO_SHELL.to_owned()),
        Ok(file) if !file.is_file() => (
            format!("{} is not a file", path.display()),
            NO_SHELL.to_owned(),
        ),
        Ok(file) => {
            let mode = file.permissions().mode();
            if mode & 0o022 != 0 {
                (
                    format!(
                        "others than its owner may write {} (mode {:04o})",
                        path.display(),
                        mode & 0o7777
                    ),
                    format!("run `chmod go-w {}`", path.display()),
                )
            } else if mode & 0o111 == 0 {
                (
                    format!("{} is not executable", path.display()),
                    format!("run `chmod +x {}`", path.display()),
                )
            } else {
                return v.text().map(str::to_owned);
            }
        }
    };
    v.report(message, help);
    None
}
