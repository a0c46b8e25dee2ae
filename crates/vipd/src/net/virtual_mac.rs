//! The macvlans of virtual routers with a virtual MAC (RFC 5798 §7.3).
//!
//! What a user sees: a macvlan of mode private on the router's interface, named as configured, with
//! the MAC 00:00:5e:00:01:VRID (IPv6: 00:00:5e:00:02:VRID) and the alias `vipd`. It is there as long
//! as the router is configured and its interface exists, and up only while the router holds its
//! addresses, so that the switch learns the MAC from the master alone. It has no address but virtual
//! ones (`addrgenmode none`: two directors would have the same link-local address).
//!
//! Level-triggered: the links of the kernel are compared with [`Wanted`] whenever either changes and
//! every few seconds. Whatever has our alias and a virtual MAC and is not wanted goes, also after a
//! crash.
//!
//! Sysctls, found by trying in namespaces (`tests/netdev`):
//! * on the router's interface, given back afterwards: `arp_ignore` 1, or it answers for the virtual
//!   addresses with its own MAC; `arp_announce` 2, or its ARP requests for clients carry a virtual
//!   address beside its own MAC, and the clients learn that.
//! * on the macvlan: the same two (or it answers for the host's own addresses); `arp_filter` 0 and
//!   `rp_filter` 0, because the route to the clients is by the router's interface. If `rp_filter` of
//!   `all` is set, then 2: the kernel takes the greater of the two. `promote_secondaries`, or the
//!   removal of one virtual address takes others with it. IPv6 off unless it carries IPv6, and then
//!   without router advertisements.

mod macvlan;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rtnetlink::Handle;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;
use vrrp::Family;

use super::addresses::{Failure, bytes, request};
use super::links::Links;
use super::sys::Mac;
use super::sysctl::{self, Remembered};
use crate::config::{VirtualAddress, Vrrp};
use macvlan::{Found, connect, create, delete, dump, mark, name_of, switch};

/// How often everything is looked at even if nothing changed.
const LOOK: Duration = Duration::from_secs(5);
/// When what was refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What every router with a virtual MAC should have, by the router's name.
pub type Wanted = BTreeMap<String, VirtualMac>;

/// The macvlan of one virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualMac {
    /// Its name.
    pub name: String,
    /// The interface below it.
    pub interface: String,
    /// Decides its MAC.
    pub family: Family,
    /// Decides its MAC.
    pub vrid: u8,
    /// Whether it carries an IPv6 address.
    pub ipv6: bool,
    /// Whether the router holds its addresses.
    pub up: bool,
}

impl VirtualMac {
    /// That of a router, if it is to have one.
    #[must_use]
    pub fn of(vrrp: &Vrrp, hold: bool) -> Option<VirtualMac> {
        let name = vrrp.virtual_mac.clone()?;
        let carries =
            |address: &VirtualAddress| address.interface == name && address.ip().is_ipv6();
        Some(VirtualMac {
            interface: vrrp.interface.clone(),
            family: vrrp.parameters.family,
            vrid: vrrp.parameters.vrid,
            ipv6: vrrp.parameters.family == Family::V6 || vrrp.addresses.iter().any(carries),
            up: hold,
            name,
        })
    }

    /// The virtual MAC (RFC 5798 §7.3).
    #[must_use]
    pub fn mac(&self) -> Mac {
        let family = match self.family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        [0, 0, 0x5e, 0, family, self.vrid]
    }
}

/// What was done, for the log, the events and the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Somebody had deleted or changed a macvlan; it is as it should be.
    Repaired {
        /// Whose.
        router: String,
        /// Which.
        name: String,
    },
    /// It cannot be had, or not as it should be; tried again every second. Told once for each reason.
    Refused {
        /// Whose.
        router: String,
        /// Which.
        name: String,
        /// Why.
        error: String,
    },
    /// What was refused before is there now.
    Mended {
        /// Whose.
        router: String,
        /// Which.
        name: String,
    },
    /// Macvlans were made or removed because that is newly wanted.
    Changed {
        /// How many were made.
        created: usize,
        /// How many were removed.
        removed: usize,
    },
    /// What interfaces had before could not be given back, something could not be removed, or the
    /// host's own settings are in the way; tried again every second. Told once for each reason.
    Trouble {
        /// What and why.
        error: String,
    },
}

