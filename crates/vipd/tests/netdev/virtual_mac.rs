//! The macvlan and the sysctls around it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use vipd::net::links::{self, Links};
use vipd::net::virtual_mac::{self, Report, VirtualMac, Wanted};
use vrrp::Family;

use crate::lan::{Lan, in_lan, soon};

const MAC: &str = "00:00:5e:00:01:33";

/// The worker in `a`.
pub(crate) struct Worker {
    lan: Arc<Lan>,
    pub(crate) wanted: watch::Sender<Arc<Wanted>>,
    _links: watch::Receiver<Arc<Links>>,
    reports: Arc<Mutex<Vec<Report>>>,
    pub(crate) state_dir: PathBuf,
    task: JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn start(lan: &Arc<Lan>) -> Worker {
        let (links, _) = links::watch().await.unwrap();
        let (wanted, receiver) = watch::channel(Arc::new(Wanted::new()));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&reports);
        let report = move |report| sink.lock().unwrap().push(report);
        let state_dir = lan.state_dir();
        let task = virtual_mac::start(links.clone(), receiver, &state_dir, report).unwrap();
        Worker {
            lan: Arc::clone(lan),
            wanted,
            _links: links,
            reports,
            state_dir,
            task,
        }
    }

    pub(crate) fn want(&self, macs: &[VirtualMac]) {
        let wanted = macs.iter().map(|mac| (mac.name.clone(), mac.clone()));
        self.wanted.send_replace(Arc::new(wanted.collect()));
    }

    async fn wait(&self, text: &'static str, present: bool) {
        soon(text, || link(&self.lan, "a").contains(text) == present).await;
    }

    async fn stop(self) {
        drop(self.wanted);
        self.task.await.unwrap();
    }

    fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }
}

fn link(lan: &Lan, host: &str) -> String {
    lan.ip(host, "-d link show")
}

pub(crate) fn web(up: bool) -> VirtualMac {
    VirtualMac {
        name: "vrrp.51".to_owned(),
        interface: "eth0".to_owned(),
        family: Family::V4,
        vrid: 51,
        ipv6: false,
        up,
    }
}

fn ipv6(up: bool) -> VirtualMac {
    VirtualMac {
        family: Family::V6,
        ipv6: true,
        ..web(up)
    }
}

fn is_up(lan: &Lan) -> bool {
    let text = lan.ip("a", "-br link show");
    text.lines()
        .any(|line| line.contains("vrrp.51") && line.contains(",UP"))
}

#[test]
fn arp_for_a_virtual_address_in_the_lans_prefix_is_answered_with_the_virtual_mac_alone() {
    in_lan(|lan| async move { answers(lan, "10.0.0.9/24").await });
}

#[test]
fn arp_for_a_virtual_address_without_prefix_is_answered_with_the_virtual_mac_alone() {
    in_lan(|lan| async move { answers(lan, "10.0.0.9/32").await });
}

#[test]
fn arp_is_answered_where_the_host_filters_by_return_path() {
    in_lan(|lan| async move {
        lan.sysctl("a", "ipv4.conf.all.rp_filter", "1");
        answers(lan, "10.0.0.9/24").await;
    });
}

#[test]
fn a_host_whose_own_settings_silence_arp_is_told() {
    in_lan(|lan| async move {
        lan.sysctl("a", "ipv4.conf.all.arp_filter", "1");
        let worker = Worker::start(&lan).await;
        worker.want(&[web(true)]);
        soon("it is up", || is_up(&lan)).await;
        lan.ip("a", "addr add 10.0.0.9/32 dev vrrp.51");
        let other = Arc::clone(&lan);
        let ping = move || other.exec("c", "ping -c1 -W1 10.0.0.9").0;
        assert!(!tokio::task::spawn_blocking(ping).await.unwrap());
        let trouble = |report: &Report| matches!(report, Report::Trouble { error } if error.contains("arp_filter"));
        soon("told", || worker.reports().iter().any(trouble)).await;
        worker.stop().await;
    });
}

async fn answers(lan: Arc<Lan>, address: &str) {
    let worker = Worker::start(&lan).await;
    worker.want(&[web(true)]);
    soon("it is up", || is_up(&lan)).await;
    lan.ip("a", &format!("addr add {address} dev vrrp.51"));
    let capture = lan.capture("c", "arp");
    let other = Arc::clone(&lan);
    let pings = tokio::task::spawn_blocking(move || {
        let ping = |host: &str, what: &str| other.exec(host, &format!("ping -c1 -W2 {what}")).0;
        let forget = || ["a", "c"].map(|host| other.ip(host, "neigh flush all"));
        let mut results = vec![("to the virtual address", ping("c", "10.0.0.9"))];
        forget();
        results.push(("to the own one", ping("c", "10.0.0.1")));
        forget();
        results.push(("from the virtual one", ping("a", "-I 10.0.0.9 10.0.0.100")));
        forget();
        results.push(("from the own one", ping("a", "10.0.0.100")));
        // After an ARP request with the virtual address in it the client would ask elsewhere.
        results.push(("afterwards", ping("c", "10.0.0.9")));
        results
    });
    for (what, answered) in pings.await.unwrap() {
        assert!(answered, "{what}");
    }
    let arp = capture.finish();
    let real = lan.mac("a", "eth0");
    let about = |ip: &str| {
        let answer = format!("Reply {ip} is-at ");
        let mut macs: Vec<&str> = arp
            .iter()
            .filter_map(|line| line.split_once(&answer))
            .filter_map(|(_, rest)| rest.split(',').next())
            .collect();
        macs.dedup();
        macs.join(" ")
    };
    assert_eq!(about("10.0.0.9"), MAC, "{arp:#?}");
    assert_eq!(about("10.0.0.1"), real, "{arp:#?}");
    let leak = arp
        .iter()
        .find(|line| line.starts_with(&real) && line.contains("tell 10.0.0.9"));
    assert_eq!(leak, None);
    worker.stop().await;
}

