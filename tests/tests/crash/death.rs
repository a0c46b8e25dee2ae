//! The daemon dies and its guard lives; or the guard dies.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lab::cluster::VIP;
use lab::director::{Director, signal};
use lab::pair::{ELECTION, Pair, fast};
use lab::process::Process;
use lab::{Host, wait_until};

/// Kills, for a median.
const KILLS: usize = 10;
/// A takeover after priority 0 on a busy machine; without it, it is no faster than 361 ms.
const SOON: Duration = Duration::from_secs(3);

/// What a death took, from the signal on.
struct Death {
    priority_0: Duration,
    address_gone: Duration,
    successor: Duration,
}

#[test]
fn the_peer_is_told_and_the_address_goes_at_once_when_the_daemon_is_killed() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    let mut deaths = Vec::new();
    for _ in 0..KILLS {
        deaths.push(die(&pair, &mut lb1, "KILL")?);
        lb1.start_again()?;
        pair.wait_for_holders(&["lb1"])?;
    }
    for (what, of) in [
        ("priority 0", (|d| d.priority_0) as fn(&Death) -> Duration),
        ("the address gone", |d| d.address_gone),
        ("the successor's first advert", |d| d.successor),
    ] {
        let mut times: Vec<_> = deaths.iter().map(of).collect();
        times.sort();
        println!(
            "after SIGKILL: {what}: median {:.1?}, worst {:.1?}",
            times[KILLS / 2],
            times[KILLS - 1]
        );
        ensure!(times[KILLS / 2] < SOON, "{what}: {times:?}");
    }
    Ok(())
}

#[test]
fn a_segmentation_fault_and_an_abort_are_deaths_like_any_other() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    for name in ["SEGV", "ABRT"] {
        let death = die(&pair, &mut lb1, name)?;
        println!(
            "after SIG{name}: priority 0 {:.1?}, the address gone {:.1?}, the successor {:.1?}",
            death.priority_0, death.address_gone, death.successor
        );
        lb1.start_again()?;
        pair.wait_for_holders(&["lb1"])?;
    }
    Ok(())
}

#[test]
fn a_graceful_stop_and_a_reload_are_none_of_the_guards_business() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, _lb2) = pair.start_fast("")?;
    let guard = lb1.guard()?.context("no guard")?;
    lb1.reload(&fast(160, ""))?;
    lb1.wait_for_status("/vrrp/0/priority/effective", &160.into())?;
    ensure!(lb1.guard()? == Some(guard), "another guard after a reload");
    ensure!(pair.holders()? == ["lb1"]);
    let log = lb1.process().log().to_owned();
    lb1.stop()?;
    ensure!(!is_alive(guard), "the guard outlives its daemon");
    let log = std::fs::read_to_string(log)?;
    ensure!(!log.contains("vipd guard"), "{log}");
    pair.wait_for_holders(&["lb2"])
}

#[test]
fn a_guard_that_dies_is_replaced_and_the_next_one_knows_what_to_do() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    for _ in 0..2 {
        let first = lb1.guard()?.context("no guard")?;
        signal(first, "KILL")?;
        wait_until(ELECTION, "another guard", || {
            Ok(lb1.guard()?.is_some_and(|guard| guard != first))
        })?;
    }
    lb1.wait_for_event(&["guard.lost", "signal: 9"])?;
    lb1.wait_for_event(&["guard.found"])?;
    ensure!(pair.holders()? == ["lb1"]);
    die(&pair, &mut lb1, "KILL").map(|_| ())
}

#[test]
fn signals_to_the_whole_group_do_not_end_the_guard_before_its_daemon() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, _lb2) = pair.start_fast("")?;
    let guard = lb1.guard()?.context("no guard")?;
    signal(guard, "TERM")?;
    die(&pair, &mut lb1, "KILL")?;
    wait_until(ELECTION, "the end of the guard", || Ok(!is_alive(guard)))?;
    Ok(())
}