/// Starts the task; it removes everything and ends when `wanted` is dropped.
///
/// # Errors
///
/// No netlink socket.
pub fn start(
    links: watch::Receiver<Arc<Links>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    state_dir: &Path,
    reports: impl Fn(Report) + Send + Sync + 'static,
) -> io::Result<JoinHandle<()>> {
    let (remembered, opened) = Remembered::open(state_dir);
    let mut worker = Worker {
        handle: connect()?,
        links,
        wanted,
        remembered,
        reports: Box::new(reports),
        made: BTreeMap::new(),
        complaints: BTreeMap::new(),
        trouble: None,
    };
    if let Err(error) = opened {
        worker.trouble(Some(error.to_string()));
    }
    Ok(tokio::spawn(worker.run()))
}

/// Removes the macvlans of a dead daemon and gives the sysctls back. Returns what was done, a line
/// each.
///
/// # Errors
///
/// The kernel's, or the file's.
pub async fn release(wanted: &Wanted, state_dir: &Path) -> Result<Vec<String>, String> {
    let handle = connect().map_err(|error| error.to_string())?;
    let found = dump(&handle).await.map_err(|error| error.to_string())?;
    let configured = |link: &Found| {
        wanted
            .values()
            .any(|w| w.name == link.name && link.mac == Some(w.mac()))
    };
    let mut done = Vec::new();
    for link in found
        .iter()
        .filter(|l| l.is_ours() || (l.macvlan && configured(l)))
    {
        delete(&handle, link.index)
            .await
            .map_err(|error| format!("removing {}: {error}", link.name))?;
        done.push(format!("removed the macvlan {}", link.name));
    }
    let (mut remembered, opened) = Remembered::open(state_dir);
    opened.map_err(|error| error.to_string())?;
    let restored = remembered.restore(|_| false, |index| name_of(&found, index));
    done.extend(restored.map_err(|error| error.to_string())?);
    Ok(done)
}

/// The netlink message that removes the macvlan of that index.
pub(crate) fn removal(index: u32) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    bytes(request(RouteNetlinkMessage::DelLink(message), 0))
}

struct Worker {
    handle: Handle,
    links: watch::Receiver<Arc<Links>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    remembered: Remembered,
    reports: Box<dyn Fn(Report) + Send + Sync>,
    /// The macvlans that are there as they should be, by router: its name, its MAC and the index of
    /// what is below.
    made: BTreeMap<String, (String, Mac, u32)>,
    /// What cannot be had now, and why: by router, with the name of the macvlan.
    complaints: BTreeMap<String, (String, String)>,
    trouble: Option<String>,
}

