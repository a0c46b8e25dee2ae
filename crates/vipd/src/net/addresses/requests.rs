//! Address requests to the kernel, many in one datagram: what ten thousand addresses cost is then
//! what the kernel needs, and not what it takes to wait for ten thousand answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
    AddressScope, CacheInfo,
};
use rtnetlink::proto::ConnectionHandle;
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::{AddressMessageBuilder, Handle};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use thiserror::Error;
use tracing::warn;

use crate::config::{Scope, VirtualAddress};
use crate::net::ADDRESS_PROTOCOL;

/// Requests in one datagram at most. The kernel answers all of them before it returns, so the
/// answers of a whole batch have to fit into the receive buffer.
const LARGEST: usize = 256;
const SMALLEST: usize = 8;
/// How long a batch should take. What one address costs the kernel grows with their number, for IPv6
/// to milliseconds where an interface has ten thousand; nothing else can be said to it meanwhile.
const TARGET: Duration = Duration::from_millis(10);
/// How long the kernel may take to answer a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Room for the answers to a batch in which everything is refused.
const ANSWERS: usize = 1 << 20;

/// What the kernel said to one request: an error number, if it refused.
pub(super) type Answer = Option<i32>;

/// A netlink socket for address requests.
pub(super) struct Requests {
    connection: ConnectionHandle<RouteNetlinkMessage>,
    batch: usize,
}

impl Requests {
    pub(super) fn open() -> io::Result<Requests> {
        use rtnetlink::sys::AsyncSocket;

        let (mut task, connection, _) = rtnetlink::proto::new_connection(NETLINK_ROUTE)?;
        // With an answer to each request, the order tells which is whose.
        task.set_forward_ack(true);
        let socket = task.socket_mut().socket_mut();
        if let Err(error) = set_socket_recv_buffer_size_force(socket, ANSWERS) {
            warn!(%error, "the netlink buffer for answers stays small");
        }
        tokio::spawn(task);
        Ok(Requests {
            connection,
            batch: LARGEST,
        })
    }

    /// The next requests to send together, and those after them.
    pub(super) fn split<'a, T>(&self, requests: &'a [T]) -> (&'a [T], &'a [T]) {
        requests.split_at(self.batch.min(requests.len()))
    }

    /// Sends all of them and returns the answers in the same order. An error means that the kernel
    /// said nothing, or nothing that could be understood: then the socket is of no more use.
    pub(super) async fn execute(
        &mut self,
        requests: Vec<NetlinkMessage<RouteNetlinkMessage>>,
    ) -> Result<Vec<Answer>, String> {
        let (count, began) = (requests.len(), Instant::now());
        let mut stream = self
            .connection
            .request_batch(requests, SocketAddr::new(0, 0))
            .map_err(|error| error.to_string())?;
        let mut answers = Vec::with_capacity(count);
        let all = async {
            while let Some(message) = stream.next().await {
                if let NetlinkPayload::Error(error) = message.payload {
                    answers.push(error.code.map(|code| code.get().saturating_abs()));
                }
            }
        };
        // An answer lost in an overrun would be waited for without end.
        if tokio::time::timeout(TIMEOUT, all).await.is_err() {
            return Err(format!("no answer from the kernel within {TIMEOUT:?}"));
        }
        if answers.len() != count {
            return Err("the netlink socket was closed".to_owned());
        }
        let took = began.elapsed();
        if took > TARGET {
            self.batch = (self.batch / 2).max(SMALLEST);
        } else if took < TARGET / 3 {
            self.batch = (self.batch * 2).min(LARGEST);
        }
        Ok(answers)
    }
}

