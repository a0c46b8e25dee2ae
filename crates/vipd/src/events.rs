//! What happened: one bounded list in memory, which the log, `vipctl events` and whoever wants to
//! be told share. [`Events::record`] is the one way in, so that log and list never differ.
//!
//! Identifiers go up by one from the millisecond of the start: they go up over restarts, too, and a
//! follower that knows the last one it saw misses nothing.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{Level, error, info, warn};
use vrrp::{Notice, StateName};

use crate::net::sys;

/// How many are kept; the oldest go first.
pub const CAPACITY: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Greater than that of every event before.
    pub id: u64,
    /// When, to the millisecond.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// The name of its [`Kind`]; a string, so that a client reads the events of a newer daemon.
    pub kind: Cow<'static, str>,
    /// To what: the name of a virtual router or a virtual server, `VIRTUAL_SERVER/REAL_SERVER`, an
    /// address, a file.
    pub object: String,
    /// What, in words.
    pub message: String,
}

/// Events in the order they happened, as the control API hands them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Newest last.
    pub events: Vec<Event>,
    /// The identifier of the newest event there is.
    pub last_id: u64,
}

/// The kinds of events. The names are what `[[notify]]` and `vipctl events` use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A virtual router became master.
    VrrpMaster,
    /// A virtual router became backup.
    VrrpBackup,
    /// A virtual router cannot work.
    VrrpFault,
    /// A virtual router is stopped.
    VrrpInitialize,
    /// Another master is heard while this one is master.
    VrrpRival,
    /// It is not heard any more.
    VrrpRivalGone,
    /// No master is heard, but somebody answers for the addresses.
    VrrpSuspect,
    /// It took over although somebody answers for the addresses.
    VrrpTakeoverAnswered,
    /// A living peer whose adverts break a compatibility rule.
    VrrpIncompatible,
    /// A foreign Ethernet address claims a virtual address.
    AddressConflict,
    /// A virtual address that somebody had deleted is back.
    AddressRepaired,
    /// A virtual address cannot be had.
    AddressRefused,
    /// A change to the IPVS table by somebody else was undone.
    IpvsRepaired,
    /// The kernel refused a change to the IPVS table.
    IpvsRefused,
    /// The peer was sent the connection table, not only because time had passed.
    ConnectionsSent,
    /// It was not: its kernel may know none of them.
    ConnectionsFailed,
    /// The peer is not heard any more, or does not say how many connections it holds.
    ConnectionsPeerSilent,
    /// A real server fails its checks.
    RealServerDown,
    /// A real server passes its checks.
    RealServerUp,
    /// It changed too often: it stays out until it is stable.
    RealServerFlapping,
    /// A check of a real server fails, and its other checks decide.
    CheckDown,
    /// It passes again.
    CheckUp,
    /// A check passes, and tells of something to look at.
    CheckWarning,
    /// Probes cannot be made because this host ran out of something.
    ChecksResources,
    /// Every target fails at once: this host's own network may be gone.
    ChecksAllFailing,
    /// One passes again.
    ChecksAllFailingGone,
    /// An operator lets a real server finish its connections and get no new ones.
    RealServerDrained,
    /// An operator took a real server out of the pool.
    RealServerDisabled,
    /// An operator put a real server back.
    RealServerEnabled,
    /// A real server has another weight by order, or its configured one again.
    RealServerWeight,
    /// Fewer real servers than `minimum_up` pass: the last good ones stay.
    PoolPanic,
    /// Enough pass again.
    PoolPanicGone,
    /// What was remembered over a restart cannot be read.
    StateUnreadable,
    /// A virtual server has too few healthy real servers.
    QuorumLost,
    /// It has enough again.
    QuorumGained,
    /// A configuration was put in force.
    ConfigReloaded,
    /// A configuration was refused; that before it stays in force.
    ConfigRefused,
    /// A configuration was put in force on trial.
    ConfigTrial,
    /// The one on trial stays.
    ConfigConfirmed,
    /// The one before it is in force again.
    ConfigWentBack,
    /// The director gives everything up until maintenance is off.
    MaintenanceOn,
    /// It takes part again.
    MaintenanceOff,
    /// An operator ordered a handover.
    Switchover,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 43] = [
        Kind::VrrpMaster,
        Kind::VrrpBackup,
        Kind::VrrpFault,
        Kind::VrrpInitialize,
        Kind::VrrpRival,
        Kind::VrrpRivalGone,
        Kind::VrrpSuspect,
        Kind::VrrpTakeoverAnswered,
        Kind::VrrpIncompatible,
        Kind::AddressConflict,
        Kind::AddressRepaired,
        Kind::AddressRefused,
        Kind::IpvsRepaired,
        Kind::IpvsRefused,
        Kind::ConnectionsSent,
        Kind::ConnectionsFailed,
        Kind::ConnectionsPeerSilent,
        Kind::RealServerDown,
        Kind::RealServerUp,
        Kind::RealServerFlapping,
        Kind::CheckDown,
        Kind::CheckUp,
        Kind::CheckWarning,
        Kind::ChecksResources,
        Kind::ChecksAllFailing,
        Kind::ChecksAllFailingGone,
        Kind::RealServerDrained,
        Kind::RealServerDisabled,
        Kind::RealServerEnabled,
        Kind::RealServerWeight,
        Kind::PoolPanic,
        Kind::PoolPanicGone,
        Kind::StateUnreadable,
        Kind::QuorumLost,
        Kind::QuorumGained,
        Kind::ConfigReloaded,
        Kind::ConfigRefused,
        Kind::ConfigTrial,
        Kind::ConfigConfirmed,
        Kind::ConfigWentBack,
        Kind::MaintenanceOn,
        Kind::MaintenanceOff,
        Kind::Switchover,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::VrrpMaster => "vrrp.master",
            Kind::VrrpBackup => "vrrp.backup",
            Kind::VrrpFault => "vrrp.fault",
            Kind::VrrpInitialize => "vrrp.initialize",
            Kind::VrrpRival => "vrrp.rival",
            Kind::VrrpRivalGone => "vrrp.rival_gone",
            Kind::VrrpSuspect => "vrrp.suspect",
            Kind::VrrpTakeoverAnswered => "vrrp.takeover_answered",
            Kind::VrrpIncompatible => "vrrp.incompatible",
            Kind::AddressConflict => "address.conflict",
            Kind::AddressRepaired => "address.repaired",
            Kind::AddressRefused => "address.refused",
            Kind::IpvsRepaired => "ipvs.repaired",
            Kind::IpvsRefused => "ipvs.refused",
            Kind::ConnectionsSent => "connections.sent",
            Kind::ConnectionsFailed => "connections.failed",
            Kind::ConnectionsPeerSilent => "connections.peer_silent",
            Kind::RealServerDown => "real_server.down",
            Kind::RealServerUp => "real_server.up",
            Kind::RealServerFlapping => "real_server.flapping",
            Kind::CheckDown => "check.down",
            Kind::CheckUp => "check.up",
            Kind::CheckWarning => "check.warning",
            Kind::ChecksResources => "checks.resources",
            Kind::ChecksAllFailing => "checks.all_failing",
            Kind::ChecksAllFailingGone => "checks.all_failing_gone",
            Kind::RealServerDrained => "real_server.drained",
            Kind::RealServerDisabled => "real_server.disabled",
            Kind::RealServerEnabled => "real_server.enabled",
            Kind::RealServerWeight => "real_server.weight",
            Kind::PoolPanic => "pool.panic",
            Kind::PoolPanicGone => "pool.panic_gone",
            Kind::StateUnreadable => "state.unreadable",
            Kind::QuorumLost => "quorum.lost",
            Kind::QuorumGained => "quorum.gained",
            Kind::ConfigReloaded => "config.reloaded",
            Kind::ConfigRefused => "config.refused",
            Kind::ConfigTrial => "config.trial",
            Kind::ConfigConfirmed => "config.confirmed",
            Kind::ConfigWentBack => "config.went_back",
            Kind::MaintenanceOn => "maintenance.on",
            Kind::MaintenanceOff => "maintenance.off",
            Kind::Switchover => "switchover",
        }
    }

    fn level(self) -> Level {
        match self {
            Kind::VrrpMaster
            | Kind::VrrpBackup
            | Kind::VrrpInitialize
            | Kind::VrrpRivalGone
            | Kind::ConnectionsSent
            | Kind::RealServerUp
            | Kind::CheckUp
            | Kind::ChecksAllFailingGone
            | Kind::RealServerDrained
            | Kind::RealServerDisabled
            | Kind::RealServerEnabled
            | Kind::RealServerWeight
            | Kind::PoolPanicGone
            | Kind::QuorumGained
            | Kind::ConfigReloaded
            | Kind::ConfigTrial
            | Kind::ConfigConfirmed
            | Kind::MaintenanceOff
            | Kind::Switchover => Level::INFO,
            Kind::VrrpFault
            | Kind::VrrpSuspect
            | Kind::VrrpIncompatible
            | Kind::AddressRepaired
            | Kind::IpvsRepaired
            | Kind::ConnectionsPeerSilent
            | Kind::RealServerDown
            | Kind::RealServerFlapping
            | Kind::CheckDown
            | Kind::CheckWarning
            | Kind::QuorumLost
            | Kind::ConfigWentBack
            | Kind::MaintenanceOn => Level::WARN,
            Kind::VrrpRival
            | Kind::VrrpTakeoverAnswered
            | Kind::PoolPanic
            | Kind::ChecksResources
            | Kind::ChecksAllFailing
            | Kind::StateUnreadable
            | Kind::AddressConflict
            | Kind::AddressRefused
            | Kind::IpvsRefused
            | Kind::ConnectionsFailed
            | Kind::ConfigRefused => Level::ERROR,
        }
    }
}

