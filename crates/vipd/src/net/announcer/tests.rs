//! Frames as the host at the other end of the cable sees them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use socket2::SockRef;

use super::*;
use crate::net::testbed::{NEAR, SOON, Testbed, between_hosts, ip};

/// Every Ethernet type (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;

#[test]
fn a_takeover_is_announced_in_rounds_that_do_not_leave_back_to_back() {
    in_lab(|lab| {
        let began = Instant::now();
        lab.announce("web", &["10.0.0.9", "2001:db8::9"], garp(5, 0));
        let both = lab.ips(&["10.0.0.9", "2001:db8::9"]);
        for n in 0..5 {
            assert_eq!(lab.heard(2), both, "round {n}");
            assert!(began.elapsed() >= STEP * n, "round {n} came too early");
        }
    });
}

#[test]
fn neighbours_believe_an_advertisement() {
    in_lab(|lab| {
        lab.testbed.there(|| {
            ip("addr add 2001:db8::1/64 dev far nodad");
            ip("neigh add 2001:db8::9 lladdr 02:00:00:00:00:99 nud stale dev far");
        });
        // A packet socket hears a frame before the kernel does.
        let neighbour = |wanted: &str| {
            lab.announce("web", &["2001:db8::9"], garp(1, 0));
            lab.heard(1);
            let shown = || lab.testbed.there(|| ip("neigh show 2001:db8::9"));
            let until = Instant::now() + SOON;
            while !shown().contains(wanted) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
            shown()
        };
        let believed = neighbour("lladdr 02:00:00:00:00:0a");
        assert!(believed.contains("lladdr 02:00:00:00:00:0a"), "{believed}");
        assert!(!believed.contains("router"), "{believed}");
        // A host that forwards is a router to its neighbours.
        std::fs::write("/proc/sys/net/ipv6/conf/near/forwarding", "1").unwrap();
        let believed = neighbour("router");
        assert!(believed.contains("router"), "{believed}");
    });
}

#[test]
fn every_address_has_its_first_frame_before_any_has_its_second() {
    in_lab(|lab| {
        let router = |r: u8| (0..100).map(move |n| Ipv4Addr::new(10, 1, r, n).to_string());
        for r in 0..30 {
            let addresses: Vec<String> = router(r).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            lab.announce(&format!("r{r}"), &addresses, garp(2, 0));
        }
        let frames = lab.hear(Duration::from_millis(1500));
        let mut count: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let mut first = 0;
        for (_, address) in &frames {
            let seen = count.entry(*address).or_default();
            *seen += 1;
            first += u32::from(*seen == 1);
            assert!(
                *seen == 1 || first == 3000,
                "{address} again after {first} others"
            );
        }
        assert_eq!(count.len(), 3000);
        assert!(count.values().all(|seen| *seen == 2));
    });
}

#[test]
fn a_withdrawal_ends_a_round_that_is_under_way() {
    in_lab(|lab| {
        let many: Vec<String> = (0..40_000_u16)
            .map(|n| Ipv4Addr::from(0x0a01_0000 + u32::from(n)).to_string())
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        lab.announce("web", &many, garp(5, 1));
        lab.heard(1);
        let router = "web".to_owned();
        lab.orders.send(Order::Withdraw { router }).unwrap();
        let before = lab.hear(Duration::from_millis(200)).len();
        assert!(before < 40_000, "{before} frames");
        // Neither the rest nor the repetition a second later.
        assert_eq!(lab.hear(Duration::from_millis(1300)), []);
    });
}

#[test]
fn an_interface_that_is_down_is_announced_when_it_comes_up() {
    in_lab(|lab| {
        ip("link set near down");
        lab.testbed
            .wait_for(|links| links.named("near").is_some_and(|link| !link.up));
        lab.announce("web", &["10.0.0.9"], garp(1, 0));
        assert_eq!(lab.hear(Duration::from_millis(200)), []);
        ip("link set near up");
        assert_eq!(lab.heard(1), lab.ips(&["10.0.0.9"]));
    });
}

