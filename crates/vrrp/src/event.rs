//! What happens to a virtual router.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::packet::Advertisement;
use crate::parameters::Parameters;

/// What a virtual router is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Take part from now on (RFC 5798 §6.4.1).
    Startup,
    /// Give everything up (RFC 5798 §6.4.2, §6.4.3).
    Shutdown {
        /// A master keeps the addresses until its successor is heard, or for the skew time and one
        /// interval; [`VirtualRouter::is_lingering`](crate::VirtualRouter::is_lingering) tells.
        make_before_break: bool,
    },
    /// An advert for this virtual router came in and passed every check.
    Advertisement {
        /// The source of the packet.
        from: IpAddr,
        /// What it says.
        advertisement: Advertisement,
        /// The way it came.
        path: Path,
    },
    /// The time of [`VirtualRouter::poll_timeout`](crate::VirtualRouter::poll_timeout) has come.
    /// Earlier or repeated ones do nothing.
    Timeout,
    /// Something is wrong from now on.
    FaultRaised(Fault),
    /// It is well again.
    FaultCleared(Fault),
    /// The configuration changed. VRID, version and family stay what they were: another of these is
    /// another virtual router.
    Reconfigured(Parameters),
    /// The address that adverts are sent from: it decides between equal priorities
    /// (RFC 5798 §6.4.3).
    SourceChanged(IpAddr),
    /// What trackers add to the priority now. The result is kept within 1 to 254; an owner's stays.
    PriorityOffset(i32),
    /// Hand the addresses over to a peer, and do not take them back from it while it lives. Takes
    /// them back where no peer wants them.
    Yield,
    /// Somebody else answered for one of the addresses after [`Action::ProbeAddresses`].
    ///
    /// [`Action::ProbeAddresses`]: crate::Action::ProbeAddresses
    Answered {
        /// The Ethernet address that answered.
        by: [u8; 6],
    },
    /// Whether none of the reference addresses answers: then it takes over from nobody, and is master
    /// no longer than a peer is heard.
    ReferencesLost(bool),
}

/// The way an advert came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Path {
    /// The link of the virtual router.
    Link,
    /// A further path, on which this host has another address.
    Heartbeat {
        /// That address: it is compared with the sender's where priorities are equal.
        own: IpAddr,
    },
}

/// Why a virtual router cannot take part, however good its priority.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// There is no such interface.
    InterfaceMissing,
    /// Packets cannot leave the interface.
    InterfaceDown,
    /// The interface has no address to send adverts from.
    NoAddress,
    /// Adverts can be neither sent nor heard.
    NoSocket,
    /// Something that is tracked without a weight is not as it should be; the words say what.
    Tracked(String),
    /// No reference address answers, and no peer is heard.
    Unreachable,
    /// Another member of its sync group has a fault.
    SyncGroup,
    /// Somebody took the director out of service.
    Maintenance,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::InterfaceMissing => "the interface does not exist",
            Fault::InterfaceDown => "the interface is down",
            Fault::NoAddress => "the interface has no address to send adverts from",
            Fault::NoSocket => "there is no socket for adverts",
            Fault::Tracked(what) => what,
            Fault::Unreachable => "no reference address answers and no peer is heard",
            Fault::SyncGroup => "another member of its sync group has a fault",
            Fault::Maintenance => "maintenance",
        })
    }
}
