//! What the control API says of the kernel's IPVS: the JSON of `GET /v1/ipvs`, and the way back to
//! values, from which vipctl makes its tables.

use std::time::Duration;

use ipvs::{
    Daemon, DaemonRole, Destination, DestinationKey, DestinationStatistics, Dump, Family,
    Forwarding, Info, Persistence, Pool, Protocol, Rates, SchedulerName, Service, ServiceKey,
    Statistics, Timeouts, Tunnel, TunnelChecksum,
};
use serde::{Deserialize, Serialize};

use crate::ipvsadm::connections::Connection;
use crate::ipvsadm::order::in_order;
use crate::ipvsadm::{flag_names, restore};
use crate::status::{ConnectionsStatus, TrafficStatus};

/// What the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What IPVS says of itself.
    pub info: Info,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// The sync daemons that run.
    pub daemons: Vec<Daemon>,
    /// The table and its counters.
    pub dump: std::sync::Arc<Dump>,
}

/// What the kernel holds, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The version of IPVS.
    pub version: String,
    /// Buckets of the connection table.
    pub connection_table_size: u32,
    /// The timeouts.
    pub timeouts: TimeoutsView,
    /// The sync daemons that run.
    pub daemons: Vec<DaemonView>,
    /// The services, in the order of the kernel's hash table.
    pub services: Vec<ServiceView>,
}

/// The timeouts of connections, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutsView {
    /// Of an established TCP connection.
    pub tcp: u64,
    /// Of a TCP connection after a FIN.
    pub tcp_fin: u64,
    /// Of UDP.
    pub udp: u64,
}

/// A sync daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// `master` or `backup`.
    pub role: String,
    /// Its interface.
    pub interface: String,
    /// Its id.
    pub id: u8,
    /// The longest message, bytes.
    pub max_length: u16,
    /// Its multicast group.
    pub group: Option<std::net::IpAddr>,
    /// Its UDP port.
    pub port: u16,
    /// The TTL of its messages.
    pub ttl: u8,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The virtual server whose service it is; `null`: it is not vipd's.
    pub virtual_server: Option<String>,
    /// `tcp`, `udp`, `sctp`; of a firewall mark: `fwmark`.
    pub protocol: String,
    /// Address and port; of a firewall mark, the mark.
    pub address: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The scheduler.
    pub scheduler: String,
    /// Its flags.
    pub scheduler_flags: Vec<String>,
    /// One-packet scheduling.
    pub one_packet: bool,
    /// Persistence.
    pub persistence: Option<PersistenceView>,
    /// Counters.
    pub counters: TrafficStatus,
    /// The same per second.
    pub rates: TrafficStatus,
    /// The real servers, in the kernel's order.
    pub real_servers: Vec<RealServerView>,
}

/// Persistence of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistenceView {
    /// Seconds.
    pub timeout: u64,
    /// The prefix length of the client networks.
    pub netmask: u8,
    /// The engine.
    pub engine: Option<String>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServerView {
    /// Address and port.
    pub address: std::net::SocketAddr,
    /// `nat`, `dr`, `tun`, `local` or `bypass`.
    pub forwarding: String,
    /// Of `tun`.
    pub tunnel: Option<TunnelView>,
    /// The weight.
    pub weight: u32,
    /// The upper threshold, 0: none.
    pub upper_threshold: u32,
    /// The lower threshold, 0: none.
    pub lower_threshold: u32,
    /// Its connections now.
    pub connections: ConnectionsStatus,
    /// Counters.
    pub counters: TrafficStatus,
    /// The same per second.
    pub rates: TrafficStatus,
}

/// An encapsulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelView {
    /// `ipip`, `gue` or `gre`.
    #[serde(rename = "type")]
    pub kind: String,
    /// UDP port, of `gue`.
    pub port: Option<u16>,
    /// `none`, `full` or `remote`.
    pub checksum: String,
}

