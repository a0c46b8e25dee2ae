//! Programs whose output is looked at, with the rights and the limits that they need.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::Instant;

use crate::privileges;

/// Where programs are looked for beside `PATH`, which in a service often lacks these.
const DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// What a program prints; `None`: it is not installed. One that goes on is killed.
pub(super) async fn output(
    name: &str,
    arguments: &[&str],
    until: Instant,
) -> Result<Option<String>, String> {
    let Some(program) = find(name) else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = privileges::lend(|| command.spawn()).map_err(|error| format!("{name}: {error}"))?;
    let output = match tokio::time::timeout_at(until, child.wait_with_output()).await {
        Ok(output) => output.map_err(|error| format!("{name}: {error}"))?,
        Err(_) => return Err(format!("{name} did not end in time")),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or_default();
        return Err(format!("{name}: {}: {line}", output.status));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = DIRECTORIES.iter().map(PathBuf::from);
    directories
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|program| Path::is_file(program))
}
