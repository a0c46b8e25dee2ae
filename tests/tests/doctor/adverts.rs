//! Adverts: dropped, lost, of others.

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::doctor::{Report, examine, examine_file};
use lab::keepalived::Keepalived;
use lab::pair::{Pair, fast};
use lab::{Host, run};
use serde_json::json;

/// A pair both of whose directors are masters: the second does not hear the first.
fn torn() -> Result<(Pair, Director, Director)> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("takeover_probe = \"off\"")?;
    pair.lb2.drop_incoming("ip protocol 112")?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    Ok((pair, lb1, lb2))
}

/// A director alone, with lines of its own.
fn alone(more: &str) -> Result<(Pair, Director)> {
    let pair = Pair::new()?;
    let lb1 = Director::start(&pair.lb1, &fast(150, more))?;
    lb1.wait_for_state("master")?;
    Ok((pair, lb1))
}

fn nft(host: &Host, rules: &str) -> Result<()> {
    let file = host.folder().join(format!("{}-rules.nft", host.name()));
    std::fs::write(&file, rules)?;
    host.run(&format!("nft -f {}", file.display())).map(|_| ())
}

/// Exactly that is found, its command runs on a host, and it is gone.
fn mended(director: &Director, code: &str, host: &Host) -> Result<Report> {
    let found = examine(director)?;
    found.has(&[code])?;
    found.mend(code, host)?;
    examine(director)?.has(&[])?;
    Ok(found)
}

#[test]
fn a_director_deaf_by_a_rule_is_told_the_rule_and_its_peer_two_masters() -> Result<()> {
    let (pair, lb1, lb2) = torn()?;
    let found = examine(&lb1)?;
    found.has(&["VIP-VRRP-001"])?;
    let (on, words) = found.command("VIP-VRRP-001")?;
    ensure!(on.as_deref() == Some("10.77.0.12"), "{on:?}");
    let found = examine(&lb2)?;
    found.has(&["VIP-FW-001"])?;
    let evidence = found.evidence("VIP-FW-001")?;
    ensure!(evidence.contains("adverts came in by eth0"), "{evidence}");
    ensure!(evidence.contains("inet lab in"), "{evidence}");
    // What doctor says to the peer ends the split at once, ...
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    lb2.vipctl(&words)?;
    pair.wait_for_holders(&["lb1"])?;
    examine(&lb1)?.has(&[])?;
    lb2.vipctl(&["maintenance", "off"])?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    // ... and what it says to the deaf one ends it for good.
    found.mend("VIP-FW-001", &pair.lb2)?;
    pair.wait_for_holders(&["lb1"])?;
    for director in [&lb1, &lb2] {
        examine(director)?.has(&[])?;
    }
    Ok(())
}

#[test]
fn a_policy_that_drops_adverts_is_mended_by_a_rule_that_accepts_them() -> Result<()> {
    let (pair, lb1) = alone("")?;
    let rules = "table inet filter {\n chain input {\n  type filter hook input priority 0; policy drop\n  \
        ct state established,related accept\n  iifname \"lo\" accept\n  tcp dport { 22, 80 } accept\n \
        }\n}\n";
    nft(&pair.lb1, rules)?;
    mended(&lb1, "VIP-FW-001", &pair.lb1)?;
    Ok(())
}

#[test]
fn adverts_that_cannot_leave_are_found_with_the_rule() -> Result<()> {
    let (pair, lb1) = alone("")?;
    let rules = "table netdev filter {\n chain out {\n  \
        type filter hook egress device \"eth0\" priority 0\n  ip daddr 224.0.0.18 counter drop\n }\n}\n";
    nft(&pair.lb1, rules)?;
    let found = mended(&lb1, "VIP-FW-002", &pair.lb1)?;
    let evidence = found.evidence("VIP-FW-002")?;
    ensure!(evidence.contains("packets"), "{evidence}");
    Ok(())
}

