//! This host: settings of the kernel, limits, and others that configure the same.

use std::net::IpAddr;

use ipvs::{Family, Forwarding};

use super::catalogue as c;
use super::facts::host::Line;
use super::facts::{Facts, plan, serving};
use super::{Finding, Remedy};
use crate::config::{Config, VirtualAddress};

/// Dropped packets that are no accident.
const DROPPED: u64 = 3;
/// How full a table may be, percent.
const FULL: u64 = 90;
/// How many descriptors may be used, percent.
const USED: u64 = 80;
/// A daemon that has just started sets its sysctls yet.
const SETTLED_SECONDS: u64 = 15;
/// `arp_ignore`: does not answer for any address.
const NO_ANSWERS: u32 = 8;

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(not_forwarding(config, facts));
    found.extend(redirects(config, facts));
    found.extend(reverse_path(facts));
    found.extend(configured_elsewhere(facts));
    found.extend(does_not_answer(config, facts));
    found.extend(tracked(facts));
    found.extend(fought_over(config, facts));
    found.extend(descriptors(facts));
    found
}

fn sysctl<'f>(facts: &'f Facts, name: &str) -> Option<&'f str> {
    facts.host.sysctls.get(name).map(String::as_str)
}

/// The value of a setting of an interface and that of `all`.
fn of_interface(facts: &Facts, interface: &str, setting: &str) -> [u32; 2] {
    ["all", interface].map(|name| {
        let value = sysctl(facts, &format!("net.ipv4.conf.{name}.{setting}"));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    })
}

fn not_forwarding(config: &Config, facts: &Facts) -> Vec<Finding> {
    let finding = |family: Family| {
        let setting = match family {
            Family::V4 => "net.ipv4.ip_forward",
            Family::V6 => "net.ipv6.conf.all.forwarding",
        };
        let off = sysctl(facts, setting) == Some("0");
        let words = "switch it on, now and at every boot (a file in /etc/sysctl.d)";
        let remedy = Remedy::words(words).command(&format!("sysctl -w {setting}=1"));
        let evidence = vec![format!(
            "{setting} is 0, and packets of a virtual server are translated"
        )];
        off.then(|| Finding::new(c::NOT_FORWARDING, setting, evidence, remedy))
    };
    config
        .translated_families()
        .into_iter()
        .filter_map(finding)
        .collect()
}

/// NAT with real servers and clients on one interface.
fn redirects(config: &Config, facts: &Facts) -> Option<Finding> {
    let (real, interface) = serving(config, facts.status.as_ref()).find_map(|(server, real)| {
        let host = real.key.0.ip();
        let nat = real.destination.forwarding == Forwarding::Nat && !real.masquerade;
        let way = facts.ways.get(&host).filter(|way| way.gateway.is_none())?;
        let link = facts
            .links
            .iter()
            .find(|link| link.index == way.interface)?;
        let vips = plan::vips(server);
        let mut addresses = config.vrrp.iter().flat_map(|vrrp| &vrrp.addresses);
        let here = |it: &VirtualAddress| {
            vips.contains(&it.ip()) && it.interface == link.name && host.is_ipv4()
        };
        (nat && addresses.any(here)).then(|| (host, link.name.clone()))
    })?;
    let [all, own] = of_interface(facts, &interface, "send_redirects");
    if all.max(own) == 0 {
        return None;
    }
    let evidence = vec![
        format!(
            "{real} is a real server of NAT on {interface}, on which its clients' virtual address is"
        ),
        format!("send_redirects is {all} for all interfaces, and {own} for {interface}"),
    ];
    let words = "switch both off, now and at every boot (a file in /etc/sysctl.d)";
    let remedy = Remedy::words(words).command(&format!(
        "sysctl -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.{}.send_redirects=0",
        in_sysctl(&interface)
    ));
    Some(Finding::new(c::REDIRECTS, interface, evidence, remedy))
}

fn reverse_path(facts: &Facts) -> Option<Finding> {
    if facts.host.reverse_path < DROPPED {
        return None;
    }
    let strict = |name: &&str| {
        let [all, own] = of_interface(facts, name, "rp_filter");
        all.max(own) == 1
    };
    let up = facts
        .links
        .iter()
        .filter(|link| link.up && link.name != "lo");
    let names: Vec<&str> = up.map(|link| link.name.as_str()).filter(strict).collect();
    let settings = names
        .iter()
        .map(|name| format!("net.ipv4.conf.{}.rp_filter=2", in_sysctl(name)));
    let settings: Vec<String> = settings.collect();
    let evidence = vec![
        format!(
            "it dropped {} packets within {:?} (IPReversePathFilter in /proc/net/netstat)",
            facts.host.reverse_path, facts.wire.window
        ),
        format!("rp_filter is 1 on {}", names.join(", ")),
    ];
    let words = "route packets back the way they come, or let any way back do";
    let remedy = Remedy::words(words).command(&format!("sysctl -w {}", settings.join(" ")));
    (!names.is_empty()).then(|| Finding::new(c::REVERSE_PATH, names.join(", "), evidence, remedy))
}

