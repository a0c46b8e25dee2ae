//! Which way packets to a real server take, as the kernel says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::net::links::{self, Links};

/// The way to a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::doctor) struct Way {
    /// The index of the interface.
    pub interface: u32,
    /// The next hop; `None`: the host itself.
    pub gateway: Option<IpAddr>,
    /// The own address that packets have.
    pub source: Option<IpAddr>,
}

/// The interfaces and their addresses.
pub(super) async fn links() -> Result<Links, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    let task = tokio::spawn(connection);
    let links = links::dump(&handle)
        .await
        .map_err(|error| error.to_string());
    task.abort();
    links
}

/// The ways to these hosts; a host without one is left out.
pub(super) async fn look(hosts: BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Way>, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    let task = tokio::spawn(connection);
    let mut ways = BTreeMap::new();
    for host in hosts {
        if let Some(way) = way(&handle, host).await {
            ways.insert(host, way);
        }
    }
    task.abort();
    Ok(ways)
}

async fn way(handle: &Handle, host: IpAddr) -> Option<Way> {
    let request = match host {
        IpAddr::V4(host) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(host, 32)
            .build(),
        IpAddr::V6(host) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(host, 128)
            .build(),
    };
    let route = handle.route().get(request).execute().try_next().await;
    let mut way = Way::default();
    for attribute in route.ok()??.attributes {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "other attributes do not matter here"
        )]
        match attribute {
            RouteAttribute::Oif(index) => way.interface = index,
            RouteAttribute::Gateway(address) => way.gateway = ip(&address),
            RouteAttribute::PrefSource(address) => way.source = ip(&address),
            _ => {}
        }
    }
    (way.interface != 0).then_some(way)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "no other kind is an address of IP"
    )]
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
