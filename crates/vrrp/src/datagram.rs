//! An IP packet that carries an advert.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::checksum;
use crate::discard::Discard;
use crate::packet::PROTOCOL;

/// What was received, without its IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The sender.
    pub source: IpAddr,
    /// Where it was sent to.
    pub destination: IpAddr,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// The VRRP message, without padding of the link.
    pub payload: &'a [u8],
}

impl Datagram<'_> {
    /// Reads an IPv4 packet as a raw socket delivers it: the header included, of any length; what
    /// follows the total length is padding of the link and is cut off. The header's checksum is not
    /// verified: the kernel has done that.
    ///
    /// # Errors
    ///
    /// [`Discard::Truncated`] or [`Discard::IpHeader`].
    pub fn from_ipv4(bytes: &[u8]) -> Result<Datagram<'_>, Discard> {
        let Some(header) = bytes.first_chunk::<20>() else {
            return Err(Discard::Truncated {
                have: bytes.len(),
                wanted: 20,
            });
        };
        let [
            first,
            _,
            high,
            low,
            _,
            _,
            _,
            _,
            ttl,
            protocol,
            _,
            _,
            addresses @ ..,
        ] = header;
        let wrong = |field, heard, wanted| {
            Err(Discard::IpHeader {
                field,
                heard,
                wanted,
            })
        };
        let version = usize::from(first >> 4);
        if version != 4 {
            return wrong("version", version, 4);
        }
        let words = usize::from(first & 0x0f);
        if words < 5 {
            return wrong("header words", words, 5);
        }
        if *protocol != PROTOCOL {
            return wrong("protocol", usize::from(*protocol), usize::from(PROTOCOL));
        }
        let total = usize::from(u16::from_be_bytes([*high, *low]));
        if total < words * 4 {
            return wrong("total length", total, words * 4);
        }
        let Some(payload) = bytes.get(words * 4..total) else {
            return Err(Discard::Truncated {
                have: bytes.len(),
                wanted: total,
            });
        };
        let [a, b, c, d, destination @ ..] = *addresses;
        Ok(Datagram {
            source: Ipv4Addr::from([a, b, c, d]).into(),
            destination: Ipv4Addr::from(destination).into(),
            ttl: *ttl,
            payload,
        })
    }
}

/// A whole IPv4 packet around a VRRP message, for a socket with `IP_HDRINCL`: no options, TOS 0xc0
/// (network control), fragments allowed, protocol 112. `ttl` is 255 (RFC 5798 §5.1.1.3) but for peers
/// beyond a router.
///
/// `identification` should differ from one packet to the next and not be 0, which the kernel
/// replaces. No advert is longer than an IPv4 packet can be; a longer `payload` is cut.
#[must_use]
pub fn ipv4_packet(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ttl: u8,
    identification: u16,
    payload: &[u8],
) -> Vec<u8> {
    let total = u16::try_from(payload.len().saturating_add(20)).unwrap_or(u16::MAX);
    let header = |sum: u16| {
        let mut bytes = Vec::with_capacity(usize::from(total));
        bytes.extend([0x45, 0xc0]);
        bytes.extend(total.to_be_bytes());
        bytes.extend(identification.to_be_bytes());
        bytes.extend([0, 0, ttl, PROTOCOL]);
        bytes.extend(sum.to_be_bytes());
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes
    };
    let mut packet = header(checksum(&header(0), None));
    packet.extend(payload.iter().take(usize::from(total) - 20));
    packet
}

/// A whole IPv6 packet around a VRRP message, for a socket with `IPV6_HDRINCL`: traffic class 0xc0
/// (network control), no flow label, no extension headers, next header 112.
#[must_use]
pub fn ipv6_packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut packet = Vec::with_capacity(40 + payload.len());
    // Version 6, traffic class 0xc0, flow label 0 (RFC 8200 §3).
    packet.extend([0x6c, 0, 0, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([PROTOCOL, hop_limit]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload.iter().take(usize::from(length)));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

    #[test]
    fn a_packet_that_is_made_is_read_back() {
        let packet = ipv4_packet(SOURCE, GROUP, 255, 7, &[1, 2, 3]);
        let wanted = Datagram {
            source: SOURCE.into(),
            destination: GROUP.into(),
            ttl: 255,
            payload: &[1, 2, 3],
        };
        assert_eq!(Datagram::from_ipv4(&packet), Ok(wanted));
    }

    #[test]
    fn padding_after_the_total_length_is_cut_off() {
        let mut packet = ipv4_packet(SOURCE, GROUP, 255, 7, &[1, 2, 3]);
        packet.resize(46, 0xee);
        assert_eq!(Datagram::from_ipv4(&packet).unwrap().payload, [1, 2, 3]);
    }

    #[test]
    fn options_are_skipped() {
        let mut packet = changed(0, 0x46);
        packet.splice(20..20, [0x94, 4, 0, 0]);
        packet[3] += 4;
        assert_eq!(Datagram::from_ipv4(&packet).unwrap().payload, [1, 2, 3]);
    }

    #[test]
    fn every_truncation_is_truncated() {
        let packet = changed(0, 0x45);
        for length in 0..packet.len() {
            let wanted = if length < 20 { 20 } else { packet.len() };
            let discard = Discard::Truncated {
                have: length,
                wanted,
            };
            assert_eq!(Datagram::from_ipv4(&packet[..length]), Err(discard));
        }
    }

    #[test]
    fn another_version_is_no_ipv4_header() {
        check_header(&changed(0, 0x65), "version", 6, 4);
    }

    #[test]
    fn a_header_shorter_than_five_words_is_none() {
        check_header(&changed(0, 0x44), "header words", 4, 5);
    }

    #[test]
    fn a_total_length_inside_the_header_is_none() {
        check_header(&changed(3, 19), "total length", 19, 20);
    }

    #[test]
    fn another_protocol_is_not_ours() {
        check_header(&changed(9, 6), "protocol", 6, 112);
    }

    #[test]
    fn a_payload_longer_than_ipv4_allows_is_cut() {
        let packet = ipv4_packet(SOURCE, GROUP, 255, 7, &[0; 70_000]);
        assert_eq!(Datagram::from_ipv4(&packet).unwrap().payload.len(), 65_515);
    }

    fn changed(position: usize, value: u8) -> Vec<u8> {
        let mut packet = ipv4_packet(SOURCE, GROUP, 255, 7, &[1, 2, 3]);
        packet[position] = value;
        packet
    }

    fn check_header(packet: &[u8], field: &'static str, heard: usize, wanted: usize) {
        let discard = Discard::IpHeader {
            field,
            heard,
            wanted,
        };
        assert_eq!(Datagram::from_ipv4(packet), Err(discard));
    }
}
