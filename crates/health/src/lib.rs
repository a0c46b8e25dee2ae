//! Health checks of real servers: what to check ([`CheckSpec`]), the probes that do it, the rise/fall
//! verdict over their outcomes, and the runner that keeps thousands of them going.
//!
//! It knows nothing of IPVS or VRRP, and only hands on the weight that a real server asks for.

mod check;
mod course;
mod damping;
mod failure;
mod histogram;
mod limits;
mod outbreak;
mod pattern;
mod probe;
pub mod program;
mod report;
mod runner;
mod sockets;
mod verdict;

pub use check::{
    CheckKind, CheckSpec, GrpcSpec, HttpSpec, HttpVersion, Identity, Route, SmtpSpec, Start,
    TlsSpec, address_toward,
};
pub use course::Standing;
pub use damping::{Flap, Unrest};
pub use failure::{BodyWanted, Failure, Phase};
pub use histogram::Histogram;
pub use pattern::Pattern;
pub use probe::{
    AgentSpec, Beginning, DnsRecord, DnsSpec, Echo, Passed, Probe, Step, UdpSpec, Weight,
};
pub use report::Report;
pub use runner::{Plan, Runner};
pub use verdict::{Health, Transition, Verdict};
