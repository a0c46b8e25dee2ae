//! A program is run and its exit status judged: 0 passes, 1 fails, 2 to 255 pass and ask for a weight
//! that is 2 less. Its first line of output is the reason of a failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::{Passed, Weight, progress};
use crate::check::CheckSpec;
use crate::failure::{Failure, Phase};
use crate::program::{self, End, Program, Surroundings};

#[derive(Debug)]
pub(super) struct ScriptProbe {
    program: Program,
    target: SocketAddr,
    timeout: Duration,
    /// Held by the one run that there may be, until nothing is left of it.
    alone: Arc<Mutex<()>>,
}

impl ScriptProbe {
    pub(super) fn new(spec: &CheckSpec, program: &Program) -> ScriptProbe {
        ScriptProbe {
            program: program.clone(),
            target: spec.target,
            timeout: spec.timeout,
            alone: Arc::default(),
        }
    }

    pub(super) async fn run(&self) -> Result<Passed, Failure> {
        // Only for the steps: it keeps the time itself, and has ended long before.
        let longer = self.timeout.saturating_add(Duration::from_secs(60));
        progress::within(longer, Phase::Queued, self.run_alone()).await
    }

    async fn run_alone(&self) -> Result<Passed, Failure> {
        // The run itself keeps the time: at its end it has to be killed, not left.
        let deadline = Instant::now() + self.timeout;
        let late = |phase| Failure::Timeout {
            after: self.timeout,
            phase,
        };
        let alone = self.alone.clone().lock_owned();
        let Ok(alone) = timeout_at(deadline, alone).await else {
            return Err(late(Phase::Queued));
        };
        progress::enter(|_| Phase::Running);
        let (program, surroundings) = (self.program.clone(), self.surroundings());
        let (conclude, conclusion) = oneshot::channel();
        let task = tokio::spawn(async move {
            let conclude = |end| drop(conclude.send(end));
            program::run(&program, &surroundings, deadline, conclude).await;
            drop(alone);
        });
        let mut leash = Leash(Some(task.abort_handle()));
        let end = conclusion.await;
        leash.0 = None;
        match end {
            Ok(end) => judge(end, late),
            Err(_gone) => Err(Failure::Internal("the script's task is gone".into())),
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            environment: vec![
                ("VIPD_TARGET_ADDRESS", self.target.ip().to_string()),
                ("VIPD_TARGET_PORT", self.target.port().to_string()),
            ],
            first_line: true,
            ..Surroundings::default()
        }
    }
}

fn judge(end: End, late: impl Fn(Phase) -> Failure) -> Result<Passed, Failure> {
    match end {
        End::Exited { status: 0, .. } => Ok(Passed::default()),
        End::Exited { status, line } => match u32::try_from(status) {
            Ok(status @ 2..) => Ok(Passed {
                weight: Some(Weight::Absolute(status - 2)),
                ..Passed::default()
            }),
            Ok(_) | Err(_) if line.is_empty() => {
                Err(Failure::Script(format!("exit status {status}")))
            }
            Ok(_) | Err(_) => Err(Failure::Script(format!("exit status {status}: {line}"))),
        },
        End::Killed(signal) => Err(Failure::Script(format!("killed by signal {signal}"))),
        End::TimedOut => Err(late(Phase::Running)),
        End::NotStarted(why) => Err(Failure::Invalid(why)),
        End::NoResources(why) => Err(Failure::Resource(why)),
    }
}

/// A check that is dropped takes its run along; a run that was judged ends in its own time.
struct Leash(Option<AbortHandle>);

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
