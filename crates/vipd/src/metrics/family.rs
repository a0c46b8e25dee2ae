//! Metrics with their values, and how they are written in the two formats: OpenMetrics for whoever
//! asks for it, as Prometheus does, and the older Prometheus text for everybody else (`curl`,
//! `promtool`). They differ in the names of counters and in the types they know.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// How a scrape is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4.
    Text,
}

impl Format {
    /// That which a client's `Accept` header asks for.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Format {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Labels that all metrics of an object have, and those of one value.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    object: Arc<[(&'static str, String)]>,
    value: Option<(&'static str, String)>,
}

impl Labels {
    pub(super) fn new<const N: usize>(object: [(&'static str, &str); N]) -> Labels {
        let object = object.map(|(name, value)| (name, value.to_owned()));
        Labels {
            object: Arc::new(object),
            value: None,
        }
    }

    pub(super) fn with(&self, name: &'static str, value: &str) -> Labels {
        Labels {
            object: Arc::clone(&self.object),
            value: Some((name, value.to_owned())),
        }
    }

    pub(super) fn all(&self) -> Vec<(&str, &str)> {
        let labels = self.object.iter().chain(&self.value);
        labels
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }
}

/// One metric and all its values. Values are integers: whatever has a fraction is a histogram.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    help: &'static str,
    kind: Kind,
    pub(super) values: Vec<(Labels, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Info,
}

/// The families in the order of their first value. The name of a family is that of OpenMetrics: a
/// counter's is without `_total`.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) list: Vec<Family>,
    positions: BTreeMap<&'static str, usize>,
}

impl Families {
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> &mut Vec<(Labels, u64)> {
        self.family(name, help, Kind::Counter)
    }

    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> &mut Vec<(Labels, u64)> {
        self.family(name, help, Kind::Gauge)
    }

    /// What never changes while it runs; its value is 1. Its name ends in `_info`.
    pub(super) fn info(&mut self, name: &'static str, help: &'static str, labels: Labels) {
        self.family(name, help, Kind::Info).push((labels, 1));
    }

    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
    ) -> &mut Vec<(Labels, u64)> {
        let next = self.list.len();
        let position = *self.positions.entry(name).or_insert(next);
        if position == next {
            self.list.push(Family {
                name,
                help,
                kind,
                values: Vec::new(),
            });
        }
        // The position was found or made a line above.
        #[allow(
            clippy::indexing_slicing,
            reason = "the position is that of an element"
        )]
        &mut self.list[position].values
    }

    /// All of them and the histograms as text.
    pub(super) fn encode(self, histograms: Vec<Times>, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Collector {
            families: self.list,
            histograms,
            format,
        }));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_text(&mut text, &registry);
        text
    }
}

/// A histogram of times.
#[derive(Debug)]
pub(super) struct Times {
    name: &'static str,
    help: &'static str,
    bounds: &'static [Duration],
    /// By bucket, not cumulated, the last one above every bound; and the sum.
    read: (Vec<u64>, Duration),
}

impl Times {
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        histogram: &health::Histogram,
    ) -> Times {
        Times {
            name,
            help,
            bounds: histogram.bounds(),
            read: histogram.read(),
        }
    }
}

#[derive(Debug)]
struct Collector {
    families: Vec<Family>,
    histograms: Vec<Times>,
    format: Format,
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            encode_family(&mut encoder, family, self.format)?;
        }
        for Times {
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
            let (name, unit) = name_and_unit(name);
            encoder
                .encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?
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

fn encode_family(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    format: Format,
) -> fmt::Result {
    let help = family.help;
    if format == Format::Text {
        // The older format describes a counter by the name of its samples, and knows no `info`.
        let (suffix, kind) = match family.kind {
            Kind::Counter => ("_total", MetricType::Counter),
            Kind::Gauge | Kind::Info => ("", MetricType::Gauge),
        };
        let name = format!("{}{suffix}", family.name);
        let mut metric = encoder.encode_descriptor(&name, help, None, kind)?;
        return each(family, &mut metric, |metric, value| {
            metric.encode_gauge(&value)
        });
    }
    match family.kind {
        Kind::Counter => {
            let (name, unit) = name_and_unit(family.name);
            let kind = MetricType::Counter;
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            each(family, &mut metric, |metric, value| {
                metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
            })
        }
        Kind::Gauge => {
            let (name, unit) = name_and_unit(family.name);
            let kind = MetricType::Gauge;
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            each(family, &mut metric, |metric, value| {
                metric.encode_gauge(&value)
            })
        }
        Kind::Info => {
            let name = family.name.trim_end_matches("_info");
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Info)?;
            for (labels, _) in &family.values {
                metric.encode_info(&labels.all())?;
            }
            Ok(())
        }
    }
}

