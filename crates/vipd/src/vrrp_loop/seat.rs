//! What the loop keeps of a virtual router beside the protocol: where its adverts go, as bytes that
//! are ready to send, and what was last told of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vrrp::{Advertisement, Authentication, Family, Parameters, StateName, VirtualRouter};

use super::{RouterFacts, RouterReport, Spec};
use crate::counters::Counters;
use crate::net::sys::Mac;

/// How long a peer counts as incompatible after its last advert that could not be accepted, beside
/// three advert intervals.
const INCOMPATIBLE_FOR: Duration = Duration::from_secs(10);

pub(super) struct Seat {
    pub(super) name: String,
    pub(super) counters: Arc<Counters>,
    pub(super) virtual_mac: bool,
    /// The station on its macvlan. While that is up, the kernel gives what comes from the virtual
    /// MAC, another master's adverts, to it alone.
    pub(super) macvlan: Option<u32>,
    pub(super) group: Option<String>,
    pub(super) addresses: Arc<[(String, IpAddr)]>,
    /// The stations of its heartbeats, in their order.
    pub(super) heartbeats: Vec<(u32, Option<IpAddr>)>,
    pub(super) facts: Option<Arc<RouterFacts>>,
    pub(super) why: String,
    pub(super) hold: bool,
    pub(super) announce: u64,
    incompatible: Option<(IpAddr, &'static str, Instant)>,
    rendered: Option<Rendered>,
    glance: Option<Glance>,
    /// The hash of the last report: a thousand routers' reports are a quarter of a megabyte.
    reported: Option<u64>,
}

/// A way that adverts leave by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) station: u32,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// As an Ethernet frame from that address; `None`: as an IP packet.
    pub(super) from: Option<Mac>,
}

/// An advert as bytes, for each way. It serves as long as nothing of it changes.
struct Rendered {
    advertisement: Advertisement,
    ways: Box<[Way]>,
    packets: Box<[Arc<[u8]>]>,
}

/// What is cheap to look at and tells whether a report is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Glance {
    state: StateName,
    effective_priority: u8,
    master: Option<(IpAddr, u8)>,
    hold: bool,
    announce: u64,
    rival: Option<(IpAddr, u8)>,
    suspect: Option<Mac>,
    yielded: bool,
    lingering: bool,
    incompatible: Option<(IpAddr, &'static str)>,
    transitions: u64,
    faults: usize,
}

impl Seat {
    pub(super) fn new(spec: Spec) -> Seat {
        Seat {
            name: spec.name,
            counters: spec.counters,
            virtual_mac: spec.virtual_mac.is_some(),
            macvlan: None,
            group: spec.group,
            addresses: spec.addresses,
            heartbeats: Vec::new(),
            facts: None,
            why: String::new(),
            hold: false,
            announce: 0,
            incompatible: None,
            rendered: None,
            glance: None,
            reported: None,
        }
    }

    /// Takes in what is configured; the state stays.
    pub(super) fn configure(&mut self, spec: Spec) {
        self.name = spec.name;
        self.counters = spec.counters;
        self.virtual_mac = spec.virtual_mac.is_some();
        self.group = spec.group;
        self.addresses = spec.addresses;
        self.rendered = None;
    }

    /// A living peer whose adverts cannot be accepted.
    pub(super) fn note_incompatible(&mut self, from: IpAddr, reason: &'static str, now: Instant) {
        self.incompatible = Some((from, reason, now));
    }

    /// Forgets an incompatible peer that has fallen silent. Returns whether there was one.
    pub(super) fn forget_incompatible(&mut self, interval: Duration, now: Instant) -> bool {
        let patience = INCOMPATIBLE_FOR + interval * 3;
        self.incompatible
            .take_if(|(_, _, at)| now.saturating_duration_since(*at) >= patience)
            .is_some()
    }

    /// Whether the bytes at hand are those of this advert. A signed one is made anew each time.
    pub(super) fn has_rendered(
        &self,
        advertisement: &Advertisement,
        parameters: &Parameters,
    ) -> bool {
        let signed = matches!(parameters.authentication, Authentication::Hmac(_));
        let same = |known: &Rendered| known.advertisement == *advertisement;
        !signed && self.rendered.as_ref().is_some_and(same)
    }

