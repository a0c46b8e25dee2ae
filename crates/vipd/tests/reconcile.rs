//! The reconciler against a real kernel, with ipvsadm as witness and as somebody else. Each test has
//! a network namespace of its own. Like everything that needs IPVS it runs in the guest.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{RwLock, mpsc};
use std::time::{Duration, Instant};

use ipvs::{
    Daemon, DaemonRole, Destination, DestinationKey, Forwarding, Pool, Protocol, Scheduler,
    SchedulerName, Service, ServiceFlags, ServiceKey, Table, Timeouts, Tunnel,
};
use rustix::thread::UnshareFlags;
use vipd::reconcile::{Reconciler, Report, Wanted};

/// Emulated guests are slow; nothing here measures time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Taken for writing by whoever unloads the module that all others use.
static MODULE: RwLock<()> = RwLock::new(());

#[test]
fn daemons_start_are_kept_change_and_stop_and_a_strangers_stays() {
    in_namespace(|reconciler, reports| {
        run("ip link add eth1 type dummy");
        run("ip addr add 10.0.0.5/24 dev eth1");
        run("ip link set eth1 up");
        let stranger = "ipvsadm --start-daemon backup --mcast-interface eth1 --syncid 9";
        run(stranger);
        let daemon = daemon(DaemonRole::Master, "eth1");
        let with = |daemons: &[Daemon]| Wanted {
            daemons: daemons.to_vec(),
            ..wanted(Table::new())
        };
        let report = reach(reconciler, reports, with(std::slice::from_ref(&daemon)));
        let started = "start sync daemon master on eth1, id 7, at most 1400 bytes";
        assert_eq!(lines(&report.changes), [started]);
        assert_eq!(daemons(), ["backup d eth1 9", "master d eth1 7"]);
        run("ipvsadm --stop-daemon master");
        let report = next(reports, |report| report.repairs.count > 0);
        assert_eq!(report.changes.count, 0);
        assert_eq!(lines(&report.repairs), [started]);
        // Somebody runs another in its place, however often ours is faster.
        run("until ipvsadm --stop-daemon master ; \
             ipvsadm --start-daemon master --mcast-interface eth1 --syncid 8 ; do : ; done");
        next(reports, |report| {
            let stopped = "stop sync daemon master on eth1, id 8";
            lines(&report.repairs)
                .iter()
                .any(|line| line.starts_with(stopped))
        });
        assert_eq!(daemons(), ["backup d eth1 9", "master d eth1 7"]);
        let changed = Daemon {
            id: 6,
            ..daemon.clone()
        };
        let report = reach(reconciler, reports, with(&[changed]));
        assert_eq!(report.changes.count, 2, "{report:?}");
        assert_eq!(daemons(), ["backup d eth1 9", "master d eth1 6"]);
        // One that does not fit any more, on an interface that is back under its name.
        run("ip link del eth1");
        run("ip link add eth1 type dummy");
        run("ip addr add 10.0.0.5/24 dev eth1");
        run("ip link set eth1 up");
        let report = next(reports, |report| report.repairs.count > 0 && report.in_sync);
        assert!(
            lines(&report.repairs)
                .iter()
                .any(|line| line.starts_with("start"))
        );
        let report = reach(reconciler, reports, with(&[]));
        assert_eq!(report.changes.count, 1, "{report:?}");
        assert_eq!(daemons(), ["backup d eth1 9"]);
    });
}

#[test]
fn a_daemon_whose_interface_comes_late_is_refused_by_name_and_starts_then() {
    in_namespace(|reconciler, reports| {
        let mut first = wanted(table(2, 1));
        first.daemons = vec![daemon(DaemonRole::Backup, "late0")];
        reconciler.want(first);
        let report = next(reports, |report| !report.refused.is_empty());
        assert_eq!(
            report.refused,
            ["sync daemon backup on late0: no such interface"]
        );
        assert!(!report.in_sync);
        assert_eq!(servers(), 2, "the table waits for the daemon");
        run("ip link add late0 type dummy");
        run("ip addr add 10.0.0.5/24 dev late0");
        run("ip link set late0 up");
        let report = next(reports, |report| report.in_sync);
        assert_eq!(report.refused, [""; 0]);
        assert_eq!(lines(&report.changes).len(), 1);
        assert_eq!(report.repairs.count, 0);
        assert_eq!(daemons(), ["backup d late0 7"]);
    });
}

