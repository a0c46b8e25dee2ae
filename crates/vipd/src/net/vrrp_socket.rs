//! The raw socket that carries the adverts of all virtual routers of one interface (IPv4).

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

/// Adverts that can wait in the kernel while the thread is elsewhere. 255 routers of a peer fit many
/// times over.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Protocol 112 on one interface, joined to 224.0.0.18.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: Socket,
    destination: SockAddr,
}

impl VrrpSocket {
    /// Opens the socket on an interface. The index counts: the multicast membership and the binding
    /// belong to the interface that has it now, not to its name.
    ///
    /// # Errors
    ///
    /// Says which step the kernel refused; `EPERM` without `CAP_NET_RAW`.
    pub fn open(name: &str, index: u32) -> io::Result<VrrpSocket> {
        let step = |what: &'static str| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        let protocol = Protocol::from(i32::from(vrrp::PROTOCOL));
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(protocol))
            .map_err(step("opening a raw socket"))?;
        // Bound to the interface before it joins, so that no advert of another one is ever read.
        socket
            .bind_device(Some(name.as_bytes()))
            .map_err(step("binding to the interface"))?;
        socket
            .set_multicast_all_v4(false)
            .map_err(step("IP_MULTICAST_ALL"))?;
        socket
            .set_multicast_loop_v4(false)
            .map_err(step("IP_MULTICAST_LOOP"))?;
        // The IP header (TTL 255, TOS 0xc0, the source) is part of the rendered advert.
        socket
            .set_header_included_v4(true)
            .map_err(step("IP_HDRINCL"))?;
        socket
            .set_recv_buffer_size(RECEIVE_BUFFER)
            .map_err(step("SO_RCVBUF"))?;
        socket
            .join_multicast_v4_n(&vrrp::GROUP_V4, &InterfaceIndexOrAddress::Index(index))
            .map_err(step("joining 224.0.0.18"))?;
        let destination = SockAddr::from(SocketAddrV4::new(vrrp::GROUP_V4, 0));
        Ok(VrrpSocket {
            socket,
            destination,
        })
    }

    /// Sends a whole IPv4 packet to 224.0.0.18.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENETDOWN`, `ENODEV`, `ENOBUFS`, or `EAGAIN` when the send buffer is full; it
    /// never waits.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, &self.destination).map(|_| ())
    }

    /// Takes one received IPv4 packet, its header included; `None` when no more are waiting.
    ///
    /// # Errors
    ///
    /// The kernel's, e.g. `ENETDOWN` once after the interface went down.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        let length = match io::Read::read(&mut &self.socket, buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(buffer.get(..length))
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
