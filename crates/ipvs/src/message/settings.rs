//! What is not of one service: timeouts, sync daemons, and counters set to zero.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use neli::consts::nl::NlmF;

use super::attributes::{Attributes, array, text};
use super::reply::DecodeError;
use super::writer::Writer;
use super::{EncodeError, attribute, command, request, service_key};
use crate::daemon::{Daemon, DaemonRole};
use crate::table::ServiceKey;
use crate::timeouts::Timeouts;

/// Asks for the daemons that run.
///
/// # Errors
///
/// None in practice.
pub fn get_daemons(family: u16, sequence: u32) -> Result<Vec<u8>, EncodeError> {
    request(family, NlmF::DUMP, sequence, command::GET_DAEMON, |_| {})
}

/// Asks for a daemon to be started.
///
/// # Errors
///
/// No interface can have such a name.
pub fn start_daemon(family: u16, sequence: u32, daemon: &Daemon) -> Result<Vec<u8>, EncodeError> {
    let Daemon {
        role,
        interface,
        id,
        max_length,
        group,
        port,
        ttl,
    } = daemon;
    if !(1..=INTERFACE_LENGTH).contains(&interface.len()) || interface.contains('\0') {
        return Err(EncodeError::Interface(interface.clone()));
    }
    daemon_request(family, sequence, command::NEW_DAEMON, |nest| {
        nest.put_u32(STATE, number(*role));
        nest.put_text(INTERFACE, interface);
        nest.put_u32(ID, u32::from(*id));
        if *max_length != 0 {
            nest.put_u16(MAX_LENGTH, *max_length);
        }
        if *port != 0 {
            nest.put_u16(PORT, *port);
        }
        if *ttl != 0 {
            nest.put_u8(TTL, *ttl);
        }
        match group {
            None => {}
            Some(IpAddr::V4(group)) => nest.put(GROUP, &group.octets()),
            Some(IpAddr::V6(group)) => nest.put(GROUP6, &group.octets()),
        }
    })
}

/// Asks for the daemon of that role to be stopped.
///
/// # Errors
///
/// None in practice.
pub fn stop_daemon(family: u16, sequence: u32, role: DaemonRole) -> Result<Vec<u8>, EncodeError> {
    daemon_request(family, sequence, command::DEL_DAEMON, |nest| {
        nest.put_u32(STATE, number(role));
    })
}

/// Asks for the timeouts.
///
/// # Errors
///
/// None in practice.
pub fn get_timeouts(family: u16, sequence: u32) -> Result<Vec<u8>, EncodeError> {
    request(family, NlmF::ACK, sequence, command::GET_CONFIG, |_| {})
}

/// Asks for other timeouts. What is zero is kept.
///
/// # Errors
///
/// None in practice.
pub fn set_timeouts(
    family: u16,
    sequence: u32,
    timeouts: &Timeouts,
) -> Result<Vec<u8>, EncodeError> {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    request(
        family,
        NlmF::ACK,
        sequence,
        command::SET_CONFIG,
        |message| {
            for (kind, timeout) in [
                (attribute::TIMEOUT_TCP, tcp),
                (attribute::TIMEOUT_TCP_FIN, tcp_fin),
                (attribute::TIMEOUT_UDP, udp),
            ] {
                let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
                message.put_u32(kind, seconds);
            }
        },
    )
}

/// Asks for the counters of a service, or of all, to begin at zero.
///
/// # Errors
///
/// None in practice.
pub fn zero(
    family: u16,
    sequence: u32,
    service: Option<&ServiceKey>,
) -> Result<Vec<u8>, EncodeError> {
    request(family, NlmF::ACK, sequence, command::ZERO, |message| {
        if let Some(key) = service {
            message.nest(attribute::SERVICE, |nest| service_key(nest, key));
        }
    })
}

/// A daemon, from a dump.
///
/// # Errors
///
/// Something is missing, or has a value that is not known.
pub fn daemon_from(message: &[u8]) -> Result<Daemon, DecodeError> {
    let message = Attributes::of_message(message)?;
    let daemon = Attributes::of(message.bytes(attribute::DAEMON, "the sync daemon")?)?;
    let role = match daemon.u32(STATE, "a sync daemon's role")? {
        1 => DaemonRole::Master,
        2 => DaemonRole::Backup,
        value => {
            return Err(DecodeError::Unknown {
                what: "role of a sync daemon",
                value,
            });
        }
    };
    let id = daemon.u32(ID, "a sync daemon's id")?;
    // Kernels before 4.3 have none of the following.
    let u16 = |kind, what| match daemon.get(kind) {
        Some(bytes) => Ok(u16::from_ne_bytes(array(bytes, what)?)),
        None => Ok(0),
    };
    let group = match (daemon.get(GROUP), daemon.get(GROUP6)) {
        (Some(group), _) => {
            let group: [u8; 4] = array(group, "a sync daemon's group")?;
            Some(Ipv4Addr::from(group).into())
        }
        (None, Some(group)) => {
            let group: [u8; 16] = array(group, "a sync daemon's group")?;
            Some(Ipv6Addr::from(group).into())
        }
        (None, None) => None,
    };
    let [ttl] = match daemon.get(TTL) {
        Some(bytes) => array(bytes, "a sync daemon's TTL")?,
        None => [0],
    };
    Ok(Daemon {
        role,
        interface: text(daemon.bytes(INTERFACE, "a sync daemon's interface")?),
        id: u8::try_from(id).map_err(|_| DecodeError::Unknown {
            what: "id of a sync daemon",
            value: id,
        })?,
        max_length: u16(MAX_LENGTH, "a sync daemon's longest message")?,
        group,
        port: u16(PORT, "a sync daemon's port")?,
        ttl,
    })
}

/// The timeouts.
///
/// # Errors
///
/// One is missing.
pub fn timeouts_from(message: &[u8]) -> Result<Timeouts, DecodeError> {
    let message = Attributes::of_message(message)?;
    let timeout = |kind, what| {
        let seconds = message.u32(kind, what)?;
        Ok(Duration::from_secs(seconds.into()))
    };
    Ok(Timeouts {
        tcp: timeout(attribute::TIMEOUT_TCP, "the timeout of TCP")?,
        tcp_fin: timeout(attribute::TIMEOUT_TCP_FIN, "the timeout of TCP after FIN")?,
        udp: timeout(attribute::TIMEOUT_UDP, "the timeout of UDP")?,
    })
}

fn daemon_request(
    family: u16,
    sequence: u32,
    command: u8,
    fill: impl FnOnce(&mut Writer<'_>),
) -> Result<Vec<u8>, EncodeError> {
    request(family, NlmF::ACK, sequence, command, |message| {
        message.nest(attribute::DAEMON, fill);
    })
}

fn number(role: DaemonRole) -> u32 {
    match role {
        DaemonRole::Master => 1,
        DaemonRole::Backup => 2,
    }
}

// `IPVS_DAEMON_ATTR_*` of linux/ip_vs.h.
const STATE: u16 = 1;
const INTERFACE: u16 = 2;
const ID: u16 = 3;
const MAX_LENGTH: u16 = 4;
const GROUP: u16 = 5;
const GROUP6: u16 = 6;
const PORT: u16 = 7;
const TTL: u16 = 8;

/// `IFNAMSIZ` (and `IP_VS_IFNAME_MAXLEN`), less the NUL.
const INTERFACE_LENGTH: usize = 15;
