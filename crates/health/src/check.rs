//! What to check: plain values, ordered and comparable, so that a check is its own key and the same
//! check of the same target is one check.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::damping::Flap;
use crate::failure::Failure;
use crate::pattern::Pattern;
use crate::probe::{AgentSpec, DnsSpec, UdpSpec};
use crate::program::Program;

/// The most that [`CheckKind::descriptors`] says.
pub(crate) const DESCRIPTORS_MAX: u32 = 6;

/// A route is looked up for some port; nothing is sent there.
const DISCARD: u16 = 9;

/// One check of one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckSpec {
    /// Where the probe connects.
    pub target: SocketAddr,
    /// How its packets leave this machine.
    pub route: Route,
    /// What it does there.
    pub kind: CheckKind,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// The same while the outcomes contradict the state and before the first verdict; absent:
    /// `interval`.
    pub fast_interval: Option<Duration>,
    /// The same while the target is down; absent: `interval`.
    pub down_interval: Option<Duration>,
    /// A probe without a verdict by then has failed.
    pub timeout: Duration,
    /// Successes in a row that make a down target up; at least 1.
    pub rise: u32,
    /// Failures in a row that make an up target down; at least 1.
    pub fall: u32,
    /// The state before the first verdict.
    pub start: Start,
    /// When a target that comes and goes stays out; absent: never. (Few checks have it, so it is kept
    /// small where it is absent.)
    pub flap: Option<Box<Flap>>,
}

/// How a probe's packets leave this machine. By default as the routing table says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Route {
    /// The address they come from.
    pub source: Option<IpAddr>,
    /// The only interface they may leave by (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// The firewall mark they carry (`SO_MARK`, needs `CAP_NET_ADMIN`).
    pub mark: Option<NonZeroU32>,
    /// The real server to which the mark leads them, whatever their target (type `ping`, `script` and
    /// `agent`: never). Without a `source` they come from this machine's address on the way there: the
    /// target may be an address of this machine, too, and would be its own client.
    pub through: Option<IpAddr>,
}

impl Route {
    /// The address that packets to `target` are bound to; `None`: the kernel chooses one.
    ///
    /// # Errors
    ///
    /// [`Failure::Local`] where this machine has no address of its own on the way.
    pub fn source_for(&self, target: SocketAddr) -> Result<Option<IpAddr>, Failure> {
        let Some(through) = self.through.filter(|_| self.source.is_none()) else {
            return Ok(self.source);
        };
        match address_toward(through).map_err(|error| Failure::from(&error))? {
            source if source == target.ip() || source.is_ipv4() != target.is_ipv4() => {
                Err(Failure::Local(format!(
                    "the only address of this machine on the way to {through} is {source}: write \
                     another one as `source`"
                )))
            }
            source => Ok(Some(source)),
        }
    }
}

/// The address from which this machine's packets to `target` come; sends none.
///
/// # Errors
///
/// There is no route.
pub fn address_toward(target: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(target, DISCARD))?;
    Ok(socket.local_addr()?.ip())
}

/// The state of a target before it was ever probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Start {
    /// Out of the pool until the first pass (one success suffices, whatever `rise` says).
    #[default]
    Down,
    /// In the pool until `fall` failures in a row.
    Up,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckKind {
    /// Nothing: always passes.
    None,
    /// A TCP connection is made and closed.
    Tcp,
    /// An HTTP request is made and its answer judged.
    Http(HttpSpec),
    /// A TLS handshake is made, and the certificate judged.
    Tls(TlsSpec),
    /// A mail server greets and answers.
    Smtp(SmtpSpec),
    /// A gRPC server says how it is.
    Grpc(GrpcSpec),
    /// A DNS server is asked for a name, and its answer judged.
    Dns(DnsSpec),
    /// A datagram is sent, and what comes back judged.
    Udp(UdpSpec),
    /// An ICMP echo is sent, and answered. The target's port means nothing.
    Ping,
    /// A program is run, and its exit status judged. It is told the target.
    Script(Program),
    /// An agent beside the server says how that is.
    Agent(AgentSpec),
}

/// An HTTP or HTTPS request, and the answer that passes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpSpec {
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// Path and query, begins with `/`.
    pub path: String,
    /// The `Host` header; absent: the target's address (and port where it is not the default).
    pub host: Option<String>,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
    /// Status codes that pass, as inclusive ranges.
    pub status: Vec<(u16, u16)>,
    /// What is spoken.
    pub version: HttpVersion,
    /// Text that the body must contain.
    pub body_contains: Option<String>,
    /// What the body must match.
    pub body_regex: Option<Pattern>,
    /// The SHA-256 of the whole body.
    pub body_sha256: Option<[u8; 32]>,
    /// HTTPS; absent: plain HTTP.
    pub tls: Option<TlsSpec>,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, with prior knowledge (h2c) without.
    Http2,
}

