//! A request as neli builds it, from attributes by their kind.

use std::io::Cursor;

use neli::consts::nl::NlmF;
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, Nlattr, NlattrBuilder};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::types::{Buffer, GenlBuffer};
use neli::{Size, ToBytes};

use super::EncodeError;

/// The attributes of a message, or of one that holds others.
#[derive(Default)]
pub(super) struct Writer {
    attributes: GenlBuffer<u16, Buffer>,
    /// The first thing that could not be built.
    trouble: Option<EncodeError>,
}

impl Writer {
    /// Adds an attribute.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        self.push(kind, false, Buffer::from(value));
    }

    /// Adds a string with its NUL.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        self.push(kind, false, text);
    }

    pub(super) fn put_u8(&mut self, kind: u16, value: u8) {
        self.push(kind, false, value);
    }

    pub(super) fn put_u16(&mut self, kind: u16, value: u16) {
        self.push(kind, false, value);
    }

    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.push(kind, false, value);
    }

    /// Adds an attribute that holds those which `fill` adds.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inside = Writer::default();
        fill(&mut inside);
        self.trouble = self.trouble.take().or(inside.trouble);
        self.push(kind, true, inside.attributes);
    }

    fn push(&mut self, kind: u16, nested: bool, payload: impl Size + ToBytes) {
        match attribute(kind, nested, payload) {
            Ok(attribute) => self.attributes.push(attribute),
            Err(why) => self.trouble = self.trouble.take().or(Some(why)),
        }
    }

    /// The request with its headers.
    pub(super) fn finish(
        self,
        family: u16,
        flags: NlmF,
        sequence: u32,
        command: u8,
    ) -> Result<Vec<u8>, EncodeError> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let payload = GenlmsghdrBuilder::default()
            .cmd(command)
            .version(VERSION)
            .attrs(self.attributes)
            .build()
            .map_err(unbuildable)?;
        let message: Nlmsghdr<u16, Genlmsghdr<u8, u16>> = NlmsghdrBuilder::default()
            .nl_type(family)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(payload))
            .build()
            .map_err(unbuildable)?;
        let mut bytes = Cursor::new(Vec::with_capacity(message.padded_size()));
        message.to_bytes(&mut bytes).map_err(unbuildable)?;
        Ok(bytes.into_inner())
    }
}

fn attribute(
    kind: u16,
    nested: bool,
    payload: impl Size + ToBytes,
) -> Result<Nlattr<u16, Buffer>, EncodeError> {
    let kind = AttrTypeBuilder::default()
        .nla_type(kind)
        .nla_nested(nested)
        .build()
        .map_err(unbuildable)?;
    let attribute = NlattrBuilder::default().nla_type(kind).nla_payload(payload);
    attribute.build().map_err(unbuildable)
}

fn unbuildable(error: impl std::fmt::Display) -> EncodeError {
    EncodeError::Build(error.to_string())
}

/// Of the families `IPVS` and `nlctrl`.
const VERSION: u8 = 1;