    /// Makes the bytes of an advert for each way. `stamp` is the time since 1970 and a number that
    /// differs from one advert to the next, for those that are signed.
    pub(super) fn render(
        &mut self,
        advertisement: &Advertisement,
        parameters: &Parameters,
        ways: Vec<Way>,
        stamp: (Duration, u16),
    ) {
        let packets = ways
            .iter()
            .map(|way| packet(advertisement, parameters, way, stamp).into())
            .collect();
        self.rendered = Some(Rendered {
            advertisement: advertisement.clone(),
            ways: ways.into(),
            packets,
        });
    }

    /// What was rendered last.
    pub(super) fn packets(&self) -> impl Iterator<Item = (&Way, &Arc<[u8]>)> {
        let rendered = self.rendered.iter();
        rendered.flat_map(|known| known.ways.iter().zip(&known.packets))
    }

    /// What the bytes depend on may be another.
    pub(super) fn forget_rendered(&mut self) {
        self.rendered = None;
    }

    /// The report about it, if there is something new.
    pub(super) fn report(
        &mut self,
        router: &VirtualRouter,
        faults_may: bool,
    ) -> Option<RouterReport> {
        let glance = Glance {
            state: router.state_name(),
            effective_priority: router.effective_priority(),
            master: router.master(),
            hold: self.hold,
            announce: self.announce,
            rival: router.rival(),
            suspect: router.suspect(),
            yielded: router.has_yielded(),
            lingering: router.is_lingering(),
            incompatible: self.incompatible.map(|(from, reason, _)| (from, reason)),
            transitions: router.transitions(),
            faults: router.faults().len(),
        };
        if self.glance == Some(glance) && !faults_may {
            return None;
        }
        self.glance = Some(glance);
        let report = RouterReport {
            name: self.name.clone(),
            state: glance.state,
            why: self.why.clone(),
            faults: router.faults().iter().cloned().collect(),
            effective_priority: glance.effective_priority,
            master: glance.master,
            hold: glance.hold,
            announce: glance.announce,
            rival: glance.rival,
            suspect: glance.suspect,
            yielded: glance.yielded,
            lingering: glance.lingering,
            incompatible: glance.incompatible,
        };
        let mut hasher = DefaultHasher::new();
        report.hash(&mut hasher);
        let known = self.reported.replace(hasher.finish());
        (known != self.reported).then_some(report)
    }
}

/// Whom adverts of a family are sent to without unicast.
pub(super) fn group(family: Family) -> IpAddr {
    match family {
        Family::V4 => vrrp::GROUP_V4.into(),
        Family::V6 => vrrp::GROUP_V6.into(),
    }
}

/// The virtual router's Ethernet address (RFC 5798 §7.3).
pub(super) fn virtual_mac(family: Family, vrid: u8) -> Mac {
    let kind = match family {
        Family::V4 => 1,
        Family::V6 => 2,
    };
    [0, 0, 0x5e, 0, kind, vrid]
}

pub(super) fn packet(
    advertisement: &Advertisement,
    parameters: &Parameters,
    way: &Way,
    stamp: (Duration, u16),
) -> Vec<u8> {
    let Way {
        source,
        destination,
        ..
    } = *way;
    let ttl = parameters
        .unicast
        .as_ref()
        .map_or(255, |unicast| unicast.ttl);
    let ttl = if destination.is_multicast() { 255 } else { ttl };
    let message = advertisement.render(parameters, source, destination, stamp.0, stamp.1);
    let packet = match (source, destination) {
        // Identification 0: the kernel chooses one.
        (IpAddr::V4(source), IpAddr::V4(to)) => vrrp::ipv4_packet(source, to, ttl, 0, &message),
        (IpAddr::V6(source), IpAddr::V6(to)) => vrrp::ipv6_packet(source, to, ttl, &message),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    };
    let Some(from) = way.from else {
        return packet;
    };
    let mut frame = Vec::with_capacity(14 + packet.len());
    frame.extend(group_mac(destination));
    frame.extend(from);
    frame.extend(ether_type(parameters.family).to_be_bytes());
    frame.extend(packet);
    frame
}

/// The Ethernet type of a family's packets.
fn ether_type(family: Family) -> u16 {
    match family {
        Family::V4 => 0x0800,
        Family::V6 => 0x86dd,
    }
}

/// The Ethernet address of a multicast group (RFC 1112 §6.4, RFC 2464 §7).
fn group_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}
