//! The daemon's program: what its commands do.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read, Write, stderr, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use vipd::cli::realserver::Forwarding;
use vipd::cli::vipd::{Arguments, Command, RealServer};
use vipd::config::import::{self, Format, Imported, ThisHost};
use vipd::config::{
    Comparison, Config, Disagreement, Examined, LoadError, Problem, Problems, schema,
};
use vipd::doctor::{Daemon, Report};
use vipd::guard::watcher;
use vipd::realserver::{self, Action, Host, Outcome, Who};
use vipd::upgrade::predecessor::Predecessor;
use vipd::{daemon, doctor, log, privileges, release};

/// What is read of standard input, bytes: as much as of a file.
const INPUT_MAX: u64 = 8 << 20;

fn main() -> ExitCode {
    // Before anything else takes memory.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == watcher::COMMAND)
    {
        return watcher::run();
    }
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run { config, take_over } => {
            let before = take_over.then(Predecessor::open).transpose();
            let before = match before {
                Ok(before) => before,
                Err(why) => {
                    complain(&why);
                    return ExitCode::FAILURE;
                }
            };
            log::init(before.as_ref().map(Predecessor::log));
            daemon::run(&config.config, before)
        }
        Command::Check {
            config,
            peer,
            deny_warnings,
            json,
        } => check(&config.config, peer.as_deref(), deny_warnings, json),
        Command::Doctor { config, json } => match examine(&config.config) {
            Ok(report) => {
                if json {
                    say_json(&report);
                } else {
                    say(report.page().trim_end());
                }
                ExitCode::from(u8::from(!report.findings.is_empty()))
            }
            Err(why) => {
                complain(&why);
                ExitCode::from(2)
            }
        },
        Command::Import {
            format,
            file,
            id,
            json,
        } => match import(format, &file, id.as_deref()) {
            Ok(imported) => say_imported(&imported, json),
            Err(why) => {
                complain(&why);
                ExitCode::from(2)
            }
        },
        Command::Schema => {
            say_json(&schema::schema());
            ExitCode::SUCCESS
        }
        Command::Release {
            config,
            ipvs,
            after_guard,
        } => release(&config.config, ipvs, after_guard),
        Command::RealServer(arguments) => real_server(arguments),
        Command::Guard => watcher::run(),
    }
}

/// What `vipd check` prints with `--json`.
#[derive(Serialize)]
struct Checked<'c> {
    file: &'c str,
    good: bool,
    problems: Vec<&'c Problem>,
    warnings: Vec<&'c Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disagreements: Option<&'c [Disagreement]>,
}

fn check(path: &Path, peer: Option<&Path>, deny_warnings: bool, json: bool) -> ExitCode {
    let examined = match Examined::load(path) {
        Ok(examined) => examined,
        Err(error) => return broken(&error, json),
    };
    let peer = match peer.map(Examined::load).transpose() {
        Ok(peer) => peer,
        Err(error) => return broken(&error, json),
    };
    let color = stdout().is_terminal();
    let comparison = peer.as_ref().map(|peer| examined.compare(peer));
    let disagrees = comparison.as_ref().is_some_and(Comparison::disagrees);
    let warned =
        !examined.warnings.is_empty() || comparison.as_ref().is_some_and(|it| it.count > 0);
    let bad = disagrees || (deny_warnings && warned);
    let good = !bad;
    if json {
        say_json(&Checked {
            file: &path.display().to_string(),
            good,
            problems: Vec::new(),
            warnings: examined.warnings.iter().collect(),
            disagreements: comparison.as_ref().map(|it| &it.found[..]),
        });
    } else {
        if !examined.warnings.is_empty() {
            say(&format!("{}\n", examined.warnings.render(color)));
        }
        if let Some(comparison) = &comparison {
            say(&format!("{}\n", comparison.render(color)));
        }
        let config = &examined.config;
        let (routers, servers) = (config.vrrp.len(), config.virtual_servers.len());
        if good {
            say(&format!(
                "{}: good: {routers} vrrp, {servers} virtual_server",
                path.display()
            ));
        }
    }
    ExitCode::from(u8::from(bad))
}

/// What `vipd import` prints with `--json`.
#[derive(Serialize)]
struct Translated<'i> {
    toml: &'i str,
    good: bool,
    problems: Vec<InFile<'i>>,
    warnings: Vec<InFile<'i>>,
}

/// A problem of one of several files.
#[derive(Serialize)]
struct InFile<'i> {
    file: &'i str,
    #[serde(flatten)]
    problem: &'i Problem,
}

fn import(format: Format, file: &Path, id: Option<&str>) -> Result<Imported, String> {
    let (name, text) = if file == Path::new("-") {
        let mut text = String::new();
        let read = stdin().lock().take(INPUT_MAX).read_to_string(&mut text);
        read.map_err(|error| format!("standard input: {error}"))?;
        ("<stdin>".to_owned(), text)
    } else {
        let text = Config::read_text(file).map_err(|error| error.to_string())?;
        (file.display().to_string(), text)
    };
    Ok(import::import(format, &name, &text, id, &ThisHost))
}

