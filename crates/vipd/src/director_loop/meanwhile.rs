//! While everything is handed over: the director is not deaf. It answers, and does what follows from its
//! virtual routers. What the process that takes over was told otherwise ends the attempt, and this one
//! goes on; orders wait until it is known who carries them out. So do verdicts of checks: the new process
//! checks anew at once, and a pool of many would never stand still for long enough.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::{Director, Wake};
use crate::systemd;
use crate::upgrade::successor::Successor;
use crate::vrrp_loop::{Command, Moment, Report, RouterReport};

/// How long the advert path may take to choose a moment, and as long again to hand over in it.
const ADVERTS: Duration = Duration::from_secs(5);

impl Director {
    /// Tells the successor everything, and has the advert path hand over to it. What is put off ends up
    /// in `later`.
    ///
    /// # Errors
    ///
    /// Why it did not come about; this is the director still.
    pub(super) async fn hand_everything_over(
        &mut self,
        successor: &mut Successor,
        later: &mut Vec<Wake>,
    ) -> Result<(), String> {
        // Nothing is said to the watchdog until each step has come to an end.
        systemd::watchdog();
        self.tell_everything(successor, later).await?;
        systemd::watchdog();
        self.hand_adverts_over(successor, later).await?;
        systemd::watchdog();
        Ok(())
    }

    async fn tell_everything(
        &mut self,
        successor: &mut Successor,
        later: &mut Vec<Wake>,
    ) -> Result<(), String> {
        let mut told = pin!(successor.tell(self.state()));
        loop {
            tokio::select! {
                told = &mut told => break told?,
                Some(wake) = self.wakes.recv() => self.attend(wake, later).await?,
                Ok(()) = self.links.changed() => self.attend_to_facts()?,
            }
        }
        // What came with its last word.
        while let Ok(wake) = self.wakes.try_recv() {
            self.attend(wake, later).await?;
        }
        self.attend_to_facts()
    }

    async fn hand_adverts_over(
        &mut self,
        successor: &mut Successor,
        later: &mut Vec<Wake>,
    ) -> Result<(), String> {
        let adverts = successor.adverts().ok_or("it was handed over already")?;
        let moment = Moment::default();
        self.vrrp.send(Command::HandOver(adverts, moment.clone()));
        let (mut until, mut late) = (Instant::now() + ADVERTS, false);
        loop {
            let attended = tokio::select! {
                () = tokio::time::sleep_until(until) => {
                    if moment.seize() {
                        return Err(format!("no moment for it within {ADVERTS:?}"));
                    }
                    if late {
                        return Err(format!("it was not handed over within {ADVERTS:?}"));
                    }
                    // At this very moment it is handed over: what comes of it is said soon.
                    (until, late) = (until + ADVERTS, true);
                    systemd::watchdog();
                    Ok(())
                }
                Some(wake) = self.wakes.recv() => {
                    if let Wake::Vrrp(Report::HandedOver(outcome)) = wake {
                        return outcome;
                    }
                    self.attend(wake, later).await
                }
                Ok(()) = self.links.changed() => self.attend_to_facts(),
            };
            // Once the advert path is at it, the other one hears of what has changed from its own.
            if let Err(why) = attended
                && moment.seize()
            {
                return Err(why);
            }
        }
    }

    /// Sees to what cannot wait.
    ///
    /// # Errors
    ///
    /// The successor was told otherwise.
    async fn attend(&mut self, wake: Wake, later: &mut Vec<Wake>) -> Result<(), String> {
        let attended = match wake {
            Wake::Vrrp(Report::Router(report)) => {
                let moved = self.is_another_role(&report);
                let (name, state) = (report.name.clone(), report.state);
                self.take_router(report);
                match moved {
                    true => Err(format!(
                        "virtual router {name} is {state} since a moment ago"
                    )),
                    false => Ok(()),
                }
            }
            Wake::Track(report) => {
                self.track.take(report);
                self.attend_to_facts()
            }
            Wake::Stop => {
                later.push(Wake::Stop);
                Err("it is to stop".to_owned())
            }
            Wake::Vrrp(_)
            | Wake::Kernel(_)
            | Wake::Holdings(_)
            | Wake::Claim(_)
            | Wake::ConnectionSync(_)
            | Wake::Settled
            | Wake::Guard(_)
            | Wake::Status(_)
            | Wake::Metrics(_)
            | Wake::Names(_)
            | Wake::Checks { .. }
            | Wake::InForce(_)
            | Wake::Overrides(_) => {
                self.wake(wake).await;
                Ok(())
            }
            Wake::Switchover { .. }
            | Wake::Handover { .. }
            | Wake::SendConnections(_)
            | Wake::Maintenance { .. }
            | Wake::MaintenanceWritten { .. }
            | Wake::RealServer { .. }
            | Wake::OverridesWritten(_)
            | Wake::Reload(_)
            | Wake::Loaded(_)
            | Wake::Compared(_)
            | Wake::Confirm { .. }
            | Wake::Confirmed { .. }
            | Wake::ResetOverrides { .. }
            | Wake::Upgrade { .. }
            | Wake::Prepared(_) => {
                later.push(wake);
                Ok(())
            }
        };
        self.publish_when_quiet();
        attended.map_err(again)
    }

    /// Tells the advert path what is true now.
    fn attend_to_facts(&mut self) -> Result<(), String> {
        let before = self.facts.clone();
        self.tell_facts();
        match self.facts == before {
            true => Ok(()),
            false => Err(again(
                "an interface, or what is tracked, is another than a moment ago".to_owned(),
            )),
        }
    }

    fn is_another_role(&self, report: &RouterReport) -> bool {
        let known = self.routers.get(&report.name).map(|it| &it.report);
        known.is_none_or(|it| (it.state, it.hold) != (report.state, report.hold))
    }
}

fn again(why: String) -> String {
    format!("{why}: try again")
}
