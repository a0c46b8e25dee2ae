//! What is wrong with a configuration file, or hardly meant, and how a person is shown it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use super::secret;

/// Problems kept in full; a file that has more is not a configuration, and the rest is counted.
const KEPT_MAX: usize = 500;
/// Bytes of one source line that are shown around a problem; real lines are far shorter.
const LINE_SHOWN: usize = 400;

/// One thing that is wrong, or warned of, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line it stands in, from 1.
    pub line: usize,
    /// The column it begins at, in characters from 1.
    pub column: usize,
    /// The same place as a range of bytes of the source.
    #[serde(skip)]
    pub span: Range<usize>,
    /// The path of the key, such as `vrrp "web".priority`; empty where the text is not TOML.
    pub key: String,
    /// Why it is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
    /// The line of the thing that it repeats, from 1.
    pub also: Option<usize>,
    /// The name of the lint, where it is only warned of.
    pub lint: Option<&'static str>,
}

/// Everything that is wrong with one file, or warned of, in the order of the file. Of more than 500 the
/// first 500 are kept, and the others are counted. As the error of a file it is never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Problems {
    file_name: String,
    source: String,
    list: Vec<Problem>,
    count: usize,
}

/// A problem before its line and column are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) span: Range<usize>,
    pub(super) key: String,
    pub(super) message: String,
    pub(super) help: String,
    /// Where the thing that it repeats stands.
    pub(super) also: Option<Range<usize>>,
}

/// Each of a list, an empty line after each, and how many of `count` there are beside.
pub(super) fn rendered<T>(
    list: &[T],
    count: usize,
    color: bool,
    render_one: impl Fn(&T, &Renderer) -> String,
) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = String::new();
    for one in list {
        text.push_str(&render_one(one, &renderer));
        text.push_str("\n\n");
    }
    let hidden = count.saturating_sub(list.len());
    if hidden > 0 {
        text.push_str(&format!("and {hidden} more\n\n"));
    }
    text
}

impl Problems {
    /// Puts the findings in the order of the file, each only once. What is kept of the source has no
    /// `secrets`.
    pub(super) fn new(
        file_name: &str,
        source: &str,
        secrets: &[Range<usize>],
        found: Vec<Found>,
    ) -> Problems {
        let found = found.into_iter().map(|found| (found, None)).collect();
        Problems::collected(file_name, source, secrets, found)
    }

    /// The same of what is only warned of, by the lints of these names.
    pub(super) fn warnings(
        file_name: &str,
        source: &str,
        secrets: &[Range<usize>],
        found: Vec<(Found, &'static str)>,
    ) -> Problems {
        let named = found.into_iter().map(|(found, lint)| (found, Some(lint)));
        Problems::collected(file_name, source, secrets, named.collect())
    }

    pub(super) fn collected(
        file_name: &str,
        source: &str,
        secrets: &[Range<usize>],
        mut found: Vec<(Found, Option<&'static str>)>,
    ) -> Problems {
        found.sort_by_key(|(found, _)| found.span.start);
        found.dedup();
        let count = found.len();
        let lines = LineStarts::of(source);
        let list = found.into_iter().take(KEPT_MAX).map(|(found, lint)| {
            let (line, column) = lines.position(source, found.span.start);
            Problem {
                line,
                column,
                span: found.span,
                key: found.key,
                message: found.message,
                help: found.help,
                also: found.also.map(|also| lines.line(also.start)),
                lint,
            }
        });
        Problems {
            file_name: file_name.to_owned(),
            source: secret::hide(source, secrets),
            list: list.collect(),
            count,
        }
    }

    /// The problems, in the order of the file; at most 500.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are, those included that were not kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
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
        let mut text = rendered(&self.list, self.count, color, |problem, renderer| {
            self.render_one(problem, renderer)
        });
        let warned = self.list.first().is_some_and(|first| first.lint.is_some());
        let noun = if warned { "warning" } else { "problem" };
        let plural = if self.count == 1 { "" } else { "s" };
        text.push_str(&format!(
            "{} {noun}{plural} in {}",
            self.count, self.file_name
        ));
        text
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let group = Level::ERROR
            .no_name()
            .primary_title(self.headline(problem))
            .element(self.snippet(problem))
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
        let (warning, lint) = match problem.lint {
            Some(lint) => ("warning: ", format!(" [{lint}]")),
            None => ("", String::new()),
        };
        format!(
            "{}:{line}:{column}: {warning}{key}{separator}{message}{lint}",
            self.file_name
        )
    }

    fn snippet(&self, problem: &Problem) -> Snippet<'static, Annotation<'static>> {
        let label = problem.also.map(|line| format!("also in line {line}"));
        snippet(&self.source, problem.line, &problem.span, label)
    }
}

/// The line that something begins in, marked.
pub(super) fn snippet(
    source: &str,
    line: usize,
    span: &Range<usize>,
    label: Option<String>,
) -> Snippet<'static, Annotation<'static>> {
    let Range { start, end } = *span;
    let before = source.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let rest = source.get(line_start..).unwrap_or_default();
    let text = rest.lines().next().unwrap_or_default();
    let start = start.saturating_sub(line_start).min(text.len());
    let end = end.saturating_sub(line_start).clamp(start, text.len());
    let (text, start, end) = window(text, start, end);
    // Terminals obey these controls, and annotate-snippets lets them through. The dot has as many
    // bytes, so that the marks stay where they are.
    let text: String = text
        .chars()
        .map(|c| {
            if matches!(c, '\u{80}'..='\u{9f}') {
                '\u{b7}'
            } else {
                c
            }
        })
        .collect();
    Snippet::source(text).line_start(line).annotation(
        AnnotationKind::Primary
            .span(start..end)
            .label(label.map(Cow::Owned)),
    )
}

// Not the source: a comment in it may be about a secret.
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problems")
            .field("file_name", &self.file_name)
            .field("list", &self.list)
            .field("count", &self.count)
            .finish_non_exhaustive()
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
pub(super) struct LineStarts(Vec<usize>);

impl LineStarts {
    pub(super) fn of(source: &str) -> LineStarts {
        let after = source
            .match_indices('\n')
            .map(|(at, _)| at.saturating_add(1));
        LineStarts(std::iter::once(0).chain(after).collect())
    }

    /// The line, from 1, of a byte.
    pub(super) fn line(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }

    /// Line and column (in characters), both from 1, of a byte.
    pub(super) fn position(&self, source: &str, at: usize) -> (usize, usize) {
        let line = self.line(at);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = source.get(start..at.min(source.len())).unwrap_or_default();
        (line, before.chars().count().saturating_add(1))
    }
}
