mod asked;
mod ways;

use std::collections::BTreeSet;
use std::time::Duration;

use health::Health::{Down, Unknown, Up};
use health::Weight::{Absolute, Percent};
use proptest::prelude::*;

use super::pool::SORRY_LINGERS;
use super::state as desired_state;
use super::testbed::{config, key, real, service_key, sorry, spec};
use super::*;
use crate::config::{MinimumUp, OnFailure, Require, VirtualServer, When};
use crate::overrides::{Change, Out};

const SORRY: u16 = 99;

#[test]
fn a_real_server_starts_out_of_the_pool_and_enters_it_with_its_first_pass() {
    let mut pool = World::new(|_| {});
    pool.is(&[]);
    pool.found(1, Up);
    pool.is(&[(1, 1)]);
}

#[test]
fn a_failing_real_server_leaves_the_pool() {
    World::up(|_| {}).found(2, Down).is(&[(1, 1), (3, 1)]);
}

#[test]
fn with_zero_weight_a_failing_real_server_stays_for_its_connections() {
    let mut pool = World::up(|server| server.on_failure = OnFailure::ZeroWeight);
    pool.found(2, Down).is(&[(1, 1), (2, 0), (3, 1)]);
}

#[test]
fn with_zero_weight_a_real_server_that_was_never_healthy_is_not_there() {
    let mut pool = World::new(|server| server.on_failure = OnFailure::ZeroWeight);
    pool.found(1, Up).is(&[(1, 1)]);
}

#[test]
fn without_quorum_the_sorry_server_takes_all() {
    let mut pool = World::new(|server| {
        server.quorum = 2;
        server.sorry_server = Some(sorry());
    });
    pool.is(&[(SORRY, 1)]);
    pool.found(1, Up).is(&[(SORRY, 1)]);
}

#[test]
fn without_quorum_healthy_servers_keep_their_connections_only_with_zero_weight() {
    for (on_failure, pool) in [
        (OnFailure::Remove, [(SORRY, 1)].as_slice()),
        (OnFailure::ZeroWeight, &[(1, 0), (2, 0), (3, 0), (SORRY, 1)]),
    ] {
        let mut world = World::up(|server| {
            server.quorum = 3;
            server.on_failure = on_failure;
            server.sorry_server = Some(sorry());
        });
        world.is(&[(1, 1), (2, 1), (3, 1)]);
        world.found(3, Down).is(pool);
    }
}

#[test]
fn a_sorry_server_that_is_not_needed_any_more_finishes_its_requests_and_goes() {
    let mut pool = World::new(|server| server.sorry_server = Some(sorry()));
    pool.is(&[(SORRY, 1)]);
    pool.found(1, Up).is(&[(1, 1), (SORRY, 0)]);
    pool.after(SORRY_LINGERS / 2);
    pool.is(&[(1, 1), (SORRY, 0)]);
    let goes = next_step(&pool.states).unwrap();
    pool.now = goes;
    pool.judge();
    pool.is(&[(1, 1)]);
    assert_eq!(next_step(&pool.states), None);
}

#[test]
fn a_virtual_server_that_is_well_from_the_start_has_no_sorry_server() {
    let mut pool = World::up(|server| server.sorry_server = Some(sorry()));
    pool.is(&[(1, 1), (2, 1), (3, 1)]);
    pool.found(1, Down).is(&[(2, 1), (3, 1)]);
}

#[test]
fn without_quorum_and_sorry_server_what_is_left_goes_on() {
    let mut pool = World::new(|server| server.quorum = 2);
    pool.found(1, Up).found(2, Down).is(&[(1, 1)]);
}

#[test]
fn hysteresis_makes_quorum_harder_to_gain_than_to_keep() {
    let mut pool = World::new(|server| {
        server.quorum = 2;
        server.hysteresis = 1;
    });
    pool.found(1, Up).found(2, Up);
    assert!(!pool.state().quorum, "gained at 3");
    assert!(pool.found(3, Up).state().quorum);
    pool.found(1, Down).found(2, Down);
    assert!(pool.state().quorum, "lost below 1");
    assert!(!pool.found(3, Down).state().quorum);
    let mut new = World::up(|server| {
        server.quorum = 3;
        server.hysteresis = 2;
    });
    assert!(new.judge().state().quorum, "new: at quorum");
}

