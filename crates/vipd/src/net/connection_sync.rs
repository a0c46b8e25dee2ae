//! The connections that the peer should know of, beside what the kernel's own daemons tell it.
//!
//! The kernel tells of a connection when enough of its packets have come by, so never of one that is
//! idle, and tells a peer that was away nothing of what it missed. This worker sends the peer's
//! kernel the whole table: when the peer comes up or its backup daemon starts anew, before a
//! handover, every `ipvs.sync.refresh`, and on demand. Sent are the connections of the services whose
//! addresses this director holds, so that two directors, each master of something, do not undo each
//! other's news.
//!
//! Who is there it learns from small datagrams of its own (`hello`), each second one. They are not
//! authenticated, as the kernel's are not: what a stranger can make of them is one transfer after the
//! other, each paced, with a pause between.

mod hello;
mod transfer;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipvs::{Table, sync::Unsendable};
use socket2::InterfaceIndexOrAddress;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::hello::{Hello, Says};
pub use self::transfer::Outcome;
use crate::config::Sync;
use crate::net::links::Links;

/// From one hello to the next.
const HELLO: Duration = Duration::from_secs(1);
/// A peer that is not heard for so long is away, and may have missed something.
const AWAY: Duration = Duration::from_secs(4);
/// A peer that is not heard for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Peers that are remembered; anybody may make up any number.
const PEERS_MAX: usize = 16;
/// The least pause between transfers that nobody ordered.
const PAUSE: Duration = Duration::from_secs(2);
/// Transfers without an occasion take at most this part of the time.
const REFRESH_SHARE: u32 = 10;
/// How long the peer is asked how many connections it holds, and how often.
const ASKING: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// With whom and how; `None`: nothing.
    pub sync: Option<Sync>,
    /// The services whose addresses this director holds.
    pub held: Arc<Table>,
    /// Goes up with each start of the kernel's backup daemon; 0: it does not run.
    pub generation: u32,
}

/// An order to send.
#[derive(Debug)]
pub enum Order {
    /// The whole table.
    Whole(oneshot::Sender<Result<Outcome, String>>),
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The peers that are heard, and whether their kernels take connections in.
    pub peers: BTreeMap<IpAddr, bool>,
    /// What was sent last.
    pub last: Option<Outcome>,
    /// How often the table was sent, and how many connections that were, since the start.
    pub transfers: u64,
    /// See `transfers`.
    pub connections: u64,
    /// Connections that were not sent, by reason, since the start.
    pub skipped: BTreeMap<Unsendable, u64>,
    /// Why nothing is heard or sent.
    pub trouble: Option<String>,
}

/// The way to the worker.
#[derive(Debug)]
pub struct ConnectionSync {
    plan: watch::Sender<Plan>,
    orders: mpsc::UnboundedSender<Order>,
    state: watch::Receiver<State>,
}

impl ConnectionSync {
    /// Starts the worker; it ends when this is dropped.
    #[must_use]
    pub fn start(links: watch::Receiver<Arc<Links>>) -> (ConnectionSync, JoinHandle<()>) {
        let (plan, planned) = watch::channel(Plan::default());
        let (orders, ordered) = mpsc::unbounded_channel();
        let (says, state) = watch::channel(State::default());
        let worker = Worker {
            boot: RandomState::new().build_hasher().finish(),
            links,
            planned,
            plan: Plan::default(),
            ordered,
            says,
            state: State::default(),
            station: None,
            peers: BTreeMap::new(),
            due: false,
            waiting: Vec::new(),
            running: None,
            counting: None,
            asking: None,
            rested: Instant::now(),
            nonce: 0,
        };
        let task = tokio::spawn(worker.run());
        (
            ConnectionSync {
                plan,
                orders,
                state,
            },
            task,
        )
    }

    /// Says what to do from now on.
    pub fn plan(&self, plan: Plan) {
        self.plan.send_if_modified(|known| {
            let changed = *known != plan;
            *known = plan;
            changed
        });
    }

    /// Sends the whole table; the future is ready when the peer has said how many connections it
    /// holds, or does not say.
    ///
    /// # Errors
    ///
    /// Why nothing was sent.
    pub fn send(&self) -> impl Future<Output = Result<Outcome, String>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        let ordered = self.orders.send(Order::Whole(reply));
        async move {
            let gone = || "the connection sync is stopping".to_owned();
            ordered.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        }
    }

    /// How things stand.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }
}

type Reply = oneshot::Sender<Result<Outcome, String>>;

struct Worker {
    boot: u64,
    links: watch::Receiver<Arc<Links>>,
    planned: watch::Receiver<Plan>,
    plan: Plan,
    ordered: mpsc::UnboundedReceiver<Order>,
    says: watch::Sender<State>,
    state: State,
    station: Option<Station>,
    /// By boot id.
    peers: BTreeMap<u64, Peer>,
    /// A transfer that nobody ordered is due.
    due: bool,
    /// Those who ordered the next transfer.
    waiting: Vec<Reply>,
    running: Option<Running>,
    counting: Option<(u32, JoinHandle<io::Result<u32>>)>,
    asking: Option<Asking>,
    /// When the last transfer ended.
    rested: Instant,
    nonce: u32,
}

