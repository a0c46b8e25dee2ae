//! Two masters, and what looks like it.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lab::Host;
use lab::capture::Packet;
use lab::cluster::VIP;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::process::Process;
use serde_json::json;

const ADVERTS: &str = "ip protocol 112";
/// Three intervals and the skew of priority 100.
const MASTER_DOWN: Duration = Duration::from_millis(361);
/// What a busy machine may add.
const LATE: Duration = Duration::from_secs(2);

/// A pair whose second director has just become deaf to the first; the packets since then that the
/// switch carries.
fn deaf(takeover_probe: &str) -> Result<(Pair, Director, Director, lab::capture::Capture)> {
    let pair = Pair::new()?;
    let watcher = pair.lab.host("watcher", "10.77.0.99/24")?;
    // No second round of announcements: one that is seen has a reason of its own.
    let probe =
        format!("takeover_probe = \"{takeover_probe}\"\ngarp = {{ repeat = 1, delay = \"0s\" }}");
    let (lb1, lb2) = pair.start_fast(&probe)?;
    // Two masters claim conflicts only once the first has settled.
    sleep(Duration::from_secs(1));
    let capture = watcher.capture("proto 112 or arp")?;
    pair.lb2.drop_incoming(ADVERTS)?;
    Ok((pair, lb1, lb2, capture))
}

/// How long after it had become deaf the second director spoke.
fn silence(since: SystemTime, capture: &lab::capture::Capture) -> Result<Duration> {
    let first = capture.wait_for(ELECTION, since, &["10.77.0.12 >"])?;
    Ok(first.at.duration_since(since)?)
}

#[test]
fn a_backup_that_hears_no_master_but_whose_probe_is_answered_waits_and_then_takes_over()
-> Result<()> {
    let before = SystemTime::now();
    let (pair, lb1, lb2, capture) = deaf("hold")?;
    let mac = pair.lb1.mac()?;
    lb2.wait_for_status("/vrrp/0/suspect", &json!(mac))?;
    let status = lb2.status()?;
    let state = status["vrrp"][0]["state"].clone();
    ensure!(state == "backup", "{status:#}");
    lb2.wait_for_event(&["vrrp.suspect web", "no master is heard", &mac])?;
    lb2.wait_for_event(&["vrrp.takeover_answered web", &mac])?;
    lb2.wait_for_state("master")?;
    lb2.wait_for_status("/vrrp/0/suspect", &json!(null))?;
    let probe = capture.wait_for(ELECTION, before, &["who-has 10.77.0.10 tell 0.0.0.0"])?;
    let spoken = silence(probe.at, &capture)?;
    // From the first probe it is one advert interval, and two master-down intervals more.
    let wanted = MASTER_DOWN * 2..MASTER_DOWN * 2 + LATE;
    ensure!(wanted.contains(&spoken), "it took over after {spoken:?}");
    lb1.wait_for_status(
        "/vrrp/0/rival",
        &json!({ "address": "10.77.0.12", "priority": 100 }),
    )?;
    lb1.wait_for_event(&["vrrp.rival web", "10.77.0.12 (priority 100) is master, too"])?;
    let page = lb1.status_text()?;
    ensure!(
        page.contains("two masters: 10.77.0.12 (priority 100)"),
        "{page}"
    );
    Ok(())
}

/// Answers who asks for the virtual address, so many seconds later, in place of the kernel.
fn answer_late(host: &Host, seconds: f64) -> Result<Process> {
    // Replies of hosts that are to be silent the kernel leaves out.
    host.run("sysctl -q -w net.ipv4.conf.eth0.arp_ignore=8")?;
    let script = format!(
        "import socket, struct, time\n\
         s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))\n\
         s.bind((\"eth0\", 0x0806))\n\
         own, vip = s.getsockname()[4], socket.inet_aton(\"{VIP}\")\n\
         print(\"listens\", flush=True)\n\
         while True:\n\
         \x20   frame = s.recv(2048)\n\
         \x20   if frame[20:22] != b\"\\0\\1\" or frame[38:42] != vip or frame[22:28] == own: continue\n\
         \x20   time.sleep({seconds})\n\
         \x20   to = frame[22:28]\n\
         \x20   s.send(to + own + struct.pack(\"!HHHBBH\", 0x806, 1, 0x800, 6, 4, 2) + own + vip + to + frame[28:32])\n"
    );
    let answers = host.spawn("answers", Path::new("python3"), &["-c", &script])?;
    answers.wait_for_output(ELECTION, "listens")?;
    Ok(answers)
}

#[test]
fn a_master_that_answers_the_probe_a_quarter_of_a_second_late_is_suspected_all_the_same()
-> Result<()> {
    let pair = Pair::new()?;
    let (_lb1, lb2) = pair.start(150, 100)?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/address", &"10.77.0.11".into())?;
    let _answers = answer_late(&pair.lb1, 0.25)?;
    pair.lb2.drop_incoming(ADVERTS)?;
    lb2.wait_for_event(&["vrrp.suspect web", &pair.lb1.mac()?])?;
    pair.wait_for_holders(&["lb1"])
}

#[test]
fn a_backup_that_is_only_to_warn_takes_over_at_once_and_says_that_somebody_answers() -> Result<()> {
    let before = SystemTime::now();
    let (pair, _lb1, lb2, capture) = deaf("warn")?;
    lb2.wait_for_event(&["vrrp.takeover_answered web", &pair.lb1.mac()?])?;
    lb2.wait_for_state("master")?;
    let probe = capture.wait_for(ELECTION, before, &["who-has 10.77.0.10 tell 0.0.0.0"])?;
    let spoken = silence(probe.at, &capture)?;
    ensure!(spoken < MASTER_DOWN * 2, "it took over after {spoken:?}");
    ensure!(!lb2.events()?.join("\n").contains("vrrp.suspect"));
    Ok(())
}

