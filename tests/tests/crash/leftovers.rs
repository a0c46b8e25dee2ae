//! The daemon and its guard die together; whatever is left is found by the next one, or by `vipd
//! release`.

use anyhow::{Result, ensure};
use lab::Host;
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;

const MORE: &str = "virtual_mac = true\naccept = false\n";

fn everything() -> String {
    format!(
        "{MORE}virtual_routes = [{{ to = \"10.99.0.0/16\", via = \"10.77.0.12\" }}]\n\
         virtual_rules = [{{ from = \"10.98.0.0/16\", table = 100, priority = 1000 }}]\n"
    )
}

/// Everything of vipd's that `ip` and `nft` show, a line each.
fn held(host: &Host) -> Result<Vec<String>> {
    let text = host.sh(&format!(
        "ip -o -4 addr | grep -w {VIP} || true; ip -o link show type macvlan; \
         ip route show proto 112; ip rule | grep 10.98 || true; \
         nft list tables | grep -w vipd || true"
    ))?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[test]
fn release_removes_everything_that_both_left_and_tells_the_peers() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_with(&fast(150, &everything()), &fast(100, &everything()))?;
    wait_until(ELECTION, "all five", || Ok(held(&pair.lb1)?.len() == 5))?;
    let printed = lb1.kill_and_release(&[])?;
    ensure!(held(&pair.lb1)?.is_empty(), "{:?}", held(&pair.lb1)?);
    for words in ["gives up", VIP, "10.99.0.0/16", "nftables"] {
        ensure!(printed.contains(words), "{words}: {printed}");
    }
    let before = pair.lb1.sh("sysctl -n net.ipv4.conf.eth0.arp_ignore")?;
    ensure!(before.trim() == "0", "arp_ignore is {before}");
    lb2.wait_for_state("master")?;
    ensure!(pair.lb2.holds(VIP)?);
    Ok(())
}

#[test]
fn release_without_the_credential_removes_everything_and_says_who_was_not_told() -> Result<()> {
    let pair = Pair::new()?;
    let with = |key: &str| {
        let hmac = format!("authentication = {{ type = \"hmac\", key_id = 1, key = \"{key}\" }}\n");
        // A neighbour that needs no key.
        let open = "[[vrrp]]\nname = \"open\"\ninterface = \"eth0\"\nvrid = 52\nversion = 3\n\
                    advert_interval = \"100ms\"\nvirtual_addresses = [\"10.77.0.20/24\"]\n";
        fast(150, &(hmac + &everything() + open))
    };
    let mut lb1 = Director::start(&pair.lb1, &with(&"ab".repeat(16)))?;
    wait_until(ELECTION, "all five", || Ok(held(&pair.lb1)?.len() == 5))?;
    lb1.wait_for_status("/vrrp/1/state", &"master".into())?;
    let capture = pair.lb2.capture("proto 112")?;
    lb1.kill()?;
    // What systemd 252 makes of it for ExecStopPost=.
    lb1.write_config(&with("credential:vrrp"))?;
    let mut release = lb1.host.command(lab::binary("vipd")?);
    let release = release.args(["release", "-c"]).arg(lb1.config());
    let printed = lab::run(release.env_remove("CREDENTIALS_DIRECTORY"))?;
    ensure!(held(&pair.lb1)?.is_empty(), "{:?}", held(&pair.lb1)?);
    ensure!(!pair.lb1.has_address("10.77.0.20")?, "{printed}");
    let words = "did not tell the peers of router web, whose key cannot be read";
    ensure!(printed.contains(words), "{printed}");
    ensure!(
        printed.contains("router open (VRID 52 on eth0) gives up"),
        "{printed}"
    );
    ensure!(!printed.contains("router web (VRID"), "{printed}");
    capture.wait_for(
        ELECTION,
        std::time::SystemTime::UNIX_EPOCH,
        &["vrid 52,", "prio 0"],
    )?;
    ensure!(
        capture.count(&["vrid 51,", "prio 0"]) == 0,
        "an unsigned advert"
    );
    // Settings of the kernel are what they were before the first start.
    let setting = pair.lb1.sh("sysctl -n net.ipv4.conf.eth0.arp_ignore")?;
    ensure!(setting.trim() == "0", "arp_ignore is {setting}");
    Ok(())
}

#[test]
fn the_next_daemon_adopts_all_that_both_left_and_its_stop_takes_it_away() -> Result<()> {
    let pair = Pair::new()?;
    let mut lb1 = Director::start(&pair.lb1, &fast(150, &everything()))?;
    wait_until(ELECTION, "all five", || Ok(held(&pair.lb1)?.len() == 5))?;
    for _ in 0..3 {
        lb1.kill()?;
        ensure!(held(&pair.lb1)?.len() == 5, "the crash left not everything");
        lb1.start_again()?;
        lb1.wait_for_state("master")?;
        wait_until(ELECTION, "all five", || Ok(held(&pair.lb1)?.len() == 5))?;
        let events = lb1.events()?;
        ensure!(
            !events.iter().any(|event| event.contains("refused")),
            "{events:#?}"
        );
        ensure!(!lb1.log().contains("exists"), "{}", lb1.log());
    }
    lb1.stop()?;
    ensure!(held(&pair.lb1)?.is_empty(), "{:?}", held(&pair.lb1)?);
    Ok(())
}

#[test]
fn the_next_daemon_removes_what_it_is_not_to_have() -> Result<()> {
    let pair = Pair::new()?;
    let mut lb1 = Director::start(&pair.lb1, &fast(150, &everything()))?;
    wait_until(ELECTION, "all five", || Ok(held(&pair.lb1)?.len() == 5))?;
    lb1.kill()?;
    // Another address, and nothing beside it.
    lb1.write_config(&fast(150, "").replace(VIP, "10.77.0.20"))?;
    lb1.start_again()?;
    lb1.wait_for_state("master")?;
    wait_until(ELECTION, "nothing left", || Ok(held(&pair.lb1)?.is_empty()))?;
    ensure!(pair.lb1.has_address("10.77.0.20")?);
    Ok(())
}
