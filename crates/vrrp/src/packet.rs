//! The VRRP message, versions 2 and 3, and what may stand after it.
//!
//! Over IPv4 the checksum covers the message alone; a trailer (see `trailer.rs`) stands after it in
//! the IP packet. Over IPv6 it covers both, as RFC 8200 §8.1 has it for whatever an IPv6 packet
//! carries, and as the kernel sums up and verifies for a socket with `IPV6_CHECKSUM`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::authentication::{Authentication, Mismatch};
use crate::checksum::checksum;
use crate::datagram::Datagram;
use crate::discard::Discard;
use crate::parameters::{ChecksumForm, Family, Parameters, Version};
use crate::trailer::{self, Stamp, TRAILER};

/// The group that IPv4 adverts are sent to (RFC 5798 §5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The group that IPv6 adverts are sent to (RFC 5798 §5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The IP protocol number of VRRP (RFC 5798 §5.1.1.4).
pub const PROTOCOL: u8 = 112;

/// Version and type, VRID, priority, count, authentication type or reserved, interval, checksum.
const HEADER: usize = 8;
/// The authentication data that ends every version 2 message: a password, or zeros that mean nothing
/// (RFC 2338 §5.3.10, RFC 3768 §5.3.10).
const PASSWORD: usize = 8;
/// Where the checksum stands in it.
const CHECKSUM: usize = 6;
/// The only type of message (RFC 5798 §5.2.2).
const TYPE: u8 = 1;
/// The authentication type of a password (RFC 2338 §5.3.6).
pub(crate) const TYPE_PASSWORD: u8 = 1;

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
    /// The message as bytes, with what the virtual router of these parameters proves itself by.
    ///
    /// `source` and `destination` are those of the IP packet, which some sums and digests cover, so
    /// each destination has its own message. `wall` is the time since 1970 and `counter` a number
    /// that grows from advert to advert and may wrap: only [`Authentication::Hmac`] looks at them,
    /// and of two adverts from one source the later one is to have the greater pair. Copies of one
    /// advert for several destinations may share a pair.
    ///
    /// An interval that the version cannot carry is rounded by [`Version::nearest_interval`];
    /// addresses of the other family and those after the 255th are left out. Version 3 has no place
    /// for a password, and a key that is not there signs nothing.
    #[must_use]
    pub fn render(
        &self,
        parameters: &Parameters,
        source: IpAddr,
        destination: IpAddr,
        wall: Duration,
        counter: u16,
    ) -> Vec<u8> {
        let mut bytes = self.message(&parameters.authentication);
        let end = bytes.len();
        if let Authentication::Hmac(hmac) = &parameters.authentication {
            let stamp = Stamp::new(wall, counter);
            let trailer = trailer::sign(hmac, self.version, &bytes, source, stamp);
            bytes.extend(trailer.iter().flatten());
        }
        let covered = covers_pseudo_header(self.version, self.family, parameters.checksum);
        let pseudo_header = covered.then_some((source, destination));
        let sum = checksum(summed(self.family, &bytes, end), pseudo_header);
        bytes.splice(CHECKSUM..CHECKSUM + 2, sum.to_be_bytes());
        bytes
    }

    /// The message without its sum.
    fn message(&self, authentication: &Authentication) -> Vec<u8> {
        let (authentication, data) = match (self.version, authentication) {
            (Version::V2, Authentication::Password(password)) => {
                (TYPE_PASSWORD, Some(password.bytes()))
            }
            (Version::V2, Authentication::None | Authentication::Hmac(_)) => {
                (0, Some(&[0; PASSWORD]))
            }
            (
                Version::V3,
                Authentication::None | Authentication::Password(_) | Authentication::Hmac(_),
            ) => (0, None),
        };
        // v2: the authentication type and 8 bits of seconds; v3: 4 reserved bits and 12 bits of
        // centiseconds.
        let interval = self.version.interval_field(self.interval);
        let interval = interval | u16::from(authentication) << 8;
        let listed = || {
            self.addresses
                .iter()
                .filter(|a| Family::of(**a) == self.family)
                .take(255)
        };
        let mut bytes = vec![
            self.version.number() << 4 | TYPE,
            self.vrid,
            self.priority,
            u8::try_from(listed().count()).unwrap_or(u8::MAX),
        ];
        bytes.extend(interval.to_be_bytes());
        bytes.extend([0; 2]);
        for address in listed() {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes.extend(data.into_iter().flatten());
        bytes
    }

    /// Reads a received message that is not authenticated, and for version 3 over IPv4 tells which
    /// form of sum it has.
    ///
    /// Checked is all that does not depend on configuration (RFC 3768 §7.1, RFC 5798 §7.1); see
    /// [`Routers::receive`](crate::Routers::receive) for the rest: the way it came, the version, the
    /// authentication, the interval of version 2. Reserved bits are ignored, and so are the 8 bytes
    /// that end a message of version 2.
    ///
    /// # Errors
    ///
    /// The first rule that the message breaks.
    pub fn parse(
        datagram: &Datagram<'_>,
    ) -> Result<(Advertisement, Option<ChecksumForm>), Discard> {
        let message = Message::read(datagram, None)?;
        message.check_unauthenticated()?;
        message.finish(datagram)
    }
}