/// A connection or a persistence template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// `tcp`, `udp` or `sctp`; of a template of a firewall mark: `ip`.
    pub protocol: String,
    /// The client; port 0: a template.
    pub client: std::net::SocketAddr,
    /// The virtual address.
    pub virtual_address: std::net::SocketAddr,
    /// The real server.
    pub real_server: std::net::SocketAddr,
    /// Its state.
    pub state: String,
    /// When it is forgotten, seconds.
    pub expires: u64,
    /// The persistence engine.
    pub engine: Option<String>,
    /// What the engine went by.
    pub engine_data: Option<String>,
}

impl View {
    /// The kernel's table, with the names of the virtual servers.
    #[must_use]
    pub fn of(kernel: &Kernel, name_of: impl Fn(&ServiceKey) -> Option<String>) -> View {
        let Kernel {
            info,
            timeouts,
            daemons,
            dump,
        } = kernel;
        let services = in_order(dump, true)
            .into_iter()
            .filter_map(|(key, servers)| service_view(dump, &key, &servers, name_of(&key)));
        View {
            version: info.version.clone(),
            connection_table_size: info.connection_table_size,
            timeouts: TimeoutsView {
                tcp: timeouts.tcp.as_secs(),
                tcp_fin: timeouts.tcp_fin.as_secs(),
                udp: timeouts.udp.as_secs(),
            },
            daemons: daemons.iter().map(daemon_view).collect(),
            services: services.collect(),
        }
    }

    /// Leaves only the services of that virtual server: its name, or an address as in the list, with
    /// or without the protocol (`tcp 192.168.1.10:80`, `fwmark 3`).
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn only(&mut self, wanted: &str) -> Result<(), String> {
        self.services.retain(|service| service.is(wanted));
        if self.services.is_empty() {
            return Err(format!(
                "IPVS has no service of the name or address {wanted}; `vipctl ipvs list` shows all"
            ));
        }
        Ok(())
    }

    /// What IPVS says of itself.
    #[must_use]
    pub fn info(&self) -> Info {
        Info {
            version: self.version.clone(),
            connection_table_size: self.connection_table_size,
        }
    }

    /// The timeouts.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        let TimeoutsView { tcp, tcp_fin, udp } = self.timeouts;
        let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(Duration::from_secs);
        Timeouts { tcp, tcp_fin, udp }
    }

    /// The daemons, the master's first.
    #[must_use]
    pub fn daemons(&self) -> Vec<Daemon> {
        let of = |role: DaemonRole| {
            let views = self.daemons.iter();
            let views = views.filter(move |view| view.role == role.to_string());
            views.map(move |view| Daemon {
                role,
                interface: view.interface.clone(),
                id: view.id,
                max_length: view.max_length,
                group: view.group,
                port: view.port,
                ttl: view.ttl,
            })
        };
        DaemonRole::ALL.into_iter().flat_map(of).collect()
    }

    /// The table and its counters.
    ///
    /// # Errors
    ///
    /// Something has no meaning for this version.
    pub fn dump(&self) -> Result<Dump, String> {
        let mut dump = Dump::default();
        for view in &self.services {
            let key = view.key()?;
            let mut pool = Pool {
                service: view.service()?,
                destinations: std::collections::BTreeMap::new(),
            };
            dump.service_order.push(key);
            dump.services
                .insert(key, statistics(&view.counters, &view.rates));
            for real in &view.real_servers {
                let server = DestinationKey(real.address);
                pool.destinations.insert(server, real.destination()?);
                dump.destination_order.push((key, server));
                let ConnectionsStatus {
                    active,
                    inactive,
                    persistent,
                } = real.connections;
                let counts = DestinationStatistics {
                    counters: statistics(&real.counters, &real.rates),
                    active,
                    inactive,
                    persistent,
                };
                dump.destinations.insert((key, server), counts);
            }
            dump.table.insert(key, pool);
        }
        Ok(dump)
    }
}

