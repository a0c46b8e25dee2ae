//! What `ipvsadm -S -n` prints.

use std::collections::BTreeMap;

use vipd::config::import::Format;
use vipd::ipvsadm::restore;

use super::{clean, config, of, said};

/// The services that a configuration makes of a table are the table.
#[test]
fn the_table_of_the_result_is_the_table() {
    let text = include_str!("golden/ipvsadm-table.in");
    let good: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("example"))
        .collect();
    let good = good.join("\n");
    let saved = restore::parse(&good, &|_, _| None).unwrap();
    let config = config(&of(Format::Ipvsadm, &good));
    let mut table = BTreeMap::new();
    for server in &config.virtual_servers {
        for key in &server.keys {
            let servers = server
                .real_servers
                .iter()
                .map(|real| (real.key, real.destination));
            let servers: BTreeMap<_, _> = servers.collect();
            table.insert(*key, (server.service_of(key), servers));
        }
    }
    let wanted: BTreeMap<_, _> = saved
        .table
        .into_iter()
        .map(|(key, pool)| (key, (pool.service, pool.destinations)))
        .collect();
    assert_eq!(table, wanted);
    assert_eq!(config.ipvs.timeouts, saved.timeouts);
    assert_eq!(config.ipvs.sync.unwrap().id, 7);
}

#[test]
fn names_of_hosts_are_said_with_their_line_and_the_rest_is_printed() {
    let text = "-A -t 192.0.2.10:80 -s rr\n-a -t 192.0.2.10:80 -r web1:80 -g\n-a -t 192.0.2.10:80 -r 192.0.2.21 -g\n";
    let imported = of(Format::Ipvsadm, text);
    assert_eq!(config(&imported).virtual_servers[0].real_servers.len(), 1);
    let said = said(&imported);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("!2: \"web1\" is no address"),
        "{said:?}"
    );
}

#[test]
fn a_table_without_a_word_is_nothing() {
    assert_eq!(clean(Format::Ipvsadm, ""), "");
}
