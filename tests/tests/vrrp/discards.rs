//! What is not heard: every reason to discard an advert, from real packets on a real interface.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Host;
use lab::advert::{Forged, send_packet};
use lab::capture::Capture;
use lab::director::Director;
use lab::pair::{Pair, fast};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const SIGNED: &str = "authentication = { type = \"hmac\", key_id = 1, window = \"300s\", \
                      key = \"0123456789abcdef0123456789abcdef\" }";

/// The virtual routers of the director that strangers talk to.
#[derive(Debug, Clone, Copy)]
enum To {
    V2,
    V3,
    V6,
    Unicast,
    Password,
    Hmac,
}

use To::{Hmac, Password, Unicast, V2, V3, V6};

impl To {
    fn vrid(self) -> u8 {
        51 + self as u8
    }
}

fn table(to: To, keys: &str) -> String {
    let n = to as u8;
    format!(
        "[[vrrp]]\nname = \"{to:?}\"\ninterface = \"eth0\"\nvrid = {}\n{keys}\n{}\n",
        to.vrid(),
        if keys.contains("virtual_addresses") {
            String::new()
        } else {
            format!("virtual_addresses = [\"10.77.0.{}/24\"]", 110 + n)
        }
    )
}

fn signed(priority: u8) -> String {
    table(
        Hmac,
        &format!("version = 3\nadvert_interval = \"100ms\"\npriority = {priority}\n{SIGNED}"),
    )
}

