//! What else a master has than its addresses: the firewall of accept mode, routes, rules, and how
//! addresses are put on.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::{Host, wait_until};
use serde_json::json;

#[test]
fn with_accept_off_the_address_answers_nothing_and_the_status_says_so() -> Result<()> {
    let (pair, client) = super::ipv6::hosts()?;
    let off = "accept = false";
    let four = fast(150, off);
    let six = super::ipv6::router6(150, off).replace("\"web\"", "\"web6\"");
    let lb1 = Director::start(&pair.lb1, &format!("{four}{six}"))?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/vrrp/1/state", &json!("master"))?;
    let ping = |address: &str| {
        client
            .run(&format!("ping -c 2 -i 0.2 -W 1 {address}"))
            .is_ok()
    };
    ensure!(!ping(VIP) && !ping("2001:db8::10"), "it answers");
    ensure!(
        ping("10.77.0.11") && ping("2001:db8::11"),
        "its own addresses are dead, too"
    );
    // Neighbours find it all the same.
    let neighbours = client.run("ip neigh")?;
    let mac = pair.lb1.mac()?;
    for address in [VIP, "2001:db8::10"] {
        let line = format!("{address} dev eth0 lladdr {mac}");
        ensure!(neighbours.contains(&line), "{neighbours}");
    }
    let page = lb1.status_text()?;
    ensure!(
        page.contains("answer nothing but IPVS services (accept = false)"),
        "{page}"
    );
    ensure!(
        pair.lb1
            .run("nft list ruleset")?
            .contains("table inet vipd")
    );
    lb1.reload(&format!("{four}{six}").replace(off, "accept = true"))?;
    wait_until(ELECTION, "it answers", || {
        Ok(ping(VIP) && ping("2001:db8::10"))
    })?;
    lb1.reload(&format!("{four}{six}"))?;
    wait_until(ELECTION, "it does not answer", || Ok(!ping(VIP)))?;
    lb1.stop()?;
    let rules = pair.lb1.run("nft list ruleset")?;
    ensure!(!rules.contains("vipd"), "{rules}");
    Ok(())
}

#[test]
fn virtual_routes_and_rules_follow_the_master_and_are_put_back() -> Result<()> {
    let pair = Pair::new()?;
    let more = format!(
        "virtual_routes = [{{ to = \"10.50.0.0/16\", via = \"10.77.0.1\", source = \"{VIP}\", \
         table = 100, metric = 7 }}, {{ to = \"10.51.0.0/16\", interface = \"eth0\" }}]\n\
         virtual_rules = [{{ priority = 100, from = \"{VIP}\", table = 100 }}]"
    );
    let (lb1, lb2) = pair.start_fast(&more)?;
    wait_for_routes(&pair.lb1, true)?;
    wait_for_routes(&pair.lb2, false)?;
    // Somebody deletes them.
    pair.lb1.ip("route flush table 100")?;
    pair.lb1.ip("rule del priority 100")?;
    wait_for_routes(&pair.lb1, true)?;
    lb1.vipctl(&["switchover", "web"])?;
    wait_for_routes(&pair.lb2, true)?;
    wait_for_routes(&pair.lb1, false)?;
    lb2.stop()?;
    wait_for_routes(&pair.lb1, true)?;
    wait_for_routes(&pair.lb2, false)?;
    pair.lab.pull_cable(&pair.lb1)?;
    lb1.wait_for_state("fault")?;
    wait_for_routes(&pair.lb1, false)
}

fn wait_for_routes(host: &Host, wanted: bool) -> Result<()> {
    let mut seen = String::new();
    wait_until(ELECTION, "routes and rules", || {
        let routes = host.run("ip route show table all")?;
        seen = format!("{routes}{}", host.run("ip rule")?);
        let there = [
            seen.contains(&format!(
                "10.50.0.0/16 via 10.77.0.1 dev eth0 table 100 proto 112 src {VIP} metric 7"
            )),
            seen.contains("10.51.0.0/16 dev eth0 proto 112"),
            seen.contains(&format!("100:	from {VIP} lookup 100")),
        ];
        Ok(there == [wanted; 3])
    })
    .map(|_| ())
    .map_err(|error| error.context(format!("{wanted} on {}: {seen}", host.name())))
}

#[test]
fn an_address_has_the_label_the_scope_and_the_route_that_are_configured() -> Result<()> {
    let pair = Pair::new()?;
    let addresses = format!(
        "[{{ address = \"{VIP}/24\", label = \"eth0:vip\" }}, \
         {{ address = \"10.98.0.1/24\", scope = \"link\", advertise = false }}, \
         {{ address = \"10.99.0.1/24\", prefix_route = false, advertise = false }}]"
    );
    let config = fast(150, "").replace(&format!("[\"{VIP}/24\"]"), &addresses);
    let lb1 = Director::start(&pair.lb1, &config)?;
    pair.wait_for_holders(&["lb1"])?;
    wait_until(ELECTION, "the others", || pair.lb1.has_address("10.99.0.1"))?;
    let text = pair.lb1.run("ip -o addr show dev eth0")?;
    let line = |address: &str| {
        let mut lines = text.lines();
        lines
            .find(|line| line.contains(address))
            .unwrap_or_default()
    };
    ensure!(
        line(VIP).contains("eth0:vip") && line(VIP).contains("scope global"),
        "{text}"
    );
    ensure!(line("10.98.0.1").contains("scope link"), "{text}");
    ensure!(line("10.99.0.1").contains("noprefixroute"), "{text}");
    let routes = pair.lb1.run("ip route")?;
    ensure!(
        routes.contains("10.98.0.0/24") && !routes.contains("10.99.0.0/24"),
        "{routes}"
    );
    // Not advertised: the peer that has one address only does not see a difference.
    let lb2 = Director::start(&pair.lb2, &fast(100, ""))?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(!lb2.log().contains("other addresses"), "{}", lb2.log());
    lb1.stop()?;
    let text = pair.lb1.run("ip -o -4 addr show dev eth0")?;
    ensure!(text.lines().count() == 1, "{text}");
    Ok(())
}

#[test]
fn an_address_that_the_kernel_refuses_is_a_fault_and_is_not_announced_before_it_is_there()
-> Result<()> {
    let pair = Pair::new()?;
    let watcher = pair.lab.host("watcher", "10.77.0.99/24")?;
    pair.lb1
        .run("sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=1")?;
    let extra = format!("[\"{VIP}/24\", {{ address = \"2001:db8::99/64\", advertise = false }}]");
    let config = fast(150, "").replace(&format!("[\"{VIP}/24\"]"), &extra);
    let capture = watcher.capture("icmp6 or arp")?;
    let lb1 = Director::start(&pair.lb1, &config)?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_event(&["address.refused", "2001:db8::99"])?;
    let page = lb1.status_text()?;
    ensure!(page.contains("2001:db8::99"), "{page}");
    lb1.wait_for_state("master")?;
    let announced = ["neighbor advertisement, tgt is 2001:db8::99"];
    wait_until(ELECTION, "the other one is announced", || {
        Ok(capture.count(&["tell 10.77.0.10"]) > 0)
    })?;
    let early = capture.count(&announced);
    ensure!(early == 0, "announced before it is there");
    pair.lb1
        .run("sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=0")?;
    wait_until(ELECTION, "the address", || {
        pair.lb1.has_address("2001:db8::99")
    })?;
    wait_until(ELECTION, "its announcement", || {
        Ok(capture.count(&announced) > 0)
    })?;
    lb1.wait_for_status("/vrrp/0/faults", &json!([]))?;
    Ok(())
}
