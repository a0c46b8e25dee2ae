//! The command line of `vipd realserver`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use ipvs::{Tunnel, TunnelChecksum};

/// What is to be done, and to which addresses.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("action").args(["check", "undo", "watch"]))]
pub struct RealServer {
    /// The directors' configuration: this host finds itself in it by its addresses.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/etc/vipd/vipd.toml",
        conflicts_with = "vip"
    )]
    pub config: PathBuf,
    /// A virtual address, in place of a configuration; several may follow.
    #[arg(long, value_name = "ADDRESS", num_args = 1.., requires = "forwarding")]
    pub vip: Vec<IpAddr>,
    /// How packets for it come.
    #[arg(long, requires = "vip")]
    pub forwarding: Option<Forwarding>,
    /// The kind of tunnel: ipip, gue:PORT, gre or gre:checksum.
    #[arg(long, value_name = "KIND", requires = "vip", default_value = "ipip", value_parser = tunnel)]
    pub tunnel: Tunnel,
    /// The address of this host at which the tunnel ends, where it has several.
    #[arg(long, value_name = "ADDRESS", requires = "vip")]
    pub local: Option<IpAddr>,
    /// Changes nothing, and says what differs.
    #[arg(long)]
    pub check: bool,
    /// Makes everything as it was before.
    #[arg(long)]
    pub undo: bool,
    /// Stays in the foreground: takes an address away while all services behind it fail their checks here, and
    /// puts it back after; on SIGTERM and SIGINT it makes everything as it was.
    #[arg(long, conflicts_with = "vip")]
    pub watch: bool,
    /// Where it is remembered what was there before; by default as the configuration says, /var/lib/vipd.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// How packets for a virtual address reach a real server that is set up by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Forwarding {
    /// Direct routing: the address is on lo.
    Dr,
    /// Through a tunnel: the address is on its device.
    Tun,
}

/// `ipip`, `gue:6080`, `gre`, `gre:checksum`
fn tunnel(text: &str) -> Result<Tunnel, String> {
    let gre = |checksum| Ok(Tunnel::Gre { checksum });
    match text.split_once(':') {
        None if text == "ipip" => Ok(Tunnel::Ipip),
        None if text == "gre" => gre(TunnelChecksum::None),
        Some(("gre", "checksum")) => gre(TunnelChecksum::Full),
        Some(("gue", port)) => match port.parse() {
            // The real server takes packets in with and without a checksum.
            Ok(port @ 1..) => Ok(Tunnel::Gue {
                port,
                checksum: TunnelChecksum::None,
            }),
            Ok(0) | Err(_) => Err(format!("{port:?} is no UDP port")),
        },
        Some(_) | None => Err("write ipip, gue:PORT, gre or gre:checksum".to_owned()),
    }
}
