//! A value of the file: what type it has, what it may be, and what to say where it is wrong.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::place::Place;
use super::problem::Found;
use super::section::{self, Section, Sink};
use super::suggest;
use super::text::{self, Complaint};

/// Longest text, in bytes, that stands for a table in the paths of its keys.
const LABEL_MAX: usize = 64;
/// The shortest pause between what is sent again by itself.
const REFRESH_MIN: Duration = Duration::from_secs(1);

/// A value of the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    sink: &'a Sink,
    place: Place<'a>,
    span: Range<usize>,
    raw: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        sink: &'a Sink,
        place: Place<'a>,
        raw: &'a Spanned<DeValue<'a>>,
    ) -> Value<'a> {
        Value {
            sink,
            place,
            span: raw.span(),
            raw: raw.get_ref(),
        }
    }

    /// Where it stands, in bytes of the file.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Reports a problem of this value.
    pub(super) fn report(&self, message: impl Into<String>, help: impl Into<String>) {
        self.sink.add(self.found(message.into(), help.into()));
    }

    /// Reports that this value repeats what stands at `first`.
    pub(super) fn repeats(
        &self,
        first: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.sink.add(Found {
            also: Some(first),
            ..self.found(message.into(), help.into())
        });
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
        let help = || {
            let (least, most) = (range.start(), range.end());
            format!("write a whole number from {least} to {most}, without quotes")
        };
        let Some(written) = self.raw.as_integer() else {
            self.wrong_type("a whole number", help());
            return None;
        };
        let value = number(written).filter(|value| range.contains(value));
        if value.is_none() {
            self.report(format!("{written} is out of range"), help());
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
        let help = || {
            let (least, most) = (text::shown(*range.start()), text::shown(*range.end()));
            format!("write {least} to {most}, such as \"250ms\", \"5s\" or \"1h30m\"")
        };
        if let (DeValue::Integer(_) | DeValue::Float(_), Some(number)) = (self.raw, self.number()) {
            self.report(
                "a duration needs a unit",
                format!("write \"{number}s\" for seconds, \"{number}ms\" for milliseconds"),
            );
            return None;
        }
        let duration = self.parse(|text| text::duration(text, help))?;
        if !range.contains(&duration) {
            self.report(format!("{} is out of range", text::shown(duration)), help());
            return None;
        }
        Some(duration)
    }

    /// How often something is sent again by itself: never, or at most once a second.
    pub(super) fn refresh(&self, longest: Duration) -> Option<Duration> {
        let refresh = self.duration(Duration::ZERO..=longest)?;
        if !refresh.is_zero() && refresh < REFRESH_MIN {
            self.report(
                "more often than once a second is a flood",
                "write \"0s\" for never, or \"1s\" and more",
            );
            return None;
        }
        Some(refresh)
    }

    /// A duration that is over before the next `interval` begins.
    pub(super) fn timeout(
        &self,
        range: RangeInclusive<Duration>,
        interval: Option<Duration>,
    ) -> Option<Duration> {
        let timeout = self.duration(range)?;
        if let Some(interval) = interval
            && timeout > interval
        {
            let interval = text::shown(interval);
            self.report(
                format!("is longer than `interval`, {interval}"),
                format!("write \"{interval}\" or less, or a longer `interval`"),
            );
            return None;
        }
        Some(timeout)
    }

    /// The name of a `[[table]]` of the file; `remove` is what else may be done about a wrong one.
    pub(super) fn named(&self, known: &[String], table: &str, remove: &str) -> Option<String> {
        let name = self.text()?;
        if known.iter().any(|known| known == name) {
            return Some(name.to_owned());
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let help = match suggest::closest(name, &known) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("add a [[{table}]] with name = {name:?}, or remove {remove}"),
        };
        if !self.sink.partial {
            self.report(format!("no [[{table}]] has the name {name:?}"), help);
        }
        None
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
        } else if let Some(close) = suggest::value(&self.place.to_string(), text, &words) {
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

    /// Headers of an HTTP request.
    pub(super) fn headers(&self) -> Option<Vec<(String, String)>> {
        let read = self.section()?.entries().into_iter().map(|(name, value)| {
            let content = value.parse(text::header_value);
            let name = value.parse(|_| text::header_name(name));
            Some((name?, content?))
        });
        // Collected twice, so that a bad header does not hide the next.
        let read: Vec<Option<(String, String)>> = read.collect();
        read.into_iter().collect()
    }

    pub(super) fn list(&self) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.raw.as_array() else {
            self.wrong_type("a list", "write it in brackets: [...]");
            return None;
        };
        let place = Rc::new(self.place.clone());
        let item = |(index, raw)| Value::new(self.sink, Place::Item(Rc::clone(&place), index), raw);
        Some(array.iter().enumerate().map(item).collect())
    }

    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.raw.as_table() else {
            let place = &self.place;
            let help = if self.raw.as_array().is_some_and(|a| !a.is_empty()) {
                format!("there is only one: write [{place}], or `{{ ... }}` in one line")
            } else {
                "write it in braces: { key = value, ... }".to_owned()
            };
            self.wrong_type("a table", help);
            return None;
        };
        Some(Section::new(
            self.sink,
            self.place.clone(),
            self.span(),
            table,
        ))
    }

    /// The tables of a list; see [`Section::sections`].
    pub(super) fn sections(&self, header: &str, label: &str) -> Option<Vec<Section<'a>>> {
        let Some(array) = self.raw.as_array() else {
            self.wrong_type(
                "a list of tables",
                format!("write each under a header of its own, [[{header}]]"),
            );
            return None;
        };
        let place = Rc::new(self.place.clone());
        let section = |(index, raw): (usize, &'a Spanned<DeValue<'a>>)| {
            let name = raw
                .get_ref()
                .as_table()
                .and_then(|table| table.get(label)?.get_ref().as_str())
                .filter(|name| name.len() <= LABEL_MAX);
            let place = match name {
                Some(name) => Place::Named(Rc::clone(&place), name),
                None => Place::Item(Rc::clone(&place), index),
            };
            Value::new(self.sink, place, raw).section()
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
            key: self.place.to_string(),
            message,
            help,
            also: None,
        }
    }
}

/// `"a", "b" or "c"`.
fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("\"{only}\""),
        [most @ .., last] => format!("{} or \"{last}\"", section::list(most, '"')),
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
