//! Sync groups: the members of a group are master together or not at all, whatever happened before.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use vrrp::{
    Action, Advertisement, Event, Family, Fault, Parameters, Path, RouterKey, Routers, StateName,
    Version, VirtualRouter,
};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 5));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 4));
const MS: u64 = 1_000;
const S: u64 = 1_000 * MS;
const SETTLE: u64 = 20 * MS;

#[test]
fn members_become_masters_together_when_the_last_is_ready() {
    let mut host = Host::new(&[200, 100, 150]);
    host.run(3_609 * MS);
    host.check("BBB");
    host.run(3_610 * MS);
    host.check("MMM");
}

#[test]
fn a_member_that_follows_a_better_master_keeps_the_others_back() {
    let mut host = Host::new(&[200, 100]);
    for second in 0..10 {
        host.hear(second * S, 1, 150);
        host.hear(second * S, 0, 50);
        host.run(second * S + S / 2);
        host.check("BB");
    }
    host.hear(10 * S, 1, 0);
    host.run(11 * S);
    host.check("MM");
}

#[test]
fn a_member_that_loses_takes_the_others_along_and_their_addresses_linger() {
    let mut host = masters(&[100, 100]);
    let text = host.hear(5 * S, 0, 101);
    let wanted = "0: master -> backup: 192.0.2.4 has the higher priority 101; 1: advert 0; \
                  1: master -> backup: follows its sync group";
    assert_eq!(text, wanted);
    assert!(host.router(0).is_lingering() && host.router(1).is_lingering());
    // The other one's successor is heard a little later.
    host.hear(5 * S + 5 * MS, 1, 101);
    assert_eq!(host.run(5 * S + 5 * MS + SETTLE), "0: remove; 1: remove");
    host.check("BB");
}

#[test]
fn a_fault_of_one_is_a_fault_of_all_and_they_come_back_by_themselves() {
    let mut host = masters(&[100, 100, 100]);
    let down = Fault::InterfaceDown;
    let text = host.feed(5 * S, 1, Event::FaultRaised(down.clone()));
    let wanted = "1: advert 0; 1: master -> fault: the interface is down; 1: remove; \
                  0: advert 0; 0: master -> fault: another member of its sync group has a fault; \
                  0: remove; \
                  2: advert 0; 2: master -> fault: another member of its sync group has a fault; \
                  2: remove";
    assert_eq!(text, wanted);
    host.check("FFF");
    host.feed(6 * S, 2, Event::FaultRaised(Fault::NoAddress));
    host.feed(7 * S, 1, Event::FaultCleared(down));
    host.check("FFF");
    host.feed(8 * S, 2, Event::FaultCleared(Fault::NoAddress));
    host.check("BBB");
    host.run(12 * S);
    host.check("MMM");
}

#[test]
fn a_fault_that_was_there_before_the_start_keeps_all_out() {
    let mut host = Host::unstarted(&[100, 100]);
    host.feed(0, 1, Event::FaultRaised(Fault::InterfaceMissing));
    host.feed(0, 0, Event::Startup);
    host.check("BI");
    host.feed(0, 1, Event::Startup);
    host.check("FF");
    host.feed(S, 1, Event::FaultCleared(Fault::InterfaceMissing));
    host.check("BB");
}

#[test]
fn maintenance_of_one_lets_the_addresses_of_all_linger() {
    let mut host = masters(&[100, 100]);
    host.feed(5 * S, 0, Event::FaultRaised(Fault::Maintenance));
    host.check("FF");
    assert!(host.router(0).is_lingering() && host.router(1).is_lingering());
    host.feed(5 * S, 1, Event::FaultRaised(Fault::Maintenance));
    assert!(host.router(1).is_lingering());
    assert_eq!(host.run(7 * S), "0: remove; 1: remove");
    host.feed(8 * S, 0, Event::FaultCleared(Fault::Maintenance));
    host.check("FF");
    host.feed(8 * S, 1, Event::FaultCleared(Fault::Maintenance));
    host.check("BB");
}

#[test]
fn a_member_that_hands_over_takes_the_others_along_and_none_takes_back_alone() {
    let mut host = masters(&[200, 100]);
    host.feed(5 * S, 0, Event::Yield);
    host.check("BB");
    assert!(host.router(1).has_yielded());
    for second in 0..20 {
        let at = 5 * S + 500 * MS + second * S;
        host.hear(at, 0, 1);
        host.hear(at, 1, 1);
        host.run(at + S / 2);
        host.check("BB");
    }
    // Only one of them dies: the other's master lives.
    for second in 20..30 {
        host.hear(5 * S + 500 * MS + second * S, 1, 1);
        host.run(6 * S + second * S);
        host.check("BB");
    }
    host.run(60 * S);
    host.check("MM");
    assert!(!host.router(0).has_yielded());
}

