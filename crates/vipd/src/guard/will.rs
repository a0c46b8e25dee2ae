//! What is to be done when the daemon is dead.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vrrp::{Authentication, ChecksumForm, Family, Hmac, Key, Parameters, Unicast, Version};
use zeroize::{Zeroize, Zeroizing};

use crate::net::sys::Mac;
use crate::vrrp_loop::{Parting, last_words};

/// The length of what follows, in bytes.
const HEAD: usize = 4;
/// Says that there is nothing more to guard.
pub(super) const DISMISSAL: [u8; HEAD] = [0; HEAD];

/// What is to be done, ready to be done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Will {
    /// The configuration's file, for `vipd release`.
    pub(crate) config: PathBuf,
    /// What the peers are told, in the name of each master.
    pub(crate) farewells: Vec<Farewell>,
    /// What goes.
    pub(crate) addresses: Vec<Address>,
    /// Names of macvlans that go.
    pub(crate) macvlans: Vec<String>,
    /// Netlink messages that remove routes and rules.
    pub(crate) routes: Vec<Vec<u8>>,
    /// After how much silence the daemon counts as hung; `None`: it has nothing to give up.
    pub(crate) patience: Option<Duration>,
}

/// A virtual address that is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

/// A datagram of priority 0 and where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Farewell {
    /// The interface that it leaves by; `None`: that of the route.
    pub(crate) interface: Option<String>,
    pub(crate) destination: IpAddr,
    /// It is an Ethernet frame, not an IP packet.
    pub(crate) frame: bool,
    /// In version 2 the password is in it.
    bytes: Vec<u8>,
    /// It carries the time and is signed, so it is made when it is sent.
    sealed: Option<Sealed>,
}

/// What a signed advert is made from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Sealed {
    source: IpAddr,
    from: Option<Mac>,
    vrid: u8,
    version_2: bool,
    family_v6: bool,
    interval: Duration,
    message_sum: bool,
    addresses: Vec<IpAddr>,
    /// The time to live, of one from host to host.
    ttl: Option<u8>,
    key_id: u8,
    key: Vec<u8>,
}

impl Farewell {
    pub(crate) fn new(parameters: &Parameters, parting: Parting) -> Farewell {
        let sealed = Sealed::of(parameters, &parting);
        // The signed one of now is of no use later.
        let bytes = match sealed {
            Some(_) => Vec::new(),
            None => last_words(parameters, &parting),
        };
        Farewell {
            frame: parting.from.is_some(),
            interface: parting.interface,
            destination: parting.destination,
            bytes,
            sealed,
        }
    }

    /// The datagram.
    pub(crate) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match &self.sealed {
            Some(sealed) => sealed.render(self.destination).unwrap_or_default(),
            None => self.bytes.clone(),
        })
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Sealed {
    fn of(parameters: &Parameters, parting: &Parting) -> Option<Sealed> {
        let Authentication::Hmac(hmac) = &parameters.authentication else {
            return None;
        };
        Some(Sealed {
            source: parting.source,
            from: parting.from,
            vrid: parameters.vrid,
            version_2: parameters.version == Version::V2,
            family_v6: parameters.family == Family::V6,
            interval: parameters.advert_interval,
            message_sum: parameters.checksum == ChecksumForm::MessageOnly,
            addresses: parameters.addresses.to_vec(),
            ttl: parameters.unicast.as_ref().map(|unicast| unicast.ttl),
            key_id: hmac.key_id,
            key: hmac.keys.get(&hmac.key_id)?.bytes().to_vec(),
        })
    }

    fn render(&self, destination: IpAddr) -> Option<Vec<u8>> {
        let version = match self.version_2 {
            true => Version::V2,
            false => Version::V3,
        };
        let mut parameters = Parameters::new(self.vrid, version, &self.addresses);
        parameters.family = match self.family_v6 {
            true => Family::V6,
            false => Family::V4,
        };
        parameters.advert_interval = self.interval;
        if self.message_sum {
            parameters.checksum = ChecksumForm::MessageOnly;
        }
        parameters.unicast = self.ttl.map(|ttl| Unicast {
            source: self.source,
            peers: Vec::new(),
            ttl,
        });
        parameters.authentication = Authentication::Hmac(Hmac {
            key_id: self.key_id,
            keys: [(self.key_id, Key::new(self.key.clone())?)].into(),
            window: Duration::ZERO,
            permissive: false,
        });
        let parting = Parting {
            interface: None,
            source: self.source,
            destination,
            from: self.from,
        };
        Some(last_words(&parameters, &parting))
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(...)")
    }
}

