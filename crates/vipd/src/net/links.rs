//! The interfaces of this host and their addresses, as the kernel has them now.
//!
//! One task keeps the picture: a dump at the start, the kernel's own events after it, and a new dump
//! when events were lost and every few seconds, because a message of a newer kernel that the decoder
//! does not understand is dropped without a word.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::ADDRESS_PROTOCOL;
use super::sys::Mac;

/// How often everything is read again even if no event came.
const REFRESH: Duration = Duration::from_secs(10);
/// How long a dump may take before the connection is given up and made anew.
const DUMP_TIMEOUT: Duration = Duration::from_secs(10);
/// Kernel buffer for events: thousands of address changes in one burst.
const EVENT_BUFFER: usize = 8 << 20;

/// Every interface of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    by_index: BTreeMap<u32, Link>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it; a recreated interface of the same name has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// Switched on (`IFF_UP`) and with carrier (`IFF_LOWER_UP`): a packet can leave it.
    pub up: bool,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<LinkAddress>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// The address and its prefix length.
    pub address: IpNet,
    /// Whether vipd put it there (`IFA_PROTO`).
    pub ours: bool,
    /// Whether it is a secondary address of its subnet.
    pub secondary: bool,
}

impl Links {
    /// The interface of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.by_index.values().find(|link| link.name == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// Takes one message of the kernel in. Returns whether anything changed.
    fn apply(&mut self, message: &RouteNetlinkMessage) -> bool {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "all other messages are not about links"
        )]
        match message {
            RouteNetlinkMessage::NewLink(message) => self.new_link(message),
            // A port that leaves a bridge is deleted from the bridge's own list, not from the host.
            RouteNetlinkMessage::DelLink(message)
                if message.header.interface_family == AddressFamily::Bridge =>
            {
                false
            }
            RouteNetlinkMessage::DelLink(message) => {
                self.by_index.remove(&message.header.index).is_some()
            }
            RouteNetlinkMessage::NewAddress(message) => self.new_address(message),
            RouteNetlinkMessage::DelAddress(message) => self.delete_address(message),
            _ => false,
        }
    }

    fn new_link(&mut self, message: &LinkMessage) -> bool {
        let (mut name, mut mac) = (None, None);
        for attribute in &message.attributes {
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "other attributes do not matter here"
            )]
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value.clone()),
                LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
                _ => {}
            }
        }
        let index = message.header.index;
        let up = message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp);
        let known = self.by_index.get(&index);
        // A bridge reports its ports' events in its own family, without all attributes.
        let Some(name) = name.or_else(|| known.map(|link| link.name.clone())) else {
            return false;
        };
        let mac = mac.or_else(|| known.and_then(|link| link.mac));
        let addresses = known.map(|link| link.addresses.clone()).unwrap_or_default();
        let link = Link {
            index,
            name,
            mac,
            up,
            addresses,
        };
        if known == Some(&link) {
            return false;
        }
        self.by_index.insert(index, link);
        true
    }

    fn new_address(&mut self, message: &AddressMessage) -> bool {
        let Some((address, link)) = self.locate(message) else {
            return false;
        };
        match link
            .addresses
            .iter_mut()
            .find(|known| known.address == address.address)
        {
            Some(known) if *known == address => false,
            Some(known) => {
                *known = address;
                true
            }
            None => {
                link.addresses.push(address);
                true
            }
        }
    }

    fn delete_address(&mut self, message: &AddressMessage) -> bool {
        let Some((address, link)) = self.locate(message) else {
            return false;
        };
        let before = link.addresses.len();
        link.addresses
            .retain(|known| known.address != address.address);
        link.addresses.len() != before
    }

    fn locate(&mut self, message: &AddressMessage) -> Option<(LinkAddress, &mut Link)> {
        let address = decode_address(message)?;
        Some((address, self.by_index.get_mut(&message.header.index)?))
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<T: IntoIterator<Item = Link>>(links: T) -> Links {
        let by_index = links.into_iter().map(|link| (link.index, link)).collect();
        Links { by_index }
    }
}

