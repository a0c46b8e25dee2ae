//! What the fuzz target `dump` does with an input, and the test of `crates/ipvs` that replays the
//! corpus: a datagram of the kernel's, read as every kind of answer.

use ipvs::message::{self, Body, Changes, DecodeError};
use ipvs::{Change, Family, ServiceKey};

/// What became of it: what the first answer is, or why it is none. What is read can be asked for.
pub fn read(datagram: &[u8]) -> &'static str {
    let mut first = None;
    for reply in message::replies(datagram) {
        let outcome = match reply {
            Ok(reply) => match reply.body {
                Body::Message(answer) => answer_of(answer),
                Body::Done(_) => "done",
                Body::Status(_) => "status",
                Body::Nothing => "nothing",
            },
            Err(error) => name(error),
        };
        first.get_or_insert(outcome);
    }
    first.unwrap_or("empty")
}

fn answer_of(answer: &[u8]) -> &'static str {
    let service = message::service_from(answer);
    let key = ServiceKey::FirewallMark {
        family: Family::V4,
        mark: 1,
    };
    let destination = message::destination_from(answer, &key);
    let daemon = message::daemon_from(answer);
    let timeouts = message::timeouts_from(answer);
    let info = message::info_from(answer);
    let _ = message::family_from(answer);
    if let Ok((key, service, _)) = service {
        // Any name that is no name is refused; everything else has a form.
        let mut changes = Changes::new(1);
        let written = changes.add(1, &Change::AddService(key, service));
        assert_eq!(written.is_ok(), !changes.bytes().is_empty());
        return "service";
    }
    if let Ok((server, settings, _)) = destination {
        let change = Change::AddDestination(key, server, settings);
        assert!(Changes::new(1).add(1, &change).is_ok());
        return "destination";
    }
    if let Ok(daemon) = daemon {
        assert!(daemon.runs_as(&daemon) || daemon.max_length != 0);
        return "daemon";
    }
    match (timeouts, info, service, destination) {
        (Ok(_), ..) => "timeouts",
        (_, Ok(_), ..) => "info",
        (_, _, Err(DecodeError::Missing("the service")), Err(error)) => name(error),
        (_, _, Err(error), _) => name(error),
        (_, _, Ok(_), _) => "service",
    }
}

fn name(error: DecodeError) -> &'static str {
    match error {
        DecodeError::Truncated => "truncated",
        DecodeError::Missing(_) => "missing",
        DecodeError::Malformed(_) => "malformed",
        DecodeError::Unknown { .. } => "unknown",
    }
}
