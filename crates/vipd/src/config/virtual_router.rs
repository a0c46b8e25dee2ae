//! `[[vrrp]]`: virtual routers.

use std::net::IpAddr;
use std::time::Duration;

use ::vrrp::{ChecksumForm, PRIORITY_OWNER, Parameters, Version};

use super::section::{Section, Seen};
use super::value::Value;
use super::{Garp, Scope, VirtualAddress, Vrrp, text};

const V2_INTERVAL_MIN: Duration = Duration::from_secs(1);
const V2_INTERVAL_MAX: Duration = Duration::from_secs(255);
/// RFC 5798 §5.2.7: 12 bits of centiseconds.
const V3_INTERVAL_MIN: Duration = Duration::from_millis(10);
const V3_INTERVAL_MAX: Duration = Duration::from_millis(40_950);
const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1000);
const GARP_DELAY_MAX: Duration = Duration::from_secs(3600);
const GARP_REFRESH_MIN: Duration = Duration::from_secs(1);
const GARP_REFRESH_MAX: Duration = Duration::from_secs(86_400);
/// The count of addresses in an advert is one byte (RFC 3768 §5.3.5).
const ADVERTISED_MAX: usize = 255;

/// Reads the virtual routers; what must be unique among them is noted here.
#[derive(Debug)]
pub(super) struct Reader {
    names: Seen<String>,
    vrids: Seen<(String, u8)>,
    addresses: Seen<IpAddr>,
    /// The names of all of them, also of those with problems.
    pub(super) known: Vec<String>,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader {
            names: Seen::new(),
            vrids: Seen::new(),
            addresses: Seen::new(),
            known: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, mut s: Section<'_>) -> Option<Vrrp> {
        let name = s.need("name", "\"...\"", |v| {
            let name = v.parse(text::name)?;
            self.known.push(name.clone());
            self.names.note(
                name.clone(),
                v,
                "another virtual router has this name",
                "give each its own",
            );
            Some(name)
        });
        let interface = s.need("interface", "\"eth0\"", |v| v.parse(text::interface));
        let vrid = s.need("vrid", "51", |v| {
            let vrid = v.integer(1..=u8::MAX)?;
            if let Some(interface) = &interface {
                self.vrids.note(
                    (interface.clone(), vrid),
                    v,
                    &format!("another virtual router on {interface:?} has this vrid"),
                    "give each virtual router of a network its own, from 1 to 255",
                );
            }
            Some(vrid)
        });
        let timing = Timing::read(&mut s);
        s.maybe("accept", |v| v.only(v.boolean(), true, "true"));
        s.maybe("virtual_mac", |v| v.only(v.boolean(), false, "false"));
        s.maybe("takeover_probe", |v| v.only(v.text(), "off", "\"off\""));
        let addresses = s.need("virtual_addresses", "[\"192.168.1.10/24\"]", |v| {
            self.addresses(v, interface.as_deref())
        });
        let garp = s.or("garp", Garp::default(), |v| Garp::read(v.section()?));
        s.refuse(&["authentication", "unicast", "heartbeat", "track"]);
        s.finish();
        let (timing, addresses) = (timing?, addresses?);
        Some(Vrrp {
            name: name?,
            interface: interface?,
            parameters: Parameters {
                version: timing.version,
                priority: timing.priority,
                advert_interval: timing.advert_interval,
                preempt: timing.preempt,
                preempt_delay: timing.preempt_delay,
                checksum: timing.checksum,
                ..Parameters::new(vrid?, timing.version, &advertised(&addresses))
            },
            accept: true,
            virtual_mac: None,
            routes: Vec::new(),
            rules: Vec::new(),
            heartbeats: Vec::new(),
            reachable: None,
            track: Vec::new(),
            addresses,
            garp: garp?,
        })
    }

    /// The virtual addresses. Without `interface` (its own problem is reported) they are checked, and
    /// the answer is `None`.
    fn addresses(&mut self, v: &Value<'_>, interface: Option<&str>) -> Option<Vec<VirtualAddress>> {
        let list = v.list()?;
        let read: Vec<Option<VirtualAddress>> = list
            .iter()
            .map(|item| self.address(item, interface))
            .collect();
        // An unreadable one may be advertised, so that it counts.
        let advertised = read
            .iter()
            .filter(|address| address.as_ref().is_none_or(|a| a.advertise))
            .count();
        if advertised == 0 {
            v.report(
                "a virtual router must advertise at least one address",
                "add one, such as \"192.168.1.10/24\"",
            );
            return None;
        }
        if advertised > ADVERTISED_MAX {
            v.report(
                format!("{advertised} advertised addresses do not fit in an advert"),
                format!(
                    "keep {ADVERTISED_MAX}, and give the others `advertise = false` (on both directors)"
                ),
            );
            return None;
        }
        read.into_iter().collect()
    }

