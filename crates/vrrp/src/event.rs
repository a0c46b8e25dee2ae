//! What happens to a virtual router.

use std::fmt;
use std::net::IpAddr;

use crate::packet::Advertisement;
use crate::parameters::Parameters;

/// What a virtual router is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Take part from now on (RFC 5798 §6.4.1).
    Startup,
    /// Give everything up (RFC 5798 §6.4.2, §6.4.3).
    Shutdown,
    /// An advert for this virtual router came in and passed every check.
    Advertisement {
        /// The source of the packet.
        from: IpAddr,
        /// What it says.
        advertisement: Advertisement,
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
}

/// Why a virtual router cannot take part, however good its priority.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// There is no such interface.
    InterfaceMissing,
    /// Packets cannot leave the interface.
    InterfaceDown,
    /// The interface has no address to send adverts from.
    NoAddress,
    /// Adverts can be neither sent nor heard.
    NoSocket,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::InterfaceMissing => "the interface does not exist",
            Fault::InterfaceDown => "the interface is down",
            Fault::NoAddress => "the interface has no address to send adverts from",
            Fault::NoSocket => "there is no socket for adverts",
        })
    }
}
