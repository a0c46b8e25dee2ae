//! `ipvs.sync`: the synchronisation of connections with the peer.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipvs::{DestinationKey, Family, ServiceKey};

use super::section::Section;
use super::text::{self, Complaint};
use super::{Sync, VirtualServer};

// What the kernel takes where nothing is said.
const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const PORT: u16 = 8848;
const TTL: u8 = 1;
/// Shorter ones the kernel's backup does not care for; room for 27 connections.
const LENGTH_MIN: u16 = 1024;
/// The length of an IP packet less the headers.
const LENGTH_MAX: u16 = u16::MAX - 48;
const REFRESH: Duration = Duration::from_secs(30);
const REFRESH_MAX: Duration = Duration::from_secs(3600);

impl Sync {
    pub(super) fn read(mut s: Section<'_>) -> Option<Sync> {
        let interface = s.need("interface", "\"eth1\"", |v| v.parse(text::interface));
        let id = s.need("id", "51", |v| v.integer(0..=255));
        let group = s.or("group", GROUP, |v| v.parse(group));
        let port = s.or("port", PORT, |v| v.integer(1..=u16::MAX - 1));
        let ttl = s.or("ttl", TTL, |v| v.integer(1..=255));
        let max_length = s.maybe("max_length", |v| v.integer(LENGTH_MIN..=LENGTH_MAX));
        let full_table = s.or("full_table", true, super::value::Value::boolean);
        let refresh = s.or("refresh", REFRESH, |v| v.refresh(REFRESH_MAX));
        s.finish();
        Some(Sync {
            interface: interface?,
            id: id?,
            group: group?,
            port: port?,
            ttl: ttl?,
            max_length: max_length?,
            full_table: full_table?,
            refresh: refresh?,
        })
    }
}

fn group(text: &str) -> Result<IpAddr, Complaint> {
    // A word that is no address at all is told what one is.
    let group = match text.parse::<IpAddr>() {
        Ok(group) if group.is_multicast() => return Ok(group),
        Ok(group) => group,
        Err(_) => text::ip_address(text)?,
    };
    Err(Complaint {
        message: format!("{group} is no multicast address"),
        help: "write one such as \"224.0.0.81\" or \"ff02::81\"; the kernel knows no other way"
            .to_owned(),
    })
}

/// The kernel refuses sync daemons beside a real server of another family than its service, and such
/// a real server beside sync daemons.
pub(super) fn refuse_mixed_families(s: &mut Section<'_>, servers: &[Option<VirtualServer>]) {
    let mixed = |server: &&VirtualServer| {
        let sorry = server.sorry_server.iter().map(|sorry| sorry.key);
        let mut real_servers = server.real_servers.iter().map(|real| real.key).chain(sorry);
        let differs = |service: &ServiceKey, real: &DestinationKey| {
            server.sends(service, real) && Family::of(real.0.ip()) != service.family()
        };
        real_servers.any(|real| server.keys.iter().any(|service| differs(service, &real)))
    };
    if let Some(server) = servers.iter().flatten().find(mixed)
        && let Some(value) = s.get("ipvs")
    {
        value.report(
            format!(
                "`sync` and real servers of another family than their virtual server ({}) exclude \
                 each other in the kernel",
                server.name
            ),
            "remove `sync`, or those real servers",
        );
    }
}
