//! What a host is to the virtual servers of a configuration: which real server, of which of them, by which
//! forwarding, and for which virtual addresses. Pure: from the file and the host's addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use health::{CheckSpec, Route};
use ipvs::{Family, Forwarding, ServiceKey, Tunnel, TunnelChecksum};

use crate::config::{Config, RealServer, Require, VirtualServer};

/// What this host has to take in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Role {
    /// The addresses of this host that are real servers.
    pub(super) itself: BTreeSet<IpAddr>,
    /// The virtual addresses, and how their packets come. Never none where there is an address.
    pub(super) virtual_addresses: BTreeMap<IpAddr, BTreeSet<Way>>,
    /// The virtual servers, in the order of the file.
    pub(super) services: Vec<Service>,
    /// What a person should know beside.
    pub(super) notes: Vec<String>,
}

/// How packets for a virtual address reach this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// By their MAC address.
    Direct,
    /// In a tunnel whose end is this address.
    Tunnel(IpAddr, Tunnel),
}

/// A virtual server in which this host takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) virtual_addresses: BTreeSet<IpAddr>,
    /// Aimed at this host itself; empty: it counts as well.
    pub(super) checks: Vec<CheckSpec>,
    pub(super) require: Require,
}

impl Role {
    /// From the directors' file and the addresses of this host.
    ///
    /// # Errors
    ///
    /// None of them is a real server there, or what is asked of it contradicts itself.
    pub(super) fn of(
        config: &Config,
        file: &str,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Role, String> {
        let mut role = Role::default();
        for server in &config.virtual_servers {
            role.take(server, addresses);
        }
        if role.itself.is_empty() {
            let shown = |ips: BTreeSet<IpAddr>| match ips.len() {
                0 => "none".to_owned(),
                _ => ips
                    .iter()
                    .map(IpAddr::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            let servers = config
                .virtual_servers
                .iter()
                .flat_map(VirtualServer::servers);
            let known = shown(servers.map(|(key, _, _)| key.0.ip()).collect());
            let own = addresses.iter().filter(|ip| !ip.is_loopback()).copied();
            let own = shown(own.collect());
            return Err(format!(
                "no address of this host ({own}) is a real server in {file} (there are: {known})"
            ));
        }
        role.consistent()
    }

    /// By hand: these addresses, all by one way.
    pub(super) fn by_hand(
        virtual_addresses: &[IpAddr],
        way: impl Fn(Family) -> Result<Way, String>,
    ) -> Result<Role, String> {
        let mut role = Role::default();
        for ip in virtual_addresses {
            let way = way(Family::of(*ip))?;
            role.itself.extend(way.end());
            role.virtual_addresses.entry(*ip).or_default().insert(way);
        }
        role.consistent()
    }

    fn take(&mut self, server: &VirtualServer, addresses: &BTreeSet<IpAddr>) {
        let mut service = Service {
            name: server.name.clone(),
            virtual_addresses: BTreeSet::new(),
            checks: Vec::new(),
            require: Require::All,
        };
        let name = &server.name;
        let mut part = false;
        for (key, forwarding, masquerade) in server.servers() {
            let own = key.0.ip();
            if !addresses.contains(&own) {
                continue;
            }
            part = true;
            self.itself.insert(own);
            let way = match forwarding {
                Forwarding::DirectRouting => Way::Direct,
                Forwarding::Tunnel(tunnel) => Way::Tunnel(own, tunnel),
                Forwarding::Nat | Forwarding::LocalNode | Forwarding::Bypass => {
                    let note = if masquerade {
                        format!("virtual server {name}: full NAT: nothing is to be set up here")
                    } else {
                        format!(
                            "virtual server {name}: NAT: nothing is to be set up here, but this host's way to \
                             the clients (its default route) must lead through the director"
                        )
                    };
                    self.note(note);
                    continue;
                }
            };
            let ips = addresses_of(server, own);
            if ips.is_empty() {
                self.note(format!(
                    "virtual server {name}: somebody else sets its firewall mark, so its addresses are not \
                     in the file: set them up with --vip"
                ));
            }
            for ip in ips {
                self.virtual_addresses.entry(ip).or_default().insert(way);
                service.virtual_addresses.insert(ip);
            }
            if let Some(real) = server.real_servers.iter().find(|real| real.key == key) {
                service.require = real.require;
                service.checks.extend(checks(real));
            }
        }
        if part {
            self.services.push(service);
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Two GRE tunnels that end at one address are one device, which either wants checksums or drops
    /// what has them.
    fn consistent(self) -> Result<Role, String> {
        let mut gre: BTreeMap<IpAddr, TunnelChecksum> = BTreeMap::new();
        for way in self.virtual_addresses.values().flatten() {
            if let Way::Tunnel(end, Tunnel::Gre { checksum }) = way
                && gre
                    .insert(*end, *checksum)
                    .is_some_and(|other| other != *checksum)
            {
                return Err(format!(
                    "GRE to {end} with a checksum and without one: this host can only take in one of the two, \
                     write the same `tunnel` everywhere"
                ));
            }
        }
        Ok(self)
    }
}

impl Way {
    /// The end of the tunnel here.
    fn end(self) -> Option<IpAddr> {
        match self {
            Way::Direct => None,
            Way::Tunnel(end, _) => Some(end),
        }
    }
}

/// The virtual addresses whose packets a virtual server sends to that real server.
fn addresses_of(server: &VirtualServer, own: IpAddr) -> BTreeSet<IpAddr> {
    let key = ipvs::DestinationKey((own, 0).into());
    let keys = server
        .keys
        .iter()
        .filter(|service| server.sends(service, &key));
    let mut ips = BTreeSet::new();
    for service in keys {
        match service {
            ServiceKey::Address { address, .. } => {
                ips.insert(address.ip());
            }
            ServiceKey::FirewallMark { family, .. } => {
                let rules = server.marks.iter().map(|rule| rule.address);
                ips.extend(rules.filter(|ip| Family::of(*ip) == *family));
            }
        }
    }
    ips
}

/// The checks of a real server, from that server itself: without what belongs to the director's way to it.
fn checks(real: &RealServer) -> Vec<CheckSpec> {
    let mut all: Vec<CheckSpec> = Vec::new();
    for check in &real.checks {
        let mut check = check.clone();
        if check.route.through.is_some() {
            check.target.set_ip(real.key.0.ip());
        }
        check.route = Route::default();
        if !all.contains(&check) {
            all.push(check);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;

    fn role(text: &str, own: &[&str]) -> Result<Role, String> {
        let config = Config::parse(text, "vipd.toml").map_err(|problems| problems.to_string())?;
        let own = own.iter().map(|ip| ip.parse().unwrap()).collect();
        Role::of(&config, "vipd.toml", &own)
    }

    fn ways(role: &Role) -> Vec<String> {
        let all = role.virtual_addresses.iter();
        all.flat_map(|(ip, ways)| ways.iter().map(move |way| format!("{ip} {way:?}")))
            .collect()
    }

    const FILE: &str = r#"
[[virtual_server]]
name = "http"
address = "192.0.2.10:80"
check = { type = "http", interval = "2s" }
[[virtual_server.real_server]]
address = "10.0.0.21"
[[virtual_server.real_server]]
address = "10.0.0.22"
forwarding = "tun"
[[virtual_server]]
name = "both"
addresses = ["192.0.2.11:443", "[2001:db8::11]:443"]
[[virtual_server.real_server]]
address = "10.0.0.21"
[[virtual_server.real_server]]
address = "2001:db8::21"
[[virtual_server]]
name = "marked"
fwmark = 3
mark = [{ address = "192.0.2.12", ports = [80] }, { address = "192.0.2.13" }]
[[virtual_server.real_server]]
address = "10.0.0.21"
[[virtual_server]]
name = "translated"
address = "192.0.2.14:80"
forwarding = "nat"
[[virtual_server.real_server]]
address = "10.0.0.21:8080"
"#;

    #[test]
    fn a_host_finds_itself_and_every_address_it_has_to_take_in() {
        let found = role(FILE, &["127.0.0.1", "10.0.0.21", "2001:db8::21"]).unwrap();
        let direct = [
            "192.0.2.10",
            "192.0.2.11",
            "192.0.2.12",
            "192.0.2.13",
            "2001:db8::11",
        ];
        assert_eq!(ways(&found), direct.map(|ip| format!("{ip} Direct")));
        let names: Vec<&str> = found
            .services
            .iter()
            .map(|service| &*service.name)
            .collect();
        assert_eq!(names, ["http", "both", "marked", "translated"]);
        assert_eq!(found.notes.len(), 1);
        assert!(
            found.notes[0].starts_with("virtual server translated: NAT: nothing"),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn a_real_server_has_its_own_forwarding() {
        let found = role(FILE, &["10.0.0.22"]).unwrap();
        assert_eq!(ways(&found), ["192.0.2.10 Tunnel(10.0.0.22, Ipip)"]);
    }

    #[test]
    fn a_host_that_is_none_of_them_is_told_who_is() {
        let error = role(FILE, &["127.0.0.1", "10.0.0.99"]).unwrap_err();
        let expected = "no address of this host (10.0.0.99) is a real server in vipd.toml (there are: \
                        10.0.0.21, 10.0.0.22, 2001:db8::21)";
        assert_eq!(error, expected);
    }

    #[test]
    fn one_family_through_the_tunnel_of_the_other() {
        let text = r#"
[[virtual_server]]
name = "mixed"
address = "192.0.2.10:80"
forwarding = "tun"
[[virtual_server.real_server]]
address = "2001:db8::21"
"#;
        let found = role(text, &["2001:db8::21"]).unwrap();
        assert_eq!(ways(&found), ["192.0.2.10 Tunnel(2001:db8::21, Ipip)"]);
    }

    #[test]
    fn a_mark_of_somebody_else_leaves_the_addresses_open_and_says_so() {
        let text = "[[virtual_server]]\nname = \"m\"\nfwmark = 7\n[[virtual_server.real_server]]\naddress = \"10.0.0.21\"\n";
        let found = role(text, &["10.0.0.21"]).unwrap();
        assert!(found.virtual_addresses.is_empty());
        assert!(
            found.notes[0].contains("somebody else sets its firewall mark"),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn checks_are_aimed_at_the_host_itself() {
        let text = r#"
[[virtual_server]]
name = "http"
address = "192.0.2.10:80"
checks = [{ type = "tcp", via = "vip" }, { type = "tcp", source = "10.0.0.1", port = 8080 }]
require = "any"
[[virtual_server.real_server]]
address = "10.0.0.21"
"#;
        let found = role(text, &["10.0.0.21"]).unwrap();
        let service = &found.services[0];
        let targets: Vec<String> = service
            .checks
            .iter()
            .map(|c| c.target.to_string())
            .collect();
        assert_eq!(targets, ["10.0.0.21:80", "10.0.0.21:8080"]);
        assert!(
            service
                .checks
                .iter()
                .all(|check| check.route == Route::default())
        );
        assert_eq!(service.require, Require::Any);
    }

    #[test]
    fn gre_with_and_without_a_checksum_to_one_address_is_refused() {
        let server = |n: u32, checksum: &str| {
            format!(
                "[[virtual_server]]\nname = \"s{n}\"\naddress = \"192.0.2.{n}:80\"\nforwarding = \"tun\"\n\
                 tunnel = {{ type = \"gre\", checksum = \"{checksum}\" }}\n\
                 [[virtual_server.real_server]]\naddress = \"10.0.0.21\"\n"
            )
        };
        let error = role(
            &[server(1, "none"), server(2, "full")].concat(),
            &["10.0.0.21"],
        );
        assert!(
            error
                .unwrap_err()
                .starts_with("GRE to 10.0.0.21 with a checksum and without")
        );
    }
}
