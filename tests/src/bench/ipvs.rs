//! How long large IPVS tables take: programmed, changed, compared, removed. It needs a kernel with
//! IPVS: `cargo xtask guest -- target/release/lab bench ipvs`.

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::{Line, milliseconds, table};
use crate::capture::{Packet, gaps, longest_gap};
use crate::host::Host;
use crate::process::{Process, processor_time};
use crate::{Lab, binary, wait_until};

/// An emulated guest is slow, and keepalived is slower.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a table may outlive its director.
const LEFTOVERS: Duration = Duration::from_secs(20);
/// Of the VRRP instance that adverts meanwhile.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// Next to nothing done for so long: idle.
const PAUSE: Duration = Duration::from_millis(500);
/// From one comparison to the next, where they are measured.
const RESYNC: Duration = Duration::from_secs(5);

/// A table: services, and real servers behind each. Nobody checks them.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) services: u32,
    pub(super) servers: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Vipd,
    Keepalived,
}

/// A running director, whose process is in the network namespace of its table.
pub(super) struct Subject {
    pub(super) process: Process,
    config: PathBuf,
}

/// Whether this kernel has IPVS.
pub(super) fn is_possible() -> bool {
    Path::new("/proc/net/ip_vs").exists()
}

pub(super) fn run() -> Result<Vec<Line>> {
    ensure!(
        is_possible(),
        "this kernel has no IPVS: `cargo xtask guest -- target/release/lab bench ipvs`"
    );
    let mut lines = Vec::new();
    let many = Size {
        services: 300,
        servers: 20,
    };
    // Once small, so that neither reads its program from the disk or loads the kernel's modules while
    // it is measured.
    let few = Size {
        services: 1,
        servers: 1,
    };
    phases(Kind::Vipd, few)?;
    phases(Kind::Keepalived, few)?;
    let vipd = phases(Kind::Vipd, many)?;
    let keepalived = phases(Kind::Keepalived, many)?;
    let [made, changed] = table::floor(many)?;
    let names = ["programmed", "every weight changed", "removed"];
    let floors = [Some(made), Some(changed), None];
    for (((name, vipd), keepalived), floor) in
        names.into_iter().zip(vipd).zip(keepalived).zip(floors)
    {
        let vipd = vipd.with_context(|| format!("{name}: never"))?;
        lines.push(Line {
            floor: floor.map(milliseconds),
            ..line(format!("300 x 20: {name}"), vipd, keepalived)
        });
    }
    let large = Size {
        services: 100,
        servers: 100,
    };
    lines.push(line(
        "100 x 100: processor time of a resync".to_owned(),
        resync(large)?,
        None,
    ));
    lines.extend(beside_adverts(Size {
        services: 400,
        servers: 100,
    })?);
    lines.push(line(
        "100 x 100: programmed (there: ipvsadm -R)".to_owned(),
        from_empty(large)?,
        Some(restored(large)?),
    ));
    Ok(lines)
}

fn line(what: String, vipd: Duration, other: Option<Duration>) -> Line {
    eprintln!("{what}: {vipd:?}, {other:?}");
    Line {
        what,
        unit: "ms",
        vipd: milliseconds(vipd),
        keepalived: other.map(milliseconds),
        floor: None,
    }
}

/// From the start to the whole table, from the order to the last changed weight, from the order to
/// the end; that is `None` where the table stays: keepalived kills its checkers after five seconds.
fn phases(kind: Kind, size: Size) -> Result<[Option<Duration>; 3]> {
    let lab = Lab::new()?;
    let host = lab.host("lb", "10.77.0.11/24")?;
    let (one, two) = (
        size.render(kind, &host, 1, "")?,
        size.render(kind, &host, 2, "")?,
    );
    let begin = Instant::now();
    let mut subject = Subject::start(&host, kind, &one)?;
    subject.wait_for_weight(1, size.count())?;
    let programmed = begin.elapsed();
    subject.wait_until_idle()?;
    let begin = Instant::now();
    subject.reload(&two)?;
    subject.wait_for_weight(2, size.count())?;
    let changed = begin.elapsed();
    subject.wait_until_idle()?;
    let begin = Instant::now();
    subject.process.signal("TERM")?;
    subject.process.wait(PATIENCE)?;
    // Its checkers may outlive keepalived.
    let ended = wait_until(LEFTOVERS, "the end of the table", || {
        let left = host.run("cat /proc/net/ip_vs")?;
        Ok(count(&left, |_| true) == 0)
    });
    let removed = ended.is_ok().then(|| begin.elapsed());
    Ok([Some(programmed), Some(changed), removed])
}

