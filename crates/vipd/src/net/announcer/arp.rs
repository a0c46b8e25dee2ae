//! Gratuitous ARP (RFC 5227 §3): a broadcast ARP *request* with sender and target both the virtual
//! address. Linux and switches take it at once, while replies are held back by the neighbour table's
//! lock time.

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, MutableEthernetPacket};

use crate::net::sys::Mac;

/// Where it goes.
pub(super) const DESTINATION: Mac = [0xff; 6];

/// The frame: Ethernet broadcast, ARP request, sender = target = the virtual address.
pub(super) fn gratuitous(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let source = MacAddr::from(mac);
    let mut frame = vec![0; MutableEthernetPacket::minimum_packet_size()];
    let mut arp = vec![0; MutableArpPacket::minimum_packet_size()];
    if let Some(mut arp) = MutableArpPacket::new(&mut arp) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(source);
        arp.set_sender_proto_addr(address);
        arp.set_target_hw_addr(MacAddr::broadcast());
        arp.set_target_proto_addr(address);
    }
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(MacAddr::broadcast());
        ethernet.set_source(source);
        ethernet.set_ethertype(EtherTypes::Arp);
    }
    frame.extend_from_slice(&arp);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gratuitous_arp_is_a_broadcast_request_about_itself() {
        let frame = gratuitous([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 5));
        let expected: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // ARP: Ethernet, IPv4, request
            2, 0, 0, 0, 0, 1, 10, 0, 0, 5, // sender
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 10, 0, 0, 5, // target
        ];
        assert_eq!(frame, expected);
    }
}
