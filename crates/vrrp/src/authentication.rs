//! Who may speak: the password of version 2, and the keyed digest of `type = "hmac"`. Both are wiped from
//! memory when they go.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// How adverts prove that they come from a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Authentication {
    /// They do not (RFC 3768 §5.3.6, RFC 5798 §9).
    #[default]
    None,
    /// Version 2 over IPv4, authentication type 1: a password in every advert, readable by whoever
    /// hears it (RFC 2338 §5.3.6). It guards against accidents only.
    Password(Password),
    /// Any version: a trailer with an HMAC-SHA256 and a time stamp, as keepalived 2.4 has it.
    Hmac(Hmac),
}

/// What is wrong with the authentication of an advert. Neither password is ever told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Another type than is configured here; version 3 has none, which is 0.
    #[error("type {heard}, wanted {wanted}")]
    Type {
        /// The type of the packet.
        heard: u8,
        /// 0: none; 1: a password.
        wanted: u8,
    },
    /// The right type, but not the password.
    #[error("by another password")]
    Password,
    /// A trailer with a digest, where no key is configured.
    #[error("by an HMAC trailer, which is not configured here")]
    Trailer,
}

/// The eight bytes of a version 2 password, shorter ones padded with zeros.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<[u8; 8]>);

/// Which keys sign and are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hmac {
    /// The key that signs; one of `keys`.
    pub key_id: u8,
    /// The keys that are accepted, by their numbers 1 to 255.
    pub keys: BTreeMap<u8, Key>,
    /// How far the time stamp of an advert may be from the own clock, 1 to 300 s.
    pub window: Duration,
    /// Adverts without a trailer are accepted, too: for the time while the peers get their keys.
    pub permissive: bool,
}

/// A key of 32 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Password {
    /// At least one byte, at most eight.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Password> {
        let mut bytes = Zeroizing::new([0; 8]);
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        (!text.is_empty()).then_some(Password(bytes))
    }

    /// The bytes as an advert carries them (RFC 2338 §5.3.10).
    #[must_use]
    pub fn bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Whether an advert has this password. How long it takes does not tell how much is right.
    pub(crate) fn is(&self, heard: &[u8; 8]) -> bool {
        self.0.ct_eq(heard).into()
    }
}

impl Key {
    /// 32 to 64 bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Key> {
        let bytes = Zeroizing::new(bytes);
        (32..=64).contains(&bytes.len()).then_some(Key(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(...)")
    }
}