#[test]
fn a_recreated_interface_is_announced_when_it_is_up() {
    in_lab(|lab| {
        ip("link add other link near type macvlan mode bridge");
        ip("link set other up");
        lab.testbed
            .wait_for(|links| links.named("other").is_some_and(|link| link.up));
        let on = |interface: &str| Order::Announce {
            router: "web".to_owned(),
            addresses: vec![(interface.to_owned(), "10.0.0.9".parse().unwrap())],
            garp: garp(1, 0),
        };
        lab.orders.send(on("other")).unwrap();
        assert_eq!(lab.heard(1).len(), 1);
        ip("link del other");
        ip("link add other address 02:00:00:00:00:77 link near type macvlan mode bridge");
        ip("link set other up");
        // From the new one's Ethernet address.
        let frame = lab.frame().expect("it is announced");
        assert_eq!(frame[6..12], [2, 0, 0, 0, 0, 0x77]);
    });
}

#[test]
fn a_takeover_is_announced_again_after_the_delay_and_refreshed() {
    in_lab(|lab| {
        let garp = Garp {
            repeat: 2,
            delay: Duration::from_millis(300),
            refresh: Duration::from_millis(700),
        };
        let began = Instant::now();
        lab.announce("web", &["10.0.0.9"], garp);
        assert_eq!(lab.heard(2).len(), 2);
        assert_eq!(lab.heard(2).len(), 2);
        assert!(began.elapsed() >= garp.delay);
        assert_eq!(lab.heard(1).len(), 1);
        assert!(began.elapsed() >= garp.refresh);
    });
}

struct Lab {
    orders: mpsc::UnboundedSender<Order>,
    wire: Socket,
    testbed: Testbed,
}

fn in_lab(test: impl FnOnce(Lab) + Send + 'static) {
    between_hosts(|testbed| {
        let wire = testbed.there(|| {
            let wire = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            let index = rustix::net::netdevice::name_to_index(&wire, "far").unwrap();
            wire.bind(&sys::link_layer_address(index, ETH_P_ALL, [0; 6]))
                .unwrap();
            wire
        });
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&wire, 64 << 20).unwrap();
        let links = testbed.links.clone();
        let start = async { start(links) };
        let (orders, _) = testbed.runtime.block_on(start).unwrap();
        test(Lab {
            orders,
            wire,
            testbed,
        });
    });
}

impl Lab {
    fn announce(&self, router: &str, addresses: &[&str], garp: Garp) {
        let addresses = self.ips(addresses).into_iter();
        let order = Order::Announce {
            router: router.to_owned(),
            addresses: addresses.map(|ip| ("near".to_owned(), ip)).collect(),
            garp,
        };
        self.orders.send(order).unwrap();
    }

    fn ips(&self, addresses: &[&str]) -> Vec<IpAddr> {
        addresses.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    /// The next announcement, and when it came, within the time.
    fn next(&self, until: Instant) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            let left = left.max(Duration::from_millis(1));
            SockRef::from(&self.wire)
                .set_read_timeout(Some(left))
                .unwrap();
            let received =
                rustix::net::recv(&self.wire, &mut buffer[..], rustix::net::RecvFlags::empty());
            let Ok((_, length)) = received else {
                continue;
            };
            let frame = &buffer[..length];
            if announced(frame).is_some() {
                return Some(frame.to_vec());
            }
        }
    }

    fn frame(&self) -> Option<Vec<u8>> {
        self.next(Instant::now() + SOON)
    }

    /// The addresses of the next so many announcements.
    fn heard(&self, count: usize) -> Vec<IpAddr> {
        (0..count)
            .map(|_| announced(&self.frame().expect("an announcement")).unwrap())
            .collect()
    }

    /// Everything that is announced in that time.
    fn hear(&self, time: Duration) -> Vec<(Instant, IpAddr)> {
        let until = Instant::now() + time;
        let frames = std::iter::from_fn(|| self.next(until));
        frames
            .map(|frame| (Instant::now(), announced(&frame).unwrap()))
            .collect()
    }
}

/// The virtual address that a frame announces; the kernel's own do not count.
fn announced(frame: &[u8]) -> Option<IpAddr> {
    let (source, ethertype) = (&frame[6..12], &frame[12..14]);
    if ethertype == [8, 6] {
        let address: [u8; 4] = frame[28..32].try_into().unwrap();
        return Some(Ipv4Addr::from(address).into());
    }
    if ethertype != [0x86, 0xdd] || frame[54] != 136 || source != NEAR {
        return None;
    }
    let address: [u8; 16] = frame[62..78].try_into().unwrap();
    let address = Ipv6Addr::from(address);
    (!address.is_unicast_link_local()).then_some(address.into())
}

fn garp(repeat: u32, delay: u64) -> Garp {
    Garp {
        repeat,
        delay: Duration::from_secs(delay),
        refresh: Duration::ZERO,
    }
}
