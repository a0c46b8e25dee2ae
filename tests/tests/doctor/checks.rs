//! What checks only warn of, and what the other director's clock says.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::doctor::examine;
use lab::pair::{Pair, fast};
use lab::process::Process;
use lab::{Host, run, wait_until};
use serde_json::json;

use super::with_ipvs;

/// A server that shows a certificate of its own for so many days.
fn server(host: &Host, days: u32) -> Result<Process> {
    let folder = host.folder();
    let (key, certificate) = (folder.join("tls.key"), folder.join("tls.crt"));
    let (key, certificate) = (key.to_string_lossy(), certificate.to_string_lossy());
    let days = days.to_string();
    run(std::process::Command::new("openssl").args([
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
        "/CN=rs.example", "-days", &days, "-keyout", &key, "-out", &certificate,
    ]))?;
    let words = ["s_server", "-quiet", "-accept", "443", "-key", &key, "-cert", &certificate];
    let server = host.spawn("tls", Path::new("openssl"), &words)?;
    wait_until(Duration::from_secs(20), "it listens", || {
        Ok(host.run("ss -ltn")?.contains(":443"))
    })?;
    Ok(server)
}

#[test]
fn a_certificate_that_ends_soon_is_found_until_it_is_renewed() -> Result<()> {
    let pair = Pair::new()?;
    pair.lb2
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")?;
    pair.lb2.ip(&format!("addr add {VIP}/32 dev lo"))?;
    let text = fast(
        150,
        &format!(
            "[[virtual_server]]\nname = \"https\"\naddress = \"{VIP}:443\"\nvrrp = \"web\"\n\
             [virtual_server.check]\ntype = \"tls\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nverify = false\n\
             [[virtual_server.real_server]]\naddress = \"10.77.0.12\"\n"
        ),
    );
    let ending = server(&pair.lb2, 5)?;
    let lb1 = Director::start(&pair.lb1, &text)?;
    lb1.wait_for_state("master")?;
    let up = "/virtual_servers/0/real_servers/0/checks/0";
    lb1.wait_for_status(&format!("{up}/state"), &json!("up"))?;
    let found = examine(&lb1)?;
    found.has(&with_ipvs(&["VIP-CHK-002"]))?;
    let evidence = found.evidence("VIP-CHK-002")?;
    ensure!(evidence.contains("certificate"), "{evidence}");
    let words = found.words("VIP-CHK-002")?;
    ensure!(words.contains("renew it there, and have the service read it"), "{words}");
    drop(ending);
    let _renewed = server(&pair.lb2, 365)?;
    lb1.wait_for_status(&format!("{up}/warning"), &json!(null))?;
    lb1.wait_for_status(&format!("{up}/state"), &json!("up"))?;
    examine(&lb1)?.has(&with_ipvs(&[]))?;
    Ok(())
}

/// What the daemon of a host sees of the time is shifted by that, as libfaketime does it.
fn shifted(host: &Host, seconds: i32) -> Result<Process> {
    let words = format!(
        "exec env DONT_FAKE_MONOTONIC=1 faketime -f {seconds:+}s {} run -c {}",
        lab::binary("vipd")?.display(),
        host.folder().join("lb2.toml").display()
    );
    host.spawn("vipd", Path::new("sh"), &["-c", &words])
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
    // It writes the file, for the one that is late.
    let mut lb2 = Director::start(&pair.lb2, &second)?;
    pair.wait_for_holders(&["lb2"])?;
    for host in [&pair.lb1, &pair.lb2] {
        host.sh("chmod 640 $0/*.toml".replace("$0", &host.folder().to_string_lossy()).as_str())?;
    }
    lb2.kill_alone("TERM")?;
    pair.wait_for_holders(&["lb1"])?;
    let late = shifted(&pair.lb2, -45)?;
    pair.wait_for_holders(&["lb2"])?;
    let found = examine(&lb1)?;
    found.has(&["VIP-CLOCK-001"])?;
    let evidence = found.evidence("VIP-CLOCK-001")?;
    ensure!(evidence.contains("10.77.0.12") && evidence.contains("behind"), "{evidence}");
    let (_, words) = found.command("VIP-CLOCK-001")?;
    ensure!(words.join(" ") == "timedatectl set-ntp true", "{words:?}");
    // There is no time synchronisation in a namespace: its clock is right when nothing shifts it.
    drop(late);
    pair.wait_for_holders(&["lb1"])?;
    lb2.start_again()?;
    pair.wait_for_holders(&["lb2"])?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}
