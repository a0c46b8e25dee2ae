//! Who is master, when, and how steadily.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;
use serde_json::json;

#[test]
fn with_a_preempt_delay_the_better_router_waits_before_it_takes_over() -> Result<()> {
    let pair = Pair::new()?;
    let _lb2 = Director::start(&pair.lb2, &fast(100, ""))?;
    pair.wait_for_holders(&["lb2"])?;
    let lb1 = Director::start(&pair.lb1, &fast(150, "preempt_delay = \"2s\""))?;
    lb1.wait_for_status("/vrrp/0/master/priority", &json!(100))?;
    sleep(Duration::from_millis(1_500));
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_state("backup")?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_event(&["vrrp.master web", "10.77.0.12", "lower"])?;
    Ok(())
}

#[test]
fn a_preempt_delay_ends_when_the_master_is_lost() -> Result<()> {
    let pair = Pair::new()?;
    let _lb2 = Director::start(&pair.lb2, &fast(100, ""))?;
    pair.wait_for_holders(&["lb2"])?;
    let lb1 = Director::start(&pair.lb1, &fast(150, "preempt_delay = \"1000s\""))?;
    lb1.wait_for_status("/vrrp/0/master/priority", &json!(100))?;
    pair.lab.pull_cable(&pair.lb2)?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn without_preemption_a_returning_router_waits_until_the_master_is_gone() -> Result<()> {
    let pair = Pair::new()?;
    let lb2 = Director::start(&pair.lb2, &fast(100, ""))?;
    pair.wait_for_holders(&["lb2"])?;
    let lb1 = Director::start(&pair.lb1, &fast(150, "preempt = false"))?;
    lb1.wait_for_status("/vrrp/0/master/priority", &json!(100))?;
    sleep(Duration::from_secs(2));
    pair.wait_for_holders(&["lb2"])?;
    lb2.stop()?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn with_a_start_delay_a_director_neither_speaks_nor_takes_over_at_first() -> Result<()> {
    let pair = Pair::new()?;
    let capture = pair.lb2.capture("proto 112")?;
    let started = SystemTime::now();
    let lb1 = Director::start(&pair.lb1, &fast(150, "start_delay = \"2s\""))?;
    lb1.wait_for_state("initialize")?;
    pair.wait_for_holders(&["lb1"])?;
    let first = capture.wait_for(ELECTION, started, &["10.77.0.11 >"])?;
    let waited = first.at.duration_since(started)?;
    ensure!(waited > Duration::from_secs(2), "it waited for {waited:?}");
    Ok(())
}

#[test]
fn a_master_is_dead_after_as_many_adverts_as_down_adverts_says() -> Result<()> {
    let pair = Pair::new()?;
    let (_lb1, lb2) = pair.start_fast("down_adverts = 15")?;
    let capture = pair.lb2.capture("proto 112")?;
    let before = SystemTime::now();
    capture.wait_for(ELECTION, before, &["10.77.0.11 >"])?;
    pair.lab.isolate(&pair.lb1)?;
    let taken = capture.wait_for(ELECTION, before, &["10.77.0.12 >"])?;
    let mut heard = capture.packets();
    heard.retain(|packet| packet.text.contains("10.77.0.11 >"));
    let last = heard.last().context("no advert of lb1")?;
    let silence = taken.at.duration_since(last.at)?;
    // 15 intervals and the skew of priority 100: 1.56 s; three would be 0.36 s.
    let wanted = Duration::from_millis(1_500)..Duration::from_millis(3_500);
    ensure!(wanted.contains(&silence), "silent for {silence:?}");
    lb2.wait_for_event(&["vrrp.master web", "10.77.0.11 (priority 150) fell silent"])?;
    Ok(())
}

#[test]
fn the_owner_of_the_address_is_master_from_its_first_moment() -> Result<()> {
    let pair = Pair::new()?;
    let lb2 = Director::start(&pair.lb2, &fast(254, ""))?;
    pair.wait_for_holders(&["lb2"])?;
    let lb1 = Director::start(&pair.lb1, &fast(255, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_status("/vrrp/0/transitions", &json!(1))?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(255))?;
    lb2.wait_for_state("backup")?;
    Ok(())
}

#[test]
fn a_backup_of_version_3_follows_the_interval_of_its_master() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("takeover_probe = \"off\"")?;
    lb1.reload(&fast(150, "").replace("\"100ms\"", "\"1s\""))?;
    lb1.wait_for_status("/vrrp/0/advert_interval_ms", &json!(1_000))?;
    // Its own interval would make it master after a third of a second of silence.
    sleep(Duration::from_secs(3));
    lb2.wait_for_status("/vrrp/0/transitions", &json!(1))?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn the_other_checksum_form_is_heard_as_well() -> Result<()> {
    let pair = Pair::new()?;
    let other = fast(150, "checksum = \"rfc9568\"");
    let (_lb1, lb2) = pair.start_with(&other, &fast(100, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    ensure!(lb2.discarded("checksum")? == 0);
    // tcpdump knows the form with the pseudo-header only.
    let dump = |count| {
        let line = format!("timeout 10 tcpdump -nvv -c {count} -i eth0 proto 112");
        pair.lb2.run(&line)
    };
    ensure!(dump(1)?.contains("bad vrrp cksum"), "{}", dump(1)?);
    Ok(())
}

#[test]
fn a_master_that_was_stopped_for_a_while_leaves_one_master_when_it_goes_on() -> Result<()> {
    let pair = Pair::new()?;
    // The kernel of the stopped host still answers for the address: that is not asked here.
    let (lb1, lb2) = pair.start_fast("takeover_probe = \"off\"")?;
    let watcher = pair.lab.host("watcher", "10.77.0.99/24")?;
    lb1.process().signal("STOP")?;
    lb2.wait_for_state("master")?;
    sleep(Duration::from_secs(10));
    let capture = watcher.capture("proto 112")?;
    let woken = SystemTime::now();
    lb1.process().signal("CONT")?;
    lb1.wait_for_event(&["vrrp.backup web", "did not run for"])?;
    pair.wait_for_holders(&["lb1"])?;
    sleep(Duration::from_secs(1));
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    // It looked before it spoke: it heard the other one first, and then took over once.
    let back = capture.wait_for(ELECTION, woken, &["10.77.0.11 >"])?;
    let mut others = capture.packets();
    others.retain(|packet| packet.at > back.at && packet.text.contains("10.77.0.12 >"));
    ensure!(others.len() <= 1, "two masters spoke: {others:#?}");
    lb1.wait_for_status("/vrrp/0/rival", &json!(null))?;
    Ok(())
}

#[test]
fn a_stopped_masters_kernel_answers_for_the_address_until_its_backup_has_waited_long_enough()
-> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    lb1.process().signal("STOP")?;
    lb2.wait_for_event(&["vrrp.suspect web"])?;
    lb2.wait_for_event(&["vrrp.takeover_answered web", &pair.lb1.mac()?])?;
    lb2.wait_for_state("master")?;
    lb1.process().signal("CONT")?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_state("backup")?;
    Ok(())
}

#[test]
fn adverts_leave_on_time_while_two_thousand_addresses_are_put_on() -> Result<()> {
    let pair = Pair::new()?;
    let watcher = pair.lab.host("watcher", "10.77.0.99/24")?;
    let many: Vec<String> = (0..2_000)
        .map(|n: u32| {
            format!(
                "{{ address = \"10.{}.{}.1/32\", advertise = false }}",
                100 + n / 250,
                n % 250
            )
        })
        .collect();
    let many = fast(150, "").replace(
        &format!("[\"{VIP}/24\"]"),
        &format!("[\"{VIP}/24\", {}]", many.join(", ")),
    );
    let capture = watcher.capture("proto 112")?;
    // The machine has other work, too.
    let spin = ["-c", "while :; do :; done"];
    let _busy = watcher.spawn("busy", Path::new("sh"), &spin)?;
    let _busier = pair.lb2.spawn("busy", Path::new("sh"), &spin)?;
    let lb1 = Director::start(&pair.lb1, &many)?;
    pair.wait_for_holders(&["lb1"])?;
    let last = "10.107.249.1";
    wait_until(Duration::from_secs(30), "the last address", || {
        pair.lb1.has_address(last)
    })?;
    // The second round of announcements, too, and then a stop, which takes them all away.
    sleep(Duration::from_secs(6));
    let begun = Instant::now();
    lb1.stop()?;
    let stopped = begun.elapsed();
    ensure!(!pair.lb1.has_address(last)?);
    let packets = capture.packets();
    let worst = packets
        .windows(2)
        .map(|pair| pair[1].at.duration_since(pair[0].at));
    let worst = worst.filter_map(Result::ok).max().unwrap_or_default();
    ensure!(packets.len() > 50, "{} adverts", packets.len());
    ensure!(
        worst < Duration::from_millis(200),
        "no advert for {worst:?} (the stop took {stopped:?})"
    );
    Ok(())
}