fn from_empty(size: Size) -> Result<Duration> {
    let lab = Lab::new()?;
    let host = lab.host("lb", "10.77.0.11/24")?;
    let text = size.render(Kind::Vipd, &host, 1, "")?;
    let begin = Instant::now();
    let subject = Subject::start(&host, Kind::Vipd, &text)?;
    subject.wait_for_weight(1, size.count())?;
    Ok(begin.elapsed())
}

fn restored(size: Size) -> Result<Duration> {
    let lab = Lab::new()?;
    let host = lab.host("lb", "10.77.0.11/24")?;
    let mut text = String::new();
    for service in 0..size.services {
        let vip = size.vip(service);
        writeln!(text, "-A -t {vip} -s wlc")?;
        for server in 0..size.servers {
            writeln!(
                text,
                "-a -t {vip} -r {} -g -w 1",
                size.real(service, server)
            )?;
        }
    }
    let file = host.folder().join("table");
    fs::write(&file, text)?;
    let begin = Instant::now();
    host.sh(&format!("ipvsadm -R < {}", file.display()))?;
    let took = begin.elapsed();
    let table = host.run("cat /proc/net/ip_vs")?;
    let found = count(&table, |_| true);
    let wanted = size.count();
    ensure!(
        found == wanted,
        "ipvsadm made {found} of {wanted} real servers"
    );
    Ok(took)
}

/// What one comparison that finds nothing costs, of the whole process.
fn resync(size: Size) -> Result<Duration> {
    let lab = Lab::new()?;
    let host = lab.host("lb", "10.77.0.11/24")?;
    let more = format!("[ipvs]\nresync_interval = \"{}s\"\n", RESYNC.as_secs());
    let text = size.render(Kind::Vipd, &host, 1, &more)?;
    let subject = Subject::start(&host, Kind::Vipd, &text)?;
    subject.wait_for_weight(1, size.count())?;
    subject.wait_until_idle()?;
    // Whatever else it does in that time is counted, too.
    let before = subject.cpu()?;
    std::thread::sleep(4 * RESYNC);
    Ok((subject.cpu()? - before) / 4)
}

