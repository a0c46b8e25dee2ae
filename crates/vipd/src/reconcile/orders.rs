//! What an operator has done to IPVS at once and once: looked at, counters zeroed, foreign services
//! put in. Afterwards those are as foreign as if ipvsadm had made them.

use std::sync::Arc;

use ipvs::{Change, Client, Daemon, DaemonRole, ServiceKey, Table, Timeouts};
use tokio::sync::oneshot;

use super::{Reconciler, Request, Wanted};
use crate::ipvs_view::Kernel;
use crate::ipvsadm::Saved;

/// An order, and where its outcome goes.
pub(super) enum Order {
    Look(oneshot::Sender<Result<Kernel, String>>),
    Zero(Vec<ServiceKey>, oneshot::Sender<Result<(), String>>),
    Restore(Box<Saved>, oneshot::Sender<Result<usize, String>>),
}

impl Reconciler {
    /// What the kernel holds now.
    ///
    /// # Errors
    ///
    /// It could not be read.
    pub async fn look(&self) -> Result<Kernel, String> {
        self.order(Order::Look).await
    }

    /// Sets the counters of these services to zero; without any, all.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub async fn zero(&self, services: Vec<ServiceKey>) -> Result<(), String> {
        self.order(|reply| Order::Zero(services, reply)).await
    }

    /// Makes the kernel hold exactly what is saved of these services, timeouts and daemons, once.
    /// All others stay as they are. Returns how many changes that took.
    ///
    /// # Errors
    ///
    /// Something in it is the configuration's, or the kernel refused something: then everything is as
    /// it was.
    pub async fn restore(&self, saved: Saved) -> Result<usize, String> {
        self.order(|reply| Order::Restore(Box::new(saved), reply))
            .await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Order,
    ) -> Result<T, String> {
        let (reply, outcome) = oneshot::channel();
        let _ = self.requests.send(Request::Order(order(reply)));
        let ended = || "the IPVS worker has ended, or has nothing to do yet".to_owned();
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Order {
    /// Carries it out; whether the kernel may hold something else afterwards. A `client` that fails
    /// is gone.
    pub(super) fn carry_out(self, client: &mut Option<Client>, wanted: &Wanted) -> bool {
        match self {
            Order::Look(reply) => {
                let _ = reply.send(with(client, look));
                false
            }
            Order::Zero(services, reply) => {
                let _ = reply.send(with(client, |client| zero(client, &services)));
                true
            }
            Order::Restore(saved, reply) => {
                let restored = ours(wanted, &saved)
                    .and_then(|()| with(client, |client| Restore::begin(client)?.finish(&saved)));
                let _ = reply.send(restored);
                true
            }
        }
    }
}

fn with<T>(
    slot: &mut Option<Client>,
    work: impl FnOnce(&mut Client) -> Result<T, String>,
) -> Result<T, String> {
    let mut client = match slot.take() {
        Some(client) => client,
        None => Client::open().map_err(|error| error.to_string())?,
    };
    let done = work(&mut client);
    // After a failure the socket may hold answers that nobody waits for: it is opened anew.
    *slot = Some(client).filter(|_| done.is_ok());
    done
}

fn look(client: &mut Client) -> Result<Kernel, String> {
    let reading = |what: &str, error: ipvs::Error| format!("reading {what}: {error}");
    Ok(Kernel {
        info: client
            .info()
            .map_err(|error| reading("the version of IPVS", error))?,
        timeouts: client
            .timeouts()
            .map_err(|error| reading("the timeouts", error))?,
        daemons: client
            .daemons()
            .map_err(|error| reading("the sync daemons", error))?,
        dump: Arc::new(
            client
                .dump()
                .map_err(|error| reading("the IPVS table", error))?,
        ),
    })
}

fn zero(client: &mut Client, services: &[ServiceKey]) -> Result<(), String> {
    if services.is_empty() {
        return client.zero(None).map_err(|error| error.to_string());
    }
    for service in services {
        let zeroed = client.zero(Some(service));
        zeroed.map_err(|error| format!("{service}: {error}"))?;
    }
    Ok(())
}

/// Refuses what the configuration decides on.
fn ours(wanted: &Wanted, saved: &Saved) -> Result<(), String> {
    if let Some(key) = saved.table.keys().find(|key| wanted.managed.contains(key)) {
        return Err(format!(
            "{key} is the configuration's: nothing was restored"
        ));
    }
    if saved.timeouts.is_some() && wanted.timeouts.is_some() {
        return Err("the timeouts are the configuration's: nothing was restored".to_owned());
    }
    let role = |daemon: &&Daemon| wanted.daemons.iter().any(|ours| ours.role == daemon.role);
    if let Some(daemon) = saved.daemons.iter().find(role) {
        let role = daemon.role;
        return Err(format!(
            "the {role} sync daemon is the configuration's: nothing was restored"
        ));
    }
    Ok(())
}

/// A restore on its way, and what was there before it.
struct Restore<'a> {
    client: &'a mut Client,
    table: Table,
    timeouts: Timeouts,
    daemons: Vec<Daemon>,
}

