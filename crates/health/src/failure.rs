//! Why a probe did not pass, as a metric's label and in an operator's words.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a probe did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens on the port.
    Refused,
    /// No verdict within the check's timeout.
    Timeout {
        /// The check's timeout.
        after: Duration,
        /// How far the probe had come.
        phase: Phase,
    },
    /// The target, or something on the way, broke the connection with a RST.
    Reset,
    /// The network reports that the target cannot be reached.
    Unreachable(String),
    /// The TLS handshake failed, or the certificate is not good; in words.
    Tls(String),
    /// The answer has a status that is not wanted.
    Status {
        /// The answer's.
        got: u16,
        /// What passes, as inclusive ranges.
        wanted: Vec<(u16, u16)>,
    },
    /// The body is not what it must be.
    Body {
        /// What it must be.
        wanted: BodyWanted,
        /// How many bytes of the body were searched.
        searched: usize,
        /// Whether the body goes on after those.
        truncated: bool,
    },
    /// The answer is a good one, and says another thing than is wanted; in words.
    Answer(String),
    /// The program of the check ended badly; in words.
    Script(String),
    /// A mail server says no; in words.
    Smtp(String),
    /// A gRPC server says no; in words.
    Grpc(String),
    /// The answer is not what the protocol allows; in words.
    Protocol(String),
    /// Another error of the operating system, in its words (a local firewall's, for one).
    Io(String),
    /// This machine ran out of something (file descriptors, ports, buffers): says nothing about the
    /// target.
    Resource(String),
    /// This machine lacks what the check's route asks for (an interface, an address, a capability):
    /// says nothing about the target.
    Local(String),
    /// The check cannot be made as it is written; in words.
    Invalid(String),
    /// The probe itself is broken: it panicked with this message.
    Internal(String),
}

/// What a body must be, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyWanted {
    /// One that contains this.
    Text(String),
    /// One that matches this regular expression.
    Match(String),
    /// One with this SHA-256.
    Sha256 {
        /// In hexadecimal.
        wanted: String,
        /// That of the body that came.
        got: String,
    },
}

/// How far a probe had come when its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No TCP connection yet.
    Connecting,
    /// No TCP connection yet, or no end of the TLS handshake.
    ConnectingTls,
    /// Connected, no end of the TLS handshake.
    Handshake {
        /// From the start of the probe to the connection.
        connected_after: Duration,
    },
    /// In a conversation that has several answers.
    WaitingFor {
        /// The answer that is due, as a noun: `the greeting`.
        what: &'static str,
        /// From the start of the probe to the connection.
        connected_after: Duration,
    },
    /// Connected (with TLS: after the handshake), no answer yet.
    Waiting {
        /// From the start of the probe to the connection.
        connected_after: Duration,
    },
    /// The answer's head has come, its body has not ended.
    Reading {
        /// The answer's status.
        status: u16,
        /// Bytes of the body that have come.
        received: usize,
    },
    /// Datagrams were sent; so many came that are no answer to them.
    Asked {
        /// How many.
        others: u32,
    },
    /// Connected; the line that is waited for has not ended.
    Line {
        /// Bytes of it that have come.
        received: usize,
    },
    /// The program runs.
    Running,
    /// The program has not been started: the run before is not over.
    Queued,
}

impl Phase {
    /// What a traced probe calls it.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Phase::Connecting => "connect",
            Phase::ConnectingTls => "connect and TLS",
            Phase::Handshake { .. } => "TLS",
            Phase::WaitingFor { what, .. } => what,
            Phase::Waiting { .. } => "first byte",
            Phase::Reading { .. } => "body",
            Phase::Asked { .. } => "answer",
            Phase::Line { .. } => "line",
            Phase::Queued => "run before",
            Phase::Running => "run",
        }
    }
}

