//! `via = "vip"`: what the checks become that go the clients' way through one real server.

use std::net::{IpAddr, SocketAddr};

use health::CheckSpec;
use vipd::config::MARKS;

use super::parse;

#[test]
fn a_check_goes_to_each_address_of_the_real_servers_family_with_a_mark_of_the_way() {
    let text = r#"
        [[virtual_server]]
        name = "web"
        addresses = ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"]
        checks = [{ type = "tcp", via = "vip" }, { type = "http", via = "vip" }]
        [[virtual_server.real_server]]
        address = "10.0.0.21"
        [[virtual_server.real_server]]
        address = "2001:db8::21"
        [[virtual_server.real_server]]
        address = "10.0.0.22"
    "#;
    let checks = checks(text);
    let targets: Vec<Vec<SocketAddr>> = checks
        .iter()
        .map(|checks| checks.iter().map(|check| check.target).collect())
        .collect();
    let all = |texts: &[&str]| -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let v4 = all(&[
        "192.0.2.1:80",
        "192.0.2.2:80",
        "192.0.2.1:80",
        "192.0.2.2:80",
    ]);
    assert_eq!(targets[0], v4);
    assert_eq!(targets[1], all(&["[2001:db8::1]:80", "[2001:db8::1]:80"]));
    assert_eq!(targets[2], v4);
    // One way leads to a real server, whatever goes along it; no two share one.
    let marks = checks.iter().map(|checks| {
        let mark = checks[0].route.mark.unwrap();
        assert!(MARKS.contains(&mark.get()));
        assert!(checks.iter().all(|check| check.route.mark == Some(mark)));
        mark
    });
    let marks: Vec<_> = marks.collect();
    assert!(marks[0] != marks[1] && marks[0] != marks[2] && marks[1] != marks[2]);
    let through = |server: usize| checks[server][0].route.through;
    assert_eq!(through(2), Some("10.0.0.22".parse::<IpAddr>().unwrap()));
    assert_eq!(
        checks[0][0].to_string(),
        "tcp 192.0.2.1:80 through 10.0.0.21"
    );
}

#[test]
fn the_mark_of_a_way_does_not_depend_on_its_neighbours() {
    let server = |name: &str, port: u16| {
        format!(
            "[[virtual_server]]\nname = '{name}'\naddress = '192.0.2.1:{port}'\n\
             check = {{ type = 'tcp', via = 'vip' }}\n\
             [[virtual_server.real_server]]\naddress = '10.0.0.21'\n"
        )
    };
    let (one, two) = (server("one", 80), server("two", 443));
    let mark = |text: &str, index: usize| checks(text)[index][0].route.mark.unwrap();
    let alone = mark(&two, 0);
    assert_eq!(mark(&format!("{one}{two}"), 1), alone);
    assert_eq!(mark(&format!("{two}{one}"), 0), alone);
}

#[test]
fn a_mark_that_vipd_sets_has_the_address_and_first_port_of_each_rule() {
    let checks = checks(
        "[[virtual_server]]\nname = 'a'\nfwmark = 1\ncheck = { type = 'tcp', via = 'vip' }\n\
         mark = [{ address = '192.0.2.1', ports = ['443-500', 80] }, { address = '192.0.2.2' }]\n\
         [[virtual_server.real_server]]\naddress = '10.0.0.21'",
    );
    let targets: Vec<String> = checks[0]
        .iter()
        .map(|check| check.target.to_string())
        .collect();
    assert_eq!(targets, ["192.0.2.1:443", "192.0.2.2:1"]);
}

#[test]
fn ports_and_sources_are_the_checks_own_where_packets_keep_theirs() {
    let checks = checks(
        "[[virtual_server]]\nname = 'a'\naddress = '192.0.2.1:0'\npersistence = {}\n\
         check = { type = 'tcp', via = 'vip', port = 8080, source = '10.0.0.5' }\n\
         [[virtual_server.real_server]]\naddress = '10.0.0.21'",
    );
    let check = &checks[0][0];
    assert_eq!(check.target.to_string(), "192.0.2.1:8080");
    assert_eq!(check.route.source, Some("10.0.0.5".parse().unwrap()));
}

/// The checks of every real server of every virtual server.
fn checks(text: &str) -> Vec<Vec<CheckSpec>> {
    let config = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    let servers = config.virtual_servers.iter();
    let servers = servers.flat_map(|server| &server.real_servers);
    servers.map(|real| real.checks.clone()).collect()
}
