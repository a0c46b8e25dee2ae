//! `notify_*`, `quorum_up` and such: programs that are told. One `[[notify]]` stands for all objects and
//! events that have the same program.

use std::collections::BTreeMap;

use super::super::document::{Document, Item, Section};
use super::block::Node;
use super::command::{self, Program};
use super::context::Context;

/// Who is told what, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Notifies {
    entries: Vec<Entry>,
    /// Which of them a program has for an object.
    of_object: BTreeMap<(Program, bool, String), usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    program: Program,
    /// Whether it gets what keepalived's own scripts get.
    told_all: bool,
    events: Vec<&'static str>,
    object: String,
}

impl Notifies {
    /// A program that is told of an object is told of its other events by the same entry.
    fn add(&mut self, entry: Entry) {
        let key = (entry.program.clone(), entry.told_all, entry.object.clone());
        let next = self.entries.len();
        let at = *self.of_object.entry(key).or_insert(next);
        match self.entries.get_mut(at) {
            Some(known) => {
                for event in entry.events {
                    if !known.events.contains(&event) {
                        known.events.push(event);
                    }
                }
            }
            None => self.entries.push(entry),
        }
    }

    pub(super) fn write(&self, document: &mut Document) {
        let mut whole: Vec<(&Entry, Vec<&str>)> = Vec::new();
        let mut same = BTreeMap::new();
        for entry in &self.entries {
            let key = (&entry.program, entry.told_all, &entry.events);
            let next = whole.len();
            let at = *same.entry(key).or_insert(next);
            match whole.get_mut(at) {
                Some((_, objects)) => objects.push(&entry.object),
                None => whole.push((entry, vec![&entry.object])),
            }
        }
        for (entry, objects) in whole {
            let mut section = Section::new("[[notify]]");
            section.set("events", Item::texts(entry.events.iter().copied()));
            section.set("objects", Item::texts(objects));
            section.set(
                "command",
                Item::texts(entry.program.command.iter().map(String::as_str)),
            );
            section.set_unless("user", entry.program.user.as_str(), &"nobody");
            section.set_unless("keepalived_arguments", entry.told_all, &false);
            document.push(section);
        }
    }
}

/// Reads a statement of an instance; `false`: it is not about this.
pub(super) fn of_instance(node: &Node, name: &str, cx: &mut Context<'_>) -> bool {
    let (events, told_all): (&[&'static str], bool) = match node.keyword() {
        "notify" => (
            &[
                "vrrp.master",
                "vrrp.backup",
                "vrrp.fault",
                "vrrp.initialize",
            ],
            true,
        ),
        "notify_master" => (&["vrrp.master"], false),
        "notify_backup" => (&["vrrp.backup"], false),
        "notify_fault" => (&["vrrp.fault"], false),
        "notify_stop" => (&["vrrp.initialize"], false),
        "notify_master_rx_lower_pri" => (&["vrrp.rival"], false),
        _ => return false,
    };
    add(node, events, told_all, name.to_owned(), cx);
    true
}

/// The same of a sync group.
pub(super) fn of_group(node: &Node, name: &str, cx: &mut Context<'_>) -> bool {
    let (events, told_all): (&[&'static str], bool) = match node.keyword() {
        "notify" => (
            &[
                "sync_group.master",
                "sync_group.backup",
                "sync_group.fault",
                "sync_group.initialize",
            ],
            true,
        ),
        "notify_master" => (&["sync_group.master"], false),
        "notify_backup" => (&["sync_group.backup"], false),
        "notify_fault" => (&["sync_group.fault"], false),
        "notify_stop" => (&["sync_group.initialize"], false),
        _ => return false,
    };
    add(node, events, told_all, name.to_owned(), cx);
    true
}

/// A program that is told of events of an object; one name may stand for more than one object.
pub(super) fn add(
    node: &Node,
    events: &[&'static str],
    told_all: bool,
    object: String,
    cx: &mut Context<'_>,
) {
    if let Some(program) = command::read(node, cx) {
        cx.notifies.add(Entry {
            program,
            told_all,
            events: events.to_vec(),
            // In a pattern `*` stands for anything, also for itself.
            object,
        });
    }
}
