//! ipvsadm's order of services and real servers.
//!
//! It compares addresses in words of 32 bits by the sign of their difference, so that addresses more
//! than half of all apart (192.168.0.1 and 10.0.0.1) stand the wrong way round, and what stands where
//! can depend on the way of sorting. Where both shall look the same, that order is part of the format:
//! hence a merge sort of the kernel's order, which is what ipvsadm does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipvs::{DestinationKey, Dump, Family, Protocol, ServiceKey};

/// The services of a dump, each with its real servers, as ipvsadm lists them; `unsorted`: as the
/// kernel does.
#[must_use]
pub fn in_order(dump: &Dump, unsorted: bool) -> Vec<(ServiceKey, Vec<DestinationKey>)> {
    let mut servers: BTreeMap<ServiceKey, Vec<DestinationKey>> = BTreeMap::new();
    for (service, server) in &dump.destination_order {
        servers.entry(*service).or_default().push(*server);
    }
    let services = if unsorted {
        dump.service_order.clone()
    } else {
        merge_sorted(&dump.service_order, &service_before)
    };
    let with_servers = services.into_iter().map(|service| {
        let servers = servers.remove(&service).unwrap_or_default();
        let servers = if unsorted {
            servers
        } else {
            merge_sorted(&servers, &server_before)
        };
        (service, servers)
    });
    with_servers.collect()
}

/// Whether a service stands before another one, or is as good.
fn service_before(one: &ServiceKey, other: &ServiceKey) -> bool {
    let [one, other] = [one, other].map(|key| match *key {
        ServiceKey::Address { protocol, address } => {
            let fixed = [0, family(key.family()), number(protocol)];
            (fixed, words(address.ip()), address.port())
        }
        ServiceKey::FirewallMark { family: of, mark } => ([mark, family(of), 0], [0; 4], 0),
    });
    before([&one.0, &one.1], [&other.0, &other.1], one.2 <= other.2)
}

fn server_before(one: &DestinationKey, other: &DestinationKey) -> bool {
    let [of_one, of_other] = [one, other].map(|key| words(key.0.ip()));
    before([&of_one], [&of_other], one.0.port() <= other.0.port())
}

fn before<const N: usize>(one: [&[u32]; N], other: [&[u32]; N], ports: bool) -> bool {
    let pairs = one.iter().zip(&other);
    let pairs = pairs.flat_map(|(one, other)| one.iter().zip(other.iter()));
    let difference = |(one, other): (&u32, &u32)| one.wrapping_sub(*other).cast_signed();
    match pairs.map(difference).find(|difference| *difference != 0) {
        Some(difference) => difference < 0,
        None => ports,
    }
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
            [a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h]
        }
    }
}

fn family(family: Family) -> u32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn number(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// A stable merge sort that halves as the C library's does, and needs no order that makes sense.
fn merge_sorted<T: Copy>(items: &[T], before: &impl Fn(&T, &T) -> bool) -> Vec<T> {
    if items.len() < 2 {
        return items.to_vec();
    }
    let (left, right) = items.split_at(items.len() / 2);
    let (left, right) = (merge_sorted(left, before), merge_sorted(right, before));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut merged = Vec::with_capacity(items.len());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let next = if before(one, other) {
            left.next()
        } else {
            right.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_more_than_half_apart_stand_the_other_way_round() {
        let key = |text: &str| DestinationKey(text.parse().unwrap());
        let sorted = |texts: &[&str]| -> Vec<String> {
            let keys: Vec<DestinationKey> = texts.iter().map(|text| key(text)).collect();
            let sorted = merge_sorted(&keys, &server_before);
            sorted.iter().map(ToString::to_string).collect()
        };
        let wanted = ["192.168.1.1:9", "192.168.1.1:80", "10.0.0.1:80"];
        assert_eq!(
            sorted(&["10.0.0.1:80", "192.168.1.1:80", "192.168.1.1:9"]),
            wanted
        );
        let wanted = ["10.0.0.9:80", "10.0.0.10:80", "127.0.0.1:80"];
        assert_eq!(
            sorted(&["127.0.0.1:80", "10.0.0.10:80", "10.0.0.9:80"]),
            wanted
        );
    }
}
