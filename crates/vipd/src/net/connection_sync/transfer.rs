//! The whole connection table, from the kernel's list to the peer's backup daemon. Blocks: it reads
//! a file that may be large, line by line, and sends no faster than the peer takes in.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use ipvs::sync::{Entry, OVERHEAD, Packer, Unsendable, entry_of};
use ipvs::{Connection, Table};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Sync;

/// The kernel's list of connections.
const LIST: &str = "/proc/net/ip_vs_conn";
/// So many datagrams leave at once; a receive buffer of the default size takes ten times as many.
const BURST: u64 = 8;
/// From one burst to the next: at most 32,000 connections a second.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes that are read ahead of sending: the list is read by position, so that a slow reader sees
/// some of it twice, and some not at all, while connections come and go. 450,000 connections.
const AHEAD: usize = 16 * 1024 * 1024;
/// What fits into the frames of most links.
const LENGTH: usize = 1500 - OVERHEAD;

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When it ended.
    pub at: SystemTime,
    /// Connections that were sent.
    pub sent: u64,
    /// In so many datagrams.
    pub datagrams: u64,
    /// Connections that began while these were sent, and were sent after them.
    pub later: u64,
    /// Those that were not, by reason.
    pub skipped: BTreeMap<Unsendable, u64>,
    /// How long it took.
    pub took: Duration,
    /// How much of that was until the kernel's list was read.
    pub read: Duration,
    /// Whether peers are asked how many connections they hold.
    pub asked: bool,
    /// How many connections the peer says that it holds.
    pub held: Option<u32>,
}

impl Outcome {
    /// In words: `sent 20000 connections in 812 ms, ...; the peer holds 20000`.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = format!(
            "sent {} connections in {} ms, {} of them to read the kernel's list",
            self.sent,
            self.took.as_millis(),
            self.read.as_millis()
        );
        let skipped: Vec<String> = self
            .skipped
            .iter()
            .map(|(why, count)| format!("{count} {}", why.name()))
            .collect();
        if !skipped.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(words, " (not sent: {})", skipped.join(", "));
        }
        if self.later > 0 {
            let _ = write!(words, ", then {} that had begun meanwhile", self.later);
        }
        let _ = match self.held {
            Some(held) => write!(words, "; the peer holds {held}"),
            None if self.asked => write!(words, "; no peer says how many it holds"),
            None => Ok(()),
        };
        words
    }
}

