//! What instances track: `vrrp_script`, `track_file` and `vrrp_track_process` by name, and interfaces.

use std::collections::BTreeMap;

use super::super::document::{Item, Keys};
use super::block::{Node, Word};
use super::context::{Context, parse};
use super::{group, lost};

/// What can be tracked by name.
#[derive(Debug, Default)]
pub(super) struct Trackable {
    /// The weight of each script.
    scripts: BTreeMap<String, i32>,
    files: BTreeMap<String, (String, i32)>,
    processes: BTreeMap<String, (String, u32, i32)>,
}

impl Trackable {
    pub(super) fn read(tree: &[Node], cx: &mut Context<'_>) -> Trackable {
        let mut known = Trackable::default();
        for node in tree {
            let Some(name) = node.arg(0).map(str::to_owned) else {
                continue;
            };
            match node.keyword() {
                "vrrp_script" => {
                    let weight = node.last("weight");
                    let weight = weight.and_then(|line| weight_of(line.args(), line, cx));
                    known.scripts.insert(name, weight.unwrap_or(0));
                }
                "track_file" | "vrrp_track_file" => {
                    if let Some(file) = file(node, cx) {
                        known.files.insert(name, file);
                    }
                }
                "vrrp_track_process" => {
                    if let Some(process) = process(node, cx) {
                        known.processes.insert(name, process);
                    }
                }
                _ => {}
            }
        }
        known
    }
}

fn file(node: &Node, cx: &mut Context<'_>) -> Option<(String, i32)> {
    let (mut path, mut weight) = (None, 1);
    for line in &node.children {
        match line.keyword() {
            "file" => path = cx.text(line),
            "weight" => weight = weight_of(line.args(), line, cx).unwrap_or(weight),
            "init_file" => {
                let message = "vipd makes no file";
                cx.lost(line, message, "write 0 into it before vipd starts");
            }
            _ => lost::report(line, &[], "track_file", cx),
        }
    }
    if path.is_none() {
        cx.lost(node, "names no file", "add `file`");
    }
    Some((path?, weight))
}

fn process(node: &Node, cx: &mut Context<'_>) -> Option<(String, u32, i32)> {
    let (mut name, mut count, mut weight) = (None, 1, 1);
    for line in &node.children {
        match line.keyword() {
            "process" => {
                name = cx.text(line);
                lost::extra(line, 1, cx);
            }
            "weight" => weight = weight_of(line.args(), line, cx).unwrap_or(weight),
            "quorum" => count = cx.number(line, 1..=u32::MAX).unwrap_or(count),
            "quorum_max" => cx.lost(line, "too many processes are no fault", "remove it"),
            "full_command" | "param_match" => {
                let message = "vipd knows processes by their name alone (`ps -o comm`)";
                cx.lost(line, message, "write a vrrp_script that looks for it");
            }
            "delay" | "fork_delay" | "terminate_delay" => {
                let message = "vipd counts processes once a second, and waits for nothing else";
                cx.lost(line, message, "remove it");
            }
            _ => lost::report(line, &[], "vrrp_track_process", cx),
        }
    }
    if name.is_none() {
        cx.lost(node, "names no process", "add `process`");
    }
    Some((name?, count, weight))
}

/// `weight N [reverse]`, or what stands behind `weight`.
fn weight_of(words: &[Word], node: &Node, cx: &mut Context<'_>) -> Option<i32> {
    let mut words = words.iter().map(|word| word.text.as_str()).peekable();
    words.next_if(|word| *word == "weight");
    let text = words.next()?;
    let weight = parse(text, &(-253..=253));
    if weight.is_none() {
        let message = format!("{text:?} is no weight from -253 to 253");
        cx.lost(node, message, "it is left out of the result");
    }
    match words.next() {
        Some("reverse") => {
            let message = "vipd knows no reversed weights";
            cx.lost(node, message, "track the opposite, with a script");
        }
        None | Some("noreverse" | "no_reverse") => {}
        Some(other) => {
            let message = format!("{other:?} is not read here");
            cx.lost(node, message, "it is left out of the result");
        }
    }
    weight
}

/// `track` of an instance, with what its group tracks.
pub(super) fn of_instance(instance: &Node, cx: &mut Context<'_>) -> Vec<Item> {
    let group = instance
        .arg(0)
        .and_then(|name| cx.groups.get(name).copied());
    let weighs = group.is_none_or(group::weighs);
    let mut items = Vec::new();
    for (of, weights_count) in [(Some(instance), weighs), (group, true)] {
        let lists = of.iter().flat_map(|node| &node.children);
        for list in lists {
            let kind = match list.keyword() {
                "track_interface" => "interface",
                "track_script" => "script",
                "track_file" => "file",
                "track_process" => "process",
                _ => continue,
            };
            for entry in &list.children {
                if let Some(keys) = one(kind, entry, weights_count, cx) {
                    let item = Item::Table(keys);
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
            }
        }
    }
    items
}

fn one(kind: &str, entry: &Node, weights_count: bool, cx: &mut Context<'_>) -> Option<Keys> {
    let name = entry.keyword();
    let mut keys = Keys::default();
    let default = match kind {
        "interface" => {
            keys.set(kind, name);
            Some(0)
        }
        "script" => {
            keys.set(kind, name);
            cx.trackable.scripts.get(name).copied()
        }
        "file" => cx.trackable.files.get(name).map(|(path, weight)| {
            keys.set(kind, path.as_str());
            *weight
        }),
        _ => cx
            .trackable
            .processes
            .get(name)
            .map(|(process, count, weight)| {
                keys.set(kind, process.as_str());
                keys.set_unless("count", *count, &1);
                *weight
            }),
    };
    let Some(default) = default else {
        let message = format!("no {kind} {name:?} is defined");
        cx.lost(entry, message, "it is left out of the result");
        return None;
    };
    let weight = weight_of(entry.args(), entry, cx).unwrap_or(default);
    if weight != 0 && !weights_count {
        let message = "keepalived ignores what is tracked with a weight in a sync group";
        cx.idle(entry, message, "remove it");
        return None;
    }
    keys.set_unless("weight", weight, &0);
    Some(keys)
}
