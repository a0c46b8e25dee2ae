//! The demo, the labs of `docs/labs/` and the interactive lab: builds, then runs `lab` of the tests
//! package, here or in the guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::guest::{Guest, Terminal, quote_one, workspace};
use crate::{provision, say};

/// `cargo xtask demo`.
pub(crate) fn demo(keep: bool) -> Result<u8> {
    run(if keep { "demo --keep" } else { "demo" })
}

/// `cargo xtask lab`: opens the interactive lab, or runs documents.
pub(crate) fn lab(names: &[String]) -> Result<u8> {
    if names.is_empty() {
        return run("open");
    }
    let mut command = "run".to_owned();
    for path in documents(names)? {
        if path.ends_with("tomcat.md") {
            provision::install()?;
            provision::tomcat()?;
        }
        command.push(' ');
        command.push_str(&quote_one(&path.to_string_lossy()));
    }
    run(&command)
}

/// The documents that are meant: `all` labs, one by its name, or any by its path.
fn documents(names: &[String]) -> Result<Vec<PathBuf>> {
    let labs = workspace().join("docs/labs");
    let mut known = Vec::new();
    for entry in fs::read_dir(&labs)? {
        let path = entry?.path();
        let is_lab = path.extension().is_some_and(|e| e == "md") && !path.ends_with("README.md");
        known.extend(is_lab.then_some(path));
    }
    known.sort();
    let stem = |path: &PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let mut found = Vec::new();
    for name in names {
        let by_path = Path::new(name);
        if name == "all" {
            found.extend(known.clone());
        } else if let Some(path) = known.iter().find(|path| stem(path).as_ref() == Some(name)) {
            found.push(path.clone());
        } else if by_path.extension().is_some() && by_path.is_file() {
            found.push(by_path.canonicalize()?);
        } else {
            let names: Vec<String> = known.iter().filter_map(stem).collect();
            bail!(
                "there is no lab `{name}`; there are all {}",
                names.join(" ")
            );
        }
    }
    Ok(found)
}

/// `cargo xtask bench`.
pub(crate) fn bench(names: &[String]) -> Result<u8> {
    provision::install()?;
    build(&["--release"])?;
    let here = std::env::current_exe()?;
    let target = here.parent().and_then(std::path::Path::parent);
    let lab = target.context("no target folder")?.join("release/lab");
    let mut bench = Command::new(lab);
    let status = bench
        .arg("bench")
        .args(names)
        .status()
        .context("the benchmark cannot be run")?;
    Ok(u8::from(!status.success()))
}

/// `cargo xtask pages`.
pub(crate) fn pages() -> Result<u8> {
    let mut run = Command::new("cargo");
    let status = run
        .args(["run", "--quiet", "--package", "pages"])
        .current_dir(workspace())
        .status()
        .context("cargo cannot be run")?;
    if status.success() {
        say("target/pages has the manual pages and the completions");
    }
    Ok(u8::from(!status.success()))
}

fn run(arguments: &str) -> Result<u8> {
    provision::install()?;
    build(&[])?;
    let command = format!(
        "{} {arguments}",
        quote_one(&built("lab")?.to_string_lossy())
    );
    if provision::running_kernel_has_ipvs() {
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(workspace());
        let status = shell.status().context("the lab cannot be run")?;
        return Ok(u8::from(!status.success()));
    }
    let guest = Guest::prepare()?;
    say("the running kernel has no IPVS: booting a guest (emulated, so 5 to 15 times slower)");
    guest.run(&command, Terminal::Inherit, None)
}

/// A built binary. It lies beside this one, wherever cargo was told to build.
fn built(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.with_file_name(name))
}

/// Builds the binaries that the lab drives.
pub(crate) fn build(options: &[&str]) -> Result<()> {
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
        .args(options)
        .current_dir(workspace())
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "the build failed");
    say(&format!("built in {} s", start.elapsed().as_secs()));
    Ok(())
}
