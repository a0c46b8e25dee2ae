//! How ldirectord finds out whether a real server is alive, and what vipd does for that.

use std::net::IpAddr;
use std::time::Duration;

use super::super::document::{Item, Keys};
use super::super::notes::Notes;
use super::super::server::{self, Check, Front, RealServer, Server};
use super::directive::{Block, Directive};
use super::settings::Settings;
use super::virtual_server::Pair;

/// What is checked, as the virtual server says it.
#[derive(Debug)]
pub(super) struct Checked {
    kind: Option<Directive>,
    service: Option<Directive>,
    command: Option<String>,
    request: Option<String>,
    receive: Option<String>,
    method: Option<String>,
    virtualhost: Option<String>,
    port: Option<u16>,
    login: bool,
    default_service: &'static str,
    said: bool,
}

/// The services that ldirectord knows by their ports.
const SERVICES: [(u16, &str); 19] = [
    (21, "ftp"),
    (25, "smtp"),
    (53, "dns"),
    (80, "http"),
    (110, "pop"),
    (119, "nntp"),
    (143, "imap"),
    (389, "ldap"),
    (443, "https"),
    (587, "submission"),
    (636, "ldaps"),
    (993, "imaps"),
    (995, "pops"),
    (1521, "oracle"),
    (1812, "radius"),
    (3128, "http_proxy"),
    (3306, "mysql"),
    (5060, "sip"),
    (5432, "pgsql"),
];

impl Checked {
    pub(super) fn new(front: &Front) -> Checked {
        let known = SERVICES.iter().find(|(port, _)| *port == front.port());
        let default_service = match front {
            Front::Addresses { .. } => known.map_or("none", |(_, service)| service),
            Front::Mark(_) => "none",
        };
        Checked {
            kind: None,
            service: None,
            command: None,
            request: None,
            receive: None,
            method: None,
            virtualhost: None,
            port: None,
            login: false,
            default_service,
            said: false,
        }
    }

    /// Reads a directive; `false`: it is not about this.
    pub(super) fn read(&mut self, line: &Directive, notes: &mut Notes) -> bool {
        let text = || Some(line.unquoted().to_owned());
        match line.key.as_str() {
            "checktype" => self.kind = Some(line.clone()),
            "service" => self.service = Some(line.clone()),
            "checkcommand" => self.command = text(),
            "request" => self.request = text(),
            "receive" => self.receive = text(),
            "httpmethod" => self.method = Some(line.value.to_ascii_uppercase()),
            "virtualhost" => self.virtualhost = text(),
            "checkport" => {
                self.port = line.number(notes).and_then(|port| u16::try_from(port).ok());
            }
            "login" | "passwd" | "database" | "secret" | "load" => self.login = true,
            _ => return false,
        }
        true
    }

    fn kind(&self) -> &str {
        self.kind
            .as_ref()
            .map_or("negotiate", |line| line.value.as_str())
    }

    fn service(&self) -> &str {
        let written = self.service.as_ref().map(|line| line.value.as_str());
        written.unwrap_or(self.default_service)
    }

    /// The checks of a real server.
    pub(super) fn of_real(
        &mut self,
        real: &RealServer,
        pair: Option<&Pair>,
        front: &Front,
        settings: &Settings,
        line: &Directive,
        notes: &mut Notes,
    ) -> Vec<Check> {
        let stream = !matches!(
            front,
            Front::Addresses {
                protocol: "udp",
                ..
            }
        );
        let negotiates = self.kind() == "negotiate" || self.kind().parse::<u32>().is_ok();
        let (mut kind, mut own) = match self.kind() {
            "on" | "off" => return Vec::new(),
            "ping" => ("ping", Keys::default()),
            "connect" => (if stream { "tcp" } else { "ping" }, Keys::default()),
            "external" | "external-perl" => ("script", self.external(real, front)),
            _ if negotiates => self.negotiate(pair, stream, line, notes),
            other => {
                if !self.said {
                    let message = format!("no checktype is called {other:?}");
                    let at = self.kind.clone().unwrap_or_else(|| line.clone());
                    at.lost(notes, message, "the result has no check");
                }
                self.said = true;
                return Vec::new();
            }
        };
        if !matches!(kind, "ping" | "script") {
            let wanted = self.port.unwrap_or(real.address.port());
            let by_service = SERVICES.iter().find(|(_, name)| *name == self.service());
            let wanted = match (wanted, by_service) {
                (0, Some((port, _))) if front.port() == 0 => *port,
                (port, _) => port,
            };
            let same = if real.forwarding.changes_ports() && real.address.port() != 0 {
                real.address.port()
            } else {
                front.port()
            };
            if wanted == 0 && same == 0 {
                // Nothing says a port.
                (kind, own) = ("ping", Keys::default());
                line.lost(
                    notes,
                    "no port says where to connect",
                    "the result pings; add checkport",
                );
            } else if wanted != same && wanted != 0 {
                own.set("port", wanted);
            }
        }
        let timeout = if negotiates {
            settings.negotiating()
        } else {
            settings.connecting()
        };
        let counted = settings.failure_count.unwrap_or(1).max(1);
        let tries = if kind == "ping" {
            settings.check_count.unwrap_or(1).max(1)
        } else {
            1
        };
        let interval = settings.interval.unwrap_or(Duration::from_secs(10));
        vec![Check {
            kind,
            own,
            interval,
            fast_interval: interval,
            timeout,
            rise: 1,
            fall: counted.saturating_mul(tries),
            starts_up: false,
            comment: (kind == "script").then_some(server::FAILURES),
        }]
    }

