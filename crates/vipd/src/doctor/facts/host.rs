//! This host: settings and counters of the kernel, the daemon's limits, other daemons, and files that
//! configure addresses or sysctls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::{Config, VirtualAddress};
use crate::net::sys::Mac;

/// Settings of each interface.
const OF_INTERFACES: [&str; 4] = ["arp_ignore", "rp_filter", "send_redirects", "forwarding"];
/// Where files are that configure addresses.
const NETWORK: [&str; 7] = [
    "/etc/systemd/network",
    "/run/systemd/network",
    "/etc/NetworkManager/system-connections",
    "/run/NetworkManager/system-connections",
    "/etc/network",
    "/etc/network/interfaces.d",
    "/etc/netplan",
];
/// Where files are that set sysctls.
const SYSCTLS: [&str; 4] = [
    "/etc",
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
];
/// No such file is longer.
const FILE_MAX: u64 = 256 << 10;

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Host {
    /// Settings, by the name that sysctl has for them.
    pub sysctls: BTreeMap<String, String>,
    /// Which address the kernel has learned of a MAC.
    pub neighbours: BTreeMap<Mac, IpAddr>,
    /// The MTU of each interface.
    pub mtus: BTreeMap<String, u32>,
    /// Entries of the connection tracking, and how many there may be.
    pub tracked: Option<(u64, u64)>,
    /// Packets that the reverse path filter dropped meanwhile.
    pub reverse_path: u64,
    /// File descriptors of the daemon, and how many it may have.
    pub descriptors: Option<Descriptors>,
    /// Running keepalived processes of this network namespace.
    pub keepalived: Vec<Keepalived>,
    /// Lines of other configurations that name a virtual address.
    pub addresses: Vec<Line>,
    /// Lines that set sysctls.
    pub settings: Vec<Line>,
}

/// What a process has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::doctor) struct Descriptors {
    /// The process.
    pub pid: u32,
    /// How many.
    pub open: u64,
    /// How many it may.
    pub limit: u64,
    /// How many it may be allowed without further rights.
    pub hard: u64,
}

/// A keepalived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Keepalived {
    /// Its first process.
    pub pid: u32,
    /// Its configuration.
    pub config: String,
    /// The VRIDs there.
    pub vrids: BTreeSet<u8>,
    /// Whether systemd runs it.
    pub unit: bool,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Line {
    /// The file.
    pub file: String,
    /// Its number, from 1.
    pub number: usize,
    /// What it says, without blanks around.
    pub text: String,
}

/// Looks; takes that long.
pub(super) fn look(config: &Config, daemon: Option<u32>, window: Duration) -> Host {
    let end = Instant::now() + window;
    let before = dropped_by_reverse_path();
    let addresses = config.vrrp.iter().flat_map(|it| &it.addresses);
    let addresses: BTreeSet<IpAddr> = addresses.map(VirtualAddress::ip).collect();
    let mut host = Host {
        sysctls: sysctls(config),
        mtus: mtus(),
        neighbours: neighbours(&fs::read_to_string("/proc/net/arp").unwrap_or_default()),
        tracked: number("/proc/sys/net/netfilter/nf_conntrack_count")
            .zip(number("/proc/sys/net/netfilter/nf_conntrack_max")),
        descriptors: daemon.and_then(descriptors),
        keepalived: keepalived(),
        addresses: lines(&NETWORK, |file, text| configures(file, text, &addresses)),
        settings: lines(&SYSCTLS, |file, _| file.ends_with(".conf")),
        ..Host::default()
    };
    host.settings
        .retain(|line| line.text.contains('=') && !line.text.starts_with(['#', ';']));
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    host.reverse_path = dropped_by_reverse_path().saturating_sub(before);
    host
}

fn sysctls(config: &Config) -> BTreeMap<String, String> {
    let mut names = vec![
        "net.ipv4.ip_forward".to_owned(),
        "net.ipv6.conf.all.forwarding".to_owned(),
    ];
    let vs = config.ipvs.sysctl.keys();
    names.extend(vs.map(|name| format!("net.ipv4.vs.{name}")));
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(value) = setting(&name.replace('.', "/")) {
            found.insert(name, value);
        }
    }
    let interfaces = fs::read_dir("/proc/sys/net/ipv4/conf")
        .into_iter()
        .flatten();
    for interface in interfaces.flatten() {
        let interface = interface.file_name().to_string_lossy().into_owned();
        for name in OF_INTERFACES {
            if let Some(value) = setting(&format!("net/ipv4/conf/{interface}/{name}")) {
                found.insert(format!("net.ipv4.conf.{interface}.{name}"), value);
            }
        }
    }
    found
}

