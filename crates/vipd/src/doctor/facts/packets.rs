//! The packets that are sent and understood: echoes, and adverts of whatever version.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pnet_packet::icmp::echo_request::MutableEchoRequestPacket;
use pnet_packet::icmp::{IcmpPacket, IcmpTypes};
use pnet_packet::icmpv6::echo_request::MutableEchoRequestPacket as MutableEchoRequestPacket6;
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Types};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::MutableIpv4Packet;
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::{icmp, icmpv6, ipv4};
use socket2::SockFilter;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const VRRP: u8 = 112;
const ECHO_REPLY: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;
const TTL: u8 = 64;
/// An ICMP echo without data.
const ECHO: usize = 8;
/// What vipd and keepalived put behind a signed advert.
const TRAILER: usize = 28;

/// Lets adverts and echo replies of both families pass and nothing else.
pub(super) const WANTED: [SockFilter; 16] = {
    // linux/bpf_common.h: load a byte, shift right, jump if equal, return.
    const LOAD: u16 = 0x30;
    const SHIFT: u16 = 0x74;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const fn is(value: u8, then: u8, otherwise: u8) -> SockFilter {
        SockFilter::new(IS, then, otherwise, value as u32)
    }
    const fn load(at: u32) -> SockFilter {
        SockFilter::new(LOAD, 0, 0, at)
    }
    [
        load(0),
        SockFilter::new(SHIFT, 0, 0, 4),
        is(4, 0, 5),
        load(9),
        is(VRRP, 9, 0),
        is(ICMP, 0, 9),
        load(20),
        is(ECHO_REPLY, 6, 7),
        is(6, 0, 6),
        load(6),
        is(VRRP, 3, 0),
        is(ICMPV6, 0, 3),
        load(40),
        is(ECHO_REPLY_V6, 0, 1),
        SockFilter::new(RETURN, 0, 0, u16::MAX as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
};

/// Something that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    Advert(Said),
    Reply {
        source: IpAddr,
        identifier: u16,
        sequence: u16,
    },
}

/// What an advert says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub source: IpAddr,
    pub version: u8,
    pub vrid: u8,
    pub priority: u8,
    pub interval: Duration,
    pub addresses: Vec<IpAddr>,
    /// The low 32 bits of the seconds since 1970 at which it was signed.
    pub signed_at: Option<u32>,
}

/// Understands a packet from its IP header on.
pub(super) fn understand(packet: &[u8]) -> Option<Packet> {
    let (protocol, source, payload) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?));
            let source: &[u8; 4] = packet.get(12..)?.first_chunk()?;
            let payload = packet.get(header..total)?;
            (
                *packet.get(9)?,
                IpAddr::V4(Ipv4Addr::from(*source)),
                payload,
            )
        }
        6 => {
            let length = usize::from(u16::from_be_bytes(*packet.get(4..)?.first_chunk()?));
            let source: &[u8; 16] = packet.get(8..)?.first_chunk()?;
            let payload = packet.get(40..)?.get(..length)?;
            (
                *packet.get(6)?,
                IpAddr::V6(Ipv6Addr::from(*source)),
                payload,
            )
        }
        _ => return None,
    };
    match protocol {
        VRRP => advert(source, payload).map(Packet::Advert),
        ICMP | ICMPV6 => {
            let [kind, 0, _, _, a, b, c, d] = *payload.first_chunk()? else {
                return None;
            };
            let reply = if protocol == ICMP {
                ECHO_REPLY
            } else {
                ECHO_REPLY_V6
            };
            (kind == reply).then(|| Packet::Reply {
                source,
                identifier: u16::from_be_bytes([a, b]),
                sequence: u16::from_be_bytes([c, d]),
            })
        }
        _ => None,
    }
}

fn advert(source: IpAddr, payload: &[u8]) -> Option<Said> {
    let ([kind, vrid, priority, count, high, low, _, _], rest) =
        payload.split_first_chunk::<8>()?;
    let (version, count) = (kind >> 4, usize::from(*count));
    if kind & 0xf != 1 {
        return None;
    }
    let interval = match version {
        2 => Duration::from_secs(u64::from(*low)),
        _ => Duration::from_millis(10 * u64::from(u16::from_be_bytes([*high & 0xf, *low]))),
    };
    let size = if source.is_ipv4() { 4 } else { 16 };
    let (listed, rest) = rest.split_at_checked(count * size)?;
    let address = |bytes: &[u8]| match source {
        IpAddr::V4(_) => bytes.first_chunk::<4>().map(|it| IpAddr::from(*it)),
        IpAddr::V6(_) => bytes.first_chunk::<16>().map(|it| IpAddr::from(*it)),
    };
    // Version 2 over IPv4 ends with eight bytes of a password.
    let rest = if version == 2 { rest.get(8..)? } else { rest };
    let signed_at = (rest.len() == TRAILER && rest.first() == Some(&1)).then(|| {
        rest.get(4..)?
            .first_chunk()
            .map(|it| u32::from_be_bytes(*it))
    });
    Some(Said {
        source,
        version,
        vrid: *vrid,
        priority: *priority,
        interval,
        addresses: listed.chunks(size).filter_map(address).collect(),
        signed_at: signed_at.flatten(),
    })
}

