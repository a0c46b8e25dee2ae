//! What is valid and still hardly meant: `vipd check` and the log say it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipvs::{Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerName, ServiceKey};

use super::{Config, Tracked, VirtualServer, When};

impl Config {
    /// Families whose packets this host must forward: those that it translates.
    #[must_use]
    pub fn translated_families(&self) -> BTreeSet<Family> {
        let servers = self.virtual_servers.iter().flat_map(VirtualServer::servers);
        servers
            .filter(|(_, forwarding, _)| *forwarding == Forwarding::Nat)
            .map(|(key, _, _)| Family::of(key.0.ip()))
            .collect()
    }

    /// What to think about again, a line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let each = self.virtual_servers.iter().flat_map(|server| {
            let told = warnings_of(server).into_iter();
            told.map(|what| format!("virtual_server {:?}: {what}", server.name))
        });
        each.chain(self.shadowed()).chain(self.blind()).collect()
    }

    /// Virtual routers that a lost quorum would keep in fault for ever.
    fn blind(&self) -> Vec<String> {
        let mut found = Vec::new();
        for vrrp in &self.vrrp {
            for track in &vrrp.track {
                if let Tracked::VirtualServer(name) = &track.what
                    && let Some(server) = self.virtual_server(name)
                    && server.when
                        == (When::Master {
                            backup_interval: None,
                        })
                {
                    found.push(format!(
                        "vrrp {:?}: tracks virtual_server {name:?}, which is not checked while this \
                         director is backup: a lost quorum is never found again; give it a backup_interval",
                        vrrp.name
                    ));
                }
            }
        }
        found
    }

    /// Services that never see a client, because a mark catches them.
    fn shadowed(&self) -> Vec<String> {
        let mut found = Vec::new();
        let marking = self.virtual_servers.iter();
        for marking in marking.filter(|server| !server.marks.is_empty()) {
            for server in &self.virtual_servers {
                for key in &server.keys {
                    if let ServiceKey::Address { protocol, address } = key
                        && catches(marking, *protocol, *address)
                    {
                        found.push(format!(
                            "virtual_server {:?}: {key} gets the firewall mark of {:?}, which takes its clients",
                            server.name, marking.name
                        ));
                    }
                }
            }
        }
        found
    }
}

fn catches(marking: &VirtualServer, protocol: Protocol, address: SocketAddr) -> bool {
    marking.marks.iter().any(|rule| {
        rule.protocol == protocol
            && rule.address == address.ip()
            && rule
                .ports
                .iter()
                .any(|ports| ports.contains(&address.port()))
    })
}

fn warnings_of(server: &VirtualServer) -> Vec<String> {
    let mut found = Vec::new();
    let service = &server.service;
    if let SchedulerName::Known(scheduler @ (Scheduler::Sh | Scheduler::Mh)) = service.scheduler
        && !service.flags.sched1
    {
        let name = scheduler.name();
        found.push(format!(
            "without \"{name}-fallback\" in scheduler_flags clients of a real server with weight 0 are refused"
        ));
    }
    // The Call-ID of SIP tells the datagrams of one client apart.
    let by_client = |persistence: &Persistence| persistence.engine.is_none();
    if service.flags.one_packet && service.persistence.as_ref().is_some_and(by_client) {
        found.push(
            "with persistence and one_packet every datagram of a client goes to one real server"
                .to_owned(),
        );
    }
    if service.flags.one_packet
        && server
            .servers()
            .any(|(_, forwarding, _)| forwarding == Forwarding::Nat)
    {
        found.push(
            "with one_packet and NAT answers keep the real server's address: nothing remembers the client"
                .to_owned(),
        );
    }
    for family in [Family::V4, Family::V6] {
        let mut services = server.keys.iter().filter(|key| key.family() == family);
        if let Some(service) = services.next()
            && !server.real_servers.is_empty()
            && !server
                .real_servers
                .iter()
                .any(|real| server.sends(service, &real.key))
        {
            found.push(format!("{service} has no real server"));
        }
    }
    found
}
