//! The save format, both ways.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipvs::{
    Daemon, DaemonRole, Destination, DestinationKey, Dump, Family, Forwarding, Persistence, Pool,
    Protocol, Scheduler, SchedulerName, Service, ServiceFlags, ServiceKey, Table, Timeouts, Tunnel,
    TunnelChecksum,
};
use proptest::collection::btree_map;
use proptest::prelude::*;
use vipd::ipvs_view::{Kernel, View};
use vipd::ipvsadm::order::in_order;
use vipd::ipvsadm::{Saved, restore, save};

proptest! {
    #[test]
    fn what_is_saved_is_restored_as_it_was(saved in saved()) {
        let text = print(&saved);
        let found = restore::parse(&text, &ports);
        prop_assert_eq!(found, Ok(saved), "{}", text);
    }

    #[test]
    fn a_table_comes_through_the_control_api_as_it_was(saved in saved()) {
        let kernel = Kernel {
            info: ipvs::Info { version: "1.2.1".to_owned(), connection_table_size: 4096 },
            timeouts: saved.timeouts.unwrap_or_default(),
            daemons: saved.daemons.clone(),
            dump: dump(&saved.table).into(),
        };
        let view = View::of(&kernel, |_| None);
        let json = serde_json::to_string(&view).unwrap();
        let view: View = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(view.dump().unwrap(), (*kernel.dump).clone());
        prop_assert_eq!(view.timeouts(), kernel.timeouts);
        prop_assert_eq!(view.daemons(), kernel.daemons);
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        words in proptest::collection::vec(proptest::collection::vec(word(), 0..8), 0..6)
    ) {
        let lines: Vec<String> = words.iter().map(|words| words.join(" ")).collect();
        let _ = restore::parse(&lines.join("\n"), &ports);
    }
}

#[test]
fn options_come_in_any_order_long_short_and_together() {
    let wanted = "-A -t 10.0.0.1:80 -s rr -p 60\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 5\n";
    for text in [
        "--add-service --tcp-service 10.0.0.1:80 --scheduler=rr --persistent=60\n\
         --add-server --real-server=10.1.0.1:80 --weight 5 --masquerading --tcp-service=10.0.0.1:80",
        "-At10.0.0.1:80 -srr -p60\n-amt10.0.0.1:80 -r10.1.0.1 -w5",
        "# a comment\n\n/sbin/ipvsadm -s rr -p 60 -A -t 10.0.0.1:http -n\n\
         ipvsadm -w 5 -r 10.1.0.1:http -a -t 10.0.0.1:http -m",
        "-A -t 10.9.9.9:1\n-C\n-A -t 10.0.0.1:80 -s wlc\n-E -t 10.0.0.1:80 -s rr -p 60\n\
         -a -t 10.0.0.1:80 -r 10.1.0.9\n-d -t 10.0.0.1:80 -r 10.1.0.9\n\
         -a -t 10.0.0.1:80 -r 10.1.0.1 -m\n-e -t 10.0.0.1:80 -r 10.1.0.1 -m -w 5\n\
         -A -u 10.0.0.1:53\n-D -u 10.0.0.1:53",
    ] {
        let saved = restore::parse(text, &ports).unwrap_or_else(|why| panic!("{text}: {why:?}"));
        assert_eq!(print(&saved), wanted, "{text}");
    }
}

#[test]
fn defaults_are_ipvsadms() {
    for (text, wanted) in [
        ("-A -t 10.0.0.1:80", "-A -t 10.0.0.1:80 -s wlc\n"),
        ("-A -t 10.0.0.1 -p", "-A -t 10.0.0.1:0 -s wlc -p 360\n"),
        (
            "-A -t 2001:db8::1 -p -s rr",
            "-A -t [2001:db8::1]:0 -s rr -p 360\n",
        ),
        (
            "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.1.0.1:90",
            "-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 1\n",
        ),
        (
            "-A -f 9 -6\n-a -f 9 -6 -r 2001:db8::7 -i",
            "-A -f 9 -6 -s wlc\n-a -f 9 -6 -r [2001:db8::7]:0 -i -w 1 --tun-type ipip\n",
        ),
        (
            "--start-daemon master --mcast-interface eth0",
            "--start-daemon master --mcast-interface eth0 --syncid 0\n",
        ),
        ("--set 0 5 0", "--set 0 5 0\n"),
    ] {
        let saved = restore::parse(text, &ports).unwrap_or_else(|why| panic!("{text}: {why:?}"));
        assert_eq!(print(&saved), wanted, "{text}");
    }
}

