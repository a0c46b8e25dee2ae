//! What systemd is told, where it runs this process.

use std::env::var_os;
use std::ffi::OsStr;
use std::io::{self, IoSlice, pipe};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;
use tracing::warn;

/// Where it is told (sd_notify(3)).
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long systemd may take to have read everything.
const READ: Duration = Duration::from_secs(2);

/// This process is well.
pub(crate) fn watchdog() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}

/// Another process is the service from here on. Returns when systemd has understood: it takes words of
/// the main process only, and only while there is one.
pub(crate) async fn main_process_is(pid: u32) {
    let Some(socket) = var_os(SOCKET) else {
        return;
    };
    let _ = sd_notify::notify(&[NotifyState::MainPid(pid), NotifyState::Watchdog]);
    let read = tokio::task::spawn_blocking(move || barrier(&socket)).await;
    if let Ok(Err(error)) = read {
        warn!("whether systemd knows the new main process: {error}");
    }
}

/// Until systemd has read what it was told (sd_notify_barrier(3)): it closes the file that comes with
/// this word.
fn barrier(socket: &OsStr) -> io::Result<()> {
    let to = UnixDatagram::unbound()?;
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => to.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => to.connect(socket)?,
    }
    let (read, write) = pipe()?;
    {
        let files = [write.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        let word = [IoSlice::new(b"BARRIER=1")];
        sendmsg(&to, &word, &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    drop(write);
    let timeout = Timespec {
        tv_sec: READ.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let ready = poll(
        &mut [PollFd::new(&read, PollFlags::empty())],
        Some(&timeout),
    )?;
    if ready == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}
