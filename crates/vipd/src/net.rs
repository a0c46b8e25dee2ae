//! What the daemon does to, and learns from, the network stack of this host: links and addresses
//! over rtnetlink, adverts over raw sockets, gratuitous ARP over packet sockets.

pub mod addresses;
pub mod announcer;
pub mod connection_sync;
pub mod firewall;
pub mod ipvs_sysctl;
pub mod links;
pub mod neighbours;
pub mod routes;
pub mod sys;
pub mod sysctl;
#[cfg(test)]
mod testbed;
pub mod virtual_mac;
pub mod vrrp_socket;

/// `IFA_PROTO` of the addresses vipd adds (shown by `ip -details address` as `proto 112`): the IP
/// protocol number of VRRP. Kernels before 5.18 do not keep it.
pub const ADDRESS_PROTOCOL: u8 = 112;
