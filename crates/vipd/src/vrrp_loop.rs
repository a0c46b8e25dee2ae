//! The advert path: one thread that does nothing but VRRP.
//!
//! It waits in one `ppoll` for adverts, for commands and for the next deadline, feeds them to
//! [`vrrp::Routers`], and sends what must be sent at once. It shares no runtime, lock or queue with
//! anything that can wait: commands come over a channel with an eventfd, reports leave over an
//! unbounded channel, counters are atomics. It never logs; what is worth a line is a report.

mod advert_path;
mod farewell;
mod handover;
mod outbox;
mod seat;
mod station;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use health::Histogram;
use rustix::event::{EventfdFlags, eventfd};
use vrrp::{Discard, Family, Fault, Notice, StateName};

use self::advert_path::AdvertPath;
pub use self::farewell::{Parting, further_parting, last_words, partings, say_stop};
use self::handover::Parked;
use self::outbox::Outbox;
use crate::config::{Config, Heartbeat, VirtualAddress, Vrrp};
use crate::counters::{Counters, LATENESS_BOUNDS};
use crate::guard::Pulse;
use crate::net::sys::Mac;

/// What the rest of the daemon tells the thread.
#[derive(Debug)]
pub enum Command {
    /// The whole set of virtual routers from now on, and what is true of them.
    Configure(Vec<Spec>, Facts),
    /// What is true of the interfaces and the virtual routers.
    Facts(Facts),
    /// Hand the addresses of that virtual router over to a peer.
    Yield(String),
    /// Somebody else answered for a virtual address.
    Answered {
        /// Which.
        address: IpAddr,
        /// Who.
        by: Mac,
    },
    /// Hand everything over to the advert path of another process, which reads at the other end of that
    /// socket. Unless that is called off before, what comes of it is [`Report::HandedOver`].
    HandOver(OwnedFd, Moment),
    /// Give everything up, tell the peers, and end.
    Stop {
        /// Masters keep their addresses until the successor is heard. A later `Stop` without it
        /// cuts that short.
        make_before_break: bool,
    },
}

/// The moment of a handover: the advert path seizes it and hands over, or the director, and calls it off.
#[derive(Debug, Clone, Default)]
pub struct Moment(Arc<AtomicBool>);

impl Moment {
    /// Returns whether it was free.
    #[must_use]
    pub fn seize(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A virtual router to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name, for reports.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Its parameters.
    pub parameters: vrrp::Parameters,
    /// The macvlan with its virtual MAC, if its adverts carry that as their Ethernet source.
    pub virtual_mac: Option<String>,
    /// Further paths for its adverts.
    pub heartbeats: Vec<Heartbeat>,
    /// The sync group it belongs to.
    pub group: Option<String>,
    /// Its addresses and the interface of each: what is asked after before a takeover.
    pub addresses: Arc<[(String, IpAddr)]>,
    /// Where its adverts are counted.
    pub counters: Arc<Counters>,
}

impl Spec {
    /// What the thread needs of a configured virtual router.
    #[must_use]
    pub fn new(config: &Config, vrrp: &Vrrp, counters: Arc<Counters>) -> Spec {
        let mut groups = config.sync_groups.iter();
        let group = groups.find(|group| group.members.contains(&vrrp.name));
        // A backup's macvlan is down: the link is asked from the interface below.
        let asked_on = |address: &VirtualAddress| match &vrrp.virtual_mac {
            Some(macvlan) if *macvlan == address.interface => vrrp.interface.clone(),
            Some(_) | None => address.interface.clone(),
        };
        let addresses = vrrp.addresses.iter();
        Spec {
            name: vrrp.name.clone(),
            interface: vrrp.interface.clone(),
            parameters: vrrp.parameters.clone(),
            virtual_mac: vrrp.virtual_mac.clone(),
            heartbeats: vrrp.heartbeats.clone(),
            group: group.map(|group| group.name.clone()),
            addresses: addresses
                .map(|address| (asked_on(address), address.ip()))
                .collect(),
            counters,
        }
    }
}

/// What is true outside of the protocol. It is the whole truth each time, not what changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Of the interfaces that adverts use.
    pub links: Vec<LinkFacts>,
    /// Of the virtual routers.
    pub routers: Vec<Arc<RouterFacts>>,
}

/// What is true of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its name.
    pub interface: String,
    /// Its index; `None`: there is no such interface.
    pub index: Option<u32>,
    /// Whether packets can leave it.
    pub up: bool,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
}

