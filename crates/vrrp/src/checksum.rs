//! The Internet checksum (RFC 1071) as VRRP uses it.

use std::net::IpAddr;

use crate::packet::PROTOCOL;

/// The sum over a message whose checksum field is zero, and over the pseudo-header too if its
/// source and destination are given.
pub(crate) fn checksum(message: &[u8], pseudo_header: Option<(IpAddr, IpAddr)>) -> u16 {
    let mut sum = add_bytes(0, message);
    if let Some((source, destination)) = pseudo_header {
        sum = add_address(add_address(sum, source), destination);
        // Zero byte, protocol, length (RFC 768); for IPv6 the same words, wider (RFC 8200 §8.1).
        sum += u64::from(PROTOCOL) + u64::try_from(message.len()).unwrap_or(u64::MAX >> 32);
    }
    fold(sum)
}

fn add_address(sum: u64, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => add_bytes(sum, &address.octets()),
        IpAddr::V6(address) => add_bytes(sum, &address.octets()),
    }
}

fn add_bytes(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)))
        .sum::<u64>();
    let last = rest
        .first()
        .map_or(0, |byte| u64::from(u16::from_be_bytes([*byte, 0])));
    sum + words + last
}

fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while let Err(_wide) = u16::try_from(sum) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_gives_its_sum() {
        // RFC 1071 §3: the words add up to ddf2; the checksum is its complement.
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], None),
            !0xddf2
        );
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_one() {
        assert_eq!(checksum(&[0x12], None), !0x1200);
    }

    #[test]
    fn carries_are_folded_until_none_is_left() {
        assert_eq!(
            checksum(&[0xff, 0xff, 0xff, 0xff, 0x00, 0x01], None),
            !0x0001
        );
    }
}
