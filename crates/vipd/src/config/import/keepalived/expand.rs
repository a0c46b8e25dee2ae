//! The lines of a file and of what it includes: without comments, with conditions decided and
//! definitions put in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::super::host::Host;
use super::super::notes::{Notes, Place};
use super::lexer;

/// Files within files, and definitions within definitions.
const DEPTH_MAX: usize = 32;
/// What a file may become.
const LINES_MAX: usize = 400_000;
const BYTES_MAX: usize = 16 << 20;

/// The longest line, bytes; keepalived takes far less.
const LINE_MAX: usize = 64 << 10;

const SEQUENCE: &str = "~SEQ and ~LST are not translated";

/// A line that is to be read.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) text: String,
    /// Where it stands in its file.
    pub(super) place: Place,
    /// Whether its text is what stands there.
    pub(super) verbatim: bool,
}

/// All lines of the first file of `notes`.
pub(super) fn lines(notes: &mut Notes, id: Option<&str>, host: &dyn Host) -> Vec<Line> {
    let name = host.name();
    let short = name.split('.').next().unwrap_or_default();
    let mut expander = Expander {
        id: id.unwrap_or(short).to_owned(),
        host,
        notes,
        definitions: BTreeMap::new(),
        lines: Vec::new(),
        bytes: 0,
        full: false,
    };
    let (name, _) = expander.notes.file(0);
    let folder = Path::new(&name).parent().map(Path::to_owned);
    expander.file(0, &folder.unwrap_or_default(), 0);
    expander.lines
}

struct Expander<'e> {
    id: String,
    host: &'e dyn Host,
    notes: &'e mut Notes,
    definitions: BTreeMap<String, Definition>,
    lines: Vec<Line>,
    bytes: usize,
    full: bool,
}

#[derive(Debug, Clone)]
enum Definition {
    Text(String),
    Lines(Vec<Line>),
}

/// Where the file is that is read.
#[derive(Debug, Clone, Copy)]
struct Around<'a> {
    folder: &'a Path,
    depth: usize,
}