/// Connections that were sent, in the state that they were sent in. A hash each: a million take
/// some 20 MB.
#[derive(Default)]
pub(super) struct Told {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl Told {
    /// Takes note; returns whether it is new.
    fn is_new(&mut self, entry: &Entry) -> bool {
        let whenever = Entry {
            timeout: 0,
            ..*entry
        };
        self.hashes.insert(self.hasher.hash_one(whenever))
    }
}

/// Sends the connections of the services of the table; those that were told of already are passed
/// over, and the others are now.
///
/// # Errors
///
/// The list cannot be read, or the interface does not take the datagrams.
pub(super) fn transfer(
    sync: &Sync,
    index: u32,
    table: &Table,
    mut told: Option<&mut Told>,
) -> io::Result<Outcome> {
    let begun = Instant::now();
    let mut outcome = Outcome {
        at: SystemTime::now(),
        sent: 0,
        datagrams: 0,
        later: 0,
        skipped: BTreeMap::new(),
        took: Duration::ZERO,
        read: Duration::ZERO,
        asked: false,
        held: None,
    };
    let socket = socket(sync)?;
    let to: SockAddr = destination(sync.group, sync.port, index).into();
    let length = sync.max_length.map_or(LENGTH, usize::from);
    let mut packer = Packer::new(sync.id, length);
    let mut waiting = Vec::new();
    let mut room = AHEAD;
    // The module is loaded with the first service.
    let list = match File::open(LIST) {
        Ok(list) => Some(list),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    for line in list
        .into_iter()
        .flat_map(|list| BufReader::new(list).lines())
    {
        let line = line?;
        let Some(connection) = Connection::parse(&line) else {
            continue;
        };
        match entry_of(&connection, table) {
            Ok(entry) => {
                if told.as_mut().is_some_and(|told| !told.is_new(&entry)) {
                    continue;
                }
                outcome.sent += 1;
                if let Some(datagram) = packer.push(&entry) {
                    room = room.saturating_sub(datagram.len());
                    waiting.push(datagram);
                }
                if room == 0 {
                    outcome.datagrams += send(&socket, &to, &mut waiting)?;
                    room = AHEAD;
                }
            }
            Err(why) => *outcome.skipped.entry(why).or_default() += 1,
        }
    }
    waiting.extend(packer.finish());
    outcome.read = begun.elapsed();
    outcome.datagrams += send(&socket, &to, &mut waiting)?;
    outcome.took = begun.elapsed();
    outcome.at = SystemTime::now();
    Ok(outcome)
}

/// Returns how many that were.
fn send(socket: &Socket, to: &SockAddr, waiting: &mut Vec<Vec<u8>>) -> io::Result<u64> {
    let mut sent: u64 = 0;
    for datagram in waiting.drain(..) {
        socket.send_to(&datagram, to)?;
        sent += 1;
        if sent.is_multiple_of(BURST) {
            sleep(PAUSE);
        }
    }
    Ok(sent)
}

/// How many connections this kernel holds.
///
/// # Errors
///
/// The list cannot be read.
pub(super) fn count() -> io::Result<u32> {
    let list = match File::open(LIST) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count: u32 = 0;
    let mut lines = BufReader::new(list);
    // Only the ends of the lines count.
    loop {
        let read = lines.fill_buf()?;
        if read.is_empty() {
            // The first line is the heading.
            return Ok(count.saturating_sub(1));
        }
        let ends = read.iter().filter(|byte| **byte == b'\n').count();
        count = count.saturating_add(u32::try_from(ends).unwrap_or(u32::MAX));
        let length = read.len();
        lines.consume(length);
    }
}

/// A socket that sends to the group out of the interface. This host's own daemons do not hear it.
pub(super) fn socket(sync: &Sync) -> io::Result<Socket> {
    let domain = match sync.group {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // So the datagrams need no route, and only those of this interface are heard.
    socket.bind_device(Some(sync.interface.as_bytes()))?;
    match sync.group {
        IpAddr::V4(_) => {
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(u32::from(sync.ttl))?;
        }
        IpAddr::V6(_) => {
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(u32::from(sync.ttl))?;
        }
    }
    Ok(socket)
}

/// The group's address on an interface.
pub(super) fn destination(group: IpAddr, port: u16, index: u32) -> SocketAddr {
    match group {
        IpAddr::V4(group) => SocketAddr::from((group, port)),
        IpAddr::V6(group) => SocketAddrV6::new(group, port, 0, index).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipvs::sync::Addresses;

    use super::*;

    #[test]
    fn a_connection_is_told_once_for_each_state_whatever_its_time() {
        let entry = |client_port, state, timeout| Entry {
            protocol: 6,
            flags: 3,
            state,
            addresses: Addresses::V4 {
                client: Ipv4Addr::new(10, 0, 0, 100),
                virtual_address: Ipv4Addr::new(10, 0, 0, 10),
                destination: Ipv4Addr::new(10, 0, 0, 21),
            },
            client_port,
            virtual_port: 80,
            destination_port: 80,
            mark: 0,
            timeout,
        };
        let mut told = Told::default();
        assert!(told.is_new(&entry(1000, 1, 900)));
        assert!(!told.is_new(&entry(1000, 1, 899)));
        assert!(told.is_new(&entry(1000, 4, 120)));
        assert!(told.is_new(&entry(1001, 1, 900)));
    }
}
