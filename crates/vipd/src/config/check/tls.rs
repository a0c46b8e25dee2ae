//! `type = "tls"`, and the TLS keys of the types that can speak it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use health::{CheckKind, Identity, TlsSpec};

use super::super::section::Section;
use super::super::text::{self, Complaint};
use super::Type;

const DAY: Duration = Duration::from_secs(86_400);
const EXPIRES_WITHIN: Duration = DAY.saturating_mul(14);
const EXPIRES_RANGE: RangeInclusive<Duration> = Duration::ZERO..=DAY.saturating_mul(3650);
pub(super) const KEYS: [&str; 6] = [
    "verify",
    "sni",
    "ca",
    "certificate",
    "key",
    "expires_within",
];

pub(super) const TYPE: Type = Type {
    name: "tls",
    fall: super::FALL,
    keys: &[],
    tls: true,
    read: |s| policy(s).map(CheckKind::Tls),
};

/// The TLS keys of a type that speaks TLS only with `switch = true`.
pub(super) fn where_asked(s: &mut Section<'_>, switch: &'static str) -> Option<Option<TlsSpec>> {
    let on = s.or(switch, false, |v| v.boolean());
    if on != Some(false) {
        let policy = policy(s);
        return on.and(policy).map(Some);
    }
    s.pointless(
        &KEYS,
        "means nothing without TLS",
        &format!("remove it, or write {switch} = true"),
    );
    Some(None)
}

fn policy(s: &mut Section<'_>) -> Option<TlsSpec> {
    let verify = s.or("verify", true, |v| v.boolean());
    let sni = s.maybe("sni", |v| v.parse(text::host_name));
    let ca = s.maybe("ca", |v| {
        if verify == Some(false) {
            v.report(
                "nothing is verified with it",
                "remove it, or write verify = true",
            );
            return None;
        }
        v.parse(text::path)
    });
    let identity = identity(s);
    let expires_within = s.or("expires_within", EXPIRES_WITHIN, |v| {
        v.duration(EXPIRES_RANGE)
    });
    Some(TlsSpec {
        verify: verify?,
        sni: sni?,
        ca: ca?,
        identity: identity?,
        expires_within: expires_within?,
    })
}

/// `certificate` and `key`: both or neither.
fn identity(s: &mut Section<'_>) -> Option<Option<Identity>> {
    let certificate = s.maybe("certificate", |v| v.parse(text::path));
    let key = s.maybe("key", |v| v.parse(key_path));
    match (certificate?, key?) {
        (None, None) => Some(None),
        (Some(certificate), Some(key)) => Some(Some(Identity { certificate, key })),
        (Some(_), None) => {
            s.missing("key", "add `key = \"/path/to/its/key.pem\"`".to_owned());
            None
        }
        (None, Some(_)) => {
            s.missing(
                "certificate",
                "add `certificate = \"/path/to/certificate.pem\"`".to_owned(),
            );
            None
        }
    }
}

/// Where a key is. Who pastes the key itself does not find it in the log.
fn key_path(written: &str) -> Result<PathBuf, Complaint> {
    text::path(written).map_err(|complaint| Complaint {
        message: "is not an absolute path".to_owned(),
        ..complaint
    })
}
