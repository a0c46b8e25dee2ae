//! Many virtual routers, fast ones, and many addresses.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::subject::{Kind, Setup, Subject};
use super::{Line, milliseconds, side_by_side};
use crate::host::Host;
use crate::process::Process;
use crate::{Lab, run, wait_until};

type Values = Vec<(String, &'static str, f64)>;

/// 255 routers at 10 ms, on a cable without a switch: its work would be counted as the sender's.
pub(super) fn fast_adverts() -> Result<Vec<Line>> {
    let setup = |priority| Setup {
        interfaces: vec!["eth1"],
        routers: 255,
        addresses: 1,
        priority,
        interval: Duration::from_millis(10),
    };
    let measure = |kind| -> Result<Values> {
        let pair = Pair::start(kind, setup(150), setup(100), 2)?;
        pair.wait_for_addresses("eth1", 255)?;
        sleep(Duration::from_secs(2));
        let time = Duration::from_secs(10);
        let (cpu, sent) = pair.master_load("eth1", time)?;
        let watch = Watch::start(&pair.b, "eth1")?;
        sleep(Duration::from_secs(5));
        let seen = watch.stop()?;
        Ok(vec![
            (
                "processor time per advert sent".to_owned(),
                "us",
                cpu.as_secs_f64() * 1e6 / sent,
            ),
            (
                "longest gap".to_owned(),
                "ms",
                seen.longest_gap("10.77.1.1"),
            ),
            (
                "routers with a second master".to_owned(),
                "",
                seen.speakers_of("10.77.1.2"),
            ),
        ])
    };
    let mut lines = side_by_side(measure(Kind::Vipd)?, &measure(Kind::Keepalived)?);
    if let Some(first) = lines.first_mut() {
        first.floor = Some(raw_send()?);
    }
    Ok(lines)
}

/// 10,000 addresses on 50 routers.
pub(super) fn many_addresses() -> Result<Vec<Line>> {
    let setup = |priority| Setup {
        interfaces: vec!["eth0"],
        routers: 50,
        addresses: 200,
        priority,
        interval: Duration::from_secs(1),
    };
    let measure = |kind| -> Result<Values> {
        let pair = Pair::new(1)?;
        let watch = Watch::start(&pair.b, "eth0")?;
        let second = Subject::start(&pair.b, kind, &setup(100))?;
        let first = Subject::start(&pair.a, kind, &setup(150))?;
        // Each look at ten thousand addresses holds the kernel up: few of them.
        let (begun, looks) = (Instant::now(), Duration::from_millis(250));
        let mut first_seen = None;
        let installed = loop {
            let count = count_addresses(&pair.a, "eth0")?;
            let at = Instant::now();
            if count > 0 {
                first_seen.get_or_insert(at - looks / 2);
            }
            if count >= 10_000 {
                break at - first_seen.unwrap_or(at) - looks / 2;
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(120),
                "only {count} addresses came"
            );
            sleep(looks);
        };
        sleep(Duration::from_secs(10));
        let start = watch.stop()?;
        let watch = Watch::start(&pair.b, "eth0")?;
        first.reload(
            &pair.a,
            &Setup {
                addresses: 200,
                ..setup(151)
            },
        )?;
        sleep(Duration::from_secs(6));
        let reload = watch.stop()?;
        let watch = Watch::start(&pair.b, "eth0")?;
        first.stop()?;
        wait_until(
            Duration::from_secs(120),
            "all addresses on the other",
            || Ok(count_addresses(&pair.b, "eth0")? >= 10_000),
        )?;
        sleep(Duration::from_secs(5));
        let stop = watch.stop()?;
        drop(second);
        let gap = |seen: &Seen, who: &str| seen.longest_gap(who);
        Ok(vec![
            (
                "installed within (+- 250 ms)".to_owned(),
                "ms",
                milliseconds(installed),
            ),
            (
                "start: longest gap".to_owned(),
                "ms",
                gap(&start, "10.77.0.1"),
            ),
            (
                "start: routers with a second master".to_owned(),
                "",
                start.overlapping(),
            ),
            (
                "reload: longest gap".to_owned(),
                "ms",
                gap(&reload, "10.77.0.1"),
            ),
            (
                "reload: routers with a second master".to_owned(),
                "",
                reload.overlapping(),
            ),
            (
                "stop: longest gap of the successor".to_owned(),
                "ms",
                gap(&stop, "10.77.0.2"),
            ),
        ])
    };
    let mut lines = side_by_side(measure(Kind::Vipd)?, &measure(Kind::Keepalived)?);
    if let Some(first) = lines.first_mut() {
        first.floor = Some(milliseconds(plain_install()?));
    }
    Ok(lines)
}

/// 1,000 routers at 1 s.
pub(super) fn many_routers() -> Result<Vec<Line>> {
    let setup = |priority| Setup {
        interfaces: vec!["eth0", "eth1", "eth2", "eth3"],
        routers: 1_000,
        addresses: 1,
        priority,
        interval: Duration::from_secs(1),
    };
    let measure = |kind| -> Result<Values> {
        let pair = Pair::start(kind, setup(150), setup(100), 4)?;
        pair.wait_for_addresses("eth0", 250)?;
        sleep(Duration::from_secs(10));
        let (cpu, _) = pair.master_load("eth0", Duration::from_secs(20))?;
        let (first, _) = pair.subjects.as_ref().context("not started")?;
        Ok(vec![
            (
                "processor, master".to_owned(),
                "% of a core",
                cpu.as_secs_f64() / 20.0 * 100.0,
            ),
            ("memory, master".to_owned(), "MiB", first.memory()?),
        ])
    };
    Ok(side_by_side(
        measure(Kind::Vipd)?,
        &measure(Kind::Keepalived)?,
    ))
}

/// Two hosts on one switch with one or more cables.
struct Pair {
    a: Host,
    b: Host,
    subjects: Option<(Subject, Subject)>,
    _lab: Lab,
}

impl Pair {
    fn new(cables: u8) -> Result<Pair> {
        let lab = Lab::new()?;
        let (a, b) = (
            lab.host("a", "10.77.0.1/24")?,
            lab.host("b", "10.77.0.2/24")?,
        );
        for cable in 1..cables {
            let (first, second) = (a.namespace(), b.namespace());
            a.ip(&format!(
                "link add eth{cable} type veth peer name eth{cable} netns {second}"
            ))?;
            debug_assert!(first != second, "two hosts");
            for (host, number) in [(&a, 1), (&b, 2)] {
                host.ip(&format!("link set eth{cable} up"))?;
                host.ip(&format!(
                    "addr add 10.77.{cable}.{number}/24 dev eth{cable}"
                ))?;
            }
        }
        Ok(Pair {
            a,
            b,
            subjects: None,
            _lab: lab,
        })
    }

    fn start(kind: Kind, first: Setup, second: Setup, cables: u8) -> Result<Pair> {
        let mut pair = Pair::new(cables)?;
        let first = Subject::start(&pair.a, kind, &first)?;
        let second = Subject::start(&pair.b, kind, &second)?;
        pair.subjects = Some((first, second));
        Ok(pair)
    }

    fn wait_for_addresses(&self, interface: &str, count: usize) -> Result<()> {
        wait_until(Duration::from_secs(60), "the addresses of a master", || {
            Ok(count_addresses(&self.a, interface)? >= count)
        })
        .map(|_| ())
    }

    /// What the master uses in that time, and the packets that leave its interfaces.
    fn master_load(&self, interface: &str, time: Duration) -> Result<(Duration, f64)> {
        let (first, _) = self.subjects.as_ref().context("not started")?;
        let (cpu, sent) = (first.cpu()?, sent_packets(&self.a, interface)?);
        sleep(time);
        Ok((first.cpu()? - cpu, sent_packets(&self.a, interface)? - sent))
    }
}

fn count_addresses(host: &Host, interface: &str) -> Result<usize> {
    let text = host.run(&format!("ip -o -4 address show dev {interface}"))?;
    Ok(text
        .lines()
        .filter(|line| line.contains(" 10.128.") || line.contains(" 10.129."))
        .count())
}

fn sent_packets(host: &Host, interface: &str) -> Result<f64> {
    let path = format!("/sys/class/net/{interface}/statistics/tx_packets");
    let text = host.run(&format!("cat {path}"))?;
    Ok(text.trim().parse()?)
}

/// What one `sendto` of an advert on a raw socket takes on such a cable, in microseconds.
fn raw_send() -> Result<f64> {
    let pair = Pair::new(2)?;
    let program = std::env::current_exe()?;
    let text = run(pair.a.command(program).args(["raw-send"]))?;
    Ok(text.trim().parse()?)
}

/// The other end of [`raw_send`], on the host.
///
/// # Errors
///
/// No raw socket.
pub(crate) fn send_adverts() -> Result<f64> {
    const COUNT: u32 = 50_000;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112)))?;
    socket.bind_device(Some(b"eth1"))?;
    let to = SockAddr::from(std::net::SocketAddrV4::new([224, 0, 0, 18].into(), 0));
    let begun = Instant::now();
    for _ in 0..COUNT {
        socket.send_to(&[0x31, 1, 100, 1, 0, 1, 0, 0, 10, 128, 0, 1], &to)?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(COUNT))
}

