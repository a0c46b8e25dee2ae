//! What operators order at run time outlives reload and restart, is listed, and can be taken back.
//! Real servers need IPVS, which this machine may not have: their part is in the guest.

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::pair::{Pair, router};
use serde_json::{Value, json};

#[test]
fn maintenance_is_listed_and_outlives_reload_and_restart() -> Result<()> {
    let pair = Pair::new()?;
    let mut lb1 = Director::start(&pair.lb1, &router(150))?;
    lb1.wait_for_state("master")?;
    let nothing = lb1.vipctl(&["overrides"])?;
    ensure!(nothing.contains("nothing is ordered"), "{nothing}");
    lb1.vipctl(&["maintenance", "on"])?;
    let listed = lb1.vipctl(&["overrides"])?;
    ensure!(listed.contains("maintenance is on"), "{listed}");
    lb1.write_config(&router(140))?;
    lb1.vipctl(&["reload"])?;
    lb1.wait_for_status("/maintenance", &json!(true))?;
    lb1.kill()?;
    lb1.start_again()?;
    lb1.wait_for_status("/maintenance", &json!(true))?;
    let listed: Value = serde_json::from_str(&lb1.vipctl(&["overrides", "--json"])?)?;
    ensure!(
        listed == json!({ "maintenance": true, "real_servers": [] }),
        "{listed}"
    );
    let unknown = lb1.refused(&["overrides", "reset", "http"])?;
    ensure!(
        unknown.contains("this director has no virtual servers"),
        "{unknown}"
    );
    let reset = lb1.vipctl(&["overrides", "reset"])?;
    ensure!(reset.contains("nothing was ordered"), "{reset}");
    lb1.wait_for_status("/maintenance", &json!(true))?;
    Ok(())
}
