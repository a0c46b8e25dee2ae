//! The services of checks with `via = "vip"`.

use std::num::NonZeroU32;

use super::*;
use crate::desired::testbed::destination;

const MARK: u32 = 0x7670_0007;

fn through(n: u16) -> CheckSpec {
    let real = key(n).0;
    CheckSpec {
        target: "10.0.0.1:80".parse().unwrap(),
        route: health::Route {
            mark: NonZeroU32::new(MARK + u32::from(n)),
            through: Some(real.ip()),
            ..health::Route::default()
        },
        ..spec(n)
    }
}

fn way(n: u16) -> ServiceKey {
    ServiceKey::FirewallMark {
        family: Family::V4,
        mark: MARK + u32::from(n),
    }
}

#[test]
fn each_real_server_has_a_service_alone_with_weight_1_whatever_becomes_of_it() {
    for forwarding in [Forwarding::Nat, Forwarding::DirectRouting] {
        let config = config(|server| {
            server.vrrp = Some("web".to_owned());
            server.active = Active::Master;
            for (n, real) in (1..).zip(&mut server.real_servers) {
                real.destination.forwarding = forwarding;
                real.destination.weight = 40;
                real.destination.upper_threshold = 10;
                real.checks = vec![through(n), through(n)];
            }
            // Two ways are enough.
            server.real_servers[2].checks = vec![spec(3)];
        });
        let (health, overrides) = (HealthTable::new(), Overrides::default());
        let states = pools(
            &config,
            &health,
            &overrides,
            &PoolStates::new(),
            Instant::now(),
        );
        let backup: Roles = [("web".to_owned(), false)].into();
        let table = desired(&config, &backup, &states);
        let keys: Vec<ServiceKey> = table.keys().copied().collect();
        assert_eq!(keys, [way(1), way(2)]);
        for n in [1, 2] {
            let pool = &table[&way(n)];
            let alone = Destination {
                forwarding,
                weight: 1,
                ..destination()
            };
            assert_eq!(pool.destinations, [(key(n), alone)].into());
            assert_eq!(pool.service.flags.one_packet, forwarding != Forwarding::Nat);
        }
        let master: Roles = [("web".to_owned(), true)].into();
        let table = desired(&config, &master, &states);
        assert_eq!(table.len(), 3);
        assert!(table[&service_key()].destinations.is_empty());
    }
}

#[test]
fn a_mark_of_the_users_is_no_way() {
    let check = CheckSpec {
        route: health::Route {
            mark: NonZeroU32::new(3),
            ..health::Route::default()
        },
        ..spec(1)
    };
    assert_eq!(way_of(&check), None);
    assert_eq!(way_of(&through(1)), Some(way(1)));
}
