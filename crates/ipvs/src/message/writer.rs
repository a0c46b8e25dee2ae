//! A request, written straight to where it is sent from: a batch is hundreds of them, and a table
//! tens of thousands.

/// A request at the end of a buffer.
pub(super) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    begin: usize,
}

impl<'a> Writer<'a> {
    /// Begins a request behind what is in `bytes`, with its headers.
    pub(super) fn begin(
        bytes: &'a mut Vec<u8>,
        family: u16,
        flags: u16,
        sequence: u32,
        command: u8,
    ) -> Writer<'a> {
        let begin = bytes.len();
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(family.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The sender: the kernel fills it in.
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend([command, VERSION, 0, 0]);
        Writer { bytes, begin }
    }

    /// Adds an attribute.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.end_attribute(begin);
    }

    /// Adds a string with its NUL.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        let begin = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        self.end_attribute(begin);
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
        self.bytes.extend([0; 2]);
        self.bytes.extend((NLA_F_NESTED | kind).to_ne_bytes());
        fill(self);
        self.end_attribute(begin);
    }

    /// Ends the request: its length is known.
    pub(super) fn end(self) {
        // No request comes near 4 GiB.
        let length = u32::try_from(self.bytes.len() - self.begin).unwrap_or(u32::MAX);
        fill_in(self.bytes, self.begin, &length.to_ne_bytes());
    }

    fn end_attribute(&mut self, begin: usize) {
        // No attribute comes near 64 KiB: the longest string is an interface's name.
        let length = u16::try_from(self.bytes.len() - begin).unwrap_or(u16::MAX);
        fill_in(self.bytes, begin, &length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn fill_in(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

// linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;
/// Of the families `IPVS` and `nlctrl`.
const VERSION: u8 = 1;