#[test]
fn signed_adverts_virtual_macs_routes_and_rules_are_seen_to_as_well() -> Result<()> {
    let pair = Pair::new()?;
    let key = "ab".repeat(16);
    let more = format!(
        "authentication = {{ type = \"hmac\", key_id = 1, key = \"{key}\" }}\n\
         virtual_mac = true\n\
         virtual_routes = [{{ to = \"10.99.0.0/16\", via = \"10.77.0.12\" }}]\n\
         virtual_rules = [{{ from = \"10.98.0.0/16\", table = 100, priority = 1000 }}]\n"
    );
    let (mut lb1, _lb2) = pair.start_with(&fast(150, &more), &fast(100, &more))?;
    lb1.wait_for_state("master")?;
    let mine = |host: &Host| {
        host.sh(
            "ip -o link show type macvlan; ip route show proto 112; ip rule | grep 10.98 || true",
        )
    };
    wait_until(ELECTION, "the route, the rule and the macvlan", || {
        Ok(mine(&pair.lb1)?.lines().count() == 3)
    })?;
    die(&pair, &mut lb1, "KILL")?;
    wait_until(ELECTION, "nothing left", || Ok(mine(&pair.lb1)?.is_empty()))?;
    lb1.start_again()?;
    lb1.wait_for_state("master").map(|_| ())
}

#[test]
fn peers_by_unicast_are_told() -> Result<()> {
    let pair = Pair::new()?;
    let unicast = |own, peer| format!("unicast = {{ source = \"{own}\", peers = [\"{peer}\"] }}\n");
    let (mut lb1, _lb2) = pair.start_with(
        &fast(150, &unicast("10.77.0.11", "10.77.0.12")),
        &fast(100, &unicast("10.77.0.12", "10.77.0.11")),
    )?;
    pair.wait_for_holders(&["lb1"])?;
    die(&pair, &mut lb1, "KILL").map(|_| ())
}

/// Kills the master lb1 and measures until lb2 has taken over.
fn die(pair: &Pair, lb1: &mut Director, name: &str) -> Result<Death> {
    let capture = pair.lb2.capture("proto 112")?;
    let monitor = monitor(&pair.lb1)?;
    // The master is at work, and its guard knows that.
    capture.wait_for(ELECTION, UNIX_EPOCH, &["10.77.0.11 >"])?;
    if name == "SEGV" {
        // A first one that no instruction caused is taken by Rust, which looks for stack overflows.
        signal(lb1.pid(), name)?;
        wait_until(ELECTION, "no handler", || Ok(!catches_segv(lb1.pid())?))?;
    }
    let at = SystemTime::now();
    lb1.kill_alone(name)?;
    let told = capture.wait_for(ELECTION, at, &["10.77.0.11 >", "prio 0"])?;
    let successor = capture.wait_for(ELECTION, at, &["10.77.0.12 >"])?;
    let mut gone = None;
    wait_until(ELECTION, "the address gone", || {
        gone = gone_at(&monitor.output());
        Ok(gone.is_some() && !pair.lb1.holds(VIP)? && pair.lb2.holds(VIP)?)
    })?;
    let gone = gone.context("no address gone")?;
    Ok(Death {
        priority_0: told.at.duration_since(at)?,
        successor: successor.at.duration_since(at)?,
        address_gone: since_midnight_from(at, gone)?,
    })
}

fn monitor(host: &Host) -> Result<Process> {
    let words = ["TZ=UTC", "ip", "-ts", "monitor", "address"];
    let monitor = host.spawn("monitor", Path::new("env"), &words)?;
    // It says nothing until something happens.
    for n in [1, 2] {
        host.ip(&format!("address add 127.0.9.{n}/32 dev lo"))?;
    }
    let listening = wait_until(ELECTION, "ip monitor listens", || {
        host.ip("address del 127.0.9.1/32 dev lo")?;
        host.ip("address add 127.0.9.1/32 dev lo")?;
        Ok(monitor.output().contains("127.0.9.1"))
    });
    host.ip("address del 127.0.9.1/32 dev lo")?;
    host.ip("address del 127.0.9.2/32 dev lo")?;
    listening.map(|_| monitor)
}

/// When the last virtual address went: the time of the day.
fn gone_at(output: &str) -> Option<Duration> {
    let line = output
        .lines()
        .rfind(|line| line.contains("Deleted") && line.contains(VIP))?;
    let (time, _) = line.split_once('T')?.1.split_once(']')?;
    let mut seconds = 0.0;
    for part in time.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(Duration::from_secs_f64(seconds))
}

fn since_midnight_from(at: SystemTime, gone: Duration) -> Result<Duration> {
    let day = 24.0 * 3600.0;
    let at = at.duration_since(UNIX_EPOCH)?.as_secs_f64() % day;
    let passed = (gone.as_secs_f64() - at).rem_euclid(day);
    ensure!(passed < 3600.0, "the address went before");
    Ok(Duration::from_secs_f64(passed))
}

fn catches_segv(id: u32) -> Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(line.context("no SigCgt")?.trim(), 16)?;
    Ok(caught & (1 << 10) != 0)
}

fn is_alive(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}
