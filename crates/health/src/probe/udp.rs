//! A datagram is sent, and what comes back is judged.
//!
//! What nobody listens to is refused by the target's kernel (ICMP port unreachable). Where nothing is
//! sent but an empty datagram and no reply is wanted, silence within the timeout is all that a server
//! can say for itself, and passes.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::datagram::{Carries, Datagrams};
use super::{Passed, progress};
use crate::check::{CheckSpec, Route};
use crate::failure::{Failure, Phase};

/// As much of a reply as is looked at, bytes.
const RECEIVE_MAX: usize = 2048;
/// As much of a reply as is shown, bytes.
const SHOWN_MAX: usize = 48;

/// A datagram, and the reply that passes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UdpSpec {
    /// What is sent; it may be empty.
    pub send: Vec<u8>,
    /// What the reply must begin with; absent: any reply passes.
    pub expect: Option<Beginning>,
}

/// The beginning of a reply; `None` stands for any byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Beginning(pub Vec<Option<u8>>);

impl Beginning {
    fn begins(&self, reply: &[u8]) -> bool {
        let mut bytes = reply.iter();
        self.0.iter().all(|wanted| {
            let byte = bytes.next();
            byte.is_some_and(|byte| wanted.is_none_or(|wanted| wanted == *byte))
        })
    }
}

impl fmt::Display for Beginning {
    /// As text in quotes; in hexadecimal where it has a byte that may be any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Option<Vec<u8>> = self.0.iter().copied().collect();
        if let Some(bytes) = bytes {
            return f.write_str(&shown(&bytes));
        }
        for (position, byte) in self.0.iter().enumerate() {
            let space = if position > 0 { " " } else { "" };
            match byte {
                Some(byte) => write!(f, "{space}{byte:02x}")?,
                None => write!(f, "{space}xx")?,
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct UdpProbe {
    target: SocketAddr,
    route: Route,
    timeout: Duration,
    spec: UdpSpec,
}

impl UdpProbe {
    pub(super) fn new(check: &CheckSpec, spec: &UdpSpec) -> UdpProbe {
        UdpProbe {
            target: check.target,
            route: check.route.clone(),
            timeout: check.timeout,
            spec: spec.clone(),
        }
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        let nothing_asked = self.spec.send.is_empty() && self.spec.expect.is_none();
        let asked = Phase::Asked { others: 0 };
        match progress::within(self.timeout, asked, self.ask()).await {
            Err(Failure::Timeout { .. }) if nothing_asked => Ok(Passed::default()),
            outcome => outcome,
        }
    }

    async fn ask(&self) -> Result<Passed, Failure> {
        let socket = Datagrams::connect(Carries::Udp, self.target, &self.route)?;
        socket.send(&self.spec.send).await?;
        let mut buffer = [0; RECEIVE_MAX];
        let length = socket.receive(&mut buffer).await?;
        let reply = buffer.get(..length).unwrap_or_default();
        match &self.spec.expect {
            Some(wanted) if !wanted.begins(reply) => Err(Failure::Answer(format!(
                "answers {}, wanted {wanted} at its beginning",
                shown(reply)
            ))),
            Some(_) | None => Ok(Passed::default()),
        }
    }
}

/// Bytes as text in quotes, with escapes, and not too many of them.
fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing (an empty datagram)".to_owned();
    }
    let beginning = bytes.get(..SHOWN_MAX).unwrap_or(bytes);
    let more = if beginning.len() < bytes.len() {
        format!("... ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    format!("\"{}\"{more}", beginning.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_must_begin_with_the_pattern() {
        let pattern = Beginning(vec![Some(1), None, Some(3)]);
        for reply in [[1, 2, 3].as_slice(), &[1, 9, 3, 4]] {
            assert!(pattern.begins(reply), "{reply:?}");
        }
        for reply in [[].as_slice(), &[1, 2], &[1, 2, 4], &[0, 1, 2, 3]] {
            assert!(!pattern.begins(reply), "{reply:?}");
        }
        assert!(Beginning(Vec::new()).begins(b""));
    }

    #[test]
    fn bytes_are_shown_as_text_and_patterns_with_holes_as_hexadecimal() {
        assert_eq!(shown(b"pong\n\x00"), r#""pong\n\x00""#);
        assert_eq!(shown(b""), "nothing (an empty datagram)");
        let long = shown(&[b'a'; 100]);
        assert_eq!(long, format!("\"{}\"... (100 bytes)", "a".repeat(48)));
        let pattern = |bytes| Beginning(bytes).to_string();
        assert_eq!(pattern(vec![Some(b'o'), Some(b'k')]), r#""ok""#);
        assert_eq!(pattern(vec![Some(0x80), None]), "80 xx");
    }
}
