//! Tells the network at which Ethernet address a virtual address is now: gratuitous ARP for IPv4,
//! unsolicited neighbour advertisements for IPv6.
//!
//! Frames go out in rounds, one frame for each address in a round. The first round of a takeover
//! starts at once, the others follow in steps of `STEP`, so that a moment in which the network
//! loses frames does not take all of them. The earlier round always goes first, whichever router's:
//! what counts is the first frame of an address, so all addresses have had theirs before any has its
//! second. An interface that comes up, or back, has all its routers announced anew.

mod arp;
mod ndp;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pnet_packet::ethernet::EtherTypes;
use socket2::{Domain, Socket, Type};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::links::Links;
use super::sys::{self, Mac};
use crate::config::Garp;

/// Frames sent before orders are looked at again; what a switch port's queue takes without loss.
const BURST: usize = 128;
/// Pause after a burst.
const PAUSE: Duration = Duration::from_millis(1);
/// From the start of a round to that of the next.
const STEP: Duration = Duration::from_millis(30);
/// The round of a periodic refresh: after all others.
const REFRESH_ROUND: u32 = u32::MAX;

/// What to announce, for as long as it holds.
#[derive(Debug, Clone)]
pub enum Order {
    /// Announce these addresses of a virtual router: now, and as its `garp` setting says.
    Announce {
        /// The virtual router.
        router: String,
        /// The addresses and the interface of each.
        addresses: Vec<(String, IpAddr)>,
        /// How.
        garp: Garp,
    },
    /// The router holds no addresses any more: nothing of it may be announced again.
    Withdraw {
        /// The virtual router.
        router: String,
    },
}

type Addresses = Arc<[(String, IpAddr)]>;

struct Schedule {
    addresses: Addresses,
    garp: Garp,
    /// When the takeover is announced a second time.
    again_at: Option<Instant>,
    /// When the periodic refresh is due.
    refresh_at: Option<Instant>,
}

/// A round of frames that is under way or due.
struct Round {
    router: String,
    addresses: Addresses,
    /// Its place among the rounds of a takeover, counted from 0; lower ones go first.
    number: u32,
    /// How many are to come, with this one.
    left: u32,
    /// When it may start, and when it did.
    due: Instant,
    began: Option<Instant>,
    /// How many of the addresses have had their frame.
    sent: usize,
    /// Whether one of them could not be sent: it is said once in a round.
    failed: bool,
}

/// How a frame gets out of an interface.
#[derive(PartialEq, Eq)]
struct Exit {
    index: u32,
    mac: Mac,
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
    let exits = exits(&links.borrow());
    let announcer = Announcer {
        socket,
        exits,
        links,
        schedules: BTreeMap::new(),
        rounds: Vec::new(),
        not_before: Instant::now(),
    };
    Ok((sender, tokio::spawn(announcer.run(orders))))
}

struct Announcer {
    socket: Socket,
    links: watch::Receiver<Arc<Links>>,
    /// The interfaces that frames can leave by now.
    exits: BTreeMap<String, Exit>,
    schedules: BTreeMap<String, Schedule>,
    rounds: Vec<Round>,
    /// The end of the pause after a burst.
    not_before: Instant,
}