fn each(
    family: &Family,
    metric: &mut MetricEncoder<'_>,
    write: impl Fn(&mut MetricEncoder<'_>, u64) -> fmt::Result,
) -> fmt::Result {
    for (labels, value) in &family.values {
        let labels = labels.all();
        if labels.is_empty() {
            write(metric, *value)?;
        } else {
            write(&mut metric.encode_family(&labels)?, *value)?;
        }
    }
    Ok(())
}

/// The unit that a name ends with, which is written apart.
fn name_and_unit(name: &str) -> (&str, Option<Unit>) {
    for unit in [Unit::Seconds, Unit::Bytes] {
        let stem = name.strip_suffix(unit.as_str());
        if let Some(stem) = stem.and_then(|stem| stem.strip_suffix('_')) {
            return (stem, Some(unit));
        }
    }
    (name, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [Duration; 1] = [Duration::from_millis(50)];

    fn text(format: Format) -> String {
        let mut families = Families::default();
        let of = Labels::new([("virtual_server", "a \"b\"\\\n")]);
        families.counter("vipd_x", "Things").push((of.clone(), 7));
        families
            .counter("vipd_x_bytes", "Their bytes")
            .push((of, 9));
        families.gauge("vipd_y", "One").push((Labels::new([]), 1));
        let version = Labels::new([("version", "1")]);
        families.info("vipd_build_info", "The version", version);
        let histogram = health::Histogram::new(&BOUNDS);
        histogram.record(Duration::from_secs(1));
        let times = Times::new("vipd_z_seconds", "Times", &histogram);
        families.encode(vec![times], format)
    }

    #[test]
    fn openmetrics_names_a_counter_without_total_and_tells_units() {
        assert_eq!(
            text(Format::OpenMetrics),
            "\
# HELP vipd_x Things
# TYPE vipd_x counter
vipd_x_total{virtual_server=\"a \\\"b\\\"\\\\\\n\"} 7
# HELP vipd_x_bytes Their bytes
# TYPE vipd_x_bytes counter
# UNIT vipd_x_bytes bytes
vipd_x_bytes_total{virtual_server=\"a \\\"b\\\"\\\\\\n\"} 9
# HELP vipd_y One
# TYPE vipd_y gauge
vipd_y 1
# HELP vipd_build The version
# TYPE vipd_build info
vipd_build_info{version=\"1\"} 1
# HELP vipd_z_seconds Times
# TYPE vipd_z_seconds histogram
# UNIT vipd_z_seconds seconds
vipd_z_seconds_sum 1.0
vipd_z_seconds_count 1
vipd_z_seconds_bucket{le=\"0.05\"} 0
vipd_z_seconds_bucket{le=\"+Inf\"} 1
# EOF
"
        );
    }

    #[test]
    fn the_older_text_has_the_same_samples_and_describes_counters_by_their_samples() {
        let samples = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let old = text(Format::Text);
        assert_eq!(samples(&old), samples(&text(Format::OpenMetrics)));
        for line in [
            "# TYPE vipd_x_total counter",
            "# TYPE vipd_x_bytes_total counter",
            "# TYPE vipd_build_info gauge",
            "# TYPE vipd_z_seconds histogram",
        ] {
            assert!(old.lines().any(|known| known == line), "{line}: {old}");
        }
    }

    #[test]
    fn who_does_not_ask_for_openmetrics_gets_the_older_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Text);
        assert_eq!(Format::accepted(None), Format::Text);
    }
}
