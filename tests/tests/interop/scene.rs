//! The scene of every test of interoperation: vipd and another router on one switch, how both are
//! configured, and what strangers say of them.

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lab::capture::Capture;
use lab::director::Director;
use lab::frr::{self, Frr};
use lab::keepalived::Keepalived;
use lab::{Host, Lab, wait_for, wait_until};
use serde_json::Value;

/// Longer than any election at an interval of one second, on a busy machine.
pub(crate) const ELECTION: Duration = Duration::from_secs(20);
/// How much earlier than the protocol says a takeover may seem: FRR cuts times to centiseconds.
const ROUNDING: Duration = Duration::from_millis(20);
/// Our priority where we are to be master.
pub(crate) const BEST: u8 = 150;
/// That of the other router.
pub(crate) const THEIRS: u8 = 100;
/// Ours where the other is to be master.
pub(crate) const LEAST: u8 = 50;

/// The virtual addresses over IPv4.
pub(crate) const V4: [&str; 1] = ["10.77.0.10/24"];
/// Those over IPv6.
pub(crate) const V6: [&str; 2] = ["fe80::51/64", "2001:db8::10/64"];

/// What one of the two is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stranger {
    Keepalived,
    Frr,
}

/// The other router while it runs.
pub(crate) enum Peer {
    Keepalived(Keepalived),
    Frr(Frr),
}

impl Peer {
    pub(crate) fn stop(self) -> Result<()> {
        match self {
            Peer::Keepalived(keepalived) => keepalived.stop(),
            Peer::Frr(frr) => frr.stop(),
        }
    }

    /// The state that it says it is in.
    fn state(&self) -> String {
        let state = match self {
            Peer::Keepalived(keepalived) => keepalived.state(),
            Peer::Frr(frr) => frr.state(),
        };
        state.unwrap_or_default().to_lowercase()
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Peer::Keepalived(keepalived) => keepalived.log(),
            Peer::Frr(frr) => frr.log(),
        }
    }
}

/// Two routers on one switch, and how they are configured.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    /// vipd's host.
    pub(crate) lb1: Host,
    /// The other's.
    pub(crate) lb2: Host,
    pub(crate) stranger: Stranger,
    pub(crate) version: u8,
    pub(crate) interval: Duration,
    pub(crate) addresses: &'static [&'static str],
    /// Further lines of our `[[vrrp]]`.
    pub(crate) ours: &'static str,
    /// Further lines of keepalived's `vrrp_instance`.
    pub(crate) theirs: &'static str,
    /// Where the adverts come from: ours, theirs.
    pub(crate) sources: [&'static str; 2],
    /// What tshark must find in each of our adverts, besides what is always so.
    pub(crate) wire: &'static str,
}

