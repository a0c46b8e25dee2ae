//! How datagrams find their real server: by the call of SIP, each by itself, and by a hash that a
//! drained real server is in.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lab::answer::Transport::Udp;
use lab::answer::{ask_on, serve_on};
use lab::director::Director;
use lab::{Host, wait_until};

use super::{CLIENT, DIRECT, agree, ask, direct, names, scene, service};
use crate::PATIENCE;
use crate::forwarding::{Scene, seen};

/// Virtual addresses with the port of SIP, then with that of DNS.
const CALLS: [&str; 5] = [
    "10.77.1.50:5060",
    "10.77.1.51:5060",
    "10.77.1.52:5060",
    "10.77.1.53:5060",
    "10.77.1.54:5060",
];
const HASHED: [&str; 4] = [
    "10.77.1.50:53",
    "10.77.1.51:53",
    "10.77.1.52:53",
    "10.77.1.53:53",
];

#[test]
fn datagrams_go_by_call_one_by_one_or_by_hash_around_a_drained_real_server() -> Result<()> {
    let scene = scene()?;
    scene.client.ip("addr add 10.78.0.101/24 dev eth0")?;
    let at = [&CALLS[..], &HASHED[..]].concat();
    let _answers = [
        serve_on(&scene.rs1, Udp, &at)?,
        serve_on(&scene.rs3, Udp, &at)?,
    ];
    let captured = scene.rs1.capture("udp")?;
    let lb1 = direct(&scene.lb1, &(by_call_or_singly() + &by_hash()))?;
    calls_stay_together(&scene, &lb1)?;
    let hop = format!("{} > {}", scene.lb1.mac()?, scene.rs1.mac()?);
    seen(&captured, &[&hop, " > 10.77.1.50.5060: "])?;
    single_datagrams_do_not(&scene.client)?;
    hashes_avoid_the_drained_one_with_fallback(&scene, &lb1)?;
    agree(
        &lb1,
        &[
            "-A -u 10.77.1.50:5060 -s rr -p 300 --pe sip",
            "-a -u 10.77.1.50:5060 -r 10.77.0.21:5060 -g -w 1",
            "-A -u 10.77.1.51:5060 -s rr -p 300 --pe sip -o",
            "-a -u 10.77.1.51:5060 -r 10.77.0.23:5060 -g -w 1",
            "-A -u 10.77.1.52:5060 -s rr -o",
            "-A -u 10.77.1.53:5060 -s rr",
            "-A -u 10.77.1.54:5060 -s rr -p 300 -M 255.255.255.0 --pe sip",
            "-A -u 10.77.1.50:53 -s sh -b sh-fallback,sh-port",
            "-A -u 10.77.1.51:53 -s mh -b mh-fallback,mh-port",
            "-A -u 10.77.1.52:53 -s sh -b sh-port",
            "-A -u 10.77.1.53:53 -s mh -b mh-port",
            "-a -u 10.77.1.50:53 -r 10.77.0.23:53 -g -w 0",
        ],
    )
}

fn by_call_or_singly() -> String {
    let udp =
        |address: &str, more: &str| format!("address = \"{address}\"\nprotocol = \"udp\"\n{more}");
    let sip = "persistence = { timeout = \"300s\", engine = \"sip\" }";
    let network = "persistence = { timeout = \"300s\", netmask = 24, engine = \"sip\" }";
    let trunk = format!("{sip}\none_packet = true");
    let vips = CALLS;
    [
        service("calls", &udp(vips[0], sip), &DIRECT),
        service("trunk", &udp(vips[1], &trunk), &DIRECT),
        service("single", &udp(vips[2], "one_packet = true"), &DIRECT),
        service("flows", &udp(vips[3], ""), &DIRECT),
        service("callers", &udp(vips[4], network), &DIRECT),
    ]
    .concat()
}

fn by_hash() -> String {
    let kinds = [
        ("sh", "[\"sh-port\", \"sh-fallback\"]"),
        ("mh", "[\"mh-port\", \"mh-fallback\"]"),
        ("sh", "[\"sh-port\"]"),
        ("mh", "[\"mh-port\"]"),
    ];
    let hashed = |((scheduler, flags), vip): ((&str, &str), &str)| {
        let keys = format!("address = \"{vip}\"\nprotocol = \"udp\"\nscheduler_flags = {flags}");
        let text = service(vip, &keys, &DIRECT);
        text.replace("\"rr\"", &format!("{scheduler:?}"))
    };
    kinds.into_iter().zip(HASHED).map(hashed).collect()
}