#[test]
fn a_switchover_that_nobody_answers_takes_all_back_without_having_lost_any() {
    let mut host = masters(&[200, 100]);
    host.feed(5 * S, 1, Event::Yield);
    let text = host.run(8 * S);
    assert!(!text.contains("remove"), "{text}");
    assert!(text.contains("nobody took over"), "{text}");
    host.check("MM");
}

#[test]
fn a_member_added_by_a_reload_does_not_drop_the_others() {
    let mut host = masters(&[100, 100]);
    host.insert(2, 100);
    host.group(&[0, 1, 2], 5 * S);
    host.feed(5 * S, 2, Event::Startup);
    host.check("MMB");
    host.run(8 * S);
    host.check("MMB");
    host.run(9 * S);
    host.check("MMM");
}

#[test]
fn a_member_that_is_not_started_yet_drops_nobody_and_no_one_rises_without_it() {
    let mut host = masters(&[100, 100]);
    host.insert(2, 100);
    host.group(&[0, 1, 2], 5 * S);
    host.run(30 * S);
    host.check("MMI");
    host.hear(30 * S, 0, 101);
    host.run(60 * S);
    host.check("BBI");
}

#[test]
fn a_member_taken_out_of_the_group_goes_its_own_way() {
    let mut host = masters(&[100, 100]);
    host.feed(5 * S, 0, Event::FaultRaised(Fault::InterfaceDown));
    host.check("FF");
    host.group(&[], 6 * S);
    host.check("FB");
    host.run(10 * S);
    host.check("FM");
}

#[test]
fn a_member_that_was_ready_and_leaves_its_group_takes_over_alone() {
    let mut host = Host::new(&[200, 100]);
    for second in 0..6 {
        host.hear(second * S, 1, 150);
        host.run(second * S);
    }
    host.check("BB");
    host.group(&[], 5 * S);
    host.hear(6 * S, 1, 150);
    host.run(7 * S);
    host.check("MB");
}

#[test]
fn two_masters_put_into_one_group_stay_masters() {
    let mut host = masters(&[100, 100]);
    host.group(&[], 5 * S);
    host.check("MM");
    assert_eq!(host.group(&[0, 1], 5 * S), "");
    host.check("MM");
}

#[test]
fn a_master_and_a_follower_put_into_one_group_are_both_backups() {
    let mut host = masters(&[100, 100]);
    host.group(&[], 5 * S);
    host.hear(5 * S, 0, 101);
    host.check("BM");
    host.group(&[0, 1], 5 * S + 1);
    host.check("BB");
    assert!(host.router(1).is_lingering());
}

#[test]
fn owners_in_a_group_wait_for_each_other() {
    let mut host = Host::unstarted(&[255, 255]);
    host.feed(0, 0, Event::Startup);
    host.check("BI");
    host.feed(S, 1, Event::Startup);
    host.check("MM");
}

#[test]
fn a_member_whose_interface_is_removed_from_the_set_is_no_member() {
    let mut host = masters(&[100, 100]);
    host.feed(5 * S, 1, Event::FaultRaised(Fault::InterfaceMissing));
    host.check("FF");
    let key = key(1);
    assert!(host.routers.remove(&key).is_some());
    host.group(&[0, 1], 6 * S);
    assert_eq!(host.router(0).state_name(), StateName::Backup);
}

#[test]
fn a_weight_that_makes_a_ready_member_worse_than_the_master_it_hears_unreadies_it() {
    let mut host = Host::new(&[200, 200]);
    // The first would preempt; the second follows a better one.
    for second in 0..6 {
        host.hear(second * S, 0, 150);
        host.hear(second * S, 1, 250);
        host.run(second * S + S / 2);
    }
    host.feed(6 * S, 0, Event::PriorityOffset(-100));
    host.hear(6 * S, 0, 150);
    host.hear(6 * S, 1, 0);
    host.run(9 * S);
    host.check("BB");
    assert_eq!(host.router(0).master(), Some((PEER, 150)));
}

