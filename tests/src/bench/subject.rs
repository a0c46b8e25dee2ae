//! A daemon under measurement: the same virtual routers for vipd and for keepalived.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::{Process, processor_time, resident_memory};
use crate::{binary, wait_for};

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Vipd,
    Keepalived,
}

/// Virtual routers of version 3 over IPv4, VRIDs from 1, the same number on each interface.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) interfaces: Vec<&'static str>,
    pub(super) routers: u32,
    pub(super) addresses: u32,
    pub(super) priority: u8,
    pub(super) interval: Duration,
}

/// A running daemon.
pub(super) struct Subject {
    pub(super) process: Process,
    pid_file: Option<PathBuf>,
    config: PathBuf,
    kind: Kind,
}

impl Setup {
    /// One router with one address on `eth0`.
    pub(super) fn one(priority: u8, interval: Duration) -> Setup {
        Setup {
            interfaces: vec!["eth0"],
            routers: 1,
            addresses: 1,
            priority,
            interval,
        }
    }

    /// The addresses of a router: 10.128.0.0/9 in order.
    fn addresses_of(&self, router: u32) -> impl Iterator<Item = String> {
        let first = 0x0a80_0001 + router * self.addresses;
        (first..first + self.addresses).map(|n| std::net::Ipv4Addr::from(n).to_string())
    }

    fn render(&self, kind: Kind, folder: &Path, name: &str) -> Result<String> {
        let mut text = String::new();
        if kind == Kind::Vipd {
            let socket = folder.join(format!("{name}.sock"));
            writeln!(text, "[global]\ncontrol_socket = {socket:?}")?;
        }
        let each = self.routers / u32::try_from(self.interfaces.len())?;
        for router in 0..self.routers {
            let interface = self.interfaces.get(usize::try_from(router / each)?);
            let interface = interface.context("more routers than the interfaces have")?;
            let vrid = router % each + 1;
            let addresses: Vec<String> = self.addresses_of(router).collect();
            // What does not fit in an advert is held all the same.
            match kind {
                Kind::Vipd => {
                    let list = addresses.iter().enumerate().map(|(n, address)| {
                        let advertise = n < 255;
                        format!("{{ address = \"{address}/32\", advertise = {advertise} }}")
                    });
                    let list: Vec<String> = list.collect();
                    writeln!(
                        text,
                        "[[vrrp]]\nname = \"r{router}\"\ninterface = \"{interface}\"\nvrid = {vrid}\n\
                         version = 3\npriority = {}\nadvert_interval = \"{}ms\"\n\
                         virtual_addresses = [{}]",
                        self.priority,
                        self.interval.as_millis(),
                        list.join(", ")
                    )?;
                }
                Kind::Keepalived => {
                    writeln!(
                        text,
                        "vrrp_instance r{router} {{\n version 3\n state BACKUP\n interface {interface}\n \
                         virtual_router_id {vrid}\n priority {}\n advert_int {}\n \
                         virtual_ipaddress {{\n{}\n}}\n}}",
                        self.priority,
                        self.interval.as_secs_f64(),
                        addresses.join("\n")
                    )?;
                }
            }
        }
        Ok(text)
    }
}

impl Subject {
    /// Starts it; returns at once.
    pub(super) fn start(host: &Host, kind: Kind, setup: &Setup) -> Result<Subject> {
        let name = format!("{}-{kind:?}", host.name());
        let config = host.folder().join(format!("{name}.conf"));
        fs::write(&config, setup.render(kind, host.folder(), &name)?)?;
        let file = config.display().to_string();
        let (process, pid_file) = match kind {
            Kind::Vipd => {
                let process = host.spawn("vipd", &binary("vipd")?, &["run", "-c", &file])?;
                (process, None)
            }
            Kind::Keepalived => {
                let pid = host.folder().join(format!("{name}.pid"));
                let child = host.folder().join(format!("{name}-vrrp.pid"));
                let _ = fs::remove_file(&child);
                let process = host.spawn(
                    "keepalived",
                    Path::new("/usr/sbin/keepalived"),
                    &[
                        "-n",
                        "-l",
                        "-P",
                        "-f",
                        &file,
                        "-p",
                        &pid.display().to_string(),
                        "-r",
                        &child.display().to_string(),
                    ],
                )?;
                (process, Some(child))
            }
        };
        Ok(Subject {
            process,
            pid_file,
            config,
            kind,
        })
    }

    /// Another configuration, by SIGHUP.
    pub(super) fn reload(&self, host: &Host, setup: &Setup) -> Result<()> {
        let name = format!("{}-{:?}", host.name(), self.kind);
        fs::write(&self.config, setup.render(self.kind, host.folder(), &name)?)?;
        self.process.signal("HUP")
    }

    /// The process that sends adverts.
    fn pid(&self) -> Result<u32> {
        match &self.pid_file {
            None => Ok(self.process.id()),
            Some(file) => wait_for(Duration::from_secs(10), "keepalived's child", || {
                Ok(fs::read_to_string(file)
                    .ok()
                    .and_then(|text| text.trim().parse().ok()))
            }),
        }
    }

    /// Processor time that it has used (all threads), as the scheduler counts it.
    pub(super) fn cpu(&self) -> Result<Duration> {
        processor_time(self.pid()?)
    }

    /// Resident memory in MiB.
    pub(super) fn memory(&self) -> Result<f64> {
        resident_memory(self.pid()?)
    }

    /// Stops it gracefully.
    pub(super) fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        self.process.wait(Duration::from_secs(60))?;
        Ok(())
    }
}
