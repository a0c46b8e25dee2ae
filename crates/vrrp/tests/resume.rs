//! A virtual router that another process goes on with.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and any instant serves as the start"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use vrrp::{
    Action, Advertisement, Datagram, Event, Family, Fault, GROUP_V4, Handover, Parameters,
    RouterKey, Routers, StateName, Version, VirtualRouter,
};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const KEY: RouterKey = RouterKey {
    link: 1,
    family: Family::V4,
    vrid: 51,
};

#[test]
fn a_master_goes_on_with_the_very_next_advert_and_changes_nothing() {
    let now = Instant::now();
    let mut old = started(now);
    let due = old.poll_timeout().unwrap();
    old.timeout(due);
    assert_eq!(state(&old), StateName::Master);
    let mut new = passed_on(&old, now);
    assert_eq!(state(&new), StateName::Master);
    assert_eq!(new.poll_timeout(), old.poll_timeout());
    assert_eq!(new.settle(due), []);
    let next = new.poll_timeout().unwrap();
    let (from_old, from_new) = (old.timeout(next), new.timeout(next));
    assert_eq!(from_old, from_new);
    assert!(matches!(
        from_new[..],
        [(KEY, Action::SendAdvertisement(_))]
    ));
    assert_eq!(new.poll_timeout(), old.poll_timeout());
    let transitions = |routers: &Routers| routers.get(&KEY).unwrap().transitions();
    assert_eq!(transitions(&new), transitions(&old));
}

#[test]
fn a_backup_knows_its_master_and_calls_it_dead_when_it_would_have_before() {
    let now = Instant::now();
    let mut old = started(now);
    hear(&mut old, now, 150);
    let mut new = passed_on(&old, now);
    let router = new.get(&KEY).unwrap();
    assert_eq!(router.master(), Some((PEER, 150)));
    assert_eq!(router.since(), old.get(&KEY).unwrap().since());
    // The question to the link is not part of it: its deadline may be the next one.
    let down = now + Duration::from_secs(4);
    let takes_over = |routers: &mut Routers| {
        let mut at = None;
        while let Some(due) = routers.poll_timeout().filter(|due| *due < down) {
            routers.timeout(due);
            if state(routers) == StateName::Master {
                at = Some(due);
                break;
            }
        }
        at
    };
    let at = takes_over(&mut new);
    assert!(at.is_some());
    assert_eq!(at, takes_over(&mut old));
}

#[test]
fn faults_and_a_handover_by_order_are_carried_and_end_as_ever() {
    let now = Instant::now();
    let mut old = started(now);
    hear(&mut old, now, 50);
    let due = old.poll_timeout().unwrap();
    old.timeout(due);
    old.handle(now, &KEY, Event::FaultRaised(Fault::InterfaceDown));
    let mut new = passed_on(&old, now);
    assert_eq!(state(&new), StateName::Fault);
    new.handle(now, &KEY, Event::FaultCleared(Fault::InterfaceDown));
    assert_eq!(state(&new), StateName::Backup);
}

fn started(now: Instant) -> Routers {
    let mut routers = fresh();
    routers.handle(now, &KEY, Event::SourceChanged(OWN));
    routers.handle(now, &KEY, Event::Startup);
    routers
}

fn fresh() -> Routers {
    let mut routers = Routers::default();
    routers.insert(KEY, VirtualRouter::new(parameters()));
    routers
}

/// Through JSON, as between two processes.
fn passed_on(old: &Routers, zero: Instant) -> Routers {
    let text = serde_json::to_string(&old.hand_over(&KEY, zero).unwrap()).unwrap();
    let handover: Handover = serde_json::from_str(&text).unwrap();
    let mut new = fresh();
    new.resume(&KEY, zero, handover);
    new
}

fn parameters() -> Parameters {
    Parameters::new(51, Version::V3, &[[203, 0, 113, 1].into()])
}

fn hear(routers: &mut Routers, now: Instant, priority: u8) {
    let advert = Advertisement {
        version: Version::V3,
        family: Family::V4,
        vrid: 51,
        priority,
        interval: Duration::from_secs(1),
        addresses: parameters().addresses,
    };
    let destination = GROUP_V4.into();
    let payload = &advert.render(&parameters(), PEER, destination, Duration::ZERO, 0);
    let datagram = Datagram {
        source: PEER,
        destination,
        ttl: 255,
        payload,
    };
    routers.receive(now, Duration::ZERO, 1, &datagram);
}

fn state(routers: &Routers) -> StateName {
    routers.get(&KEY).unwrap().state_name()
}
