//! Neighbour solicitations and advertisements (RFC 4861), from the IPv6 header on.

use std::net::Ipv6Addr;

use pnet_packet::icmpv6::ndp::MutableNeighborSolicitPacket;
use pnet_packet::icmpv6::{Icmpv6Code, Icmpv6Types};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::util::ipv6_checksum;
use socket2::SockFilter;

use super::Heard;
use crate::net::sys::Mac;

/// What a neighbour's message must have: it was not forwarded (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
/// The option with the Ethernet address that the advertised address is at.
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// The sixteen-bit word of an ICMPv6 message that is its checksum.
const CHECKSUM_WORD: usize = 1;
/// No word is left out of the sum.
const EVERY_WORD: usize = usize::MAX;

/// Lets ICMPv6 neighbour advertisements pass and nothing else: a director carries gigabits of IPv6.
pub(crate) const ADVERTISEMENTS_ONLY: [SockFilter; 6] = {
    // linux/bpf_common.h: BPF_LD|BPF_B|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const NEXT_HEADER: u32 = 6;
    const TYPE: u32 = 40;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, NEXT_HEADER),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, ICMPV6 as u32),
        SockFilter::new(LOAD_BYTE, 0, 0, TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, ADVERTISEMENT as u32),
        SockFilter::new(RETURN, 0, 0, u16::MAX as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
};

/// The group that whoever has the address listens to (RFC 4291 §2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The question who has the address, from nobody (RFC 4862 §5.4.2): no source, so no option with a
/// link-layer address either. The answer goes to all nodes.
pub(crate) fn probe(address: Ipv6Addr) -> Vec<u8> {
    let destination = solicited_node(address);
    let mut message = vec![0; MutableNeighborSolicitPacket::minimum_packet_size()];
    if let Some(mut solicitation) = MutableNeighborSolicitPacket::new(&mut message) {
        solicitation.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        solicitation.set_icmpv6_code(Icmpv6Code(0));
        solicitation.set_target_addr(address);
    }
    let checksum = sum(&message, CHECKSUM_WORD, Ipv6Addr::UNSPECIFIED, destination);
    if let Some(mut solicitation) = MutableNeighborSolicitPacket::new(&mut message) {
        solicitation.set_checksum(checksum);
    }
    let mut packet = vec![0; MutableIpv6Packet::minimum_packet_size()];
    if let Some(mut header) = MutableIpv6Packet::new(&mut packet) {
        header.set_version(6);
        header.set_payload_length(u16::try_from(message.len()).unwrap_or(0));
        header.set_next_header(IpNextHeaderProtocols::Icmpv6);
        header.set_hop_limit(HOP_LIMIT);
        header.set_source(Ipv6Addr::UNSPECIFIED);
        header.set_destination(destination);
    }
    packet.extend_from_slice(&message);
    packet
}

/// Whose address the sender says is where, if the advertisement is valid (RFC 4861 §7.1.2). The
/// Ethernet source counts where the advertisement names no address.
pub(crate) fn heard(packet: &[u8], ethernet_source: Option<Mac>) -> Option<Heard> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    let [version, _, _, _, length @ .., ICMPV6, HOP_LIMIT] = *head else {
        return None;
    };
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    // Bytes after the payload are Ethernet's padding.
    let message = rest.get(..usize::from(u16::from_be_bytes(length)))?;
    let ([ADVERTISEMENT, 0, ..], rest) = message.split_first_chunk::<8>()? else {
        return None;
    };
    let (target, options) = rest.split_first_chunk::<16>()?;
    let (source, destination) = (Ipv6Addr::from(*source), Ipv6Addr::from(*destination));
    if version >> 4 != 6 || sum(message, EVERY_WORD, source, destination) != 0 {
        return None;
    }
    Some(Heard {
        address: Ipv6Addr::from(*target).into(),
        mac: target_mac(options)?.or(ethernet_source)?,
        answer: true,
    })
}

/// The Ethernet address among the options; `None` if they are not well formed.
fn target_mac(mut options: &[u8]) -> Option<Option<Mac>> {
    let mut mac = None;
    while !options.is_empty() {
        let [kind, units, ..] = *options else {
            return None;
        };
        // RFC 4861 §4.6: an option of length zero makes the packet invalid.
        let length = usize::from(units).checked_mul(8).filter(|n| *n > 0)?;
        let (option, rest) = options.split_at_checked(length)?;
        if let (TARGET_LINK_LAYER_ADDRESS, [_, 1, address @ ..]) = (kind, option) {
            mac = mac.or_else(|| Mac::try_from(address).ok());
        }
        options = rest;
    }
    Some(mac)
}

