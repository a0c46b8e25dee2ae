//! Addresses and ports in words. Without names everything is numbers, which is what vipctl prints
//! unless it is told otherwise: a name server that does not answer must not hold up an operator.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use ipvs::Protocol;

/// How many names one `getent` is asked for.
const AT_ONCE: usize = 500;

/// Names of hosts and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    hosts: BTreeMap<IpAddr, String>,
    ports: BTreeMap<(Protocol, u16), String>,
}

impl Names {
    /// Asks the system (`getent`, hence the hosts file, DNS, and whatever else is configured) for
    /// the names of all these. What has none, or cannot be asked for, stays a number.
    #[must_use]
    pub fn resolve(of: impl IntoIterator<Item = (Protocol, SocketAddr)>) -> Names {
        let of: BTreeSet<(Protocol, SocketAddr)> = of.into_iter().collect();
        let hosts: BTreeSet<IpAddr> = of.iter().map(|(_, address)| address.ip()).collect();
        let ports: BTreeSet<(Protocol, u16)> = of
            .iter()
            .map(|(protocol, address)| (*protocol, address.port()))
            .filter(|(_, port)| *port != 0)
            .collect();
        let hosts: Vec<String> = hosts.iter().map(IpAddr::to_string).collect();
        let ports: Vec<String> = ports
            .iter()
            .map(|(protocol, port)| format!("{port}/{protocol}"))
            .collect();
        let mut names = Names::default();
        for line in getent("hosts", &hosts).lines() {
            let mut words = line.split_whitespace();
            if let (Some(address), Some(name)) = (words.next(), words.next())
                && let Ok(address) = address.parse()
            {
                names.hosts.insert(address, name.to_owned());
            }
        }
        for (name, port, protocol) in services(&getent("services", &ports)) {
            names.ports.entry((protocol, port)).or_insert(name);
        }
        names
    }

    /// An address and port, by name as far as there is one.
    #[must_use]
    pub fn endpoint(&self, protocol: Protocol, address: SocketAddr) -> String {
        let host = self.hosts.get(&address.ip()).cloned();
        let host = host.unwrap_or_else(|| address.ip().to_string());
        let port = self.ports.get(&(protocol, address.port())).cloned();
        let port = port.unwrap_or_else(|| address.port().to_string());
        if address.is_ipv4() {
            format!("{host}:{port}")
        } else {
            format!("[{host}]:{port}")
        }
    }
}

/// The port of that name in a text of the form of `/etc/services`.
#[must_use]
pub fn port_of(text: &str, name: &str, protocol: Protocol) -> Option<u16> {
    services(text)
        .into_iter()
        .find(|(known, _, of)| known == name && *of == protocol)
        .map(|(_, port, _)| port)
}

/// Lines of `/etc/services`: every name, its port and its protocol; the usual name of a port comes
/// before its aliases.
fn services(text: &str) -> Vec<(String, u16, Protocol)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (Some(name), Some(number)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((port, protocol)) = number.split_once('/') else {
            continue;
        };
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => continue,
        };
        let Ok(port) = port.parse::<u16>() else {
            continue;
        };
        for name in std::iter::once(name).chain(words) {
            found.push((name.to_owned(), port, protocol));
        }
    }
    found
}

/// What `getent DATABASE KEY...` prints; keys that it does not know are left out.
fn getent(database: &str, keys: &[String]) -> String {
    let mut text = String::new();
    for keys in keys.chunks(AT_ONCE) {
        let output = Command::new("getent")
            .arg(database)
            .args(keys)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        if let Ok(output) = output {
            text.push_str(&String::from_utf8_lossy(&output.stdout));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_name_and_aliases_for_its_protocol_only() {
        let text = "# x\nhttp\t\t80/tcp\t\twww # WorldWideWeb\ndomain 53/udp\nodd\n";
        assert_eq!(port_of(text, "http", Protocol::Tcp), Some(80));
        assert_eq!(port_of(text, "www", Protocol::Tcp), Some(80));
        assert_eq!(port_of(text, "www", Protocol::Udp), None);
        assert_eq!(port_of(text, "domain", Protocol::Udp), Some(53));
    }

    #[test]
    fn what_has_no_name_stays_a_number() {
        let mut names = Names::default();
        names.ports.insert((Protocol::Tcp, 80), "http".to_owned());
        let text = |address: &str| names.endpoint(Protocol::Tcp, address.parse().unwrap());
        assert_eq!(text("10.0.0.1:80"), "10.0.0.1:http");
        assert_eq!(text("[2001:db8::1]:81"), "[2001:db8::1]:81");
    }
}