#[test]
fn a_group_that_slept_is_master_again_without_having_lost_the_addresses() {
    let mut host = masters(&[200, 100]);
    host.feed(30 * S, 0, Event::Timeout);
    host.feed(30 * S, 1, Event::Timeout);
    host.check("BB");
    let text = host.run(33 * S);
    assert!(!text.contains("remove"), "{text}");
    host.check("MM");
}

/// A host with a virtual router on each of some links, in virtual time.
struct Host {
    routers: Routers,
    start: Instant,
    count: u8,
}

impl Host {
    fn unstarted(priorities: &[u8]) -> Host {
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
        let start = Instant::now();
        let mut host = Host {
            routers: Routers::default(),
            start,
            count: 0,
        };
        for (number, priority) in (0..).zip(priorities) {
            host.insert(number, *priority);
        }
        let all: Vec<u8> = (0..host.count).collect();
        host.group(&all, 0);
        host
    }

    /// Started at microsecond 0.
    fn new(priorities: &[u8]) -> Host {
        let mut host = Host::unstarted(priorities);
        for number in 0..host.count {
            host.feed(0, number, Event::Startup);
        }
        host
    }

    fn insert(&mut self, number: u8, priority: u8) {
        let address = [203, 0, 113, number].into();
        let parameters = Parameters {
            priority,
            ..Parameters::new(51 + number, Version::V3, &[address])
        };
        let router = VirtualRouter::new(parameters);
        self.routers.insert(key(number), router);
        self.count = self.count.max(number + 1);
        self.feed(0, number, Event::SourceChanged(OWN));
    }

    fn group(&mut self, members: &[u8], micros: u64) -> String {
        let keys = members.iter().map(|number| key(*number)).collect();
        self.routers.set_groups(vec![keys]);
        let now = self.at(micros);
        text(&self.routers.settle(now))
    }

    fn feed(&mut self, micros: u64, number: u8, event: Event) -> String {
        let now = self.at(micros);
        text(&self.routers.handle(now, &key(number), event))
    }

    fn hear(&mut self, micros: u64, number: u8, priority: u8) -> String {
        let advertisement = Advertisement {
            version: Version::V3,
            family: Family::V4,
            vrid: 51 + number,
            priority,
            interval: Duration::from_secs(1),
            addresses: [[203, 0, 113, number].into()].into(),
        };
        let event = Event::Advertisement {
            from: PEER,
            advertisement,
            path: Path::Link,
        };
        self.feed(micros, number, event)
    }

    /// Meets every deadline until then.
    fn run(&mut self, micros: u64) -> String {
        let end = self.at(micros);
        let mut actions = Vec::new();
        while let Some(at) = self.routers.poll_timeout().filter(|at| *at <= end) {
            actions.extend(self.routers.timeout(at));
            assert!(
                self.routers.poll_timeout().is_none_or(|next| next > at),
                "W7"
            );
        }
        text(&actions)
    }

    /// The first letters of the states.
    fn check(&self, wanted: &str) {
        let letter = |number| match self.router(number).state_name() {
            StateName::Initialize => 'I',
            StateName::Backup => 'B',
            StateName::Master => 'M',
            StateName::Fault => 'F',
        };
        let states: String = (0..self.count).map(letter).collect();
        assert_eq!(states, wanted);
    }

    fn router(&self, number: u8) -> &VirtualRouter {
        self.routers.get(&key(number)).unwrap()
    }

    fn at(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros)
    }
}

fn masters(priorities: &[u8]) -> Host {
    let mut host = Host::new(priorities);
    host.run(4 * S + S / 2);
    let all = "M".repeat(priorities.len());
    host.check(&all);
    host
}

fn key(number: u8) -> RouterKey {
    RouterKey {
        link: u32::from(number),
        family: Family::V4,
        vrid: 51 + number,
    }
}

fn text(actions: &[(RouterKey, Action)]) -> String {
    let text = |(key, action): &(RouterKey, Action)| {
        let action = match action {
            Action::SendAdvertisement(advert) => format!("advert {}", advert.priority),
            Action::InstallAddresses => "install".to_owned(),
            Action::RemoveAddresses => "remove".to_owned(),
            Action::Announce => "announce".to_owned(),
            Action::ProbeAddresses => "probe".to_owned(),
            Action::Notice(notice) => format!("({notice})"),
            Action::StateChanged { from, to, why } => format!("{from} -> {to}: {why}"),
        };
        format!("{}: {action}", key.link)
    };
    actions.iter().map(text).collect::<Vec<_>>().join("; ")
}
