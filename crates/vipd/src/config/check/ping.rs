//! `type = "ping"`: an ICMP echo is answered. It has no keys of its own.

use health::CheckKind;

use super::super::section::Section;
use super::Type;

pub(super) const TYPE: Type = Type {
    name: "ping",
    fall: super::FALL_OF_DATAGRAMS,
    keys: &[],
    tls: false,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    s.pointless(&["port"], "a ping has no port", "remove it");
    Some(CheckKind::Ping)
}