#[test]
fn a_daemon_and_a_real_server_of_another_family_exclude_each_other_and_it_is_said() {
    in_namespace(|reconciler, reports| {
        run("ip link add eth1 type dummy");
        run("ip addr add 10.0.0.5/24 dev eth1");
        run("ip link set eth1 up");
        let mut mixed = table(1, 1);
        let settings = Destination {
            forwarding: Forwarding::Tunnel(Tunnel::Ipip),
            ..direct(1)
        };
        let other = DestinationKey("[2001:db8::21]:80".parse().unwrap());
        mixed
            .values_mut()
            .next()
            .unwrap()
            .destinations
            .insert(other, settings);
        reach(reconciler, reports, wanted(mixed.clone()));
        let mut both = wanted(mixed);
        both.daemons = vec![daemon(DaemonRole::Master, "eth1")];
        reconciler.want(both.clone());
        let report = next(reports, |report| !report.refused.is_empty());
        let why = &report.refused[0];
        assert!(why.starts_with("sync daemon master on eth1: "), "{why}");
        assert!(why.contains("other address family"), "{why}");
        // The real server goes first, so that the daemon can start in the same pass.
        both.table = table(1, 1);
        reach(reconciler, reports, both.clone());
        assert_eq!(daemons(), ["master d eth1 7"]);
    });
}

#[test]
fn timeouts_are_set_kept_and_put_back() {
    in_namespace(|reconciler, reports| {
        run("ipvsadm --set 800 110 290");
        let seconds = Duration::from_secs;
        let mut first = wanted(Table::new());
        first.timeouts = Some(Timeouts {
            tcp: seconds(600),
            udp: seconds(90),
            ..Timeouts::default()
        });
        let report = reach(reconciler, reports, first.clone());
        let set = "set timeouts tcp 600 s, tcp fin 110 s, udp 90 s";
        assert_eq!(lines(&report.changes), [set]);
        assert_eq!(timeouts(), "600 110 90");
        run("ipvsadm --set 900 120 300");
        let report = next(reports, |report| report.repairs.count > 0);
        assert_eq!(lines(&report.repairs), [set]);
        assert_eq!(timeouts(), "600 110 90");
        // What is not wanted any more is as it was found.
        first.timeouts = Some(Timeouts {
            tcp: seconds(600),
            ..Timeouts::default()
        });
        reach(reconciler, reports, first.clone());
        assert_eq!(timeouts(), "600 110 290");
        first.timeouts = None;
        reach(reconciler, reports, first);
        assert_eq!(timeouts(), "800 110 290");
        // Now they are nobody's.
        run("ipvsadm --set 700 0 0");
        let mut last = wanted(table(1, 1));
        last.resync_interval = Duration::from_secs(100);
        reach(reconciler, reports, last);
        assert_eq!(timeouts(), "700 110 290");
    });
}

#[test]
fn a_refused_service_waits_by_itself_and_a_foreign_one_stays() {
    in_namespace(|reconciler, reports| {
        run("ipvsadm -A -t 192.0.2.1:80 -s rr");
        run("ipvsadm -a -t 192.0.2.1:80 -r 10.9.9.9:80 -g");
        let mut all = wanted(table(50, 2));
        // Debian's kernel is built without it.
        all.table.get_mut(&key(1)).unwrap().service.scheduler =
            SchedulerName::Known(Scheduler::Twos);
        all.resync_interval = Duration::from_secs(100);
        reconciler.want(all.clone());
        let report = next(reports, |report| !report.refused.is_empty());
        assert_eq!(report.refused.len(), 1, "one service, one line: {report:?}");
        assert!(report.refused[0].contains("10.0.0.2:80"), "{report:?}");
        assert!(report.refused[0].contains("twos"), "{report:?}");
        assert_eq!(report.changes.count, 1 + 25);
        assert_eq!(servers(), 25 + 1);
        // It does not keep a change of another from being made at once, and alone.
        let first = all.table.get_mut(&key(0)).unwrap();
        first.destinations.values_mut().next().unwrap().weight = 5;
        reconciler.want(all.clone());
        let report = next(reports, |report| report.changes.count > 0);
        assert_eq!(report.changes.count, 1, "{report:?}");
        // Another scheduler is another thing, and is tried at once.
        all.table.get_mut(&key(1)).unwrap().service.scheduler = SchedulerName::Known(Scheduler::Rr);
        let report = reach(reconciler, reports, all);
        assert_eq!(report.changes.count, 1 + 25);
        let report = reach(reconciler, reports, wanted(Table::new()));
        assert_eq!(report.changes.count, 2);
        assert_eq!(servers(), 1, "the foreign one went");
    });
}

