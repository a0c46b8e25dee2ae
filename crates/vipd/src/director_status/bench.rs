//! What 10,000 real servers cost whoever looks, without a kernel: each part by itself, the median of
//! several runs. Run it on two machines, and the ratio says how much slower the one is:
//!
//! `cargo test --release -p vipd --lib -- --ignored --nocapture ten_thousand`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use health::Health;
use ipvs::{DestinationStatistics, Dump, Statistics, Table};

use super::servers::Servers;
use crate::config::Config;
use crate::desired::{self, Found, HealthTable, PoolStates, Roles};
use crate::director_loop::checks::CheckDetail;
use crate::director_loop::pools::Pools;
use crate::metrics::{Format, Snapshot};
use crate::overrides::Overrides;
use crate::status::{
    ChecksStatus, ConfigStatus, IpvsStatus, Look, Status, VirtualServerStatus, indented, render,
    rfc3339,
};

const RUNS: usize = 15;

/// 100 virtual servers with 100 real servers each, all of them checked.
fn config() -> Config {
    let mut text = String::new();
    for service in 0..100 {
        writeln!(
            text,
            "[[virtual_server]]\nname = \"service-{service}\"\naddress = \"10.64.0.{service}:80\"\n\
             scheduler = \"wlc\"\nforwarding = \"dr\"\ncheck = {{ type = \"tcp\" }}"
        )
        .unwrap();
        for real in 0..100 {
            let address = format!("10.{}.{real}.1:80", 128 + service);
            writeln!(
                text,
                "[[virtual_server.real_server]]\naddress = \"{address}\""
            )
            .unwrap();
        }
    }
    Config::parse(&text, "vipd.toml").unwrap()
}

/// What a kernel says that holds that table.
fn dump(table: Table) -> Dump {
    let counters = Statistics {
        connections: 123_456,
        in_packets: 2_345_678,
        in_bytes: 345_678_901,
        ..Statistics::default()
    };
    let mut dump = Dump::default();
    for (key, pool) in &table {
        dump.services.insert(*key, counters);
        dump.service_order.push(*key);
        for real in pool.destinations.keys() {
            let counts = DestinationStatistics {
                counters,
                active: 12,
                inactive: 34,
                persistent: 0,
            };
            dump.destinations.insert((*key, *real), counts);
            dump.destination_order.push((*key, *real));
        }
    }
    dump.table = table;
    dump
}

fn status(virtual_servers: Vec<VirtualServerStatus>) -> Status {
    Status {
        name: "lb1".to_owned(),
        version: "0".to_owned(),
        uptime_seconds: 60,
        maintenance: false,
        events_last_id: 1,
        vrrp: Vec::new(),
        virtual_servers,
        checks: ChecksStatus::default(),
        ipvs: IpvsStatus {
            in_sync: true,
            repairs: 0,
            last_resync: Some(rfc3339(SystemTime::now())),
            refused: Vec::new(),
            problems: Vec::new(),
            sync: None,
        },
        config: ConfigStatus {
            path: "/etc/vipd/vipd.toml".to_owned(),
            loaded: rfc3339(SystemTime::now()),
            last_reload: None,
            trial_seconds_left: None,
            unconfirmed: false,
        },
    }
}

/// The median of some runs.
fn measure<T>(what: &str, mut run: impl FnMut() -> T) -> T {
    let mut times: Vec<Duration> = Vec::new();
    let mut result = run();
    for _ in 0..RUNS {
        // What comes out of a run is freed in it: the daemon does that, too.
        let began = Instant::now();
        result = black_box(run());
        times.push(began.elapsed());
    }
    times.sort();
    eprintln!("{what:<44} {:>9.3} ms", times[RUNS / 2].as_secs_f64() * 1e3);
    result
}

#[test]
#[ignore = "a measurement"]
fn what_ten_thousand_real_servers_cost_whoever_looks() {
    let config = config();
    let specs = || {
        let servers = config.virtual_servers.iter();
        let reals = servers.flat_map(|server| &server.real_servers);
        reals.flat_map(|real| real.checks.iter().cloned())
    };
    let found: Found = Health::Up.into();
    let health: HealthTable = specs().map(|spec| (spec, found)).collect();
    let mut detail = CheckDetail::default();
    detail.last_latency = Some(Duration::from_millis(2));
    let details = specs().enumerate().map(|(number, spec)| {
        detail.users = [(number / 100, number % 100)].into();
        (spec, detail.clone())
    });
    let details: BTreeMap<_, _> = details.collect();
    let nothing = (Overrides::default(), PoolStates::default());
    let states = desired::pools(&config, &health, &nothing.0, &nothing.1, Instant::now());
    let table = desired::desired(&config, &Roles::new(), &states);
    let mut pools = Pools::default();
    pools.states = states;
    let dump = dump(table.clone());
    let servers = Servers {
        config: &config,
        pools: &pools,
        health: &health,
        details: &details,
        dump: Some(&dump),
        in_sync: true,
        holds: &|_| false,
    };
    let changes = measure("the table compared with what is wanted", || {
        ipvs::diff(&dump.table, &table)
    });
    assert!(changes.is_empty(), "{changes:?}");
    let found = measure("the document", || servers.status());
    assert_eq!(
        found.iter().map(|it| it.real_servers.len()).sum::<usize>(),
        10_000
    );
    let last = found.last().and_then(|it| it.real_servers.last()).unwrap();
    assert_eq!((last.state.as_str(), last.connections.active), ("up", 12));
    let status = status(found.clone());
    let now = SystemTime::now();
    let terminal = Look {
        color: true,
        width: Some(100),
    };
    let page = measure("the page on a terminal", || render(&status, now, terminal));
    assert!(page.contains("10000 of 10000 real servers up"), "{page}");
    let page = measure("the page for a pipe", || {
        render(&status, now, Look::default())
    });
    assert!(page.lines().count() > 10_000);
    let json = measure("written as JSON", || {
        serde_json::to_string(&status).unwrap()
    });
    let read: Status = measure("JSON taken apart", || serde_json::from_str(&json).unwrap());
    assert_eq!(read, status);
    let pretty = measure("JSON indented", || indented(&json));
    let text = measure("the metrics, from their document on", || {
        Snapshot::of_servers(found.clone()).encode(Format::OpenMetrics)
    });
    let sizes = [page.len(), json.len(), pretty.len(), text.len()];
    eprintln!("bytes: page, JSON, indented, metrics: {sizes:?}");
}
