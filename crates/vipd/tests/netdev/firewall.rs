//! The nftables table.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipvs::Protocol;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vipd::config::Config;
use vipd::net::firewall::{self, Firewall, FullNat, Mark, Report, render};

use crate::lan::{Lan, in_lan, soon};

const NOTHING: &str = "table inet vipd\ndelete table inet vipd\n";

#[test]
fn without_anything_to_refuse_the_table_is_deleted() {
    assert_eq!(render(&Firewall::default()), NOTHING);
}

#[test]
fn addresses_of_both_families_are_refused_after_ipvs_but_for_neighbour_discovery() {
    let text = render(&refusing(&["10.0.0.9", "fd00::9", "10.0.0.10"]));
    let expected = "table inet vipd {
	set virtual4 {
		type ipv4_addr
		elements = { 10.0.0.10, 10.0.0.9 }
	}
	set virtual6 {
		type ipv6_addr
		elements = { fd00::9 }
	}
	chain input {
		type filter hook input priority 150; policy accept;
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		ip daddr @virtual4 counter drop
		ip6 daddr @virtual6 counter drop
	}
}
";
    assert_eq!(text, format!("{NOTHING}{expected}"));
}

#[test]
fn a_link_local_address_is_refused_on_its_interface_only() {
    let text = render(&refusing(&["fe80::9"]));
    let expected = "table inet vipd {
	set virtual_link_local {
		type ifname . ipv6_addr
		elements = { \"eth0\" . fe80::9 }
	}
	chain input {
		type filter hook input priority 150; policy accept;
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		iifname . ip6 daddr @virtual_link_local counter drop
	}
}
";
    assert_eq!(text, format!("{NOTHING}{expected}"));
}

#[test]
fn a_refused_address_takes_neither_ping_nor_tcp_but_is_still_found_by_its_neighbours() {
    in_lan(|lan| async move {
        for (host, address) in [
            ("a", "10.0.0.9/24"),
            ("a", "fd00::9/64"),
            ("a", "fe80::9/64"),
        ] {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            lan.ip(host, &format!("addr add {address} dev eth0{nodad}"));
        }
        let listeners = ["10.0.0.9:80", "[fd00::9]:80", "10.0.0.1:80"];
        let _listening = listeners.map(|at| std::net::TcpListener::bind(at).unwrap());
        assert_eq!(
            reached(&lan).await,
            ["10.0.0.9", "fd00::9", "fe80::9", "10.0.0.1"]
        );
        let worker = Worker::start();
        worker.want(&["10.0.0.9", "fd00::9", "fe80::9"]);
        soon("the table", || table(&lan).contains("virtual6")).await;
        lan.ip("c", "neigh flush all");
        assert_eq!(reached(&lan).await, ["10.0.0.1"]);
        let neighbours = lan.ip("c", "neigh");
        let mac = lan.mac("a", "eth0");
        for address in ["10.0.0.9", "fd00::9", "fe80::9"] {
            let entry = format!("{address} dev eth0 lladdr {mac}");
            assert!(neighbours.contains(&entry), "{neighbours}");
        }
        // No longer master.
        worker.want(&[]);
        soon("no table", || table(&lan).is_empty()).await;
        assert_eq!(
            reached(&lan).await,
            ["10.0.0.9", "fd00::9", "fe80::9", "10.0.0.1"]
        );
    });
}

