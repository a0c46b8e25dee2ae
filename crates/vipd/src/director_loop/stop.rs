//! The graceful stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Director, Wake};
use crate::config::OnStop;
use crate::release;
use crate::vrrp_loop::{self, Command};

/// How long a graceful stop waits for each of its steps.
const STOP_STEP: Duration = Duration::from_secs(5);
/// How long it waits for the peers to take over.
const STOP_ADVERTS: Duration = Duration::from_secs(15);
/// How long it waits for thousands of addresses and macvlans to go.
const STOP_HOLDINGS: Duration = Duration::from_secs(20);
/// How long it waits for the kernel to lose a large IPVS table.
const STOP_IPVS: Duration = Duration::from_secs(30);

impl Director {
    /// Gives everything up: the peers are told, the addresses go, then the table.
    pub(super) async fn stop(&mut self) {
        self.stopping = true;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        info!("stopping");
        self.send_before_leaving().await;
        // A successor is on its way: the addresses stay until it is there.
        self.vrrp.send(Command::Stop {
            make_before_break: true,
        });
        let stopped = tokio::time::timeout(STOP_ADVERTS, async {
            while let Some(wake) = self.wakes.recv().await {
                match wake {
                    Wake::Vrrp(vrrp_loop::Report::Stopped) => return,
                    // What is being given up is not configured anew.
                    Wake::Reload(_)
                    | Wake::Loaded(_)
                    | Wake::Compared(_)
                    | Wake::Confirm { .. }
                    | Wake::Confirmed { .. }
                    | Wake::ResetOverrides { .. }
                    | Wake::Switchover { .. }
                    | Wake::Handover { .. }
                    | Wake::SendConnections(_)
                    | Wake::Settled
                    | Wake::Maintenance { .. }
                    | Wake::MaintenanceWritten { .. }
                    | Wake::RealServer { .. }
                    | Wake::Upgrade { .. }
                    | Wake::Prepared(_)
                    | Wake::OverridesWritten(_) => {}
                    // Asked twice: somebody is in a hurry.
                    Wake::Stop => self.vrrp.send(Command::Stop {
                        make_before_break: false,
                    }),
                    Wake::Vrrp(_)
                    | Wake::Kernel(_)
                    | Wake::Holdings(_)
                    | Wake::ConnectionSync(_)
                    | Wake::Claim(_)
                    | Wake::Status(_)
                    | Wake::InForce(_)
                    | Wake::Overrides(_)
                    | Wake::Checks { .. }
                    | Wake::Track(_)
                    | Wake::Metrics(_)
                    | Wake::Guard(_)
                    | Wake::Names(_) => self.wake(wake).await,
                }
            }
        });
        if stopped.await.is_err() {
            error!("the advert path did not stop in time");
        }
        self.runner.set(BTreeMap::new());
        for router in self.routers.values_mut() {
            router.report.hold = false;
        }
        self.unconfigured = 0;
        self.publish_holdings();
        // Without anybody to tell them more, the workers finish what they were told and end.
        self.holdings = None;
        let deadline = tokio::time::Instant::now() + STOP_HOLDINGS;
        let mut unfinished = Vec::new();
        for (name, worker) in std::mem::take(&mut self.holding) {
            if !matches!(tokio::time::timeout_at(deadline, worker).await, Ok(Ok(()))) {
                unfinished.push(name);
            }
        }
        let released = unfinished.is_empty() || self.release_holdings(&unfinished.join(", ")).await;
        // What could not be given up is left to the guard: it sees this process end.
        if released && let Some(guard) = self.guard.take() {
            guard.dismiss().await;
        }
        // The kernel's own daemon loses what it has not told yet.
        self.send_rest_before_end().await;
        match self.config.ipvs.on_stop {
            OnStop::Remove => self.want_nothing(),
            // Nobody checks any more.
            OnStop::Keep => self.want_no_ways(),
        }
        let (done, waiting) = oneshot::channel();
        self.reconciler.stop(move || {
            let _ = done.send(());
        });
        if tokio::time::timeout(STOP_IPVS, waiting).await.is_err() {
            error!("the IPVS table was not removed in time");
        }
        while let Ok(wake) = self.wakes.try_recv() {
            let order = matches!(
                wake,
                Wake::Reload(_)
                    | Wake::Loaded(_)
                    | Wake::Compared(_)
                    | Wake::Confirm { .. }
                    | Wake::Confirmed { .. }
                    | Wake::ResetOverrides { .. }
                    | Wake::Switchover { .. }
                    | Wake::Handover { .. }
                    | Wake::SendConnections(_)
                    | Wake::Settled
                    | Wake::Maintenance { .. }
                    | Wake::MaintenanceWritten { .. }
                    | Wake::RealServer { .. }
                    | Wake::Upgrade { .. }
                    | Wake::Prepared(_)
                    | Wake::OverridesWritten(_)
            );
            if !order {
                self.wake(wake).await;
            }
        }
        self.notifier.finish().await;
        self.event_store.finish().await;
        self.listeners.close();
        info!("stopped");
    }

    /// What `vipd release` does, for when the workers cannot. Returns whether it did.
    async fn release_holdings(&self, unfinished: &str) -> bool {
        error!("not finished: {unfinished}; releasing without them");
        match tokio::time::timeout(
            STOP_STEP,
            release::release_holdings(&self.config, &BTreeSet::new(), false),
        )
        .await
        {
            Ok(Ok(_)) => return true,
            Ok(Err(why)) => error!("{why}"),
            Err(_) => error!("virtual addresses may still be on an interface"),
        }
        false
    }
}