fn calls_stay_together(scene: &Scene, lb1: &Director) -> Result<()> {
    let invite = |call: &str| {
        format!(
            "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.78.0.100\r\n\
             From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\n\
             Call-ID: {call}@example.org\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        )
    };
    // Each message from a port of its own. The kernel asks for the client, too: the same Call-ID from
    // another address is another call, unless the netmask makes one client of the two.
    let (alice, bob) = ("10.78.0.100", "10.78.0.101");
    let send = |vip: &str, client: &str, call: &str| -> Result<char> {
        let from = format!("{client}:0");
        let answer = ask(&scene.client, &from, vip, &invite(call))?;
        let rest = answer.strip_prefix("rs").context("no name")?;
        let right = format!(" {client} 5060");
        ensure!(
            rest.ends_with(&right) && rest.len() == right.len() + 1,
            "{answer}"
        );
        rest.chars().next().context("no number")
    };
    let by_client: String = [
        (alice, "first"),
        (alice, "second"),
        (alice, "first"),
        (alice, "second"),
        (bob, "second"),
    ]
    .map(|(client, call)| send(CALLS[0], client, call))
    .into_iter()
    .collect::<Result<_>>()?;
    ensure!(["13131", "31313"].contains(&&*by_client), "{by_client}");
    let by_network: String = [
        (alice, "first"),
        (bob, "first"),
        (alice, "second"),
        (bob, "second"),
        (bob, "third"),
        (alice, "first"),
    ]
    .map(|(client, call)| send(CALLS[4], client, call))
    .into_iter()
    .collect::<Result<_>>()?;
    ensure!(["113311", "331133"].contains(&&*by_network), "{by_network}");
    for view in [
        scene.lb1.run("ipvsadm -Lnc --persistent-conn")?,
        lb1.vipctl(&["ipvs", "connections", "--persistent-conn"])?,
    ] {
        for call in ["first", "second", "third"] {
            let known = format!("sip {call}@example.org");
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            ensure!(
                view.lines().any(|line| words(line).ends_with(&known)),
                "{view}"
            );
        }
    }

    // One socket with two calls, as a proxy has: each call has its real server.
    let [third, fourth] = ["third", "fourth"].map(invite);
    let calls = [&*third, &fourth, &third, &fourth];
    let found = ask_on(&scene.client, Udp, "10.78.0.100:5070", CALLS[1], 1, &calls)?;
    let who = names(&found);
    let (early, late) = who.split_at(2);
    ensure!(early == late && early.first() != early.last(), "{found:#?}");
    let right = ["rs1 10.78.0.100 5060", "rs3 10.78.0.100 5060"];
    ensure!(
        found.iter().all(|answer| right.contains(&&**answer)),
        "{found:#?}"
    );
    Ok(())
}

/// Datagrams of one socket, each by itself, and all together.
fn single_datagrams_do_not(client: &Host) -> Result<()> {
    let found = ask_on(client, Udp, CLIENT, CALLS[2], 1, &["?"; 6])?;
    let who = names(&found);
    ensure!(
        who.iter().filter(|name| **name == "rs1").count() == 3 && who.contains(&"rs3"),
        "{found:#?}"
    );
    let found = ask_on(client, Udp, CLIENT, CALLS[3], 1, &["?"; 6])?;
    let who = names(&found);
    ensure!(who == ["rs1"; 6] || who == ["rs3"; 6], "{found:#?}");
    Ok(())
}

fn hashes_avoid_the_drained_one_with_fallback(scene: &Scene, lb1: &Director) -> Result<()> {
    let first = "10.78.0.100:20000";
    let second = "10.78.0.100:30000";
    let ask = |from: &str, to: &str| ask_on(&scene.client, Udp, from, to, 16, &["?"]);
    let mut before = Vec::new();
    for vip in HASHED {
        let found = ask(first, vip)?;
        let who: BTreeSet<&str> = names(&found).into_iter().collect();
        ensure!(who == ["rs1", "rs3"].into(), "{vip}: {found:?}");
        before.push(found);
    }
    for vip in HASHED {
        lb1.vipctl(&["drain", vip, "10.77.0.23"])?;
    }
    wait_until(PATIENCE, "the weights", || {
        let table = scene.lb1.run("ipvsadm -S -n")?;
        Ok(table.matches("-r 10.77.0.23:53 -g -w 0").count() == HASHED.len())
    })?;
    for (vip, fallback) in HASHED.into_iter().zip([true, true, false, false]) {
        let found = ask(second, vip)?;
        let refused = found.iter().filter(|answer| *answer == "refused").count();
        let served = found.iter().filter(|a| *a == "rs1 10.78.0.100 53").count();
        ensure!(refused + served == 16, "{vip}: {found:?}");
        ensure!((refused == 0) == fallback, "{vip}: {found:?}");
        ensure!(served > 0, "{vip}: {found:?}");
    }
    // What had begun goes on where it was.
    for (vip, before) in HASHED.into_iter().zip(&before) {
        let found = ask(first, vip)?;
        ensure!(found == *before, "{vip}: {found:?}, not {before:?}");
    }
    Ok(())
}
