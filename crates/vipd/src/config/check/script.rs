//! `type = "script"`: a program's exit status says how the server is.

use health::CheckKind;
use health::program::Program;

use super::super::program;
use super::super::section::Section;
use super::Type;

pub(super) const TYPE: Type = Type {
    name: "script",
    fall: super::FALL,
    keys: &["command", "user"],
    tls: false,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    s.pointless(
        &["source", "interface", "fwmark"],
        "the packets are the script's own",
        "remove it, and give the script what it needs as an argument",
    );
    let command = s.need(
        "command",
        "[\"/usr/local/bin/check-web\", \"--deep\"]",
        program::command,
    );
    let user = program::user(s);
    Some(CheckKind::Script(Program {
        command: command?,
        user: user?,
    }))
}
