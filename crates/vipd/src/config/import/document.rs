//! TOML as a person writes it: tables in an order that is chosen, keys without quotes, short tables and
//! lists in a line.

use std::fmt::{self, Write};
use std::time::Duration;

/// A list that is longer has a line for each item.
const LINE_MAX: usize = 100;

/// A whole file.
#[derive(Debug, Default)]
pub(super) struct Document(Vec<Section>);

/// A table with a header.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Section {
    header: &'static str,
    comment: Option<String>,
    keys: Keys,
    within: Vec<Section>,
}

/// Keys and their values, in the order in which they are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Keys(Vec<(String, Item)>);

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Text(String),
    Number(i64),
    Boolean(bool),
    List(Vec<Item>),
    Table(Keys),
}

impl Document {
    pub(super) fn push(&mut self, section: Section) {
        if !section.keys.0.is_empty() || !section.within.is_empty() {
            self.0.push(section);
        }
    }
}

impl Section {
    /// `header` with its brackets.
    pub(super) fn new(header: &'static str) -> Section {
        Section {
            header,
            comment: None,
            keys: Keys::default(),
            within: Vec::new(),
        }
    }

    /// What a person must know who reads it.
    pub(super) fn comment(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.comment = Some(match self.comment.take() {
            Some(before) => format!("{before}\n{text}"),
            None => text,
        });
    }

    pub(super) fn set(&mut self, key: &str, item: impl Into<Item>) {
        self.keys.set(key, item);
    }

    /// Sets what differs from vipd's default.
    pub(super) fn set_unless<T: Into<Item> + PartialEq>(
        &mut self,
        key: &str,
        item: T,
        default: &T,
    ) {
        self.keys.set_unless(key, item, default);
    }

    pub(super) fn push(&mut self, section: Section) {
        self.within.push(section);
    }
}

impl Keys {
    /// The last one counts.
    pub(super) fn set(&mut self, key: &str, item: impl Into<Item>) {
        let item = item.into();
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = item,
            None => self.0.push((key.to_owned(), item)),
        }
    }

    /// Sets what is there.
    pub(super) fn maybe(&mut self, key: &str, item: Option<impl Into<Item>>) {
        if let Some(item) = item {
            self.set(key, item);
        }
    }

    /// Sets all of them.
    pub(super) fn extend(&mut self, other: &Keys) {
        for (key, item) in &other.0 {
            self.set(key, item.clone());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sets what differs from vipd's default.
    pub(super) fn set_unless<T: Into<Item> + PartialEq>(
        &mut self,
        key: &str,
        item: T,
        default: &T,
    ) {
        if item != *default {
            self.set(key, item);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }
}

impl Item {
    pub(super) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Item {
        Item::List(
            texts
                .into_iter()
                .map(|text| Item::Text(text.into()))
                .collect(),
        )
    }
}

impl From<&str> for Item {
    fn from(text: &str) -> Item {
        Item::Text(text.to_owned())
    }
}

impl From<String> for Item {
    fn from(text: String) -> Item {
        Item::Text(text)
    }
}

impl From<bool> for Item {
    fn from(value: bool) -> Item {
        Item::Boolean(value)
    }
}

impl From<u8> for Item {
    fn from(number: u8) -> Item {
        Item::Number(number.into())
    }
}

impl From<u16> for Item {
    fn from(number: u16) -> Item {
        Item::Number(number.into())
    }
}

impl From<u32> for Item {
    fn from(number: u32) -> Item {
        Item::Number(number.into())
    }
}

impl From<i32> for Item {
    fn from(number: i32) -> Item {
        Item::Number(number.into())
    }
}

impl From<Keys> for Item {
    fn from(keys: Keys) -> Item {
        Item::Table(keys)
    }
}

impl From<Duration> for Item {
    fn from(duration: Duration) -> Item {
        let (micros, seconds) = (duration.as_micros(), duration.as_secs());
        Item::Text(if duration.subsec_nanos() == 0 {
            match seconds {
                1..=3600 if seconds.is_multiple_of(60) && seconds != 3600 => {
                    format!("{}m", seconds / 60)
                }
                _ if seconds != 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
                _ => format!("{seconds}s"),
            }
        } else if micros.is_multiple_of(1000) {
            format!("{}ms", duration.as_millis())
        } else {
            format!("{micros}us")
        })
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, section) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char('\n')?;
            }
            section.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.comment.iter().flat_map(|comment| comment.lines()) {
            writeln!(f, "# {line}")?;
        }
        writeln!(f, "{}", self.header)?;
        for (key, item) in &self.keys.0 {
            let line = format!("{key} = {item}");
            match item {
                Item::List(items) if line.chars().count() > LINE_MAX => {
                    writeln!(f, "{key} = [")?;
                    for item in items {
                        writeln!(f, "  {item},")?;
                    }
                    writeln!(f, "]")?;
                }
                Item::List(_)
                | Item::Text(_)
                | Item::Number(_)
                | Item::Boolean(_)
                | Item::Table(_) => writeln!(f, "{line}")?,
            }
        }
        for section in &self.within {
            write!(f, "\n{section}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Text(text) => quoted(f, text),
            Item::Number(number) => number.fmt(f),
            Item::Boolean(value) => value.fmt(f),
            Item::List(items) => {
                f.write_char('[')?;
                for (number, item) in items.iter().enumerate() {
                    f.write_str(if number == 0 { "" } else { ", " })?;
                    item.fmt(f)?;
                }
                f.write_char(']')
            }
            Item::Table(keys) => {
                f.write_str("{ ")?;
                for (number, (key, item)) in keys.0.iter().enumerate() {
                    f.write_str(if number == 0 { "" } else { ", " })?;
                    if key
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                    {
                        write!(f, "{key} = {item}")?;
                    } else {
                        quoted(f, key)?;
                        write!(f, " = {item}")?;
                    }
                }
                f.write_str(" }")
            }
        }
    }
}

/// A basic string; where only backslashes and quotes would need escapes, a literal one.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let special = text.contains(['\\', '"']);
    if special && !text.contains(|c: char| c == '\'' || c.is_control()) {
        return write!(f, "'{text}'");
    }
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_is_it_is_read_back() {
        for text in ["plain", "a\\b", "it's", "\"'\\\u{1}\n", "", "é\u{7f}\u{85}"] {
            let line = format!("key = {}", Item::from(text));
            let read: toml::Table = toml::from_str(&line).unwrap();
            assert_eq!(read["key"].as_str(), Some(text), "{line}");
        }
    }

    #[test]
    fn durations_are_written_with_the_unit_that_a_person_takes() {
        let text = |micros| Item::from(Duration::from_micros(micros)).to_string();
        assert_eq!(text(0), "\"0s\"");
        assert_eq!(text(90_000_000), "\"90s\"");
        assert_eq!(text(60_000_000), "\"1m\"");
        assert_eq!(text(7_200_000_000), "\"2h\"");
        assert_eq!(text(1_500_000), "\"1500ms\"");
        assert_eq!(text(1_500), "\"1500us\"");
    }

    #[test]
    fn a_long_list_has_a_line_for_each_item() {
        let mut section = Section::new("[x]");
        section.set("short", Item::texts(["a"]));
        section.set("long", Item::texts(["a".repeat(60), "b".repeat(60)]));
        let text = section.to_string();
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(toml::from_str::<toml::Table>(&text).is_ok());
    }
}
