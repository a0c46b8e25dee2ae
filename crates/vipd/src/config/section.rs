//! Reads the tables of a parsed file key by key and collects every problem on the way.
//!
//! A reader takes what it knows out of a [`Section`]; what is left at the end is unknown. Each getter
//! answers `None` where it has reported a problem, so that a reader goes on to the next key and only
//! at its end finds that the whole could not be built.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::place::Place;
use super::problem::Found;
use super::value::Value;
use super::{keys, suggest};

/// Where problems go.
#[derive(Debug, Default)]
pub(super) struct Sink {
    found: RefCell<Vec<Found>>,
    /// The text has syntax errors: what seems to be missing may only be what the parser skipped.
    pub(super) partial: bool,
}

/// A table of the file, and which of its keys were asked for.
#[derive(Debug)]
pub(super) struct Section<'a> {
    sink: &'a Sink,
    place: Rc<Place<'a>>,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
    /// Those of the known that the file has. Most tables have a few of many keys that they might have:
    /// after these nothing is looked up any more.
    found: Vec<&'static str>,
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
        Section::new(sink, Place::Root, 0..0, table)
    }

    /// A table that stands at `span`.
    pub(super) fn new(
        sink: &'a Sink,
        place: Place<'a>,
        span: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Section<'a> {
        Section {
            sink,
            place: Rc::new(place),
            span,
            table,
            // More keys than most tables have: of many small ones it is never grown.
            known: Vec::with_capacity(16),
            refused: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The value of a key, if the file has it.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let again = self.found.contains(&key);
        if self.found.len() == self.table.len() && !again {
            return None;
        }
        let raw = self.table.get(key)?;
        if !again {
            self.found.push(key);
        }
        Some(Value::new(self.sink, Place::key(&self.place, key), raw))
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

    /// The names of the tables of a list, as far as they can be read; reports nothing, and does not
    /// count as asking.
    pub(super) fn names(&self, key: &str) -> Vec<String> {
        let tables = self.table.get(key).and_then(|raw| raw.get_ref().as_array());
        let name = |raw: &Spanned<DeValue<'_>>| {
            let name = raw.get_ref().as_table()?.get("name")?.get_ref().as_str()?;
            Some(name.to_owned())
        };
        tables.into_iter().flatten().filter_map(name).collect()
    }

    /// Every key and value, in the order of the file, for tables whose keys are the user's.
    pub(super) fn entries(self) -> Vec<(&'a str, Value<'a>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, raw)| {
                let value = Value::new(self.sink, Place::key(&self.place, key.get_ref()), raw);
                (key.get_ref().as_ref(), value)
            })
            .collect();
        entries.sort_by_key(|(_, value)| value.span().start);
        entries
    }

    /// Whether the file has the key; does not count as asking for it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
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
                key: Place::key(&self.place, key).to_string(),
                message: "missing".to_owned(),
                help,
                also: None,
            });
        }
    }

    /// The keys of the file that nobody has asked for yet.
    pub(super) fn unasked(&self) -> Vec<&'a str> {
        let keys = self.table.keys().map(|written| written.get_ref().as_ref());
        keys.filter(|key| !self.known.contains(key) && !self.refused.contains(key))
            .collect()
    }

    /// Reports every key that was never asked for.
    pub(super) fn finish(self) {
        debug_assert_eq!(
            keys::disagreement(&self.place.to_string(), &self.known, &self.refused),
            None
        );
        if self.found.len() == self.table.len() {
            return;
        }
        for key in self.unasked() {
            let Some((written, _)) = self.table.get_key_value(key) else {
                continue;
            };
            let help = suggest::unknown_key(&self.place.to_string(), key, &self.known);
            self.report_key(written, "unknown key", help);
        }
    }

    fn report_key(&self, key: &Spanned<DeString<'a>>, message: &str, help: String) {
        self.sink.add(Found {
            span: key.span(),
            key: Place::key(&self.place, key.get_ref()).to_string(),
            message: message.to_owned(),
            help,
            also: None,
        });
    }
}

impl<K: Ord> Seen<K> {
    pub(super) fn new() -> Seen<K> {
        Seen(BTreeMap::new())
    }

    /// Takes note of `key`, which `value` gives, and reports it if it was there before.
    pub(super) fn note(
        &mut self,
        key: K,
        value: &Value<'_>,
        message: impl Display,
        help: impl Display,
    ) {
        if let Some(first) = self.0.get(&key) {
            value.repeats(first.clone(), message.to_string(), help.to_string());
        } else {
            self.0.insert(key, value.span());
        }
    }
}

/// `a`, `b`, `c`, each in quotes.
pub(super) fn list(words: &[&str], quote: char) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("{quote}{word}{quote}"))
        .collect();
    quoted.join(", ")
}
