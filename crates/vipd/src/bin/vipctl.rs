//! The client's command line.

use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand};
use vipd::control::client;
use vipd::status::render;

/// vipctl looks at a running vipd.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The daemon's control socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/run/vipd/control.sock"
    )]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the whole director at a glance.
    Status {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let answered = answer(&arguments);
    match answered {
        Ok(text) => {
            say(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("vipctl: {why}");
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: &Arguments) -> Result<String, String> {
    // The HTTP client wants a TLS provider even where it never speaks TLS.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    match arguments.command {
        Command::Status { json } => {
            let status = runtime.block_on(client::status(&arguments.socket))?;
            if json {
                return serde_json::to_string_pretty(&status).map_err(|error| error.to_string());
            }
            Ok(render(&status, SystemTime::now(), stdout().is_terminal()))
        }
    }
}

/// Prints a line. Whoever reads may have had enough (`| head`): that is no failure of ours.
fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}
