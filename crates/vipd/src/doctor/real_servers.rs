//! Real servers: whether they can be reached, and whether the forwarding fits the network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipvs::{Forwarding, Tunnel};

use super::catalogue as c;
use super::facts::routes::Way;
use super::facts::{Facts, plan, serving};
use super::{Finding, Remedy};
use crate::config::{Config, RealServer, VirtualServer};
use crate::shell;

/// Half-open connections that are no accident.
const HALF_OPEN: usize = 3;

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (server, real) in serving(config, facts.status.as_ref()) {
        let host = real.key.0.ip();
        if facts.links.iter().any(|link| link.has(host)) {
            continue;
        }
        let Some(way) = facts.ways.get(&host) else {
            found.extend(no_route(facts, host));
            continue;
        };
        found.extend(unreachable(config, facts, host, way));
        match real.destination.forwarding {
            Forwarding::DirectRouting => {
                found.extend(not_on_link(server, host, way));
                found.extend(vip_missing(facts, server, real));
            }
            Forwarding::Tunnel(tunnel) => {
                found.extend(tunnel_missing(facts, server, real));
                found.extend(tunnel_mtu(config, facts, server, host, way, tunnel));
            }
            Forwarding::Nat if !real.masquerade => {
                found.extend(no_return_path(config, facts, server, real, way));
            }
            Forwarding::Nat | Forwarding::LocalNode | Forwarding::Bypass => {}
        }
    }
    // One host may be a real server of many virtual servers.
    let mut seen = BTreeSet::new();
    found.retain(|finding| {
        let evidence = finding.evidence.join("\n");
        seen.insert((finding.code.clone(), finding.object.clone(), evidence))
    });
    found
}

fn no_route(facts: &Facts, host: IpAddr) -> Option<Finding> {
    let known = !facts.unknown.iter().any(|why| why.starts_with("routes"));
    let remedy = Remedy::words("add a route to it, or mend its address in the configuration");
    let evidence = vec![format!("this director has no route to {host}")];
    known.then(|| Finding::new(c::UNREACHABLE, host.to_string(), evidence, remedy))
}

fn unreachable(config: &Config, facts: &Facts, host: IpAddr, way: &Way) -> Option<Finding> {
    let mut asked = facts.wire.answers.iter();
    let ((interface, _), macs) = asked.find(|((_, asked), _)| *asked == host)?;
    if !macs.is_empty() || way.gateway.is_some() {
        return None;
    }
    let protocol = if host.is_ipv4() {
        "ARP"
    } else {
        "neighbour discovery"
    };
    let evidence = vec![format!(
        "nobody answered {protocol} for {host} on {interface} within {:?}",
        facts.wire.window
    )];
    let words = "see whether the host is on, on that network, and has that address; until it answers, take \
                 it out (`vipctl disable`), and back then (`vipctl enable`)";
    let mut remedy = Remedy::words(words);
    if facts.status.is_some() {
        remedy = remedy.run(disable(config, facts, host));
    }
    Some(Finding::new(
        c::UNREACHABLE,
        host.to_string(),
        evidence,
        remedy,
    ))
}

/// Takes a host out of every virtual server that it is in.
fn disable(config: &Config, facts: &Facts, host: IpAddr) -> Vec<String> {
    let all = serving(config, facts.status.as_ref());
    let its = all.filter(|(_, real)| real.key.0.ip() == host);
    let mut each = its.map(|(server, real)| {
        let address = match real.key.0 {
            address if address.port() == 0 => address.ip().to_string(),
            address => address.to_string(),
        };
        ["vipctl", "disable", &server.name, &address].map(str::to_owned)
    });
    let first: Vec<String> = each.next().into_iter().flatten().collect();
    let others: Vec<String> = each.map(|words| shell::line(&words)).collect();
    if others.is_empty() {
        return first;
    }
    let all = format!("{}; {}", shell::line(&first), others.join("; "));
    ["sh", "-c", &all].map(str::to_owned).into()
}

fn not_on_link(server: &VirtualServer, host: IpAddr, way: &Way) -> Option<Finding> {
    let gateway = way.gateway?;
    let evidence = vec![format!(
        "the way to {host} leads over {gateway}, and {} forwards to it by direct routing",
        server.name
    )];
    let words = "forward through a tunnel, and make it a real server for that \
                 (`vipd realserver --forwarding tun` there); or move it into a network of this director";
    let remedy = Remedy::words(words).key(
        "virtual_server",
        Some(&server.name),
        "forwarding",
        "\"tun\"",
    );
    Some(Finding::new(
        c::NOT_ON_LINK,
        host.to_string(),
        evidence,
        remedy,
    ))
}

