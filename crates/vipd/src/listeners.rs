//! The sockets the daemon listens on: the control socket, and TCP for metrics if configured.

mod http;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
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
    control: (PathBuf, Served),
    http: Option<(SocketAddr, Served)>,
}

/// A listener and who serves it.
#[derive(Debug)]
struct Served {
    task: JoinHandle<()>,
    /// For the daemon that goes on with it.
    socket: io::Result<OwnedFd>,
    /// Ends it when what is asked now is answered.
    finish: watch::Sender<bool>,
}

/// How long what is being answered may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

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
            control: (
                global.control_socket.clone(),
                serve_control(control, &api, at_once()),
            ),
            http: http.map(|(address, listener)| (address, serve_http(listener, &api, at_once()))),
            api,
        })
    }

    /// Goes on with the sockets of the daemon before: nobody who connects is refused. Nobody is answered
    /// until `begin` is true.
    ///
    /// # Errors
    ///
    /// The kernel's; an address for HTTP that no socket came for is opened as at a start.
    pub async fn inherit(
        global: &Global,
        control: OwnedFd,
        http: Option<OwnedFd>,
        api: Api,
        begin: &watch::Receiver<bool>,
    ) -> Result<Listeners, String> {
        let failed = |error: io::Error| format!("the sockets of the daemon before: {error}");
        let control = std::os::unix::net::UnixListener::from(control);
        control.set_nonblocking(true).map_err(failed)?;
        let control = UnixListener::from_std(control).map_err(failed)?;
        let http = match (global.http, http) {
            (Some(address), Some(socket)) => {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                Some((address, TcpListener::from_std(listener).map_err(failed)?))
            }
            (Some(address), None) => Some((address, bind_http(address).await?)),
            (None, _) => None,
        };
        let path = global.control_socket.clone();
        Ok(Listeners {
            control: (path, serve_control(control, &api, begin.clone())),
            http: http.map(|(address, it)| (address, serve_http(it, &api, begin.clone()))),
            api,
        })
    }

    /// The sockets, for the daemon that goes on with them: control, and HTTP if there is one.
    ///
    /// # Errors
    ///
    /// Out of file descriptors.
    pub fn pass_on(&self) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        let copy = |served: &Served| match &served.socket {
            Ok(socket) => socket.try_clone(),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let http = self.http.as_ref().map(|(_, served)| copy(served));
        Ok((copy(&self.control.1)?, http.transpose()?))
    }

    /// Takes nobody in any more; another daemon does. Ends when those are answered who wait for an answer.
    pub async fn leave(&mut self) {
        let served = std::iter::once(&mut self.control.1);
        let served = served.chain(self.http.as_mut().map(|(_, served)| served));
        let served: Vec<&mut Served> = served.collect();
        for one in &served {
            one.finish.send_replace(true);
        }
        let last = tokio::time::Instant::now() + LAST_ANSWERS;
        for one in served {
            let _slow = tokio::time::timeout_at(last, &mut one.task).await;
        }
    }

    /// Takes nobody in any more, without waiting for anybody.
    pub fn refuse_new(&self) {
        let http = self.http.as_ref().map(|(_, served)| served);
        for served in std::iter::once(&self.control.1).chain(http) {
            served.finish.send_replace(true);
        }
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
                serve_control(listener, &self.api, at_once()),
            );
            let (old, served) = std::mem::replace(&mut self.control, control);
            served.task.abort();
            remove(&old);
        }
        if http_changed {
            let http = http
                .map(|(address, listener)| (address, serve_http(listener, &self.api, at_once())));
            if let Some((_, served)) = std::mem::replace(&mut self.http, http) {
                served.task.abort();
            }
        }
        Ok(())
    }

    /// Opens another TCP listener. Where the one that is open has the same port (on another address
    /// of ours), it is in the way, and is put back if the new one cannot be had.
    async fn bind_other_http(&mut self, address: SocketAddr) -> Result<TcpListener, String> {
        let Some((old, served)) = self.http.take_if(|(old, _)| old.port() == address.port()) else {
            return bind_http(address).await;
        };
        let Served { task, socket, .. } = served;
        drop(socket);
        task.abort();
        let _ = task.await;
        let bound = bind_http(address).await;
        if bound.is_err() {
            let listener = bind_http(old).await?;
            self.http = Some((old, serve_http(listener, &self.api, at_once())));
        }
        bound
    }

    /// Stops listening and removes the control socket.
    pub fn close(&self) {
        self.control.1.task.abort();
        if let Some((_, served)) = &self.http {
            served.task.abort();
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

/// Nothing is waited for.
fn at_once() -> watch::Receiver<bool> {
    watch::Sender::new(true).subscribe()
}

fn serve_control(listener: UnixListener, api: &Api, begin: watch::Receiver<bool>) -> Served {
    let routes = server::control(api.clone());
    let socket = listener.as_fd().try_clone_to_owned();
    let (finish, finishing) = watch::channel(false);
    let task = tokio::spawn(async move {
        wait_for(begin).await;
        let serving = axum::serve(listener, routes).with_graceful_shutdown(wait_for(finishing));
        if let Err(error) = serving.await {
            error!(%error, "the control socket is closed");
        }
    });
    Served {
        task,
        socket,
        finish,
    }
}

fn serve_http(listener: TcpListener, api: &Api, begin: watch::Receiver<bool>) -> Served {
    if let Ok(address) = listener.local_addr() {
        info!("metrics and read-only status on http://{address}");
    }
    let routes = server::public(api.clone());
    let socket = listener.as_fd().try_clone_to_owned();
    let (finish, finishing) = watch::channel(false);
    let task = tokio::spawn(async move {
        wait_for(begin).await;
        http::serve(listener, routes, finishing).await;
    });
    Served {
        task,
        socket,
        finish,
    }
}

/// Until it is true; without anybody who could say so, for ever.
async fn wait_for(mut word: watch::Receiver<bool>) {
    if word.wait_for(|said| *said).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        error!(path = %path.display(), %error, "the control socket could not be removed");
    }
}
