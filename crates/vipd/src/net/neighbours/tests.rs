//! Against the kernel: two network namespaces and a cable between them. `near` is this host's
//! end and `far` the peer's.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::mpsc::{self as std_mpsc, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::netdevice::name_to_index;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::runtime::Runtime;

use super::*;
use crate::net::links;

const HERE: Mac = [2, 0, 0, 0, 0, 0xa];
const THERE: Mac = [2, 0, 0, 0, 0, 0xb];
const BROADCAST: Mac = [0xff; 6];
const VIP: &str = "10.9.0.5";
const VIP6: &str = "2001:db8::5";

#[test]
fn a_probe_of_an_address_the_peer_holds_is_answered() {
    in_lab(|lab| {
        lab.there(&["address", "add", "10.9.0.5/24", "dev", "far"]);
        lab.there(&["address", "add", "2001:db8::5/64", "dev", "far", "nodad"]);
        lab.watch(&[("near", VIP), ("near", VIP6)]);
        for address in [VIP, VIP6] {
            lab.probe(&[("near", address)]);
            assert_eq!(lab.claim(), claim("near", address, THERE, true));
        }
        lab.expect_silence();
    });
}

#[test]
fn a_probe_of_an_address_that_nobody_holds_is_not_answered() {
    in_lab(|lab| {
        lab.there(&["address", "add", "10.9.0.5/24", "dev", "far"]);
        lab.here(&["address", "add", "10.9.0.7/24", "dev", "near"]);
        let nobodys = [
            ("near", "10.9.0.6"),
            ("near", "2001:db8::6"),
            ("near", "10.9.0.7"),
        ];
        lab.watch(&[&nobodys[..], &[("near", VIP)]].concat());
        lab.probe(&nobodys);
        // The answer to a later question: the earlier ones had theirs by then.
        lab.probe(&[("near", VIP)]);
        assert_eq!(lab.claim(), claim("near", VIP, THERE, true));
        lab.expect_silence();
    });
}

#[test]
fn an_address_that_is_not_watched_is_nobodys_business() {
    in_lab(|lab| {
        lab.there(&["address", "add", "10.9.0.5/24", "dev", "far"]);
        lab.watch(&[("near", "10.9.0.6"), ("far", VIP)]);
        lab.probe(&[("near", VIP)]);
        lab.expect_silence();
        lab.watch(&[("near", VIP)]);
        lab.probe(&[("near", VIP)]);
        assert_eq!(lab.claim(), claim("near", VIP, THERE, true));
        lab.watch(&[]);
        thread::sleep(Duration::from_millis(100));
        lab.probe(&[("near", VIP)]);
        lab.expect_silence();
    });
}

#[test]
fn interfaces_that_are_missing_or_without_ethernet_are_skipped() {
    in_lab(|lab| {
        lab.there(&["address", "add", "10.9.0.5/24", "dev", "far"]);
        lab.watch(&[("lo", VIP), ("near", VIP)]);
        lab.probe(&[("lo", VIP), ("lo", VIP6), ("eth9", VIP), ("near", VIP)]);
        assert_eq!(lab.claim(), claim("near", VIP, THERE, true));
        lab.expect_silence();
    });
}

#[test]
fn a_gratuitous_arp_of_the_peer_is_reported_and_own_frames_are_not() {
    in_lab(|lab| {
        lab.watch(&[("near", VIP)]);
        let own = lab.socket(&lab.here);
        own.send(&gratuitous(HERE, 1), "near", BROADCAST);
        let peer = lab.socket(&lab.there);
        // A loop in the network brings an own frame back.
        peer.send(&gratuitous(HERE, 1), "far", BROADCAST);
        peer.send(&gratuitous(THERE, 1), "far", BROADCAST);
        assert_eq!(lab.claim(), claim("near", VIP, THERE, false));
        peer.send(&gratuitous(THERE, 2), "far", BROADCAST);
        assert_eq!(lab.claim(), claim("near", VIP, THERE, true));
        lab.expect_silence();
    });
}

#[test]
fn a_frame_for_another_host_and_broken_ones_are_not_heard() {
    in_lab(|lab| {
        lab.watch(&[("near", VIP)]);
        let peer = lab.socket(&lab.there);
        peer.send(&gratuitous(THERE, 2), "far", [2, 0, 0, 0, 0, 0xc]);
        let whole = gratuitous(THERE, 2);
        for length in 1..whole.len() {
            peer.send(&whole[..length], "far", BROADCAST);
        }
        lab.expect_silence();
        peer.send(&whole, "far", HERE);
        assert_eq!(lab.claim(), claim("near", VIP, THERE, true));
    });
}