impl Announcer {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let due = self.due();
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A withdrawal goes before the next burst of what it withdraws.
                biased;
                order = orders.recv() => match order {
                    None => return,
                    Some(order) => self.obey(order),
                },
                changed = self.links.changed() => match changed {
                    Err(_) => return,
                    Ok(()) => self.look_at_links(),
                },
                () = timer => self.turn(),
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let rounds = self.rounds.iter().map(|round| round.due);
        let rounds = rounds.min().map(|due| due.max(self.not_before));
        let schedules = self.schedules.values();
        let timers = schedules.flat_map(|schedule| [schedule.again_at, schedule.refresh_at]);
        timers.flatten().chain(rounds).min()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Announce {
                router,
                addresses,
                garp,
            } => {
                let schedule = Schedule {
                    addresses: addresses.into(),
                    garp,
                    again_at: None,
                    refresh_at: None,
                };
                self.schedules.insert(router.clone(), schedule);
                self.begin(&router);
            }
            Order::Withdraw { router } => {
                self.schedules.remove(&router);
                self.rounds.retain(|round| round.router != router);
            }
        }
    }

    /// Begins to announce a router as after a takeover.
    fn begin(&mut self, router: &str) {
        let Some(schedule) = self.schedules.get_mut(router) else {
            return;
        };
        let now = Instant::now();
        let after = |delay: Duration| (!delay.is_zero()).then(|| now + delay);
        schedule.again_at = after(schedule.garp.delay);
        schedule.refresh_at = after(schedule.garp.refresh);
        let round = Round::new(router, schedule, 0, schedule.garp.repeat);
        self.rounds.retain(|round| round.router != router);
        self.rounds.push(round);
    }

    /// Frames sent while an interface was down are lost, and a network that it is plugged into anew
    /// has heard none.
    fn look_at_links(&mut self) {
        let exits = exits(&self.links.borrow_and_update());
        let is_new = |interface: &String| {
            let exit = exits.get(interface);
            exit.is_some() && exit != self.exits.get(interface)
        };
        let concerned = |schedule: &Schedule| {
            let mut addresses = schedule.addresses.iter();
            addresses.any(|(interface, _)| is_new(interface))
        };
        let routers = self.schedules.iter().filter(|(_, s)| concerned(s));
        let routers: Vec<String> = routers.map(|(router, _)| router.clone()).collect();
        self.exits = exits;
        for router in routers {
            self.begin(&router);
        }
    }

    /// Starts the rounds that are due and sends one burst.
    fn turn(&mut self) {
        let now = Instant::now();
        for (router, schedule) in &mut self.schedules {
            let repeat = schedule.garp.repeat;
            if schedule.again_at.take_if(|at| *at <= now).is_some() {
                // After the rounds of takeovers that are under way.
                self.rounds
                    .push(Round::new(router, schedule, repeat, repeat));
            }
            if schedule.refresh_at.is_some_and(|at| at <= now) {
                schedule.refresh_at = Some(now + schedule.garp.refresh);
                self.rounds
                    .push(Round::new(router, schedule, REFRESH_ROUND, 1));
            }
        }
        let mut left = BURST;
        while left > 0 {
            let due = self.rounds.iter_mut().filter(|round| round.due <= now);
            let Some(round) = due.min_by_key(|round| (round.number, round.due)) else {
                break;
            };
            left -= round.send(left, &self.socket, &self.exits);
            if round.sent == round.addresses.len() {
                round.finish();
                self.rounds.retain(|round| round.left > 0);
            }
        }
        if self.rounds.is_empty() {
            // What a takeover of a thousand routers needed is not kept for the next.
            self.rounds.shrink_to_fit();
        }
        self.not_before = Instant::now() + PAUSE;
    }
}

impl Round {
    fn new(router: &str, schedule: &Schedule, number: u32, repeat: u32) -> Round {
        Round {
            router: router.to_owned(),
            addresses: Arc::clone(&schedule.addresses),
            number,
            left: repeat,
            due: Instant::now(),
            began: None,
            sent: 0,
            failed: false,
        }
    }

    /// Sends to as many of the addresses as are left, but at most `limit`. Returns how many it was.
    fn send(&mut self, limit: usize, socket: &Socket, exits: &BTreeMap<String, Exit>) -> usize {
        self.began.get_or_insert_with(Instant::now);
        let addresses = Arc::clone(&self.addresses);
        let mut router = None;
        let batch = addresses.iter().skip(self.sent).take(limit);
        let count = batch.len();
        for (interface, address) in batch {
            // Nothing leaves an interface that is down; when it comes up everything starts anew.
            // One without Ethernet address has no neighbours to tell.
            let Some(exit) = exits.get(interface) else {
                continue;
            };
            let (frame, ethertype, destination) = match address {
                IpAddr::V4(ip) => {
                    let frame = arp::gratuitous(exit.mac, *ip);
                    (frame, EtherTypes::Arp, arp::DESTINATION)
                }
                IpAddr::V6(ip) => {
                    let forwards = match router {
                        Some((known, forwards)) if known == interface => forwards,
                        Some(_) | None => forwards_ipv6(interface),
                    };
                    router = Some((interface, forwards));
                    let frame = ndp::advertisement(exit.mac, *ip, forwards);
                    (frame, EtherTypes::Ipv6, ndp::DESTINATION)
                }
            };
            let to = sys::link_layer_address(exit.index, ethertype.0, destination);
            if let Err(error) = socket.send_to(&frame, &to)
                && !self.failed
            {
                self.failed = true;
                let router = &self.router;
                warn!(router, interface, %address, %error, "an announcement could not be sent");
            }
        }
        self.sent += count;
        count
    }

    /// Makes it the next one.
    fn finish(&mut self) {
        self.due = self.began.take().unwrap_or(self.due) + STEP;
        self.number = self.number.saturating_add(1);
        self.left = self.left.saturating_sub(1);
        self.sent = 0;
        self.failed = false;
    }
}

fn exits(links: &Links) -> BTreeMap<String, Exit> {
    let up = links.iter().filter(|link| link.up);
    let exits = up.filter_map(|link| {
        let (index, mac) = (link.index, link.mac?);
        Some((link.name.clone(), Exit { index, mac }))
    });
    exits.collect()
}

/// Whether this host is an IPv6 router on that interface.
fn forwards_ipv6(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    // Without IPv6 there is no such file, nor anybody who hears what is said.
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}
