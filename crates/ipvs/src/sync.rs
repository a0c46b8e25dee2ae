//! Datagrams of the kernel's connection synchronisation, version 1, as values.
//!
//! What a master daemon sends and a backup daemon takes in (`ip_vs_sync.c`): a header of 8 bytes,
//! then entries of 36 bytes (IPv4) or 72 bytes (IPv6), each at a multiple of 4, with options behind
//! (sequence numbers of NAT helpers, data of persistence engines). Options are passed over when
//! read, and never written.

mod binding;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use binding::{Unsendable, entry_of};

/// `IP_VS_CONN_F_FWD_MASK`: the bits of [`Entry::flags`] that are the forwarding method.
pub const FORWARDING: u32 = 0x7;
/// `IP_VS_CONN_F_NOOUTPUT`: answers do not come by here.
pub const NO_OUTPUT: u32 = 0x80;
/// `IP_VS_CONN_F_INACTIVE`: counts as inactive.
pub const INACTIVE: u32 = 0x100;
/// `IP_VS_CONN_F_TEMPLATE`: a template of persistence.
pub const TEMPLATE: u32 = 0x1000;

/// Bytes of IP and UDP headers before the datagram, with the larger of the two versions of IP.
pub const OVERHEAD: usize = 40 + 8;

const HEADER: usize = 8;
const VERSION: u8 = 1;
const ENTRY_V4: usize = 36;
const ENTRY_V6: usize = 72;
/// Bit 0 of an entry's type (`STYPE_F_INET6`).
const INET6: u8 = 1;
/// The size of an entry has 12 bits, the version of its layout, 0, the other 4.
const SIZE_MASK: u16 = 0x0fff;
/// The count in the header is one byte.
const COUNT_MAX: usize = 255;

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id of the sender; a backup with another one, but 0, does not listen.
    pub id: u8,
    /// The connections.
    pub entries: Vec<Entry>,
}

/// A connection as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The number of the protocol; 0 of a template of a firewall mark.
    pub protocol: u8,
    /// `IP_VS_CONN_F_*`.
    pub flags: u32,
    /// The number of the state.
    pub state: u16,
    /// Who and where; all of one family.
    pub addresses: Addresses,
    /// The port of the client.
    pub client_port: u16,
    /// The virtual port.
    pub virtual_port: u16,
    /// The port of the real server.
    pub destination_port: u16,
    /// The firewall mark by which the service is found; 0: by its address.
    pub mark: u32,
    /// Seconds until it expires; 0: what the receiver has for the state.
    pub timeout: u32,
}

/// The addresses of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "the fields are client, virtual address and real server"
)]
pub enum Addresses {
    V4 {
        client: Ipv4Addr,
        virtual_address: Ipv4Addr,
        destination: Ipv4Addr,
    },
    V6 {
        client: Ipv6Addr,
        virtual_address: Ipv6Addr,
        destination: Ipv6Addr,
    },
}

/// Why a datagram is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is shorter than it says or needs to be.
    #[error("it is too short")]
    Short,
    /// It has another length than its header says.
    #[error("its length is not the one in its header")]
    Length,
    /// Another version of the protocol, or of an entry.
    #[error("it is not of version 1")]
    Version,
}

impl Addresses {
    /// `None`: they are not of one family; the protocol has no room for that.
    #[must_use]
    pub fn new(client: IpAddr, virtual_address: IpAddr, destination: IpAddr) -> Option<Addresses> {
        match (client, virtual_address, destination) {
            (IpAddr::V4(client), IpAddr::V4(virtual_address), IpAddr::V4(destination)) => {
                Some(Addresses::V4 {
                    client,
                    virtual_address,
                    destination,
                })
            }
            (IpAddr::V6(client), IpAddr::V6(virtual_address), IpAddr::V6(destination)) => {
                Some(Addresses::V6 {
                    client,
                    virtual_address,
                    destination,
                })
            }
            (_, _, _) => None,
        }
    }
}

