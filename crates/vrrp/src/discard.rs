//! Why an advert was not heard: one variant for each rule that it can break.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use thiserror::Error;

/// The rule that a received packet broke. The variant, the counter and the log key have one name:
/// [`Discard::name`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Discard {
    /// The bytes end before the packet does (RFC 5798 §7.1).
    #[error("truncated: {have} bytes, wanted {wanted}")]
    Truncated {
        /// Bytes that arrived.
        have: usize,
        /// Bytes that the part being read needs.
        wanted: usize,
    },
    /// The IPv4 header is none (RFC 791 §3.1), or of another protocol.
    #[error("IPv4 header: {field} {heard}, wanted {wanted}")]
    IpHeader {
        /// Which field.
        field: &'static str,
        /// What it says.
        heard: usize,
        /// What it must say, or the least it must.
        wanted: usize,
    },
    /// It came through a router, so it is no neighbour's (RFC 5798 §5.1.1.3, §5.1.2.3).
    #[error("time to live {ttl}, wanted 255")]
    Ttl {
        /// IPv4 time to live or IPv6 hop limit.
        ttl: u8,
    },
    /// Sent to something else than the VRRP group (RFC 5798 §5.1.1.2, §5.1.2.2).
    #[error("destination {destination}, wanted {wanted}")]
    Destination {
        /// Where it was sent to.
        destination: IpAddr,
        /// The group of the family.
        wanted: IpAddr,
    },
    /// Another version of the protocol than the virtual router speaks (RFC 5798 §7.1).
    #[error("version {heard}, wanted {wanted}")]
    Version {
        /// The version of the packet, 0 to 15.
        heard: u8,
        /// The version wanted; of an unknown one, the newest.
        wanted: u8,
    },
    /// Not an advertisement, the only type there is (RFC 5798 §5.2.2).
    #[error("type {heard}, wanted 1")]
    Type {
        /// The type of the packet, 0 to 15.
        heard: u8,
    },
    /// Damaged, or summed in a form that is none (RFC 5798 §5.2.8, RFC 9568 §5.2.8).
    #[error("checksum {heard:#06x}, wanted {wanted:#06x}")]
    Checksum {
        /// The sum in the packet.
        heard: u16,
        /// The sum of the packet; where two forms are right, the one with the pseudo-header.
        wanted: u16,
    },
    /// There is no virtual router of that number on the link (RFC 5798 §7.1).
    #[error("no virtual router {vrid} of this family here")]
    Vrid {
        /// The number in the packet.
        vrid: u8,
    },
    /// Version 2: not the interval configured here (RFC 3768 §7.1); either version: zero.
    #[error("advert interval {heard:?}, wanted {wanted:?}")]
    Interval {
        /// The interval of the packet.
        heard: Duration,
        /// The interval wanted; of zero, the least that there is.
        wanted: Duration,
    },
    /// Version 2 with authentication, which RFC 3768 §5.3.6 took out.
    #[error("authentication type {heard}, wanted 0")]
    Authentication {
        /// The type in the packet.
        heard: u8,
    },
    /// No address, or bytes left over after the last one (RFC 5798 §5.2.5).
    #[error("{count} addresses in {have} bytes, wanted {wanted} bytes and 1 address or more")]
    AddressCount {
        /// The number of addresses that the packet claims.
        count: u8,
        /// Bytes of the packet.
        have: usize,
        /// Bytes of a packet with that number of addresses.
        wanted: usize,
    },
    /// Version 3 over IPv6: the first address is not link-local (RFC 9568 §5.2.9).
    #[error("first address {first}, wanted a link-local one")]
    LinkLocal {
        /// The first address of the packet.
        first: Ipv6Addr,
    },
    /// Our own advert came back, or a neighbour uses our address.
    #[error("source {source_address} is our own address")]
    Own {
        /// The source of the packet.
        source_address: IpAddr,
    },
    /// Sent from no address: nobody could be followed or compared with.
    #[error("source {source_address} is no host's")]
    Source {
        /// The source of the packet.
        source_address: IpAddr,
    },
}

impl Discard {
    /// The names of all, in the order of the variants.
    pub const NAMES: &'static [&'static str] = &[
        "truncated",
        "ip_header",
        "ttl",
        "destination",
        "version",
        "type",
        "checksum",
        "vrid",
        "interval",
        "authentication",
        "address_count",
        "link_local",
        "own",
        "source",
    ];

    /// Whether it tells of a living peer that is configured differently.
    #[must_use]
    pub fn is_incompatibility(&self) -> bool {
        matches!(
            self.name(),
            "version" | "interval" | "authentication" | "link_local"
        )
    }

    /// The name of the rule, for counters and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Discard::Truncated { .. } => "truncated",
            Discard::IpHeader { .. } => "ip_header",
            Discard::Ttl { .. } => "ttl",
            Discard::Destination { .. } => "destination",
            Discard::Version { .. } => "version",
            Discard::Type { .. } => "type",
            Discard::Checksum { .. } => "checksum",
            Discard::Vrid { .. } => "vrid",
            Discard::Interval { .. } => "interval",
            Discard::Authentication { .. } => "authentication",
            Discard::AddressCount { .. } => "address_count",
            Discard::LinkLocal { .. } => "link_local",
            Discard::Own { .. } => "own",
            Discard::Source { .. } => "source",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_discard_is_listed_once_under_its_name_and_says_its_values() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        check(&[
            (
                Discard::Truncated { have: 7, wanted: 8 },
                "truncated: 7 bytes, wanted 8",
            ),
            (
                Discard::IpHeader {
                    field: "version",
                    heard: 6,
                    wanted: 4,
                },
                "IPv4 header: version 6, wanted 4",
            ),
            (Discard::Ttl { ttl: 64 }, "time to live 64, wanted 255"),
            (
                Discard::Destination {
                    destination: v4,
                    wanted: crate::GROUP_V4.into(),
                },
                "destination 192.0.2.1, wanted 224.0.0.18",
            ),
            (
                Discard::Version {
                    heard: 2,
                    wanted: 3,
                },
                "version 2, wanted 3",
            ),
            (Discard::Type { heard: 2 }, "type 2, wanted 1"),
            (
                Discard::Checksum {
                    heard: 0x1234,
                    wanted: 0x00ab,
                },
                "checksum 0x1234, wanted 0x00ab",
            ),
            (
                Discard::Vrid { vrid: 9 },
                "no virtual router 9 of this family here",
            ),
            (
                Discard::Interval {
                    heard: Duration::from_secs(2),
                    wanted: Duration::from_secs(1),
                },
                "advert interval 2s, wanted 1s",
            ),
            (
                Discard::Authentication { heard: 1 },
                "authentication type 1, wanted 0",
            ),
            (
                Discard::AddressCount {
                    count: 0,
                    have: 8,
                    wanted: 8,
                },
                "0 addresses in 8 bytes, wanted 8 bytes and 1 address or more",
            ),
            (
                Discard::LinkLocal {
                    first: Ipv6Addr::LOCALHOST,
                },
                "first address ::1, wanted a link-local one",
            ),
            (
                Discard::Own { source_address: v4 },
                "source 192.0.2.1 is our own address",
            ),
            (
                Discard::Source {
                    source_address: IpAddr::from([0, 0, 0, 0]),
                },
                "source 0.0.0.0 is no host's",
            ),
        ]);
    }

    fn check(all: &[(Discard, &str)]) {
        let names: Vec<_> = all.iter().map(|(discard, _)| discard.name()).collect();
        assert_eq!(names, Discard::NAMES);
        for (discard, message) in all {
            assert_eq!(discard.to_string(), *message);
        }
    }
}