/// The socket for hellos, on the interface that has this index.
struct Station {
    index: u32,
    socket: UdpSocket,
    group: SocketAddr,
}

struct Peer {
    address: IpAddr,
    generation: u32,
    heard: Instant,
}

struct Running {
    task: JoinHandle<io::Result<Outcome>>,
    replies: Vec<Reply>,
}

struct Asking {
    outcome: Outcome,
    replies: Vec<Reply>,
    again: Instant,
    until: Instant,
}

impl Worker {
    async fn run(mut self) {
        let mut tick = interval(HELLO);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = [0; 2 * hello::LENGTH];
        loop {
            let ask_at = self.asking.as_ref().map(|asking| asking.again);
            tokio::select! {
                changed = self.planned.changed() => match changed {
                    Ok(()) => self.replan(),
                    Err(_) => return,
                },
                order = self.ordered.recv() => match order {
                    Some(Order::Whole(reply)) => self.waiting.push(reply),
                    None => return,
                },
                _ = tick.tick() => self.tick(),
                heard = hear(self.station.as_ref(), &mut buffer) => match heard {
                    Ok((length, from)) => {
                        let datagram = buffer.get(..length).and_then(Hello::decode);
                        if let Some(hello) = datagram {
                            self.take(hello, from.ip());
                        }
                    }
                    // The interface is gone or down: the next tick looks at it.
                    Err(error) => self.lose(&error.to_string()),
                },
                done = end(self.running.as_mut()) => self.finish(done),
                counted = count(self.counting.as_mut()) => {
                    if let Some((nonce, _)) = self.counting.take()
                        && let Some(held) = counted
                    {
                        self.say(Says::Answer { nonce, held });
                    }
                }
                () = at(ask_at) => self.ask(),
            }
            self.begin();
            self.publish();
        }
    }

    fn replan(&mut self) {
        let plan = self.planned.borrow_and_update().clone();
        if plan.sync != self.plan.sync {
            self.station = None;
            self.peers.clear();
            self.state.trouble = None;
        }
        let told = plan.generation != self.plan.generation;
        self.plan = plan;
        if self.station.is_none() {
            self.open();
        }
        if told {
            self.say_here();
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.peers
            .retain(|_, peer| now.duration_since(peer.heard) < FORGOTTEN);
        self.open();
        self.say_here();
        let Some(sync) = &self.plan.sync else {
            return;
        };
        let took = self.state.last.as_ref().map_or(Duration::ZERO, |l| l.took);
        let pause = sync.refresh.max(took.saturating_mul(REFRESH_SHARE));
        self.due |= !sync.refresh.is_zero() && now.duration_since(self.rested) >= pause;
    }

    /// Opens the socket on the interface as it is now, if there is one.
    fn open(&mut self) {
        let Some(sync) = &self.plan.sync else {
            return;
        };
        let index = {
            let links = self.links.borrow_and_update();
            links.named(&sync.interface).map(|link| link.index)
        };
        if index.is_some() && self.station.as_ref().map(|station| station.index) == index {
            return;
        }
        self.station = None;
        let opened = match index {
            Some(index) => Station::open(sync, index)
                .map(Some)
                .map_err(|error| format!("{}: {error}", sync.interface)),
            None => Err(format!("{}: there is no such interface", sync.interface)),
        };
        match opened {
            Ok(station) => {
                self.station = station;
                self.state.trouble = None;
            }
            Err(why) => self.state.trouble = Some(why),
        }
    }

    fn lose(&mut self, why: &str) {
        self.station = None;
        let interface = self.plan.sync.as_ref().map_or("", |sync| &sync.interface);
        self.state.trouble = Some(format!("{interface}: {why}"));
    }

    fn say_here(&mut self) {
        let generation = self.plan.generation;
        self.say(Says::Here { generation });
    }

    /// A datagram that is lost is followed by others.
    fn say(&mut self, says: Says) {
        let (Some(station), Some(sync)) = (&self.station, &self.plan.sync) else {
            return;
        };
        let hello = Hello {
            id: sync.id,
            boot: self.boot,
            says,
        };
        let _ = station.socket.try_send_to(&hello.encode(), station.group);
    }

    fn take(&mut self, hello: Hello, from: IpAddr) {
        let ours = self.plan.sync.as_ref().is_some_and(|s| s.id == hello.id);
        if !ours || hello.boot == self.boot {
            return;
        }
        match hello.says {
            Says::Here { generation } => self.meet(hello.boot, generation, from),
            Says::Ask { nonce } => {
                if self.counting.is_none() {
                    self.counting = Some((nonce, tokio::task::spawn_blocking(transfer::count)));
                }
            }
            Says::Answer { nonce, held } => {
                if nonce == self.nonce
                    && let Some(asking) = &mut self.asking
                {
                    let most = asking.outcome.held.unwrap_or(0).max(held);
                    asking.outcome.held = Some(most);
                    // It takes a moment until all are taken in.
                    if u64::from(most) >= asking.outcome.sent {
                        self.answer();
                    }
                }
            }
        }
    }

    /// A peer is there. It gets the table if it may lack something: it is new, or was away, or its
    /// backup daemon started anew.
    fn meet(&mut self, boot: u64, generation: u32, address: IpAddr) {
        let now = Instant::now();
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&boot) {
            return;
        }
        let peer = Peer {
            address,
            generation,
            heard: now,
        };
        let before = self.peers.insert(boot, peer);
        let lacks = before.is_none_or(|before| {
            before.generation != generation || now.duration_since(before.heard) >= AWAY
        });
        self.due |= lacks && generation > 0;
        // One that was restarted has another boot id; the old one is not coming back.
        self.peers
            .retain(|known, peer| *known == boot || peer.address != address);
        if lacks {
            self.say_here();
        }
    }

