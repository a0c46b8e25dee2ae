//! From a file, or a text, to a [`Config`].

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::problem::{Found, LineStarts};
use super::section::{Section, Sink};
use super::{
    Config, Global, Ipvs, Problem, Problems, Sysctl, VirtualServer, file, notify, secret, sync,
    sync_group, sysctl, track, track_script, virtual_router, virtual_server,
};

/// Largest file that is read, in bytes. A director of 40,000 real servers needs about a third of it.
const FILE_SIZE_MAX: u64 = 8 << 20;
/// How often lines that are not TOML are taken out before the rest counts as unreadable.
const RECOVERY_ROUNDS: usize = 8;

/// A file that nobody has changed for so long is written.
const WRITTEN_AFTER: Duration = Duration::from_millis(50);
/// How often that is waited for.
const WRITTEN_LOOKS: usize = 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read: it is absent, too large, not a regular file or not UTF-8.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file was read and is wrong.
    #[error(transparent)]
    Invalid(Problems),
}

impl Config {
    /// Reads a file of at most 8 MiB.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or with every problem in it.
    pub fn load(path: &Path) -> Result<Config, LoadError> {
        let source = Config::read_text(path)?;
        Config::parse(&source, &path.display().to_string()).map_err(LoadError::Invalid)
    }

    /// The same for who has lost the keys: systemd 252 gives credentials to no `ExecStopPost=`. Virtual
    /// routers whose `authentication` is all that is wrong are read without it; returned beside, by name.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_without_keys(path: &Path) -> Result<(Config, BTreeSet<String>), LoadError> {
        let source = Config::read_text(path)?;
        let problems = match Config::parse(&source, &path.display().to_string()) {
            Ok(config) => return Ok((config, BTreeSet::new())),
            Err(problems) => problems,
        };
        match without_keys(&source, &problems) {
            Some(found) => Ok(found),
            None => Err(LoadError::Invalid(problems)),
        }
    }

    /// The text of a file of at most 8 MiB, whatever is in it.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read_text(path: &Path) -> Result<String, LoadError> {
        read(path).map_err(|error| LoadError::Read {
            path: path.to_owned(),
            error,
        })
    }

    /// The text of a file and what it says, for a reload, which may come while somebody still writes the
    /// file in place: half of a file, or an empty one, may be valid, and would take everything away. What
    /// was read counts once nobody has changed the file for 50 ms; that is waited for a second, so that it
    /// blocks. `file_name` is what its problems call it.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is empty, or is wrong.
    pub fn load_written(path: &Path, file_name: &str) -> Result<(String, Config), LoadError> {
        let look = || {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.size(), file.modified().ok()?))
        };
        let (mut seen, mut text) = (look(), Config::read_text(path)?);
        let mut parsed = Config::parse(&text, file_name);
        for _ in 0..WRITTEN_LOOKS {
            let age = seen.map(|(_, _, changed)| changed.elapsed());
            // One from the future is not new: a clock was set.
            let young = age.and_then(|age| age.ok().filter(|age| *age < WRITTEN_AFTER));
            if let Some(age) = young {
                std::thread::sleep(WRITTEN_AFTER - age);
            }
            let now = look();
            if now == seen && young.is_none() {
                break;
            }
            // Also where it looks the same: two changes of one length within a tick of the clock do.
            let again = Config::read_text(path)?;
            if again != text {
                parsed = Config::parse(&again, file_name);
                text = again;
            }
            seen = now;
        }
        if text.is_empty() {
            return Err(LoadError::Read {
                path: path.to_owned(),
                error: io::Error::other("the file is empty"),
            });
        }
        Ok((text, parsed.map_err(LoadError::Invalid)?))
    }

    /// Reads a text; `file_name` is what its problems call it.
    ///
    /// # Errors
    ///
    /// With every problem in it.
    pub fn parse(source: &str, file_name: &str) -> Result<Config, Problems> {
        let (root, errors) = DeTable::parse_recoverable(source);
        if errors.is_empty() {
            let sink = Sink::new(false);
            let config = read_root(Section::root(&sink, root.get_ref()));
            let found = sink.into_found();
            return match config {
                Some(config) if found.is_empty() => Ok(config),
                Some(_) | None => {
                    let secrets = secret::parsed(source, root.get_ref());
                    Err(Problems::new(file_name, source, &secrets, found))
                }
            };
        }
        let mut found: Vec<Found> = errors.iter().map(syntax_error).collect();
        let mut secrets = secret::unparsed(source);
        if let Some(rest) = without_broken_lines(source) {
            let (root, _) = DeTable::parse_recoverable(&rest);
            let sink = Sink::new(true);
            read_root(Section::root(&sink, root.get_ref()));
            found.extend(sink.into_found());
            secrets.extend(secret::parsed(source, root.get_ref()));
        }
        Err(Problems::new(file_name, source, &secrets, found))
    }
}