#[test]
fn every_reason_to_discard_is_counted_under_its_name_and_changes_nothing() -> Result<()> {
    let pair = Pair::new()?;
    // From no address at all, as a host that has none yet.
    let mute = pair.lab.host("mute", "10.77.0.67/24")?;
    mute.ip("addr flush dev eth0")?;
    let stranger = pair.lab.host("stranger", "10.77.0.66/24")?;
    stranger.ip("addr add fe80::66/64 dev eth0 nodad")?;
    // Adverts that are signed rightly, of a router that is gone when they are sent again.
    let lb2 = Director::start(&pair.lb2, &signed(254))?;
    let adverts = Capture::bytes_of_next(
        &pair.lab.host("tap", "10.77.0.68/24")?,
        "eth0",
        "proto 112",
        2,
    )?;
    let [first, second] = adverts.as_slice() else {
        anyhow::bail!("{adverts:?}");
    };
    lb2.stop()?;

    // The kernel would drop what claims to be from its own address.
    pair.lb1
        .run("sysctl -q -w net.ipv4.conf.eth0.accept_local=1 net.ipv4.conf.all.accept_local=1")?;
    pair.lb1.ip("addr add fe80::11/64 dev eth0 nodad")?;
    pair.lb1
        .run("sysctl -q -w net.ipv6.conf.eth0.addr_gen_mode=1")?;
    let ten = "version = 3\nadvert_interval = \"100ms\"";
    let unicast = "unicast = { source = \"10.77.0.11\", peers = [\"10.77.0.12\"] }";
    let password = "authentication = { type = \"pass\", key = \"s3cret\" }";
    let tables = [
        table(V2, ""),
        table(V3, ten),
        table(
            V6,
            &format!("{ten}\nvirtual_addresses = [\"fe80::53/64\", \"2001:db8::10/64\"]"),
        ),
        table(Unicast, &format!("{ten}\n{unicast}")),
        table(Password, password),
        signed(100),
    ];
    let lb1 = Director::start(&pair.lb1, &tables.concat())?;
    for index in 0..tables.len() {
        lb1.wait_for_status(&format!("/vrrp/{index}/state"), &json!("master"))?;
    }
    let link_local = source_of_v6(&lb1, &pair.lb2)?;
    let own: IpAddr = "10.77.0.11".parse()?;
    let v2 = || Forged {
        addresses: vec!["10.77.0.110".parse().unwrap()],
        ..Forged::v2()
    };
    let v3 = || Forged {
        vrid: V3.vrid(),
        addresses: vec!["10.77.0.111".parse().unwrap()],
        ..Forged::v3()
    };
    let global: IpAddr = "2001:db8::10".parse()?;
    let v6 = || Forged {
        vrid: V6.vrid(),
        ..Forged::v6(
            "fe80::66".parse().unwrap(),
            &["fe80::53".parse().unwrap(), global],
        )
    };
    let unicast = || Forged {
        vrid: Unicast.vrid(),
        destination: own,
        ..v3()
    };
    let password = |key: &[u8; 8]| Forged {
        vrid: Password.vrid(),
        interval: 0x0101,
        data: key.to_vec(),
        ..v2()
    };
    let hmac = || Forged {
        vrid: Hmac.vrid(),
        source: "10.77.0.12".parse().unwrap(),
        ..v3()
    };
    // A signed advert with another byte at a place after the message: 20 bytes of IP, 12 of VRRP.
    let spoiled = |at: usize| {
        let mut packet = second.clone();
        packet[20 + 12 + at] ^= 0x40;
        packet
    };
    let all = |to, reason, forged: Vec<Forged>| {
        forged
            .into_iter()
            .map(|forged| (to, reason, forged.packet()))
            .collect::<Vec<_>>()
    };
    let short = |forged: Forged, bytes| Forged {
        length: Some(bytes),
        ..forged
    };
    let longer = |forged: Forged| Forged {
        data: [forged.data.as_slice(), &[0; 4]].concat(),
        ..forged
    };
    let packets = [
        all(
            V2,
            "ttl",
            vec![Forged { ttl: 254, ..v2() }, Forged { ttl: 1, ..v2() }],
        ),
        all(
            V3,
            "ttl",
            vec![Forged { ttl: 254, ..v3() }, Forged { ttl: 1, ..v3() }],
        ),
        all(
            V6,
            "ttl",
            vec![Forged { ttl: 254, ..v6() }, Forged { ttl: 1, ..v6() }],
        ),
        all(
            V2,
            "version",
            vec![Forged { version: 3, ..v2() }, Forged { version: 4, ..v2() }],
        ),
        all(
            V3,
            "version",
            vec![Forged {
                version: 2,
                data: vec![0; 8],
                ..v3()
            }],
        ),
        all(
            V6,
            "version",
            vec![Forged { version: 2, ..v6() }, Forged { version: 0, ..v6() }],
        ),
        all(V2, "type", vec![Forged { kind: 2, ..v2() }]),
        all(V3, "type", vec![Forged { kind: 0, ..v3() }]),
        all(V6, "type", vec![Forged { kind: 15, ..v6() }]),
        all(
            V2,
            "checksum",
            vec![
                Forged {
                    checksum_error: 1,
                    ..v2()
                },
                Forged {
                    pseudo_header: true,
                    ..v2()
                },
            ],
        ),
        all(
            V3,
            "checksum",
            vec![Forged {
                checksum_error: 1,
                ..v3()
            }],
        ),
        all(
            V6,
            "checksum",
            vec![
                Forged {
                    checksum_error: 1,
                    ..v6()
                },
                Forged {
                    pseudo_header: false,
                    ..v6()
                },
            ],
        ),
        all(
            V2,
            "vrid",
            vec![Forged { vrid: 99, ..v2() }, Forged { vrid: 0, ..v2() }],
        ),
        all(V3, "vrid", vec![Forged { vrid: 99, ..v3() }]),
        all(
            V6,
            "vrid",
            vec![Forged {
                vrid: V2.vrid(),
                ..v6()
            }],
        ),
        all(
            V2,
            "interval",
            vec![
                Forged {
                    interval: 2,
                    ..v2()
                },
                Forged {
                    interval: 0,
                    ..v2()
                },
            ],
        ),
        all(
            V3,
            "interval",
            vec![
                Forged {
                    interval: 0,
                    ..v3()
                },
                Forged {
                    interval: 0xf000,
                    ..v3()
                },
            ],
        ),
        all(
            V2,
            "authentication",
            vec![
                Forged {
                    interval: 0x0101,
                    ..v2()
                },
                Forged {
                    interval: 0x0201,
                    ..v2()
                },
            ],
        ),
        all(
            V2,
            "truncated",
            [1, 7, 8, 12, 19].map(|length| short(v2(), length)).to_vec(),
        ),
        all(
            V3,
            "truncated",
            [1, 7, 8, 11].map(|length| short(v3(), length)).to_vec(),
        ),
        all(
            V6,
            "truncated",
            [1, 7, 8, 24, 39].map(|length| short(v6(), length)).to_vec(),
        ),
        all(
            V3,
            "truncated",
            vec![Forged {
                count: Some(255),
                ..v3()
            }],
        ),
        all(
            V2,
            "address_count",
            vec![
                longer(v2()),
                Forged {
                    count: Some(0),
                    addresses: vec![],
                    ..v2()
                },
            ],
        ),
        all(
            V3,
            "address_count",
            vec![
                longer(v3()),
                Forged {
                    count: Some(0),
                    addresses: vec![],
                    ..v3()
                },
            ],
        ),
        all(
            V6,
            "address_count",
            vec![
                longer(v6()),
                Forged {
                    count: Some(0),
                    addresses: vec![],
                    ..v6()
                },
            ],
        ),
        all(
            V6,
            "link_local",
            vec![Forged {
                addresses: vec![global, "fe80::53".parse()?],
                ..v6()
            }],
        ),
        all(
            V2,
            "destination",
            vec![Forged {
                destination: own,
                ..v2()
            }],
        ),
        all(
            V3,
            "destination",
            vec![Forged {
                destination: own,
                ..v3()
            }],
        ),
        all(
            V6,
            "destination",
            vec![Forged {
                destination: link_local,
                ..v6()
            }],
        ),
        all(
            V2,
            "own",
            vec![Forged {
                source: own,
                ..v2()
            }],
        ),
        all(
            Unicast,
            "destination",
            vec![Forged {
                destination: v3().destination,
                ..unicast()
            }],
        ),
        all(Unicast, "peer", vec![unicast()]),
        all(
            Unicast,
            "ttl",
            vec![Forged {
                source: "10.77.0.12".parse()?,
                ttl: 64,
                ..unicast()
            }],
        ),
        all(
            Password,
            "authentication",
            vec![
                Forged {
                    interval: 1,
                    ..password(&[0; 8])
                },
                password(b"s3cret\0x"),
                password(b"S3cret\0\0"),
                Forged {
                    interval: 0x0201,
                    ..password(b"s3cret\0\0")
                },
            ],
        ),
        all(Hmac, "hmac_missing", vec![hmac()]),
        vec![
            (Hmac, "hmac_key", spoiled(1)),
            (Hmac, "hmac_window", spoiled(5)),
            (Hmac, "hmac", spoiled(12)),
            (Hmac, "hmac", spoiled(27)),
        ],
    ]
    .concat();
    let mut produced = BTreeSet::new();
    for (number, (to, reason, packet)) in packets.into_iter().enumerate() {
        check(&lb1, to, reason, || {
            send_packet(&stranger, &packet, 1, Duration::ZERO)
        })
        .with_context(|| format!("packet {number}, {packet:02x?}"))?;
        produced.insert(reason);
    }
    let nowhere = Forged {
        source: "0.0.0.0".parse()?,
        ..v3()
    };
    check(&lb1, V3, "source", || nowhere.send_from(&mute))?;
    produced.insert("source");

    // What is right is heard: the counters above are not of a deaf router. And it is heard once.
    send_packet(&stranger, second, 1, Duration::ZERO)?;
    lb1.wait_for_status(
        "/vrrp/5/master",
        &json!({ "address": "10.77.0.12", "priority": 254 }),
    )?;
    lb1.wait_for_status("/vrrp/5/state", &json!("master"))?;
    for replayed in [second, first] {
        check(&lb1, Hmac, "hmac_replay", || {
            send_packet(&stranger, replayed, 1, Duration::ZERO)
        })?;
    }
    produced.insert("hmac_replay");
    for (to, forged) in [
        (V2, v2()),
        (V3, v3()),
        (V6, v6()),
        (Password, password(b"s3cret\0\0")),
    ] {
        forged.send_from(&stranger)?;
        let address = forged.source.to_string();
        let pointer = format!("/vrrp/{}/master/address", to as usize);
        lb1.wait_for_status(&pointer, &json!(address))?;
    }

    let status = lb1.status()?;
    let counters = status
        .pointer("/vrrp/0/counters/discarded")
        .and_then(Value::as_object);
    let names = counters.context("no counters")?.keys().map(String::as_str);
    let missing: Vec<&str> = names.filter(|name| !produced.contains(name)).collect();
    // The kernel throws away what has a broken IP header, before vipd sees it.
    ensure!(
        missing == ["ip_header"],
        "nothing here produces {missing:?}"
    );
    ensure!(!lb1.log().contains("s3cret") && !lb1.log().contains(SECRET));
    ensure!(!status.to_string().contains("s3cret") && !status.to_string().contains(SECRET));
    Ok(())
}

