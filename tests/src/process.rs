//! A program that runs in the lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{run, wait_for};

/// A running program; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The process that has taken its place.
    successor: Option<u32>,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Process> {
        let output = fs::File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .spawn()
            .with_context(|| format!("{command:?} cannot be run"))?;
        Ok(Process {
            child,
            successor: None,
            log,
        })
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The file with what it prints.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.successor.unwrap_or(self.child.id())
    }

    /// Another process, a child of it, takes its place; it ends.
    ///
    /// # Errors
    ///
    /// It goes on, or fails.
    pub(crate) fn succeeded_by(&mut self, successor: u32) -> Result<()> {
        if self.successor.is_none() {
            let status = self.wait(Duration::from_secs(20))?;
            anyhow::ensure!(status.success(), "it ended with {status}");
        }
        self.successor = Some(successor);
        Ok(())
    }

    /// Sends a signal by name: `TERM`, `HUP`, `KILL`, `STOP`.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.id().to_string();
        run(Command::new("kill").args([&format!("-{name}"), &id])).map(|_| ())
    }

    /// Waits for its end. How a successor ended nobody tells: that counts as success.
    ///
    /// # Errors
    ///
    /// It goes on.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait_for(patience, "the end of a program", || match self.successor {
            Some(id) => Ok((!is_alive(id)).then(ExitStatus::default)),
            None => Ok(self.child.try_wait()?),
        })
        .with_context(|| format!("it has printed:\n{}", self.output()))
    }

    /// Waits until it has printed a text.
    ///
    /// # Errors
    ///
    /// It has not.
    pub fn wait_for_output(&self, patience: Duration, text: &str) -> Result<()> {
        wait_for(patience, text, || {
            Ok(self.output().contains(text).then_some(()))
        })
        .with_context(|| format!("it has printed:\n{}", self.output()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(id) = self.successor.filter(|id| is_alive(*id)) {
            let _ = run(Command::new("kill").args(["-KILL", &id.to_string()]));
        }
    }
}

/// Whether a process runs; one that has ended and whose end nobody has asked for does not.
#[must_use]
pub fn is_alive(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Processor time that a process has used (all threads), as the scheduler counts it.
pub(crate) fn processor_time(id: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Resident memory of a process, MiB.
///
/// # Errors
///
/// There is no such process.
pub fn resident_memory(id: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.context("no VmRSS")?.trim().parse::<f64>()? / 1024.0)
}
