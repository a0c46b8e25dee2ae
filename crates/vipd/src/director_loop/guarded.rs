//! What the crash guard is told: what is to be done if this process dies now.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use vrrp::{PRIORITY_OWNER, StateName};

use super::{Director, Refused};
use crate::config::{Heartbeat, Vrrp};
use crate::events::Kind;
use crate::guard::{Address, Farewell, Report, Will};
use crate::net::links::Links;
use crate::net::routes;
use crate::vrrp_loop::{Parting, Spec, further_parting, partings};

/// A hung daemon is silent for at least so long: a busy machine is no death.
const LEAST: Duration = Duration::from_secs(2);
/// However rarely adverts are due, the thread turns once a second.
const MOST: Duration = Duration::from_secs(10);

impl Director {
    /// Tells the guard what is held. While the advert path speaks of another configuration than ours,
    /// it keeps what it knows.
    pub(super) fn tell_guard(&self) {
        if let Some(guard) = self.guard.as_ref().filter(|_| self.unconfigured == 0) {
            guard.tell(&self.will());
        }
    }

    pub(super) fn take_guard(&self, report: Report) {
        let name = &self.config.global.name;
        let (kind, message) = match report {
            Report::Lost(why) => (Kind::GuardLost, why),
            Report::Found => (Kind::GuardFound, "it runs again".to_owned()),
            Report::Acted => {
                let message = "the advert path had not turned for too long";
                (Kind::GuardActed, message.to_owned())
            }
        };
        self.events.record(kind, name, message);
    }

    pub(super) fn will(&self) -> Will {
        let links = Arc::clone(&self.links.borrow());
        let mut will = Will {
            config: std::path::absolute(&self.config_path).unwrap_or(self.config_path.clone()),
            ..Will::default()
        };
        let holds = |name: &str| self.holds_addresses(name);
        for vrrp in self.config.vrrp.iter().filter(|vrrp| holds(&vrrp.name)) {
            let state = self.routers.get(&vrrp.name).map(|it| it.report.state);
            if state == Some(StateName::Master) {
                let parameters = &vrrp.parameters;
                let ways = self.partings(vrrp, &links).into_iter();
                let farewells = ways.map(|way| Farewell::new(parameters, way));
                will.farewells.extend(farewells);
            }
            let patience =
                vrrp.parameters.interval() * (u32::from(vrrp.parameters.down_adverts) + 1);
            let patience = patience.clamp(LEAST, MOST);
            will.patience = Some(will.patience.map_or(patience, |it| it.min(patience)));
            // An owner's are the host's own.
            if vrrp.parameters.priority != PRIORITY_OWNER {
                will.addresses
                    .extend(vrrp.addresses.iter().map(|address| Address {
                        interface: address.interface.clone(),
                        address: address.ip(),
                        prefix: address.address.prefix_len(),
                    }));
            }
            // One that is refused may be somebody else's.
            let refused = Refused::VirtualMac(vrrp.name.clone());
            if !self.refused.contains_key(&refused) {
                will.macvlans.extend(vrrp.virtual_mac.clone());
            }
        }
        will.routes = routes::removals(&routes::Wanted::of(&self.config, holds), &links);
        will
    }

    /// Every way that adverts of a virtual router leave by.
    fn partings(&self, vrrp: &Vrrp, links: &Links) -> Vec<Parting> {
        let family = vrrp.parameters.family;
        let link = links.named(&vrrp.interface);
        let own = link.and_then(|link| {
            let source = self.config.advert_source(vrrp, link)?;
            let spec = Spec::new(&self.config, vrrp, Arc::default());
            Some(partings(&spec, link, source))
        });
        let further = vrrp
            .heartbeats
            .iter()
            .filter_map(|heartbeat| match heartbeat {
                Heartbeat::Interface(name) => {
                    let link = links.named(name)?;
                    let source = self.config.own_address(link, family)?;
                    Some(further_parting(family, Some(link), source, None))
                }
                Heartbeat::Peer { peer, source } => {
                    let source = source.or_else(|| own_address_towards(*peer))?;
                    Some(further_parting(family, None, source, Some(*peer)))
                }
            });
        own.into_iter().flatten().chain(further).collect()
    }
}

/// The address that the route to a host begins at.
fn own_address_towards(peer: IpAddr) -> Option<IpAddr> {
    let any = match peer {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let find = || {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        // Nothing is sent by that.
        socket.connect(SocketAddr::new(peer, 9))?;
        socket.local_addr()
    };
    match find() {
        Ok(own) => Some(own.ip()),
        Err(error) => {
            warn!(%peer, "the crash guard cannot tell the heartbeat's peer: {error}");
            None
        }
    }
}
