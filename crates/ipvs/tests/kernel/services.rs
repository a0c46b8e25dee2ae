//! Services and their settings.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipvs::{
    Destination, Family, Forwarding, Persistence, Protocol, Scheduler, Service, ServiceFlags,
    ServiceKey, Table, Tunnel, TunnelChecksum, diff,
};

use crate::{
    check_applied, check_saved, direct, in_namespace, ipvsadm, persistence, pool, saved, server,
    tcp, tcp_port,
};

/// Held by the tests that need `ip_vs_lblc` and `ip_vs_lblcr`, one of which unloads them.
static MODULES: Mutex<()> = Mutex::new(());

#[test]
fn services_of_every_kind_come_back_as_they_were_applied() {
    in_namespace(|client| {
        let mut table = Table::new();
        for address in ["10.0.0.1:80", "[2001:db8::1]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                table.insert(ServiceKey::Address { protocol, address }, pool("rr", &[]));
            }
            let family = Family::of(address.ip());
            table.insert(
                ServiceKey::FirewallMark { family, mark: 7 },
                pool("wlc", &[]),
            );
        }
        check_applied(client, &table);
        assert_eq!(
            saved(),
            [
                "-A -t 10.0.0.1:80 -s rr",
                "-A -u 10.0.0.1:80 -s rr",
                "-A --sctp-service 10.0.0.1:80 -s rr",
                "-A -t [2001:db8::1]:80 -s rr",
                "-A -u [2001:db8::1]:80 -s rr",
                "-A --sctp-service [2001:db8::1]:80 -s rr",
                "-A -f 7 -s wlc",
                "-A -f 7 -6 -s wlc",
            ]
            .map(String::from)
            .into()
        );
        check_applied(client, &Table::new());
        assert!(saved().is_empty());
    });
}

#[test]
fn every_scheduler_of_the_kernel_is_known() {
    let _modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    in_namespace(|client| {
        // Debian's kernels are built without ip_vs_twos.
        let built = |scheduler: &Scheduler| *scheduler != Scheduler::Twos;
        let schedulers = Scheduler::ALL.into_iter().filter(built);
        let table: Table = (1..)
            .zip(schedulers)
            .map(|(port, s)| (tcp_port(port), pool(s.name(), &[])))
            .collect();
        check_applied(client, &table);
        let saved = saved();
        for (key, pool) in &table {
            let ServiceKey::Address { address, .. } = key else {
                continue;
            };
            let line = format!("-A -t {address} -s {}", pool.service.scheduler.as_str());
            assert!(saved.contains(&line), "{line} is not in {saved:?}");
        }
    });
}

/// A kernel that is left to load these schedulers itself never comes back from this (Linux 6.1).
#[test]
fn schedulers_load_while_namespaces_are_removed() {
    let _modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..10 {
        unload("ip_vs_lblc");
        unload("ip_vs_lblcr");
        in_namespace(|client| {
            let leaving = std::thread::spawn(|| {
                for _ in 0..3 {
                    in_namespace(|_| {});
                }
            });
            let table: Table = (1..)
                .zip(["lblc", "lblcr"])
                .map(|(port, scheduler)| (tcp_port(port), pool(scheduler, &[])))
                .collect();
            check_applied(client, &table);
            leaving.join().unwrap();
        });
    }
}

