//! What the tests of the groups share: a director, its configuration, and what a healthy one sees.

use std::time::Duration;

use super::Finding;
use super::facts::Facts;
use super::facts::wire::Advert;
use crate::config::Config;
use crate::net::links::{Link, LinkAddress};
use crate::net::sys::Mac;

pub(super) const VIP: &str = "10.77.0.10";
pub(super) const RS: &str = "10.77.0.21";

/// The virtual router `web`, and what is written after it.
pub(super) fn config(more: &str) -> Config {
    let text = format!(
        "[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\n\
         virtual_addresses = [\"{VIP}/24\"]\n{more}\n{}",
        server("dr")
    );
    Config::parse(&text, "test").unwrap()
}

/// The virtual server `http` with one real server.
pub(super) fn server(forwarding: &str) -> String {
    format!(
        "[[virtual_server]]\nname = \"http\"\naddress = \"{VIP}:80\"\nscheduler = \"rr\"\n\
         forwarding = \"{forwarding}\"\n[[virtual_server.real_server]]\naddress = \"{RS}\"\n"
    )
}

pub(super) fn codes(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|finding| finding.code.as_str()).collect()
}

pub(super) fn link(index: u32, name: &str, mac: Mac, addresses: &[&str]) -> Link {
    let address = |text: &&str| LinkAddress {
        address: text.parse().unwrap(),
        ..LinkAddress::default()
    };
    Link {
        index,
        name: name.to_owned(),
        mac: Some(mac),
        up: true,
        addresses: addresses.iter().map(address).collect(),
    }
}

/// A director that does not hold the address.
pub(super) fn facts() -> Facts {
    Facts {
        links: [link(2, "eth0", [2, 0, 0, 0, 0, 1], &["10.77.0.11/24"])]
            .into_iter()
            .collect(),
        ..Facts::default()
    }
}

/// One that does.
pub(super) fn held() -> Facts {
    let addresses = ["10.77.0.11/24", "10.77.0.10/24"];
    Facts {
        links: [link(2, "eth0", [2, 0, 0, 0, 0, 1], &addresses)]
            .into_iter()
            .collect(),
        ..Facts::default()
    }
}

/// Three adverts of `web` that came in.
pub(super) fn advert(source: &str, mac: Mac) -> Advert {
    Advert {
        interface: "eth0".to_owned(),
        outgoing: false,
        source: source.parse().unwrap(),
        mac: Some(mac),
        version: 2,
        vrid: 51,
        priority: 100,
        interval: Duration::from_secs(1),
        addresses: vec![VIP.parse().unwrap()],
        count: 3,
        clock: None,
    }
}
