//! What is heard on the network within some seconds: who has which address, who sends adverts, and which
//! real servers take packets for their virtual addresses.
//!
//! Adverts are heard by a packet socket, before any packet filter of this host and beside the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::vrrp::{GROUP_V4, GROUP_V6};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::packets::{self, Packet, Said};
use super::plan::{Attempt, Plan, Port};
use crate::net::neighbours::{self, Heard, arp, ndp};
use crate::net::sys::{self, Mac};

const IPV4: u16 = 0x0800;
/// `ETH_P_ALL`: the only one that shows what this host sends, too.
const EVERYTHING: u16 = 0x0003;
/// Larger than a standard Ethernet frame.
const PACKET_SIZE: usize = 2048;
/// From one round of questions to the next.
const ROUND: Duration = Duration::from_millis(400);
/// Echoes begin when neighbours have answered.
const ECHOES_AFTER: Duration = Duration::from_millis(900);
/// Questions sent before answers are taken.
const BURST: usize = 64;
/// Different adverts that are kept: whoever floods the network with more says nothing by the rest.
const ADVERTS_MAX: usize = 256;
/// IPv4 in IPv4 (RFC 2003).
const IPIP: i32 = 4;

/// What was heard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Wire {
    /// Who has which address, by the interface on which it was asked for. Own answers are not heard.
    pub answers: BTreeMap<(String, IpAddr), BTreeSet<Mac>>,
    /// The adverts.
    pub adverts: Vec<Advert>,
    /// What became of each try.
    pub tries: Vec<Try>,
    /// Answers to the own echoes, all of them.
    pub replies: u64,
    /// For how long it was listened.
    pub window: Duration,
}

/// Adverts of one sender that say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Advert {
    /// The interface.
    pub interface: String,
    /// Whether this host sent it.
    pub outgoing: bool,
    /// Where it comes from.
    pub source: IpAddr,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Protocol version.
    pub version: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// Advert interval.
    pub interval: Duration,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// How many there were.
    pub count: u32,
    /// By how many seconds the sender's clock is ahead of this host's, where it signs.
    pub clock: Option<i64>,
}

/// Whether a real server takes packets for its own address, and for a virtual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Try {
    /// The real server.
    pub server: IpAddr,
    /// The virtual address.
    pub vip: IpAddr,
    /// Whether through a tunnel.
    pub tunnel: bool,
    /// An echo to its own address was answered.
    pub own: bool,
    /// An echo to the virtual address was.
    pub virtual_one: bool,
}

/// Asks and listens.
pub(super) fn listen(plan: &Plan) -> Result<Wire, String> {
    let ear = Ear::open(plan).map_err(|error| format!("{error}; it needs CAP_NET_RAW"))?;
    let mut wire = Wire {
        window: plan.window,
        ..Wire::default()
    };
    for (port, address) in &plan.ask {
        wire.answers
            .insert((port.name.clone(), *address), BTreeSet::new());
    }
    for attempt in &plan.attempts {
        wire.tries.push(Try {
            server: attempt.server,
            vip: attempt.vip,
            tunnel: attempt.link.is_none(),
            own: false,
            virtual_one: false,
        });
    }
    let begin = Instant::now();
    let mut next = begin;
    let mut rounds = 0;
    while begin.elapsed() < plan.window {
        if Instant::now() >= next {
            ear.ask(plan, &mut wire, rounds < 2);
            if begin.elapsed() >= ECHOES_AFTER {
                ear.try_all(plan, &wire);
            }
            rounds += 1;
            next += ROUND;
        }
        let rest = (begin + plan.window).min(next);
        ear.take(
            plan,
            &mut wire,
            rest.saturating_duration_since(Instant::now()),
        );
    }
    Ok(wire)
}

struct Ear {
    arp: Socket,
    ndp: Socket,
    all: Socket,
    tunnel: Option<Socket>,
    echo: Option<Socket>,
    /// Membership of the groups ends with it.
    _groups: [Socket; 2],
    identifier: u16,
}

