//! What the kernel answers, taken apart. Bytes from outside never panic here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use super::attributes::{Attributes, array, text};
use super::{
    AF_INET, AF_INET6, FAMILY_ID_ATTRIBUTE, FLAG_ONE_PACKET, FLAG_PERSISTENT, FLAG_SCHED1,
    FLAG_SCHED2, FLAG_SCHED3, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, METHOD_BYPASS,
    METHOD_DIRECT_ROUTING, METHOD_LOCAL_NODE, METHOD_MASK, METHOD_NAT, METHOD_TUNNEL,
    TUNNEL_FLAG_CHECKSUM, TUNNEL_FLAG_REMOTE_CHECKSUM, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP,
    attribute, destination as of_destination, info as of_info, service as of_service,
    statistics as of_statistics,
};
use crate::table::{
    Destination, DestinationKey, DestinationStatistics, Family, Forwarding, Persistence, Protocol,
    Rates, SchedulerName, Service, ServiceFlags, ServiceKey, Statistics, Tunnel, TunnelChecksum,
};

/// Why an answer makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A message ends before it should, or its lengths contradict each other.
    #[error("the kernel's answer is not a whole netlink message")]
    Truncated,
    /// Something without which the rest has no meaning.
    #[error("the kernel's answer lacks {0}")]
    Missing(&'static str),
    /// An attribute of the wrong length.
    #[error("the kernel's answer has {0} of the wrong length")]
    Malformed(&'static str),
    /// A value that this crate does not know.
    #[error("the kernel's answer has an unknown {what}: {value}")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The value.
        value: u32,
    },
}

/// One message of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The sequence number of the request that it answers.
    pub sequence: u32,
    /// The dump is inconsistent, because something changed meanwhile (`NLM_F_DUMP_INTR`).
    pub interrupted: bool,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// A generic netlink message, for the `*_from` functions.
    Message(&'a [u8]),
    /// The end of a dump (`NLMSG_DONE`), with an errno or 0.
    Done(i32),
    /// The result of a request (`NLMSG_ERROR`): an errno, or 0 where an acknowledgement was asked
    /// for.
    Status(i32),
    /// Nothing (`NLMSG_NOOP`, `NLMSG_OVERRUN`).
    Nothing,
}

/// What IPVS says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its version, as `1.2.1`.
    pub version: String,
    /// Buckets of the connection table (module parameter `conn_tab_bits`).
    pub connection_table_size: u32,
}

/// The messages in a datagram. Ends after the first that is broken.
pub fn replies(datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>, DecodeError>> {
    let mut rest = Some(datagram);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let first = split_reply(bytes);
        rest = first.ok().map(|(_, rest)| rest);
        Some(first.map(|(reply, _)| reply))
    })
}

/// The number of the family, from the controller's answer.
///
/// # Errors
///
/// It is not there.
pub fn family_from(message: &[u8]) -> Result<u16, DecodeError> {
    Attributes::of_message(message)?.u16(FAMILY_ID_ATTRIBUTE, "the family's number")
}

/// What IPVS says of itself.
///
/// # Errors
///
/// It is not there.
pub fn info_from(message: &[u8]) -> Result<Info, DecodeError> {
    let info = Attributes::of_message(message)?;
    let version = info.u32(of_info::VERSION, "the version")?;
    let [_, major, minor, patch] = version.to_be_bytes();
    Ok(Info {
        version: format!("{major}.{minor}.{patch}"),
        connection_table_size: info.u32(
            of_info::CONNECTION_TABLE_SIZE,
            "the size of the connection table",
        )?,
    })
}