fn say_imported(imported: &Imported, json: bool) -> ExitCode {
    let checked = imported.check();
    let problems: Vec<&Problems> = imported.problems.iter().chain(&checked).collect();
    let good = problems.is_empty();
    if json {
        say_json(&Translated {
            toml: &imported.toml,
            good,
            problems: in_files(problems),
            warnings: in_files(imported.warnings.iter().collect()),
        });
    } else {
        let color = stderr().is_terminal();
        for list in imported.warnings.iter().chain(problems) {
            eprintln!("{}\n", list.render(color));
        }
        say(imported.toml.trim_end());
    }
    ExitCode::from(u8::from(!good))
}

fn in_files(lists: Vec<&Problems>) -> Vec<InFile<'_>> {
    let all = lists.into_iter().flat_map(|list| {
        let file = list.file_name();
        list.iter().map(move |problem| InFile { file, problem })
    });
    all.collect()
}

fn examine(path: &Path) -> Result<Report, String> {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => return doctor::unusable(&error),
    };
    privileges::sufficient()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let daemon = Daemon::Behind(config.global.control_socket.clone());
    let report = runtime.block_on(doctor::examine(path, &config, &daemon));
    // A look that was given up may still wait for the kernel.
    runtime.shutdown_background();
    Ok(report)
}

fn broken(error: &LoadError, json: bool) -> ExitCode {
    match error {
        LoadError::Invalid(problems) => {
            if json {
                say_json(&Checked {
                    file: problems.file_name(),
                    good: false,
                    problems: problems.iter().collect(),
                    warnings: Vec::new(),
                    disagreements: None,
                });
            } else {
                say(problems.render(stdout().is_terminal()).trim_end());
            }
            ExitCode::from(1)
        }
        LoadError::Read { .. } => {
            complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn say_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => complain(&error.to_string()),
    }
}

fn release(path: &Path, ipvs: bool, after_guard: bool) -> ExitCode {
    // After a crash the file may be broken or gone, too: what vipd marked as its own goes anyway.
    let config = Config::load_without_keys(path).or_else(|error| {
        complain(&error.to_string());
        complain("releasing only the addresses that carry vipd's mark");
        Config::parse("", "the defaults").map(|config| (config, BTreeSet::new()))
    });
    let (config, mute) = match config {
        Ok(config) => config,
        Err(problems) => {
            complain(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    let released = privileges::sufficient().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(release::release(&config, &mute, ipvs, after_guard))
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

fn real_server(arguments: RealServer) -> ExitCode {
    let RealServer {
        config,
        vip,
        forwarding,
        tunnel,
        local,
        check,
        undo,
        watch,
        state_dir,
        json,
    } = arguments;
    let who = if vip.is_empty() {
        // What was set up goes whatever has become of the file since.
        let defaults = || Config::parse("", "the defaults").map_err(LoadError::Invalid);
        let loaded = match Config::load(&config) {
            Err(_) if undo && state_dir.is_some() => defaults(),
            Err(error) if undo => {
                complain(&error.to_string());
                defaults()
            }
            loaded => loaded,
        };
        match loaded {
            Ok(loaded) => Who::File {
                config: Box::new(loaded),
                name: config.display().to_string(),
            },
            Err(error) => {
                complain(&error.to_string());
                return ExitCode::from(2);
            }
        }
    } else {
        Who::Hand {
            virtual_addresses: vip,
            tunnel: (forwarding == Some(Forwarding::Tun)).then_some(tunnel),
            local,
        }
    };
    let action = match (check, undo) {
        (true, _) => Action::Check,
        (false, true) => Action::Undo,
        (false, false) => Action::Set,
    };
    let host = Host::new(who, state_dir);
    let allowed = match action {
        Action::Check => Ok(()),
        Action::Set | Action::Undo => privileges::sufficient_for_network(),
    };
    let done = allowed.and_then(|()| {
        // Checks may run programs, which need no rights.
        privileges::keep().map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        if watch {
            let told = |text: &str, outcome: Option<&Outcome>| match outcome {
                Some(outcome) if json => say_json_line(outcome),
                Some(_) | None if !json => say(text),
                Some(_) | None => {}
            };
            return runtime
                .block_on(realserver::watch(&host, told))
                .map(|()| true);
        }
        let outcome = runtime.block_on(host.act(action))?;
        if json {
            say_json(&outcome);
        } else {
            outcome.lines().iter().for_each(|line| say(line));
        }
        Ok(outcome.good)
    });
    match done {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

fn say_json_line(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => say(&text),
        Err(error) => complain(&error.to_string()),
    }
}

/// Prints a line. Whoever reads may have had enough (`| head`): that is no failure of ours.
fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

fn complain(text: &str) {
    eprintln!("vipd: {text}");
}
