//! The metrics, encoded at the time of the scrape from what the director knows: no label set
//! outlives its object. Names: `docs/metrics.md`.

use std::fmt;

use health::Health;
use ipvs::Statistics;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::counters::LATENESS_BOUNDS;
use crate::desired;
use crate::director_loop::Director;
use crate::director_status::failures;

/// All metrics in the OpenMetrics text format.
#[must_use]
pub fn encode(director: &Director) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collect(director)));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode_text(&mut text, &registry);
    text
}

type Labels = Vec<(&'static str, String)>;

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
    lateness: (Vec<u64>, std::time::Duration),
}

fn collect(director: &Director) -> Collector {
    let mut families = Families(Vec::new());
    routers(director, &mut families);
    servers(director, &mut families);
    let none = Labels::new;
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
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
    Collector {
        families: families.0,
        lateness: director.vrrp.lateness().read(),
    }
}

fn routers(director: &Director, families: &mut Families) {
    for vrrp in &director.config.vrrp {
        let labels = || vec![("name", vrrp.name.clone())];
        let with = |key, value: &str| {
            let mut labels = labels();
            labels.push((key, value.to_owned()));
            labels
        };
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

fn servers(director: &Director, families: &mut Families) {
    let status = director.status();
    let dump = director
        .kernel
        .as_ref()
        .and_then(|kernel| kernel.dump.as_ref());
    for (server, configured) in status
        .virtual_servers
        .iter()
        .zip(&director.config.virtual_servers)
    {
        let labels = || vec![("virtual_server", server.name.clone())];
        families
            .gauge(
                "vipd_virtual_server_quorum_up",
                "Whether the virtual server has quorum",
            )
            .push((labels(), u64::from(server.quorum.up)));
        families
            .gauge(
                "vipd_virtual_server_panic",
                "Whether fewer than minimum_up pass and some that fail are kept",
            )
            .push((labels(), u64::from(server.panic)));
        let each = configured
            .keys
            .iter()
            .filter_map(|key| dump.and_then(|(_, dump)| dump.services.get(key)));
        let Statistics {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
            rates: _,
        } = each.fold(Statistics::default(), sum);
        for (name, help, value) in [
            (
                "vipd_virtual_server_connections",
                "Connections scheduled",
                connections,
            ),
            (
                "vipd_virtual_server_in_packets",
                "Packets from clients",
                in_packets,
            ),
            (
                "vipd_virtual_server_out_packets",
                "Packets to clients (NAT)",
                out_packets,
            ),
            (
                "vipd_virtual_server_in_bytes",
                "Bytes from clients",
                in_bytes,
            ),
            (
                "vipd_virtual_server_out_bytes",
                "Bytes to clients (NAT)",
                out_bytes,
            ),
        ] {
            families.counter(name, help).push((labels(), value));
        }
        for (real, configured) in server.real_servers.iter().zip(&configured.real_servers) {
            let labels = || {
                let mut labels = labels();
                labels.push(("real_server", real.address.clone()));
                labels
            };
            let with = |key, value: &str| {
                let mut labels = labels();
                labels.push((key, value.to_owned()));
                labels
            };
            let passes = desired::state(configured, &director.health) == Health::Up;
            families
                .gauge("vipd_real_server_up", "Whether all checks pass")
                .push((labels(), u64::from(passes)));
            families
                .gauge(
                    "vipd_real_server_weight",
                    "The weight in the kernel's table",
                )
                .push((labels(), u64::from(real.weight.effective)));
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
                    .push((with("state", state), u64::from(value)));
            }
            for (reason, count) in failures(director, configured) {
                families
                    .counter("vipd_check_failures", "Failed probes, by reason")
                    .push((with("reason", reason), count));
            }
        }
    }
}

/// The families in the order of their first value.
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
                let labels: Vec<(&str, &str)> =
                    labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
                if labels.is_empty() {
                    encode_value(&mut metric, family.kind, *value)?;
                } else {
                    let mut member = metric.encode_family(&labels)?;
                    encode_value(&mut member, family.kind, *value)?;
                }
            }
        }
        let (counts, sum) = &self.lateness;
        let mut buckets: Vec<(f64, u64)> = LATENESS_BOUNDS
            .iter()
            .map(std::time::Duration::as_secs_f64)
            .chain([f64::INFINITY])
            .zip(counts.iter().copied())
            .collect();
        buckets.truncate(counts.len());
        encoder
            .encode_descriptor(
                "vipd_vrrp_advert_lateness_seconds",
                "How long after their time deadlines of the advert path were met",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(sum.as_secs_f64(), counts.iter().sum(), &buckets, None)
    }
}

fn encode_value(metric: &mut MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        Kind::Gauge => metric.encode_gauge(&value),
    }
}

fn sum(a: Statistics, b: &Statistics) -> Statistics {
    Statistics {
        connections: a.connections.saturating_add(b.connections),
        in_packets: a.in_packets.saturating_add(b.in_packets),
        out_packets: a.out_packets.saturating_add(b.out_packets),
        in_bytes: a.in_bytes.saturating_add(b.in_bytes),
        out_bytes: a.out_bytes.saturating_add(b.out_bytes),
        rates: a.rates,
    }
}
