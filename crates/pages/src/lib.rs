//! Manual pages, shell completions and the configuration reference: text made of what the programs
//! parse by, so that it cannot say anything else. A crate of its own, because the daemon does not need it.

mod completion;
mod config_page;
mod manual;
mod reference;

pub use completion::{SHELLS, completion};
pub use config_page::config_page;
pub use manual::manual;
pub use reference::reference;

use clap::CommandFactory;

/// The programs: name, command line, and what the manual says beside it.
#[must_use]
pub fn programs() -> [clap::Command; 2] {
    [
        vipd::cli::vipd::Arguments::command()
            .name("vipd")
            .bin_name("vipd"),
        vipd::cli::vipctl::Arguments::command()
            .name("vipctl")
            .bin_name("vipctl"),
    ]
}
