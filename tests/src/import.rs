//! `vipd import`, as an operator runs it.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::host::Host;
use crate::{binary, run};

/// A file of that format as vipd.toml.
///
/// # Errors
///
/// Something of it has no equivalent; with what vipd says.
pub fn import(host: &Host, format: &str, text: &str) -> Result<String> {
    let file = host
        .folder()
        .join(format!("{}-import.{format}", host.name()));
    fs::write(&file, text)?;
    run(Command::new(binary("vipd")?)
        .arg("import")
        .arg(format)
        .arg(&file))
}
