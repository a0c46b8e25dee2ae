//! The raw sockets that carry adverts, IPv4 and IPv6. Whole IP packets are sent (the source, the time
//! to live and the traffic class are part of a rendered advert); what is received comes as a
//! [`Datagram`].

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use vrrp::{Datagram, Discard, Family};

use super::sys;

/// Bytes of adverts that can wait in the kernel, either way: those of 1,000 routers, each of which
/// takes about a thousand.
const BUFFER: usize = 1 << 20;

/// Protocol 112 of one family, on one interface or from one host.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: Socket,
    family: Family,
    /// The interface of link-local addresses; 0 where there is none.
    scope: u32,
}

impl VrrpSocket {
    /// Opens the socket on an interface and joins 224.0.0.18 or ff02::12 there. The index counts: the
    /// membership and the binding belong to the interface that has it now, not to its name.
    ///
    /// # Errors
    ///
    /// Says which step the kernel refused; `EPERM` without `CAP_NET_RAW`.
    pub fn open(name: &str, index: u32, family: Family) -> io::Result<VrrpSocket> {
        let socket = raw(family)?;
        // Bound to the interface before it joins, so that no advert of another one is ever read.
        socket
            .bind_device(Some(name.as_bytes()))
            .map_err(step("binding to the interface"))?;
        match family {
            Family::V4 => socket
                .join_multicast_v4_n(&vrrp::GROUP_V4, &InterfaceIndexOrAddress::Index(index))
                .map_err(step("joining 224.0.0.18"))?,
            Family::V6 => socket
                .join_multicast_v6(&vrrp::GROUP_V6, index)
                .map_err(step("joining ff02::12"))?,
        }
        Ok(VrrpSocket {
            socket,
            family,
            scope: index,
        })
    }

    /// Opens a socket for one host, by whatever interface it is reached. Returns the own address
    /// there, too: `source`, or what the route to the peer has.
    ///
    /// # Errors
    ///
    /// There is no route to the peer, or this host does not have `source`.
    pub fn to_peer(peer: IpAddr, source: Option<IpAddr>) -> io::Result<(VrrpSocket, IpAddr)> {
        let family = Family::of(peer);
        let socket = raw(family)?;
        if let Some(source) = source {
            socket
                .bind(&SocketAddr::new(source, 0).into())
                .map_err(step("binding to the source"))?;
        }
        // Connected, it receives from that host only.
        socket
            .connect(&SocketAddr::new(peer, 0).into())
            .map_err(step("finding a route to the peer"))?;
        let own = socket.local_addr()?.as_socket().map(|own| own.ip());
        let own = own.ok_or_else(|| io::Error::other("the route to the peer has no source"))?;
        let socket = VrrpSocket {
            socket,
            family,
            scope: 0,
        };
        Ok((socket, own))
    }

    /// Sends a whole IP packet.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENETDOWN`, `ENODEV`, `ENOBUFS`, or `EAGAIN` when the send buffer is full; it
    /// never waits.
    pub fn send(&self, packet: &[u8], destination: IpAddr) -> io::Result<()> {
        let to: SockAddr = match destination {
            IpAddr::V4(_) => SocketAddr::new(destination, 0).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, self.scope_of(address)).into(),
        };
        self.socket.send_to(packet, &to).map(|_| ())
    }

    fn scope_of(&self, address: Ipv6Addr) -> u32 {
        let local = address.is_unicast_link_local() || address.is_multicast();
        if local { self.scope } else { 0 }
    }

    /// Takes one received packet; `None` when no more are waiting.
    ///
    /// # Errors
    ///
    /// The kernel's, e.g. `ENETDOWN` once after the interface went down.
    pub fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> io::Result<Option<Result<Datagram<'a>, Discard>>> {
        let received = match self.family {
            Family::V4 => io::Read::read(&mut &self.socket, buffer)
                .map(|length| Datagram::from_ipv4(buffer.get(..length).unwrap_or_default())),
            Family::V6 => self.receive_v6(buffer).map(Ok),
        };
        match received {
            Ok(datagram) => Ok(Some(datagram)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A raw IPv6 socket delivers the message without its header, and what matters of that beside it
    /// (RFC 3542).
    fn receive_v6<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Datagram<'a>> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let (length, source, destination, ttl) = {
            let mut slices = [IoSliceMut::new(buffer)];
            let received = recvmsg::<SockaddrIn6>(
                self.socket.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let (mut destination, mut ttl) = (Ipv6Addr::UNSPECIFIED, 0);
            for message in received.cmsgs()? {
                #[allow(
                    clippy::wildcard_enum_match_arm,
                    reason = "no other control message was asked for"
                )]
                match message {
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        destination = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    }
                    ControlMessageOwned::Ipv6HopLimit(limit) => {
                        ttl = u8::try_from(limit).unwrap_or(0);
                    }
                    _ => {}
                }
            }
            let source = received
                .address
                .map_or(Ipv6Addr::UNSPECIFIED, |source| source.ip());
            (received.bytes, source, destination, ttl)
        };
        Ok(Datagram {
            source: source.into(),
            destination: destination.into(),
            ttl,
            payload: buffer.get(..length).unwrap_or_default(),
        })
    }
}