impl From<StateName> for Kind {
    fn from(state: StateName) -> Kind {
        match state {
            StateName::Initialize => Kind::VrrpInitialize,
            StateName::Backup => Kind::VrrpBackup,
            StateName::Master => Kind::VrrpMaster,
            StateName::Fault => Kind::VrrpFault,
        }
    }
}

impl From<&Notice> for Kind {
    fn from(notice: &Notice) -> Kind {
        match notice {
            Notice::Rival { .. } => Kind::VrrpRival,
            Notice::RivalGone { .. } => Kind::VrrpRivalGone,
            Notice::Suspect { .. } => Kind::VrrpSuspect,
            Notice::TakesOverAnswered { .. } => Kind::VrrpTakeoverAnswered,
        }
    }
}

/// The list. Shared by whoever records and whoever reads; nobody holds its lock for longer than a
/// copy takes.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<VecDeque<Event>>,
    last_id: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Events {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let first = since_epoch.unwrap_or_default().as_millis();
        Events {
            kept: Mutex::new(VecDeque::new()),
            last_id: watch::Sender::new(u64::try_from(first).unwrap_or(0)),
        }
    }
}

impl Events {
    /// Logs what happened and keeps it; returns its identifier.
    pub fn record(&self, kind: Kind, object: impl Into<String>, message: impl Into<String>) -> u64 {
        let (object, message) = (object.into(), message.into());
        let event = kind.name();
        match kind.level() {
            Level::ERROR => error!(event, "{object}: {message}"),
            Level::WARN => warn!(event, "{object}: {message}"),
            // No kind has a lower level.
            _ => info!(event, "{object}: {message}"),
        }
        let mut kept = self.kept();
        let id = *self.last_id.borrow() + 1;
        if kept.len() == CAPACITY {
            kept.pop_front();
        }
        kept.push_back(Event {
            id,
            at: SystemTime::now(),
            kind: Cow::Borrowed(event),
            object,
            message,
        });
        self.last_id.send_replace(id);
        id
    }

