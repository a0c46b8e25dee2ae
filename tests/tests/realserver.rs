//! `vipd realserver` on hosts of the lab: addresses, settings, what is left after `--undo`, and who answers
//! for a virtual address. Direct routing; tunnels and IPVS are tested in the guest.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::nginx::Nginx;
use lab::pair::router;
use lab::{Host, Lab, binary, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const VIP: &str = "10.77.0.10";

/// A file of directors with a virtual server of both families.
const FILE: &str = r#"
[[virtual_server]]
name = "http"
addresses = ["10.77.0.10:80", "[fd77::10]:80"]
check = { type = "http", path = "/health", interval = "200ms", timeout = "2s", fall = 2 }
[[virtual_server.real_server]]
address = "10.77.0.21"
[[virtual_server.real_server]]
address = "10.77.0.22"
[[virtual_server.real_server]]
address = "fd77::21"
check = { type = "none" }
"#;

/// A real server of the lab.
struct Real {
    host: Host,
    folder: std::path::PathBuf,
}

impl Real {
    fn new(lab: &Lab, name: &str, address: &str) -> Result<Real> {
        let host = lab.host(name, address)?;
        let folder = lab.folder().join(format!("{name}-state"));
        fs::create_dir_all(&folder)?;
        // The kernel's own link-local address comes by itself, and is not there at once.
        wait_until(PATIENCE, "the link-local address", || {
            let all = host.run("ip -6 -o address show dev eth0")?;
            Ok(all.contains("fe80::") && !all.contains("tentative"))
        })?;
        Ok(Real { host, folder })
    }

    fn file(&self, text: &str) -> Result<String> {
        let path = self.folder.join("vipd.toml");
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// `vipd realserver WORDS`: its exit code, and what it said.
    fn run(&self, words: &[&str]) -> Result<(i32, String)> {
        let mut vipd = self.host.command(binary("vipd")?);
        vipd.arg("realserver").args(words);
        let output = vipd.arg("--state-dir").arg(&self.folder).output()?;
        let text = [output.stdout, output.stderr].concat();
        let code = output.status.code().context("it was killed")?;
        Ok((code, String::from_utf8_lossy(&text).into_owned()))
    }

    fn good(&self, words: &[&str]) -> Result<String> {
        let (code, text) = self.run(words)?;
        ensure!(code == 0, "{words:?}: exit {code}: {text}");
        Ok(text)
    }

    /// Everything that may be changed.
    fn all(&self) -> Result<String> {
        self.host.sh(
            "ip -o address show | sed 's/valid_lft.*//'; ip -o link show lo; ip route show table all
             ip -6 route show table local; sysctl -a 2>/dev/null | grep -E 'arp_(ignore|announce)|rp_filter'",
        )
    }
}

#[test]
fn a_host_becomes_a_real_server_once_and_is_afterwards_exactly_what_it_was() -> Result<()> {
    let lab = Lab::new()?;
    let real = Real::new(&lab, "rs1", "10.77.0.21/24")?;
    real.host.ip("addr add fd77::21/64 dev eth0 nodad")?;
    // One of the settings is right, one address is there, one is there in a way that does harm.
    real.host
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=2 net.ipv4.conf.lo.arp_announce=1")?;
    real.host.ip("addr add 10.77.0.10/24 dev lo label lo:0")?;
    let file = real.file(FILE)?;
    let before = real.all()?;

    let (code, text) = real.run(&["-c", &file, "--check"])?;
    let expected = "\
10.77.0.10/24 on lo: is there, so that its whole network counts as this host's own, should be absent
net.ipv4.conf.all.arp_announce: is 0, should be 2
net.ipv4.conf.lo.arp_ignore: is 0, should be 1
net.ipv4.conf.lo.arp_announce: is 1, should be 2
10.77.0.10/32 on lo: is absent, should be there
fd77::10/128 on lo: is absent, should be there
";
    ensure!(code == 1 && text == expected, "{code}: {text}");
    ensure!(real.all()? == before, "--check has changed something");
    let (code, text) = real.run(&["-c", &file, "--check", "--json"])?;
    let json: Value = serde_json::from_str(&text)?;
    ensure!(code == 1 && json["good"] == false, "{json:#}");
    ensure!(
        json["differences"][1]["what"] == "net.ipv4.conf.all.arp_announce",
        "{json:#}"
    );

    let text = real.good(&["-c", &file])?;
    ensure!(
        text == expected
            .replace(": is ", ": was ")
            .replace("should be", "is"),
        "{text}"
    );
    let lo = real.host.run("ip -o address show dev lo")?;
    ensure!(
        lo.contains(" 10.77.0.10/32 scope global lo") && !lo.contains("/24"),
        "{lo}"
    );
    ensure!(
        lo.contains(" fd77::10/128 scope global nodad deprecated"),
        "{lo}"
    );
    for setting in [
        "all.arp_ignore=2",
        "all.arp_announce=2",
        "lo.arp_ignore=1",
        "lo.arp_announce=2",
    ] {
        let (name, value) = setting.split_once('=').unwrap();
        let found = real.host.run(&format!("sysctl -n net.ipv4.conf.{name}"))?;
        ensure!(found.trim() == value, "{setting}: {found}");
    }
    let (set, words) = (
        real.all()?,
        "nothing to change: 10.77.0.10, fd77::10 as it should be\n",
    );
    ensure!(real.good(&["-c", &file])? == words && real.good(&["-c", &file, "--check"])? == words);
    ensure!(real.all()? == set, "the second run has changed something");

    let undone = real.good(&["--undo"])?;
    ensure!(
        undone.contains("10.77.0.10/24 on lo: there again"),
        "{undone}"
    );
    let after = real.all()?;
    ensure!(after == before, "{after}\nbefore:\n{before}");
    ensure!(real.good(&["--undo"])? == "nothing to undo\n");
    Ok(())
}

#[test]
fn what_somebody_else_changes_meanwhile_is_mended_by_the_next_run_and_theirs_after_undo()
-> Result<()> {
    let lab = Lab::new()?;
    let real = Real::new(&lab, "rs1", "10.77.0.21/24")?;
    let by_hand = ["--vip", VIP, "10.77.0.9", "--forwarding", "dr"];
    real.good(&by_hand)?;
    real.host.ip("addr del 10.77.0.10/32 dev lo")?;
    real.host
        .ip("route del local 10.77.0.9 dev lo table local")?;
    real.host
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=0")?;
    let text = real.good(&by_hand)?;
    let expected = "\
net.ipv4.conf.all.arp_ignore: was 0, is 1
10.77.0.10/32 on lo: was absent, is there
local route of 10.77.0.9: was absent, is there
";
    ensure!(text == expected, "{text}");
    // An address that is not asked for any more goes with the next run.
    let text = real.good(&["--vip", VIP, "--forwarding", "dr"])?;
    ensure!(
        text.contains("10.77.0.9/32 on lo: was set up by an earlier run"),
        "{text}"
    );
    ensure!(!real.host.has_address_on("lo", "10.77.0.9")?);
    real.host
        .run("sysctl -q -w net.ipv4.conf.all.arp_announce=1")?;
    let text = real.good(&["--undo"])?;
    let left = "net.ipv4.conf.all.arp_announce: left at 1, which somebody else has set";
    ensure!(
        text.contains(left) && text.contains("net.ipv4.conf.all.arp_ignore: 0 again"),
        "{text}"
    );
    let announce = real.host.run("sysctl -n net.ipv4.conf.all.arp_announce")?;
    ensure!(announce.trim() == "1" && !real.host.has_address_on("lo", VIP)?);
    Ok(())
}

#[test]
fn a_real_server_is_silent_about_the_virtual_address_and_takes_its_packets() -> Result<()> {
    let lab = Lab::new()?;
    let client = lab.host("client", "10.77.0.100/24")?;
    let real = Real::new(&lab, "rs1", "10.77.0.21/24")?;
    // ARP comes first: without an answer to it there is nothing to send to.
    let asks = format!("ping -c 1 -W 1 {VIP}");
    real.host.ip(&format!("addr add {VIP}/32 dev lo"))?;
    let answers = || {
        let _ = client.ip("neigh flush dev eth0");
        client.run(&asks).is_ok()
    };
    ensure!(
        answers(),
        "Linux answers for every address it has, unless it is told not to"
    );
    real.host.ip(&format!("addr del {VIP}/32 dev lo"))?;
    let file = real.file(FILE)?;
    real.good(&["-c", &file])?;
    ensure!(
        !answers(),
        "the real server answers for the virtual address"
    );
    // As a director sends them: to its MAC address.
    let mac = real.host.mac()?;
    client.ip(&format!("neigh replace {VIP} lladdr {mac} dev eth0"))?;
    client.run(&format!("ping -c 1 -W 5 {VIP}"))?;
    real.good(&["--undo"])?;
    ensure!(client.run(&format!("ping -c 1 -W 1 {VIP}")).is_err());
    Ok(())
}

#[test]
fn hosts_that_must_not_be_real_servers_are_refused_and_left_alone() -> Result<()> {
    let lab = Lab::new()?;
    let real = Real::new(&lab, "rs1", "10.77.0.21/24")?;
    let refused = |words: &[&str], why: &str| -> Result<()> {
        let before = real.all()?;
        let (code, text) = real.run(words)?;
        ensure!(
            code == 1 && text.contains(why),
            "{words:?}: exit {code}: {text}"
        );
        ensure!(real.all()? == before, "{words:?}");
        Ok(())
    };
    let own = "10.77.0.21 is an ordinary address of this host, on eth0";
    refused(&["--vip", "10.77.0.21", "--forwarding", "dr"], own)?;
    refused(
        &["--vip", "10.77.0.21", "--forwarding", "dr", "--check"],
        own,
    )?;
    let stranger = real.file(&FILE.replace(".21\"", ".31\"").replace("::21", "::31"))?;
    let none = "no address of this host (10.77.0.21, fe80::";
    refused(&["-c", &stranger], none)?;
    refused(
        &["--vip", "224.0.0.1", "--forwarding", "dr"],
        "cannot be a virtual address",
    )?;
    let (code, text) = real.run(&["-c", "/nonexistent/vipd.toml"])?;
    ensure!(
        code == 2 && text.contains("cannot read /nonexistent"),
        "{code}: {text}"
    );

    // A director that holds the address, and its file, in which it is a real server, too.
    let director = Director::start(&real.host, &router(150))?;
    director.wait_for_state("master")?;
    wait_until(PATIENCE, "the address", || real.host.has_address(VIP))?;
    let file = real.file(FILE)?;
    refused(
        &["-c", &file],
        "this host is the director that holds 10.77.0.10",
    )?;
    director.stop()?;
    real.good(&["-c", &file])?;
    Ok(())
}

#[test]
fn behind_nat_there_is_nothing_to_set_up_and_that_is_said() -> Result<()> {
    let lab = Lab::new()?;
    let real = Real::new(&lab, "rs1", "10.77.0.21/24")?;
    let before = real.all()?;
    for (forwarding, words) in [
        (
            "nat",
            "virtual server http: NAT: nothing is to be set up here",
        ),
        (
            "fullnat",
            "virtual server http: full NAT: nothing is to be set up here",
        ),
    ] {
        let text = FILE.replace(
            "check =",
            &format!("forwarding = \"{forwarding}\"\ncheck ="),
        );
        let file = real.file(&text)?;
        let said = real.good(&["-c", &file])?;
        ensure!(
            said.contains(words) && said.ends_with("nothing to set up\n"),
            "{said}"
        );
    }
    ensure!(real.all()? == before);
    Ok(())
}

#[test]
fn a_watched_address_goes_with_its_service_and_comes_back_with_it() -> Result<()> {
    let lab = Lab::new()?;
    let real = Real::new(&lab, "rs2", "10.77.0.22/24")?;
    let file = real.file(FILE)?;
    let before = real.all()?;
    let folder = real.folder.to_string_lossy().into_owned();
    let arguments = ["realserver", "--watch", "-c", &file, "--state-dir", &folder];
    let mut watch = real.host.spawn("watch", &binary("vipd")?, &arguments)?;
    let has = || real.host.has_address_on("lo", VIP);
    let said = |watch: &lab::process::Process, words: &'static str| {
        let found = wait_until(PATIENCE, words, || Ok(watch.output().contains(words)));
        found.with_context(|| watch.output())
    };
    // Nothing listens yet.
    said(
        &watch,
        "withdrawn, because no service behind it is well here (http: http GET /health",
    )?;
    ensure!(!has()?, "{}", watch.output());
    let ignore = real.host.run("sysctl -n net.ipv4.conf.all.arp_ignore")?;
    ensure!(
        ignore.trim() == "1",
        "the settings are there before the address"
    );
    let nginx = Nginx::start(&real.host)?;
    wait_until(PATIENCE, "the address", has).with_context(|| watch.output())?;
    // Whoever takes it away meanwhile.
    real.host.ip("addr del 10.77.0.10/32 dev lo")?;
    wait_until(PATIENCE, "the address again", has)?;
    drop(nginx);
    wait_until(PATIENCE, "no address", || Ok(!has()?)).with_context(|| watch.output())?;
    let nginx = Nginx::start(&real.host)?;
    wait_until(PATIENCE, "the address once more", has)?;
    watch.signal("TERM")?;
    ensure!(watch.wait(PATIENCE)?.success(), "{}", watch.output());
    drop(nginx);
    let after = real.all()?;
    ensure!(after == before, "{before}\n{after}");
    Ok(())
}

#[test]
fn its_units_are_valid() -> Result<()> {
    let lab = Lab::new()?;
    let built = binary("vipd")?;
    for name in ["vipd-realserver", "vipd-realserver-watch"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
        let unit = fs::read_to_string(folder.join(format!("{name}.service")))?;
        // systemd wants the programs to be there; here they are where they were built.
        let unit = unit.replace("/usr/sbin/vipd", &built.to_string_lossy());
        let file = lab.folder().join(format!("{name}.service"));
        fs::write(&file, unit)?;
        let mut analyze = Command::new("systemd-analyze");
        let output = analyze.args(["verify", "--man=no"]).arg(&file).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<&str> = text.lines().filter(|line| line.contains("vipd")).collect();
        ensure!(output.status.success() && ours.is_empty(), "{text}");
    }
    Ok(())
}
