//! `ipvs.sync`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vipd::config::{Config, Sync};

fn told(text: &str) -> String {
    Config::parse(text, "vipd.toml").unwrap_err().to_string()
}

#[test]
fn sync_has_the_kernels_defaults() {
    let config = Config::parse(
        "[ipvs]\nsync = { interface = \"eth1\", id = 51 }",
        "vipd.toml",
    );
    let expected = Sync {
        interface: "eth1".to_owned(),
        id: 51,
        group: IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81)),
        port: 8848,
        ttl: 1,
        max_length: None,
        full_table: true,
        refresh: Duration::from_secs(30),
    };
    assert_eq!(config.unwrap().ipvs.sync, Some(expected));
}

#[test]
fn a_group_of_either_family_can_be_written() {
    for group in ["239.1.2.3", "ff02::81"] {
        let text = format!("[ipvs]\nsync = {{ interface = 'eth1', id = 51, group = '{group}' }}");
        let config = Config::parse(&text, "vipd.toml").unwrap();
        assert_eq!(
            config.ipvs.sync.unwrap().group,
            group.parse::<IpAddr>().unwrap()
        );
    }
}

#[test]
fn sync_that_cannot_be_is_told_why() {
    for (keys, words) in [
        ("id = 51", "ipvs.sync.interface"),
        ("interface = \"eth1\"", "ipvs.sync.id"),
        ("interface = \"eth1\", id = 256", "out of range"),
        (
            "interface = \"eth1\", id = 1, group = \"10.0.0.1\"",
            "no multicast address",
        ),
        (
            "interface = \"eth1\", id = 1, refresh = \"10ms\"",
            "is a flood",
        ),
        ("interface = \"eth1\", id = 1, port = 65535", "out of range"),
    ] {
        let told = told(&format!("[ipvs]\nsync = {{ {keys} }}"));
        assert!(told.contains(words), "{keys}: {told}");
    }
}
