//! `type = "agent"`: what an agent beside the server says of it.

use health::{AgentSpec, CheckKind};

use super::super::section::Section;
use super::super::text;
use super::Type;

pub(super) const TYPE: Type = Type {
    name: "agent",
    fall: super::FALL,
    keys: &["send"],
    tls: false,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    // Asked for before: it is a key of every type. The server's own port would be asked otherwise,
    // and that speaks another protocol.
    let port = s.has("port").then_some(());
    if port.is_none() {
        s.missing(
            "port",
            "add `port = 9999`: the agent's own, it is not the server that answers".to_owned(),
        );
    }
    let send = s.or("send", String::new(), |v| v.parse(text::some_text));
    port?;
    Some(CheckKind::Agent(AgentSpec { send: send? }))
}
