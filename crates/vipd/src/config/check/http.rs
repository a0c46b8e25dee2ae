//! `type = "http"`: an HTTP or HTTPS request and the answer that passes.

use health::{CheckKind, HttpSpec, HttpVersion, Pattern};

use super::super::section::Section;
use super::super::text;
use super::super::value::Value;
use super::{Type, tls};

pub(super) const TYPE: Type = Type {
    name: "http",
    fall: super::FALL,
    keys: &[
        "path",
        "method",
        "host",
        "headers",
        "status",
        "version",
        "body_contains",
        "body_regex",
        "body_sha256",
        "tls",
    ],
    tls: true,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    let method = s.or("method", "GET".to_owned(), |v| v.parse(text::http_method));
    let path = s.or("path", "/".to_owned(), |v| v.parse(text::http_path));
    let host = s.maybe("host", |v| v.parse(text::http_host));
    let headers = s.or("headers", Vec::new(), Value::headers);
    let status = s.or("status", vec![(200, 299)], status);
    let version = s.or("version", HttpVersion::Http1, |v| {
        v.choice(
            &[("1.1", HttpVersion::Http1), ("2", HttpVersion::Http2)],
            &[],
        )
    });
    let head = method.as_deref() == Some("HEAD");
    let body_contains = s.maybe("body_contains", |v| {
        has_body(v, head)?;
        v.parse(text::some_text)
    });
    let body_regex = s.maybe("body_regex", |v| {
        has_body(v, head)?;
        regex(v)
    });
    let body_sha256 = s.maybe("body_sha256", |v| {
        has_body(v, head)?;
        v.parse(text::sha256)
    });
    let tls = tls::where_asked(s, "tls");
    Some(CheckKind::Http(HttpSpec {
        method: method?,
        path: path?,
        host: host?,
        headers: headers?,
        status: status?,
        version: version?,
        body_contains: body_contains?,
        body_regex: body_regex?,
        body_sha256: body_sha256?,
        tls: tls?,
    }))
}

/// A condition on the body needs one.
fn has_body(v: &Value<'_>, head: bool) -> Option<()> {
    if head {
        v.report(
            "the answer to HEAD has no body",
            "remove it, or write method = \"GET\"",
        );
        return None;
    }
    Some(())
}

fn regex(v: &Value<'_>) -> Option<Pattern> {
    let text = v.parse(text::some_text)?;
    match Pattern::new(&text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            v.report(
                format!("{text:?} is not a regular expression: {why}"),
                "the syntax is that of Rust's regex crate, on bytes: no look-around, no back-references",
            );
            None
        }
    }
}

/// `200`, `"200-299,301"` or a list of both.
fn status(v: &Value<'_>) -> Option<Vec<(u16, u16)>> {
    if v.is_integer() {
        let code = v.integer(text::STATUS)?;
        return Some(vec![(code, code)]);
    }
    if !v.is_list() {
        return v.parse(text::status_ranges);
    }
    let list = v.list()?;
    if list.is_empty() {
        v.report(
            "no status code would ever pass",
            "write those that pass, such as [200, \"300-399\"]",
        );
        return None;
    }
    let read: Vec<Option<Vec<(u16, u16)>>> = list
        .iter()
        .map(|item| {
            if item.is_list() {
                item.report(
                    "must be a status code or a range",
                    "write [200, \"300-399\"]",
                );
                return None;
            }
            status(item)
        })
        .collect();
    let read: Option<Vec<Vec<(u16, u16)>>> = read.into_iter().collect();
    Some(read?.concat())
}
