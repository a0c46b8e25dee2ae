//! Pools: how they stand, what operators order of real servers, and how that outlives the daemon.
//!
//! Orders are carried out one after the other: each is judged by what the one before it left, and
//! written down before it is answered. The disk is waited for beside the loop.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use ipvs::DestinationKey;
use tokio::sync::oneshot;
use tracing::warn;

use super::{Director, Wake};
use crate::config::{RealServer, VirtualServer};
use crate::desired::{self, PoolState, PoolStates};
use crate::director_status::real_server_name;
use crate::events::Kind;
use crate::overrides::{Change, Out, Overrides, Scope};

/// What an operator wants of a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServerOrder {
    /// The virtual server.
    pub virtual_server: String,
    /// The real server, as `status` names it.
    pub real_server: String,
    /// What.
    pub change: Change,
    /// Also where nobody would be left to serve.
    pub force: bool,
}

/// Something to be written down.
#[derive(Debug)]
enum Job {
    /// An order, and whom to tell.
    Order(RealServerOrder, oneshot::Sender<Result<String, String>>),
    /// Orders that are taken back, and whom to tell.
    Reset(Scope, oneshot::Sender<Result<String, String>>),
    /// A reload has changed what holds.
    Keep,
}

/// All pools.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// How they stand.
    pub(crate) states: PoolStates,
    /// What operators have ordered.
    pub(crate) overrides: Overrides,
    /// When time alone changes a pool.
    pub(super) next_step: Option<Instant>,
    waiting: VecDeque<Job>,
    /// On its way to the disk.
    writing: Option<Job>,
}

