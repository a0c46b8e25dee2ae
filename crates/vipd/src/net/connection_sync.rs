//! The connections that the peer should know of, beside what the kernel's own daemons tell it.
//!
//! The kernel tells of a connection when enough of its packets have come by, so never of one that is
//! idle, and tells a peer that was away nothing of what it missed. This worker sends the peer's
//! kernel the whole table: when the peer comes up or its backup daemon starts anew, before a
//! handover, every `ipvs.sync.refresh`, and on demand. Sent are the connections of the services whose
//! addresses this director holds, so that two directors, each master of something, do not undo each
//! other's news.
//!
//! A planned handover has it sent several times: the whole table, then at once what began meanwhile,
//! and when the addresses are the peer's, and again when they are gone from here, what began until
//! then. The last ones come when the peer's kernel has seen packets of connections that it does not
//! know; [`crate::net::firewall`] keeps it from resetting them meanwhile.
//!
//! Who is there it learns from small datagrams of its own (`hello`), each second one. They are not
//! authenticated, as the kernel's are not: what a stranger can make of them is one transfer after the
//! other, each paced, with a pause between.

mod hello;
mod peers;
mod station;
mod transfer;
mod worker;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipvs::{Table, sync::Unsendable};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::transfer::Outcome;
use self::worker::Worker;
use crate::config::Sync;
use crate::net::links::Links;

/// How long a handover waits for what began while the whole table was sent.
const MEANWHILE: Duration = Duration::from_secs(2);

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
enum Order {
    /// The whole table, ahead of a handover or not.
    Whole { ahead: bool, reply: Reply },
    /// What began since the table was sent ahead of a handover.
    Rest(Reply),
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The whole table was sent, not only because time had passed.
    Sent {
        /// What.
        outcome: Outcome,
    },
    /// It was sent, and nobody says how many connections it holds.
    Unanswered {
        /// What.
        outcome: Outcome,
    },
    /// It was not sent. Told once for each reason.
    Failed {
        /// Why.
        why: String,
    },
    /// A peer is not heard any more.
    Silent {
        /// Its address on the link.
        peer: IpAddr,
    },
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The peers that are heard, and whether their kernels take connections in.
    pub peers: BTreeMap<IpAddr, bool>,
    /// The whole table that was sent last.
    pub last: Option<Outcome>,
    /// How many connections a peer held when it was last asked.
    pub held: Option<u32>,
    /// How often the whole table was sent since the start.
    pub transfers: u64,
    /// How often that failed.
    pub failures: u64,
    /// Connections that were sent since the start.
    pub connections: u64,
    /// Datagrams that those were.
    pub datagrams: u64,
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
    pub fn start(
        links: watch::Receiver<Arc<Links>>,
        reports: impl Fn(Report) + Send + 'static,
    ) -> (ConnectionSync, JoinHandle<()>) {
        let (plan, planned) = watch::channel(Plan::default());
        let (orders, ordered) = mpsc::unbounded_channel();
        let (says, state) = watch::channel(State::default());
        let worker = Worker::new(links, planned, ordered, says, Box::new(reports));
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
    pub fn send(&self) -> impl Future<Output = Answer> + Send + 'static + use<> {
        let whole = |reply| Order::Whole {
            ahead: false,
            reply,
        };
        answered(order(&self.orders, whole))
    }

    /// The same ahead of a handover, then what began meanwhile, if that is quick.
    ///
    /// # Errors
    ///
    /// Why nothing was sent.
    pub fn send_ahead(&self) -> impl Future<Output = Answer> + Send + 'static + use<> {
        let whole = |reply| Order::Whole { ahead: true, reply };
        let (sending, orders) = (order(&self.orders, whole), self.orders.clone());
        async move {
            let mut outcome = answered(sending).await?;
            // Whatever becomes of it, there is a last one after the handover.
            let rest = tokio::time::timeout(MEANWHILE, answered(order(&orders, Order::Rest)));
            if let Ok(Ok(rest)) = rest.await {
                outcome.later = rest.sent;
            }
            Ok(outcome)
        }
    }

    /// Sends what began since the table was sent ahead of a handover, of the services whose addresses
    /// this director held then.
    ///
    /// # Errors
    ///
    /// Why nothing was sent: there was no handover, for one.
    pub fn send_rest(&self) -> impl Future<Output = Answer> + Send + 'static + use<> {
        answered(order(&self.orders, Order::Rest))
    }

    /// How things stand.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }
}

/// What becomes of an order.
type Answer = Result<Outcome, String>;
type Reply = oneshot::Sender<Answer>;

/// Gives an order.
fn order(
    orders: &mpsc::UnboundedSender<Order>,
    what: impl FnOnce(Reply) -> Order,
) -> oneshot::Receiver<Answer> {
    let (reply, answer) = oneshot::channel();
    // With an order that nobody takes the reply goes, too.
    let _ = orders.send(what(reply));
    answer
}

async fn answered(answer: oneshot::Receiver<Answer>) -> Answer {
    let gone = |_| Err("the connection sync is stopping".to_owned());
    answer.await.unwrap_or_else(gone)
}
