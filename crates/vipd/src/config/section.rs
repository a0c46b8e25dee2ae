//! Reads the tables of a parsed file key by key and collects every problem on the way.
//!
//! A reader takes what it knows out of a [`Section`]; what is left at the end is unknown. Each getter
//! answers `None` where it has reported a problem, so that a reader goes on to the next key and only
//! at its end finds that the whole could not be built.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::Found;
use super::text::{self, Complaint};

/// Longest text, in bytes, that stands for a table in the paths of its keys.
const LABEL_MAX: usize = 64;

/// Where problems go.
#[derive(Debug, Default)]
pub(super) struct Sink {
    found: RefCell<Vec<Found>>,
    /// The text has syntax errors: what seems to be missing may only be what the parser skipped.
    partial: bool,
}

/// A table of the file, and which of its keys were asked for.
#[derive(Debug)]
pub(super) struct Section<'a> {
    sink: &'a Sink,
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

/// A value of the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    sink: &'a Sink,
    path: String,
    span: Range<usize>,
    raw: &'a DeValue<'a>,
}

/// Things that must be unique, and where each stood first.
#[derive(Debug)]
pub(super) struct Seen<K>(BTreeMap<K, Range<usize>>);

impl Sink {
    pub(super) fn new(partial: bool) -> Sink {
        Sink {
            found: RefCell::default(),
            partial,
        }
    }

    pub(super) fn add(&self, found: Found) {
        self.found.borrow_mut().push(found);
    }

    pub(super) fn into_found(self) -> Vec<Found> {
        self.found.into_inner()
    }
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(sink: &'a Sink, table: &'a DeTable<'a>) -> Section<'a> {
        Section {
            sink,
            path: String::new(),
            span: 0..0,
            table,
            known: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The value of a key, if the file has it.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let raw = self.table.get(key)?;
        Some(Value {
            sink: self.sink,
            path: joined(&self.path, key),
            span: raw.span(),
            raw: raw.get_ref(),
        })
    }

    /// A key that must be there.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(&value),
            None => {
                self.missing(key, format!("add `{key} = {example}`"));
                None
            }
        }
    }

    /// A key that has a default.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(&value),
            None => Some(default),
        }
    }

    /// A key that may be absent: `Some(None)`; `None` where it is wrong.
    pub(super) fn maybe<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(key) {
            Some(value) => read(&value).map(Some),
            None => Some(None),
        }
    }

    /// The tables of a list (`[[header]]`). Each is called by the text at `label`, if it has one.
    pub(super) fn sections(
        &mut self,
        key: &'static str,
        header: &str,
        label: &str,
    ) -> Vec<Section<'a>> {
        self.get(key)
            .and_then(|value| value.sections(header, label))
            .unwrap_or_default()
    }

    /// Every key and value, in the order of the file, for tables whose keys are the user's.
    pub(super) fn entries(self) -> Vec<(&'a str, Value<'a>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, raw)| {
                let value = Value {
                    sink: self.sink,
                    path: joined(&self.path, key.get_ref()),
                    span: raw.span(),
                    raw: raw.get_ref(),
                };
                (key.get_ref().as_ref(), value)
            })
            .collect();
        entries.sort_by_key(|(_, value)| value.span.start);
        entries
    }

    /// Whether the file has the key; does not count as asking for it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Keys that this version refuses although they have a meaning.
    pub(super) fn refuse(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.refused.push(key);
            if let Some((written, _)) = self.table.get_key_value(*key) {
                self.report_key(
                    written,
                    "not supported by this version",
                    format!("remove `{key}`"),
                );
            }
        }
    }

    /// Keys that mean nothing here because of what else the section says.
    pub(super) fn pointless(&mut self, keys: &[&'static str], message: &str, help: &str) {
        for key in keys {
            self.refused.push(key);
            if let Some((written, _)) = self.table.get_key_value(*key) {
                self.report_key(written, message, help.to_owned());
            }
        }
    }

    /// Reports that a key is missing.
    pub(super) fn missing(&self, key: &str, help: String) {
        if !self.sink.partial {
            self.sink.add(Found {
                span: self.span.clone(),
                key: joined(&self.path, key),
                message: "missing".to_owned(),
                help,
                also: None,
            });
        }
    }

    /// Reports every key that was never asked for.
    pub(super) fn finish(self) {
        for written in self.table.keys() {
            let key: &str = written.get_ref();
            if self.known.contains(&key) || self.refused.contains(&key) {
                continue;
            }
            let help = match text::closest(key, &self.known) {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("the keys here are {}", list(&self.known, '`')),
            };
            self.report_key(written, "unknown key", help);
        }
    }

    fn report_key(&self, key: &Spanned<std::borrow::Cow<'a, str>>, message: &str, help: String) {
        self.sink.add(Found {
            span: key.span(),
            key: joined(&self.path, key.get_ref()),
            message: message.to_owned(),
            help,
            also: None,
        });
    }
}