fn service_view(
    dump: &Dump,
    key: &ServiceKey,
    servers: &[DestinationKey],
    virtual_server: Option<String>,
) -> Option<ServiceView> {
    let pool = dump.table.get(key)?;
    let statistics = dump.services.get(key).copied().unwrap_or_default();
    let (protocol, address) = match key {
        ServiceKey::Address { protocol, address } => (protocol.to_string(), address.to_string()),
        ServiceKey::FirewallMark { mark, .. } => ("fwmark".to_owned(), mark.to_string()),
    };
    let flags = flag_names(&pool.service.scheduler, pool.service.flags);
    Some(ServiceView {
        virtual_server,
        protocol,
        address,
        family: match key.family() {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
        .to_owned(),
        scheduler: pool.service.scheduler.as_str().to_owned(),
        scheduler_flags: flags
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        one_packet: pool.service.flags.one_packet,
        persistence: pool
            .service
            .persistence
            .as_ref()
            .map(|persistence| PersistenceView {
                timeout: persistence.timeout.as_secs(),
                netmask: persistence.prefix_length,
                engine: persistence.engine.clone(),
            }),
        counters: TrafficStatus::totals(&statistics),
        rates: TrafficStatus::rates(&statistics.rates),
        real_servers: servers
            .iter()
            .filter_map(|server| {
                let destination = pool.destinations.get(server)?;
                let counts = dump.destinations.get(&(*key, *server)).copied();
                let counts = counts.unwrap_or_default();
                Some(real_server_view(server, destination, &counts))
            })
            .collect(),
    })
}

fn real_server_view(
    server: &DestinationKey,
    destination: &Destination,
    counts: &DestinationStatistics,
) -> RealServerView {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "none",
        TunnelChecksum::Full => "full",
        TunnelChecksum::Remote => "remote",
    };
    let tunnel = match destination.forwarding {
        Forwarding::Tunnel(Tunnel::Ipip) => Some(("ipip", None, "none")),
        Forwarding::Tunnel(Tunnel::Gue {
            port,
            checksum: sum,
        }) => Some(("gue", Some(port), checksum(sum))),
        Forwarding::Tunnel(Tunnel::Gre { checksum: sum }) => Some(("gre", None, checksum(sum))),
        Forwarding::Nat
        | Forwarding::DirectRouting
        | Forwarding::LocalNode
        | Forwarding::Bypass => None,
    };
    RealServerView {
        address: server.0,
        forwarding: crate::director_status::forwarding_name(destination.forwarding).to_owned(),
        tunnel: tunnel.map(|(kind, port, checksum)| TunnelView {
            kind: kind.to_owned(),
            port,
            checksum: checksum.to_owned(),
        }),
        weight: destination.weight,
        upper_threshold: destination.upper_threshold,
        lower_threshold: destination.lower_threshold,
        connections: ConnectionsStatus {
            active: counts.active,
            inactive: counts.inactive,
            persistent: counts.persistent,
        },
        counters: TrafficStatus::totals(&counts.counters),
        rates: TrafficStatus::rates(&counts.counters.rates),
    }
}

impl ServiceView {
    fn is(&self, wanted: &str) -> bool {
        self.virtual_server.as_deref() == Some(wanted)
            || (self.address == wanted && self.protocol != "fwmark")
            || format!("{} {}", self.protocol, self.address) == wanted
    }

    /// By what the kernel finds it.
    ///
    /// # Errors
    ///
    /// It has no meaning for this version.
    pub fn key(&self) -> Result<ServiceKey, String> {
        let unknown = || unknown("service", &format!("{} {}", self.protocol, self.address));
        if self.protocol == "fwmark" {
            let family = match self.family.as_str() {
                "ipv4" => Family::V4,
                "ipv6" => Family::V6,
                _ => return Err(unknown()),
            };
            let mark = self.address.parse().map_err(|_| unknown())?;
            return Ok(ServiceKey::FirewallMark { family, mark });
        }
        Ok(ServiceKey::Address {
            protocol: protocol(&self.protocol)?,
            address: self.address.parse().map_err(|_| unknown())?,
        })
    }