impl Will {
    /// As it is written to the guard, which is this very program: its length in four bytes, then
    /// postcard, a fifth of what JSON would take.
    pub(super) fn to_bytes(&self) -> Written {
        let size = postcard::experimental::serialized_size(self).unwrap_or_default();
        // What grows leaves what it held behind.
        let mut bytes = Zeroizing::new(vec![0; HEAD + size]);
        if let Some((head, content)) = bytes.split_first_chunk_mut::<HEAD>()
            && postcard::to_slice(self, content).is_ok()
            && let Ok(length) = u32::try_from(content.len())
        {
            *head = length.to_be_bytes();
        }
        Written(Arc::new(bytes))
    }

    /// Whether there is anything to do.
    pub(super) fn is_empty(&self) -> bool {
        self.farewells.is_empty()
            && self.addresses.is_empty()
            && self.macvlans.is_empty()
            && self.routes.is_empty()
    }
}

/// A will as it is written to the guard. There are keys in it, so it is wiped when it goes.
#[derive(Clone, PartialEq)]
pub(super) struct Written(Arc<Zeroizing<Vec<u8>>>);

impl Written {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Written(...)")
    }
}

/// What the guard has read so far, and wipes when it has understood it.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Zeroizing<Vec<u8>>,
}

/// What the daemon says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Will(Box<Will>),
    Dismissed,
}

impl Inbox {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let size = self.bytes.len() + bytes.len();
        if size > self.bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(size.next_power_of_two()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole thing said, if it is complete. What cannot be read is left out.
    pub(super) fn next(&mut self) -> Option<Said> {
        loop {
            let (length, rest) = self.bytes.split_first_chunk::<HEAD>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            if length == 0 {
                return Some(Said::Dismissed);
            }
            let content = rest.get(..length)?;
            let will = postcard::from_bytes(content).ok();
            self.bytes.drain(..HEAD + length);
            if self.bytes.is_empty() {
                self.bytes = Zeroizing::default();
            }
            if let Some(will) = will {
                return Some(Said::Will(will));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_will_that_comes_in_pieces_is_read_when_it_is_whole() {
        let will = Will {
            addresses: vec![Address {
                interface: "eth0".to_owned(),
                address: "10.0.0.9".parse().unwrap(),
                prefix: 24,
            }],
            patience: Some(Duration::from_secs(2)),
            ..Will::default()
        };
        let mut inbox = Inbox::default();
        let bytes = [will.to_bytes().bytes(), &DISMISSAL].concat();
        let (last, before) = bytes.split_last().unwrap();
        let mut said = Vec::new();
        for byte in before {
            inbox.push(&[*byte]);
            said.extend(inbox.next());
        }
        assert_eq!(said, [Said::Will(Box::new(will))]);
        inbox.push(&[*last]);
        assert_eq!(inbox.next(), Some(Said::Dismissed));
    }

    #[test]
    fn a_signed_farewell_is_made_anew_and_is_what_the_daemon_would_send() {
        let addresses = ["10.0.0.9".parse().unwrap()];
        for (version, mac) in [(Version::V2, None), (Version::V3, Some([2, 0, 0, 0, 0, 1]))] {
            let mut parameters = Parameters::new(51, version, &addresses);
            parameters.authentication = Authentication::Hmac(Hmac {
                key_id: 7,
                keys: [(7, Key::new(vec![9; 32]).unwrap())].into(),
                window: Duration::from_secs(5),
                permissive: false,
            });
            let parting = Parting {
                interface: Some("eth0".to_owned()),
                source: "10.0.0.1".parse().unwrap(),
                destination: vrrp::GROUP_V4.into(),
                from: mac,
            };
            let farewell = Farewell::new(&parameters, parting.clone());
            let bytes = postcard::to_stdvec(&farewell).unwrap();
            let farewell: Farewell = postcard::from_bytes(&bytes).unwrap();
            let (made, wanted) = (farewell.bytes(), last_words(&parameters, &parting));
            // All but the time, the sums over it and the digest.
            let ip = if mac.is_some() { 14 } else { 0 };
            assert_eq!(made.len(), wanted.len());
            assert_eq!(made[..ip + 26], wanted[..ip + 26]);
            assert_eq!(made[ip + 28..ip + 32], wanted[ip + 28..ip + 32]);
            assert_eq!(made[ip + 22], 0, "the priority");
            assert!(!format!("{farewell:?}").contains("9, 9, 9"));
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let mut inbox = Inbox::default();
        // A path that is longer than the message.
        inbox.push(&[0, 0, 0, 2, 9, b'x']);
        inbox.push(Will::default().to_bytes().bytes());
        assert_eq!(inbox.next(), Some(Said::Will(Box::default())));
        assert_eq!(inbox.next(), None);
    }
}