#[test]
fn a_neighbour_solicitation_for_a_virtual_address_is_answered_with_the_virtual_mac_alone() {
    in_lan(|lan| async move {
        let worker = Worker::start(&lan).await;
        worker.want(&[ipv6(true)]);
        soon("it is up", || is_up(&lan)).await;
        let none = lan.ip("a", "-6 addr show dev vrrp.51");
        assert_eq!(none, "", "no link-local address of its own");
        lan.ip("a", "addr add fd00::9/64 dev vrrp.51 nodad");
        let capture = lan.capture("c", "icmp6");
        let other = Arc::clone(&lan);
        let ping = move || other.exec("c", "ping -c2 -i.2 -W2 fd00::9").0;
        assert!(tokio::task::spawn_blocking(ping).await.unwrap());
        let icmp = capture.finish();
        let answers: Vec<&String> = icmp
            .iter()
            .filter(|line| line.contains("tgt is fd00::9"))
            .collect();
        assert!(!answers.is_empty(), "{icmp:#?}");
        let virtual_mac = |line: &&String| line.starts_with("00:00:5e:00:02:33");
        assert!(answers.iter().all(virtual_mac), "{answers:#?}");
        worker.stop().await;
    });
}

#[test]
fn a_backup_shows_nothing_of_the_virtual_mac() {
    in_lan(|lan| async move {
        let capture = lan.capture(
            "c",
            "ether src 00:00:5e:00:01:33 or ether src 00:00:5e:00:02:34",
        );
        let worker = Worker::start(&lan).await;
        let second = VirtualMac {
            name: "vrrp6.52".to_owned(),
            vrid: 52,
            ..ipv6(false)
        };
        worker.want(&[web(false), second]);
        worker.wait("vrrp.51@eth0", true).await;
        worker.wait("vrrp6.52@eth0", true).await;
        let other = Arc::clone(&lan);
        let ping = move || other.exec("c", "ping -c1 -W1 10.0.0.9").0;
        assert!(!tokio::task::spawn_blocking(ping).await.unwrap());
        assert!(!is_up(&lan));
        // It was master, and is not any more.
        worker.want(&[web(true)]);
        soon("it is up", || is_up(&lan)).await;
        worker.want(&[web(false)]);
        soon("it is down", || !is_up(&lan)).await;
        assert_eq!(capture.finish(), Vec::<String>::new());
        worker.stop().await;
    });
}

#[test]
fn a_macvlan_is_there_as_long_as_its_router_is_configured() {
    in_lan(|lan| async move {
        let worker = Worker::start(&lan).await;
        worker.want(&[web(false)]);
        worker.wait("vrrp.51@eth0", true).await;
        worker.wait("alias vipd", true).await;
        let text = link(&lan, "a");
        assert!(text.contains(MAC), "{text}");
        assert!(text.contains("macvlan mode private"), "{text}");
        assert!(text.contains("addrgenmode none"), "{text}");
        assert_eq!(lan.sysctl_of("a", "ipv6.conf.vrrp/51.disable_ipv6"), "1");
        // Somebody deletes it, and somebody switches it on.
        lan.ip("a", "link del vrrp.51");
        worker.wait("vrrp.51@eth0", true).await;
        let repaired = Report::Repaired {
            router: "vrrp.51".to_owned(),
            name: "vrrp.51".to_owned(),
        };
        soon("told", || worker.reports().contains(&repaired)).await;
        lan.ip("a", "link set vrrp.51 up");
        soon("down again", || !is_up(&lan)).await;
        // Its interface goes and comes.
        lan.ip("a", "link del eth0");
        worker.wait("vrrp.51@eth0", false).await;
        lan.plug("a");
        worker.wait("vrrp.51@eth0", true).await;
        worker.want(&[]);
        worker.wait("vrrp.51@eth0", false).await;
        worker.stop().await;
    });
}

