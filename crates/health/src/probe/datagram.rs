//! Datagram sockets that are connected to the target: UDP's, and raw ones for ICMP.
//!
//! Connected, they get only what the target sends, and with `IP_RECVERR` everything that a router or
//! the target itself says against a datagram (ip(7)): an unreachable host, a port where nobody listens.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::socket::{no_source, steer};
use crate::check::Route;
use crate::failure::Failure;

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// UDP.
    Udp,
    /// ICMP or ICMPv6, as the target's family is. IPv4 packets are received with their header.
    Icmp,
}

/// A datagram socket that is connected to a target.
#[derive(Debug)]
pub(super) struct Datagrams(UdpSocket);

impl Datagrams {
    /// Opens a socket along `route` and connects it; sends nothing.
    pub(super) fn connect(
        carries: Carries,
        target: SocketAddr,
        route: &Route,
    ) -> Result<Datagrams, Failure> {
        let socket = open(carries, target)?;
        let from = |error: io::Error| Failure::from(&error);
        steer(&socket, route)?;
        if let Some(source) = route.source_for(target)? {
            let bound = socket.bind(&SocketAddr::new(source, 0).into());
            bound.map_err(|error| no_source(source, &error))?;
        }
        // An address without a route is refused here.
        socket.connect(&target.into()).map_err(from)?;
        // To the runtime a raw socket is one that is connected and has datagrams, as UDP's are.
        let socket = UdpSocket::from_std(socket.into()).map_err(from)?;
        // Where the target is this machine and its port an ephemeral one that nobody has, the kernel
        // may pick that very port as the source, and the socket answers itself.
        if carries == Carries::Udp && socket.local_addr().map_err(from)? == target {
            return Err(Failure::Refused);
        }
        Ok(Datagrams(socket))
    }

    /// Sends one datagram.
    pub(super) async fn send(&self, datagram: &[u8]) -> Result<(), Failure> {
        let sent = self.0.send(datagram).await;
        sent.map(|_| ()).map_err(|error| Failure::from(&error))
    }

    /// Waits for the next datagram, of which as much is kept as fits; or for what speaks against one
    /// that was sent.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        // An error alone does not count as readable.
        let interest = Interest::READABLE | Interest::ERROR;
        let received = self.0.async_io(interest, || {
            let (kept, _length) = rustix::net::recv(&self.0, &mut *buffer, RecvFlags::empty())?;
            Ok(kept)
        });
        received.await.map_err(|error| Failure::from(&error))
    }
}

fn open(carries: Carries, target: SocketAddr) -> Result<Socket, Failure> {
    let (domain, kind, protocol) = match (carries, target) {
        (Carries::Udp, SocketAddr::V4(_)) => (Domain::IPV4, Type::DGRAM, Protocol::UDP),
        (Carries::Udp, SocketAddr::V6(_)) => (Domain::IPV6, Type::DGRAM, Protocol::UDP),
        (Carries::Icmp, SocketAddr::V4(_)) => (Domain::IPV4, Type::RAW, Protocol::ICMPV4),
        (Carries::Icmp, SocketAddr::V6(_)) => (Domain::IPV6, Type::RAW, Protocol::ICMPV6),
    };
    let opened = Socket::new(domain, kind.nonblocking(), Some(protocol));
    let socket = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => {
            Failure::Local("a ping cannot be sent without the capability CAP_NET_RAW".to_owned())
        }
        Some(_) | None => Failure::from(&error),
    })?;
    let hears = match target {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
    };
    hears.map_err(|errno| Failure::from(&io::Error::from(errno)))?;
    Ok(socket)
}

/// Bytes that nobody outside can guess, by which an answer is known.
pub(super) fn random() -> [u8; 8] {
    // The keys of a hash table come from the kernel's random numbers.
    RandomState::new().build_hasher().finish().to_ne_bytes()
}
