//! Whatever hangs, doctor ends in time and says what it could not see.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::director::signal;
use lab::doctor::{Report, examine_file};
use lab::pair::{Pair, fast};
use lab::{binary, wait_until};

/// Less than that, as promised.
const PROMISED: Duration = Duration::from_secs(10);

fn in_time<T>(look: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let found = look()?;
    let took = begin.elapsed();
    ensure!(took < PROMISED, "{took:?}");
    Ok(found)
}

#[test]
fn a_stopped_daemon_is_said_to_be_and_goes_on_by_the_remedy() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    signal(lb2.pid(), "STOP")?;
    let text = fast(100, "");
    let found = in_time(|| examine_file(&pair.lb2, &text))?;
    found.has(&["VIP-CTL-001"])?;
    let evidence = found.evidence("VIP-CTL-001")?;
    ensure!(evidence.contains("is stopped (state T)"), "{evidence}");
    // It needs the daemon, and says so.
    let said = in_time(|| {
        let mut vipctl = pair.lb2.command(binary("vipctl")?);
        let output = vipctl
            .arg("--socket")
            .arg(lb2.socket())
            .arg("doctor")
            .output()?;
        ensure!(output.status.code() == Some(2), "{output:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    })?;
    ensure!(said.contains("vipd does not answer"), "{said}");
    ensure!(said.contains("`vipd doctor -c FILE`"), "{said}");
    found.mend("VIP-CTL-001", &pair.lb2)?;
    lb2.wait_for_status("/vrrp/0/master/address", &"10.77.0.11".into())?;
    pair.wait_for_holders(&["lb1"])?;
    examine_file(&pair.lb2, &text)?.has(&[])?;
    drop(lb1);
    Ok(())
}

#[test]
fn all_that_hangs_at_once_takes_less_than_ten_seconds_and_is_named() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    // The other director takes connections to its listener, and says nothing.
    let silent = ["TCP-LISTEN:9650,fork,reuseaddr", "EXEC:sleep 100"];
    let silent = pair.lb1.spawn("silent", Path::new("socat"), &silent)?;
    wait_until(Duration::from_secs(10), "socat listens", || {
        Ok(pair.lb1.run("ss -ltn")?.contains(":9650"))
    })?;
    let folder = pair.lab.folder();
    let nft = folder.join("nft");
    std::fs::write(&nft, "#!/bin/sh\nexec sleep 100\n")?;
    pair.lb2.run(&format!("chmod 755 {}", nft.display()))?;
    let file = folder.join("hang.toml");
    let global = format!(
        "[global]\ncontrol_socket = {:?}\nhttp = \"10.77.0.12:9650\"\nhttp_public = true\n",
        lb2.socket()
    );
    std::fs::write(&file, format!("{global}{}", fast(100, "")))?;
    let script = format!(
        "mount --bind {} $(command -v nft); exec {} doctor --json -c {}",
        nft.display(),
        binary("vipd")?.display(),
        file.display()
    );
    signal(lb2.pid(), "STOP")?;
    let found = in_time(|| Report::of(pair.lb2.command("sh").args(["-e", "-c", &script])));
    signal(lb2.pid(), "CONT")?;
    let found = found?;
    found.has(&["VIP-CTL-001"])?;
    let unknown = found.not_looked_at();
    ensure!(unknown.contains("nft did not end in time"), "{unknown}");
    ensure!(
        unknown.contains("10.77.0.11:9650: no answer in time"),
        "{unknown}"
    );
    drop((silent, lb1));
    Ok(())
}