/// A text whose only problems are those of `authentication`, without it where it has one.
fn without_keys(source: &str, problems: &Problems) -> Option<(Config, BTreeSet<String>)> {
    let (mut root, errors) = DeTable::parse_recoverable(source);
    let is_about = |problem: &Problem, name: &str| {
        let key = format!("vrrp {name:?}.authentication");
        problem.key.starts_with(&key)
    };
    let mut names = BTreeSet::new();
    if let DeValue::Array(routers) = root.get_mut().get_mut("vrrp")?.get_mut() {
        for router in routers.iter_mut() {
            let DeValue::Table(router) = router.get_mut() else {
                continue;
            };
            let name = router.get("name").and_then(|name| name.get_ref().as_str());
            let name = name.unwrap_or_default().to_owned();
            if problems.iter().any(|problem| is_about(problem, &name)) {
                router.remove("authentication");
                names.insert(name);
            }
        }
    }
    let sink = Sink::new(false);
    let config = read_root(Section::root(&sink, root.get_ref()))?;
    let good = errors.is_empty() && sink.into_found().is_empty();
    good.then_some((config, names))
}

/// Blanks out the lines that are not TOML, so that what is wrong with the others is found as well;
/// every other byte stays where it is. `None`: no sensible rest was found.
///
/// The parser's own recovery leaves out everything after some errors.
fn without_broken_lines(source: &str) -> Option<String> {
    let mut lines: Vec<Cow<'_, str>> = source.split_inclusive('\n').map(Cow::Borrowed).collect();
    for _ in 0..RECOVERY_ROUNDS {
        let text = lines.concat();
        let (_, errors) = DeTable::parse_recoverable(&text);
        if errors.is_empty() {
            return Some(text);
        }
        // An error at the end of the text belongs to its last line.
        let last = text.trim_end().len().saturating_sub(1);
        let starts = LineStarts::of(&text);
        let line_of = |error: &toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            starts.line(at.min(last))
        };
        let broken: BTreeSet<usize> = errors.iter().map(line_of).collect();
        let mut orphans = false;
        for (number, line) in (1..).zip(&mut lines) {
            let is_header = line.trim_start().starts_with('[');
            let is_broken = broken.contains(&number);
            // What follows a broken header would fall to the table before it.
            orphans = (orphans && !is_header) || (is_header && is_broken);
            if is_broken || orphans {
                *line = Cow::Owned(blank(line));
            }
        }
    }
    None
}

/// As many bytes of blanks; the end of the line stays.
fn blank(line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => " ".repeat(line.len()) + "\n",
        None => " ".repeat(line.len()),
    }
}

pub(super) fn read(path: &Path) -> io::Result<String> {
    String::from_utf8(file::read(path, FILE_SIZE_MAX)?).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        io::Error::other(format!("not UTF-8 text (byte {good})"))
    })
}

fn read_root(mut s: Section<'_>) -> Option<Config> {
    let global = s.or("global", Global::default(), |v| Global::read(v.section()?));
    let ipvs = s.or("ipvs", (Ipvs::default(), None), |v| {
        Ipvs::read(v.section()?)
    });
    let host = s.or("sysctl", Sysctl::default(), |v| Sysctl::read(v.section()?));
    let (script_names, server_names) = (s.names("track_script"), s.names("virtual_server"));
    let mut routers = virtual_router::Reader::new(track::Known {
        scripts: &script_names,
        virtual_servers: &server_names,
    });
    let vrrp: Vec<_> = s
        .sections("vrrp", "vrrp", "name")
        .into_iter()
        .map(|section| routers.read(section))
        .collect();
    let mut groups = sync_group::Reader::new(&routers);
    let sync_groups: Vec<_> = s
        .sections("sync_group", "sync_group", "name")
        .into_iter()
        .map(|section| groups.read(section))
        .collect();
    let mut scripts = track_script::Reader::new();
    let track_scripts: Vec<_> = s
        .sections("track_script", "track_script", "name")
        .into_iter()
        .map(|section| scripts.read(section))
        .collect();
    let mut servers = virtual_server::Reader::new(&routers.known);
    let virtual_servers: Vec<_> = s
        .sections("virtual_server", "virtual_server", "name")
        .into_iter()
        .map(|section| servers.read(section))
        .collect();
    let full_nat = virtual_servers
        .iter()
        .flatten()
        .any(VirtualServer::has_full_nat);
    let ipvs = ipvs.map(|(mut ipvs, conntrack_off)| {
        if full_nat {
            sysctl::full_nat(&mut ipvs, conntrack_off.as_ref());
        }
        ipvs
    });
    if ipvs.as_ref().is_some_and(|ipvs| ipvs.sync.is_some()) {
        sync::refuse_mixed_families(&mut s, &virtual_servers);
    }
    let mut notifies = notify::Reader::new();
    let notify: Vec<_> = s
        .sections("notify", "notify", "name")
        .into_iter()
        .map(|section| notifies.read(section))
        .collect();
    s.finish();
    Some(Config {
        global: global?,
        ipvs: ipvs?,
        sysctl: host?,
        vrrp: vrrp.into_iter().collect::<Option<_>>()?,
        sync_groups: sync_groups.into_iter().collect::<Option<_>>()?,
        track_scripts: track_scripts.into_iter().collect::<Option<_>>()?,
        virtual_servers: virtual_servers.into_iter().collect::<Option<_>>()?,
        notify: notify.into_iter().collect::<Option<_>>()?,
    })
}

fn syntax_error(error: &toml::de::Error) -> Found {
    let message = error.message();
    let help = if message.contains("duplicate key") {
        "a key or table can stand only once; several of a kind are written [[name]]"
    } else {
        "this is not TOML; strings are in double quotes, one `key = value` stands on each line"
    };
    Found {
        span: error.span().unwrap_or_default(),
        key: String::new(),
        message: message.to_owned(),
        help: help.to_owned(),
        also: None,
    }
}
