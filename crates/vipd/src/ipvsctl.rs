//! `vipctl ipvs`: what ipvsadm shows and saves, asked of the daemon. The tables and the save format
//! are made in [`crate::ipvsadm`].

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::control::client;
use crate::ipvs_view::{ConnectionView, View};
use crate::ipvsadm::names::Names;
use crate::ipvsadm::order::in_order;
use crate::ipvsadm::tables::{Columns, Look};
use crate::ipvsadm::{self, connections, save, tables};

/// What is shown or done.
#[derive(Debug, Subcommand)]
pub enum Ipvs {
    /// Lists the services and their real servers, as `ipvsadm -Ln` does.
    List {
        /// Shows the thresholds.
        #[arg(long, group = "columns")]
        thresholds: bool,
        /// Shows the persistent connections.
        #[arg(long, group = "columns")]
        persistent_conn: bool,
        /// Shows the tunnels.
        #[arg(long, group = "columns")]
        tun_info: bool,
        /// How.
        #[command(flatten)]
        show: Show,
    },
    /// Shows what was counted, as `ipvsadm -Ln --stats` does. The kernel sums up every 2 seconds.
    Stats {
        /// How.
        #[command(flatten)]
        show: Show,
    },
    /// Shows what goes through now, per second, as `ipvsadm -Ln --rate` does.
    Rate {
        /// How.
        #[command(flatten)]
        show: Show,
    },
    /// Lists the connections, as `ipvsadm -Lnc` does.
    Connections {
        /// Only connections to this virtual server: its name or its address.
        virtual_server: Option<String>,
        /// Shows what persistence engines went by.
        #[arg(long)]
        persistent_conn: bool,
        /// Names or numbers.
        #[command(flatten)]
        names: ByName,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows the timeouts of connections, as `ipvsadm -L --timeout` does.
    Timeouts {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows the connection sync daemons, as `ipvsadm -L --daemon` does.
    Daemon {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sets counters to zero.
    Zero {
        /// Only those of this virtual server: its name or its address; without it all.
        virtual_server: Option<String>,
    },
    /// Prints the table for `ipvsadm -R` and `vipctl ipvs restore`.
    Save {
        /// The timeouts and the sync daemons too, as commands that set them.
        #[arg(long)]
        all: bool,
        /// Numbers only, which is what is always saved.
        #[arg(short = 'n', long, hide = true)]
        numeric: bool,
    },
    /// Puts in what `ipvsadm -S -n` or `vipctl ipvs save` printed: all of it, or nothing. Services of
    /// the configuration are refused; the others are not vipd's afterwards either.
    Restore {
        /// The file; `-`: standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
}

/// How a table is shown.
#[derive(Debug, Args)]
pub struct Show {
    /// Only this virtual server: its name or its address, also as `tcp 192.168.1.10:80` or
    /// `fwmark 3`.
    virtual_server: Option<String>,
    /// Large counters in full.
    #[arg(long)]
    exact: bool,
    /// Sorted, which is the default.
    #[arg(long, conflicts_with = "nosort")]
    sort: bool,
    /// In the kernel's order.
    #[arg(long)]
    nosort: bool,
    #[command(flatten)]
    names: ByName,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Names or numbers.
#[derive(Debug, Clone, Copy, Args)]
pub struct ByName {
    /// Names of hosts and ports instead of numbers.
    #[arg(long)]
    resolve: bool,
    /// Numbers, which is the default.
    #[arg(short = 'n', long, conflicts_with = "resolve")]
    numeric: bool,
}

impl Ipvs {
    /// Does it, and returns what is to be printed as it is.
    ///
    /// # Errors
    ///
    /// In words: no daemon, or why not.
    pub async fn run(&self, socket: &Path) -> Result<String, String> {
        match self {
            Ipvs::List {
                thresholds,
                persistent_conn,
                tun_info,
                show,
            } => {
                let columns = match (thresholds, persistent_conn, tun_info) {
                    (true, _, _) => Columns::Thresholds,
                    (_, true, _) => Columns::Persistent,
                    (_, _, true) => Columns::Tunnels,
                    (false, false, false) => Columns::Plain,
                };
                show.table(socket, columns).await
            }
            Ipvs::Stats { show } => show.table(socket, Columns::Statistics).await,
            Ipvs::Rate { show } => show.table(socket, Columns::Rates).await,
            Ipvs::Connections {
                virtual_server,
                persistent_conn,
                names,
                json,
            } => {
                let mut views = client::ipvs_connections(socket).await?;
                if let Some(wanted) = virtual_server {
                    let mut view = client::ipvs(socket).await?;
                    view.only(wanted)?;
                    views.retain(|connection| belongs(connection, &view));
                }
                if *json {
                    return pretty(&views);
                }
                let found: Result<Vec<_>, String> =
                    views.iter().map(ConnectionView::connection).collect();
                let found = found?;
                let names = names.of(found.iter().flat_map(|connection| {
                    let of = connection.protocol.unwrap_or(ipvs::Protocol::Tcp);
                    [
                        (of, connection.client),
                        (of, connection.virtual_address),
                        (of, connection.destination),
                    ]
                }));
                Ok(connections::table(&found, *persistent_conn, &names))
            }
            Ipvs::Timeouts { json } => {
                let view = client::ipvs(socket).await?;
                if *json {
                    return pretty(&view.timeouts);
                }
                Ok(ipvsadm::timeouts(&view.timeouts()))
            }
            Ipvs::Daemon { json } => {
                let view = client::ipvs(socket).await?;
                if *json {
                    return pretty(&view.daemons);
                }
                Ok(ipvsadm::daemons(&view.daemons()))
            }
            Ipvs::Zero { virtual_server } => {
                let said = client::ipvs_zero(socket, virtual_server.clone()).await?;
                Ok(format!("{said}\n"))
            }
            Ipvs::Save { all, numeric: _ } => {
                let view = client::ipvs(socket).await?;
                let dump = view.dump()?;
                let mut text = save::table(&dump.table, &in_order(&dump, false));
                if *all {
                    text.push_str(&save::settings(Some(&view.timeouts()), &view.daemons()));
                }
                Ok(text)
            }
            Ipvs::Restore { file } => {
                let said = client::ipvs_restore(socket, read(file)?).await?;
                Ok(format!("{said}\n"))
            }
        }
    }
}

impl Show {
    async fn table(&self, socket: &Path, columns: Columns) -> Result<String, String> {
        let mut view = client::ipvs(socket).await?;
        if let Some(wanted) = &self.virtual_server {
            view.only(wanted)?;
        }
        if self.json {
            return pretty(&view);
        }
        let dump = view.dump()?;
        let protocol = |key: &ipvs::ServiceKey| match key {
            ipvs::ServiceKey::Address { protocol, .. } => *protocol,
            ipvs::ServiceKey::FirewallMark { .. } => ipvs::Protocol::Tcp,
        };
        let services = dump.table.keys().filter_map(|key| match key {
            ipvs::ServiceKey::Address { protocol, address } => Some((*protocol, *address)),
            ipvs::ServiceKey::FirewallMark { .. } => None,
        });
        let servers = dump.destinations.keys();
        let servers = servers.map(|(key, server)| (protocol(key), server.0));
        let names = self.names.of(services.chain(servers));
        // ipvsadm leaves the first line out where one service alone is shown.
        let info = self.virtual_server.is_none().then(|| view.info());
        let look = Look {
            columns,
            exact: self.exact,
            unsorted: self.nosort,
        };
        Ok(tables::table(&dump, info.as_ref(), look, &names))
    }
}

impl ByName {
    fn of(self, addresses: impl Iterator<Item = (ipvs::Protocol, std::net::SocketAddr)>) -> Names {
        if self.resolve {
            Names::resolve(addresses)
        } else {
            Names::default()
        }
    }
}

/// Whether a connection came to one of these services. One that came by a mark, or to a service for
/// every port, is known by its real server.
fn belongs(connection: &ConnectionView, view: &View) -> bool {
    view.services.iter().any(|service| {
        let address = connection.virtual_address.to_string();
        if service.protocol == connection.protocol && service.address == address {
            return true;
        }
        let every_port = service.address.strip_suffix(":0").is_some_and(|host| {
            service.protocol == connection.protocol
                && address.rsplit_once(':').is_some_and(|(of, _)| of == host)
        });
        let by_mark = service.protocol == "fwmark";
        let real = connection.real_server.ip();
        every_port
            || (by_mark
                && service
                    .real_servers
                    .iter()
                    .any(|server| server.address.ip() == real))
    })
}

fn pretty(value: &impl Serialize) -> Result<String, String> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    text.push('\n');
    Ok(text)
}

fn read(file: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(failed);
    }
    std::fs::read_to_string(file).map_err(failed)
}
