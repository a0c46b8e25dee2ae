//! The thread that hears claims: which of them are somebody else's, about a watched address, and
//! not the same again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::PipeReader;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use socket2::Socket;
use tokio::sync::watch;

use super::{Claim, Heard, NO_MAC, Watched, arp, ndp};
use crate::net::links::Links;
use crate::net::sys::{self, Mac, Received};

/// Packets taken from one socket before the other and the end are looked at.
const BATCH: usize = 256;
/// Larger than a standard Ethernet frame; a longer advertisement is nobody's.
const PACKET_SIZE: usize = 2048;
/// How long the same answer is not reported again.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);
/// How long another claim is not reported again.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// Claimants of one address that are told apart within an interval. More of them say nothing new:
/// that somebody has the address is known then.
const CLAIMANTS: usize = 4;

/// What a packet says, given the Ethernet address it came from.
type Parse = fn(&[u8], Option<Mac>) -> Option<Heard>;

pub(super) struct Listener<R> {
    links: watch::Receiver<Arc<Links>>,
    watched: watch::Receiver<Watched>,
    report: R,
    hosts: Hosts,
    seats: Seats,
}

impl<R: Fn(Claim)> Listener<R> {
    pub(super) fn new(
        mut links: watch::Receiver<Arc<Links>>,
        watched: watch::Receiver<Watched>,
        report: R,
    ) -> Listener<R> {
        let hosts = Hosts::new(&links.borrow_and_update());
        Listener {
            links,
            watched,
            report,
            hosts,
            seats: Seats::default(),
        }
    }

    /// Listens until the other end of the pipe is closed.
    pub(super) fn run(mut self, arp: &Socket, ndp: &Socket, stop: &PipeReader) {
        let mut buffer = [0; PACKET_SIZE];
        let sources: [(&Socket, Parse); 2] =
            [(arp, |packet, _| arp::heard(packet)), (ndp, ndp::heard)];
        while !wait(arp, ndp, stop) {
            for (socket, parse) in sources {
                for _ in 0..BATCH {
                    let Ok(Some(received)) = sys::receive(socket, &mut buffer) else {
                        break;
                    };
                    let packet = buffer.get(..received.length).unwrap_or_default();
                    if let Some(heard) = parse(packet, received.source) {
                        self.hear(received, heard);
                    }
                }
            }
        }
    }

    fn hear(&mut self, received: Received, heard: Heard) {
        self.follow();
        if !came_in(received.packet_type) || !self.hosts.is_foreign(heard.mac) {
            return;
        }
        let Some(interface) = self.hosts.names.get(&received.index) else {
            return;
        };
        if self.seats.is_news(interface, heard, Instant::now()) {
            (self.report)(Claim {
                interface: interface.clone(),
                address: heard.address,
                mac: heard.mac,
                answer: heard.answer,
            });
        }
    }

    /// Takes in what changed, before each packet: the answer to a question must not meet what was
    /// watched before it was asked.
    fn follow(&mut self) {
        // Whoever kept the picture may be gone: the last one holds then.
        if self.links.has_changed().unwrap_or(false) {
            self.hosts = Hosts::new(&self.links.borrow_and_update());
        }
        if self.watched.has_changed().unwrap_or(false) {
            self.seats = Seats::new(&self.watched.borrow_and_update());
        }
    }
}

/// Waits for packets. Returns whether this is the end instead.
fn wait(arp: &Socket, ndp: &Socket, stop: &PipeReader) -> bool {
    let mut fds = [
        PollFd::new(stop, PollFlags::IN),
        PollFd::new(arp, PollFlags::IN),
        PollFd::new(ndp, PollFlags::IN),
    ];
    // An interrupted wait is a short one; the sockets are looked at anyway.
    let _ = poll(&mut fds, None);
    let [stop, ..] = &fds;
    !stop.revents().is_empty()
}

/// Whether a packet came in for this host. What was sent to another host only an interface in
/// promiscuous mode hears, and packets of a VLAN that has no interface here are marked the same.
fn came_in(packet_type: u8) -> bool {
    matches!(
        packet_type,
        libc::PACKET_HOST | libc::PACKET_BROADCAST | libc::PACKET_MULTICAST
    )
}

/// What of [`Links`] every packet needs.
struct Hosts {
    names: BTreeMap<u32, String>,
    own: BTreeSet<Mac>,
}

impl Hosts {
    fn new(links: &Links) -> Hosts {
        let names = links.iter().map(|link| (link.index, link.name.clone()));
        // An interface that is down holds nothing: a backup's macvlan has the virtual Ethernet
        // address that the master answers with.
        let own = links.iter().filter(|link| link.up).filter_map(|l| l.mac);
        Hosts {
            names: names.collect(),
            own: own.collect(),
        }
    }

    fn is_foreign(&self, mac: Mac) -> bool {
        mac != NO_MAC && !self.own.contains(&mac)
    }
}

/// The watched addresses, and who claimed them lately.
#[derive(Default)]
struct Seats(BTreeMap<IpAddr, Vec<Seat>>);

struct Seat {
    interface: String,
    answers: Recent,
    claims: Recent,
}

impl Seats {
    fn new(watched: &Watched) -> Seats {
        let mut seats: BTreeMap<IpAddr, Vec<Seat>> = BTreeMap::new();
        for (interface, address) in watched {
            // There is nearly always one: room for four, as a vector takes, adds up.
            let on = seats.entry(*address);
            on.or_insert_with(|| Vec::with_capacity(1)).push(Seat {
                interface: interface.clone(),
                answers: Recent::default(),
                claims: Recent::default(),
            });
        }
        Seats(seats)
    }

