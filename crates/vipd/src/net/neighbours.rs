//! Who else on the link has a virtual address: asks (ARP, neighbour discovery), and listens to who
//! says so unasked.
//!
//! The question is the one of address conflict detection: an ARP probe (RFC 5227 §2.1.1), a
//! neighbour solicitation from `::` (RFC 4862 §5.4.2). It fills no neighbour table with a wrong
//! entry, and a holder answers it on every system. A host that holds the address on another
//! interface answers too unless `arp_ignore` forbids it: a real server of direct routing that lacks
//! that setting is heard as a claimant, which it is.
//!
//! Two halves share two packet sockets. Orders and questions are a task. Answers are heard by a
//! thread of its own, "neighbours", so that they are reported at once however busy the runtime is.

pub(crate) mod arp;
mod listener;
pub(crate) mod ndp;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::{self, PipeWriter};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use socket2::{Domain, SockFilter, Socket, Type};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::debug;

use self::listener::Listener;
use super::links::Links;
use super::sys::{self, Mac};

/// `ETH_P_ARP`.
pub(crate) const ARP: u16 = 0x0806;
/// `ETH_P_IPV6`.
pub(crate) const IPV6: u16 = 0x86dd;
/// What can wait in the kernel for the thread; it grants less where `net.core.rmem_max` is less.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Questions sent before others on the runtime get a turn.
const BURST: usize = 64;

/// Addresses, and the interface of each.
pub type Watched = BTreeSet<(String, IpAddr)>;

/// What to do.
#[derive(Debug, Clone)]
pub enum Order {
    /// All addresses of interest from now on: claims of others are not reported.
    Watch(Watched),
    /// Ask once, now, who has these addresses. Interfaces that do not exist or have no Ethernet
    /// address are skipped. The answer is a [`Claim`], if the address is watched.
    Probe(Vec<(String, IpAddr)>),
}

/// Somebody else says that a watched address is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The interface it was heard on.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Where the address is, by this claim. Never the address of an interface of this host that is
    /// up; a virtual router's own Ethernet address (00:00:5e:00:01:xx) is foreign where no interface
    /// here that is up has it.
    pub mac: Mac,
    /// An ARP reply or a neighbour advertisement, solicited or not; `false`: any other ARP packet
    /// with the address as its sender, such as a gratuitous request.
    pub answer: bool,
}

/// Asks and listens until the orders end. Claims are handed to `report` on the thread that hears
/// them, which waits for it: it must not block.
///
/// A claim of the same address by the same Ethernet address is reported at most every 100 ms if it
/// is an answer, else every second, and four claimants of an address are told apart at a time.
///
/// # Errors
///
/// The packet sockets could not be opened (`CAP_NET_RAW`), or no thread.
pub fn start(
    links: watch::Receiver<Arc<Links>>,
    report: impl Fn(Claim) + Send + Sync + 'static,
) -> io::Result<(mpsc::UnboundedSender<Order>, JoinHandle<()>)> {
    let arp = Arc::new(open(ARP, &[])?);
    let ndp = Arc::new(open(IPV6, &ndp::ADVERTISEMENTS_ONLY)?);
    let (watched, to_watch) = watch::channel(Watched::new());
    let (asker_is_gone, stop) = io::pipe()?;
    let (listening, listener_ended) = oneshot::channel();
    let listener = Listener::new(links.clone(), to_watch, report);
    let (heard_arp, heard_ndp) = (Arc::clone(&arp), Arc::clone(&ndp));
    std::thread::Builder::new()
        .name("neighbours".to_owned())
        .spawn(move || {
            let _listening: oneshot::Sender<()> = listening;
            listener.run(&heard_arp, &heard_ndp, &asker_is_gone);
        })?;
    let (sender, orders) = mpsc::unbounded_channel();
    let asker = Asker {
        arp,
        ndp,
        links,
        watched,
        listener_ended,
        _stop: stop,
    };
    Ok((sender, tokio::spawn(asker.run(orders))))
}

/// A packet socket without link-layer headers for one protocol on every interface. It sees no
/// outgoing packets: only sockets of all protocols do.
pub(crate) fn open(protocol: u16, filter: &[SockFilter]) -> io::Result<Socket> {
    // Protocol 0: nothing is received before the filter is there.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
    if !filter.is_empty() {
        socket.attach_filter(filter)?;
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&sys::link_layer_address(0, protocol, [0; 6]))?;
    Ok(socket)
}

/// The half that obeys orders and asks.
struct Asker {
    arp: Arc<Socket>,
    ndp: Arc<Socket>,
    links: watch::Receiver<Arc<Links>>,
    watched: watch::Sender<Watched>,
    listener_ended: oneshot::Receiver<()>,
    /// Closed with this half, however it ends: the thread ends by it.
    _stop: PipeWriter,
}

impl Asker {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                // It ends by itself only if it panics; whoever holds the handle sees it by this.
                _ = &mut self.listener_ended => None,
            };
            match order {
                None => return,
                Some(Order::Watch(addresses)) => {
                    // The same again forgets nothing of what was reported lately.
                    self.watched.send_if_modified(|known| {
                        let changed = *known != addresses;
                        *known = addresses;
                        changed
                    });
                }
                Some(Order::Probe(addresses)) => self.probe(&addresses).await,
            }
        }
    }

    async fn probe(&self, addresses: &[(String, IpAddr)]) {
        let links = Arc::clone(&self.links.borrow());
        for burst in addresses.chunks(BURST) {
            for (interface, address) in burst {
                let Some((index, mac)) = links
                    .named(interface)
                    .and_then(|link| Some((link.index, link.mac?)))
                    .filter(|(_, mac)| *mac != NO_MAC)
                else {
                    continue;
                };
                // An interface that is down refuses; that it is down is known elsewhere.
                if let Err(error) = self.ask(index, mac, *address) {
                    debug!(interface, %address, %error, "nobody was asked who has the address");
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Sends one question; the kernel puts the interface's own address into the Ethernet header.
    fn ask(&self, index: u32, mac: Mac, address: IpAddr) -> io::Result<usize> {
        match address {
            IpAddr::V4(address) => {
                let to = sys::link_layer_address(index, ARP, [0xff; 6]);
                self.arp.send_to(&arp::probe(mac, address), &to)
            }
            IpAddr::V6(address) => {
                let group = ndp::solicited_node(address);
                let to = sys::link_layer_address(index, IPV6, multicast_mac(group));
                self.ndp.send_to(&ndp::probe(address), &to)
            }
        }
    }
}

/// What the loopback interface has.
const NO_MAC: Mac = [0; 6];

/// RFC 2464 §7.
pub(crate) fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// What a packet says, before it is known whether it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) address: IpAddr,
    pub(crate) mac: Mac,
    pub(crate) answer: bool,
}
