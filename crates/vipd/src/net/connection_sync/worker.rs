//! The one task that sends, hears and answers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipvs::Table;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::hello::{self, Hello, Says};
use super::peers::Peers;
use super::station::{Station, hear};
use super::transfer::{self, Told};
use super::{Answer, Order, Outcome, Plan, Reply, Report, State};
use crate::config::Sync;
use crate::net::links::Links;

/// From one hello to the next.
const HELLO: Duration = Duration::from_secs(1);
/// The least pause between transfers that nobody ordered.
const PAUSE: Duration = Duration::from_secs(2);
/// Transfers without an occasion take at most this part of the time.
const REFRESH_SHARE: u32 = 10;
/// How long the peer is asked how many connections it holds, and how often.
const ASKING: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long what was sent ahead of a handover is remembered after it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The worker.
pub(super) struct Worker {
    boot: u64,
    links: watch::Receiver<Arc<Links>>,
    planned: watch::Receiver<Plan>,
    plan: Plan,
    ordered: mpsc::UnboundedReceiver<Order>,
    says: watch::Sender<State>,
    reports: Box<dyn Fn(Report) + Send>,
    state: State,
    station: Option<Station>,
    peers: Peers,
    /// A transfer that nobody ordered is due; `occasion`: not only because time has passed.
    due: bool,
    occasion: bool,
    /// Those who ordered the next transfer; `ahead`: one of them ahead of a handover.
    waiting: Vec<Reply>,
    ahead: bool,
    /// Those who ordered what began since one ahead of a handover.
    rest: Vec<Reply>,
    remembered: Option<Remembered>,
    /// Why the last transfer failed.
    complaint: Option<String>,
    running: Option<Running>,
    counting: Option<(u32, JoinHandle<io::Result<u32>>)>,
    asking: Option<Asking>,
    /// When the last transfer ended.
    rested: Instant,
    nonce: u32,
}

/// What was sent ahead of a handover, to be told apart from what begins after it.
struct Remembered {
    told: Told,
    table: Arc<Table>,
    at: Instant,
}

struct Running {
    task: JoinHandle<(io::Result<Outcome>, Option<Told>)>,
    table: Arc<Table>,
    scope: Scope,
    replies: Vec<Reply>,
}

/// What a transfer sends.
#[derive(Clone, Copy)]
enum Scope {
    /// The whole table; then the peer is asked how many connections it holds, or not.
    Whole { asks: bool },
    /// What began since one ahead of a handover.
    Rest,
}

struct Asking {
    outcome: Outcome,
    replies: Vec<Reply>,
    again: Instant,
    until: Instant,
}

impl Worker {
    pub(super) fn new(
        links: watch::Receiver<Arc<Links>>,
        planned: watch::Receiver<Plan>,
        ordered: mpsc::UnboundedReceiver<Order>,
        says: watch::Sender<State>,
        reports: Box<dyn Fn(Report) + Send>,
    ) -> Worker {
        Worker {
            boot: RandomState::new().build_hasher().finish(),
            links,
            planned,
            plan: Plan::default(),
            ordered,
            says,
            reports,
            state: State::default(),
            station: None,
            peers: Peers::default(),
            due: false,
            occasion: false,
            waiting: Vec::new(),
            ahead: false,
            rest: Vec::new(),
            remembered: None,
            complaint: None,
            running: None,
            counting: None,
            asking: None,
            rested: Instant::now(),
            nonce: 0,
        }
    }