#[test]
fn a_peers_virtual_ethernet_address_is_foreign_while_our_macvlan_is_down() {
    in_lab(|mut lab| {
        let virtual_mac = [0, 0, 0x5e, 0, 1, 51];
        lab.watch(&[("near", VIP)]);
        let peer = lab.socket(&lab.there);
        let add = "link add v51 link near address 00:00:5e:00:01:33 type macvlan mode private";
        lab.here(&add.split(' ').collect::<Vec<_>>());
        lab.wait_for(|links| links.named("v51").is_some_and(|link| !link.up));
        peer.send(&gratuitous(virtual_mac, 1), "far", BROADCAST);
        assert_eq!(lab.claim(), claim("near", VIP, virtual_mac, false));
        lab.here(&["link", "set", "v51", "up"]);
        lab.wait_for(|links| links.named("v51").is_some_and(|link| link.up));
        peer.send(&gratuitous(virtual_mac, 2), "far", BROADCAST);
        lab.expect_silence();
    });
}

#[test]
fn an_interface_is_followed_through_its_names() {
    in_lab(|mut lab| {
        lab.there(&["address", "add", "10.9.0.5/24", "dev", "far"]);
        lab.watch(&[("renamed", VIP)]);
        lab.probe(&[("renamed", VIP)]);
        lab.expect_silence();
        lab.here(&["link", "set", "near", "down"]);
        lab.here(&["link", "set", "near", "name", "renamed", "up"]);
        lab.wait_for(|links| links.named("renamed").is_some_and(|link| link.up));
        lab.probe(&[("renamed", VIP)]);
        assert_eq!(lab.claim(), claim("renamed", VIP, THERE, true));
    });
}

#[test]
fn a_flood_of_claims_is_a_few_reports_and_the_thread_survives_it() {
    in_lab(|lab| {
        lab.there(&["address", "add", "10.9.0.5/24", "dev", "far"]);
        lab.watch(&[("near", VIP)]);
        let peer = lab.socket(&lab.there);
        let begin = Instant::now();
        for number in 0..10_000_u16 {
            let [high, low] = number.to_be_bytes();
            peer.send(&gratuitous(THERE, 1), "far", BROADCAST);
            peer.send(&gratuitous([2, 0, 1, 0, high, low], 2), "far", BROADCAST);
        }
        let pause = Duration::from_millis(300);
        let claims = std::iter::from_fn(|| lab.claims.recv_timeout(pause).ok());
        let claims: Vec<Claim> = claims.collect();
        // Four claimants in each begun tenth of a second, and one claim in each begun second.
        let seconds = begin.elapsed().as_secs_f64();
        let answers = claims.iter().filter(|claim| claim.answer).count();
        assert!(answers >= 1, "nothing of the flood was heard");
        assert!(
            answers as f64 <= 4.0 * (seconds * 10.0).ceil(),
            "{answers} answers in {seconds} s"
        );
        let others = claims.len() - answers;
        assert!(others >= 1 && others as f64 <= seconds.ceil());
        lab.probe(&[("near", VIP)]);
        assert_eq!(lab.claim(), claim("near", VIP, THERE, true));
    });
}

#[test]
fn the_thread_ends_with_the_orders() {
    in_lab(|lab| {
        let Lab {
            orders,
            claims,
            task,
            runtime,
            ..
        } = lab;
        drop(orders);
        runtime.block_on(task).unwrap();
        // The thread owns the other end.
        let ended = claims.recv_timeout(Duration::from_secs(5));
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    });
}

#[test]
fn the_thread_ends_when_the_task_is_aborted() {
    in_lab(|lab| {
        lab.task.abort();
        let ended = lab.claims.recv_timeout(Duration::from_secs(5));
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    });
}

