//! What is to be said of the files that are read: what has no equivalent, and what changes nothing.

use std::ops::Range;

use super::super::Problems;
use super::super::problem::Found;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Which file, in the order in which they were opened.
    pub(super) file: usize,
    /// In bytes of it.
    pub(super) span: Range<usize>,
}

/// The files, and what was found in them.
#[derive(Debug)]
pub(super) struct Notes {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    name: String,
    text: String,
    secrets: Vec<Range<usize>>,
    lost: Vec<(Found, Option<&'static str>)>,
    idle: Vec<(Found, Option<&'static str>)>,
}

impl Notes {
    pub(super) fn new(name: &str, text: &str) -> Notes {
        let mut notes = Notes { files: Vec::new() };
        notes.open(name, text);
        notes
    }

    /// One more file; returns its number.
    pub(super) fn open(&mut self, name: &str, text: &str) -> usize {
        self.files.push(File {
            name: name.to_owned(),
            text: text.to_owned(),
            secrets: Vec::new(),
            lost: Vec::new(),
            idle: Vec::new(),
        });
        self.files.len().saturating_sub(1)
    }

    /// The name and the text of a file.
    pub(super) fn file(&self, number: usize) -> (String, String) {
        let file = self.files.get(number);
        file.map(|file| (file.name.clone(), file.text.clone()))
            .unwrap_or_default()
    }

    /// What stands there is never shown.
    pub(super) fn hide(&mut self, place: &Place) {
        if let Some(file) = self.files.get_mut(place.file) {
            file.secrets.push(place.span.clone());
        }
    }

    /// What has no equivalent, or cannot be read.
    pub(super) fn lost(
        &mut self,
        place: &Place,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if let Some(file) = self.files.get_mut(place.file) {
            let found = file.found(place, key, message.into(), help.into());
            file.lost.push((found, None));
        }
    }

    /// What is said otherwise, or not at all, and the result is the same.
    pub(super) fn idle(
        &mut self,
        place: &Place,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if let Some(file) = self.files.get_mut(place.file) {
            let found = file.found(place, key, message.into(), help.into());
            file.idle.push((found, Some("import")));
        }
    }

    /// How much is said so far.
    pub(super) fn lines(&self) -> Vec<(usize, usize)> {
        let said = |file: &File| (file.lost.len(), file.idle.len());
        self.files.iter().map(said).collect()
    }

    /// Takes back what was said since.
    pub(super) fn forget(&mut self, before: &[(usize, usize)]) {
        for (file, (lost, idle)) in self.files.iter_mut().zip(before) {
            file.lost.truncate(*lost);
            file.idle.truncate(*idle);
        }
    }

    /// The problems and the warnings of each file that has some.
    pub(super) fn into_problems(self) -> (Vec<Problems>, Vec<Problems>) {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for file in self.files {
            let of = |found| Problems::collected(&file.name, &file.text, &file.secrets, found);
            for (list, found) in [(&mut problems, file.lost), (&mut warnings, file.idle)] {
                if !found.is_empty() {
                    list.push(of(found));
                }
            }
        }
        (problems, warnings)
    }
}

impl File {
    fn found(&self, place: &Place, key: &str, message: String, help: String) -> Found {
        // A mark is shown around whole characters only.
        let inside = |at: usize| {
            let mut at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at = at.saturating_sub(1);
            }
            at
        };
        let start = inside(place.span.start);
        Found {
            span: start..inside(place.span.end).max(start),
            key: key.to_owned(),
            message,
            help,
            also: None,
        }
    }
}
