//! Addresses and ports as ldirectord writes them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipvs::Protocol;

use super::super::host::Host;
use crate::ipvsadm::names;

/// Ports by the names of their services.
#[derive(Debug)]
pub(super) struct Ports(String);

impl Ports {
    pub(super) fn read(host: &dyn Host) -> Ports {
        Ports(host.read(Path::new("/etc/services")).unwrap_or_default())
    }

    /// A number or a name.
    pub(super) fn port(&self, text: &str, protocol: &str) -> Option<u16> {
        if let Ok(port) = text.parse() {
            return Some(port);
        }
        let protocol = if protocol == "udp" {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        names::port_of(&self.0, text, protocol)
    }

    /// `IP[:PORT]`, `[IP]:PORT`; without a port `default`.
    pub(super) fn endpoint(&self, text: &str, protocol: &str, default: u16) -> Option<SocketAddr> {
        let (host, port) = split(text)?;
        let port = match port {
            Some(port) => self.port(port, protocol)?,
            None => default,
        };
        Some(SocketAddr::new(host, port))
    }
}

/// The address, and what is written as its port.
pub(super) fn split(text: &str) -> Option<(IpAddr, Option<&str>)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some((host.parse().ok()?, port));
    }
    if let Ok(ip) = text.parse() {
        return Some((ip, None));
    }
    let (host, port) = text.split_once(':')?;
    Some((host.parse().ok()?, Some(port)))
}
