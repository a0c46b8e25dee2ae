//! What a LAN of directors does as a whole: W1 to W10 of docs/conformance.md, for random directors in
//! random trouble.
//!
//! `VIPD_SIMULATION=1000000` runs so many scripts instead of 10,000. A seed that fails is named; put it
//! into `simulation/seeds.txt`, whose seeds always run first, and run it alone with its whole story by
//! `VIPD_SIMULATION_SEED=<seed> cargo test -p vrrp --test simulation whatever -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use vrrp::{
    PRIORITY_OWNER, Parameters, StateName, TakeoverProbe, Version, VirtualRouter,
    master_down_interval,
};

#[path = "simulation/dice.rs"]
#[allow(dead_code, reason = "the properties need more of it")]
mod dice;
#[path = "simulation/lan.rs"]
mod lan;

use dice::Dice;
use lan::{Change, Lan, Trouble, parameters};

/// The longest travel of a frame, in microseconds.
const DELAY: u64 = 5_000;
const SCRIPTS: u64 = 10_000;

// W1, W2, W5, W7, W8, W9, W10
#[test]
fn whatever_happened_once_it_is_quiet_each_partition_has_one_master_the_best() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|n: String| n.parse::<u64>().unwrap())
    };
    if let Some(seed) = number("VIPD_SIMULATION_SEED") {
        return random_script(seed, true);
    }
    let known = include_str!("simulation/seeds.txt").lines();
    let known = known.filter_map(|line| line.split_whitespace().next());
    run_seeds(known.map(|seed| seed.parse().unwrap()), |seed| {
        random_script(seed, false)
    });
    let count = number("VIPD_SIMULATION").unwrap_or(SCRIPTS);
    let half = count / 2;
    std::thread::scope(|scope| {
        scope.spawn(move || run_seeds(0..half, |seed| random_script(seed, false)));
        run_seeds(half..count, |seed| random_script(seed, false));
    });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut dice = Dice::new(seed);
        let mut script = Script::new(&mut dice);
        script.lan.start_all();
        script.trouble(&mut dice, 20);
        let start = script.lan.start;
        let since = |(at, state): &(Instant, StateName)| (at.duration_since(start), *state);
        let seats = script.lan.hosts.iter().flat_map(|host| &host.seats);
        let histories = seats.map(|seat| seat.history.iter().map(since).collect());
        (script.lan.sent, histories.collect::<Vec<Vec<_>>>())
    };
    run_seeds(0..20, |seed| assert_eq!(history(seed), history(seed)));
}

/// Hosts, and what they can have in common.
struct Script {
    lan: Lan,
    version: Version,
    base: Duration,
    /// The longest that one wait of anybody lasts.
    wait: Duration,
    /// The longest that anybody delays something on purpose, or sleeps.
    delay: Duration,
}

impl Script {
    fn new(dice: &mut Dice) -> Script {
        let version = dice.pick(&[Version::V2, Version::V3, Version::V3, Version::V3]);
        let base = match version {
            Version::V2 => 1_000,
            Version::V3 => dice.pick(&[10, 100, 1_000]),
        };
        let base = Duration::from_millis(base);
        let grouped = dice.percent(30);
        let links = if grouped { 2 } else { 1 };
        let one_priority = dice.percent(15).then(|| dice.priority());
        let takeover_probe =
            dice.pick(&[TakeoverProbe::Off, TakeoverProbe::Warn, TakeoverProbe::Hold]);
        let down_adverts = dice.pick(&[3, 3, 3, 3, 2, 5]);
        let count = 2 + dice.index(7);
        let hosts = (0..count).map(|_| {
            let preempt = dice.percent(80);
            let preempt_delay = if dice.percent(25) {
                base * small(dice, 10)
            } else {
                Duration::ZERO
            };
            let start_delay = if dice.percent(10) {
                base * small(dice, 5)
            } else {
                Duration::ZERO
            };
            let factor = match version {
                Version::V2 => 1,
                Version::V3 => dice.pick(&[1, 1, 1, 2]),
            };
            let seat = |link| Parameters {
                priority: one_priority.unwrap_or_else(|| {
                    if dice.percent(5) {
                        PRIORITY_OWNER
                    } else {
                        dice.priority()
                    }
                }),
                advert_interval: base * factor,
                preempt,
                preempt_delay,
                start_delay,
                down_adverts,
                takeover_probe,
                ..parameters(link, version)
            };
            (0..links).map(seat).collect()
        });
        let hosts = hosts.collect();
        let travel = (u64::try_from(base.as_micros()).unwrap() / 20).min(DELAY);
        let mut lan = Lan::new(hosts, grouped, 0..=travel, Dice::new(dice.roll(u64::MAX)));
        lan.reorders = dice.percent(50);
        Script {
            lan,
            version,
            base,
            wait: master_down_interval(down_adverts, 0, base * 2, version),
            delay: base * 10,
        }
    }

    fn trouble(&mut self, dice: &mut Dice, most: usize) {
        for _ in 0..dice.index(most) {
            let wait = self.base * small(dice, 4_000) / 1_000;
            self.lan.run(wait);
            let trouble = self.random(dice);
            self.lan.disturb(&trouble);
        }
    }

