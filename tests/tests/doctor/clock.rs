//! Clocks that are apart.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::doctor::examine;
use lab::pair::router;
use lab::process::Process;
use lab::uml::OwnKernel;
use lab::{Host, Lab, wait_until};

/// A second kernel shares the processors with all other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of time (RFC 4330). Those of Debian cannot be installed beside systemd-timesyncd.
fn time_server(host: &Host) -> Result<Process> {
    let script = "import socket, struct, time\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", 123))\n\
        def stamp(t): return struct.pack(\"!II\", int(t) + 2208988800, int(t % 1 * 2**32))\n\
        print(\"serves\", flush=True)\n\
        while True:\n\
        \x20   asked, who = s.recvfrom(100); now = stamp(time.time())\n\
        \x20   head = struct.pack(\"!BBBbII4s\", 0x24, 1, 6, -20, 0, 0, b\"LOCL\")\n\
        \x20   s.sendto(head + now + asked[40:48] + now + stamp(time.time()), who)\n";
    let server = host.spawn("time", Path::new("python3"), &["-c", script])?;
    server.wait_for_output(PATIENCE, "serves")?;
    Ok(server)
}

#[test]
fn clocks_that_are_apart_are_found_by_signed_adverts_and_set_by_the_remedy() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("lb1", "10.77.0.11/24")?;
    let config = |priority| {
        let hmac = "authentication = { type = \"hmac\", key_id = 1, \
                    key = \"0123456789abcdef0123456789abcdef\", window = \"60s\" }";
        format!("{}version = 3\n{hmac}\n", router(priority))
    };
    let lb1 = Director::start(&host, &config(150))?;
    host.run(&format!("chmod 640 {}", lb1.config().display()))?;
    lb1.wait_for_state("master")?;
    let _time = time_server(&host)?;
    let lb2 = OwnKernel::boot(&lab, "lb2", "10.77.0.12/24", "10.77.0.11")?;
    let global = "[global]\ncontrol_socket = \"/run/vipd.sock\"\nstate_dir = \"/run/vipd\"\n";
    std::fs::write(
        lb2.folder().join("vipd.toml"),
        format!("{global}{}", config(200)),
    )?;
    lb2.sh("chmod 640 /lab/vipd.toml; date -s '45 seconds ago'\n/programs/vipd run -c /lab/vipd.toml >/lab/log 2>&1 &")?;
    let log = || std::fs::read_to_string(lb2.folder().join("log")).unwrap_or_default();
    wait_until(PATIENCE, "the other director", || {
        Ok(lb1.status()?["vrrp"][0]["master"]["address"] == "10.77.0.12")
    })
    .with_context(log)?;
    let at_last = |codes: &[&str]| {
        let mut last = None;
        wait_until(PATIENCE, &format!("{codes:?}"), || {
            let found = examine(&lb1)?;
            let right = found.has(codes).is_ok();
            last = Some(found);
            Ok(right)
        })
        .with_context(|| format!("{last:#?}"))
        .with_context(log)?;
        last.context("nothing was looked at")
    };
    let found = at_last(&["VIP-CLOCK-001"])?;
    let evidence = found.evidence("VIP-CLOCK-001")?;
    ensure!(
        evidence.contains("10.77.0.12") && evidence.contains("behind"),
        "{evidence}"
    );
    lb2.sh(&found.line("VIP-CLOCK-001")?)?;
    at_last(&[])?;
    Ok(())
}
