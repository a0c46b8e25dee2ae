//! Against the kernel.

use std::sync::mpsc as std_mpsc;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::config::Scope;
use crate::net::testbed::{SOON, Testbed, between_hosts, eventually, ip};

#[test]
fn an_ipv6_address_is_in_use_at_once() {
    in_lab(|mut lab| {
        lab.want("web", &["2001:db8::9/64", "2001:db8::10/128"], true);
        lab.expect(added(2));
        for address in ["2001:db8::9", "2001:db8::10"] {
            let shown = shown(address);
            assert_eq!(shown["tentative"], Value::Null);
            assert_eq!(shown["nodad"], true);
            assert!(lab.picture(address).ours);
        }
        assert_eq!(shown("2001:db8::9")["deprecated"], Value::Null);
        // The host's own connections do not begin there.
        assert_eq!(shown("2001:db8::10")["deprecated"], true);
        assert_eq!(shown("2001:db8::10")["preferred_life_time"], 0);
        lab.want("web", &["2001:db8::9/64", "2001:db8::10/128"], false);
        lab.expect(removed(2));
    });
}

#[test]
fn label_scope_and_prefix_route_are_as_configured() {
    in_lab(|mut lab| {
        let mut plain = virtual_address("10.0.0.9/24");
        let special = VirtualAddress {
            label: Some("near:vip".to_owned()),
            scope: Scope::Link,
            prefix_route: false,
            ..plain.clone()
        };
        lab.set("web", vec![special], true);
        lab.expect(added(1));
        let first = shown("10.0.0.9");
        assert_eq!(first["label"], "near:vip");
        assert_eq!(first["scope"], "link");
        assert_eq!(first["noprefixroute"], true);
        assert_eq!(ip("route show 10.0.0.0/24"), "");
        // A reload changes them in place.
        plain.label = Some("near:new".to_owned());
        lab.set("web", vec![plain], true);
        lab.expect(added(1));
        let second = shown("10.0.0.9");
        assert_eq!(second["label"], "near:new");
        assert_eq!(second["scope"], "global");
        assert_eq!(second["noprefixroute"], Value::Null);
        assert_ne!(ip("route show 10.0.0.0/24"), "");
    });
}

#[test]
fn an_ipv6_prefix_route_can_be_left_out() {
    in_lab(|mut lab| {
        let mut address = virtual_address("2001:db8::9/64");
        address.prefix_route = false;
        lab.set("web", vec![address], true);
        lab.expect(added(1));
        assert_eq!(ip("-6 route show 2001:db8::/64"), "");
    });
}

#[test]
fn a_tentative_address_counts_as_not_there() {
    in_lab(|mut lab| {
        // Somebody put it there, and detection takes its second.
        ip("addr add 2001:db8::9/64 dev near");
        assert_eq!(shown("2001:db8::9")["tentative"], true);
        lab.want("web", &["2001:db8::9/64"], true);
        lab.expect(added(1));
        let shown = shown("2001:db8::9");
        assert_eq!(shown["tentative"], Value::Null);
        assert_eq!(shown["nodad"], true);
    });
}

#[test]
fn an_ipv6_address_with_our_mark_and_another_prefix_length_makes_room() {
    in_lab(|mut lab| {
        lab.want("web", &["2001:db8::9/64"], true);
        lab.expect(added(1));
        lab.want("web", &["2001:db8::9/48"], true);
        lab.expect(Report::Changed {
            added: 1,
            removed: 1,
        });
        assert_eq!(shown("2001:db8::9")["prefixlen"], 48);
    });
}

#[test]
fn an_address_that_the_kernel_refuses_is_named_with_its_reason() {
    in_lab(|mut lab| {
        ip("addr add 2001:db8::9/64 dev near nodad");
        lab.picture("2001:db8::9");
        lab.want("web", &["2001:db8::9/128", "10.0.0.9/24"], true);
        let reports = [lab.report(), lab.report()];
        let [Report::Refused { address, error, .. }, changed] = &reports else {
            panic!("{reports:?}");
        };
        assert_eq!(address.to_string(), "2001:db8::9/128");
        assert!(error.starts_with("File exists"), "{error}");
        assert!(error.contains("another prefix length"), "{error}");
        assert_eq!(*changed, added(1));
        ip("addr del 2001:db8::9/64 dev near");
        let mended = lab.report();
        assert!(matches!(mended, Report::Mended { .. }), "{mended:?}");
        lab.expect(added(1));
    });
}

