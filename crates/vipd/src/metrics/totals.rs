//! Counters of virtual and real servers that never go back.

use std::collections::{BTreeMap, BTreeSet};

use crate::status::{TrafficStatus, VirtualServerStatus};

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
    pub(super) fn count(&mut self, server: &str, real: Option<&str>, kernel: [u64; 5]) -> [u64; 5] {
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

    pub(super) fn forget_all_but(&mut self, servers: &[VirtualServerStatus]) {
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

pub(super) fn numbers(traffic: &TrafficStatus) -> [u64; 5] {
    let TrafficStatus {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = *traffic;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
