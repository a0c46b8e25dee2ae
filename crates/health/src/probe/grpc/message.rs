//! The two messages of the health service, as gRPC frames them: a flag, the length, and the protocol
//! buffer.

/// Flag and length, in bytes.
const HEAD: usize = 5;

/// `HealthCheckResponse.ServingStatus`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
    Other(u64),
}

/// What is wrong with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// `HealthCheckRequest { service }`
pub(super) fn encode(service: &str) -> Vec<u8> {
    let mut buffer = Vec::new();
    // Field 1, of a length; the default, an empty one, is not written.
    if !service.is_empty() {
        buffer.push(1 << 3 | 2);
        put_varint(&mut buffer, service.len());
        buffer.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    let mut message = vec![0];
    message.extend_from_slice(&length.to_be_bytes());
    message.append(&mut buffer);
    message
}

/// `HealthCheckResponse { status }`
pub(super) fn decode(message: &[u8]) -> Result<Health, Malformed> {
    let Some((&[compressed, a, b, c, d], mut rest)) = message.split_first_chunk::<HEAD>() else {
        return Err(Malformed("an answer without a message"));
    };
    if compressed != 0 {
        return Err(Malformed("a compressed answer, which nobody asked for"));
    }
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok();
    if length != Some(rest.len()) {
        return Err(Malformed("an answer of another length than it says"));
    }
    let mut status = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Some(varint(&mut rest)?),
            1 => skip(&mut rest, 8)?,
            2 => {
                let length = varint(&mut rest)?;
                skip(&mut rest, usize::try_from(length).unwrap_or(usize::MAX))?
            }
            5 => skip(&mut rest, 4)?,
            _ => return Err(Malformed("an answer that is not a protocol buffer")),
        };
        if let (1, Some(value)) = (key >> 3, value) {
            status = value;
        }
    }
    Ok(match status {
        0 => Health::Unknown,
        1 => Health::Serving,
        2 => Health::NotServing,
        3 => Health::ServiceUnknown,
        other => Health::Other(other),
    })
}

fn put_varint(buffer: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            buffer.push(low);
            return;
        }
        buffer.push(low | 0x80);
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((byte, after)) = rest.split_first() else {
            return Err(Malformed("an answer that ends in a number"));
        };
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("an answer with a number of more than 64 bits"))
}

fn skip(rest: &mut &[u8], length: usize) -> Result<Option<u64>, Malformed> {
    let after = rest.get(length..);
    *rest = after.ok_or(Malformed("an answer that ends in a field"))?;
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_request_has_the_service_in_field_one() {
        assert_eq!(encode(""), [0, 0, 0, 0, 0]);
        assert_eq!(encode("a.B"), *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = encode(&"x".repeat(300));
        assert_eq!(long.get(..8).unwrap(), b"\0\0\0\x01\x2f\x0a\xac\x02");
    }

    #[test]
    fn every_status_is_read() {
        let status = |value| decode(&[0, 0, 0, 0, 2, 0x08, value]);
        assert_eq!(status(0), Ok(Health::Unknown));
        assert_eq!(status(1), Ok(Health::Serving));
        assert_eq!(status(2), Ok(Health::NotServing));
        assert_eq!(status(3), Ok(Health::ServiceUnknown));
        assert_eq!(status(9), Ok(Health::Other(9)));
        // The default is not written.
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Ok(Health::Unknown));
    }

    #[test]
    fn fields_of_a_later_version_are_skipped() {
        let fields = b"\x12\x02hi\x08\x01\x1d\x00\x00\x00\x00\x21abcdefgh";
        let mut message = vec![0, 0, 0, 0, u8::try_from(fields.len()).unwrap()];
        message.extend_from_slice(fields);
        assert_eq!(decode(&message), Ok(Health::Serving));
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        let wrong = |message: &[u8]| decode(message).unwrap_err().0;
        assert_eq!(wrong(b""), "an answer without a message");
        assert!(wrong(b"\x01\0\0\0\0").contains("compressed"));
        assert!(wrong(b"\0\0\0\0\x09\x08\x01").contains("another length"));
        assert!(wrong(b"\0\0\0\0\x01\x08").contains("ends in a number"));
        assert!(wrong(b"\0\0\0\0\x02\x12\x09").contains("ends in a field"));
        assert!(wrong(b"\0\0\0\0\x01\x0f").contains("not a protocol buffer"));
        assert!(wrong(&[[0, 0, 0, 0, 12, 8].as_slice(), &[0xff; 11]].concat()).contains("64 bits"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(message: Vec<u8>) {
            let _either = decode(&message);
            let mut framed = vec![0];
            framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            framed.extend_from_slice(&message);
            let _either = decode(&framed);
        }
    }
}
