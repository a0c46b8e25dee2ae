//! One probe of one target, from the connection to the judged answer, within the check's timeout.

mod agent;
mod datagram;
mod dns;
mod expiry;
mod explain;
mod grpc;
mod h2;
mod handshake;
mod http;
mod ping;
mod progress;
mod script;
mod smtp;
mod socket;
mod stream;
mod tcp;
mod tls;
mod udp;

use std::sync::Arc;

use crate::check::{CheckKind, CheckSpec};
use crate::failure::Failure;
use crate::sockets::Sockets;

use agent::AgentProbe;
use dns::DnsProbe;
use grpc::GrpcProbe;
use handshake::TlsProbe;
use http::HttpProbe;
use ping::PingProbe;
use script::ScriptProbe;
use smtp::SmtpProbe;
use tcp::TcpProbe;
use udp::UdpProbe;

pub use agent::AgentSpec;
pub use dns::{DnsRecord, DnsSpec};
pub use ping::Echo;
pub use progress::Step;
pub use udp::{Beginning, UdpSpec};

/// A check made ready: what does not change from one probe to the next is built once.
#[derive(Debug)]
pub struct Probe(Kind);

/// What a probe that passed has to tell besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    /// What is not wrong yet, for somebody to look at (a certificate that ends soon).
    pub warning: Option<String>,
    /// The weight that the real server asks for (types `script` and `agent`).
    pub weight: Option<Weight>,
}

/// A weight that a real server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// This one.
    Absolute(u32),
    /// This share of the configured one, percent.
    Percent(u32),
}

#[derive(Debug)]
enum Kind {
    None,
    Tcp(TcpProbe),
    Http(Box<HttpProbe>),
    Dns(Box<DnsProbe>),
    Udp(UdpProbe),
    Ping(PingProbe),
    Script(ScriptProbe),
    Agent(AgentProbe),
    Tls(Box<TlsProbe>),
    Smtp(Box<SmtpProbe>),
    Grpc(Box<GrpcProbe>),
}

impl Probe {
    /// Makes the probe of `spec` ready; opens no connection.
    ///
    /// # Errors
    ///
    /// [`Failure::Invalid`] where the check cannot be made as it is written or a file of it cannot be
    /// read, [`Failure::Tls`] where
    /// certificates are to be verified and this machine has no root certificates. The latter is not
    /// remembered: a later attempt looks again.
    pub fn new(spec: &CheckSpec) -> Result<Probe, Failure> {
        let kind = match &spec.kind {
            CheckKind::None => Kind::None,
            CheckKind::Tcp => Kind::Tcp(TcpProbe::new(spec)),
            CheckKind::Http(http) => Kind::Http(Box::new(HttpProbe::new(spec, http)?)),
            CheckKind::Dns(dns) => Kind::Dns(Box::new(DnsProbe::new(spec, dns)?)),
            CheckKind::Udp(udp) => Kind::Udp(UdpProbe::new(spec, udp)),
            CheckKind::Ping => Kind::Ping(PingProbe::new(spec)),
            CheckKind::Script(program) => Kind::Script(ScriptProbe::new(spec, program)),
            CheckKind::Agent(agent) => Kind::Agent(AgentProbe::new(spec, agent)),
            CheckKind::Tls(tls) => Kind::Tls(Box::new(TlsProbe::new(spec, tls)?)),
            CheckKind::Smtp(smtp) => Kind::Smtp(Box::new(SmtpProbe::new(spec, smtp)?)),
            CheckKind::Grpc(grpc) => Kind::Grpc(Box::new(GrpcProbe::new(spec, grpc)?)),
        };
        Ok(Probe(kind))
    }

    /// Has it use these sockets where it can.
    pub(crate) fn sharing(mut self, sockets: &Arc<Sockets>) -> Probe {
        if let Kind::Tcp(tcp) = &mut self.0 {
            tcp.share(sockets);
        }
        self
    }

    /// Probes the target once. Ends within the check's timeout.
    ///
    /// # Errors
    ///
    /// Why the target did not pass; [`Failure::Resource`] where it could not even be asked.
    pub async fn run(&self) -> Result<Passed, Failure> {
        // In boxes, so that the tasks of thousands of small checks have no room for the largest.
        match &self.0 {
            Kind::None => Ok(Passed::default()),
            Kind::Tcp(tcp) => tcp.run().await.map(|()| Passed::default()),
            Kind::Dns(dns) => Box::pin(dns.run()).await,
            Kind::Udp(udp) => Box::pin(udp.run()).await,
            Kind::Ping(ping) => Box::pin(ping.run()).await,
            Kind::Script(script) => Box::pin(script.run()).await,
            Kind::Agent(agent) => Box::pin(agent.run()).await,
            Kind::Http(http) => Box::pin(http.run()).await,
            Kind::Tls(tls) => Box::pin(tls.run()).await,
            Kind::Smtp(smtp) => Box::pin(smtp.run()).await,
            Kind::Grpc(grpc) => Box::pin(grpc.run()).await,
        }
    }

    /// Probes the target of `spec` once and tells how long each part took; the last part is the one
    /// that failed where the outcome is a failure.
    pub async fn trace(spec: &CheckSpec) -> (Vec<Step>, Result<Passed, Failure>) {
        let probe = if let CheckKind::Http(http) = &spec.kind {
            HttpProbe::traced(spec, http).map(|http| Probe(Kind::Http(Box::new(http))))
        } else {
            Probe::new(spec)
        };
        match probe {
            Ok(probe) => progress::recorded(probe.run()).await,
            Err(failure) => (Vec::new(), Err(failure)),
        }
    }
}
