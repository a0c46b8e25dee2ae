//! vipd beside other people's routers: a stock keepalived and FRR's vrrpd, in network namespaces of
//! this machine. They need root, and no IPVS. vipd is on `lb1`, the other on `lb2`; what is true is
//! said by `ip`, by tcpdump and tshark, and by the other's log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "interop/imported.rs"]
mod imported;
#[path = "interop/scene.rs"]
mod scene;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lab::director::Director;
use lab::keepalived::Keepalived;
use lab::{Host, wait_until};
use serde_json::{Value, json};

use self::scene::{
    BEST, ELECTION, LEAST, Scene, Stranger, THEIRS, V4, V6, instance, takeover, within,
};

#[test]
fn keepalived_of_version_2_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(2, &V4, Stranger::Keepalived)?)
}

#[test]
fn keepalived_with_a_password_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    let scene = Scene {
        ours: "authentication = { type = \"pass\", key = \"s3cret\" }",
        theirs: "authentication { auth_type PASS\n auth_pass s3cret\n }",
        wire: "vrrp.auth_type == 1 && vrrp.auth_string == \"s3cret\"",
        ..Scene::new(2, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_of_version_3_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V4, Stranger::Keepalived)?)
}

#[test]
fn keepalived_over_ipv6_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V6, Stranger::Keepalived)?)
}

