//! Keeps keys and passwords out of what a person is shown of a file.
//!
//! A problem shows the line that it stands in, and a key may stand beside it. So every secret is
//! overwritten in the source before anything is shown, whichever value the problem is about. A secret
//! in the wrong place or under a misspelt key is one, too. What leaves the host in a bug report
//! ([`Concealed`]) is hidden more broadly: what is only likely to be one, as well.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{load, text};

/// What a string begins with that is not a secret but names the file it is in.
pub(super) const FILE: &str = "file:";
/// What a string begins with that names a credential of the systemd unit.
pub(super) const CREDENTIAL: &str = "credential:";
/// What stands for a secret.
const HIDDEN: &str = "<hidden>";
/// What else stands in `authentication`.
const OPEN: [&str; 5] = ["type", "key_id", "id", "mode", "window"];
/// As short as a secret may be to be looked for in other texts, bytes.
const SHORTEST: usize = 4;
/// What is hidden whatever it is.
const HIDDEN_WHOLE: [&str; 2] = ["headers", "webhook"];
/// What a line contains that may be about a secret.
const WORDS: [&str; 7] = [
    "auth",
    "entication",
    "header",
    "key",
    "pass",
    "secret",
    "webhook",
];

/// Where the secrets of a file stand that was parsed, and the comments behind them.
pub(super) fn parsed(source: &str, root: &DeTable<'_>) -> Vec<Range<usize>> {
    let mut search = Search::default();
    search.table(root, false);
    let mut found = search.found;
    let comment = |secret: &Range<usize>| {
        let rest = source.get(secret.end..)?.lines().next()?;
        let begin = secret.end.saturating_add(rest.find('#')?).saturating_add(1);
        Some(begin..secret.end.saturating_add(rest.len()))
    };
    let comments: Vec<_> = found.iter().filter_map(comment).collect();
    found.extend(comments);
    found
}

/// Goes through a file for secrets.
#[derive(Default)]
struct Search<'t> {
    found: Vec<Range<usize>>,
    /// Which keys are of a secret: a large file has a few, thousands of times.
    keys: HashMap<&'t str, bool>,
}

impl<'t> Search<'t> {
    fn table(&mut self, table: &'t DeTable<'_>, inside: bool) {
        for (key, value) in table {
            let key: &str = key.get_ref();
            let open = inside && OPEN.contains(&key);
            let secret = inside || *self.keys.entry(key).or_insert_with(|| is_secret(key));
            self.value(value, secret && !open);
            // Tokens are in the URL, or in a header of any name.
            if HIDDEN_WHOLE.contains(&key) {
                self.hide_all(value);
            }
        }
    }

    fn hide_all(&mut self, value: &'t Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => table.values().for_each(|value| self.hide_all(value)),
            DeValue::Array(array) => array.iter().for_each(|item| self.hide_all(item)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => self.value(value, true),
        }
    }

    fn value(&mut self, value: &'t Spanned<DeValue<'_>>, secret: bool) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(table, secret),
            DeValue::Array(array) => array.iter().for_each(|item| self.value(item, secret)),
            DeValue::String(text) => {
                // The quotes stay.
                let Range { start, end } = value.span();
                if secret && !names_another(text) {
                    self.found
                        .push(start.saturating_add(1)..end.saturating_sub(1));
                }
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                if secret {
                    self.found.push(value.span());
                }
            }
        }
    }
}

/// Whether it is no secret but says where one is.
pub(super) fn names_another(text: &str) -> bool {
    let credential = text.strip_prefix(CREDENTIAL);
    text.starts_with("file:/") || credential.is_some_and(is_credential_name)
}

/// As long as no name is also the way to another folder.
pub(super) fn is_credential_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 64
        && name.chars().all(plain)
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("auth")
        || key.contains("pass")
        || key.contains("secret")
        || key.contains("token")
        || key.contains("cookie")
        || key
            .split(['_', '-'])
            .any(|word| word == "key" || word == "keys")
        || text::closest(
            &key,
            &["authentication", "key", "password", "secret", "webhook"],
        )
        .is_some()
}

/// The text with `<hidden>` instead of each of its secrets, and of what comments say of any.
#[must_use]
pub fn without_secrets(source: &str) -> String {
    let (root, errors) = DeTable::parse_recoverable(source);
    let mut found = parsed(source, root.get_ref());
    if !errors.is_empty() {
        found.extend(unparsed(source));
    }
    found.extend(commented(source));
    found.sort_by_key(|secret| (secret.start, secret.end));
    let mut text = String::with_capacity(source.len());
    let mut at = 0;
    for Range { start, end } in found {
        if end <= at {
            continue;
        }
        text.push_str(source.get(at..start).unwrap_or_default());
        // Two that overlap are one.
        if start >= at {
            text.push_str(HIDDEN);
        }
        at = end;
    }
    text.push_str(source.get(at..).unwrap_or_default());
    text
}