#[test]
fn a_macvlan_like_ours_is_adopted_and_one_that_differs_is_replaced() {
    in_lan(|lan| async move {
        lan.ip(
            "a",
            "link add link eth0 name vrrp.51 address 00:00:5e:00:01:33 type macvlan mode private",
        );
        let index = lan.ip("a", "-o link show vrrp.51");
        let worker = Worker::start(&lan).await;
        worker.want(&[web(true)]);
        soon("it is up", || is_up(&lan)).await;
        let number = |text: &str| text.split(':').next().unwrap().to_owned();
        assert_eq!(number(&lan.ip("a", "-o link show vrrp.51")), number(&index));
        // Another VRID.
        worker.want(&[VirtualMac {
            vrid: 52,
            ..web(true)
        }]);
        worker.wait("00:00:5e:00:01:34", true).await;
        worker.stop().await;
        assert!(!link(&lan, "a").contains("macvlan"));

        lan.ip(
            "a",
            "link add link eth0 name vrrp.51 address 00:00:5e:00:01:33 type macvlan mode bridge",
        );
        let worker = Worker::start(&lan).await;
        worker.want(&[web(true)]);
        worker.wait("macvlan mode private", true).await;
        worker.stop().await;
    });
}

#[test]
fn what_a_crash_left_goes_and_what_somebody_made_stays() {
    in_lan(|lan| async move {
        lan.ip(
            "a",
            "link add link eth0 name old address 00:00:5e:00:01:07 type macvlan mode private",
        );
        lan.ip("a", "link set old alias vipd");
        lan.ip(
            "a",
            "link add link eth0 name mine address 00:00:5e:00:01:08 type macvlan mode private",
        );
        lan.ip("a", "link add vrrp.51 type bridge");
        let worker = Worker::start(&lan).await;
        worker.want(&[web(true)]);
        worker.wait("old@eth0", false).await;
        let refused = |report: &Report| matches!(report, Report::Refused { error, .. } if error.contains("not vipd's"));
        soon("refused", || worker.reports().iter().any(refused)).await;
        lan.ip("a", "link del vrrp.51");
        soon("it is up", || is_up(&lan)).await;
        let mended = |report: &Report| matches!(report, Report::Mended { .. });
        soon("mended", || worker.reports().iter().any(mended)).await;
        let told = worker.reports().iter().filter(|r| refused(r)).count();
        assert_eq!(told, 1);
        worker.stop().await;
        let text = link(&lan, "a");
        assert!(text.contains("mine@eth0"), "{text}");
        assert!(!text.contains("vrrp.51"), "{text}");
    });
}

#[test]
fn an_interface_has_its_sysctls_back_after_a_stop() {
    in_lan(|lan| async move {
        lan.sysctl("a", "ipv4.conf.eth0.arp_announce", "1");
        let worker = Worker::start(&lan).await;
        worker.want(&[web(false)]);
        soon("set", || settings(&lan) == ["1", "2"]).await;
        // The router leaves the configuration, and comes back.
        worker.want(&[]);
        soon("given back", || settings(&lan) == ["0", "1"]).await;
        assert!(!worker.state_dir.join("sysctl.json").exists());
        worker.want(&[web(false)]);
        soon("set", || settings(&lan) == ["1", "2"]).await;
        // Somebody's drift is healed, and what they want is what comes back.
        lan.sysctl("a", "ipv4.conf.eth0.arp_announce", "0");
        soon("healed", || settings(&lan) == ["1", "2"]).await;
        worker.stop().await;
        assert_eq!(settings(&lan), ["0", "0"]);
    });
}

#[test]
fn release_gives_back_what_a_crash_did_not() {
    in_lan(|lan| async move {
        let worker = Worker::start(&lan).await;
        worker.want(&[web(true)]);
        soon("set", || settings(&lan) == ["1", "2"]).await;
        soon("it is up", || is_up(&lan)).await;
        worker.task.abort();
        // Meanwhile somebody wants another value: theirs.
        lan.sysctl("a", "ipv4.conf.eth0.arp_announce", "1");
        let done = virtual_mac::release(&Wanted::new(), &worker.state_dir).await;
        let expected = ["removed the macvlan vrrp.51", "eth0: arp_ignore = 0"];
        assert_eq!(done.unwrap(), expected);
        assert_eq!(settings(&lan), ["0", "1"]);
        assert!(!worker.state_dir.join("sysctl.json").exists());
        let again = virtual_mac::release(&Wanted::new(), &worker.state_dir).await;
        assert_eq!(again.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_daemon_after_a_crash_gives_back_what_was_there_before_the_first() {
    in_lan(|lan| async move {
        let first = Worker::start(&lan).await;
        first.want(&[web(false)]);
        soon("set", || settings(&lan) == ["1", "2"]).await;
        first.task.abort();
        let second = Worker::start(&lan).await;
        second.want(&[web(false)]);
        second.wait("alias vipd", true).await;
        second.stop().await;
        assert_eq!(settings(&lan), ["0", "0"]);
    });
}

fn settings(lan: &Lan) -> [String; 2] {
    ["arp_ignore", "arp_announce"].map(|s| lan.sysctl_of("a", &format!("ipv4.conf.eth0.{s}")))
}
