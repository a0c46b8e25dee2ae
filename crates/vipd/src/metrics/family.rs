//! Metrics with their values, and how they are written in the two formats: OpenMetrics for whoever
//! asks for it, as Prometheus does, and the older Prometheus text for everybody else (`curl`,
//! `promtool`). They differ in the names of counters and in the types they know.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

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

/// The labels of a value, as they are written between the braces.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels(String);

impl Labels {
    pub(super) fn new<const N: usize>(object: [(&'static str, &str); N]) -> Labels {
        let mut labels = Labels::default();
        for (name, value) in object {
            labels.add(name, value);
        }
        labels
    }

    pub(super) fn with(&self, name: &'static str, value: &str) -> Labels {
        let mut labels = self.clone();
        labels.add(name, value);
        labels
    }

    /// How many bytes they are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, name: &str, value: &str) {
        write_label(&mut self.0, name, value);
    }
}

/// Adds a label to those that are written already.
fn write_label(text: &mut String, name: &str, value: &str) {
    if !(text.is_empty() || text.ends_with('{')) {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        let (plain, found) = rest.split_at(at);
        let (sign, after) = found.split_at(1);
        text.push_str(plain);
        text.push_str(match sign {
            "\n" => "\\n",
            "\"" => "\\\"",
            _ => "\\\\",
        });
        rest = after;
    }
    text.push_str(rest);
    text.push('"');
}

/// One metric and all its values, which are integers: whatever has a fraction is a histogram. They are
/// written as they come, because with ten thousand real servers there are more than a hundred thousand.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    help: &'static str,
    kind: Kind,
    /// A line for each value; they are the same in both formats.
    pub(super) lines: String,
}

impl Family {
    /// Adds a value.
    pub(super) fn push(&mut self, (labels, value): (impl Borrow<Labels>, u64)) {
        let Labels(labels) = labels.borrow();
        self.begin();
        if !labels.is_empty() {
            self.lines.push('{');
            self.lines.push_str(labels);
            self.lines.push('}');
        }
        self.end(value);
    }

    /// Adds a value with one label more.
    pub(super) fn push_with(&mut self, labels: &Labels, name: &str, of: &str, value: u64) {
        self.begin();
        self.lines.push('{');
        self.lines.push_str(&labels.0);
        write_label(&mut self.lines, name, of);
        self.lines.push('}');
        self.end(value);
    }

    /// So many bytes more are to come.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.lines.reserve(bytes);
    }

    fn begin(&mut self) {
        self.lines.push_str(self.name);
        self.lines.push_str(self.kind.suffix());
    }

    fn end(&mut self, value: u64) {
        self.lines.push(' ');
        match u32::try_from(value)
            .ok()
            .and_then(|value| char::from_digit(value, 10))
        {
            Some(digit) => self.lines.push(digit),
            // Writing to a string cannot fail.
            None => drop(write!(self.lines, "{value}")),
        }
        self.lines.push('\n');
    }

    fn encode(&self, text: &mut String, format: Format) {
        let Family {
            name, help, kind, ..
        } = self;
        match format {
            Format::OpenMetrics => describe(text, kind.stem(name), help, kind.name(), true),
            // The older format describes a counter by the name of its samples, and knows no `info`.
            Format::Text => {
                let name = format!("{name}{}", kind.suffix());
                let kind = match kind {
                    Kind::Counter => "counter",
                    Kind::Gauge | Kind::Info => "gauge",
                };
                describe(text, &name, help, kind, false);
            }
        }
        text.push_str(&self.lines);
    }
}

/// What a metric is. Its unit is the end of its name.
fn describe(text: &mut String, name: &str, help: &str, kind: &str, units: bool) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    let mut known = ["seconds", "bytes"].into_iter();
    let unit = known.find(|unit| {
        let stem = name.strip_suffix(unit);
        stem.is_some_and(|stem| stem.ends_with('_'))
    });
    if let Some(unit) = unit.filter(|_| units) {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Info,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
        }
    }

    /// What the names of samples have beyond that of the family.
    fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Info => "",
        }
    }

    /// The name of the family in OpenMetrics.
    fn stem(self, name: &str) -> &str {
        match self {
            Kind::Counter | Kind::Gauge => name,
            Kind::Info => name.trim_end_matches("_info"),
        }
    }
}

/// The families in the order of their first value. The name of a family is that of OpenMetrics: a
/// counter's is without `_total`.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) list: Vec<Family>,
    positions: BTreeMap<&'static str, usize>,
}

impl Families {
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, Kind::Counter)
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, Kind::Gauge)
    }

    /// What never changes while it runs; its value is 1. Its name ends in `_info`.
    pub(super) fn info(&mut self, name: &'static str, help: &'static str, labels: Labels) {
        self.family(name, help, Kind::Info).push((labels, 1));
    }

    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Family {
        let next = self.list.len();
        let position = *self.positions.entry(name).or_insert(next);
        if position == next {
            self.list.push(Family {
                name,
                help,
                kind,
                lines: String::new(),
            });
        }
        // The position was found or made a line above.
        #[allow(
            clippy::indexing_slicing,
            reason = "the position is that of an element"
        )]
        &mut self.list[position]
    }

    /// All of them and the histograms as text.
    pub(super) fn encode(self, histograms: &[Times], format: Format) -> String {
        let lines = self.list.iter().map(|family| family.lines.len() + 256);
        let mut text = String::with_capacity(lines.sum::<usize>() + 4096 * histograms.len());
        for family in self.list {
            family.encode(&mut text, format);
        }
        for times in histograms {
            times.encode(&mut text, format);
        }
        text.push_str("# EOF\n");
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

    fn encode(&self, text: &mut String, format: Format) {
        let Times {
            name,
            help,
            bounds,
            read: (counts, sum),
        } = self;
        describe(text, name, help, "histogram", format == Format::OpenMetrics);
        let all: u64 = counts.iter().sum();
        let sum = number(sum.as_secs_f64());
        let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {all}");
        let bounds = bounds.iter().map(|bound| number(bound.as_secs_f64()));
        let mut below = 0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
    }
}

/// A number with a point, as OpenMetrics wants the bounds of buckets.
fn number(value: f64) -> String {
    let text = value.to_string();
    if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    }
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
        families.encode(&[times], format)
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
