//! The metrics, encoded at the time of the scrape from what the director knows: no label set
//! outlives its object. Names: `docs/metrics.md`.

mod connection_sync;
mod notify;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::counters::LATENESS_BOUNDS;
use crate::director_loop::Director;
use crate::director_loop::checks::CheckDetail;
use crate::director_loop::schedule::Pace;
use crate::director_status::failures;
use crate::status::{TrafficStatus, VirtualServerStatus};

/// What the director knows at the time of a scrape. Taking it is all that the director's loop does;
/// the text is made elsewhere.
#[derive(Debug)]
pub struct Snapshot {
    /// Everything but the virtual servers, which can be many.
    families: Families,
    servers: Vec<VirtualServerStatus>,
    /// Failures of checks by reason, of each virtual server and each of its real servers.
    failures: Vec<Vec<BTreeMap<&'static str, u64>>>,
    histograms: Vec<Histogram>,
    totals: Arc<Mutex<Totals>>,
}

impl Snapshot {
    /// Takes it.
    #[must_use]
    pub fn of(director: &Director) -> Snapshot {
        let mut families = Families(Vec::new());
        routers(director, &mut families);
        general(director, &mut families);
        if director.config.ipvs.sync.is_some() {
            connection_sync::write(&director.connection_sync.state(), &mut families);
        }
        notify::write(&director.notifier.counts(), &mut families);
        let servers = director.config.virtual_servers.iter();
        let failures = servers.map(|server| {
            let reals = server.real_servers.iter();
            reals.map(|real| failures(director, real)).collect()
        });
        Snapshot {
            families,
            failures: failures.collect(),
            servers: director.status().virtual_servers,
            histograms: histograms(director),
            totals: Arc::clone(&director.totals),
        }
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(self) -> String {
        let mut families = self.families;
        {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.forget_all_but(&self.servers);
            for (server, failures) in self.servers.iter().zip(&self.failures) {
                virtual_server(server, failures, &mut totals, &mut families);
            }
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Collector {
            families: families.0,
            histograms: self.histograms,
        }));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_text(&mut text, &registry);
        text
    }
}

/// Counters that never go back: the kernel's begin anew when they are zeroed, or with a service or a
/// real server that was away, and what was counted before is added to them.
#[derive(Debug, Default)]
pub struct Totals(BTreeMap<(String, Option<String>), Counted>);

#[derive(Debug, Default)]
struct Counted {
    before: [u64; 5],
    kernel: [u64; 5],
}

impl Totals {
    fn count(&mut self, server: &str, real: Option<&str>, kernel: [u64; 5]) -> [u64; 5] {
        let key = (server.to_owned(), real.map(str::to_owned));
        let counted = self.0.entry(key).or_default();
        // Not all of the five need to grow between two scrapes, but none of them shrinks.
        if counted.kernel.iter().zip(&kernel).any(|(was, is)| is < was) {
            for (before, was) in counted.before.iter_mut().zip(counted.kernel) {
                *before += was;
            }
        }
        counted.kernel = kernel;
        let mut sum = counted.before;
        for (sum, kernel) in sum.iter_mut().zip(kernel) {
            *sum += kernel;
        }
        sum
    }

    fn forget_all_but(&mut self, servers: &[VirtualServerStatus]) {
        let known: BTreeMap<&str, BTreeSet<&str>> = servers
            .iter()
            .map(|server| {
                let reals = server.real_servers.iter();
                let reals = reals.map(|real| real.address.as_str()).collect();
                (server.name.as_str(), reals)
            })
            .collect();
        self.0.retain(|(server, real), _| {
            known
                .get(server.as_str())
                .is_some_and(|reals| real.as_deref().is_none_or(|real| reals.contains(real)))
        });
    }
}