impl Link {
    /// The IPv4 address that adverts are sent from: the first one that is not a virtual address
    /// (RFC 3768 §5.2.1, "primary IP address").
    pub fn primary_v4(&self, is_virtual: impl Fn(IpAddr) -> bool) -> Option<Ipv4Addr> {
        let candidates = || {
            self.addresses
                .iter()
                .filter_map(|address| match address.address {
                    IpNet::V4(net) if !address.ours && !is_virtual(net.addr().into()) => {
                        Some((address.secondary, net.addr()))
                    }
                    IpNet::V4(_) | IpNet::V6(_) => None,
                })
        };
        let primary = candidates().find(|(secondary, _)| !secondary);
        primary
            .or_else(|| candidates().next())
            .map(|(_, address)| address)
    }

    /// The first IPv4 address of any kind: what an address owner has left to send from when its
    /// only address is the virtual one.
    #[must_use]
    pub fn any_v4(&self) -> Option<Ipv4Addr> {
        self.addresses
            .iter()
            .find_map(|address| match address.address {
                IpNet::V4(net) => Some(net.addr()),
                IpNet::V6(_) => None,
            })
    }

    /// The IPv6 address that adverts are sent from: the first link-local one that is not a virtual
    /// address (RFC 9568 §5.1.2.1).
    pub fn primary_v6(&self, is_virtual: impl Fn(IpAddr) -> bool) -> Option<Ipv6Addr> {
        self.link_local()
            .find(|(ours, ip)| !ours && !is_virtual((*ip).into()))
            .map(|(_, ip)| ip)
    }

    /// The first link-local IPv6 address of any kind, for an address owner.
    #[must_use]
    pub fn any_link_local(&self) -> Option<Ipv6Addr> {
        self.link_local().next().map(|(_, ip)| ip)
    }

    /// Whether it has that address.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|known| known.address.addr() == ip)
    }

    /// The link-local IPv6 addresses, and whether vipd put each there.
    fn link_local(&self) -> impl Iterator<Item = (bool, Ipv6Addr)> {
        self.addresses
            .iter()
            .filter_map(|known| match known.address {
                IpNet::V6(net) if net.addr().is_unicast_link_local() => {
                    Some((known.ours, net.addr()))
                }
                IpNet::V4(_) | IpNet::V6(_) => None,
            })
    }
}

