//! Generic netlink messages of the IPVS family: requests as bytes, answers as values.
//!
//! Nothing here does I/O. A request is complete with its netlink header; several may be sent as one
//! datagram, one after the other. Answers are taken apart by [`replies`] and the `*_from` functions;
//! attributes that this crate does not know are skipped, so a newer kernel does no harm.

mod reply;

use std::io::Cursor;
use std::net::IpAddr;
use std::net::SocketAddr;

use neli::consts::genl::{Cmd, CtrlAttr, CtrlCmd, NlAttrType};
use neli::consts::nl::{GenlId, NlmF};
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, Nlattr, NlattrBuilder};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::types::{Buffer, GenlBuffer};
use neli::{Size, ToBytes, neli_enum};
use thiserror::Error;

pub use reply::{
    Body, DecodeError, Info, Reply, destination_from, family_from, info_from, replies, service_from,
};

use crate::diff::Change;
use crate::table::{
    Destination, DestinationKey, Family, Forwarding, Protocol, SchedulerName, Service, ServiceKey,
    Tunnel, TunnelChecksum,
};

/// Why a change has no form as a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A scheduler or persistence engine of which there can be no kernel module.
    #[error("`{0}` cannot be a name in the kernel: 1 to 15 bytes, none of them NUL")]
    Name(String),
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
    let name = attribute(CtrlAttr::FamilyName, FAMILY_NAME)?;
    let controller = u16::from(GenlId::Ctrl);
    message(
        controller,
        sequence,
        NlmF::ACK,
        CtrlCmd::Getfamily,
        vec![name],
    )
}

/// Asks the family `family` for its version and the size of the connection table.
///
/// # Errors
///
/// None in practice.
pub fn get_info(family: u16, sequence: u32) -> Result<Vec<u8>, EncodeError> {
    message::<_, Attribute>(family, sequence, NlmF::ACK, Command::GetInfo, vec![])
}

/// Asks for all services.
///
/// # Errors
///
/// None in practice.
pub fn get_services(family: u16, sequence: u32) -> Result<Vec<u8>, EncodeError> {
    message::<_, Attribute>(family, sequence, NlmF::DUMP, Command::GetService, vec![])
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
    let service = nested(Attribute::Service, &service_key(service)?)?;
    message(
        family,
        sequence,
        NlmF::DUMP,
        Command::GetDestination,
        vec![service],
    )
}

/// Asks for a change. Without `acknowledge` the kernel answers only if it refuses.
///
/// # Errors
///
/// The scheduler or the persistence engine has an impossible name.
pub fn change(
    family: u16,
    sequence: u32,
    acknowledge: bool,
    change: &Change,
) -> Result<Vec<u8>, EncodeError> {
    let flags = if acknowledge {
        NlmF::ACK
    } else {
        NlmF::empty()
    };
    let (command, key, settings, destination) = match change {
        Change::AddService(key, service) => (
            Command::NewService,
            key,
            service_settings(key.family(), service)?,
            None,
        ),
        Change::SetService(key, service) => (
            Command::SetService,
            key,
            service_settings(key.family(), service)?,
            None,
        ),
        Change::RemoveService(key) => (Command::DelService, key, vec![], None),
        Change::AddDestination(key, server, destination) => (
            Command::NewDestination,
            key,
            vec![],
            Some((server, Some(destination))),
        ),
        Change::SetDestination(key, server, destination) => (
            Command::SetDestination,
            key,
            vec![],
            Some((server, Some(destination))),
        ),
        Change::RemoveDestination(key, server) => {
            (Command::DelDestination, key, vec![], Some((server, None)))
        }
    };
    let mut service = service_key(key)?;
    service.extend(settings);
    let mut attributes = vec![nested(Attribute::Service, &service)?];
    if let Some((server, settings)) = destination {
        let destination = destination_attributes(server, settings)?;
        attributes.push(nested(Attribute::Destination, &destination)?);
    }
    message(family, sequence, flags, command, attributes)
}