    pub(super) async fn run(mut self) {
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
                    Some(Order::Whole { ahead, reply }) => {
                        self.ahead |= ahead;
                        self.waiting.push(reply);
                    }
                    Some(Order::Rest(reply)) => self.rest.push(reply),
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
            self.remembered = None;
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
        for peer in self.peers.gone() {
            (self.reports)(Report::Silent { peer });
        }
        self.remembered
            .take_if(|remembered| now.duration_since(remembered.at) >= REMEMBERED);
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

    fn say(&mut self, says: Says) {
        let (Some(station), Some(sync)) = (&self.station, &self.plan.sync) else {
            return;
        };
        let hello = Hello {
            id: sync.id,
            boot: self.boot,
            says,
        };
        station.say(&hello);
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

    /// A peer is there. It gets the table if it may lack something.
    fn meet(&mut self, boot: u64, generation: u32, address: IpAddr) {
        let Some(news) = self.peers.meet(boot, generation, address) else {
            return;
        };
        self.due |= news.lacks && news.ready;
        self.occasion |= news.lacks && news.ready;
        if news.lacks {
            self.say_here();
        }
    }

    /// Begins a transfer if one was ordered or is due, and none runs.
    fn begin(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (Some(sync), Some(index)) = (
            self.plan.sync.clone(),
            self.station.as_ref().map(|station| station.index),
        ) else {
            return self.refuse();
        };
        // What goes ahead of a handover comes before what began since.
        if !self.rest.is_empty() && !self.ahead {
            return self.begin_rest(sync, index);
        }
        let ordered = !self.waiting.is_empty();
        let rested = self.rested.elapsed() >= PAUSE;
        if !(ordered || self.due && rested) {
            return;
        }
        let pointless = self.plan.held.is_empty() || !sync.full_table;
        let asks = ordered || self.occasion;
        (self.due, self.occasion) = (false, false);
        if pointless && !ordered {
            return;
        }
        let told = std::mem::take(&mut self.ahead).then(Told::default);
        let replies = std::mem::take(&mut self.waiting);
        let (table, scope) = (Arc::clone(&self.plan.held), Scope::Whole { asks });
        self.run_transfer(sync, index, table, told, scope, replies);
    }

    fn begin_rest(&mut self, sync: Sync, index: u32) {
        let replies = std::mem::take(&mut self.rest);
        match self.remembered.take() {
            Some(Remembered { told, table, .. }) => {
                self.run_transfer(sync, index, table, Some(told), Scope::Rest, replies);
            }
            None => answer_all(
                replies,
                &Err("nothing was sent ahead of a handover".to_owned()),
            ),
        }
    }

    fn run_transfer(
        &mut self,
        sync: Sync,
        index: u32,
        table: Arc<Table>,
        mut told: Option<Told>,
        scope: Scope,
        replies: Vec<Reply>,
    ) {
        let sent = Arc::clone(&table);
        let task = tokio::task::spawn_blocking(move || {
            let outcome = transfer::transfer(&sync, index, &sent, told.as_mut());
            (outcome, told)
        });
        self.running = Some(Running {
            task,
            table,
            scope,
            replies,
        });
    }

    /// Nothing can be sent.
    fn refuse(&mut self) {
        let ordered = !self.waiting.is_empty();
        let why = if self.plan.sync.is_some() {
            self.state.trouble.clone().unwrap_or_default()
        } else {
            (self.due, self.occasion) = (false, false);
            "`ipvs.sync` is not configured".to_owned()
        };
        if ordered && self.plan.sync.is_some() {
            self.complain(&why);
        }
        self.ahead = false;
        let replies = self.waiting.drain(..).chain(self.rest.drain(..));
        answer_all(replies.collect(), &Err(why));
    }

    fn complain(&mut self, why: &str) {
        self.state.failures += 1;
        if self.complaint.as_deref() != Some(why) {
            self.complaint = Some(why.to_owned());
            let why = why.to_owned();
            (self.reports)(Report::Failed { why });
        }
    }

    fn finish(&mut self, done: Result<(Outcome, Option<Told>), String>) {
        let Some(Running {
            table,
            scope,
            replies,
            ..
        }) = self.running.take()
        else {
            return;
        };
        let at = Instant::now();
        let (mut outcome, told) = match done {
            Ok(done) => done,
            Err(why) => {
                if let Scope::Whole { asks } = scope {
                    // Who ordered it hears of it; for others it is tried again.
                    self.due |= replies.is_empty();
                    self.occasion |= asks && replies.is_empty();
                    self.rested = at;
                }
                answer_all(replies, &Err(why.clone()));
                self.complain(&why);
                self.lose(&why);
                return;
            }
        };
        self.complaint = None;
        self.remembered = told
            .map(|told| Remembered { told, table, at })
            .or(self.remembered.take());
        self.state.connections += outcome.sent;
        self.state.datagrams += outcome.datagrams;
        let asks = match scope {
            Scope::Whole { asks } => asks,
            Scope::Rest => return answer_all(replies, &Ok(outcome)),
        };
        self.rested = at;
        self.state.transfers += 1;
        for (why, count) in &outcome.skipped {
            *self.state.skipped.entry(*why).or_default() += count;
        }
        outcome.asked = asks;
        if asks {
            // Whoever was waiting for the count of the transfer before gets what is known.
            self.answer();
        }
        self.state.last = Some(outcome.clone());
        if !asks {
            return;
        }
        self.nonce = self.nonce.wrapping_add(1);
        self.asking = Some(Asking {
            outcome,
            replies,
            again: at,
            until: at + ASKING,
        });
        if self.peers.there().is_empty() {
            self.answer();
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
        let Asking {
            outcome,
            replies,
            until,
            ..
        } = asking;
        if let Some(last) = &mut self.state.last {
            last.held = outcome.held;
        }
        self.state.held = outcome.held.or(self.state.held);
        answer_all(replies, &Ok(outcome.clone()));
        // One that is cut short by the next may yet have been answered.
        let open = Instant::now() < until && !self.state.peers.is_empty();
        (self.reports)(if outcome.held.is_some() || open {
            Report::Sent { outcome }
        } else {
            Report::Unanswered { outcome }
        });
    }

    fn publish(&mut self) {
        self.state.peers = self.peers.there();
        self.says.send_if_modified(|known| {
            let changed = *known != self.state;
            if changed {
                known.clone_from(&self.state);
            }
            changed
        });
    }
}

fn answer_all(replies: Vec<Reply>, answer: &Answer) {
    for reply in replies {
        let _ = reply.send(answer.clone());
    }
}

async fn end(running: Option<&mut Running>) -> Result<(Outcome, Option<Told>), String> {
    let Some(running) = running else {
        return std::future::pending().await;
    };
    match (&mut running.task).await {
        Ok((Ok(outcome), told)) => Ok((outcome, told)),
        Ok((Err(error), _)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
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
