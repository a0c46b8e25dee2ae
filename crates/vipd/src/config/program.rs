//! `command` and `user`: a program that is run at an interval, and who runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use health::program::User;

use super::section::Section;
use super::text;
use super::value::Value;
use crate::privileges;

const NO_SHELL: &str = "write the whole path of a program; it runs without a shell";

/// The user, who must exist.
pub(super) fn user(s: &mut Section<'_>) -> Option<String> {
    let written = s.get("user");
    let user = match &written {
        Some(v) => v.text()?.to_owned(),
        None => privileges::default_user(),
    };
    if !user.is_empty() && User::named(&user).is_ok() {
        return Some(user);
    }
    match written {
        Some(v) => v.report(
            format!("{user:?} is not a user of this host"),
            "write one that stands in /etc/passwd, such as \"nobody\"",
        ),
        None => s.missing(
            "user",
            format!("add `user = \"...\"`: /etc/passwd has no {user:?}"),
        ),
    }
    None
}

/// The program, by its whole path, and its arguments.
pub(super) fn command(v: &Value<'_>) -> Option<Vec<String>> {
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

/// Whoever may write the program decides what it does.
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
