//! The kernel's IPVS.

use std::collections::BTreeSet;

use super::catalogue as c;
use super::facts::Facts;
use super::{Finding, Remedy};
use crate::config::Config;

/// Connections for each bucket from which on walking the list costs more than the lookup.
const PER_BUCKET: u64 = 4;
/// The most that the kernel has.
const BITS_MAX: u32 = 20;

pub(super) fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let unseen = facts.unknown.iter().any(|why| why.starts_with("IPVS"));
    if config.virtual_servers.is_empty() || unseen {
        return Vec::new();
    }
    let ipvs = &facts.ipvs;
    let mut found = Vec::new();
    if !ipvs.loaded {
        let evidence = vec![format!(
            "there is no /proc/net/ip_vs, and {} virtual servers are configured",
            config.virtual_servers.len()
        )];
        let words = "load it, with the schedulers that are asked for, now and at every boot (a line for each in \
                     /etc/modules-load.d/ip_vs.conf); where there is no such module, another kernel is needed";
        let servers = config.virtual_servers.iter();
        let schedulers: BTreeSet<String> = servers
            .map(|server| format!("ip_vs_{}", server.service.scheduler.as_str()))
            .collect();
        let command = ["modprobe", "-a", "ip_vs"].map(str::to_owned).into_iter();
        let remedy = Remedy::words(words).run(command.chain(schedulers).collect());
        found.push(Finding::new(c::NO_IPVS, "ip_vs", evidence, remedy));
    }
    for server in &config.virtual_servers {
        let name = server.service.scheduler.as_str();
        if ipvs.lacks.contains(&name) {
            let evidence = vec![format!(
                "{} asks for {name}, and the kernel has no module ip_vs_{name}",
                server.name
            )];
            let words =
                "write one that the kernel has, or install the kernel's package with all modules";
            let remedy = Remedy::words(words).key(
                "virtual_server",
                Some(&server.name),
                "scheduler",
                "\"wlc\"",
            );
            found.push(Finding::new(
                c::NO_SCHEDULER,
                &server.name,
                evidence,
                remedy,
            ));
        }
    }
    if ipvs.buckets > 0 && ipvs.connections > ipvs.buckets * PER_BUCKET {
        let bits = (ipvs.connections / PER_BUCKET).max(1).ilog2() + 1;
        let bits = bits.min(BITS_MAX);
        let evidence = vec![format!(
            "{} connections are in {} buckets",
            ipvs.connections, ipvs.buckets
        )];
        let words = "the size is read when the module is loaded: after this line, on the backup first and, \
                     after a switchover, on the other one, `systemctl stop vipd; rmmod $(lsmod | grep -o \
                     '^ip_vs[a-z_]*'); modprobe ip_vs; systemctl start vipd`, or boot it";
        let line =
            format!("echo options ip_vs conn_tab_bits={bits} > /etc/modprobe.d/ip_vs-table.conf");
        let command = ["sh", "-c", &line].map(str::to_owned).into();
        let remedy = Remedy::words(words).run(command);
        found.push(Finding::new(c::CONNECTION_TABLE, "ip_vs", evidence, remedy));
    }
    let refused = facts.status.iter().flat_map(|status| &status.ipvs.refused);
    let refused: Vec<String> = refused.cloned().collect();
    if !refused.is_empty() {
        let remedy = Remedy::words(
            "the kernel's words above say what it does not take: mend the keys that \
                                    they are about, and reload",
        );
        found.push(Finding::new(c::REFUSED, "ip_vs", refused, remedy));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testbed::{codes, config, facts};
    use super::*;

    #[test]
    fn a_kernel_without_ipvs_or_the_scheduler_is_found() {
        let config = config("");
        let mut facts = facts();
        let found = findings(&config, &facts);
        assert_eq!(codes(&found), ["VIP-IPVS-001"]);
        let command = found[0].remedy.command.as_ref().unwrap();
        assert_eq!(command.join(" "), "modprobe -a ip_vs ip_vs_rr");
        facts.unknown.push("IPVS: no answer".to_owned());
        assert_eq!(
            codes(&findings(&config, &facts)),
            [""; 0],
            "not seen is not missing"
        );
        facts.unknown.clear();
        facts.ipvs.loaded = true;
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
        facts.ipvs.lacks = vec!["rr", "twos"];
        assert_eq!(codes(&findings(&config, &facts)), ["VIP-IPVS-002"]);
    }

    #[test]
    fn a_table_with_more_than_four_connections_a_bucket_is_small() {
        let config = config("");
        let mut facts = facts();
        facts.ipvs.loaded = true;
        (facts.ipvs.buckets, facts.ipvs.connections) = (4096, 16_384);
        assert_eq!(codes(&findings(&config, &facts)), [""; 0]);
        facts.ipvs.connections = 1_000_000;
        let found = findings(&config, &facts);
        assert_eq!(codes(&found), ["VIP-IPVS-003"]);
        assert!(found[0].remedy.command.as_ref().unwrap()[2].contains("conn_tab_bits=18"));
    }
}
