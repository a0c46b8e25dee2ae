//! The crash guard: a small process beside the daemon that does at once what a dead daemon cannot do
//! any more. It tells the peers with priority 0 and takes the virtual addresses, virtual MACs, routes
//! and rules away, then lets `vipd release` see to the rest. IPVS stays, and connections with it.
//!
//! The guard is this program, run as `vipd guard`. It holds one end of a pair of sockets; the daemon
//! writes its will there after each change of what it holds, and the end of that stream without a
//! farewell is the daemon's end, whatever the reason. Nothing waits for the guard: here is the task
//! that feeds it, starts another one if it dies, and dismisses it on a graceful stop.
//!
//! That the daemon hangs the guard learns from the [`Pulse`], an eventfd that the advert path writes to.

pub mod watcher;
mod will;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::privileges;

use will::Written;
pub(crate) use will::{Address, Farewell, Will};

/// How long the guard may take to read what it is told, or to end.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long after one that died, or could not be started, the next one is: at once the first time.
const PAUSE: Duration = Duration::from_secs(1);
/// The number of the daemon's end, at least. When a process dies, the kernel closes what has the highest
/// number first, and a packet socket takes it milliseconds (measured: four of them 32 ms).
const LAST: i32 = 1000;
/// How often the advert path says that it turns, at most.
const BEAT: Duration = Duration::from_millis(200);

/// What is said of the guard.
#[derive(Debug)]
pub enum Report {
    /// It has died, or cannot be started; the next one is on its way.
    Lost(String),
    /// There is one again.
    Found,
    /// The daemon had hung, and it has taken everything away.
    Acted,
}

/// What the advert path proves by that it turns. Never waits, and costs a system call every
/// fifth of a second.
#[derive(Debug)]
pub struct Pulse {
    counter: OwnedFd,
    beaten: Option<Instant>,
}

impl Pulse {
    /// One, and the end at which it is felt.
    ///
    /// # Errors
    ///
    /// No eventfd.
    pub fn new() -> io::Result<(Pulse, OwnedFd)> {
        let counter = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let felt = counter.try_clone()?;
        let beaten = None;
        Ok((Pulse { counter, beaten }, felt))
    }

    /// Says that the thread turns.
    pub(crate) fn beat(&mut self) {
        let now = Instant::now();
        let due = |at| now.saturating_duration_since(at) >= BEAT;
        if self.beaten.is_none_or(due) {
            self.beaten = Some(now);
            // Without a guard nobody empties it; full, it says no less.
            let _ = rustix::io::write(&self.counter, &1_u64.to_ne_bytes());
        }
    }
}

/// What the guard is to be told.
#[derive(Debug, Clone, PartialEq)]
enum Order {
    /// A will, as it is written.
    Keep(Written),
    Dismissed,
}

/// The way to the guard.
#[derive(Debug)]
pub(crate) struct Guard {
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Starts the guard and what feeds it, when `begin` is true; before, another daemon's guard is there.
    /// What is returned beside it becomes true when the guard knows what is to be done.
    pub(crate) fn start(
        felt: OwnedFd,
        mut begin: watch::Receiver<bool>,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> (Guard, watch::Receiver<bool>) {
        let (orders, told) = watch::channel(Order::Keep(Will::default().to_bytes()));
        let (knows, known) = watch::channel(false);
        let task = tokio::spawn(async move {
            if begin.wait_for(|begun| *begun).await.is_ok() {
                feed(felt, told, knows, report).await;
            }
        });
        (Guard { orders, task }, known)
    }

    /// What is to be done if the daemon dies from now on.
    pub(crate) fn tell(&self, will: &Will) {
        self.orders.send_if_modified(|order| {
            let order_now = Order::Keep(will.to_bytes());
            let other = *order != order_now;
            *order = order_now;
            other
        });
    }

    /// Ends it: everything was given up. Dropped without that, it does its work.
    pub(crate) async fn dismiss(self) {
        self.orders.send_replace(Order::Dismissed);
        let _ = tokio::time::timeout(PATIENCE, self.task).await;
    }
}

/// Why a guard is not fed any more.
enum Over {
    Dismissed,
    Lost(String),
}

async fn feed(
    felt: OwnedFd,
    mut told: watch::Receiver<Order>,
    knows: watch::Sender<bool>,
    report: impl Fn(Report) + Send + Sync + 'static,
) {
    let mut lost = false;
    let mut said: Option<String> = None;
    loop {
        let began = Instant::now();
        let over = match spawn(&felt) {
            Ok((child, stream)) => {
                if std::mem::take(&mut lost) {
                    report(Report::Found);
                }
                serve(child, stream, &mut told, &knows, &report).await
            }
            Err(error) => Over::Lost(format!("it cannot be started: {error}")),
        };
        let why = match over {
            Over::Dismissed => return,
            Over::Lost(why) => why,
        };
        lost = true;
        // One that dies again and again for the same reason is told of once.
        let again = began.elapsed() < PAUSE;
        if !again || said.as_ref() != Some(&why) {
            report(Report::Lost(why.clone()));
        }
        said = Some(why);
        if again {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn spawn(felt: &OwnedFd) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = Pair::pair()?;
    // Where so many files are not allowed, it is only later that its end is seen.
    let ours = fcntl_dupfd_cloexec(&ours, LAST).map_or(ours, Pair::from);
    ours.set_nonblocking(true)?;
    // The program that runs, also after another one has taken its place on the disk.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("vipd")
        .arg(watcher::COMMAND)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(felt.try_clone()?))
        .stderr(Stdio::inherit());
    let child = privileges::lend(|| command.spawn())?;
    Ok((child, UnixStream::from_std(ours)?))
}

async fn serve(
    mut child: Child,
    stream: UnixStream,
    told: &mut watch::Receiver<Order>,
    knows: &watch::Sender<bool>,
    report: &impl Fn(Report),
) -> Over {
    let (mut hears, mut says) = stream.into_split();
    told.mark_changed();
    let mut word = [0];
    let mut talks = true;
    loop {
        tokio::select! {
            status = child.wait() => {
                let why = match status {
                    Ok(status) => format!("it ended: {status}"),
                    Err(error) => error.to_string(),
                };
                return Over::Lost(why);
            }
            heard = hears.read(&mut word), if talks => match heard {
                Ok(1) => report(Report::Acted),
                // Its end follows.
                Ok(_) | Err(_) => talks = false,
            },
            changed = told.changed() => {
                let order = told.borrow_and_update().clone();
                let bytes = match (&order, changed) {
                    (Order::Keep(will), Ok(())) => will.bytes(),
                    (Order::Dismissed, Ok(())) => &will::DISMISSAL,
                    // The director is gone without a word: the guard is to see the same.
                    (_, Err(_)) => return Over::Dismissed,
                };
                let written = tokio::time::timeout(PATIENCE, says.write_all(bytes)).await;
                if !matches!(written, Ok(Ok(()))) {
                    let _ = child.kill().await;
                    return Over::Lost("it does not read what it is told".to_owned());
                }
                if matches!(&order, Order::Keep(will) if *will != Will::default().to_bytes()) {
                    knows.send_replace(true);
                }
                if order == Order::Dismissed {
                    let _ = tokio::time::timeout(PATIENCE, child.wait()).await;
                    return Over::Dismissed;
                }
            }
        }
    }
}