impl Scene {
    pub(crate) fn new(
        version: u8,
        addresses: &'static [&'static str],
        stranger: Stranger,
    ) -> Result<Scene> {
        let lab = Lab::new()?;
        let (lb1, lb2) = (
            lab.host("lb1", "10.77.0.11/24")?,
            lab.host("lb2", "10.77.0.12/24")?,
        );
        for host in [&lb1, &lb2] {
            // Addresses of IPv6 that a reader of a capture knows, and at once.
            let last = if host.name() == "lb1" { "11" } else { "12" };
            host.ip("link set eth0 addrgenmode none")?;
            host.ip("-6 addr flush dev eth0")?;
            for prefix in ["fe80::", "2001:db8::"] {
                host.ip(&format!("addr add {prefix}{last}/64 dev eth0 nodad"))?;
            }
        }
        let over_ipv6 = addresses.len() > 1;
        Ok(Scene {
            lab,
            lb1,
            lb2,
            stranger,
            version,
            interval: Duration::from_millis(if version == 2 { 1000 } else { 250 }),
            addresses,
            ours: "",
            theirs: "",
            sources: match (over_ipv6, stranger) {
                (false, _) => ["10.77.0.11", "10.77.0.12"],
                (true, Stranger::Keepalived) => ["fe80::11", "fe80::12"],
                (true, Stranger::Frr) => ["fe80::11", "fe80::5112"],
            },
            wire: if over_ipv6 {
                "ipv6.dst == ff02::12"
            } else {
                "ip.dst == 224.0.0.18"
            },
        })
    }

    fn is_over_ipv6(&self) -> bool {
        self.addresses.len() > 1
    }

    pub(crate) fn config(&self, priority: u8) -> String {
        let Scene {
            version,
            interval,
            addresses,
            ours,
            ..
        } = self;
        format!(
            "[global]\nhttp = \"127.0.0.1:9650\"\n\
             [[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nversion = {version}\npriority = {priority}\n\
             advert_interval = \"{}ms\"\nvirtual_addresses = {addresses:?}\n{ours}\n",
            interval.as_millis()
        )
    }

    pub(crate) fn start_vipd(&self, priority: u8) -> Result<Director> {
        Director::start(&self.lb1, &self.config(priority))
    }

    pub(crate) fn start_peer(&self, priority: u8) -> Result<Peer> {
        match self.stranger {
            Stranger::Keepalived => {
                let config = instance(
                    "web",
                    51,
                    &format!(
                        "version {}\n priority {priority}\n advert_int {}\n {}",
                        self.version,
                        self.interval.as_secs_f64(),
                        self.theirs
                    ),
                    self.addresses,
                );
                Keepalived::start(&self.lb2, &config).map(Peer::Keepalived)
            }
            Stranger::Frr => {
                let router = frr::Router {
                    version: self.version,
                    priority,
                    interval: self.interval,
                    addresses: self.addresses,
                    link_local: Some(self.sources[1])
                        .filter(|source| self.is_over_ipv6() && *source != "fe80::51"),
                };
                Frr::start(&self.lb2, &router).map(Peer::Frr)
            }
        }
    }

    pub(crate) fn capture(&self, host: &Host) -> Result<Capture> {
        host.capture("ip proto 112 or ip6 proto 112")
    }

    /// Whether a host has all the addresses; `None`: some.
    fn has_all(&self, host: &Host) -> Result<Option<bool>> {
        let mut count = 0;
        for address in self.addresses {
            count += usize::from(host.holds(address.split('/').next().unwrap())?);
        }
        Ok(match count {
            0 => Some(false),
            all if all == self.addresses.len() => Some(true),
            _ => None,
        })
    }

    pub(crate) fn wait_for_holder(&self, host: &Host) -> Result<()> {
        let what = format!("the addresses on {}", host.name());
        wait_until(ELECTION, &what, || Ok(self.has_all(host)? == Some(true))).map(|_| ())
    }

    /// Waits until we alone have the addresses, and the other says that it is backup.
    pub(crate) fn wait_for_us(&self, peer: Option<&Peer>) -> Result<()> {
        self.wait_for_state("the addresses on lb1 alone", [true, false], peer, "backup")
    }

    /// Waits until the other alone has the addresses, and says so.
    pub(crate) fn wait_for_them(&self, peer: &Peer) -> Result<()> {
        self.wait_for_state(
            "the addresses on lb2 alone",
            [false, true],
            Some(peer),
            "master",
        )
    }

    fn wait_for_state(
        &self,
        what: &str,
        wanted: [bool; 2],
        peer: Option<&Peer>,
        state: &str,
    ) -> Result<()> {
        let mut seen = String::new();
        wait_until(ELECTION, what, || {
            let has = [self.has_all(&self.lb1)?, self.has_all(&self.lb2)?];
            let says = peer.map(Peer::state);
            seen = format!("lb1, lb2 have all: {has:?}; the other says {says:?}");
            Ok(has == wanted.map(Some) && says.is_none_or(|says| says == state))
        })
        .map(|_| ())
        .with_context(|| format!("{seen}\n{}", peer.map(Peer::log).unwrap_or_default()))
    }

    /// A backup that hears the master says nothing.
    pub(crate) fn ensure_silent(&self, source: &str, capture: &Capture) -> Result<()> {
        let since = SystemTime::now();
        sleep(5 * self.interval / 2);
        let mut adverts = adverts(capture).into_iter();
        let loud = adverts.find(|advert| advert.source == source && advert.at > since);
        ensure!(loud.is_none(), "a backup speaks: {loud:?}");
        Ok(())
    }

    pub(crate) fn skew(&self, priority: u8) -> Duration {
        let part = u32::from(256 - u16::from(priority));
        match self.version {
            2 => Duration::from_secs(1) * part / 256,
            _ => self.interval * part / 256,
        }
    }

    /// vipd discarded nothing of what the other sent, and knows the form of its checksums.
    pub(crate) fn ensure_understood(&self, vipd: &Director) -> Result<()> {
        let status = vipd.status()?;
        let router = &status["vrrp"][0];
        let discarded = router["counters"]["discarded"].as_object();
        let mut counts = discarded.context("no counters")?.values();
        ensure!(counts.all(|count| *count == 0), "{router:#}");
        ensure!(router["incompatible"] == Value::Null, "{router:#}");
        if self.version == 3 && !self.is_over_ipv6() {
            let metrics = self.lb1.get("http://127.0.0.1:9650/metrics");
            let metrics = metrics.context("no metrics")?;
            let form = |form: &str| {
                let name =
                    format!("vipd_vrrp_adverts_checksum_total{{name=\"web\",form=\"{form}\"}} ");
                let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
                line.and_then(|count| count.parse::<u64>().ok())
            };
            ensure!(form("rfc5798") > Some(0), "{metrics}");
            ensure!(form("rfc9568") == Some(0), "{metrics}");
        }
        Ok(())
    }

    /// tshark's filter for what must not be on the wire.
    pub(crate) fn wrong(&self) -> String {
        let Scene {
            version,
            wire,
            sources: [us, _],
            ..
        } = self;
        let (source, right) = if self.is_over_ipv6() {
            ("ipv6.src", "ipv6.hlim == 255 && ipv6.tclass == 0xc0")
        } else {
            ("ip.src", "ip.ttl == 255 && ip.dsfield == 0xc0")
        };
        format!(
            "!vrrp || _ws.malformed || !(vrrp.checksum.status == 1) || !(vrrp.version == {version}) \
             || ({source} == {us} && !({right} && {wire}))"
        )
    }
}

