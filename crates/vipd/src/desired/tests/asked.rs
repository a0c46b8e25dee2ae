//! Weights that real servers ask for through their checks.

use super::*;

#[test]
fn a_real_server_gets_the_weight_that_it_asks_for() {
    let mut pool = World::up(|server| server.real_servers[1].destination.weight = 40);
    for (asked, weight) in [
        (Percent(75), 30),
        (Percent(1), 1),
        (Percent(150), 60),
        (Percent(u32::MAX), 1_717_986_918),
        (Percent(0), 0),
        (Absolute(7), 7),
        (Absolute(0), 0),
        (Absolute(u32::MAX), WEIGHT_MAX),
    ] {
        pool.asks(2, Some(asked));
        pool.is(&[(1, 1), (2, weight), (3, 1)]);
    }
    pool.asks(2, None).is(&[(1, 1), (2, 40), (3, 1)]);
}

#[test]
fn of_several_asked_weights_the_smallest_counts_and_checks_that_ask_for_none_do_not() {
    let mut config = config(|server| server.real_servers[0].destination.weight = 100);
    let real = &mut config.virtual_servers[0].real_servers[0];
    let check = |timeout| CheckSpec {
        timeout: Duration::from_secs(timeout),
        ..spec(1)
    };
    real.checks = vec![check(1), check(2), check(3)];
    let mut health = HealthTable::new();
    assert_eq!(asked_weight(real, &health), None);
    for (timeout, weight, smallest) in [
        (1, None, None),
        (2, Some(Percent(50)), Some(50)),
        (3, Some(Absolute(60)), Some(50)),
        (3, Some(Absolute(40)), Some(40)),
        (2, None, Some(40)),
    ] {
        health.insert(check(timeout), Found { health: Up, weight });
        assert_eq!(
            asked_weight(real, &health),
            smallest,
            "{timeout} {weight:?}"
        );
    }
}

#[test]
fn an_operators_weight_beats_the_one_that_is_asked_for() {
    let mut pool = World::up(|_| {});
    pool.asks(2, Some(Absolute(50))).order(2, Change::Weight(7));
    pool.is(&[(1, 1), (2, 7), (3, 1)]);
    pool.order(2, Change::Drain).is(&[(1, 1), (2, 0), (3, 1)]);
    pool.order(2, Change::Enable).order(2, Change::Reset);
    pool.is(&[(1, 1), (2, 50), (3, 1)]);
}

#[test]
fn who_asks_for_nothing_does_not_count_for_quorum() {
    let mut pool = World::up(|server| {
        server.quorum = 2;
        server.sorry_server = Some(sorry());
    });
    pool.asks(1, Some(Percent(0))).is(&[(1, 0), (2, 1), (3, 1)]);
    pool.asks(2, Some(Percent(0))).is(&[(SORRY, 1)]);
    pool.asks(1, None).is(&[(1, 1), (2, 0), (3, 1), (SORRY, 0)]);
}

#[test]
fn slow_start_goes_up_to_the_weight_that_is_asked_for() {
    let mut pool = World::up(|server| {
        server.slow_start = Duration::from_secs(10);
        server.real_servers[1].destination.weight = 100;
    });
    pool.asks(2, Some(Percent(50)))
        .is(&[(1, 1), (2, 50), (3, 1)]);
    pool.found(2, Down).found(2, Up).asks(2, Some(Percent(50)));
    assert!(pool.weight(2) < 25, "{}", pool.weight(2));
    pool.after(Duration::from_secs(5));
    assert!((20..=30).contains(&pool.weight(2)), "{}", pool.weight(2));
    pool.after(Duration::from_secs(5));
    assert_eq!(pool.weight(2), 50);
}