    fn address(&mut self, item: &Value<'_>, interface: Option<&str>) -> Option<VirtualAddress> {
        let mut read = |v: &Value<'_>| {
            let address = v.parse(text::virtual_address)?;
            self.addresses.note(
                address.addr(),
                v,
                &format!("{} is already a virtual address", address.addr()),
                "remove one of the two",
            );
            Some(address)
        };
        if !item.is_section() {
            return Some(VirtualAddress {
                address: read(item)?,
                interface: interface?.to_owned(),
                advertise: true,
                label: None,
                scope: Scope::Global,
                prefix_route: true,
            });
        }
        let mut s = item.section()?;
        let address = s.need("address", "\"192.168.1.10/24\"", read);
        let own = s.maybe("interface", |v| v.parse(text::interface));
        let advertise = s.or("advertise", true, |v| v.boolean());
        s.finish();
        Some(VirtualAddress {
            address: address?,
            interface: match own? {
                Some(own) => own,
                None => interface?.to_owned(),
            },
            advertise: advertise?,
            label: None,
            scope: Scope::Global,
            prefix_route: true,
        })
    }
}

fn advertised(addresses: &[VirtualAddress]) -> Vec<IpAddr> {
    addresses
        .iter()
        .filter(|address| address.advertise)
        .map(VirtualAddress::ip)
        .collect()
}

/// The keys that say when a virtual router speaks and takes over.
struct Timing {
    version: Version,
    priority: u8,
    advert_interval: Duration,
    preempt: bool,
    preempt_delay: Duration,
    checksum: ChecksumForm,
}

impl Timing {
    fn read(s: &mut Section<'_>) -> Option<Timing> {
        let version = s.or("version", Version::V2, |v| match v.integer(2..=3_u8)? {
            2 => Some(Version::V2),
            _ => Some(Version::V3),
        });
        let priority = s.or("priority", 100, |v| v.integer(1..=PRIORITY_OWNER));
        let advert_interval = s.or("advert_interval", Duration::from_secs(1), |v| {
            advert_interval(v, version)
        });
        let preempt = s.or("preempt", true, |v| {
            let preempt = v.boolean()?;
            if !preempt && priority == Some(PRIORITY_OWNER) {
                v.report(
                    "the address owner (priority 255) always preempts",
                    "write preempt = true, or a priority from 1 to 254",
                );
                return None;
            }
            Some(preempt)
        });
        let preempt_delay = s.or("preempt_delay", Duration::ZERO, |v| {
            let delay = v.duration(Duration::ZERO..=PREEMPT_DELAY_MAX)?;
            if preempt == Some(false) && !delay.is_zero() {
                v.report(
                    "preempt = false leaves nothing to delay",
                    "remove preempt_delay, or write preempt = true",
                );
                return None;
            }
            Some(delay)
        });
        let checksum = s.or("checksum", ChecksumForm::default(), |v| {
            let form = v.choice(
                &[
                    ("rfc5798", ChecksumForm::PseudoHeader),
                    ("rfc9568", ChecksumForm::MessageOnly),
                ],
                &[],
            )?;
            if form == ChecksumForm::MessageOnly && version == Some(Version::V2) {
                v.report(
                    "version 2 has only one checksum",
                    "remove it, or write version = 3",
                );
                return None;
            }
            Some(form)
        });
        Some(Timing {
            version: version?,
            priority: priority?,
            advert_interval: advert_interval?,
            preempt: preempt?,
            preempt_delay: preempt_delay?,
            checksum: checksum?,
        })
    }
}

fn advert_interval(v: &Value<'_>, version: Option<Version>) -> Option<Duration> {
    match version {
        None => v.duration(V3_INTERVAL_MIN..=V2_INTERVAL_MAX),
        Some(Version::V2) => {
            let interval = v.duration(V3_INTERVAL_MIN..=V2_INTERVAL_MAX)?;
            if interval.subsec_nanos() != 0 || interval < V2_INTERVAL_MIN {
                v.report(
                    "version 2 knows only whole seconds",
                    "write \"1s\" to \"255s\", or version = 3 for shorter intervals",
                );
                return None;
            }
            Some(interval)
        }
        Some(Version::V3) => {
            let interval = v.duration(V3_INTERVAL_MIN..=V3_INTERVAL_MAX)?;
            if interval.as_nanos() % V3_INTERVAL_MIN.as_nanos() != 0 {
                v.report(
                    "version 3 counts in steps of 10 ms",
                    "write a multiple of 10ms, such as \"250ms\"",
                );
                return None;
            }
            Some(interval)
        }
    }
}

impl Garp {
    fn read(mut s: Section<'_>) -> Option<Garp> {
        let default = Garp::default();
        let repeat = s.or("repeat", default.repeat, |v| v.integer(1..=60));
        let delay = s.or("delay", default.delay, |v| {
            v.duration(Duration::ZERO..=GARP_DELAY_MAX)
        });
        let refresh = s.or("refresh", default.refresh, |v| {
            let refresh = v.duration(Duration::ZERO..=GARP_REFRESH_MAX)?;
            if !refresh.is_zero() && refresh < GARP_REFRESH_MIN {
                v.report(
                    "more often than once a second is a flood",
                    "write \"0s\" for never, or \"1s\" and more",
                );
                return None;
            }
            Some(refresh)
        });
        s.finish();
        Some(Garp {
            repeat: repeat?,
            delay: delay?,
            refresh: refresh?,
        })
    }
}

impl Default for Garp {
    fn default() -> Garp {
        Garp {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
        }
    }
}
