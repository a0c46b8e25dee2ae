//! The daemon's program: what its commands do.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use vipd::cli::vipd::{Arguments, Command};
use vipd::config::{Config, LoadError};
use vipd::{daemon, log, release};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(file) => {
            log::init();
            daemon::run(&file.config)
        }
        Command::Check(file) => check(&file.config),
        Command::Release { config, ipvs } => release(&config.config, ipvs),
    }
}

fn check(path: &Path) -> ExitCode {
    let color = stdout().is_terminal();
    match Config::load(path) {
        Ok(config) => {
            for warning in config.warnings() {
                say(&format!("{}: warning: {warning}", path.display()));
            }
            let (routers, servers) = (config.vrrp.len(), config.virtual_servers.len());
            say(&format!(
                "{}: good: {routers} vrrp, {servers} virtual_server",
                path.display()
            ));
            ExitCode::SUCCESS
        }
        Err(LoadError::Invalid(problems)) => {
            say(problems.render(color).trim_end());
            ExitCode::from(1)
        }
        Err(error @ LoadError::Read { .. }) => {
            complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn release(path: &Path, ipvs: bool) -> ExitCode {
    // After a crash the file may be broken or gone, too: what vipd marked as its own goes anyway.
    let config = Config::load(path).or_else(|error| {
        complain(&error.to_string());
        complain("releasing only the addresses that carry vipd's mark");
        Config::parse("", "the defaults")
    });
    let config = match config {
        Ok(config) => config,
        Err(problems) => {
            complain(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    let released = daemon::privileged().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(release::release(&config, ipvs))
    });
    match released {
        Ok(done) => {
            for line in &done {
                say(line);
            }
            if done.is_empty() {
                say("nothing was left behind");
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. Whoever reads may have had enough (`| head`): that is no failure of ours.
fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn complain(text: &str) {
    eprintln!("vipd: {text}");
}
