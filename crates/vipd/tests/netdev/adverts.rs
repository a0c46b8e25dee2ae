//! Where adverts from the virtual MAC arrive.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use vipd::net::vrrp_socket::VrrpSocket;
use vrrp::Family;

use crate::lan::{Lan, in_lan, soon};
use crate::virtual_mac::{Worker, web};

fn index(lan: &Lan, host: &str, name: &str) -> u32 {
    let text = lan.ip(host, &format!("-o link show {name}"));
    text.split(':').next().unwrap().parse().unwrap()
}

fn raw(domain: Domain) -> Socket {
    Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(112))).unwrap()
}

fn advert(source: [u8; 4], priority: u8) -> Vec<u8> {
    let message = [
        0x21, 51, priority, 1, 0, 1, 0, 0, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    vrrp::ipv4_packet(Ipv4Addr::from(source), vrrp::GROUP_V4, 255, 1, &message)
}

fn send(name: &str, source: [u8; 4], priority: u8) {
    let socket = raw(Domain::IPV4);
    socket.bind_device(Some(name.as_bytes())).unwrap();
    socket.set_header_included_v4(true).unwrap();
    socket.set_multicast_loop_v4(false).unwrap();
    let group = SockAddr::from(SocketAddrV4::new(vrrp::GROUP_V4, 0));
    socket.send_to(&advert(source, priority), &group).unwrap();
}

#[test]
fn a_peers_advert_from_our_own_virtual_mac_comes_by_the_macvlan_while_it_is_up() {
    in_lan(|lan| async move {
        let worker = Worker::start(&lan).await;
        worker.want(&[web(false)]);
        soon("it is there", || {
            lan.ip("a", "-br link").contains("vrrp.51")
        })
        .await;
        lan.ip(
            "b",
            "link add link eth0 name vrrp.51 address 00:00:5e:00:01:33 type macvlan mode private",
        );
        lan.ip("b", "link set vrrp.51 up");
        let by_interface = VrrpSocket::open("eth0", index(&lan, "a", "eth0"), Family::V4).unwrap();
        let by_macvlan =
            VrrpSocket::open("vrrp.51", index(&lan, "a", "vrrp.51"), Family::V4).unwrap();
        let heard = |socket: &VrrpSocket| {
            let mut buffer = [0; 2048];
            let packet = socket.receive(&mut buffer).unwrap_or_default();
            packet.map(|packet| packet.unwrap().payload[2])
        };
        let from_b = |priority| {
            let lan = Arc::clone(&lan);
            std::thread::spawn(move || {
                lan.enter("b");
                send("vrrp.51", [10, 0, 0, 2], priority);
            })
            .join()
            .unwrap();
        };
        from_b(100);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            (heard(&by_interface), heard(&by_macvlan)),
            (Some(100), None),
            "backup"
        );

        worker.want(&[web(true)]);
        let up = || {
            lan.ip("a", "-br link")
                .contains("00:00:5e:00:01:33 <BROADCAST,MULTICAST,UP")
        };
        soon("it is up", up).await;
        from_b(200);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            (heard(&by_interface), heard(&by_macvlan)),
            (None, Some(200)),
            "master"
        );
        // Our own come back by neither.
        send("vrrp.51", [10, 0, 0, 1], 201);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            (heard(&by_interface), heard(&by_macvlan)),
            (None, None),
            "own"
        );
    });
}