fn remove_line(line: &Line) -> Vec<String> {
    let number = format!("{}d", line.number);
    ["sed", "-i", &number, &line.file].map(str::to_owned).into()
}

/// An interface's name where sysctl(8) separates by dots: that of a VLAN has one itself.
fn in_sysctl(interface: &str) -> String {
    interface.replace('.', "/")
}

fn shown(line: &Line) -> String {
    format!("{}:{}: {}", line.file, line.number, line.text)
}

fn configured_elsewhere(facts: &Facts) -> Vec<Finding> {
    let finding = |line: &Line| {
        let words = "remove that line, and have what reads the file read it again (`networkctl reload`, \
                     `nmcli connection reload`)";
        let remedy = Remedy::words(words).run(remove_line(line));
        let evidence = vec![shown(line)];
        Finding::new(c::CONFIGURED_ELSEWHERE, &line.file, evidence, remedy)
    };
    facts.host.addresses.iter().map(finding).collect()
}

fn does_not_answer(config: &Config, facts: &Facts) -> Vec<Finding> {
    let addresses = config.vrrp.iter().flat_map(|vrrp| &vrrp.addresses);
    let mut found: Vec<Finding> = Vec::new();
    for address in addresses.filter(|it| matches!(it.ip(), IpAddr::V4(_))) {
        let name = &address.interface;
        let [all, own] = of_interface(facts, name, "arp_ignore");
        if all.max(own) < NO_ANSWERS || found.iter().any(|it| it.object == *name) {
            continue;
        }
        let evidence = vec![format!(
            "arp_ignore is {all} for all interfaces, and {own} for {name}"
        )];
        let words = "let it answer, now and at every boot (a file in /etc/sysctl.d)";
        let remedy = Remedy::words(words).command(&format!(
            "sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.{}.arp_ignore=0",
            in_sysctl(name)
        ));
        found.push(Finding::new(c::DOES_NOT_ANSWER, name, evidence, remedy));
    }
    found
}

fn tracked(facts: &Facts) -> Option<Finding> {
    let (count, max) = facts.host.tracked?;
    if max == 0 || count * 100 < max * FULL {
        return None;
    }
    let evidence = vec![format!("{count} of {max} entries are in use")];
    let words = "enlarge it, now and at every boot (a file in /etc/sysctl.d); or keep the virtual addresses \
                 out of it (`notrack` in a rule of nftables): IPVS needs it for full NAT only";
    let double = max.saturating_mul(2);
    let command = format!("sysctl -w net.netfilter.nf_conntrack_max={double}");
    let remedy = Remedy::words(words).command(&command);
    Some(Finding::new(
        c::CONNECTIONS_TRACKED,
        "nf_conntrack",
        evidence,
        remedy,
    ))
}

fn fought_over(config: &Config, facts: &Facts) -> Vec<Finding> {
    let uptime = facts.status.as_ref().map(|status| status.uptime_seconds);
    let settled = uptime.is_some_and(|seconds| seconds > SETTLED_SECONDS);
    let mut found = Vec::new();
    for (name, wanted) in &config.ipvs.sysctl {
        let name = format!("net.ipv4.vs.{name}");
        let line = facts.host.settings.iter().find(|line| {
            let Some((key, value)) = line.text.split_once('=') else {
                return false;
            };
            let key = key.trim().trim_start_matches('-').replace('/', ".");
            key == name && value.split_whitespace().collect::<Vec<_>>().join(" ") != *wanted
        });
        let differs = sysctl(facts, &name).filter(|value| settled && value != wanted);
        let mut evidence: Vec<String> = line.map(shown).into_iter().collect();
        if let Some(value) = differs {
            evidence.push(format!(
                "it is {value}, and vipd keeps setting it to {wanted}"
            ));
        }
        if evidence.is_empty() {
            continue;
        }
        let words = format!(
            "let one of the two have it: remove it there, or write that value in the `sysctl` of [ipvs], \
             which wants {wanted}"
        );
        let mut remedy = Remedy::words(words);
        if let Some(line) = line {
            remedy = remedy.run(remove_line(line));
        }
        found.push(Finding::new(c::FOUGHT_OVER, name, evidence, remedy));
    }
    found
}

