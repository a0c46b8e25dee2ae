//! What the files of other programs say of the host that they are on.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use health::program::User;

use super::super::load;

/// More files than that one pattern does not stand for.
const MATCHES_MAX: usize = 1000;

/// What is asked for.
pub trait Host {
    /// The files that a pattern (`*`, `?`, `[a-z]`) stands for, in the order of their names.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf>;
    /// A text file.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The program that a shell would find by that name.
    fn program(&self, name: &str) -> Option<PathBuf>;
    /// Whether /etc/passwd has that user.
    fn has_user(&self, name: &str) -> bool;
    /// What this host calls itself.
    fn name(&self) -> String;
}

/// The host that this runs on.
#[derive(Debug, Clone, Copy)]
pub struct ThisHost;

impl Host for ThisHost {
    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let part = part.as_os_str().to_string_lossy().into_owned();
            if !part.contains(['*', '?', '[']) {
                for path in &mut found {
                    path.push(&part);
                }
                continue;
            }
            let mut next = Vec::new();
            for folder in found {
                let listed = if folder.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    &folder
                };
                let entries = fs::read_dir(listed).into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
                let mut names: Vec<String> = names
                    .filter(|name| !name.starts_with('.') || part.starts_with('.'))
                    .filter(|name| matches(&part, name))
                    .take(MATCHES_MAX)
                    .collect();
                names.sort();
                next.extend(names.into_iter().map(|name| folder.join(name)));
            }
            found = next;
        }
        found.retain(|path| path.exists());
        found.truncate(MATCHES_MAX);
        found
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        load::read(path)
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') {
            return None;
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
        folders.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        let programs = folders.into_iter().map(|folder| folder.join(name));
        programs
            .filter(|program| program.is_absolute())
            .find(|program| {
                fs::metadata(program)
                    .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
            })
    }

    fn has_user(&self, name: &str) -> bool {
        User::named(name).is_ok()
    }

    fn name(&self) -> String {
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().into_owned()
    }
}

/// Whether a name fits a pattern of the shell.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n): (&[char], &[char]) = (&pattern, &name);
    // Where to go on when what follows the last `*` does not fit here.
    let mut again: Option<(&[char], &[char])> = None;
    loop {
        let step = match (p.split_first(), n.split_first()) {
            (None, None) => return true,
            (Some(('*', rest)), _) => {
                again = Some((rest, n));
                p = rest;
                continue;
            }
            (Some((first, rest)), Some((c, after))) => {
                one(*first, rest, *c).map(|rest| (rest, after))
            }
            (None, Some(_)) | (Some(_), None) => None,
        };
        match (step, again) {
            (Some((rest, after)), _) => (p, n) = (rest, after),
            (None, Some((rest, from))) => {
                let Some((_, after)) = from.split_first() else {
                    return false;
                };
                again = Some((rest, after));
                (p, n) = (rest, after);
            }
            (None, None) => return false,
        }
    }
}

/// The rest of a pattern whose beginning fits a character.
fn one(first: char, rest: &[char], c: char) -> Option<&[char]> {
    match first {
        '?' => Some(rest),
        '[' => {
            let end = rest
                .iter()
                .skip(1)
                .position(|c| *c == ']')?
                .saturating_add(1);
            let (class, after) = rest.split_at_checked(end)?;
            let after = after.get(1..)?;
            let (negated, class) = match class.split_first() {
                Some(('!' | '^', class)) => (true, class),
                Some(_) | None => (false, class),
            };
            let ranges = class
                .windows(3)
                .any(|w| matches!(w, [low, '-', high] if (*low..=*high).contains(&c)));
            ((ranges || class.contains(&c)) != negated).then_some(after)
        }
        first => (first == c).then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("*a*b*", "xaxxbx", true),
            ("?[0-9].x", "a7.x", true),
            ("?[!0-9].x", "a7.x", false),
            ("[ab", "a", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn programs_are_found_where_a_shell_finds_them() {
        assert!(
            ThisHost
                .program("sh")
                .is_some_and(|path| path.is_absolute())
        );
        assert_eq!(ThisHost.program("no-such-program-here"), None);
        assert_eq!(ThisHost.program("../sh"), None);
    }
}