fn numbers(traffic: &TrafficStatus) -> [u64; 5] {
    let TrafficStatus {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = *traffic;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

/// Labels that all metrics of an object have, and those of one value.
#[derive(Debug, Clone)]
struct Labels {
    object: Arc<[(&'static str, String)]>,
    value: Option<(&'static str, String)>,
}

impl Labels {
    fn new<const N: usize>(object: [(&'static str, &str); N]) -> Labels {
        let object = object.map(|(name, value)| (name, value.to_owned()));
        Labels {
            object: Arc::new(object),
            value: None,
        }
    }

    fn with(&self, name: &'static str, value: &str) -> Labels {
        Labels {
            object: Arc::clone(&self.object),
            value: Some((name, value.to_owned())),
        }
    }

    fn all(&self) -> Vec<(&str, &str)> {
        let labels = self.object.iter().chain(&self.value);
        labels
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }
}

/// One metric and all its values. Values are integers: whatever has a fraction is a histogram.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    values: Vec<(Labels, u64)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

#[derive(Debug)]
struct Collector {
    families: Vec<Family>,
    histograms: Vec<Histogram>,
}

/// Times, counted by size.
#[derive(Debug)]
struct Histogram {
    name: &'static str,
    help: &'static str,
    bounds: &'static [Duration],
    /// By bucket, not cumulated, the last one above every bound; and the sum.
    read: (Vec<u64>, Duration),
}

fn histograms(director: &Director) -> Vec<Histogram> {
    vec![
        Histogram {
            name: "vipd_vrrp_advert_lateness_seconds",
            help: "How long after their time deadlines of the advert path were met",
            bounds: &LATENESS_BOUNDS,
            read: director.vrrp.lateness().read(),
        },
        Histogram {
            name: "vipd_check_lateness_seconds",
            help: "How long after their time probes were started",
            bounds: &health::Histogram::BOUNDS,
            read: director.runner.lateness().read(),
        },
        Histogram {
            name: "vipd_check_duration_seconds",
            help: "How long probes took",
            bounds: &health::Histogram::BOUNDS,
            read: director.runner.durations().read(),
        },
    ]
}

fn general(director: &Director, families: &mut Families) {
    let none = || Labels::new([]);
    let version = Labels::new([("version", env!("CARGO_PKG_VERSION"))]);
    let reloaded = director
        .last_reload
        .as_ref()
        .is_none_or(|reload| reload.error.is_none());
    let in_sync = director
        .kernel
        .as_ref()
        .is_some_and(|kernel| kernel.in_sync);
    families
        .counter(
            "vipd_ipvs_repairs",
            "Changes undone that somebody else had made to IPVS",
        )
        .push((none(), director.repairs));
    families
        .counter(
            "vipd_checks_short_of_resources",
            "Probes that could not be made because this host ran out of something",
        )
        .push((none(), director.alarms.shortage.total));
    for (name, help, count) in checks_gauges(director) {
        families.gauge(name, help).push((none(), count));
    }
    families
        .gauge(
            "vipd_ipvs_in_sync",
            "Whether the kernel holds the desired table",
        )
        .push((none(), u64::from(in_sync)));
    families
        .counter(
            "vipd_address_repairs",
            "Virtual addresses put back that somebody had deleted",
        )
        .push((none(), director.address_repairs));
    families
        .counter(
            "vipd_address_conflicts",
            "Claims of other hosts to virtual addresses that this one holds",
        )
        .push((none(), director.address_conflicts));
    families
        .gauge(
            "vipd_config_last_reload_successful",
            "Whether the last reload took effect",
        )
        .push((none(), u64::from(reloaded)));
    families
        .gauge("vipd_build_info", "The version of the daemon")
        .push((version, 1));
}

/// How many checks are how; none has a label.
fn checks_gauges(director: &Director) -> [(&'static str, &'static str, u64); 3] {
    let count = |wanted: &dyn Fn(&CheckDetail) -> bool| {
        let found = director.details.values().filter(|detail| wanted(detail));
        u64::try_from(found.count()).unwrap_or(u64::MAX)
    };
    [
        (
            "vipd_checks_running",
            "Checks that run",
            count(&|detail| detail.pace != Pace::Stopped),
        ),
        (
            "vipd_checks_flapping",
            "Checks whose target stays out because it came and went too often",
            count(&|detail| detail.flapping),
        ),
        (
            "vipd_checks_all_failing",
            "Whether every target fails, and began to at once",
            u64::from(director.alarms.all_failing.is_some()),
        ),
    ]
}

fn routers(director: &Director, families: &mut Families) {
    for vrrp in &director.config.vrrp {
        let of = Labels::new([("name", &vrrp.name)]);
        let labels = || of.clone();
        let with = |key, value: &str| of.with(key, value);
        let router = director.routers.get(&vrrp.name);
        let now = router.map_or("initialize".to_owned(), |r| r.report.state.to_string());
        for state in ["initialize", "backup", "master", "fault"] {
            families
                .gauge(
                    "vipd_vrrp_state",
                    "1 for the state the virtual router is in",
                )
                .push((with("state", state), u64::from(now == state)));
        }
        families
            .counter("vipd_vrrp_transitions", "Changes of state")
            .push((labels(), router.map_or(0, |r| r.transitions)));
        let report = router.map(|router| &router.report);
        for (name, help, holds) in [
            (
                "vipd_vrrp_rival",
                "Whether another master is heard while this one is master",
                report.is_some_and(|report| report.rival.is_some()),
            ),
            (
                "vipd_vrrp_suspect",
                "Whether it waits because somebody answers for the addresses of a silent master",
                report.is_some_and(|report| report.suspect.is_some()),
            ),
            (
                "vipd_vrrp_incompatible_peer",
                "Whether a peer is heard whose adverts cannot be accepted",
                report.is_some_and(|report| report.incompatible.is_some()),
            ),
        ] {
            families
                .gauge(name, help)
                .push((labels(), u64::from(holds)));
        }
        families
            .gauge("vipd_vrrp_priority", "The priority in its adverts")
            .push((
                labels(),
                report.map_or(0, |r| u64::from(r.effective_priority)),
            ));
        if let Some(counters) = director.counters.get(&vrrp.name) {
            families
                .counter("vipd_vrrp_adverts_sent", "Adverts sent")
                .push((labels(), counters.sent()));
            families
                .counter("vipd_vrrp_adverts_received", "Adverts accepted")
                .push((labels(), counters.received()));
            for (form, count) in counters.forms() {
                families
                    .counter(
                        "vipd_vrrp_adverts_checksum",
                        "Adverts of version 3 over IPv4 accepted, by the form of their checksum",
                    )
                    .push((with("form", form), count));
            }
            for (reason, count) in counters.discarded() {
                families
                    .counter(
                        "vipd_vrrp_adverts_discarded",
                        "Adverts discarded, by rule broken",
                    )
                    .push((with("reason", reason), count));
            }
        }
    }
}

/// Name and help of what is counted of every virtual server, in the order of [`numbers`].
const OF_VIRTUAL_SERVERS: [(&str, &str); 5] = [
    ("vipd_virtual_server_connections", "Connections scheduled"),
    ("vipd_virtual_server_in_packets", "Packets from clients"),
    (
        "vipd_virtual_server_out_packets",
        "Packets to clients (NAT)",
    ),
    ("vipd_virtual_server_in_bytes", "Bytes from clients"),
    ("vipd_virtual_server_out_bytes", "Bytes to clients (NAT)"),
];

/// The same of every real server. The connections that it has now are called
/// `vipd_real_server_connections`, so those that it was given have another name.
const OF_REAL_SERVERS: [(&str, &str); 5] = [
    (
        "vipd_real_server_scheduled_connections",
        "Connections scheduled to it",
    ),
    ("vipd_real_server_in_packets", "Packets from clients to it"),
    (
        "vipd_real_server_out_packets",
        "Packets from it to clients (NAT)",
    ),
    ("vipd_real_server_in_bytes", "Bytes from clients to it"),
    (
        "vipd_real_server_out_bytes",
        "Bytes from it to clients (NAT)",
    ),
];

fn virtual_server(
    server: &VirtualServerStatus,
    failures: &[BTreeMap<&'static str, u64>],
    totals: &mut Totals,
    families: &mut Families,
) {
    let labels = Labels::new([("virtual_server", &server.name)]);
    families
        .gauge(
            "vipd_virtual_server_quorum_up",
            "Whether the virtual server has quorum",
        )
        .push((labels.clone(), u64::from(server.quorum.up)));
    families
        .gauge(
            "vipd_virtual_server_panic",
            "Whether fewer than minimum_up pass and some that fail are kept",
        )
        .push((labels.clone(), u64::from(server.panic)));
    let counted = totals.count(&server.name, None, numbers(&server.counters));
    for ((name, help), value) in OF_VIRTUAL_SERVERS.into_iter().zip(counted) {
        families.counter(name, help).push((labels.clone(), value));
    }
    for (real, failures) in server.real_servers.iter().zip(failures) {
        let labels = Labels::new([
            ("virtual_server", &server.name),
            ("real_server", &real.address),
        ]);
        // A real server that drains may pass all the same.
        let passes = real.checks.iter().all(|check| check.state == "up");
        families
            .gauge("vipd_real_server_up", "Whether all checks pass")
            .push((labels.clone(), u64::from(passes)));
        families
            .gauge(
                "vipd_real_server_weight",
                "The weight in the kernel's table",
            )
            .push((labels.clone(), u64::from(real.weight.effective)));
        let connections = &real.connections;
        for (state, value) in [
            ("active", connections.active),
            ("inactive", connections.inactive),
            ("persistent", connections.persistent),
        ] {
            families
                .gauge(
                    "vipd_real_server_connections",
                    "Connections, as the kernel counts",
                )
                .push((labels.with("state", state), u64::from(value)));
        }
        let counted = totals.count(&server.name, Some(&real.address), numbers(&real.counters));
        for ((name, help), value) in OF_REAL_SERVERS.into_iter().zip(counted) {
            families.counter(name, help).push((labels.clone(), value));
        }
        for (reason, count) in failures {
            families
                .counter("vipd_check_failures", "Failed probes, by reason")
                .push((labels.with("reason", reason), *count));
        }
    }
}

/// The families in the order of their first value.
#[derive(Debug)]
struct Families(Vec<Family>);

impl Families {
    fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Vec<(Labels, u64)> {
        self.family(name, help, Kind::Counter)
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Vec<(Labels, u64)> {
        self.family(name, help, Kind::Gauge)
    }

    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
    ) -> &mut Vec<(Labels, u64)> {
        let position = self
            .0
            .iter()
            .position(|family| family.name == name)
            .unwrap_or_else(|| {
                self.0.push(Family {
                    name,
                    help,
                    kind,
                    values: Vec::new(),
                });
                self.0.len() - 1
            });
        // The position was found or made a line above.
        #[allow(
            clippy::indexing_slicing,
            reason = "the position is that of an element"
        )]
        &mut self.0[position].values
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in &family.values {
                let labels = labels.all();
                if labels.is_empty() {
                    encode_value(&mut metric, family.kind, *value)?;
                } else {
                    let mut member = metric.encode_family(&labels)?;
                    encode_value(&mut member, family.kind, *value)?;
                }
            }
        }
        for Histogram {
            name,
            help,
            bounds,
            read: (counts, sum),
        } in &self.histograms
        {
            let mut buckets: Vec<(f64, u64)> = bounds
                .iter()
                .map(Duration::as_secs_f64)
                .chain([f64::INFINITY])
                .zip(counts.iter().copied())
                .collect();
            buckets.truncate(counts.len());
            encoder
                .encode_descriptor(name, help, None, MetricType::Histogram)?
                .encode_histogram::<NoLabelSet>(
                    sum.as_secs_f64(),
                    counts.iter().sum(),
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }
}

fn encode_value(metric: &mut MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        Kind::Gauge => metric.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ConnectionsStatus, QuorumStatus, RealServerStatus, WeightStatus};

    #[test]
    fn a_total_goes_on_where_the_kernels_counter_begins_anew() {
        let mut totals = Totals::default();
        let mut count = |n| totals.count("web", Some("10.0.0.1:80"), [n, 10 * n, 0, 0, 0]);
        assert_eq!(count(5), [5, 50, 0, 0, 0]);
        assert_eq!(count(7), [7, 70, 0, 0, 0]);
        assert_eq!(count(1), [8, 80, 0, 0, 0], "zeroed");
        assert_eq!(count(0), [8, 80, 0, 0, 0], "not in the table");
        assert_eq!(count(3), [11, 110, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_longer_configured_is_forgotten() {
        let mut totals = Totals::default();
        totals.count("web", None, [1; 5]);
        totals.count("web", Some("10.0.0.1:80"), [1; 5]);
        totals.forget_all_but(&[]);
        assert!(totals.0.is_empty());
    }

    #[test]
    fn a_scrape_of_ten_thousand_real_servers_names_each_of_them() {
        let traffic = |connections| TrafficStatus {
            connections,
            ..TrafficStatus::default()
        };
        let real = |n: usize| RealServerStatus {
            address: format!("10.{}.{}.1:80", n / 200, n % 200),
            state: "up".to_owned(),
            weight: WeightStatus {
                configured: 1,
                ordered: None,
                effective: 1,
            },
            kept: false,
            slow_start: false,
            checks: Vec::new(),
            connections: ConnectionsStatus::default(),
            counters: traffic(7),
            rates: TrafficStatus::default(),
        };
        let server = |n: usize| VirtualServerStatus {
            name: format!("service-{n}"),
            address: "10.0.0.1:80".to_owned(),
            addresses: vec!["10.0.0.1:80".to_owned()],
            protocol: "tcp".to_owned(),
            scheduler: "wlc".to_owned(),
            forwarding: "dr".to_owned(),
            active: "always".to_owned(),
            quorum: QuorumStatus {
                needed: 1,
                have: 100,
                up: true,
            },
            sorry: false,
            panic: false,
            missing: false,
            counters: traffic(9),
            rates: TrafficStatus::default(),
            real_servers: (0..100).map(|real_n| real(100 * n + real_n)).collect(),
        };
        let began = std::time::Instant::now();
        let servers: Vec<VirtualServerStatus> = (0..100).map(server).collect();
        let (built, began) = (began.elapsed(), std::time::Instant::now());
        let snapshot = Snapshot {
            families: Families(Vec::new()),
            failures: vec![vec![BTreeMap::new(); 100]; 100],
            servers,
            histograms: Vec::new(),
            totals: Arc::default(),
        };
        let text = snapshot.encode();
        eprintln!("built in {built:?}, encoded in {:?}", began.elapsed());
        let lines = |name: &str| {
            let found = text.lines().filter_map(|line| line.strip_prefix("vipd_"));
            let found = found.filter_map(|line| line.strip_prefix(name));
            found.filter(|rest| rest.starts_with('{')).count()
        };
        assert_eq!(lines("real_server_scheduled_connections_total"), 10_000);
        assert_eq!(lines("real_server_connections"), 30_000);
        assert_eq!(lines("virtual_server_connections_total"), 100);
        let last = "real_server_scheduled_connections_total{virtual_server=\"service-99\",\
                    real_server=\"10.49.199.1:80\"} 7";
        assert!(text.contains(last), "{}", text.len());
    }
}
