//! The attributes of a message, by their kind.

use super::reply::DecodeError;

/// Attributes, those of each kind once. Kinds beyond the known ones are left out: a newer kernel
/// does no harm.
pub(super) struct Attributes<'a>([Option<&'a [u8]>; KINDS]);

impl<'a> Attributes<'a> {
    /// Those of a generic netlink message.
    pub(super) fn of_message(message: &'a [u8]) -> Result<Attributes<'a>, DecodeError> {
        Attributes::of(
            message
                .get(GENERIC_HEADER..)
                .ok_or(DecodeError::Truncated)?,
        )
    }

    pub(super) fn of(bytes: &'a [u8]) -> Result<Attributes<'a>, DecodeError> {
        let mut found = [None; KINDS];
        let mut rest = bytes;
        while !rest.is_empty() {
            let [l0, l1, k0, k1] = *rest.first_chunk().ok_or(DecodeError::Truncated)?;
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let value = rest.get(HEADER..length).ok_or(DecodeError::Truncated)?;
            let kind = usize::from(u16::from_ne_bytes([k0, k1]) & KIND_MASK);
            if let Some(place) = found.get_mut(kind) {
                place.get_or_insert(value);
            }
            // Attributes begin at multiples of four; the last may end anywhere.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(Attributes(found))
    }

    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    pub(super) fn bytes(&self, kind: u16, what: &'static str) -> Result<&'a [u8], DecodeError> {
        self.get(kind).ok_or(DecodeError::Missing(what))
    }

    pub(super) fn u16(&self, kind: u16, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_ne_bytes(array(self.bytes(kind, what)?, what)?))
    }

    pub(super) fn u32(&self, kind: u16, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_ne_bytes(array(self.bytes(kind, what)?, what)?))
    }
}

/// A string up to its NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

pub(super) fn array<const N: usize>(
    bytes: &[u8],
    what: &'static str,
) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Malformed(what))
}

/// One more than the largest kind that is read, of a destination.
const KINDS: usize = 16;
/// `sizeof(struct genlmsghdr)`, linux/genetlink.h.
const GENERIC_HEADER: usize = 4;
/// `sizeof(struct nlattr)`, linux/netlink.h.
const HEADER: usize = 4;
/// `NLA_TYPE_MASK`.
const KIND_MASK: u16 = 0x3fff;
