//! The sockets the daemon listens on: the control socket, and TCP for metrics if configured.

mod http;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::config::Global;
use crate::control::server::{self, Api};

/// Root and the socket's group may use the control socket.
const SOCKET_MODE: u32 = 0o660;
/// That group.
const GROUP: &str = "vipd";
const GROUPS: &str = "/etc/group";

/// What is listened on now.
#[derive(Debug)]
pub struct Listeners {
    api: Api,
    control: (PathBuf, JoinHandle<()>),
    http: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Listeners {
    /// Opens both.
    ///
    /// # Errors
    ///
    /// Names the socket and the reason: another daemon runs, the port is taken, no permission.
    pub async fn open(global: &Global, api: Api) -> Result<Listeners, String> {
        let http = match global.http {
            Some(address) => Some((address, bind_http(address).await?)),
            None => None,
        };
        let control = bind_control(&global.control_socket).await?;
        Ok(Listeners {
            control: (global.control_socket.clone(), serve_control(control, &api)),
            http: http.map(|(address, listener)| (address, serve_http(listener, &api))),
            api,
        })
    }

    /// Moves to the sockets of a new configuration. If one of them cannot be had, nothing changes.
    ///
    /// # Errors
    ///
    /// As [`Listeners::open`].
    pub async fn rebind(&mut self, global: &Global) -> Result<(), String> {
        let http_changed = self.http.as_ref().map(|(address, _)| *address) != global.http;
        let http = match global.http.filter(|_| http_changed) {
            Some(address) => Some((address, self.bind_other_http(address).await?)),
            None => None,
        };
        if self.control.0 != global.control_socket {
            let listener = bind_control(&global.control_socket).await?;
            let control = (
                global.control_socket.clone(),
                serve_control(listener, &self.api),
            );
            let (old, task) = std::mem::replace(&mut self.control, control);
            task.abort();
            remove(&old);
        }
        if http_changed {
            let http = http.map(|(address, listener)| (address, serve_http(listener, &self.api)));
            if let Some((_, task)) = std::mem::replace(&mut self.http, http) {
                task.abort();
            }
        }
        Ok(())
    }

    /// Opens another TCP listener. Where the one that is open has the same port (on another address
    /// of ours), it is in the way, and is put back if the new one cannot be had.
    async fn bind_other_http(&mut self, address: SocketAddr) -> Result<TcpListener, String> {
        let Some((old, task)) = self.http.take_if(|(old, _)| old.port() == address.port()) else {
            return bind_http(address).await;
        };
        task.abort();
        let _ = task.await;
        let bound = bind_http(address).await;
        if bound.is_err() {
            let listener = bind_http(old).await?;
            self.http = Some((old, serve_http(listener, &self.api)));
        }
        bound
    }

    /// Stops listening and removes the control socket.
    pub fn close(&self) {
        self.control.1.abort();
        if let Some((_, task)) = &self.http {
            task.abort();
        }
        remove(&self.control.0);
    }
}

async fn bind_http(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::AddrInUse {
            "another program has this port; change global.http"
        } else if error.kind() == io::ErrorKind::AddrNotAvailable {
            "this host does not have that address"
        } else {
            "change global.http"
        };
        format!("cannot listen on http://{address}: {error} ({hint})")
    })
}

async fn bind_control(path: &Path) -> Result<UnixListener, String> {
    let failed = |error: io::Error| format!("control socket {}: {error}", path.display());
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let path = path.display();
            return Err(format!(
                "control socket {path}: that is no socket; it is left alone"
            ));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => {
                let path = path.display();
                return Err(format!(
                    "control socket {path}: another vipd is running there"
                ));
            }
            // A socket that nobody answers is what a killed daemon left.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => remove(path),
            Err(error) => return Err(failed(error)),
        },
        Err(_) => {}
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    give_to_group(path);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    Ok(listener)
}

/// Members of the group may use the socket; where there is no such group, only root may.
fn give_to_group(path: &Path) {
    let done = group().and_then(|group| match group {
        // A daemon that runs with that group makes files of it, and may not give any away.
        Some(id) if std::fs::metadata(path)?.gid() == id => Ok(()),
        Some(id) => chown(path, None, Some(id)),
        None => Err(io::Error::other("there is no such group")),
    });
    let path = path.display();
    match done {
        Ok(()) => info!("control socket {path}: for root and the group {GROUP}"),
        Err(error) => info!("control socket {path}: for root only, not for {GROUP}: {error}"),
    }
}

/// The number of the group; group(5): `name:password:GID:members`.
fn group() -> io::Result<Option<u32>> {
    let entries = std::fs::read(GROUPS)?;
    let entries = String::from_utf8_lossy(&entries);
    Ok(entries.lines().find_map(|entry| {
        let mut fields = entry.split(':');
        (fields.next()? == GROUP).then(|| fields.nth(1)?.parse().ok())?
    }))
}

fn serve_control(listener: UnixListener, api: &Api) -> JoinHandle<()> {
    let routes = server::control(api.clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            error!(%error, "the control socket is closed");
        }
    })
}

fn serve_http(listener: TcpListener, api: &Api) -> JoinHandle<()> {
    if let Ok(address) = listener.local_addr() {
        info!("metrics and read-only status on http://{address}");
    }
    let routes = server::public(api.clone());
    tokio::spawn(http::serve(listener, routes))
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        error!(path = %path.display(), %error, "the control socket could not be removed");
    }
}
