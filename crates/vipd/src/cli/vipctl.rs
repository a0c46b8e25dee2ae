//! The client's command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::ipvsctl::Ipvs;
use crate::reloadctl::{ConfigCommand, Overrides, confirm_duration};

/// Looks at a running vipd and gives it orders.
///
/// Exit code 0: done, 1: not done, the reason is on standard error. Only check and doctor have others.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// The daemon's control socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/vipd/control.sock"
    )]
    pub socket: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What vipctl does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows the whole director at a glance.
    Status {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what a reload would change, object by object: `!` breaks connections, `~` may move
    /// addresses. Exit code 0: nothing, 2: something, 1: the file is not valid, or no answer.
    Plan {
        /// The file; without it the daemon's own.
        file: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Puts the daemon's file in force, as SIGHUP does, and shows what that changed. A file that is
    /// not valid changes nothing.
    Reload {
        /// It goes back by itself after so long, also over a crash, unless `vipctl confirm` comes.
        #[arg(long, value_name = "DURATION", value_parser = confirm_duration)]
        confirm: Option<u64>,
    },
    /// Keeps the configuration that is on trial.
    Confirm {
        /// The former one instead, at once.
        #[arg(long)]
        back: bool,
    },
    /// Has another process of vipd take the daemon's place, as after the program was replaced: adverts,
    /// addresses and connections go on, and the file is not read again. Where it fails, nothing has changed.
    Upgrade {
        /// The program; without it the one that the daemon was started from, as it is by now.
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows the configuration in force, or how a file differs from it.
    Config {
        /// What of it.
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Shows what was ordered at run time and outlives reload and restart: drain, disable, weights,
    /// maintenance.
    Overrides(Overrides),
    /// Hands a virtual router over to its peer, and waits until the peer is master.
    Switchover {
        /// The virtual router.
        name: String,
    },
    /// Sends the whole connection table to the peer, and asks how many connections it holds.
    Sync,
    /// On: this director gives everything up, and takes nothing back until off, also after a
    /// restart.
    Maintenance {
        /// Which of the two.
        turn: Turn,
    },
    /// A real server gets no new connections; existing ones finish. Kept over a restart, until enable.
    Drain {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
        /// Returns when its last connection has ended; Ctrl-C ends the waiting, not the drain.
        #[arg(long)]
        wait: bool,
        /// Also where nobody would be left to serve.
        #[arg(long)]
        force: bool,
    },
    /// Takes a real server out of the pool at once; its connections break. Kept over a restart, until
    /// enable.
    Disable {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
        /// Returns when the kernel does not have it any more.
        #[arg(long)]
        wait: bool,
        /// Also where nobody would be left to serve.
        #[arg(long)]
        force: bool,
    },
    /// Ends drain and disable.
    Enable {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
        /// Returns when it gets new connections: its checks pass, and there is quorum.
        #[arg(long)]
        wait: bool,
    },
    /// Gives a real server another weight than the configuration, until that changes there.
    Weight {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
        /// The weight; 0: no new connections.
        #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(i32::MAX)))]
        #[arg(required_unless_present = "reset")]
        weight: Option<u32>,
        /// Back to the weight of the configuration.
        #[arg(long, conflicts_with = "weight")]
        reset: bool,
        /// Also where nobody would be left to serve.
        #[arg(long)]
        force: bool,
    },
    /// Runs checks once, now, and shows what each step of them took; their verdicts do not change.
    /// Exit code 0: all passed, 1: one failed, 2: there is no such server, or no answer.
    Check {
        /// The name of the virtual server.
        virtual_server: String,
        /// The address of a real server, with its port where it has several; without it all of them.
        real_server: Option<String>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what goes through the director, live; `q` quits.
    Top {
        /// One frame only, which is also what a pipe gets.
        #[arg(long)]
        once: bool,
    },
    /// What ipvsadm shows and saves, asked of the daemon.
    Ipvs {
        /// What of it.
        #[command(subcommand)]
        what: Ipvs,
    },
    /// Looks for what usually breaks an LVS cluster, and says how to mend it; it takes some seconds and
    /// changes nothing. Exit code 0: nothing found, 1: something, 2: could not look.
    Doctor {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// What a bug report needs.
    Debug {
        /// What of it.
        #[command(subcommand)]
        what: Debug,
    },
    /// Names of what runs, a line each, for shell completions.
    #[command(hide = true)]
    Complete {
        /// Names of what.
        what: Names,
        /// The virtual server of real servers.
        virtual_server: Option<String>,
    },
    /// Shows what happened, newest last.
    Events {
        /// Goes on with what happens next.
        #[arg(long, short)]
        follow: bool,
        /// Prints JSON, an object a line.
        #[arg(long)]
        json: bool,
        /// Only the last COUNT; without it all that vipd remembers, with --follow 10.
        #[arg(short = 'n', value_name = "COUNT")]
        count: Option<usize>,
    },
}

/// What a bug report needs.
#[derive(Debug, Subcommand)]
pub enum Debug {
    /// Prints status, metrics, events, the configuration without secrets, and what the kernel has, in one
    /// text.
    Dump {
        /// Writes it into a file that only its owner can read.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A real server of a virtual server.
#[derive(Debug, clap::Args)]
pub struct Whom {
    /// The name of the virtual server.
    pub virtual_server: String,
    /// The address of the real server, with its port where it has several.
    pub real_server: String,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Turn {
    /// Give everything up.
    On,
    /// Take part again.
    Off,
}

/// Whose names a shell asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Names {
    /// The virtual routers.
    Vrrp,
    /// The virtual servers.
    VirtualServers,
    /// The real servers of a virtual server.
    RealServers,
}