/// A service, from a dump.
///
/// An IPv4 persistence mask that is no prefix (`255.0.255.0`) is read as the prefix it begins with.
///
/// # Errors
///
/// Something is missing, or has a value that is not known.
pub fn service_from(message: &[u8]) -> Result<(ServiceKey, Service, Statistics), DecodeError> {
    let message = Attributes::of_message(message)?;
    let service = Attributes::of(message.bytes(attribute::SERVICE, "the service")?)?;
    let family = family(service.u16(of_service::FAMILY, "a service's family")?)?;
    let key = match service.get(of_service::MARK) {
        Some(mark) => {
            let mark = u32::from_ne_bytes(array(mark, "a firewall mark")?);
            ServiceKey::FirewallMark { family, mark }
        }
        None => {
            let protocol = service.u16(of_service::PROTOCOL, "a service's protocol")?;
            let address = service.bytes(of_service::ADDRESS, "a service's address")?;
            let port = service.u16(of_service::PORT, "a service's port")?;
            ServiceKey::Address {
                protocol: self::protocol(protocol)?,
                address: SocketAddr::new(self::address(family, address)?, u16::from_be(port)),
            }
        }
    };
    let scheduler = service.bytes(of_service::SCHEDULER, "a service's scheduler")?;
    let flags = service.bytes(of_service::FLAGS, "a service's flags")?;
    let flags = flags
        .first_chunk()
        .ok_or(DecodeError::Malformed("a service's flags"))?;
    let flags = u32::from_ne_bytes(*flags);
    let set = |flag| flags & flag != 0;
    let persistence = if set(FLAG_PERSISTENT) {
        let timeout = service.u32(of_service::TIMEOUT, "a persistence timeout")?;
        let netmask = service.u32(of_service::NETMASK, "a persistence mask")?;
        let prefix = match family {
            Family::V4 => u32::from_be(netmask).leading_ones(),
            Family::V6 => netmask,
        };
        Some(Persistence {
            timeout: Duration::from_secs(timeout.into()),
            prefix_length: u8::try_from(prefix).map_err(|_| DecodeError::Unknown {
                what: "prefix length",
                value: prefix,
            })?,
            engine: service.get(of_service::ENGINE).map(text),
        })
    } else {
        None
    };
    let settings = Service {
        scheduler: SchedulerName::from(text(scheduler).as_str()),
        flags: ServiceFlags {
            one_packet: set(FLAG_ONE_PACKET),
            sched1: set(FLAG_SCHED1),
            sched2: set(FLAG_SCHED2),
            sched3: set(FLAG_SCHED3),
        },
        persistence,
    };
    let counters = statistics(
        service.get(of_service::STATISTICS64),
        service.get(of_service::STATISTICS),
    )?;
    Ok((key, settings, counters))
}

/// A destination of the service `service`, from a dump.
///
/// # Errors
///
/// Something is missing, or has a value that is not known.
pub fn destination_from(
    message: &[u8],
    service: &ServiceKey,
) -> Result<(DestinationKey, Destination, DestinationStatistics), DecodeError> {
    let message = Attributes::of_message(message)?;
    let destination = message.bytes(attribute::DESTINATION, "the real server")?;
    let destination = Attributes::of(destination)?;
    // Kernels before 3.18 have no such attribute, nor destinations of another family.
    let family = match destination.get(of_destination::FAMILY) {
        Some(number) => self::family(u16::from_ne_bytes(array(number, "a real server's family")?))?,
        None => service.family(),
    };
    let address = destination.bytes(of_destination::ADDRESS, "a real server's address")?;
    let port = destination.u16(of_destination::PORT, "a real server's port")?;
    let key = SocketAddr::new(self::address(family, address)?, u16::from_be(port));
    let u32 = |kind, what| destination.u32(kind, what);
    let settings = Destination {
        forwarding: forwarding(&destination)?,
        weight: u32(of_destination::WEIGHT, "a real server's weight")?,
        upper_threshold: u32(of_destination::UPPER_THRESHOLD, "an upper threshold")?,
        lower_threshold: u32(of_destination::LOWER_THRESHOLD, "a lower threshold")?,
    };
    let statistics = DestinationStatistics {
        counters: statistics(
            destination.get(of_destination::STATISTICS64),
            destination.get(of_destination::STATISTICS),
        )?,
        active: u32(of_destination::ACTIVE, "active connections")?,
        inactive: u32(of_destination::INACTIVE, "inactive connections")?,
        persistent: u32(of_destination::PERSISTENT, "persistent connections")?,
    };
    Ok((DestinationKey(key), settings, statistics))
}

fn forwarding(destination: &Attributes<'_>) -> Result<Forwarding, DecodeError> {
    let method = destination.u32(of_destination::METHOD, "a forwarding method")?;
    match method & METHOD_MASK {
        METHOD_NAT => Ok(Forwarding::Nat),
        METHOD_LOCAL_NODE => Ok(Forwarding::LocalNode),
        METHOD_TUNNEL => tunnel(destination).map(Forwarding::Tunnel),
        METHOD_DIRECT_ROUTING => Ok(Forwarding::DirectRouting),
        METHOD_BYPASS => Ok(Forwarding::Bypass),
        value => Err(DecodeError::Unknown {
            what: "forwarding method",
            value,
        }),
    }
}

fn tunnel(destination: &Attributes<'_>) -> Result<Tunnel, DecodeError> {
    // Kernels before 5.3 have no such attributes, and IP in IP only.
    let Some(kind) = destination.get(of_destination::TUNNEL_TYPE) else {
        return Ok(Tunnel::Ipip);
    };
    let [kind] = array(kind, "a tunnel type")?;
    let checksum = || {
        let flags = destination.u16(of_destination::TUNNEL_FLAGS, "tunnel flags")?;
        Ok(if flags & TUNNEL_FLAG_REMOTE_CHECKSUM != 0 {
            TunnelChecksum::Remote
        } else if flags & TUNNEL_FLAG_CHECKSUM != 0 {
            TunnelChecksum::Full
        } else {
            TunnelChecksum::None
        })
    };
    match kind {
        TUNNEL_IPIP => Ok(Tunnel::Ipip),
        TUNNEL_GUE => {
            let port = destination.u16(of_destination::TUNNEL_PORT, "a tunnel port")?;
            Ok(Tunnel::Gue {
                port: u16::from_be(port),
                checksum: checksum()?,
            })
        }
        TUNNEL_GRE => Ok(Tunnel::Gre {
            checksum: checksum()?,
        }),
        value => Err(DecodeError::Unknown {
            what: "tunnel type",
            value: value.into(),
        }),
    }
}

