//! The metrics, encoded at the time of the scrape from what the director knows: no label set
//! outlives its object. Names: `docs/metrics.md`.

mod checks;
mod connection_sync;
mod family;
mod notify;
mod routers;
mod servers;
mod totals;

use std::sync::{Arc, Mutex, PoisonError};

use self::checks::Failures;
use self::family::{Families, Labels, Times};
use crate::director_loop::Director;
use crate::status::VirtualServerStatus;

pub use self::family::Format;
pub use self::totals::Totals;

/// What the director knows at the time of a scrape. Taking it is all that the director's loop does;
/// the text is made elsewhere.
#[derive(Debug)]
pub struct Snapshot {
    /// Everything but the virtual servers, which can be many.
    families: Families,
    servers: Vec<VirtualServerStatus>,
    /// Of each virtual server and each of its real servers.
    failures: Vec<Vec<Failures>>,
    times: Vec<Times>,
    totals: Arc<Mutex<Totals>>,
}

impl Snapshot {
    /// Takes it.
    #[must_use]
    pub fn of(director: &Director) -> Snapshot {
        let mut families = Families::default();
        routers::write(director, &mut families);
        general(director, &mut families);
        checks::write(director, &mut families);
        if director.config.ipvs.sync.is_some() {
            connection_sync::write(&director.connection_sync.state(), &mut families);
        }
        notify::write(&director.notifier.counts(), &mut families);
        let mut times = vec![Times::new(
            "vipd_vrrp_advert_lateness_seconds",
            "How long after their time deadlines of the advert path were met",
            director.vrrp.lateness(),
        )];
        times.extend(checks::times(director));
        Snapshot {
            families,
            failures: checks::failures_by_user(director),
            servers: director.virtual_servers_status(),
            times,
            totals: Arc::clone(&director.totals),
        }
    }

    /// Of nothing but these virtual servers.
    #[cfg(test)]
    pub(crate) fn of_servers(servers: Vec<VirtualServerStatus>) -> Snapshot {
        let failures = servers.iter();
        let failures = failures.map(|server| vec![Failures::new(); server.real_servers.len()]);
        Snapshot {
            families: Families::default(),
            failures: failures.collect(),
            servers,
            times: Vec::new(),
            totals: Arc::default(),
        }
    }

    /// All metrics as text.
    #[must_use]
    pub fn encode(self, format: Format) -> String {
        let mut families = self.families;
        {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.forget_all_but(&self.servers);
            for (server, failures) in self.servers.iter().zip(&self.failures) {
                servers::write(server, failures, &mut totals, &mut families);
            }
        }
        families.encode(self.times, format)
    }
}

/// What there is one of.
fn general(director: &Director, families: &mut Families) {
    let reload = director.last_reload.as_ref();
    let reloaded = reload.is_none_or(|reload| reload.error.is_none());
    let kernel = director.kernel.as_ref();
    let in_sync = kernel.is_some_and(|kernel| kernel.in_sync);
    for (name, help, count) in [
        (
            "vipd_ipvs_repairs",
            "Changes undone that somebody else had made to IPVS",
            director.repairs,
        ),
        (
            "vipd_ipvs_table_reads",
            "How often the kernel's table was read, for comparisons and counters",
            kernel.map_or(0, |kernel| kernel.reads),
        ),
        (
            "vipd_address_repairs",
            "Virtual addresses put back that somebody had deleted",
            director.address_repairs,
        ),
        (
            "vipd_address_conflicts",
            "Claims of other hosts to virtual addresses that this one holds",
            director.address_conflicts,
        ),
    ] {
        families.counter(name, help).push((Labels::new([]), count));
    }
    for (name, help, holds) in [
        (
            "vipd_ipvs_in_sync",
            "Whether the kernel holds the desired table",
            in_sync,
        ),
        (
            "vipd_maintenance",
            "Whether this director takes no part by an operator's order",
            director.maintenance,
        ),
        (
            "vipd_config_last_reload_successful",
            "Whether the last reload took effect",
            reloaded,
        ),
    ] {
        let value = (Labels::new([]), u64::from(holds));
        families.gauge(name, help).push(value);
    }
    let version = Labels::new([("version", env!("CARGO_PKG_VERSION"))]);
    families.info("vipd_build_info", "The version of the daemon", version);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{
        ConnectionsStatus, QuorumStatus, RealServerStatus, TrafficStatus, WeightStatus,
    };

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
        let text = Snapshot::of_servers(servers).encode(Format::OpenMetrics);
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
