//! Lints that ask the host on which `vipd check` runs: its interfaces, files and modes. What cannot be
//! found out here (the file may be meant for another host) is not warned of.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use health::CheckKind;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

use super::Lint;
use crate::config::Config;
use crate::config::locate::Step::{self, Item, Key};
use crate::config::secret;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// What to think about again on this host; `file` is where the configuration was read.
pub(in crate::config) fn on_host(
    config: &Config,
    file: &Path,
    inline: &dyn Fn(&[Step]) -> Option<String>,
) -> Vec<Lint> {
    let mut found = Vec::new();
    outside_subnets(config, &mut found);
    scripts(config, &mut found);
    readable_secrets(config, file, inline, &mut found);
    found
}

/// Virtual addresses that none of their interface's networks has.
fn outside_subnets(config: &Config, found: &mut Vec<Lint>) {
    let routers = config.vrrp.iter();
    let held: HashSet<IpAddr> = routers
        .flat_map(|v| &v.addresses)
        .map(|it| it.ip())
        .collect();
    let mut networks: HashMap<(String, bool), Vec<IpNet>> = HashMap::new();
    for (interface, net) in own_networks() {
        // A virtual address is no reason for others to be there.
        if !held.contains(&net.addr()) && !is_link_local(net.addr()) {
            let of_family = (interface, net.addr().is_ipv4());
            networks.entry(of_family).or_default().push(net);
        }
    }
    for (index, vrrp) in config.vrrp.iter().enumerate() {
        for (number, address) in vrrp.addresses.iter().enumerate() {
            // A macvlan has no address before it has the virtual one.
            let own = Some(&address.interface) != vrrp.virtual_mac.as_ref();
            let interface = if own {
                &address.interface
            } else {
                &vrrp.interface
            };
            let ip = address.ip();
            let Some(there) = networks.get(&(interface.clone(), ip.is_ipv4())) else {
                continue;
            };
            let inside = there.iter().any(|net| net.contains(&ip));
            if inside || is_link_local(ip) || interface == "lo" {
                continue;
            }
            let nets: Vec<String> = there.iter().map(|net| net.trunc().to_string()).collect();
            found.push(Lint::new(
                "vip-outside-subnets",
                vec![
                    Key("vrrp"),
                    Item(index),
                    Key("virtual_addresses"),
                    Item(number),
                ],
                format!(
                    "{ip} is in no network of {interface:?}, which has {}",
                    nets.join(", ")
                ),
                "write an address of such a network, or make sure that routers send it here",
            ));
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The addresses of this host with their prefix lengths, by interface.
fn own_networks() -> Vec<(String, IpNet)> {
    let Ok(all) = getifaddrs() else {
        return Vec::new();
    };
    let network = |it: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (it.address?, it.netmask?);
        let v4 = address.as_sockaddr_in().zip(mask.as_sockaddr_in());
        let v6 = address.as_sockaddr_in6().zip(mask.as_sockaddr_in6());
        let (ip, mask) = match (v4, v6) {
            (Some((ip, mask)), _) => (IpAddr::V4(ip.ip()), IpAddr::V4(mask.ip())),
            (None, Some((ip, mask))) => (IpAddr::V6(ip.ip()), IpAddr::V6(mask.ip())),
            (None, None) => return None,
        };
        let net = IpNet::with_netmask(ip, mask).ok()?;
        Some((it.interface_name, net))
    };
    all.filter_map(network).collect()
}

/// Programs that somebody else than root can replace. Who may write the file itself is a problem.
fn scripts(config: &Config, found: &mut Vec<Lint>) {
    for (index, script) in config.track_scripts.iter().enumerate() {
        let place = vec![Key("track_script"), Item(index), Key("command")];
        program(&script.command, &[place], found);
    }
    for (index, server) in config.virtual_servers.iter().enumerate() {
        let vs = [Key("virtual_server"), Item(index)];
        for (number, real) in server.real_servers.iter().enumerate() {
            for (order, check) in real.checks.iter().enumerate() {
                let CheckKind::Script(script) = &check.kind else {
                    continue;
                };
                let rs = [vs, [Key("real_server"), Item(number)]].concat();
                let places = [&rs[..], &vs[..]].map(|table| {
                    [
                        [table, &[Key("check"), Key("command")]].concat(),
                        [table, &[Key("checks"), Item(order), Key("command")]].concat(),
                    ]
                });
                program(&script.command, &places.concat(), found);
            }
        }
    }
}

fn program(command: &[String], places: &[Vec<Step>], found: &mut Vec<Lint>) {
    let Some(path) = command.first().map(Path::new) else {
        return;
    };
    let mut add = |name, message: String, help: String| {
        let lint = Lint {
            name,
            places: places.to_vec(),
            message,
            help,
        };
        // Many real servers may have the same check.
        if !found.iter().any(|known| known.message == lint.message) {
            found.push(lint);
        }
    };
    if let Ok(file) = fs::metadata(path)
        && file.uid() != 0
    {
        add(
            "script-owner",
            format!(
                "{} belongs to user {}, who decides what it does",
                path.display(),
                file.uid()
            ),
            format!("run `chown root {}`", path.display()),
        );
    }
    let open = path.ancestors().skip(1).find(|directory| {
        fs::metadata(directory).is_ok_and(|directory| {
            let mode = directory.permissions().mode();
            mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0
        })
    });
    if let Some(directory) = open {
        let directory = directory.display();
        add(
            "script-directory",
            format!(
                "others than its owner may put another program there: they may write {directory}"
            ),
            format!("run `chmod go-w {directory}`, or put the program into a directory of root's"),
        );
    }
}

/// Keys in a file that others may read.
fn readable_secrets(
    config: &Config,
    file: &Path,
    written: &dyn Fn(&[Step]) -> Option<String>,
    found: &mut Vec<Lint>,
) {
    let Ok(mode) = fs::metadata(file).map(|file| file.permissions().mode()) else {
        return;
    };
    if mode & 0o007 == 0 {
        return;
    }
    for index in 0..config.vrrp.len() {
        let place = vec![Key("vrrp"), Item(index), Key("authentication"), Key("key")];
        if written(&place).is_some_and(|key| !secret::names_another(&key)) {
            found.push(Lint::new(
                "secret-readable",
                place,
                format!("everybody on this host can read it (mode {:04o})", mode & 0o7777),
                format!(
                    "run `chmod 640 {}`, or write the key into a file of its own: \"file:/etc/vipd/vrrp.key\"",
                    file.display()
                ),
            ));
        }
    }
}
