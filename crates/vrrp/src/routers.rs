//! The virtual routers of a host: which one an advert is for, which move together, and when the next
//! deadline is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::datagram::Datagram;
use crate::discard::Discard;
use crate::event::{Event, Fault, Path};
use crate::parameters::{ChecksumForm, Family};
use crate::receive::{Arrival, Replay, check};
use crate::router::{Snapshot, VirtualRouter};

mod group;

use group::{Group, Standing};

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

/// A further path for the adverts of a virtual router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// The address of this host on that path.
    pub own: IpAddr,
    /// The host at the other end; `None`: whoever is in the group on that interface.
    pub peer: Option<IpAddr>,
}

/// What became of a received packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The advert was heard.
    Accepted {
        /// By whom.
        key: RouterKey,
        /// What is to be done, in order, and by whom: other members of a sync group may follow.
        actions: Vec<(RouterKey, Action)>,
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

/// What another process needs to go on with a virtual router of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    router: Snapshot,
    replay: Replay,
}

impl Handover {
    /// Whether it is master or backup.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.router.runs()
    }
}

/// A set of virtual routers. A router stands under the family and VRID of its parameters.
#[derive(Debug, Clone, Default)]
pub struct Routers {
    /// Boxed: the nodes of the map stay small, and half of each is empty.
    routers: BTreeMap<RouterKey, Box<Member>>,
    /// Every deadline, the next one first.
    deadlines: BTreeSet<(Instant, RouterKey)>,
    groups: Vec<Group>,
    /// The virtual router that each further path belongs to. The key has the path's own link.
    heartbeats: BTreeMap<RouterKey, Vec<(RouterKey, Heartbeat)>>,
}

#[derive(Debug, Clone)]
struct Member {
    router: VirtualRouter,
    due: Option<Instant>,
    group: Option<usize>,
    replay: Replay,
}

impl Routers {
    /// Adds a virtual router and returns the one that had its place.
    pub fn insert(&mut self, key: RouterKey, mut router: VirtualRouter) -> Option<VirtualRouter> {
        let before = self.remove(&key);
        let group = self.group_of(&key);
        router.set_grouped(group.is_some());
        let member = Member {
            router,
            due: None,
            group,
            replay: Replay::default(),
        };
        self.routers.insert(key, Box::new(member));
        self.note_deadline(key);
        before
    }

    /// Takes a virtual router out, as it is: feed [`Event::Shutdown`] first if it has started.
    pub fn remove(&mut self, key: &RouterKey) -> Option<VirtualRouter> {
        let member = self.routers.remove(key)?;
        if let Some(due) = member.due {
            self.deadlines.remove(&(due, *key));
        }
        Some(member.router)
    }

    /// The virtual router of that key.
    #[must_use]
    pub fn get(&self, key: &RouterKey) -> Option<&VirtualRouter> {
        self.routers.get(key).map(|member| &member.router)
    }

    /// What another process needs to go on with the virtual router of that key. `zero` is an instant
    /// that both know.
    #[must_use]
    pub fn hand_over(&self, key: &RouterKey, zero: Instant) -> Option<Handover> {
        let member = self.routers.get(key)?;
        Some(Handover {
            router: member.router.snapshot(zero),
            replay: member.replay.clone(),
        })
    }

    /// Goes on with what another process had of the virtual router of that key, as if it had been
    /// here. To be followed by [`Routers::settle`] when all are there.
    pub fn resume(&mut self, key: &RouterKey, zero: Instant, handover: Handover) {
        if let Some(member) = self.routers.get_mut(key) {
            member.router.resume(zero, handover.router);
            member.replay = handover.replay;
            self.note_deadline(*key);
        }
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&RouterKey, &VirtualRouter)> {
        self.routers
            .iter()
            .map(|(key, member)| (key, &member.router))
    }

    /// Sets the sync groups: the members of each are master together or not at all. A router is in
    /// one group at most: the first that names it. To be followed by [`Routers::settle`].
    pub fn set_groups(&mut self, groups: Vec<BTreeSet<RouterKey>>) {
        self.groups = groups.into_iter().map(Group::new).collect();
        for (key, member) in &mut self.routers {
            member.group = self.groups.iter().position(|g| g.keys.contains(key));
            member.router.set_grouped(member.group.is_some());
        }
    }

    fn group_of(&self, key: &RouterKey) -> Option<usize> {
        self.groups.iter().position(|g| g.keys.contains(key))
    }

