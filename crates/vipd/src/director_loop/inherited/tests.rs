//! Any configuration followed by any other: what a reload ends in is what a fresh start with the new file
//! ends in, given the same verdicts; and what it hands down is what there was.
//!
//! Addresses, routes, rules and the firewall's table follow from the configuration and the roles alone
//! (`holdings::Told::of`); `tests/tests/reload/matrix.rs` shows that in a kernel.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use ipvs::{Destination, Forwarding, Pool, Service, ServiceFlags};
use proptest::prelude::*;

use super::*;
use crate::config::is_way;
use crate::desired::{PoolStates, Roles};
use crate::overrides::{Change, Out, Overrides};

/// A virtual server of a generated configuration.
#[derive(Debug, Clone)]
struct Virtual {
    scheduler: &'static str,
    forwarding: &'static str,
    check: &'static str,
    quorum: u32,
    zero_weight: bool,
    sorry: bool,
    while_master: bool,
    slow_start: u32,
    /// By the last number of their addresses: their weights, and a check of their own.
    reals: BTreeMap<u8, (u32, Option<&'static str>)>,
}

const CHECKS: [&str; 5] = [
    "{ type = \"none\" }",
    "{ type = \"tcp\" }",
    "{ type = \"tcp\", start = \"up\" }",
    "{ type = \"http\", path = \"/health\" }",
    "{ type = \"tcp\", via = \"vip\" }",
];

fn check() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&CHECKS[..])
}

fn virtual_server() -> impl Strategy<Value = Virtual> {
    let own = prop::option::weighted(0.2, check());
    (
        prop::sample::select(vec!["rr", "wlc", "sh"]),
        prop::sample::select(vec!["dr", "nat", "tun"]),
        check(),
        1..5_u32,
        any::<(bool, bool, bool)>(),
        prop_oneof![3 => Just(0), 1 => 1..20_u32],
        prop::collection::btree_map(1..6_u8, (0..4_u32, own), 1..5),
    )
        .prop_map(
            |(scheduler, forwarding, check, quorum, flags, slow_start, reals)| Virtual {
                scheduler,
                forwarding,
                check,
                quorum,
                zero_weight: flags.0,
                sorry: flags.1,
                while_master: flags.2,
                slow_start,
                reals,
            },
        )
}

/// Up to three virtual servers, whose names and addresses change hands from one configuration to the next.
fn configuration() -> impl Strategy<Value = String> {
    let names = Just(["a", "b", "c"]).prop_shuffle();
    let addresses = Just([1_u8, 2, 3, 4]).prop_shuffle();
    let servers = prop::collection::vec(virtual_server(), 0..4);
    (names, addresses, servers).prop_map(|(names, addresses, servers)| {
        let mut text = "[[vrrp]]\nname = \"r\"\ninterface = \"eth0\"\nvrid = 51\n\
                        virtual_addresses = [\"10.0.0.1/24\", \"10.0.0.2/24\", \"10.0.0.3/24\", \
                        \"10.0.0.4/24\"]\n"
            .to_owned();
        for ((name, address), server) in names.iter().zip(addresses).zip(&servers) {
            server.write(name, address, &mut text);
        }
        text
    })
}

impl Virtual {
    fn write(&self, name: &str, address: u8, text: &mut String) {
        writeln!(
            text,
            "[[virtual_server]]\nname = \"{name}\"\naddress = \"10.0.0.{address}:80\"\nvrrp = \"r\"\n\
             scheduler = \"{}\"\nforwarding = \"{}\"\ncheck = {}\nquorum = {}\non_failure = \"{}\"\n\
             active = \"{}\"\nslow_start = \"{}s\"",
            self.scheduler,
            self.forwarding,
            self.check,
            self.quorum,
            if self.zero_weight { "zero-weight" } else { "remove" },
            if self.while_master { "master" } else { "always" },
            self.slow_start,
        )
        .unwrap();
        if self.sorry {
            writeln!(text, "sorry_server = \"10.0.1.99:80\"").unwrap();
        }
        for (number, (weight, own)) in &self.reals {
            writeln!(
                text,
                "[[virtual_server.real_server]]\naddress = \"10.0.1.{number}:80\"\nweight = {weight}"
            )
            .unwrap();
            if let Some(check) = own {
                writeln!(text, "check = {check}").unwrap();
            }
        }
    }
}

