//! Times, counted by size: atomics, so that whoever reads them never holds a check up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many times were how long.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; Histogram::BOUNDS.len()],
    above: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Upper bounds of the buckets.
    pub const BOUNDS: [Duration; 12] = [
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

    /// Counts one time.
    pub fn record(&self, time: Duration) {
        let bucket = Histogram::BOUNDS.iter().position(|bound| time <= *bound);
        let counter = bucket
            .and_then(|bucket| self.buckets.get(bucket))
            .unwrap_or(&self.above);
        counter.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Counts by bucket (not cumulated, the last one is above every bound), and the sum.
    #[must_use]
    pub fn read(&self) -> (Vec<u64>, Duration) {
        let counters = self.buckets.iter().chain([&self.above]);
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
        let histogram = Histogram::default();
        for milliseconds in [0, 1, 2, 3, 60_000] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let (counts, sum) = histogram.read();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(sum, Duration::from_millis(60_006));
    }
}
