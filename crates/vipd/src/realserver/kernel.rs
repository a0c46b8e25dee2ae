//! How the host is, and making it as it should be: rtnetlink, `/proc/sys`, and generic netlink for GUE.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::link::{
    GreIOFlags, InfoData, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{
    Handle, LinkGre, LinkGre6, LinkIp6Tnl, LinkIpIp, LinkSit, LinkUnspec, RouteMessageBuilder,
};

use super::gue;
use super::thing::{Device, Facts, Kind, LOOPBACK, Thing};
use crate::config::VirtualAddress;
use crate::net::addresses;
use crate::net::links::{self, Links};
use crate::net::sysctl;

/// `IFLA_IFALIAS` of the devices made here, for whoever looks at them.
const ALIAS: &str = "vipd realserver";
const IPV4: &str = "ipv4";
/// `RT_TABLE_LOCAL`
const LOCAL_TABLE: u32 = 255;

/// The kernel of this network namespace.
pub(super) struct Kernel {
    handle: Handle,
}

impl Kernel {
    /// To be called within a runtime.
    pub(super) fn open() -> Result<Kernel, String> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        Ok(Kernel { handle })
    }

    pub(super) async fn links(&self) -> Result<Links, String> {
        let links = links::dump(&self.handle).await;
        links.map_err(|error| format!("reading the addresses: {error}"))
    }

    /// How the host is, as far as these things go.
    pub(super) async fn facts(&self, things: &[Thing]) -> Result<Facts, String> {
        let mut facts = Facts {
            links: self.links().await?,
            ..Facts::default()
        };
        let found = self.handle.link().get().execute().try_collect::<Vec<_>>();
        let found = found
            .await
            .map_err(|error| format!("reading the interfaces: {error}"))?;
        for message in &found {
            let found = Found::decode(message);
            if found.secluded {
                facts.secluded.insert(found.name);
            }
            facts.devices.extend(found.device);
        }
        let mut wants_gue = false;
        for thing in things {
            match thing {
                Thing::Setting { interface, name } => {
                    if let Ok(value) = sysctl::read(IPV4, interface, name) {
                        facts
                            .settings
                            .insert((interface.clone(), name.clone()), value);
                    }
                }
                Thing::Local { address } => {
                    if self.is_local(*address).await {
                        facts.local.insert(*address);
                    }
                }
                Thing::GuePort { .. } => wants_gue = true,
                Thing::Loopback
                | Thing::Device(_)
                | Thing::NoAddress { .. }
                | Thing::Address { .. } => {}
            }
        }
        if wants_gue {
            facts.gue_ports = gue::ports()?;
        }
        Ok(facts)
    }

    /// Makes a thing so.
    pub(super) async fn make(&self, thing: &Thing, value: &str) -> Result<(), String> {
        match thing {
            Thing::Loopback => self.switch(LOOPBACK, true).await,
            Thing::Setting { interface, name } => {
                sysctl::write(IPV4, interface, name, value).map_err(|error| error.to_string())
            }
            Thing::GuePort { ipv6, port } => gue::open(*ipv6, *port),
            Thing::Device(device) => self.make_device(device).await,
            Thing::NoAddress { interface, address } => {
                self.remove_address(interface, *address).await
            }
            Thing::Address { interface, address } => {
                let address = VirtualAddress {
                    address: *address,
                    interface: interface.clone(),
                    advertise: false,
                    label: None,
                    scope: crate::config::Scope::Global,
                    prefix_route: true,
                };
                self.add_address(&address).await
            }
            Thing::Local { address } => {
                let route = self.local_route(*address).await?;
                let added = self.handle.route().add(route).execute().await;
                added.map_err(|error| error.to_string())
            }
        }
    }

    /// Takes away what [`Kernel::make`] has made. What is gone already is no failure.
    pub(super) async fn unmake(&self, thing: &Thing) -> Result<(), String> {
        match thing {
            Thing::Loopback => self.switch(LOOPBACK, false).await,
            Thing::GuePort { ipv6, port } => gue::close(*ipv6, *port),
            Thing::Device(device) => self.remove_device(&device.name).await,
            Thing::Address { interface, address } => self.remove_address(interface, *address).await,
            Thing::Local { address } => {
                let route = self.local_route(*address).await?;
                // It went with its address, mostly.
                let _ = self.handle.route().del(route).execute().await;
                Ok(())
            }
            // Whoever remembers them has their values.
            Thing::Setting { .. } | Thing::NoAddress { .. } => Ok(()),
        }
    }

    pub(super) async fn add_address(&self, address: &VirtualAddress) -> Result<(), String> {
        let index = self.index_of(&address.interface).await?;
        let added = addresses::add_unmarked(&self.handle, index, address).await;
        added.map_err(|error| error.to_string())
    }

    async fn remove_address(&self, interface: &str, address: IpNet) -> Result<(), String> {
        let links = self.links().await?;
        let Some(link) = links.named(interface) else {
            return Ok(());
        };
        let removed = addresses::delete(&self.handle, link.index, address).await;
        removed.map_err(|error| error.to_string())
    }

    async fn make_device(&self, device: &Device) -> Result<(), String> {
        self.remove_device(&device.name).await?;
        let message = message(device)?;
        let made = self.handle.link().add(message).execute().await;
        made.map_err(|error| {
            let module = device.kind.module();
            format!(
                "{error} (does another device end a tunnel there, or does the kernel lack the module {module}?)"
            )
        })?;
        let index = self.index_of(&device.name).await?;
        let named = LinkUnspec::new_with_index(index).alias(ALIAS).up().build();
        let set = self.handle.link().set(named).execute().await;
        set.map_err(|error| error.to_string())
    }

    async fn remove_device(&self, name: &str) -> Result<(), String> {
        let links = self.links().await?;
        let Some(link) = links.named(name) else {
            return Ok(());
        };
        let removed = self.handle.link().del(link.index).execute().await;
        removed.map_err(|error| error.to_string())
    }

    async fn switch(&self, name: &str, up: bool) -> Result<(), String> {
        let link = LinkUnspec::new_with_index(self.index_of(name).await?);
        let message = if up { link.up() } else { link.down() }.build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| error.to_string())
    }

    async fn index_of(&self, name: &str) -> Result<u32, String> {
        let links = self.links().await?;
        let link = links.named(name);
        link.map(|link| link.index)
            .ok_or_else(|| format!("there is no interface {name}"))
    }

    /// Whether the kernel takes packets to an address for this host's.
    async fn is_local(&self, address: IpAddr) -> bool {
        let length = IpNet::from(address).max_prefix_len();
        let question = RouteMessageBuilder::<IpAddr>::new().destination_prefix(address, length);
        let Ok(question) = question else {
            return false;
        };
        let answer = self.handle.route().get(question.build()).execute();
        let answer = answer.try_collect::<Vec<_>>().await.unwrap_or_default();
        answer
            .iter()
            .any(|route| route.header.kind == RouteType::Local)
    }

    /// As the kernel makes it with an address.
    async fn local_route(&self, address: IpAddr) -> Result<RouteMessage, String> {
        let length = IpNet::from(address).max_prefix_len();
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, length)
            .map_err(|error| error.to_string())?
            .output_interface(self.index_of(LOOPBACK).await?)
            .table_id(LOCAL_TABLE)
            .protocol(RouteProtocol::Kernel)
            .scope(RouteScope::Host)
            .kind(RouteType::Local);
        Ok(route.build())
    }
}

