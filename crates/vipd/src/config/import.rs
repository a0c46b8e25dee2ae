//! `vipd import`: the file of another program as `vipd.toml`, and everything in it that has no equivalent.
//!
//! Text goes in, and text and problems come out; what a file says of its host (other files, users, programs)
//! is asked for through [`Host`]. What cannot be translated is a problem with its place; what is left out
//! because vipd does the same without it is a warning. Nothing is left out without one of the two.
//! Defaults that differ are written out, so that the result behaves as before.

mod document;
mod host;
mod ipvsadm;
mod keepalived;
mod ldirectord;
mod name;
mod notes;
mod server;

use super::{Config, Problems};
use notes::Notes;

pub use host::{Host, ThisHost};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// keepalived.conf, with all that it includes.
    Keepalived,
    /// What `ipvsadm -S -n` prints.
    Ipvsadm,
    /// ldirectord.cf
    Ldirectord,
}

/// What became of a file.
#[derive(Debug)]
pub struct Imported {
    /// The same as `vipd.toml`, as far as there is an equivalent.
    pub toml: String,
    /// What has none, or cannot be read; for each file that was read.
    pub problems: Vec<Problems>,
    /// What is left out and changes nothing; likewise.
    pub warnings: Vec<Problems>,
}

/// Translates a text. `name` is what problems call it, and where relative names in it begin; `id` is the
/// name that keepalived's conditional lines are for.
#[must_use]
pub fn import(
    format: Format,
    name: &str,
    text: &str,
    id: Option<&str>,
    host: &dyn Host,
) -> Imported {
    let mut notes = Notes::new(name, text);
    let document = match format {
        Format::Keepalived => keepalived::read(&mut notes, id, host),
        Format::Ipvsadm => ipvsadm::read(&mut notes, host),
        Format::Ldirectord => ldirectord::read(&mut notes, host),
    };
    let (problems, warnings) = notes.into_problems();
    Imported {
        toml: document.to_string(),
        problems,
        warnings,
    }
}

impl Imported {
    /// What `vipd check` finds wrong in the result on this host, such as a program that is not there.
    #[must_use]
    pub fn check(&self) -> Option<Problems> {
        Config::parse(&self.toml, "vipd.toml").err()
    }
}
