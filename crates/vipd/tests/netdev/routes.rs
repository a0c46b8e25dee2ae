//! Routes and rules.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use vipd::config::{VirtualRoute, VirtualRule};
use vipd::net::links::{self, Links};
use vipd::net::routes::{self, Item, Report, Wanted};
use vrrp::Family;

use crate::lan::{Lan, in_lan, soon};

#[test]
fn routes_and_rules_come_come_back_and_go() {
    in_lan(|lan| async move {
        let worker = Worker::start().await;
        let wanted = [
            route("0.0.0.0/0", Some("10.0.0.100"), None),
            route("192.0.2.1/24", None, Some("eth0")),
            Item::Route(VirtualRoute {
                table: 1000,
                metric: Some(7),
                ..plain("2001:db8::/32", Some("fd00::100"), Some("eth0"))
            }),
            rule(Family::V4, 100, Some("10.1.0.0/16")),
            rule(Family::V6, 101, None),
        ];
        let before = everything(&lan);
        worker.want(&wanted);
        let marked = "default via 10.0.0.100 dev eth0 proto 112 \n\
                      192.0.2.0/24 dev eth0 proto 112 scope link \n\
                      2001:db8::/32 via fd00::100 dev eth0 table 1000 proto 112 metric 7 pref medium\n\
                      100:\tfrom 10.1.0.0/16 lookup 1000 proto 112\n\
                      101:\tfrom all fwmark 0x7 lookup 1000 proto 112\n";
        soon("there", || ours(&lan) == marked).await;
        lan.ip("a", "route del default");
        lan.ip("a", "rule del priority 100");
        soon("back", || ours(&lan) == marked).await;
        let repaired = || {
            let repaired = |report: &&Report| matches!(report, Report::Repaired { .. });
            worker.reports().iter().filter(repaired).count()
        };
        soon("told", || repaired() == 2).await;
        // The kernel takes routes away with their link, without a word.
        lan.ip("a", "link set eth0 down");
        lan.ip("a", "link set eth0 up");
        lan.ip("a", "addr replace fd00::1/64 dev eth0 nodad");
        soon("back", || ours(&lan) == marked).await;
        // Another configuration: one stays, one goes, one is new.
        worker.want(&[
            wanted[1].clone(),
            route("198.51.100.0/24", None, Some("eth0")),
        ]);
        let other = "192.0.2.0/24 dev eth0 proto 112 scope link \n\
                     198.51.100.0/24 dev eth0 proto 112 scope link \n";
        soon("changed", || ours(&lan) == other).await;
        worker.stop().await;
        assert_eq!(everything(&lan), before);
    });
}

#[test]
fn a_route_waits_for_its_preferred_source_without_complaint() {
    in_lan(|lan| async move {
        let worker = Worker::start().await;
        let from_virtual = VirtualRoute {
            source: Some("10.0.0.9".parse().unwrap()),
            ..plain("192.0.2.0/24", Some("10.0.0.100"), None)
        };
        worker.want(&[Item::Route(from_virtual)]);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(ours(&lan), "");
        lan.ip("a", "addr add 10.0.0.9/24 dev eth0");
        let marked = "192.0.2.0/24 via 10.0.0.100 dev eth0 proto 112 src 10.0.0.9 \n";
        soon("there", || ours(&lan) == marked).await;
        let changed = Report::Changed {
            added: 1,
            removed: 0,
        };
        assert_eq!(worker.reports(), [changed]);
        // A failover the other way: the kernel removes it with its source.
        lan.ip("a", "addr del 10.0.0.9/24 dev eth0");
        let refused = |report: &Report| matches!(report, Report::Refused { .. });
        soon("told", || worker.reports().iter().any(refused)).await;
        worker.want(&[]);
        let mended = |report: &Report| matches!(report, Report::Mended { .. });
        soon("taken back", || worker.reports().iter().any(mended)).await;
        worker.stop().await;
    });
}