fn sum(message: &[u8], skipped: usize, source: Ipv6Addr, destination: Ipv6Addr) -> u16 {
    let protocol = IpNextHeaderProtocols::Icmpv6;
    ipv6_checksum(message, skipped, &[], &source, &destination, protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: Mac = [2, 0, 0, 0, 0, 9];
    const FRAME_SOURCE: Mac = [2, 0, 0, 0, 0, 7];
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);

    #[test]
    fn a_probe_is_a_solicitation_from_no_address_to_the_solicited_node_group() {
        let expected: [u8; 64] = [
            0x60, 0, 0, 0, 0, 24, 58, 255, // IPv6: 24 bytes of ICMPv6, hop limit
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // source ::
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34,
            0x56, // ff02::1:ff12:3456
            135, 0, 0xe4, 0x1e, 0, 0, 0, 0, // neighbour solicitation, checksum
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, // target
        ];
        assert_eq!(probe(VIP), expected);
    }

    #[test]
    fn an_advertisement_names_the_address_and_where_it_is() {
        let packet = advertisement(&[2, 1, 2, 0, 0, 0, 0, 9]);
        let expected = |mac| {
            Some(Heard {
                address: VIP.into(),
                mac,
                answer: true,
            })
        };
        assert_eq!(heard(&packet, Some(FRAME_SOURCE)), expected(HOLDER));
        assert_eq!(heard(&packet, None), expected(HOLDER));
        let padded = [packet, vec![0xa5; 6]].concat();
        assert_eq!(heard(&padded, None), expected(HOLDER));
        let other_options = advertisement(&[14, 1, 1, 2, 3, 4, 5, 6, 2, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(heard(&other_options, None), expected(HOLDER));
    }

    #[test]
    fn without_the_option_the_frames_source_counts() {
        let packet = advertisement(&[]);
        let said = heard(&packet, Some(FRAME_SOURCE)).unwrap();
        assert_eq!(said.mac, FRAME_SOURCE);
        assert_eq!(heard(&packet, None), None);
    }

    #[test]
    fn malformed_options_invalidate_the_advertisement() {
        for options in [
            [2, 0, 2, 0, 0, 0, 0, 9].as_slice(),
            &[2, 2, 2, 0, 0, 0, 0, 9],
            &[2, 255, 2, 0, 0, 0, 0, 9],
            &[2],
        ] {
            let packet = advertisement(options);
            assert_eq!(heard(&packet, Some(FRAME_SOURCE)), None, "{options:?}");
        }
    }

    #[test]
    fn what_rfc_4861_calls_invalid_says_nothing() {
        let good = advertisement(&[2, 1, 2, 0, 0, 0, 0, 9]);
        // Version, payload length, next header, hop limit, type, code, checksum, target.
        for position in [0, 5, 6, 7, 40, 41, 42, 63] {
            let mut packet = good.clone();
            packet[position] ^= 0x10;
            assert_eq!(heard(&packet, Some(FRAME_SOURCE)), None, "byte {position}");
        }
    }

    #[test]
    fn a_truncated_advertisement_says_nothing() {
        let packet = advertisement(&[2, 1, 2, 0, 0, 0, 0, 9]);
        for length in 0..packet.len() {
            let said = heard(&packet[..length], Some(FRAME_SOURCE));
            assert_eq!(said, None, "{length} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn mutated_advertisements_never_panic(
            options in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
            position in 0..64_usize,
            value: u8,
            cut in 0..128_usize,
        ) {
            let packet = advertisement(&options);
            // With a right checksum, the options are what decides.
            let said = heard(&packet, Some(FRAME_SOURCE));
            proptest::prop_assert_eq!(said.is_some(), target_mac(&options).is_some());
            let mut packet = packet;
            packet[position] = value;
            packet.truncate(cut);
            let said = heard(&packet, Some(FRAME_SOURCE));
            proptest::prop_assert!(said.is_none() || cut >= 64);
        }
    }

    /// From fe80::1 to all nodes, with its checksum.
    fn advertisement(options: &[u8]) -> Vec<u8> {
        let source = "fe80::1".parse().unwrap();
        let destination = "ff02::1".parse().unwrap();
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
        message.extend(VIP.octets());
        message.extend(options);
        let checksum = sum(&message, CHECKSUM_WORD, source, destination);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        packet.extend([ICMPV6, HOP_LIMIT]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(message);
        packet
    }
}