#[test]
fn every_bad_line_is_told_with_its_number_and_its_reason() {
    const GOOD: &str = "-A -t 10.0.0.1:80";
    for (line, why) in [
        ("-t 10.0.0.1:80", "there is no command"),
        ("-A", "no service is named"),
        ("-A -a -t 10.0.0.2:80", "more than one command"),
        ("-A -t 10.0.0.2:80 -u 10.0.0.2:80", "more than one service"),
        ("-A -t 10.0.0.2:80 --colour", "no option --colour"),
        ("-A -t 10.0.0.2:80 -q", "no option -q"),
        ("-A -t", "--tcp-service lacks its value"),
        ("-A -t 10.0.0.2:80 rr", "\"rr\" belongs to no option"),
        (
            "-A -t 10.0.0.2:80 -s rr -s wlc",
            "--scheduler is there twice",
        ),
        ("-A -t 10.0.0.2:80 -o=1", "no option"),
        ("-A -t 10.0.0.2:80 --ipv6=1", "--ipv6 takes no value"),
        ("-A -t 10.0.0.2:80 -m", "--masquerading has no meaning here"),
        ("-A -t 10.0.0.2:80 -6", "--ipv6 has no meaning here"),
        ("-L -n", "--list says nothing of what a table holds"),
        ("-A -t web:80", "\"web\" is no address"),
        ("-A -t 10.0.0.2:gopher", "\"gopher\" is no tcp service"),
        (
            "-A -t 10.0.0.2:65536",
            "\"65536\" is not a port (0 to 65535)",
        ),
        ("-A -t [2001:db8::1", "a ] is missing"),
        ("-A -t [2001:db8::1]80", "\"80\" follows the address"),
        (
            "-A -t 10.0.0.2",
            "port 0, which is every port, needs persistence",
        ),
        ("-A -f 0", "\"0\" is not a firewall mark"),
        ("-A -f 0x10", "\"0x10\" is not a firewall mark"),
        ("-A -t 10.0.0.2:80 -s no/such", "no name of a scheduler"),
        (
            "-A -t 10.0.0.2:80 -s rr -b sh-port",
            "the scheduler rr has no flag \"sh-port\"",
        ),
        (
            "-A -t 10.0.0.2:80 -o",
            "one-packet scheduling (-o) is for UDP",
        ),
        (
            "-A -t 10.0.0.2:80 -p 0",
            "\"0\" is not a persistence timeout",
        ),
        (
            "-A -t 10.0.0.2:80 -p 2678401",
            "\"2678401\" is not a persistence timeout",
        ),
        (
            "-A -t 10.0.0.2:80 -M 255.255.255.0",
            "-M has no meaning without -p",
        ),
        (
            "-A -t 10.0.0.2:80 --pe sip",
            "--pe has no meaning without -p",
        ),
        (
            "-A -t 10.0.0.2:80 -p -M 255.0.255.0",
            "\"255.0.255.0\" is no netmask",
        ),
        ("-A -t 10.0.0.2:80 -p -M 24", "\"24\" is no netmask"),
        (
            "-A -t [2001:db8::1]:80 -p -M 129",
            "\"129\" is not a prefix length",
        ),
        ("-A -t 10.0.0.1:80", "the service is there already"),
        ("-D -t 10.0.0.2:80", "there is no such service"),
        ("-a -t 10.0.0.2:80 -r 10.1.0.1", "there is no such service"),
        (
            "-e -t 10.0.0.1:80 -r 10.1.0.1",
            "there is no such real server",
        ),
        ("-a -t 10.0.0.1:80", "no real server is named"),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -m -g",
            "only one of -g, -i and -m",
        ),
        ("-a -t 10.0.0.1:80 -r 2001:db8::1 -m", "only a tunnel"),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -w -1",
            "\"-1\" is not a weight",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -w 2147483648",
            "is not a weight",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -y 5",
            "the lower threshold (-y) is above",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -m --tun-type gre",
            "--tun-type has no meaning here",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-type vxlan",
            "\"vxlan\" is no tunnel",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-type gue",
            "needs --tun-port",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-port 5",
            "--tun-port has no meaning here",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-csum",
            "--tun-csum has no meaning here",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-type gre --tun-remcsum",
            "--tun-remcsum has no meaning here",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-type gre --tun-csum --tun-nocsum",
            "only one checksum",
        ),
        ("--set 1 2", "--set takes three timeouts"),
        ("--set 1 2 x", "\"x\" is not a timeout"),
        (
            "--start-daemon slave --mcast-interface eth0",
            "either master or backup",
        ),
        ("--start-daemon master", "needs --mcast-interface"),
        (
            "--start-daemon master --mcast-interface eth0 --syncid 256",
            "\"256\" is not a syncid",
        ),
        (
            "--start-daemon master --mcast-interface eth0 --mcast-group 10.0.0.1",
            "\"10.0.0.1\" is no multicast group",
        ),
        (
            "--stop-daemon master",
            "no master daemon was started before",
        ),
    ] {
        let text = format!("{GOOD}\n\n{line}\n");
        let problems = restore::parse(&text, &ports).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let wanted = format!("line 3: {why}");
        assert!(
            told.len() == 1 && told[0].contains(why) && told[0].starts_with("line 3: "),
            "{line}: wanted {wanted}, was told {told:?}"
        );
    }
}

