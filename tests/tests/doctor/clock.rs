//! Clocks that are apart.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Host;
use lab::director::Director;
use lab::doctor::examine;
use lab::pair::{Pair, fast};
use lab::process::Process;

/// A daemon that sees the time shifted, as libfaketime does it.
fn shifted(host: &Host, seconds: i32, config: &str) -> Result<Process> {
    let file = host.folder().join("shifted.toml");
    let (socket, state) = (
        host.folder().join("shifted.sock"),
        host.folder().join("shifted"),
    );
    let global = format!("[global]\ncontrol_socket = {socket:?}\nstate_dir = {state:?}\n");
    std::fs::write(&file, format!("{global}{config}"))?;
    let words = format!(
        "chmod 640 {0}; export DONT_FAKE_MONOTONIC=1 FAKETIME={seconds:+}s
         export LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1); exec {1} run -c {0}",
        file.display(),
        lab::binary("vipd")?.display(),
    );
    host.spawn("shifted", Path::new("sh"), &["-c", &words])
}

#[test]
fn clocks_that_are_apart_are_found_by_signed_adverts() -> Result<()> {
    let pair = Pair::new()?;
    let key = "0123456789abcdef0123456789abcdef";
    let hmac = format!(
        "authentication = {{ type = \"hmac\", key_id = 1, key = \"{key}\", window = \"60s\" }}"
    );
    let (first, second) = (fast(150, &hmac), fast(200, &hmac));
    let lb1 = Director::start(&pair.lb1, &first)?;
    pair.lb1
        .run(&format!("chmod 640 {}", lb1.config().display()))?;
    pair.wait_for_holders(&["lb1"])?;
    let mut late = shifted(&pair.lb2, -45, &second)?;
    pair.wait_for_holders(&["lb2"])
        .with_context(|| late.output())?;
    let found = examine(&lb1)?;
    found.has(&["VIP-CLOCK-001"])?;
    let evidence = found.evidence("VIP-CLOCK-001")?;
    ensure!(
        evidence.contains("10.77.0.12") && evidence.contains("behind"),
        "{evidence}"
    );
    let (_, words) = found.command("VIP-CLOCK-001")?;
    ensure!(words.join(" ") == "timedatectl set-ntp true", "{words:?}");
    // A namespace has no clock of its own to set: it is right when nothing shifts it.
    late.signal("TERM")?;
    late.wait(Duration::from_secs(10))?;
    pair.wait_for_holders(&["lb1"])?;
    let _lb2 = Director::start(&pair.lb2, &second)?;
    pair.wait_for_holders(&["lb2"])?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}
