//! Generic netlink messages of the IPVS family: requests as bytes, answers as values.
//!
//! Nothing here does I/O. A request is complete with its netlink header; several may be sent as one
//! datagram, one after the other. Answers are taken apart by [`replies`] and the `*_from` functions;
//! attributes that this crate does not know are skipped, so a newer kernel does no harm.

mod attributes;
mod changes;
mod reply;
mod settings;
mod writer;

use std::net::IpAddr;
use std::net::SocketAddr;

use neli::consts::nl::NlmF;
use thiserror::Error;

pub use changes::Changes;
pub use reply::{
    Body, DecodeError, Info, Reply, destination_from, family_from, info_from, replies, service_from,
};
pub use settings::{
    daemon_from, get_daemons, get_timeouts, set_timeouts, start_daemon, stop_daemon, timeouts_from,
    zero,
};

use self::writer::Writer;
use crate::table::{
    Destination, DestinationKey, Family, Forwarding, Protocol, Service, ServiceKey, Tunnel,
    TunnelChecksum,
};

/// Why a change has no form as a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A scheduler or persistence engine of which there can be no kernel module.
    #[error("`{0}` cannot be a name in the kernel: 1 to 15 bytes, none of them NUL")]
    Name(String),
    /// The name of an interface that there cannot be.
    #[error("`{0}` cannot be an interface: 1 to 15 bytes, none of them NUL")]
    Interface(String),
    /// The message could not be put together.
    #[error("the netlink message cannot be built: {0}")]
    Build(String),
}

/// Asks the generic netlink controller for the number of the family `IPVS`. The kernel loads the
/// module if it has one with that alias.
///
/// # Errors
///
/// None in practice.
pub fn get_family(sequence: u32) -> Result<Vec<u8>, EncodeError> {
    request(CONTROLLER, NlmF::ACK, sequence, GET_FAMILY, |message| {
        message.put_text(FAMILY_NAME_ATTRIBUTE, FAMILY_NAME);
    })
}

/// Asks the family `family` for its version and the size of the connection table.
///
/// # Errors
///
/// None in practice.
pub fn get_info(family: u16, sequence: u32) -> Result<Vec<u8>, EncodeError> {
    request(family, NlmF::ACK, sequence, command::GET_INFO, |_| {})
}

/// Asks for all services.
///
/// # Errors
///
/// None in practice.
pub fn get_services(family: u16, sequence: u32) -> Result<Vec<u8>, EncodeError> {
    request(family, NlmF::DUMP, sequence, command::GET_SERVICE, |_| {})
}

/// Asks for all destinations of a service.
///
/// # Errors
///
/// None in practice.
pub fn get_destinations(
    family: u16,
    sequence: u32,
    service: &ServiceKey,
) -> Result<Vec<u8>, EncodeError> {
    request(
        family,
        NlmF::DUMP,
        sequence,
        command::GET_DESTINATION,
        |message| {
            message.nest(attribute::SERVICE, |nest| service_key(nest, service));
        },
    )
}

fn request(
    family: u16,
    flags: NlmF,
    sequence: u32,
    command: u8,
    fill: impl FnOnce(&mut Writer<'_>),
) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    let mut message = Writer::begin(&mut bytes, family, flags, sequence, command)?;
    fill(&mut message);
    message.finish();
    Ok(bytes)
}

fn service_key(nest: &mut Writer<'_>, key: &ServiceKey) {
    nest.put_u16(service::FAMILY, family_number(key.family()));
    match key {
        ServiceKey::Address { protocol, address } => {
            nest.put_u16(service::PROTOCOL, protocol_number(*protocol));
            nest.put(service::ADDRESS, &address_bytes(address));
            nest.put(service::PORT, &address.port().to_be_bytes());
        }
        ServiceKey::FirewallMark { mark, .. } => nest.put_u32(service::MARK, *mark),
    }
}