#[test]
fn the_last_real_server_stays_while_the_one_that_follows_is_refused() {
    in_namespace(|reconciler, reports| {
        run("ip link add eth1 type dummy");
        run("ip addr add 10.0.0.5/24 dev eth1");
        run("ip link set eth1 up");
        let mut first = wanted(table(2, 1));
        first.resync_interval = Duration::from_secs(1);
        reach(reconciler, reports, first.clone());
        // The sorry server of a typing error: a broadcast address is no destination.
        let sorry = DestinationKey("10.0.0.255:80".parse().unwrap());
        let mut only_sorry = first.clone();
        let pool = only_sorry.table.get_mut(&key(0)).unwrap();
        pool.destinations = [(sorry, direct(1))].into();
        reconciler.want(only_sorry.clone());
        let report = next(reports, |report| !report.refused.is_empty());
        assert!(report.refused[0].contains("10.0.0.255"), "{report:?}");
        assert_eq!(servers(), 1, "one of two stays");
        // It is a real server's address from now on.
        run("ip addr del 10.0.0.5/24 dev eth1");
        run("ip addr add 10.0.0.5/16 dev eth1");
        next(reports, |report| report.in_sync);
        assert_eq!(servers(), 1);
        assert!(run("ipvsadm -S -n").contains("-r 10.0.0.255:80"));
    });
}

#[test]
fn adoption_changes_only_what_differs_and_drift_is_repaired() {
    in_namespace(|reconciler, reports| {
        let all = table(20, 1);
        let saved: String = (0..20)
            .map(|n| format!("-a -t 10.0.0.1:80 -r {} -g -w 1\n", real(0, n)))
            .collect();
        restore(&format!("-A -t 10.0.0.1:80 -s rr\n{saved}"));
        run("ipvsadm -e -t 10.0.0.1:80 -r 10.1.0.3:80 -g -w 9");
        let report = reach(reconciler, reports, wanted(all));
        assert_eq!(lines(&report.changes).len(), 1, "{report:?}");
        assert!(
            lines(&report.changes)[0].contains("10.1.0.3:80"),
            "{report:?}"
        );
        run("ipvsadm -d -t 10.0.0.1:80 -r 10.1.0.4:80");
        run("ipvsadm -A -t 192.0.2.1:80 -s rr");
        let report = next(reports, |report| report.repairs.count > 0);
        assert_eq!(
            (report.repairs.count, report.changes.count),
            (1, 0),
            "{report:?}"
        );
        run("ipvsadm -C");
        let report = next(reports, |report| report.repairs.count > 0);
        assert_eq!(
            (report.repairs.count, report.changes.count),
            (21, 0),
            "{report:?}"
        );
        assert_eq!(lines(&report.repairs).len(), 21);
    });
}

#[test]
fn one_weight_of_forty_thousand_real_servers_is_one_request() {
    in_namespace(|reconciler, reports| {
        let mut all = wanted(table(40_000, 400));
        all.resync_interval = Duration::from_secs(3600);
        let report = reach(reconciler, reports, all.clone());
        assert_eq!(report.changes.count, 40_400);
        assert_eq!(lines(&report.changes).len(), 101);
        let read_at = report.dump.unwrap().0;
        run("ip link add nlmon0 type nlmon");
        run("ip link set nlmon0 up");
        let tcpdump = Watch::start();
        let pool = all.table.get_mut(&key(399)).unwrap();
        pool.destinations.values_mut().next().unwrap().weight = 2;
        let report = reach(reconciler, reports, all);
        assert_eq!(report.changes.count, 1);
        assert_eq!(report.dump.unwrap().0, read_at, "the table was read");
        // One request and its acknowledgement.
        let [set_destination, acknowledgement] = tcpdump.messages()[..] else {
            panic!("{:?}", tcpdump.messages());
        };
        assert_eq!(set_destination.1, 6);
        assert_eq!(acknowledgement.0, 2);
        reach(reconciler, reports, wanted(Table::new()));
    });
}