    fn random(&self, dice: &mut Dice) -> Trouble {
        let host = dice.index(self.lan.hosts.len());
        let other = dice.index(self.lan.hosts.len());
        let link = dice.index(self.lan.links());
        match dice.roll(24) {
            0 => Trouble::Crash(host),
            1 => Trouble::PowerOff(host),
            2..=5 => Trouble::Start(host),
            6 => Trouble::Stop(host),
            7 | 8 => Trouble::Sleep(host, self.base * small(dice, 8_000) / 1_000),
            9 => Trouble::Down(host, link),
            10 | 11 => Trouble::Up(host, link),
            12 => Trouble::Yield(host, link),
            13 => Trouble::Maintenance(host, dice.percent(40)),
            14 | 15 => Trouble::Offset(host, link, i32::from(dice.priority()) - 128),
            16 => Trouble::Reload(host, link, Change::Priority(dice.priority())),
            17 => Trouble::Reload(host, link, Change::Preempt(dice.percent(70))),
            18 => match self.version {
                // Another interval is another network in version 2.
                Version::V2 => Trouble::Start(host),
                Version::V3 => {
                    Trouble::Reload(host, link, Change::Interval(self.base * dice.pick(&[1, 2])))
                }
            },
            19 => Trouble::References(host, dice.percent(40)),
            20 => Trouble::Split(link, u8::try_from(dice.roll(256)).unwrap()),
            21 => Trouble::Split(link, 0),
            22 if host != other => Trouble::OneWay(link, host, other),
            22 => Trouble::Heal,
            _ => Trouble::Weather(dice.roll(50)),
        }
    }

    /// Until everything that had to happen has; nothing more happens after it.
    fn quiet(&mut self) {
        self.lan.run(self.wait * 8 + self.delay * 3);
        let before = self.lan.changes();
        self.lan.run(self.wait * 2 + self.delay);
        assert_eq!(self.lan.changes(), before, "no flapping without cause");
        self.check();
    }

    fn check(&self) {
        let lan = &self.lan;
        for link in 0..lan.links() {
            for segment in lan.segments(link) {
                let able = segment.iter().copied().filter(|host| lan.able(*host, link));
                let able: Vec<usize> = able.collect();
                let masters = lan.masters(link);
                let masters: Vec<usize> = masters
                    .into_iter()
                    .filter(|host| segment.contains(host))
                    .collect();
                assert!(
                    masters.iter().all(|host| able.contains(host)),
                    "{masters:?} of {able:?}"
                );
                assert!(masters.len() <= 1, "W1, W2: two masters, {masters:?}");
                let wanted = usize::from(!able.is_empty());
                // A group that has a better peer in one part only waits for it in both.
                if !lan.grouped || !lan.is_split() {
                    assert_eq!(masters.len(), wanted, "W1, W2: one master of {able:?}");
                }
                for master in masters {
                    let better = able.iter().filter(|host| self.beats(**host, master, link));
                    assert_eq!(better.count(), 0, "W1: the best one, but it is {master}");
                }
            }
        }
        for host in 0..lan.hosts.len() {
            let states: Vec<_> = (0..lan.links()).map(|link| lan.state(host, link)).collect();
            assert!(
                states.iter().all(|state| *state == states[0]),
                "W10: {states:?}"
            );
            for link in 0..lan.links() {
                let lingers = lan
                    .router(host, link)
                    .is_some_and(VirtualRouter::is_lingering);
                assert!(!lingers, "W5: nothing lingers in the quiet");
            }
        }
    }

    /// Whether one host would take over from another that it hears on all links.
    fn beats(&self, host: usize, master: usize, link: usize) -> bool {
        let lan = &self.lan;
        let links = match (lan.grouped, lan.is_split()) {
            (true, true) => return false,
            (true, false) => 0..lan.links(),
            (false, _) => link..link + 1,
        };
        let mut links = links;
        links.all(|link| {
            let (Some(router), Some(other)) = (lan.router(host, link), lan.router(master, link))
            else {
                return false;
            };
            let owner = router.effective_priority() == PRIORITY_OWNER;
            let preempts = (router.parameters().preempt || owner) && !router.has_yielded();
            preempts && router.effective_priority() > other.effective_priority()
        })
    }
}

fn random_script(seed: u64, trace: bool) {
    let mut dice = Dice::new(seed);
    let mut script = Script::new(&mut dice);
    script.lan.trace = trace;
    if trace {
        for host in &script.lan.hosts {
            for seat in &host.seats {
                eprintln!("{:?}", seat.parameters);
            }
        }
    }
    script.lan.start_all();
    script.trouble(&mut dice, 25);
    script.lan.disturb(&Trouble::Weather(0));
    script.lan.disturb(&Trouble::Heal);
    script.quiet();
    for link in 0..script.lan.links() {
        script.lan.disturb(&Trouble::Split(link, 0));
    }
    script.quiet();
    script.lan.mend();
    script.quiet();
    assert!((0..script.lan.hosts.len()).all(|host| script.lan.able(host, 0)));
}

/// Less than `below`.
fn small(dice: &mut Dice, below: u64) -> u32 {
    u32::try_from(dice.roll(below)).unwrap()
}

/// Runs all, so that one run shows every seed that fails.
fn run_seeds(seeds: impl Iterator<Item = u64>, script: impl Fn(u64)) {
    let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| script(*seed))).is_err();
    let failed: Vec<u64> = seeds.filter(fails).collect();
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}
