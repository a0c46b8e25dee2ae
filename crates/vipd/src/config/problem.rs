//! What is wrong with a configuration file, and how a person is shown it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Problems shown in full; a file that has more is not a configuration, and the rest is counted.
const SHOWN: usize = 500;
/// Bytes of one source line that are shown around a problem; real lines are far shorter.
const LINE_SHOWN: usize = 400;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line it stands in, from 1.
    pub line: usize,
    /// The column it begins at, in characters from 1.
    pub column: usize,
    /// The same place as a range of bytes of the source.
    pub span: Range<usize>,
    /// The path of the key, such as `vrrp "web".priority`; empty where the text is not TOML.
    pub key: String,
    /// Why it is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
    /// Where the thing that it repeats stands, as a range of bytes of the source.
    pub first: Option<Range<usize>>,
}

/// Everything that is wrong with one file, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file_name: String,
    source: String,
    list: Vec<Problem>,
}

/// A problem before its line and column are known.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) span: Range<usize>,
    pub(super) key: String,
    pub(super) message: String,
    pub(super) help: String,
    pub(super) first: Option<Range<usize>>,
}

impl Problems {
    /// Puts the findings in the order of the file, each only once.
    pub(super) fn new(file_name: &str, source: &str, found: Vec<Found>) -> Problems {
        let lines = LineStarts::of(source);
        let mut list: Vec<Problem> = found
            .into_iter()
            .map(|found| {
                let (line, column) = lines.position(source, found.span.start);
                Problem {
                    line,
                    column,
                    span: found.span,
                    key: found.key,
                    message: found.message,
                    help: found.help,
                    first: found.first,
                }
            })
            .collect();
        list.sort_by(|a, b| (a.line, a.column).cmp(&(b.line, b.column)));
        list.dedup();
        Problems {
            file_name: file_name.to_owned(),
            source: source.to_owned(),
            list,
        }
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// The name of the file, as the caller gave it.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Each problem as `file:line:column: key: why`, the source it is about and what to write
    /// instead; at the end how many there are. Colours are for a terminal.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for problem in self.list.iter().take(SHOWN) {
            text.push_str(&self.render_one(problem, &renderer));
            text.push_str("\n\n");
        }
        let hidden = self.list.len().saturating_sub(SHOWN);
        if hidden > 0 {
            text.push_str(&format!("and {hidden} more\n\n"));
        }
        let noun = if self.list.len() == 1 {
            "problem"
        } else {
            "problems"
        };
        text.push_str(&format!(
            "{} {noun} in {}",
            self.list.len(),
            self.file_name
        ));
        text
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let first = problem.first.as_ref().map(|first| {
            let (line, _) = LineStarts::of(&self.source).position(&self.source, first.start);
            self.snippet(line, first, AnnotationKind::Context, Some("first here"))
        });
        let again = first.is_some().then_some("again here");
        let group = Level::ERROR
            .no_name()
            .primary_title(self.headline(problem))
            .elements(first)
            .element(self.snippet(
                problem.line,
                &problem.span,
                AnnotationKind::Primary,
                again,
            ))
            .element(Level::HELP.message(&problem.help));
        renderer.render(&[group])
    }

    /// The line people and scripts search for.
    fn headline(&self, problem: &Problem) -> String {
        let Problem {
            line,
            column,
            key,
            message,
            ..
        } = problem;
        let separator = if key.is_empty() { "" } else { ": " };
        format!(
            "{}:{line}:{column}: {key}{separator}{message}",
            self.file_name
        )
    }

    /// The one line that a span begins in, with the span marked.
    fn snippet<'s>(
        &'s self,
        line: usize,
        span: &Range<usize>,
        kind: AnnotationKind,
        label: Option<&'static str>,
    ) -> Snippet<'s, annotate_snippets::Annotation<'s>> {
        let before = self.source.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let rest = self.source.get(line_start..).unwrap_or_default();
        let text = rest.lines().next().unwrap_or_default();
        let start = span.start.saturating_sub(line_start).min(text.len());
        let end = span
            .end
            .saturating_sub(line_start)
            .clamp(start, text.len());
        let (text, start, end) = window(text, start, end);
        Snippet::source(text)
            .line_start(line)
            .annotation(kind.span(start..end).label(label.map(Cow::Borrowed)))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Cuts an overlong line down to what surrounds `start..end`.
fn window(text: &str, start: usize, end: usize) -> (&str, usize, usize) {
    if text.len() <= LINE_SHOWN {
        return (text, start, end);
    }
    let from = floor_boundary(text, start.saturating_sub(LINE_SHOWN / 4));
    let to = floor_boundary(text, from.saturating_add(LINE_SHOWN));
    let cut = text.get(from..to).unwrap_or_default();
    let start = start.saturating_sub(from).min(cut.len());
    (cut, start, end.saturating_sub(from).clamp(start, cut.len()))
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    at
}

/// The byte offsets at which the lines of a text begin.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(source: &str) -> LineStarts {
        let after = source
            .match_indices('\n')
            .map(|(at, _)| at.saturating_add(1));
        LineStarts(std::iter::once(0).chain(after).collect())
    }

    /// Line and column (in characters), both from 1, of a byte.
    fn position(&self, source: &str, at: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= at);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = source.get(start..at.min(source.len())).unwrap_or_default();
        (line, before.chars().count().saturating_add(1))
    }
}