fn service_key(key: &ServiceKey) -> Result<Vec<Nlattr<ServiceAttribute, Buffer>>, EncodeError> {
    let family = attribute(ServiceAttribute::Family, family_number(key.family()))?;
    match key {
        ServiceKey::Address { protocol, address } => Ok(vec![
            family,
            attribute(ServiceAttribute::Protocol, protocol_number(*protocol))?,
            attribute(ServiceAttribute::Address, address_bytes(address))?,
            attribute(ServiceAttribute::Port, address.port().to_be())?,
        ]),
        ServiceKey::FirewallMark { mark, .. } => {
            Ok(vec![family, attribute(ServiceAttribute::Mark, *mark)?])
        }
    }
}

fn service_settings(
    family: Family,
    service: &Service,
) -> Result<Vec<Nlattr<ServiceAttribute, Buffer>>, EncodeError> {
    let flags = [
        (service.persistence.is_some(), FLAG_PERSISTENT),
        (service.flags.one_packet, FLAG_ONE_PACKET),
        (service.flags.sched1, FLAG_SCHED1),
        (service.flags.sched2, FLAG_SCHED2),
        (service.flags.sched3, FLAG_SCHED3),
    ];
    let flags: u32 = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| flag)
        .sum();
    // The kernel keeps what is outside the mask: with all of it, no flag survives unwanted.
    let [a, b, c, d] = flags.to_ne_bytes();
    let flags_and_mask = [a, b, c, d, 0xff, 0xff, 0xff, 0xff];
    let persistence = service.persistence.as_ref();
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
    let scheduler = match &service.scheduler {
        SchedulerName::Known(scheduler) => scheduler.name(),
        SchedulerName::Other(name) => checked_name(name)?,
    };
    let mut attributes = vec![attribute(ServiceAttribute::Scheduler, scheduler)?];
    if let Some(engine) = persistence.and_then(|p| p.engine.as_deref()) {
        attributes.push(attribute(ServiceAttribute::Engine, checked_name(engine)?)?);
    }
    attributes.push(attribute(ServiceAttribute::Flags, flags_and_mask)?);
    let timeout = u32::try_from(timeout).unwrap_or(u32::MAX);
    attributes.push(attribute(ServiceAttribute::Timeout, timeout)?);
    attributes.push(attribute(ServiceAttribute::Netmask, netmask)?);
    Ok(attributes)
}

fn destination_attributes(
    DestinationKey(address): &DestinationKey,
    settings: Option<&Destination>,
) -> Result<Vec<Nlattr<DestinationAttribute, Buffer>>, EncodeError> {
    let mut attributes = vec![
        attribute(
            DestinationAttribute::Family,
            family_number(Family::of(address.ip())),
        )?,
        attribute(DestinationAttribute::Address, address_bytes(address))?,
        attribute(DestinationAttribute::Port, address.port().to_be())?,
    ];
    let Some(settings) = settings else {
        return Ok(attributes);
    };
    let method = match settings.forwarding {
        Forwarding::Nat => METHOD_NAT,
        Forwarding::LocalNode => METHOD_LOCAL_NODE,
        Forwarding::Tunnel(_) => METHOD_TUNNEL,
        Forwarding::DirectRouting => METHOD_DIRECT_ROUTING,
        Forwarding::Bypass => METHOD_BYPASS,
    };
    attributes.push(attribute(DestinationAttribute::Method, method)?);
    attributes.push(attribute(DestinationAttribute::Weight, settings.weight)?);
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
    attributes.push(attribute(DestinationAttribute::TunnelType, tunnel)?);
    attributes.push(attribute(DestinationAttribute::TunnelPort, port.to_be())?);
    attributes.push(attribute(DestinationAttribute::TunnelFlags, checksum)?);
    let Destination {
        upper_threshold,
        lower_threshold,
        ..
    } = settings;
    attributes.push(attribute(
        DestinationAttribute::UpperThreshold,
        *upper_threshold,
    )?);
    attributes.push(attribute(
        DestinationAttribute::LowerThreshold,
        *lower_threshold,
    )?);
    Ok(attributes)
}

