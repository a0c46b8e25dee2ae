//! vipd beside other people's routers: a stock keepalived and FRR's vrrpd, in network namespaces of
//! this machine. They need root, and no IPVS. vipd is on `lb1`, the other on `lb2`; what is true is
//! said by `ip`, by tcpdump and tshark, and by the other's log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lab::capture::Capture;
use lab::director::Director;
use lab::frr::{self, Frr};
use lab::keepalived::Keepalived;
use lab::{Host, Lab, wait_for, wait_until};
use serde_json::{Value, json};

/// Longer than any election at an interval of one second, on a busy machine.
const ELECTION: Duration = Duration::from_secs(20);
/// How much earlier than the protocol says a takeover may seem: FRR cuts times to centiseconds.
const ROUNDING: Duration = Duration::from_millis(20);
/// Our priority where we are to be master.
const BEST: u8 = 150;
/// That of the other router.
const THEIRS: u8 = 100;
/// Ours where the other is to be master.
const LEAST: u8 = 50;

const V4: [&str; 1] = ["10.77.0.10/24"];
const V6: [&str; 2] = ["fe80::51/64", "2001:db8::10/64"];

#[test]
fn keepalived_of_version_2_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(2, &V4, Stranger::Keepalived)?)
}

#[test]
fn keepalived_with_a_password_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    let scene = Scene {
        ours: "authentication = { type = \"pass\", key = \"s3cret\" }",
        theirs: "authentication { auth_type PASS\n auth_pass s3cret\n }",
        wire: "vrrp.auth_type == 1 && vrrp.auth_string == \"s3cret\"",
        ..Scene::new(2, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_of_version_3_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V4, Stranger::Keepalived)?)
}

#[test]
fn keepalived_over_ipv6_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V6, Stranger::Keepalived)?)
}

#[test]
fn keepalived_from_host_to_host_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    let scene = Scene {
        ours: "unicast = { source = \"10.77.0.11\", peers = [\"10.77.0.12\"] }",
        theirs: "unicast_src_ip 10.77.0.12\n unicast_peer { 10.77.0.11\n }",
        wire: "ip.dst == 10.77.0.12",
        ..Scene::new(2, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_of_version_3_from_host_to_host_and_vipd_follow_and_relieve_each_other() -> Result<()>
{
    let scene = Scene {
        ours: "unicast = { source = \"10.77.0.11\", peers = [\"10.77.0.12\"] }",
        theirs: "unicast_src_ip 10.77.0.12\n unicast_peer { 10.77.0.11\n }",
        wire: "ip.dst == 10.77.0.12",
        ..Scene::new(3, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_over_ipv6_from_host_to_host_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    // Without `unicast_ttl` keepalived sends IPv6 with the hop limit of the kernel.
    let scene = Scene {
        ours: "unicast = { source = \"2001:db8::11\", peers = [\"2001:db8::12\"] }",
        theirs: "unicast_src_ip 2001:db8::12\n unicast_ttl 255\n unicast_peer { 2001:db8::11\n }",
        sources: ["2001:db8::11", "2001:db8::12"],
        wire: "ipv6.dst == 2001:db8::12",
        ..Scene::new(3, &V6, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn frr_of_version_2_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(2, &V4, Stranger::Frr)?)
}

#[test]
fn frr_of_version_3_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V4, Stranger::Frr)?)
}

#[test]
fn frr_over_ipv6_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V6, Stranger::Frr)?)
}

#[test]
fn frr_whose_adverts_come_from_the_virtual_address_and_vipd_follow_and_relieve_each_other()
-> Result<()> {
    let scene = Scene {
        sources: ["fe80::11", "fe80::51"],
        ..Scene::new(3, &V6, Stranger::Frr)?
    };
    elections(&scene)
}

#[test]
fn keepalived_refuses_the_checksum_of_rfc_9568_and_vipd_says_that_there_are_two_masters()
-> Result<()> {
    let log = other_checksum(Stranger::Keepalived)?;
    ensure!(log.contains("checksum"), "{log}");
    Ok(())
}

#[test]
fn frr_refuses_the_checksum_of_rfc_9568_and_vipd_says_that_there_are_two_masters() -> Result<()> {
    // It does so without a word.
    other_checksum(Stranger::Frr).map(|_| ())
}