#[test]
fn what_a_crash_left_goes_and_what_has_not_our_mark_stays() {
    in_lan(|lan| async move {
        lan.ip("a", "route add 192.0.2.0/24 via 10.0.0.100 proto 112");
        lan.ip(
            "a",
            "route add 192.0.2.0/24 via 10.0.0.100 proto 112 table 7",
        );
        lan.ip("a", "-6 route add 2001:db8::/32 via fd00::100 proto 112");
        lan.ip(
            "a",
            "rule add from 10.1.0.0/16 priority 90 lookup 7 protocol 112",
        );
        lan.ip("a", "route add 198.51.100.0/24 via 10.0.0.100 proto static");
        lan.ip("a", "rule add from 10.2.0.0/16 priority 91 lookup 7");
        let worker = Worker::start().await;
        soon("gone", || ours(&lan).is_empty()).await;
        // Where somebody's route has the place of ours, theirs stays until they take it away.
        worker.want(&[route("198.51.100.0/24", Some("10.0.0.2"), None)]);
        let refused = |report: &Report| matches!(report, Report::Refused { error, .. } if error.contains("not vipd's"));
        soon("refused", || worker.reports().iter().any(refused)).await;
        let theirs = "198.51.100.0/24 via 10.0.0.100 dev eth0 proto static";
        assert!(everything(&lan).contains(theirs));
        lan.ip("a", "route del 198.51.100.0/24 proto static");
        soon("there", || {
            ours(&lan).contains("198.51.100.0/24 via 10.0.0.2")
        })
        .await;
        worker.stop().await;
        let left = everything(&lan);
        assert!(left.contains("from 10.2.0.0/16 lookup 7"), "{left}");
        assert!(!left.contains("proto 112"), "{left}");
    });
}

#[test]
fn a_daemon_after_a_crash_keeps_the_routes_that_are_wanted() {
    in_lan(|lan| async move {
        let wanted = [
            route("192.0.2.0/24", Some("10.0.0.100"), None),
            route("2001:db8::/32", Some("fd00::100"), None),
            rule(Family::V4, 100, Some("10.1.0.0/16")),
        ];
        let first = Worker::start().await;
        first.want(&wanted);
        soon("there", || ours(&lan).lines().count() == 3).await;
        first.task.abort();
        let second = Worker::start_with(&wanted).await;
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        assert_eq!(ours(&lan).lines().count(), 3);
        assert_eq!(second.reports(), []);
        second.task.abort();
        let done = routes::release().await.unwrap();
        assert_eq!(done.len(), 3, "{done:?}");
        assert_eq!(
            done[0],
            "removed route 192.0.2.0/24 via 10.0.0.100 dev eth0 table 254"
        );
        assert_eq!(done[2], "removed rule 100 from 10.1.0.0/16 lookup 1000");
        assert_eq!(ours(&lan), "");
    });
}

fn plain(to: &str, via: Option<&str>, interface: Option<&str>) -> VirtualRoute {
    VirtualRoute {
        to: to.parse().unwrap(),
        via: via.map(|ip| ip.parse().unwrap()),
        interface: interface.map(str::to_owned),
        source: None,
        table: 254,
        metric: None,
    }
}

fn route(to: &str, via: Option<&str>, interface: Option<&str>) -> Item {
    Item::Route(plain(to, via, interface))
}

fn rule(family: Family, priority: u32, from: Option<&str>) -> Item {
    Item::Rule(VirtualRule {
        family,
        priority,
        from: from.map(|net| net.parse().unwrap()),
        to: None,
        fwmark: from.is_none().then_some(7),
        interface: None,
        table: 1000,
    })
}

/// The routes and rules with our mark.
fn ours(lan: &Lan) -> String {
    let lines: Vec<String> = everything(lan)
        .lines()
        .filter(|line| line.contains("proto 112"))
        .map(|line| format!("{line}\n"))
        .collect();
    lines.concat()
}

/// All routes and rules but those of link-local addresses, which the kernel adds when it has made sure
/// that nobody else has them.
fn everything(lan: &Lan) -> String {
    let list = |what: &str| lan.ip("a", what);
    let all = [
        list("-4 route show table all"),
        list("-6 route show table all"),
        list("-4 -d rule"),
        list("-6 -d rule"),
    ];
    let all = all.concat().replace(" unicast\n", "\n");
    let lines = all.lines().filter(|line| !line.contains("fe80:"));
    lines.map(|line| format!("{line}\n")).collect()
}

struct Worker {
    wanted: watch::Sender<Arc<Wanted>>,
    _links: watch::Receiver<Arc<Links>>,
    reports: Arc<Mutex<Vec<Report>>>,
    task: JoinHandle<()>,
}

impl Worker {
    async fn start() -> Worker {
        Worker::start_with(&[]).await
    }

    async fn start_with(items: &[Item]) -> Worker {
        let (links, _) = links::watch().await.unwrap();
        let items = items.to_vec();
        let (wanted, receiver) = watch::channel(Arc::new(Wanted { items }));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&reports);
        let report = move |report| sink.lock().unwrap().push(report);
        let task = routes::start(links.clone(), receiver, report).unwrap();
        Worker {
            wanted,
            _links: links,
            reports,
            task,
        }
    }

    fn want(&self, items: &[Item]) {
        let items = items.to_vec();
        self.wanted.send_replace(Arc::new(Wanted { items }));
    }

    fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    async fn stop(self) {
        drop(self.wanted);
        self.task.await.unwrap();
    }
}
