//! Gratuitous ARP: tells the network at which Ethernet address a virtual address is now.
//!
//! A broadcast ARP *request* with sender and target both the virtual address: Linux and switches
//! take it at once, while replies are held back by the neighbour table's lock time.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, MutableEthernetPacket};

use socket2::{Domain, Socket, Type};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::links::Links;
use super::sys::{self, Mac};
use crate::config::Garp;

const BROADCAST: Mac = [0xff; 6];
/// Frames sent before others get a turn; what a switch port's queue takes without loss.
const BURST: usize = 64;
/// Pause after a burst.
const PAUSE: Duration = Duration::from_millis(1);

/// What to announce, for as long as it holds.
#[derive(Debug, Clone)]
pub enum Order {
    /// Announce these addresses of a virtual router: now, and as its `garp` setting says.
    Announce {
        /// The virtual router.
        router: String,
        /// The addresses and the interface of each.
        addresses: Vec<(String, Ipv4Addr)>,
        /// How.
        garp: Garp,
    },
    /// The router holds no addresses any more: nothing of it may be announced again.
    Withdraw {
        /// The virtual router.
        router: String,
    },
}

struct Schedule {
    addresses: Vec<(String, Ipv4Addr)>,
    garp: Garp,
    /// When the second round of the takeover is due.
    again_at: Option<Instant>,
    /// When the periodic refresh is due.
    refresh_at: Option<Instant>,
}

/// Announces until the orders end.
///
/// # Errors
///
/// The packet socket could not be opened (`CAP_NET_RAW`).
pub fn start(
    links: watch::Receiver<Arc<Links>>,
) -> io::Result<(mpsc::UnboundedSender<Order>, JoinHandle<()>)> {
    // Protocol 0: the socket receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    let (sender, orders) = mpsc::unbounded_channel();
    let announcer = Announcer {
        socket,
        links,
        schedules: BTreeMap::new(),
    };
    Ok((sender, tokio::spawn(announcer.run(orders))))
}

struct Announcer {
    socket: Socket,
    links: watch::Receiver<Arc<Links>>,
    schedules: BTreeMap<String, Schedule>,
}

impl Announcer {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let due = self
                .schedules
                .values()
                .flat_map(|schedule| [schedule.again_at, schedule.refresh_at])
                .flatten()
                .min();
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    None => return,
                    Some(order) => self.obey(order).await,
                },
                () = timer => self.send_due().await,
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Announce {
                router,
                addresses,
                garp,
            } => {
                let now = Instant::now();
                self.send(&addresses, garp.repeat).await;
                let after = |delay: Duration| (!delay.is_zero()).then(|| now + delay);
                let (again_at, refresh_at) = (after(garp.delay), after(garp.refresh));
                self.schedules.insert(
                    router,
                    Schedule {
                        addresses,
                        garp,
                        again_at,
                        refresh_at,
                    },
                );
            }
            Order::Withdraw { router } => {
                self.schedules.remove(&router);
            }
        }
    }

    async fn send_due(&mut self) {
        let now = Instant::now();
        let mut rounds = Vec::new();
        for schedule in self.schedules.values_mut() {
            if schedule.again_at.is_some_and(|at| at <= now) {
                schedule.again_at = None;
                rounds.push((schedule.addresses.clone(), schedule.garp.repeat));
            }
            if let Some(at) = schedule.refresh_at.filter(|at| *at <= now) {
                schedule.refresh_at = Some(at + schedule.garp.refresh);
                rounds.push((schedule.addresses.clone(), 1));
            }
        }
        for (addresses, repeat) in rounds {
            self.send(&addresses, repeat).await;
        }
    }

    /// Sends every address once before any is repeated: the first frame is what counts.
    async fn send(&self, addresses: &[(String, Ipv4Addr)], repeat: u32) {
        let links = Arc::clone(&self.links.borrow());
        let mut sent = 0_usize;
        for _ in 0..repeat {
            for (interface, address) in addresses {
                // An interface without Ethernet address has no ARP.
                let Some((index, mac)) = links
                    .named(interface)
                    .and_then(|link| Some((link.index, link.mac?)))
                else {
                    continue;
                };
                let to = sys::link_layer_address(index, EtherTypes::Arp.0, BROADCAST);
                if let Err(error) = self.socket.send_to(&gratuitous_arp(mac, *address), &to) {
                    warn!(interface, %address, %error, "gratuitous ARP not sent");
                }
                sent += 1;
                if sent.is_multiple_of(BURST) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// The frame: Ethernet broadcast, ARP request, sender = target = the virtual address.
fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
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
        debug_assert!(
            ethernet.packet().len() == 14,
            "an Ethernet header has 14 bytes"
        );
    }
    frame.extend_from_slice(&arp);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gratuitous_arp_is_a_broadcast_request_about_itself() {
        let frame = gratuitous_arp([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 5));
        let expected: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // ARP: Ethernet, IPv4, request
            2, 0, 0, 0, 0, 1, 10, 0, 0, 5, // sender
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 10, 0, 0, 5, // target
        ];
        assert_eq!(frame, expected);
    }
}