/// Returns what the other logs of it.
fn other_checksum(stranger: Stranger) -> Result<String> {
    let mut scene = Scene {
        ours: "checksum = \"rfc9568\"",
        ..Scene::new(3, &V4, stranger)?
    };
    let vipd = scene.start_vipd(BEST)?;
    let peer = scene.start_peer(THEIRS)?;
    scene.wait_for_holder(&scene.lb1)?;
    scene
        .wait_for_holder(&scene.lb2)
        .with_context(|| peer.log())?;
    // Not in the status: a keepalived that hears adverts it refuses puts off its own with each, so
    // that one advert may be all that is heard of it.
    wait_until(ELECTION, "the event", || {
        let told = events(&vipd, "vrrp.rival", "web")?;
        Ok(told.iter().any(|told| told.contains(scene.sources[1])))
    })?;
    scene.ours = "checksum = \"rfc5798\"";
    vipd.reload(&scene.config(BEST))?;
    scene.wait_for_us(Some(&peer))?;
    vipd.wait_for_status("/vrrp/0/rival", &Value::Null)?;
    Ok(peer.log())
}

#[test]
fn a_keepalived_that_is_configured_differently_is_named_as_a_peer_that_lives() -> Result<()> {
    let scene = Scene::new(2, &V4, Stranger::Keepalived)?;
    // Router, VRID, their lines, our lines, and what we must call the difference.
    let different = [
        (
            "password",
            51,
            "authentication { auth_type PASS\n auth_pass s3cret\n }",
            "authentication = { type = \"pass\", key = \"secret\" }",
            "authentication",
        ),
        (
            "none",
            52,
            "authentication { auth_type PASS\n auth_pass s3cret\n }",
            "",
            "authentication",
        ),
        ("version", 53, "version 3", "", "version"),
        ("interval", 54, "advert_int 2", "", "interval"),
    ];
    let (mut ours, mut theirs) = (String::new(), String::new());
    for (name, vrid, their_lines, our_lines, _) in different {
        let address = format!("10.77.0.{vrid}/24");
        let lines = format!("priority 200\n {their_lines}");
        theirs.push_str(&instance(name, vrid, &lines, &[&address]));
        ours.push_str(&format!(
            "[[vrrp]]\nname = \"{name}\"\ninterface = \"eth0\"\nvrid = {vrid}\n\
             virtual_addresses = [\"{address}\"]\n{our_lines}\n"
        ));
    }
    let _keepalived = Keepalived::start(&scene.lb2, &theirs)?;
    let vipd = Director::start(&scene.lb1, &ours)?;
    for (number, (name, _, _, _, reason)) in different.into_iter().enumerate() {
        let incompatible = format!("/vrrp/{number}/incompatible");
        vipd.wait_for_status(&format!("{incompatible}/address"), &json!("10.77.0.12"))?;
        let status = vipd.status()?;
        ensure!(
            status["vrrp"][number]["incompatible"]["reason"] == reason,
            "{status:#}"
        );
        let counters = &status["vrrp"][number]["counters"];
        ensure!(
            counters["discarded"][reason].as_u64() > Some(0),
            "{name}: {counters:#}"
        );
        ensure!(counters["adverts_received"] == 0, "{name}: {counters:#}");
        let told = events(&vipd, "vrrp.incompatible", name)?;
        ensure!(
            told.len() == 1 && told[0].contains("10.77.0.12"),
            "{name}: {told:#?}"
        );
    }
    vipd.stop()
}

#[test]
fn a_client_hardly_notices_a_stop_or_a_switchover_to_keepalived() -> Result<()> {
    let scene = Scene::new(2, &V4, Stranger::Keepalived)?;
    let client = scene.lab.host("client", "10.77.0.100/24")?;
    let peer = scene.start_peer(THEIRS)?;
    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer))?;
    let lost = lost_replies(&client, || {
        vipd.stop()?;
        scene.wait_for_them(&peer)
    })?;
    ensure!(
        lost <= 50,
        "{lost} of 5000 replies are missing around a stop"
    );

    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer))?;
    let lost = lost_replies(&client, || {
        let said = vipd.vipctl(&["switchover", "web"])?;
        ensure!(
            said.contains("10.77.0.12 (priority 100) is master; handed over"),
            "{said}"
        );
        scene.wait_for_them(&peer)
    })?;
    ensure!(
        lost <= 50,
        "{lost} of 5000 replies are missing around a switchover"
    );
    // It is better, and does not take back what an operator gave away.
    sleep(5 * scene.interval);
    scene.wait_for_them(&peer)
}

