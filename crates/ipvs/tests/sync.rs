//! Connections as the kernel lists them, and as its daemons tell of them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipvs::sync::{
    Addresses, Entry, INACTIVE, Malformed, Message, NO_OUTPUT, Packer, TEMPLATE, Unsendable,
    entry_of,
};
use ipvs::{
    Connection, Destination, DestinationKey, Family, Forwarding, Persistence, Pool, Protocol,
    Scheduler, SchedulerName, Service, ServiceFlags, ServiceKey, Table,
};
use proptest::prelude::*;

const DR: u32 = 3 | NO_OUTPUT;

fn addresses() -> impl Strategy<Value = Addresses> {
    let v4 = any::<[[u8; 4]; 3]>().prop_map(|[a, b, c]| Addresses::V4 {
        client: a.into(),
        virtual_address: b.into(),
        destination: c.into(),
    });
    let v6 = any::<[[u8; 16]; 3]>().prop_map(|[a, b, c]| Addresses::V6 {
        client: a.into(),
        virtual_address: b.into(),
        destination: c.into(),
    });
    prop_oneof![v4, v6]
}

prop_compose! {
    fn entry()(
        protocol: u8, flags: u32, state: u16, addresses in addresses(), ports: [u16; 3],
        mark: u32, timeout: u32,
    ) -> Entry {
        let [client_port, virtual_port, destination_port] = ports;
        Entry {
            protocol, flags, state, addresses, client_port, virtual_port, destination_port, mark,
            timeout,
        }
    }
}

fn packed(id: u8, max_length: usize, entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut packer = Packer::new(id, max_length);
    let mut datagrams: Vec<_> = entries.iter().filter_map(|e| packer.push(e)).collect();
    datagrams.extend(packer.finish());
    datagrams
}

proptest! {
    #[test]
    fn what_is_packed_is_read(
        id: u8, max_length in 80_usize..3000, entries in prop::collection::vec(entry(), 0..300),
    ) {
        let datagrams = packed(id, max_length, &entries);
        let mut read = Vec::new();
        for datagram in &datagrams {
            prop_assert!(datagram.len() <= max_length);
            let message = Message::decode(datagram).unwrap();
            prop_assert_eq!(message.id, id);
            read.extend(message.entries);
        }
        prop_assert_eq!(read, entries);
    }

    #[test]
    fn no_datagram_panics(bytes: Vec<u8>, size: u16, count: u8) {
        let _ = Message::decode(&bytes);
        let [high, low] = size.to_be_bytes();
        let mut headed = vec![0, 1, high, low, count, 1, 0, 0];
        headed.extend(&bytes);
        let _ = Message::decode(&headed);
        let length = u16::try_from(headed.len()).unwrap_or(0).to_be_bytes();
        headed[2..4].copy_from_slice(&length);
        let _ = Message::decode(&headed);
    }

    #[test]
    fn no_line_panics(line: String) {
        let _ = Connection::parse(&line);
    }
}

/// What the master daemon of Debian's kernel 6.1 sent for persistent UDP by direct routing and for
/// UDP over IPv6 by NAT.
const KERNEL: &str =
    "0033 0104 0601 0000 0011 0024 0000 1183 0000 0000 0035 0035 0000 0000 0000 012c 0a4d 0064
    0a4d 000a 0a4d 0015 0011 0024 0000 0183 0000 0fa0 0035 0035 0000 0000 0000 012c
    0a4d 0064 0a4d 000a 0a4d 0015 0011 0024 0000 1183 0000 0000 0035 0035 0000 0000
    0000 012c 0a4d 0064 0a4d 000a 0a4d 0015 0111 0048 0000 0100 0000 0fa1 0035 14e9
    0000 0000 0000 012c 2001 0db8 0000 0000 0000 0000 0000 0100 2001 0db8 0000 0000
    0000 0000 0000 0010 2001 0db8 0000 0000 0000 0000 0000 0021 0011 0024 0000 1183
    0000 0000 0035 0035 0000 0000 0000 012c 0a4d 0064 0a4d 000a 0a4d 0015 0011 0024
    0000 1183 0000 0000 0035 0035 0000 0000 0000 012c 0a4d 0064 0a4d 000a 0a4d 0015";

