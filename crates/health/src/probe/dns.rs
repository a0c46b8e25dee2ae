//! A DNS server is asked for a name, and its answer judged.
//!
//! Over UDP; where the answer is truncated, again over TCP. What comes over UDP and is no answer to
//! the question asked may be anybody's: it is left aside, and the answer waited for.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::datagram::{Carries, Datagrams, random};
use super::socket::First;
use super::{Passed, progress, socket};
use crate::check::{CheckSpec, Route};
use crate::failure::{Failure, Phase};

/// Without EDNS, an answer over UDP has at most 512 bytes (RFC 1035 §4.2.1).
const RECEIVE_MAX: usize = 1024;
/// As many answers as are shown.
const SHOWN_MAX: usize = 8;

/// A question, and the answer that passes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsSpec {
    /// The name asked for, `.` for the root.
    pub name: String,
    /// The type of record asked for.
    pub record: DnsRecord,
    /// What must be among the answers, as a zone file has it; absent: any answer passes.
    pub expect: Option<String>,
    /// Over TCP from the start.
    pub tcp: bool,
}

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsRecord {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Who may sign certificates.
    Caa,
    /// Another name.
    Cname,
    /// Mail server.
    Mx,
    /// Name server.
    Ns,
    /// Name of an address.
    Ptr,
    /// Start of a zone.
    Soa,
    /// Server of a service.
    Srv,
    /// Text.
    Txt,
}

impl DnsRecord {
    /// All of them.
    pub const ALL: [DnsRecord; 10] = [
        DnsRecord::A,
        DnsRecord::Aaaa,
        DnsRecord::Caa,
        DnsRecord::Cname,
        DnsRecord::Mx,
        DnsRecord::Ns,
        DnsRecord::Ptr,
        DnsRecord::Soa,
        DnsRecord::Srv,
        DnsRecord::Txt,
    ];

    /// The configuration's name.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            DnsRecord::A => "a",
            DnsRecord::Aaaa => "aaaa",
            DnsRecord::Caa => "caa",
            DnsRecord::Cname => "cname",
            DnsRecord::Mx => "mx",
            DnsRecord::Ns => "ns",
            DnsRecord::Ptr => "ptr",
            DnsRecord::Soa => "soa",
            DnsRecord::Srv => "srv",
            DnsRecord::Txt => "txt",
        }
    }

    fn kind(self) -> RecordType {
        match self {
            DnsRecord::A => RecordType::A,
            DnsRecord::Aaaa => RecordType::AAAA,
            DnsRecord::Caa => RecordType::CAA,
            DnsRecord::Cname => RecordType::CNAME,
            DnsRecord::Mx => RecordType::MX,
            DnsRecord::Ns => RecordType::NS,
            DnsRecord::Ptr => RecordType::PTR,
            DnsRecord::Soa => RecordType::SOA,
            DnsRecord::Srv => RecordType::SRV,
            DnsRecord::Txt => RecordType::TXT,
        }
    }
}

impl fmt::Display for DnsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key().to_uppercase())
    }
}

#[derive(Debug)]
pub(super) struct DnsProbe {
    target: SocketAddr,
    route: Route,
    timeout: Duration,
    question: Query,
    record: DnsRecord,
    expect: Option<String>,
    tcp: bool,
}

impl DnsProbe {
    pub(super) fn new(check: &CheckSpec, spec: &DnsSpec) -> Result<DnsProbe, Failure> {
        let mut name = Name::from_ascii(&spec.name)
            .map_err(|error| Failure::Invalid(format!("{:?}: {error}", spec.name)))?;
        name.set_fqdn(true);
        let mut question = Query::query(name, spec.record.kind());
        question.set_query_class(DNSClass::IN);
        Ok(DnsProbe {
            target: check.target,
            route: check.route.clone(),
            timeout: check.timeout,
            question,
            record: spec.record,
            expect: spec.expect.clone(),
            tcp: spec.tcp,
        })
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        progress::within(self.timeout, Phase::Connecting, self.ask()).await
    }

    async fn ask(&self) -> Result<Passed, Failure> {
        if !self.tcp {
            let answer = self.by_udp().await?;
            if !answer.metadata.truncation {
                return self.judge(&answer);
            }
        }
        let answer = self.by_tcp().await?;
        self.judge(&answer)
    }

