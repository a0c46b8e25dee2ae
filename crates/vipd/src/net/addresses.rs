//! Puts virtual addresses on interfaces and takes them off.
//!
//! Level-triggered: what should be there ([`Wanted`]) and what is there ([`Links`]) are compared
//! whenever one of them changes, and the difference is sent to the kernel. An address that somebody
//! deletes while it is wanted is a difference like any other, so it comes back at once.
//!
//! An address belongs to vipd if it carries vipd's mark (`IFA_PROTO` 112) or if the configuration
//! names it as a virtual address that is not the owner's (`ownership.rs`). All others are never
//! touched. One thing cannot be helped from here: with the first (primary) IPv4 address of a subnet
//! the kernel deletes the others of it, unless `net.ipv4.conf.*.promote_secondaries` is 1. A virtual
//! address is never the first where the host has an address of its own in that subnet before it.

mod memory;
mod ownership;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

pub use ownership::unwanted;
pub(crate) use requests::removal;
pub use requests::{Failure, add_unmarked, delete_one as delete};
pub(super) use requests::{bytes, execute, request};

use self::memory::{Installed, Memory, Shape, has_shape};
use self::ownership::Claims;
use self::requests::Requests;
use super::announcer::Order;
use super::links::{self, Link, LinkAddress, Links};
use crate::config::{Garp, VirtualAddress};

/// When a refused request is tried again, and how long the kernel's event about an address that it
/// acknowledged may take.
const RETRY: Duration = Duration::from_secs(1);
/// At most this often is one address repaired, so that a program which keeps deleting it does not
/// get all of the processor.
const REPAIR_PACE: Duration = Duration::from_millis(50);
/// How long a pass goes on with what it began although something else is wanted by now. A router
/// that loses its role waits for one batch only.
const TURN: Duration = Duration::from_millis(20);

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
    let addresses = Addresses {
        requests: Requests::open()?,
        links,
        wanted,
        announcer,
        reports: Box::new(reports),
        memory: BTreeMap::new(),
        announced: BTreeMap::new(),
        unannounced: BTreeSet::new(),
    };
    Ok(tokio::spawn(addresses.run()))
}

type Place = (String, IpNet);

struct Addresses {
    requests: Requests,
    links: watch::Receiver<Arc<Links>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    announcer: mpsc::UnboundedSender<Order>,
    reports: Box<dyn Fn(Report) + Send + Sync>,
    /// What was done on each interface.
    memory: BTreeMap<String, Memory>,
    /// The `announce` of each holding router that was last obeyed.
    announced: BTreeMap<String, u64>,
    /// Routers some of whose addresses were put on and have not been announced since.
    unannounced: BTreeSet<String>,
}

/// One address that is to be put on.
struct Job<'a> {
    link: &'a Link,
    address: &'a VirtualAddress,
    router: &'a str,
    owned: bool,
    /// It is there, but not as it should be: it goes first.
    replace: bool,
    /// Somebody took it away.
    repair: bool,
}

/// What a pass did.
#[derive(Default)]
struct Tally {
    added: usize,
    removed: usize,
    /// Something else is wanted by now: the next pass is due at once.
    overtaken: bool,
    /// When the next pass is due if nothing changes before.
    due: Option<Instant>,
}

/// What a pass is made from, to find out whether it still holds.
struct Basis {
    wanted: Arc<Wanted>,
    began: Instant,
}

impl Addresses {
    async fn run(mut self) {
        let mut due = None;
        loop {
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let alive = tokio::select! {
                changed = self.wanted.changed() => changed.is_ok(),
                changed = self.links.changed() => changed.is_ok(),
                () = timer => true,
            };
            if !alive {
                return self.finish().await;
            }
            due = self.reconcile().await;
        }
    }