#[test]
fn a_deleted_address_comes_back_at_once_and_is_announced_again() {
    in_lab(|mut lab| {
        lab.want("web", &["10.0.0.9/24", "2001:db8::9/64"], true);
        lab.expect(added(2));
        lab.expect_announced(&["10.0.0.9", "2001:db8::9"]);
        for (address, ip_address) in [
            ("2001:db8::9/64", "2001:db8::9"),
            ("10.0.0.9/24", "10.0.0.9"),
        ] {
            // Longer than the pace of repairs.
            std::thread::sleep(REPAIR_PACE * 2);
            ip(&format!("addr del {address} dev near"));
            lab.expect(Report::Repaired {
                interface: "near".to_owned(),
                address: address.parse().unwrap(),
            });
            assert_ne!(shown(ip_address), Value::Null);
            lab.expect_announced(&["10.0.0.9", "2001:db8::9"]);
        }
    });
}

#[test]
fn what_was_on_a_recreated_interface_is_no_repair() {
    in_lab(|mut lab| {
        ip("link add other type veth peer name other-end");
        let mut address = virtual_address("10.9.0.9/24");
        address.interface = "other".to_owned();
        // An interface that has just come may not be in the picture yet.
        let adds_one = |lab: &mut Lab| {
            loop {
                match lab.report() {
                    Report::Refused { .. } | Report::Mended { .. } => {}
                    report @ (Report::Repaired { .. } | Report::Changed { .. }) => {
                        assert_eq!(report, added(1));
                        break;
                    }
                }
            }
        };
        lab.set("web", vec![address], true);
        adds_one(&mut lab);
        ip("link del other");
        ip("link add other type veth peer name other-end");
        adds_one(&mut lab);
    });
}

#[test]
fn an_address_that_is_taken_off_and_wanted_again_is_added_at_once() {
    in_lab(|mut lab| {
        for _ in 0..20 {
            lab.want("web", &["10.0.0.9/24"], true);
            lab.expect(added(1));
            lab.want("web", &["10.0.0.9/24"], false);
            lab.expect(removed(1));
        }
    });
}

#[test]
fn two_thousand_addresses_come_and_go() {
    in_lab(|mut lab| {
        ip("addr add 10.0.0.1/16 dev near");
        let v4 = (0..1000).map(|n| format!("10.0.{}.{}/16", n / 250 + 1, n % 250 + 1));
        let v6 = (0..1000).map(|n| format!("2001:db8::1:{n:x}/64"));
        let all: Vec<String> = v4.chain(v6).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        lab.want("web", &all, true);
        assert_eq!(lab.changes(2000), (2000, 0));
        assert_eq!(ours(), 2000);
        lab.want("web", &all, false);
        assert_eq!(lab.changes(2000), (0, 2000));
        assert_eq!(ours(), 0);
        // The host's own is still there.
        assert_ne!(shown("10.0.0.1"), Value::Null);
    });
}

#[test]
fn a_stop_takes_everything_away() {
    in_lab(|lab| {
        let all: Vec<String> = (0..600)
            .map(|n| format!("10.1.{}.{}/16", n / 250, n % 250 + 1))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        lab.want("web", &all, true);
        lab.want("web", &all, false);
        let Lab {
            wanted,
            task,
            testbed,
            ..
        } = lab;
        drop(wanted);
        let ended = async { tokio::time::timeout(SOON, task).await };
        testbed.runtime.block_on(ended).unwrap().unwrap();
        assert_eq!(ours(), 0);
    });
}

#[test]
fn a_router_that_loses_its_role_does_not_wait_for_what_others_add() {
    in_lab(|mut lab| {
        lab.want("small", &["10.2.0.9/24"], true);
        lab.expect(added(1));
        let many: Vec<String> = (0..6_000)
            .map(|n| format!("10.1.{}.{}/32", n / 250, n % 250 + 1))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        lab.want("big", &many, true);
        eventually("the first of many is there", || ours() > 1);
        lab.want("small", &["10.2.0.9/24"], false);
        let Report::Changed { added, removed } = lab.report() else {
            panic!("nothing refused here");
        };
        assert!(added < 6_000, "all were added before");
        assert_eq!(removed, 0);
        let mut total = added;
        let Report::Changed { added, removed } = lab.report() else {
            panic!("nothing refused here");
        };
        assert_eq!(removed, 1);
        total += added;
        if total < 6_000 {
            total += lab.changes(6_000 - total).0;
        }
        assert_eq!(total, 6_000);
        assert_eq!(ours(), 6_000);
    });
}

