//! Puts virtual addresses on interfaces and takes them off.
//!
//! Level-triggered: what should be there ([`Wanted`]) and what is there ([`Links`]) are compared
//! whenever one of them changes, and the difference is sent to the kernel. An address that somebody
//! deletes while it is wanted is a difference like any other, so it comes back at once.
//!
//! An address belongs to vipd if it carries vipd's mark (`IFA_PROTO` 112) or if the configuration
//! names it as a virtual address that is not the owner's. All others are never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressProtocol};
use rtnetlink::{AddressMessageBuilder, Handle};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::ADDRESS_PROTOCOL;
use super::announcer::Order;
use super::links::{self, Link, Links};
use crate::config::{Garp, VirtualAddress};

/// How long the kernel may take to answer one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// When a refused request is tried again, and how long the kernel's event about an address that it
/// acknowledged may take.
const RETRY: Duration = Duration::from_secs(1);
/// At most this often is one address repaired, so that a program which keeps deleting it does not
/// get all of the processor.
const REPAIR_PACE: Duration = Duration::from_millis(50);

/// Which addresses every configured virtual router has, and whether it holds them now.
pub type Wanted = BTreeMap<String, RouterAddresses>;

/// The addresses of one virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterAddresses {
    /// All of them.
    pub addresses: Vec<VirtualAddress>,
    /// Whether this host holds them (it is master).
    pub hold: bool,
    /// Whether they are the host's own (priority 255): then they stay when it is not master.
    pub owner: bool,
    /// Goes up with each time they must be announced.
    pub announce: u64,
    /// How they are announced.
    pub garp: Garp,
}

/// What was done, for the log, the events and the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Somebody took a wanted address away; it is back.
    Repaired {
        /// Where.
        interface: String,
        /// What.
        address: IpNet,
    },
    /// It cannot be had; tried again every second. Told once for each reason.
    Refused {
        /// Where.
        interface: String,
        /// What.
        address: IpNet,
        /// Why.
        error: String,
    },
    /// What was refused before is there now.
    Mended {
        /// Where.
        interface: String,
        /// What.
        address: IpNet,
    },
    /// Addresses were put on interfaces or taken off them because that is newly wanted.
    Changed {
        /// How many were added.
        added: usize,
        /// How many were removed.
        removed: usize,
    },
}

/// Starts the task; it ends when `wanted` is dropped.
///
/// # Errors
///
/// No netlink socket.
pub fn start(
    links: watch::Receiver<Arc<Links>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    announcer: mpsc::UnboundedSender<Order>,
    reports: impl Fn(Report) + Send + Sync + 'static,
) -> io::Result<JoinHandle<()>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let addresses = Addresses {
        handle,
        links,
        wanted,
        announcer,
        reports: Box::new(reports),
        installed: BTreeMap::new(),
        complaints: BTreeMap::new(),
        announced: BTreeMap::new(),
    };
    Ok(tokio::spawn(addresses.run()))
}

type Place = (String, IpNet);

struct Addresses {
    handle: Handle,
    links: watch::Receiver<Arc<Links>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    announcer: mpsc::UnboundedSender<Order>,
    reports: Box<dyn Fn(Report) + Send + Sync>,
    /// What the kernel acknowledged, when, and whether its event has been seen since.
    installed: BTreeMap<Place, Installed>,
    /// What cannot be had now, and why.
    complaints: BTreeMap<Place, String>,
    /// The `announce` of each holding router that was last obeyed.
    announced: BTreeMap<String, u64>,
}

struct Installed {
    at: Instant,
    seen: bool,
    /// Whether it is ours to remove: not an owner's own address.
    ours: bool,
}

impl Addresses {
    async fn run(mut self) {
        let mut retry_at = None;
        loop {
            let timer = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let alive = tokio::select! {
                changed = self.links.changed() => changed.is_ok(),
                changed = self.wanted.changed() => changed.is_ok(),
                () = timer => true,
            };
            if !alive {
                return self.finish().await;
            }
            retry_at = self.reconcile().await;
        }
    }

