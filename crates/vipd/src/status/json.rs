//! JSON as people read it. With ten thousand real servers the daemon's answer is megabytes, and
//! taking it apart to write it anew would cost more than asking for it.

/// JSON without blanks between its parts, as `serde_json` writes it, on a line for each value and
/// indented. What is no JSON comes out with other blanks and nothing lost.
#[must_use]
pub fn indented(compact: &str) -> String {
    let mut text = String::with_capacity(compact.len() * 2);
    let mut depth = 0_usize;
    let mut rest = compact;
    // Whatever stands between two of these is copied as it is.
    while let Some(at) = rest.find(['{', '[', '}', ']', ',', ':', '"']) {
        let (before, found) = rest.split_at(at);
        text.push_str(before);
        let (sign, after) = found.split_at(1);
        rest = after;
        match sign {
            "\"" => {
                let end = end_of_string(after);
                let (string, after) = after.split_at(end);
                text.push('"');
                text.push_str(string);
                rest = after;
            }
            "{" | "[" => {
                text.push_str(sign);
                if after.starts_with(['}', ']']) {
                    let (close, after) = after.split_at(1);
                    text.push_str(close);
                    rest = after;
                } else {
                    depth += 1;
                    new_line(&mut text, depth);
                }
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                new_line(&mut text, depth);
                text.push_str(sign);
            }
            "," => {
                text.push(',');
                new_line(&mut text, depth);
            }
            _ => text.push_str(": "),
        }
    }
    text.push_str(rest);
    text
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    for _ in 0..depth {
        text.push_str("  ");
    }
}

/// Where the rest after an opening quote has ended: behind the closing one.
fn end_of_string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_what_serde_makes_of_the_same_value() {
        let value = json!({
            "empty": [[], {}, ""],
            "deep": { "a": [1, -2.5, true, null, { "b": "c" }] },
            "string": "{\"x\": [1,2]} \\ \" \\\" \n ü界",
        });
        for value in [value, json!([]), json!("a,b:c"), json!(7)] {
            let compact = serde_json::to_string(&value).unwrap();
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            assert_eq!(indented(&compact), pretty);
        }
    }

    #[test]
    fn what_is_no_json_neither_panics_nor_loses_a_letter() {
        for text in ["", "\"", "\"\\", "]]}", "{{{[[", "a\"b", "é,ü:\"ß"] {
            let letters = |text: &str| text.replace([' ', '\n'], "");
            assert_eq!(letters(&indented(text)), letters(text));
        }
    }
}