/// A received message that is as long as it says it is. What it says is not yet checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) version: Version,
    family: Family,
    header: &'a [u8; HEADER],
    list: &'a [u8],
    /// All but the trailer.
    pub(crate) bytes: &'a [u8],
    pub(crate) trailer: Option<&'a [u8; TRAILER]>,
}

impl<'a> Message<'a> {
    /// Finds the parts of a message, of a given version or of any.
    ///
    /// The version comes before the length: a message of another version has other lengths. What is
    /// exactly as much longer as a trailer, and begins as one, has a trailer.
    pub(crate) fn read(
        datagram: &Datagram<'a>,
        wanted: Option<Version>,
    ) -> Result<Message<'a>, Discard> {
        let source_address = datagram.source;
        if source_address.is_unspecified() || source_address.is_multicast() {
            return Err(Discard::Source { source_address });
        }
        let (payload, have) = (datagram.payload, datagram.payload.len());
        let Some((header, body)) = payload.split_first_chunk::<HEADER>() else {
            let wanted = HEADER;
            return Err(Discard::Truncated { have, wanted });
        };
        let [first, _, _, count, ..] = *header;
        let family = Family::of(source_address);
        let version = read_version(first >> 4, family, wanted)?;
        let list = usize::from(count)
            * match family {
                Family::V4 => 4,
                Family::V6 => 16,
            };
        let wanted = HEADER
            + list
            + match version {
                Version::V2 => PASSWORD,
                Version::V3 => 0,
            };
        let Some((bytes, rest)) = payload.split_at_checked(wanted) else {
            return Err(Discard::Truncated { have, wanted });
        };
        let trailer = <&[u8; TRAILER]>::try_from(rest)
            .ok()
            .filter(|trailer| trailer.first() == Some(&trailer::TYPE));
        if count == 0 || (trailer.is_none() && !rest.is_empty()) {
            return Err(Discard::AddressCount {
                count,
                have,
                wanted,
            });
        }
        Ok(Message {
            version,
            family,
            header,
            list: body.get(..list).unwrap_or_default(),
            bytes,
            trailer,
        })
    }

    /// Zero where the message says zero, which no advert may.
    pub(crate) fn interval(&self) -> Duration {
        let [_, _, _, _, high, low, _, _] = *self.header;
        let field = match self.version {
            Version::V2 => u16::from(low),
            // The upper four bits are reserved: sent as zero and ignored (RFC 5798 §5.2.6).
            Version::V3 => u16::from_be_bytes([high & 0x0f, low]),
        };
        self.version.interval_unit() * u32::from(field)
    }

    /// The password of version 2.
    pub(crate) fn password(&self) -> Option<&[u8; PASSWORD]> {
        match self.version {
            Version::V2 => self.bytes.last_chunk(),
            Version::V3 => None,
        }
    }

    /// Whether it has that type of authentication. Version 3 has none, which is 0.
    pub(crate) fn check_type(&self, wanted: u8) -> Result<(), Discard> {
        let [_, _, _, _, authentication, ..] = *self.header;
        let heard = match self.version {
            Version::V2 => authentication,
            Version::V3 => 0,
        };
        if heard == wanted {
            return Ok(());
        }
        Err(Discard::Authentication(Mismatch::Type { heard, wanted }))
    }

    pub(crate) fn check_no_trailer(&self) -> Result<(), Discard> {
        match self.trailer {
            None => Ok(()),
            Some(_) => Err(Discard::Authentication(Mismatch::Trailer)),
        }
    }

    pub(crate) fn check_unauthenticated(&self) -> Result<(), Discard> {
        self.check_type(0)?;
        self.check_no_trailer()
    }

    /// Checks what it says, and tells it.
    pub(crate) fn finish(
        &self,
        datagram: &Datagram<'_>,
    ) -> Result<(Advertisement, Option<ChecksumForm>), Discard> {
        let [first, vrid, priority, ..] = *self.header;
        let interval = self.interval();
        if interval.is_zero() {
            let (heard, wanted) = (interval, self.version.interval_unit());
            return Err(Discard::Interval { heard, wanted });
        }
        let heard = first & 0x0f;
        if heard != TYPE {
            return Err(Discard::Type { heard });
        }
        let form = self.check_sum(datagram)?;
        if vrid == 0 {
            return Err(Discard::Vrid { vrid });
        }
        let addresses = read_addresses(self.family, self.list);
        if let Some(IpAddr::V6(first)) = addresses.first()
            && !first.is_unicast_link_local()
        {
            return Err(Discard::LinkLocal { first: *first });
        }
        let advertisement = Advertisement {
            version: self.version,
            family: self.family,
            vrid,
            priority,
            interval,
            addresses,
        };
        Ok((advertisement, form))
    }

    fn check_sum(&self, datagram: &Datagram<'_>) -> Result<Option<ChecksumForm>, Discard> {
        let (version, family) = (self.version, self.family);
        let bytes = summed(family, datagram.payload, self.bytes.len());
        let pseudo_header = Some((datagram.source, datagram.destination));
        let choice = version == Version::V3 && family == Family::V4;
        for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly] {
            let covered = covers_pseudo_header(version, family, form);
            // The sum over a message with a right checksum in it is zero.
            if checksum(bytes, pseudo_header.filter(|_| covered)) == 0 {
                return Ok(choice.then_some(form));
            }
        }
        let [.., high, low] = *self.header;
        let covered = covers_pseudo_header(version, family, ChecksumForm::PseudoHeader);
        let mut bytes = bytes.to_vec();
        bytes.splice(CHECKSUM..CHECKSUM + 2, [0, 0]);
        Err(Discard::Checksum {
            heard: u16::from_be_bytes([high, low]),
            wanted: checksum(&bytes, pseudo_header.filter(|_| covered)),
        })
    }
}