/// Which of the addresses answer the client's ping and, where somebody listens, its connection.
async fn reached(lan: &Arc<Lan>) -> Vec<&'static str> {
    let lan = Arc::clone(lan);
    let try_all = move || {
        let ping = |target: &&str| {
            let zone = if target.starts_with("fe80") {
                "%eth0"
            } else {
                ""
            };
            lan.exec("c", &format!("ping -c1 -W1 {target}{zone}")).0
        };
        let connect = |target: &&str| {
            if target.starts_with("fe80") {
                return ping(target);
            }
            let script = "import socket,sys; socket.create_connection((sys.argv[1],80),1)";
            let command = std::process::Command::new("ip")
                .args([
                    "netns",
                    "exec",
                    &lan.namespace("c"),
                    "python3",
                    "-c",
                    script,
                    target,
                ])
                .output();
            command.unwrap().status.success()
        };
        let targets = ["10.0.0.9", "fd00::9", "fe80::9", "10.0.0.1"];
        let check = |target: &&str| {
            let (ping, connect) = (ping(target), connect(target));
            assert_eq!(ping, connect, "{target}");
            ping
        };
        targets.into_iter().filter(check).collect()
    };
    tokio::task::spawn_blocking(try_all).await.unwrap()
}

#[test]
fn a_table_that_somebody_flushes_or_changes_is_put_back_and_goes_at_the_end() {
    in_lan(|lan| async move {
        let worker = Worker::start();
        worker.want(&["10.0.0.9"]);
        soon("the table", || table(&lan).contains("10.0.0.9")).await;
        // Not before the worker has seen its own table.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(lan.exec("a", "nft flush ruleset").0);
        soon("back", || table(&lan).contains("10.0.0.9")).await;
        soon("told", || worker.reports() == [Report::Repaired]).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(lan.exec("a", "nft flush chain inet vipd input").0);
        soon("back", || table(&lan).contains("drop")).await;
        soon("told", || {
            worker.reports() == [Report::Repaired, Report::Repaired]
        })
        .await;
        // Somebody else's table is nothing of ours.
        assert!(lan.exec("a", "nft add table inet other").0);
        worker.stop().await;
        assert_eq!(lan.exec("a", "nft list tables").1, "table inet other\n");
    });
}