    /// At most `limit` events that came after the one with that identifier, the oldest of them
    /// first. An identifier that was never given out is from before a clock was set back: then
    /// everything is new.
    #[must_use]
    pub fn since(&self, id: u64, limit: usize) -> Page {
        let kept = self.kept();
        let last_id = self.last_id();
        let after = if id > last_id { 0 } else { id };
        let events = kept.iter().filter(|event| event.id > after);
        Page {
            events: events.take(limit).cloned().collect(),
            last_id,
        }
    }

    /// The last `limit` events.
    #[must_use]
    pub fn newest(&self, limit: usize) -> Page {
        let kept = self.kept();
        let older = kept.len().saturating_sub(limit);
        Page {
            events: kept.iter().skip(older).cloned().collect(),
            last_id: self.last_id(),
        }
    }

    /// The identifier of the newest event; before the first one, that which it follows.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        *self.last_id.borrow()
    }

    /// Returns when [`Events::since`] has something new for that identifier.
    pub async fn wait(&self, id: u64) {
        let mut last_id = self.last_id.subscribe();
        // The sender lives as long as `self`.
        let _ = last_id.wait_for(|last_id| *last_id != id).await;
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // Whoever panicked with the lock left a list that is whole: the last step is one push.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    /// The event for people: local time, kind, object, message. A message of several lines goes on
    /// indented.
    #[must_use]
    pub fn line(&self) -> String {
        let at = sys::local_time(self.at);
        let message: Vec<String> = self.message.lines().map(crate::status::plain).collect();
        let message = message.join("\n    ");
        let object = crate::status::plain(&self.object);
        format!("{at}  {:<16}  {object:<16}  {message}", self.kind)
    }
}