    /// A request and its answer.
    fn negotiate(
        &mut self,
        pair: Option<&Pair>,
        stream: bool,
        line: &Directive,
        notes: &mut Notes,
    ) -> (&'static str, Keys) {
        let mut keys = Keys::default();
        let request = pair.map(|(request, _)| request).or(self.request.as_ref());
        let receive = pair.map(|(_, receive)| receive).or(self.receive.as_ref());
        let receive = receive.filter(|text| !text.is_empty());
        let service = self.service().to_owned();
        match service.as_str() {
            service @ ("http" | "https") => {
                let path = request.map_or("/", |text| text.as_str());
                if path.contains("://") {
                    let message = "a request to another host than the real server";
                    line.lost(notes, message, "write the path, and `address` in the check");
                } else {
                    let slash = if path.starts_with('/') { "" } else { "/" };
                    keys.set_unless("path", format!("{slash}{path}"), &"/".to_owned());
                }
                let method = self.method.clone().unwrap_or_else(|| "GET".to_owned());
                let head = method == "HEAD";
                keys.set_unless("method", method, &"GET".to_owned());
                let host = self.virtualhost.clone().filter(|host| !host.is_empty());
                keys.maybe("host", host);
                if let Some(receive) = receive {
                    if head {
                        let message = "the answer to HEAD has nothing to compare";
                        line.lost(notes, message, "write httpmethod = GET, or no `receive`");
                    } else {
                        keys.set("body_regex", receive.as_str());
                    }
                }
                if service == "https" {
                    keys.set("tls", true);
                    // ldirectord does not compare the name.
                    keys.set("verify", false);
                }
                ("http", keys)
            }
            "smtp" | "submission" => ("smtp", keys),
            "dns" => {
                let asked = request.map_or("", |text| text.trim_start_matches('/'));
                match asked.parse::<IpAddr>() {
                    Ok(ip) => {
                        keys.set("name", reverse(ip));
                        keys.set("record", "ptr");
                    }
                    Err(_) if asked.is_empty() => {}
                    Err(_) => {
                        keys.set("name", asked);
                        keys.set("record", "a");
                    }
                }
                if let Some(receive) = receive {
                    let plain = receive.replace("\\.", ".");
                    if plain.parse::<IpAddr>().is_ok() || !plain.contains(['*', '(', '[', '|', '^'])
                    {
                        keys.set("expect", plain);
                    } else {
                        let message = "vipd compares answers of DNS, and looks for no pattern";
                        line.lost(notes, message, "write one of the answers as `expect`");
                    }
                }
                ("dns", keys)
            }
            "none" => (if stream { "tcp" } else { "ping" }, keys),
            service => {
                let (kind, instead) = match service {
                    "imaps" | "pops" | "ldaps" => {
                        keys.set("verify", false);
                        ("tls", "a TLS handshake")
                    }
                    _ if stream && !matches!(service, "radius" | "sip") => ("tcp", "a connection"),
                    _ => ("ping", "a ping"),
                };
                if !self.said {
                    self.said = true;
                    let message = format!("vipd has no check of {service}");
                    let help =
                        format!("the result has {instead}; a check of type \"script\" can do more");
                    let at = self.service.clone().unwrap_or_else(|| line.clone());
                    at.lost(notes, message, &help);
                }
                (kind, keys)
            }
        }
    }

    /// The command with what ldirectord tells it.
    fn external(&self, real: &RealServer, front: &Front) -> Keys {
        let (service, port) = match front {
            Front::Addresses {
                addresses, port, ..
            } => (
                addresses.first().map(IpAddr::to_string).unwrap_or_default(),
                *port,
            ),
            Front::Mark(mark) => (mark.to_string(), 0),
        };
        let command = self.command.as_deref().unwrap_or("/bin/true");
        let real_port = match real.address.port() {
            0 => front.port(),
            port => port,
        };
        let words = [
            command.to_owned(),
            service,
            port.to_string(),
            real.address.ip().to_string(),
            real_port.to_string(),
        ];
        let mut keys = Keys::default();
        keys.set("command", Item::texts(server::failing_with_one(&words)));
        keys.set("user", "root");
        keys
    }

    /// What is to be said of the whole.
    pub(super) fn report(&self, block: &Block, server: &mut Server, notes: &mut Notes) {
        let Some(kind) = &self.kind else { return };
        match kind.value.as_str() {
            "off" => {
                let message = "with \"off\" no real server is ever in the table";
                kind.lost(
                    notes,
                    message,
                    "the real servers are left out of the result",
                );
                server.real_servers.clear();
            }
            "external" | "external-perl" => {
                let message = "the command runs as root, as it does with ldirectord";
                kind.idle(notes, message);
            }
            number if number.parse::<u32>().is_ok() => {
                kind.idle(notes, "every check of vipd negotiates, also those between");
            }
            _ => {}
        }
        if self.login
            && matches!(server.real_servers.first(), Some(real) if real.checks.iter().all(|check| check.kind != "script"))
        {
            let message = "login, passwd, database and secret are for checks that vipd has not";
            block.head.lost(
                notes,
                message,
                "write a check of type \"script\" that logs in",
            );
        }
    }
}

/// The name under which DNS has the name of an address.
fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let digits: Vec<String> = format!("{:032x}", ip.to_bits())
                .chars()
                .rev()
                .map(|digit| digit.to_string())
                .collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}