/// The group that adverts of a family are sent to.
pub(crate) fn group(family: Family) -> IpAddr {
    match family {
        Family::V4 => GROUP_V4.into(),
        Family::V6 => GROUP_V6.into(),
    }
}

/// The bytes before and after the checksum.
pub(crate) fn around_checksum(message: &[u8]) -> (&[u8], &[u8]) {
    let before = message.get(..CHECKSUM).unwrap_or_default();
    (before, message.get(CHECKSUM + 2..).unwrap_or_default())
}

fn read_version(heard: u8, family: Family, wanted: Option<Version>) -> Result<Version, Discard> {
    let version = match (heard, family) {
        (2, Family::V4) => Some(Version::V2),
        (3, Family::V4 | Family::V6) => Some(Version::V3),
        (_, Family::V4 | Family::V6) => None,
    };
    let right = version.filter(|version| wanted.is_none_or(|wanted| wanted == *version));
    let wanted = wanted.unwrap_or(Version::V3).number();
    right.ok_or(Discard::Version { heard, wanted })
}

/// What the sum covers of a message of `end` bytes and the trailer after it.
fn summed(family: Family, payload: &[u8], end: usize) -> &[u8] {
    match family {
        Family::V4 => payload.get(..end).unwrap_or(payload),
        Family::V6 => payload,
    }
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
