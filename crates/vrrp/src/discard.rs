//! Why an advert was not heard: one variant for each rule that it can break.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use thiserror::Error;

use crate::authentication::Mismatch;

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
    /// It came through a router, so it is no neighbour's (RFC 5798 §5.1.1.3, §5.1.2.3), or through
    /// more or fewer than are configured for the peer.
    #[error("time to live {ttl}, wanted {}", range(*min, *max))]
    Ttl {
        /// IPv4 time to live or IPv6 hop limit.
        ttl: u8,
        /// The least that is wanted.
        min: u8,
        /// The greatest that is wanted.
        max: u8,
    },
    /// Sent to something else than the VRRP group (RFC 5798 §5.1.1.2, §5.1.2.2), or to the group
    /// where adverts go from host to host.
    #[error("destination {destination}, wanted {wanted}")]
    Destination {
        /// Where it was sent to.
        destination: IpAddr,
        /// The group of the family, or the own address.
        wanted: IpAddr,
    },
    /// Sent from host to host by a host that is not one of the peers.
    #[error("source {source_address} is not one of the peers")]
    Peer {
        /// The source of the packet.
        source_address: IpAddr,
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
    /// Authenticated in another way than is configured here, or with another password (RFC 2338
    /// §5.3.6; RFC 3768 §5.3.6 took the types out).
    #[error("authentication {0}")]
    Authentication(Mismatch),
    /// No trailer with a digest.
    #[error("no HMAC trailer, wanted one")]
    HmacMissing,
    /// Signed with a key that is not configured here.
    #[error("HMAC key {heard}, which is not configured here")]
    HmacKey {
        /// The number of the key in the packet.
        heard: u8,
    },
    /// Signed too long ago, or in the future: a clock is wrong, or the packet is an old one.
    #[error("HMAC time stamp {apart:?} from our clock, wanted at most {window:?}")]
    HmacWindow {
        /// How far the time stamp is from the own clock, either way.
        apart: Duration,
        /// The window.
        window: Duration,
    },
    /// Signed with another key of the same number, or changed on the way.
    #[error("wrong HMAC digest for key {key}")]
    Hmac {
        /// The number of the key.
        key: u8,
    },
    /// The same advert as before, or an older one of the same source.
    #[error("HMAC time stamp not after that of the last advert from {source_address}")]
    HmacReplay {
        /// The source of the packet.
        source_address: IpAddr,
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
        "peer",
        "version",
        "type",
        "checksum",
        "vrid",
        "interval",
        "authentication",
        "hmac_missing",
        "hmac_key",
        "hmac_window",
        "hmac",
        "hmac_replay",
        "address_count",
        "link_local",
        "own",
        "source",
    ];

    /// The name of the rule, for counters and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Discard::Truncated { .. } => "truncated",
            Discard::IpHeader { .. } => "ip_header",
            Discard::Ttl { .. } => "ttl",
            Discard::Destination { .. } => "destination",
            Discard::Peer { .. } => "peer",
            Discard::Version { .. } => "version",
            Discard::Type { .. } => "type",
            Discard::Checksum { .. } => "checksum",
            Discard::Vrid { .. } => "vrid",
            Discard::Interval { .. } => "interval",
            Discard::Authentication(_) => "authentication",
            Discard::HmacMissing => "hmac_missing",
            Discard::HmacKey { .. } => "hmac_key",
            Discard::HmacWindow { .. } => "hmac_window",
            Discard::Hmac { .. } => "hmac",
            Discard::HmacReplay { .. } => "hmac_replay",
            Discard::AddressCount { .. } => "address_count",
            Discard::LinkLocal { .. } => "link_local",
            Discard::Own { .. } => "own",
            Discard::Source { .. } => "source",
        }
    }

    /// Whether it says that a peer lives which is configured differently: it would be followed, or
    /// defeated, if the two agreed. A damaged packet does not say so, nor one that is another
    /// network's or came twice.
    #[must_use]
    pub fn is_incompatibility(&self) -> bool {
        match self {
            Discard::Peer { .. }
            | Discard::Version { .. }
            | Discard::Interval { .. }
            | Discard::Authentication(_)
            | Discard::HmacMissing
            | Discard::HmacKey { .. }
            | Discard::HmacWindow { .. }
            | Discard::Hmac { .. }
            | Discard::LinkLocal { .. } => true,
            Discard::Truncated { .. }
            | Discard::IpHeader { .. }
            | Discard::Ttl { .. }
            | Discard::Destination { .. }
            | Discard::Type { .. }
            | Discard::Checksum { .. }
            | Discard::Vrid { .. }
            | Discard::AddressCount { .. }
            | Discard::Own { .. }
            | Discard::Source { .. }
            | Discard::HmacReplay { .. } => false,
        }
    }
}

fn range(min: u8, max: u8) -> String {
    if min == max {
        min.to_string()
    } else {
        format!("{min} to {max}")
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
            (
                Discard::Ttl {
                    ttl: 64,
                    min: 255,
                    max: 255,
                },
                "time to live 64, wanted 255",
            ),
            (
                Discard::Destination {
                    destination: v4,
                    wanted: crate::GROUP_V4.into(),
                },
                "destination 192.0.2.1, wanted 224.0.0.18",
            ),
            (
                Discard::Peer { source_address: v4 },
                "source 192.0.2.1 is not one of the peers",
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
                Discard::Authentication(Mismatch::Type {
                    heard: 1,
                    wanted: 0,
                }),
                "authentication type 1, wanted 0",
            ),
            (Discard::HmacMissing, "no HMAC trailer, wanted one"),
            (
                Discard::HmacKey { heard: 7 },
                "HMAC key 7, which is not configured here",
            ),
            (
                Discard::HmacWindow {
                    apart: Duration::from_secs(60),
                    window: Duration::from_secs(5),
                },
                "HMAC time stamp 60s from our clock, wanted at most 5s",
            ),
            (Discard::Hmac { key: 7 }, "wrong HMAC digest for key 7"),
            (
                Discard::HmacReplay { source_address: v4 },
                "HMAC time stamp not after that of the last advert from 192.0.2.1",
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

    #[test]
    fn a_range_of_times_to_live_is_told_as_one() {
        let discard = Discard::Ttl {
            ttl: 64,
            min: 250,
            max: 254,
        };
        assert_eq!(discard.to_string(), "time to live 64, wanted 250 to 254");
    }

    fn check(all: &[(Discard, &str)]) {
        let names: Vec<_> = all.iter().map(|(discard, _)| discard.name()).collect();
        assert_eq!(names, Discard::NAMES);
        for (discard, message) in all {
            assert_eq!(discard.to_string(), *message);
        }
    }
}
