//! Which address the adverts of a virtual router come from.

use vipd::net::links::{Link, LinkAddress};

use super::parse;

const V4: &str = "virtual_addresses = ['192.168.1.10/24']";
const V6: &str = "version = 3\nvirtual_addresses = ['fe80::51/64', '2001:db8::10/64']";

#[test]
fn adverts_come_from_the_links_own_address_of_their_family() {
    let own = [
        "192.168.1.10/24",
        "192.168.1.2/24",
        "2001:db8::2/64",
        "fe80::51/64",
        "fe80::2/64",
        "fe80::3/64",
    ];
    assert_eq!(source(V4, &own), "192.168.1.2");
    assert_eq!(source(V6, &own), "fe80::2");
}

#[test]
fn an_interface_without_an_address_of_its_own_has_none_for_adverts() {
    assert_eq!(source(V4, &["192.168.1.10/24", "fe80::2/64"]), "none");
    assert_eq!(
        source(V6, &["fe80::51/64", "2001:db8::2/64", "192.168.1.2/24"]),
        "none"
    );
}

#[test]
fn an_owner_speaks_from_its_virtual_address() {
    let owner = |more: &str| format!("priority = 255\n{more}");
    assert_eq!(source(&owner(V4), &["192.168.1.10/24"]), "192.168.1.10");
    assert_eq!(source(&owner(V6), &["fe80::51/64"]), "fe80::51");
}

#[test]
fn with_unicast_adverts_come_from_its_source_or_from_nowhere() {
    let unicast = format!("{V4}\nunicast = {{ source = '192.168.1.3', peers = ['192.168.1.4'] }}");
    let two = ["192.168.1.2/24", "192.168.1.3/24"];
    assert_eq!(source(&unicast, &two), "192.168.1.3");
    assert_eq!(source(&unicast, &two[..1]), "none");
}

/// Where the adverts of a router that has `written` come from, on a link that has `addresses`.
fn source(written: &str, addresses: &[&str]) -> String {
    let config = parse(&format!(
        "[[vrrp]]\nname = 'web'\ninterface = 'eth0'\nvrid = 51\n{written}"
    ));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let addresses = addresses.iter().map(|address| LinkAddress {
        address: address.parse().unwrap(),
        ours: false,
        ..LinkAddress::default()
    });
    let link = Link {
        index: 2,
        name: "eth0".into(),
        mac: None,
        up: true,
        addresses: addresses.collect(),
    };
    let source = config.advert_source(&config.vrrp[0], &link);
    source.map_or("none".into(), |source| source.to_string())
}