/// What vipd says of a thing, in events of one kind.
fn events(vipd: &Director, kind: &str, object: &str) -> Result<Vec<String>> {
    let text = vipd.vipctl(&["events", "--json"])?;
    let all = text.lines().map(serde_json::from_str::<Value>);
    let all: Vec<Value> = all.collect::<Result<_, _>>()?;
    let about = |event: &&Value| event["kind"] == kind && event["object"] == object;
    let messages = all
        .iter()
        .filter(about)
        .map(|event| event["message"].to_string());
    Ok(messages.collect())
}

/// How many of 5,000 pings of the virtual address, a thousand a second, are not answered while
/// something happens. It must be over before they are.
fn lost_replies(client: &Host, happens: impl FnOnce() -> Result<()>) -> Result<u32> {
    let arguments = ["-q", "-n", "-i", "0.001", "-c", "5000", "10.77.0.10"];
    let mut ping = client.spawn("ping", Path::new("ping"), &arguments)?;
    sleep(Duration::from_secs(1));
    happens()?;
    ensure!(
        ping.wait(Duration::ZERO).is_err(),
        "it took too long: {}",
        ping.output()
    );
    ping.wait(ELECTION)?;
    let text = ping.output();
    let received = text
        .split(", ")
        .find_map(|part| part.strip_suffix(" received"));
    let received: u32 = received.with_context(|| text.clone())?.parse()?;
    Ok(5000 - received)
}

/// Every way in which the addresses can go from one to the other and back: a stop, a death, a
/// return, with either of them as the better router.
fn elections(scene: &Scene) -> Result<()> {
    let mut at_lb1 = scene.capture(&scene.lb1)?;
    let at_lb2 = scene.capture(&scene.lb2)?;
    let [us, them] = scene.sources;
    let silence = 3 * scene.interval;

    let peer = scene.start_peer(THEIRS)?;
    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer)).context("vipd is better")?;
    scene.ensure_silent(them, &at_lb2)?;

    let stopped = SystemTime::now();
    vipd.stop()?;
    scene.wait_for_them(&peer).context("vipd stops")?;
    let (last, gap) = takeover(&at_lb2, stopped, us, them)?;
    ensure!(last == 0, "vipd went without a word");
    within(gap, scene.skew(THEIRS), silence).context("from priority 0 to the other's advert")?;

    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer)).context("vipd returns")?;
    let pulled = SystemTime::now();
    scene.lab.pull_cable(&scene.lb1)?;
    scene
        .wait_for_them(&peer)
        .context("vipd's cable is pulled")?;
    let (last, gap) = takeover(&at_lb2, pulled, us, them)?;
    ensure!(last == BEST, "heard through a pulled cable");
    let down = silence + scene.skew(THEIRS);
    within(gap, down, down + Duration::from_secs(2)).context("from our last advert to theirs")?;
    scene.lab.plug_cable(&scene.lb1)?;
    scene
        .wait_for_us(Some(&peer))
        .context("vipd's cable is back")?;

    vipd.reload(&scene.config(LEAST))?;
    scene.wait_for_them(&peer).context("vipd is worse")?;
    let master = json!({ "address": them, "priority": THEIRS });
    vipd.wait_for_status("/vrrp/0/master", &master)?;
    scene.ensure_silent(us, &at_lb1)?;

    let stopped = SystemTime::now();
    peer.stop()?;
    scene.wait_for_us(None).context("the other stops")?;
    let (last, gap) = takeover(&at_lb1, stopped, them, us)?;
    ensure!(last == 0, "the other went without a word");
    within(gap, scene.skew(LEAST), silence).context("from priority 0 to our advert")?;

    let peer = scene.start_peer(THEIRS)?;
    scene.wait_for_them(&peer).context("the other returns")?;
    let cut = SystemTime::now();
    scene.lab.isolate(&scene.lb2)?;
    scene
        .wait_for_holder(&scene.lb1)
        .context("the other is cut off")?;
    let (last, gap) = takeover(&at_lb1, cut, them, us)?;
    ensure!(last == THEIRS, "heard though cut off");
    let down = silence + scene.skew(LEAST);
    within(gap, down, down + Duration::from_secs(2)).context("from their last advert to ours")?;
    scene.lab.rejoin(&scene.lb2)?;
    scene.wait_for_them(&peer).context("the other is back")?;

    scene.ensure_understood(&vipd)?;
    let wrong = at_lb1.tshark(&scene.wrong())?;
    ensure!(wrong.is_empty(), "{}:\n{}", scene.wrong(), wrong.join("\n"));
    Ok(())
}