/// What was seen of a virtual address that a real server does not take packets for: by the tries, or by
/// checks that go the clients' way.
fn missing(facts: &Facts, server: &VirtualServer, real: &RealServer) -> Option<(IpAddr, String)> {
    let host = real.key.0.ip();
    let vips = plan::vips(server);
    let mut tries = facts.wire.tries.iter();
    let failed =
        tries.find(|it| it.server == host && vips.contains(&it.vip) && it.own && !it.virtual_one);
    if let Some(failed) = failed {
        let way = if failed.tunnel {
            "through a tunnel"
        } else {
            "by its MAC"
        };
        let said = format!(
            "{host} answers an echo to its own address, and none to {} that is sent to it {way}",
            failed.vip
        );
        return Some((failed.vip, said));
    }
    let tried = facts.wire.tries.iter();
    if tried
        .clone()
        .any(|it| it.server == host && vips.contains(&it.vip) && it.virtual_one)
    {
        return None;
    }
    let status = facts.status.as_ref()?;
    let known = status
        .virtual_servers
        .iter()
        .find(|it| it.name == server.name)?;
    let named = |name: &str| name == real.key.0.to_string() || name == host.to_string();
    let checks = &known
        .real_servers
        .iter()
        .find(|it| named(&it.address))?
        .checks;
    if checks.len() != real.checks.len() {
        return None;
    }
    let both = || real.checks.iter().zip(checks);
    let passes = both().any(|(spec, check)| spec.route.through.is_none() && check.state == "up");
    let (spec, check) =
        both().find(|(spec, check)| spec.route.through.is_some() && check.state == "down")?;
    let why = check.last_error.as_deref().unwrap_or("no answer");
    let said =
        format!("its check via the virtual address fails ({why}), and the direct one passes");
    passes.then(|| (spec.target.ip(), said))
}

fn vip_missing(facts: &Facts, server: &VirtualServer, real: &RealServer) -> Option<Finding> {
    let (vip, said) = missing(facts, server, real)?;
    let host = real.key.0.ip();
    let script = match vip {
        IpAddr::V4(_) => format!(
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 && ip addr add \
             {vip}/32 dev lo"
        ),
        IpAddr::V6(_) => format!("ip addr add {vip}/128 dev lo nodad"),
    };
    let words = format!(
        "put {vip} on lo there, after arp_ignore and arp_announce are set; `vipd realserver` does all of it \
         and keeps it over a boot"
    );
    let remedy = Remedy::words(words)
        .on(host)
        .run(vec!["sh".to_owned(), "-c".to_owned(), script]);
    Some(Finding::new(
        c::VIP_MISSING,
        host.to_string(),
        vec![said],
        remedy,
    ))
}

fn tunnel_missing(facts: &Facts, server: &VirtualServer, real: &RealServer) -> Option<Finding> {
    let (vip, said) = missing(facts, server, real)?;
    let host = real.key.0.ip();
    let words = format!(
        "bring the tunnel device up there, with {vip} on it and without rp_filter; `vipd realserver \
         --vip {vip} --forwarding tun` does all of it and keeps it over a boot"
    );
    let script = format!(
        "modprobe -q ipip; sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 && \
         ip link set tunl0 up && sysctl -w net.ipv4.conf.tunl0.rp_filter=2 && ip addr replace {vip}/32 dev \
         tunl0"
    );
    let remedy = Remedy::words(words)
        .on(host)
        .run(vec!["sh".to_owned(), "-c".to_owned(), script]);
    Some(Finding::new(
        c::TUNNEL_MISSING,
        host.to_string(),
        vec![said],
        remedy,
    ))
}