    fn service(&self) -> Result<Service, String> {
        let scheduler = SchedulerName::from(self.scheduler.as_str());
        let mut flags = match self.scheduler_flags.join(",").as_str() {
            "" => ipvs::ServiceFlags::default(),
            names => restore::flags(names, &scheduler)?,
        };
        flags.one_packet = self.one_packet;
        let persistence = self.persistence.as_ref().map(|view| Persistence {
            timeout: Duration::from_secs(view.timeout),
            prefix_length: view.netmask,
            engine: view.engine.clone(),
        });
        Ok(Service {
            scheduler,
            flags,
            persistence,
        })
    }
}

impl RealServerView {
    fn destination(&self) -> Result<Destination, String> {
        let forwarding = match self.forwarding.as_str() {
            "nat" => Forwarding::Nat,
            "dr" => Forwarding::DirectRouting,
            "local" => Forwarding::LocalNode,
            "bypass" => Forwarding::Bypass,
            "tun" => {
                let tunnel = self
                    .tunnel
                    .as_ref()
                    .ok_or_else(|| unknown("tunnel", "none"))?;
                Forwarding::Tunnel(tunnel.tunnel()?)
            }
            other => return Err(unknown("forwarding", other)),
        };
        Ok(Destination {
            forwarding,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        })
    }
}

impl TunnelView {
    fn tunnel(&self) -> Result<Tunnel, String> {
        let checksum = match self.checksum.as_str() {
            "none" => TunnelChecksum::None,
            "full" => TunnelChecksum::Full,
            "remote" => TunnelChecksum::Remote,
            other => return Err(unknown("checksum", other)),
        };
        match self.kind.as_str() {
            "ipip" => Ok(Tunnel::Ipip),
            "gre" => Ok(Tunnel::Gre { checksum }),
            "gue" => Ok(Tunnel::Gue {
                port: self.port.unwrap_or_default(),
                checksum,
            }),
            other => Err(unknown("tunnel", other)),
        }
    }
}

impl ConnectionView {
    /// A connection as JSON.
    #[must_use]
    pub fn of(connection: Connection) -> ConnectionView {
        let (engine, engine_data) = connection.engine.unzip();
        ConnectionView {
            protocol: connection
                .protocol
                .map_or("ip".to_owned(), |protocol| protocol.to_string()),
            client: connection.client,
            virtual_address: connection.virtual_address,
            real_server: connection.destination,
            state: connection.state,
            expires: connection.expires,
            engine,
            engine_data,
        }
    }

    /// The way back.
    ///
    /// # Errors
    ///
    /// It has no meaning for this version.
    pub fn connection(&self) -> Result<Connection, String> {
        Ok(Connection {
            protocol: match self.protocol.as_str() {
                "ip" => None,
                name => Some(protocol(name)?),
            },
            client: self.client,
            virtual_address: self.virtual_address,
            destination: self.real_server,
            state: self.state.clone(),
            expires: self.expires,
            engine: self.engine.clone().zip(self.engine_data.clone()),
        })
    }
}

fn daemon_view(daemon: &Daemon) -> DaemonView {
    DaemonView {
        role: daemon.role.to_string(),
        interface: daemon.interface.clone(),
        id: daemon.id,
        max_length: daemon.max_length,
        group: daemon.group,
        port: daemon.port,
        ttl: daemon.ttl,
    }
}

fn protocol(name: &str) -> Result<Protocol, String> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let found = all
        .into_iter()
        .find(|protocol| protocol.to_string() == name);
    found.ok_or_else(|| unknown("protocol", name))
}

fn statistics(counters: &TrafficStatus, rates: &TrafficStatus) -> Statistics {
    Statistics {
        connections: counters.connections,
        in_packets: counters.in_packets,
        out_packets: counters.out_packets,
        in_bytes: counters.in_bytes,
        out_bytes: counters.out_bytes,
        rates: Rates {
            connections: rates.connections,
            in_packets: rates.in_packets,
            out_packets: rates.out_packets,
            in_bytes: rates.in_bytes,
            out_bytes: rates.out_bytes,
        },
    }
}

fn unknown(what: &str, value: &str) -> String {
    format!(
        "the daemon's answer has a {what} that this vipctl does not know (another version?): {value}"
    )
}
