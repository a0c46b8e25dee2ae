//! The kernel's IPVS table as values: the model, the difference between two tables, the netlink
//! messages that carry it, and one client that talks to the kernel.
//!
//! It knows nothing of VRRP, of health checks or of any configuration format.

mod client;
mod connection;
mod daemon;
mod diff;
pub mod message;
mod refused;
pub mod sync;
mod table;
mod timeouts;

pub use client::{Client, Error, OpenError};
pub use connection::{Connection, ConnectionLine, State};
pub use daemon::{Daemon, DaemonRole};
pub use diff::{Change, Impossible, apply_to, diff, diff_among};
pub use message::Info;
pub use refused::Refused;
pub use table::{
    Destination, DestinationKey, DestinationStatistics, Dump, Family, Forwarding, Persistence,
    Pool, Protocol, Rates, Scheduler, SchedulerName, Service, ServiceFlags, ServiceKey, Statistics,
    Table, Tunnel, TunnelChecksum,
};
pub use timeouts::Timeouts;
