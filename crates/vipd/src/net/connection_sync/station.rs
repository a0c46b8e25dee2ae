//! The socket for hellos, on the interface that has an index.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::InterfaceIndexOrAddress;
use tokio::net::UdpSocket;

use super::hello::Hello;
use super::transfer;
use crate::config::Sync;

pub(super) struct Station {
    pub(super) index: u32,
    socket: UdpSocket,
    group: SocketAddr,
}

impl Station {
    pub(super) fn open(sync: &Sync, index: u32) -> io::Result<Station> {
        let socket = transfer::socket(sync)?;
        socket.set_reuse_address(true)?;
        let group = transfer::destination(sync.group, sync.port.saturating_add(1), index);
        socket.bind(&group.into())?;
        match sync.group {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index)?,
        }
        socket.set_nonblocking(true)?;
        Ok(Station {
            index,
            socket: UdpSocket::from_std(socket.into())?,
            group,
        })
    }

    /// A datagram that is lost is followed by others.
    pub(super) fn say(&self, hello: &Hello) {
        let _ = self.socket.try_send_to(&hello.encode(), self.group);
    }
}

/// The next datagram; without a socket none ever comes.
pub(super) async fn hear(
    station: Option<&Station>,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr)> {
    match station {
        Some(station) => station.socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}