    /// The last pass: nobody will say more. It asks the kernel itself, because what was added a
    /// moment ago may not be in the picture yet.
    async fn finish(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow());
        let hold: BTreeSet<Place> = wanted
            .values()
            .filter(|r| r.hold)
            .flat_map(places)
            .collect();
        match links::dump(&self.handle).await {
            Ok(links) => {
                let forgotten = self.forget(&links, &hold);
                self.remove(&links, &wanted, &hold, forgotten).await;
            }
            Err(error) => warn!(%error, "reading the addresses failed"),
        }
    }

    /// Makes one pass. Returns when the next one is due if nothing changes before.
    async fn reconcile(&mut self) -> Option<Instant> {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let links = Arc::clone(&self.links.borrow_and_update());
        let hold: BTreeSet<Place> = wanted
            .values()
            .filter(|r| r.hold)
            .flat_map(places)
            .collect();
        let forgotten = self.forget(&links, &hold);
        self.note_what_is_there(&links, &wanted, &hold);

        let (mut added, mut repaired) = (BTreeSet::new(), 0);
        let (mut refused, mut retry_at) = (false, None);
        for place in &hold {
            let Some(link) = links.named(&place.0) else {
                self.refused(place, "there is no such interface");
                continue;
            };
            if is_there(link, place.1) {
                self.mended(place);
                continue;
            }
            if let Some(due) = self.not_before(place) {
                retry_at = earliest(retry_at, due);
                continue;
            }
            let repair = self.installed.contains_key(place);
            match self.add(link.index, place.1).await {
                Ok(()) => {
                    let now = Instant::now();
                    let installed = Installed {
                        at: now,
                        seen: false,
                        ours: true,
                    };
                    self.installed.insert(place.clone(), installed);
                    self.mended(place);
                    added.insert(place.clone());
                    retry_at = earliest(retry_at, now + RETRY);
                    if repair {
                        repaired += 1;
                        let (interface, address) = place.clone();
                        (self.reports)(Report::Repaired { interface, address });
                    }
                }
                Err(error) => {
                    refused = true;
                    self.failed(place, &error);
                }
            }
            // A router that loses its role while thousands of addresses are being added must not
            // wait for the last of them.
            if self.wanted.has_changed().unwrap_or(false) {
                return Some(Instant::now());
            }
        }
        self.announce(&wanted, &links, &added);
        let (removed, complete) = self.remove(&links, &wanted, &hold, forgotten).await;
        refused |= !complete;
        let added = added.len() - repaired;
        if added > 0 || removed > 0 {
            (self.reports)(Report::Changed { added, removed });
        }
        if refused {
            earliest(retry_at, Instant::now() + RETRY)
        } else {
            retry_at
        }
    }

    /// Takes what is not held any more out of the memory of what was installed. Returns those that
    /// are ours to remove, whether or not they are in the picture, marked, or still configured.
    fn forget(&mut self, links: &Links, hold: &BTreeSet<Place>) -> Vec<(u32, Place)> {
        let mut forgotten = Vec::new();
        self.installed.retain(|place, installed| {
            let keep = hold.contains(place);
            if let Some(link) = links.named(&place.0).filter(|_| !keep && installed.ours) {
                forgotten.push((link.index, place.clone()));
            }
            keep
        });
        let given_up = self
            .complaints
            .keys()
            .filter(|place| !hold.contains(*place));
        for place in given_up.cloned().collect::<Vec<_>>() {
            self.mended(&place);
        }
        forgotten
    }

    /// Brings the memory of what was installed in step with what the kernel shows.
    fn note_what_is_there(&mut self, links: &Links, wanted: &Wanted, hold: &BTreeSet<Place>) {
        let owned: BTreeSet<Place> = wanted
            .values()
            .filter(|r| r.owner)
            .flat_map(places)
            .collect();
        for place in hold {
            let there = links
                .named(&place.0)
                .is_some_and(|link| is_there(link, place.1));
            if there {
                let found = Installed {
                    at: Instant::now(),
                    seen: true,
                    ours: !owned.contains(place),
                };
                self.installed.entry(place.clone()).or_insert(found).seen = true;
            } else if links.named(&place.0).is_none() {
                // The interface itself is gone: its return is not a repair.
                self.installed.remove(place);
            }
        }
    }

    /// Until when an address that is missing is left alone: its event has not come yet, or it was
    /// repaired a moment ago.
    fn not_before(&self, place: &Place) -> Option<Instant> {
        let installed = self.installed.get(place)?;
        let due = installed.at + if installed.seen { REPAIR_PACE } else { RETRY };
        (due > Instant::now()).then_some(due)
    }

    fn announce(&mut self, wanted: &Wanted, links: &Links, added: &BTreeSet<Place>) {
        for (router, addresses) in wanted {
            if !addresses.hold {
                if self.announced.remove(router).is_some() {
                    let _ = self.announcer.send(Order::Withdraw {
                        router: router.clone(),
                    });
                }
                continue;
            }
            let asked = self.announced.get(router) != Some(&addresses.announce);
            if !asked && !places(addresses).any(|place| added.contains(&place)) {
                continue;
            }
            let in_place = places(addresses).filter(|place| {
                self.installed.contains_key(place)
                    || links
                        .named(&place.0)
                        .is_some_and(|link| is_there(link, place.1))
            });
            let in_place: Vec<_> = in_place
                .filter_map(|(interface, net)| match net.addr() {
                    IpAddr::V4(address) => Some((interface, address)),
                    IpAddr::V6(_) => None,
                })
                .collect();
            if in_place.is_empty() {
                continue;
            }
            self.announced.insert(router.clone(), addresses.announce);
            let (router, garp) = (router.clone(), addresses.garp);
            let _ = self.announcer.send(Order::Announce {
                router,
                addresses: in_place,
                garp,
            });
        }
        let gone = |router: &String| !wanted.contains_key(router);
        for router in self
            .announced
            .keys()
            .filter(|r| gone(r))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.announced.remove(&router);
            let _ = self.announcer.send(Order::Withdraw { router });
        }
    }

    /// Removes what should not be there. Returns how many, and whether that was all.
    async fn remove(
        &mut self,
        links: &Links,
        wanted: &Wanted,
        hold: &BTreeSet<Place>,
        forgotten: Vec<(u32, Place)>,
    ) -> (usize, bool) {
        let (mut removed, mut complete) = (0, true);
        let mut targets: BTreeSet<(u32, Place)> = forgotten.into_iter().collect();
        targets.extend(unwanted(links, wanted, hold));
        for (index, place) in targets {
            match delete(&self.handle, index, place.1).await {
                Ok(()) => removed += 1,
                Err(error) => {
                    complete = false;
                    self.failed(&place, &error);
                }
            }
        }
        (removed, complete)
    }

    async fn add(&self, index: u32, address: IpNet) -> Result<(), Failure> {
        let mut request = self
            .handle
            .address()
            .add(index, address.addr(), address.prefix_len());
        request
            .message_mut()
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::from(
                ADDRESS_PROTOCOL,
            )));
        // EEXIST: it is there already, which is all that is wanted.
        execute(request.execute(), &[libc::EEXIST]).await
    }

    /// Reports why an address cannot be had, unless that was said already.
    fn refused(&mut self, place: &Place, error: &str) {
        let said = self.complaints.insert(place.clone(), error.to_owned());
        if said.as_deref() != Some(error) {
            let ((interface, address), error) = (place.clone(), error.to_owned());
            (self.reports)(Report::Refused {
                interface,
                address,
                error,
            });
        }
    }

    fn mended(&mut self, place: &Place) {
        if self.complaints.remove(place).is_some() {
            let (interface, address) = place.clone();
            (self.reports)(Report::Mended { interface, address });
        }
    }

    /// A request did not succeed. If it was not the kernel's word, the connection is made anew: it
    /// does not mend itself.
    fn failed(&mut self, place: &Place, failure: &Failure) {
        self.refused(place, &failure.to_string());
        if let Failure::Broken(_) = failure {
            match rtnetlink::new_connection() {
                Ok((connection, handle, _)) => {
                    tokio::spawn(connection);
                    self.handle = handle;
                }
                Err(error) => warn!(%error, "no netlink socket"),
            }
        }
    }
}

