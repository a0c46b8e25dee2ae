//! The client: what its commands do.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vipd::cli::vipctl::{Arguments, Command, Debug, Names, Turn, Whom};
use vipd::control::client;
use vipd::control::real_servers::Order;
use vipd::control::wait::{self, End};
use vipd::events::{self, Event};
use vipd::overrides::Change;
use vipd::reloadctl;
use vipd::status::{Look, Status, indented};
use vipd::top;
use vipd::upgrade::Upgraded;

/// A narrower terminal is treated as if it were that wide.
const WIDTH_MIN: usize = 60;
/// Events shown first with `--follow`, unless told otherwise.
const FOLLOW_FROM: usize = 10;
/// How often a follower looks for a daemon that is gone.
const RETRY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("vipctl: {why}");
            // 1 would say that a check failed, or that something was found.
            let unchecked = matches!(
                arguments.command,
                Command::Check { .. } | Command::Doctor { .. }
            );
            ExitCode::from(if unchecked { 2 } else { 1 })
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    // The HTTP client wants a TLS provider even where it never speaks TLS.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let socket = &arguments.socket;
    let text = match &arguments.command {
        Command::Status { json } => {
            if *json {
                indented(&runtime.block_on(client::status_json(socket))?)
            } else {
                runtime.block_on(client::status_page(socket, look()))?
            }
        }
        Command::Plan { file, json } => {
            let planned = reloadctl::plan(socket, file.as_deref(), *json);
            return runtime.block_on(planned).map(told);
        }
        Command::Reload { confirm } => runtime.block_on(reloadctl::reload(socket, *confirm))?,
        Command::Confirm { back } => runtime.block_on(reloadctl::confirm(socket, *back))?,
        Command::Upgrade { binary, json } => {
            let upgraded = runtime.block_on(client::upgrade(socket, binary.as_deref()))?;
            if *json {
                indented(&upgraded)
            } else {
                client::understand::<Upgraded>(&upgraded)?.message
            }
        }
        Command::Config { what } => {
            return runtime.block_on(reloadctl::config(socket, what)).map(told);
        }
        Command::Overrides(wanted) => runtime.block_on(reloadctl::overrides(socket, wanted))?,
        Command::Switchover { name } => runtime.block_on(client::switchover(socket, name))?,
        Command::Sync => runtime.block_on(client::send_connections(socket))?,
        Command::Maintenance { turn } => {
            runtime.block_on(client::maintenance(socket, *turn == Turn::On))?
        }
        Command::Drain { whom, wait, force } => {
            let end = wait.then_some(End::Drained);
            return runtime.block_on(order(socket, whom, Change::Drain, *force, end));
        }
        Command::Disable { whom, wait, force } => {
            let end = wait.then_some(End::Gone);
            return runtime.block_on(order(socket, whom, Change::Disable, *force, end));
        }
        Command::Enable { whom, wait } => {
            let end = wait.then_some(End::Serving);
            return runtime.block_on(order(socket, whom, Change::Enable, false, end));
        }
        Command::Weight {
            whom,
            weight,
            force,
            ..
        } => {
            let change = weight.map_or(Change::Reset, Change::Weight);
            return runtime.block_on(order(socket, whom, change, *force, None));
        }
        Command::Check {
            virtual_server,
            real_server,
            json,
        } => {
            let checked = client::check(socket, virtual_server, real_server.clone());
            let checked = runtime.block_on(checked)?;
            let text = if *json {
                serde_json::to_string_pretty(&checked).map_err(|error| error.to_string())?
            } else {
                checked.page()
            };
            let _ = writeln!(stdout(), "{}", text.trim_end());
            return Ok(ExitCode::from(u8::from(!checked.passed())));
        }
        Command::Top { once } => {
            runtime.block_on(top::run(socket, *once))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Ipvs { what } => {
            // As it is, to the last blank: that is how ipvsadm prints it.
            let text = runtime.block_on(what.run(socket))?;
            let _ = write!(stdout(), "{text}");
            return Ok(ExitCode::SUCCESS);
        }
        Command::Doctor { json } => {
            let report = runtime.block_on(client::doctor(socket))?;
            let text = if *json {
                serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?
            } else {
                report.page()
            };
            let _ = writeln!(stdout(), "{}", text.trim_end());
            return Ok(ExitCode::from(u8::from(!report.findings.is_empty())));
        }
        Command::Debug {
            what: Debug::Dump { output, json },
        } => {
            let bundle = runtime.block_on(client::debug(socket))?;
            let text = if *json {
                serde_json::to_string_pretty(&bundle).map_err(|error| error.to_string())?
            } else {
                bundle.text()
            };
            match output {
                Some(file) => {
                    save(file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
                    format!(
                        "written: {}; look through it before you send it",
                        file.display()
                    )
                }
                None => text,
            }
        }
        Command::Complete {
            what,
            virtual_server,
        } => {
            let status = runtime.block_on(client::status(socket))?;
            names(status, *what, virtual_server.as_deref()).join("\n")
        }
        Command::Events {
            follow,
            json,
            count,
        } => {
            let all = if *follow {
                FOLLOW_FROM
            } else {
                events::CAPACITY
            };
            let page = client::newest_events(socket, count.unwrap_or(all));
            let page = runtime.block_on(page)?;
            if print(&page.events, *json)? && *follow {
                runtime.block_on(follow_events(socket, page.last_id, *json))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    // Whoever reads may have had enough (`| head`): that is no failure of ours.
    let _ = writeln!(stdout(), "{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Prints what differs; exit code 2 says that something does.
fn told((text, differs): (String, bool)) -> ExitCode {
    let _ = writeln!(stdout(), "{}", text.trim_end());
    ExitCode::from(if differs { 2 } else { 0 })
}

/// A new file: what it says of a network is not for everybody on this host.
fn save(file: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut to = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    to.write_all(text.as_bytes())
}

/// The names that a shell may complete to.
fn names(status: Status, what: Names, virtual_server: Option<&str>) -> Vec<String> {
    let servers = status.virtual_servers.into_iter();
    match what {
        Names::Vrrp => status.vrrp.into_iter().map(|it| it.name).collect(),
        Names::VirtualServers => servers.map(|it| it.name).collect(),
        Names::RealServers => servers
            .filter(|it| Some(it.name.as_str()) == virtual_server)
            .flat_map(|it| it.real_servers)
            .map(|it| it.address)
            .collect(),
    }
}

/// Gives an order for a real server, and waits for its end if there is one to wait for.
async fn order(
    socket: &Path,
    whom: &Whom,
    change: Change,
    force: bool,
    end: Option<End>,
) -> Result<ExitCode, String> {
    let (server, real) = (&whom.virtual_server, &whom.real_server);
    let order = Order { change, force };
    let say = |words: &str| drop(writeln!(stdout(), "{words}"));
    say(&client::real_server(socket, server, real, order).await?);
    let Some(end) = end else {
        return Ok(ExitCode::SUCCESS);
    };
    wait::until(socket, server, real, end, &mut |words| say(words)).await?;
    say(&format!(
        "{server}/{real}: {}",
        match end {
            End::Drained => "no connections are left",
            End::Gone => "is out of the pool",
            End::Serving => "gets new connections",
        }
    ));
    Ok(ExitCode::SUCCESS)
}

/// Prints what happens until nobody reads any more. A daemon that is restarted is waited for.
async fn follow_events(socket: &Path, mut last: u64, json: bool) -> Result<(), String> {
    let mut gone = false;
    loop {
        match client::next_events(socket, last).await {
            Ok(page) => {
                gone = false;
                last = page.events.last().map_or(page.last_id, |event| event.id);
                if !print(&page.events, json)? {
                    return Ok(());
                }
            }
            Err(why) => {
                if !gone {
                    eprintln!("vipctl: {why}; waiting for it");
                }
                gone = true;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Prints events; `false`: nobody reads any more.
fn print(events: &[Event], json: bool) -> Result<bool, String> {
    let mut out = stdout().lock();
    for event in events {
        let line = if json {
            serde_json::to_string(event).map_err(|error| error.to_string())?
        } else {
            event.line()
        };
        if !written(writeln!(out, "{line}"))? {
            return Ok(false);
        }
    }
    written(out.flush())
}

fn written(result: io::Result<()>) -> Result<bool, String> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output: {error}")),
    }
}

/// Colours and width are for terminals only; `NO_COLOR` (no-color.org) takes the colours away.
fn look() -> Look {
    if !stdout().is_terminal() {
        return Look::default();
    }
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let columns = rustix::termios::tcgetwinsize(stdout()).map_or(0, |size| size.ws_col);
    // A terminal that does not tell its size is no reason to cut anything.
    let width = (columns > 0).then(|| usize::from(columns).max(WIDTH_MIN));
    Look {
        color: !unwanted,
        width,
    }
}