/// A router of keepalived's configuration.
pub(crate) fn instance(name: &str, vrid: u8, lines: &str, addresses: &[&str]) -> String {
    let addresses = addresses.join("\n ");
    format!(
        "vrrp_instance {name} {{\n state BACKUP\n interface eth0\n virtual_router_id {vrid}\n \
         {lines}\n virtual_ipaddress {{\n {addresses}\n }}\n}}\n"
    )
}

/// An advert as tcpdump tells it.
#[derive(Debug)]
struct Advert {
    at: SystemTime,
    source: String,
    priority: u8,
}

fn adverts(capture: &Capture) -> Vec<Advert> {
    let parse = |packet: lab::capture::Packet| {
        let (source, rest) = packet.text.split_once(" > ")?.1.split_once(" > ")?;
        let (_, rest) = rest.split_once(" prio ")?;
        Some(Advert {
            at: packet.at,
            source: source.rsplit_once(' ')?.1.to_owned(),
            priority: rest.split_once(',')?.0.parse().ok()?,
        })
    };
    capture.packets().into_iter().filter_map(parse).collect()
}

/// When `to` speaks for the first time since a moment: the priority of the last advert of `from`
/// before that, and the time between the two.
pub(crate) fn takeover(
    capture: &Capture,
    since: SystemTime,
    from: &str,
    to: &str,
) -> Result<(u8, Duration)> {
    let mut adverts = wait_for(ELECTION, "the new master's advert", || {
        let all = adverts(capture);
        let first = all
            .iter()
            .position(|advert| advert.source == to && advert.at >= since);
        Ok(first.map(|first| all.into_iter().take(first + 1).collect::<Vec<_>>()))
    })
    .with_context(|| format!("of {to}, in {:#?}", adverts(capture)))?;
    let first = adverts.pop().context("no advert")?;
    let last = adverts.iter().rev().find(|advert| advert.source == from);
    let last = last.context("nothing was heard of the old master")?;
    Ok((last.priority, first.at.duration_since(last.at)?))
}

pub(crate) fn within(time: Duration, least: Duration, most: Duration) -> Result<()> {
    ensure!(
        time + ROUNDING >= least && time < most,
        "{time:?}, wanted {least:?} to {most:?}"
    );
    Ok(())
}