impl Entry {
    /// The real server.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        let ip = match self.addresses {
            Addresses::V4 { destination, .. } => IpAddr::V4(destination),
            Addresses::V6 { destination, .. } => IpAddr::V6(destination),
        };
        SocketAddr::new(ip, self.destination_port)
    }

    fn length(&self) -> usize {
        match self.addresses {
            Addresses::V4 { .. } => ENTRY_V4,
            Addresses::V6 { .. } => ENTRY_V6,
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        let (kind, size) = match self.addresses {
            Addresses::V4 { .. } => (0, 36_u16),
            Addresses::V6 { .. } => (INET6, 72),
        };
        to.extend([kind, self.protocol]);
        to.extend(size.to_be_bytes());
        to.extend(self.flags.to_be_bytes());
        for number in [
            self.state,
            self.client_port,
            self.virtual_port,
            self.destination_port,
        ] {
            to.extend(number.to_be_bytes());
        }
        to.extend(self.mark.to_be_bytes());
        to.extend(self.timeout.to_be_bytes());
        match self.addresses {
            Addresses::V4 {
                client,
                virtual_address,
                destination,
            } => {
                for address in [client, virtual_address, destination] {
                    to.extend(address.octets());
                }
            }
            Addresses::V6 {
                client,
                virtual_address,
                destination,
            } => {
                for address in [client, virtual_address, destination] {
                    to.extend(address.octets());
                }
            }
        }
    }

    /// Reads an entry from its first byte on; returns it and how long it is with its options.
    fn read(bytes: &[u8]) -> Result<(Entry, usize), Malformed> {
        let mut at = Reader(bytes);
        let [kind, protocol] = at.take()?;
        let size = u16::from_be_bytes(at.take()?);
        if size & !SIZE_MASK != 0 {
            return Err(Malformed::Version);
        }
        let flags = u32::from_be_bytes(at.take()?);
        let state = u16::from_be_bytes(at.take()?);
        let client_port = u16::from_be_bytes(at.take()?);
        let virtual_port = u16::from_be_bytes(at.take()?);
        let destination_port = u16::from_be_bytes(at.take()?);
        let mark = u32::from_be_bytes(at.take()?);
        let timeout = u32::from_be_bytes(at.take()?);
        let addresses = if kind & INET6 == 0 {
            Addresses::V4 {
                client: at.take::<4>()?.into(),
                virtual_address: at.take::<4>()?.into(),
                destination: at.take::<4>()?.into(),
            }
        } else {
            Addresses::V6 {
                client: at.take::<16>()?.into(),
                virtual_address: at.take::<16>()?.into(),
                destination: at.take::<16>()?.into(),
            }
        };
        let entry = Entry {
            protocol,
            flags,
            state,
            addresses,
            client_port,
            virtual_port,
            destination_port,
            mark,
            timeout,
        };
        let size = usize::from(size);
        if size < entry.length() || size > bytes.len() {
            return Err(Malformed::Short);
        }
        Ok((entry, size))
    }
}

impl Message {
    /// Reads a datagram.
    ///
    /// # Errors
    ///
    /// Where it is wrong; nothing of it counts then.
    pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
        let mut at = Reader(bytes);
        let [reserved, id] = at.take()?;
        let size = u16::from_be_bytes(at.take()?);
        let [count, version] = at.take()?;
        let spare = u16::from_be_bytes(at.take()?);
        if reserved != 0 || version != VERSION || spare != 0 {
            return Err(Malformed::Version);
        }
        if usize::from(size) != bytes.len() {
            return Err(Malformed::Length);
        }
        let mut entries = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (entry, length) = Entry::read(at.0)?;
            entries.push(entry);
            // The last one needs no padding.
            let padded = length.next_multiple_of(4).min(at.0.len());
            at.0 = at.0.get(padded..).unwrap_or_default();
        }
        Ok(Message { id, entries })
    }
}

/// Puts entries together to datagrams of a length.
#[derive(Debug)]
pub struct Packer {
    id: u8,
    max_length: usize,
    bytes: Vec<u8>,
    count: u8,
}

impl Packer {
    /// Datagrams of at most `max_length` bytes; an entry that alone is longer goes alone.
    #[must_use]
    pub fn new(id: u8, max_length: usize) -> Packer {
        Packer {
            id,
            max_length: max_length.min(usize::from(u16::MAX)),
            bytes: vec![0; HEADER],
            count: 0,
        }
    }

    /// Adds an entry. Returns a datagram if there was no more room in it.
    pub fn push(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let full = self.bytes.len() + entry.length() > self.max_length
            || usize::from(self.count) == COUNT_MAX;
        let datagram = if full { self.finish() } else { None };
        entry.write(&mut self.bytes);
        self.count = self.count.saturating_add(1);
        datagram
    }

    /// The last datagram, unless there is nothing in it; begins anew.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let mut datagram = std::mem::replace(&mut self.bytes, vec![0; HEADER]);
        let count = std::mem::take(&mut self.count);
        let [high, low] = u16::try_from(datagram.len()).ok()?.to_be_bytes();
        let header = [0, self.id, high, low, count, VERSION, 0, 0];
        for (to, from) in datagram.iter_mut().zip(header) {
            *to = from;
        }
        Some(datagram)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*first)
    }
}