/// The longest gap between adverts while a table comes, changes by one weight, and goes.
fn beside_adverts(size: Size) -> Result<Vec<Line>> {
    let lab = Lab::new()?;
    let (host, peer) = (
        lab.host("lb", "10.77.0.11/24")?,
        lab.host("peer", "10.77.0.12/24")?,
    );
    let capture = peer.capture("proto 112")?;
    let router = format!(
        "[[vrrp]]\nname = \"r\"\ninterface = \"eth0\"\nversion = 3\nvrid = 1\npriority = 150\n\
         advert_interval = \"{}ms\"\nvirtual_addresses = [\"10.77.0.10/32\"]\n",
        INTERVAL.as_millis()
    );
    let config = |size: Size, weight| size.render(Kind::Vipd, &host, weight, &router);
    let none = Size {
        services: 0,
        servers: 0,
    };
    let mut subject = Subject::start(&host, Kind::Vipd, &config(none, 1)?)?;
    capture.wait_for(PATIENCE, SystemTime::UNIX_EPOCH, &["10.77.0.11 >"])?;
    let text = config(size, 1)?;
    let first = SystemTime::now();
    let begin = Instant::now();
    subject.reload(&text)?;
    subject.wait_for_weight(1, size.count())?;
    let programmed = begin.elapsed();
    std::thread::sleep(Duration::from_secs(5));
    let last = size.real(size.services - 1, size.servers - 1);
    let (one, other) = (
        format!("{last}\"\nweight = 1"),
        format!("{last}\"\nweight = 2"),
    );
    ensure!(text.contains(&one), "no such real server");
    let text = text.replace(&one, &other);
    let second = SystemTime::now();
    let begin = Instant::now();
    subject.reload(&text)?;
    subject.wait_for_weight(2, 1)?;
    let changed = begin.elapsed();
    let stop = SystemTime::now();
    subject.process.signal("TERM")?;
    subject.process.wait(PATIENCE)?;
    let packets = capture.packets();
    let over = lateness(&packets, "10.77.0.11")?;
    tell_latest(
        &packets,
        "10.77.0.11",
        &[
            ("first reload", first),
            ("second reload", second),
            ("stop", stop),
        ],
    );
    Ok(vec![
        line(
            "400 x 100: programmed by a reload".to_owned(),
            programmed,
            None,
        ),
        line(
            "400 x 100: one weight changed by a reload".to_owned(),
            changed,
            None,
        ),
        line(
            "400 x 100: adverts meanwhile, worst lateness".to_owned(),
            over,
            None,
        ),
    ])
}

fn of<'p>(packets: &'p [Packet], source: &str) -> impl Iterator<Item = &'p Packet> {
    let source = format!("{source} >");
    packets
        .iter()
        .filter(move |packet| packet.text.contains(&source))
}

/// Says what the adverts that came latest came after.
fn tell_latest(packets: &[Packet], source: &str, orders: &[(&str, SystemTime)]) {
    let mut late = gaps(of(packets, source));
    late.sort_unstable_by(|one, other| other.cmp(one));
    for (gap, at) in late.into_iter().take(5) {
        let after = orders.iter().rev().find_map(|(order, given)| {
            let since = at.duration_since(*given).ok()?;
            Some(format!("{since:.1?} after the {order}"))
        });
        eprintln!("{gap:.1?} without an advert, {}", after.unwrap_or_default());
    }
}

/// How much later than after [`INTERVAL`] the latest of these adverts came.
pub(super) fn lateness(packets: &[Packet], source: &str) -> Result<Duration> {
    let worst = longest_gap(of(packets, source)).context("no adverts")?;
    Ok(worst.saturating_sub(INTERVAL))
}

impl Size {
    pub(super) fn count(self) -> usize {
        usize::try_from(self.services * self.servers).unwrap_or(usize::MAX)
    }

    /// The IPv4 address of a service.
    pub(super) fn vip_number(self, service: u32) -> u32 {
        0x0a40_0001 + service
    }

    /// The IPv4 address of a real server.
    pub(super) fn real_number(self, service: u32, server: u32) -> u32 {
        0x0a80_0001 + service * self.servers + server
    }

    fn vip(self, service: u32) -> String {
        format!("{}:80", Ipv4Addr::from(self.vip_number(service)))
    }

    fn real(self, service: u32, server: u32) -> String {
        format!("{}:80", Ipv4Addr::from(self.real_number(service, server)))
    }

