//! What a virtual router depends on besides its own link.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;
use serde_json::json;

/// Both directors with further lines for the first alone.
fn start(pair: &Pair, more: &str) -> Result<(Director, Director)> {
    let (lb1, lb2) = pair.start_with(&fast(150, more), &fast(100, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    Ok((lb1, lb2))
}

fn faults(lb1: &Director, wanted: &[&str]) -> Result<()> {
    lb1.wait_for_status("/vrrp/0/faults", &json!(wanted))
        .map(|_| ())
}

#[test]
fn a_tracked_interface_without_a_weight_is_a_fault_while_it_is_down() -> Result<()> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.78.0.11/24")?;
    let (lb1, _lb2) = start(&pair, "track = [{ interface = \"eth1\" }]")?;
    pair.lab.pull_cable_of(&pair.lb1, "eth1")?;
    faults(&lb1, &["interface eth1 is down"])?;
    pair.wait_for_holders(&["lb2"])?;
    let page = lb1.status_text()?;
    ensure!(page.contains("interface eth1 is down"), "{page}");
    lb1.wait_for_event(&["vrrp.fault web", "interface eth1 is down"])?;
    pair.lab.plug_cable_of(&pair.lb1, "eth1")?;
    faults(&lb1, &[])?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_tracked_interface_with_a_weight_costs_priority_while_it_is_down() -> Result<()> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.78.0.11/24")?;
    let track = "track = [{ interface = \"eth1\", weight = -60 }]";
    let (lb1, lb2) = start(&pair, track)?;
    pair.lab.pull_cable_of(&pair.lb1, "eth1")?;
    let lowered = json!({ "configured": 150, "effective": 90 });
    lb1.wait_for_status("/vrrp/0/priority", &lowered)?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_state("backup")?;
    let page = lb1.status_text()?;
    ensure!(
        page.contains("90/150") && page.contains("(weight -60)"),
        "{page}"
    );
    lb2.wait_for_event(&["vrrp.master web", "10.77.0.11", "90"])?;
    pair.lab.plug_cable_of(&pair.lb1, "eth1")?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn of_two_faults_one_that_goes_leaves_the_other() -> Result<()> {
    let pair = Pair::new()?;
    pair.lab.add_interface(&pair.lb1, "eth1", "10.78.0.11/24")?;
    let file = pair.lab.folder().join("drain");
    let track = format!("track = [{{ interface = \"eth1\" }}, {{ file = {file:?} }}]");
    let (lb1, _lb2) = start(&pair, &track)?;
    fs::write(&file, "1\n")?;
    let says = format!("file {} says 1", file.display());
    faults(&lb1, &[&says])?;
    pair.lab.pull_cable_of(&pair.lb1, "eth1")?;
    faults(&lb1, &[&says, "interface eth1 is down"])?;
    pair.wait_for_holders(&["lb2"])?;
    pair.lab.plug_cable_of(&pair.lb1, "eth1")?;
    faults(&lb1, &[&says])?;
    sleep(Duration::from_secs(1));
    lb1.wait_for_state("fault")?;
    pair.wait_for_holders(&["lb2"])?;
    fs::remove_file(&file)?;
    faults(&lb1, &[])?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_number_in_a_tracked_file_moves_the_priority() -> Result<()> {
    let pair = Pair::new()?;
    let file = pair.lab.folder().join("load");
    fs::write(&file, "0\n")?;
    let (lb1, _lb2) = start(
        &pair,
        &format!("track = [{{ file = {file:?}, weight = -10 }}]"),
    )?;
    for (number, effective, holder) in [("3", 120, "lb1"), ("6", 90, "lb2"), ("0", 150, "lb1")] {
        fs::write(&file, number)?;
        lb1.wait_for_status("/vrrp/0/priority/effective", &json!(effective))?;
        pair.wait_for_holders(&[holder])?;
    }
    Ok(())
}

#[test]
fn a_tracked_process_that_ends_is_a_fault_until_it_runs_again() -> Result<()> {
    let pair = Pair::new()?;
    let name = format!("scene{}", std::process::id());
    let program = pair.lab.folder().join(&name);
    fs::copy("/usr/bin/sleep", &program)?;
    let run = || pair.lb1.spawn("tracked", Path::new(&program), &["1000"]);
    let mut process = run()?;
    let (lb1, _lb2) = start(&pair, &format!("track = [{{ process = \"{name}\" }}]"))?;
    process.signal("KILL")?;
    process.wait(ELECTION)?;
    faults(&lb1, &[&format!("process {name}: 0 of 1 run")])?;
    pair.wait_for_holders(&["lb2"])?;
    let _process = run()?;
    pair.wait_for_holders(&["lb1"])
}

fn script(command: &str, more: &str) -> String {
    format!(
        "track = [{{ script = \"gateway\" }}]\n[[track_script]]\nname = \"gateway\"\n\
         command = {command}\ninterval = \"200ms\"\n{more}\n"
    )
}

#[test]
fn a_script_that_fails_is_a_fault_after_as_many_runs_as_fall_says() -> Result<()> {
    let pair = Pair::new()?;
    let flag = pair.lab.folder().join("flag");
    fs::write(&flag, "")?;
    let command = format!("[\"/usr/bin/test\", \"-e\", {flag:?}]");
    let (lb1, _lb2) = start(&pair, &script(&command, "fall = 5\nrise = 2"))?;
    fs::remove_file(&flag)?;
    let waited =
        lb1.wait_for_status("/vrrp/0/faults", &json!(["script gateway: exit status 1"]))?;
    ensure!(waited > Duration::from_millis(700), "after {waited:?}");
    pair.wait_for_holders(&["lb2"])?;
    fs::write(&flag, "")?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_script_that_hangs_is_killed_with_its_children() -> Result<()> {
    let pair = Pair::new()?;
    let flag = pair.lab.folder().join("flag");
    // Deaf to SIGTERM, as are its children.
    let seconds = format!("{}77", std::process::id());
    let line = format!(
        "test -e {} && exit 0; trap '' TERM; sleep {seconds} & sleep {seconds}",
        flag.display()
    );
    let command = format!("[\"/bin/sh\", \"-c\", {line:?}]");
    fs::write(&flag, "")?;
    let (lb1, _lb2) = start(&pair, &script(&command, "timeout = \"200ms\""))?;
    ensure!(sleeping(&seconds)? == 0);
    fs::remove_file(&flag)?;
    faults(&lb1, &["script gateway: timed out after 200ms"])?;
    pair.wait_for_holders(&["lb2"])?;
    ensure!(sleeping(&seconds)? > 0, "the script does not hang");
    fs::write(&flag, "")?;
    wait_until(ELECTION, "its children are dead", || {
        Ok(sleeping(&seconds)? == 0)
    })?;
    pair.wait_for_holders(&["lb1"])?;
    // A stop in the middle of a run leaves nothing either.
    fs::remove_file(&flag)?;
    wait_until(ELECTION, "it hangs again", || Ok(sleeping(&seconds)? > 0))?;
    lb1.stop()?;
    wait_until(ELECTION, "nothing is left", || Ok(sleeping(&seconds)? == 0))?;
    Ok(())
}

/// How many `sleep` run for that many seconds.
fn sleeping(seconds: &str) -> Result<usize> {
    let wanted = format!("sleep\0{seconds}\0");
    let of = |entry: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(entry.ok()?.path().join("cmdline")).ok()
    };
    let lines = fs::read_dir("/proc")?.filter_map(of);
    Ok(lines.filter(|line| *line == wanted).count())
}

#[test]
fn an_interface_with_an_address_of_the_router_is_a_fault_while_it_is_down() -> Result<()> {
    let pair = Pair::new()?;
    for (host, address) in [(&pair.lb1, "10.78.0.11/24"), (&pair.lb2, "10.78.0.12/24")] {
        pair.lab.add_interface(host, "eth1", address)?;
    }
    let extra = "10.77.0.10/24\", { address = \"10.78.0.1/24\", interface = \"eth1\", \
                 advertise = false }]\n#";
    let with = |priority| fast(priority, "").replace("10.77.0.10/24\"]", extra);
    let (lb1, _lb2) = pair.start_with(&with(150), &with(100))?;
    pair.wait_for_holders(&["lb1"])?;
    wait_until(ELECTION, "the address inside", || {
        pair.lb1.has_address_on("eth1", "10.78.0.1")
    })?;
    pair.lab.pull_cable_of(&pair.lb1, "eth1")?;
    faults(&lb1, &["interface eth1 is down"])?;
    pair.wait_for_holders(&["lb2"])?;
    wait_until(ELECTION, "the address inside moved", || {
        let on = |host: &lab::Host| host.has_address_on("eth1", "10.78.0.1");
        Ok(on(&pair.lb2)? && !on(&pair.lb1)?)
    })?;
    pair.lab.plug_cable_of(&pair.lb1, "eth1")?;
    pair.wait_for_holders(&["lb1"]).with_context(|| lb1.log())
}
