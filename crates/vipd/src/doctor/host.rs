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
    found.extend(silent(facts));
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

fn silent(facts: &Facts) -> Option<Finding> {
    let silent = facts.silent.as_ref()?;
    let tenths = silent.patience.as_millis() / 100;
    let through = silent.socket.as_ref();
    let through = through.map_or_else(String::new, |it| format!(" through {}", it.display()));
    let mut evidence = vec![format!(
        "it did not say within {}.{} s{through} what it does",
        tenths / 10,
        tenths % 10
    )];
    let remedy = match silent.process {
        Some((pid, state @ ('T' | 't'))) => {
            evidence.push(format!("process {pid} is stopped (state {state})"));
            let words = "somebody has stopped it (SIGSTOP, a debugger): let it go on";
            Remedy::words(words).command(&format!("kill -CONT {pid}"))
        }
        process => {
            if let Some((pid, state)) = process {
                evidence.push(format!("process {pid} is in state {state}"));
            }
            let words = "look at its log (`journalctl -u vipd`) and whether it is busy or waits for a disk \
                         (`top`); if that lasts, start it anew: the peer takes over meanwhile";
            Remedy::words(words).command("systemctl restart vipd")
        }
    };
    Some(Finding::new(c::SILENT, "vipd", evidence, remedy))
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
        "sysctl -w net.ipv4.conf.all.send_redirects=0 {}=0",
        in_sysctl(&interface, "send_redirects")
    ));
    Some(Finding::new(c::REDIRECTS, interface, evidence, remedy))
}

fn reverse_path(facts: &Facts) -> Option<Finding> {
    // Answers to doctor's own echoes may come by another way than theirs, and so may the adverts of a group
    // that nobody but doctor has joined.
    let adverts = facts.wire.adverts.iter().filter(|it| !it.outgoing);
    let adverts: u64 = adverts.map(|it| u64::from(it.count)).sum();
    let own = facts.wire.replies + facts.status.as_ref().map_or(adverts, |_| 0);
    let dropped = facts.host.reverse_path.saturating_sub(own);
    if dropped < DROPPED {
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
        .map(|name| format!("{}=2", in_sysctl(name, "rp_filter")));
    let settings: Vec<String> = settings.collect();
    let evidence = vec![
        format!(
            "it dropped {dropped} packets within {:?} (IPReversePathFilter in /proc/net/netstat)",
            facts.wire.window
        ),
        format!("rp_filter is 1 on {}", names.join(", ")),
    ];
    let words = "route packets back the way they come, or let any way back do";
    let remedy = Remedy::words(words).command(&format!("sysctl -w {}", settings.join(" ")));
    (!names.is_empty()).then(|| Finding::new(c::REVERSE_PATH, names.join(", "), evidence, remedy))
}

/// The command that removes just that line, wherever in the file it is by then; if it is not there any more,
/// nothing.
fn remove_line(line: &Line) -> Vec<String> {
    let mut pattern = String::new();
    for c in line.text.chars() {
        if "\\/.*[]^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    let script = format!("/^[[:space:]]*{pattern}[[:space:]]*$/d");
    ["sed", "-i", &script, &line.file].map(str::to_owned).into()
}

/// A setting of an interface as sysctl(8) takes it: the name of a VLAN's interface has a dot itself, which
/// must not separate.
fn in_sysctl(interface: &str, setting: &str) -> String {
    if interface.contains('.') {
        return format!("net/ipv4/conf/{interface}/{setting}");
    }
    format!("net.ipv4.conf.{interface}.{setting}")
}

fn shown(line: &Line) -> String {
    format!("{}:{}: {}", line.file, line.number, line.text)
}

fn configured_elsewhere(facts: &Facts) -> Vec<Finding> {
    let finding = |line: &Line| {
        let reload = "have what reads the file read it again (`networkctl reload`, `nmcli connection reload`)";
        // A line of its own goes as a whole; elsewhere others are on the line, or need it.
        let alone = line.file.ends_with(".network") && line.text.starts_with("Address");
        let remedy = if alone {
            Remedy::words(format!("remove that line, and {reload}")).run(remove_line(line))
        } else {
            Remedy::words(format!(
                "edit {}: take the address out of line {}, which is `{}`, and {reload}",
                line.file, line.number, line.text
            ))
        };
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
            "sysctl -w net.ipv4.conf.all.arp_ignore=0 {}=0",
            in_sysctl(name, "arp_ignore")
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
    use std::time::Duration;

    use super::super::facts::Silent;
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
        facts.wire.replies = 3;
        assert_eq!(
            codes(&findings(&config(""), &facts)),
            [""; 0],
            "doctor's own echoes"
        );
        facts.wire.replies = 0;
        set(&mut facts, "net.ipv4.conf.eth0.rp_filter", "2");
        assert_eq!(codes(&findings(&config(""), &facts)), [""; 0]);
    }

    #[test]
    fn the_interface_of_a_vlan_is_written_so_that_sysctl_takes_it() {
        assert_eq!(in_sysctl("eth0", "x"), "net.ipv4.conf.eth0.x");
        assert_eq!(in_sysctl("eth0.100", "x"), "net/ipv4/conf/eth0.100/x");
    }

    #[test]
    fn a_daemon_that_is_stopped_is_let_go_on_and_a_silent_one_started_anew() {
        let mut facts = facts();
        for (state, remedy) in [('T', "kill -CONT 7"), ('D', "systemctl restart vipd")] {
            facts.silent = Some(Silent {
                socket: Some("/run/s".into()),
                process: Some((7, state)),
                patience: Duration::from_millis(1512),
            });
            let found = findings(&config(""), &facts);
            assert_eq!(codes(&found), ["VIP-CTL-001"]);
            assert_eq!(command(&found[0]), remedy);
            assert!(found[0].evidence[0].contains("within 1.5 s"), "{found:?}");
        }
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
        assert_eq!(
            command(&found[0]),
            r"sed -i /^[[:space:]]*Address=10\.77\.0\.10\/24[[:space:]]*$/d eth0.network"
        );
        assert_eq!(
            command(&found[1]),
            r"sed -i /^[[:space:]]*net\.ipv4\.vs\.expire_nodest_conn = 0[[:space:]]*$/d a.conf"
        );
        let mut several = line("01-lb.yaml", "addresses: [10.77.0.10/24, 10.77.0.11/24]");
        several.number = 7;
        facts.host.addresses = vec![several];
        let found = findings(&config(""), &facts);
        assert_eq!(found[0].remedy.command, None, "others are on that line");
        assert!(found[0].remedy.words.contains("line 7"), "{found:?}");
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
