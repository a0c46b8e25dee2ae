//! Who else is there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// A peer that is not heard for so long is away, and may have missed something.
const AWAY: Duration = Duration::from_secs(4);
/// A peer that is not heard for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Peers that are remembered; anybody may make up any number.
const PEERS_MAX: usize = 16;

/// The peers by boot id.
#[derive(Default)]
pub(super) struct Peers(BTreeMap<u64, Peer>);

struct Peer {
    address: IpAddr,
    generation: u32,
    heard: Instant,
    /// It was told of that it is away.
    told: bool,
}

/// What a hello is news of.
pub(super) struct News {
    /// The peer may lack something: it is new, or was away, or its backup daemon started anew.
    pub(super) lacks: bool,
    /// Its kernel takes connections in.
    pub(super) ready: bool,
}

impl Peers {
    /// A peer says that it is there; `None`: there are too many.
    pub(super) fn meet(&mut self, boot: u64, generation: u32, address: IpAddr) -> Option<News> {
        let now = Instant::now();
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&boot) {
            return None;
        }
        let peer = Peer {
            address,
            generation,
            heard: now,
            told: false,
        };
        let before = self.0.insert(boot, peer);
        // One that was restarted has another boot id; the old one is not coming back.
        self.0
            .retain(|known, peer| *known == boot || peer.address != address);
        Some(News {
            lacks: before.is_none_or(|before| {
                before.generation != generation || now.duration_since(before.heard) >= AWAY
            }),
            ready: generation > 0,
        })
    }

    /// Those who are away since the last time.
    pub(super) fn gone(&mut self) -> Vec<IpAddr> {
        let now = Instant::now();
        self.0
            .retain(|_, peer| now.duration_since(peer.heard) < FORGOTTEN);
        let mut gone = Vec::new();
        for peer in self.0.values_mut() {
            if !peer.told && !peer.is_there() {
                peer.told = true;
                gone.push(peer.address);
            }
        }
        gone
    }

    /// Forgets everybody.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Those who are heard, and whether their kernels take connections in.
    pub(super) fn there(&self) -> BTreeMap<IpAddr, bool> {
        let there = self.0.values().filter(|peer| peer.is_there());
        there
            .map(|peer| (peer.address, peer.generation > 0))
            .collect()
    }
}

impl Peer {
    fn is_there(&self) -> bool {
        self.heard.elapsed() < AWAY
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn lacks(peers: &mut Peers, boot: u64, generation: u32) -> bool {
        peers.meet(boot, generation, HERE).unwrap().lacks
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_lacks_something_when_it_or_its_daemon_is_new_or_was_away() {
        let mut peers = Peers::default();
        assert!(!peers.meet(1, 0, HERE).unwrap().ready);
        assert!(lacks(&mut peers, 1, 1), "its daemon has started");
        assert!(!lacks(&mut peers, 1, 1));
        assert!(lacks(&mut peers, 1, 2), "its daemon started anew");
        tokio::time::advance(AWAY).await;
        assert!(lacks(&mut peers, 1, 2), "it was away");
        assert!(lacks(&mut peers, 2, 1), "it was restarted");
        assert_eq!(peers.there(), BTreeMap::from([(HERE, true)]));
        assert_eq!(peers.0.len(), 1, "the one before is not coming back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_falls_silent_is_told_of_once_each_time() {
        let mut peers = Peers::default();
        peers.meet(1, 1, HERE);
        assert!(peers.gone().is_empty());
        tokio::time::advance(AWAY).await;
        assert_eq!(peers.gone(), [HERE]);
        assert!(peers.gone().is_empty() && peers.there().is_empty());
        peers.meet(1, 1, HERE);
        tokio::time::advance(AWAY).await;
        assert_eq!(peers.gone(), [HERE]);
        tokio::time::advance(FORGOTTEN).await;
        assert!(peers.gone().is_empty() && peers.0.is_empty());
    }

    #[test]
    fn a_flood_of_strangers_is_not_remembered() {
        let mut peers = Peers::default();
        for boot in 0..100 {
            let address = Ipv4Addr::from_bits(u32::try_from(boot).unwrap());
            let known = peers.meet(boot, 1, address.into()).is_some();
            assert_eq!(known, peers.0.len() > usize::try_from(boot).unwrap());
        }
        assert_eq!(peers.0.len(), PEERS_MAX);
    }
}
