//! The advert path: one thread that does nothing but VRRP.
//!
//! It waits in one `ppoll` for adverts, for commands and for the next deadline, feeds them to
//! [`vrrp::Routers`], and sends what must be sent at once. It shares no runtime, lock or queue with
//! anything that can wait: commands come over a channel with an eventfd, reports leave over an
//! unbounded channel, counters are atomics. It never logs; what is worth a line is a report.

mod advert_path;
mod outbox;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use vrrp::{Discard, Family, Fault, StateName};

use self::advert_path::AdvertPath;
use self::outbox::Outbox;
use crate::counters::{Counters, Lateness};

/// What the rest of the daemon tells the thread.
#[derive(Debug)]
pub enum Command {
    /// The whole set of virtual routers from now on.
    Configure(Vec<Spec>),
    /// What is true of the interfaces that virtual routers use.
    Links(Vec<LinkFacts>),
    /// Give everything up, tell the peers, and end.
    Stop,
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
    /// Where its adverts are counted.
    pub counters: Arc<Counters>,
}

/// What is true of an interface now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its name.
    pub interface: String,
    /// Its index; `None`: there is no such interface.
    pub index: Option<u32>,
    /// Whether packets can leave it.
    pub up: bool,
    /// The IPv4 address that adverts are sent from.
    pub source: Option<Ipv4Addr>,
}

/// What the thread tells the rest of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Something about a virtual router changed.
    Router(RouterReport),
    /// The last `Configure` is in force, and everything that changed by it has been reported.
    Configured,
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
    /// Everything was given up; the thread has ended.
    Stopped,
}

/// A virtual router as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The other master that is heard while this one is master, and its priority.
    pub rival: Option<(IpAddr, u8)>,
    /// Who answers for the addresses although no master is heard, while it waits because of that.
    pub suspect: Option<[u8; 6]>,
    /// Whether it handed over by order and waits for its turn.
    pub yielded: bool,
    /// Whether the addresses are still held although it is not master any more.
    pub lingering: bool,
}

/// The way to the thread.
#[derive(Debug)]
pub struct VrrpThread {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
    turns: Arc<AtomicU64>,
    lateness: Arc<Lateness>,
    thread: JoinHandle<()>,
}

impl VrrpThread {
    /// Starts the thread. Reports are handed to `report`, on another thread.
    ///
    /// # Errors
    ///
    /// No eventfd, or no thread.
    pub fn start(report: impl Fn(Report) + Send + 'static) -> io::Result<VrrpThread> {
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (commands, receiver) = mpsc::channel();
        let turns = Arc::new(AtomicU64::new(0));
        let lateness = Arc::new(Lateness::default());
        let mut advert_path = AdvertPath::new(Outbox::start(report)?, Arc::clone(&lateness));
        let (fd, counter) = (Arc::clone(&wake), Arc::clone(&turns));
        let thread = std::thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || {
                advert_path.become_realtime();
                advert_path.run(&fd, &receiver, &counter);
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
    pub fn lateness(&self) -> &Lateness {
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