/// Why a request did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// The kernel said no.
    #[error("{0}")]
    Refused(String),
    /// The kernel said nothing, or nothing that could be understood.
    #[error("{0}")]
    Broken(String),
}

/// Every address of vipd's that is on an interface and should not be.
#[must_use]
pub fn unwanted(
    links: &Links,
    wanted: &Wanted,
    hold: &BTreeSet<(String, IpNet)>,
) -> Vec<(u32, (String, IpNet))> {
    let managed: BTreeSet<Place> = wanted
        .values()
        .filter(|r| !r.owner)
        .flat_map(places)
        .collect();
    let owned: BTreeSet<Place> = wanted
        .values()
        .filter(|r| r.owner)
        .flat_map(places)
        .collect();
    let has_own = |link: &Link| {
        let own = |ip| !managed.iter().any(|(_, net)| net.addr() == ip);
        link.addresses
            .iter()
            .any(|a| a.address.addr().is_ipv4() && !a.ours && own(a.address.addr()))
    };
    let mut found = Vec::new();
    for link in links.iter() {
        for address in &link.addresses {
            let place = (link.name.clone(), address.address);
            // What the owner has without our mark is the host's own, whatever else names it.
            // Neither is the only address of an interface taken: that is the host's own, put into the
            // configuration by mistake, and a fault there.
            let unmarked = managed.contains(&place) && !owned.contains(&place) && has_own(link);
            if (address.ours || unmarked) && !hold.contains(&place) {
                found.push((link.index, place));
            }
        }
    }
    found
}

