//! How far a probe has come: what its timeout says, and the steps that a traced probe tells of.
//!
//! Both live beside the task that runs the probe, so that what works deep inside it (a connector of
//! reqwest) can tell.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::{Failure, Phase};

/// A part of a probe, and how long it took (the last one: until the probe ended, well or not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was done, or waited for: `connect`, `TLS`, `first byte`, ...
    pub name: &'static str,
    /// How long.
    pub took: Duration,
}

struct Progress {
    started: Instant,
    phase: Cell<Phase>,
}

#[derive(Default)]
struct Recording {
    current: Cell<Option<(&'static str, Instant)>>,
    steps: RefCell<Vec<Step>>,
}

tokio::task_local! {
    static PROGRESS: Progress;
    static RECORDING: Recording;
}

/// Runs a probe that begins with `first` and has `timeout` to end.
pub(super) async fn within<T>(
    timeout: Duration,
    first: Phase,
    probe: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let progress = Progress {
        started: Instant::now(),
        phase: Cell::new(first),
    };
    record(first.step());
    let in_time = async {
        match tokio::time::timeout(timeout, probe).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Failure::Timeout {
                after: timeout,
                phase: PROGRESS.with(|progress| progress.phase.get()),
            }),
        }
    };
    PROGRESS.scope(progress, in_time).await
}

/// Takes note that the next phase has begun; it is told how long the probe has run.
pub(super) fn enter(phase: impl FnOnce(Duration) -> Phase) {
    // Outside of a probe there is nobody to tell.
    let _outside = PROGRESS.try_with(|progress| {
        let phase = phase(progress.started.elapsed());
        progress.phase.set(phase);
        record(phase.step());
    });
}

/// Whether the probe is in a TLS handshake, or may be.
pub(super) fn in_handshake() -> bool {
    let phase = PROGRESS.try_with(|progress| progress.phase.get());
    matches!(phase, Ok(Phase::ConnectingTls | Phase::Handshake { .. }))
}

/// Runs something and returns the steps that it went through.
pub(super) async fn recorded<T>(run: impl Future<Output = T>) -> (Vec<Step>, T) {
    let all = async {
        let outcome = run.await;
        let steps = RECORDING.with(|recording| {
            recording.end();
            recording.steps.take()
        });
        (steps, outcome)
    };
    RECORDING.scope(Recording::default(), all).await
}

fn record(name: &'static str) {
    // Only traced probes have a recording.
    let _untraced = RECORDING.try_with(|recording| {
        if recording
            .current
            .get()
            .is_none_or(|(current, _)| current != name)
        {
            recording.end();
            recording.current.set(Some((name, Instant::now())));
        }
    });
}

impl Recording {
    fn end(&self) {
        if let Some((name, since)) = self.current.take() {
            let took = since.elapsed();
            self.steps.borrow_mut().push(Step { name, took });
        }
    }
}