/// What the kernel takes for 10,000 addresses that `ip` adds in one go.
fn plain_install() -> Result<Duration> {
    let lab = Lab::new()?;
    let a = lab.host("a", "10.77.0.1/24")?;
    let file = lab.folder().join("addresses");
    let lines: Vec<String> = (0..10_000)
        .map(|n| {
            format!(
                "addr add {}/32 dev eth0",
                std::net::Ipv4Addr::from(0x0a80_0001 + n)
            )
        })
        .collect();
    fs::write(&file, lines.join("\n"))?;
    let begun = Instant::now();
    run(a
        .command("ip")
        .arg("-batch")
        .arg(&file)
        .stdout(Stdio::null()))?;
    Ok(begun.elapsed())
}

/// Every advert that a host's interface sees, by tcpdump into a file.
struct Watch {
    process: Process,
    file: std::path::PathBuf,
    host: Host,
}

/// Adverts by router and sender: their times in seconds.
struct Seen {
    by_router: BTreeMap<(u8, String), Vec<f64>>,
}

impl Watch {
    fn start(host: &Host, interface: &str) -> Result<Watch> {
        let file = host.folder().join(format!("{}.pcap", host.name()));
        let path = file.display().to_string();
        let arguments = [
            "-n",
            "-i",
            interface,
            "-B",
            "32768",
            "-s",
            "64",
            "-w",
            &path,
            "proto 112",
        ];
        let process = host.spawn("watch", Path::new("tcpdump"), &arguments)?;
        process.wait_for_output(Duration::from_secs(20), "listening on")?;
        Ok(Watch {
            process,
            file,
            host: host.clone(),
        })
    }