/// An ICMP echo, with its IP header where it is not left to the kernel.
pub(super) fn echo(source: IpAddr, target: IpAddr, identifier: u16, sequence: u16) -> Vec<u8> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let message = echo_message(identifier, sequence);
            let mut packet = vec![0; MutableIpv4Packet::minimum_packet_size()];
            let length = packet.len() + message.len();
            if let Some(mut header) = MutableIpv4Packet::new(&mut packet) {
                header.set_version(4);
                header.set_header_length(5);
                header.set_total_length(u16::try_from(length).unwrap_or(0));
                header.set_ttl(TTL);
                header.set_next_level_protocol(IpNextHeaderProtocols::Icmp);
                header.set_source(source);
                header.set_destination(target);
                header.set_checksum(ipv4::checksum(&header.to_immutable()));
            }
            packet.extend(message);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let mut message = vec![0; ECHO];
            if let Some(mut echo) = MutableEchoRequestPacket6::new(&mut message) {
                echo.set_icmpv6_type(Icmpv6Types::EchoRequest);
                echo.set_identifier(identifier);
                echo.set_sequence_number(sequence);
            }
            let sum = Icmpv6Packet::new(&message).map(|it| icmpv6::checksum(&it, &source, &target));
            if let Some(mut echo) = MutableEchoRequestPacket6::new(&mut message) {
                echo.set_checksum(sum.unwrap_or(0));
            }
            let mut packet = vec![0; MutableIpv6Packet::minimum_packet_size()];
            if let Some(mut header) = MutableIpv6Packet::new(&mut packet) {
                header.set_version(6);
                header.set_payload_length(u16::try_from(message.len()).unwrap_or(0));
                header.set_next_header(IpNextHeaderProtocols::Icmpv6);
                header.set_hop_limit(TTL);
                header.set_source(source);
                header.set_destination(target);
            }
            packet.extend(message);
            packet
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

/// An ICMP echo for IPv4 without an IP header.
pub(super) fn echo_message(identifier: u16, sequence: u16) -> Vec<u8> {
    let mut message = vec![0; ECHO];
    if let Some(mut echo) = MutableEchoRequestPacket::new(&mut message) {
        echo.set_icmp_type(IcmpTypes::EchoRequest);
        echo.set_identifier(identifier);
        echo.set_sequence_number(sequence);
    }
    let sum = IcmpPacket::new(&message).map(|it| icmp::checksum(&it));
    if let Some(mut echo) = MutableEchoRequestPacket::new(&mut message) {
        echo.set_checksum(sum.unwrap_or(0));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_becomes_a_reply_that_is_understood() {
        let (here, there) = ("10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap());
        let mut packet = echo(there, here, 7, 3);
        assert_eq!(understand(&packet), None, "a request is no reply");
        packet[20] = ECHO_REPLY;
        let reply = Packet::Reply {
            source: there,
            identifier: 7,
            sequence: 3,
        };
        assert_eq!(understand(&packet), Some(reply));
        let (here, there) = ("fd00::1".parse().unwrap(), "fd00::9".parse().unwrap());
        let mut packet = echo(there, here, 7, 3);
        packet[40] = ECHO_REPLY_V6;
        assert!(
            matches!(understand(&packet), Some(Packet::Reply { source, .. }) if source == there)
        );
    }

    #[test]
    fn adverts_of_both_versions_are_understood() {
        let header = |length: u8| {
            let mut header = vec![0x45, 0xc0, 0, 20 + length, 0, 0, 0, 0, 255, 112, 0, 0];
            header.extend([10, 0, 0, 1, 224, 0, 0, 18]);
            header
        };
        let mut second = header(20);
        second.extend([0x21, 51, 100, 1, 0, 3, 0, 0, 10, 0, 0, 10]);
        second.extend([0; 8]);
        let Some(Packet::Advert(said)) = understand(&second) else {
            panic!("not understood");
        };
        assert_eq!((said.version, said.vrid, said.priority), (2, 51, 100));
        assert_eq!(said.interval, Duration::from_secs(3));
        assert_eq!(said.addresses, ["10.0.0.10".parse::<IpAddr>().unwrap()]);
        let mut third = header(12);
        third.extend([0x31, 51, 100, 1, 0, 10, 0, 0, 10, 0, 0, 10]);
        let Some(Packet::Advert(said)) = understand(&third) else {
            panic!("not understood");
        };
        assert_eq!(
            (said.version, said.interval),
            (3, Duration::from_millis(100))
        );
        for length in 0..third.len() {
            assert_eq!(understand(&third[..length]), None, "{length} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_packet_panics(packet in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
            let _ = understand(&packet);
        }
    }
}