    /// Whether it is about a watched address, and was not said by the same host a moment ago.
    fn is_news(&mut self, interface: &str, heard: Heard, now: Instant) -> bool {
        let seats = self.0.get_mut(&heard.address);
        let seat =
            seats.and_then(|seats| seats.iter_mut().find(|seat| seat.interface == interface));
        seat.is_some_and(|seat| match heard.answer {
            true => seat.answers.admits(heard.mac, now, ANSWER_INTERVAL),
            false => seat.claims.admits(heard.mac, now, CLAIM_INTERVAL),
        })
    }
}

/// Who was reported within an interval.
#[derive(Default)]
struct Recent(Vec<(Mac, Instant)>);

impl Recent {
    fn admits(&mut self, mac: Mac, now: Instant, interval: Duration) -> bool {
        self.0
            .retain(|(_, at)| now.saturating_duration_since(*at) < interval);
        let known = self.0.iter().any(|(known, _)| *known == mac);
        let admitted = !known && self.0.len() < CLAIMANTS;
        if admitted {
            self.0.push((mac, now));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::links::{Link, LinkAddresses};

    const FOREIGN: Mac = [2, 0, 0, 0, 0, 9];
    const VIRTUAL: Mac = [0, 0, 0x5e, 0, 1, 51];

    #[test]
    fn an_answer_is_news_ten_times_a_second_and_another_claim_once() {
        let mut seats = watching("eth0", "10.0.0.5");
        let start = Instant::now();
        let mut reported = [0, 0];
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            for answer in [true, false] {
                let news = seats.is_news("eth0", heard("10.0.0.5", FOREIGN, answer), now);
                reported[usize::from(answer)] += usize::from(news);
            }
        }
        assert_eq!(reported, [1, 10]);
    }

    #[test]
    fn only_so_many_claimants_of_an_address_are_remembered_and_reported() {
        let mut seats = watching("eth0", "10.0.0.5");
        let start = Instant::now();
        let flood = |seats: &mut Seats, now: Instant| {
            let macs = (0..20_000_u16).map(|n| {
                let [a, b] = n.to_be_bytes();
                [2, 0, 0, 1, a, b]
            });
            macs.filter(|mac| seats.is_news("eth0", heard("10.0.0.5", *mac, true), now))
                .count()
        };
        assert_eq!(flood(&mut seats, start), CLAIMANTS);
        assert_eq!(flood(&mut seats, start + ANSWER_INTERVAL), CLAIMANTS);
        let seat = &seats.0.values().next().unwrap()[0];
        assert_eq!(seat.answers.0.len(), CLAIMANTS);
    }

    #[test]
    fn a_flood_of_one_kind_hides_nothing_of_the_other() {
        let mut seats = watching("eth0", "10.0.0.5");
        let now = Instant::now();
        for n in 0..200 {
            seats.is_news("eth0", heard("10.0.0.5", [2, 0, 0, 1, 0, n], false), now);
        }
        assert!(seats.is_news("eth0", heard("10.0.0.5", FOREIGN, true), now));
    }

    #[test]
    fn an_address_is_watched_on_its_interface_only() {
        let mut seats = watching("eth0", "10.0.0.5");
        let now = Instant::now();
        assert!(!seats.is_news("eth1", heard("10.0.0.5", FOREIGN, true), now));
        assert!(!seats.is_news("eth0", heard("10.0.0.6", FOREIGN, true), now));
        assert!(seats.is_news("eth0", heard("10.0.0.5", FOREIGN, true), now));
    }

    #[test]
    fn a_virtual_ethernet_address_is_foreign_unless_an_interface_that_is_up_has_it() {
        for (up, foreign) in [(false, true), (true, false)] {
            let links = [
                link(2, "eth0", true, [2, 0, 0, 0, 0, 1]),
                link(3, "vipd51", up, VIRTUAL),
            ];
            let hosts = Hosts::new(&links.into_iter().collect());
            assert_eq!(hosts.is_foreign(VIRTUAL), foreign, "macvlan up: {up}");
        }
        let hosts = Hosts::new(&Links::default());
        assert!(hosts.is_foreign(VIRTUAL), "no macvlan");
    }

    #[test]
    fn own_addresses_and_none_are_not_foreign() {
        let own = [2, 0, 0, 0, 0, 1];
        let hosts = Hosts::new(&[link(2, "eth0", true, own)].into_iter().collect());
        assert!(!hosts.is_foreign(own));
        assert!(!hosts.is_foreign([0; 6]));
        assert!(hosts.is_foreign(FOREIGN));
    }

    #[test]
    fn only_what_came_in_for_this_host_counts() {
        assert!(came_in(libc::PACKET_HOST));
        assert!(came_in(libc::PACKET_BROADCAST));
        assert!(came_in(libc::PACKET_MULTICAST));
        assert!(!came_in(libc::PACKET_OUTGOING));
        assert!(!came_in(libc::PACKET_OTHERHOST));
    }

    fn watching(interface: &str, address: &str) -> Seats {
        Seats::new(&[(interface.to_owned(), address.parse().unwrap())].into())
    }

    fn heard(address: &str, mac: Mac, answer: bool) -> Heard {
        Heard {
            address: address.parse().unwrap(),
            mac,
            answer,
        }
    }

    fn link(index: u32, name: &str, up: bool, mac: Mac) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: Some(mac),
            up,
            addresses: LinkAddresses::default(),
        }
    }
}
