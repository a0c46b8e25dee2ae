//! What the blocks have in common: what the rest of the file says, how values are read, and where problems go.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::super::host::Host;
use super::super::notes::{Notes, Place};
use super::block::Node;
use super::global::Globals;
use super::notify::Notifies;
use super::track::Trackable;

/// What every block may ask.
pub(super) struct Context<'c> {
    pub(super) notes: &'c mut Notes,
    pub(super) host: &'c dyn Host,
    pub(super) globals: Globals,
    /// The sync group of each instance that is in one.
    pub(super) groups: BTreeMap<String, &'c Node>,
    pub(super) instances: Vec<&'c Node>,
    pub(super) server_groups: BTreeMap<String, &'c Node>,
    pub(super) trackable: Trackable,
    pub(super) notifies: Notifies,
    /// Whether it was said that programs run as root.
    pub(super) said_root: bool,
}

impl<'c> Context<'c> {
    pub(super) fn new(tree: &'c [Node], notes: &'c mut Notes, host: &'c dyn Host) -> Context<'c> {
        let of = |keyword: &'static str| tree.iter().filter(move |node| node.keyword() == keyword);
        let mut groups = BTreeMap::new();
        for group in of("vrrp_sync_group") {
            for member in super::group::members(group) {
                groups.insert(member.to_owned(), group);
            }
        }
        let server_groups = of("virtual_server_group")
            .filter_map(|group| Some((group.arg(0)?.to_owned(), group)))
            .collect();
        let mut context = Context {
            notes,
            host,
            globals: Globals::default(),
            groups,
            instances: of("vrrp_instance").collect(),
            server_groups,
            trackable: Trackable::default(),
            notifies: Notifies::default(),
            said_root: false,
        };
        context.globals = Globals::read(tree, &mut context);
        context.trackable = Trackable::read(tree, &mut context);
        context
    }

    /// What has no equivalent, or cannot be read.
    pub(super) fn lost(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.notes.lost(&whole(node), &node.path, message, help);
    }

    /// What is said otherwise or not at all, and the result is the same.
    pub(super) fn idle(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.notes.idle(&whole(node), &node.path, message, help);
    }

    /// The word behind the keyword.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        let text = node.arg(0).map(str::to_owned);
        if text.is_none() {
            self.lost(node, "has no value", "add one, or remove the line");
        }
        text
    }

    /// The number behind the keyword.
    pub(super) fn number<T>(&mut self, node: &Node, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let text = self.text(node)?;
        let number = parse(&text, &range);
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let message = format!("{text:?} is no whole number from {least} to {most}");
            self.lost(node, message, "it is left out of the result");
        }
        number
    }

    /// The seconds behind the keyword, with a fraction or without.
    pub(super) fn seconds(&mut self, node: &Node) -> Option<Duration> {
        let text = self.text(node)?;
        let time = seconds(&text);
        if time.is_none() {
            let message = format!("{text:?} is no number of seconds");
            self.lost(node, message, "it is left out of the result");
        }
        time
    }

    /// `on` or `off` behind the keyword; the keyword alone is `on`.
    pub(super) fn boolean(&mut self, node: &Node) -> bool {
        match node.arg(0) {
            None | Some("on" | "true" | "yes" | "1") => true,
            Some("off" | "false" | "no" | "0") => false,
            Some(other) => {
                let message = format!("{other:?} is neither on nor off");
                self.lost(node, message, "taken as on");
                true
            }
        }
    }
}

/// A number in that range.
pub(super) fn parse<T: FromStr + PartialOrd>(text: &str, range: &RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// Seconds with a fraction, as precise as keepalived takes them.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u32 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some(Duration::from_secs(whole.into()) + Duration::from_micros(micros.parse().ok()?))
}

/// All of a statement, as far as it stands on one line.
fn whole(node: &Node) -> Place {
    let first = node.place();
    let words = node.words.iter().rev();
    let last = words
        .map(|word| &word.place)
        .find(|place| place.file == first.file && place.span.end >= first.span.end);
    let end = last.map_or(first.span.end, |last| last.span.end);
    Place {
        file: first.file,
        span: first.span.start..end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("3"), Some(Duration::from_secs(3)));
        assert_eq!(seconds("0.92"), Some(Duration::from_millis(920)));
        assert_eq!(seconds(".5"), Some(Duration::from_millis(500)));
        for wrong in ["", ".", "-1", "1s", "1.2.3", "99999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
