//! `track`: what the state or the priority of a virtual router depends on.

use std::ops::RangeInclusive;

use ::vrrp::PRIORITY_OWNER;

use super::section::{Section, Seen};
use super::value::Value;
use super::virtual_router::Facts;
use super::{Track, Tracked, text};

const WEIGHT: RangeInclusive<i32> = -253..=253;
const KINDS: [&str; 5] = ["interface", "script", "file", "process", "virtual_server"];

/// The names that `track` may give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'r> {
    pub(super) scripts: &'r [String],
    pub(super) virtual_servers: &'r [String],
}

impl Known<'_> {
    pub(super) fn read(self, v: &Value<'_>, facts: &Facts<'_>) -> Option<Vec<Track>> {
        let mut seen = Seen::new();
        let list = v.list()?;
        let read: Vec<_> = list
            .iter()
            .map(|item| self.one(item, facts, &mut seen))
            .collect();
        read.into_iter().collect()
    }

    fn one(self, item: &Value<'_>, facts: &Facts<'_>, seen: &mut Seen<Tracked>) -> Option<Track> {
        let mut s = item.section()?;
        let kinds = KINDS.iter().filter(|kind| s.has(kind)).count();
        let what = self.what(&mut s);
        let weight = s.maybe("weight", |v| weight(v, facts));
        s.finish();
        if kinds != 1 {
            item.report(
                if kinds == 0 {
                    "tracks nothing"
                } else {
                    "tracks more than one thing"
                },
                "write one of `interface`, `script`, `file`, `process`, `virtual_server` in each table",
            );
            return None;
        }
        let what = what?;
        seen.note(
            what.clone(),
            item,
            "is tracked already",
            "remove one of the two",
        );
        Some(Track {
            what,
            weight: weight?,
        })
    }

    /// What is tracked, where exactly one thing is.
    fn what(self, s: &mut Section<'_>) -> Option<Tracked> {
        let interface = s.maybe("interface", |v| v.parse(text::interface));
        let script = s.maybe("script", |v| v.named(self.scripts, "track_script", "it"));
        let file = s.maybe("file", |v| v.parse(text::path));
        let process = s.maybe("process", |v| v.parse(text::process));
        let server = s.maybe("virtual_server", |v| {
            v.named(self.virtual_servers, "virtual_server", "it")
        });
        let count = if s.has("process") {
            s.or("count", 1, |v| v.integer(1..=u32::MAX))
        } else {
            s.pointless(&["count"], "only processes are counted", "remove it");
            None
        };
        let process = process?.and_then(|name| {
            Some(Tracked::Process {
                name,
                count: count?,
            })
        });
        interface?
            .map(Tracked::Interface)
            .or(script?.map(Tracked::Script))
            .or(file?.map(Tracked::File))
            .or(process)
            .or(server?.map(Tracked::VirtualServer))
    }
}

fn weight(v: &Value<'_>, facts: &Facts<'_>) -> Option<i32> {
    let weight = v.integer(WEIGHT)?;
    if weight == 0 {
        v.report(
            "a weight of 0 changes nothing",
            "leave it out, and a failure is a fault; or write -253 to 253",
        );
        return None;
    }
    if facts.priority == Some(PRIORITY_OWNER) {
        v.report(
            "the priority of the address owner (255) never changes",
            "leave it out, and a failure is a fault; or write a priority from 1 to 254",
        );
        return None;
    }
    Some(weight)
}
