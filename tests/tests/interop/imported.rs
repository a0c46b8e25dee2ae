//! A keepalived whose file is imported: vipd takes its place beside the other one.

use anyhow::{Result, ensure};
use lab::director::Director;
use lab::import::import;
use lab::keepalived::Keepalived;
use lab::{Host, Lab, wait_until};
use serde_json::Value;

use super::scene::ELECTION;

/// The file of one of the two.
fn file(version: u8, priority: u8, us: &str, them: &str) -> String {
    format!(
        "! Both have the same but for a few lines.\n\
         $NET=10.77.0\n\
         global_defs {{\n router_id lb\n vrrp_version {version}\n script_user nobody\n enable_script_security\n \
         vrrp_garp_master_repeat 2\n}}\n\
         vrrp_script alive {{\n script \"/usr/bin/true 'of both'\"\n interval 1\n weight 20\n}}\n\
         vrrp_instance web {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
         priority {priority}\n advert_int 1\n {us}\n {them}\n \
         virtual_ipaddress {{\n ${{NET}}.10/24 label eth0:web\n ${{NET}}.13\n }}\n \
         virtual_ipaddress_excluded {{\n ${{NET}}.14/25 # not in the adverts\n }}\n \
         virtual_routes {{\n 192.0.2.0/24 via ${{NET}}.12 dev eth0 metric 7\n }}\n \
         track_script {{\n alive\n }}\n}}\n"
    )
}

#[test]
fn vipd_with_an_imported_file_is_to_the_other_keepalived_what_keepalived_was() -> Result<()> {
    let password = "authentication {\n auth_type PASS\n auth_pass s3cret\n }";
    takes_over(&file(2, 150, password, ""), &file(2, 100, password, ""))
}

#[test]
fn the_same_of_version_3_from_host_to_host() -> Result<()> {
    let unicast = |us, them| {
        let us = format!("unicast_src_ip 10.77.0.{us}");
        (us, format!("unicast_peer {{\n 10.77.0.{them}\n }}"))
    };
    let ((ours, to_them), (theirs, to_us)) = (unicast(11, 12), unicast(12, 11));
    takes_over(
        &file(3, 150, &ours, &to_them),
        &file(3, 100, &theirs, &to_us),
    )
}

fn takes_over(ours: &str, theirs: &str) -> Result<()> {
    let lab = Lab::new()?;
    let lb1 = lab.host("lb1", "10.77.0.11/24")?;
    let lb2 = lab.host("lb2", "10.77.0.12/24")?;
    let before = Keepalived::start(&lb1, ours)?;
    let other = Keepalived::start(&lb2, theirs)?;
    let holds = |host: &Host| wait_until(ELECTION, "the addresses", || host.holds("10.77.0.10"));
    holds(&lb1)?;
    wait_until(ELECTION, "the route", || {
        Ok(held(&lb1)?.contains("192.0.2.0/24"))
    })?;
    let wanted = held(&lb1)?;
    before.stop()?;
    holds(&lb2)?;

    let toml = import(&lb1, "keepalived", ours)?;
    let vipd = Director::start(&lb1, &toml)?;
    holds(&lb1)?;
    wait_until(ELECTION, "the same addresses and routes", || {
        Ok(held(&lb1)? == wanted)
    })
    .map_err(|error| error.context(format!("{wanted}\n{}\n{toml}", held(&lb1).unwrap())))?;
    wait_until(ELECTION, "the other gives up", || {
        Ok(other.state().as_deref() == Some("BACKUP") && !lb2.holds("10.77.0.10")?)
    })?;
    let status = vipd.status()?;
    let router = &status["vrrp"][0];
    // 150 and the weight of the script.
    ensure!(router["priority"]["effective"] == 170, "{router:#}");
    ensure!(router["incompatible"] == Value::Null, "{router:#}");
    let discarded = router["counters"]["discarded"].as_object();
    let mut counts = discarded.unwrap().values();
    ensure!(counts.all(|count| *count == 0), "{router:#}");
    let log = other.log().to_lowercase();
    for complaint in ["mismatch", "invalid", "expected", "bad"] {
        ensure!(!log.contains(complaint), "{log}");
    }
    vipd.stop()?;
    holds(&lb2)?;
    other.stop()
}

/// The addresses and routes of a host, in an order of their own.
fn held(host: &Host) -> Result<String> {
    let text = host.run("ip -4 -o addr show dev eth0")? + &host.run("ip -4 route")?;
    // How long they are valid for, and who has made them, is each one's own affair.
    let words = text.lines().map(|line| {
        let line = line.split("valid_lft").next().unwrap_or_default();
        let line = line
            .replace(" proto keepalived", "")
            .replace(" proto vipd", "");
        let mut words = line.split_whitespace().collect::<Vec<_>>();
        if let Some(at) = words.iter().position(|word| *word == "proto") {
            words.drain(at..at + 2);
        }
        // keepalived's addresses have none unless it is written.
        if let Some(at) = words.iter().position(|word| *word == "brd") {
            words.drain(at..at + 2);
        }
        words.retain(|word| *word != "secondary" && *word != "\\");
        words.join(" ")
    });
    let mut lines: Vec<String> = words.collect();
    lines.sort();
    Ok(lines.join("\n"))
}