impl Worker {
    async fn run(mut self) {
        let mut seen = None;
        let mut next = tokio::time::Instant::now();
        loop {
            let changed = tokio::select! {
                changed = self.wanted.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return self.finish().await,
                },
                changed = self.links.changed() => match changed {
                    // Most events are about addresses, thousands of them in a takeover.
                    Ok(()) => seen != Some(outline(&self.links.borrow_and_update())),
                    Err(_) => return self.finish().await,
                },
                () = tokio::time::sleep_until(next) => true,
            };
            if changed {
                seen = Some(outline(&self.links.borrow_and_update()));
                let wanted = Arc::clone(&self.wanted.borrow_and_update());
                let complete = self.reconcile(&wanted).await;
                next = tokio::time::Instant::now() + if complete { LOOK } else { RETRY };
            }
        }
    }

    /// The last pass: nobody will say more.
    async fn finish(&mut self) {
        self.reconcile(&Wanted::new()).await;
    }

    /// Makes one pass. Returns whether all is as it should be.
    async fn reconcile(&mut self, wanted: &Wanted) -> bool {
        let found = match dump(&self.handle).await {
            Ok(found) => found,
            Err(error) => {
                self.failed(&error);
                self.trouble(Some(format!("reading the interfaces: {error}")));
                return false;
            }
        };
        let mut trouble = None;
        // All removals first: two macvlans with one MAC cannot both be up.
        let (mut kept, mut created, mut removed) = (Vec::new(), 0, 0);
        for link in &found {
            let user = wanted.iter().find(|(_, w)| w.name == link.name);
            let ours = link.is_ours() || user.is_some_and(|(_, w)| link.is_named_and_addressed(w));
            if !ours || user.is_some_and(|(_, w)| link.is_right(w, &found)) {
                kept.push(link.clone());
                continue;
            }
            match delete(&self.handle, link.index).await {
                Ok(()) if user.is_some() => {}
                Ok(()) => removed += 1,
                Err(error) => {
                    self.failed(&error);
                    trouble = Some(format!("removing {}: {error}", link.name));
                    kept.push(link.clone());
                }
            }
        }
        self.forget(wanted);
        for (router, mac) in wanted {
            let known = self.made.get(router).cloned();
            match self.provide(mac, &kept).await {
                Ok((below, touched)) => {
                    let now = (mac.name.clone(), mac.mac(), below);
                    if touched && known.as_ref() == Some(&now) {
                        let (router, name) = (router.clone(), mac.name.clone());
                        (self.reports)(Report::Repaired { router, name });
                    } else if touched {
                        created += 1;
                    }
                    self.made.insert(router.clone(), now);
                    self.mended(router);
                }
                Err(error) => self.refused(router, mac, error),
            }
        }
        if created > 0 || removed > 0 {
            (self.reports)(Report::Changed { created, removed });
        }
        // After the macvlans: until they are down, ARP needs what is given back here.
        if let Err(error) = self.settle_interfaces(wanted, &found) {
            trouble = Some(error.to_string());
        }
        if !wanted.is_empty() {
            trouble = trouble.or_else(silenced);
        }
        let complete = trouble.is_none() && self.complaints.is_empty();
        self.trouble(trouble);
        complete
    }

    /// Makes one macvlan be there as it should be. Returns the index of the interface below it, and
    /// whether it had to be made.
    async fn provide(&mut self, mac: &VirtualMac, found: &[Found]) -> Result<(u32, bool), String> {
        let base = found.iter().find(|link| link.name == mac.interface);
        let base = base.ok_or_else(|| format!("there is no interface {}", mac.interface))?;
        let there = found.iter().find(|link| link.name == mac.name);
        if there.is_some_and(|link| !link.is_ours() && !link.is_named_and_addressed(mac)) {
            return Err(format!(
                "there is an interface {} that is not vipd's",
                mac.name
            ));
        }
        // The answer of ARP must be right before the first question can come.
        for (setting, good) in BELOW {
            self.remembered
                .set((base.index, &base.name), "ipv4", setting, good)
                .map_err(|error| error.to_string())?;
        }
        let result = self.shape(mac, base.index, there).await;
        result
            .map(|touched| (base.index, touched))
            .map_err(|error| {
                self.failed(&error);
                error.to_string()
            })
    }

    async fn shape(
        &self,
        mac: &VirtualMac,
        below: u32,
        there: Option<&Found>,
    ) -> Result<bool, Failure> {
        let mut link = match there {
            Some(link) => link.clone(),
            None => create(&self.handle, mac, below).await?,
        };
        if !link.is_ours() || link.link_local {
            mark(&self.handle, &link).await?;
            link.up = link.up && there.is_some();
        }
        let settings = settings(mac);
        settings.map_err(|error| Failure::Refused(error.to_string()))?;
        if link.up != mac.up {
            switch(&self.handle, link.index, mac.up).await?;
        }
        Ok(there.is_none())
    }

    /// Gives back what interfaces had that no virtual MAC needs any more.
    fn settle_interfaces(
        &mut self,
        wanted: &Wanted,
        found: &[Found],
    ) -> Result<(), sysctl::Failure> {
        let needed = |index: u32| {
            let below = name_of(found, index);
            wanted
                .values()
                .any(|w| Some(&w.interface) == below.as_ref())
        };
        let name = |index| name_of(found, index);
        self.remembered.restore(needed, name).map(|_| ())
    }

    fn forget(&mut self, wanted: &Wanted) {
        self.made.retain(|router, _| wanted.contains_key(router));
        let gone = |router: &&String| !wanted.contains_key(*router);
        for router in self
            .complaints
            .keys()
            .filter(gone)
            .cloned()
            .collect::<Vec<_>>()
        {
            self.mended(&router);
        }
    }

    fn refused(&mut self, router: &str, mac: &VirtualMac, error: String) {
        // Whatever makes it possible again is not a repair of what somebody broke.
        self.made.remove(router);
        let complaint = (mac.name.clone(), error.clone());
        let said = self.complaints.insert(router.to_owned(), complaint.clone());
        if said != Some(complaint) {
            let (router, name) = (router.to_owned(), mac.name.clone());
            (self.reports)(Report::Refused {
                router,
                name,
                error,
            });
        }
    }

    fn mended(&mut self, router: &str) {
        if let Some((name, _)) = self.complaints.remove(router) {
            let router = router.to_owned();
            (self.reports)(Report::Mended { router, name });
        }
    }

    /// Keeps what is wrong beside the macvlans; tells it once for each reason.
    fn trouble(&mut self, trouble: Option<String>) {
        if let Some(error) = trouble.clone().filter(|_| trouble != self.trouble) {
            (self.reports)(Report::Trouble { error });
        }
        self.trouble = trouble;
    }

    /// A connection that gave no answer is made anew: it does not mend itself.
    fn failed(&mut self, failure: &Failure) {
        if let Failure::Broken(_) = failure {
            match connect() {
                Ok(handle) => self.handle = handle,
                Err(error) => warn!(%error, "no netlink socket"),
            }
        }
    }
}