/// What one of the two is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stranger {
    Keepalived,
    Frr,
}

/// The other router while it runs.
enum Peer {
    Keepalived(Keepalived),
    Frr(Frr),
}

impl Peer {
    fn stop(self) -> Result<()> {
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

    fn log(&self) -> String {
        match self {
            Peer::Keepalived(keepalived) => keepalived.log(),
            Peer::Frr(frr) => frr.log(),
        }
    }
}

/// Two routers on one switch, and how they are configured.
struct Scene {
    lab: Lab,
    /// vipd's host.
    lb1: Host,
    /// The other's.
    lb2: Host,
    stranger: Stranger,
    version: u8,
    interval: Duration,
    addresses: &'static [&'static str],
    /// Further lines of our `[[vrrp]]`.
    ours: &'static str,
    /// Further lines of keepalived's `vrrp_instance`.
    theirs: &'static str,
    /// Where the adverts come from: ours, theirs.
    sources: [&'static str; 2],
    /// What tshark must find in each of our adverts, besides what is always so.
    wire: &'static str,
}

impl Scene {
    fn new(version: u8, addresses: &'static [&'static str], stranger: Stranger) -> Result<Scene> {
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

    fn config(&self, priority: u8) -> String {
        let Scene {
            version,
            interval,
            addresses,
            ours,
            ..
        } = self;
        format!(
            "[global]\nhttp = \"127.0.0.1:9650\"\nstate_dir = {:?}\n[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\n\
             vrid = 51\nversion = {version}\npriority = {priority}\n\
             advert_interval = \"{}ms\"\nvirtual_addresses = {addresses:?}\n{ours}\n",
            self.lab.folder().join("state"),
            interval.as_millis()
        )
    }

    fn start_vipd(&self, priority: u8) -> Result<Director> {
        Director::start(&self.lb1, &self.config(priority))
    }

    fn start_peer(&self, priority: u8) -> Result<Peer> {
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

    fn capture(&self, host: &Host) -> Result<Capture> {
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

    fn wait_for_holder(&self, host: &Host) -> Result<()> {
        let what = format!("the addresses on {}", host.name());
        wait_until(ELECTION, &what, || Ok(self.has_all(host)? == Some(true))).map(|_| ())
    }

    /// Waits until we alone have the addresses, and the other says that it is backup.
    fn wait_for_us(&self, peer: Option<&Peer>) -> Result<()> {
        self.wait_for_state("the addresses on lb1 alone", [true, false], peer, "backup")
    }

    /// Waits until the other alone has the addresses, and says so.
    fn wait_for_them(&self, peer: &Peer) -> Result<()> {
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
    fn ensure_silent(&self, source: &str, capture: &Capture) -> Result<()> {
        let since = SystemTime::now();
        sleep(5 * self.interval / 2);
        let mut adverts = adverts(capture).into_iter();
        let loud = adverts.find(|advert| advert.source == source && advert.at > since);
        ensure!(loud.is_none(), "a backup speaks: {loud:?}");
        Ok(())
    }

    fn skew(&self, priority: u8) -> Duration {
        let part = u32::from(256 - u16::from(priority));
        match self.version {
            2 => Duration::from_secs(1) * part / 256,
            _ => self.interval * part / 256,
        }
    }

    /// vipd discarded nothing of what the other sent, and knows the form of its checksums.
    fn ensure_understood(&self, vipd: &Director) -> Result<()> {
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
    fn wrong(&self) -> String {
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
fn instance(name: &str, vrid: u8, lines: &str, addresses: &[&str]) -> String {
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
fn takeover(capture: &Capture, since: SystemTime, from: &str, to: &str) -> Result<(u8, Duration)> {
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

fn within(time: Duration, least: Duration, most: Duration) -> Result<()> {
    ensure!(
        time + ROUNDING >= least && time < most,
        "{time:?}, wanted {least:?} to {most:?}"
    );
    Ok(())
}
