//! A regular expression as a value: it is its text, and is compiled once for all checks that share it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{Regex, RegexBuilder};

/// Largest compiled program, in bytes: a pattern beyond it is a mistake (`(a{1000}){1000}`).
const SIZE_MAX: usize = 1 << 20;

/// A regular expression over bytes, ASCII classes only.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Pattern, String> {
        RegexBuilder::new(text)
            .unicode(false)
            .size_limit(SIZE_MAX)
            .build()
            .map(Pattern)
            .map_err(|error| {
                if let regex::Error::CompiledTooBig(_) = error {
                    return "it is too big when compiled".to_owned();
                }
                // The parser draws a picture of several lines; the last one says what is wrong.
                let words = error.to_string();
                let last = words.lines().last().unwrap_or_default();
                last.trim_start_matches("error: ").to_owned()
            })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches somewhere in `haystack`.
    #[must_use]
    pub fn matches(&self, haystack: &[u8]) -> bool {
        self.0.is_match(haystack)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Pattern) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Pattern) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_its_text_and_matches_bytes() {
        let up = Pattern::new(r"(?m)^state: (up|ok) \d+$").unwrap();
        assert!(up.matches(b"\xff\xfe\nstate: ok 12\n"));
        assert!(!up.matches(b"state: ok twelve\n"));
        assert_eq!(up, Pattern::new(up.as_str()).unwrap());
        assert!(Pattern::new("ü+").unwrap().matches("Grüüße".as_bytes()));
    }

    #[test]
    fn what_is_no_pattern_is_told_in_one_line() {
        let wrong = |text| Pattern::new(text).unwrap_err();
        assert_eq!(wrong("(up"), "unclosed group");
        assert_eq!(wrong("(a{1000}){1000}"), "it is too big when compiled");
        assert!(
            wrong(r"(up)\1").contains("backreferences"),
            "{}",
            wrong(r"(up)\1")
        );
    }
}
