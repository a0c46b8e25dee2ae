//! Adverts as a stranger would forge them, byte by byte, for the tests of what is discarded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::{binary, run};

const VRRP: u8 = 112;

/// An advert and the ways in which it can be wrong.
#[derive(Debug, Clone)]
pub struct Forged {
    /// Where it claims to be from. Its family is that of the packet.
    pub source: IpAddr,
    /// Where it is sent.
    pub destination: IpAddr,
    /// The first byte of an IPv4 header: version and length.
    pub ip: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Version, in the upper half of the first byte.
    pub version: u8,
    /// Type, in the lower half of the first byte.
    pub kind: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// Version 2: authentication type and seconds; version 3: reserved bits and centiseconds.
    pub interval: u16,
    /// How many addresses it claims; `None`: as many as it has.
    pub count: Option<u8>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What follows them: in version 2 eight bytes of authentication data.
    pub data: Vec<u8>,
    /// Whether the checksum covers the pseudo-header.
    pub pseudo_header: bool,
    /// Added to the right checksum.
    pub checksum_error: u16,
    /// How many bytes of the message are sent; `None`: all.
    pub length: Option<usize>,
}

impl Forged {
    /// An advert of version 2 that is right, of a better router than any of the lab, once a second.
    #[must_use]
    pub fn v2() -> Forged {
        Forged {
            source: Ipv4Addr::new(10, 77, 0, 66).into(),
            destination: Ipv4Addr::new(224, 0, 0, 18).into(),
            ip: 0x45,
            ttl: 255,
            version: 2,
            kind: 1,
            vrid: 51,
            priority: 254,
            interval: 1,
            count: None,
            addresses: vec![Ipv4Addr::new(10, 77, 0, 10).into()],
            data: vec![0; 8],
            pseudo_header: false,
            checksum_error: 0,
            length: None,
        }
    }

    /// The same of version 3, ten times a second.
    #[must_use]
    pub fn v3() -> Forged {
        Forged {
            version: 3,
            interval: 10,
            data: Vec::new(),
            pseudo_header: true,
            ..Forged::v2()
        }
    }

    /// The same over IPv6, from `source`, with the addresses of the lab's IPv6 router.
    #[must_use]
    pub fn v6(source: IpAddr, addresses: &[IpAddr]) -> Forged {
        Forged {
            source,
            destination: "ff02::12".parse().unwrap_or(source),
            addresses: addresses.to_vec(),
            ..Forged::v3()
        }
    }

    /// The whole IP packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let message = self.message();
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let addresses = [octets(self.source), octets(self.destination)].concat();
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let mut packet = match self.source {
            // The kernel fills in the total length and the checksum.
            IpAddr::V4(_) => vec![self.ip, 0xc0, 0, 0, 0, 7, 0, 0, self.ttl, VRRP, 0, 0],
            IpAddr::V6(_) => {
                let [high, low] = length.to_be_bytes();
                vec![0x6c, 0, 0, 0, high, low, VRRP, self.ttl]
            }
        };
        packet.extend(&addresses);
        packet.extend(message);
        packet
    }

    /// The VRRP message.
    fn message(&self) -> Vec<u8> {
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        let mut bytes = vec![
            self.version << 4 | self.kind,
            self.vrid,
            self.priority,
            self.count.unwrap_or(count),
        ];
        bytes.extend(self.interval.to_be_bytes());
        bytes.extend([0, 0]);
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes.extend(&self.data);
        bytes.truncate(self.length.unwrap_or(usize::MAX));
        let mut summed = bytes.clone();
        if self.pseudo_header {
            for address in [self.source, self.destination] {
                match address {
                    IpAddr::V4(address) => summed.extend(address.octets()),
                    IpAddr::V6(address) => summed.extend(address.octets()),
                }
            }
            let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            summed.extend([0, VRRP]);
            summed.extend(length.to_be_bytes());
        }
        let sum = checksum(&summed).wrapping_add(self.checksum_error);
        if bytes.len() >= 8 {
            bytes.splice(6..8, sum.to_be_bytes());
        }
        bytes
    }

    /// Sends it from a host, out of `eth0`.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn send_from(&self, host: &Host) -> Result<()> {
        send_packet(host, &self.packet(), 1, Duration::ZERO)
    }
}

/// Sends a whole IP packet from a host, out of `eth0`, again and again.
///
/// # Errors
///
/// The kernel refused.
pub fn send_packet(host: &Host, packet: &[u8], count: u32, every: Duration) -> Result<()> {
    let mut lab = host.command(binary("lab")?);
    let millis = every.as_millis().to_string();
    let arguments = ["--count", &count.to_string(), "--every", &millis];
    run(lab.arg("packet").args(arguments).arg(to_hex(packet))).map(|_| ())
}

/// Sends a packet out of `eth0` of the namespace that this process is in.
///
/// # Errors
///
/// Not root, or the kernel refused.
pub fn send_here(hex: &str, count: u32, every: Duration) -> Result<()> {
    let mut left = count;
    repeat_here(hex, || {
        std::thread::sleep(every);
        left = left.saturating_sub(1);
        left > 0
    })
}

/// Sends it again as long as it is wanted.
pub(crate) fn repeat_here(hex: &str, mut again: impl FnMut() -> bool) -> Result<()> {
    let packet = from_hex(hex)?;
    let (domain, to) = match packet.first().map(|first| first >> 4) {
        Some(6) => {
            let destination: [u8; 16] = packet
                .get(24..40)
                .context("no IPv6 header")?
                .try_into()
                .context("16 bytes")?;
            let index = std::fs::read_to_string("/sys/class/net/eth0/ifindex")?;
            let to = SocketAddrV6::new(destination.into(), 0, 0, index.trim().parse()?);
            (Domain::IPV6, SocketAddr::from(to))
        }
        Some(_) => {
            let destination: [u8; 4] = packet
                .get(16..20)
                .context("no IPv4 header")?
                .try_into()
                .context("4 bytes")?;
            (Domain::IPV4, SocketAddr::new(IpAddr::from(destination), 0))
        }
        None => bail!("an empty packet"),
    };
    // As every program that makes its own IP headers does.
    let raw = 255;
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(raw)))?;
    match domain {
        Domain::IPV6 => socket.set_header_included_v6(true)?,
        _ => socket.set_header_included_v4(true)?,
    }
    socket.bind_device(Some(b"eth0"))?;
    loop {
        let sent = socket.send_to(&packet, &to.into())?;
        ensure!(sent == packet.len(), "only {sent} bytes left");
        if !again() {
            return Ok(());
        }
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hexadecimal digits stand for.
///
/// # Errors
///
/// They are others, or not even in number.
pub fn from_hex(digits: &str) -> Result<Vec<u8>> {
    let starts = (0..digits.len()).step_by(2);
    let pairs = starts.map(|start| digits.get(start..start + 2).context("half a byte"));
    pairs
        .map(|pair| Ok(u8::from_str_radix(pair?, 16)?))
        .collect()
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
