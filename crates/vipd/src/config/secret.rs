//! Keeps keys and passwords out of what a person is shown of a file.
//!
//! A problem shows the line that it stands in, and a key may stand beside it. So every secret is
//! overwritten in the source before anything is shown, whichever value the problem is about. A secret
//! in the wrong place or under a misspelt key is one, too.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::text;

/// What a string begins with that is not a secret but names the file it is in.
pub(super) const FILE: &str = "file:";
/// What else stands in `authentication`.
const OPEN: [&str; 5] = ["type", "key_id", "id", "mode", "window"];
/// What a line contains that may be about a secret.
const WORDS: [&str; 5] = ["auth", "entication", "key", "pass", "secret"];

/// Where the secrets of a file stand that was parsed, and the comments behind them.
pub(super) fn parsed(source: &str, root: &DeTable<'_>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    in_table(root, false, &mut found);
    let comment = |secret: &Range<usize>| {
        let rest = source.get(secret.end..)?.lines().next()?;
        let begin = secret.end.saturating_add(rest.find('#')?).saturating_add(1);
        Some(begin..secret.end.saturating_add(rest.len()))
    };
    let comments: Vec<_> = found.iter().filter_map(comment).collect();
    found.extend(comments);
    found
}

fn in_table(table: &DeTable<'_>, inside: bool, found: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let key: &str = key.get_ref();
        let open = inside && OPEN.contains(&key);
        in_value(value, (inside || is_secret(key)) && !open, found);
    }
}

fn in_value(value: &Spanned<DeValue<'_>>, secret: bool, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, secret, found),
        DeValue::Array(array) => array.iter().for_each(|item| in_value(item, secret, found)),
        DeValue::String(text) => {
            // The quotes stay.
            let Range { start, end } = value.span();
            if secret && !text.starts_with("file:/") {
                found.push(start.saturating_add(1)..end.saturating_sub(1));
            }
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            if secret {
                found.push(value.span());
            }
        }
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("auth")
        || key.contains("pass")
        || key.contains("secret")
        || key
            .split(['_', '-'])
            .any(|word| word == "key" || word == "keys")
        || text::closest(&key, &["authentication", "key", "password", "secret"]).is_some()
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