#[test]
fn a_service_for_the_master_only_is_absent_on_a_backup() {
    let config = config(|server| {
        server.vrrp = Some("router".to_owned());
        server.active = Active::Master;
    });
    let table = |master| {
        let roles = [("router".to_owned(), master)].into();
        desired(&config, &roles, &PoolStates::new())
    };
    assert!(table(false).is_empty());
    assert_eq!(table(true).len(), 1);
}

#[test]
fn all_checks_of_a_real_server_must_pass() {
    let mut config = config(|_| {});
    let second = CheckSpec {
        timeout: Duration::from_secs(7),
        ..spec(1)
    };
    config.virtual_servers[0].real_servers[0]
        .checks
        .push(second.clone());
    let real = &config.virtual_servers[0].real_servers[0];
    let mut health: HealthTable = [(spec(1), Up.into())].into();
    assert_eq!(state(real, &health), Unknown);
    health.insert(second.clone(), Down.into());
    assert_eq!(state(real, &health), Down);
    health.insert(second, Up.into());
    assert_eq!(state(real, &health), Up);
}

#[test]
fn one_check_of_a_real_server_suffices_where_it_is_said() {
    let mut config = config(|_| {});
    let second = CheckSpec {
        timeout: Duration::from_secs(7),
        ..spec(1)
    };
    let real = &mut config.virtual_servers[0].real_servers[0];
    real.checks.push(second.clone());
    real.require = Require::Any;
    for (first, other, whole) in [
        (Up, Down, Up),
        (Down, Up, Up),
        (Up, Unknown, Up),
        (Unknown, Down, Unknown),
        (Down, Unknown, Unknown),
        (Unknown, Unknown, Unknown),
        (Down, Down, Down),
    ] {
        let health: HealthTable = [(spec(1), first.into()), (second.clone(), other.into())].into();
        assert_eq!(state(real, &health), whole, "{first} {other}");
    }
    // What fails has no say in the weight.
    let asks = |health, weight| Found {
        health,
        weight: Some(Absolute(weight)),
    };
    let health: HealthTable = [(spec(1), asks(Down, 0)), (second, asks(Up, 7))].into();
    assert_eq!(asked_weight(real, &health), Some(7));
    real.checks.clear();
    assert_eq!(state(real, &health), Up, "without checks");
}

