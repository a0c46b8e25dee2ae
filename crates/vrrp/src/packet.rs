//! The VRRP message, versions 2 and 3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::checksum::checksum;
use crate::datagram::Datagram;
use crate::discard::Discard;
use crate::parameters::{ChecksumForm, Family, Version};

/// The group that IPv4 adverts are sent to (RFC 5798 §5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The group that IPv6 adverts are sent to (RFC 5798 §5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The IP protocol number of VRRP (RFC 5798 §5.1.1.4).
pub const PROTOCOL: u8 = 112;

/// Version and type, VRID, priority, count, authentication type or reserved, interval, checksum.
const HEADER: usize = 8;
/// The authentication data that ends every version 2 advert (RFC 3768 §5.3.10).
const AUTHENTICATION: usize = 8;
/// The only type of message (RFC 5798 §5.2.2).
const TYPE: u8 = 1;

/// What a master says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Protocol version; over IPv6 only [`Version::V3`].
    pub version: Version,
    /// Family of the packet and of every address.
    pub family: Family,
    /// Virtual router identifier, 1 to 255.
    pub vrid: u8,
    /// 1 to 255, or [`PRIORITY_STOP`](crate::PRIORITY_STOP).
    pub priority: u8,
    /// The sender's advert interval: v2 whole seconds 1 to 255; v3 10 ms to 40.95 s in steps of
    /// 10 ms.
    pub interval: Duration,
    /// The addresses, at most 255, in the order sent; over IPv6 the first is link-local.
    pub addresses: Arc<[IpAddr]>,
}

impl Advertisement {
    /// The message as bytes. `source` and `destination` are those of the IP packet, which some sums
    /// cover; `form` chooses the sum of version 3 over IPv4 and is of no effect elsewhere.
    ///
    /// An interval that the version cannot carry is rounded by [`Version::nearest_interval`];
    /// addresses of the other family and those after the 255th are left out.
    #[must_use]
    pub fn emit(&self, source: IpAddr, destination: IpAddr, form: ChecksumForm) -> Vec<u8> {
        let listed = self
            .addresses
            .iter()
            .filter(|a| Family::of(**a) == self.family)
            .take(255);
        let mut addresses = Vec::new();
        let mut count: u8 = 0;
        for address in listed {
            count = count.saturating_add(1);
            match address {
                IpAddr::V4(address) => addresses.extend(address.octets()),
                IpAddr::V6(address) => addresses.extend(address.octets()),
            }
        }
        if self.version == Version::V2 {
            addresses.extend([0; AUTHENTICATION]);
        }
        // v2: authentication type 0 and 8 bits of seconds; v3: 4 reserved bits and 12 bits of
        // centiseconds. Either is one word whose upper part is zero.
        let interval = self.version.interval_field(self.interval);
        let message = |sum: u16| {
            let mut bytes = Vec::with_capacity(HEADER + addresses.len());
            bytes.extend([
                self.version.number() << 4 | TYPE,
                self.vrid,
                self.priority,
                count,
            ]);
            bytes.extend(interval.to_be_bytes());
            bytes.extend(sum.to_be_bytes());
            bytes.extend(&addresses);
            bytes
        };
        let pseudo_header = covers_pseudo_header(self.version, self.family, form);
        let sum = checksum(&message(0), pseudo_header.then_some((source, destination)));
        message(sum)
    }

    /// The message as bytes, with the authentication that is configured.
    #[must_use]
    pub fn render(
        &self,
        parameters: &crate::Parameters,
        source: IpAddr,
        destination: IpAddr,
        _wall: Duration,
        _counter: u16,
    ) -> Vec<u8> {
        self.emit(source, destination, parameters.checksum)
    }

