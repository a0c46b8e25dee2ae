//! A TCP connection to the target along the check's route.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::check::Route;
use crate::failure::Failure;

/// Who sends the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// We do, or nobody does.
    Ours,
    /// The server.
    Theirs,
}

/// Connects. The connection ends with a RST when it is dropped: thousands of checks would otherwise
/// fill this machine's port range with TIME_WAIT.
pub(super) async fn connect(
    target: SocketAddr,
    route: &Route,
    first: First,
) -> Result<TcpStream, Failure> {
    let error = |error: io::Error| Failure::from(&error);
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(error)?;
    socket.set_zero_linger().map_err(error)?;
    if first == First::Ours {
        // The last packet of the handshake then goes with the first bytes. Where there are none, the RST
        // comes in its place: three packets instead of four, and the server's program is not woken for a
        // connection that is over, nor does it write of it in its log.
        SockRef::from(&socket)
            .set_tcp_quickack(false)
            .map_err(error)?;
    }
    steer(&socket, route)?;
    if let Some(source) = route.source_for(target)? {
        // The port is chosen when the target is known, so that one source address has all ports for
        // each target and not for all together.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)
            .map_err(|errno| error(errno.into()))?;
        socket
            .bind(SocketAddr::new(source, 0))
            .map_err(|cause| no_source(source, &cause))?;
    }
    let stream = socket.connect(target).await.map_err(error)?;
    // Where the target is this machine and its port an ephemeral one that nobody listens on, the
    // kernel may pick that very port as the source, and the socket connects to itself.
    if stream.local_addr().map_err(error)? == target {
        return Err(Failure::Refused);
    }
    Ok(stream)
}

/// Gives a socket the mark and the interface of `route`; its source is the caller's to bind.
pub(super) fn steer(socket: &impl AsFd, route: &Route) -> Result<(), Failure> {
    if let Some(mark) = route.mark {
        SockRef::from(socket)
            .set_mark(mark.get())
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EPERM) => Failure::Local(format!(
                    "firewall mark {mark} cannot be set without the capability CAP_NET_ADMIN"
                )),
                Some(_) | None => Failure::from(&error),
            })?;
    }
    if let Some(interface) = &route.interface {
        SockRef::from(socket)
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENODEV) => Failure::Local(format!("no interface {interface}")),
                Some(libc::EPERM) => Failure::Local(format!(
                    "interface {interface} cannot be chosen without the capability CAP_NET_RAW"
                )),
                Some(_) | None => Failure::from(&error),
            })?;
    }
    Ok(())
}

/// Why a socket cannot be bound to its source.
pub(super) fn no_source(source: IpAddr, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        return Failure::Local(format!("this machine does not have the address {source}"));
    }
    Failure::from(error)
}