impl Ear {
    fn open(plan: &Plan) -> io::Result<Ear> {
        let groups = [
            Socket::new(Domain::IPV4, Type::DGRAM, None)?,
            Socket::new(Domain::IPV6, Type::DGRAM, None)?,
        ];
        let [v4, v6] = &groups;
        for index in &plan.listen {
            // An interface without addresses of a family has none of its groups.
            let by = InterfaceIndexOrAddress::Index(*index);
            let _without_v4 = v4.join_multicast_v4_n(&GROUP_V4, &by);
            let _without_v6 = v6.join_multicast_v6(&GROUP_V6, *index);
        }
        let tunnels = plan.attempts.iter().any(|it| it.link.is_none());
        let raw = |protocol: i32| {
            let made = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol)));
            tunnels.then_some(made).transpose()
        };
        Ok(Ear {
            arp: neighbours::open(neighbours::ARP, &[])?,
            ndp: neighbours::open(neighbours::IPV6, &ndp::ADVERTISEMENTS_ONLY)?,
            all: neighbours::open(EVERYTHING, &packets::WANTED)?,
            tunnel: raw(IPIP)?,
            echo: raw(libc::IPPROTO_ICMP)?,
            _groups: groups,
            identifier: u16::try_from(std::process::id() & 0xffff).unwrap_or(1),
        })
    }

    /// Asks for the addresses: all of them in the first rounds, because several hosts may have one;
    /// then those that nobody answered for.
    fn ask(&self, plan: &Plan, wire: &mut Wire, all: bool) {
        for (number, (port, address)) in plan.ask.iter().enumerate() {
            let unknown = || {
                let known = wire.answers.get(&(port.name.clone(), *address));
                known.is_none_or(BTreeSet::is_empty)
            };
            if all || unknown() {
                // An interface that went down meanwhile refuses.
                let _refused = self.ask_one(port, *address);
            }
            if number % BURST == BURST - 1 {
                self.take(plan, wire, Duration::from_millis(2));
            }
        }
    }

    fn ask_one(&self, port: &Port, address: IpAddr) -> io::Result<usize> {
        match address {
            IpAddr::V4(address) => {
                let to = sys::link_layer_address(port.index, neighbours::ARP, [0xff; 6]);
                self.arp.send_to(&arp::probe(port.mac, address), &to)
            }
            IpAddr::V6(address) => {
                let group = neighbours::multicast_mac(ndp::solicited_node(address));
                let to = sys::link_layer_address(port.index, neighbours::IPV6, group);
                self.ndp.send_to(&ndp::probe(address), &to)
            }
        }
    }

    /// Sends the echoes that were not answered. The sequence is twice the number of the try, and one more
    /// for the virtual address.
    fn try_all(&self, plan: &Plan, wire: &Wire) {
        for (number, (attempt, so_far)) in (0_u16..).zip(plan.attempts.iter().zip(&wire.tries)) {
            for (target, answered, sequence) in [
                (attempt.server, so_far.own, number * 2),
                (attempt.vip, so_far.virtual_one, number * 2 + 1),
            ] {
                if !answered {
                    // The way may be gone.
                    let _refused = self.try_one(wire, attempt, target, sequence);
                }
            }
        }
    }

    fn try_one(
        &self,
        wire: &Wire,
        attempt: &Attempt,
        target: IpAddr,
        sequence: u16,
    ) -> io::Result<usize> {
        let packet = || packets::echo(attempt.source, target, self.identifier, sequence);
        let server = SocketAddr::new(attempt.server, 0).into();
        match (&attempt.link, &self.tunnel, &self.echo) {
            (Some(port), _, _) => {
                let macs = wire.answers.get(&(port.name.clone(), attempt.server));
                let Some(mac) = macs.and_then(|macs| macs.first()) else {
                    return Ok(0);
                };
                let kind = if target.is_ipv4() {
                    IPV4
                } else {
                    neighbours::IPV6
                };
                let to = sys::link_layer_address(port.index, kind, *mac);
                self.all.send_to(&packet(), &to)
            }
            (None, _, Some(echo)) if target == attempt.server => {
                echo.send_to(&packets::echo_message(self.identifier, sequence), &server)
            }
            (None, Some(tunnel), _) => tunnel.send_to(&packet(), &server),
            (None, None, _) => Ok(0),
        }
    }

    /// Takes what comes within that time.
    fn take(&self, plan: &Plan, wire: &mut Wire, patience: Duration) {
        let end = Instant::now() + patience;
        // Without patience what is there is taken, too.
        let first = Instant::now() + Duration::from_millis(100);
        let mut buffer = [0; PACKET_SIZE];
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let mut fds =
                [&self.arp, &self.ndp, &self.all].map(|it| PollFd::new(it, PollFlags::IN));
            let wait = Timespec::try_from(rest).ok();
            // An interrupted wait is a short one.
            let _ready = poll(&mut fds, wait.as_ref());
            while let Ok(Some(got)) = sys::receive(&self.arp, &mut buffer) {
                let packet = buffer.get(..got.length).unwrap_or_default();
                wire.answered(plan, got.index, arp::heard(packet));
            }
            while let Ok(Some(got)) = sys::receive(&self.ndp, &mut buffer) {
                let packet = buffer.get(..got.length).unwrap_or_default();
                wire.answered(plan, got.index, ndp::heard(packet, got.source));
            }
            // A flood has no end of its own.
            while Instant::now() < end.max(first)
                && let Ok(Some(got)) = sys::receive(&self.all, &mut buffer)
            {
                let packet = buffer.get(..got.length).unwrap_or_default();
                let outgoing = got.packet_type == libc::PACKET_OUTGOING;
                match packets::understand(packet) {
                    Some(Packet::Advert(said)) => {
                        wire.advert(plan, got.index, got.source, outgoing, said);
                    }
                    Some(Packet::Reply {
                        source,
                        identifier,
                        sequence,
                    }) if identifier == self.identifier && !outgoing => {
                        wire.replies += 1;
                        wire.replied(source, sequence, got.source);
                    }
                    Some(Packet::Reply { .. }) | None => {}
                }
            }
            if Instant::now() >= end {
                return;
            }
        }
    }
}

