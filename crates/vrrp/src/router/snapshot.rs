//! A virtual router as it is handed over to another process of the same host, which goes on with it as
//! if nothing had happened.
//!
//! Times are distances from an instant that the caller gives, the same for both processes. What is only
//! on its way is not part of it: a question to the link, and the readiness of a member of a sync group,
//! come about again at the next deadline.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Listening, Rival, Speaking, State, VirtualRouter, Wait};
use crate::event::Fault;

/// The state of a virtual router, its configuration left aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    started: bool,
    start_at: Option<Duration>,
    source: Option<IpAddr>,
    faults: Vec<Fault>,
    role: Role,
    linger_until: Option<Duration>,
    yielded: bool,
    offset: i32,
    references_lost: bool,
    on_link: Option<(IpAddr, u8, Duration)>,
    heard_at: Option<Duration>,
    since: Option<Duration>,
    transitions: u64,
}

impl Snapshot {
    /// Whether it is master or backup.
    pub(crate) fn runs(&self) -> bool {
        match self.role {
            Role::Initialize => false,
            Role::Backup { .. } | Role::Master { .. } => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Role {
    Initialize,
    Backup {
        master_down_at: Duration,
        master_adver_interval: Duration,
        preempt_at: Option<Duration>,
        armed_at: Duration,
        wait: Wait,
        master: Option<(IpAddr, u8)>,
        held: u8,
    },
    Master {
        adver_at: Duration,
        rival: Option<Rivalry>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rivalry {
    from: IpAddr,
    priority: u8,
    since: Duration,
    gone_at: Duration,
    on_link_until: Option<Duration>,
}

impl VirtualRouter {
    /// What another process needs to go on with it.
    #[must_use]
    pub fn snapshot(&self, zero: Instant) -> Snapshot {
        let from = |at: Instant| at.saturating_duration_since(zero);
        let role = match &self.state {
            State::Initialize => Role::Initialize,
            State::Backup(listening) => Role::Backup {
                master_down_at: from(listening.master_down_at),
                master_adver_interval: listening.master_adver_interval,
                preempt_at: listening.preempt_at.map(from),
                armed_at: from(listening.armed_at),
                wait: listening.wait,
                master: listening.master,
                held: listening.held,
            },
            State::Master(speaking) => Role::Master {
                adver_at: from(speaking.adver_at),
                rival: speaking.rival.map(|rival| Rivalry {
                    from: rival.from,
                    priority: rival.priority,
                    since: from(rival.since),
                    gone_at: from(rival.gone_at),
                    on_link_until: rival.on_link_until.map(from),
                }),
            },
        };
        Snapshot {
            started: self.started,
            start_at: self.start_at.map(from),
            source: self.source,
            faults: self.faults.iter().cloned().collect(),
            role,
            linger_until: self.linger_until.map(from),
            yielded: self.yielded,
            offset: self.offset,
            references_lost: self.references_lost,
            on_link: self
                .on_link
                .map(|(who, priority, at)| (who, priority, from(at))),
            heard_at: self.heard_at.map(from),
            since: self.since.map(from),
            transitions: self.transitions,
        }
    }

    /// Goes on with what another process had. What is true of the world is fed afterwards, as ever.
    pub(crate) fn resume(&mut self, zero: Instant, snapshot: Snapshot) {
        let at = |distance: Duration| zero + distance;
        self.state = match snapshot.role {
            Role::Initialize => State::Initialize,
            Role::Backup {
                master_down_at,
                master_adver_interval,
                preempt_at,
                armed_at,
                wait,
                master,
                held,
            } => State::Backup(Listening {
                master_down_at: at(master_down_at),
                master_adver_interval,
                preempt_at: preempt_at.map(at),
                armed_at: at(armed_at),
                wait,
                master,
                probe_at: None,
                probed: false,
                answered: None,
                suspect: None,
                held,
                ready: None,
            }),
            Role::Master { adver_at, rival } => State::Master(Speaking {
                adver_at: at(adver_at),
                rival: rival.map(|rival| Rival {
                    from: rival.from,
                    priority: rival.priority,
                    since: at(rival.since),
                    gone_at: at(rival.gone_at),
                    on_link_until: rival.on_link_until.map(at),
                }),
            }),
        };
        self.started = snapshot.started;
        self.start_at = snapshot.start_at.map(at);
        self.source = snapshot.source.or(self.source);
        self.faults = snapshot.faults.into_iter().collect();
        self.linger_until = snapshot.linger_until.map(at);
        self.yielded = snapshot.yielded;
        self.offset = snapshot.offset;
        self.references_lost = snapshot.references_lost;
        let on_link = snapshot.on_link;
        self.on_link = on_link.map(|(who, priority, heard)| (who, priority, at(heard)));
        self.heard_at = snapshot.heard_at.map(at);
        self.since = snapshot.since.map(at);
        self.transitions = snapshot.transitions;
    }
}
