//! An agent on the real server says in one line how it is, as HAProxy's `agent-check` has it.
//!
//! The line is words, separated by spaces, tabs or commas; it ends at a carriage return, a line feed or
//! the end of the connection. What follows a `#` is a description. Each answer stands for itself:
//! what it does not say is as configured.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::socket::First;
use super::{Passed, Weight, progress, socket};
use crate::check::{CheckSpec, Route};
use crate::failure::{Failure, Phase};

/// A longer line is none.
const LINE_MAX: usize = 1024;

/// How an agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AgentSpec {
    /// What is sent as soon as there is a connection; empty: nothing.
    pub send: String,
}

#[derive(Debug)]
pub(super) struct AgentProbe {
    target: SocketAddr,
    route: Route,
    timeout: Duration,
    spec: AgentSpec,
}

impl AgentProbe {
    pub(super) fn new(check: &CheckSpec, spec: &AgentSpec) -> AgentProbe {
        AgentProbe {
            target: check.target,
            route: check.route.clone(),
            timeout: check.timeout,
            spec: spec.clone(),
        }
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        let line = progress::within(self.timeout, Phase::Connecting, self.ask()).await?;
        judge(&String::from_utf8_lossy(&line))
    }

    async fn ask(&self) -> Result<Vec<u8>, Failure> {
        let from = |error: std::io::Error| Failure::from(&error);
        let mut stream = socket::connect(self.target, &self.route, First::Theirs).await?;
        progress::enter(|connected_after| Phase::Waiting { connected_after });
        let mut line = Vec::new();
        stream
            .write_all(self.spec.send.as_bytes())
            .await
            .map_err(from)?;
        let mut buffer = [0; LINE_MAX];
        loop {
            let length = stream.read(&mut buffer).await.map_err(from)?;
            let bytes = buffer.get(..length).unwrap_or_default();
            let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            line.extend(bytes.iter().take(end.unwrap_or(length)));
            if line.len() > LINE_MAX {
                let what = format!("a line of more than {LINE_MAX} bytes");
                return Err(Failure::Protocol(what));
            }
            if end.is_some() || length == 0 {
                return Ok(line);
            }
            let received = line.len();
            progress::enter(|_| Phase::Line { received });
        }
    }
}

/// A line as HAProxy's manual has it (`agent-check`).
fn judge(line: &str) -> Result<Passed, Failure> {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = line.chars().map(plain).collect();
    let (words, description) = match line.split_once('#') {
        Some((words, description)) => (words, description.trim()),
        None => (line.as_str(), ""),
    };
    let mut weight = None;
    let mut drains = false;
    let mut down = None;
    let mut said = false;
    for word in words.split([' ', ',']).filter(|word| !word.is_empty()) {
        said = true;
        match word.to_ascii_lowercase().as_str() {
            "up" | "ready" => {}
            "drain" => drains = true,
            bad @ ("down" | "failed" | "stopped" | "maint") => {
                down.get_or_insert(bad.to_owned());
            }
            // For proxies: IPVS has a threshold in the configuration.
            word if word.strip_prefix("maxconn:").is_some_and(is_number) => {}
            word => match word.strip_suffix('%').filter(|share| is_number(share)) {
                // One that does not fit is as large as can be.
                Some(share) => weight = Some(Weight::Percent(share.parse().unwrap_or(u32::MAX))),
                None => {
                    return Err(Failure::Protocol(format!(
                        "the agent says {word:?}, which is none of up, ready, down, failed, \
                         stopped, maint, drain, 75%"
                    )));
                }
            },
        }
    }
    match down {
        Some(word) if description.is_empty() => {
            Err(Failure::Answer(format!("the agent says {word}")))
        }
        Some(word) => Err(Failure::Answer(format!(
            "the agent says {word}: {description}"
        ))),
        None if !said => Err(Failure::Protocol("the agent says nothing".into())),
        None => Ok(Passed {
            weight: if drains {
                Some(Weight::Percent(0))
            } else {
                weight
            },
            ..Passed::default()
        }),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_passes_may_ask_for_a_weight() {
        let percent = |share| Some(Weight::Percent(share));
        for (line, weight) in [
            ("up", None),
            ("ready", None),
            ("UP", None),
            ("up ready", None),
            ("maxconn:30 up", None),
            ("75%", percent(75)),
            ("up 75%", percent(75)),
            ("up,\t75%", percent(75)),
            ("0%", percent(0)),
            ("150%", percent(150)),
            ("99999999999%", percent(u32::MAX)),
            ("drain", percent(0)),
            ("drain 50%", percent(0)),
            ("ready 50% drain", percent(0)),
            ("up #all is well", None),
        ] {
            let passed = judge(line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
            assert_eq!(passed.weight, weight, "{line}");
        }
    }

    #[test]
    fn a_line_that_does_not_pass_says_why() {
        for (line, words) in [
            ("down", "the agent says down"),
            ("failed#disk full", "the agent says failed: disk full"),
            (
                "stopped # for the night",
                "the agent says stopped: for the night",
            ),
            ("maint", "the agent says maint"),
            ("75% down", "the agent says down"),
            ("up down", "the agent says down"),
            ("down#a\u{1b}[31mb", "the agent says down: a [31mb"),
        ] {
            let failure = judge(line).unwrap_err();
            assert_eq!(failure, Failure::Answer(words.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_is_no_word_of_the_protocol_fails_with_the_word() {
        for line in [
            "",
            " ",
            "#up",
            "hello",
            "75",
            "%",
            "-5%",
            "maxconn:",
            "upp",
            "HTTP/1.1 400",
        ] {
            let failure = judge(line).unwrap_err();
            assert_eq!(failure.reason(), "protocol", "{line:?}: {failure}");
        }
        let words = judge("up hello").unwrap_err().to_string();
        assert!(words.contains("says \"hello\""), "{words}");
    }
}