/// IP address, hardware type, flags, MAC, ...
fn neighbours(table: &str) -> BTreeMap<Mac, IpAddr> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let bytes = words
            .get(3)?
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16));
        let mac: Vec<u8> = bytes.collect::<Result<_, _>>().ok()?;
        let mac = Mac::try_from(mac).ok().filter(|mac| *mac != [0; 6])?;
        Some((mac, words.first()?.parse().ok()?))
    };
    table.lines().filter_map(entry).collect()
}

fn mtus() -> BTreeMap<String, u32> {
    let links = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let mtu = |link: fs::DirEntry| {
        let text = fs::read_to_string(link.path().join("mtu")).ok()?;
        Some((
            link.file_name().to_string_lossy().into_owned(),
            text.trim().parse().ok()?,
        ))
    };
    links.filter_map(mtu).collect()
}

/// A value with single spaces between its numbers.
fn setting(path: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `IPReversePathFilter` of `TcpExt`: the names and the numbers are on two lines that begin alike.
fn dropped_by_reverse_path() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, numbers) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let mut both = names.split(' ').zip(numbers.split(' '));
    let found = both.find(|(name, _)| *name == "IPReversePathFilter");
    found
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

/// The state of a process as proc(5) has it; `None`: it is no vipd.
pub(super) fn state(pid: u32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let ours = of("Name:")?.trim().starts_with("vipd");
    of("State:")?.trim().chars().next().filter(|_| ours)
}

fn descriptors(pid: u32) -> Option<Descriptors> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace();
    let limit = words.next()?.parse().ok()?;
    Some(Descriptors {
        pid,
        open: u64::try_from(open).ok()?,
        limit,
        hard: words.next()?.parse().ok()?,
    })
}

/// Those whose parent is another program: each has children of its own name.
fn keepalived() -> Vec<Keepalived> {
    let own = fs::read_link("/proc/self/ns/net").ok();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        if !read("comm").is_ok_and(|comm| comm.trim() == "keepalived") {
            continue;
        }
        // Of a process whose namespace cannot be read, it is taken to be this one.
        let there = fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        if there.is_some() && there != own {
            continue;
        }
        let parent = read("status").ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            fs::read_to_string(format!("/proc/{}/comm", line.trim())).ok()
        });
        if parent.is_some_and(|parent| parent.trim() == "keepalived") {
            continue;
        }
        let words = read("cmdline").unwrap_or_default();
        let config = config_of(words.split('\0'));
        let text = fs::read_to_string(&config).unwrap_or_default();
        found.push(Keepalived {
            pid,
            vrids: vrids(&text),
            config,
            unit: read("cgroup").is_ok_and(|it| it.contains("keepalived.service")),
        });
    }
    found
}

fn config_of<'w>(mut words: impl Iterator<Item = &'w str>) -> String {
    while let Some(word) = words.next() {
        let file = match word {
            "-f" | "--use-file" => words.next(),
            _ => word
                .strip_prefix("--use-file=")
                .or_else(|| word.strip_prefix("-f")),
        };
        if let Some(file) = file.filter(|file| !file.is_empty()) {
            return file.to_owned();
        }
    }
    "/etc/keepalived/keepalived.conf".to_owned()
}

fn vrids(text: &str) -> BTreeSet<u8> {
    let lines = text.lines().map(str::trim_start);
    let ids = lines.filter_map(|line| line.strip_prefix("virtual_router_id"));
    ids.filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Whether a line gives this host one of the addresses. A line that names one as a server of names, as a
/// gateway, or in a comment, does not.
fn configures(file: &str, line: &str, addresses: &BTreeSet<IpAddr>) -> bool {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return false;
    }
    let part = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':' || c == '/';
    let any = |text: &str, with_length: bool| {
        text.split(|c| !part(c)).any(|word| {
            let (address, length) = word.split_once('/').unwrap_or((word, ""));
            let whole = !(with_length && length.is_empty());
            whole && address.parse().is_ok_and(|it| addresses.contains(&it))
        })
    };
    let without_comment = || line.split_once(" #").map_or(line, |(text, _)| text);
    if file.starts_with("/etc/netplan/") {
        // Addresses of this host have a length there; those of servers of names have none.
        let text = without_comment().trim_start_matches("- ");
        let (key, value) = text.split_once(": ").unwrap_or(("addresses", text));
        let key = key.trim_matches(['"', ' ']);
        // An address may have options of its own: `10.0.0.1/24: {label: web}`.
        return any(key, true) || key == "addresses" && any(value, true);
    }
    if file.starts_with("/etc/network/") {
        let mut words = without_comment().split_whitespace();
        return match words.next() {
            Some("address") => words.next().is_some_and(|word| any(word, false)),
            Some("up" | "pre-up" | "post-up") => {
                let command = words.collect::<Vec<_>>().join(" ");
                let adds = command.contains("ip addr") || command.contains("ip a ");
                (adds || command.contains("ifconfig")) && any(&command, false)
            }
            Some(_) | None => false,
        };
    }
    let Some((key, value)) = line.split_once('=') else {
        return false;
    };
    let key = key.trim();
    let number = key.strip_prefix("address");
    let of_network_manager =
        key == "addresses" || number.is_some_and(|it| it.bytes().all(|b| b.is_ascii_digit()));
    // What follows the first address of `address1=` is its gateway.
    let value = match key {
        "addresses" => value,
        _ => value.split(',').next().unwrap_or_default(),
    };
    (key == "Address" || of_network_manager) && any(value, false)
}

