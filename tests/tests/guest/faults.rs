//! Faults that concern IPVS and the network as a whole; `lab faults` has all of them, `lab soak` in any
//! order, and `tests/crash` those of the daemon alone.

use anyhow::{Result, ensure};
use lab::faults::{Arena, Fault, Target};

/// To whom it hurts most: a backup that hears nothing makes two masters.
const FAULTS: [(Fault, Target); 7] = [
    (Fault::Killed, Target::Primary),
    (Fault::OutOfMemory, Target::Primary),
    (Fault::InterfaceDeleted, Target::Primary),
    (Fault::TableCleared, Target::Primary),
    (Fault::DeafOneWay, Target::Backup),
    (Fault::Isolated, Target::Primary),
    (Fault::RulesetFlushed, Target::Primary),
];

#[test]
fn what_goes_wrong_with_the_table_and_the_network_heals() -> Result<()> {
    let (mut arena, mut wrong) = (Arena::new()?, Vec::new());
    for (fault, target) in FAULTS {
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