impl Wire {
    fn answered(&mut self, plan: &Plan, index: u32, heard: Option<Heard>) {
        let Some(heard) = heard.filter(|heard| heard.answer && !plan.own.contains(&heard.mac))
        else {
            return;
        };
        let Some(name) = plan.names.get(&index) else {
            return;
        };
        if let Some(macs) = self.answers.get_mut(&(name.clone(), heard.address)) {
            macs.insert(heard.mac);
        }
    }

    fn advert(&mut self, plan: &Plan, index: u32, mac: Option<Mac>, outgoing: bool, said: Said) {
        let Some(interface) = plan.names.get(&index) else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |it| it.as_secs());
        let clock = said.signed_at.map(|signed| {
            let low = u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0);
            i64::from(signed.wrapping_sub(low).cast_signed())
        });
        let same = |it: &&mut Advert| {
            it.interface == *interface
                && (it.outgoing, it.source, it.vrid) == (outgoing, said.source, said.vrid)
                && (it.version, it.interval) == (said.version, said.interval)
                && it.addresses == said.addresses
        };
        if let Some(known) = self.adverts.iter_mut().find(same) {
            known.count += 1;
            known.priority = said.priority;
            return;
        }
        if self.adverts.len() >= ADVERTS_MAX {
            return;
        }
        self.adverts.push(Advert {
            interface: interface.clone(),
            outgoing,
            source: said.source,
            mac,
            version: said.version,
            vrid: said.vrid,
            priority: said.priority,
            interval: said.interval,
            addresses: said.addresses,
            count: 1,
            clock,
        });
    }

    fn replied(&mut self, source: IpAddr, sequence: u16, mac: Option<Mac>) {
        let Some(so_far) = self.tries.get_mut(usize::from(sequence / 2)) else {
            return;
        };
        let own = sequence.is_multiple_of(2);
        let (server, expected) = (so_far.server, if own { so_far.server } else { so_far.vip });
        // Whoever else has the virtual address answers, too, if the real server passes the echo on.
        let mut answers = self
            .answers
            .iter()
            .filter(|((_, asked), _)| *asked == server);
        let right =
            so_far.tunnel || answers.any(|(_, macs)| mac.is_some_and(|mac| macs.contains(&mac)));
        if source == expected && right {
            if own {
                so_far.own = true;
            } else {
                so_far.virtual_one = true;
            }
        }
    }
}
