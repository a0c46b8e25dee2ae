//! What `type = "hmac"` puts after an advert, as keepalived 2.4 does: 28 bytes.
//!
//! ```text
//!  0        1        2        3
//! +--------+--------+--------+--------+
//! | type 1 | key    | 0      | 0      |
//! +--------+--------+--------+--------+
//! | seconds since 1970                |
//! +--------+--------+--------+--------+
//! | second / 65,536 | counter         |
//! +--------+--------+--------+--------+
//! | the first 16 bytes of HMAC-SHA256 |
//! | over 20 bytes of what the packet  |
//! | claims to be, the message and     |
//! | this trailer                      |
//! +--------+--------+--------+--------+
//! ```
//!
//! The 20 bytes are 4 or 6, the version, the VRID, 0, and the source, padded to 16 bytes with zeros.
//! The digest is made with the checksum and itself as zeros, so whoever sums up the packet may do so
//! afterwards. It does not cover the destination: one advert is signed once for every peer.

use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac as Mac, KeyInit as _, Mac as _};
use sha2::Sha256;

use serde::{Deserialize, Serialize};

use crate::authentication::{Hmac, Key};
use crate::discard::Discard;
use crate::packet::{Message, around_checksum};
use crate::parameters::Version;

/// Bytes of a trailer.
pub(crate) const TRAILER: usize = 28;
/// The type of a trailer with HMAC-SHA256, the only one there is.
pub(crate) const TYPE: u8 = 1;
/// Bytes of the digest that are sent.
const DIGEST: usize = 16;

/// When an advert was signed: 32 bits of seconds, 16 bits of fraction and 16 bits of a counter, so
/// that two of the same instant differ. It is compared as one serial number (RFC 1982), which goes
/// on after 2106.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// `wall` is the time since 1970.
    pub(crate) fn new(wall: Duration, counter: u16) -> Stamp {
        let fraction = (u64::from(wall.subsec_nanos()) << 16) / 1_000_000_000;
        Stamp(wall.as_secs() << 32 | fraction << 16 | u64::from(counter))
    }

    pub(crate) fn is_after(self, other: Stamp) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() > 0
    }

    /// How far it is from a time, either way.
    fn apart(self, wall: Duration) -> Duration {
        let counter = 0xffff;
        let own = Stamp::new(wall, 0).0;
        let apart = (self.0 & !counter).wrapping_sub(own).cast_signed();
        let apart = apart.unsigned_abs();
        let nanos = ((apart & 0xffff_ffff) * 1_000_000_000) >> 32;
        Duration::from_secs(apart >> 32) + Duration::from_nanos(nanos)
    }
}

/// The trailer of a message. `None` if the key that signs is not one of the keys.
pub(crate) fn sign(
    hmac: &Hmac,
    version: Version,
    message: &[u8],
    source: IpAddr,
    stamp: Stamp,
) -> Option<[u8; TRAILER]> {
    let mut trailer = [0; TRAILER];
    let (head, end) = trailer.split_at_mut(TRAILER - DIGEST);
    let stamp = stamp.0.to_be_bytes();
    head.copy_from_slice(&[&[TYPE, hmac.key_id, 0, 0][..], &stamp].concat());
    let digest = digest(hmac.keys.get(&hmac.key_id)?, version, message, source, head)?;
    let digest = digest.finalize().into_bytes();
    end.copy_from_slice(digest.first_chunk::<DIGEST>()?);
    Some(trailer)
}

/// When a message with this trailer was signed, if it was signed with one of our keys, not too far
/// from our time.
///
/// The window comes first: it costs nothing, so that a flood of old adverts costs nothing either.
pub(crate) fn verify(
    hmac: &Hmac,
    message: &Message<'_>,
    trailer: &[u8; TRAILER],
    source: IpAddr,
    wall: Duration,
) -> Result<Stamp, Discard> {
    let (head, heard) = trailer.split_at(TRAILER - DIGEST);
    let [
        _,
        id,
        _,
        _,
        stamp @ ..,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
    ] = *trailer;
    let Some(key) = hmac.keys.get(&id) else {
        return Err(Discard::HmacKey { heard: id });
    };
    let stamp = Stamp(u64::from_be_bytes(stamp));
    let (apart, window) = (stamp.apart(wall), hmac.window);
    if apart > window {
        return Err(Discard::HmacWindow { apart, window });
    }
    let right = digest(key, message.version, message.bytes, source, head)
        // The comparison takes the same time wherever the two differ.
        .is_some_and(|digest| digest.verify_truncated_left(heard).is_ok());
    right.then_some(stamp).ok_or(Discard::Hmac { key: id })
}

/// The digest, not yet finished. There is none for a key of a length that HMAC does not take, and
/// it takes every length.
fn digest(
    key: &Key,
    version: Version,
    message: &[u8],
    source: IpAddr,
    head: &[u8],
) -> Option<Mac<Sha256>> {
    let mut mac = Mac::<Sha256>::new_from_slice(key.bytes()).ok()?;
    let (family, padded) = match source {
        IpAddr::V4(source) => {
            let [a, b, c, d] = source.octets();
            (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V6(source) => (6, source.octets()),
    };
    let vrid = message.get(1).copied().unwrap_or_default();
    mac.update(&[family, version.number(), vrid, 0]);
    mac.update(&padded);
    let (before, after) = around_checksum(message);
    mac.update(before);
    mac.update(&[0; 2]);
    mac.update(after);
    mac.update(head);
    mac.update(&[0; DIGEST]);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn of_two_stamps_the_one_of_a_later_time_or_a_greater_counter_is_after() {
        let at = |millis, counter| Stamp::new(Duration::from_millis(millis), counter);
        check_after(at(1_000, 1), at(1_000, 0));
        check_after(at(1_001, 0), at(1_000, 0xffff));
        check_after(at(2_000, 0), at(1_999, 0xffff));
        assert!(!at(1_000, 1).is_after(at(1_000, 1)));
    }

    #[test]
    fn seconds_that_wrap_in_2106_go_on() {
        let last = Duration::new(0xffff_ffff, 999_999_999);
        let next = last + SECOND;
        check_after(Stamp::new(next, 0), Stamp::new(last, 0xffff));
        check_apart(Stamp::new(next, 3), last, 1_000);
        check_apart(Stamp::new(last, 3), next, 1_000);
    }

    #[test]
    fn the_distance_to_a_time_is_the_same_either_way() {
        let now = Duration::from_millis(1_760_000_000_250);
        for apart in [0, 1, 250, 999, 1_000, 300_000] {
            let far = Duration::from_millis(apart);
            check_apart(Stamp::new(now + far, 0xffff), now, apart);
            check_apart(Stamp::new(now - far, 0xffff), now, apart);
        }
    }

    fn check_after(late: Stamp, early: Stamp) {
        assert!(late.is_after(early));
        assert!(!early.is_after(late));
    }

    /// To the 65,536th part of a second, of which either end may be rounded down.
    fn check_apart(stamp: Stamp, wall: Duration, millis: u64) {
        let apart = stamp.apart(wall).as_secs_f64() * 1_000.0;
        let wanted = Duration::from_millis(millis).as_secs_f64() * 1_000.0;
        assert!((apart - wanted).abs() < 0.04, "{apart} for {wanted}");
    }
}