/// Keeps `links` true for as long as anybody listens. The first picture is there when it returns.
///
/// # Errors
///
/// The first dump failed: without it nothing is known.
pub async fn watch() -> io::Result<(watch::Receiver<Arc<Links>>, JoinHandle<()>)> {
    let mut monitor = Monitor::start().await?;
    let (sender, receiver) = watch::channel(Arc::new(monitor.links.clone()));
    let task = tokio::spawn(async move {
        loop {
            match monitor.follow(&sender).await {
                Ended::NobodyListens => return,
                Ended::Broken(why) => warn!(why, "the netlink monitor is opened again"),
            }
            monitor = loop {
                match Monitor::start().await {
                    Ok(monitor) => break monitor,
                    Err(error) => error!(%error, "reading the interfaces failed"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            publish(&sender, &monitor.links);
        }
    });
    Ok((receiver, task))
}

enum Ended {
    NobodyListens,
    Broken(&'static str),
}

type Messages = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

struct Monitor {
    links: Links,
    events: Messages,
    requests: Handle,
}

impl Monitor {
    async fn start() -> io::Result<Monitor> {
        use rtnetlink::sys::AsyncSocket;

        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (mut connection, _, events) = rtnetlink::new_multicast_connection(&groups)?;
        // A kernel that grants less leaves a smaller buffer; losses are noticed and healed.
        if let Err(error) = connection
            .socket_mut()
            .socket_mut()
            .set_rx_buf_sz(EVENT_BUFFER)
        {
            warn!(%error, "the netlink event buffer stays small");
        }
        tokio::spawn(connection);
        // Its own connection, so that the answers to requests do not wait behind events.
        let (connection, requests, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let events = events.map(|(message, _)| message).boxed();
        let mut monitor = Monitor {
            links: Links::default(),
            events,
            requests,
        };
        monitor.refresh().await?;
        Ok(monitor)
    }

    async fn follow(&mut self, sender: &watch::Sender<Arc<Links>>) -> Ended {
        let mut refresh = tokio::time::interval_at(tokio::time::Instant::now() + REFRESH, REFRESH);
        loop {
            let mut changed = false;
            let mut lost = false;
            tokio::select! {
                () = sender.closed() => return Ended::NobodyListens,
                _ = refresh.tick() => lost = true,
                event = self.events.next() => match event {
                    None => return Ended::Broken("the kernel closed it"),
                    Some(message) => self.take(&message, &mut changed, &mut lost),
                },
            }
            // Everything that waits is taken before anybody is told: a burst is one change.
            while let Some(Some(message)) = self.events.next().now_or_never() {
                self.take(&message, &mut changed, &mut lost);
            }
            if lost {
                match self.refresh().await {
                    Ok(different) => changed |= different,
                    Err(_) => return Ended::Broken("a dump failed"),
                }
            }
            if changed {
                publish(sender, &self.links);
            }
        }
    }

    fn take(
        &mut self,
        message: &NetlinkMessage<RouteNetlinkMessage>,
        changed: &mut bool,
        lost: &mut bool,
    ) {
        match &message.payload {
            NetlinkPayload::InnerMessage(inner) => *changed |= self.links.apply(inner),
            NetlinkPayload::Overrun(_) => *lost = true,
            NetlinkPayload::Done(_) | NetlinkPayload::Error(_) | NetlinkPayload::Noop => {}
            // `NetlinkPayload` may get further variants; none of them carries a link.
            _ => {}
        }
    }

    /// Reads everything anew. Returns whether it differs from what was known.
    async fn refresh(&mut self) -> io::Result<bool> {
        let links = tokio::time::timeout(DUMP_TIMEOUT, dump(&self.requests))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer from rtnetlink"))?
            .map_err(io::Error::other)?;
        let changed = links != self.links;
        self.links = links;
        Ok(changed)
    }
}

fn publish(sender: &watch::Sender<Arc<Links>>, links: &Links) {
    sender.send_replace(Arc::new(links.clone()));
}

/// Reads every interface and address once.
///
/// # Errors
///
/// The kernel's.
pub async fn dump(handle: &Handle) -> Result<Links, rtnetlink::Error> {
    let mut links = Links::default();
    let mut stream = handle.link().get().execute();
    while let Some(message) = stream.try_next().await? {
        links.new_link(&message);
    }
    let mut stream = handle.address().get().execute();
    while let Some(message) = stream.try_next().await? {
        links.new_address(&message);
    }
    Ok(links)
}

fn decode_address(message: &AddressMessage) -> Option<LinkAddress> {
    let (mut local, mut address, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "other attributes do not matter here"
        )]
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == ADDRESS_PROTOCOL,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has only the first.
    let prefix = message.header.prefix_len;
    let address = match local.or(address)? {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new(ip, prefix).ok()?),
        IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new(ip, prefix).ok()?),
    };
    let secondary = message.header.flags.contains(AddressHeaderFlags::Secondary);
    Some(LinkAddress {
        address,
        ours,
        secondary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adverts_come_from_the_first_address_that_is_not_virtual() {
        check(
            &[("10.0.0.9/24", false, false), ("10.0.0.1/24", false, false)],
            Some("10.0.0.1"),
        );
    }

    #[test]
    fn an_address_with_our_mark_is_virtual_whatever_the_configuration_says() {
        check(
            &[("10.0.0.8/24", true, false), ("10.0.0.1/24", false, false)],
            Some("10.0.0.1"),
        );
    }

    #[test]
    fn a_primary_address_comes_before_a_secondary_one() {
        check(
            &[("10.0.0.2/24", false, true), ("10.0.0.1/24", false, false)],
            Some("10.0.0.1"),
        );
        check(&[("10.0.0.2/24", false, true)], Some("10.0.0.2"));
    }

    #[test]
    fn an_interface_with_virtual_and_ipv6_addresses_only_has_none_to_send_from() {
        check(
            &[
                ("10.0.0.9/24", false, false),
                ("2001:db8::1/64", false, false),
            ],
            None,
        );
    }

    /// 10.0.0.9 is virtual.
    fn check(addresses: &[(&str, bool, bool)], primary: Option<&str>) {
        let addresses = addresses
            .iter()
            .map(|(address, ours, secondary)| LinkAddress {
                address: address.parse().unwrap(),
                ours: *ours,
                secondary: *secondary,
            });
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            up: true,
            addresses: addresses.collect(),
        };
        let is_virtual = |ip: IpAddr| ip.to_string() == "10.0.0.9";
        assert_eq!(
            link.primary_v4(is_virtual),
            primary.map(|ip| ip.parse().unwrap())
        );
    }
}