#[test]
fn marks_and_full_nat_of_both_families_are_rules_that_the_kernel_takes() {
    in_lan(|lan| async move {
        let worker = Worker::start();
        worker.wanted.send_replace(Arc::new(services(false)));
        soon("the table", || table(&lan).contains("masquerade")).await;
        let text = lan.exec("a", "nft --stateless list table inet vipd").1;
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "elements = { 10.0.0.9 . tcp . 80 : 0x00000003, 10.0.0.9 . udp . 8000-8100 : 0x00000003 }",
            "elements = { fd00::9 . sctp . 1-65535 : 0x00000003 }",
            "type filter hook prerouting priority mangle;",
            "type filter hook output priority mangle;",
            "meta mark set ip6 daddr . meta l4proto . th dport map @mark6",
            "elements = { 10.0.0.9 . tcp . 10.0.0.21 . 8080 }",
            "elements = { fd00::9 . tcp . fd00::21 }",
            "elements = { 0x00000003 . 10.0.0.21 }",
            "meta mark . ip daddr @full_nat_mark4 masquerade",
        ] {
            assert!(words.contains(expected), "{expected}: {text}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(worker.reports(), []);
        assert!(lan.exec("a", "nft flush chain inet vipd full_nat").0);
        soon("told", || worker.reports() == [Report::Repaired]).await;
        worker.stop().await;
        assert_eq!(table(&lan), "");
    });
}

#[test]
fn where_services_stay_after_a_stop_so_does_what_they_need() {
    in_lan(|lan| async move {
        let worker = Worker::start();
        worker.wanted.send_replace(Arc::new(services(true)));
        soon("the table", || table(&lan).contains("masquerade")).await;
        worker.stop().await;
        assert!(table(&lan).contains("masquerade"));
        assert_eq!(firewall::release().await.unwrap().len(), 1);
    });
}

fn services(keep: bool) -> Firewall {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mark = |address, protocol, ports| Mark {
        address: ip(address),
        protocol,
        ports,
        mark: 3,
    };
    let address = |address, real: &str| FullNat::Address {
        address: ip(address),
        protocol: Protocol::Tcp,
        real: real.parse().unwrap(),
    };
    Firewall {
        refused: BTreeSet::new(),
        quiet: BTreeSet::new(),
        marks: BTreeSet::from([
            mark("10.0.0.9", Protocol::Tcp, (80, 80)),
            mark("10.0.0.9", Protocol::Udp, (8000, 8100)),
            mark("fd00::9", Protocol::Sctp, (1, 65535)),
        ]),
        full_nat: BTreeSet::from([
            address("10.0.0.9", "10.0.0.21:8080"),
            address("fd00::9", "[fd00::21]:0"),
            FullNat::Mark {
                mark: 3,
                real: ip("10.0.0.21"),
            },
        ]),
        keep,
    }
}

/// `web` holds 10.0.0.9 and fd00::9, `other` 10.0.0.8: services by address and by marks.
const SERVICES: &str = r#"
[[vrrp]]
name = "web"
interface = "eth0"
vrid = 51
virtual_addresses = ["10.0.0.9/24", { address = "fd00::9/64", advertise = false }]
[[vrrp]]
name = "other"
interface = "eth0"
vrid = 52
virtual_addresses = ["10.0.0.8/24"]
[[virtual_server]]
name = "one port"
addresses = ["10.0.0.9:80", "[fd00::9]:80", "10.0.0.8:80"]
[[virtual_server]]
name = "every port"
address = "[fd00::9]:0"
persistence = { timeout = "60s" }
[[virtual_server]]
name = "udp"
address = "10.0.0.9:53"
protocol = "udp"
[[virtual_server]]
name = "marked"
fwmark = 1
mark = [
  { address = "10.0.0.9", ports = [443, "8000-8100"] },
  { address = "fd00::9", ports = ["8000-8100"] },
  { address = "10.0.0.9", ports = [90], protocol = "udp" },
  { address = "10.0.0.8" },
  { address = "10.0.0.1", ports = [90] },
]
[[virtual_server]]
name = "marked by its user"
fwmark = 2
"#;

fn quiet(arriving: &str) -> Firewall {
    let config = Config::parse(SERVICES, "vipd.toml").unwrap();
    let firewall = Firewall::of(&config, |_| false, |name| name == arriving);
    Firewall {
        quiet: firewall.quiet,
        ..Firewall::default()
    }
}

#[test]
fn tcp_services_by_address_and_by_mark_are_quiet_at_the_addresses_of_their_router() {
    let shown = |name: &str| -> Vec<String> {
        let quiet = quiet(name).quiet.into_iter();
        quiet
            .map(|(ip, (first, last))| format!("{ip} {first}-{last}"))
            .collect()
    };
    let web = [
        "10.0.0.9 80-80",
        "10.0.0.9 443-443",
        "10.0.0.9 8000-8100",
        "fd00::9 0-65535",
        "fd00::9 80-80",
        "fd00::9 8000-8100",
    ];
    assert_eq!(shown("web"), web);
    assert_eq!(shown("other"), ["10.0.0.8 1-65535", "10.0.0.8 80-80"]);
    assert!(shown("neither").is_empty());
}

#[test]
fn quiet_services_send_no_reset_and_everything_else_does() {
    in_lan(|lan| async move {
        lan.ip("a", "addr add 10.0.0.9/24 dev eth0");
        lan.ip("a", "addr add fd00::9/64 dev eth0 nodad");
        let all = [
            "10.0.0.9 80",
            "10.0.0.9 443",
            "10.0.0.9 8100",
            "fd00::9 80",
            "fd00::9 8000",
            "fd00::9 90",
            "10.0.0.9 90",
            "10.0.0.1 80",
            "fd00::1 80",
        ];
        assert_eq!(resetting(&lan, &all).await, all);
        let worker = Worker::start();
        worker.wanted.send_replace(Arc::new(quiet("web")));
        soon("the table", || {
            table(&lan).matches("counter packets 0").count() == 5
        })
        .await;
        assert_eq!(resetting(&lan, &all).await, all[6..]);
        let dropped = table(&lan);
        assert!(!dropped.contains("counter packets 0"), "{dropped}");
        worker.wanted.send_replace(Arc::new(Firewall::default()));
        soon("no table", || table(&lan).is_empty()).await;
        assert_eq!(resetting(&lan, &all).await, all);
        assert_eq!(worker.reports(), []);
        worker.stop().await;
    });
}

/// Which of the addresses and ports, where nobody listens, answer the client with a reset.
async fn resetting<'a>(lan: &Arc<Lan>, targets: &[&'a str]) -> Vec<&'a str> {
    let script = "import errno,socket,sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family)