/// Comments that may be about a secret: what stands behind the first sign after its word, as in a
/// line that is switched off.
fn commented(source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at: usize = 0;
    for line in source.split_inclusive('\n') {
        let end = at.saturating_add(line.trim_end().len());
        let secret = line.find('#').and_then(|comment| {
            let text = line.get(comment..)?.to_ascii_lowercase();
            let word = WORDS.iter().filter_map(|word| text.find(word)).min()?;
            let sign = text.get(word..)?.find(['=', ':', '"', '\''])?;
            let start = at.saturating_add(comment).saturating_add(word);
            Some(start.saturating_add(sign).saturating_add(1)..end)
        });
        found.extend(secret.filter(|secret| secret.start < secret.end));
        at = at.saturating_add(line.len());
    }
    found
}

/// Where secrets may stand in a file that is not TOML: from a line that speaks of one to the next
/// header, whatever is not the name of a key.
pub(super) fn unparsed(source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut at: usize = 0;
    for line in source.split_inclusive('\n') {
        let written = line.trim_start();
        let is_header = is_header(written);
        // Not a key that is switched off: a string of more lines may have begun there.
        let is_comment = written.starts_with("# ");
        let speaks = !is_comment
            && WORDS
                .iter()
                .any(|word| line.to_ascii_lowercase().contains(word));
        inside = speaks || (inside && !is_header);
        let end = at.saturating_add(line.len());
        let shown = match line.split_once('=') {
            // What looks like a key is shown.
            Some((key, _)) if is_plain(key) => key.len().saturating_add(1),
            None if is_header => line.len(),
            Some(_) | None => 0,
        };
        if inside {
            found.push(at.saturating_add(shown)..end);
        }
        at = end;
    }
    found
}

/// A header of vipd's own tables; what else is in brackets may be a list of secrets.
fn is_header(line: &str) -> bool {
    let name = line.trim_start_matches('[').split(']').next();
    line.starts_with('[') && name.is_some_and(is_plain)
}

/// Whether it looks like one of vipd's keys and not like something random.
fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_lowercase() || c == '_' || c == '.' || c.is_whitespace())
}

/// The source with an asterisk for every byte of its secrets; what else stands in it stays where it is.
pub(super) fn hide(source: &str, secrets: &[Range<usize>]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for secret in secrets {
        for byte in bytes.get_mut(secret.clone()).unwrap_or_default() {
            if !matches!(byte, b'\n' | b'\r') {
                *byte = b'*';
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A file without its secrets, and what they are.
#[derive(Clone, PartialEq, Eq)]
pub struct Concealed {
    /// The text, with asterisks for what is or may be secret.
    pub source: String,
    secrets: Vec<String>,
}

impl Concealed {
    /// Reads a file, as a configuration is read.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(path: &Path) -> io::Result<Concealed> {
        load::read(path).map(|source| Concealed::of(&source))
    }

    /// Conceals a text.
    #[must_use]
    pub fn of(source: &str) -> Concealed {
        let (root, errors) = DeTable::parse_recoverable(source);
        let mut secret = parsed(source, root.get_ref());
        if !errors.is_empty() {
            secret.extend(unparsed(source));
        }
        let text = |range: &Range<usize>| source.get(range.clone()).map(str::to_owned);
        let mut secrets: Vec<String> = secret.iter().filter_map(text).collect();
        let mut search = Search::default();
        likely(root.get_ref(), &mut search, &mut secrets);
        secret.append(&mut search.found);
        // What is short stands for itself anywhere.
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Concealed {
            source: hide(source, &secret),
            secrets,
        }
    }

    /// Hides the file's secrets in another text.
    pub fn hide(&self, text: &mut String) {
        for secret in &self.secrets {
            if text.contains(secret) {
                *text = text.replace(secret, "***");
            }
        }
    }
}

/// What may be a secret though nothing says so: arguments of programs, what is sent to servers, the
/// query of a URL and who asks.
fn likely<'t>(table: &'t DeTable<'_>, search: &mut Search<'t>, secrets: &mut Vec<String>) {
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("command", DeValue::Array(words)) => {
                words.iter().skip(1).for_each(|word| search.hide_all(word));
            }
            ("send" | "expect", _) => search.hide_all(value),
            (_, DeValue::Array(items)) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                tables.for_each(|table| likely(table, search, secrets));
            }
            (_, DeValue::Table(table)) => likely(table, search, secrets),
            (_, DeValue::String(text)) => {
                if let Some((_, query)) = text.split_once('?') {
                    secrets.push(query.to_owned());
                    search.hide_all(value);
                }
            }
            (
                _,
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_),
            ) => {}
        }
    }
}
