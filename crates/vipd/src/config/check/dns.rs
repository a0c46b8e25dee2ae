//! `type = "dns"`: a name, a type of record, and what must be among the answers.

use std::net::{Ipv4Addr, Ipv6Addr};

use health::{CheckKind, DnsRecord, DnsSpec};

use super::super::section::Section;
use super::super::text::{self, Complaint};
use super::Type;

/// Longest name (RFC 1035 §3.1), and longest label of it, bytes.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

pub(super) const TYPE: Type = Type {
    name: "dns",
    fall: super::FALL_OF_DATAGRAMS,
    keys: &["name", "record", "expect", "tcp"],
    tls: false,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    let name = s.or("name", ".".to_owned(), |v| v.parse(name));
    let record = s.or("record", DnsRecord::Soa, |v| {
        v.choice(&DnsRecord::ALL.map(|record| (record.key(), record)), &[])
    });
    let expect = s.maybe("expect", |v| match record? {
        DnsRecord::A => v.parse(|text| address::<Ipv4Addr>(text, "IPv4", "192.0.2.1")),
        DnsRecord::Aaaa => v.parse(|text| address::<Ipv6Addr>(text, "IPv6", "2001:db8::1")),
        DnsRecord::Caa
        | DnsRecord::Cname
        | DnsRecord::Mx
        | DnsRecord::Ns
        | DnsRecord::Ptr
        | DnsRecord::Soa
        | DnsRecord::Srv
        | DnsRecord::Txt => v.parse(text::some_text),
    });
    let tcp = s.or("tcp", false, |v| v.boolean());
    Some(CheckKind::Dns(DnsSpec {
        name: name?,
        record: record?,
        expect: expect?,
        tcp: tcp?,
    }))
}

fn name(text: &str) -> Result<String, Complaint> {
    let complaint = |message: &str| Complaint {
        message: message.to_owned(),
        help: "write the whole name, such as \"example.org\", or \".\" for the root".to_owned(),
    };
    if text == "." {
        return Ok(text.to_owned());
    }
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.len() > NAME_MAX {
        return Err(complaint("longer than a name may be"));
    }
    for label in bare.split('.') {
        if label.is_empty() || label.len() > LABEL_MAX {
            return Err(complaint("each part of a name has 1 to 63 characters"));
        }
        let known = |c: char| c.is_ascii_alphanumeric() || "-_*/".contains(c);
        if !label.chars().all(known) {
            return Err(complaint("has a character that no name has"));
        }
    }
    Ok(bare.to_owned())
}

/// An address, as the answer will have it.
fn address<A: std::str::FromStr + ToString>(
    text: &str,
    family: &str,
    example: &str,
) -> Result<String, Complaint> {
    let parsed = text.parse::<A>().map(|address| address.to_string());
    parsed.map_err(|_| Complaint {
        message: format!("{text:?} is not an {family} address"),
        help: format!("write one, such as {example:?}"),
    })
}
