//! Where adverts come in and go out: an interface, or the route to one host, each for one family.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use vrrp::Family;

use super::LinkFacts;
use crate::net::sys::Mac;
use crate::net::vrrp_socket::{FrameSocket, VrrpSocket};

/// When a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a station is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// An interface, by name.
    Interface(String),
    /// A host, by whatever interface.
    Peer {
        peer: IpAddr,
        source: Option<IpAddr>,
    },
}

/// A socket for adverts and what it depends on. Its position in the list of stations is its number in
/// [`vrrp::RouterKey::link`], for the life of the daemon.
pub(super) struct Station {
    pub(super) place: Place,
    pub(super) family: Family,
    /// Of an interface: its index, if it exists.
    pub(super) index: Option<u32>,
    /// Of an interface: packets can leave it.
    pub(super) up: bool,
    /// To a host: the own address on the way.
    pub(super) own: Option<IpAddr>,
    /// Whether a virtual router uses it.
    pub(super) used: bool,
    /// Receives, and sends from host to host.
    pub(super) socket: Option<VrrpSocket>,
    /// Sends to the group where there is Ethernet.
    pub(super) frames: Option<FrameSocket>,
    /// Of an interface: its Ethernet address, if it has one.
    pub(super) mac: Option<Mac>,
    /// Why there is no socket, if the kernel refused one.
    pub(super) refused: Option<String>,
    retry_at: Option<Instant>,
}

impl Station {
    pub(super) fn new(place: Place, family: Family) -> Station {
        Station {
            place,
            family,
            index: None,
            up: false,
            own: None,
            used: false,
            socket: None,
            frames: None,
            mac: None,
            refused: None,
            retry_at: None,
        }
    }

    /// The interface, if it is on one.
    pub(super) fn interface(&self) -> Option<&str> {
        match &self.place {
            Place::Interface(name) => Some(name),
            Place::Peer { .. } => None,
        }
    }

    /// Takes in what is true of its interface.
    pub(super) fn take(&mut self, facts: &LinkFacts) {
        // The socket belongs to the interface of that index; a recreated one needs its own.
        let mac = facts.mac.filter(|mac| *mac != Mac::default());
        if self.index != facts.index || self.mac.is_some() != mac.is_some() {
            self.socket = None;
            self.frames = None;
            self.retry_at = None;
        }
        self.mac = mac;
        self.index = facts.index;
        self.up = facts.up;
    }

    /// When [`Station::open`] must be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Why nothing can be sent or heard where there is something to send to.
    pub(super) fn unfit(&self) -> Option<String> {
        let missing = self.index.is_some() && self.socket.is_none();
        missing.then(|| {
            let why = self.refused.as_deref().unwrap_or("not opened");
            let interface = self.interface().unwrap_or_default();
            format!("no socket for adverts on {interface}: {why}")
        })
    }

    /// Opens the socket if it should be open and is not, or closes it if nobody uses it.
    ///
    /// # Errors
    ///
    /// The kernel's; it is tried again in a second.
    pub(super) fn open(&mut self, now: Instant) -> io::Result<()> {
        if !self.used {
            self.socket = None;
            self.frames = None;
            self.retry_at = None;
            return Ok(());
        }
        if self.socket.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return Ok(());
        }
        let opened = match &self.place {
            Place::Interface(name) => match self.index {
                Some(index) => VrrpSocket::open(name, index, self.family),
                // Its coming is told.
                None => return Ok(()),
            },
            Place::Peer { peer, source } => VrrpSocket::to_peer(*peer, *source).map(|opened| {
                self.own = Some(opened.1);
                opened.0
            }),
        };
        let opened = opened.and_then(|socket| {
            let ethernet = self.index.filter(|_| self.mac.is_some());
            Ok((socket, ethernet.map(FrameSocket::open).transpose()?))
        });
        match opened {
            Ok((socket, frames)) => {
                self.socket = Some(socket);
                self.frames = frames;
                self.refused = None;
                self.retry_at = None;
                Ok(())
            }
            Err(error) => {
                self.retry_at = Some(now + RETRY);
                self.refused = Some(error.to_string());
                Err(error)
            }
        }
    }
}