fn checked_name(name: &str) -> Result<&str, EncodeError> {
    if (1..=NAME_LENGTH).contains(&name.len()) && !name.contains('\0') {
        Ok(name)
    } else {
        Err(EncodeError::Name(name.to_owned()))
    }
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

fn attribute<T: NlAttrType, P: Size + ToBytes>(
    kind: T,
    payload: P,
) -> Result<Nlattr<T, Buffer>, EncodeError> {
    let kind = AttrTypeBuilder::default()
        .nla_type(kind)
        .build()
        .map_err(unbuildable)?;
    let attribute = NlattrBuilder::default().nla_type(kind).nla_payload(payload);
    attribute.build().map_err(unbuildable)
}

fn nested<T: NlAttrType, N: NlAttrType>(
    kind: T,
    attributes: &[Nlattr<N, Buffer>],
) -> Result<Nlattr<T, Buffer>, EncodeError> {
    let empty = attribute(kind, Buffer::new())?;
    attributes
        .iter()
        .try_fold(empty, |nest, inner| nest.nest(inner))
        .map_err(unbuildable)
}

fn message<C: Cmd, T: NlAttrType>(
    family: u16,
    sequence: u32,
    flags: NlmF,
    command: C,
    attributes: Vec<Nlattr<T, Buffer>>,
) -> Result<Vec<u8>, EncodeError> {
    let attributes: GenlBuffer<T, Buffer> = attributes.into_iter().collect();
    let payload = GenlmsghdrBuilder::default()
        .cmd(command)
        .version(VERSION)
        .attrs(attributes)
        .build()
        .map_err(unbuildable)?;
    let message: Nlmsghdr<u16, Genlmsghdr<C, T>> = NlmsghdrBuilder::default()
        .nl_type(family)
        .nl_flags(NlmF::REQUEST | flags)
        .nl_seq(sequence)
        .nl_payload(NlPayload::Payload(payload))
        .build()
        .map_err(unbuildable)?;
    let mut bytes = Cursor::new(Vec::new());
    message.to_bytes(&mut bytes).map_err(unbuildable)?;
    Ok(bytes.into_inner())
}

fn unbuildable(error: impl std::fmt::Display) -> EncodeError {
    EncodeError::Build(error.to_string())
}

// The numbers and names below are those of linux/ip_vs.h.

const FAMILY_NAME: &str = "IPVS";
const VERSION: u8 = 1;
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
#[neli_enum(serialized_type = "u8")]
pub(crate) enum Command {
    NewService = 1,
    SetService = 2,
    DelService = 3,
    GetService = 4,
    NewDestination = 5,
    SetDestination = 6,
    DelDestination = 7,
    GetDestination = 8,
    GetInfo = 15,
}

/// `IPVS_CMD_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum Attribute {
    Service = 1,
    Destination = 2,
}

/// `IPVS_SVC_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum ServiceAttribute {
    Family = 1,
    Protocol = 2,
    Address = 3,
    Port = 4,
    Mark = 5,
    Scheduler = 6,
    Flags = 7,
    Timeout = 8,
    Netmask = 9,
    Statistics = 10,
    Engine = 11,
    Statistics64 = 12,
}

/// `IPVS_DEST_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum DestinationAttribute {
    Address = 1,
    Port = 2,
    Method = 3,
    Weight = 4,
    UpperThreshold = 5,
    LowerThreshold = 6,
    Active = 7,
    Inactive = 8,
    Persistent = 9,
    Statistics = 10,
    Family = 11,
    Statistics64 = 12,
    TunnelType = 13,
    TunnelPort = 14,
    TunnelFlags = 15,
}

/// `IPVS_STATS_ATTR_*`: 32 bits each but for the bytes, in `STATS64` 64 bits each.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum StatisticsAttribute {
    Connections = 1,
    InPackets = 2,
    OutPackets = 3,
    InBytes = 4,
    OutBytes = 5,
}

/// `IPVS_INFO_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum InfoAttribute {
    Version = 1,
    ConnectionTableSize = 2,
}

impl Cmd for Command {}
impl NlAttrType for Attribute {}
impl NlAttrType for ServiceAttribute {}
impl NlAttrType for DestinationAttribute {}
impl NlAttrType for StatisticsAttribute {}
impl NlAttrType for InfoAttribute {}