fn tunnel_mtu(
    config: &Config,
    facts: &Facts,
    server: &VirtualServer,
    host: IpAddr,
    way: &Way,
    tunnel: Tunnel,
) -> Option<Finding> {
    let link = facts
        .links
        .iter()
        .find(|link| link.index == way.interface)?;
    let vips = plan::vips(server);
    let addresses = config.vrrp.iter().flat_map(|vrrp| &vrrp.addresses);
    let mut clients = addresses.filter(|address| vips.contains(&address.ip()));
    let clients = &clients.next()?.interface;
    let mtu = |name: &str| facts.host.mtus.get(name).copied();
    let (theirs, ours) = (mtu(clients)?, mtu(&link.name)?);
    let header = if host.is_ipv4() { 20 } else { 40 };
    let more = match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gre { .. } => 8,
        Tunnel::Gue { .. } => 20,
    };
    let wanted = theirs + header + more;
    let evidence = vec![format!(
        "{} to {host} has an MTU of {ours}, {clients} to the clients {theirs}; the tunnel adds {}",
        link.name,
        header + more
    )];
    let words = format!(
        "give the whole way to {host} an MTU of {wanted} (here, its switches, its own interface), or the \
         clients' network a smaller one"
    );
    let command = format!("ip link set dev {} mtu {wanted}", link.name);
    let remedy = Remedy::words(words).command(&command);
    (ours < theirs).then(|| Finding::new(c::TUNNEL_MTU, host.to_string(), evidence, remedy))
}

