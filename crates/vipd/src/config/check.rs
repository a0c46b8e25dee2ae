//! `check` and `checks`: how a real server is found healthy.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use health::{CheckKind, CheckSpec, HttpSpec, Start, TlsSpec};

use super::section::Section;
use super::text;
use super::value::Value;

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const COUNT: RangeInclusive<u32> = 1..=1000;
/// Types that the documentation names and this version does not have.
const TYPES_TO_COME: [&str; 8] = [
    "tls", "dns", "udp", "ping", "smtp", "grpc", "script", "agent",
];
const HTTP_KEYS: [&str; 10] = [
    "path",
    "method",
    "host",
    "headers",
    "status",
    "body_contains",
    "body_regex",
    "tls",
    "verify",
    "sni",
];

/// A check as written: it may stand for many real servers, and has no target yet.
#[derive(Debug, Clone)]
pub(super) struct Template<'a> {
    written: Value<'a>,
    kind: CheckKind,
    interval: Duration,
    timeout: Duration,
    rise: u32,
    fall: u32,
    start: Start,
    address: Option<IpAddr>,
    port: Option<u16>,
}

#[derive(Clone, Copy)]
enum Type {
    None,
    Tcp,
    Http,
}

impl<'a> Template<'a> {
    /// Reads `check` or `checks`: `Some(None)` where neither is written.
    pub(super) fn read(s: &mut Section<'a>) -> Option<Option<Vec<Template<'a>>>> {
        let (one, many) = (s.get("check"), s.get("checks"));
        match (one, many) {
            (None, None) => Some(None),
            (Some(one), None) if one.is_list() => {
                one.report(
                    "must be a table, but is a list",
                    "write `checks = [...]` for more than one",
                );
                None
            }
            (Some(one), None) => Some(Some(Template::one(&one)?.into_iter().collect())),
            (one, Some(many)) => {
                let list = many.list()?;
                let read: Vec<_> = list.iter().map(Template::one).collect();
                if let Some(one) = one {
                    Template::one(&one);
                    one.report("`checks` is there too", "put this one into `checks`");
                    return None;
                }
                let read: Option<Vec<_>> = read.into_iter().collect();
                Some(Some(read?.into_iter().flatten().collect()))
            }
        }
    }

    /// One check; `Some(None)` is type `none`, which is no check at all.
    fn one(written: &Value<'a>) -> Option<Option<Template<'a>>> {
        let mut s = written.section()?;
        let kind = s.need("type", "\"tcp\"", |v| {
            if v.text()? == "https" {
                v.report(
                    "\"https\" is not one of the values of this key",
                    "write type = \"http\" with tls = true",
                );
                return None;
            }
            v.choice(
                &[
                    ("none", Type::None),
                    ("tcp", Type::Tcp),
                    ("http", Type::Http),
                ],
                &TYPES_TO_COME,
            )
        });
        let interval = s.or("interval", Duration::from_secs(5), |v| v.duration(INTERVAL));
        let timeout = s.or("timeout", Duration::from_secs(3), |v| v.duration(TIMEOUT));
        let rise = s.or("rise", 1, |v| v.integer(COUNT));
        let fall = s.or("fall", 2, |v| v.integer(COUNT));
        let start = s.or("start", Start::Down, |v| {
            v.choice(&[("down", Start::Down), ("up", Start::Up)], &[])
        });
        let address = s.maybe("address", |v| v.parse(text::host_address));
        let port = s.maybe("port", |v| v.integer(1..=u16::MAX));
        s.maybe("via", |v| v.only(v.text(), "direct", "\"direct\""));
        s.refuse(&["source"]);
        let kind = match kind {
            // Which of the other keys it knows depends on the type.
            None => return None,
            Some(Type::None) => None,
            Some(Type::Tcp) => {
                not_http(&mut s, "tcp");
                Some(Some(CheckKind::Tcp))
            }
            Some(Type::Http) => Some(http(&mut s).map(CheckKind::Http)),
        };
        let Some(kind) = kind else {
            not_http(&mut s, "none");
            s.finish();
            return Some(None);
        };
        s.finish();
        Some(Some(Template {
            written: written.clone(),
            kind: kind?,
            interval: interval?,
            timeout: timeout?,
            rise: rise?,
            fall: fall?,
            start: start?,
            address: address?,
            port: port?,
        }))
    }

    /// The check of one real server; port 0 of the server is none.
    pub(super) fn spec(&self, server: SocketAddr) -> Option<CheckSpec> {
        let port = self.port.unwrap_or(server.port());
        if port == 0 {
            self.written.report(
                "has no port to connect to",
                "add `port = ...` to the check: neither the virtual server nor the real server says one",
            );
            return None;
        }
        Some(CheckSpec {
            route: health::Route::default(),
            target: SocketAddr::new(self.address.unwrap_or(server.ip()), port),
            kind: self.kind.clone(),
            interval: self.interval,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
            start: self.start,
        })
    }
}

fn not_http(s: &mut Section<'_>, name: &str) {
    s.pointless(
        &HTTP_KEYS,
        &format!("not a key of a check of type {name:?}"),
        "remove it, or write type = \"http\"",
    );
}

fn http(s: &mut Section<'_>) -> Option<HttpSpec> {
    let method = s.or("method", "GET".to_owned(), |v| v.parse(text::http_method));
    let path = s.or("path", "/".to_owned(), |v| v.parse(text::http_path));
    let host = s.maybe("host", |v| v.parse(text::http_host));
    let headers = s.or("headers", Vec::new(), headers);
    let status = s.or("status", vec![(200, 299)], status);
    let body_contains = s.maybe("body_contains", |v| {
        let text = v.parse(text::some_text)?;
        if method.as_deref() == Some("HEAD") {
            v.report(
                "the answer to HEAD has no body",
                "remove it, or write method = \"GET\"",
            );
            return None;
        }
        Some(text)
    });
    s.refuse(&["body_regex"]);
    let tls = s.or("tls", false, |v| v.boolean());
    let tls = if tls == Some(false) {
        s.pointless(
            &["verify", "sni"],
            "means nothing without TLS",
            "remove it, or write tls = true",
        );
        Some(None)
    } else {
        let verify = s.or("verify", true, |v| v.boolean());
        let sni = s.maybe("sni", |v| v.parse(text::host_name));
        tls.and(verify.zip(sni))
            .map(|(verify, sni)| Some(TlsSpec { verify, sni }))
    };
    Some(HttpSpec {
        method: method?,
        path: path?,
        host: host?,
        headers: headers?,
        status: status?,
        body_contains: body_contains?,
        tls: tls?,
    })
}

fn headers(v: &Value<'_>) -> Option<Vec<(String, String)>> {
    let read = v.section()?.entries().into_iter().map(|(name, value)| {
        let content = value.parse(text::header_value);
        let name = value.parse(|_| text::header_name(name));
        Some((name?, content?))
    });
    // Collected twice, so that a bad header does not hide the next.
    let read: Vec<Option<(String, String)>> = read.collect();
    read.into_iter().collect()
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
