//! What operators have ordered of real servers at run time: draining, disabled, another weight.
//!
//! A value, and a file in `state_dir` that keeps it over restarts. An order holds for as long as the
//! configuration has the real server, a weight for as long as the configured one stays as it was when
//! the order came.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use ipvs::DestinationKey;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::director_status::real_server_name;

const FILE: &str = "real_servers.json";

/// What is ordered of every real server of which anything is, by virtual server and real server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, BTreeMap<DestinationKey, Override>>);

/// What is ordered of one real server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Override {
    /// Whether it is taken out.
    pub out: Option<Out>,
    /// Its weight.
    pub weight: Option<Weight>,
}

/// How a real server is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Out {
    /// Weight 0: no new connections, existing ones go on.
    Draining,
    /// Not in the pool.
    Disabled,
}

/// A weight ordered at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// The weight.
    pub ordered: u32,
    /// What the configuration said then.
    pub configured: u32,
}

/// An order. The names are those of the control API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// No new connections.
    Drain,
    /// Out of the pool.
    Disable,
    /// Neither any more.
    Enable,
    /// This weight instead of the configured one.
    Weight(u32),
    /// The configured weight.
    Reset,
}

/// Of which real servers orders are taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The virtual server; `None`: all of them.
    #[serde(default)]
    pub virtual_server: Option<String>,
    /// The real server, as `status` names it; `None`: all of them.
    #[serde(default)]
    pub real_server: Option<String>,
}

/// Everything that operators have ordered and that outlives reload and restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The director takes no part.
    pub maintenance: bool,
    /// The real servers of which something is ordered.
    pub real_servers: Vec<Ordered>,
}

/// What is ordered of a real server, for whoever looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// The virtual server.
    pub virtual_server: String,
    /// The real server.
    pub real_server: String,
    /// Whether it is taken out.
    pub state: Option<Out>,
    /// Its weight.
    pub weight: Option<u32>,
    /// The weight of the configuration that it stands for.
    pub configured_weight: Option<u32>,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    virtual_server: String,
    real_server: std::net::SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<Out>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configured_weight: Option<u32>,
}

impl Overrides {
    /// What is ordered of a real server.
    #[must_use]
    pub fn of(&self, server: &str, real: DestinationKey) -> Override {
        let found = self.0.get(server).and_then(|servers| servers.get(&real));
        found.copied().unwrap_or_default()
    }

    /// Whether nothing is ordered of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With an order for a real server that has that weight in the configuration.
    #[must_use]
    pub fn with(
        &self,
        server: &str,
        real: DestinationKey,
        configured: u32,
        change: Change,
    ) -> Overrides {
        let mut all = self.clone();
        let mut one = self.of(server, real);
        match change {
            Change::Drain => one.out = Some(Out::Draining),
            Change::Disable => one.out = Some(Out::Disabled),
            Change::Enable => one.out = None,
            Change::Weight(ordered) => {
                one.weight = Some(Weight {
                    ordered,
                    configured,
                });
            }
            Change::Reset => one.weight = None,
        }
        all.set(server, real, one);
        all
    }

