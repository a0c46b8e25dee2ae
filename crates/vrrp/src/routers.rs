//! The virtual routers of a host: which one an advert is for, and when the next deadline is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::action::Action;
use crate::datagram::Datagram;
use crate::discard::Discard;
use crate::event::Event;
use crate::packet::Advertisement;
use crate::parameters::{ChecksumForm, Family, Version};
use crate::router::VirtualRouter;

/// What tells one virtual router of a host from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterKey {
    /// The interface, by a number that the caller gives to each.
    pub link: u32,
    /// The family; the VRIDs of the two are separate spaces (RFC 5798 §5.2.3).
    pub family: Family,
    /// Virtual router identifier, 1 to 255.
    pub vrid: u8,
}

/// What became of a received packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The advert was heard.
    Accepted {
        /// By whom.
        key: RouterKey,
        /// What is to be done, in order.
        actions: Vec<Action>,
        /// Whether it lists other addresses than are configured here, in whatever order. It counts
        /// all the same (RFC 5798 §7.1): the operator wants to know.
        other_addresses: bool,
        /// The form of its sum (version 3 over IPv4).
        form: Option<ChecksumForm>,
    },
    /// It broke a rule.
    Discarded {
        /// Whose advert it would have been, if it names a virtual router of that link.
        key: Option<RouterKey>,
        /// Which rule.
        discard: Discard,
    },
}

/// A set of virtual routers. A router stands under the family and VRID of its parameters.
#[derive(Debug, Clone, Default)]
pub struct Routers {
    routers: BTreeMap<RouterKey, VirtualRouter>,
}

impl Routers {
    /// Adds a virtual router and returns the one that had its place.
    pub fn insert(&mut self, key: RouterKey, router: VirtualRouter) -> Option<VirtualRouter> {
        self.routers.insert(key, router)
    }

    /// Takes a virtual router out, as it is: feed [`Event::Shutdown`] first if it has started.
    pub fn remove(&mut self, key: &RouterKey) -> Option<VirtualRouter> {
        self.routers.remove(key)
    }

    /// The virtual router of that key.
    #[must_use]
    pub fn get(&self, key: &RouterKey) -> Option<&VirtualRouter> {
        self.routers.get(key)
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&RouterKey, &VirtualRouter)> {
        self.routers.iter()
    }

    /// Gives a packet received on a link to the virtual router that it is for.
    ///
    /// Checked are the rules of [`Advertisement::parse`], and then those that depend on
    /// configuration: the version, our own source (an advert that came back), and in version 2 the
    /// interval.
    pub fn receive(&mut self, now: Instant, link: u32, datagram: &Datagram<'_>) -> Received {
        // The VRID is the second byte in every version, so a broken packet still has its victim.
        let Some(vrid) = datagram.payload.get(1).copied() else {
            let discard = Discard::Truncated {
                have: datagram.payload.len(),
                wanted: 8,
            };
            return Received::Discarded { key: None, discard };
        };
        let key = RouterKey {
            link,
            family: Family::of(datagram.source),
            vrid,
        };
        let Some(router) = self.routers.get_mut(&key) else {
            return Received::Discarded {
                key: None,
                discard: Discard::Vrid { vrid },
            };
        };
        let (advertisement, form) = match hear(router, datagram) {
            Ok(heard) => heard,
            Err(discard) => {
                return Received::Discarded {
                    key: Some(key),
                    discard,
                };
            }
        };
        let ours = &router.parameters().addresses;
        let other_addresses = !same_set(ours, &advertisement.addresses);
        let event = Event::Advertisement {
            from: datagram.source,
            advertisement,
        };
        let actions = router.handle(now, event);
        Received::Accepted {
            key,
            actions,
            other_addresses,
            form,
        }
    }

    /// Feeds one event to one virtual router. There is nothing to do where none has that key.
    pub fn handle(&mut self, now: Instant, key: &RouterKey, event: Event) -> Vec<Action> {
        self.routers
            .get_mut(key)
            .map(|router| router.handle(now, event))
            .unwrap_or_default()
    }

    /// When [`Routers::timeout`] must be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.routers
            .values()
            .filter_map(VirtualRouter::poll_timeout)
            .min()
    }

    /// Feeds [`Event::Timeout`] to all that are due, the longest overdue first. Returns what each
    /// wants done, in order.
    pub fn timeout(&mut self, now: Instant) -> Vec<(RouterKey, Vec<Action>)> {
        let due_of = |router: &VirtualRouter| router.poll_timeout().filter(|at| *at <= now);
        let mut due: Vec<(Instant, RouterKey)> = self
            .routers
            .iter()
            .filter_map(|(key, router)| due_of(router).map(|at| (at, *key)))
            .collect();
        due.sort();
        due.into_iter()
            .map(|(_, key)| (key, self.handle(now, &key, Event::Timeout)))
            .collect()
    }
}