fn service_settings(nest: &mut Writer<'_>, family: Family, settings: &Service) {
    let flags = [
        (settings.persistence.is_some(), FLAG_PERSISTENT),
        (settings.flags.one_packet, FLAG_ONE_PACKET),
        (settings.flags.sched1, FLAG_SCHED1),
        (settings.flags.sched2, FLAG_SCHED2),
        (settings.flags.sched3, FLAG_SCHED3),
    ];
    let flags: u32 = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| flag)
        .sum();
    // The kernel keeps what is outside the mask: with all of it, no flag survives unwanted.
    let [a, b, c, d] = flags.to_ne_bytes();
    let flags_and_mask = [a, b, c, d, 0xff, 0xff, 0xff, 0xff];
    let persistence = settings.persistence.as_ref();
    let timeout = persistence.map_or(0, |p| p.timeout.as_secs());
    let bits = family.address_bits();
    let prefix = persistence.map_or(bits, |p| p.prefix_length.min(bits));
    let netmask = match family {
        Family::V4 => u32::MAX
            .checked_shl(32 - u32::from(prefix))
            .unwrap_or(0)
            .to_be(),
        Family::V6 => u32::from(prefix),
    };
    nest.put_text(service::SCHEDULER, settings.scheduler.as_str());
    if let Some(engine) = persistence.and_then(|p| p.engine.as_deref()) {
        nest.put_text(service::ENGINE, engine);
    }
    nest.put(service::FLAGS, &flags_and_mask);
    nest.put_u32(service::TIMEOUT, u32::try_from(timeout).unwrap_or(u32::MAX));
    nest.put_u32(service::NETMASK, netmask);
}

fn destination_key(nest: &mut Writer<'_>, DestinationKey(address): &DestinationKey) {
    nest.put_u16(destination::FAMILY, family_number(Family::of(address.ip())));
    nest.put(destination::ADDRESS, &address_bytes(address));
    nest.put(destination::PORT, &address.port().to_be_bytes());
}

fn destination_settings(nest: &mut Writer<'_>, settings: &Destination) {
    let method = match settings.forwarding {
        Forwarding::Nat => METHOD_NAT,
        Forwarding::LocalNode => METHOD_LOCAL_NODE,
        Forwarding::Tunnel(_) => METHOD_TUNNEL,
        Forwarding::DirectRouting => METHOD_DIRECT_ROUTING,
        Forwarding::Bypass => METHOD_BYPASS,
    };
    nest.put_u32(destination::METHOD, method);
    nest.put_u32(destination::WEIGHT, settings.weight);
    let (tunnel, port, checksum) = match settings.forwarding {
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }) => (TUNNEL_GUE, port, checksum),
        Forwarding::Tunnel(Tunnel::Gre { checksum }) => (TUNNEL_GRE, 0, checksum),
        Forwarding::Tunnel(Tunnel::Ipip)
        | Forwarding::Nat
        | Forwarding::LocalNode
        | Forwarding::DirectRouting
        | Forwarding::Bypass => (TUNNEL_IPIP, 0, TunnelChecksum::None),
    };
    let checksum = match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => TUNNEL_FLAG_CHECKSUM,
        TunnelChecksum::Remote => TUNNEL_FLAG_REMOTE_CHECKSUM,
    };
    nest.put_u8(destination::TUNNEL_TYPE, tunnel);
    nest.put(destination::TUNNEL_PORT, &port.to_be_bytes());
    nest.put_u16(destination::TUNNEL_FLAGS, checksum);
    nest.put_u32(destination::UPPER_THRESHOLD, settings.upper_threshold);
    nest.put_u32(destination::LOWER_THRESHOLD, settings.lower_threshold);
}

fn check_names(service: &Service) -> Result<(), EncodeError> {
    let persistence = service.persistence.as_ref();
    let engine = persistence.and_then(|p| p.engine.as_deref());
    for name in [Some(service.scheduler.as_str()), engine]
        .into_iter()
        .flatten()
    {
        if !(1..=NAME_LENGTH).contains(&name.len()) || name.contains('\0') {
            return Err(EncodeError::Name(name.to_owned()));
        }
    }
    Ok(())
}

/// An address as the kernel's `union nf_inet_addr`: 16 bytes, IPv4 in the first four.
fn address_bytes(address: &SocketAddr) -> [u8; 16] {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

fn protocol_number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => IPPROTO_TCP,
        Protocol::Udp => IPPROTO_UDP,
        Protocol::Sctp => IPPROTO_SCTP,
    }
}

// The numbers and names below are those of linux/ip_vs.h.

