//! One daemon in each network namespace.
//!
//! Two would take away each other's addresses: what has vipd's mark and is not wanted goes. The lock is
//! a listening socket in the abstract namespace of unix(7), which each network namespace has for itself
//! and which goes with the process, so nothing of it is ever left behind.
//!
//! There are two locks. The daemon's is refused at once. The guard's is waited for: a guard, or `vipd
//! release`, that still takes away what a dead daemon held must be done before the next one begins.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tracing::warn;

const DAEMON: &str = "vipd";
const GUARD: &str = "vipd.guard";
/// How long what takes away leftovers may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever asks which process has a lock waits in a list that nobody takes in.
const BACKLOG: i32 = 128;
const PAUSE: Duration = Duration::from_millis(5);

/// A lock that is held; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Lock {
    listener: Option<UnixListener>,
}

impl Lock {
    /// The daemon's, as the daemon before has it; `None`: it goes on without. A client is told of this
    /// process from here on.
    pub(crate) fn inherited(listener: Option<UnixListener>) -> Lock {
        if let Some(listener) = &listener {
            let _ = rustix::net::listen(listener, BACKLOG);
        }
        Lock { listener }
    }

    /// For whoever goes on with it.
    pub(crate) fn pass_on(&self) -> io::Result<Option<OwnedFd>> {
        let listener = self.listener.as_ref();
        listener.map(|it| Ok(it.try_clone()?.into())).transpose()
    }

    /// The daemon's. It returns when no guard of a dead one is at work any more.
    ///
    /// # Errors
    ///
    /// Another daemon runs in this network namespace, or leftovers are still being taken away.
    pub(crate) fn daemon() -> Result<Lock, String> {
        let lock = match take(DAEMON) {
            Ok(listener) => Lock {
                listener: Some(listener),
            },
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Lock::contested()?,
            Err(error) => return Err(format!("the lock of this network namespace: {error}")),
        };
        drop(Lock::guard()?);
        Ok(lock)
    }

    /// Another process has the name. Anybody may take it: who is neither root nor our user is no vipd.
    fn contested() -> Result<Lock, String> {
        let Ok((pid, user)) = holder(DAEMON) else {
            return Err("another vipd runs in this network namespace".to_owned());
        };
        if user == 0 || user == geteuid().as_raw() {
            return Err(format!(
                "another vipd (process {pid}) runs in this network namespace: stop it first, or run \
                 this one in another namespace (vipd@.service)"
            ));
        }
        warn!(
            "process {pid} of user {user}, who is no vipd, has the lock of this network namespace; \
             goes on without it"
        );
        Ok(Lock { listener: None })
    }

    /// That of what takes away leftovers, if it is free at this moment.
    pub(crate) fn guard_if_free() -> Option<Lock> {
        let listener = Some(take(GUARD).ok()?);
        Some(Lock { listener })
    }

    /// That of what takes away leftovers; waits for another one's end.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub(crate) fn guard() -> Result<Lock, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            match take(GUARD) {
                Ok(listener) => {
                    return Ok(Lock {
                        listener: Some(listener),
                    });
                }
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    return Err(format!("the lock of the guard: {error}"));
                }
                Err(_) if Instant::now() < until => sleep(PAUSE),
                Err(_) => {
                    let by = holder(GUARD);
                    let by =
                        by.map_or_else(|_| String::new(), |(pid, _)| format!(" (process {pid})"));
                    return Err(format!(
                        "the guard of a daemon{by} is still at work after {PATIENCE:?}"
                    ));
                }
            }
        }
    }
}

/// The daemon that runs in this network namespace, in words.
pub(crate) fn running() -> Option<String> {
    match holder(DAEMON) {
        Ok((pid, user)) if user == 0 || user == geteuid().as_raw() => Some(format!(
            "process {pid} has the lock of this network namespace"
        )),
        // Many have asked.
        Err(rustix::io::Errno::AGAIN) => {
            Some("the lock of this network namespace is held".to_owned())
        }
        Ok(_) | Err(_) => None,
    }
}

fn take(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Process and user of who has the name.
fn holder(name: &str) -> rustix::io::Result<(i32, u32)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

    // Without waiting: a list of callers that nobody takes in may be full.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    connect(&socket, &address)?;
    let credentials = rustix::net::sockopt::socket_peercred(&socket)?;
    Ok((credentials.pid.as_raw_pid(), credentials.uid.as_raw()))
}