/// What a director knows of virtual servers, and a kernel.
struct World {
    config: Config,
    roles: Roles,
    health: HealthTable,
    overrides: Overrides,
    states: PoolStates,
    managed: BTreeSet<ServiceKey>,
    kernel: Table,
}

impl World {
    /// A director without a configuration, whose kernel has a service that is somebody else's.
    fn new(master: bool) -> World {
        World {
            config: Config::parse("", "empty").unwrap(),
            roles: [("r".to_owned(), master)].into(),
            health: HealthTable::new(),
            overrides: Overrides::default(),
            states: PoolStates::new(),
            managed: BTreeSet::new(),
            kernel: foreign(),
        }
    }

    /// What `Director::replace` does: a start is a reload of nothing.
    fn reload(&mut self, text: &str, now: Instant) {
        let config = Config::parse(text, "vipd.toml").unwrap();
        let old = std::mem::replace(&mut self.config, config);
        let former = Former::new(&old, &self.health, &self.kernel);
        let before = |server: &VirtualServer, real: &RealServer| former.state(server, real);
        self.overrides = self.overrides.under(&self.config).0;
        let checks = checks(&self.config, &self.health, &before);
        self.health = checks.into_iter().map(|(spec, it)| (spec, it.0)).collect();
        manage(&mut self.managed, &self.config);
        self.judge(now);
    }

    /// What `Director::publish_table` and the reconciler do.
    fn judge(&mut self, now: Instant) {
        let World { config, health, .. } = self;
        self.states = desired::pools(config, health, &self.overrides, &self.states, now);
        let table = desired::desired(config, &self.roles, &self.states);
        let owns = |key: &ServiceKey| self.managed.contains(key) || is_way(key);
        for change in ipvs::diff_among(&self.kernel, &table, owns) {
            ipvs::apply_to(&mut self.kernel, &change).unwrap();
        }
    }

    fn find(&mut self, verdict: impl Fn(&CheckSpec) -> Health, now: Instant) {
        for (spec, found) in &mut self.health {
            found.health = verdict(spec);
        }
        self.judge(now);
    }

    /// Time goes by until it changes nothing any more.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let Some(at) = desired::next_step(&self.states) else {
                return;
            };
            self.judge(at);
        }
        panic!("time goes on changing the pools: {:?}", self.states);
    }
}

