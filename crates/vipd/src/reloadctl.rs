//! What `vipctl` does about configurations: plan, reload, confirm, config, overrides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::control::client::{request, understand, url};
use crate::control::server::Done;
use crate::control::server::config::{Confirm, Planned, Proposal, Reload, Shown};
use crate::overrides::{Scope, View};
use crate::trial;

/// A little more than the daemon takes at most.
const TIMEOUT: Duration = Duration::from_secs(60);

/// `vipctl config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Shows what is in force as it was loaded, without secrets.
    Show {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows how a file differs from what is in force: the lines, then the plan. Exit code 0: it does
    /// not, 2: it does, 1: it cannot be told.
    Diff {
        /// The file; without it the daemon's own.
        file: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `vipctl overrides`
#[derive(Debug, clap::Args)]
pub struct Overrides {
    /// What to do with them.
    #[command(subcommand)]
    pub command: Option<OverridesCommand>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// `vipctl overrides reset`
#[derive(Debug, Subcommand)]
pub enum OverridesCommand {
    /// Takes back what was ordered: of all real servers, of those of a virtual server, or of one.
    /// Maintenance stays.
    Reset {
        /// The name of the virtual server.
        virtual_server: Option<String>,
        /// The address of the real server, with its port where it has several.
        real_server: Option<String>,
    },
}

/// How long a trial is, as `--confirm` takes it.
///
/// # Errors
///
/// It is no duration, or too short or too long.
pub fn confirm_duration(text: &str) -> Result<u64, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it with a unit, such as 60s or 5m"))?;
    if duration.subsec_nanos() != 0 || !trial::DURATION.contains(&duration) {
        return Err("it must be 1s to 24h, in whole seconds".to_owned());
    }
    Ok(duration.as_secs())
}

/// What a reload of a file would change; also whether that is anything.
///
/// # Errors
///
/// The file cannot be read or is not valid, with every problem; or there is no daemon.
pub async fn plan(
    socket: &Path,
    file: Option<&Path>,
    json: bool,
) -> Result<(String, bool), String> {
    let planned = propose(socket, file).await?;
    let changes = !planned.plan.is_empty();
    let text = match json {
        true => pretty(&planned)?,
        false => page(&planned),
    };
    Ok((text, changes))
}

/// `vipctl config`; also whether there is a difference.
///
/// # Errors
///
/// As [`plan`].
pub async fn config(socket: &Path, command: &ConfigCommand) -> Result<(String, bool), String> {
    match command {
        ConfigCommand::Show { json } => {
            let answer = request(socket, Method::GET, url(&["v1", "config"])?, None, TIMEOUT);
            let shown: Shown = understand(&answer.await?)?;
            let text = match json {
                true => pretty(&shown)?,
                false => shown.text,
            };
            Ok((text, false))
        }
        ConfigCommand::Diff { file, json } => {
            let planned = propose(socket, file.as_deref()).await?;
            let differs = !planned.plan.is_empty() || !planned.diff.is_empty();
            let text = match json {
                true => pretty(&planned)?,
                false => format!("{}{}", planned.diff, page(&planned)),
            };
            Ok((text, differs))
        }
    }
}

async fn propose(socket: &Path, file: Option<&Path>) -> Result<Planned, String> {
    let proposal = match file {
        // Read here: with the rights of whoever asks, on the host where that is typed.
        Some(file) => Proposal {
            name: Some(file.display().to_string()),
            text: Some(Config::read_text(file).map_err(|error| error.to_string())?),
        },
        None => Proposal::default(),
    };
    post(socket, &["v1", "plan"], &proposal).await
}

fn page(planned: &Planned) -> String {
    let mut text = planned.plan.page();
    for warning in &planned.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// Has the file put in force, on trial where seconds are given; returns what that changed.
///
/// # Errors
///
/// Why nothing has changed.
pub async fn reload(socket: &Path, confirm_seconds: Option<u64>) -> Result<String, String> {
    let done: Done = post(socket, &["v1", "reload"], &Reload { confirm_seconds }).await?;
    Ok(done.message)
}

/// Keeps what is on trial, or ends the trial.
///
/// # Errors
///
/// Nothing is on trial, or the disk is full.
pub async fn confirm(socket: &Path, back: bool) -> Result<String, String> {
    let done: Done = post(socket, &["v1", "confirm"], &Confirm { back }).await?;
    Ok(done.message)
}

/// What operators have ordered, or that it is taken back.
///
/// # Errors
///
/// There is no such server, or the disk is full.
pub async fn overrides(socket: &Path, wanted: &Overrides) -> Result<String, String> {
    if let Some(OverridesCommand::Reset {
        virtual_server,
        real_server,
    }) = &wanted.command
    {
        let scope = Scope {
            virtual_server: virtual_server.clone(),
            real_server: real_server.clone(),
        };
        let done: Done = post(socket, &["v1", "overrides", "reset"], &scope).await?;
        return Ok(done.message);
    }
    let url = url(&["v1", "overrides"])?;
    let view: View = understand(&request(socket, Method::GET, url, None, TIMEOUT).await?)?;
    match wanted.json {
        true => pretty(&view),
        false => Ok(view.page()),
    }
}

async fn post<T: DeserializeOwned>(
    socket: &Path,
    path: &[&str],
    body: &impl Serialize,
) -> Result<T, String> {
    let body = serde_json::to_string(body).map_err(|error| error.to_string())?;
    understand(&request(socket, Method::POST, url(path)?, Some(body), TIMEOUT).await?)
}

fn pretty(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}