fn lines(folders: &[&str], wanted: impl Fn(&str, &str) -> bool) -> Vec<Line> {
    let mut found = Vec::new();
    for folder in folders {
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = file.path();
            let small = fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() <= FILE_MAX);
            // A link to another of the folders is the same file.
            if !small || path.is_symlink() {
                continue;
            }
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).unwrap_or_default();
            for (number, line) in text.lines().enumerate() {
                if wanted(&name, line) {
                    found.push(Line {
                        file: name.clone(),
                        number: number + 1,
                        text: line.trim().to_owned(),
                    });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_gives_this_host_the_address_configures_it() {
        let addresses = ["10.0.0.1", "fd00::1"].map(|it| it.parse().unwrap());
        let addresses = BTreeSet::from(addresses);
        let networkd = "/etc/systemd/network/a.network";
        let manager = "/etc/NetworkManager/system-connections/a.nmconnection";
        let (ifupdown, netplan) = ("/etc/network/interfaces", "/etc/netplan/a.yaml");
        for (file, yes) in [
            (networkd, "Address=10.0.0.1/24"),
            (networkd, " Address = fd00:0::1/64"),
            (manager, "address1=10.0.0.1/24,10.0.0.254"),
            (manager, "addresses=10.0.0.9/24; 10.0.0.1/24"),
            (ifupdown, "  address 10.0.0.1"),
            (ifupdown, "up ip addr add 10.0.0.1/32 dev eth0 # x"),
            (ifupdown, "post-up ifconfig eth0:1 10.0.0.1 up"),
            (netplan, "  - \"fd00::1/64\""),
            (netplan, "addresses: [10.0.0.9/24, 10.0.0.1/24]"),
            (netplan, "- \"10.0.0.1/24\": {label: \"web\"}"),
        ] {
            assert!(configures(file, yes, &addresses), "{yes}");
        }
        for (file, no) in [
            (networkd, "Address=10.0.0.11/24"),
            (networkd, "#Address=10.0.0.1/24"),
            (networkd, "DNS=10.0.0.1"),
            (networkd, "Gateway=10.0.0.1"),
            (networkd, "Domains=~1.0.0.10.in-addr.arpa"),
            (manager, "dns=10.0.0.1;"),
            (manager, "address1=10.0.0.9/24,10.0.0.1"),
            (ifupdown, "dns-nameservers 10.0.0.1"),
            (ifupdown, "address 10.0.0.9 # was 10.0.0.1"),
            (ifupdown, "gateway 10.0.0.1"),
            (ifupdown, "nameserver 10.0.0.1"),
            (ifupdown, "up ip route add default via 10.0.0.1"),
            (netplan, "addresses: [10.0.0.1]"),
            (netplan, "- to: 10.0.0.1/32"),
            (netplan, "- 10.0.0.9/24 # beside 10.0.0.1/24"),
        ] {
            assert!(!configures(file, no, &addresses), "{no}");
        }
    }

    #[test]
    fn a_neighbour_is_known_by_its_mac() {
        let table = "IP address HW type Flags HW address Mask Device\n\
            10.0.0.9 0x1 0x2 02:00:00:00:00:0a * eth0\n10.0.0.8 0x1 0x0 00:00:00:00:00:00 * eth0\n";
        let known = neighbours(table);
        assert_eq!(
            known,
            BTreeMap::from([([2, 0, 0, 0, 0, 10], "10.0.0.9".parse().unwrap())])
        );
    }

    #[test]
    fn the_file_and_the_vrids_of_a_keepalived_are_found() {
        let words = ["keepalived", "-n", "-f", "/tmp/k.conf"];
        assert_eq!(config_of(words.into_iter()), "/tmp/k.conf");
        let words = ["keepalived", "--use-file=/tmp/k.conf"];
        assert_eq!(config_of(words.into_iter()), "/tmp/k.conf");
        assert_eq!(
            config_of(["keepalived"].into_iter()),
            "/etc/keepalived/keepalived.conf"
        );
        let text = "vrrp_instance a {\n  virtual_router_id 51\n}\n virtual_router_id\t7 # x\n";
        assert_eq!(vrids(text), BTreeSet::from([7, 51]));
    }
}
