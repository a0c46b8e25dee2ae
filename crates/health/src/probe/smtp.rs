//! A mail server greets, answers EHLO, speaks TLS where asked, and says goodbye (RFC 5321, RFC 3207).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::socket::First;
use super::stream::Stream;
use super::tls::{self, Tls};
use super::{Passed, progress, socket};
use crate::check::{CheckSpec, Route, SmtpSpec};
use crate::failure::{Failure, Phase};

/// Longest line of an answer, in bytes (RFC 5321 §4.5.3.1.5 has 512; servers go beyond).
const LINE_MAX: u64 = 2048;
/// Most lines of one answer.
const LINES_MAX: usize = 128;
/// How much of an answer is quoted, in characters.
const QUOTED_MAX: usize = 100;

#[derive(Debug)]
pub(super) struct SmtpProbe {
    target: SocketAddr,
    route: Route,
    helo: Option<String>,
    tls: Option<Tls>,
    timeout: Duration,
}

/// The conversation on one connection.
struct Session {
    stream: BufReader<Stream>,
}

/// What the server says to something.
struct Answer {
    code: u16,
    lines: Vec<String>,
}

impl SmtpProbe {
    pub(super) fn new(spec: &CheckSpec, smtp: &SmtpSpec) -> Result<SmtpProbe, Failure> {
        let tls = match &smtp.starttls {
            Some(tls) => Some(Tls::new(tls, &tls::name(spec.target, tls), &[])?),
            None => None,
        };
        Ok(SmtpProbe {
            target: spec.target,
            route: spec.route.clone(),
            helo: smtp.helo.clone(),
            tls,
            timeout: spec.timeout,
        })
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        progress::within(self.timeout, Phase::Connecting, self.converse()).await
    }

    async fn converse(&self) -> Result<Passed, Failure> {
        let stream = socket::connect(self.target, &self.route, First::Theirs).await?;
        let local = stream.local_addr().map_err(|error| Failure::from(&error))?;
        let hello = match &self.helo {
            Some(name) => format!("EHLO {name}"),
            None => format!("EHLO {}", literal(local.ip())),
        };
        let mut session = Session::new(Box::new(stream));
        let mut warning = None;

        session.expect("the greeting", 220).await?;
        let offers = session.ask(&hello, "the answer to EHLO", 250).await?;
        if let Some(tls) = &self.tls {
            if !offers.offer("STARTTLS") {
                return Err(Failure::Smtp("the server does not offer STARTTLS".into()));
            }
            session
                .ask("STARTTLS", "the answer to STARTTLS", 220)
                .await?;
            (session, warning) = session.secured_with(tls).await?;
            session
                .ask(&hello, "the answer to EHLO over TLS", 250)
                .await?;
        }
        session.ask("QUIT", "the answer to QUIT", 221).await?;
        Ok(Passed {
            warning,
            weight: None,
        })
    }
}

impl Session {
    fn new(stream: Stream) -> Session {
        Session {
            stream: BufReader::with_capacity(1024, stream),
        }
    }

    async fn ask(
        &mut self,
        command: &str,
        answer: &'static str,
        wanted: u16,
    ) -> Result<Answer, Failure> {
        let line = format!("{command}\r\n");
        let written = self.stream.get_mut().write_all(line.as_bytes()).await;
        written.map_err(|error| Failure::from(&error))?;
        // TLS keeps what is written until it is flushed.
        let flushed = self.stream.get_mut().flush().await;
        flushed.map_err(|error| Failure::from(&error))?;
        self.expect(answer, wanted).await
    }

    async fn expect(&mut self, what: &'static str, wanted: u16) -> Result<Answer, Failure> {
        progress::enter(|connected_after| Phase::WaitingFor {
            what,
            connected_after,
        });
        let answer = self.answer(what).await?;
        if answer.code != wanted {
            let last = answer.lines.last().map_or("", String::as_str);
            return Err(Failure::Smtp(format!(
                "{what} is {} {}, wanted {wanted}",
                answer.code,
                quoted(last)
            )));
        }
        Ok(answer)
    }

    /// One answer, of one line or more: all but the last have a hyphen after the code.
    async fn answer(&mut self, what: &str) -> Result<Answer, Failure> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let line = self.line(what).await?;
            let Some((code, last, text)) = parsed(&line) else {
                return Err(Failure::Protocol(format!(
                    "{what} is not SMTP: {}",
                    quoted(&line)
                )));
            };
            lines.push(text.to_owned());
            if last {
                return Ok(Answer { code, lines });
            }
        }
        Err(Failure::Protocol(format!(
            "{what} has more than {LINES_MAX} lines"
        )))
    }

    async fn line(&mut self, what: &str) -> Result<String, Failure> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LINE_MAX);
        let read = limited.read_until(b'\n', &mut line).await;
        read.map_err(|error| super::explain::explain(&error))?;
        if line.last() != Some(&b'\n') {
            return Err(Failure::Protocol(match u64::try_from(line.len()) {
                Ok(LINE_MAX) => format!("{what} has a line of more than {LINE_MAX} bytes"),
                Ok(_) | Err(_) => format!("the server closed the connection before {what}"),
            }));
        }
        let text = String::from_utf8_lossy(&line);
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The session begins anew over TLS.
    async fn secured_with(self, tls: &Tls) -> Result<(Session, Option<String>), Failure> {
        // What came before the handshake would otherwise count as said under TLS.
        if !self.stream.buffer().is_empty() {
            return Err(Failure::Protocol("more than one answer to STARTTLS".into()));
        }
        progress::enter(|connected_after| Phase::Handshake { connected_after });
        let stream = tls.handshake(self.stream.into_inner()).await?;
        let warning = tls.warning_of(&stream);
        Ok((Session::new(Box::new(stream)), warning))
    }
}

impl Answer {
    /// Whether an EHLO's answer has this extension. Its first line is the server's name.
    fn offer(&self, extension: &str) -> bool {
        self.lines.iter().skip(1).any(|line| {
            let word = line.split_ascii_whitespace().next();
            word.is_some_and(|word| word.eq_ignore_ascii_case(extension))
        })
    }
}

/// Code, whether this is the last line, and the text.
fn parsed(line: &str) -> Option<(u16, bool, &str)> {
    let (code, rest) = line.split_at_checked(3)?;
    if !code.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let code = code.parse().ok()?;
    if let Some(text) = rest.strip_prefix('-') {
        return Some((code, false, text));
    }
    match rest.strip_prefix(' ') {
        Some(text) => Some((code, true, text)),
        None => rest.is_empty().then_some((code, true, rest)),
    }
}

/// An address where a name is due (RFC 5321 §4.1.3).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED_MAX).collect();
    format!("{short:?}")
}
