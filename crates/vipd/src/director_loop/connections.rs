//! What the director has to do with connections that the peer should know of: which services are
//! sent, when the kernel's daemon takes in, and the table that goes ahead of a handover.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipvs::{Daemon, DaemonRole, ServiceKey, Table};
use tokio::sync::oneshot;
use tracing::info;

use super::{Director, Router, Wake};
use crate::events::Kind;
use crate::net::connection_sync::{Outcome, Plan, Report};
use crate::reconcile;
use crate::status::{SyncPeerStatus, SyncStatus, rfc3339};

/// How long a planned handover waits until the table is with the peer.
const BEFORE_HANDOVER: Duration = Duration::from_secs(20);
/// The same before a stop and maintenance, for which somebody else may be waiting.
const BEFORE_STOP: Duration = Duration::from_secs(3);
/// How long a stop waits, with the addresses gone, for what began meanwhile.
const BEFORE_END: Duration = Duration::from_secs(2);
/// How long after a takeover connections may still come in: the kernel's daemon keeps what it has to
/// tell for up to two seconds, and looks each second.
pub(crate) const ARRIVING: Duration = Duration::from_secs(5);

impl Director {
    /// The kernel's daemons: both roles on both directors, always, so that nothing depends on who
    /// is master.
    pub(super) fn daemons(&self) -> Vec<Daemon> {
        // On a stop that leaves the table nothing new is wanted; on any other they go.
        let sync = self.config.ipvs.sync.iter().filter(|_| !self.stopping);
        let daemon = |sync: &crate::config::Sync, role| Daemon {
            role,
            interface: sync.interface.clone(),
            id: sync.id,
            max_length: sync.max_length.unwrap_or(0),
            group: Some(sync.group),
            port: sync.port,
            ttl: sync.ttl,
        };
        sync.flat_map(|sync| DaemonRole::ALL.map(|role| daemon(sync, role)))
            .collect()
    }

    /// Tells the worker that sends what follows from the roles and the table.
    pub(super) fn publish_connection_sync(&self) {
        let held = self.table.iter().filter(|(key, _)| self.holds(key));
        let held: Table = if self.config.ipvs.sync.is_some() {
            held.map(|(key, pool)| (*key, pool.clone())).collect()
        } else {
            Table::new()
        };
        let runs = self.backup_runs && self.config.ipvs.sync.is_some();
        self.connection_sync.plan(Plan {
            sync: self.config.ipvs.sync.clone(),
            held: Arc::new(held),
            generation: if runs { self.backup_starts + 1 } else { 0 },
        });
    }

    /// Whether clients of that service come to this director. A service of no virtual router is
    /// everybody's.
    fn holds(&self, key: &ServiceKey) -> bool {
        let by_address = match key {
            ServiceKey::Address { address, .. } => self
                .config
                .vrrp
                .iter()
                .find(|v| v.addresses.iter().any(|known| known.ip() == address.ip()))
                .map(|vrrp| &vrrp.name),
            ServiceKey::FirewallMark { .. } => None,
        };
        let by_name = || {
            let server = self
                .config
                .virtual_servers
                .iter()
                .find(|s| s.keys.contains(key));
            server.and_then(|server| server.vrrp.as_ref())
        };
        by_address.or_else(by_name).is_none_or(|name| {
            let router = self.routers.get(name);
            router.is_some_and(|router| router.report.hold)
        })
    }

    /// Whether connections to that router's addresses may still be on their way to this kernel: it
    /// does not hold the addresses, or has not for long. Known ahead, so that the rule that follows
    /// from it is there at the moment of a takeover.
    pub(super) fn connections_arrive_at(&self, name: &str) -> bool {
        let settled = |router: &Router| {
            let in_state = router.since.elapsed().unwrap_or_default();
            router.report.hold && in_state >= ARRIVING
        };
        self.config.ipvs.sync.is_some()
            && !self.routers.get(name).is_some_and(|router| settled(router))
    }

    /// Looks again when a router has been what it is for a while.
    pub(super) fn look_when_settled(&self, changed: bool) {
        if changed && self.config.ipvs.sync.is_some() {
            let wake = self.wake.clone();
            tokio::spawn(async move {
                tokio::time::sleep(ARRIVING + Duration::from_millis(50)).await;
                let _ = wake.send(Wake::Settled);
            });
        }
    }

    /// Notes whether the kernel's backup daemon runs, and each of its starts.
    pub(super) fn note_backup_daemon(&mut self, report: &reconcile::Report) {
        self.backup_starts += u32::from(report.backup_started);
        let mut refused = report.refused.iter();
        self.backup_runs =
            report.dump.is_some() && !refused.any(|text| text.contains("sync daemon backup"));
        self.publish_connection_sync();
    }

