//! From a connection, as the kernel lists it, to an entry that another kernel binds to the same
//! real server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Addresses, Entry, INACTIVE, NO_OUTPUT, TEMPLATE};
use crate::connection::Connection;
use crate::table::{
    Destination, DestinationKey, Family, Forwarding, Pool, Protocol, ServiceKey, Table,
};

/// Why a connection is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unsendable {
    /// It is closed.
    Closed,
    /// No service of the table has it: another's, or one whose addresses are held elsewhere.
    NoService,
    /// Its real server is not in the pool of its service.
    NoDestination,
    /// It came by a firewall mark, and several of the table may be the one.
    SeveralMarks,
    /// It belongs to a persistence engine, whose data the list shows only in part.
    Engine,
    /// Client and real server are of two families.
    MixedFamilies,
}

impl Unsendable {
    /// Every reason.
    pub const ALL: [Unsendable; 6] = [
        Unsendable::Closed,
        Unsendable::NoService,
        Unsendable::NoDestination,
        Unsendable::SeveralMarks,
        Unsendable::Engine,
        Unsendable::MixedFamilies,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Unsendable::Closed => "closed",
            Unsendable::NoService => "no_service",
            Unsendable::NoDestination => "no_real_server",
            Unsendable::SeveralMarks => "several_marks",
            Unsendable::Engine => "engine",
            Unsendable::MixedFamilies => "mixed_families",
        }
    }

    /// Its words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unsendable::Closed => "closed",
            Unsendable::NoService => "of no service here",
            Unsendable::NoDestination => "of no real server",
            Unsendable::SeveralMarks => "of several firewall marks",
            Unsendable::Engine => "of a persistence engine",
            Unsendable::MixedFamilies => "of mixed families",
        }
    }
}

/// The entry for a connection. The table says what the list does not: the forwarding method, the
/// firewall mark, and how long a template lives.
///
/// # Errors
///
/// Why it cannot or need not be sent.
pub fn entry_of(connection: &Connection, table: &Table) -> Result<Entry, Unsendable> {
    if !connection.matters() {
        return Err(Unsendable::Closed);
    }
    if connection.engine.is_some() {
        return Err(Unsendable::Engine);
    }
    let Found {
        mark,
        pool,
        destination,
    } = find(connection, table)?;
    let (client, virtual_address, real) = (
        connection.client,
        connection.virtual_address,
        connection.destination,
    );
    let addresses = Addresses::new(client.ip(), virtual_address.ip(), real.ip())
        .ok_or(Unsendable::MixedFamilies)?;
    let mut flags = method(destination.forwarding);
    if connection.is_template() {
        flags |= TEMPLATE | INACTIVE;
    } else if !connection.is_active() {
        flags |= INACTIVE;
    }
    // A template begins anew with each connection, so what is left of it is not what it needs.
    let whole = pool
        .service
        .persistence
        .as_ref()
        .map(|p| p.timeout.as_secs());
    let timeout = match whole.filter(|_| connection.is_template()) {
        Some(seconds) => u32::try_from(seconds).unwrap_or(u32::MAX),
        None => connection.expires,
    };
    Ok(Entry {
        protocol: connection.protocol.map_or(0, number),
        flags,
        state: connection.state.number,
        addresses,
        client_port: client.port(),
        virtual_port: virtual_address.port(),
        destination_port: real.port(),
        mark,
        // 0 would have the receiver take its own.
        timeout: timeout.max(1),
    })
}

struct Found<'a> {
    mark: u32,
    pool: &'a Pool,
    destination: &'a Destination,
}

/// The kernel's own search: a mark goes before an address, which the receiver cannot tell; so an
/// address that has the real server is believed first.
fn find<'a>(connection: &Connection, table: &'a Table) -> Result<Found<'a>, Unsendable> {
    let (at, real) = (connection.virtual_address, connection.destination);
    let mut missing = Unsendable::NoService;
    if let Some(protocol) = connection.protocol {
        for address in [at, SocketAddr::new(at.ip(), 0)] {
            let key = ServiceKey::Address { protocol, address };
            let Some(pool) = table.get(&key) else {
                continue;
            };
            if let Some(destination) = destination_of(pool, real) {
                return Ok(Found {
                    mark: 0,
                    pool,
                    destination,
                });
            }
            missing = Unsendable::NoDestination;
        }
    }
    let marked = table.iter().filter_map(|(key, pool)| match key {
        ServiceKey::Address { .. } => None,
        ServiceKey::FirewallMark { family, mark } => {
            let fits = *family == Family::of(connection.client.ip())
                && (connection.protocol.is_some() || at.ip() == shown(*family, *mark));
            let destination = destination_of(pool, real).filter(|_| fits)?;
            Some(Found {
                mark: *mark,
                pool,
                destination,
            })
        }
    });
    let mut marked = marked.peekable();
    let found = marked.next().ok_or(missing)?;
    match marked.peek() {
        None => Ok(found),
        Some(_) => Err(Unsendable::SeveralMarks),
    }
}

/// A real server with port 0 takes the port that the client asked for.
fn destination_of(pool: &Pool, real: SocketAddr) -> Option<&Destination> {
    let any_port = SocketAddr::new(real.ip(), 0);
    let mut found = [real, any_port]
        .into_iter()
        .filter_map(|key| pool.destinations.get(&DestinationKey(key)));
    found.next()
}

/// A mark as a template has it in place of the virtual address.
fn shown(family: Family, mark: u32) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(mark)),
        Family::V6 => IpAddr::V6((u128::from(mark) << 96).into()),
    }
}

/// `IP_VS_CONN_F_*`. The receiver takes its own real server's method if it has that one.
fn method(forwarding: Forwarding) -> u32 {
    match forwarding {
        Forwarding::Nat => 0,
        Forwarding::LocalNode => 1 | NO_OUTPUT,
        Forwarding::Tunnel(_) => 2 | NO_OUTPUT,
        Forwarding::DirectRouting => 3 | NO_OUTPUT,
        Forwarding::Bypass => 4 | NO_OUTPUT,
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
