//! Two daemons.

use std::fs;

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{Pair, fast};
use lab::{binary, run};

#[test]
fn a_second_daemon_in_the_same_network_namespace_is_refused_and_changes_nothing() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    let (file, socket) = (
        pair.lab.folder().join("second.toml"),
        pair.lab.folder().join("second.sock"),
    );
    let global = format!("[global]\ncontrol_socket = {socket:?}\n");
    fs::write(&file, global + &fast(200, "").replace(VIP, "10.77.0.99"))?;
    let mut second = pair.lb1.command(binary("vipd")?);
    let output = second.args(["run", "-c"]).arg(&file).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let words = format!(
        "another vipd (process {}) runs in this network namespace",
        lb1.pid()
    );
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(text.contains(&words), "{text}");
    ensure!(!socket.exists(), "the second daemon left its socket");
    ensure!(pair.holders()? == ["lb1"]);
    // Nor may a release with another file take anything away.
    let mut release = pair.lb1.command(binary("vipd")?);
    let output = release.args(["release", "-c"]).arg(&file).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && text.contains("vipd is running"),
        "{text}"
    );
    ensure!(pair.holders()? == ["lb1"]);
    Ok(())
}

#[test]
fn a_stranger_who_has_the_name_of_the_lock_does_not_keep_the_daemon_from_starting() -> Result<()> {
    let pair = Pair::new()?;
    let script = "import socket, os, time\nos.setuid(65534)\n\
                  s = socket.socket(socket.AF_UNIX)\ns.bind(b'\\0vipd')\ns.listen()\n\
                  print('bound', flush=True)\ntime.sleep(600)\n";
    let python = std::path::Path::new("python3");
    let stranger = pair.lb1.spawn("stranger", python, &["-c", script])?;
    stranger.wait_for_output(lab::pair::ELECTION, "bound")?;
    let lb1 = Director::start(&pair.lb1, &fast(150, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    ensure!(lb1.log().contains("who is no vipd"), "{}", lb1.log());
    Ok(())
}

#[test]
fn systemd_takes_both_units() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd");
    let lab = lab::Lab::new()?;
    for unit in ["vipd.service", "vipd@.service"] {
        let text = fs::read_to_string(format!("{folder}/{unit}"))?;
        // Where there is no such program, systemd has nothing else to say.
        let text = text.replace("/usr/sbin/vipd", &binary("vipd")?.display().to_string());
        let name = unit.replace("@.", "@red.");
        let file = lab.folder().join(&name);
        fs::write(&file, text)?;
        let mut verify = std::process::Command::new("systemd-analyze");
        run(verify.args(["verify", "--man=no"]).arg(&file))?;
    }
    Ok(())
}
