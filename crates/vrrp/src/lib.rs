//! VRRP versions 2 and 3 as values: packets, the virtual router and its timers.
//!
//! Bytes and `now` go in, actions and one deadline come out. Nothing here does I/O, waits, or looks
//! at a clock (`Instant::now` is banned by this crate's `clippy.toml`): the same inputs with the same
//! times give the same actions.
//!
//! RFC 9568 calls the master "Active"; this project says Master and Backup, as its users do.

mod action;
mod authentication;
mod checksum;
mod datagram;
mod discard;
mod event;
mod packet;
mod parameters;
mod receive;
mod router;
mod routers;
mod timers;
mod trailer;

pub use action::{Action, Notice, Reason, StateName};
pub use authentication::{Authentication, Hmac, Key, Mismatch, Password};
pub use datagram::{Datagram, ipv4_packet, ipv6_packet};
pub use discard::Discard;
pub use event::{Event, Fault, Path};
pub use packet::{Advertisement, GROUP_V4, GROUP_V6, PROTOCOL};
pub use parameters::{
    ChecksumForm, Family, PRIORITY_OWNER, PRIORITY_STOP, Parameters, Peer, TakeoverProbe, Unicast,
    Version,
};
pub use router::{Listening, Snapshot, Speaking, State, VirtualRouter};
pub use routers::{Handover, Heartbeat, Received, RouterKey, Routers};
pub use timers::{master_down_interval, skew_time};