#[test]
fn keepalived_from_host_to_host_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    let scene = Scene {
        ours: "unicast = { source = \"10.77.0.11\", peers = [\"10.77.0.12\"] }",
        theirs: "unicast_src_ip 10.77.0.12\n unicast_peer { 10.77.0.11\n }",
        wire: "ip.dst == 10.77.0.12",
        ..Scene::new(2, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_of_version_3_from_host_to_host_and_vipd_follow_and_relieve_each_other() -> Result<()>
{
    let scene = Scene {
        ours: "unicast = { source = \"10.77.0.11\", peers = [\"10.77.0.12\"] }",
        theirs: "unicast_src_ip 10.77.0.12\n unicast_peer { 10.77.0.11\n }",
        wire: "ip.dst == 10.77.0.12",
        ..Scene::new(3, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_over_ipv6_from_host_to_host_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    // Without `unicast_ttl` keepalived sends IPv6 with the hop limit of the kernel.
    let scene = Scene {
        ours: "unicast = { source = \"2001:db8::11\", peers = [\"2001:db8::12\"] }",
        theirs: "unicast_src_ip 2001:db8::12\n unicast_ttl 255\n unicast_peer { 2001:db8::11\n }",
        sources: ["2001:db8::11", "2001:db8::12"],
        wire: "ipv6.dst == 2001:db8::12",
        ..Scene::new(3, &V6, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_with_a_virtual_mac_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    let scene = Scene {
        ours: "virtual_mac = true",
        theirs: "use_vmac",
        wire: "ip.dst == 224.0.0.18 && eth.src == 00:00:5e:00:01:33",
        ..Scene::new(3, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_without_a_virtual_mac_and_vipd_with_one_follow_and_relieve_each_other() -> Result<()>
{
    let scene = Scene {
        ours: "virtual_mac = true",
        wire: "ip.dst == 224.0.0.18 && eth.src == 00:00:5e:00:01:33",
        ..Scene::new(3, &V4, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn keepalived_over_ipv6_with_a_virtual_mac_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    let scene = Scene {
        ours: "virtual_mac = true",
        theirs: "use_vmac",
        wire: "ipv6.dst == ff02::12 && eth.src == 00:00:5e:00:02:33",
        ..Scene::new(3, &V6, Stranger::Keepalived)?
    };
    elections(&scene)
}

#[test]
fn frr_of_version_2_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(2, &V4, Stranger::Frr)?)
}

#[test]
fn frr_of_version_3_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V4, Stranger::Frr)?)
}

#[test]
fn frr_over_ipv6_and_vipd_follow_and_relieve_each_other() -> Result<()> {
    elections(&Scene::new(3, &V6, Stranger::Frr)?)
}

#[test]
fn frr_whose_adverts_come_from_the_virtual_address_and_vipd_follow_and_relieve_each_other()
-> Result<()> {
    let scene = Scene {
        sources: ["fe80::11", "fe80::51"],
        ..Scene::new(3, &V6, Stranger::Frr)?
    };
    elections(&scene)
}

#[test]
fn keepalived_refuses_the_checksum_of_rfc_9568_and_vipd_says_that_there_are_two_masters()
-> Result<()> {
    let log = other_checksum(Stranger::Keepalived)?;
    ensure!(log.contains("checksum"), "{log}");
    Ok(())
}

#[test]
fn frr_refuses_the_checksum_of_rfc_9568_and_vipd_says_that_there_are_two_masters() -> Result<()> {
    // It does so without a word.
    other_checksum(Stranger::Frr).map(|_| ())
}

/// Returns what the other logs of it.
fn other_checksum(stranger: Stranger) -> Result<String> {
    let mut scene = Scene {
        ours: "checksum = \"rfc9568\"",
        ..Scene::new(3, &V4, stranger)?
    };
    let vipd = scene.start_vipd(BEST)?;
    let peer = scene.start_peer(THEIRS)?;
    scene.wait_for_holder(&scene.lb1)?;
    scene
        .wait_for_holder(&scene.lb2)
        .with_context(|| peer.log())?;
    // Not in the status: a keepalived that hears adverts it refuses puts off its own with each, so
    // that one advert may be all that is heard of it.
    wait_until(ELECTION, "the event", || {
        let told = events(&vipd, "vrrp.rival", "web")?;
        Ok(told.iter().any(|told| told.contains(scene.sources[1])))
    })?;
    scene.ours = "checksum = \"rfc5798\"";
    vipd.reload(&scene.config(BEST))?;
    scene.wait_for_us(Some(&peer))?;
    vipd.wait_for_status("/vrrp/0/rival", &Value::Null)?;
    Ok(peer.log())
}

#[test]
fn a_keepalived_that_is_configured_differently_is_named_as_a_peer_that_lives() -> Result<()> {
    let scene = Scene::new(2, &V4, Stranger::Keepalived)?;
    // Router, VRID, their lines, our lines, and what we must call the difference.
    let different = [
        (
            "password",
            51,
            "authentication { auth_type PASS\n auth_pass s3cret\n }",
            "authentication = { type = \"pass\", key = \"secret\" }",
            "authentication",
        ),
        (
            "none",
            52,
            "authentication { auth_type PASS\n auth_pass s3cret\n }",
            "",
            "authentication",
        ),
        ("version", 53, "version 3", "", "version"),
        ("interval", 54, "advert_int 2", "", "interval"),
    ];
    let (mut ours, mut theirs) = (String::new(), String::new());
    for (name, vrid, their_lines, our_lines, _) in different {
        let address = format!("10.77.0.{vrid}/24");
        let lines = format!("priority 200\n {their_lines}");
        theirs.push_str(&instance(name, vrid, &lines, &[&address]));
        ours.push_str(&format!(
            "[[vrrp]]\nname = \"{name}\"\ninterface = \"eth0\"\nvrid = {vrid}\n\
             virtual_addresses = [\"{address}\"]\n{our_lines}\n"
        ));
    }
    let _keepalived = Keepalived::start(&scene.lb2, &theirs)?;
    let vipd = Director::start(&scene.lb1, &ours)?;
    for (number, (name, _, _, _, reason)) in different.into_iter().enumerate() {
        let incompatible = format!("/vrrp/{number}/incompatible");
        vipd.wait_for_status(&format!("{incompatible}/address"), &json!("10.77.0.12"))?;
        let status = vipd.status()?;
        ensure!(
            status["vrrp"][number]["incompatible"]["reason"] == reason,
            "{status:#}"
        );
        let counters = &status["vrrp"][number]["counters"];
        ensure!(
            counters["discarded"][reason].as_u64() > Some(0),
            "{name}: {counters:#}"
        );
        ensure!(counters["adverts_received"] == 0, "{name}: {counters:#}");
        let told = events(&vipd, "vrrp.incompatible", name)?;
        ensure!(
            told.len() == 1 && told[0].contains("10.77.0.12"),
            "{name}: {told:#?}"
        );
    }
    vipd.stop()
}

#[test]
fn a_client_hardly_notices_a_stop_or_a_switchover_to_keepalived() -> Result<()> {
    handovers(&Scene::new(2, &V4, Stranger::Keepalived)?)
}

#[test]
fn a_client_hardly_notices_a_stop_or_a_switchover_with_virtual_macs() -> Result<()> {
    handovers(&Scene {
        ours: "virtual_mac = true",
        theirs: "use_vmac",
        interval: Duration::from_secs(1),
        ..Scene::new(3, &V4, Stranger::Keepalived)?
    })
}

fn handovers(scene: &Scene) -> Result<()> {
    let client = scene.lab.host("client", "10.77.0.100/24")?;
    let peer = scene.start_peer(THEIRS)?;
    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer))?;
    let lost = lost_replies(&client, || {
        vipd.stop()?;
        scene.wait_for_them(&peer)
    })?;
    ensure!(
        lost <= 50,
        "{lost} of 5000 replies are missing around a stop"
    );

    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer))?;
    let lost = lost_replies(&client, || {
        let said = vipd.vipctl(&["switchover", "web"])?;
        ensure!(
            said.contains("10.77.0.12 (priority 100) is master; handed over"),
            "{said}"
        );
        scene.wait_for_them(&peer)
    })?;
    ensure!(
        lost <= 50,
        "{lost} of 5000 replies are missing around a switchover"
    );
    // It is better, and does not take back what an operator gave away.
    sleep(5 * scene.interval);
    scene.wait_for_them(&peer)
}

/// What vipd says of a thing, in events of one kind.
fn events(vipd: &Director, kind: &str, object: &str) -> Result<Vec<String>> {
    let text = vipd.vipctl(&["events", "--json"])?;
    let all = text.lines().map(serde_json::from_str::<Value>);
    let all: Vec<Value> = all.collect::<Result<_, _>>()?;
    let about = |event: &&Value| event["kind"] == kind && event["object"] == object;
    let messages = all
        .iter()
        .filter(about)
        .map(|event| event["message"].to_string());
    Ok(messages.collect())
}

/// How many of 5,000 pings of the virtual address, a thousand a second, are not answered while
/// something happens. It must be over before they are.
fn lost_replies(client: &Host, happens: impl FnOnce() -> Result<()>) -> Result<u32> {
    let arguments = ["-q", "-n", "-i", "0.001", "-c", "5000", "10.77.0.10"];
    let mut ping = client.spawn("ping", Path::new("ping"), &arguments)?;
    sleep(Duration::from_secs(1));
    happens()?;
    ensure!(
        ping.wait(Duration::ZERO).is_err(),
        "it took too long: {}",
        ping.output()
    );
    ping.wait(ELECTION)?;
    let text = ping.output();
    let received = text
        .split(", ")
        .find_map(|part| part.strip_suffix(" received"));
    let received: u32 = received.with_context(|| text.clone())?.parse()?;
    Ok(5000 - received)
}

/// Every way in which the addresses can go from one to the other and back: a stop, a death, a
/// return, with either of them as the better router.
fn elections(scene: &Scene) -> Result<()> {
    let mut at_lb1 = scene.capture(&scene.lb1)?;
    let at_lb2 = scene.capture(&scene.lb2)?;
    let [us, them] = scene.sources;
    let silence = 3 * scene.interval;

    let peer = scene.start_peer(THEIRS)?;
    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer)).context("vipd is better")?;
    scene.ensure_silent(them, &at_lb2)?;

    let stopped = SystemTime::now();
    vipd.stop()?;
    scene.wait_for_them(&peer).context("vipd stops")?;
    let (last, gap) = takeover(&at_lb2, stopped, us, them)?;
    ensure!(last == 0, "vipd went without a word");
    within(gap, scene.skew(THEIRS), silence).context("from priority 0 to the other's advert")?;

    let vipd = scene.start_vipd(BEST)?;
    scene.wait_for_us(Some(&peer)).context("vipd returns")?;
    let pulled = SystemTime::now();
    scene.lab.pull_cable(&scene.lb1)?;
    scene
        .wait_for_them(&peer)
        .context("vipd's cable is pulled")?;
    let (last, gap) = takeover(&at_lb2, pulled, us, them)?;
    ensure!(last == BEST, "heard through a pulled cable");
    let down = silence + scene.skew(THEIRS);
    within(gap, down, down + Duration::from_secs(2)).context("from our last advert to theirs")?;
    scene.lab.plug_cable(&scene.lb1)?;
    scene
        .wait_for_us(Some(&peer))
        .context("vipd's cable is back")?;

    vipd.reload(&scene.config(LEAST))?;
    scene.wait_for_them(&peer).context("vipd is worse")?;
    let master = json!({ "address": them, "priority": THEIRS });
    vipd.wait_for_status("/vrrp/0/master", &master)?;
    scene.ensure_silent(us, &at_lb1)?;

    let stopped = SystemTime::now();
    peer.stop()?;
    scene.wait_for_us(None).context("the other stops")?;
    let (last, gap) = takeover(&at_lb1, stopped, them, us)?;
    ensure!(last == 0, "the other went without a word");
    within(gap, scene.skew(LEAST), silence).context("from priority 0 to our advert")?;

    let peer = scene.start_peer(THEIRS)?;
    scene.wait_for_them(&peer).context("the other returns")?;
    let cut = SystemTime::now();
    scene.lab.isolate(&scene.lb2)?;
    scene
        .wait_for_holder(&scene.lb1)
        .context("the other is cut off")?;
    let (last, gap) = takeover(&at_lb1, cut, them, us)?;
    ensure!(last == THEIRS, "heard though cut off");
    let down = silence + scene.skew(LEAST);
    within(gap, down, down + Duration::from_secs(2)).context("from their last advert to ours")?;
    scene.lab.rejoin(&scene.lb2)?;
    scene.wait_for_them(&peer).context("the other is back")?;

    scene.ensure_understood(&vipd)?;
    let wrong = at_lb1.tshark(&scene.wrong())?;
    ensure!(wrong.is_empty(), "{}:\n{}", scene.wrong(), wrong.join("\n"));
    Ok(())
}