#[test]
fn a_module_that_was_unloaded_is_loaded_again_and_everything_is_back() {
    alone_in_namespace(|reconciler, reports| {
        let mut all = wanted(table(10, 1));
        all.resync_interval = Duration::from_secs(3);
        all.timeouts = Some(Timeouts {
            tcp: Duration::from_secs(600),
            ..Timeouts::default()
        });
        reach(reconciler, reports, all);
        // Namespaces that are on their way out may still use it, and the reconciler brings the table
        // back in between.
        let deadline = Instant::now() + PATIENCE;
        let unload =
            "modules=$(lsmod | grep -o '^ip_vs_[a-z_]*') ; ipvsadm -C ; rmmod $modules ip_vs";
        while !Command::new("sh")
            .args(["-c", unload])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            assert!(Instant::now() < deadline, "{}", run("lsmod"));
            std::thread::sleep(Duration::from_millis(200));
        }
        let report = next(reports, |report| !report.notes.is_empty());
        assert!(report.notes[0].contains("unloaded"), "{report:?}");
        next(reports, |report| report.in_sync);
        assert_eq!(servers(), 10);
        assert!(timeouts().starts_with("600 "), "{}", timeouts());
    });
}

/// A tcpdump of the netlink messages in this namespace.
struct Watch {
    process: Child,
    file: PathBuf,
}

