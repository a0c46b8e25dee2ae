//! What is configured of a virtual router.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::authentication::Authentication;

/// Priority of the address owner (RFC 3768 §5.3.4): it owns the addresses as its own.
pub const PRIORITY_OWNER: u8 = 255;
/// Priority in the advert of a master that gives up (RFC 3768 §5.3.4).
pub const PRIORITY_STOP: u8 = 0;

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 3768: IPv4, intervals of whole seconds.
    V2,
    /// RFC 5798 and RFC 9568: IPv4 and IPv6, intervals of centiseconds.
    V3,
}

impl Version {
    /// The number in the first byte of an advert.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }

    /// The nearest interval, rounded down, that an advert can carry: v2 1 to 255 s in whole seconds
    /// (RFC 3768 §5.3.7), v3 10 ms to 40.95 s in steps of 10 ms (RFC 9568 §5.2.7).
    #[must_use]
    pub fn nearest_interval(self, interval: Duration) -> Duration {
        self.interval_unit() * u32::from(self.interval_field(interval))
    }

    /// What the interval field of an advert counts.
    pub(crate) fn interval_unit(self) -> Duration {
        match self {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => Duration::from_millis(10),
        }
    }

    /// The interval field of an advert: 8 bits in v2, 12 bits in v3, never zero.
    pub(crate) fn interval_field(self, interval: Duration) -> u16 {
        let largest = match self {
            Version::V2 => 255,
            Version::V3 => 4095,
        };
        let units = interval.as_nanos() / self.interval_unit().as_nanos();
        u16::try_from(units).unwrap_or(largest).clamp(1, largest)
    }
}

/// Address family of a virtual router; the VRIDs of the two are separate spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// Which sum a version 3 advert over IPv4 carries. Both are accepted on receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ChecksumForm {
    /// RFC 5798 as deployed: over the pseudo-header and the message.
    #[default]
    PseudoHeader,
    /// RFC 9568: over the message only.
    MessageOnly,
}

/// What a backup does when somebody still answers for the addresses although no master is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TakeoverProbe {
    /// It does not ask.
    #[default]
    Off,
    /// It takes over and says so.
    Warn,
    /// It waits for two more master-down intervals, and only then takes over and says so.
    Hold,
}

/// Adverts from host to host instead of to the group, for networks without multicast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unicast {
    /// The own address: adverts are sent from it and must have been sent to it.
    pub source: IpAddr,
    /// To whom they are sent, and from whom they are heard.
    pub peers: Vec<Peer>,
    /// Time to live or hop limit of the adverts sent, 1 to 255.
    pub ttl: u8,
}

/// A host that adverts are exchanged with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The least time to live of its adverts; 255: it must be a neighbour.
    pub min_ttl: u8,
    /// The greatest time to live of its adverts.
    pub max_ttl: u8,
}

/// The configuration of a virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Virtual router identifier, 1 to 255.
    pub vrid: u8,
    /// Protocol version; [`Family::V6`] needs [`Version::V3`].
    pub version: Version,
    /// Family of the adverts and of every address in `addresses`.
    pub family: Family,
    /// 1 to 254, or [`PRIORITY_OWNER`].
    pub priority: u8,
    /// Time between adverts: v2 whole seconds 1 to 255; v3 10 ms to 40.95 s in steps of 10 ms.
    pub advert_interval: Duration,
    /// Whether a backup of higher priority takes over from a living master.
    pub preempt: bool,
    /// How long it listens to the lower master first.
    pub preempt_delay: Duration,
    /// How long after the startup it begins to take part; until then it hears and says nothing.
    pub start_delay: Duration,
    /// After how many missed adverts the master is dead, 1 to 100; RFC 5798 §6.1 says 3.
    pub down_adverts: u8,
    /// The sum sent (v3 over IPv4).
    pub checksum: ChecksumForm,
    /// Whether a silent master's addresses are asked after before they are taken over.
    pub takeover_probe: TakeoverProbe,
    /// How adverts prove that they come from a peer.
    pub authentication: Authentication,
    /// The hosts that adverts are exchanged with; `None`: the group.
    pub unicast: Option<Unicast>,
    /// The advertised addresses, in the order of the configuration.
    pub addresses: Arc<[IpAddr]>,
}

impl Parameters {
    /// What RFC 5798 §6.1 has as defaults, for a router of these addresses, all of one family.
    #[must_use]
    pub fn new(vrid: u8, version: Version, addresses: &[IpAddr]) -> Parameters {
        Parameters {
            vrid,
            version,
            family: addresses
                .first()
                .map_or(Family::V4, |first| Family::of(*first)),
            priority: 100,
            advert_interval: Duration::from_secs(1),
            preempt: true,
            preempt_delay: Duration::ZERO,
            start_delay: Duration::ZERO,
            down_adverts: 3,
            checksum: ChecksumForm::default(),
            takeover_probe: TakeoverProbe::default(),
            authentication: Authentication::None,
            unicast: None,
            addresses: addresses.into(),
        }
    }

    /// The advert interval as the adverts carry it; the timers use the same value.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.version.nearest_interval(self.advert_interval)
    }
}
