//! Destinations, their settings and their counters.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipvs::{
    Change, Destination, DestinationKey, DestinationStatistics, Family, Forwarding, ServiceKey,
    Statistics, Table, Tunnel, TunnelChecksum,
};

use crate::{
    check_applied, direct, in_namespace, ipvsadm, numbered, pool, run, saved, server, tcp, tcp_port,
};

#[test]
fn destinations_of_every_forwarding_come_back_as_they_were_applied() {
    in_namespace(|client| {
        let full = TunnelChecksum::Full;
        let tunnels = [
            Tunnel::Ipip,
            Tunnel::Gue {
                port: 6080,
                checksum: TunnelChecksum::None,
            },
            Tunnel::Gue {
                port: 6081,
                checksum: full,
            },
            Tunnel::Gue {
                port: 6082,
                checksum: TunnelChecksum::Remote,
            },
            Tunnel::Gre {
                checksum: TunnelChecksum::None,
            },
            Tunnel::Gre { checksum: full },
        ];
        let mut forwardings = vec![Forwarding::Nat, Forwarding::DirectRouting];
        forwardings.extend(tunnels.map(Forwarding::Tunnel));
        let mut web = pool("wlc", &[]);
        for (host, forwarding) in (21..).zip(forwardings) {
            let key = DestinationKey(SocketAddr::from(([10, 0, 0, host], 80)));
            web.destinations.insert(
                key,
                Destination {
                    forwarding,
                    ..direct(1)
                },
            );
        }
        // Of the other family, by tunnel only.
        let by_tunnel = Destination {
            forwarding: Forwarding::Tunnel(Tunnel::Ipip),
            ..direct(1)
        };
        web.destinations
            .insert(server("[2001:db8::21]:80"), by_tunnel);
        // This host itself.
        web.destinations.insert(server("127.0.0.1:80"), direct(1));
        let web6 = pool("wlc", &[("[2001:db8::21]:80", 1), ("[::1]:80", 1)]);
        let mut marked = pool("rr", &[("10.0.0.21:0", 1)]);
        let limits = Destination {
            upper_threshold: 100,
            lower_threshold: 50,
            ..direct(4)
        };
        marked.destinations.insert(server("10.0.0.22:0"), limits);
        let mark = ServiceKey::FirewallMark {
            family: Family::V4,
            mark: 7,
        };
        let table = Table::from([
            (tcp("10.0.0.1:80"), web),
            (tcp("[2001:db8::1]:80"), web6),
            (mark, marked),
        ]);
        check_applied(client, &table);
        let saved = saved();
        for line in [
            "-a -t 10.0.0.1:80 -r 10.0.0.21:80 -m -w 1",
            "-a -t 10.0.0.1:80 -r 10.0.0.22:80 -g -w 1",
            "-a -t 10.0.0.1:80 -r 10.0.0.23:80 -i -w 1 --tun-type ipip",
            "-a -t 10.0.0.1:80 -r 10.0.0.25:80 -i -w 1 --tun-type gue --tun-port 6081 --tun-csum",
            "-a -t 10.0.0.1:80 -r 10.0.0.26:80 -i -w 1 --tun-type gue --tun-port 6082 --tun-remcsum",
            "-a -t 10.0.0.1:80 -r 10.0.0.28:80 -i -w 1 --tun-type gre --tun-csum",
            "-a -t 10.0.0.1:80 -r [2001:db8::21]:80 -i -w 1 --tun-type ipip",
            "-a -t [2001:db8::1]:80 -r [2001:db8::21]:80 -g -w 1",
            "-a -f 7 -r 10.0.0.22:0 -g -w 4",
        ] {
            assert!(saved.contains(line), "{line} is not in {saved:?}");
        }
        let thresholds = ipvsadm(&["-L", "-n", "--thresholds"]);
        let line = thresholds
            .lines()
            .find(|line| line.contains("10.0.0.22:0"))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[2..4], ["100", "50"], "{thresholds}");
    });
}

#[test]
fn settings_of_destinations_change_in_place() {
    in_namespace(|client| {
        let key = tcp("10.0.0.1:80");
        let at = server("10.0.0.21:80");
        let mut table = Table::from([(key, pool("wlc", &[("10.0.0.21:80", 1)]))]);
        check_applied(client, &table);
        let gre = Forwarding::Tunnel(Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        });
        let highest = u32::try_from(i32::MAX).unwrap();
        for settings in [
            direct(0),
            direct(highest),
            Destination {
                upper_threshold: 10,
                lower_threshold: 5,
                ..direct(3)
            },
            Destination {
                forwarding: Forwarding::Nat,
                ..direct(3)
            },
            Destination {
                forwarding: gre,
                ..direct(3)
            },
            Destination {
                forwarding: Forwarding::LocalNode,
                ..direct(3)
            },
            direct(1),
        ] {
            table
                .get_mut(&key)
                .unwrap()
                .destinations
                .insert(at, settings);
            let changes = [Change::SetDestination(key, at, settings)];
            assert_eq!(client.apply(&changes), [Ok(())]);
            assert_eq!(client.dump().unwrap().table, table);
        }
    });
}

#[test]
fn two_thousand_destinations_are_dumped() {
    in_namespace(|client| {
        let mut table = Table::new();
        for (port, first) in [(80, 1), (81, 1501)] {
            let mut pool = pool("rr", &[]);
            let hosts = first..(first + if port == 80 { 1500 } else { 500 });
            pool.destinations = hosts.map(|host| (numbered(host), direct(1))).collect();
            table.insert(tcp_port(port), pool);
        }
        check_applied(client, &table);
        for pool in table.values_mut() {
            for destination in pool.destinations.values_mut() {
                destination.weight = 2;
            }
        }
        check_applied(client, &table);
    });
}

#[test]
fn every_object_of_a_dump_has_statistics() {
    in_namespace(|client| {
        let key = tcp("10.0.0.1:80");
        let table = Table::from([(key, pool("rr", &[("10.0.0.21:80", 1)]))]);
        check_applied(client, &table);
        let dump = client.dump().unwrap();
        assert_eq!(dump.services, [(key, Statistics::default())].into());
        let at = (key, server("10.0.0.21:80"));
        assert_eq!(
            dump.destinations,
            [(at, DestinationStatistics::default())].into()
        );
    });
}

#[test]
fn connections_are_counted_where_they_go() {
    in_namespace(|client| {
        run("ip", &["addr", "add", "10.0.0.1/32", "dev", "lo"]);
        let key = tcp("10.0.0.1:80");
        let nat = Destination {
            forwarding: Forwarding::Nat,
            ..direct(1)
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
        let mut web = pool("rr", &[]);
        let real = DestinationKey(listener.local_addr().unwrap());
        web.destinations.insert(real, nat);
        check_applied(client, &Table::from([(key, web)]));
        let connection = std::net::TcpStream::connect("10.0.0.1:80").unwrap();
        // The estimator sums the counters every two seconds.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let dump = client.dump().unwrap();
            let destination = dump.destinations[&(key, real)];
            if dump.services[&key].connections == 1 && destination.counters.connections == 1 {
                assert_eq!((destination.active, destination.inactive), (1, 0));
                assert!(destination.counters.in_packets >= 2);
                break;
            }
            assert!(Instant::now() < deadline, "not counted: {destination:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(connection);
    });
}
