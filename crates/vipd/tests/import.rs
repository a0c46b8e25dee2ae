//! `vipd import`: what becomes of the files of other programs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "import/command.rs"]
mod command;
#[path = "import/documented.rs"]
mod documented;
#[path = "import/golden.rs"]
mod golden;
#[path = "import/ipvsadm.rs"]
mod ipvsadm;
#[path = "import/keepalived.rs"]
mod keepalived;
#[path = "import/ldirectord.rs"]
mod ldirectord;
#[path = "import/nonsense.rs"]
mod nonsense;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use vipd::config::Config;
use vipd::config::import::{Format, Host, Imported, import};

/// A host with these files, and no user of keepalived's own.
#[derive(Debug, Default)]
struct Desk(BTreeMap<PathBuf, String>);

impl Desk {
    fn with(files: &[(&str, &str)]) -> Desk {
        let files = files.iter();
        Desk(
            files
                .map(|(name, text)| (name.into(), (*text).to_owned()))
                .collect(),
        )
    }
}

impl Host for Desk {
    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let pattern = pattern.display().to_string();
        let (start, end) = pattern.split_once('*').unwrap_or((&pattern, ""));
        let fits = |path: &&PathBuf| {
            let path = path.display().to_string();
            path == pattern
                || (pattern.contains('*') && path.starts_with(start) && path.ends_with(end))
        };
        self.0.keys().filter(fits).cloned().collect()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = self.0.get(path).cloned();
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let known = ["true", "logger", "killall"].contains(&name);
        known.then(|| Path::new("/usr/bin").join(name))
    }

    fn has_user(&self, _: &str) -> bool {
        false
    }

    fn name(&self) -> String {
        "lb1.example.org".to_owned()
    }
}

fn of(format: Format, text: &str) -> Imported {
    import(format, "test.conf", text, None, &Desk::default())
}

/// What is said: `line: message`, problems with a `!`.
fn said(imported: &Imported) -> Vec<String> {
    let lists = [("", &imported.warnings), ("!", &imported.problems)];
    let all = lists.into_iter().flat_map(|(mark, list)| {
        list.iter().flat_map(move |of| {
            of.iter()
                .map(move |one| format!("{mark}{}: {}", one.line, one.message))
        })
    });
    all.collect()
}

/// The result as vipd reads it.
fn config(imported: &Imported) -> Config {
    match Config::parse(&imported.toml, "vipd.toml") {
        Ok(config) => config,
        Err(problems) => panic!("{problems}\n{}", imported.toml),
    }
}

/// The result, of which nothing is to be said.
#[track_caller]
fn clean(format: Format, text: &str) -> String {
    let imported = of(format, text);
    assert_eq!(said(&imported), [""; 0], "{}", imported.toml);
    config(&imported);
    imported.toml
}