/// How a check speaks TLS, and which certificates it takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsSpec {
    /// Whether the certificate must be valid for the name and signed by a trusted root.
    pub verify: bool,
    /// The server name sent and verified; absent: the `Host` header's where there is one, or else the
    /// address.
    pub sni: Option<String>,
    /// A PEM file of the roots to trust; absent: the system's.
    pub ca: Option<PathBuf>,
    /// What the check shows to a server that asks who it is.
    pub identity: Option<Identity>,
    /// A certificate that ends sooner passes with a warning; zero: none does.
    pub expires_within: Duration,
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// A PEM file: the certificate, then its intermediates.
    pub certificate: PathBuf,
    /// A PEM file: its private key.
    pub key: PathBuf,
}

/// What is asked of a mail server (RFC 5321).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SmtpSpec {
    /// The name that EHLO gives; absent: the address the connection comes from.
    pub helo: Option<String>,
    /// STARTTLS (RFC 3207) follows; absent: it does not.
    pub starttls: Option<TlsSpec>,
}

/// What is asked of a gRPC server (`grpc.health.v1.Health/Check`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcSpec {
    /// The service; empty: the whole server.
    pub service: String,
    /// The request's authority; absent: the target's address.
    pub host: Option<String>,
    /// Over TLS; absent: without.
    pub tls: Option<TlsSpec>,
}

impl CheckKind {
    /// File descriptors that a probe needs, at most.
    pub(crate) fn descriptors(&self) -> u32 {
        match self {
            CheckKind::None
            | CheckKind::Tcp
            | CheckKind::Http(_)
            | CheckKind::Tls(_)
            | CheckKind::Smtp(_)
            | CheckKind::Grpc(_)
            | CheckKind::Dns(_)
            | CheckKind::Udp(_)
            | CheckKind::Ping
            | CheckKind::Agent(_) => 1,
            // Both ends of its output and what the operating system starts and watches it by.
            CheckKind::Script(_) => DESCRIPTORS_MAX,
        }
    }

    /// The configuration's name of the kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            CheckKind::None => "none",
            CheckKind::Tcp => "tcp",
            CheckKind::Http(_) => "http",
            CheckKind::Tls(_) => "tls",
            CheckKind::Smtp(_) => "smtp",
            CheckKind::Grpc(_) => "grpc",
            CheckKind::Dns(_) => "dns",
            CheckKind::Udp(_) => "udp",
            CheckKind::Ping => "ping",
            CheckKind::Script(_) => "script",
            CheckKind::Agent(_) => "agent",
        }
    }
}

impl fmt::Display for CheckSpec {
    /// As an operator says it: `tcp 10.0.0.21:80`, `http GET /health at 10.0.0.21:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_target(f)?;
        match self.route.through {
            Some(real) => write!(f, " through {real}"),
            None => Ok(()),
        }
    }
}

impl CheckSpec {
    fn fmt_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            CheckKind::None => write!(f, "no check of {}", self.target),
            CheckKind::Tcp => write!(f, "tcp {}", self.target),
            CheckKind::Http(http) => {
                let scheme = if http.tls.is_some() { "https" } else { "http" };
                // A query may hold a password, and this is logged.
                let (path, query) = match http.path.split_once('?') {
                    Some((path, _)) => (path, "?..."),
                    None => (http.path.as_str(), ""),
                };
                let (method, target) = (&http.method, self.target);
                write!(f, "{scheme} {method} {path}{query} at {target}")
            }
            CheckKind::Tls(_) => write!(f, "tls {}", self.target),
            CheckKind::Smtp(_) => write!(f, "smtp {}", self.target),
            CheckKind::Grpc(grpc) if grpc.service.is_empty() => write!(f, "grpc {}", self.target),
            CheckKind::Grpc(grpc) => write!(f, "grpc {} at {}", grpc.service, self.target),
            CheckKind::Dns(dns) => write!(f, "dns {} {} at {}", dns.record, dns.name, self.target),
            CheckKind::Udp(_) => write!(f, "udp {}", self.target),
            CheckKind::Ping => write!(f, "ping {}", self.target.ip()),
            CheckKind::Script(program) => {
                let path = program.command.first().map_or("", String::as_str);
                match self.target.port() {
                    0 => write!(f, "script {path} for {}", self.target.ip()),
                    _ => write!(f, "script {path} for {}", self.target),
                }
            }
            CheckKind::Agent(_) => write!(f, "agent {}", self.target),
        }
    }
}