/// The request to put a virtual address on an interface.
pub(super) fn add(index: u32, wanted: &VirtualAddress) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut message = form(index, wanted);
    let protocol = AddressProtocol::from(ADDRESS_PROTOCOL);
    message
        .attributes
        .push(AddressAttribute::Protocol(protocol));
    request(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Puts a virtual address on an interface without the mark of the daemon's, which would take it away, and
/// without a broadcast address, as ip-address(8) does; one that is there already is no error.
///
/// # Errors
///
/// The kernel's, in words.
pub async fn add_unmarked(
    handle: &Handle,
    index: u32,
    wanted: &VirtualAddress,
) -> Result<(), Failure> {
    let net = wanted.address;
    let mut adding = handle.address().add(index, net.addr(), net.prefix_len());
    let mut message = form(index, wanted);
    let broadcast = |it: &AddressAttribute| matches!(it, AddressAttribute::Broadcast(_));
    message.attributes.retain(|attribute| !broadcast(attribute));
    *adding.message_mut() = message;
    execute(adding.execute(), &[libc::EEXIST]).await
}

/// A virtual address as the kernel is told of it.
fn form(index: u32, wanted: &VirtualAddress) -> AddressMessage {
    let mut message = build(index, wanted.address);
    let mut flags = AddressFlags::empty();
    if !wanted.prefix_route {
        flags |= AddressFlags::Noprefixroute;
    }
    match wanted.address {
        IpNet::V4(_) => {
            message.header.scope = AddressScope::from(scope(wanted.scope));
            let label = wanted.label.clone().map(AddressAttribute::Label);
            message.attributes.extend(label);
        }
        IpNet::V6(net) => {
            // Duplicate address detection (RFC 4862 §5.4) would keep the address out of use for a
            // second or two after each takeover, and for ever if the old master still answers for
            // it. That only one host has it is what VRRP itself sees to.
            flags |= AddressFlags::Nodad;
            message.header.flags |= AddressHeaderFlags::Nodad;
            if net.prefix_len() == 128 {
                message.attributes.push(never_a_source());
            }
        }
    }
    message.attributes.push(AddressAttribute::Flags(flags));
    message
}

/// The request to take an address off an interface.
pub(super) fn delete(index: u32, address: IpNet) -> NetlinkMessage<RouteNetlinkMessage> {
    request(RouteNetlinkMessage::DelAddress(build(index, address)), 0)
}

/// The same in bytes.
pub(crate) fn removal(index: u32, address: IpNet) -> Vec<u8> {
    bytes(delete(index, address))
}

/// A request in bytes.
pub(in crate::net) fn bytes(mut message: NetlinkMessage<RouteNetlinkMessage>) -> Vec<u8> {
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A scope's number (rtnetlink(7)).
pub(super) fn scope(scope: Scope) -> u8 {
    match scope {
        Scope::Global => 0,
        Scope::Link => 253,
        Scope::Host => 254,
    }
}

/// Deprecated from the start: the host's own connections, which would break when the address moves,
/// begin from an address that stays (RFC 6724 §5, rule 3). Only /128, as keepalived does it: what
/// has a prefix may be meant as the host's address in its network.
fn never_a_source() -> AddressAttribute {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_preferred = 0;
    lifetimes.ifa_valid = u32::MAX;
    AddressAttribute::CacheInfo(lifetimes)
}

fn build(index: u32, address: IpNet) -> AddressMessage {
    match address.addr() {
        IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(ip, address.prefix_len())
            .build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(ip, address.prefix_len())
            .build(),
    }
}

pub(in crate::net) fn request(
    message: RouteNetlinkMessage,
    flags: u16,
) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request
}

/// Why a request did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// The kernel said no.
    #[error("{0}")]
    Refused(String),
    /// The kernel said nothing, or nothing that could be understood.
    #[error("{0}")]
    Broken(String),
}

/// Takes one address off an interface; one that is gone already is no error.
///
/// # Errors
///
/// The kernel's, in words.
pub async fn delete_one(handle: &Handle, index: u32, address: IpNet) -> Result<(), Failure> {
    let message = build(index, address);
    // EADDRNOTAVAIL: somebody was faster. ENODEV: the interface is gone, and its addresses with it.
    let gone = [libc::EADDRNOTAVAIL, libc::ENODEV];
    execute(handle.address().del(message).execute(), &gone).await
}

pub(in crate::net) async fn execute(
    request: impl Future<Output = Result<(), rtnetlink::Error>>,
    fine: &[i32],
) -> Result<(), Failure> {
    // An acknowledgement lost in an overrun would be waited for without end.
    match tokio::time::timeout(TIMEOUT, request).await {
        Err(_) => {
            let text = format!("no answer from the kernel within {TIMEOUT:?}");
            Err(Failure::Broken(text))
        }
        Ok(Ok(())) => Ok(()),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => {
            if fine.contains(&message.raw_code().saturating_abs()) {
                return Ok(());
            }
            Err(Failure::Refused(message.to_io().to_string()))
        }
        Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
    }
}
