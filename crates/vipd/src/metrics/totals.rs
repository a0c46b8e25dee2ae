//! Counters of virtual and real servers that never go back.

use std::collections::HashMap;

use crate::status::TrafficStatus;

/// Counters that never go back: the kernel's begin anew when they are zeroed, or with a service or a
/// real server that was away, and what was counted before is added to them.
#[derive(Debug, Default)]
pub struct Totals {
    servers: HashMap<String, Of>,
    /// The number of this scrape.
    scrape: u64,
}

/// Those of a virtual server and of its real servers.
#[derive(Debug, Default)]
struct Of {
    own: Counted,
    reals: HashMap<String, Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    before: [u64; 5],
    kernel: [u64; 5],
    /// The scrape in which it was last counted.
    scrape: u64,
}

impl Totals {
    /// A scrape begins.
    pub(super) fn begin(&mut self) {
        self.scrape += 1;
    }

    pub(super) fn count(&mut self, server: &str, real: Option<&str>, kernel: [u64; 5]) -> [u64; 5] {
        if !self.servers.contains_key(server) {
            self.servers.insert(server.to_owned(), Of::default());
        }
        let Some(of) = self.servers.get_mut(server) else {
            return kernel;
        };
        let counted = match real {
            None => &mut of.own,
            Some(real) => {
                if !of.reals.contains_key(real) {
                    of.reals.insert(real.to_owned(), Counted::default());
                }
                match of.reals.get_mut(real) {
                    Some(counted) => counted,
                    None => return kernel,
                }
            }
        };
        counted.scrape = self.scrape;
        counted.count(kernel)
    }

    /// The scrape is over: what was not counted in it is not configured any more.
    pub(super) fn end(&mut self) {
        let scrape = self.scrape;
        self.servers.retain(|_, of| {
            of.reals.retain(|_, counted| counted.scrape == scrape);
            of.own.scrape == scrape
        });
    }
}

impl Counted {
    fn count(&mut self, kernel: [u64; 5]) -> [u64; 5] {
        // Not all of the five need to grow between two scrapes, but none of them shrinks.
        if self.kernel.iter().zip(&kernel).any(|(was, is)| is < was) {
            for (before, was) in self.before.iter_mut().zip(self.kernel) {
                *before += was;
            }
        }
        self.kernel = kernel;
        let mut sum = self.before;
        for (sum, kernel) in sum.iter_mut().zip(kernel) {
            *sum += kernel;
        }
        sum
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
        let mut scrape = |servers: &[(&str, Option<&str>)]| {
            totals.begin();
            for (server, real) in servers {
                totals.count(server, *real, [1; 5]);
            }
            totals.end();
            let reals = totals.servers.values().map(|of| of.reals.len());
            (totals.servers.len(), reals.sum::<usize>())
        };
        let (web, one) = (("web", None), ("web", Some("10.0.0.1:80")));
        assert_eq!(scrape(&[web, one, ("dns", None)]), (2, 1));
        assert_eq!(scrape(&[web]), (1, 0));
        assert_eq!(scrape(&[]), (0, 0));
    }
}