    /// Sets the further paths: by the link on which their adverts come in, with the family and VRID
    /// of the virtual router that they belong to.
    pub fn set_heartbeats(&mut self, paths: Vec<(u32, RouterKey, Heartbeat)>) {
        self.heartbeats.clear();
        for (link, key, heartbeat) in paths {
            let at = RouterKey { link, ..key };
            self.heartbeats
                .entry(at)
                .or_default()
                .push((key, heartbeat));
        }
    }

    /// Gives a packet received on a link to the virtual router that it is for. `wall` is the time
    /// since 1970, which signed adverts are compared with.
    ///
    /// Checked are the way it came, the rules of [`Advertisement::parse`](crate::Advertisement::parse),
    /// and those that depend on configuration, in the order that `receive.rs` gives.
    pub fn receive(
        &mut self,
        now: Instant,
        wall: Duration,
        link: u32,
        datagram: &Datagram<'_>,
    ) -> Received {
        // The VRID is the second byte in every version, so a broken packet still has its victim.
        let Some(vrid) = datagram.payload.get(1).copied() else {
            let discard = Discard::Truncated {
                have: datagram.payload.len(),
                wanted: 8,
            };
            return Received::Discarded { key: None, discard };
        };
        let family = Family::of(datagram.source);
        let at = RouterKey { link, family, vrid };
        let Some((key, heartbeat)) = self.addressee(at, datagram.source) else {
            return Received::Discarded {
                key: None,
                discard: Discard::Vrid { vrid },
            };
        };
        let discarded = |discard| Received::Discarded {
            key: Some(key),
            discard,
        };
        let Some(member) = self.routers.get_mut(&key) else {
            return discarded(Discard::Vrid { vrid });
        };
        let parameters = member.router.parameters();
        let arrival = match heartbeat {
            None => Arrival::Link {
                own: member.router.source(),
            },
            Some(heartbeat) => Arrival::Heartbeat(heartbeat),
        };
        let (advertisement, form) =
            match check(parameters, arrival, &mut member.replay, wall, datagram) {
                Ok(heard) => heard,
                Err(discard) => return discarded(discard),
            };
        let other_addresses = !same_set(&parameters.addresses, &advertisement.addresses);
        let event = Event::Advertisement {
            from: datagram.source,
            advertisement,
            path: heartbeat.map_or(Path::Link, |heartbeat| Path::Heartbeat {
                own: heartbeat.own,
            }),
        };
        let actions = self.handle(now, &key, event);
        Received::Accepted {
            key,
            actions,
            other_addresses,
            form,
        }
    }

    /// Whom an advert on a link is for, and by which further path, if it is one.
    fn addressee(&self, at: RouterKey, source: IpAddr) -> Option<(RouterKey, Option<Heartbeat>)> {
        let paths = self.heartbeats.get(&at).map_or(&[][..], Vec::as_slice);
        let from_peer = paths.iter().find(|(_, path)| path.peer == Some(source));
        let path = |(key, heartbeat): &(RouterKey, Heartbeat)| (*key, Some(*heartbeat));
        if let Some(found) = from_peer {
            return Some(path(found));
        }
        if self.routers.contains_key(&at) {
            return Some((at, None));
        }
        paths.first().map(path)
    }

    /// Feeds one event to one virtual router. There is nothing to do where none has that key. The
    /// other members of its sync group follow.
    pub fn handle(
        &mut self,
        now: Instant,
        key: &RouterKey,
        event: Event,
    ) -> Vec<(RouterKey, Action)> {
        let mut actions = Vec::new();
        if let Some(group) = self.feed(now, *key, event, &mut actions) {
            self.settle_group(now, group, &mut actions);
        }
        actions
    }

    /// Makes the members of every sync group agree; to be called after the groups, or the routers
    /// in them, are others.
    pub fn settle(&mut self, now: Instant) -> Vec<(RouterKey, Action)> {
        let mut actions = Vec::new();
        // Who is in no group any more has no fault of one.
        let alone: Vec<RouterKey> = self
            .routers
            .iter()
            .filter(|(_, member)| member.group.is_none())
            .map(|(key, _)| *key)
            .collect();
        for key in alone {
            let cleared = Event::FaultCleared(Fault::SyncGroup);
            self.feed(now, key, cleared, &mut actions);
        }
        for group in 0..self.groups.len() {
            self.settle_group(now, group, &mut actions);
        }
        actions
    }