    /// Begins a transfer if one was ordered or is due, and none runs.
    fn begin(&mut self) {
        let Some(sync) = self.plan.sync.clone() else {
            self.due = false;
            for reply in self.waiting.drain(..) {
                let _ = reply.send(Err("`ipvs.sync` is not configured".to_owned()));
            }
            return;
        };
        let ordered = !self.waiting.is_empty();
        let rested = self.rested.elapsed() >= PAUSE;
        if self.running.is_some() || !(ordered || self.due && rested) {
            return;
        }
        let Some(index) = self.station.as_ref().map(|station| station.index) else {
            let why = self.state.trouble.clone().unwrap_or_default();
            for reply in self.waiting.drain(..) {
                let _ = reply.send(Err(why.clone()));
            }
            return;
        };
        let pointless = self.plan.held.is_empty() || !sync.full_table;
        self.due = false;
        if pointless && !ordered {
            return;
        }
        let table = Arc::clone(&self.plan.held);
        self.running = Some(Running {
            task: tokio::task::spawn_blocking(move || transfer::transfer(&sync, index, &table)),
            replies: std::mem::take(&mut self.waiting),
        });
    }

    fn finish(&mut self, done: Result<Outcome, String>) {
        let Some(Running { replies, .. }) = self.running.take() else {
            return;
        };
        self.rested = Instant::now();
        match done {
            Ok(outcome) => {
                self.state.transfers += 1;
                self.state.connections += outcome.sent;
                for (why, count) in &outcome.skipped {
                    *self.state.skipped.entry(*why).or_default() += count;
                }
                self.state.last = Some(outcome.clone());
                let now = Instant::now();
                // Whoever was waiting for the count of the transfer before gets what is known.
                self.answer();
                if replies.is_empty() {
                    return;
                }
                self.nonce = self.nonce.wrapping_add(1);
                self.asking = Some(Asking {
                    outcome,
                    replies,
                    again: now,
                    until: now + ASKING,
                });
                if !self.peers.values().any(Peer::is_there) {
                    self.answer();
                }
            }
            Err(why) => {
                for reply in replies {
                    let _ = reply.send(Err(why.clone()));
                }
                self.lose(&why);
            }
        }
    }

    fn ask(&mut self) {
        let Some(asking) = &mut self.asking else {
            return;
        };
        let now = Instant::now();
        if now >= asking.until {
            self.answer();
            return;
        }
        asking.again = now + ASK_AGAIN;
        let nonce = self.nonce;
        self.say(Says::Ask { nonce });
    }

    /// Tells those who ordered the transfer what became of it.
    fn answer(&mut self) {
        let Some(asking) = self.asking.take() else {
            return;
        };
        if let Some(last) = &mut self.state.last {
            last.held = asking.outcome.held;
        }
        for reply in asking.replies {
            let _ = reply.send(Ok(asking.outcome.clone()));
        }
    }

    fn publish(&mut self) {
        let there = self.peers.values().filter(|peer| peer.is_there());
        self.state.peers = there
            .map(|peer| (peer.address, peer.generation > 0))
            .collect();
        self.says.send_if_modified(|known| {
            let changed = *known != self.state;
            if changed {
                known.clone_from(&self.state);
            }
            changed
        });
    }
}

impl Peer {
    fn is_there(&self) -> bool {
        self.heard.elapsed() < AWAY
    }
}

impl Station {
    fn open(sync: &Sync, index: u32) -> io::Result<Station> {
        let socket = transfer::socket(sync)?;
        socket.set_reuse_address(true)?;
        let group = transfer::destination(sync.group, sync.port.saturating_add(1), index);
        socket.bind(&group.into())?;
        match sync.group {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index)?,
        }
        socket.set_nonblocking(true)?;
        Ok(Station {
            index,
            socket: UdpSocket::from_std(socket.into())?,
            group,
        })
    }
}

async fn hear(station: Option<&Station>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match station {
        Some(station) => station.socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

async fn end(running: Option<&mut Running>) -> Result<Outcome, String> {
    match running {
        Some(running) => match (&mut running.task).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
        None => std::future::pending().await,
    }
}

async fn count(counting: Option<&mut (u32, JoinHandle<io::Result<u32>>)>) -> Option<u32> {
    match counting {
        Some((_, task)) => task.await.ok()?.ok(),
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
