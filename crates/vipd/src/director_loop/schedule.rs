//! Which checks run, and how fast: a virtual server's checks may be for the master only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use health::CheckSpec;

use crate::config::{Config, VirtualServer, When};

/// How a check runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Pace {
    /// As it says.
    Own,
    /// No more often than that: this director is backup.
    Slow(Duration),
    /// Not at all: this director is backup.
    #[default]
    Stopped,
}

/// The pace of every check. Of virtual servers that share one the faster wins.
pub(crate) fn paces<'c>(
    config: &'c Config,
    masters: &BTreeSet<String>,
) -> BTreeMap<&'c CheckSpec, Pace> {
    let mut paces = BTreeMap::new();
    for server in &config.virtual_servers {
        let pace = pace(server, masters);
        for spec in server.real_servers.iter().flat_map(|real| &real.checks) {
            let known = paces.entry(spec).or_insert(pace);
            *known = pace.min(*known);
        }
    }
    paces
}

fn pace(server: &VirtualServer, masters: &BTreeSet<String>) -> Pace {
    let master = server
        .vrrp
        .as_ref()
        .is_none_or(|router| masters.contains(router));
    match server.when {
        When::Always => Pace::Own,
        When::Master { .. } if master => Pace::Own,
        When::Master {
            backup_interval: Some(interval),
        } => Pace::Slow(interval),
        When::Master {
            backup_interval: None,
        } => Pace::Stopped,
    }
}

/// The virtual routers on which the pace of a check depends.
pub(crate) fn routers(config: &Config) -> BTreeSet<&str> {
    let servers = config.virtual_servers.iter();
    servers
        .filter(|server| server.when != When::Always)
        .filter_map(|server| server.vrrp.as_deref())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testbed::{config, spec};

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_backup_checks_at_its_own_pace_slowly_or_not_at_all() {
        check(When::Always, Pace::Own, Pace::Own);
        let slow = When::Master {
            backup_interval: Some(MINUTE),
        };
        check(slow, Pace::Own, Pace::Slow(MINUTE));
        let none = When::Master {
            backup_interval: None,
        };
        check(none, Pace::Own, Pace::Stopped);
    }

    #[test]
    fn of_virtual_servers_that_share_a_check_the_faster_wins() {
        let mut config = master_only(When::Master {
            backup_interval: None,
        });
        let mut other = config.virtual_servers[0].clone();
        other.when = When::Master {
            backup_interval: Some(MINUTE),
        };
        other.real_servers.truncate(2);
        let mut always = other.clone();
        always.when = When::Always;
        always.real_servers.truncate(1);
        config.virtual_servers.extend([other, always]);
        for _ in 0..2 {
            let paces = paces(&config, &BTreeSet::new());
            let found = [1, 2, 3].map(|n| paces[&spec(n)]);
            assert_eq!(found, [Pace::Own, Pace::Slow(MINUTE), Pace::Stopped]);
            config.virtual_servers.reverse();
        }
        assert_eq!(routers(&config), ["router"].into());
    }

    fn check(when: When, on_master: Pace, on_backup: Pace) {
        let config = master_only(when);
        let pace = |masters: &[&str]| {
            let masters = masters.iter().map(|name| (*name).to_owned()).collect();
            paces(&config, &masters)[&spec(1)]
        };
        assert_eq!(pace(&["router"]), on_master);
        assert_eq!(pace(&["another"]), on_backup);
    }

    fn master_only(when: When) -> Config {
        config(|server| {
            server.vrrp = Some("router".to_owned());
            server.when = when;
        })
    }
}