/// Takes one address off an interface; one that is gone already is no error.
///
/// # Errors
///
/// The kernel's, in words.
pub async fn delete(handle: &Handle, index: u32, address: IpNet) -> Result<(), Failure> {
    let message = match address {
        IpNet::V4(net) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
    };
    // EADDRNOTAVAIL: somebody was faster. ENODEV: the interface is gone, and its addresses with it.
    let gone = [libc::EADDRNOTAVAIL, libc::ENODEV];
    execute(handle.address().del(message).execute(), &gone).await
}

pub(super) async fn execute(
    request: impl Future<Output = Result<(), rtnetlink::Error>>,
    fine: &[i32],
) -> Result<(), Failure> {
    // An acknowledgement lost in an overrun would be waited for without end.
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Err(_) => {
            let text = format!("no answer from the kernel within {REQUEST_TIMEOUT:?}");
            Err(Failure::Broken(text))
        }
        Ok(Ok(())) => Ok(()),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => {
            if fine.contains(&message.raw_code().saturating_abs()) {
                return Ok(());
            }
            Err(Failure::Refused(message.to_io().to_string()))
        }
        Ok(Err(error)) => Err(Failure::Broken(error.to_string())),
    }
}

fn places(router: &RouterAddresses) -> impl Iterator<Item = (String, IpNet)> {
    router
        .addresses
        .iter()
        .map(|address| (address.interface.clone(), address.address))
}

fn is_there(link: &Link, address: IpNet) -> bool {
    link.addresses.iter().any(|known| known.address == address)
}

fn earliest(at: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(at.map_or(other, |at| at.min(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::links::LinkAddress;

    #[test]
    fn an_address_that_nobody_configured_and_nobody_marked_is_left_alone() {
        check(&[("10.0.0.1/24", false)], false, false, &[]);
    }

    #[test]
    fn a_virtual_address_that_is_not_held_goes_marked_or_not() {
        let own = ("10.0.0.1/24", false);
        check(
            &[own, ("10.0.0.9/24", false)],
            false,
            false,
            &["10.0.0.9/24"],
        );
        check(
            &[own, ("10.0.0.9/24", true)],
            false,
            false,
            &["10.0.0.9/24"],
        );
        check(&[own, ("10.0.0.9/24", true)], false, true, &[]);
    }

    #[test]
    fn the_only_address_of_an_interface_stays_unless_it_has_our_mark() {
        check(&[("10.0.0.9/24", false)], false, false, &[]);
        check(&[("10.0.0.9/24", true)], false, false, &["10.0.0.9/24"]);
    }

    #[test]
    fn an_address_with_our_mark_that_is_not_configured_any_more_goes() {
        check(
            &[("10.0.0.8/24", true), ("10.0.0.9/24", true)],
            false,
            true,
            &["10.0.0.8/24"],
        );
    }

    #[test]
    fn the_owners_address_stays_unless_it_has_our_mark() {
        check(&[("10.0.0.9/24", false)], true, false, &[]);
        check(&[("10.0.0.9/24", true)], true, false, &["10.0.0.9/24"]);
    }

    #[test]
    fn the_same_address_with_another_prefix_length_is_another_one() {
        check(&[("10.0.0.9/32", false)], false, false, &[]);
        check(&[("10.0.0.9/32", true)], false, true, &["10.0.0.9/32"]);
    }

    /// The one virtual router has 10.0.0.9/24 on eth0.
    fn check(present: &[(&str, bool)], owner: bool, hold: bool, unwanted: &[&str]) {
        let addresses = present.iter().map(|(address, ours)| LinkAddress {
            address: address.parse().unwrap(),
            ours: *ours,
            secondary: false,
        });
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            up: true,
            addresses: addresses.collect(),
        };
        let address = VirtualAddress {
            address: "10.0.0.9/24".parse().unwrap(),
            interface: "eth0".to_owned(),
            advertise: true,
            label: None,
            scope: crate::config::Scope::Global,
            prefix_route: true,
        };
        let garp = Garp {
            repeat: 5,
            delay: Duration::ZERO,
            refresh: Duration::ZERO,
        };
        let router = RouterAddresses {
            addresses: vec![address],
            hold,
            owner,
            announce: 0,
            garp,
        };
        let held = if hold {
            places(&router).collect()
        } else {
            BTreeSet::new()
        };
        let wanted = Wanted::from([("web".to_owned(), router)]);
        let found = super::unwanted(&[link].into_iter().collect(), &wanted, &held);
        let found: Vec<String> = found.iter().map(|(_, place)| place.1.to_string()).collect();
        assert_eq!(found, unwanted);
    }
}