fn hear(
    router: &VirtualRouter,
    datagram: &Datagram<'_>,
) -> Result<(Advertisement, Option<ChecksumForm>), Discard> {
    let parameters = router.parameters();
    // The version comes first: the other rules are not those of a message of another version.
    let wanted = parameters.version.number();
    if let Some(heard) = datagram.payload.first().map(|first| first >> 4)
        && heard != wanted
    {
        return Err(Discard::Version { heard, wanted });
    }
    let (advertisement, form) = Advertisement::parse(datagram)?;
    if router.source() == Some(datagram.source) {
        return Err(Discard::Own {
            source_address: datagram.source,
        });
    }
    match advertisement.version {
        // RFC 3768 §7.1: the interval must be the one configured here.
        Version::V2 if advertisement.interval != parameters.interval() => {
            let (heard, wanted) = (advertisement.interval, parameters.interval());
            Err(Discard::Interval { heard, wanted })
        }
        // RFC 5798 §6.4.2: in version 3 the master's interval is followed.
        Version::V2 | Version::V3 => Ok((advertisement, form)),
    }
}

/// Whether two lists hold the same addresses. They mostly have the same order too.
fn same_set(ours: &[IpAddr], theirs: &[IpAddr]) -> bool {
    let set = |list: &[IpAddr]| list.iter().copied().collect::<BTreeSet<_>>();
    ours == theirs || set(ours) == set(theirs)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::packet::GROUP_V4;
    use crate::parameters::Parameters;

    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const LINK: u32 = 3;

    #[test]
    fn an_advert_reaches_the_router_of_its_link_family_and_vrid_only() {
        let (mut routers, now) = started(&[(LINK, 51), (LINK, 52), (4, 51)]);
        let received = receive(&mut routers, now, LINK, PEER, &advert(Version::V3, 51));
        check_accepted(&received, 51, false);
        let following: Vec<_> = routers
            .iter()
            .filter(|(_, router)| router.master().is_some())
            .map(|(key, _)| (key.link, key.vrid))
            .collect();
        assert_eq!(following, [(LINK, 51)]);
    }

    #[test]
    fn an_advert_for_nobody_changes_nothing_and_has_no_key() {
        let (mut routers, now) = started(&[(LINK, 51)]);
        let before = routers
            .get(&key(LINK, 51))
            .map(VirtualRouter::state)
            .copied();
        for (link, vrid) in [(LINK, 52), (4, 51)] {
            let received = receive(&mut routers, now, link, PEER, &advert(Version::V3, vrid));
            check_discarded(received, None, "vrid");
        }
        assert_eq!(
            routers
                .get(&key(LINK, 51))
                .map(VirtualRouter::state)
                .copied(),
            before
        );
    }

    #[test]
    fn a_broken_packet_counts_for_the_router_that_it_names() {
        let (mut routers, now) = started(&[(LINK, 51)]);
        let mut datagram = Datagram {
            source: PEER.into(),
            destination: GROUP_V4.into(),
            ttl: 255,
            payload: &[0x31, 51, 100],
        };
        let received = routers.receive(now, LINK, &datagram);
        check_discarded(received, Some(51), "truncated");
        datagram.payload = &[0x31];
        let received = routers.receive(now, LINK, &datagram);
        check_discarded(received, None, "truncated");
    }

    #[test]
    fn an_advert_of_the_other_version_is_discarded() {
        let (mut routers, now) = started(&[(LINK, 51)]);
        let received = receive(&mut routers, now, LINK, PEER, &advert(Version::V2, 51));
        check_discarded(received, Some(51), "version");
    }

    #[test]
    fn an_advert_from_our_own_source_is_discarded() {
        let (mut routers, now) = started(&[(LINK, 51)]);
        let received = receive(&mut routers, now, LINK, OWN, &advert(Version::V3, 51));
        check_discarded(received, Some(51), "own");
    }

    #[test]
    fn a_version_2_advert_of_another_interval_is_discarded() {
        let now = start();
        let parameters = Parameters {
            version: Version::V2,
            ..parameters(51)
        };
        let mut routers = Routers::default();
        routers.insert(key(LINK, 51), VirtualRouter::new(parameters));
        routers.handle(now, &key(LINK, 51), Event::Startup);
        let other = Advertisement {
            interval: Duration::from_secs(2),
            ..advert(Version::V2, 51)
        };
        let received = receive(&mut routers, now, LINK, PEER, &other);
        check_discarded(received, Some(51), "interval");
        let received = receive(&mut routers, now, LINK, PEER, &advert(Version::V2, 51));
        check_accepted(&received, 51, false);
    }

    #[test]
    fn another_address_list_is_reported_and_its_order_is_of_no_matter() {
        let (mut routers, now) = started(&[(LINK, 51)]);
        let mut advert = advert(Version::V3, 51);
        advert.addresses.reverse();
        check_accepted(&receive(&mut routers, now, LINK, PEER, &advert), 51, false);
        advert.addresses.pop();
        check_accepted(&receive(&mut routers, now, LINK, PEER, &advert), 51, true);
    }

    #[test]
    fn timeout_feeds_all_that_are_due_the_longest_overdue_first() {
        let now = start();
        let mut routers = Routers::default();
        assert_eq!(routers.poll_timeout(), None);
        for (vrid, priority) in [(1, 50), (2, 200), (3, 100), (4, 1)] {
            let parameters = Parameters {
                priority,
                ..parameters(vrid)
            };
            routers.insert(key(LINK, vrid), VirtualRouter::new(parameters));
            routers.handle(now, &key(LINK, vrid), Event::Startup);
        }
        assert_eq!(
            routers.poll_timeout(),
            Some(now + Duration::from_micros(3_218_750))
        );
        let late = now + Duration::from_micros(3_900_000);
        let due: Vec<_> = routers
            .timeout(late)
            .into_iter()
            .map(|(key, _)| key.vrid)
            .collect();
        assert_eq!(due, [2, 3, 1]);
        assert!(routers.timeout(late).is_empty());
    }

    #[test]
    fn an_event_for_a_router_that_is_gone_does_nothing() {
        let (mut routers, now) = started(&[(LINK, 51)]);
        assert!(routers.remove(&key(LINK, 51)).is_some());
        assert!(
            routers
                .handle(now, &key(LINK, 51), Event::Timeout)
                .is_empty()
        );
        assert!(routers.get(&key(LINK, 51)).is_none());
    }

    #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
    fn start() -> Instant {
        Instant::now()
    }

    fn started(places: &[(u32, u8)]) -> (Routers, Instant) {
        let now = start();
        let mut routers = Routers::default();
        for (link, vrid) in places {
            let key = key(*link, *vrid);
            routers.insert(key, VirtualRouter::new(parameters(*vrid)));
            routers.handle(now, &key, Event::SourceChanged(OWN.into()));
            routers.handle(now, &key, Event::Startup);
        }
        (routers, now)
    }

    fn key(link: u32, vrid: u8) -> RouterKey {
        RouterKey {
            link,
            family: Family::V4,
            vrid,
        }
    }

    fn parameters(vrid: u8) -> Parameters {
        Parameters {
            vrid,
            version: Version::V3,
            family: Family::V4,
            priority: 100,
            advert_interval: Duration::from_secs(1),
            preempt: true,
            preempt_delay: Duration::ZERO,
            checksum: ChecksumForm::PseudoHeader,
            addresses: vec![[203, 0, 113, 1].into(), [203, 0, 113, 2].into()],
        }
    }

    fn advert(version: Version, vrid: u8) -> Advertisement {
        Advertisement {
            version,
            family: Family::V4,
            vrid,
            priority: 150,
            interval: Duration::from_secs(1),
            addresses: parameters(vrid).addresses,
        }
    }

    fn receive(
        routers: &mut Routers,
        now: Instant,
        link: u32,
        from: Ipv4Addr,
        advert: &Advertisement,
    ) -> Received {
        let (source, destination) = (from.into(), GROUP_V4.into());
        let payload = &advert.emit(source, destination, ChecksumForm::MessageOnly);
        routers.receive(
            now,
            link,
            &Datagram {
                source,
                destination,
                ttl: 255,
                payload,
            },
        )
    }

    fn check_accepted(received: &Received, vrid: u8, other: bool) {
        let Received::Accepted {
            key: heard_by,
            actions,
            other_addresses,
            form,
        } = received
        else {
            panic!("{received:?}");
        };
        assert_eq!((heard_by, *other_addresses), (&key(LINK, vrid), other));
        assert_eq!(actions, &[]);
        assert_ne!(*form, Some(ChecksumForm::PseudoHeader));
    }

    fn check_discarded(received: Received, vrid: Option<u8>, name: &str) {
        let Received::Discarded {
            key: victim,
            discard,
        } = received
        else {
            panic!("{received:?}");
        };
        assert_eq!((victim.map(|key| key.vrid), discard.name()), (vrid, name));
    }
}
