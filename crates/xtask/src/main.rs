//! `cargo xtask`: sets a machine up and runs things. `cargo xtask --help` lists what.

mod dist;
mod guest;
mod lab;
mod packages;
mod provision;
mod stages;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets this machine up for vipd and runs the demo, the tests or the lab.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a pair of directors at work: takeover, failed servers, repairs, reload.
    Demo {
        /// Stays up afterwards with a shell in the client.
        #[arg(long)]
        keep: bool,
    },
    /// Runs every test; the last line is `N passed, N failed`.
    Test,
    /// Measures the advert path beside keepalived, in namespaces of this machine, with release builds.
    Bench {
        /// Which benchmarks; none: all.
        names: Vec<String>,
    },
    /// Writes the manual pages and the shell completions to target/pages.
    Pages,
    /// Builds a Debian package and an RPM in target/dist.
    Dist {
        /// Programs of the debug profile: quick to build, to try packages.
        #[arg(long)]
        debug: bool,
    },
    /// Installs, upgrades, removes and purges the Debian package in a Debian with systemd.
    Packages {
        /// With packages as they are released, which take some minutes to build.
        #[arg(long)]
        release: bool,
        /// In the guest, which has IPVS: takes some minutes.
        #[arg(long)]
        guest: bool,
    },
    /// Runs a lab of docs/labs as it is written; without a name opens the interactive lab (client, two
    /// directors, two real servers) with a shell in the client.
    Lab {
        /// `dr`, or `all`, or the path of any document with command blocks.
        names: Vec<String>,
    },
    /// Runs a command in a guest with IPVS, over this machine's files (changes are not kept) and ends
    /// with its exit status.
    Guest {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { keep } => lab::demo(keep),
        Command::Test => stages::run().map(|passed| u8::from(!passed)),
        Command::Bench { names } => lab::bench(&names),
        Command::Pages => lab::pages(),
        Command::Dist { debug } => dist::dist(if debug {
            dist::Build::Debug
        } else {
            dist::Build::Release
        }),
        Command::Packages { release, guest } => {
            let build = match release {
                true => dist::Build::Release,
                false => dist::Build::Debug,
            };
            let place = match guest {
                true => packages::Place::Guest,
                false => packages::Place::Here,
            };
            packages::trial(build, place)
        }
        Command::Lab { names } => lab::lab(&names),
        Command::Guest { command } => provision::install().and_then(|()| {
            let guest = guest::Guest::prepare()?;
            guest.run(&guest::quote(&command), guest::Terminal::Inherit, None)
        }),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what goes on, so that nobody watches a silent screen.
#[allow(clippy::print_stdout, reason = "the output of the command")]
fn say(text: &str) {
    use std::io::Write;
    println!("{text}");
    let _ = std::io::stdout().flush();
}