/// Ends at that time; without one, never.
pub(super) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Pools {
    /// Whether an order is on its way to the disk.
    pub(super) fn is_busy(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether each virtual server has quorum, by its name.
    pub(super) fn quorums(&self) -> BTreeMap<String, bool> {
        let states = self.states.iter();
        states
            .map(|(name, state)| (name.clone(), state.quorum))
            .collect()
    }
}

impl Director {
    /// Judges every pool anew, and tells what is another than before.
    pub(super) fn judge_pools(&mut self) {
        let (overrides, before) = (&self.pools.overrides, &self.pools.states);
        let states = desired::pools(
            &self.config,
            &self.health,
            overrides,
            before,
            Instant::now(),
        );
        let quorums = self.pools.quorums();
        let before = std::mem::replace(&mut self.pools.states, states);
        for server in &self.config.virtual_servers {
            if let Some((before, now)) = before
                .get(&server.name)
                .zip(self.pools.states.get(&server.name))
            {
                self.tell_pool(server, before, now);
            }
        }
        self.pools.next_step = desired::next_step(&self.pools.states);
        if self.pools.quorums() != quorums {
            self.tell_facts();
        }
    }

    fn tell_pool(&self, server: &VirtualServer, before: &PoolState, now: &PoolState) {
        let name = &server.name;
        match (before.quorum, now.quorum) {
            (true, false) => {
                let words = self.quorum_words(server);
                self.events.record(Kind::QuorumLost, name, words);
            }
            (false, true) => {
                let words = self.quorum_words(server);
                self.events.record(Kind::QuorumGained, name, words);
            }
            (true, true) | (false, false) => {}
        }
        match (before.panic(), now.panic()) {
            (false, true) => {
                let kept = now.kept.iter().map(|key| real_server_name(*key));
                let kept: Vec<String> = kept.collect();
                let message = format!(
                    "fewer than minimum_up pass their checks; kept in the pool although they \
                     fail: {}",
                    kept.join(", ")
                );
                self.events.record(Kind::PoolPanic, name, message);
            }
            (true, false) => {
                let message = "none is kept against its checks any more";
                self.events.record(Kind::PoolPanicGone, name, message);
            }
            (true, true) | (false, false) => {}
        }
    }

    /// At the start: what was ordered before it. A file that cannot be read does not keep the
    /// director from its work.
    pub(super) fn read_overrides(&mut self) {
        match Overrides::read(&self.config.global.state_dir) {
            Ok(overrides) => self.pools.overrides = overrides,
            Err(why) => {
                let message = format!(
                    "{why}; goes on without: real servers that were drained or disabled get \
                     connections"
                );
                let name = &self.config.global.name;
                self.events.record(Kind::StateUnreadable, name, message);
            }
        }
        self.keep_overrides();
    }

    /// Keeps of the orders what holds under the configuration.
    pub(super) fn keep_overrides(&mut self) {
        if self.pools.overrides.is_empty() {
            return;
        }
        let (kept, dropped) = self.pools.overrides.under(&self.config);
        for (object, message) in dropped {
            self.events.record(Kind::RealServerWeight, object, message);
        }
        self.pools.overrides = kept;
        // Also where nothing was dropped: the folder may be another one.
        self.pools.waiting.push_back(Job::Keep);
        self.next_job();
    }

    /// Takes an order in; it is answered when it is written down.
    pub(super) fn begin_order(
        &mut self,
        order: RealServerOrder,
        reply: oneshot::Sender<Result<String, String>>,
    ) {
        self.pools.waiting.push_back(Job::Order(order, reply));
        self.next_job();
    }

    /// Takes an order in that takes others back; it is answered when it is written down.
    pub(super) fn begin_reset(
        &mut self,
        scope: Scope,
        reply: oneshot::Sender<Result<String, String>>,
    ) {
        self.pools.waiting.push_back(Job::Reset(scope, reply));
        self.next_job();
    }

    fn next_job(&mut self) {
        while self.pools.writing.is_none() {
            let Some(job) = self.pools.waiting.pop_front() else {
                return;
            };
            let (job, overrides) = match job {
                Job::Keep => (Job::Keep, self.pools.overrides.clone()),
                Job::Reset(scope, reply) => {
                    let (left, gone) = self.pools.overrides.without(&scope);
                    if gone.is_empty() {
                        let _ = reply.send(Ok("nothing was ordered of any".to_owned()));
                        continue;
                    }
                    (Job::Reset(scope, reply), left)
                }
                Job::Order(order, reply) => match self.permitted(&order) {
                    Ok(overrides) => (Job::Order(order, reply), overrides),
                    Err(why) => {
                        let _ = reply.send(Err(why));
                        continue;
                    }
                },
            };
            self.pools.writing = Some(job);
            let (state_dir, wake) = (self.config.global.state_dir.clone(), self.wake.clone());
            tokio::task::spawn_blocking(move || {
                let written = overrides.write(&state_dir);
                let written = written.map_err(|error| format!("{}: {error}", state_dir.display()));
                let _ = wake.send(Wake::OverridesWritten(written));
            });
        }
    }

    /// What is ordered of all real servers with that order, too; or why it must not be.
    fn permitted(&self, order: &RealServerOrder) -> Result<Overrides, String> {
        let overrides = self.with_order(order)?;
        let after = desired::pools(
            &self.config,
            &self.health,
            &overrides,
            &self.pools.states,
            Instant::now(),
        );
        let name = &order.virtual_server;
        let serves = |states: &PoolStates| states.get(name).is_some_and(PoolState::serves);
        if serves(&self.pools.states) && !serves(&after) && !order.force {
            return Err(format!(
                "would leave {name} without any real server; --force does it all the same"
            ));
        }
        Ok(overrides)
    }

    fn with_order(&self, order: &RealServerOrder) -> Result<Overrides, String> {
        let name = &order.virtual_server;
        let (_, real) = self.ordered(order)?;
        let configured = real.destination.weight;
        Ok(self
            .pools
            .overrides
            .with(name, real.key, configured, order.change))
    }

    fn ordered(&self, order: &RealServerOrder) -> Result<(&VirtualServer, &RealServer), String> {
        let (name, address) = (&order.virtual_server, &order.real_server);
        let gone = || format!("{name}/{address} is not configured any more");
        let server = self.config.virtual_server(name).ok_or_else(gone)?;
        let mut servers = server.real_servers.iter();
        let real = servers.find(|real| real_server_name(real.key) == *address);
        Ok((server, real.ok_or_else(gone)?))
    }

    /// An order is written down, or could not be.
    pub(super) fn finish_order(&mut self, written: Result<(), String>) {
        match self.pools.writing.take() {
            Some(Job::Order(order, reply)) => {
                let done = written
                    .map_err(|why| format!("nothing changed: {why}"))
                    .and_then(|()| self.carry_out(&order));
                let _ = reply.send(done);
            }
            Some(Job::Reset(scope, reply)) => {
                let done = written
                    .map_err(|why| format!("nothing changed: {why}"))
                    .map(|()| self.carry_out_reset(&scope));
                let _ = reply.send(done);
            }
            Some(Job::Keep) => {
                if let Err(why) = written {
                    warn!("what was ordered of real servers is not kept over a restart: {why}");
                }
            }
            None => {}
        }
        self.next_job();
    }

    fn carry_out(&mut self, order: &RealServerOrder) -> Result<String, String> {
        // A reload may have come while it was written.
        let overrides = self.with_order(order)?;
        let news = overrides != self.pools.overrides;
        self.pools.overrides = overrides;
        self.publish_table();
        let (server, real) = self.ordered(order)?;
        let object = format!("{}/{}", server.name, real_server_name(real.key));
        let (kind, words) = self.order_words(server, real, order.change);
        if news {
            self.events.record(kind, &object, &words);
            Ok(format!("{object}: {words}"))
        } else {
            Ok(format!("{object}: {words}, as it was"))
        }
    }

    fn carry_out_reset(&mut self, scope: &Scope) -> String {
        let (left, gone) = self.pools.overrides.without(scope);
        let before = std::mem::replace(&mut self.pools.overrides, left);
        self.publish_table();
        let message = "as the configuration says: what was ordered of it is taken back";
        for ordered in before.view(false).real_servers {
            let object = format!("{}/{}", ordered.virtual_server, ordered.real_server);
            if gone.contains(&object) {
                let kind = match ordered.state {
                    Some(_) => Kind::RealServerEnabled,
                    None => Kind::RealServerWeight,
                };
                self.events.record(kind, object, message);
            }
        }
        let lines: Vec<String> = gone
            .iter()
            .map(|name| format!("{name}: {message}"))
            .collect();
        lines.join("\n")
    }

    fn order_words(
        &self,
        server: &VirtualServer,
        real: &RealServer,
        change: Change,
    ) -> (Kind, String) {
        let state = self.pools.states.get(&server.name);
        let sorry = if state.is_some_and(|state| state.sorry) {
            "; the sorry server takes new connections"
        } else {
            ""
        };
        let configured = real.destination.weight;
        match change {
            Change::Drain => (
                Kind::RealServerDrained,
                format!("drains: gets no new connections, existing ones finish{sorry}"),
            ),
            Change::Disable => (
                Kind::RealServerDisabled,
                format!("disabled: out of the pool, its connections break{sorry}"),
            ),
            Change::Enable => {
                let words = if self.gets_connections(server, real.key) {
                    "enabled: gets new connections"
                } else {
                    "enabled: gets connections as soon as its checks pass and there is quorum"
                };
                (Kind::RealServerEnabled, words.to_owned())
            }
            Change::Weight(weight) => {
                let out = self.pools.overrides.of(&server.name, real.key).out;
                let but = match out {
                    Some(Out::Draining) => ", when it is enabled: it drains",
                    Some(Out::Disabled) => ", when it is enabled: it is disabled",
                    None => "",
                };
                let words = format!("weight {weight} instead of {configured}{but}{sorry}");
                (Kind::RealServerWeight, words)
            }
            Change::Reset => {
                let words = match desired::asked_weight(real, &self.health) {
                    Some(asked) => format!("weight {asked}, which it asks for itself{sorry}"),
                    None => format!("weight {configured}, that of the configuration{sorry}"),
                };
                (Kind::RealServerWeight, words)
            }
        }
    }

    fn gets_connections(&self, server: &VirtualServer, real: DestinationKey) -> bool {
        let state = self.pools.states.get(&server.name);
        let found = state.and_then(|state| state.destinations.get(&real));
        found.is_some_and(|found| found.weight > 0)
    }
}