    pub(super) fn render(self, kind: Kind, host: &Host, weight: u32, more: &str) -> Result<String> {
        let mut text = String::new();
        if kind == Kind::Vipd {
            let socket = host.folder().join("vipd.sock");
            let state = host.folder().join("state");
            writeln!(
                text,
                "[global]\ncontrol_socket = {socket:?}\nstate_dir = {state:?}\n{more}"
            )?;
        }
        for service in 0..self.services {
            let vip = self.vip(service);
            match kind {
                Kind::Vipd => writeln!(
                    text,
                    "[[virtual_server]]\nname = \"s{service}\"\naddress = \"{vip}\"\n\
                     scheduler = \"wlc\"\nforwarding = \"dr\"\ncheck = {{ type = \"none\" }}"
                )?,
                Kind::Keepalived => writeln!(
                    text,
                    "virtual_server {} {{\n lb_algo wlc\n lb_kind DR\n protocol TCP",
                    vip.replace(':', " ")
                )?,
            }
            for server in 0..self.servers {
                let real = self.real(service, server);
                match kind {
                    Kind::Vipd => writeln!(
                        text,
                        "[[virtual_server.real_server]]\naddress = \"{real}\"\nweight = {weight}"
                    )?,
                    Kind::Keepalived => writeln!(
                        text,
                        " real_server {} {{\n weight {weight}\n }}",
                        real.replace(':', " ")
                    )?,
                }
            }
            if kind == Kind::Keepalived {
                writeln!(text, "}}")?;
            }
        }
        Ok(text)
    }
}

impl Subject {
    pub(super) fn start(host: &Host, kind: Kind, text: &str) -> Result<Subject> {
        let config = host.folder().join("subject.conf");
        fs::write(&config, text)?;
        let file = config.display().to_string();
        let process = match kind {
            Kind::Vipd => host.spawn("vipd", &binary("vipd")?, &["run", "-c", &file])?,
            Kind::Keepalived => {
                let pid = |name: &str| host.folder().join(name).display().to_string();
                let (main, checkers) = (pid("keepalived.pid"), pid("checkers.pid"));
                let arguments = ["-n", "-l", "-C", "-f", &file, "-p", &main, "-c", &checkers];
                host.spawn("keepalived", Path::new("/usr/sbin/keepalived"), &arguments)?
            }
        };
        Ok(Subject { process, config })
    }

    fn reload(&self, text: &str) -> Result<()> {
        fs::write(&self.config, text)?;
        self.process.signal("HUP")
    }

    /// Waits until so many real servers have that weight.
    pub(super) fn wait_for_weight(&self, weight: u32, wanted: usize) -> Result<()> {
        let table = self.table();
        let weight = weight.to_string();
        let begin = Instant::now();
        let mut found = 0;
        while begin.elapsed() < PATIENCE {
            let text = fs::read_to_string(&table).with_context(|| self.process.output())?;
            found = count(&text, |found| found == weight);
            if found == wanted {
                return Ok(());
            }
            // Whoever looks takes time from whoever works: the next look is half way to where the end
            // seems to be.
            let share = found as f64 / wanted as f64;
            let left = begin.elapsed().as_secs_f64() * (1.0 - share) / share.max(0.01) / 2.0;
            std::thread::sleep(Duration::from_secs_f64(left.clamp(0.005, 0.1)));
        }
        anyhow::bail!("{found} of {wanted} have weight {weight}")
    }

    /// Waits until it has used no processor time worth mentioning for so long.
    fn wait_until_idle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.cpu()?;
        while Instant::now() < deadline {
            std::thread::sleep(PAUSE);
            let now = self.cpu()?;
            if now < before + PAUSE / 100 {
                return Ok(());
            }
            before = now;
        }
        anyhow::bail!("it is never idle: {}", self.process.output())
    }

    /// Processor time that it and its children have used (all threads), as the scheduler counts it.
    fn cpu(&self) -> Result<Duration> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let children = children.split_whitespace().map(str::parse);
        let mut used = processor_time(id)?;
        for child in children {
            // It may be gone by then.
            used += processor_time(child?).unwrap_or_default();
        }
        Ok(used)
    }

    pub(super) fn table(&self) -> String {
        format!("/proc/{}/net/ip_vs", self.process.id())
    }
}

/// How many real servers of `/proc/net/ip_vs` have such a weight.
fn count(table: &str, weight: impl Fn(&str) -> bool) -> usize {
    table
        .lines()
        .filter_map(|line| line.strip_prefix("  -> "))
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter(|found| *found != "Weight" && weight(found))
        .count()
}