impl<'a> Value<'a> {
    /// Reports a problem of this value.
    pub(super) fn report(&self, message: impl Into<String>, help: impl Into<String>) {
        self.sink.add(self.found(message.into(), help.into()));
    }

    /// Reports that this value names something that is not in the file.
    pub(super) fn dangling(&self, message: impl Into<String>, help: impl Into<String>) {
        if !self.sink.partial {
            self.report(message, help);
        }
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.raw.as_str();
        if text.is_none() {
            self.wrong_type("a string", "write it in quotes: \"...\"");
        }
        text
    }

    /// A string with a meaning.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Complaint>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err(Complaint { message, help }) => {
                self.report(message, help);
                None
            }
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let boolean = self.raw.as_bool();
        if boolean.is_none() {
            self.wrong_type("a boolean", "write true or false, without quotes");
        }
        boolean
    }

    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let help = format!(
            "write a whole number from {} to {}, without quotes",
            range.start(),
            range.end()
        );
        let Some(written) = self.raw.as_integer() else {
            self.wrong_type("a whole number", help);
            return None;
        };
        let value = number(written).filter(|value| range.contains(value));
        if value.is_none() {
            self.report(format!("{written} is out of range"), help);
        }
        value
    }

    /// Whether the value is a whole number, for keys that take more than one type.
    pub(super) fn is_integer(&self) -> bool {
        self.raw.is_integer()
    }

    /// Whether the value is a table, for keys that take more than one type.
    pub(super) fn is_section(&self) -> bool {
        self.raw.is_table()
    }

    /// Whether the value is a list, for keys that take more than one type.
    pub(super) fn is_list(&self) -> bool {
        self.raw.is_array()
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let help = format!(
            "write {} to {}, such as \"250ms\", \"5s\" or \"1h30m\"",
            text::shown(*range.start()),
            text::shown(*range.end())
        );
        if let (DeValue::Integer(_) | DeValue::Float(_), Some(number)) = (self.raw, self.number()) {
            self.report(
                "a duration needs a unit",
                format!("write \"{number}s\" for seconds, \"{number}ms\" for milliseconds"),
            );
            return None;
        }
        let duration = self.parse(|text| text::duration(text, &help))?;
        if !range.contains(&duration) {
            self.report(format!("{} is out of range", text::shown(duration)), help);
            return None;
        }
        Some(duration)
    }

    /// One of some words; `refused` are words that this version does not support yet.
    pub(super) fn choice<T: Copy>(
        &self,
        words: &[(&'static str, T)],
        refused: &[&str],
    ) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let all = format!("write {}", alternatives(&words));
        if refused.contains(&text) {
            self.report(format!("{text:?} is not supported by this version"), all);
        } else if let Some(close) = text::closest(text, &words) {
            self.report(
                format!("{text:?} is not one of the values of this key"),
                format!("did you mean \"{close}\"?"),
            );
        } else {
            self.report(
                format!("{text:?} is not one of the values of this key"),
                all,
            );
        }
        None
    }

    /// A key that has only one value so far.
    pub(super) fn only<T: Copy + PartialEq>(
        &self,
        read: Option<T>,
        only: T,
        written: &str,
    ) -> Option<()> {
        let value = read?;
        if value != only {
            self.report(
                "not supported by this version",
                format!("write {written}, or leave the key out"),
            );
            return None;
        }
        Some(())
    }

    pub(super) fn list(&self) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.raw.as_array() else {
            self.wrong_type("a list", "write it in brackets: [...]");
            return None;
        };
        let item = |(index, raw): (usize, &'a Spanned<DeValue<'a>>)| Value {
            sink: self.sink,
            path: format!("{}[{index}]", self.path),
            span: raw.span(),
            raw: raw.get_ref(),
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.raw.as_table() else {
            let path = &self.path;
            let help = if self.raw.as_array().is_some_and(|a| !a.is_empty()) {
                format!("there is only one: write [{path}], or `{{ ... }}` in one line")
            } else {
                "write it in braces: { key = value, ... }".to_owned()
            };
            self.wrong_type("a table", help);
            return None;
        };
        Some(Section {
            sink: self.sink,
            path: self.path.clone(),
            span: self.span.clone(),
            table,
            known: Vec::new(),
            refused: Vec::new(),
        })
    }

    fn sections(&self, header: &str, label: &str) -> Option<Vec<Section<'a>>> {
        let Some(array) = self.raw.as_array() else {
            self.wrong_type(
                "a list of tables",
                format!("write each under a header of its own, [[{header}]]"),
            );
            return None;
        };
        let section = |(index, raw): (usize, &'a Spanned<DeValue<'a>>)| {
            let name = raw
                .get_ref()
                .as_table()
                .and_then(|table| table.get(label)?.get_ref().as_str())
                .filter(|name| name.len() <= LABEL_MAX);
            let value = Value {
                sink: self.sink,
                path: match name {
                    Some(name) => format!("{} {name:?}", self.path),
                    None => format!("{}[{index}]", self.path),
                },
                span: raw.span(),
                raw: raw.get_ref(),
            };
            value.section()
        };
        Some(array.iter().enumerate().filter_map(section).collect())
    }

    fn number(&self) -> Option<String> {
        let integer = self.raw.as_integer().map(ToString::to_string);
        integer.or_else(|| self.raw.as_float().map(ToString::to_string))
    }

    fn wrong_type(&self, wanted: &str, help: impl Into<String>) {
        self.report(
            format!("must be {wanted}, but is {}", type_name(self.raw)),
            help,
        );
    }

    fn found(&self, message: String, help: String) -> Found {
        Found {
            span: self.span.clone(),
            key: self.path.clone(),
            message,
            help,
            also: None,
        }
    }
}