#[test]
fn a_backup_that_is_not_to_ask_takes_over_without_a_word() -> Result<()> {
    let (pair, _lb1, lb2, capture) = deaf("off")?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    let events = lb2.events()?.join("\n");
    ensure!(
        !events.contains("suspect") && !events.contains("answered"),
        "{events}"
    );
    ensure!(capture.count(&["tell 0.0.0.0"]) == 0, "it asked");
    Ok(())
}

#[test]
fn a_healed_split_brain_leaves_one_master_which_announces_its_address_again() -> Result<()> {
    let (pair, lb1, lb2, capture) = deaf("off")?;
    pair.wait_for_holders(&["lb1", "lb2"])?;
    lb1.wait_for_event(&["vrrp.rival web", "10.77.0.12"])?;
    // The first announcements of either are over.
    sleep(Duration::from_secs(1));
    pair.lb2.drop_nothing()?;
    let healed = SystemTime::now();
    pair.wait_for_holders(&["lb1"])?;
    lb1.wait_for_event(&["vrrp.rival_gone web", "10.77.0.12 is gone"])?;
    lb1.wait_for_status("/vrrp/0/rival", &json!(null))?;
    lb2.wait_for_event(&["vrrp.backup web", "10.77.0.11 has the higher priority 150"])?;
    let mac = pair.lb1.mac()?;
    capture.wait_for(
        ELECTION,
        healed,
        &[&mac, "who-has 10.77.0.10", "tell 10.77.0.10"],
    )?;
    let of = |words: &[&str]| {
        let mut found: Vec<Packet> = capture.packets();
        found.retain(|packet| packet.at > healed && words.iter().all(|w| packet.text.contains(w)));
        found
    };
    let last_of_the_loser = of(&["10.77.0.12 >"]).last().map(|packet| packet.at);
    let announced = of(&[&mac, "who-has 10.77.0.10", "tell 10.77.0.10"]);
    let announced = announced.last().context("no announcement")?.at;
    ensure!(
        last_of_the_loser.is_none_or(|last| last < announced),
        "announced {announced:?}, but the other spoke {last_of_the_loser:?}"
    );
    Ok(())
}

#[test]
fn a_host_that_claims_the_address_is_a_conflict_in_events_and_status() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    let thief = pair.lab.host("thief", "10.77.0.66/24")?;
    // What claims come while a role moves are none.
    sleep(Duration::from_secs(2));
    thief.run("sysctl -q -w net.ipv4.conf.eth0.arp_notify=1")?;
    thief.ip(&format!("addr add {VIP}/24 dev eth0"))?;
    // The kernel announces its addresses where the MAC address is another.
    thief.ip("link set eth0 address 02:00:00:00:00:66")?;
    let mac = thief.mac()?;
    lb1.wait_for_event(&["address.conflict 10.77.0.10", &mac, "eth0", "web"])?;
    lb1.wait_for_status("/vrrp/0/conflicts/0/mac", &json!(mac))?;
    lb1.wait_for_status("/vrrp/0/conflicts/0/address", &json!(VIP))?;
    let page = lb1.status_text()?;
    ensure!(
        page.contains(&format!("address conflict: {mac} claims {VIP}")),
        "{page}"
    );
    // It is no reason to leave; the peer, which does not have it, has no conflict.
    lb1.wait_for_state("master")?;
    lb1.wait_for_status("/vrrp/0/transitions", &json!(2))?;
    lb2.wait_for_status("/vrrp/0/conflicts", &json!([]))?;
    Ok(())
}

#[test]
fn a_handover_back_and_forth_is_no_conflict() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    for _ in 0..3 {
        lb1.vipctl(&["switchover", "web"])?;
        pair.wait_for_holders(&["lb2"])?;
        lb2.vipctl(&["switchover", "web"])?;
        pair.wait_for_holders(&["lb1"])?;
    }
    sleep(Duration::from_secs(1));
    for director in [&lb1, &lb2] {
        let events = director.events()?.join("\n");
        for kind in ["conflict", "rival", "suspect", "answered"] {
            ensure!(!events.contains(kind), "{events}");
        }
    }
    Ok(())
}

#[test]
fn the_address_of_a_killed_director_delays_its_peer_but_does_not_stop_it() -> Result<()> {
    let pair = Pair::new()?;
    let (mut lb1, lb2) = pair.start_fast("")?;
    let capture = pair.lb2.capture("proto 112")?;
    capture.wait_for(ELECTION, SystemTime::UNIX_EPOCH, &["10.77.0.11 >"])?;
    lb1.kill()?;
    let killed = SystemTime::now();
    ensure!(
        pair.lb1.has_address(VIP)?,
        "a killed director cannot take its address along"
    );
    lb2.wait_for_event(&["vrrp.suspect web", &pair.lb1.mac()?])?;
    lb2.wait_for_event(&["vrrp.takeover_answered web"])?;
    silence(killed, &capture)?;
    let packets = capture.packets();
    let own = |packet: &Packet| packet.text.contains("10.77.0.12 >");
    let first = packets.iter().position(own).context("no advert")?;
    let waited = packets[first].at.duration_since(packets[first - 1].at)?;
    let wanted = MASTER_DOWN * 3..MASTER_DOWN * 3 + LATE;
    ensure!(wanted.contains(&waited), "it took over after {waited:?}");
    pair.wait_for_holders(&["lb1", "lb2"])?;
    // The next start takes the leftover away, if only to take over again.
    let lb1 = Director::start(&pair.lb1, &fast(50, ""))?;
    pair.wait_for_holders(&["lb2"])?;
    lb1.wait_for_status("/vrrp/0/master/priority", &json!(100))?;
    Ok(())
}
