//! The lines of the file: `key = value`, those of a virtual server indented.

use super::super::notes::{Notes, Place};

/// A line is indented with so many spaces at least, or a tab.
const INDENT: usize = 4;

/// `key = value`
#[derive(Debug, Clone)]
pub(super) struct Directive {
    pub(super) key: String,
    /// Without blanks at its ends.
    pub(super) value: String,
    pub(super) place: Place,
    /// What problems call it.
    pub(super) path: String,
}

/// `virtual = ...` and what is indented under it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) head: Directive,
    pub(super) lines: Vec<Directive>,
}

impl Directive {
    pub(super) fn lost(&self, notes: &mut Notes, message: impl Into<String>, help: &str) {
        notes.lost(&self.place, &self.path, message, help);
    }

    pub(super) fn idle(&self, notes: &mut Notes, message: impl Into<String>) {
        notes.idle(&self.place, &self.path, message, "nothing is to be done");
    }

    /// The value without the quotes around it.
    pub(super) fn unquoted(&self) -> &str {
        let inner = self.value.strip_prefix('"');
        let inner = inner.and_then(|text| text.strip_suffix('"'));
        inner.unwrap_or(&self.value)
    }

    /// The value as a number.
    pub(super) fn number(&self, notes: &mut Notes) -> Option<u32> {
        let number = self.value.parse().ok();
        if number.is_none() {
            let message = format!("{:?} is no number", self.value);
            self.lost(notes, message, "it is left out of the result");
        }
        number
    }

    /// The value as `yes` or `no`.
    pub(super) fn yes(&self, notes: &mut Notes) -> Option<bool> {
        match self.value.as_str() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => {
                self.lost(
                    notes,
                    "is neither yes nor no",
                    "it is left out of the result",
                );
                None
            }
        }
    }
}

/// The global directives, and the virtual servers.
pub(super) fn blocks(notes: &mut Notes) -> (Vec<Directive>, Vec<Block>) {
    let (_, text) = notes.file(0);
    let (mut global, mut blocks): (Vec<Directive>, Vec<Block>) = (Vec::new(), Vec::new());
    let mut inside = false;
    let mut at: usize = 0;
    for raw in text.split_inclusive('\n') {
        let start = at;
        at = at.saturating_add(raw.len());
        let trimmed = raw.trim_start();
        if trimmed.starts_with('#') {
            continue;
        }
        let blank = trimmed.is_empty();
        let width = raw
            .get(..raw.len().saturating_sub(trimmed.len()))
            .unwrap_or_default();
        let indented = width.contains('\t') || width.len() >= INDENT;
        if blank || !indented {
            inside = false;
        }
        if blank {
            continue;
        }
        let skipped = raw.len().saturating_sub(trimmed.len());
        let line = match trimmed.split_once('#') {
            // A comment may follow what is indented.
            Some((before, _)) if indented => before.trim_end(),
            Some(_) | None => trimmed.trim_end(),
        };
        let begin = start.saturating_add(skipped);
        let place = Place {
            file: 0,
            span: begin..begin.saturating_add(line.len()),
        };
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        let head = blocks
            .last()
            .filter(|_| indented)
            .map(|block| block.head.path.as_str());
        let path = match head {
            Some(head) => format!("{head}.{key}"),
            None if key.starts_with("virtual") => format!("{key} {value}"),
            None => key.clone(),
        };
        let directive = Directive {
            key,
            value,
            place,
            path,
        };
        if matches!(directive.key.as_str(), "passwd" | "secret") {
            notes.hide(&directive.place);
        }
        if indented {
            if !inside {
                let message =
                    "is indented, but belongs to no virtual server: an empty line ends one";
                directive.lost(notes, message, "remove the empty line above");
            } else if let Some(block) = blocks.last_mut() {
                block.lines.push(directive);
            }
        } else if matches!(directive.key.as_str(), "virtual" | "virtual6") {
            inside = true;
            blocks.push(Block {
                head: directive,
                lines: Vec::new(),
            });
        } else {
            global.push(directive);
        }
    }
    (global, blocks)
}
