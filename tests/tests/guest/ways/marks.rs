//! Firewall marks: over IPv6, and of ranges of ports.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use lab::answer::Transport::Udp;
use lab::answer::serve_on;
use lab::nginx::Nginx;

use super::{CLIENT, CLIENT6, DIRECT, agree, ask, direct, names, scene, service, web};
use crate::forwarding::seen;

#[test]
fn marks_collect_ranges_of_ports_protocols_and_families() -> Result<()> {
    let scene = scene()?;
    let _nginx = [Nginx::start(&scene.rs1)?, Nginx::start(&scene.rs3)?];
    let ports = [7999, 8000, 8005, 8010, 8011];
    let spread = ports.map(|port| format!("10.77.1.50:{port}"));
    let spread6 = ports.map(|port| format!("[fd77:1::50]:{port}"));
    let mut at: Vec<&str> = spread.iter().chain(&spread6).map(String::as_str).collect();
    at.push("[fd77:1::51]:8003");
    let _answers = [
        serve_on(&scene.rs1, Udp, &at)?,
        serve_on(&scene.rs3, Udp, &at)?,
        serve_on(&scene.rs2, Udp, &["10.77.0.22:8005", "[fd77::22]:8005"])?,
    ];
    let (rs1, rs3) = ("address = \"fd77::21\"", "address = \"fd77::23\"");
    let text = [
        service(
            "spread",
            "fwmark = 6\nmark = [\n\
             { address = \"fd77:1::50\", ports = [80, \"8050-8100\"] },\n\
             { address = \"fd77:1::50\", protocol = \"udp\", ports = [\"8000-8010\"] },\n\
             { address = \"10.77.1.50\", protocol = \"udp\", ports = [\"8000-8010\"] },\n]",
            &[rs1, rs3, DIRECT[0], DIRECT[1]],
        ),
        service(
            "sticky",
            "fwmark = 7\npersistence = { timeout = \"300s\" }\nmark = [\n\
             { address = \"fd77:1::51\", ports = [80, 443, \"8050-8080\"] },\n\
             { address = \"fd77:1::51\", protocol = \"udp\", ports = [\"8000-8010\"] },\n]",
            &[rs1, rs3],
        ),
        service(
            "translated",
            "fwmark = 8\nforwarding = \"nat\"\nmark = [\n\
             { address = \"fd77:1::52\", protocol = \"udp\", ports = [\"8000-8010\"] },\n\
             { address = \"10.77.1.52\", protocol = \"udp\", ports = [\"8000-8010\"] },\n]",
            &["address = \"10.77.0.22\"", "address = \"fd77::22\""],
        ),
    ]
    .concat();
    let captured = scene.rs1.capture("tcp or udp")?;
    let translated = scene.rs2.capture("udp")?;
    let lb1 = direct(&scene.lb1, &text)?;

    // A port and a port of a range take turns, in one service.
    let found = [
        web(&scene.client, "[fd77:1::50]:80")?,
        web(&scene.client, "[fd77:1::50]:8050")?,
        web(&scene.client, "[fd77:1::50]:8080")?,
        web(&scene.client, "[fd77:1::50]:80")?,
    ];
    for pair in found.chunks(2) {
        let who: BTreeSet<&str> = names(pair).into_iter().collect();
        ensure!(who == ["rs1", "rs3"].into(), "{found:?}");
    }
    let seen_port = |answer: &str, port: &str| answer.ends_with(&format!(" fd78::100 {port}"));
    ensure!(
        seen_port(&found[0], "80") && seen_port(&found[1], "8050") && seen_port(&found[2], "8080"),
        "{found:?}"
    );
    // The ends of a range belong to it; beside it the director is asked, and knows nothing.
    for (from, client, address) in [
        (CLIENT, "10.78.0.100", "10.77.1.50"),
        (CLIENT6, "fd78::100", "[fd77:1::50]"),
    ] {
        for port in [8000, 8005, 8010] {
            let found = ask(&scene.client, from, &format!("{address}:{port}"), "?")?;
            let right = ["rs1", "rs3"].map(|name| format!("{name} {client} {port}"));
            ensure!(right.contains(&found), "{address}:{port}: {found}");
        }
        for port in [7999, 8011] {
            let found = ask(&scene.client, from, &format!("{address}:{port}"), "?")?;
            ensure!(found == "refused", "{address}:{port}: {found}");
        }
    }
    // A client stays on one real server in all that the mark stands for; the next has another.
    let stays = [
        web(&scene.client, "[fd77:1::51]:80")?,
        web(&scene.client, "[fd77:1::51]:443")?,
        web(&scene.client, "[fd77:1::51]:8050")?,
        ask(&scene.client, CLIENT6, "[fd77:1::51]:8003", "?")?,
    ];
    ensure!(names(&stays) == [names(&stays)[0]; 4], "{stays:?}");
    scene.client.ip("addr add fd78::101/64 dev eth0 nodad")?;
    let next = ask(&scene.client, "[fd78::101]:0", "[fd77:1::51]:8003", "?")?;
    ensure!(next.ends_with(" fd78::101 8003"), "{next}");
    ensure!(!next.starts_with(names(&stays)[0]), "{stays:?}, {next}");
    // Ports stay what they are.
    for (from, to, answer) in [
        (CLIENT, "10.77.1.52:8005", "rs2 10.78.0.100 8005"),
        (CLIENT6, "[fd77:1::52]:8005", "rs2 fd78::100 8005"),
    ] {
        let found = ask(&scene.client, from, to, "?")?;
        ensure!(found == answer, "{to}: {found}");
    }

    let hop = format!("{} > {}", scene.lb1.mac()?, scene.rs1.mac()?);
    seen(&captured, &[&hop, " fd78::100.", " > fd77:1::50.80"])?;
    ensure!(
        captured.count(&["> 10.77.1.50.8011"]) == 0,
        "beside the range"
    );
    seen(&translated, &[" 10.78.0.100.", " > 10.77.0.22.8005: "])?;
    seen(&translated, &[" fd78::100.", " > fd77::22.8005: "])?;
    agree(
        &lb1,
        &[
            "-A -f 6 -s rr",
            "-A -f 6 -6 -s rr",
            "-a -f 6 -r 10.77.0.23:0 -g -w 1",
            "-a -f 6 -6 -r [fd77::23]:0 -g -w 1",
            "-A -f 7 -6 -s rr -p 300",
            "-a -f 8 -r 10.77.0.22:0 -m -w 1",
            "-a -f 8 -6 -r [fd77::22]:0 -m -w 1",
        ],
    )
}