    /// Reads a received message, and for version 3 over IPv4 tells which form of sum it has.
    ///
    /// Checked is all that does not depend on configuration (RFC 3768 §7.1, RFC 5798 §7.1); see
    /// [`Routers::receive`](crate::Routers::receive) for the rest. Reserved bits and the
    /// authentication data of version 2 are ignored.
    ///
    /// # Errors
    ///
    /// The first rule that the message breaks.
    pub fn parse(
        datagram: &Datagram<'_>,
    ) -> Result<(Advertisement, Option<ChecksumForm>), Discard> {
        let family = Family::of(datagram.source);
        let group = match family {
            Family::V4 => IpAddr::from(GROUP_V4),
            Family::V6 => IpAddr::from(GROUP_V6),
        };
        if datagram.destination != group {
            let destination = datagram.destination;
            return Err(Discard::Destination {
                destination,
                wanted: group,
            });
        }
        if datagram.source.is_unspecified() || datagram.source.is_multicast() {
            let source_address = datagram.source;
            return Err(Discard::Source { source_address });
        }
        if datagram.ttl != 255 {
            return Err(Discard::Ttl { ttl: datagram.ttl });
        }
        let payload = datagram.payload;
        let Some((header, body)) = payload.split_first_chunk::<HEADER>() else {
            return Err(Discard::Truncated {
                have: payload.len(),
                wanted: HEADER,
            });
        };
        let [first, vrid, priority, count, high, low, _, _] = *header;
        let version = read_version(first >> 4, family)?;
        if first & 0x0f != TYPE {
            return Err(Discard::Type {
                heard: first & 0x0f,
            });
        }
        let list = check_length(version, family, count, payload.len())?;
        let form = check_checksum(datagram, header, version, family)?;
        let field = match version {
            Version::V2 if high != 0 => return Err(Discard::Authentication { heard: high }),
            Version::V2 => u16::from(low),
            // The upper four bits are reserved: sent as zero and ignored (RFC 5798 §5.2.6).
            Version::V3 => u16::from_be_bytes([high & 0x0f, low]),
        };
        if field == 0 {
            let wanted = version.interval_unit();
            return Err(Discard::Interval {
                heard: Duration::ZERO,
                wanted,
            });
        }
        if vrid == 0 {
            return Err(Discard::Vrid { vrid });
        }
        let addresses = read_addresses(family, body.get(..list).unwrap_or_default());
        if let Some(IpAddr::V6(first)) = addresses.first()
            && !first.is_unicast_link_local()
        {
            return Err(Discard::LinkLocal { first: *first });
        }
        let interval = version.interval_unit() * u32::from(field);
        Ok((
            Advertisement {
                version,
                family,
                vrid,
                priority,
                interval,
                addresses,
            },
            form,
        ))
    }
}

fn read_version(heard: u8, family: Family) -> Result<Version, Discard> {
    match (heard, family) {
        (2, Family::V4) => Ok(Version::V2),
        (3, Family::V4 | Family::V6) => Ok(Version::V3),
        (_, Family::V4 | Family::V6) => Err(Discard::Version { heard, wanted: 3 }),
    }
}

/// The length of the address list, if the message has exactly that list.
fn check_length(
    version: Version,
    family: Family,
    count: u8,
    have: usize,
) -> Result<usize, Discard> {
    let list = usize::from(count)
        * match family {
            Family::V4 => 4,
            Family::V6 => 16,
        };
    let trailer = match version {
        Version::V2 => AUTHENTICATION,
        Version::V3 => 0,
    };
    let wanted = HEADER + list + trailer;
    if have < wanted {
        return Err(Discard::Truncated { have, wanted });
    }
    if count == 0 || have > wanted {
        return Err(Discard::AddressCount {
            count,
            have,
            wanted,
        });
    }
    Ok(list)
}

fn check_checksum(
    datagram: &Datagram<'_>,
    header: &[u8; HEADER],
    version: Version,
    family: Family,
) -> Result<Option<ChecksumForm>, Discard> {
    let [.., high, low] = *header;
    let heard = u16::from_be_bytes([high, low]);
    let pseudo_header = Some((datagram.source, datagram.destination));
    // The sum over a message with a right checksum in it is zero.
    let right = |pseudo_header| checksum(datagram.payload, pseudo_header) == 0;
    let choice = version == Version::V3 && family == Family::V4;
    for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly] {
        let covered = covers_pseudo_header(version, family, form);
        if right(pseudo_header.filter(|_| covered)) {
            return Ok(choice.then_some(form));
        }
    }
    let covered = covers_pseudo_header(version, family, ChecksumForm::PseudoHeader);
    let mut message = datagram.payload.to_vec();
    message.splice(HEADER - 2..HEADER, [0, 0]);
    Err(Discard::Checksum {
        heard,
        wanted: checksum(&message, pseudo_header.filter(|_| covered)),
    })
}

/// Whether the sum covers the pseudo-header: not in version 2 (RFC 3768 §5.3.8), always over IPv6,
/// and over IPv4 in the form of RFC 5798 §5.2.8, but not in that of RFC 9568 §5.2.8.
fn covers_pseudo_header(version: Version, family: Family, form: ChecksumForm) -> bool {
    match (version, family) {
        (Version::V2, Family::V4 | Family::V6) => false,
        (Version::V3, Family::V6) => true,
        (Version::V3, Family::V4) => match form {
            ChecksumForm::PseudoHeader => true,
            ChecksumForm::MessageOnly => false,
        },
    }
}

fn read_addresses(family: Family, list: &[u8]) -> Arc<[IpAddr]> {
    match family {
        Family::V4 => list
            .as_chunks::<4>()
            .0
            .iter()
            .map(|octets| IpAddr::from(*octets))
            .collect(),
        Family::V6 => list
            .as_chunks::<16>()
            .0
            .iter()
            .map(|octets| IpAddr::from(*octets))
            .collect(),
    }
}
