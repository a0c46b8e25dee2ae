//! Unsolicited neighbour advertisements (RFC 4861 §7.2.6): the IPv6 counterpart of gratuitous ARP.

use std::net::Ipv6Addr;

use pnet_base::MacAddr;
use pnet_packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::{
    MutableNdpOptionPacket, MutableNeighborAdvertPacket, NdpOptionTypes, NeighborAdvertFlags,
};
use pnet_packet::icmpv6::{Icmpv6Code, Icmpv6Types};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::util::ipv6_checksum;

use crate::net::sys::Mac;

/// Where it goes: the Ethernet address of all nodes (RFC 2464 §7).
pub(super) const DESTINATION: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// `ff02::1`.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// It has not been forwarded (RFC 4861 §7.1.2).
const HOP_LIMIT: u8 = 255;
/// The option's length in units of eight bytes: type, length and an Ethernet address.
const OPTION_UNITS: u8 = 1;
const OPTION_BYTES: usize = 8;
/// The sixteen-bit word of an ICMPv6 message that is its checksum.
const CHECKSUM_WORD: usize = 1;

/// The frame: from the virtual address to all nodes, not solicited, overriding what they know, with
/// the Ethernet address as an option. `router`: whether this host forwards IPv6 there; a neighbour
/// that used it as a router would drop it from its routers without the flag (RFC 4861 §7.2.5).
pub(super) fn advertisement(mac: Mac, address: Ipv6Addr, router: bool) -> Vec<u8> {
    let message = message(mac, address, router);
    let mut header = vec![0; MutableIpv6Packet::minimum_packet_size()];
    if let Some(mut header) = MutableIpv6Packet::new(&mut header) {
        header.set_version(6);
        header.set_payload_length(u16::try_from(message.len()).unwrap_or(0));
        header.set_next_header(IpNextHeaderProtocols::Icmpv6);
        header.set_hop_limit(HOP_LIMIT);
        header.set_source(address);
        header.set_destination(ALL_NODES);
    }
    let mut frame = vec![0; MutableEthernetPacket::minimum_packet_size()];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(MacAddr::from(DESTINATION));
        ethernet.set_source(MacAddr::from(mac));
        ethernet.set_ethertype(EtherTypes::Ipv6);
    }
    frame.extend_from_slice(&header);
    frame.extend_from_slice(&message);
    frame
}

fn message(mac: Mac, address: Ipv6Addr, router: bool) -> Vec<u8> {
    let mut option = vec![0; OPTION_BYTES];
    if let Some(mut option) = MutableNdpOptionPacket::new(&mut option) {
        option.set_option_type(NdpOptionTypes::TargetLLAddr);
        option.set_length(OPTION_UNITS);
        option.set_data(&mac);
    }
    let mut message = vec![0; MutableNeighborAdvertPacket::minimum_packet_size()];
    if let Some(mut advertisement) = MutableNeighborAdvertPacket::new(&mut message) {
        let router = if router {
            NeighborAdvertFlags::Router
        } else {
            0
        };
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_icmpv6_code(Icmpv6Code(0));
        advertisement.set_flags(router | NeighborAdvertFlags::Override);
        advertisement.set_target_addr(address);
    }
    message.extend_from_slice(&option);
    let checksum = ipv6_checksum(
        &message,
        CHECKSUM_WORD,
        &[],
        &address,
        &ALL_NODES,
        IpNextHeaderProtocols::Icmpv6,
    );
    if let Some(mut advertisement) = MutableNeighborAdvertPacket::new(&mut message) {
        advertisement.set_checksum(checksum);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_overrides_what_all_nodes_know() {
        let frame = advertisement([2, 0, 0, 0, 0, 1], "2001:db8::5".parse().unwrap(), false);
        let expected: [u8; 86] = [
            0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
            0x60, 0, 0, 0, 0, 32, 58, 255, // IPv6: 32 bytes of ICMPv6, hop limit 255
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, // source
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // destination
            136, 0, 0, 0, 0x20, 0, 0, 0, // advertisement, checksum, O
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, // target
            2, 1, 2, 0, 0, 0, 0, 1, // target link-layer address
        ];
        assert_eq!(frame.len(), expected.len());
        let sum = [frame[56], frame[57]];
        assert_eq!(frame[..56], expected[..56]);
        assert_eq!(frame[58..], expected[58..]);
        assert_eq!(sum, checksum(&expected));
    }

    #[test]
    fn a_router_says_that_it_is_one() {
        let frame = advertisement([2, 0, 0, 0, 0, 1], "2001:db8::5".parse().unwrap(), true);
        assert_eq!(frame[58], 0xa0);
    }

    /// RFC 4443 §2.3, by hand: the sum over the pseudo-header and the message.
    fn checksum(frame: &[u8]) -> [u8; 2] {
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
        let words = pseudo.chunks(2).chain(frame[54..].chunks(2));
        let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(!sum & 0xffff).unwrap().to_be_bytes()
    }
}
