//! The daemon as the unit runs it: not as root, with three capabilities, which nothing that it starts has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::cluster::VIP;
use lab::director::signal;
use lab::{Lab, binary, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);
/// A user that every Debian has, and nobody is.
const USER: &str = "games";
/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN`, `CAP_NET_RAW`, as /proc shows them.
const CAPABILITIES: &str = "0000000000003400";
const NONE: &str = "0000000000000000";

#[test]
fn a_daemon_with_three_capabilities_does_all_that_a_director_does_and_hands_none_on() -> Result<()>
{
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let folder = lab.folder().join("own");
    fs::create_dir(&folder)?;
    host.run(&format!("chown {USER} {}", folder.display()))?;
    host.run(&format!("chmod 755 {}", lab.folder().display()))?;
    let path = |name: &str| folder.join(name).display().to_string();
    let seen = path("seen");
    let script = format!(
        "id -un > {seen}.new; grep ^Cap /proc/self/status >> {seen}.new; mv {seen}.new {seen}"
    );
    let config = lab.folder().join("vipd.toml");
    fs::write(
        &config,
        format!(
            "[global]\ncontrol_socket = {:?}\nstate_dir = {:?}\n\
             [[track_script]]\nname = \"rights\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\ninterval = \"30s\"\ntimeout = \"30s\"\n\
             [[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nversion = 3\nadvert_interval = \"100ms\"\n\
             accept = false\nvirtual_mac = {{ interface = \"vrrp.51\" }}\nvirtual_addresses = [\"{VIP}/24\"]\n\
             virtual_rules = [{{ priority = 99, from = \"{VIP}\", table = 99 }}]\ntrack = [{{ script = \"rights\" }}]\n",
            path("control.sock"),
            path("state"),
        ),
    )?;
    let three = "-all,+net_bind_service,+net_admin,+net_raw";
    let who = [
        &format!("--reuid={USER}"),
        &format!("--regid={USER}"),
        "--clear-groups",
        &format!("--bounding-set={three}"),
        &format!("--inh-caps={three}"),
        &format!("--ambient-caps={three}"),
        "--no-new-privs",
    ];
    let program = binary("vipd")?.display().to_string();
    let file = config.display().to_string();
    let arguments = [&who[..], &[&*program, "run", "-c", &*file]].concat();
    let vipd = host.spawn("vipd", "setpriv".as_ref(), &arguments)?;
    wait_until(PATIENCE, "the address", || {
        // Until it is there, the interface is not either.
        Ok(host.has_address_on("vrrp.51", VIP).unwrap_or(false))
    })
    .with_context(|| vipd.output())?;
    host.run("nft list table inet vipd")
        .with_context(|| vipd.output())?;
    let rules = host.run("ip rule")?;
    ensure!(rules.contains("lookup 99"), "{rules}");

    let own = fs::read_to_string(format!("/proc/{}/status", vipd.id()))?;
    let of = |status: &str, set: &str| -> Option<String> {
        let mut lines = status.lines();
        lines.find_map(|line| {
            Some(
                line.strip_prefix(set)?
                    .trim_start_matches(':')
                    .trim()
                    .to_owned(),
            )
        })
    };
    for (set, expected) in [
        ("CapEff", CAPABILITIES),
        ("CapBnd", CAPABILITIES),
        ("CapAmb", NONE),
    ] {
        ensure!(of(&own, set).as_deref() == Some(expected), "{set}: {own}");
    }
    let script = fs::read_to_string(&seen)?;
    ensure!(script.starts_with(&format!("{USER}\n")), "{script}");
    for set in ["CapEff", "CapPrm", "CapAmb"] {
        ensure!(of(&script, set).as_deref() == Some(NONE), "{set}: {script}");
    }

    // Whoever takes over may do the same, and no more.
    let mut vipctl = host.command(binary("vipctl")?);
    vipctl.args(["--socket", &path("control.sock"), "upgrade", "--json"]);
    let upgraded = lab::run(&mut vipctl).with_context(|| vipd.output())?;
    let upgraded: serde_json::Value = serde_json::from_str(&upgraded)?;
    let pid = upgraded.get("pid").and_then(serde_json::Value::as_u64);
    let pid = u32::try_from(pid.context("no pid")?)?;
    let next = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for (set, expected) in [
        ("CapEff", CAPABILITIES),
        ("CapBnd", CAPABILITIES),
        ("CapAmb", NONE),
    ] {
        ensure!(of(&next, set).as_deref() == Some(expected), "{set}: {next}");
    }
    ensure!(host.has_address_on("vrrp.51", VIP)?, "{}", vipd.output());

    signal(pid, "KILL")?;
    let release = [&who[..], &[&*program, "release", "-c", &*file]].concat();
    let mut done = String::new();
    // The socket answers until the kernel has taken the daemon away.
    wait_until(PATIENCE, "the release", || {
        let output = host.command("setpriv").args(&release).output()?;
        done = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok(output.status.success())
    })
    .with_context(|| done.clone())?;
    // It waits for the guard, which was lent its rights and has done it all.
    ensure!(done.contains("nothing was left behind"), "{done}");
    ensure!(
        !host.has_address_on("vrrp.51", VIP).unwrap_or(false),
        "{done}"
    );
    ensure!(host.run("nft list table inet vipd").is_err(), "{done}");
    ensure!(host.run("ip link show vrrp.51").is_err(), "{done}");
    Ok(())
}

#[test]
fn the_unit_leaves_an_exposure_of_2_5_at_most() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd");
    for entry in fs::read_dir(folder)? {
        let unit = entry?.path();
        if unit
            .extension()
            .is_none_or(|extension| extension != "service")
        {
            continue;
        }
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--threshold=25", "--no-pager"]);
        let output = analyze.arg(&unit).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{text}");
        ensure!(text.contains("Overall exposure level"), "{text}");
        let unit = fs::read_to_string(unit)?;
        ensure!(unit.lines().any(|line| line == "User=vipd"), "{unit}");
    }
    Ok(())
}
