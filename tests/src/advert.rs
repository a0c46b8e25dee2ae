//! Adverts as a stranger would forge them, byte by byte, for the tests of what is discarded.

use std::net::Ipv4Addr;

use anyhow::Result;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A version 2 advert and the ways in which it can be wrong.
#[derive(Debug, Clone)]
pub struct Forged {
    /// IPv4 time to live.
    pub ttl: u8,
    /// Version, in the upper half of the first byte.
    pub version: u8,
    /// Type, in the lower half of the first byte.
    pub kind: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// Authentication type.
    pub authentication: u8,
    /// Advert interval, seconds.
    pub interval: u8,
    /// How many addresses it claims.
    pub count: u8,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Added to the right checksum.
    pub checksum_error: u16,
    /// How many bytes of it are sent; `None`: all.
    pub length: Option<usize>,
    /// Where it is sent.
    pub destination: Ipv4Addr,
}

impl Default for Forged {
    /// An advert that is right, of a better router than any of the lab.
    fn default() -> Forged {
        Forged {
            ttl: 255,
            version: 2,
            kind: 1,
            vrid: 51,
            priority: 254,
            authentication: 0,
            interval: 1,
            count: 1,
            addresses: vec![Ipv4Addr::new(10, 77, 0, 10)],
            checksum_error: 0,
            length: None,
            destination: Ipv4Addr::new(224, 0, 0, 18),
        }
    }
}

impl Forged {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![
            self.version << 4 | self.kind,
            self.vrid,
            self.priority,
            self.count,
            self.authentication,
            self.interval,
            0,
            0,
        ];
        bytes.extend(self.addresses.iter().flat_map(Ipv4Addr::octets));
        bytes.extend([0; 8]);
        let sum = checksum(&bytes)
            .wrapping_add(self.checksum_error)
            .to_be_bytes();
        bytes.splice(6..8, sum);
        bytes.truncate(self.length.unwrap_or(usize::MAX));
        bytes
    }

    /// Sends it out of `eth0` of the namespace this process is in.
    ///
    /// # Errors
    ///
    /// Not root.
    pub fn send(&self) -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112)))?;
        socket.bind_device(Some(b"eth0"))?;
        socket.set_ttl_v4(u32::from(self.ttl))?;
        socket.set_multicast_ttl_v4(u32::from(self.ttl))?;
        let address = SockAddr::from(std::net::SocketAddrV4::new(self.destination, 0));
        socket.send_to(&self.bytes(), &address)?;
        Ok(())
    }

    /// The command line by which [`Forged::from_words`] makes it again in another process.
    #[must_use]
    pub fn to_words(&self) -> Vec<String> {
        let numbers = [
            self.ttl,
            self.version,
            self.kind,
            self.vrid,
            self.priority,
            self.authentication,
            self.interval,
            self.count,
        ];
        let mut words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        words.push(self.checksum_error.to_string());
        words.push(
            self.length
                .map_or("all".to_owned(), |length| length.to_string()),
        );
        words.push(self.destination.to_string());
        words.extend(self.addresses.iter().map(ToString::to_string));
        words
    }

    /// The counterpart of [`Forged::to_words`].
    ///
    /// # Errors
    ///
    /// The words are others.
    pub fn from_words(words: &[String]) -> Result<Forged> {
        let mut words = words.iter();
        let mut next = || words.next().map(String::as_str).unwrap_or_default();
        Ok(Forged {
            ttl: next().parse()?,
            version: next().parse()?,
            kind: next().parse()?,
            vrid: next().parse()?,
            priority: next().parse()?,
            authentication: next().parse()?,
            interval: next().parse()?,
            count: next().parse()?,
            checksum_error: next().parse()?,
            length: Some(next())
                .filter(|word| *word != "all")
                .map(str::parse)
                .transpose()?,
            destination: next().parse()?,
            addresses: words.map(|word| word.parse()).collect::<Result<_, _>>()?,
        })
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
