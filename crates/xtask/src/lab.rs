//! The demo and the interactive lab: builds, then runs `lab` of the tests package, here or in the
//! guest.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::guest::{Guest, Terminal, workspace};
use crate::{provision, say};

/// `cargo xtask demo`.
pub(crate) fn demo(keep: bool) -> Result<bool> {
    run(if keep { "demo --keep" } else { "demo" })
}

/// `cargo xtask lab`.
pub(crate) fn open() -> Result<bool> {
    run("open")
}

fn run(arguments: &str) -> Result<bool> {
    provision::install()?;
    build()?;
    let command = format!("target/debug/lab {arguments}");
    if provision::running_kernel_has_ipvs() {
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(workspace());
        return Ok(shell.status().context("the lab cannot be run")?.success());
    }
    let guest = Guest::prepare()?;
    say("the running kernel has no IPVS: booting a guest (emulated, so 5 to 15 times slower)");
    guest.run(&command, Terminal::Inherit)
}

/// Builds the binaries that the lab drives.
pub(crate) fn build() -> Result<()> {
    say("building vipd, vipctl and the lab");
    let start = Instant::now();
    let mut build = Command::new("cargo");
    build.args([
        "build",
        "--quiet",
        "--package",
        "vipd",
        "--package",
        "vipd-tests",
        "--bins",
    ]);
    let status = build
        .current_dir(workspace())
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "the build failed");
    say(&format!("built in {} s", start.elapsed().as_secs()));
    Ok(())
}
