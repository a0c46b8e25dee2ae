//! The kinds of events, and what each means for a reader.

use tracing::Level;
use vrrp::{Notice, StateName};

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
    /// All virtual routers of a sync group are master.
    SyncGroupMaster,
    /// All of them are backup.
    SyncGroupBackup,
    /// One of them is in fault, and all with it.
    SyncGroupFault,
    /// All of them take no part.
    SyncGroupInitialize,
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
    /// What should be remembered over a restart cannot be written.
    StateUnwritable,
    /// It can again, and is.
    StateWritten,
    /// A `[[notify]]` fails that worked before.
    NotifyFailed,
    /// It works again.
    NotifyRecovered,
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
    /// The crash guard died; another one is started.
    GuardLost,
    /// There is one again.
    GuardFound,
    /// The daemon had hung, and its guard has taken everything away.
    GuardActed,
    /// Another process of vipd has taken the place of the one before.
    Upgraded,
    /// One could not; that before goes on.
    UpgradeFailed,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 56] = [
        Kind::VrrpMaster,
        Kind::VrrpBackup,
        Kind::VrrpFault,
        Kind::VrrpInitialize,
        Kind::SyncGroupMaster,
        Kind::SyncGroupBackup,
        Kind::SyncGroupFault,
        Kind::SyncGroupInitialize,
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
        Kind::StateUnwritable,
        Kind::StateWritten,
        Kind::NotifyFailed,
        Kind::NotifyRecovered,
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
        Kind::GuardLost,
        Kind::GuardFound,
        Kind::GuardActed,
        Kind::Upgraded,
        Kind::UpgradeFailed,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::VrrpMaster => "vrrp.master",
            Kind::VrrpBackup => "vrrp.backup",
            Kind::VrrpFault => "vrrp.fault",
            Kind::VrrpInitialize => "vrrp.initialize",
            Kind::SyncGroupMaster => "sync_group.master",
            Kind::SyncGroupBackup => "sync_group.backup",
            Kind::SyncGroupFault => "sync_group.fault",
            Kind::SyncGroupInitialize => "sync_group.initialize",
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
            Kind::StateUnwritable => "state.unwritable",
            Kind::StateWritten => "state.written",
            Kind::NotifyFailed => "notify.failed",
            Kind::NotifyRecovered => "notify.recovered",
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
            Kind::GuardLost => "guard.lost",
            Kind::GuardFound => "guard.found",
            Kind::GuardActed => "guard.acted",
            Kind::Upgraded => "upgrade.done",
            Kind::UpgradeFailed => "upgrade.failed",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What it is about. Of two kinds with one topic and one object the later one makes the earlier one
    /// old news. `None`: what happened stays news whatever follows.
    #[must_use]
    pub fn topic(self) -> Option<&'static str> {
        match self {
            Kind::VrrpMaster | Kind::VrrpBackup | Kind::VrrpFault | Kind::VrrpInitialize => {
                Some("vrrp.state")
            }
            Kind::SyncGroupMaster
            | Kind::SyncGroupBackup
            | Kind::SyncGroupFault
            | Kind::SyncGroupInitialize => Some("sync_group.state"),
            Kind::VrrpRival | Kind::VrrpRivalGone => Some("vrrp.rival"),
            Kind::RealServerDown | Kind::RealServerUp => Some("real_server.health"),
            Kind::RealServerDrained | Kind::RealServerDisabled | Kind::RealServerEnabled => {
                Some("real_server.order")
            }
            Kind::CheckDown | Kind::CheckUp => Some("check.health"),
            Kind::ChecksAllFailing | Kind::ChecksAllFailingGone => Some("checks.all_failing"),
            Kind::PoolPanic | Kind::PoolPanicGone => Some("pool.panic"),
            Kind::QuorumLost | Kind::QuorumGained => Some("quorum"),
            Kind::MaintenanceOn | Kind::MaintenanceOff => Some("maintenance"),
            Kind::GuardLost | Kind::GuardFound => Some("guard"),
            Kind::StateUnwritable | Kind::StateWritten => Some("state.writing"),
            Kind::VrrpSuspect
            | Kind::VrrpTakeoverAnswered
            | Kind::VrrpIncompatible
            | Kind::AddressConflict
            | Kind::AddressRepaired
            | Kind::AddressRefused
            | Kind::IpvsRepaired
            | Kind::IpvsRefused
            | Kind::ConnectionsSent
            | Kind::ConnectionsFailed
            | Kind::ConnectionsPeerSilent
            | Kind::RealServerFlapping
            | Kind::CheckWarning
            | Kind::ChecksResources
            | Kind::RealServerWeight
            | Kind::StateUnreadable
            | Kind::NotifyFailed
            | Kind::NotifyRecovered
            | Kind::ConfigReloaded
            | Kind::ConfigRefused
            | Kind::ConfigTrial
            | Kind::ConfigConfirmed
            | Kind::ConfigWentBack
            | Kind::Switchover
            | Kind::GuardActed
            | Kind::Upgraded
            | Kind::UpgradeFailed => None,
        }
    }

    /// What follows from it, unless whoever records it knows better.
    pub(super) fn consequence(self) -> &'static str {
        match self {
            Kind::VrrpMaster => "it holds the virtual addresses and gets the clients",
            Kind::VrrpBackup => "it holds no virtual addresses and waits for the master to fail",
            Kind::VrrpFault => "it holds no virtual addresses and cannot become master",
            Kind::VrrpInitialize => "it takes no part",
            Kind::SyncGroupMaster => "its routers hold their virtual addresses, all of them",
            Kind::SyncGroupBackup => "its routers hold no virtual addresses",
            Kind::SyncGroupFault => "none of its routers can become master",
            Kind::SyncGroupInitialize => "its routers take no part",
            Kind::VrrpRival => "two hosts hold the virtual addresses; clients reach either",
            Kind::VrrpRivalGone => "it alone holds the virtual addresses, and announces them again",
            Kind::VrrpSuspect => "it does not become master while that host answers",
            Kind::VrrpTakeoverAnswered => "two hosts may hold the virtual addresses",
            Kind::VrrpIncompatible => "the two do not hear each other and may both be master",
            Kind::AddressConflict => "some clients may reach the other host",
            Kind::AddressRepaired => "it is as the configuration says again",
            Kind::AddressRefused => "clients cannot use it here until the kernel takes it",
            Kind::IpvsRepaired => "the kernel's table is as the configuration says again",
            Kind::IpvsRefused => "the kernel's table lacks it; it is tried again",
            Kind::ConnectionsSent => "connections survive a takeover by the peer",
            Kind::ConnectionsFailed | Kind::ConnectionsPeerSilent => {
                "connections may break if the peer takes over"
            }
            Kind::RealServerDown => "it gets no new connections",
            Kind::RealServerUp => "it gets connections",
            Kind::RealServerFlapping => "it gets no connections until it is stable",
            Kind::CheckDown | Kind::CheckUp => "nothing changes: its other checks decide",
            Kind::CheckWarning => "nothing changes yet",
            Kind::ChecksResources => "no real server is taken out for it",
            Kind::ChecksAllFailing => "no virtual server may have anybody who serves",
            Kind::ChecksAllFailingGone => "real servers come back as their checks pass",
            Kind::RealServerDrained => "it gets no new connections; existing ones finish",
            Kind::RealServerDisabled => "it is out of the pool; its connections break",
            Kind::RealServerEnabled => "it is in the pool while its checks pass",
            Kind::RealServerWeight => "its share of new connections changes",
            Kind::PoolPanic => "clients go to real servers that fail their checks",
            Kind::PoolPanicGone => "clients go to real servers that pass their checks",
            Kind::StateUnreadable => "vipd goes on without it",
            Kind::StateUnwritable => "vipd goes on; a restart will not know of it",
            Kind::StateWritten => "a restart will know of it",
            Kind::QuorumLost => {
                "clients go to the sorry server or are refused; routers that track it fail"
            }
            Kind::QuorumGained => "clients are served",
            Kind::NotifyFailed => "it does not learn what happens",
            Kind::NotifyRecovered => "it learns what happens",
            Kind::ConfigReloaded => "the file is in force",
            Kind::ConfigRefused => "the configuration before it stays in force",
            Kind::ConfigTrial => "it goes back to the one before unless it is confirmed in time",
            Kind::ConfigConfirmed => "it stays in force",
            Kind::ConfigWentBack => "the configuration before the trial is in force",
            Kind::MaintenanceOn => "its virtual routers are not master until it is off",
            Kind::MaintenanceOff => "its virtual routers may become master",
            Kind::Switchover => "the peer becomes master",
            Kind::GuardLost => "a crash in this moment would leave the virtual addresses here",
            Kind::GuardFound => "a crash leaves nothing behind again",
            Kind::GuardActed => "peers were told; what is still to be held here is put back",
            Kind::Upgraded => "everything goes on as before, with another version perhaps",
            Kind::UpgradeFailed => "nothing: the daemon that ran goes on",
        }
    }

    pub(super) fn level(self) -> Level {
        match self {
            Kind::VrrpMaster
            | Kind::VrrpBackup
            | Kind::VrrpInitialize
            | Kind::SyncGroupMaster
            | Kind::SyncGroupBackup
            | Kind::SyncGroupInitialize
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
            | Kind::StateWritten
            | Kind::NotifyRecovered
            | Kind::GuardFound
            | Kind::Upgraded
            | Kind::Switchover => Level::INFO,
            Kind::VrrpFault
            | Kind::SyncGroupFault
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
            | Kind::NotifyFailed
            | Kind::GuardLost
            | Kind::ConfigWentBack
            | Kind::MaintenanceOn => Level::WARN,
            Kind::VrrpRival
            | Kind::VrrpTakeoverAnswered
            | Kind::PoolPanic
            | Kind::ChecksResources
            | Kind::ChecksAllFailing
            | Kind::StateUnreadable
            | Kind::StateUnwritable
            | Kind::AddressConflict
            | Kind::AddressRefused
            | Kind::IpvsRefused
            | Kind::ConnectionsFailed
            | Kind::GuardActed
            | Kind::UpgradeFailed
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
