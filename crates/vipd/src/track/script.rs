//! Scripts: a program is started at an interval, and its exit status counts.

use std::time::Duration;

use health::program::{self, End, Program, Surroundings};
use health::{Health, Verdict};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Outcome, Report, Reporter};
use crate::config::TrackScript;

/// A shorter interval counts as this one, so that no mistake makes a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Runs a script over and over, never twice at once: a run that outlasts the interval delays the next.
pub(super) async fn keep_running(script: TrackScript, believed: Option<Outcome>, report: Reporter) {
    let mut belief = Belief::new(&script);
    if let Some(outcome) = believed {
        belief.go_on(outcome);
    }
    let mut beat = interval(script.interval.max(SHORTEST_INTERVAL));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let conclude = |result: Result<(), String>| {
            if let Some(outcome) = belief.record(result) {
                report(Report::Script {
                    name: script.name.clone(),
                    outcome,
                });
            }
        };
        run(&script, conclude).await;
    }
}

/// One run, from the start until nothing is left of it. `conclude` is called once, and at the timeout
/// even if the end takes longer.
async fn run(script: &TrackScript, conclude: impl FnOnce(Result<(), String>)) {
    let program = Program {
        command: script.command.clone(),
        user: script.user.clone(),
    };
    let deadline = Instant::now() + script.timeout;
    let conclude = |end| conclude(verdict(end, script.timeout));
    program::run(&program, &Surroundings::default(), deadline, conclude).await;
}

fn verdict(end: End, timeout: Duration) -> Result<(), String> {
    match end {
        End::Exited { status: 0, .. } => Ok(()),
        End::Exited { status, .. } => Err(format!("exit status {status}")),
        End::Killed(signal) => Err(format!("killed by signal {signal}")),
        End::TimedOut => {
            let after = humantime::format_duration(timeout);
            Err(format!("timed out after {after}"))
        }
        End::NotStarted(why) | End::NoResources(why) => Err(why),
    }
}

/// What is believed of a script: the first run decides, after that `rise` and `fall` in a row.
struct Belief {
    rise: u32,
    fall: u32,
    verdict: Option<Verdict>,
    told: Option<Outcome>,
}

impl Belief {
    fn new(script: &TrackScript) -> Belief {
        Belief {
            rise: script.rise,
            fall: script.fall,
            verdict: None,
            told: None,
        }
    }

    /// Goes on with what another process believed.
    fn go_on(&mut self, outcome: Outcome) {
        let health = if outcome.ok { Health::Up } else { Health::Down };
        self.verdict = Some(Verdict::new(health, self.rise, self.fall));
        self.told = Some(outcome);
    }

    /// Takes a run in. Returns what is believed if that is new, or if it fails for another reason.
    fn record(&mut self, result: Result<(), String>) -> Option<Outcome> {
        let health = if result.is_ok() {
            Health::Up
        } else {
            Health::Down
        };
        match &mut self.verdict {
            Some(verdict) => drop(verdict.record(result.is_ok())),
            None => self.verdict = Some(Verdict::new(health, self.rise, self.fall)),
        }
        if self.verdict.as_ref()?.health() != health {
            return None;
        }
        let outcome = Outcome {
            ok: result.is_ok(),
            detail: result.err().unwrap_or_else(|| "exit status 0".to_owned()),
        };
        let new = self.told.as_ref() != Some(&outcome);
        self.told = Some(outcome.clone());
        new.then_some(outcome)
    }
}

#[cfg(test)]
mod tests;
