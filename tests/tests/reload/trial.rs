//! A configuration on trial goes back by itself, whatever becomes of the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::pair::{Pair, router};
use lab::wait_until;
use serde_json::json;

use crate::{PATIENCE, vipctl};

const PRIORITY: &str = "/vrrp/0/priority/configured";

#[test]
fn without_confirm_the_former_configuration_comes_back_and_stays_over_a_restart() -> Result<()> {
    let pair = Pair::new()?;
    let mut lb1 = Director::start(&pair.lb1, &router(150))?;
    lb1.write_config(&router(140))?;
    let said = lb1.vipctl(&["reload", "--confirm", "2s"])?;
    ensure!(said.contains("priority 150 → 140"), "{said}");
    ensure!(
        said.contains("on trial, goes back in 2 s unless `vipctl confirm`"),
        "{said}"
    );
    lb1.wait_for_status(PRIORITY, &json!(140))?;
    let page = lb1.status_text()?;
    ensure!(
        page.contains("configuration on trial, goes back in"),
        "{page}"
    );
    // A second one would leave it unclear what goes back to what.
    let refused = lb1.refused(&["reload"])?;
    ensure!(refused.contains("is on trial for another"), "{refused}");
    lb1.wait_for_status(PRIORITY, &json!(150))?;
    lb1.wait_for_event(&["config.trial", "lb1.toml"])?;
    lb1.wait_for_event(&["config.went_back", "not confirmed in time"])?;
    let page = lb1.status_text()?;
    ensure!(
        page.contains("the former configuration is in force"),
        "{page}"
    );
    // The file still holds the other one, and a start does not use it.
    lb1.kill()?;
    lb1.start_again()?;
    lb1.wait_for_status(PRIORITY, &json!(150))?;
    lb1.wait_for_status("/config/unconfirmed", &json!(true))?;
    let diff = vipctl(&lb1, &["config", "diff"])?;
    let text = String::from_utf8_lossy(&diff.stdout).into_owned();
    ensure!(
        diff.status.code() == Some(2) && text.contains("+priority = 140"),
        "{text}"
    );
    // An order puts it in force for good.
    lb1.vipctl(&["reload"])?;
    lb1.wait_for_status(PRIORITY, &json!(140))?;
    lb1.wait_for_status("/config/unconfirmed", &json!(false))?;
    wait_until(PATIENCE, "no record", || Ok(!record(&lb1).exists()))?;
    lb1.kill()?;
    lb1.start_again()?;
    lb1.wait_for_status(PRIORITY, &json!(140))?;
    Ok(())
}

#[test]
fn a_crash_during_a_trial_goes_back_and_a_confirmed_one_stays() -> Result<()> {
    let pair = Pair::new()?;
    let mut lb1 = Director::start(&pair.lb1, &router(150))?;
    lb1.write_config(&router(140))?;
    lb1.vipctl(&["reload", "--confirm", "1h"])?;
    lb1.wait_for_status(PRIORITY, &json!(140))?;
    let mode = fs::metadata(record(&lb1))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    lb1.kill()?;
    lb1.start_again()?;
    lb1.wait_for_status(PRIORITY, &json!(150))?;
    lb1.wait_for_event(&["config.went_back", "starts with the former configuration"])?;
    // Another file is another matter.
    lb1.write_config(&router(130))?;
    lb1.kill()?;
    lb1.start_again()?;
    lb1.wait_for_status(PRIORITY, &json!(130))?;
    ensure!(!record(&lb1).exists());
    lb1.write_config(&router(120))?;
    lb1.vipctl(&["reload", "--confirm", "1h"])?;
    let said = lb1.vipctl(&["confirm"])?;
    ensure!(said.contains("confirmed"), "{said}");
    ensure!(!record(&lb1).exists());
    let refused = lb1.refused(&["confirm"])?;
    ensure!(
        refused.contains("no configuration is on trial"),
        "{refused}"
    );
    lb1.kill()?;
    lb1.start_again()?;
    lb1.wait_for_status(PRIORITY, &json!(120))?;
    // Whoever has seen enough does not have to wait.
    lb1.write_config(&router(110))?;
    lb1.vipctl(&["reload", "--confirm", "1h"])?;
    lb1.vipctl(&["confirm", "--back"])?;
    lb1.wait_for_status(PRIORITY, &json!(120))?;
    Ok(())
}

fn record(director: &Director) -> std::path::PathBuf {
    director.state_dir().join("trial.json")
}
