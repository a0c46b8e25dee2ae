//! `authentication`: how adverts prove that they come from a peer.
//!
//! No problem says anything of what a key is; `secret` keeps them out of the source that is shown.

use std::collections::BTreeMap;
use std::mem;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use ::vrrp::{Authentication, Hmac, Key, Password, Version};
use zeroize::Zeroizing;

use super::section::{Section, Seen};
use super::value::Value;
use super::virtual_router::Facts;
use super::{file, secret};

const KEY_ID: RangeInclusive<u8> = 1..=u8::MAX;
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
const WINDOW_MIN: Duration = Duration::from_secs(5);
/// Far more than a key and the end of its line.
const KEY_FILE_MAX: u64 = 4096;

#[derive(Debug, Clone, Copy)]
enum Type {
    Pass,
    Hmac,
}

pub(super) fn read(v: &Value<'_>, facts: &Facts<'_>) -> Option<Authentication> {
    let mut s = v.section()?;
    let kind = s.need("type", "\"pass\"", |v| {
        let kind = v.choice(&[("pass", Type::Pass), ("hmac", Type::Hmac)], &[])?;
        if matches!(kind, Type::Pass) && facts.version == Some(Version::V3) {
            v.report(
                "version 3 has no passwords",
                "write type = \"hmac\" (with a key of at least 32 bytes), or version = 2",
            );
        }
        Some(kind)
    });
    match kind {
        Some(Type::Pass) => {
            s.pointless(
                &["key_id", "keys", "window", "mode"],
                "a password has none",
                "remove it, or write type = \"hmac\"",
            );
            let password = s.need("key", "\"...\"", password);
            s.finish();
            let allowed = facts.version? == Version::V2;
            password.filter(|_| allowed).map(Authentication::Password)
        }
        Some(Type::Hmac) => hmac(s, facts).map(Authentication::Hmac),
        None => {
            for key in ["key", "key_id", "keys", "window", "mode"] {
                s.get(key);
            }
            s.finish();
            None
        }
    }
}

/// 1 to 8 bytes (RFC 2338 §5.3.6).
fn password(v: &Value<'_>) -> Option<Password> {
    let bytes = written(v)?;
    let printable = bytes.iter().all(|b| matches!(b, b' '..=b'~'));
    let password = Password::new(&bytes).filter(|_| printable);
    if password.is_none() {
        v.report(
            if printable {
                format!("a password has 1 to 8 bytes, this one has {}", bytes.len())
            } else {
                "a password has only printable ASCII characters".to_owned()
            },
            "write 1 to 8 letters, digits and signs, the same on both directors",
        );
    }
    password
}

fn hmac(mut s: Section<'_>, facts: &Facts<'_>) -> Option<Hmac> {
    let mut seen = Seen::new();
    let mut keys = BTreeMap::new();
    let key_id = s.need("key_id", "1", |v| id(v, &mut seen));
    let own = s.need("key", "\"file:/etc/vipd/vrrp.key\"", key);
    let others = s.or("keys", (), |v| {
        let list = v.list()?;
        let read: Vec<_> = list.iter().map(|item| other(item, &mut seen)).collect();
        keys.extend(read.into_iter().collect::<Option<Vec<_>>>()?);
        Some(())
    });
    // keepalived's default.
    let window = facts
        .advert_interval
        .map(|interval| (interval * 3).clamp(WINDOW_MIN, *WINDOW.end()));
    let window = match s.get("window") {
        Some(v) => v.duration(WINDOW),
        None => window,
    };
    let permissive = s.or("mode", false, |v| {
        v.choice(&[("enforce", false), ("permissive", true)], &[])
    });
    s.finish();
    others?;
    keys.insert(key_id?, own?);
    Some(Hmac {
        key_id: key_id?,
        keys,
        window: window?,
        permissive: permissive?,
    })
}

/// One of `keys`: `{ id = 2, key = "..." }`.
fn other(item: &Value<'_>, seen: &mut Seen<u8>) -> Option<(u8, Key)> {
    let mut s = item.section()?;
    let id = s.need("id", "2", |v| id(v, seen));
    let key = s.need("key", "\"...\"", key);
    s.finish();
    Some((id?, key?))
}

fn id(v: &Value<'_>, seen: &mut Seen<u8>) -> Option<u8> {
    let id = v.integer(KEY_ID)?;
    seen.note(
        id,
        v,
        format_args!("another key has the number {id}"),
        "give each key its own, from 1 to 255",
    );
    Some(id)
}

/// A key as text, as `"hex:..."`, or in a file as either.
fn key(v: &Value<'_>) -> Option<Key> {
    let mut bytes = written(v)?;
    let bytes = match bytes.strip_prefix(b"hex:") {
        None => mem::take(&mut *bytes),
        Some(digits) => {
            let Some(bytes) = unhex(digits) else {
                v.report(
                    "what follows `hex:` is not a row of bytes",
                    "write two digits, 0 to 9 and a to f, for each of 32 to 64 bytes",
                );
                return None;
            };
            bytes
        }
    };
    let length = bytes.len();
    let key = Key::new(bytes);
    if key.is_none() {
        v.report(
            format!("a key has 32 to 64 bytes, this one has {length}"),
            "write \"hex:\" and what `openssl rand -hex 32` prints, the same on both directors",
        );
    }
    key
}

/// The text itself, or what is in the file or the credential that it names; there, a final newline does
/// not count.
fn written(v: &Value<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let text = v.text()?;
    if let Some(name) = text.strip_prefix(secret::CREDENTIAL) {
        return credential(v, name);
    }
    let Some(path) = text.strip_prefix(secret::FILE) else {
        return Some(text.as_bytes().to_vec().into());
    };
    if !path.starts_with('/') {
        v.report(
            "what follows `file:` is not an absolute path",
            "write the whole path, such as \"file:/etc/vipd/vrrp.key\"",
        );
        return None;
    }
    match file::read_private(Path::new(path), KEY_FILE_MAX) {
        Ok(bytes) => Some(without_newline(bytes)),
        Err(error) => {
            v.report(
                format!("cannot read {path}: {error}"),
                format!("let {path} be a file that only its owner can read: `chmod 600 {path}`"),
            );
            None
        }
    }
}

/// What systemd has put in the folder of the unit's credentials (systemd.exec(5)). Whom that folder lets
/// read is systemd's business: the modes of its files tell of access lists.
fn credential(v: &Value<'_>, name: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !secret::is_credential_name(name) {
        v.report(
            "what follows `credential:` is not the name of a credential",
            "write the name that LoadCredential= of the unit has: letters, digits, `.`, `_` and `-`",
        );
        return None;
    }
    let help = format!(
        "add `LoadCredential={name}:/path` to the unit (`systemctl edit vipd`); outside of it, set \
         CREDENTIALS_DIRECTORY to a folder with a file {name}"
    );
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        v.report("there are no credentials here", help);
        return None;
    };
    match file::read(&Path::new(&folder).join(name), KEY_FILE_MAX) {
        Ok(bytes) => Some(without_newline(bytes)),
        Err(error) => {
            v.report(format!("cannot read the credential {name}: {error}"), help);
            None
        }
    }
}

fn without_newline(bytes: Vec<u8>) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(bytes);
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let bytes = digits.chunks(2).map(|pair| {
        let [high, low] = pair else { return None };
        u8::try_from(digit(high)? * 16 + digit(low)?).ok()
    });
    bytes.collect()
}