/// What the interface below needs: a setting and the values that do.
const BELOW: [(&str, &[&str]); 2] = [("arp_ignore", &["1", "2", "8"]), ("arp_announce", &["2"])];

/// Sets what the macvlan itself needs, which goes with it.
fn settings(mac: &VirtualMac) -> Result<(), sysctl::Failure> {
    let set = |family, setting, value| sysctl::write(family, &mac.name, setting, value);
    // The greater of `all`'s and the interface's counts.
    let loose = if sysctl::read("ipv4", "all", "rp_filter")? == "0" {
        "0"
    } else {
        "2"
    };
    set("ipv4", "rp_filter", loose)?;
    set("ipv4", "arp_ignore", "1")?;
    set("ipv4", "arp_announce", "2")?;
    set("ipv4", "arp_filter", "0")?;
    set("ipv4", "promote_secondaries", "1")?;
    // Without a directory there is no IPv6 in the kernel, or none on so small an MTU.
    let directory = Path::new("/proc/sys/net/ipv6/conf").join(&mac.name);
    if mac.ipv6 || directory.exists() {
        set("ipv6", "disable_ipv6", if mac.ipv6 { "0" } else { "1" })?;
        set("ipv6", "accept_ra", "0")?;
        set("ipv6", "autoconf", "0")?;
    }
    Ok(())
}

/// Why this host answers no ARP on a macvlan whatever is set there: of these settings the greater
/// of `all`'s and the interface's counts.
fn silenced() -> Option<String> {
    let too_much = |(setting, most): &(&str, u8)| {
        let value = sysctl::read("ipv4", "all", setting).ok();
        value.is_some_and(|value| value.parse::<u8>().is_ok_and(|value| value > *most))
    };
    let settings = [("arp_filter", 0), ("arp_ignore", 2)];
    let (setting, most) = settings.into_iter().find(too_much)?;
    Some(format!(
        "net.ipv4.conf.all.{setting} is above {most}: virtual addresses with a virtual MAC stay \
         without answer to ARP"
    ))
}

/// What of the links can matter here.
fn outline(links: &Links) -> Vec<(u32, String, Option<Mac>, bool)> {
    links
        .iter()
        .map(|link| (link.index, link.name.clone(), link.mac, link.up))
        .collect()
}
