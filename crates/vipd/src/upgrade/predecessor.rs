//! The daemon whose place this process takes, as this one sees it.

use std::fs::File;
use std::io::{self, stdin};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as Pair};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::{FromNew, FromOld, Greeting, Hello, PROTOCOL, State, wire};
use crate::instance::Lock;

/// What came before any word: what is open there.
pub struct Predecessor {
    stream: Pair,
    hello: Hello,
    log: OwnedFd,
    adverts: OwnedFd,
    control: OwnedFd,
    http: Option<OwnedFd>,
    lock: Option<OwnedFd>,
}

/// What came of it, once it is taken apart.
pub(crate) struct Taken {
    pub(crate) stream: Pair,
    pub(crate) log: OwnedFd,
    pub(crate) adverts: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) http: Option<OwnedFd>,
    pub(crate) lock: Lock,
}

impl Predecessor {
    /// Hears what the running daemon says at the other end of the standard input.
    ///
    /// # Errors
    ///
    /// Nobody is there, or they speak otherwise; in words, also told there.
    pub fn open() -> Result<Predecessor, String> {
        let no_daemon = |error: io::Error| {
            format!("--take-over is for `vipctl upgrade`, which no daemon has begun here: {error}")
        };
        let stream = stdin().as_fd().try_clone_to_owned().map_err(no_daemon)?;
        let stream = Pair::from(stream);
        let files = wire::receive_files(&stream).map_err(no_daemon)?;
        // Nothing that is started later has it as its standard input.
        let null = File::open("/dev/null").map_err(no_daemon)?;
        rustix::stdio::dup2_stdin(&null).map_err(|error| no_daemon(error.into()))?;
        let (has_lock, has_http) = wire::hear_blocking(&stream).map_err(no_daemon)?;
        let mut files = files.into_iter();
        let missing = || no_daemon(io::Error::other("a file is missing"));
        let mut next = || files.next().ok_or_else(missing);
        let (log, adverts, control) = (next()?, next()?, next()?);
        let lock = if has_lock { Some(next()?) } else { None };
        let http = if has_http { Some(next()?) } else { None };
        let greeting: Greeting = wire::hear_blocking(&stream).map_err(no_daemon)?;
        if greeting.protocol != PROTOCOL {
            let why = format!(
                "vipd {} cannot hand over to vipd {}, which understands other words (protocol {} and \
                 {PROTOCOL}): restart it instead",
                greeting.version,
                env!("CARGO_PKG_VERSION"),
                greeting.protocol
            );
            fail(&stream, &why);
            return Err(why);
        }
        match wire::hear_blocking(&stream).map_err(no_daemon)? {
            FromOld::Hello(hello) => Ok(Predecessor {
                stream,
                hello,
                log,
                adverts,
                control,
                http,
                lock,
            }),
            FromOld::State(_) | FromOld::Go => Err(missing()),
        }
    }

    /// What is in force there.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Where its log goes.
    #[must_use]
    pub fn log(&self) -> BorrowedFd<'_> {
        self.log.as_fd()
    }

    /// A way to say why it does not come about, whatever becomes of the rest.
    pub(crate) fn complaints(&self) -> io::Result<Pair> {
        self.stream.try_clone()
    }

    pub(crate) fn take(self) -> Taken {
        Taken {
            stream: self.stream,
            log: self.log,
            adverts: self.adverts,
            control: self.control,
            http: self.http,
            lock: Lock::inherited(self.lock.map(UnixListener::from)),
        }
    }
}

/// Says why it does not come about.
pub(crate) fn fail(to: &Pair, why: &str) {
    // In a moment it is read, or nobody is there.
    let _ = to.set_nonblocking(false);
    let _ = wire::say_blocking(to, &FromNew::Failed(why.to_owned()));
}

/// The talk with the running daemon.
pub(crate) struct Talk {
    stream: UnixStream,
    log: OwnedFd,
    /// The advert path has taken over.
    taken: Arc<AtomicBool>,
}

impl Talk {
    pub(crate) fn new(stream: Pair, log: OwnedFd, taken: Arc<AtomicBool>) -> io::Result<Talk> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Talk { stream, log, taken })
    }

    /// Says that all is well so far; returns what the director there knows.
    pub(crate) async fn prepared(&mut self) -> Result<State, String> {
        let gone = |error: io::Error| format!("the running daemon has given up: {error}");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let prepared = FromNew::Prepared { version };
        wire::say(&mut self.stream, &prepared).await.map_err(gone)?;
        match wire::hear(&mut self.stream).await.map_err(gone)? {
            FromOld::State(state) => Ok(*state),
            FromOld::Hello(_) | FromOld::Go => Err("not the state".to_owned()),
        }
    }

    /// Says why this process cannot take over.
    pub(crate) async fn refuse(&mut self, why: &str) {
        let _ = wire::say(&mut self.stream, &FromNew::Failed(why.to_owned())).await;
    }

    /// Says that nothing is missing; returns when this process is the director.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        let said = wire::say(&mut self.stream, &FromNew::Ready).await;
        let heard = match said {
            Ok(()) => wire::hear(&mut self.stream).await,
            Err(error) => Err(error),
        };
        // The old one may have died in the moment after.
        if !matches!(heard, Ok(FromOld::Go)) && !self.taken.load(Ordering::Acquire) {
            return Err("the running daemon has given up the upgrade".to_owned());
        }
        // What this process said went there until here.
        let _ = rustix::stdio::dup2_stderr(&self.log);
        Ok(())
    }

    /// Says that there is a guard, and sets `left` when the old daemon is gone.
    pub(crate) async fn finish(
        mut self,
        mut guarded: watch::Receiver<bool>,
        left: watch::Sender<bool>,
    ) {
        let mut rest = Vec::new();
        let guarded = async { guarded.wait_for(|guarded| *guarded).await.is_ok() };
        let is_guarded = tokio::select! {
            is_guarded = guarded => is_guarded,
            _ = self.stream.read_to_end(&mut rest) => false,
        };
        if is_guarded {
            let _ = wire::say(&mut self.stream, &FromNew::Guarded).await;
            let _ = self.stream.read_to_end(&mut rest).await;
        }
        left.send_replace(true);
        // Who waits for it may still have to look.
        left.closed().await;
    }
}
