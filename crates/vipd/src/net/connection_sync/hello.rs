//! The datagrams by which vipds that synchronise connections know of each other, on the port after
//! the kernel's: who is there, and how many connections it holds.
//!
//! 24 bytes: `vipS`, version 1, kind, sync id, 0, the boot id (8), a number (4), a count (4).

/// Bytes of a datagram.
pub(super) const LENGTH: usize = 24;

const MAGIC: [u8; 4] = *b"vipS";
const VERSION: u8 = 1;

/// A datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    /// The sync id; those of other ids are not for us.
    pub(super) id: u8,
    /// Drawn by each vipd as it starts.
    pub(super) boot: u64,
    pub(super) says: Says,
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// I am here. The number goes up with each start of the kernel's backup daemon; 0: it does not
    /// run.
    Here { generation: u32 },
    /// How many connections do you hold?
    Ask { nonce: u32 },
    /// So many.
    Answer { nonce: u32, held: u32 },
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; LENGTH] {
        let (kind, number, count) = match self.says {
            Says::Here { generation } => (0, generation, 0),
            Says::Ask { nonce } => (1, nonce, 0),
            Says::Answer { nonce, held } => (2, nonce, held),
        };
        let bytes = MAGIC
            .into_iter()
            .chain([VERSION, kind, self.id, 0])
            .chain(self.boot.to_be_bytes())
            .chain(u32::to_be_bytes(number))
            .chain(u32::to_be_bytes(count));
        let mut encoded = [0; LENGTH];
        for (to, from) in encoded.iter_mut().zip(bytes) {
            *to = from;
        }
        encoded
    }

    /// `None`: somebody else's, or another version's.
    pub(super) fn decode(bytes: &[u8]) -> Option<Hello> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let ([version, kind, id, _], rest) = rest.split_first_chunk::<4>()?;
        let (boot, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        if *magic != MAGIC || *version != VERSION || !rest.is_empty() {
            return None;
        }
        let (number, count) = (u32::from_be_bytes(*number), u32::from_be_bytes(*count));
        Some(Hello {
            id: *id,
            boot: u64::from_be_bytes(*boot),
            says: match kind {
                0 => Says::Here { generation: number },
                1 => Says::Ask { nonce: number },
                2 => Says::Answer {
                    nonce: number,
                    held: count,
                },
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_said_is_heard(id: u8, boot: u64, number: u32, held: u32) {
            for says in [
                Says::Here { generation: number },
                Says::Ask { nonce: number },
                Says::Answer { nonce: number, held },
            ] {
                let hello = Hello { id, boot, says };
                prop_assert_eq!(Hello::decode(&hello.encode()), Some(hello));
            }
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = Hello::decode(&bytes);
        }
    }

    #[test]
    fn another_version_is_not_understood() {
        let mut bytes = Hello {
            id: 1,
            boot: 2,
            says: Says::Ask { nonce: 3 },
        }
        .encode();
        bytes[4] = 2;
        assert_eq!(Hello::decode(&bytes), None);
        assert_eq!(Hello::decode(&bytes[..20]), None);
    }
}