impl<K: Ord> Seen<K> {
    pub(super) fn new() -> Seen<K> {
        Seen(BTreeMap::new())
    }

    /// Takes note of `key`, which `value` gives, and reports it if it was there before.
    pub(super) fn note(&mut self, key: K, value: &Value<'_>, message: &str, help: &str) {
        if let Some(first) = self.0.get(&key) {
            value.sink.add(Found {
                also: Some(first.clone()),
                ..value.found(message.to_owned(), help.to_owned())
            });
        } else {
            self.0.insert(key, value.span.clone());
        }
    }
}

/// `"a", "b" or "c"`.
pub(super) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("\"{only}\""),
        [most @ .., last] => format!("{} or \"{last}\"", list(most, '"')),
    }
}

fn list(words: &[&str], quote: char) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("{quote}{word}{quote}"))
        .collect();
    quoted.join(", ")
}

/// The path of a key inside a table; keys that TOML would quote are quoted.
fn joined(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if bare {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

fn number<T: TryFrom<i128>>(written: &DeInteger<'_>) -> Option<T> {
    let value = i128::from_str_radix(written.as_str(), written.radix()).ok()?;
    T::try_from(value).ok()
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(array)
            if array.iter().all(|item| item.get_ref().is_table()) && !array.is_empty() =>
        {
            "a list of tables"
        }
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
