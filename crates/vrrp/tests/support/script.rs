//! A virtual router driven step by step in virtual time, its actions read as text.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use vrrp::{
    Action, Advertisement, Event, Family, Parameters, Path, State, StateName, Version,
    VirtualRouter,
};

/// Gives everything up at once.
pub(crate) const STOP: Event = Event::Shutdown {
    make_before_break: false,
};

/// The address of the router under test; peers are below and above it.
pub(crate) const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 5));
pub(crate) const LOWER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 4));
pub(crate) const GREATER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 16));

/// When a script's router with an advert interval of 1 s is master, if it was made one.
pub(crate) const MASTER_AT: u64 = 10_000_000;

pub(crate) struct Script {
    pub(crate) router: VirtualRouter,
    start: Instant,
}

impl Script {
    /// Not started, at microsecond 0.
    pub(crate) fn new(parameters: Parameters) -> Script {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
        let start = Instant::now();
        let mut router = VirtualRouter::new(parameters);
        router.handle(start, Event::SourceChanged(OWN));
        Script { router, start }
    }

    /// Started at microsecond 0.
    pub(crate) fn backup(parameters: Parameters) -> Script {
        let mut script = Script::new(parameters);
        script.feed(0, Event::Startup, "initialize -> backup: started");
        script
    }

    /// Started, and master since `MASTER_AT`.
    pub(crate) fn master(parameters: Parameters) -> Script {
        let advert = format!("advert {}", parameters.priority);
        let mut script = Script::backup(parameters);
        let wanted = format!("{advert}; backup -> master: no master was heard; install; announce");
        script.feed(MASTER_AT, Event::Timeout, &wanted);
        script
    }

    /// Feeds an event at a microsecond and compares the actions.
    #[track_caller]
    pub(crate) fn feed(&mut self, micros: u64, event: Event, wanted: &str) {
        let (now, timeout) = (self.at(micros), event == Event::Timeout);
        let actions = self.router.handle(now, event);
        let text: Vec<_> = actions.iter().map(text).collect();
        assert_eq!(text.join("; "), wanted);
        let listens = matches!(
            self.router.state_name(),
            StateName::Backup | StateName::Master
        );
        let waits = listens || self.router.is_lingering();
        assert!(
            self.router.poll_timeout().is_some() || !waits,
            "W7: a deadline where one is needed"
        );
        if timeout {
            assert!(
                self.router.poll_timeout().is_none_or(|at| at > now),
                "W7: no deadline left behind"
            );
        }
    }

    /// Compares the deadline, in nanoseconds from the start.
    #[track_caller]
    pub(crate) fn due(&self, nanos: u64) {
        let due = self
            .router
            .poll_timeout()
            .map(|at| at.duration_since(self.start));
        assert_eq!(due, Some(Duration::from_nanos(nanos)));
    }

    /// Compares the name of the state.
    #[track_caller]
    pub(crate) fn state(&self, wanted: StateName) {
        assert_eq!(self.router.state_name(), wanted);
        assert_eq!(
            wanted == StateName::Backup,
            matches!(self.router.state(), State::Backup(_))
        );
    }

    pub(crate) fn at(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros)
    }
}

/// Advert interval 1 s, preempting at once.
pub(crate) fn parameters(version: Version, priority: u8) -> Parameters {
    Parameters {
        priority,
        ..Parameters::new(51, version, &[[203, 0, 113, 1].into()])
    }
}

pub(crate) fn v3(priority: u8) -> Parameters {
    parameters(Version::V3, priority)
}

pub(crate) fn v2(priority: u8) -> Parameters {
    parameters(Version::V2, priority)
}

/// An advert of version 3 with an interval of 1 s; the election does not look at the version.
pub(crate) fn advert(from: IpAddr, priority: u8) -> Event {
    advert_every(Duration::from_secs(1), from, priority)
}

pub(crate) fn advert_every(interval: Duration, from: IpAddr, priority: u8) -> Event {
    let advertisement = Advertisement {
        version: Version::V3,
        family: Family::V4,
        vrid: 51,
        priority,
        interval,
        addresses: [[203, 0, 113, 1].into()].into(),
    };
    Event::Advertisement {
        from,
        advertisement,
        path: Path::Link,
    }
}

/// The same advert on a further path, where this host is `own`.
pub(crate) fn by_heartbeat(advert: Event, own: IpAddr) -> Event {
    let Event::Advertisement {
        from,
        advertisement,
        ..
    } = advert
    else {
        panic!("{advert:?} is no advert");
    };
    Event::Advertisement {
        from,
        advertisement,
        path: Path::Heartbeat { own },
    }
}

fn text(action: &Action) -> String {
    match action {
        Action::SendAdvertisement(advert) => format!("advert {}", advert.priority),
        Action::InstallAddresses => "install".to_owned(),
        Action::RemoveAddresses => "remove".to_owned(),
        Action::Announce => "announce".to_owned(),
        Action::ProbeAddresses => "probe".to_owned(),
        Action::Notice(notice) => format!("({notice})"),
        Action::StateChanged { from, to, why } => format!("{from} -> {to}: {why}"),
    }
}
