//! What a document shows as the output of a command.

use std::fmt;

/// Stands for what varies: within a line for any text, alone on a line for any lines.
const ANYTHING: &str = "...";

/// The lines that a command must print, from the first to the last. Spaces do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(Vec<String>);

impl Shown {
    /// As it stands in a document.
    #[must_use]
    pub fn new(text: &str) -> Shown {
        Shown(lines(text))
    }

    /// Whether an output is that.
    #[must_use]
    pub fn fits(&self, output: &str) -> bool {
        fits(&self.0, &lines(output))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Without the spaces that align columns, and without empty lines.
fn lines(text: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = text.lines().map(words);
    lines.filter(|line| !line.is_empty()).collect()
}

fn fits(shown: &[String], output: &[String]) -> bool {
    match (shown.split_first(), output.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((first, rest)), _) if first == ANYTHING => {
            fits(rest, output)
                || output
                    .split_first()
                    .is_some_and(|(_, output)| fits(shown, output))
        }
        (Some(_), None) => false,
        (Some((first, shown)), Some((line, output))) => {
            line_fits(first, line) && fits(shown, output)
        }
    }
}

fn line_fits(shown: &str, line: &str) -> bool {
    let mut parts = shown.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_must_be_there_and_spaces_do_not_count() {
        let shown = Shown::new("TCP  10.0.0.1:80 rr\n  -> 10.0.0.2\n");
        assert!(shown.fits("TCP 10.0.0.1:80   rr\n\n -> 10.0.0.2"));
        assert!(!shown.fits("TCP 10.0.0.1:80 rr"));
        assert!(!shown.fits("TCP 10.0.0.1:80 rr\n-> 10.0.0.2\n-> 10.0.0.3"));
        assert!(!shown.fits("TCP 10.0.0.1:80 rr\n-> 10.0.0.20"));
    }

    #[test]
    fn three_dots_are_any_text_of_a_line_or_any_lines() {
        let shown = Shown::new("...\nrs1 ... of ... ms\n...\nend\n");
        assert!(shown.fits("rs1 3 of 10 ms\nend"));
        assert!(shown.fits("a\nb\nrs1 3 of 10 ms\nc\nend"));
        assert!(!shown.fits("a\nrs1 3 of 10 s\nend"));
        assert!(!shown.fits("rs1 3 of 10 ms\nend\nmore"));
        assert!(Shown::new("a...b").fits("ab"));
        assert!(Shown::new("...").fits(""));
        assert!(!Shown::new("a...a").fits("a"));
    }
}