    fn stop(mut self) -> Result<Seen> {
        self.process.signal("TERM")?;
        self.process.wait(Duration::from_secs(20))?;
        let mut read = self.host.command("tcpdump");
        let text = run(read.args(["-tt", "-n", "-r"]).arg(&self.file))?;
        let mut by_router: BTreeMap<(u8, String), Vec<f64>> = BTreeMap::new();
        for line in text.lines() {
            let after = |word: &str| line.split(word).nth(1);
            let time = line.split(' ').next().and_then(|time| time.parse().ok());
            let sender = after(" IP ").and_then(|rest| rest.split(' ').next());
            let vrid = after("vrid ").and_then(|rest| rest.split(',').next()?.parse().ok());
            if let (Some(time), Some(sender), Some(vrid)) = (time, sender, vrid) {
                by_router
                    .entry((vrid, sender.to_owned()))
                    .or_default()
                    .push(time);
            }
        }
        Ok(Seen { by_router })
    }
}

impl Seen {
    /// The longest time between two adverts of one router from that sender, in milliseconds.
    fn longest_gap(&self, sender: &str) -> f64 {
        let of_sender = self
            .by_router
            .iter()
            .filter(|((_, from), _)| from == sender);
        of_sender
            .flat_map(|(_, times)| times.iter().zip(times.iter().skip(1)))
            .map(|(before, after)| (after - before) * 1e3)
            .fold(0.0, f64::max)
    }

    /// How many routers that sender speaks for.
    fn speakers_of(&self, sender: &str) -> f64 {
        let count = self
            .by_router
            .keys()
            .filter(|(_, from)| from == sender)
            .count();
        u32::try_from(count).map_or(f64::NAN, f64::from)
    }

    /// How many routers are advertised by the second host after the first one has spoken for them.
    fn overlapping(&self) -> f64 {
        let first_of = |vrid| {
            let times = self.by_router.get(&(vrid, "10.77.0.1".to_owned()));
            times.and_then(|times| times.first()).copied()
        };
        let late = |((vrid, from), times): &(&(u8, String), &Vec<f64>)| {
            let first = first_of(*vrid);
            // Adverts that cross on the wire are no second master.
            from == "10.77.0.2"
                && first.is_some_and(|first| times.iter().any(|time| *time > first + 0.1))
        };
        let count = self.by_router.iter().filter(late).count();
        u32::try_from(count).map_or(f64::NAN, f64::from)
    }
}
