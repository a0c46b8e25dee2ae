//! The daemon's command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::import::Format;

pub use super::realserver::RealServer;

/// A load-balancer director: VRRP, IPVS and health checks in one daemon.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What vipd does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon in the foreground. SIGHUP reloads the file, SIGTERM and SIGINT stop. Exit code
    /// 0: stopped as asked, 1: could not start, or a part of it died.
    Run {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// It takes the place of the daemon that runs it.
        #[arg(long, hide = true)]
        take_over: bool,
    },
    /// Checks a configuration and prints every problem, and warnings of what is hardly meant. Exit code
    /// 0: good (also with warnings), 1: problems, 2: unreadable.
    Check {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// The file of the other director: what must agree and does not is a problem.
        #[arg(long, value_name = "FILE")]
        peer: Option<PathBuf>,
        /// Warnings count as problems.
        #[arg(long)]
        deny_warnings: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Looks for what usually breaks an LVS cluster, and says how to mend it, also where no daemon runs;
    /// it takes some seconds and changes nothing. Exit code 0: nothing found, 1: something, 2: could
    /// not look.
    Doctor {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the file of another program as vipd.toml. What has no equivalent, and what is left out because
    /// it changes nothing, is told on standard error with its line. Exit code 0: all of it was translated,
    /// 1: something has no equivalent, is not valid there, or cannot be valid on this host, 2: unreadable.
    Import {
        /// Whose file it is.
        format: Format,
        /// The file; "-" is standard input.
        file: PathBuf,
        /// keepalived's config-id, for which its conditional lines (@ID) are; the host name without it.
        #[arg(long, value_name = "NAME")]
        id: Option<String>,
        /// Prints JSON: the result, and what is to be said of it.
        #[arg(long)]
        json: bool,
    },
    /// Prints the JSON Schema of the configuration, with which editors complete and check it.
    Schema,
    /// Removes the virtual addresses that a dead daemon left, and tells the peers. Exit code 0: nothing
    /// is left behind, 1: something may be (a vipd runs there, the kernel refused, a capability is
    /// missing); a configuration that is broken or gone is no failure.
    Release {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Removes the configured IPVS services, too.
        #[arg(long)]
        ipvs: bool,
        /// The guard of the dead daemon runs it.
        #[arg(long, hide = true)]
        after_guard: bool,
    },
    /// Makes this host a real server: virtual addresses on lo or on a tunnel device, and the settings that keep
    /// it from answering for them. Exit code 0: all is as it should be, 1: something differs (--check) or
    /// could not be done, 2: the configuration cannot be read.
    #[command(name = "realserver")]
    RealServer(RealServer),
    /// What the daemon runs beside itself.
    #[command(hide = true)]
    Guard,
}

/// Which file.
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/etc/vipd/vipd.toml"
    )]
    pub config: PathBuf,
}
