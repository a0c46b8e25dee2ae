//! VRRP versions 2 and 3 as values: packets, the virtual router and its timers.
//!
//! Bytes and `now` go in, actions and one deadline come out. Nothing here does I/O, waits, or looks
//! at a clock (`Instant::now` is banned by this crate's `clippy.toml`): the same inputs with the same
//! times give the same actions.
//!
//! RFC 9568 calls the master "Active"; this project says Master and Backup, as its users do.

mod parameters;

pub use parameters::{ChecksumForm, Family, PRIORITY_OWNER, PRIORITY_STOP, Parameters, Version};