impl Restore<'_> {
    fn begin(client: &mut Client) -> Result<Restore<'_>, String> {
        let before = look(client)?;
        Ok(Restore {
            client,
            table: before.dump.table.clone(),
            timeouts: before.timeouts,
            daemons: before.daemons,
        })
    }

    fn finish(mut self, saved: &Saved) -> Result<usize, String> {
        let before: Table = of_services(&self.table, saved);
        let mut changes = 0;
        let mut done = self.change(&before, &saved.table, &mut changes);
        if let (Ok(()), Some(timeouts)) = (&done, &saved.timeouts) {
            let set = self.client.set_timeouts(timeouts);
            done = set.map_err(|error| format!("{timeouts}: {error}"));
            changes += 1;
        }
        for daemon in &saved.daemons {
            if done.is_ok() {
                done = self.daemon(daemon, &mut changes);
            }
        }
        match done {
            Ok(()) => Ok(changes),
            Err(why) => match self.undo(saved) {
                Ok(()) => Err(format!(
                    "the kernel refused; everything is as it was:\n{why}"
                )),
                Err(also) => Err(format!(
                    "the kernel refused, and not everything could be undone:\n{why}\n{also}"
                )),
            },
        }
    }

    fn change(&mut self, from: &Table, to: &Table, count: &mut usize) -> Result<(), String> {
        let changes: Vec<Change> = ipvs::diff(from, to);
        *count += changes.len();
        let refused: Vec<String> = self
            .client
            .apply(&changes)
            .into_iter()
            .filter_map(|result| result.err().map(|why| why.to_string()))
            .collect();
        if refused.is_empty() {
            Ok(())
        } else {
            Err(refused.join("\n"))
        }
    }

    fn daemon(&mut self, daemon: &Daemon, count: &mut usize) -> Result<(), String> {
        let said = |error: ipvs::Error| format!("{daemon}: {error}");
        match self
            .daemons
            .iter()
            .find(|running| running.role == daemon.role)
        {
            Some(running) if daemon.runs_as(running) => return Ok(()),
            Some(_) => self.client.stop_daemon(daemon.role).map_err(said)?,
            None => {}
        }
        *count += 1;
        self.client.start_daemon(daemon).map_err(said)
    }

    fn undo(mut self, saved: &Saved) -> Result<(), String> {
        let now = look(self.client)?;
        let before = of_services(&self.table, saved);
        let now_table = of_services(&now.dump.table, saved);
        let mut failed = Vec::new();
        failed.extend(self.change(&now_table, &before, &mut 0).err());
        if now.timeouts != self.timeouts {
            let set = self.client.set_timeouts(&self.timeouts);
            failed.extend(set.err().map(|error| error.to_string()));
        }
        for role in DaemonRole::ALL {
            let of = |daemons: &[Daemon]| daemons.iter().find(|d| d.role == role).cloned();
            let (was, is) = (of(&self.daemons), of(&now.daemons));
            if was == is {
                continue;
            }
            if is.is_some() {
                let stopped = self.client.stop_daemon(role);
                failed.extend(stopped.err().map(|error| error.to_string()));
            }
            if let Some(was) = was {
                let started = self.client.start_daemon(&was);
                failed.extend(started.err().map(|error| error.to_string()));
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(failed.join("\n"))
        }
    }
}

/// Those services of a table that a restore is about.
fn of_services(table: &Table, saved: &Saved) -> Table {
    let about = |(key, _): &(&ServiceKey, _)| saved.table.contains_key(key);
    let pools = table.iter().filter(about);
    pools.map(|(key, pool)| (*key, pool.clone())).collect()
}
