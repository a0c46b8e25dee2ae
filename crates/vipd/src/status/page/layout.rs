//! Lines, columns and colours. Where the width is known, text that does not fit is wrapped between
//! words; nothing is left out.

use std::borrow::Cow;

/// How a page should look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Whether colours are used.
    pub color: bool,
    /// How many columns there are; `None`: lines are as long as they are, for other programs.
    pub width: Option<usize>,
}

/// What most last columns need, and colours.
const LINE: usize = 64;
/// The least that a last column gets; where less is left, it goes on a line of its own.
const LAST_COLUMN_MIN: usize = 20;

impl Look {
    pub(super) fn red(self, text: &str) -> Cow<'_, str> {
        self.with("31", text)
    }

    pub(super) fn green(self, text: &str) -> Cow<'_, str> {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> Cow<'_, str> {
        self.with("33", text)
    }

    pub(super) fn bold(self, text: &str) -> Cow<'_, str> {
        self.with("1", text)
    }

    fn with<'t>(self, code: &str, text: &'t str) -> Cow<'t, str> {
        if self.color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m").into()
        } else {
            text.into()
        }
    }

    /// Text after a prefix that is `taken` columns wide; the lines that follow begin below it.
    pub(super) fn hanging(self, taken: usize, text: &str) -> Vec<String> {
        wrap(text, self.width.map(|width| width.saturating_sub(taken)))
    }
}

/// Columns as wide as their widest cell, each row as its lines. The last column is wrapped, to at
/// most `lines` lines. `paint` gets row, column and the padded text of a cell.
pub(super) fn table(
    rows: &[Vec<String>],
    look: Look,
    lines: usize,
    paint: impl for<'t> Fn(usize, usize, &'t str) -> Cow<'t, str>,
) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| count(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
    let indent: usize = widths.iter().map(|width| width + 2).sum();
    let own_line = look.width.is_some_and(|w| indent + LAST_COLUMN_MIN > w);
    let indent = if own_line { 4 } else { indent };
    let mut texts = Vec::with_capacity(rows.len());
    let mut padded = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut text = String::with_capacity(indent + LINE);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            padded.clear();
            padded.push_str(cell);
            padded.extend(std::iter::repeat_n(' ', width.saturating_sub(count(cell))));
            text.push_str(&paint(number, column, &padded));
            text.push_str("  ");
        }
        let last = row.get(widths.len()).map_or("", String::as_str);
        let mut rest = look.hanging(indent, last);
        if rest.len() > lines {
            let words = |lines: &[String]| lines.iter().map(|l| l.split(' ').count()).sum();
            let hidden: usize = words(rest.get(lines..).unwrap_or_default());
            rest.truncate(lines);
            rest.push(format!("and {hidden} more"));
        }
        for (line, part) in rest.iter().enumerate() {
            if line > 0 || (own_line && number > 0) {
                text.truncate(text.trim_end().len());
                text.push('\n');
                text.push_str(&" ".repeat(indent));
            }
            text.push_str(&paint(number, widths.len(), part));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        texts.push(text);
    }
    texts
}

/// Breaks a text between words; a word that is wider than a line is broken, too. Lines after the
/// first have the indentation of the first.
pub(super) fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let text = plain(text);
    let Some(width) = width.filter(|width| count(&text) > *width) else {
        return vec![text];
    };
    let words = text.trim_start();
    let margin = " ".repeat((text.len() - words.len()).min(width / 2));
    let room = (width - margin.len()).max(1);
    let mut lines = vec![margin.clone()];
    let mut used = 0;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let characters: Vec<char> = word.chars().collect();
        for (number, piece) in characters.chunks(room).enumerate() {
            let space = usize::from(number == 0 && used > 0);
            if used > 0 && (number > 0 || used + space + piece.len() > room) {
                lines.push(margin.clone());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                if used > 0 {
                    line.push(' ');
                    used += 1;
                }
                line.extend(piece);
                used += piece.len();
            }
        }
    }
    lines
}

pub(super) fn cut(text: &str, width: usize) -> String {
    let text = plain(text);
    if count(&text) <= width {
        return text;
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Text without control characters: what a peer or a real server made us say must not steer the
/// terminal.
pub(crate) fn plain(text: &str) -> String {
    text.replace(char::is_control, "·")
}

fn count(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_keeps_its_indentation() {
        assert_eq!(wrap("one two three", Some(8)), ["one two", "three"]);
        assert_eq!(
            wrap("  one two three", Some(8)),
            ["  one", "  two", "  three"]
        );
        assert_eq!(wrap("one two three", None), ["one two three"]);
        assert_eq!(wrap("", Some(8)), [""]);
    }

    #[test]
    fn a_word_wider_than_the_line_is_broken_and_nothing_is_lost() {
        assert_eq!(wrap("a bcdefghij k", Some(4)), ["a", "bcde", "fghi", "j k"]);
        assert_eq!(wrap("abc", Some(0)), ["a", "b", "c"]);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(wrap("a\x1b[31mb", None), ["a·[31mb"]);
        assert_eq!(cut("a\x07b", 9), "a·b");
    }
}
