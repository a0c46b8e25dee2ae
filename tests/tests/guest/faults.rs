//! The fault matrix: each fault once, to the director that it hits hardest.

use anyhow::{Result, ensure};
use lab::faults::{Arena, Fault, Target};

/// These are of the whole machine, which other tests share: `lab faults` and `lab soak` have them.
const SHARED: [Fault; 3] = [Fault::ClockBack, Fault::ClockForward, Fault::ModuleUnloaded];

#[test]
fn everything_that_goes_wrong_with_a_director_heals() -> Result<()> {
    let (mut arena, mut wrong) = (Arena::new()?, Vec::new());
    for fault in Fault::ALL {
        // A backup that hears nothing is the one that makes two masters.
        let target = if fault == Fault::DeafOneWay {
            Target::Backup
        } else {
            Target::Primary
        };
        if SHARED.contains(&fault) {
            continue;
        }
        match arena.suffer(fault, target) {
            Ok(Some(healed)) => eprintln!("{}", healed.line()),
            Ok(None) => wrong.push(format!("{fault:?} cannot be done here")),
            Err(error) => {
                wrong.push(format!("{error:#}"));
                arena = Arena::new()?;
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}