#[test]
fn of_ipv6_only_advertisements_reach_user_space() {
    in_lab(|lab| {
        let socket = open(IPV6, &ndp::ADVERTISEMENTS_ONLY).unwrap();
        let peer = lab.socket(&lab.there);
        let mut udp = ndp::probe(VIP6.parse().unwrap());
        udp[6] = 17;
        udp[40] = 136;
        let mut advertisement = ndp::probe(VIP6.parse().unwrap());
        advertisement[40] = 136;
        for packet in [&udp, &ndp::probe(VIP6.parse().unwrap()), &advertisement] {
            let to = sys::link_layer_address(peer.index("far"), IPV6, BROADCAST);
            peer.0.send_to(packet, &to).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        let mut buffer = [0; 128];
        let received = sys::receive(&socket, &mut buffer).unwrap().unwrap();
        assert_eq!(buffer[..received.length], advertisement);
        assert_eq!(received.source, Some(THERE));
        assert_eq!(received.packet_type, libc::PACKET_BROADCAST);
        assert_eq!(sys::receive(&socket, &mut buffer).unwrap(), None);
    });
}

struct Lab {
    here: File,
    there: File,
    runtime: Runtime,
    links: watch::Receiver<Arc<Links>>,
    orders: mpsc::UnboundedSender<Order>,
    claims: std_mpsc::Receiver<Claim>,
    task: JoinHandle<()>,
}

/// A packet socket of one of the namespaces.
struct Wire(Socket);

/// Runs a test on a thread of its own; the namespaces end with it.
fn in_lab(test: impl FnOnce(Lab) + Send + 'static) {
    let thread = thread::spawn(|| test(Lab::new()));
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    fn new() -> Lab {
        let there = new_namespace();
        let here = new_namespace();
        let peer = format!("/proc/{}/fd/{}", std::process::id(), there.as_raw_fd());
        let cable = "link add near address 02:00:00:00:00:0a type veth peer name far address \
                     02:00:00:00:00:0b netns";
        ip(&[cable.split_whitespace().collect(), vec![peer.as_str()]].concat());
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "set", "near", "up"]);
        enter(&there);
        ip(&["link", "set", "far", "up"]);
        enter(&here);
        // Its threads are born in the namespace of this one.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (report, claims) = std_mpsc::channel();
        let report = move |claim| report.send(claim).unwrap();
        let (links, orders, task) = runtime.block_on(async {
            let (links, _monitor) = links::watch().await.unwrap();
            let (orders, task) = start(links.clone(), report).unwrap();
            (links, orders, task)
        });
        let mut lab = Lab {
            here,
            there,
            runtime,
            links,
            orders,
            claims,
            task,
        };
        lab.wait_for(|links| links.named("near").is_some_and(|link| link.up));
        lab
    }

    fn here(&self, arguments: &[&str]) {
        ip(arguments);
    }

    fn there(&self, arguments: &[&str]) {
        enter(&self.there);
        ip(arguments);
        enter(&self.here);
    }

    fn socket(&self, namespace: &File) -> Wire {
        enter(namespace);
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).unwrap();
        enter(&self.here);
        Wire(socket)
    }

    fn watch(&self, addresses: &[(&str, &str)]) {
        let addresses = addresses.iter().copied().map(owned).collect();
        self.orders.send(Order::Watch(addresses)).unwrap();
        // What is heard before the order arrives is not reported.
        thread::sleep(Duration::from_millis(50));
    }

    fn probe(&self, addresses: &[(&str, &str)]) {
        let addresses = addresses.iter().copied().map(owned).collect();
        self.orders.send(Order::Probe(addresses)).unwrap();
    }

    fn claim(&self) -> Claim {
        let claim = self.claims.recv_timeout(Duration::from_secs(5));
        claim.expect("a claim was heard")
    }

    fn expect_silence(&self) {
        let claim = self.claims.recv_timeout(Duration::from_millis(300));
        assert_eq!(claim, Err(RecvTimeoutError::Timeout));
    }

    fn wait_for(&mut self, mut what: impl FnMut(&Links) -> bool) {
        let links = self.links.wait_for(|links| what(links));
        let wait = async { tokio::time::timeout(Duration::from_secs(5), links).await };
        let seen = self.runtime.block_on(async { wait.await.is_ok() });
        assert!(seen, "the links did not become what they should");
    }
}

impl Wire {
    fn send(&self, packet: &[u8], interface: &str, destination: Mac) {
        let to = sys::link_layer_address(self.index(interface), ARP, destination);
        self.0.send_to(packet, &to).unwrap();
    }

    fn index(&self, interface: &str) -> u32 {
        name_to_index(self.0.as_fd(), interface).unwrap()
    }
}

fn new_namespace() -> File {
    #[allow(
        deprecated,
        reason = "deprecated for UnshareFlags::FILES, which is not used here"
    )]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
    unshared.expect("these tests need to be run by root");
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Runs `ip` in the namespace of this thread.
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {errors}");
}

fn owned((interface, address): (&str, &str)) -> (String, IpAddr) {
    (interface.to_owned(), address.parse().unwrap())
}

fn claim(interface: &str, address: &str, mac: Mac, answer: bool) -> Claim {
    let (interface, address) = owned((interface, address));
    Claim {
        interface,
        address,
        mac,
        answer,
    }
}

/// An ARP packet in which the sender says that it has `VIP`.
fn gratuitous(mac: Mac, operation: u8) -> Vec<u8> {
    let address = VIP.parse::<Ipv4Addr>().unwrap().octets();
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &mac, &address, &BROADCAST, &address].concat()
}
