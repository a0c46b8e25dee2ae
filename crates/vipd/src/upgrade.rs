//! `vipctl upgrade`: another process takes this one's place, and nobody notices.
//!
//! The running daemon starts the new program with one end of a pair of sockets as its standard input. What
//! they say to each other, in this order:
//!
//! | old | new | what is so then |
//! |---|---|---|
//! | the sockets, `Greeting`, `Hello` | | the new one reads the configuration in force; nothing is touched |
//! | | `Prepared` | it is valid there, and the new one may do what a director does |
//! | `State` | | whatever the new one was told otherwise ends the attempt from here on (`director_loop/meanwhile.rs`) |
//! | | `Ready` | the new director knows everything, holds what the old one holds, and has its sockets |
//! | the virtual routers, from advert path to advert path (`vrrp_loop/handover.rs`) | | the new one is master |
//! | `Go` | | the old one leaves everything in the kernel as it is; the new one answers, and starts its guard |
//! | | `Guarded` | the old guard is dismissed, systemd is told of the new process |
//! | the end | | |
//!
//! Until the adverts have moved, whatever goes wrong is the end of the new process, and the old one goes
//! on as before. Whether they move is decided once: the advert path or the director seizes the moment,
//! and a director that has called it off cannot hear later that it came about. If the new one dies after that and before `Guarded`, the old one ends without a word to
//! its guard, which does what it does after every death.

pub(crate) mod fitness;
pub mod predecessor;
pub(crate) mod state;
pub(crate) mod successor;
mod wire;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use self::state::State;

/// What both must speak. It goes up with every change of what is said, or of what it means.
const PROTOCOL: u32 = 1;

/// The first word of the running daemon; it never changes its form.
#[derive(Serialize, Deserialize)]
struct Greeting {
    protocol: u32,
    version: String,
}

/// What the new one needs to get ready.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The configuration in force: the file may hold another one by now.
    pub(crate) text: String,
    /// Where it came from.
    pub(crate) path: PathBuf,
}

/// What the running daemon says.
#[derive(Serialize, Deserialize)]
enum FromOld {
    Hello(Hello),
    State(Box<State>),
    Go,
}

/// What the new one says.
#[derive(Serialize, Deserialize)]
enum FromNew {
    Prepared { version: String },
    Ready,
    Guarded,
    Failed(String),
}

/// What became of an upgrade, as `POST /v1/upgrade` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// In words.
    pub message: String,
    /// The version that runs.
    pub version: String,
    /// Its process.
    pub pid: u32,
}