const FAMILY_NAME: &str = "IPVS";
/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_NAME`, `CTRL_ATTR_FAMILY_ID` of
/// linux/genetlink.h.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_NAME_ATTRIBUTE: u16 = 2;
const FAMILY_ID_ATTRIBUTE: u16 = 1;
/// `IP_VS_SCHEDNAME_MAXLEN` and `IP_VS_PENAME_MAXLEN`, less the NUL.
const NAME_LENGTH: usize = 15;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_SCTP: u16 = 132;

const FLAG_PERSISTENT: u32 = 0x01;
const FLAG_ONE_PACKET: u32 = 0x04;
const FLAG_SCHED1: u32 = 0x08;
const FLAG_SCHED2: u32 = 0x10;
const FLAG_SCHED3: u32 = 0x20;

const METHOD_NAT: u32 = 0;
const METHOD_LOCAL_NODE: u32 = 1;
const METHOD_TUNNEL: u32 = 2;
const METHOD_DIRECT_ROUTING: u32 = 3;
const METHOD_BYPASS: u32 = 4;
const METHOD_MASK: u32 = 7;

const TUNNEL_IPIP: u8 = 0;
const TUNNEL_GUE: u8 = 1;
const TUNNEL_GRE: u8 = 2;
const TUNNEL_FLAG_CHECKSUM: u16 = 1;
const TUNNEL_FLAG_REMOTE_CHECKSUM: u16 = 2;

/// `IPVS_CMD_*`.
mod command {
    pub(super) const NEW_SERVICE: u8 = 1;
    pub(super) const SET_SERVICE: u8 = 2;
    pub(super) const DEL_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const NEW_DESTINATION: u8 = 5;
    pub(super) const SET_DESTINATION: u8 = 6;
    pub(super) const DEL_DESTINATION: u8 = 7;
    pub(super) const GET_DESTINATION: u8 = 8;
    pub(super) const NEW_DAEMON: u8 = 9;
    pub(super) const DEL_DAEMON: u8 = 10;
    pub(super) const GET_DAEMON: u8 = 11;
    pub(super) const SET_CONFIG: u8 = 12;
    pub(super) const GET_CONFIG: u8 = 13;
    pub(super) const GET_INFO: u8 = 15;
    pub(super) const ZERO: u8 = 16;
}

/// `IPVS_CMD_ATTR_*`.
mod attribute {
    pub(super) const SERVICE: u16 = 1;
    pub(super) const DESTINATION: u16 = 2;
    pub(super) const DAEMON: u16 = 3;
    pub(super) const TIMEOUT_TCP: u16 = 4;
    pub(super) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(super) const TIMEOUT_UDP: u16 = 6;
}

/// `IPVS_SVC_ATTR_*`.
mod service {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDRESS: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const MARK: u16 = 5;
    pub(super) const SCHEDULER: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
    pub(super) const STATISTICS: u16 = 10;
    pub(super) const ENGINE: u16 = 11;
    pub(super) const STATISTICS64: u16 = 12;
}

/// `IPVS_DEST_ATTR_*`.
mod destination {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const UPPER_THRESHOLD: u16 = 5;
    pub(super) const LOWER_THRESHOLD: u16 = 6;
    pub(super) const ACTIVE: u16 = 7;
    pub(super) const INACTIVE: u16 = 8;
    pub(super) const PERSISTENT: u16 = 9;
    pub(super) const STATISTICS: u16 = 10;
    pub(super) const FAMILY: u16 = 11;
    pub(super) const STATISTICS64: u16 = 12;
    pub(super) const TUNNEL_TYPE: u16 = 13;
    pub(super) const TUNNEL_PORT: u16 = 14;
    pub(super) const TUNNEL_FLAGS: u16 = 15;
}

/// `IPVS_STATS_ATTR_*`: 32 bits each but for the bytes, in `STATS64` 64 bits each.
mod statistics {
    pub(super) const CONNECTIONS: u16 = 1;
    pub(super) const IN_PACKETS: u16 = 2;
    pub(super) const OUT_PACKETS: u16 = 3;
    pub(super) const IN_BYTES: u16 = 4;
    pub(super) const OUT_BYTES: u16 = 5;
    pub(super) const CONNECTION_RATE: u16 = 6;
    pub(super) const IN_PACKET_RATE: u16 = 7;
    pub(super) const OUT_PACKET_RATE: u16 = 8;
    pub(super) const IN_BYTE_RATE: u16 = 9;
    pub(super) const OUT_BYTE_RATE: u16 = 10;
}

/// `IPVS_INFO_ATTR_*`.
mod info {
    pub(super) const VERSION: u16 = 1;
    pub(super) const CONNECTION_TABLE_SIZE: u16 = 2;
}
