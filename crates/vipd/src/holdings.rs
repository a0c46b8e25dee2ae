//! What this host holds while it is master beside IPVS: virtual addresses, virtual MACs, routes and
//! rules, and the firewall's rules about them; and always what virtual servers need beside IPVS's table.
//! Each kind has a worker that makes the kernel hold what
//! it is told and mends what others change; here is told what follows from the roles.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, VirtualAddress, Vrrp};
use crate::net::addresses::{self, RouterAddresses};
use crate::net::announcer;
use crate::net::firewall::{self, Firewall};
use crate::net::ipvs_sysctl;
use crate::net::links::Links;
use crate::net::routes;
use crate::net::virtual_mac::{self, VirtualMac};

/// What a router's role means for what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Role {
    /// It holds its addresses: it is master, or was a moment ago.
    pub(crate) hold: bool,
    /// Goes up with each time they must be announced.
    pub(crate) announce: u64,
    /// Connections to its addresses may still be on their way to this kernel.
    pub(crate) arriving: bool,
}

/// What a worker says.
#[derive(Debug)]
pub enum Report {
    /// That for virtual addresses.
    Addresses(addresses::Report),
    /// That for virtual MACs.
    VirtualMac(virtual_mac::Report),
    /// That for the firewall.
    Firewall(firewall::Report),
    /// That for settings of IPVS.
    Sysctl(ipvs_sysctl::Report),
    /// That for routes and rules.
    Routes(routes::Report),
}

/// The ends by which the workers are told. Dropped, each removes what is left and ends.
pub(crate) struct Holdings {
    addresses: watch::Sender<Arc<addresses::Wanted>>,
    virtual_macs: watch::Sender<Arc<virtual_mac::Wanted>>,
    firewall: watch::Sender<Arc<Firewall>>,
    sysctls: watch::Sender<Arc<ipvs_sysctl::Wanted>>,
    routes: watch::Sender<Arc<routes::Wanted>>,
}