#[test]
fn what_the_kernel_sends_is_read_and_written_byte_for_byte() {
    let digits: Vec<u8> = KERNEL.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    let message = Message::decode(&bytes).unwrap();
    assert_eq!((message.id, message.entries.len()), (51, 6));
    let template = message.entries[0];
    assert_eq!(template.flags, DR | INACTIVE | TEMPLATE);
    assert_eq!(template.destination(), socket("10.77.0.21:53"));
    let v6 = message.entries[3];
    assert_eq!(
        (v6.flags, v6.client_port, v6.timeout),
        (INACTIVE, 4001, 300)
    );
    assert_eq!(v6.destination(), socket("[2001:db8::21]:5353"));
    assert_eq!(packed(51, 1472, &message.entries), [bytes]);
}

#[test]
fn options_are_passed_over_and_damage_is_told() {
    let entry = entry_of(&connection(SYN_RECEIVED), &table()).unwrap();
    let datagram = &packed(7, 1472, &[entry, entry])[0];
    // The first entry gets an option of one byte, and one byte of padding.
    let mut longer = datagram.clone();
    longer[8 + 3] += 3;
    longer.splice(8 + 36..8 + 36, [2, 1, 0x55, 0]);
    longer[3] += 4;
    let message = Message::decode(&longer).unwrap();
    assert_eq!(message.entries, [entry, entry]);
    assert_eq!(Message::decode(&datagram[..50]), Err(Malformed::Length));
    let mut version0 = datagram.clone();
    version0[5] = 0;
    assert_eq!(Message::decode(&version0), Err(Malformed::Version));
    let mut more = datagram.clone();
    more[4] = 3;
    assert_eq!(Message::decode(&more), Err(Malformed::Short));
    assert_eq!(Message::decode(&[]), Err(Malformed::Short));
}

// Lines as Debian's kernel 6.1 prints them.
const SYN_RECEIVED: &str = "TCP 0A4D0064 B3C2 0A4D000A 0050 0A4D0015 0050 SYN_RECV         53";
const V6: &str = "UDP 2001:0db8:0000:0000:0000:0000:0000:0064 0FA1 \
    2001:0db8:0000:0000:0000:0000:0000:000a 0035 2001:0db8:0000:0000:0000:0000:0000:0015 14E9 \
    UDP             297";

