//! What virtual servers can be: several addresses, marks, tunnels, full NAT.

use std::collections::BTreeSet;

use ipvs::{Family, Forwarding, Protocol, ServiceKey, Tunnel, TunnelChecksum};
use vipd::config::{Config, MarkRule, Require, VirtualServer};

use super::parse;

#[test]
fn several_addresses_are_one_virtual_server_and_each_family_has_its_real_servers() {
    let server = one(r#"
        [[virtual_server]]
        name = "http"
        addresses = ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"]
        persistence = { netmask = 24, netmask6 = 64 }
          [[virtual_server.real_server]]
          address = "10.0.0.21"
          [[virtual_server.real_server]]
          address = "2001:db8::21"
        "#);
    let keys: Vec<String> = server.keys.iter().map(ToString::to_string).collect();
    assert_eq!(
        keys,
        [
            "tcp 192.0.2.1:80",
            "tcp 192.0.2.2:80",
            "tcp [2001:db8::1]:80"
        ]
    );
    let netmasks = server.keys.iter().map(|key| {
        let persistence = server.service_of(key).persistence.unwrap();
        persistence.prefix_length
    });
    assert_eq!(netmasks.collect::<Vec<_>>(), [24, 24, 64]);
    let sent = |key: &ServiceKey| -> Vec<String> {
        let real = server.real_servers.iter().map(|real| real.key);
        real.filter(|real| server.sends(key, real))
            .map(|real| real.to_string())
            .collect()
    };
    assert_eq!(sent(&server.keys[1]), ["10.0.0.21:80"]);
    assert_eq!(sent(&server.keys[2]), ["[2001:db8::21]:80"]);
}

#[test]
fn a_tunnel_reaches_the_other_family_where_no_clients_have_it() {
    let server = one(r#"
        [[virtual_server]]
        name = "http"
        address = "192.0.2.1:80"
        forwarding = "tun"
          [[virtual_server.real_server]]
          address = "2001:db8::21"
        "#);
    assert!(server.sends(&server.keys[0], &server.real_servers[0].key));
}

#[test]
fn real_servers_have_a_forwarding_and_a_tunnel_of_their_own() {
    let server = one(r#"
        [[virtual_server]]
        name = "http"
        address = "192.0.2.1:80"
        forwarding = "fullnat"
        tunnel = { type = "gue", port = 6080, checksum = "remote" }
          [[virtual_server.real_server]]
          address = "10.0.0.21:8080"
          [[virtual_server.real_server]]
          address = "10.0.0.22"
          forwarding = "nat"
          [[virtual_server.real_server]]
          address = "10.0.0.23"
          forwarding = "tun"
          [[virtual_server.real_server]]
          address = "10.0.0.24"
          forwarding = "tun"
          tunnel = { type = "gre", checksum = "full" }
        "#);
    let gue = Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::Remote,
    };
    let gre = Tunnel::Gre {
        checksum: TunnelChecksum::Full,
    };
    let found: Vec<_> = server
        .servers()
        .map(|(key, forwarding, full_nat)| (key.0.port(), forwarding, full_nat))
        .collect();
    assert_eq!(
        found,
        [
            (8080, Forwarding::Nat, true),
            (80, Forwarding::Nat, false),
            (80, Forwarding::Tunnel(gue), false),
            (80, Forwarding::Tunnel(gre), false),
        ]
    );
    assert!(server.has_full_nat() && server.method.masquerade);
}

#[test]
fn full_nat_switches_connection_tracking_on_and_nothing_may_switch_it_off() {
    let with = |sysctl: &str, forwarding: &str| {
        parse(&format!(
            "[ipvs]\nsysctl = {{ {sysctl} }}\n[[virtual_server]]\nname = 'a'\n\
             address = '192.0.2.1:80'\nforwarding = '{forwarding}'\n\
             [[virtual_server.real_server]]\naddress = '10.0.0.21'\n"
        ))
    };
    let conntrack = |config: Config| config.ipvs.sysctl.get("conntrack").cloned();
    assert_eq!(conntrack(with("", "nat").unwrap()), None);
    assert_eq!(conntrack(with("", "fullnat").unwrap()), Some("1".into()));
    let off = "conntrack = false";
    assert_eq!(conntrack(with(off, "nat").unwrap()), Some("0".into()));
    let problems = with(off, "fullnat").unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["ipvs.sysctl.conntrack"]);
}

#[test]
fn a_mark_has_the_families_of_its_packets() {
    let server = one(r#"
        [[virtual_server]]
        name = "shop"
        fwmark = 3
        mark = [
          { address = "192.0.2.1", ports = [80, 443, "8000-8100"] },
          { protocol = "udp", address = "2001:db8::1" },
        ]
          [[virtual_server.real_server]]
          address = "10.0.0.21"
        "#);
    let key = |family| ServiceKey::FirewallMark { family, mark: 3 };
    assert_eq!(server.keys, [key(Family::V4), key(Family::V6)]);
    let rule = |protocol, address: &str, ports: &[std::ops::RangeInclusive<u16>]| MarkRule {
        protocol,
        address: address.parse().unwrap(),
        ports: ports.to_vec(),
    };
    assert_eq!(
        server.marks,
        [
            rule(
                Protocol::Tcp,
                "192.0.2.1",
                &[80..=80, 443..=443, 8000..=8100]
            ),
            rule(Protocol::Udp, "2001:db8::1", &[1..=65535]),
        ]
    );
}

#[test]
fn sip_persistence_is_for_udp() {
    let server = one(
        "[[virtual_server]]\nname = 'sip'\naddress = '192.0.2.1:5060'\nprotocol = 'udp'\n\
         one_packet = true\npersistence = { engine = 'sip' }\n",
    );
    let persistence = server.service.persistence.unwrap();
    assert_eq!(persistence.engine.as_deref(), Some("sip"));
}

#[test]
fn the_host_must_forward_the_families_that_it_translates() {
    let families = |text: &str| parse(text).unwrap().translated_families();
    let server = "[[virtual_server]]\nname = 'a'\nprotocol = 'udp'\n";
    let nat = format!(
        "{server}address = '[2001:db8::1]:80'\nforwarding = 'nat'\nsorry_server = '2001:db8::9'"
    );
    let dr = format!("{server}address = '192.0.2.1:80'\nsorry_server = '192.0.2.9'");
    assert_eq!(families(&nat), BTreeSet::from([Family::V6]));
    assert_eq!(families(&dr), BTreeSet::new());
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let warnings = |text: &str| parse(text).unwrap().warnings().join("\n");
    let server = |text: &str| format!("[[virtual_server]]\nname = 'a'\n{text}\n");
    assert_eq!(warnings(&server("address = '192.0.2.1:80'")), "");
    let mh = "address = '192.0.2.1:80'\nscheduler = 'mh'\nscheduler_flags = ['mh-port']";
    assert!(warnings(&server(mh)).contains("virtual_server \"a\": without \"mh-fallback\""));
    let udp = "address = '192.0.2.1:53'\nprotocol = 'udp'\none_packet = true";
    let sticky = format!("{udp}\npersistence = {{}}");
    assert!(warnings(&server(&sticky)).contains("every datagram of a client"));
    let nat = format!("{udp}\nforwarding = 'nat'\nsorry_server = '192.0.2.9'");
    assert!(warnings(&server(&nat)).contains("answers keep the real server's address"));
    let sip = format!("{udp}\npersistence = {{ engine = 'sip' }}");
    assert_eq!(warnings(&server(&sip)), "");
    let one_family = "addresses = ['192.0.2.1:80', '[2001:db8::1]:80']\n\
                      real_server = [{ address = '192.0.2.9' }]";
    assert_eq!(
        warnings(&server(one_family)),
        "virtual_server \"a\": tcp [2001:db8::1]:80 has no real server [no-real-server]"
    );
    let marked = server("fwmark = 1\nmark = [{ address = '192.0.2.1', ports = ['1-99'] }]");
    let marked = format!("{marked}[[virtual_server]]\nname = 'b'\naddress = '192.0.2.1:80'");
    assert!(warnings(&marked).contains("firewall mark of \"a\", which takes its clients"));
    let tracked = format!(
        "[[vrrp]]\nname = 'w'\ninterface = 'eth0'\nvrid = 1\nvirtual_addresses = ['192.0.2.1/24']\n\
         track = [{{ virtual_server = 'a' }}]\n{}",
        server("address = '192.0.2.1:80'\nvrrp = 'w'\nwhen = 'master'")
    );
    assert!(warnings(&tracked).contains("a lost quorum is never found again"));
    let slowly = tracked.replace("when = 'master'", "when = 'master'\nbackup_interval = '1m'");
    assert_eq!(warnings(&slowly), "");
}

#[test]
fn keys_of_checks_that_contradict_each_other_are_problems() {
    let problem = |text: &str, words: &str| {
        let text = format!("[[virtual_server]]\nname = 'a'\naddress = '192.0.2.1:80'\n{text}");
        let problems = parse(&text).unwrap_err().to_string();
        assert!(problems.contains(words), "{problems}");
    };
    problem("when = 'master'", "needs to know of which virtual router");
    problem(
        "backup_interval = '1m'",
        "at their own pace on a backup, too",
    );
    problem("require = 'most'", "is not one of the values");
    problem(
        "check = { type = 'tcp', fast_interval = '6s' }",
        "is longer than interval, 5s",
    );
    problem(
        "check = { type = 'tcp', flap = { count = 1 } }",
        "flap.count",
    );
    problem("check = { type = 'tcp', flap = { times = 3 } }", "times");
}

#[test]
fn a_real_server_may_need_one_of_its_checks_only_and_says_so_or_its_virtual_server_does() {
    let server = one(r#"
        [[virtual_server]]
        name = "http"
        address = "192.0.2.1:80"
        require = "any"
        checks = [{ type = "tcp" }, { type = "ping" }]
          [[virtual_server.real_server]]
          address = "10.0.0.21"
          [[virtual_server.real_server]]
          address = "10.0.0.22"
          require = "all"
        "#);
    let found: Vec<Require> = server
        .real_servers
        .iter()
        .map(|real| real.require)
        .collect();
    assert_eq!(found, [Require::Any, Require::All]);
    // A lost datagram says less than a refused connection.
    let falls: Vec<u32> = server.real_servers[0]
        .checks
        .iter()
        .map(|it| it.fall)
        .collect();
    assert_eq!(falls, [2, 3]);
}

fn one(text: &str) -> VirtualServer {
    let config = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    config.virtual_servers.into_iter().next().unwrap()
}
