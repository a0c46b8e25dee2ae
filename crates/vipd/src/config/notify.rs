//! `[[notify]]`: who is told of events, by a program or by a webhook.
//!
//! Webhooks hold tokens as often as not: no problem repeats a word of one.

use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::Url;

use super::section::{self, Section, Seen};
use super::value::Value;
use super::{Notify, NotifyBy, Webhook, program, text};
use crate::events::Kind;

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// What keepalived tells scripts of.
const KEEPALIVED: [Kind; 8] = [
    Kind::VrrpMaster,
    Kind::VrrpBackup,
    Kind::VrrpFault,
    Kind::VrrpInitialize,
    Kind::SyncGroupMaster,
    Kind::SyncGroupBackup,
    Kind::SyncGroupFault,
    Kind::SyncGroupInitialize,
];
const COMMAND: &str = "[\"/usr/local/bin/on-change\"]";
const WEBHOOK: &str = "write one such as \"https://alerts.example.com/hook\"";

/// Reads them; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader {
    names: Seen<String>,
    count: usize,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader {
            names: Seen::new(),
            count: 0,
        }
    }

    pub(super) fn read(&mut self, mut s: Section<'_>) -> Option<Notify> {
        self.count = self.count.saturating_add(1);
        let name = s.or("name", format!("notify-{}", self.count), |v| {
            let name = v.parse(text::name)?;
            self.names.note(
                name.clone(),
                v,
                "another notify has this name",
                "give each its own",
            );
            Some(name)
        });
        let events = s.need("events", "[\"vrrp.*\"]", |v| patterns(v, event));
        let objects = s.or("objects", Vec::new(), |v| {
            patterns(v, |v| v.parse(text::some_text))
        });
        let timeout = s.or("timeout", TIMEOUT_DEFAULT, |v| v.duration(TIMEOUT));
        let by = by(&mut s, events.as_ref());
        s.finish();
        Some(Notify {
            name: name?,
            events: events?,
            objects: objects?,
            timeout: timeout?,
            by: by?,
        })
    }
}

fn by(s: &mut Section<'_>, events: Option<&Vec<String>>) -> Option<NotifyBy> {
    const COMMANDS: [&str; 2] = ["user", "keepalived_arguments"];
    if s.has("command") {
        s.pointless(
            &["webhook"],
            "there is a `command` already",
            "write a [[notify]] of its own for the webhook",
        );
        s.pointless(&["headers"], "a command gets none", "remove it");
        let command = s.need("command", COMMAND, program::command);
        let user = program::user(s);
        let keepalived_arguments = s.or("keepalived_arguments", false, |v| {
            let on = v.boolean()?;
            let states = KEEPALIVED.map(Kind::name);
            let fits = |pattern: &String| states.iter().any(|state| matches(pattern, state));
            if on && events.is_some_and(|events| !events.iter().any(fits)) {
                v.report(
                    "none of `events` is a state of a virtual router",
                    format!("add some of {}, or remove it", section::list(&states, '"')),
                );
            }
            Some(on)
        });
        return Some(NotifyBy::Command {
            program: health::program::Program {
                command: command?,
                user: user?,
            },
            keepalived_arguments: keepalived_arguments?,
        });
    }
    s.pointless(&COMMANDS, "a webhook runs no program", "remove it");
    // Known, so that a misspelt one finds its help.
    let _ = (s.get("command"), s.get("webhook"));
    if s.has("webhook") {
        let url = s.need("webhook", "\"https://...\"", webhook);
        let headers = s.or("headers", Vec::new(), Value::headers);
        return Some(NotifyBy::Webhook(Webhook {
            url: url?,
            headers: headers?,
        }));
    }
    s.get("headers");
    s.missing(
        "command",
        format!("add `command = {COMMAND}` or `webhook = \"https://...\"`"),
    );
    None
}

fn patterns(v: &Value<'_>, read: impl Fn(&Value<'_>) -> Option<String>) -> Option<Vec<String>> {
    let list = v.list()?;
    if list.is_empty() {
        v.report(
            "nothing would ever be told",
            "write what is, or \"*\" for all of it",
        );
        return None;
    }
    let read: Vec<_> = list.iter().map(read).collect();
    read.into_iter().collect()
}

/// The name of a kind, or a pattern that some of them fit.
fn event(v: &Value<'_>) -> Option<String> {
    let text = v.text()?;
    if Kind::ALL.iter().any(|kind| matches(text, kind.name())) {
        return Some(text.to_owned());
    }
    let names = Kind::ALL.map(Kind::name);
    let help = match text::closest(text, &names) {
        Some(close) => format!("did you mean {close:?}?"),
        None => {
            "docs/operation.md lists the kinds; `*` stands for any characters, as in \"vrrp.*\""
                .to_owned()
        }
    };
    v.report(format!("no event is called {text:?}"), help);
    None
}

fn webhook(v: &Value<'_>) -> Option<String> {
    let text = v.text()?;
    let good = Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
    if !good {
        v.report("is not an http:// or https:// URL", WEBHOOK);
        return None;
    }
    Some(text.to_owned())
}

/// Whether a text fits a pattern, in which `*` stands for any characters, also none.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(first) else {
        return false;
    };
    let mut text = text;
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text
            .find(part)
            .and_then(|at| text.get(at.saturating_add(part.len())..))
        {
            Some(after) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_also_none() {
        for (pattern, text, wanted) in [
            ("vrrp.master", "vrrp.master", true),
            ("vrrp.master", "vrrp.masters", false),
            ("vrrp.*", "vrrp.master", true),
            ("vrrp.*", "vrrp.", true),
            ("vrrp.*", "xvrrp.a", false),
            ("*", "", true),
            ("*.up", "check.up", true),
            ("*.up", "check.upper", false),
            ("real*r.*n", "real_server.down", true),
            ("real*r.*n", "real_server.dow", false),
            ("a*a", "a", false),
            ("**a**", "bab", true),
            ("*a*b*", "xbxaxbx", true),
            ("*a*b*", "xbxa", false),
            ("", "", true),
            ("", "a", false),
            ("ü*", "üb", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