impl Failure {
    /// Every value of [`Failure::reason`], so that a metric can begin each at zero.
    pub const REASONS: &'static [&'static str] = &[
        "refused",
        "timeout",
        "reset",
        "unreachable",
        "tls",
        "status",
        "body",
        "answer",
        "script",
        "smtp",
        "grpc",
        "protocol",
        "io",
        "resource",
        "local",
        "invalid",
        "internal",
    ];

    /// The kind of failure, as a metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Timeout { .. } => "timeout",
            Failure::Reset => "reset",
            Failure::Unreachable(_) => "unreachable",
            Failure::Tls(_) => "tls",
            Failure::Status { .. } => "status",
            Failure::Body { .. } => "body",
            Failure::Answer(_) => "answer",
            Failure::Script(_) => "script",
            Failure::Smtp(_) => "smtp",
            Failure::Grpc(_) => "grpc",
            Failure::Protocol(_) => "protocol",
            Failure::Io(_) => "io",
            Failure::Resource(_) => "resource",
            Failure::Local(_) => "local",
            Failure::Invalid(_) => "invalid",
            Failure::Internal(_) => "internal",
        }
    }

    /// Whether the failure counts against the target. What this machine lacks does not: a director
    /// short of file descriptors, or of the interface that it checks through, must not take a healthy
    /// pool down.
    #[must_use]
    pub fn counts(&self) -> bool {
        !matches!(self, Failure::Resource(_) | Failure::Local(_))
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("connection refused"),
            Failure::Timeout {
                after,
                phase: Phase::Running,
            } => write!(f, "not done within {after:?}, killed"),
            Failure::Timeout { after, phase } => {
                write!(f, "no answer within {after:?} ({phase})")
            }
            Failure::Reset => f.write_str("connection reset by the peer"),
            Failure::Unreachable(what)
            | Failure::Tls(what)
            | Failure::Answer(what)
            | Failure::Script(what) => f.write_str(what),
            Failure::Status { got, wanted } => {
                write!(f, "status {got}, wanted ")?;
                write_ranges(f, wanted)
            }
            Failure::Body {
                wanted,
                searched,
                truncated,
            } => write_body(f, wanted, *searched, *truncated),
            Failure::Smtp(what) | Failure::Grpc(what) => f.write_str(what),
            Failure::Protocol(what) => write!(f, "not a valid answer: {what}"),
            Failure::Io(what) => f.write_str(what),
            Failure::Resource(what) => {
                write!(
                    f,
                    "this machine ran out of resources, the target was not probed: {what}"
                )
            }
            Failure::Local(what) => write!(f, "the target was not probed: {what}"),
            Failure::Invalid(what) => write!(f, "the check cannot be made: {what}"),
            Failure::Internal(what) => write!(f, "the probe panicked (a bug in vipd): {what}"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Connecting => f.write_str("still connecting"),
            Phase::ConnectingTls => f.write_str("still connecting or in the TLS handshake"),
            Phase::Handshake { connected_after } => write!(
                f,
                "connected after {} ms, in the TLS handshake",
                connected_after.as_millis()
            ),
            Phase::WaitingFor {
                what,
                connected_after,
            } => write!(
                f,
                "connected after {} ms, waiting for {what}",
                connected_after.as_millis()
            ),
            Phase::Waiting { connected_after } => write!(
                f,
                "connected after {} ms, waiting for the response",
                connected_after.as_millis()
            ),
            Phase::Reading { status, received } => write!(
                f,
                "status {status} came, then {received} bytes of a body that goes on"
            ),
            Phase::Asked { others: 0 } => f.write_str("asked, and nothing came"),
            Phase::Asked { others: 1 } => {
                f.write_str("asked, and a datagram came that is no answer")
            }
            Phase::Asked { others } => {
                write!(f, "asked, and {others} datagrams came that are no answer")
            }
            Phase::Line { received } => {
                write!(f, "{received} bytes came, and no end of the line")
            }
            Phase::Running => f.write_str("it was still running"),
            Phase::Queued => f.write_str("the run before is not over"),
        }
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Failure {
        // std has no kinds for these; POSIX names them for connect(2) and socket(2).
        if let Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS) = error.raw_os_error() {
            return Failure::Resource(error.to_string());
        }
        let kind = error.kind();
        // connect(2) says EADDRNOTAVAIL and bind(2) EADDRINUSE where every ephemeral port is taken, in
        // words that would send the operator looking at addresses.
        if [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse].contains(&kind) {
            return Failure::Resource(format!(
                "no free local port or no usable local address ({error})"
            ));
        }
        if kind == io::ErrorKind::OutOfMemory {
            return Failure::Resource(error.to_string());
        }
        if kind == io::ErrorKind::ConnectionRefused {
            return Failure::Refused;
        }
        if [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
        ]
        .contains(&kind)
        {
            return Failure::Reset;
        }
        if [
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::NetworkDown,
        ]
        .contains(&kind)
        {
            return Failure::Unreachable(kind.to_string());
        }
        if kind == io::ErrorKind::UnexpectedEof {
            return Failure::Protocol("connection closed before the answer was complete".into());
        }
        // The kernel's own end of patience (ETIMEDOUT after its retransmissions).
        if kind == io::ErrorKind::TimedOut {
            return Failure::Unreachable("no answer to connection attempts (ETIMEDOUT)".into());
        }
        Failure::Io(error.to_string())
    }
}

fn write_body(
    f: &mut fmt::Formatter<'_>,
    wanted: &BodyWanted,
    searched: usize,
    truncated: bool,
) -> fmt::Result {
    let (verb, what) = match wanted {
        BodyWanted::Text(text) => ("contain", format!("{text:?}")),
        BodyWanted::Match(pattern) => ("match", format!("/{pattern}/")),
        BodyWanted::Sha256 { wanted, .. } if truncated => {
            return write!(
                f,
                "the body is longer than {searched} bytes, and more are not read for its SHA-256, \
                 wanted {wanted}"
            );
        }
        BodyWanted::Sha256 { wanted, got } => {
            return write!(
                f,
                "body ({searched} bytes) has the SHA-256 {got}, wanted {wanted}"
            );
        }
    };
    if truncated {
        write!(
            f,
            "the first {searched} bytes of the body do not {verb} {what}, and more are not read"
        )
    } else {
        write!(f, "body ({searched} bytes) does not {verb} {what}")
    }
}

