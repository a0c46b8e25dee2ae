//! One connection as `/proc/net/ip_vs_conn` shows it.
//!
//! The file does not say how a connection is forwarded, nor by which firewall mark it came: who
//! needs that finds it by the service ([`crate::sync::entry_of`]). A line that is not understood
//! is `None`: a newer kernel may have other states and other columns at the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::table::Protocol;

/// A connection, or a template of persistence: what binds a client to a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The protocol. `None`: a template of a firewall mark, which stands for every protocol.
    pub protocol: Option<Protocol>,
    /// The client; of a template the client network, port 0.
    pub client: SocketAddr,
    /// The virtual address; of a template of a mark the mark in place of the address.
    pub virtual_address: SocketAddr,
    /// The real server.
    pub destination: SocketAddr,
    /// Its state.
    pub state: State,
    /// Seconds until it expires if no packet comes.
    pub expires: u32,
    /// The name of the persistence engine that made it.
    pub engine: Option<String>,
}

/// A line of the file in its columns. The state may be one that this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLine<'a> {
    /// As [`Connection::protocol`].
    pub protocol: Option<Protocol>,
    /// As [`Connection::client`].
    pub client: SocketAddr,
    /// As [`Connection::virtual_address`].
    pub virtual_address: SocketAddr,
    /// As [`Connection::destination`].
    pub destination: SocketAddr,
    /// The kernel's name of the state.
    pub state: &'a str,
    /// As [`Connection::expires`].
    pub expires: u64,
    /// As [`Connection::engine`].
    pub engine: Option<&'a str>,
    /// The words that the persistence engine went by.
    pub engine_data: Vec<&'a str>,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The kernel's name of it.
    pub name: &'static str,
    /// The kernel's number of it, which differs by protocol.
    pub number: u16,
}

// The order is that of the kernel's enumerations (include/net/ip_vs.h): the place is the number.
const TCP_STATES: [&str; 11] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
];
const UDP_STATES: [&str; 1] = ["UDP"];
const SCTP_STATES: [&str; 14] = [
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
];
const TEMPLATE_STATES: [&str; 2] = ["NONE", "ASSURED"];

impl<'a> ConnectionLine<'a> {
    /// Takes a line apart; `None` for the heading and for what is no connection.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<ConnectionLine<'a>> {
        let mut words = line.split_whitespace();
        let protocol = match words.next()? {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            "IP" => None,
            _ => return None,
        };
        let mut endpoint = || {
            Some(SocketAddr::new(
                address(words.next()?)?,
                port(words.next()?)?,
            ))
        };
        Some(ConnectionLine {
            protocol,
            client: endpoint()?,
            virtual_address: endpoint()?,
            destination: endpoint()?,
            state: words.next()?,
            expires: words.next()?.parse().ok()?,
            engine: words.next(),
            engine_data: words.collect(),
        })
    }
}

impl Connection {
    /// Reads a line of the file; `None` for the heading and for what is not understood.
    #[must_use]
    pub fn parse(line: &str) -> Option<Connection> {
        let line = ConnectionLine::parse(line)?;
        let names: &[&'static str] = match line.protocol {
            _ if line.client.port() == 0 => &TEMPLATE_STATES,
            Some(Protocol::Tcp) => &TCP_STATES,
            Some(Protocol::Udp) => &UDP_STATES,
            Some(Protocol::Sctp) => &SCTP_STATES,
            None => return None,
        };
        let number = names.iter().position(|known| *known == line.state)?;
        Some(Connection {
            protocol: line.protocol,
            client: line.client,
            virtual_address: line.virtual_address,
            destination: line.destination,
            state: State {
                name: names.get(number)?,
                number: u16::try_from(number).ok()?,
            },
            expires: u32::try_from(line.expires).ok()?,
            engine: line.engine.map(str::to_owned),
        })
    }

    /// Whether it is a template of persistence. Only these have no client port.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.client.port() == 0
    }

    /// Whether the kernel counts it as active: TCP while it opens or is open, SCTP while it is open.
    #[must_use]
    pub fn is_active(&self) -> bool {
        match self.protocol {
            Some(Protocol::Tcp) => {
                matches!(
                    self.state.name,
                    "ESTABLISHED" | "SYN_SENT" | "SYN_RECV" | "SYNACK"
                )
            }
            Some(Protocol::Sctp) => self.state.name == "ESTABLISHED",
            Some(Protocol::Udp) | None => false,
        }
    }

    /// Whether packets may still come for which it matters: it is not closed.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.is_template()
            || !matches!(
                self.state.name,
                "NONE" | "TIME_WAIT" | "CLOSE" | "LISTEN" | "REJECTED" | "CLOSED"
            )
    }
}

/// `0A4D000A`, or all eight groups of an IPv6 address.
fn address(word: &str) -> Option<IpAddr> {
    if word.contains(':') {
        return word.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let number = hexadecimal(word, 8)?;
    Some(IpAddr::V4(Ipv4Addr::from_bits(number)))
}

fn port(word: &str) -> Option<u16> {
    u16::try_from(hexadecimal(word, 4)?).ok()
}

fn hexadecimal(word: &str, digits: usize) -> Option<u32> {
    let good = word.len() == digits && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| u32::from_str_radix(word, 16).ok())?
}