/// The request for a new device.
fn message(device: &Device) -> Result<LinkMessage, String> {
    let name = &device.name;
    let flags = if device.checksum {
        GreIOFlags::Checksum
    } else {
        GreIOFlags::empty()
    };
    Ok(match (device.kind, device.local) {
        (Kind::Ipip, IpAddr::V4(local)) => LinkIpIp::new(name).local(local).build(),
        (Kind::Sit, IpAddr::V4(local)) => LinkSit::new(name).local(local).build(),
        // 0: whatever is in it.
        (Kind::Ip6Tnl, IpAddr::V6(local)) => {
            LinkIp6Tnl::new(name).local(local).mode(0.into()).build()
        }
        (Kind::Gre, IpAddr::V4(local)) => LinkGre::new(name).local(local).iflags(flags).build(),
        (Kind::Ip6Gre, IpAddr::V6(local)) => LinkGre6::new(name).local(local).iflags(flags).build(),
        (kind, local) => return Err(format!("a tunnel of kind {kind} cannot end at {local}")),
    })
}

/// A link, as far as tunnels go.
struct Found {
    name: String,
    secluded: bool,
    /// A tunnel device that is up.
    device: Option<Device>,
}

impl Found {
    fn decode(message: &LinkMessage) -> Found {
        let (mut name, mut infos): (String, &[LinkInfo]) = (String::new(), &[]);
        for attribute in &message.attributes {
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "other attributes do not matter here"
            )]
            match attribute {
                LinkAttribute::IfName(value) => name.clone_from(value),
                LinkAttribute::LinkInfo(value) => infos = value,
                _ => {}
            }
        }
        let (mut kind, mut dummy, mut local, mut checksum) = (None, false, None, false);
        for info in infos {
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "other kinds and attributes do not matter here"
            )]
            match info {
                LinkInfo::Kind(InfoKind::Dummy) => dummy = true,
                LinkInfo::Kind(InfoKind::IpIp) => kind = Some(Kind::Ipip),
                LinkInfo::Kind(InfoKind::SitTun) => kind = Some(Kind::Sit),
                LinkInfo::Kind(InfoKind::Ip6Tnl) => kind = Some(Kind::Ip6Tnl),
                LinkInfo::Kind(InfoKind::GreTun) => kind = Some(Kind::Gre),
                LinkInfo::Kind(InfoKind::GreTun6) => kind = Some(Kind::Ip6Gre),
                LinkInfo::Data(InfoData::IpTunnel(data)) => {
                    local = data.iter().find_map(|item| match item {
                        InfoIpTunnel::Local(ip) => Some(*ip),
                        _ => None,
                    });
                }
                LinkInfo::Data(InfoData::GreTun(data)) => {
                    for item in data {
                        match item {
                            InfoGre::Local(ip) => local = Some(IpAddr::V4(*ip)),
                            InfoGre::IFlags(flags) => {
                                checksum = flags.contains(GreIOFlags::Checksum)
                            }
                            _ => {}
                        }
                    }
                }
                LinkInfo::Data(InfoData::GreTun6(data)) => {
                    for item in data {
                        match item {
                            InfoGre6::Local(ip) => local = Some(IpAddr::V6(*ip)),
                            InfoGre6::IFlags(flags) => {
                                checksum = flags.contains(GreIOFlags::Checksum)
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let up = message.header.flags.contains(LinkFlags::Up);
        let device = kind.zip(local).filter(|_| up).map(|(kind, local)| Device {
            name: name.clone(),
            kind,
            local,
            checksum,
        });
        Found {
            secluded: dummy || kind.is_some(),
            name,
            device,
        }
    }
}

impl Kind {
    /// The kernel module that knows it.
    fn module(self) -> &'static str {
        match self {
            Kind::Ipip => "ipip",
            Kind::Sit => "sit",
            Kind::Ip6Tnl => "ip6_tunnel",
            Kind::Gre => "ip_gre",
            Kind::Ip6Gre => "ip6_gre",
        }
    }
}

/// What a setting is, as far as it is remembered.
pub(super) fn setting(interface: &str, name: &str) -> Result<String, String> {
    sysctl::read(IPV4, interface, name).map_err(|error| error.to_string())
}

/// Gives a setting a value.
pub(super) fn set(interface: &str, name: &str, value: &str) -> Result<(), String> {
    sysctl::write(IPV4, interface, name, value).map_err(|error| error.to_string())
}