    /// When [`Routers::timeout`] must be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Feeds [`Event::Timeout`] to all that are due, the longest overdue first. Returns what each
    /// wants done, in order.
    pub fn timeout(&mut self, now: Instant) -> Vec<(RouterKey, Action)> {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<RouterKey> = due.map(|(_, key)| *key).collect();
        let mut actions = Vec::new();
        let mut groups = BTreeSet::new();
        for key in due {
            groups.extend(self.feed(now, key, Event::Timeout, &mut actions));
        }
        for group in groups {
            self.settle_group(now, group, &mut actions);
        }
        actions
    }

    /// Returns the group that has to settle after it.
    fn feed(
        &mut self,
        now: Instant,
        key: RouterKey,
        event: Event,
        actions: &mut Vec<(RouterKey, Action)>,
    ) -> Option<usize> {
        let member = self.routers.get(&key)?;
        let (group, before) = (member.group, Standing::of(&member.router));
        self.act(key, actions, |router| router.handle(now, event));
        // Most adverts and deadlines change nothing that the others of a large group would ask.
        let changed = self.get(&key).map(Standing::of) != Some(before);
        group.filter(|group| {
            let waits = self
                .groups
                .get(*group)
                .is_some_and(|g| g.patience.is_some());
            changed || waits
        })
    }

    fn act(
        &mut self,
        key: RouterKey,
        actions: &mut Vec<(RouterKey, Action)>,
        change: impl FnOnce(&mut VirtualRouter) -> Vec<Action>,
    ) {
        if let Some(member) = self.routers.get_mut(&key) {
            let wanted = change(&mut member.router);
            actions.extend(wanted.into_iter().map(|action| (key, action)));
            self.note_deadline(key);
        }
    }

    fn note_deadline(&mut self, key: RouterKey) {
        let Some(member) = self.routers.get_mut(&key) else {
            return;
        };
        let due = member.router.poll_timeout();
        if due == member.due {
            return;
        }
        if let Some(old) = std::mem::replace(&mut member.due, due) {
            self.deadlines.remove(&(old, key));
        }
        self.deadlines.extend(due.map(|due| (due, key)));
    }
}

/// Whether two lists hold the same addresses. They mostly have the same order too.
fn same_set(ours: &[IpAddr], theirs: &[IpAddr]) -> bool {
    let set = |list: &[IpAddr]| list.iter().copied().collect::<BTreeSet<_>>();
    ours == theirs || set(ours) == set(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Advertisement, GROUP_V4};
    use crate::parameters::{Parameters, Version};
    use std::net::Ipv4Addr;

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
            .cloned();
        for (link, vrid) in [(LINK, 52), (4, 51)] {
            let received = receive(&mut routers, now, link, PEER, &advert(Version::V3, vrid));
            check_discarded(received, None, "vrid");
        }
        assert_eq!(
            routers
                .get(&key(LINK, 51))
                .map(VirtualRouter::state)
                .cloned(),
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
        let received = routers.receive(now, Duration::ZERO, LINK, &datagram);
        check_discarded(received, Some(51), "truncated");
        datagram.payload = &[0x31];
        let received = routers.receive(now, Duration::ZERO, LINK, &datagram);
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
        let advert = advert(Version::V3, 51);
        let mut reversed: Vec<_> = advert.addresses.to_vec();
        reversed.reverse();
        for (addresses, other) in [(&reversed[..], false), (&reversed[1..], true)] {
            let addresses = addresses.into();
            let advert = Advertisement {
                addresses,
                ..advert.clone()
            };
            check_accepted(&receive(&mut routers, now, LINK, PEER, &advert), 51, other);
        }
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
        let mut due: Vec<_> = routers
            .timeout(late)
            .into_iter()
            .map(|(key, _)| key.vrid)
            .collect();
        due.dedup();
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
        let addresses = [[203, 0, 113, 1].into(), [203, 0, 113, 2].into()];
        Parameters::new(vrid, Version::V3, &addresses)
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
        let sender = Parameters {
            checksum: ChecksumForm::MessageOnly,
            ..Parameters::new(advert.vrid, advert.version, &[])
        };
        let payload = &advert.render(&sender, source, destination, Duration::ZERO, 0);
        routers.receive(
            now,
            Duration::ZERO,
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
