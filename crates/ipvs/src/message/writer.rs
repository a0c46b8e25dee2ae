//! A request: headers by neli, behind them its attributes by their kind.

use std::io::{Cursor, Write};

use neli::consts::nl::NlmF;
use neli::err::SerError;
use neli::genl::{Genlmsghdr, GenlmsghdrBuilder};
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::{Size, ToBytes};
use netlink_packet_core::{Emitable, NLA_HEADER_SIZE, Nla, NlaBuffer};

use super::EncodeError;

/// The attributes of a message. There are 40,000 messages of some 20 attributes where all real servers of a
/// large table come at once, so an attribute is written where it stays, and takes no memory of its own.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// An attribute that holds a value.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

/// What is behind the netlink header.
#[derive(Debug)]
struct Message {
    header: Genlmsghdr<u8, u16>,
    attributes: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Self {
        // No message is longer.
        Writer {
            bytes: Vec::with_capacity(256),
        }
    }

    /// Adds an attribute.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let attribute = Attribute { kind, value };
        let room = self.room(attribute.buffer_len());
        attribute.emit(room);
    }

    /// Adds a string with its NUL.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), b"\0"].concat());
    }

    pub(super) fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub(super) fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Adds an attribute that holds those which `fill` adds.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let begin = self.bytes.len();
        self.room(NLA_HEADER_SIZE);
        fill(self);
        let whole = self.bytes.get_mut(begin..).unwrap_or_default();
        // All that is ever put into one is some hundred bytes.
        let length = u16::try_from(whole.len()).unwrap_or(u16::MAX);
        let mut header = NlaBuffer::new(whole);
        header.set_kind(kind);
        header.set_nested_flag();
        header.set_length(length);
    }

    /// The request with its headers.
    pub(super) fn finish(
        self,
        family: u16,
        flags: NlmF,
        sequence: u32,
        command: u8,
    ) -> Result<Vec<u8>, EncodeError> {
        let header = GenlmsghdrBuilder::default()
            .cmd(command)
            .version(VERSION)
            .build()
            .map_err(unbuildable)?;
        let message = NlmsghdrBuilder::default()
            .nl_type(family)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(Message {
                header,
                attributes: self.bytes,
            }))
            .build()
            .map_err(unbuildable)?;
        let mut bytes = Cursor::new(Vec::with_capacity(message.padded_size()));
        message.to_bytes(&mut bytes).map_err(unbuildable)?;
        Ok(bytes.into_inner())
    }

    /// So many bytes more, all of them zero.
    fn room(&mut self, size: usize) -> &mut [u8] {
        let begin = self.bytes.len();
        self.bytes.resize(begin.saturating_add(size), 0);
        self.bytes.get_mut(begin..).unwrap_or_default()
    }
}

impl Nla for Attribute<'_> {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.value);
    }
}

impl Size for Message {
    fn unpadded_size(&self) -> usize {
        self.header
            .unpadded_size()
            .saturating_add(self.attributes.len())
    }
}

impl ToBytes for Message {
    fn to_bytes(&self, buffer: &mut Cursor<Vec<u8>>) -> Result<(), SerError> {
        self.header.to_bytes(buffer)?;
        Ok(buffer.write_all(&self.attributes)?)
    }
}

fn unbuildable(error: impl std::fmt::Display) -> EncodeError {
    EncodeError::Build(error.to_string())
}

/// Of the families `IPVS` and `nlctrl`.
const VERSION: u8 = 1;