#[test]
fn real_servers_of_a_service_whose_line_is_wrong_are_not_told_as_well() {
    let text = "-A -t 10.0.0.1:80 -s rr -b sh-port\n-a -t 10.0.0.1:80 -r 10.1.0.1 -m\n\
                -a -t 10.0.0.1:80 -r 10.1.0.2 -w x\n";
    let problems = restore::parse(text, &ports).unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 3]);
}

fn ports(name: &str, _: Protocol) -> Option<u16> {
    (name == "http").then_some(80)
}

fn print(saved: &Saved) -> String {
    let order = in_order(&dump(&saved.table), false);
    save::table(&saved.table, &order) + &save::settings(saved.timeouts.as_ref(), &saved.daemons)
}

fn dump(table: &Table) -> Dump {
    let mut dump = Dump {
        table: table.clone(),
        ..Dump::default()
    };
    for (key, pool) in table {
        dump.service_order.push(*key);
        dump.services.insert(*key, Default::default());
        for server in pool.destinations.keys() {
            dump.destination_order.push((*key, *server));
            dump.destinations
                .insert((*key, *server), Default::default());
        }
    }
    dump
}

fn saved() -> impl Strategy<Value = Saved> {
    let seconds = || (0..100_000_u64).prop_map(Duration::from_secs);
    let timeouts = (seconds(), seconds(), seconds());
    let timeouts = timeouts.prop_map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp });
    let daemon = |role| {
        let group = prop_oneof![
            Just(None),
            Just(Some("224.0.0.99".parse::<IpAddr>().unwrap())),
            Just(Some("ff02::99".parse::<IpAddr>().unwrap())),
        ];
        let daemon = (any::<u8>(), any::<u16>(), group, any::<u16>(), any::<u8>());
        proptest::option::of(
            daemon.prop_map(move |(id, max_length, group, port, ttl)| Daemon {
                role,
                interface: "eth0.100".to_owned(),
                id,
                max_length,
                group,
                port,
                ttl,
            }),
        )
    };
    let daemons = (daemon(DaemonRole::Master), daemon(DaemonRole::Backup));
    (table(), proptest::option::of(timeouts), daemons).prop_map(|(table, timeouts, daemons)| {
        Saved {
            table,
            timeouts,
            daemons: daemons.0.into_iter().chain(daemons.1).collect(),
        }
    })
}

fn table() -> impl Strategy<Value = Table> {
    let pool = |key: ServiceKey| (Just(key), service(key), servers(key));
    let pools = proptest::collection::vec(key().prop_flat_map(pool), 0..6);
    pools.prop_map(|pools| {
        let pools = pools.into_iter().map(|(key, service, destinations)| {
            (
                key,
                Pool {
                    service,
                    destinations,
                },
            )
        });
        pools.collect()
    })
}