/// `200-299, 301`
fn write_ranges(f: &mut fmt::Formatter<'_>, ranges: &[(u16, u16)]) -> fmt::Result {
    if ranges.is_empty() {
        return f.write_str("none");
    }
    for (i, (first, last)) in ranges.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        if first == last {
            write!(f, "{first}")?;
        } else {
            write!(f, "{first}-{last}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_once() {
        let reasons: Vec<_> = one_of_each().iter().map(Failure::reason).collect();
        assert_eq!(reasons, Failure::REASONS);
    }

    #[test]
    fn only_what_this_machine_lacks_does_not_count() {
        for failure in one_of_each() {
            let ours = ["resource", "local"].contains(&failure.reason());
            assert_eq!(failure.counts(), !ours, "{failure:?}");
        }
    }

    #[test]
    fn failures_speak_the_operators_language() {
        check(Failure::Refused, "connection refused");
        check(
            timeout(Phase::Connecting),
            "no answer within 1s (still connecting)",
        );
        check(
            timeout(Phase::Waiting {
                connected_after: Duration::from_micros(2_300),
            }),
            "no answer within 1s (connected after 2 ms, waiting for the response)",
        );
        check(
            timeout(Phase::Reading {
                status: 200,
                received: 512,
            }),
            "no answer within 1s (status 200 came, then 512 bytes of a body that goes on)",
        );
        check(
            timeout(Phase::Asked { others: 2 }),
            "no answer within 1s (asked, and 2 datagrams came that are no answer)",
        );
        check(
            timeout(Phase::Line { received: 3 }),
            "no answer within 1s (3 bytes came, and no end of the line)",
        );
        check(timeout(Phase::Running), "not done within 1s, killed");
        check(
            timeout(Phase::Queued),
            "no answer within 1s (the run before is not over)",
        );
        check(status(503, &[(200, 299)]), "status 503, wanted 200-299");
        check(
            status(404, &[(200, 204), (301, 301)]),
            "status 404, wanted 200-204, 301",
        );
        check(
            body(120, false),
            r#"body (120 bytes) does not contain "ok""#,
        );
        check(
            body(1 << 20, true),
            r#"the first 1048576 bytes of the body do not contain "ok", and more are not read"#,
        );
    }

    #[test]
    fn a_body_that_is_not_the_one_wanted_says_what_it_is() {
        let failure = |wanted, truncated| Failure::Body {
            wanted,
            searched: 12,
            truncated,
        };
        check(
            failure(BodyWanted::Match("^up$".into()), false),
            "body (12 bytes) does not match /^up$/",
        );
        let sum = || BodyWanted::Sha256 {
            wanted: "aa".into(),
            got: "bb".into(),
        };
        check(
            failure(sum(), false),
            "body (12 bytes) has the SHA-256 bb, wanted aa",
        );
        check(
            failure(sum(), true),
            "the body is longer than 12 bytes, and more are not read for its SHA-256, wanted aa",
        );
    }

    #[test]
    fn what_the_kernel_says_about_us_is_not_held_against_the_target() {
        for errno in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EADDRNOTAVAIL,
            libc::EADDRINUSE,
        ] {
            check_errno(errno, "resource");
        }
    }

    #[test]
    fn what_the_kernel_says_about_the_target_has_its_own_reason() {
        check_errno(libc::ECONNREFUSED, "refused");
        check_errno(libc::ECONNRESET, "reset");
        check_errno(libc::EPIPE, "reset");
        check_errno(libc::EHOSTUNREACH, "unreachable");
        check_errno(libc::ENETUNREACH, "unreachable");
        check_errno(libc::ENETDOWN, "unreachable");
        check_errno(libc::ETIMEDOUT, "unreachable");
        check_errno(libc::EPERM, "io");
    }

    fn check(failure: Failure, words: &str) {
        assert_eq!(failure.to_string(), words);
    }

    fn check_errno(errno: i32, reason: &str) {
        let failure = Failure::from(&io::Error::from_raw_os_error(errno));
        assert_eq!(failure.reason(), reason, "{failure}");
    }

    fn timeout(phase: Phase) -> Failure {
        Failure::Timeout {
            after: Duration::from_secs(1),
            phase,
        }
    }

    fn status(got: u16, wanted: &[(u16, u16)]) -> Failure {
        Failure::Status {
            got,
            wanted: wanted.to_vec(),
        }
    }

    fn body(searched: usize, truncated: bool) -> Failure {
        Failure::Body {
            wanted: BodyWanted::Text("ok".into()),
            searched,
            truncated,
        }
    }

    fn one_of_each() -> Vec<Failure> {
        let words = String::new;
        vec![
            Failure::Refused,
            timeout(Phase::ConnectingTls),
            Failure::Reset,
            Failure::Unreachable(words()),
            Failure::Tls(words()),
            status(500, &[]),
            body(0, false),
            Failure::Answer(words()),
            Failure::Script(words()),
            Failure::Smtp(words()),
            Failure::Grpc(words()),
            Failure::Protocol(words()),
            Failure::Io(words()),
            Failure::Resource(words()),
            Failure::Local(words()),
            Failure::Invalid(words()),
            Failure::Internal(words()),
        ]
    }
}
