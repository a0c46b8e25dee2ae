//! Writes every page below a directory: `man/vipd.8`, `completions/bash/vipd` and so on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

/// Writes the manual pages and the shell completions.
#[derive(Parser)]
struct Arguments {
    /// Where to.
    #[arg(default_value = "target/pages")]
    directory: PathBuf,
}

fn main() -> Result<()> {
    let Arguments { directory } = Arguments::parse();
    for program in pages::programs() {
        let name = program.get_name().to_owned();
        let page = pages::manual(&program)?;
        write(&directory.join("man").join(format!("{name}.8")), &page)?;
        for (shell, file) in pages::SHELLS {
            let path = directory
                .join("completions")
                .join(file.replace("NAME", &name));
            write(&path, &pages::completion(program.clone(), shell))?;
        }
    }
    write(&directory.join("man/vipd.toml.5"), &pages::config_page())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}