s.settimeout(1)
error = s.connect_ex((sys.argv[1], int(sys.argv[2])))
sys.exit({errno.ECONNREFUSED: 0, errno.EAGAIN: 1}.get(error, 2))";
    let mut resetting = Vec::new();
    for target in targets {
        let status = tokio::process::Command::new("ip")
            .args([
                "netns",
                "exec",
                &lan.namespace("c"),
                "python3",
                "-c",
                script,
            ])
            .args(target.split(' '))
            .status();
        match status.await.unwrap().code() {
            Some(0) => resetting.push(*target),
            code => assert_eq!(code, Some(1), "{target}"),
        }
    }
    resetting
}

#[test]
fn a_dead_daemons_table_is_removed_by_the_next_one_and_by_release() {
    in_lan(|lan| async move {
        assert!(lan.exec("a", "nft add table inet vipd").0);
        let worker = Worker::start();
        soon("gone", || !lan.exec("a", "nft list table inet vipd").0).await;
        worker.stop().await;
        assert!(lan.exec("a", "nft add table inet vipd").0);
        let done = firewall::release().await.unwrap();
        assert_eq!(done, ["removed the nftables table inet vipd"]);
        assert_eq!(firewall::release().await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn what_nft_refuses_is_told_once_and_mended_later() {
    in_lan(|lan| async move {
        let worker = Worker::start();
        let bad = ("no \" such".to_owned(), "fe80::9".parse().unwrap());
        let refused = std::collections::BTreeSet::from([bad]);
        worker.wanted.send_replace(Arc::new(Firewall {
            refused,
            ..Firewall::default()
        }));
        let is_refused = |report: &Report| matches!(report, Report::Refused { error } if error.starts_with("nft: "));
        soon("refused", || worker.reports().iter().any(is_refused)).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(worker.reports().len(), 1);
        worker.want(&["10.0.0.9"]);
        soon("mended", || {
            worker.reports().last() == Some(&Report::Mended)
        })
        .await;
        assert!(table(&lan).contains("10.0.0.9"));
        worker.stop().await;
    });
}

fn table(lan: &Lan) -> String {
    lan.exec("a", "nft list table inet vipd").1
}

struct Worker {
    wanted: watch::Sender<Arc<Firewall>>,
    reports: Arc<Mutex<Vec<Report>>>,
    task: JoinHandle<()>,
}

impl Worker {
    fn start() -> Worker {
        let (wanted, receiver) = watch::channel(Arc::new(Firewall::default()));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&reports);
        let task = firewall::start(receiver, move |report| sink.lock().unwrap().push(report));
        Worker {
            wanted,
            reports,
            task,
        }
    }

    fn want(&self, addresses: &[&str]) {
        self.wanted.send_replace(Arc::new(refusing(addresses)));
    }

    fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    async fn stop(self) {
        drop(self.wanted);
        self.task.await.unwrap();
    }
}

fn refusing(addresses: &[&str]) -> Firewall {
    let place = |address: &&str| ("eth0".to_owned(), address.parse::<IpAddr>().unwrap());
    Firewall {
        refused: addresses.iter().map(place).collect(),
        ..Firewall::default()
    }
}
