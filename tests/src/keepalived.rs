//! A stock keepalived on a host: the other router of the scenarios of interoperation.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::Process;

/// A running keepalived.
#[derive(Debug)]
pub struct Keepalived {
    process: Process,
}

impl Keepalived {
    /// Starts it with a configuration.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub fn start(host: &Host, config: &str) -> Result<Keepalived> {
        Keepalived::run(host, config, ["-P", "-r"])
    }

    /// Starts its part for IPVS alone.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub fn balance(host: &Host, config: &str) -> Result<Keepalived> {
        Keepalived::run(host, config, ["-C", "-c"])
    }

    /// With the option for one of its parts, and that for the pid file of it.
    fn run(host: &Host, config: &str, [part, pid_file]: [&str; 2]) -> Result<Keepalived> {
        let file = |suffix: &str| {
            let name = format!("{}-keepalived.{suffix}", host.name());
            host.folder().join(name).display().to_string()
        };
        fs::write(file("conf"), config)?;
        let (conf, parent, child) = (file("conf"), file("pid"), file("child.pid"));
        // In the foreground, in detail to standard error.
        let arguments = [
            "-n", "-l", "-D", part, "-f", &conf, "-p", &parent, pid_file, &child,
        ];
        let process = host.spawn("keepalived", Path::new("/usr/sbin/keepalived"), &arguments)?;
        Ok(Keepalived { process })
    }

    /// Stops it gracefully: it gives up what it has, and says so to its peers.
    ///
    /// # Errors
    ///
    /// It goes on.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        self.process
            .wait(Duration::from_secs(20))
            .map(|_| ())
            .context("keepalived")
    }

    /// The state its log says it entered last: `MASTER`, `BACKUP` or `FAULT`.
    #[must_use]
    pub fn state(&self) -> Option<String> {
        let log = self.log();
        let (_, last) = log.rsplit_once("Entering ")?;
        Some(last.split_once(" STATE")?.0.to_owned())
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }
}