#[test]
fn rules_of_iptables_are_seen_as_well() -> Result<()> {
    let (pair, lb1) = alone("")?;
    pair.lb1
        .run("iptables -A INPUT -d 224.0.0.18 -p 112 -j DROP")?;
    // It has counted nothing, and who knows whether it will.
    examine(&lb1)?.has(&[])?;
    let lb2 = Director::start(&pair.lb2, &fast(100, "takeover_probe = \"off\""))?;
    // The other one is deaf, so that both send.
    pair.lb2.drop_incoming("ip protocol 112")?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    let found = examine(&lb1)?;
    found.has(&["VIP-FW-001"])?;
    found.mend("VIP-FW-001", &pair.lb1)?;
    lb2.stop()?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

#[test]
fn a_rule_of_the_old_iptables_is_removed_by_the_program_that_has_it() -> Result<()> {
    let (pair, lb1) = alone("")?;
    let rules = "iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT -i lo -j ACCEPT
        iptables-legacy -N services; iptables-legacy -A INPUT -j services
        iptables-legacy -A services -p tcp -m multiport --dports 22,80 -m comment --comment 'the web' -j ACCEPT";
    pair.lb1.sh(rules)?;
    let found = mended(&lb1, "VIP-FW-001", &pair.lb1)?;
    let line = found.line("VIP-FW-001")?;
    ensure!(line.starts_with("'iptables-legacy' "), "{line}");
    Ok(())
}

#[test]
fn rules_with_jumps_maps_and_states_are_followed_and_what_is_beyond_is_said() -> Result<()> {
    let (pair, lb1) = alone("")?;
    let chains = |last: &str| {
        format!(
            "flush ruleset
             table inet filter {{
                 set web {{ type inet_service; elements = {{ 80, 443 }}; }}
                 chain services {{ tcp dport @web accept; {last}; }}
                 chain input {{
                     type filter hook input priority 0; policy accept
                     ct state vmap {{ invalid : drop, established : accept, related : accept }}
                     iifname vmap {{ \"lo\" : accept, \"eth0\" : jump services }}
                     ct state {{ new, untracked }} drop
                 }}
             }}\n"
        )
    };
    nft(&pair.lb1, &chains("ip protocol { icmp, 112 } accept"))?;
    let report = examine(&lb1)?;
    report.has(&[])?;
    ensure!(report.not_looked_at() == "[]", "{report:?}");
    nft(
        &pair.lb1,
        &chains("ip protocol 112 limit rate 100/second accept"),
    )?;
    let report = examine(&lb1)?;
    report.has(&[])?;
    let said = report.not_looked_at();
    ensure!(
        said.contains("adverts of web in cannot be judged: inet filter services"),
        "{said}"
    );
    nft(&pair.lb1, &chains("ip protocol icmp accept"))?;
    mended(&lb1, "VIP-FW-001", &pair.lb1)?;
    Ok(())
}

#[test]
fn clients_that_a_rule_turns_away_are_found() -> Result<()> {
    let server = format!(
        "[[virtual_server]]\nname = \"http\"\naddress = \"{VIP}:80\"\nvrrp = \"web\"\n\
         scheduler = \"rr\"\n[[virtual_server.real_server]]\naddress = \"10.77.0.12\"\n"
    );
    let pair = Pair::new()?;
    pair.lb1.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    pair.lb2
        .run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1")?;
    pair.lb2.ip(&format!("addr add {VIP}/32 dev lo"))?;
    let look = || examine_file(&pair.lb1, &fast(150, &server));
    let known = super::with_ipvs(&[]);
    look()?.has(&known)?;
    nft(
        &pair.lb1,
        &format!(
            "table ip filter {{\n chain input {{\n  type filter hook input priority 0\n  \
             ip daddr {VIP} tcp dport 80 reject\n }}\n}}\n"
        ),
    )?;
    let found = look()?;
    found.has(&[&known[..], &["VIP-FW-003"]].concat())?;
    found.mend("VIP-FW-003", &pair.lb1)?;
    look()?.has(&known)?;
    Ok(())
}

#[test]
fn a_director_of_another_version_is_found_with_the_key_that_unites_them() -> Result<()> {
    let pair = Pair::new()?;
    let second = lab::pair::router(100);
    let (lb1, lb2) = pair.start_with(&fast(150, "takeover_probe = \"off\""), &second)?;
    lb1.wait_for_state("master")?;
    let found = examine(&lb2)?;
    found.has(&["VIP-VRRP-002"])?;
    lb2.reload(&found.mended("VIP-VRRP-002", &second)?)?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.11"))?;
    for director in [&lb1, &lb2] {
        examine(director)?.has(&[])?;
    }
    Ok(())
}

#[test]
fn another_cluster_with_the_same_vrid_is_found_and_a_free_one_named() -> Result<()> {
    let pair = Pair::new()?;
    let other = fast(200, "").replace(VIP, "10.77.0.200");
    let mine = fast(150, "");
    let (lb1, lb2) = pair.start_with(&mine, &other)?;
    lb2.wait_for_state("master")?;
    // This one never becomes master, so that nobody holds its address.
    let found = examine(&lb1)?;
    found.has(&["VIP-VRRP-003"])?;
    lb1.reload(&found.mended("VIP-VRRP-003", &mine)?)?;
    pair.wait_for_holders(&["lb1"])?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

#[test]
fn a_keepalived_beside_the_daemon_is_found_and_stopped() -> Result<()> {
    let (pair, lb1) = alone("")?;
    let config = format!(
        "vrrp_instance web {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
         priority 50\n advert_int 1\n version 3\n virtual_ipaddress {{ {VIP}/24 }}\n}}\n"
    );
    let keepalived = Keepalived::start(&pair.lb1, &config)?;
    lab::wait_until(lab::pair::ELECTION, "keepalived runs", || {
        Ok(keepalived.state().is_some())
    })?;
    let found = examine(&lb1)?;
    found.has(&["VIP-VRRP-004"])?;
    found.mend("VIP-VRRP-004", &pair.lb1)?;
    keepalived.stop()?;
    lb1.wait_for_state("master")?;
    lab::wait_until(lab::pair::ELECTION, "the address", || {
        pair.lb1.has_address(VIP)
    })?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

#[test]
fn a_switch_that_eats_adverts_is_found_by_what_the_peer_says() -> Result<()> {
    let pair = Pair::new()?;
    let with_http = |own: u8, priority: u8| {
        let global = format!("[global]\nhttp = \"10.77.0.{own}:9650\"\nhttp_public = true\n");
        format!("{global}{}", fast(priority, "takeover_probe = \"off\""))
    };
    let (first, second) = (with_http(11, 150), with_http(12, 100));
    let (lb1, lb2) = pair.start_with(&first, &second)?;
    pair.wait_for_holders(&["lb1"])?;
    // Whoever has spoken to the other knows its MAC.
    pair.lb1.run("ping -c1 -W5 10.77.0.12")?;
    for port in ["lb1-eth0", "lb2-eth0"] {
        eat(&pair, port)?;
    }
    pair.wait_for_holders(&["lb1", "lb2"])?;
    let found = examine(&lb1)?;
    found.has(&["VIP-VRRP-005"])?;
    lb1.reload(&found.mended("VIP-VRRP-005", &first)?)?;
    let mirrored = found.mended("VIP-VRRP-005", &second)?;
    let mirrored = mirrored.replace(
        "{ source = \"10.77.0.11\", peers = [\"10.77.0.12\"] }",
        "{ source = \"10.77.0.12\", peers = [\"10.77.0.11\"] }",
    );
    lb2.reload(&mirrored)?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/address", &json!("10.77.0.11"))?;
    examine(&lb1)?.has(&[])?;
    Ok(())
}

/// The switch sends no multicast to that port which nobody there has asked for.
fn eat(pair: &Pair, port: &str) -> Result<()> {
    let switch = format!("{}switch", pair.lab.prefix());
    run(std::process::Command::new("bridge").args([
        "-n",
        &switch,
        "link",
        "set",
        "dev",
        port,
        "mcast_flood",
        "off",
    ]))
    .map(|_| ())
}
