//! The connections as `ipvsadm -Lc` lists them, from the kernel's `/proc/net/ip_vs_conn`.

use std::fmt::Write;
use std::net::SocketAddr;

use ipvs::{ConnectionLine, Protocol};

use super::names::Names;
use super::upper;

/// A connection or a persistence template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its protocol; `None`: a template of a firewall mark, which stands for all of them.
    pub protocol: Option<Protocol>,
    /// The client. Port 0: a template.
    pub client: SocketAddr,
    /// The virtual address it came to.
    pub virtual_address: SocketAddr,
    /// The real server.
    pub destination: SocketAddr,
    /// Its state, in the kernel's word.
    pub state: String,
    /// When it is forgotten unless something moves, seconds.
    pub expires: u64,
    /// The persistence engine and what it went by.
    pub engine: Option<(String, String)>,
}

/// The lines of `/proc/net/ip_vs_conn`. One that makes no sense is left out: a protocol that IPVS
/// knows and this crate does not is no reason to show nothing.
#[must_use]
pub fn connections(text: &str) -> Vec<Connection> {
    text.lines().skip(1).filter_map(connection).collect()
}

fn connection(line: &str) -> Option<Connection> {
    let line = ConnectionLine::parse(line)?;
    let engine = line.engine.map(str::to_owned);
    Some(Connection {
        protocol: line.protocol,
        client: line.client,
        virtual_address: line.virtual_address,
        destination: line.destination,
        state: line.state.to_owned(),
        expires: line.expires,
        engine: engine.map(|name| (name, line.engine_data.join(" "))),
    })
}

/// The table; `engines`: with the columns of the persistence engines (`--persistent-conn`).
#[must_use]
pub fn table(connections: &[Connection], engines: bool, names: &Names) -> String {
    let mut text = String::from("IPVS connection entries\n");
    text.push_str("pro expire state       source             virtual            destination");
    text.push_str(if engines {
        "        pe name          pe_data\n"
    } else {
        "\n"
    });
    for connection in connections {
        let Connection {
            protocol,
            client,
            virtual_address,
            destination,
            state,
            expires,
            engine,
        } = connection;
        let of = protocol.unwrap_or(Protocol::Tcp);
        let [client, virtual_address, destination] =
            [client, virtual_address, destination].map(|address| names.endpoint(of, *address));
        let (minutes, seconds) = (expires / 60, expires % 60);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{:<3} {minutes:02}:{seconds:02}  {state:<11} {client:<18} {virtual_address:<18} ",
            protocol.map_or("IP", upper)
        );
        let _ = match engine {
            Some((name, data)) if engines => {
                writeln!(text, "{destination:<18} {name:<16} {data}")
            }
            Some(_) | None => writeln!(text, "{destination}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROC: &str = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
        TCP 7F000001 871E 7F000001 1F90 7F000001 2382 TIME_WAIT       119\n\
        TCP 2001:0db8:0000:0000:0000:0000:0000:0001 AA5E 2001:0db8:0000:0000:0000:0000:0000:0001 0050 \
        2001:0db8:0000:0000:0000:0000:0000:0001 2382 ESTABLISHED     7200\n\
        UDP 0A000001 0000 0A000002 13C4 0A000003 13C4 UDP             300 sip call-1@x\n\
        XYZ broken\nTCP 7F000001\n\n";

    #[test]
    fn connections_look_as_ipvsadm_lists_them() {
        let found = connections(PROC);
        assert_eq!(found.len(), 3);
        let wanted = "IPVS connection entries\n\
            pro expire state       source             virtual            destination\n\
            TCP 01:59  TIME_WAIT   127.0.0.1:34590    127.0.0.1:8080     127.0.0.1:9090\n\
            TCP 120:00  ESTABLISHED [2001:db8::1]:43614 [2001:db8::1]:80   [2001:db8::1]:9090\n\
            UDP 05:00  UDP         10.0.0.1:0         10.0.0.2:5060      10.0.0.3:5060\n";
        assert_eq!(table(&found, false, &Names::default()), wanted);
        let with_engines = table(&found, true, &Names::default());
        assert!(
            with_engines.ends_with("10.0.0.3:5060      sip              call-1@x\n"),
            "{with_engines}"
        );
    }
}