    async fn by_udp(&self) -> Result<Message, Failure> {
        let (id, request) = self.request()?;
        let socket = Datagrams::connect(Carries::Udp, self.target, &self.route)?;
        socket.send(&request).await?;
        let mut others = 0_u32;
        let mut buffer = [0; RECEIVE_MAX];
        loop {
            progress::enter(|_| Phase::Asked { others });
            let length = socket.receive(&mut buffer).await?;
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Ok(answer) = self.answer(id, datagram) {
                return Ok(answer);
            }
            others = others.saturating_add(1);
        }
    }

    /// RFC 1035 §4.2.2: each message after its length.
    async fn by_tcp(&self) -> Result<Message, Failure> {
        let from = |error: std::io::Error| Failure::from(&error);
        progress::enter(|_| Phase::Connecting);
        let mut stream = socket::connect(self.target, &self.route, First::Ours).await?;
        progress::enter(|connected_after| Phase::Waiting { connected_after });
        let (id, request) = self.request()?;
        let length = u16::try_from(request.len()).unwrap_or_default();
        let message = [length.to_be_bytes().as_slice(), &request].concat();
        stream.write_all(&message).await.map_err(from)?;
        let length = stream.read_u16().await.map_err(from)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(from)?;
        self.answer(id, &answer).map_err(Failure::Protocol)
    }

    /// The bytes of the question, under a number that nobody can guess.
    fn request(&self) -> Result<(u16, Vec<u8>), Failure> {
        let [high, low, ..] = random();
        let id = u16::from_ne_bytes([high, low]);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(self.question.clone());
        let bytes = message.to_vec();
        Ok((
            id,
            bytes.map_err(|error| Failure::Invalid(error.to_string()))?,
        ))
    }

    /// The answer to that question, or why it is none.
    fn answer(&self, id: u16, bytes: &[u8]) -> Result<Message, String> {
        let message = Message::from_vec(bytes).map_err(|error| error.to_string())?;
        if message.metadata.message_type != MessageType::Response {
            return Err("it is a question".to_owned());
        }
        if message.metadata.id != id {
            return Err("it has another id than the question".to_owned());
        }
        // A server that cannot read a question need not repeat it.
        let repeated = match message.queries.as_slice() {
            [] => u16::from(message.metadata.response_code) != 0,
            queries => queries.iter().all(|query| *query == self.question),
        };
        if !repeated {
            return Err("it answers another question".to_owned());
        }
        Ok(message)
    }

    fn judge(&self, answer: &Message) -> Result<Passed, Failure> {
        let code = u16::from(answer.metadata.response_code);
        if code != 0 {
            let words = format!("the server answers {}", rcode(code));
            return Err(Failure::Answer(words));
        }
        let kind = self.record.kind();
        let found = answer.answers.iter().filter(|it| it.record_type() == kind);
        let found: Vec<String> = found.map(|record| text(&record.data)).collect();
        if found.is_empty() {
            let words = format!("no answer of type {}", self.record);
            return Err(Failure::Answer(words));
        }
        match &self.expect {
            Some(wanted) if !found.iter().any(|it| self.is_same(it, wanted)) => {
                let mut shown = found.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>();
                if found.len() > SHOWN_MAX {
                    shown.push(format!("and {} more", found.len() - SHOWN_MAX));
                }
                let shown = shown.join(", ");
                Err(Failure::Answer(format!("answers {shown}, wanted {wanted}")))
            }
            Some(_) | None => Ok(Passed::default()),
        }
    }

    /// Names are the same in any case, and with or without their last dot.
    fn is_same(&self, one: &str, other: &str) -> bool {
        if self.record == DnsRecord::Txt {
            return one == other;
        }
        let plain = |text: &str| -> Vec<String> {
            let words = text.split_whitespace();
            words
                .map(|word| word.trim_end_matches('.').to_ascii_lowercase())
                .collect()
        };
        plain(one) == plain(other)
    }
}

/// As a zone file has it; a text without quotes, its parts together.
fn text(data: &RData) -> String {
    let text = if let RData::TXT(parts) = data {
        let parts = parts.txt_data.iter();
        parts.map(|part| String::from_utf8_lossy(part)).collect()
    } else {
        data.to_string()
    };
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// RFC 6895 §2.3.
fn rcode(code: u16) -> String {
    let name = match code {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        other => return format!("with code {other}"),
    };
    name.to_owned()
}
