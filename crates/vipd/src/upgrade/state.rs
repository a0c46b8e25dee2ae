//! What the director knows, for the process that goes on with it. What is on the disk (orders for real
//! servers, maintenance, what settings of the kernel were before, what webhooks have not taken) is not
//! part of it; nor what is asked of the kernel anyway.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use health::{Health, Standing};
use serde::{Deserialize, Serialize};
use vrrp::StateName;

use crate::counters::Counts;
use crate::desired::Carried;
use crate::events::Event;
use crate::track;

/// All of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) loaded: SystemTime,
    pub(crate) last_reload: Option<(SystemTime, Option<String>)>,
    pub(crate) unconfirmed: bool,
    pub(crate) trial: Option<TrialState>,
    pub(crate) routers: BTreeMap<String, RouterState>,
    pub(crate) counts: BTreeMap<String, Counts>,
    /// By virtual server, real server, and the place of the check there.
    pub(crate) checks: Vec<(String, String, usize, CheckState)>,
    pub(crate) pools: BTreeMap<String, Carried>,
    pub(crate) track: track::Facts,
    /// The timeouts of IPVS before ours: TCP, TCP after FIN, UDP.
    pub(crate) timeouts_before: Option<[Duration; 3]>,
    pub(crate) repairs: u64,
    pub(crate) address_repairs: u64,
    pub(crate) address_conflicts: u64,
    pub(crate) events: Vec<Event>,
}

/// A configuration on trial.
#[derive(Serialize, Deserialize)]
pub(crate) struct TrialState {
    /// What comes back.
    pub(crate) former: String,
    pub(crate) left: Duration,
}

/// A virtual router, as the director last heard of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct RouterState {
    pub(crate) state: StateName,
    pub(crate) why: String,
    pub(crate) effective_priority: u8,
    pub(crate) master: Option<(IpAddr, u8)>,
    pub(crate) hold: bool,
    pub(crate) announce: u64,
    pub(crate) yielded: bool,
    pub(crate) lingering: bool,
    pub(crate) since: SystemTime,
    pub(crate) transitions: u64,
}

/// A check.
#[derive(Serialize, Deserialize)]
pub(crate) struct CheckState {
    pub(crate) health: Health,
    /// The weight that it asks for: a number, or percent.
    pub(crate) weight: Option<(u32, bool)>,
    /// `None`: it does not run.
    pub(crate) standing: Option<Standing>,
    pub(crate) flapping: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) last_latency: Option<Duration>,
}
