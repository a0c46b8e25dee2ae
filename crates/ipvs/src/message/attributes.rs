//! The attributes of a message, by their kind.

use std::io::Cursor;

use neli::FromBytesWithInput;
use neli::types::{Buffer, GenlBuffer};

use super::reply::DecodeError;

/// Attributes by their kind, taken apart by neli.
pub(super) struct Attributes(GenlBuffer<u16, Buffer>);

impl Attributes {
    /// Those of a generic netlink message.
    pub(super) fn of_message(message: &[u8]) -> Result<Attributes, DecodeError> {
        Attributes::of(
            message
                .get(GENERIC_HEADER..)
                .ok_or(DecodeError::Truncated)?,
        )
    }

    pub(super) fn of(bytes: &[u8]) -> Result<Attributes, DecodeError> {
        GenlBuffer::from_bytes_with_input(&mut Cursor::new(bytes), bytes.len())
            .map(Attributes)
            .map_err(|_| DecodeError::Truncated)
    }

    pub(super) fn get(&self, kind: u16) -> Option<&[u8]> {
        let found = self
            .0
            .iter()
            .find(|attribute| *attribute.nla_type().nla_type() == kind);
        found.map(|attribute| attribute.nla_payload().as_ref())
    }

    pub(super) fn bytes(&self, kind: u16, what: &'static str) -> Result<&[u8], DecodeError> {
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
