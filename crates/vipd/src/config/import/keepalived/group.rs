//! `vrrp_sync_group`

use super::super::document::{Document, Item, Section};
use super::block::Node;
use super::context::Context;
use super::lost;
use super::notify;

/// The names of its instances.
pub(super) fn members(group: &Node) -> impl Iterator<Item = &str> {
    let lists = group.all("group").flat_map(|list| &list.children);
    lists.flat_map(|line| line.words.iter().map(|word| word.text.as_str()))
}

/// Whether weights count in it.
pub(super) fn weighs(group: &Node) -> bool {
    group.has("sync_group_tracking_weight") || group.has("global_tracking")
}

pub(super) fn write(group: &Node, cx: &mut Context<'_>, document: &mut Document) {
    let Some(name) = cx.text(group) else {
        return;
    };
    let members: Vec<&str> = members(group).collect();
    for node in &group.children {
        match node.keyword() {
            // The instances have it.
            "group" | "track_interface" | "track_script" | "track_file" | "track_process" => {}
            "sync_group_tracking_weight" | "global_tracking" => {
                let message = "each member has what the group tracks, with its weight";
                cx.idle(node, message, "nothing is to be done");
            }
            _ if notify::of_group(node, &name, cx) => {}
            _ => lost::report(node, &lost::GROUP, "vrrp_sync_group", cx),
        }
    }
    if members.len() < 2 {
        let message = "a group of one member is none";
        cx.idle(group, message, "it is left out");
        return;
    }
    let mut section = Section::new("[[sync_group]]");
    section.set("name", name);
    section.set("members", Item::texts(members));
    document.push(section);
}
