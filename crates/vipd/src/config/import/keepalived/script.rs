//! `vrrp_script`

use std::time::Duration;

use super::super::document::{Document, Item, Section};
use super::block::Node;
use super::context::Context;
use super::{command, lost};

pub(super) fn write(script: &Node, cx: &mut Context<'_>, document: &mut Document) {
    let Some(name) = cx.text(script) else {
        return;
    };
    let mut program: Option<Vec<String>> = None;
    let mut user: Option<String> = None;
    let (mut interval, mut timeout) = (Duration::from_secs(1), None);
    let (mut rise, mut fall) = (1, 1);
    for node in &script.children {
        match node.keyword() {
            "script" => {
                program = command::words(node, cx);
                lost::extra(node, 1, cx);
            }
            "interval" => interval = cx.seconds(node).unwrap_or(interval),
            "timeout" => timeout = cx.seconds(node).map(|time| (time, node)),
            "rise" => rise = cx.number(node, 1..=1000).unwrap_or(rise),
            "fall" => fall = cx.number(node, 1..=1000).unwrap_or(fall),
            "user" => {
                user = cx.text(node);
                command::group(node, node.arg(0).unwrap_or_default(), node.arg(1), cx);
            }
            // What tracks it has it.
            "weight" => {}
            "init_fail" => {
                let message = "a script counts for nothing until it has run";
                cx.lost(node, message, "remove it");
            }
            _ => lost::report(node, &[], "vrrp_script", cx),
        }
    }
    let Some(program) = program else {
        cx.lost(script, "runs nothing", "add `script`");
        return;
    };
    let user = user.unwrap_or_else(|| command::default_user(script, cx));
    let mut section = Section::new("[[track_script]]");
    section.set("name", name);
    section.set("command", Item::texts(program));
    section.set_unless("interval", interval, &Duration::from_secs(1));
    if let Some((time, node)) = timeout
        && time != interval
    {
        if time > interval {
            let message = "a script that runs longer than `interval` has failed in vipd";
            cx.lost(
                node,
                message,
                "write a longer interval; the timeout is left out",
            );
        } else {
            section.set("timeout", time);
        }
    }
    section.set_unless("rise", rise, &1);
    section.set_unless("fall", fall, &1);
    section.set_unless("user", user.as_str(), &"nobody");
    document.push(section);
}