fn no_return_path(
    config: &Config,
    facts: &Facts,
    server: &VirtualServer,
    real: &RealServer,
    way: &Way,
) -> Option<Finding> {
    let connections = facts.ipvs.servers.get(&real.key.0)?;
    let client = connections.half_open.first()?;
    let half_open = connections.half_open.len();
    // Scanners leave half-open connections, too, but not only those.
    if half_open < HALF_OPEN || connections.fresh > 0 || half_open <= connections.answered {
        return None;
    }
    let host = real.key.0.ip();
    let evidence = vec![format!(
        "{half_open} connections to {} stay half-open (SYN_RECV), one of {client}, and none was answered meanwhile",
        real.key
    )];
    // Better than the director's own address: one that moves with the master.
    let link = facts.links.iter().find(|link| link.index == way.interface);
    let nets = link.iter().flat_map(|link| link.addresses.iter());
    let net = nets.map(|it| it.address).find(|net| net.contains(&host));
    let floating = config.vrrp.iter().flat_map(|vrrp| &vrrp.addresses);
    let vips = plan::vips(server);
    let floating = floating
        .map(|it| it.ip())
        .find(|ip| net.is_some_and(|net| net.contains(ip)) && !vips.contains(ip));
    let gateway = floating.or(way.source)?;
    let words = "make the director its gateway (best a virtual address in its network, which moves with the \
                 master); or write forwarding = \"fullnat\", which needs no route there but hides the client";
    let remedy = Remedy::words(words)
        .on(host)
        .command(&format!("ip route replace default via {gateway}"));
    Some(Finding::new(
        c::NO_RETURN_PATH,
        host.to_string(),
        evidence,
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::facts::ipvs::Connections;
    use super::super::facts::wire::Try;
    use super::super::testbed::{RS, VIP, codes, held, server};
    use super::*;

    fn config(forwarding: &str) -> Config {
        let text = format!(
            "[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\n\
             virtual_addresses = [\"{VIP}/24\"]\n{}",
            server(forwarding)
        );
        Config::parse(&text, "test").unwrap()
    }

    /// A real server on the link that answers.
    fn facts() -> Facts {
        let mut facts = held();
        let way = Way {
            interface: 2,
            gateway: None,
            source: "10.77.0.11".parse().ok(),
        };
        facts.ways.insert(RS.parse().unwrap(), way);
        let key = ("eth0".to_owned(), RS.parse().unwrap());
        facts
            .wire
            .answers
            .insert(key, BTreeSet::from([[2, 0, 0, 0, 0, 21]]));
        facts.host.mtus.insert("eth0".to_owned(), 1500);
        facts
    }

    fn tried(tunnel: bool, own: bool, virtual_one: bool) -> Try {
        Try {
            server: RS.parse().unwrap(),
            vip: VIP.parse().unwrap(),
            tunnel,
            own,
            virtual_one,
        }
    }

    #[test]
    fn real_servers_that_answer_are_well_whatever_the_forwarding() {
        for forwarding in ["dr", "nat", "tun", "fullnat"] {
            let found = findings(&config(forwarding), &facts());
            assert_eq!(codes(&found), [""; 0], "{forwarding}");
        }
    }

    #[test]
    fn one_that_is_silent_or_without_route_is_unreachable() {
        let mut facts = facts();
        let key = ("eth0".to_owned(), RS.parse().unwrap());
        facts.wire.answers.insert(key, BTreeSet::new());
        assert_eq!(codes(&findings(&config("dr"), &facts)), ["VIP-RS-001"]);
        facts.ways.clear();
        assert_eq!(codes(&findings(&config("dr"), &facts)), ["VIP-RS-001"]);
        facts.unknown.push("routes: no netlink".to_owned());
        assert_eq!(codes(&findings(&config("dr"), &facts)), [""; 0]);
    }

    #[test]
    fn direct_routing_over_a_gateway_is_found_and_other_forwarding_is_not() {
        let mut facts = facts();
        let way = facts.ways.get_mut(&RS.parse().unwrap()).unwrap();
        way.gateway = "10.77.0.1".parse().ok();
        assert_eq!(codes(&findings(&config("dr"), &facts)), ["VIP-DR-001"]);
        assert_eq!(codes(&findings(&config("tun"), &facts)), [""; 0]);
    }

    #[test]
    fn a_virtual_address_is_missing_only_where_the_own_one_answers() {
        for (forwarding, tunnel, code) in
            [("dr", false, "VIP-DR-002"), ("tun", true, "VIP-TUN-001")]
        {
            let mut facts = facts();
            facts.wire.tries = vec![tried(tunnel, true, false)];
            let found = findings(&config(forwarding), &facts);
            assert_eq!(codes(&found), [code]);
            assert_eq!(found[0].remedy.on.as_deref(), Some(RS));
            facts.wire.tries = vec![tried(tunnel, false, false)];
            assert_eq!(
                codes(&findings(&config(forwarding), &facts)),
                [""; 0],
                "no ICMP"
            );
            facts.wire.tries = vec![tried(tunnel, true, true)];
            assert_eq!(codes(&findings(&config(forwarding), &facts)), [""; 0]);
        }
    }

    #[test]
    fn a_host_is_taken_out_of_every_virtual_server_that_it_is_in() {
        let (facts, host) = (facts(), RS.parse().unwrap());
        let one = disable(&config("dr"), &facts, host);
        assert_eq!(one, ["vipctl", "disable", "http", &format!("{RS}:80")]);
        let other = server("dr")
            .replace("http", "the other")
            .replace(":80", ":81");
        let both = Config::parse(&format!("{}{other}", server("dr")), "test").unwrap();
        let line = format!("vipctl disable http {RS}:80; vipctl disable 'the other' {RS}:81");
        assert_eq!(disable(&both, &facts, host), ["sh", "-c", &line]);
    }

    #[test]
    fn a_narrower_way_to_a_tunnel_is_found() {
        let mut facts = facts();
        let far = super::super::testbed::link(3, "eth1", [2, 0, 0, 0, 0, 3], &["10.88.0.1/24"]);
        let near = super::super::testbed::link(2, "eth0", [2, 0, 0, 0, 0, 1], &["10.77.0.10/24"]);
        facts.links = [near, far].into_iter().collect();
        facts.ways.get_mut(&RS.parse().unwrap()).unwrap().interface = 3;
        facts.host.mtus.insert("eth1".to_owned(), 1400);
        let found = findings(&config("tun"), &facts);
        assert_eq!(codes(&found), ["VIP-TUN-002"]);
        let command = found[0].remedy.command.as_ref().unwrap().join(" ");
        assert_eq!(command, "ip link set dev eth1 mtu 1520");
    }

    #[test]
    fn half_open_connections_that_nobody_answers_are_a_missing_way_back() {
        let mut facts = facts();
        let mut connections = Connections {
            half_open: vec!["10.78.0.100:50000".parse().unwrap(); 3],
            answered: 2,
            fresh: 0,
        };
        let key = format!("{RS}:80").parse().unwrap();
        facts.ipvs.servers.insert(key, connections.clone());
        let found = findings(&config("nat"), &facts);
        assert_eq!(codes(&found), ["VIP-NAT-001"]);
        let command = found[0].remedy.command.as_ref().unwrap().join(" ");
        assert_eq!(command, "ip route replace default via 10.77.0.11");
        assert_eq!(codes(&findings(&config("fullnat"), &facts)), [""; 0]);
        connections.fresh = 1;
        facts.ipvs.servers.insert(key, connections);
        assert_eq!(codes(&findings(&config("nat"), &facts)), [""; 0]);
    }
}
