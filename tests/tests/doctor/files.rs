//! The configuration itself: what `vipd check` says of it, with its code.

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::doctor::{examine, examine_file};
use lab::pair::{Pair, fast};

/// Whether doctor says of it what `vipd check` advises.
fn advised(report: &lab::doctor::Report, code: &str, advice: &str) -> Result<()> {
    let words = report.words(code)?;
    ensure!(words.contains(advice), "{words}");
    Ok(())
}

#[test]
fn a_virtual_address_of_no_network_of_its_interface_is_warned_of() -> Result<()> {
    let pair = Pair::new()?;
    let outside = fast(150, "").replace(VIP, "10.99.0.10");
    let lb1 = Director::start(&pair.lb1, &outside)?;
    lb1.wait_for_state("master")?;
    let found = examine(&lb1)?;
    found.has(&["CFG-VIP-OUTSIDE-SUBNETS"])?;
    advised(
        &found,
        "CFG-VIP-OUTSIDE-SUBNETS",
        "an address of such a network",
    )?;
    lb1.reload(&fast(150, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of_until_the_mode_is_right() -> Result<()> {
    let pair = Pair::new()?;
    let key = "0123456789abcdef0123456789abcdef";
    let hmac = format!("authentication = {{ type = \"hmac\", key_id = 1, key = \"{key}\" }}");
    let lb1 = Director::start(&pair.lb1, &fast(150, &hmac))?;
    lb1.wait_for_state("master")?;
    let file = lb1.config().display();
    pair.lb1.run(&format!("chmod 644 {file}"))?;
    let found = examine(&lb1)?;
    found.has(&["CFG-SECRET-READABLE"])?;
    let command = format!("chmod 640 {file}");
    advised(&found, "CFG-SECRET-READABLE", &format!("run `{command}`"))?;
    pair.lb1.run(&command)?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

#[test]
fn a_file_that_is_not_valid_is_told_with_each_problem() -> Result<()> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &fast(150, ""))?;
    lb1.wait_for_state("master")?;
    let found = examine_file(&pair.lb1, &fast(0, ""))?;
    found.has(&["CFG-INVALID"])?;
    let evidence = found.evidence("CFG-INVALID")?;
    ensure!(
        evidence.contains("vrrp") && evidence.contains("priority"),
        "{evidence}"
    );
    examine_file(&pair.lb1, &fast(150, ""))?.has(&[])?;
    let mapped = "[[virtual_server]]\nname = \"http\"\naddress = \"10.77.0.10:80\"\nforwarding = \"dr\"\n\
        [[virtual_server.real_server]]\naddress = \"10.77.0.21:8080\"\n";
    let found = examine_file(&pair.lb1, mapped)?;
    found.has(&["CFG-INVALID"])?;
    let evidence = found.evidence("CFG-INVALID")?;
    ensure!(evidence.contains("8080"), "{evidence}");
    Ok(())
}
