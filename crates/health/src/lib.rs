//! Health checks of real servers: what to check ([`CheckSpec`]), the probes that do it, the rise/fall
//! verdict over their outcomes, and the runner that keeps thousands of them going.
//!
//! It knows nothing of IPVS, of weights or of VRRP.

mod check;

pub use check::{CheckKind, CheckSpec, HttpSpec, Start, TlsSpec};
