//! Times, counted by size: atomics, so that whoever reads them never holds up who counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many times were how long.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one above all.
    buckets: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Upper bounds for probes of targets and how late those are.
    pub const PROBES: [Duration; 12] = [
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(3),
        Duration::from_secs(10),
    ];

    /// Empty, with these upper bounds of the buckets, which ascend.
    #[must_use]
    pub fn new(bounds: &'static [Duration]) -> Histogram {
        Histogram {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// The upper bounds of the buckets but the last, which has none.
    #[must_use]
    pub fn bounds(&self) -> &'static [Duration] {
        self.bounds
    }

    /// Counts one time.
    pub fn record(&self, time: Duration) {
        let bucket = self.bounds.iter().position(|bound| time <= *bound);
        if let Some(counter) = self.buckets.get(bucket.unwrap_or(self.bounds.len())) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Counts by bucket (not cumulated, the last one is above every bound), and the sum.
    #[must_use]
    pub fn read(&self) -> (Vec<u64>, Duration) {
        let counters = self.buckets.iter();
        let counts = counters.map(|counter| counter.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        (counts.collect(), sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it_and_in_the_sum() {
        let histogram = Histogram::new(&Histogram::PROBES);
        for milliseconds in [0, 1, 2, 3, 60_000] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let (counts, sum) = histogram.read();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(sum, Duration::from_millis(60_006));
    }
}
