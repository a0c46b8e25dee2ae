//! Names for what had none.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// What people call the service of a port.
const SERVICES: [(u16, &str); 22] = [
    (21, "ftp"),
    (22, "ssh"),
    (25, "smtp"),
    (53, "dns"),
    (80, "http"),
    (110, "pop3"),
    (123, "ntp"),
    (143, "imap"),
    (389, "ldap"),
    (443, "https"),
    (465, "smtps"),
    (514, "syslog"),
    (587, "submission"),
    (636, "ldaps"),
    (993, "imaps"),
    (995, "pop3s"),
    (1812, "radius"),
    (3306, "mysql"),
    (5060, "sip"),
    (5432, "postgresql"),
    (6379, "redis"),
    (6443, "kubernetes"),
];

/// The longest name of an object.
const NAME_MAX: usize = 64;

/// What virtual servers are called: each name once.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
    /// Words that more than one would be called by.
    ambiguous: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl Names {
    /// Takes note of a virtual server, before any of them is named.
    pub(super) fn announce(&mut self, protocol: &str, port: u16) {
        let word = word(protocol, port);
        if !self.seen.insert(word.clone()) {
            self.ambiguous.insert(word);
        }
    }

    /// Of an address and a port: "http", or "http-192.168.1.10" where there are more of them.
    pub(super) fn of_service(&mut self, protocol: &str, address: IpAddr, port: u16) -> String {
        let word = word(protocol, port);
        let name = if self.ambiguous.contains(&word) {
            format!("{word}-{address}")
        } else {
            word
        };
        let other = format!("{name}-{protocol}");
        self.take(if self.taken.contains(&name) {
            &other
        } else {
            &name
        })
    }

    /// A name as it is wanted, unless another has it.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let wanted = readable(wanted);
        let mut name = wanted.clone();
        let mut number: u32 = 1;
        while self.taken.contains(&name) {
            number = number.saturating_add(1);
            let kept: String = wanted.chars().take(NAME_MAX.saturating_sub(11)).collect();
            name = format!("{kept}-{number}");
        }
        self.taken.insert(name.clone());
        name
    }
}

fn word(protocol: &str, port: u16) -> String {
    match SERVICES.iter().find(|(known, _)| *known == port) {
        Some((_, name)) => (*name).to_owned(),
        None if port == 0 => protocol.to_owned(),
        None => format!("{protocol}-{port}"),
    }
}

/// What vipd takes as a name.
fn readable(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !c.is_control()).collect();
    let kept: String = kept.trim().chars().take(NAME_MAX).collect();
    let kept = kept.trim();
    if kept.is_empty() { "unnamed" } else { kept }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_more_only_where_there_are_more() {
        let mut names = Names::default();
        let servers = [
            ("tcp", 80),
            ("tcp", 443),
            ("tcp", 80),
            ("udp", 8080),
            ("tcp", 80),
        ];
        for (protocol, port) in servers {
            names.announce(protocol, port);
        }
        let addresses = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"];
        let named: Vec<String> = servers
            .iter()
            .zip(addresses)
            .map(|((protocol, port), address)| {
                names.of_service(protocol, address.parse().unwrap(), *port)
            })
            .collect();
        let wanted = [
            "http-10.0.0.1",
            "https",
            "http-10.0.0.2",
            "udp-8080",
            "http-10.0.0.2-tcp",
        ];
        assert_eq!(named, wanted);
    }
}