/// Sends whole Ethernet frames out of one interface.
///
/// Adverts to the group leave this way wherever there is Ethernet: it costs a quarter of what a raw IP
/// socket does, which asks routing and netfilter about each packet again, and it is the only way to
/// send from a virtual MAC whether or not an interface of that address is up.
#[derive(Debug)]
pub struct FrameSocket {
    socket: Socket,
}

impl FrameSocket {
    /// Opens the socket on the interface of that index. It receives nothing.
    ///
    /// # Errors
    ///
    /// The kernel's; `EPERM` without `CAP_NET_RAW`.
    pub fn open(index: u32) -> io::Result<FrameSocket> {
        // Protocol 0: nothing is received, and the kernel reads the type from the frame.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)
            .map_err(step("opening a packet socket"))?;
        socket
            .bind(&sys::link_layer_address(index, 0, [0; 6]))
            .map_err(step("binding to the interface"))?;
        setsockopt(&socket, sockopt::SndBufForce, &BUFFER)
            .map_err(|error| step("SO_SNDBUFFORCE")(error.into()))?;
        Ok(FrameSocket { socket })
    }

    /// Sends frames in one system call. Returns how many left.
    ///
    /// # Errors
    ///
    /// The kernel refused the first one.
    pub fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let slices: Vec<_> = frames.map(|frame| [IoSlice::new(frame)]).collect();
        let mut controls: Vec<_> = slices
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<_> = slices
            .iter()
            .zip(&mut controls)
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        Ok(sendmmsg(&self.socket, &mut messages, SendFlags::empty())?)
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn raw(family: Family) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(vrrp::PROTOCOL));
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))
        .map_err(step("opening a raw socket"))?;
    match family {
        Family::V4 => {
            socket
                .set_multicast_all_v4(false)
                .map_err(step("IP_MULTICAST_ALL"))?;
            socket
                .set_multicast_loop_v4(false)
                .map_err(step("IP_MULTICAST_LOOP"))?;
            socket
                .set_header_included_v4(true)
                .map_err(step("IP_HDRINCL"))?;
        }
        Family::V6 => {
            socket
                .set_multicast_all_v6(false)
                .map_err(step("IPV6_MULTICAST_ALL"))?;
            socket
                .set_multicast_loop_v6(false)
                .map_err(step("IPV6_MULTICAST_LOOP"))?;
            socket
                .set_header_included_v6(true)
                .map_err(step("IPV6_HDRINCL"))?;
            socket
                .set_recv_hoplimit_v6(true)
                .map_err(step("IPV6_RECVHOPLIMIT"))?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
                .map_err(|error| step("IPV6_RECVPKTINFO")(error.into()))?;
        }
    }
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)
        .map_err(|error| step("SO_RCVBUFFORCE")(error.into()))?;
    Ok(socket)
}

fn step(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}