impl Watch {
    fn start() -> Watch {
        let file = std::env::temp_dir().join(format!("vipd-{}.pcap", std::process::id()));
        let process = Command::new("tcpdump")
            .args(["-Z", "root", "-U", "--immediate-mode", "-i", "nlmon0", "-w"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        // It writes the head of the file when it listens.
        while file.metadata().map_or(0, |file| file.len()) < PCAP_HEADER as u64 {
            assert!(Instant::now() < deadline, "tcpdump does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Watch { process, file }
    }

    /// Type and generic netlink command of every generic netlink message so far: ends when nothing
    /// was added for a while.
    fn messages(&self) -> Vec<(u16, u8)> {
        let mut found = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while found.len() < 2 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(500));
            let bytes = std::fs::read(&self.file).unwrap();
            found = generic_messages(&bytes);
        }
        found
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

const PCAP_HEADER: usize = 24;

fn generic_messages(pcap: &[u8]) -> Vec<(u16, u8)> {
    let mut found = Vec::new();
    let mut rest = &pcap[PCAP_HEADER..];
    while rest.len() >= 16 {
        let length = u32::from_ne_bytes(rest[8..12].try_into().unwrap());
        let end = 16 + usize::try_from(length).unwrap();
        let Some(packet) = rest.get(16..end) else {
            break;
        };
        // LINKTYPE_NETLINK: 16 bytes, the last two of them the protocol (NETLINK_GENERIC is 16).
        if packet[14..16] == [0, 16] {
            let kind = u16::from_ne_bytes(packet[20..22].try_into().unwrap());
            found.push((kind, packet[32]));
        }
        rest = &rest[end..];
    }
    found
}

fn wanted(table: Table) -> Wanted {
    Wanted {
        table,
        managed: (0..400).map(key).collect::<BTreeSet<_>>(),
        resync_interval: Duration::from_millis(500),
        timeouts: None,
        daemons: Vec::new(),
    }
}

/// So many real servers, shared out evenly.
fn table(servers: usize, services: usize) -> Table {
    let each = servers / services;
    let pool = |service| Pool {
        service: Service {
            scheduler: SchedulerName::Known(Scheduler::Rr),
            flags: ServiceFlags::default(),
            persistence: None,
        },
        destinations: (0..each)
            .map(|n| (DestinationKey(real(service, n)), direct(1)))
            .collect(),
    };
    (0..services).map(|n| (key(n), pool(n))).collect()
}

fn key(service: usize) -> ServiceKey {
    let [high, low] = u16::try_from(service + 1).unwrap().to_be_bytes();
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: ([10, 0, high, low], 80).into(),
    }
}

fn real(service: usize, number: usize) -> SocketAddr {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    let port = u16::try_from(80 + service).unwrap();
    ([10, 1, high, low], port).into()
}

fn direct(weight: u32) -> Destination {
    Destination {
        forwarding: Forwarding::DirectRouting,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn daemon(role: DaemonRole, interface: &str) -> Daemon {
    Daemon {
        role,
        interface: interface.to_owned(),
        id: 7,
        max_length: 1400,
        group: None,
        port: 0,
        ttl: 0,
    }
}

/// Says what is wanted and waits until it is reached.
fn reach(reconciler: &Reconciler, reports: &mpsc::Receiver<Report>, wanted: Wanted) -> Report {
    while reports.try_recv().is_ok() {}
    reconciler.want(wanted);
    next(reports, |report| {
        assert_eq!(report.refused, [""; 0]);
        report.in_sync && report.changes.count > 0
    })
}

fn next(reports: &mpsc::Receiver<Report>, fits: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    while let Ok(report) = reports.recv_timeout(deadline - Instant::now()) {
        if fits(&report) {
            return report;
        }
        last = Some((report.in_sync, report.refused, report.notes));
    }
    panic!("it is not reported; the last was {last:?}")
}

fn lines(changes: &vipd::reconcile::Changes) -> Vec<String> {
    changes.lines().collect()
}

/// The daemons as the kernel tells ipvsadm: role, interface, id.
fn daemons() -> Vec<String> {
    let text = run("ipvsadm -L --daemon -n");
    let mut found: Vec<String> = text
        .lines()
        .map(|line| {
            let words = line.replace(['(', ')', ',', '='], " ");
            let words: Vec<&str> = words.split_whitespace().collect();
            let after =
                |name: &str| words[words.iter().position(|word| *word == name).unwrap() + 1];
            format!("{} d {} {}", words[0], after("mcast"), after("syncid"))
        })
        .collect();
    found.sort();
    found
}

fn timeouts() -> String {
    let text = run("ipvsadm -L --timeout");
    let digits = text
        .split_whitespace()
        .filter(|word| word.parse::<u32>().is_ok());
    digits.collect::<Vec<_>>().join(" ")
}

/// How many real servers ipvsadm sees.
fn servers() -> usize {
    let text = run("ipvsadm -S -n");
    text.lines().filter(|line| line.starts_with("-a")).count()
}

fn restore(text: &str) {
    use std::io::Write;
    let mut ipvsadm = Command::new("ipvsadm")
        .arg("-R")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ipvsadm.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    assert!(ipvsadm.wait().unwrap().success());
}

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn in_namespace(test: fn(&Reconciler, &mpsc::Receiver<Report>)) {
    let shared = MODULE
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    on_a_thread(test);
    drop(shared);
}

fn alone_in_namespace(test: fn(&Reconciler, &mpsc::Receiver<Report>)) {
    let alone = MODULE
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    on_a_thread(test);
    drop(alone);
}

/// Runs a test on a thread of its own in a network namespace of its own, which ends with it.
fn on_a_thread(test: fn(&Reconciler, &mpsc::Receiver<Report>)) {
    let thread = std::thread::spawn(move || {
        #[allow(
            deprecated,
            reason = "deprecated for UnshareFlags::FILES, which is not used here"
        )]
        let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
        unshared.expect("these tests need to be run by root");
        // Without any interface that is up the kernel takes no destination's address for unicast.
        run("ip link set lo up");
        let (reported, reports) = mpsc::channel();
        let reconciler = Reconciler::start(move |report| drop(reported.send(report))).unwrap();
        test(&reconciler, &reports);
        let (done, stopped) = mpsc::channel();
        reconciler.want(wanted(Table::new()));
        reconciler.stop(move || {
            let _ = done.send(());
        });
        stopped.recv_timeout(PATIENCE).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
