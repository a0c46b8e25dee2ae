//! A request: headers by neli, behind them its attributes by their kind.

use std::io::Cursor;
use std::ops::Range;

use neli::ToBytes;
use neli::consts::nl::NlmF;
use neli::genl::{Genlmsghdr, GenlmsghdrBuilder};
use neli::nl::{NlPayload, NlmsghdrBuilder};
use netlink_packet_core::{Emitable, NLA_HEADER_SIZE, NetlinkBuffer, Nla, NlaBuffer};

use super::EncodeError;

/// A message behind those that are in `bytes` already. There are 40,000 messages of some 20 attributes where
/// all real servers of a large table come at once, so everything is written where it stays.
pub(super) struct Writer<'b> {
    bytes: &'b mut Vec<u8>,
    begin: usize,
}

/// An attribute that holds a value.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

impl<'b> Writer<'b> {
    /// Begins a message with its headers.
    ///
    /// # Errors
    ///
    /// They cannot be built; `bytes` are as before.
    pub(super) fn begin(
        bytes: &'b mut Vec<u8>,
        family: u16,
        flags: NlmF,
        sequence: u32,
        command: u8,
    ) -> Result<Writer<'b>, EncodeError> {
        let begin = bytes.len();
        let header: Genlmsghdr<u8, u16> = GenlmsghdrBuilder::default()
            .cmd(command)
            .version(VERSION)
            .build()
            .map_err(unbuildable)?;
        let message = NlmsghdrBuilder::default()
            .nl_type(family)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(header))
            .build()
            .map_err(unbuildable)?;
        let mut cursor = Cursor::new(std::mem::take(bytes));
        cursor.set_position(u64::try_from(begin).unwrap_or(u64::MAX));
        let written = message.to_bytes(&mut cursor);
        *bytes = cursor.into_inner();
        match written {
            Ok(()) => Ok(Writer { bytes, begin }),
            Err(error) => {
                bytes.truncate(begin);
                Err(unbuildable(error))
            }
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

    /// Adds what `fill` adds; where it stands, for [`Writer::again`].
    pub(super) fn part(&mut self, fill: impl FnOnce(&mut Self)) -> Range<usize> {
        let begin = self.bytes.len();
        fill(self);
        begin..self.bytes.len()
    }

    /// Adds what stands there once more.
    pub(super) fn again(&mut self, part: Range<usize>) {
        self.bytes.extend_from_within(part);
    }

    /// The message is whole.
    pub(super) fn finish(self) {
        let message = self.bytes.get_mut(self.begin..).unwrap_or_default();
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        NetlinkBuffer::new(message).set_length(length);
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

fn unbuildable(error: impl std::fmt::Display) -> EncodeError {
    EncodeError::Build(error.to_string())
}

/// Of the families `IPVS` and `nlctrl`.
const VERSION: u8 = 1;