    /// The last pass: nobody will say more. It asks the kernel itself, because what was added a
    /// moment ago may not be in the picture yet.
    async fn finish(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow());
        let claims = Claims::new(&wanted);
        match now().await {
            Ok(links) => {
                for memory in self.memory.values_mut() {
                    memory.deleted.clear();
                }
                let mut tally = Tally::default();
                self.forget(&links, &claims);
                self.remove(&links, &claims, None, &mut tally).await;
                self.tell_changes(&tally);
            }
            Err(error) => warn!(%error, "reading the addresses failed"),
        }
    }

    /// Makes one pass. Returns when the next one is due if nothing changes before.
    async fn reconcile(&mut self) -> Option<Instant> {
        let basis = Basis {
            wanted: Arc::clone(&self.wanted.borrow_and_update()),
            began: Instant::now(),
        };
        let links = Arc::clone(&self.links.borrow_and_update());
        let claims = Claims::new(&basis.wanted);
        let mut tally = Tally::default();
        self.withdraw(&basis.wanted);
        self.forget(&links, &claims);
        // A router that has lost its role must not wait for what others add; and an address that is
        // in the way of another goes before that one comes.
        self.remove(&links, &claims, Some(&basis), &mut tally).await;
        if !tally.overtaken {
            self.add(&links, &claims, &basis, &mut tally).await;
        }
        self.tell_changes(&tally);
        if tally.overtaken {
            return Some(Instant::now());
        }
        tally.due
    }

    /// Whether a pass is to be given up for a new one: a router has lost its role, or something else
    /// has changed and waited long enough.
    fn overtaken(&self, basis: &Basis) -> bool {
        let newest = Arc::clone(&self.wanted.borrow());
        if Arc::ptr_eq(&newest, &basis.wanted) {
            return false;
        }
        let lost = |(name, router): (&String, &RouterAddresses)| {
            router.hold && !newest.get(name).is_some_and(|router| router.hold)
        };
        basis.wanted.iter().any(lost) || basis.began.elapsed() >= TURN
    }

    /// Drops from memory what is not true or not interesting any more.
    fn forget(&mut self, links: &Links, claims: &Claims<'_>) {
        let (now, mut mended) = (Instant::now(), Vec::new());
        for (interface, memory) in &mut self.memory {
            let link = links.named(interface);
            // What was on an interface that is gone is gone with it: its return is not a repair.
            memory.installed.retain(|address, installed| {
                link.is_some_and(|link| link.index == installed.index)
                    && (installed.ours || claims.holds(interface, *address))
            });
            memory.deleted.retain(|address, at| {
                link.is_some_and(|link| link.addresses.get(*address).is_some())
                    && now.duration_since(*at) < RETRY
            });
            let held = |address: &IpNet| claims.holds(interface, *address);
            let given_up = memory.complaints.extract_if(|address, _| !held(address));
            mended.extend(given_up.map(|(address, _)| (interface.clone(), address)));
        }
        self.memory.retain(|_, memory| !memory.is_empty());
        for (interface, address) in mended {
            (self.reports)(Report::Mended { interface, address });
        }
    }

    /// Tells the announcer of the routers that hold nothing any more.
    fn withdraw(&mut self, wanted: &Wanted) {
        let holds = |name: &String| wanted.get(name).is_some_and(|router| router.hold);
        self.unannounced.retain(holds);
        self.announced.retain(|router, _| {
            let holds = holds(router);
            if !holds {
                let router = router.clone();
                let _ = self.announcer.send(Order::Withdraw { router });
            }
            holds
        });
    }

    /// Removes what should not be there.
    async fn remove(
        &mut self,
        links: &Links,
        claims: &Claims<'_>,
        basis: Option<&Basis>,
        tally: &mut Tally,
    ) {
        let targets = self.surplus(links, claims);
        let mut rest = &*targets;
        while !rest.is_empty() {
            let batch;
            (batch, rest) = self.requests.split(rest);
            let deletions = batch
                .iter()
                .map(|(link, address)| requests::delete(link.index, *address));
            let answers = match self.requests.execute(deletions.collect()).await {
                Ok(answers) => answers,
                Err(why) => {
                    let places = batch.iter();
                    self.broken(places.map(|(link, address)| (&*link.name, *address)), &why);
                    tally.retry();
                    return;
                }
            };
            for ((link, address), answer) in batch.iter().zip(answers) {
                match answer {
                    // EADDRNOTAVAIL: somebody was faster, or it went with the primary address of its
                    // subnet. ENODEV: the interface is gone, and its addresses with it.
                    None | Some(libc::EADDRNOTAVAIL | libc::ENODEV) => {
                        tally.removed += usize::from(answer.is_none());
                        let memory = self.memory_of(&link.name);
                        memory.installed.remove(address);
                        memory.deleted.insert(*address, Instant::now());
                    }
                    Some(errno) => {
                        self.refused(&link.name, *address, &words(errno));
                        tally.retry();
                    }
                }
            }
            if basis.is_some_and(|basis| self.overtaken(basis)) {
                tally.overtaken = true;
                return;
            }
        }
    }

    /// What should not be there: what the picture shows, and what was installed and it does not show
    /// yet. Secondary addresses come first: each primary that goes before them makes the kernel
    /// delete all of them, or move all of their routes.
    fn surplus<'l>(&self, links: &'l Links, claims: &Claims<'_>) -> Vec<(&'l Link, IpNet)> {
        let mut known: HashSet<(u32, IpNet)> = HashSet::new();
        let (mut secondaries, mut primaries) = (Vec::new(), Vec::new());
        for (link, shown) in claims.ours(links) {
            let memory = self.memory.get(&link.name);
            let deleted = memory.is_some_and(|memory| memory.deleted.contains_key(&shown.address));
            if deleted || claims.holds(&link.name, shown.address) {
                continue;
            }
            known.insert((link.index, shown.address));
            let list = if shown.secondary {
                &mut secondaries
            } else {
                &mut primaries
            };
            list.push((link, shown.address));
        }
        for (interface, memory) in &self.memory {
            let Some(link) = links.named(interface) else {
                continue;
            };
            for address in memory.installed.keys() {
                if !claims.holds(interface, *address) && !known.contains(&(link.index, *address)) {
                    secondaries.push((link, *address));
                }
            }
        }
        secondaries.append(&mut primaries);
        secondaries
    }

    /// Puts on what is missing, and announces the routers whose addresses are in place.
    async fn add(&mut self, links: &Links, claims: &Claims<'_>, basis: &Basis, tally: &mut Tally) {
        let by_name: HashMap<&str, &Link> = links.iter().map(|link| (&*link.name, link)).collect();
        let (mut jobs, mut complete) = (Vec::new(), Vec::new());
        for (router, addresses) in basis.wanted.iter().filter(|(_, router)| router.hold) {
            for address in &addresses.addresses {
                match by_name.get(&*address.interface) {
                    Some(link) => jobs.extend(self.job(link, address, router, claims, tally)),
                    None => {
                        let why = "there is no such interface";
                        self.refused(&address.interface, address.address, why);
                    }
                }
            }
            complete.push((jobs.len(), router, addresses));
        }
        let mut complete = complete.into_iter().peekable();
        let mut rest = &*jobs;
        loop {
            let done = jobs.len() - rest.len();
            while let Some((_, router, addresses)) = complete.next_if(|next| next.0 <= done) {
                self.announce(router, addresses);
            }
            if done > 0 && self.overtaken(basis) {
                tally.overtaken = true;
                return;
            }
            let batch;
            (batch, rest) = self.requests.split(rest);
            if batch.is_empty() {
                return;
            }
            if let Err(why) = self.put(batch, tally).await {
                let places = batch.iter();
                let places = places.map(|job| (&*job.link.name, job.address.address));
                self.broken(places, &why);
                tally.retry();
                return;
            }
        }
    }

    /// What is to be done about one address that should be there.
    fn job<'a>(
        &mut self,
        link: &'a Link,
        address: &'a VirtualAddress,
        router: &'a str,
        claims: &Claims<'_>,
        tally: &mut Tally,
    ) -> Option<Job<'a>> {
        let owned = claims.owned(&link.name, address.address);
        let memory = self.memory_of(&link.name);
        let shown = link.addresses.get(address.address);
        let shown = shown.filter(|_| !memory.deleted.contains_key(&address.address));
        let installed = memory.installed.get(&address.address);
        if let Some(shown) = shown {
            // What was asked for and is not shown is more than this kernel can do.
            let asked = installed.is_some_and(|installed| installed.shape == Shape::of(address));
            let fits = shown.usable() && (asked || has_shape(shown, address));
            if fits || !claims.is_ours(link, shown) {
                let found = || Installed::new(link, address, true, !owned);
                let installed = memory.installed.entry(address.address);
                installed.or_insert_with(found).seen = true;
                self.mended(&link.name, address.address);
                return None;
            }
        }
        let repair = installed.is_some() && shown.is_none_or(|shown| !shown.usable());
        // Its event has not come yet, or it was repaired a moment ago.
        if let Some(due) = installed.map(Installed::not_before)
            && due > Instant::now()
        {
            tally.due_at(due);
            return None;
        }
        Some(Job {
            link,
            address,
            router,
            owned,
            replace: shown.is_some(),
            repair,
        })
    }

    /// Sends one batch of jobs and takes the answers in.
    async fn put(&mut self, jobs: &[Job<'_>], tally: &mut Tally) -> Result<(), String> {
        let mut messages = Vec::with_capacity(jobs.len());
        for job in jobs {
            if job.replace {
                messages.push(requests::delete(job.link.index, job.address.address));
            }
            messages.push(requests::add(job.link.index, job.address));
        }
        let mut answers = self.requests.execute(messages).await?.into_iter();
        for job in jobs {
            if job.replace {
                // If it could not be removed, the answer to the addition says so: EEXIST.
                answers.next();
            }
            let answer = answers.next().flatten();
            self.take(job, answer, tally);
        }
        Ok(())
    }

    fn take(&mut self, job: &Job<'_>, answer: requests::Answer, tally: &mut Tally) {
        let (interface, address) = (&job.link.name, job.address.address);
        match answer {
            // It is there already; the picture will show it, and if it is as it should be.
            Some(libc::EEXIST) if !job.replace && !differs_in_prefix(job) => {
                tally.retry();
                return;
            }
            None => {
                if job.repair {
                    let interface = interface.clone();
                    (self.reports)(Report::Repaired { interface, address });
                } else {
                    tally.added += 1;
                }
                if !self.unannounced.contains(job.router) {
                    self.unannounced.insert(job.router.to_owned());
                }
            }
            Some(errno) => {
                let mut why = words(errno);
                // For IPv6 the kernel does not look at the prefix length.
                if errno == libc::EEXIST && differs_in_prefix(job) {
                    why.push_str(": the interface has it with another prefix length");
                }
                self.refused(interface, address, &why);
                tally.retry();
                return;
            }
        }
        let installed = Installed::new(job.link, job.address, false, !job.owned);
        let memory = self.memory_of(interface);
        memory.deleted.remove(&address);
        memory.installed.insert(address, installed);
        self.mended(interface, address);
        tally.due_at(Instant::now() + RETRY);
    }

    /// Announces what a router has in place, if that was asked for or some of it is new.
    fn announce(&mut self, router: &str, addresses: &RouterAddresses) {
        let asked = self.announced.get(router) != Some(&addresses.announce);
        if !asked && !self.unannounced.contains(router) {
            return;
        }
        let in_place = addresses.addresses.iter().filter(|address| {
            self.memory
                .get(&address.interface)
                .is_some_and(|memory| memory.installed.contains_key(&address.address))
        });
        let in_place: Vec<(String, IpAddr)> = in_place
            .map(|address| (address.interface.clone(), address.ip()))
            .collect();
        if in_place.is_empty() {
            return;
        }
        self.unannounced.remove(router);
        self.announced.insert(router.to_owned(), addresses.announce);
        let _ = self.announcer.send(Order::Announce {
            router: router.to_owned(),
            addresses: in_place,
            garp: addresses.garp,
        });
    }

    fn tell_changes(&self, tally: &Tally) {
        let Tally { added, removed, .. } = *tally;
        if added > 0 || removed > 0 {
            (self.reports)(Report::Changed { added, removed });
        }
    }

    /// Reports why an address cannot be had, unless that was said already.
    fn refused(&mut self, interface: &str, address: IpNet, error: &str) {
        let complaints = &mut self.memory_of(interface).complaints;
        let said = complaints.insert(address, error.to_owned());
        if said.as_deref() != Some(error) {
            (self.reports)(Report::Refused {
                interface: interface.to_owned(),
                address,
                error: error.to_owned(),
            });
        }
    }

    fn mended(&mut self, interface: &str, address: IpNet) {
        let memory = self.memory.get_mut(interface);
        if memory.is_some_and(|memory| memory.complaints.remove(&address).is_some()) {
            let interface = interface.to_owned();
            (self.reports)(Report::Mended { interface, address });
        }
    }

    /// The kernel did not answer. The connection is made anew: it does not mend itself.
    fn broken<'p>(&mut self, places: impl Iterator<Item = (&'p str, IpNet)>, why: &str) {
        for (interface, address) in places {
            self.refused(interface, address, why);
        }
        match Requests::open() {
            Ok(requests) => self.requests = requests,
            Err(error) => warn!(%error, "no netlink socket"),
        }
    }

    fn memory_of(&mut self, interface: &str) -> &mut Memory {
        self.memory.entry(interface.to_owned()).or_default()
    }
}

impl Tally {
    fn due_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn retry(&mut self) {
        self.due_at(Instant::now() + RETRY);
    }
}

/// Whether the interface has that IPv6 address with another prefix length.
fn differs_in_prefix(job: &Job<'_>) -> bool {
    let wanted = job.address.address;
    let same = |known: &LinkAddress| known.address.addr() == wanted.addr();
    wanted.addr().is_ipv6()
        && job.link.addresses.get(wanted).is_none()
        && job.link.addresses.iter().any(same)
}

async fn now() -> Result<Links, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    links::dump(&handle).await.map_err(|e| e.to_string())
}

fn words(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}
