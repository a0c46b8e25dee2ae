//! What `vipd realserver` says: a line for each thing, or JSON.

use std::net::IpAddr;

use serde::Serialize;

use super::Action;
use super::role::Role;
use super::thing::{Difference, Thing};

/// What was found, and what became of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    action: &'static str,
    /// Whether all is as it should be now.
    pub good: bool,
    real_servers: Vec<IpAddr>,
    virtual_servers: Vec<String>,
    virtual_addresses: Vec<IpAddr>,
    notes: Vec<String>,
    differences: Vec<Step>,
}

/// One thing.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    is: Option<String>,
    should: String,
    /// Whether it is as it should be now.
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Step {
    /// It differs, and was left so.
    pub(super) fn found(difference: Difference) -> Step {
        Step {
            what: difference.thing.to_string(),
            is: Some(difference.is),
            should: difference.should,
            done: false,
            error: None,
        }
    }

    /// It differed.
    pub(super) fn done(difference: Difference, done: Result<(), String>) -> Step {
        Step {
            done: done.is_ok(),
            error: done.err(),
            ..Step::found(difference)
        }
    }

    /// It was made as it was.
    pub(super) fn undone(thing: &Thing, result: Result<String, String>) -> Step {
        let (done, should, error) = match result {
            Ok(said) => (true, said, None),
            Err(error) => (false, "as it was before".to_owned(), Some(error)),
        };
        Step {
            what: thing.to_string(),
            is: None,
            should,
            done,
            error,
        }
    }

    pub(super) fn line(&self) -> String {
        let Step {
            what,
            is,
            should,
            done,
            error,
        } = self;
        match (is, done, error) {
            (Some(is), true, _) => format!("{what}: was {is}, is {should}"),
            (None, true, _) => format!("{what}: {should}"),
            (_, false, Some(error)) => format!("{what}: should be {should}, but: {error}"),
            (Some(is), false, None) => format!("{what}: is {is}, should be {should}"),
            (None, false, None) => format!("{what}: should be {should}"),
        }
    }

    pub(super) fn failed(&self) -> bool {
        self.error.is_some()
    }
}

impl Outcome {
    pub(super) fn new(action: Action, role: &Role, steps: Vec<Step>) -> Outcome {
        Outcome {
            action: match action {
                Action::Set => "set",
                Action::Check => "check",
                Action::Undo => "undo",
            },
            good: steps.iter().all(|step| step.done),
            real_servers: role.itself.iter().copied().collect(),
            virtual_servers: role.services.iter().map(|it| it.name.clone()).collect(),
            virtual_addresses: role.virtual_addresses.keys().copied().collect(),
            notes: role.notes.clone(),
            differences: steps,
        }
    }

    /// For a person.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.differences.iter().map(Step::line).collect();
        lines.extend(self.notes.iter().cloned());
        if self.differences.is_empty() {
            let ips: Vec<String> = self
                .virtual_addresses
                .iter()
                .map(IpAddr::to_string)
                .collect();
            lines.push(match self.action {
                "undo" => "nothing to undo".to_owned(),
                _ if ips.is_empty() => "nothing to set up".to_owned(),
                _ => format!("nothing to change: {} as it should be", ips.join(", ")),
            });
        }
        lines
    }
}
