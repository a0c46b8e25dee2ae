//! TCP sockets for connections that are broken off as soon as they are there, used again and again.
//!
//! A socket made for each of thousands of checks, made known to the runtime and forgotten again costs the kernel
//! a third of the whole check. `connect` with `AF_UNSPEC` ends a connection with a RST and leaves the
//! socket as new (Linux, `tcp_disconnect`). A socket that has been so disconnected looks hung up to
//! epoll until it connects again, which tokio takes for its end; so these have an epoll of their own, of
//! which tokio sees one descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::failure::Failure;

/// Events taken from the kernel at once.
const EVENTS: usize = 128;
/// More than so many unused ones are closed: checks that begin together need them, and after a time of timeouts
/// most are idle.
const IDLE: usize = 256;

/// Sockets, and who waits for which.
#[derive(Debug)]
pub(crate) struct Sockets {
    epoll: Arc<OwnedFd>,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    /// By the number that the kernel's events carry.
    waiting: Vec<Waiting>,
    /// Numbers that are free.
    free: Vec<usize>,
    idle: Vec<(usize, Domain, Socket)>,
}

/// What is known of one socket that connects.
#[derive(Debug, Default)]
struct Waiting {
    ready: bool,
    waker: Option<Waker>,
}

/// A socket in use. It is closed unless it is given back.
struct Lease<'a> {
    sockets: &'a Sockets,
    number: usize,
    domain: Domain,
    socket: Option<Socket>,
}

