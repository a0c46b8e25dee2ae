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
/// What the name of a secret, or of its table, contains.
const WORDS: [&str; 5] = ["auth", "entication", "key", "pass", "secret"];

/// Where the secrets of a file stand that was parsed.
pub(super) fn parsed(root: &DeTable<'_>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    in_table(root, false, &mut found);
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
    WORDS.iter().any(|word| key.contains(word))
        || text::closest(&key, &["authentication", "keys"]).is_some()
}

/// Where secrets may stand in a file that is not TOML: from a line that speaks of one to the next
/// header, whatever is not the name of a key.
pub(super) fn unparsed(source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut at: usize = 0;
    for line in source.split_inclusive('\n') {
        let written = line.trim_start();
        let is_header = written.starts_with('[');
        let is_comment = written.starts_with('#');
        let speaks = !is_comment
            && WORDS
                .iter()
                .any(|word| line.to_ascii_lowercase().contains(word));
        inside = speaks || (inside && !is_header);
        let end = at.saturating_add(line.len());
        let value = match line.find('=') {
            Some(equals) => Some(equals.saturating_add(1)),
            None if is_header => None,
            None => Some(line.len().saturating_sub(written.len())),
        };
        if let Some(value) = value.filter(|_| inside) {
            found.push(at.saturating_add(value)..end);
        }
        at = end;
    }
    found
}

/// The source with an asterisk for every byte of its secrets; what else stands in it stays where it is.
pub(super) fn hide(source: &str, secrets: &[Range<usize>]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for secret in secrets {
        for byte in bytes.get_mut(secret.clone()).unwrap_or_default() {
            if !byte.is_ascii_whitespace() {
                *byte = b'*';
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
