//! How reports leave the advert path: a queue without locks and an eventfd, so that it never waits
//! for whoever reads them, not even for the lock of a runtime's queue.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};

use rustix::event::{EventfdFlags, eventfd};

use super::Report;

/// The advert path's end.
pub(super) struct Outbox {
    queue: mpsc::Sender<Report>,
    wake: Arc<OwnedFd>,
}

impl Outbox {
    /// Starts the thread that hands every report to `deliver`; it ends with the outbox.
    pub(super) fn start(deliver: impl Fn(Report) + Send + 'static) -> io::Result<Outbox> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (queue, reports) = mpsc::channel();
        let reader = Arc::clone(&wake);
        std::thread::Builder::new()
            .name("vrrp-reports".to_owned())
            .spawn(move || {
                loop {
                    // Nobody waits in the queue itself: its sender would have to take a lock then.
                    let mut count = [0; 8];
                    let _ = rustix::io::read(&*reader, &mut count);
                    loop {
                        match reports.try_recv() {
                            Ok(report) => deliver(report),
                            Err(TryRecvError::Empty) => break,
                            Err(TryRecvError::Disconnected) => return,
                        }
                    }
                }
            })?;
        Ok(Outbox { queue, wake })
    }

    /// Sends a report; never waits.
    pub(super) fn send(&self, report: Report) {
        let _ = self.queue.send(report);
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // The queue must be closed when the reader looks: this end is replaced before it is woken.
        let (closed, _) = mpsc::channel();
        drop(std::mem::replace(&mut self.queue, closed));
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}
