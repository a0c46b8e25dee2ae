//! The kernel's IPVS table as values: the model, the difference between two tables, the netlink
//! messages that carry it, and one client that talks to the kernel.
//!
//! It knows nothing of VRRP, of health checks or of any configuration format.

mod table;

pub use table::{
    Destination, DestinationKey, DestinationStatistics, Dump, Family, Forwarding, Persistence,
    Pool, Protocol, Scheduler, SchedulerName, Service, ServiceFlags, ServiceKey, Statistics, Table,
    Tunnel, TunnelChecksum,
};