fn foreign() -> Table {
    let service = Service {
        scheduler: "rr".into(),
        flags: ServiceFlags::default(),
        persistence: None,
    };
    let destination = Destination {
        forwarding: Forwarding::Nat,
        weight: 7,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let real = DestinationKey("192.0.2.9:99".parse().unwrap());
    let pool = Pool {
        service,
        destinations: [(real, destination)].into(),
    };
    let key = ServiceKey::Address {
        protocol: ipvs::Protocol::Tcp,
        address: "192.0.2.1:99".parse().unwrap(),
    };
    [(key, pool)].into()
}

/// What operators may order of a real server: of which virtual server, of which real server, what.
fn orders() -> impl Strategy<Value = Vec<(usize, u8, Change)>> {
    let change = prop_oneof![
        Just(Change::Drain),
        Just(Change::Disable),
        (0..5_u32).prop_map(Change::Weight),
    ];
    prop::collection::vec((0..3_usize, 1..6_u8, change), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_reload_ends_in_what_a_fresh_start_with_the_new_file_ends_in(
        files in prop::collection::vec(configuration(), 2..5),
        orders in orders(),
        down in any::<[bool; 8]>(),
        master in any::<bool>(),
    ) {
        let start = Instant::now();
        let verdict = |spec: &CheckSpec| {
            let last = match spec.route.through.unwrap_or(spec.target.ip()) {
                std::net::IpAddr::V4(address) => address.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            };
            if down[usize::from(last % 8)] { Health::Down } else { Health::Up }
        };
        let mut director = World::new(master);
        director.reload(&files[0], start);
        director.find(|_| Health::Up, start + Duration::from_secs(1));
        for (server, real, change) in orders {
            let mut servers = director.config.virtual_servers.iter();
            let Some(server) = servers.nth(server) else { continue };
            let address = DestinationKey(([10, 0, 1, real], 80).into());
            let mut reals = server.real_servers.iter();
            let Some(real) = reals.find(|known| known.key == address) else { continue };
            let (name, weight) = (server.name.clone(), real.destination.weight);
            director.overrides = director.overrides.with(&name, address, weight, change);
        }
        director.find(verdict, start + Duration::from_secs(2));
        for (file, next) in files[1..].iter().zip(1..) {
            let (config, health) = (director.config.clone(), director.health.clone());
            let (ordered, kernel) = (director.overrides.clone(), director.kernel.clone());
            let now = start + Duration::from_secs(1_000 * next);
            director.reload(file, now);
            inherits_verdicts(&director, &config, &health, &kernel)?;
            keeps_orders(&director, &config, &ordered)?;
            // The same verdicts: those with which the reload goes on.
            let known = director.health.clone();
            let mut fresh = World::new(master);
            fresh.overrides = ordered;
            fresh.reload(file, now);
            fresh.find(|spec| known[spec].health, now);
            director.settle();
            fresh.settle();
            prop_assert_eq!(&director.kernel, &fresh.kernel, "{}", file);
            // And those that come then.
            for world in [&mut director, &mut fresh] {
                world.find(verdict, now + Duration::from_secs(500));
                world.settle();
            }
            prop_assert_eq!(&director.kernel, &fresh.kernel, "{}", file);
            for (key, pool) in foreign() {
                prop_assert_eq!(director.kernel.get(&key), Some(&pool));
            }
        }
    }
}

/// Whatever was known of a real server is known of it still, whatever checks it now.
fn inherits_verdicts(
    director: &World,
    old: &Config,
    health: &HealthTable,
    kernel: &Table,
) -> Result<(), TestCaseError> {
    for server in &director.config.virtual_servers {
        let former = old.virtual_servers.iter();
        let former = former.into_iter().find(|known| known.keys == server.keys);
        for real in server
            .real_servers
            .iter()
            .filter(|real| !real.checks.is_empty())
        {
            let found = desired::state(real, &director.health);
            let goes_on = real.checks.iter().all(|spec| health.contains_key(spec));
            let known = former.and_then(|server| {
                let mut reals = server.real_servers.iter();
                reals.find(|known| known.key == real.key)
            });
            let starts_up = real.checks.iter().all(|spec| spec.start == Start::Up);
            let wanted = match known {
                _ if goes_on => desired::state(real, health),
                Some(known) => desired::state(known, health),
                None if serves(kernel, server, real) => Health::Up,
                None => Health::Unknown,
            };
            let shared = real.checks.iter().any(|spec| {
                let servers = director.config.virtual_servers.iter();
                let others = servers.filter(|other| other.name != server.name);
                let mut reals = others.flat_map(|other| &other.real_servers);
                reals.any(|other| other.checks.contains(spec))
            });
            // Where it is the check of another virtual server, too, the better beginning counts.
            let better = shared && (found == Health::Up || wanted == Health::Unknown);
            let begins = wanted == Health::Unknown && starts_up && found == Health::Up;
            prop_assert!(
                found == wanted || better || begins,
                "{}/{:?}: {:?}, was {:?}",
                server.name,
                real.key,
                found,
                wanted
            );
        }
    }
    Ok(())
}

/// An order is kept for as long as the real server is there, a weight for as long as the configured one is
/// what it was.
fn keeps_orders(director: &World, old: &Config, ordered: &Overrides) -> Result<(), TestCaseError> {
    for server in old
        .virtual_servers
        .iter()
        .chain(&director.config.virtual_servers)
    {
        for real in &server.real_servers {
            let (was, is) = (
                ordered.of(&server.name, real.key),
                director.overrides.of(&server.name, real.key),
            );
            let now = director.config.virtual_server(&server.name);
            let mut now = now.into_iter().flat_map(|server| &server.real_servers);
            let now = now.find(|known| known.key == real.key);
            let out = was.out.filter(|_| now.is_some());
            let weight = was.weight;
            let weight =
                weight.filter(|it| now.is_some_and(|n| n.destination.weight == it.configured));
            prop_assert_eq!((is.out, is.weight), (out, weight));
            let pool = director.states.get(&server.name);
            if let (Some(Out::Disabled), Some(pool)) = (is.out, pool) {
                prop_assert!(!pool.destinations.contains_key(&real.key));
            }
        }
    }
    Ok(())
}
