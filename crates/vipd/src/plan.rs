//! What putting another configuration in force would change, object by object, in plain words.
//!
//! A pure function of two configurations: [`compare`]. Every struct is taken apart field by field
//! (`let Vrrp { name, .. }` without the dots), so that a new key does not compile until somebody has
//! said what its change means. What is equal in every field and still differs is told of in general
//! words: two configurations that differ never have an empty plan.

mod checks;
mod director;
mod routers;
mod servers;
mod words;

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::config::Config;

use self::words::Notes;

/// Real servers that a line names before it only counts them.
const NAMED: usize = 3;

/// Everything that would change, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The changes; none: the two configurations are the same.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// Of what: `vrrp web`, `service http`, `global`.
    pub object: String,
    /// What it may lead to.
    pub risk: Risk,
    /// Which key; empty where it is about the whole object.
    pub key: String,
    /// Of which real servers; empty where it is not about any.
    pub of: Vec<String>,
    /// What becomes of it: `100 → 150`.
    pub change: String,
    /// What follows, where that is not plain.
    pub note: Option<String>,
}

/// What a change may lead to, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// No connection breaks, and no address moves.
    None,
    /// Addresses may move to another director, or come from there.
    MayMove,
    /// Connections break, or new ones are not answered for a while.
    Breaks,
    /// It has no effect before a restart.
    Restart,
}

/// What a reload from one configuration to the other changes.
#[must_use]
pub fn compare(old: &Config, new: &Config) -> Plan {
    let mut notes = Notes::default();
    let Config {
        global,
        ipvs,
        sysctl,
        vrrp: _,
        sync_groups,
        track_scripts,
        virtual_servers: _,
        notify,
    } = old;
    director::global(&mut notes, global, &new.global);
    director::ipvs(&mut notes, ipvs, &new.ipvs);
    director::sysctl(&mut notes, *sysctl, new.sysctl);
    routers::compare(&mut notes, old, new);
    director::sync_groups(&mut notes, sync_groups, &new.sync_groups);
    director::track_scripts(&mut notes, track_scripts, &new.track_scripts);
    servers::compare(&mut notes, old, new);
    director::notify(&mut notes, notify, &new.notify);
    let mut changes = notes.changes;
    if changes.is_empty() && old != new {
        changes.push(Change {
            object: "configuration".to_owned(),
            risk: Risk::None,
            key: String::new(),
            of: Vec::new(),
            change: "its tables stand in another order, or it differs in something without effect"
                .to_owned(),
            note: None,
        });
    }
    Plan { changes }
}

impl Plan {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The plan for a person, a change a line: `!` breaks something, `~` may move addresses.
    #[must_use]
    pub fn page(&self) -> String {
        if self.is_empty() {
            return "nothing would change\n".to_owned();
        }
        let mut text = String::new();
        for change in &self.changes {
            let _ = writeln!(text, "{} {}", change.risk.mark(), change.words());
        }
        let count = |risk| self.changes.iter().filter(|c| c.risk == risk).count();
        let (moves, breaks) = (count(Risk::MayMove), count(Risk::Breaks));
        let summary = match self.changes.len() {
            1 => "1 change".to_owned(),
            many => format!("{many} changes"),
        };
        text.push_str(&summary);
        if moves > 0 {
            let _ = write!(text, "; {moves} may move addresses (~)");
        }
        if breaks > 0 {
            let _ = write!(text, "; {breaks} may break connections (!)");
        }
        match count(Risk::Restart) {
            0 => text.push_str("; restarts nothing\n"),
            _ => text.push_str("; some need a restart (R)\n"),
        }
        text
    }
}

impl Risk {
    /// The character that marks it.
    #[must_use]
    pub fn mark(self) -> char {
        match self {
            Risk::None => ' ',
            Risk::MayMove => '~',
            Risk::Breaks => '!',
            Risk::Restart => 'R',
        }
    }
}

impl Change {
    /// As a person says it: `service http: weight of 10.0.0.21 1 → 5`.
    #[must_use]
    pub fn words(&self) -> String {
        let of = some_of(&self.of);
        let what = match (self.key.is_empty(), of.is_empty()) {
            (true, true) => self.change.clone(),
            (true, false) => format!("{of} {}", self.change),
            (false, true) => format!("{} {}", self.key, self.change),
            (false, false) => format!("{} of {of} {}", self.key, self.change),
        };
        let note = self
            .note
            .as_ref()
            .map_or(String::new(), |n| format!("; {n}"));
        format!("{}: {what}{note}", self.object)
    }
}

fn some_of(all: &[String]) -> String {
    if all.len() <= NAMED + 1 {
        return all.join(", ");
    }
    let (named, rest) = all.split_at(NAMED);
    format!("{} and {} more", named.join(", "), rest.len())
}