    fn set(&mut self, server: &str, real: DestinationKey, one: Override) {
        let servers = self.0.entry(server.to_owned()).or_default();
        if one == Override::default() {
            servers.remove(&real);
        } else {
            servers.insert(real, one);
        }
        if servers.is_empty() {
            self.0.remove(server);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&str, DestinationKey, Override)> {
        self.0.iter().flat_map(|(name, servers)| {
            servers
                .iter()
                .map(move |(real, one)| (name.as_str(), *real, *one))
        })
    }

    /// Without the orders for some, and whose they were.
    #[must_use]
    pub fn without(&self, scope: &Scope) -> (Overrides, Vec<String>) {
        let Scope {
            virtual_server,
            real_server,
        } = scope;
        let (mut left, mut gone) = (Overrides::default(), Vec::new());
        for (name, real, one) in self.iter() {
            let address = real_server_name(real);
            let meant = virtual_server
                .as_deref()
                .is_none_or(|wanted| wanted == name)
                && real_server.as_ref().is_none_or(|wanted| *wanted == address);
            if meant {
                gone.push(format!("{name}/{address}"));
            } else {
                left.set(name, real, one);
            }
        }
        (left, gone)
    }

    /// All of it, for whoever looks.
    #[must_use]
    pub fn view(&self, maintenance: bool) -> View {
        let ordered = |(name, real, one): (&str, DestinationKey, Override)| Ordered {
            virtual_server: name.to_owned(),
            real_server: real_server_name(real),
            state: one.out,
            weight: one.weight.map(|weight| weight.ordered),
            configured_weight: one.weight.map(|weight| weight.configured),
        };
        View {
            maintenance,
            real_servers: self.iter().map(ordered).collect(),
        }
    }

    /// What of it still holds in that configuration; what does not, in words by object.
    #[must_use]
    pub fn under(&self, config: &Config) -> (Overrides, Vec<(String, String)>) {
        let mut kept = Overrides::default();
        let mut dropped = Vec::new();
        for (name, real, mut one) in self.iter() {
            let object = format!("{name}/{}", real_server_name(real));
            let configured = config
                .virtual_server(name)
                .and_then(|server| server.real_servers.iter().find(|known| known.key == real))
                .map(|known| known.destination.weight);
            let Some(configured) = configured else {
                let why = "not configured any more: what was ordered of it is forgotten";
                dropped.push((object, why.to_owned()));
                continue;
            };
            if let Some(weight) = one.weight.filter(|w| w.configured != configured) {
                let why = format!(
                    "weight {configured}: the configuration has changed it, {} was ordered",
                    weight.ordered
                );
                dropped.push((object, why));
                one.weight = None;
            }
            kept.set(name, real, one);
        }
        (kept, dropped)
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it; a file that is not there is no error.
    pub fn read(state_dir: &Path) -> Result<Overrides, String> {
        let file = path(state_dir);
        let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Overrides::default()),
            Err(error) => return Err(wrong(&error)),
        };
        let entries: Vec<Entry> = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let mut overrides = Overrides::default();
        for entry in entries {
            let weight = entry.weight.zip(entry.configured_weight);
            let one = Override {
                out: entry.state,
                weight: weight.map(|(ordered, configured)| Weight {
                    ordered: ordered.min(i32::MAX.unsigned_abs()),
                    configured,
                }),
            };
            let real = DestinationKey(entry.real_server);
            overrides.set(&entry.virtual_server, real, one);
        }
        Ok(overrides)
    }

    /// Writes the file. When it returns, a power cut does not undo it.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or written; then the file is as it was.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        let entry = |(name, real, one): (&str, DestinationKey, Override)| Entry {
            virtual_server: name.to_owned(),
            real_server: real.0,
            state: one.out,
            weight: one.weight.map(|weight| weight.ordered),
            configured_weight: one.weight.map(|weight| weight.configured),
        };
        let entries: Vec<Entry> = self.iter().map(entry).collect();
        let mut text = serde_json::to_string_pretty(&entries).map_err(io::Error::other)?;
        text.push('\n');
        fs::create_dir_all(state_dir)?;
        let new = state_dir.join(format!("{FILE}.new"));
        let mut writer = File::create(&new)?;
        writer.write_all(text.as_bytes())?;
        writer.sync_all()?;
        fs::rename(&new, path(state_dir))?;
        // The name is in the directory.
        File::open(state_dir)?.sync_all()
    }
}

impl View {
    /// For a person, a real server a line.
    #[must_use]
    pub fn page(&self) -> String {
        let mut lines = Vec::new();
        if self.maintenance {
            lines.push("maintenance is on (`vipctl maintenance off` ends it)".to_owned());
        }
        for ordered in &self.real_servers {
            let out = ordered.state.map(|out| match out {
                Out::Draining => "drains".to_owned(),
                Out::Disabled => "disabled".to_owned(),
            });
            let weight = ordered
                .weight
                .map(|weight| match ordered.configured_weight {
                    Some(configured) => format!("weight {weight} instead of {configured}"),
                    None => format!("weight {weight}"),
                });
            let words: Vec<String> = out.into_iter().chain(weight).collect();
            let (server, real) = (&ordered.virtual_server, &ordered.real_server);
            lines.push(format!("{server}/{real}: {}", words.join(", ")));
        }
        if lines.is_empty() {
            lines.push("nothing is ordered: everything is as the configuration says".to_owned());
        }
        lines.join("\n")
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

#[cfg(test)]
mod tests;