/// Sends a packet and checks that one router counts it under this reason, and that nothing else of
/// any router changes but counters.
fn check(lb1: &Director, to: To, reason: &str, send: impl FnOnce() -> Result<()>) -> Result<()> {
    let pointer = format!("/vrrp/{}/counters/discarded/{reason}", to as usize);
    let before = lb1.status()?;
    let count = before.pointer(&pointer).and_then(Value::as_u64);
    send()?;
    lb1.wait_for_status(&pointer, &json!(count.context("no such counter")? + 1))
        .with_context(|| format!("{to:?} {reason}"))?;
    let after = lb1.status()?;
    for index in 0..6 {
        for key in ["state", "transitions", "since", "master", "faults"] {
            let of = |status: &Value| status["vrrp"][index][key].clone();
            ensure!(
                of(&before) == of(&after),
                "{to:?} {reason}: {key} of {index} changed"
            );
        }
    }
    Ok(())
}

/// The address that the IPv6 adverts are from, as a neighbour sees it.
fn source_of_v6(lb1: &Director, neighbour: &Host) -> Result<IpAddr> {
    lb1.wait_for_status("/vrrp/2/state", &json!("master"))?;
    let packets = Capture::bytes_of_next(neighbour, "eth0", "ip6 proto 112", 1)?;
    let source: [u8; 16] = packets[0][8..24].try_into()?;
    Ok(source.into())
}

