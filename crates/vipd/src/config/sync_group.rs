//! `[[sync_group]]`: virtual routers that are master together or not at all.

use super::section::{Section, Seen};
use super::value::Value;
use super::virtual_router;
use super::{SyncGroup, text};

/// Reads the groups; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader<'r> {
    routers: &'r virtual_router::Reader<'r>,
    names: Seen<String>,
    members: Seen<String>,
}

impl<'r> Reader<'r> {
    pub(super) fn new(routers: &'r virtual_router::Reader<'r>) -> Reader<'r> {
        Reader {
            routers,
            names: Seen::new(),
            members: Seen::new(),
        }
    }

    pub(super) fn read(&mut self, mut s: Section<'_>) -> Option<SyncGroup> {
        let name = s.need("name", "\"...\"", |v| {
            let name = v.parse(text::name)?;
            self.names.note(
                name.clone(),
                v,
                "another sync group has this name",
                "give each its own",
            );
            Some(name)
        });
        let members = s.need("members", "[\"...\", \"...\"]", |v| {
            let list = v.list()?;
            let members: Vec<_> = list.iter().map(|item| self.member(item)).collect();
            if members.len() < 2 {
                v.report(
                    "a group has at least two members",
                    "add the names of further virtual routers, or remove the group",
                );
                return None;
            }
            members.into_iter().collect::<Option<Vec<_>>>()
        });
        s.finish();
        Some(SyncGroup {
            name: name?,
            members: members?,
        })
    }

    fn member(&mut self, v: &Value<'_>) -> Option<String> {
        let name = v.named(&self.routers.known, "vrrp", "it")?;
        if self.routers.owners.contains(&name) {
            v.report(
                format!("{name:?} owns its addresses (priority 255)"),
                "remove it, or give it a priority from 1 to 254: an owner is master from the start, alone, and a group is master together",
            );
            return None;
        }
        self.members.note(
            name.clone(),
            v,
            format_args!("{name:?} is in a group already"),
            "remove one of the two; groups that share a member are one group",
        );
        Some(name)
    }
}