impl Expander<'_> {
    fn file(&mut self, number: usize, folder: &Path, depth: usize) {
        let (_, text) = self.notes.file(number);
        let around = Around { folder, depth };
        let mut body: Option<(String, Vec<Line>)> = None;
        let mut at: usize = 0;
        for raw in text.split_inclusive('\n') {
            let line = piece(lexer::without_comment(raw), number, at);
            at = at.saturating_add(raw.len());
            if line.text.len() > LINE_MAX {
                let message = format!("a line of more than {LINE_MAX} bytes");
                self.notes.lost(&line.place, "", message, "it is not read");
                continue;
            }
            // A definition of more lines goes on for as long as they end with a backslash.
            let (text, goes_on) = match line.text.strip_suffix('\\') {
                Some(text) => (text.trim_end().to_owned(), true),
                None => (line.text.clone(), false),
            };
            if let Some((name, mut lines)) = body.take() {
                lines.push(Line { text, ..line });
                if goes_on {
                    body = Some((name, lines));
                } else {
                    self.definitions.insert(name, Definition::Lines(lines));
                }
                continue;
            }
            if goes_on
                && let Some(line) = self.condition(line.clone())
                && let Some((name, "\\")) = definition(&line.text)
            {
                body = Some((name.to_owned(), Vec::new()));
                continue;
            }
            self.line(line, around);
            if self.full {
                return;
            }
        }
        if let Some((name, lines)) = body {
            self.definitions.insert(name, Definition::Lines(lines));
        }
    }

    /// One line, with all that it stands for.
    fn line(&mut self, line: Line, around: Around<'_>) {
        let Some(line) = self.condition(line) else {
            return;
        };
        if line.text.is_empty() || self.full {
            return;
        }
        if let Some((name, value)) = definition(&line.text) {
            let value = Definition::Text(value.to_owned());
            self.definitions.insert(name.to_owned(), value);
            return;
        }
        let mut words = line.text.split_whitespace();
        let include = matches!(
            words.next(),
            Some("include" | "includer" | "includem" | "includew" | "includeb" | "includea")
        );
        if include {
            self.include(&line, around);
            return;
        }
        if line.text.starts_with("~SEQ") || line.text.starts_with("~LST") {
            let help = "write the lines out, one by one";
            self.notes.lost(&line.place, "", SEQUENCE, help);
            return;
        }
        self.substituted(line, around);
    }

    fn substituted(&mut self, mut line: Line, around: Around<'_>) {
        let mut rounds: usize = 0;
        while let Some((range, value)) = self.reference(&line.text, around.folder) {
            rounds = rounds.saturating_add(1);
            self.bytes = self.bytes.saturating_add(line.text.len());
            if rounds > 1000 || around.depth > DEPTH_MAX || self.bytes > BYTES_MAX {
                self.too_much(&line.place);
                return;
            }
            let before = line.text.get(..range.start).unwrap_or_default();
            let after = line.text.get(range.end..).unwrap_or_default();
            match value {
                Definition::Text(value) => {
                    line = Line {
                        text: format!("{before}{value}{after}").trim().to_owned(),
                        verbatim: false,
                        place: line.place,
                    };
                    // It may be a condition now.
                    if line.text.starts_with('@') {
                        let Some(kept) = self.condition(line) else {
                            return;
                        };
                        line = kept;
                    }
                }
                Definition::Lines(lines) => {
                    let deeper = Around {
                        depth: around.depth.saturating_add(1),
                        ..around
                    };
                    let last = lines.len().saturating_sub(1);
                    for (number, inner) in lines.into_iter().enumerate() {
                        let front = if number == 0 { before } else { "" };
                        let back = if number == last { after } else { "" };
                        let verbatim = front.is_empty() && back.is_empty() && inner.verbatim;
                        let text = format!("{front}{}{back}", inner.text).trim().to_owned();
                        self.line(
                            Line {
                                text,
                                verbatim,
                                place: inner.place,
                            },
                            deeper,
                        );
                        if self.full {
                            return;
                        }
                    }
                    return;
                }
            }
        }
        self.bytes = self.bytes.saturating_add(line.text.len());
        if self.lines.len() >= LINES_MAX || self.bytes > BYTES_MAX {
            self.too_much(&line.place);
            return;
        }
        self.lines.push(line);
    }

    fn too_much(&mut self, place: &Place) {
        self.full = true;
        let help = "look for a definition or a file that contains itself";
        let message = "this becomes more than any configuration is; the rest is not read";
        self.notes.lost(place, "", message, help);
    }

    /// The line without its condition, if that is met: `@main priority 150`, `@^main priority 100`.
    fn condition(&self, line: Line) -> Option<Line> {
        let Some(text) = line.text.strip_prefix('@') else {
            return Some(line);
        };
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let met = match word.strip_prefix('^') {
            Some(other) => other != self.id,
            None => word == self.id,
        };
        let rest = rest.trim_start();
        let skipped = line.text.len().saturating_sub(rest.len());
        let Place { file, span } = line.place;
        let place = if line.verbatim {
            let start = span.start.saturating_add(skipped);
            Place {
                file,
                span: start..span.end,
            }
        } else {
            Place { file, span }
        };
        let kept = Line {
            text: rest.to_owned(),
            place,
            verbatim: line.verbatim,
        };
        // Conditions may follow each other.
        if met { self.condition(kept) } else { None }
    }

    /// The first `$NAME` or `${NAME}` that is defined.
    fn reference(&self, text: &str, folder: &Path) -> Option<(Range<usize>, Definition)> {
        for (at, _) in text.match_indices('$') {
            let rest = text.get(at.saturating_add(1)..).unwrap_or_default();
            let (name, length) = if let Some(inner) = rest.strip_prefix('{') {
                let Some(end) = inner.find('}') else { continue };
                (inner.get(..end).unwrap_or_default(), end.saturating_add(3))
            } else {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let followed = rest.get(end..).unwrap_or_default();
                if !followed.is_empty() && !followed.starts_with(char::is_whitespace) {
                    continue;
                }
                (rest.get(..end).unwrap_or_default(), end.saturating_add(1))
            };
            let known = match name {
                "_PWD" => Some(Definition::Text(shown_folder(folder))),
                "_INSTANCE" => Some(Definition::Text(self.id.clone())),
                "_HASH" => Some(Definition::Text("#".to_owned())),
                "_BANG" => Some(Definition::Text("!".to_owned())),
                _ => self.definitions.get(name).cloned(),
            };
            if let Some(known) = known {
                return Some((at..at.saturating_add(length), known));
            }
        }
        None
    }

    fn include(&mut self, line: &Line, around: Around<'_>) {
        let mut words = line.text.splitn(2, char::is_whitespace);
        let keyword = words.next().unwrap_or_default().to_owned();
        let pattern = lexer::plain(words.next().unwrap_or_default().trim());
        if pattern.contains('{') {
            let message = format!("{pattern:?} has braces, which are not looked through");
            let help = "write an include for each file";
            self.notes.lost(&line.place, &keyword, message, help);
            return;
        }
        if around.depth > DEPTH_MAX {
            self.too_much(&line.place);
            return;
        }
        let path = around.folder.join(&pattern);
        let found: Vec<PathBuf> = self.host.matching(&path);
        if found.is_empty() {
            let message = format!("no file fits {:?}", path.display().to_string());
            let help = "keepalived goes on without it, too; if that is meant, remove the line";
            self.notes.idle(&line.place, &keyword, message, help);
        }
        for path in found {
            match self.host.read(&path) {
                Ok(text) => {
                    let name = path.display().to_string();
                    self.bytes = self.bytes.saturating_add(text.len());
                    if self.bytes > BYTES_MAX {
                        self.too_much(&line.place);
                        return;
                    }
                    let number = self.notes.open(&name, &text);
                    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
                    self.file(number, &folder, around.depth.saturating_add(1));
                }
                Err(error) => {
                    let message = format!("{}: {error}", path.display());
                    let help = "what it says is missing from the result";
                    self.notes.lost(&line.place, &keyword, message, help);
                }
            }
        }
    }
}

fn shown_folder(folder: &Path) -> String {
    if folder.as_os_str().is_empty() {
        ".".to_owned()
    } else {
        folder.display().to_string()
    }
}

/// A line without the blanks around it, and its place.
fn piece(text: &str, file: usize, at: usize) -> Line {
    let trimmed = text.trim();
    let skipped = text.len().saturating_sub(text.trim_start().len());
    let start = at.saturating_add(skipped);
    Line {
        text: trimmed.to_owned(),
        place: Place {
            file,
            span: start..start.saturating_add(trimmed.len()),
        },
        verbatim: true,
    }
}

/// `$NAME=VALUE`
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    let good = !name.is_empty()
        && name.chars().all(is_name)
        && !name.starts_with(|c: char| c.is_ascii_digit());
    good.then_some((name, value.trim()))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
