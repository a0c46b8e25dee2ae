//! `type = "udp"`: a datagram, and what must come back.

use health::{Beginning, CheckKind, UdpSpec};

use super::super::section::Section;
use super::super::text::{self, Complaint};
use super::super::value::Value;
use super::Type;

/// Longest payload, bytes: it fits in one packet everywhere.
const LENGTH_MAX: usize = 1200;

pub(super) const TYPE: Type = Type {
    name: "udp",
    fall: super::FALL_OF_DATAGRAMS,
    keys: &["send", "send_hex", "expect", "expect_hex"],
    tls: false,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    let send = text_or_hex(s, "send", "send_hex", |v| {
        let bytes: Option<Vec<u8>> = v.parse(hex)?.into_iter().collect();
        if bytes.is_none() {
            v.report("xx stands for any byte, and cannot be sent", "write 00");
        }
        bytes
    });
    let expect = text_or_hex(s, "expect", "expect_hex", |v| v.parse(hex));
    Some(CheckKind::Udp(UdpSpec {
        send: send?.unwrap_or_default(),
        expect: expect?.map(Beginning),
    }))
}

/// Bytes, as text or in hexadecimal: `Some(None)` where neither is written.
fn text_or_hex<'a, B: From<u8>>(
    s: &mut Section<'a>,
    text_key: &'static str,
    hex_key: &'static str,
    hex: impl FnOnce(&Value<'a>) -> Option<Vec<B>>,
) -> Option<Option<Vec<B>>> {
    let text = s.maybe(text_key, |v| {
        let text = v.parse(text::some_text)?;
        if text.len() > LENGTH_MAX {
            v.report(
                format!("{} bytes are too many", text.len()),
                format!("write at most {LENGTH_MAX}"),
            );
            return None;
        }
        Some(text.bytes().map(B::from).collect())
    });
    let both = s.has(text_key) && s.has(hex_key);
    let hex = s.maybe(hex_key, |v| {
        if both {
            v.report(format!("`{text_key}` is there too"), "write one of the two");
            return None;
        }
        hex(v)
    });
    let (text, hex) = (text?, hex?);
    Some(text.or(hex))
}

/// Bytes in hexadecimal; `None` is `xx`, any byte.
fn hex(text: &str) -> Result<Vec<Option<u8>>, Complaint> {
    let complaint = |message: String| Complaint {
        message,
        help: "write two digits for each byte, such as \"01 ff 80\", and xx for any".to_owned(),
    };
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if digits.is_empty() {
        return Err(complaint("must not be empty".to_owned()));
    }
    if digits.len() > 2 * LENGTH_MAX {
        return Err(complaint(format!("more than {LENGTH_MAX} bytes")));
    }
    let byte = |pair: &[char]| {
        let pair: String = pair.iter().collect();
        if pair.eq_ignore_ascii_case("xx") {
            return Ok(None);
        }
        let digits = pair.len() == 2 && pair.chars().all(|c| c.is_ascii_hexdigit());
        match u8::from_str_radix(&pair, 16) {
            Ok(byte) if digits => Ok(Some(byte)),
            Ok(_) | Err(_) => Err(complaint(format!("{pair:?} is not a byte in hexadecimal"))),
        }
    };
    digits.chunks(2).map(byte).collect()
}