struct Lab {
    testbed: Testbed,
    wanted: watch::Sender<Arc<Wanted>>,
    reports: std_mpsc::Receiver<Report>,
    orders: UnboundedReceiver<Order>,
    task: JoinHandle<()>,
}

fn in_lab(test: impl FnOnce(Lab) + Send + 'static) {
    between_hosts(|testbed| {
        let (wanted, receiver) = watch::channel(Arc::new(Wanted::new()));
        let (announcer, orders) = mpsc::unbounded_channel();
        let (report, reports) = std_mpsc::channel();
        let report = move |told| drop(report.send(told));
        let links = testbed.links.clone();
        let start = async { start(links, receiver, announcer, report) };
        let task = testbed.runtime.block_on(start).unwrap();
        test(Lab {
            testbed,
            wanted,
            reports,
            orders,
            task,
        });
    });
}

impl Lab {
    fn want(&self, router: &str, addresses: &[&str], hold: bool) {
        let addresses = addresses.iter().copied().map(virtual_address);
        self.set(router, addresses.collect(), hold);
    }

    fn set(&self, router: &str, addresses: Vec<VirtualAddress>, hold: bool) {
        let garp = Garp {
            repeat: 5,
            delay: Duration::ZERO,
            refresh: Duration::ZERO,
        };
        let router_addresses = RouterAddresses {
            addresses,
            hold,
            owner: false,
            announce: 1,
            garp,
        };
        let mut wanted = (**self.wanted.borrow()).clone();
        wanted.insert(router.to_owned(), router_addresses);
        self.wanted.send_replace(Arc::new(wanted));
    }

    /// An address here, as the monitor shows it.
    fn picture(&mut self, address: &str) -> LinkAddress {
        let address: IpAddr = address.parse().unwrap();
        let find = |links: &Links| {
            let mut known = links.named("near")?.addresses.iter();
            known.find(|known| known.address.addr() == address).cloned()
        };
        let links = &mut self.testbed.links;
        let wait = links.wait_for(|links| find(links).is_some());
        let shown = async { tokio::time::timeout(SOON, wait).await };
        let shown = self
            .testbed
            .runtime
            .block_on(async { shown.await.unwrap().map(|l| find(&l)) });
        shown.unwrap().unwrap()
    }

    fn report(&mut self) -> Report {
        self.reports.recv_timeout(SOON).expect("a report")
    }

    fn expect(&mut self, report: Report) {
        assert_eq!(self.report(), report);
    }

    /// The sum of all changes, until there are so many.
    fn changes(&mut self, count: usize) -> (usize, usize) {
        let mut sum = (0, 0);
        while sum.0 + sum.1 < count {
            match self.report() {
                Report::Changed { added, removed } => sum = (sum.0 + added, sum.1 + removed),
                report @ (Report::Repaired { .. }
                | Report::Refused { .. }
                | Report::Mended { .. }) => panic!("{report:?}"),
            }
        }
        sum
    }

    fn expect_announced(&mut self, expected: &[&str]) {
        let order = async { tokio::time::timeout(SOON, self.orders.recv()).await };
        let order = self.testbed.runtime.block_on(order).unwrap().unwrap();
        let Order::Announce { addresses, .. } = order else {
            panic!("{order:?}");
        };
        let announced: Vec<String> = addresses.iter().map(|(_, ip)| ip.to_string()).collect();
        assert_eq!(announced, expected);
    }
}

fn added(added: usize) -> Report {
    Report::Changed { added, removed: 0 }
}

fn removed(removed: usize) -> Report {
    Report::Changed { added: 0, removed }
}

fn virtual_address(address: &str) -> VirtualAddress {
    VirtualAddress {
        address: address.parse().unwrap(),
        interface: "near".to_owned(),
        advertise: true,
        label: None,
        scope: Scope::Global,
        prefix_route: true,
    }
}

/// What `ip` shows of an address here; null if it is not there.
fn shown(address: &str) -> Value {
    let interfaces: Value = serde_json::from_str(&ip("-j -d addr show")).unwrap();
    let addresses = interfaces.as_array().unwrap().iter();
    let mut addresses = addresses.flat_map(|link| link["addr_info"].as_array().unwrap());
    let found = addresses.find(|known| known["local"] == address);
    found.cloned().unwrap_or(Value::Null)
}

/// How many addresses here are not the kernel's own nor those a test put there.
fn ours() -> usize {
    let lines = ip("-o addr show dev near");
    let own = |line: &&str| !line.contains("inet6 fe80") && !line.contains("10.0.0.1/16");
    lines.lines().filter(own).count()
}