#[test]
fn where_only_the_master_checks_what_was_never_checked_is_in_the_pool() {
    let only_master = |server: &mut VirtualServer| {
        server.vrrp = Some("router".to_owned());
        server.when = When::Master {
            backup_interval: None,
        };
    };
    let mut pool = World::new(only_master);
    pool.is(&[(1, 1), (2, 1), (3, 1)]);
    pool.found(2, Down).is(&[(1, 1), (3, 1)]);
    pool.found(2, Up).is(&[(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_drained_real_server_stays_with_weight_0_whatever_its_checks_say() {
    let mut pool = World::up(|_| {});
    pool.order(2, Change::Drain).is(&[(1, 1), (2, 0), (3, 1)]);
    pool.found(2, Down).is(&[(1, 1), (2, 0), (3, 1)]);
    pool.found(2, Unknown).is(&[(1, 1), (2, 0), (3, 1)]);
    pool.found(2, Up).order(2, Change::Enable);
    pool.is(&[(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_disabled_real_server_is_gone_whatever_its_checks_say() {
    let mut pool = World::up(|server| server.on_failure = OnFailure::ZeroWeight);
    pool.order(2, Change::Disable).is(&[(1, 1), (3, 1)]);
    pool.found(2, Down).is(&[(1, 1), (3, 1)]);
    pool.order(2, Change::Enable).is(&[(1, 1), (2, 0), (3, 1)]);
}

#[test]
fn one_that_is_drained_or_disabled_does_not_count_for_quorum() {
    for change in [Change::Drain, Change::Disable] {
        let mut pool = World::up(|server| server.quorum = 3);
        assert!(pool.state().quorum);
        assert!(!pool.order(1, change).state().quorum);
        assert!(pool.order(1, Change::Enable).state().quorum);
    }
}

#[test]
fn when_the_last_one_is_drained_the_sorry_server_takes_over() {
    let mut pool = World::new(|server| server.sorry_server = Some(sorry()));
    pool.found(1, Up).after(SORRY_LINGERS).is(&[(1, 1)]);
    pool.order(1, Change::Drain).is(&[(1, 0), (SORRY, 1)]);
    pool.order(1, Change::Enable).is(&[(1, 1), (SORRY, 0)]);
}

#[test]
fn an_ordered_weight_replaces_the_configured_one_also_for_quorum() {
    let mut pool = World::up(|_| {});
    pool.order(1, Change::Weight(7))
        .is(&[(1, 7), (2, 1), (3, 1)]);
    assert_eq!(pool.state().weight, 9);
    pool.order(1, Change::Reset).is(&[(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn whoever_comes_back_starts_slowly() {
    let mut pool = World::up(|server| {
        server.slow_start = Duration::from_secs(90);
        server.real_servers[1].destination.weight = 10;
    });
    pool.is(&[(1, 1), (2, 10), (3, 1)]);
    pool.found(2, Down).found(2, Up);
    pool.is(&[(1, 1), (2, 1), (3, 1)]);
    assert!(pool.state().slowly(key(2)) && !pool.state().slowly(key(1)));
    let mut weights = Vec::new();
    while let Some(next) = next_step(&pool.states) {
        pool.now = next;
        pool.judge();
        weights.push(pool.weight(2));
    }
    assert_eq!(weights, (2..=10).collect::<Vec<_>>());
    assert!(!pool.state().slowly(key(2)));
    assert_eq!(pool.state().weight, 12, "quorum counts the whole weight");
}

#[test]
fn one_that_is_enabled_again_or_new_in_the_file_starts_slowly_too() {
    let slow = |server: &mut VirtualServer| {
        server.slow_start = Duration::from_secs(60);
        for real in &mut server.real_servers {
            real.destination.weight = 100;
        }
    };
    let mut pool = World::up(slow);
    pool.order(1, Change::Drain).order(1, Change::Enable);
    assert_eq!((pool.weight(1), pool.weight(2)), (10, 100));
    let mut new = real(4);
    new.destination.weight = 100;
    pool.config.virtual_servers[0].real_servers.push(new);
    pool.judge();
    pool.found(4, Up);
    assert_eq!((pool.weight(4), pool.weight(2)), (10, 100));
}

#[test]
fn at_the_start_of_the_daemon_and_in_an_empty_pool_nobody_starts_slowly() {
    let slow = |server: &mut VirtualServer| {
        server.slow_start = Duration::from_secs(60);
        for real in &mut server.real_servers {
            real.destination.weight = 100;
        }
    };
    let mut pool = World::new(slow);
    pool.found(1, Up).after(Duration::from_secs(5));
    pool.found(2, Up);
    pool.is(&[(1, 100), (2, 100)]);
    pool.found(1, Down).found(2, Down).found(1, Up);
    pool.is(&[(1, 100)]);
    pool.found(3, Down).found(3, Up);
    pool.is(&[(1, 100), (3, 10)]);
}

#[test]
fn with_too_few_passing_the_last_good_ones_stay_until_enough_pass_again() {
    let mut pool = World::up(|server| server.minimum_up = MinimumUp::Percent(50));
    pool.found(1, Down).is(&[(2, 1), (3, 1)]);
    assert!(!pool.state().panic());
    pool.found(2, Down).is(&[(2, 1), (3, 1)]);
    assert!(pool.state().panic() && pool.state().quorum);
    pool.found(3, Down).is(&[(2, 1), (3, 1)]);
    pool.found(1, Up).is(&[(1, 1), (2, 1), (3, 1)]);
    pool.found(3, Up).is(&[(1, 1), (3, 1)]);
    assert!(!pool.state().panic());
}

#[test]
fn one_that_never_was_good_is_not_kept() {
    let mut pool = World::new(|server| server.minimum_up = MinimumUp::Count(2));
    pool.found(1, Up).found(3, Down);
    assert!(!pool.state().panic());
    pool.found(1, Down).is(&[]);
    pool.found(1, Up).found(2, Up).is(&[(1, 1), (2, 1)]);
    pool.found(1, Down).found(2, Down).is(&[(1, 1), (2, 1)]);
}

#[test]
fn in_a_panic_a_drained_server_is_not_kept_in_service() {
    let mut pool = World::up(|server| server.minimum_up = MinimumUp::Count(3));
    pool.found(1, Down).found(2, Down);
    pool.is(&[(1, 1), (2, 1), (3, 1)]);
    pool.order(1, Change::Disable).order(2, Change::Drain);
    pool.is(&[(2, 0), (3, 1)]);
    assert!(!pool.state().panic());
}

/// Something that happens to a pool.
#[derive(Debug, Clone, Copy)]
enum Step {
    Found(u16, Health),
    Asks(u16, Option<Weight>),
    Order(u16, Change),
    Wait(u64),
    Quorum(u32),
    Servers(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let health = prop_oneof![2 => Just(Up), 2 => Just(Down), 1 => Just(Unknown)];
    let change = prop_oneof![
        Just(Change::Drain),
        Just(Change::Disable),
        Just(Change::Enable),
        Just(Change::Enable),
        (0..30_u32).prop_map(Change::Weight),
        Just(Change::Reset),
    ];
    let asked = prop_oneof![
        Just(None),
        (0..5_u32).prop_map(|weight| Some(Absolute(weight))),
        (0..200_u32).prop_map(|share| Some(Percent(share))),
    ];
    prop_oneof![
        4 => (1..=4_u16, health).prop_map(|(n, health)| Step::Found(n, health)),
        2 => (1..=4_u16, asked).prop_map(|(n, weight)| Step::Asks(n, weight)),
        3 => (1..=4_u16, change).prop_map(|(n, change)| Step::Order(n, change)),
        2 => (0..90_u64).prop_map(Step::Wait),
        1 => (1..5_u32).prop_map(Step::Quorum),
        1 => (1..=4_usize).prop_map(Step::Servers),
    ]
}

proptest! {
    #[test]
    fn no_pool_is_ever_empty_while_somebody_could_serve(
        steps in proptest::collection::vec(step(), 1..40),
        hysteresis in 0..3_u32,
        with_sorry in any::<bool>(),
        zero_weight in any::<bool>(),
        slow in 0..60_u64,
        minimum in prop_oneof![
            (0..=4_u32).prop_map(MinimumUp::Count),
            (0..=100_u8).prop_map(MinimumUp::Percent),
        ],
        weight in 1..40_u32,
    ) {
        let mut world = World::new(|server| {
            server.hysteresis = hysteresis;
            server.sorry_server = with_sorry.then(sorry);
            server.slow_start = Duration::from_secs(slow);
            server.minimum_up = minimum;
            if zero_weight {
                server.on_failure = OnFailure::ZeroWeight;
            }
            server.real_servers[0].destination.weight = weight;
        });
        let mut ever_good = BTreeSet::new();
        for step in steps {
            let before = world.table();
            world.take(step);
            let state = world.state().clone();
            let server = &world.config.virtual_servers[0];
            let mut could_serve = false;
            for real in &server.real_servers {
                let ordered = world.overrides.of("web", real.key);
                let weight = world.whole_weight(real);
                if desired_state(real, &world.health) == Up && ordered.out.is_none() {
                    ever_good.insert(real.key);
                    could_serve |= weight > 0;
                }
            }
            // Never empty: in itself, and between the requests that lead to it.
            prop_assert!(state.serves() || !(could_serve || with_sorry));
            let after = world.table();
            let filled = |table: &Table| {
                table[&service_key()].destinations.values().any(|found| found.weight > 0)
            };
            let mut table = before.clone();
            for change in ipvs::diff(&before, &after) {
                ipvs::apply_to(&mut table, &change).unwrap();
                prop_assert!(filled(&table) || !filled(&before) || !filled(&after));
            }
            // Never was good, never is kept; what is out is out.
            prop_assert!(state.kept.is_subset(&ever_good));
            prop_assert!(with_sorry || !state.sorry);
            prop_assert_eq!(state.sorry, with_sorry && !state.quorum);
            for real in &server.real_servers {
                let found = state.destinations.get(&real.key).map(|found| found.weight);
                let ordered = world.overrides.of("web", real.key);
                let whole = world.whole_weight(real);
                match ordered.out {
                    Some(Out::Disabled) => prop_assert_eq!(found, None),
                    Some(Out::Draining) => prop_assert_eq!(found, Some(0)),
                    None => prop_assert!(found.is_none_or(|found| found <= whole)),
                }
                prop_assert!(!state.kept.contains(&real.key) || ordered.out.is_none());
            }
            // Time alone: steps come to an end, and nothing else changes.
            prop_assert!(next_step(&world.states).is_none_or(|next| next > world.now));
            let states = world.states.clone();
            world.judge();
            prop_assert_eq!(&world.states, &states, "judging twice is judging once");
        }
        let mut steps = 0;
        while let Some(next) = next_step(&world.states) {
            world.now = next;
            world.judge();
            steps += 1;
            prop_assert!(steps < 100);
        }
    }
}

/// A pool and everything that it depends on.
struct World {
    config: Config,
    health: HealthTable,
    overrides: Overrides,
    states: PoolStates,
    now: Instant,
}

impl World {
    /// Judged once, before any check has found anything.
    fn new(change: impl FnOnce(&mut VirtualServer)) -> World {
        let mut world = World::unjudged(change);
        world.judge();
        world
    }

    /// Three healthy real servers.
    fn up(change: impl FnOnce(&mut VirtualServer)) -> World {
        let mut world = World::unjudged(change);
        world.health = (1..=3).map(|n| (spec(n), Up.into())).collect();
        world.judge();
        world
    }

    fn unjudged(change: impl FnOnce(&mut VirtualServer)) -> World {
        World {
            config: config(change),
            health: HealthTable::new(),
            overrides: Overrides::default(),
            states: PoolStates::new(),
            now: Instant::now(),
        }
    }

    fn judge(&mut self) -> &mut World {
        self.states = pools(
            &self.config,
            &self.health,
            &self.overrides,
            &self.states,
            self.now,
        );
        self
    }

    fn found(&mut self, n: u16, health: Health) -> &mut World {
        self.health.insert(spec(n), health.into());
        self.judge()
    }

    fn asks(&mut self, n: u16, weight: Option<Weight>) -> &mut World {
        self.health.entry(spec(n)).or_insert(Up.into()).weight = weight;
        self.judge()
    }

    fn order(&mut self, n: u16, change: Change) -> &mut World {
        self.overrides = self.overrides.with("web", key(n), 1, change);
        self.judge()
    }

    fn after(&mut self, time: Duration) -> &mut World {
        self.now += time;
        self.judge()
    }

    fn take(&mut self, step: Step) {
        let server = &mut self.config.virtual_servers[0];
        match step {
            Step::Found(n, health) => {
                let found = self.health.entry(spec(n)).or_insert(Unknown.into());
                found.health = health;
            }
            Step::Asks(n, weight) => {
                let found = self.health.entry(spec(n)).or_insert(Unknown.into());
                found.weight = weight;
            }
            Step::Order(n, change) => {
                self.overrides = self.overrides.with("web", key(n), 1, change);
            }
            Step::Wait(seconds) => self.now += Duration::from_secs(seconds),
            Step::Quorum(quorum) => {
                server.quorum = quorum;
                server.hysteresis = server.hysteresis.min(quorum - 1);
            }
            Step::Servers(count) => {
                let present = server.real_servers.len();
                server.real_servers.truncate(count);
                server
                    .real_servers
                    .extend((present + 1..=count).map(|n| real(u16::try_from(n).unwrap())));
            }
        }
        self.judge();
    }

    /// What the real server has when it serves, slow start left aside.
    fn whole_weight(&self, real: &RealServer) -> u32 {
        let own = asked_weight(real, &self.health).unwrap_or(real.destination.weight);
        let ordered = self.overrides.of("web", real.key).weight;
        ordered.map_or(own, |weight| weight.ordered)
    }

    fn state(&self) -> &PoolState {
        &self.states["web"]
    }

    fn table(&self) -> Table {
        desired(&self.config, &Roles::new(), &self.states)
    }

    fn weight(&self, n: u16) -> u32 {
        self.state().destinations[&key(n)].weight
    }

    /// Ports and weights of what is in the table.
    fn is(&self, wanted: &[(u16, u32)]) {
        let table = self.table();
        let found: Vec<_> = table[&service_key()]
            .destinations
            .iter()
            .map(|(key, found)| (key.0.port(), found.weight))
            .collect();
        assert_eq!(found, wanted);
    }
}