fn connection(line: &str) -> Connection {
    Connection::parse(line).unwrap()
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn pool(forwarding: Forwarding, reals: &[&str], persistent: bool) -> Pool {
    let destination = Destination {
        forwarding,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    Pool {
        service: Service {
            scheduler: SchedulerName::Known(Scheduler::Rr),
            flags: ServiceFlags::default(),
            persistence: persistent.then(|| Persistence {
                timeout: Duration::from_secs(300),
                prefix_length: 32,
                engine: None,
            }),
        },
        destinations: reals
            .iter()
            .map(|real| (DestinationKey(socket(real)), destination))
            .collect(),
    }
}

fn service(protocol: Protocol, address: &str) -> ServiceKey {
    ServiceKey::Address {
        protocol,
        address: socket(address),
    }
}

fn table() -> Table {
    let (dr, nat) = (Forwarding::DirectRouting, Forwarding::Nat);
    let mark = |mark| ServiceKey::FirewallMark {
        family: Family::V4,
        mark,
    };
    BTreeMap::from([
        (
            service(Protocol::Tcp, "10.77.0.10:80"),
            pool(dr, &["10.77.0.21:80"], true),
        ),
        (
            service(Protocol::Udp, "[2001:db8::a]:53"),
            pool(nat, &["[2001:db8::15]:5353"], false),
        ),
        (mark(7), pool(dr, &["10.77.0.22:0", "10.77.0.23:0"], true)),
        (mark(8), pool(nat, &["10.77.0.23:0"], false)),
    ])
}

#[test]
fn a_connection_is_bound_as_its_service_says() {
    let entry = entry_of(&connection(SYN_RECEIVED), &table()).unwrap();
    assert_eq!((entry.protocol, entry.flags, entry.state), (6, DR, 3));
    assert_eq!((entry.mark, entry.timeout), (0, 53));
    assert_eq!(entry.destination(), socket("10.77.0.21:80"));
    assert_eq!(
        (
            entry.client_port,
            entry.virtual_port,
            entry.destination_port
        ),
        (0xb3c2, 80, 80)
    );
    let entry = entry_of(&connection(V6), &table()).unwrap();
    assert_eq!(
        (entry.protocol, entry.flags, entry.state),
        (17, INACTIVE, 0)
    );
    assert_eq!(entry.destination(), socket("[2001:db8::15]:5353"));
}

#[test]
fn a_template_is_sent_with_its_whole_life_and_a_mark_with_its_number() {
    let line = "TCP 0A4D0064 0000 0A4D000A 0050 0A4D0015 0050 NONE             12";
    let entry = entry_of(&connection(line), &table()).unwrap();
    assert_eq!(
        (entry.flags, entry.timeout),
        (DR | INACTIVE | TEMPLATE, 300)
    );
    let line = "IP  0A4D0064 0000 00000007 0000 0A4D0016 0000 ASSURED          12";
    let entry = entry_of(&connection(line), &table()).unwrap();
    assert_eq!((entry.protocol, entry.mark, entry.state), (0, 7, 1));
    let line = "TCP 0A4D0064 B3C2 0A4D000A 01BB 0A4D0016 01BB ESTABLISHED     893";
    let entry = entry_of(&connection(line), &table()).unwrap();
    assert_eq!((entry.mark, entry.flags, entry.state), (7, DR, 1));
}

#[test]
fn what_cannot_be_sent_is_told_why() {
    let told = |line: &str| entry_of(&connection(line), &table()).unwrap_err();
    for (line, why) in [
        (
            "TCP 0A4D0064 B3C2 0A4D000A 0050 0A4D0015 0050 TIME_WAIT 9",
            Unsendable::Closed,
        ),
        (
            "TCP 0A4D0064 B3C2 0A4D000A 0050 0A4D0099 0050 ESTABLISHED 9",
            Unsendable::NoDestination,
        ),
        (
            "UDP 0A4D0064 B3C2 0A4D000A 0050 0A4D0015 0050 UDP 9",
            Unsendable::NoService,
        ),
        (
            "TCP 0A4D0064 B3C2 0A4D000A 01BB 0A4D0017 01BB ESTABLISHED 9",
            Unsendable::SeveralMarks,
        ),
        (
            "UDP 0A4D0064 13C4 0A4D000A 13C4 0A4D0015 13C4 UDP 9 sip call-1",
            Unsendable::Engine,
        ),
    ] {
        assert_eq!(told(line), why, "{line}");
    }
}

#[test]
fn lines_that_are_not_understood_are_passed_over() {
    for line in [
        "",
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData",
        "IP_50 0A4D0064 B3C2 0A4D000A 0050 0A4D0015 0050 NONE 9",
        "TCP 0A4D0064 B3C2 0A4D000A 0050 0A4D0015 0050 NEW_STATE 9",
        "TCP 0A4D006 B3C2 0A4D000A 0050 0A4D0015 0050 ESTABLISHED 9",
        "TCP 0A4D0064 B3C2 0A4D000A 0050 0A4D0015 0050 ESTABLISHED",
        "TCP 0A4D0064 +3C2 0A4D000A 0050 0A4D0015 0050 ESTABLISHED 9",
    ] {
        assert_eq!(Connection::parse(line), None, "{line}");
    }
}
