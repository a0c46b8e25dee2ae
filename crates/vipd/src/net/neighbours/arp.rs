//! ARP for Ethernet and IPv4 (RFC 826), without the Ethernet header.

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet_packet::ethernet::EtherTypes;

use super::Heard;
use crate::net::sys::Mac;

/// `ares_op$REPLY`.
const REPLY: u16 = 2;

/// The question who has the address, from nobody (RFC 5227 §2.1.1).
pub(crate) fn probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; MutableArpPacket::minimum_packet_size()];
    if let Some(mut arp) = MutableArpPacket::new(&mut packet) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(MacAddr::from(mac));
        arp.set_sender_proto_addr(Ipv4Addr::UNSPECIFIED);
        arp.set_target_hw_addr(MacAddr::zero());
        arp.set_target_proto_addr(address);
    }
    packet
}

/// Whose address the sender says is where. Bytes after the packet are Ethernet's padding.
pub(crate) fn heard(packet: &[u8]) -> Option<Heard> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    // Ethernet, IPv4, addresses of 6 and 4 bytes.
    let [0, 1, 8, 0, 6, 4, operation @ ..] = *head else {
        return None;
    };
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let (address, rest) = rest.split_first_chunk::<4>()?;
    let _target: &[u8; 10] = rest.first_chunk()?;
    Some(Heard {
        address: Ipv4Addr::from(*address).into(),
        mac: *mac,
        answer: u16::from_be_bytes(operation) == REPLY,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const HOLDER: Mac = [2, 0, 0, 0, 0, 9];
    /// 10.0.0.5 is at `HOLDER`, told to `MAC`.
    const ANSWER: [u8; 28] = [
        0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9, 10, 0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0,
    ];

    #[test]
    fn a_probe_is_a_request_from_no_address() {
        let expected: [u8; 28] = [
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            2, 0, 0, 0, 0, 1, 0, 0, 0, 0, // sender
            0, 0, 0, 0, 0, 0, 10, 0, 0, 5, // target
        ];
        assert_eq!(probe(MAC, Ipv4Addr::new(10, 0, 0, 5)), expected);
    }

    #[test]
    fn a_reply_is_an_answer_and_a_gratuitous_request_is_not() {
        let mut packet = ANSWER.to_vec();
        let expected = |answer| {
            Some(Heard {
                address: [10, 0, 0, 5].into(),
                mac: HOLDER,
                answer,
            })
        };
        assert_eq!(heard(&packet), expected(true));
        packet[7] = 1;
        assert_eq!(heard(&packet), expected(false));
        packet.extend([0; 18]);
        assert_eq!(heard(&packet), expected(false), "with Ethernet's padding");
    }

    #[test]
    fn a_truncated_packet_says_nothing() {
        for length in 0..ANSWER.len() {
            assert_eq!(heard(&ANSWER[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn other_hardware_other_protocols_and_wrong_lengths_say_nothing() {
        for (position, value) in [(0, 1), (1, 32), (2, 0x86), (3, 6), (4, 20), (4, 0), (5, 16)] {
            let mut packet = ANSWER;
            packet[position] = value;
            assert_eq!(heard(&packet), None, "byte {position} = {value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn mutated_packets_never_panic(position in 0..28_usize, value: u8, cut in 0..40_usize) {
            let mut packet = [ANSWER.as_slice(), &[0; 12]].concat();
            packet[position] = value;
            let said = heard(&packet[..cut]);
            proptest::prop_assert!(said.is_none() || cut >= 28);
        }
    }
}