/// The workers, by name.
pub(crate) type Workers = Vec<(&'static str, JoinHandle<()>)>;

/// What every worker is told.
struct Told {
    addresses: addresses::Wanted,
    virtual_macs: virtual_mac::Wanted,
    firewall: Firewall,
    sysctls: ipvs_sysctl::Wanted,
    routes: routes::Wanted,
}

impl Told {
    /// What follows from the roles.
    fn of(config: &Config, links: &Links, role: impl Fn(&str) -> Role) -> Told {
        let addresses = config.vrrp.iter().map(|vrrp| {
            let Role { hold, announce, .. } = role(&vrrp.name);
            let addresses = RouterAddresses {
                addresses: addresses_of(vrrp, links),
                hold,
                owner: vrrp.parameters.priority == vrrp::PRIORITY_OWNER,
                announce,
                garp: vrrp.garp,
            };
            (vrrp.name.clone(), addresses)
        });
        let holds = |name: &str| role(name).hold;
        Told {
            addresses: addresses.collect(),
            virtual_macs: virtual_macs_of(config, &role),
            firewall: Firewall::of(config, holds, |name| role(name).arriving),
            sysctls: ipvs_sysctl::Wanted::of(config),
            routes: routes::Wanted::of(config, holds),
        }
    }

    /// At a start. What a killed daemon left and is configured still is told of from the start: it is
    /// adopted.
    fn at_start(config: &Config) -> Told {
        Told {
            addresses: addresses::Wanted::new(),
            virtual_macs: virtual_macs_of(config, |_| Role::default()),
            firewall: Firewall::default(),
            sysctls: ipvs_sysctl::Wanted::of(config),
            routes: routes::Wanted::default(),
        }
    }
}

impl Holdings {
    /// Starts the workers. Returns those that hold something, and those that only announce it. Where
    /// roles are known already, what follows from them is there and stays.
    ///
    /// # Errors
    ///
    /// A socket that could not be opened.
    pub(crate) fn start(
        config: &Config,
        links: &watch::Receiver<Arc<Links>>,
        known: Option<impl Fn(&str) -> Role>,
        report: impl Fn(Report) + Clone + Send + Sync + 'static,
    ) -> Result<(Holdings, Workers, Workers), String> {
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let told = match known {
            Some(role) => Told::of(config, &links.borrow(), role),
            None => Told::at_start(config),
        };
        let (announcer, announcing) =
            announcer::start(links.clone()).map_err(failed("a packet socket for ARP"))?;
        let is_known = !told.addresses.is_empty();
        let (addresses, mut wanted) = watch::channel(Arc::new(told.addresses));
        if is_known {
            wanted.mark_changed();
        }
        let says = report.clone();
        let addressing = addresses::start(links.clone(), wanted, announcer, move |it| {
            says(Report::Addresses(it));
        })
        .map_err(failed("rtnetlink"))?;
        let (virtual_macs, wanted) = watch::channel(Arc::new(told.virtual_macs));
        let says = report.clone();
        let state_dir: &Path = &config.global.state_dir;
        let macvlans = virtual_mac::start(links.clone(), wanted, state_dir, move |it| {
            says(Report::VirtualMac(it));
        })
        .map_err(failed("rtnetlink"))?;
        let (routes, wanted) = watch::channel(Arc::new(told.routes));
        let says = report.clone();
        let routing = match routes::start(links.clone(), wanted, move |it| says(Report::Routes(it)))
        {
            Ok(routing) => routing,
            Err(error) => {
                // Dropped, it would have everything given up: another daemon may hold that.
                std::mem::forget(virtual_macs);
                return Err(failed("rtnetlink")(error));
            }
        };
        let (firewall, wanted) = watch::channel(Arc::new(told.firewall));
        let says = report.clone();
        let filtering = firewall::start(wanted, move |it| says(Report::Firewall(it)));
        let (sysctls, wanted) = watch::channel(Arc::new(told.sysctls));
        let setting = ipvs_sysctl::start(wanted, links.clone(), state_dir, move |it| {
            report(Report::Sysctl(it));
        });
        let holdings = Holdings {
            addresses,
            virtual_macs,
            firewall,
            sysctls,
            routes,
        };
        let holding = vec![
            ("virtual addresses", addressing),
            ("virtual MACs", macvlans),
            ("the firewall", filtering),
            ("settings of IPVS", setting),
            ("routes", routing),
        ];
        Ok((holdings, holding, vec![("gratuitous ARP", announcing)]))
    }

    /// Tells every worker what follows from the roles.
    pub(crate) fn publish(&self, config: &Config, links: &Links, role: impl Fn(&str) -> Role) {
        let told = Told::of(config, links, role);
        tell(&self.virtual_macs, told.virtual_macs);
        tell(&self.addresses, told.addresses);
        tell(&self.firewall, told.firewall);
        tell(&self.sysctls, told.sysctls);
        tell(&self.routes, told.routes);
    }
}

/// The macvlans of a configuration, up where the router holds its addresses.
pub(crate) fn virtual_macs_of(config: &Config, role: impl Fn(&str) -> Role) -> virtual_mac::Wanted {
    let macs = config.vrrp.iter().filter_map(|vrrp| {
        let mac = VirtualMac::of(vrrp, role(&vrrp.name).hold)?;
        Some((vrrp.name.clone(), mac))
    });
    macs.collect::<BTreeMap<_, _>>()
}

/// The addresses of a router as they are put on. On a macvlan, an address in a network that the
/// interface below has, too, gets no route of its own: the host's own packets would leave with the
/// virtual MAC.
fn addresses_of(vrrp: &Vrrp, links: &Links) -> Vec<VirtualAddress> {
    let below = links.named(&vrrp.interface);
    let has_network = |net: IpNet| {
        let own = below.into_iter().flat_map(|link| link.addresses.iter());
        own.into_iter()
            .any(|known| known.address.trunc() == net.trunc())
    };
    let mut addresses = vrrp.addresses.clone();
    for address in &mut addresses {
        let on_macvlan = Some(&address.interface) == vrrp.virtual_mac.as_ref();
        address.prefix_route &= !(on_macvlan && has_network(address.address));
    }
    addresses
}

fn tell<T: PartialEq>(sender: &watch::Sender<Arc<T>>, wanted: T) {
    if **sender.borrow() != wanted {
        sender.send_replace(Arc::new(wanted));
    }
}
