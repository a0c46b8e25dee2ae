//! Words, braces and comments of a line.
//!
//! `"` and `'` hold words together, `\` takes the meaning from the character behind it. Programs with
//! arguments are written so; every other word has its `"` removed and keeps all else.

use std::ops::Range;

/// A word or a brace of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// With its quotes, in bytes of the line.
    Word(Range<usize>),
    Open(usize),
    Close(usize),
}

/// The line without its comment: what follows `#` or `!` outside of double quotes.
pub(super) fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '#' | '!' if !quoted => return line.get(..at).unwrap_or_default(),
            _ => {}
        }
    }
    line
}

/// The words and braces of a line, and whether a quote is left open.
pub(super) fn tokens(line: &str) -> (Vec<Token>, bool) {
    let mut tokens = Vec::new();
    let mut start: Option<usize> = None;
    let mut open: Option<char> = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if let Some(quote) = open {
            match c {
                '\\' => {
                    chars.next();
                }
                _ if c == quote => open = None,
                _ => {}
            }
            continue;
        }
        match c {
            c if c.is_whitespace() => tokens.extend(start.take().map(|from| Token::Word(from..at))),
            '{' | '}' => {
                tokens.extend(start.take().map(|from| Token::Word(from..at)));
                tokens.push(if c == '{' {
                    Token::Open(at)
                } else {
                    Token::Close(at)
                });
            }
            c => {
                start = start.or(Some(at));
                let rest = line.get(at.saturating_add(1)..).unwrap_or_default();
                match c {
                    '\\' => {
                        chars.next();
                    }
                    '"' => open = Some(c),
                    // An apostrophe is not always a quote.
                    '\'' if rest.contains('\'') => open = Some(c),
                    // What is not defined stays as it is.
                    '$' if rest.starts_with('{') => {
                        if let Some(end) = rest.find('}') {
                            let end = at.saturating_add(1).saturating_add(end);
                            while chars.next_if(|(at, _)| *at <= end).is_some() {}
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    let unfinished = open.is_some();
    tokens.extend(start.map(|from| Token::Word(from..line.len())));
    (tokens, unfinished)
}

/// A word without its double quotes.
pub(super) fn plain(raw: &str) -> String {
    raw.chars().filter(|c| *c != '"').collect()
}

/// A word whose quotes and escapes count, as that of a program.
pub(super) fn unescaped(raw: &str) -> String {
    let mut text = String::new();
    let mut open: Option<char> = None;
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, open) {
            ('\\', _) => {
                let Some(c) = chars.next() else { break };
                match c {
                    'a' => text.push('\u{7}'),
                    'b' => text.push('\u{8}'),
                    'E' => text.push('\u{1b}'),
                    'f' => text.push('\u{c}'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'v' => text.push('\u{b}'),
                    'x' => text.extend(number(&mut chars, 16, 2, 0)),
                    '0'..='7' => {
                        let first = c.to_digit(8).unwrap_or(0);
                        text.extend(number(&mut chars, 8, 2, first));
                    }
                    c => text.push(c),
                }
            }
            (c, Some(quote)) if c == quote => open = None,
            // Of a program's own arguments: they are taken apart later.
            ('\'', Some(_)) => text.push('\''),
            ('"', None) => open = Some('"'),
            ('\'', None) if chars.peek().is_some() => open = Some('\''),
            (c, _) => text.push(c),
        }
    }
    text
}

fn number(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    radix: u32,
    digits: u32,
    first: u32,
) -> Option<char> {
    let mut number = first;
    for _ in 0..digits {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else {
            break;
        };
        chars.next();
        number = number.saturating_mul(radix).saturating_add(digit);
    }
    char::from_u32(number)
}

/// The words of a program and its arguments: `'` holds together what has spaces.
pub(super) fn arguments(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut open: Option<char> = None;
    for c in text.chars() {
        match (c, open) {
            (c, Some(quote)) if c == quote => open = None,
            ('\'' | '"', None) => {
                open = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&str> {
        let (tokens, _) = tokens(without_comment(line));
        tokens
            .into_iter()
            .map(|token| match token {
                Token::Word(range) => &line[range],
                Token::Open(_) => "{",
                Token::Close(_) => "}",
            })
            .collect()
    }

    #[test]
    fn comments_begin_anywhere_but_in_double_quotes() {
        assert_eq!(words("priority 100 # high"), ["priority", "100"]);
        assert_eq!(words("auth_pass ab#c"), ["auth_pass", "ab"]);
        assert_eq!(words("auth_pass \"ab#c!\" ! x"), ["auth_pass", "\"ab#c!\""]);
        assert_eq!(words("! all of it"), [""; 0]);
    }

    #[test]
    fn braces_need_no_spaces_and_quotes_hold_words_together() {
        assert_eq!(words("vrrp_instance A{"), ["vrrp_instance", "A", "{"]);
        assert_eq!(words("group { a b }"), ["group", "{", "a", "b", "}"]);
        assert_eq!(words("x abcd\" efg h\" i"), ["x", "abcd\" efg h\"", "i"]);
        assert_eq!(
            words("script \"a 'b {c' \\\"d\""),
            ["script", "\"a 'b {c' \\\"d\""]
        );
        assert_eq!(
            words("it's ${NOT DEFINED} so"),
            ["it's", "${NOT DEFINED}", "so"]
        );
        assert!(tokens("a \"b").1);
    }

    #[test]
    fn a_program_has_its_arguments_apart_and_its_escapes_read() {
        let split = |raw| arguments(&unescaped(raw));
        assert_eq!(split("\"/bin/x 'a b' c\""), ["/bin/x", "a b", "c"]);
        assert_eq!(split("\"/bin/x \\\"a b\\\"\""), ["/bin/x", "a b"]);
        assert_eq!(split("\"/bin/x \\x41\\102 ''\""), ["/bin/x", "AB", ""]);
        assert_eq!(split("/bin/x"), ["/bin/x"]);
        assert_eq!(plain("\"a\\x\"b"), "a\\xb");
    }
}