/// What is true of a virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterFacts {
    /// Its name.
    pub name: String,
    /// The address that its adverts are sent from.
    pub source: Option<IpAddr>,
    /// The own address on each of its heartbeat interfaces, in the order of its heartbeats; `None`
    /// also for those to a host, whose socket knows it.
    pub heartbeat_sources: Vec<Option<IpAddr>>,
    /// What is wrong with what it tracks, and whether it is out of service.
    pub faults: BTreeSet<Fault>,
    /// What its trackers add to its priority.
    pub priority_offset: i32,
    /// None of its reference addresses answers.
    pub references_lost: bool,
}

impl RouterFacts {
    /// Nothing is known of it.
    #[must_use]
    pub fn unknown(name: String) -> RouterFacts {
        RouterFacts {
            name,
            source: None,
            heartbeat_sources: Vec::new(),
            faults: BTreeSet::new(),
            priority_offset: 0,
            references_lost: false,
        }
    }
}

/// What the thread tells the rest of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Something about a virtual router changed.
    Router(RouterReport),
    /// The last `Configure` is in force, and everything that changed by it has been reported.
    Configured,
    /// Something worth knowing that is no change of state.
    Notice {
        /// Whose.
        router: String,
        /// What.
        notice: Notice,
    },
    /// The link is to be asked who has these addresses, at once.
    Probe(Arc<[(String, IpAddr)]>),
    /// An advert was discarded; at most one a minute for each router and reason.
    Discarded {
        /// Whom it was for, as far as that is known.
        routers: Vec<String>,
        /// Its sender, as far as that is known.
        from: Option<IpAddr>,
        /// Which rule it broke.
        discard: Discard,
    },
    /// The thread cannot do something it should; it goes on without.
    Trouble {
        /// The interface, if it is about one.
        interface: Option<String>,
        /// What, in words.
        what: String,
    },
    /// Everything was handed over, or taken over; or why not: then a thread that was to hand over goes
    /// on, and one that was to take over has ended.
    HandedOver(Result<(), String>),
    /// A thread that is to take over has taken in what there is.
    Parked {
        /// The virtual routers that it could not run, and why.
        unfit: Vec<(String, String)>,
    },
    /// Everything was given up; the thread has ended.
    Stopped,
}

/// A virtual router as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouterReport {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: StateName,
    /// Why the state was entered.
    pub why: String,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// The priority in its adverts.
    pub effective_priority: u8,
    /// The master it knows of: itself, or whom it hears.
    pub master: Option<(IpAddr, u8)>,
    /// Whether its addresses should be held by this host.
    pub hold: bool,
    /// Goes up each time they must be announced.
    pub announce: u64,
    /// Another master that is heard while this one is master, and its priority.
    pub rival: Option<(IpAddr, u8)>,
    /// Who answers for the addresses while no master is heard and it waits because of that.
    pub suspect: Option<Mac>,
    /// Whether it handed over by order and leaves the master alone.
    pub yielded: bool,
    /// Whether it holds the addresses although it is not master any more.
    pub lingering: bool,
    /// A peer of the same VRID whose adverts cannot be accepted, and the name of the reason.
    pub incompatible: Option<(IpAddr, &'static str)>,
}

/// The way to the thread.
#[derive(Debug)]
pub struct VrrpThread {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
    turns: Arc<AtomicU64>,
    lateness: Arc<Histogram>,
    thread: JoinHandle<()>,
}

impl VrrpThread {
    /// Starts the thread. Reports are handed to `report`, on another thread; by `pulse` it shows that
    /// it turns. With `parked` it does nothing until it has taken over from the advert path of another
    /// process at the other end of that socket.
    ///
    /// # Errors
    ///
    /// No eventfd, or no thread.
    pub fn start(
        report: impl Fn(Report) + Send + 'static,
        mut pulse: Pulse,
        parked: Option<OwnedFd>,
    ) -> io::Result<VrrpThread> {
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (commands, receiver) = mpsc::channel();
        let turns = Arc::new(AtomicU64::new(0));
        let lateness = Arc::new(Histogram::new(&LATENESS_BOUNDS));
        let mut advert_path = AdvertPath::new(
            Outbox::start(report)?,
            Arc::clone(&lateness),
            parked.map(Parked::new),
        );
        let (fd, counter) = (Arc::clone(&wake), Arc::clone(&turns));
        let thread = std::thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || {
                advert_path.become_realtime();
                advert_path.run(&fd, &receiver, &counter, &mut pulse);
            })?;
        Ok(VrrpThread {
            commands,
            wake,
            turns,
            lateness,
            thread,
        })
    }

    /// Hands a command over; returns at once.
    pub fn send(&self, command: Command) {
        // The thread has ended: its last report says so, and nobody needs the command.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }

    /// Goes up at least once a second while the thread is well.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// How late adverts left.
    #[must_use]
    pub fn lateness(&self) -> &Histogram {
        &self.lateness
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// The address family as `status` names it.
#[must_use]
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}