    /// How the synchronisation stands.
    pub(crate) fn sync_status(&self) -> Option<SyncStatus> {
        let sync = self.config.ipvs.sync.as_ref()?;
        let state = self.connection_sync.state();
        let peer = |(address, ready): (&IpAddr, &bool)| SyncPeerStatus {
            address: address.to_string(),
            ready: *ready,
        };
        let skipped = state.skipped.iter();
        Some(SyncStatus {
            interface: sync.interface.clone(),
            id: sync.id,
            running: self.backup_runs,
            peers: state.peers.iter().map(peer).collect(),
            transfers: state.transfers,
            connections: state.connections,
            skipped: skipped
                .map(|(why, n)| (why.name().to_owned(), *n))
                .collect(),
            last: state.last.as_ref().map(|last| rfc3339(last.at)),
            last_words: state.last.as_ref().map(Outcome::words),
            trouble: state.trouble,
        })
    }

    /// Sends the table on demand.
    pub(super) fn send_connections(&self, reply: oneshot::Sender<Result<String, String>>) {
        let sending = self.connection_sync.send();
        tokio::spawn(async move {
            let outcome = sending.await;
            let _ = reply.send(outcome.map(|outcome| outcome.words()));
        });
    }

    /// Sends the table, then goes on with the handover, whatever became of it. Returns the channel
    /// if there is nothing to send.
    pub(super) fn send_before_handover(
        &self,
        router: &str,
        reply: oneshot::Sender<Result<String, String>>,
    ) -> Option<oneshot::Sender<Result<String, String>>> {
        if self.config.ipvs.sync.is_none() {
            return Some(reply);
        }
        let (sending, wake) = (self.connection_sync.send_ahead(), self.wake.clone());
        let router = router.to_owned();
        tokio::spawn(async move {
            let sent = words(tokio::time::timeout(BEFORE_HANDOVER, sending).await);
            let _ = wake.send(Wake::Handover {
                router,
                sent,
                reply,
            });
        });
        None
    }

    /// Sends the table before everything is given up, if that is quick.
    pub(super) fn send_before_leaving(&self) -> impl Future<Output = ()> + Send + use<> {
        let some = self.config.ipvs.sync.is_some()
            && self.routers.values().any(|router| router.report.hold);
        let sending = some.then(|| self.connection_sync.send_ahead());
        async move {
            if let Some(sending) = sending {
                let sent = words(tokio::time::timeout(BEFORE_STOP, sending).await);
                info!("connections: {sent}");
            }
        }
    }

    /// Addresses are the peer's, or gone from here: sends what began since the table went ahead, if it
    /// did.
    pub(super) fn send_rest_of_connections(&self) {
        if self.config.ipvs.sync.is_some() {
            drop(self.connection_sync.send_rest());
        }
    }

    /// The same at the end of a stop; ready when it is done.
    pub(super) fn send_rest_before_end(&self) -> impl Future<Output = ()> + Send + use<> {
        let some = self.config.ipvs.sync.is_some();
        let sending = some.then(|| self.connection_sync.send_rest());
        async move {
            if let Some(sending) = sending {
                // What is not sent by then comes too late anyway.
                let _ = tokio::time::timeout(BEFORE_END, sending).await;
            }
        }
    }

    /// What became of transfers, and of the peer.
    pub(super) fn take_connection_sync(&self, report: Report) {
        let sync = self.config.ipvs.sync.as_ref();
        let interface = sync.map_or("", |sync| sync.interface.as_str());
        let events = &self.events;
        match report {
            Report::Sent { outcome } => {
                events.record(Kind::ConnectionsSent, interface, outcome.words());
            }
            Report::Unanswered { outcome } => {
                events.record(Kind::ConnectionsPeerSilent, interface, outcome.words());
            }
            Report::Failed { why } => {
                let message = format!("the peer was not sent the connections: {why}");
                events.record(Kind::ConnectionsFailed, interface, message);
            }
            Report::Silent { peer } => {
                let message = format!(
                    "not heard on {interface} any more: nobody takes connections over from here"
                );
                events.record(Kind::ConnectionsPeerSilent, peer.to_string(), message);
            }
        }
    }
}

/// What became of a transfer, in words.
fn words(sent: Result<Result<Outcome, String>, tokio::time::error::Elapsed>) -> String {
    match sent {
        Ok(Ok(outcome)) => outcome.words(),
        Ok(Err(why)) => format!("connections were not sent to the peer: {why}"),
        Err(_) => "the connections were not all sent in time".to_owned(),
    }
}