fn address(family: Option<Family>) -> BoxedStrategy<IpAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from).boxed();
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from).boxed();
    match family {
        Some(Family::V4) => v4,
        Some(Family::V6) => v6,
        None => prop_oneof![v4, v6].boxed(),
    }
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    let port = prop_oneof![Just(0), Just(80), any::<u16>()];
    let by_address = (protocol, address(None), port).prop_map(|(protocol, ip, port)| {
        let address = SocketAddr::new(ip, port);
        ServiceKey::Address { protocol, address }
    });
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let by_mark =
        (family, 1..=u32::MAX).prop_map(|(family, mark)| ServiceKey::FirewallMark { family, mark });
    prop_oneof![by_address, by_mark]
}

fn service(key: ServiceKey) -> impl Strategy<Value = Service> {
    let (every_port, of_udp) = match key {
        ServiceKey::Address { protocol, address } => {
            (address.port() == 0, protocol == Protocol::Udp)
        }
        ServiceKey::FirewallMark { .. } => (false, true),
    };
    let known = proptest::sample::select(&Scheduler::ALL[..]).prop_map(SchedulerName::Known);
    let scheduler = prop_oneof![known, Just(SchedulerName::Other("my_own-1".to_owned()))];
    let engine = proptest::option::of(Just("sip".to_owned()));
    let prefix = match key.family() {
        Family::V4 => 0..=32_u8,
        Family::V6 => 1..=128_u8,
    };
    let persistence =
        (1..=2_678_400_u64, prefix, engine).prop_map(|(timeout, length, engine)| Persistence {
            timeout: Duration::from_secs(timeout),
            prefix_length: length,
            engine,
        });
    let persistence = if every_port {
        persistence.prop_map(Some).boxed()
    } else {
        proptest::option::of(persistence).boxed()
    };
    (scheduler, any::<[bool; 4]>(), persistence).prop_map(
        move |(scheduler, [one_packet, sched1, sched2, sched3], persistence)| Service {
            scheduler,
            flags: ServiceFlags {
                one_packet: one_packet && of_udp,
                sched1,
                sched2,
                sched3,
            },
            persistence,
        },
    )
}

fn servers(key: ServiceKey) -> impl Strategy<Value = BTreeMap<DestinationKey, Destination>> {
    let checksum = prop_oneof![
        Just(TunnelChecksum::None),
        Just(TunnelChecksum::Full),
        Just(TunnelChecksum::Remote),
    ];
    let tunnel = prop_oneof![
        Just(Tunnel::Ipip),
        (1..=u16::MAX, checksum).prop_map(|(port, checksum)| Tunnel::Gue { port, checksum }),
        prop_oneof![Just(TunnelChecksum::None), Just(TunnelChecksum::Full)]
            .prop_map(|checksum| Tunnel::Gre { checksum }),
    ];
    let forwarding = prop_oneof![
        Just(Forwarding::Nat),
        Just(Forwarding::DirectRouting),
        tunnel.prop_map(Forwarding::Tunnel),
    ];
    let limits = (
        0..=i32::MAX as u32,
        0..=i32::MAX as u32,
        0..=i32::MAX as u32,
    );
    let server = (
        forwarding,
        any::<u16>(),
        address(None),
        address(Some(key.family())),
        limits,
    );
    let server = server.prop_map(move |(forwarding, port, any, same, (weight, one, other))| {
        let tunnel = matches!(forwarding, Forwarding::Tunnel(_));
        let port = match key {
            ServiceKey::Address { address, .. } if forwarding != Forwarding::Nat => address.port(),
            ServiceKey::Address { .. } | ServiceKey::FirewallMark { .. } => port,
        };
        let server = DestinationKey(SocketAddr::new(if tunnel { any } else { same }, port));
        let destination = Destination {
            forwarding,
            weight,
            upper_threshold: one.max(other),
            lower_threshold: one.min(other),
        };
        (server, destination)
    });
    btree_map(0..100_u8, server, 0..6).prop_map(|servers| servers.into_values().collect())
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(
            &[
                "-A",
                "-a",
                "-E",
                "-e",
                "-d",
                "-D",
                "-C",
                "-t",
                "-u",
                "-f",
                "-6",
                "-r",
                "-m",
                "-i",
                "-p",
                "-M",
                "--pe",
                "-b",
                "-s",
                "--set",
                "--start-daemon",
                "10.0.0.1:80",
                "[::1]:80",
                "[",
                "]",
                ":",
                "-",
                "--",
                "--=",
                "-p=",
                "rr",
                "sh-port",
                "1",
                "-1",
            ][..]
        )
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}