/// Unloads a module as soon as the last namespace that used it is gone.
fn unload(module: &str) {
    for _ in 0..500 {
        if !Path::new("/sys/module").join(module).exists() {
            return;
        }
        let _ = Command::new("rmmod").arg(module).output();
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{module} is in use");
}

#[test]
fn settings_of_services_are_set_and_unset() {
    in_namespace(|client| {
        let key = tcp("10.0.0.1:80");
        let mut table = Table::from([(key, pool("sh", &[]))]);
        check_applied(client, &table);
        let service = Service {
            scheduler: "mh".into(),
            flags: ServiceFlags {
                sched1: true,
                sched2: true,
                ..ServiceFlags::default()
            },
            persistence: persistence(300, 24),
        };
        table.get_mut(&key).unwrap().service = service;
        check_applied(client, &table);
        check_saved(&["-A -t 10.0.0.1:80 -s mh -p 300 -M 255.255.255.0 -b mh-fallback,mh-port"]);
        table.insert(key, pool("rr", &[]));
        check_applied(client, &table);
        check_saved(&["-A -t 10.0.0.1:80 -s rr"]);
    });
}

#[test]
fn persistence_has_any_prefix_of_either_family() {
    in_namespace(|client| {
        let mut table = Table::new();
        for (address, prefixes) in [
            ("10.0.0.1:80", [0, 1, 24, 32]),
            ("[2001:db8::1]:80", [1, 64, 127, 128]),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            for (port, prefix) in (1..).zip(prefixes) {
                let mut pool = pool("rr", &[]);
                pool.service.persistence = persistence(60, prefix);
                table.insert(tcp(&SocketAddr::new(address.ip(), port).to_string()), pool);
            }
        }
        // Every port, which the kernel allows with persistence only.
        let mut every_port = pool("rr", &[]);
        every_port.service.persistence = persistence(60, 32);
        table.insert(tcp("10.0.0.2:0"), every_port);
        let one_packet = ServiceFlags {
            one_packet: true,
            ..ServiceFlags::default()
        };
        let mut one_packet_pool = pool("rr", &[]);
        one_packet_pool.service.flags = one_packet;
        let address = "10.0.0.3:53".parse().unwrap();
        table.insert(
            ServiceKey::Address {
                protocol: Protocol::Udp,
                address,
            },
            one_packet_pool,
        );
        let mut sip = pool("rr", &[]);
        sip.service.persistence = persistence(60, 32).map(|p| Persistence {
            engine: Some("sip".to_owned()),
            ..p
        });
        let address = "10.0.0.3:5060".parse().unwrap();
        table.insert(
            ServiceKey::Address {
                protocol: Protocol::Udp,
                address,
            },
            sip,
        );
        check_applied(client, &table);
        let saved = saved();
        for line in [
            "-A -t 10.0.0.1:3 -s rr -p 60 -M 255.255.255.0",
            "-A -t [2001:db8::1]:2 -s rr -p 60 -M 64",
            "-A -t 10.0.0.2:0 -s rr -p 60",
            "-A -u 10.0.0.3:53 -s rr -o",
            "-A -u 10.0.0.3:5060 -s rr -p 60 --pe sip",
        ] {
            assert!(saved.contains(line), "{line} is not in {saved:?}");
        }
    });
}

#[test]
fn what_ipvsadm_made_is_adopted_without_a_change() {
    in_namespace(|client| {
        for line in [
            "-A -t 10.0.0.1:80 -s wlc -p 300 -M 255.255.255.0",
            "-a -t 10.0.0.1:80 -r 10.0.0.21:80 -g -w 1",
            "-a -t 10.0.0.1:80 -r 10.0.0.22:8080 -m -w 2 -x 100 -y 50",
            "-A -u [2001:db8::1]:53 -s sh -b sh-port",
            "-a -u [2001:db8::1]:53 -r [2001:db8::21]:53 -i --tun-type gue --tun-port 6080",
            "-A -f 7 -6 -s rr",
        ] {
            ipvsadm(&line.split(' ').collect::<Vec<_>>());
        }
        let mut web = pool("wlc", &[("10.0.0.21:80", 1)]);
        web.service.persistence = persistence(300, 24);
        let nat = Destination {
            forwarding: Forwarding::Nat,
            weight: 2,
            upper_threshold: 100,
            lower_threshold: 50,
        };
        web.destinations.insert(server("10.0.0.22:8080"), nat);
        let mut dns = pool("sh", &[]);
        dns.service.flags.sched2 = true;
        let gue = Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::None,
        };
        let tunnel = Destination {
            forwarding: Forwarding::Tunnel(gue),
            ..direct(1)
        };
        dns.destinations.insert(server("[2001:db8::21]:53"), tunnel);
        let address = "[2001:db8::1]:53".parse().unwrap();
        let desired = Table::from([
            (tcp("10.0.0.1:80"), web),
            (
                ServiceKey::Address {
                    protocol: Protocol::Udp,
                    address,
                },
                dns,
            ),
            (
                ServiceKey::FirewallMark {
                    family: Family::V6,
                    mark: 7,
                },
                pool("rr", &[]),
            ),
        ]);
        let dump = client.dump().unwrap();
        assert_eq!(dump.table, desired);
        assert_eq!(diff(&dump.table, &desired), []);
    });
}

#[test]
fn ipvs_tells_its_version_and_the_size_of_its_table() {
    in_namespace(|client| {
        let info = client.info().unwrap();
        let line = ipvsadm(&["-L"]);
        let words = format!(
            "version {} (size={})",
            info.version, info.connection_table_size
        );
        assert!(line.contains(&words), "{words}: {line}");
    });
}