/// `STATS64` where the kernel has it (4.1 and later), otherwise `STATS`.
fn statistics(wide: Option<&[u8]>, narrow: Option<&[u8]>) -> Result<Statistics, DecodeError> {
    let bytes = wide
        .or(narrow)
        .ok_or(DecodeError::Missing("the statistics"))?;
    let counters = Attributes::of(bytes)?;
    let counter = |kind, what| {
        let bytes = counters.bytes(kind, what)?;
        match <[u8; 8]>::try_from(bytes) {
            Ok(wide) => Ok(u64::from_ne_bytes(wide)),
            Err(_) => Ok(u32::from_ne_bytes(array(bytes, what)?).into()),
        }
    };
    Ok(Statistics {
        connections: counter(of_statistics::CONNECTIONS, "the count of connections")?,
        in_packets: counter(of_statistics::IN_PACKETS, "the count of packets in")?,
        out_packets: counter(of_statistics::OUT_PACKETS, "the count of packets out")?,
        in_bytes: counter(of_statistics::IN_BYTES, "the count of bytes in")?,
        out_bytes: counter(of_statistics::OUT_BYTES, "the count of bytes out")?,
        rates: Rates {
            connections: counter(of_statistics::CONNECTION_RATE, "connections a second")?,
            in_packets: counter(of_statistics::IN_PACKET_RATE, "packets in a second")?,
            out_packets: counter(of_statistics::OUT_PACKET_RATE, "packets out a second")?,
            in_bytes: counter(of_statistics::IN_BYTE_RATE, "bytes in a second")?,
            out_bytes: counter(of_statistics::OUT_BYTE_RATE, "bytes out a second")?,
        },
    })
}

fn family(number: u16) -> Result<Family, DecodeError> {
    match number {
        AF_INET => Ok(Family::V4),
        AF_INET6 => Ok(Family::V6),
        value => Err(DecodeError::Unknown {
            what: "address family",
            value: value.into(),
        }),
    }
}

fn protocol(number: u16) -> Result<Protocol, DecodeError> {
    match number {
        IPPROTO_TCP => Ok(Protocol::Tcp),
        IPPROTO_UDP => Ok(Protocol::Udp),
        IPPROTO_SCTP => Ok(Protocol::Sctp),
        value => Err(DecodeError::Unknown {
            what: "protocol",
            value: value.into(),
        }),
    }
}

fn address(family: Family, bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    let bytes: [u8; 16] = array(bytes, "an address")?;
    let [a, b, c, d, ..] = bytes;
    Ok(match family {
        Family::V4 => Ipv4Addr::new(a, b, c, d).into(),
        Family::V6 => Ipv6Addr::from(bytes).into(),
    })
}

/// Takes the first message off. The header is read here and not by neli, which expects a refusal to
/// carry the whole request and panics on one that is cut short.
fn split_reply(bytes: &[u8]) -> Result<(Reply<'_>, &[u8]), DecodeError> {
    let header: &[u8; NETLINK_HEADER] = bytes.first_chunk().ok_or(DecodeError::Truncated)?;
    let [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3]));
    let length = length.map_err(|_| DecodeError::Truncated)?;
    let payload = bytes
        .get(NETLINK_HEADER..length)
        .ok_or(DecodeError::Truncated)?;
    let status = || match payload.first_chunk() {
        Some(errno) => Ok(i32::from_ne_bytes(*errno).saturating_neg()),
        None => Err(DecodeError::Truncated),
    };
    let body = match u16::from_ne_bytes([t0, t1]) {
        NLMSG_ERROR => Body::Status(status()?),
        // A dump without anything to say of its end may leave the errno out.
        NLMSG_DONE => Body::Done(status().unwrap_or(0)),
        kind if kind < NLMSG_MIN_TYPE => Body::Nothing,
        _ => Body::Message(payload),
    };
    let interrupted = u16::from_ne_bytes([f0, f1]) & NLM_F_DUMP_INTR != 0;
    let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
    // Messages begin at multiples of four; the last may end anywhere.
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok((
        Reply {
            sequence,
            interrupted,
            body,
        },
        rest,
    ))
}

// linux/netlink.h: `sizeof(struct nlmsghdr)`, message types and flags.
const NETLINK_HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_MIN_TYPE: u16 = 16;
const NLM_F_DUMP_INTR: u16 = 0x10;