impl Sockets {
    /// None are open yet. Nothing connects unless [`Sockets::serve`] runs.
    pub(crate) fn new() -> io::Result<Sockets> {
        Ok(Sockets {
            epoll: Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?),
            slots: Mutex::default(),
        })
    }

    /// Wakes whoever waits for a socket that is ready. Ends with an error only.
    pub(crate) async fn serve(&self) -> io::Result<()> {
        #[allow(
            deprecated,
            reason = "its successor is `unsafe`; an epoll stays what it is until it is dropped"
        )]
        let epoll = AsyncFd::with_interest(self.epoll.clone(), Interest::READABLE)?;
        loop {
            let mut guard = epoll.readable().await?;
            while self.wake()? == EVENTS {}
            guard.clear_ready();
        }
    }

    /// Connects to `target` and breaks off.
    pub(crate) async fn touch(&self, target: SocketAddr) -> Result<(), Failure> {
        let error = |error: io::Error| Failure::from(&error);
        let mut lease = self.lease(target).map_err(error)?;
        let Some(socket) = &lease.socket else {
            return Ok(());
        };
        // The RST takes the place of the handshake's last packet: `probe::socket`.
        socket.set_tcp_quickack(false).map_err(error)?;
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(cause) if cause.raw_os_error() == Some(libc::EINPROGRESS) => {
                lease.ready().await;
                if let Some(cause) = socket.take_error().map_err(error)? {
                    return Err(error(cause));
                }
            }
            Err(cause) => return Err(error(cause)),
        }
        // It has connected to itself: `probe::socket`.
        if socket.local_addr().map_err(error)?.as_socket() == Some(target) {
            return Err(Failure::Refused);
        }
        // Whatever is wrong with that matters for the next use only.
        let as_new = rustix::net::connect_unspec(socket).is_ok() && socket.take_error().is_ok();
        if as_new {
            lease.give_back();
        }
        Ok(())
    }

    fn lease(&self, target: SocketAddr) -> io::Result<Lease<'_>> {
        let domain = Domain::for_address(target);
        let mut slots = self.slots();
        let fits = |(_, of, _): &(usize, Domain, Socket)| *of == domain;
        let (number, socket) = if let Some(position) = slots.idle.iter().rposition(fits) {
            let (number, _, socket) = slots.idle.swap_remove(position);
            (number, socket)
        } else {
            let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            socket.set_linger(Some(Duration::ZERO))?;
            let number = slots.free.pop().unwrap_or(slots.waiting.len());
            if number == slots.waiting.len() {
                slots.waiting.push(Waiting::default());
            }
            let data = epoll::EventData::new_u64(u64::try_from(number).unwrap_or(u64::MAX));
            let flags = epoll::EventFlags::OUT | epoll::EventFlags::ET;
            if let Err(errno) = epoll::add(&*self.epoll, &socket, data, flags) {
                slots.free.push(number);
                return Err(errno.into());
            }
            (number, socket)
        };
        // What the kernel said of its last connection is over.
        if let Some(waiting) = slots.waiting.get_mut(number) {
            *waiting = Waiting::default();
        }
        Ok(Lease {
            sockets: self,
            number,
            domain,
            socket: Some(socket),
        })
    }

    /// Wakes those of whom the kernel has something to say. Returns how many they were.
    fn wake(&self) -> io::Result<usize> {
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        let at_once = Timespec::default();
        let (events, _room) = epoll::wait(&*self.epoll, &mut room, Some(&at_once))?;
        let mut slots = self.slots();
        for event in &*events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            if let Some(waiting) = slots.waiting.get_mut(number) {
                waiting.ready = true;
                if let Some(waker) = waiting.waker.take() {
                    waker.wake();
                }
            }
        }
        Ok(events.len())
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Each step under the lock leaves it whole.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// Waits until the kernel says something of the socket.
    async fn ready(&self) {
        std::future::poll_fn(|context| {
            let mut slots = self.sockets.slots();
            let Some(waiting) = slots.waiting.get_mut(self.number) else {
                return Poll::Ready(());
            };
            if waiting.ready {
                return Poll::Ready(());
            }
            waiting.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn give_back(&mut self) {
        let mut slots = self.sockets.slots();
        if slots.idle.len() < IDLE
            && let Some(socket) = self.socket.take()
        {
            slots.idle.push((self.number, self.domain, socket));
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Closed before its number is another's.
        if let Some(socket) = self.socket.take() {
            drop(socket);
            self.sockets.slots().free.push(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn serving() -> Arc<Sockets> {
        let sockets = Arc::new(Sockets::new().unwrap());
        let served = sockets.clone();
        tokio::spawn(async move { served.serve().await });
        sockets
    }

    async fn listening(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    impl Sockets {
        /// How many are open, and how many of them are idle.
        fn count(&self) -> (usize, usize) {
            let slots = self.slots();
            (slots.waiting.len() - slots.free.len(), slots.idle.len())
        }
    }

    #[tokio::test]
    async fn one_socket_serves_one_check_after_the_other_whatever_became_of_the_last() {
        let sockets = serving();
        let (listener, up) = listening("127.0.0.1").await;
        let (gone, down) = listening("127.0.0.2").await;
        drop(gone);
        for _ in 0..200 {
            assert_eq!(sockets.touch(up).await, Ok(()));
            assert_eq!(sockets.count(), (1, 1));
        }
        assert_eq!(sockets.touch(down).await, Err(Failure::Refused));
        assert_eq!(sockets.count(), (0, 0));
        assert_eq!(sockets.touch(up).await, Ok(()));
        drop(listener);
        assert_eq!(sockets.touch(up).await, Err(Failure::Refused));
    }

    #[tokio::test]
    async fn many_at_once_have_a_socket_each_and_both_families_their_own() {
        let sockets = serving();
        let (_four, four) = listening("127.0.0.1").await;
        let (_six, six) = listening("::1").await;
        for _ in 0..5 {
            let mut touches = tokio::task::JoinSet::new();
            for target in [four, six].repeat(40) {
                let sockets = sockets.clone();
                touches.spawn(async move { sockets.touch(target).await });
            }
            while let Some(touched) = touches.join_next().await {
                assert_eq!(touched.unwrap(), Ok(()));
            }
        }
        let (open, idle) = sockets.count();
        assert_eq!(open, idle);
        assert!((2..=80).contains(&open), "{open}");
    }

    #[tokio::test]
    async fn one_that_is_given_up_is_closed_and_disturbs_nobody() {
        let sockets = serving();
        let (_listener, up) = listening("127.0.0.1").await;
        for _ in 0..100 {
            tokio::select! {
                biased;
                touched = sockets.touch(up) => panic!("at once: {touched:?}"),
                () = std::future::ready(()) => {}
            }
            assert_eq!(sockets.count(), (0, 0));
        }
        assert_eq!(sockets.touch(up).await, Ok(()));
        assert_eq!(sockets.count(), (1, 1));
    }
}