mod rfc3339 {
    use std::time::SystemTime;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::status::rfc3339(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_come_back_in_order_after_the_one_that_is_known() {
        let events = Events::default();
        let first = events.record(Kind::VrrpMaster, "web", "no master was heard");
        let second = events.record(Kind::QuorumLost, "http", "weight 0 of 1");
        assert_eq!(second, first + 1);
        let page = events.since(first, 10);
        assert_eq!(page.last_id, second);
        assert_eq!(page.events.len(), 1);
        assert_eq!(page.events[0].kind, "quorum.lost");
        assert_eq!(page.events[0].object, "http");
        assert_eq!(events.since(second, 10).events, []);
        assert_eq!(ids(&events.newest(1)), [second]);
        assert_eq!(ids(&events.newest(9)), [first, second]);
        assert_eq!(ids(&events.since(0, 1)), [first]);
    }

    #[test]
    fn the_oldest_go_when_the_list_is_full() {
        let events = Events::default();
        let first = events.record(Kind::VrrpMaster, "web", "");
        for _ in 0..CAPACITY {
            events.record(Kind::VrrpBackup, "web", "");
        }
        let page = events.since(0, usize::MAX);
        assert_eq!(page.events.len(), CAPACITY);
        assert_eq!(page.events[0].id, first + 1);
        assert_eq!(page.last_id, first + CAPACITY as u64);
    }

    #[test]
    fn an_identifier_from_the_future_begins_anew() {
        let events = Events::default();
        let id = events.record(Kind::VrrpMaster, "web", "");
        assert_eq!(ids(&events.since(id + 1000, 10)), [id]);
    }

    #[tokio::test]
    async fn a_follower_wakes_when_something_happens_and_not_before() {
        let events = Arc::new(Events::default());
        let known = events.last_id();
        let waiting = tokio::time::timeout(Duration::from_millis(20), events.wait(known));
        assert!(waiting.await.is_err());
        let follower = tokio::spawn({
            let events = Arc::clone(&events);
            async move {
                events.wait(known).await;
                events.since(known, 10)
            }
        });
        let id = events.record(Kind::Switchover, "web", "ordered");
        assert_eq!(ids(&follower.await.unwrap()), [id]);
    }

    #[test]
    fn every_kind_has_a_dotted_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.map(Kind::name).into();
        assert_eq!(names.len(), Kind::ALL.len());
        for name in [
            "vrrp.master",
            "vrrp.backup",
            "vrrp.fault",
            "real_server.down",
            "real_server.up",
            "quorum.lost",
            "quorum.gained",
        ] {
            assert!(names.contains(name), "{name} was promised");
        }
    }

    #[test]
    fn an_event_survives_its_way_as_json() {
        let events = Events::default();
        events.record(Kind::AddressConflict, "10.0.0.1", "claimed");
        let page = events.newest(1);
        let json = serde_json::to_value(&page).unwrap();
        assert_eq!(json["events"][0]["kind"], "address.conflict");
        let at = json["events"][0]["at"].as_str().unwrap();
        assert!(at.ends_with('Z') && at.contains('T'), "{at}");
        let back: Page = serde_json::from_value(json).unwrap();
        assert_eq!(back.events[0].message, "claimed");
        assert_eq!(back.last_id, page.last_id);
    }

    #[test]
    fn the_line_for_people_has_time_kind_object_and_an_indented_rest() {
        let event = Event {
            id: 1,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            kind: "config.refused".into(),
            object: "vipd.toml".to_owned(),
            message: "nothing changed:\nline \x1b[31mtwo".to_owned(),
        };
        let line = event.line();
        let (at, rest) = line.split_at(19);
        assert!(at.starts_with("2027-01-1"), "{line}");
        assert_eq!(
            rest,
            "  config.refused    vipd.toml         nothing changed:\n    line ·[31mtwo"
        );
    }

    fn ids(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.id).collect()
    }
}