fn descriptors(facts: &Facts) -> Option<Finding> {
    let used = facts.host.descriptors?;
    if used.limit == 0 || used.open * 100 < used.limit * USED {
        return None;
    }
    let evidence = vec![format!(
        "process {} has {} of {} descriptors open",
        used.pid, used.open, used.limit
    )];
    let words = "raise the limit, now and for its unit (`LimitNOFILE=` by `systemctl edit vipd`)";
    let more = if used.hard > used.limit {
        used.hard
    } else {
        used.limit.saturating_mul(4).max(65_536)
    };
    let command = format!("prlimit --pid {} --nofile={more}:{more}", used.pid);
    let remedy = Remedy::words(words).command(&command);
    Some(Finding::new(c::DESCRIPTORS, "vipd", evidence, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::facts::host::Descriptors;
    use super::super::facts::routes::Way;
    use super::super::testbed::{RS, codes, config, facts, server};
    use super::*;

    fn nat() -> Config {
        let text = format!(
            "[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\n\
             virtual_addresses = [\"10.77.0.10/24\"]\n{}",
            server("nat")
        );
        Config::parse(&text, "test").unwrap()
    }

    fn set(facts: &mut Facts, name: &str, value: &str) {
        facts.host.sysctls.insert(name.to_owned(), value.to_owned());
    }

    fn command(finding: &Finding) -> String {
        finding.remedy.command.as_ref().unwrap().join(" ")
    }

    #[test]
    fn nat_needs_forwarding_and_no_redirects_where_it_has_one_arm() {
        let mut facts = facts();
        let way = Way {
            interface: 2,
            ..Way::default()
        };
        facts.ways.insert(RS.parse().unwrap(), way);
        set(&mut facts, "net.ipv4.ip_forward", "0");
        set(&mut facts, "net.ipv4.conf.all.send_redirects", "0");
        set(&mut facts, "net.ipv4.conf.eth0.send_redirects", "1");
        let found = findings(&nat(), &facts);
        assert_eq!(codes(&found), ["VIP-NAT-002", "VIP-NAT-003"]);
        assert_eq!(command(&found[0]), "sysctl -w net.ipv4.ip_forward=1");
        assert_eq!(
            codes(&findings(&config(""), &facts)),
            [""; 0],
            "direct routing needs neither"
        );
        set(&mut facts, "net.ipv4.ip_forward", "1");
        set(&mut facts, "net.ipv4.conf.eth0.send_redirects", "0");
        assert_eq!(codes(&findings(&nat(), &facts)), [""; 0]);
    }

    #[test]
    fn a_reverse_path_filter_that_drops_is_loosened_where_it_is_strict() {
        let mut facts = facts();
        facts.host.reverse_path = 5;
        assert_eq!(
            codes(&findings(&config(""), &facts)),
            [""; 0],
            "it is not strict"
        );
        set(&mut facts, "net.ipv4.conf.all.rp_filter", "1");
        let found = findings(&config(""), &facts);
        assert_eq!(codes(&found), ["VIP-NET-001"]);
        assert_eq!(
            command(&found[0]),
            "sysctl -w net.ipv4.conf.eth0.rp_filter=2"
        );
        set(&mut facts, "net.ipv4.conf.eth0.rp_filter", "2");
        assert_eq!(codes(&findings(&config(""), &facts)), [""; 0]);
    }

    #[test]
    fn full_tables_and_used_up_descriptors_are_found_before_they_hurt() {
        let mut facts = facts();
        let descriptors = |open| Descriptors {
            pid: 7,
            open,
            limit: 1024,
            hard: 4096,
        };
        facts.host.tracked = Some((899, 1000));
        facts.host.descriptors = Some(descriptors(800));
        assert_eq!(codes(&findings(&config(""), &facts)), [""; 0]);
        facts.host.tracked = Some((900, 1000));
        facts.host.descriptors = Some(descriptors(820));
        let found = findings(&config(""), &facts);
        assert_eq!(codes(&found), ["VIP-CT-001", "VIP-LIM-001"]);
        assert_eq!(
            command(&found[0]),
            "sysctl -w net.netfilter.nf_conntrack_max=2000"
        );
        assert_eq!(command(&found[1]), "prlimit --pid 7 --nofile=4096:4096");
    }

    #[test]
    fn files_that_set_the_same_are_named_with_their_lines() {
        let line = |file: &str, text: &str| Line {
            file: file.to_owned(),
            number: 3,
            text: text.to_owned(),
        };
        let mut facts = facts();
        facts.host.addresses = vec![line("eth0.network", "Address=10.77.0.10/24")];
        facts.host.settings = vec![
            line("a.conf", "net.ipv4.vs.expire_nodest_conn = 0"),
            line("b.conf", "net/ipv4/vs/expire_quiescent_template=1"),
        ];
        let found = findings(&config(""), &facts);
        assert_eq!(codes(&found), ["VIP-NET-002", "VIP-SYS-001"]);
        assert_eq!(command(&found[0]), "sed -i 3d eth0.network");
        assert_eq!(command(&found[1]), "sed -i 3d a.conf");
    }

    #[test]
    fn a_director_that_may_not_answer_arp_is_found() {
        let mut facts = facts();
        set(&mut facts, "net.ipv4.conf.all.arp_ignore", "1");
        assert_eq!(codes(&findings(&config(""), &facts)), [""; 0]);
        set(&mut facts, "net.ipv4.conf.eth0.arp_ignore", "8");
        assert_eq!(codes(&findings(&config(""), &facts)), ["VIP-NET-003"]);
    }
}
