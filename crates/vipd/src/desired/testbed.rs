//! A small configuration for tests of the policy.

use std::collections::BTreeMap;
use std::time::Duration;

use health::{CheckKind, CheckSpec, Start};
use ipvs::{
    Destination, DestinationKey, Forwarding, Protocol, Scheduler, SchedulerName, Service,
    ServiceFlags, ServiceKey,
};

use crate::config::{
    Active, Config, Global, Ipvs, Method, MinimumUp, OnFailure, OnStop, RealServer, Require,
    SorryServer, Sysctl, VirtualServer, When,
};

/// One virtual server, `web`, with three real servers, told apart by their ports 1, 2 and 3.
pub(crate) fn config(change: impl FnOnce(&mut VirtualServer)) -> Config {
    let mut server = VirtualServer {
        name: "web".to_owned(),
        keys: vec![service_key()],
        netmask6: 128,
        marks: Vec::new(),
        service: Service {
            scheduler: SchedulerName::Known(Scheduler::Wlc),
            flags: ServiceFlags::default(),
            persistence: None,
        },
        vrrp: None,
        active: Active::Always,
        when: When::Always,
        method: Method::plain(Forwarding::Nat),
        quorum: 1,
        hysteresis: 0,
        on_failure: OnFailure::Remove,
        slow_start: Duration::ZERO,
        minimum_up: MinimumUp::Count(0),
        sorry_server: None,
        real_servers: (1..=3).map(real).collect(),
    };
    change(&mut server);
    Config {
        global: Global {
            name: "lb".to_owned(),
            control_socket: "/run/vipd/control.sock".into(),
            http: None,
            http_public: false,
            state_dir: "/var/lib/vipd".into(),
        },
        ipvs: Ipvs {
            resync_interval: Duration::from_secs(10),
            on_stop: OnStop::Remove,
            timeouts: None,
            sync: None,
            sysctl: BTreeMap::new(),
        },
        sysctl: Sysctl::default(),
        sync_groups: Vec::new(),
        track_scripts: Vec::new(),
        vrrp: Vec::new(),
        virtual_servers: vec![server],
        notify: vec![],
    }
}

pub(crate) fn real(n: u16) -> RealServer {
    RealServer {
        key: key(n),
        destination: destination(),
        masquerade: false,
        checks: vec![spec(n)],
        require: Require::All,
    }
}

pub(crate) fn service_key() -> ServiceKey {
    let address = "10.0.0.1:80".parse().unwrap();
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address,
    }
}

pub(crate) fn key(n: u16) -> DestinationKey {
    DestinationKey(([10, 0, 0, 9], n).into())
}

pub(crate) fn destination() -> Destination {
    Destination {
        forwarding: Forwarding::Nat,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

pub(crate) fn sorry() -> SorryServer {
    SorryServer {
        key: key(99),
        destination: destination(),
        masquerade: false,
    }
}

pub(crate) fn spec(n: u16) -> CheckSpec {
    CheckSpec {
        route: health::Route::default(),
        target: key(n).0,
        kind: CheckKind::Tcp,
        interval: Duration::from_secs(5),
        fast_interval: None,
        down_interval: None,
        timeout: Duration::from_secs(3),
        rise: 1,
        fall: 2,
        start: Start::Down,
        flap: None,
    }
}
