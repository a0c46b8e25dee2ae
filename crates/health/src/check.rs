//! What to check: plain values, ordered and comparable, so that a check is its own key and the same
//! check of the same target is one check.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

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
    /// A probe without a verdict by then has failed.
    pub timeout: Duration,
    /// Successes in a row that make a down target up; at least 1.
    pub rise: u32,
    /// Failures in a row that make an up target down; at least 1.
    pub fall: u32,
    /// The state before the first verdict.
    pub start: Start,
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
    /// Text that the body must contain.
    pub body_contains: Option<String>,
    /// HTTPS; absent: plain HTTP.
    pub tls: Option<TlsSpec>,
}

/// How an HTTPS check speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsSpec {
    /// Whether the certificate must be valid for the name and signed by a root of the system.
    pub verify: bool,
    /// The server name sent and verified; absent: the `Host` header's, or else the address.
    pub sni: Option<String>,
}

impl CheckKind {
    /// The configuration's name of the kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            CheckKind::None => "none",
            CheckKind::Tcp => "tcp",
            CheckKind::Http(_) => "http",
        }
    }
}

impl fmt::Display for CheckSpec {
    /// As an operator says it: `tcp 10.0.0.21:80`, `http GET /health at 10.0.0.21:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            CheckKind::None => write!(f, "no check of {}", self.target),
            CheckKind::Tcp => write!(f, "tcp {}", self.target),
            CheckKind::Http(http) => {
                let scheme = if http.tls.is_some() { "https" } else { "http" };
                write!(
                    f,
                    "{scheme} {} {} at {}",
                    http.method, http.path, self.target
                )
            }
        }
    }
}
