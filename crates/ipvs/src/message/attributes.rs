//! The attributes of a message, by their kind.

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};

use super::reply::DecodeError;

/// Attributes by their kind, where they stand in the message. Of two of a kind it is the first.
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
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute.map_err(|_| DecodeError::Truncated)?;
            if let Some(place) = found.get_mut(usize::from(attribute.kind())) {
                let end = usize::from(attribute.length());
                *place = place.or(attribute.into_inner().get(NLA_HEADER_SIZE..end));
            }
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

/// `sizeof(struct genlmsghdr)`, linux/genetlink.h.
const GENERIC_HEADER: usize = 4;
/// One more than the highest kind that is read of any message (`IPVS_DEST_ATTR_TUN_FLAGS`); what a newer
/// kernel has beyond is left out.
const KINDS: usize = 16;