#[test]
fn a_thousand_bad_adverts_are_a_thousand_in_the_counter_and_one_line_in_the_log() -> Result<()> {
    let pair = Pair::new()?;
    let stranger = pair.lab.host("stranger", "10.77.0.66/24")?;
    let lb1 = Director::start(&pair.lb1, &fast(150, ""))?;
    pair.wait_for_holders(&["lb1"])?;
    let wrong = Forged {
        checksum_error: 1,
        ..Forged::v3()
    };
    send_packet(&stranger, &wrong.packet(), 1_000, Duration::ZERO)?;
    lb1.wait_for_status("/vrrp/0/counters/discarded/checksum", &json!(1_000))?;
    let log = lb1.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("discarded"))
        .collect();
    ensure!(lines.len() == 1, "{lines:#?}");
    ensure!(
        lines[0].contains("web")
            && lines[0].contains("10.77.0.66")
            && lines[0].contains("checksum"),
        "{lines:?}"
    );
    Ok(())
}

#[test]
fn a_peer_that_lives_but_cannot_be_understood_is_an_alarm() -> Result<()> {
    let pair = Pair::new()?;
    let old = fast(100, "").replace("version = 3\nadvert_interval = \"100ms\"", "version = 2");
    let (lb1, lb2) = pair.start_with(&fast(150, ""), &old)?;
    lb2.wait_for_event(&["vrrp.incompatible web", "10.77.0.11", "version"])?;
    lb2.wait_for_status("/vrrp/0/incompatible/address", &json!("10.77.0.11"))?;
    let page = lb2.status_text()?;
    ensure!(
        page.contains("the peer 10.77.0.11 lives, but cannot be understood"),
        "{page}"
    );
    lb1.stop()?;
    lb2.wait_for_status("/vrrp/0/incompatible", &Value::Null)?;
    Ok(())
}
