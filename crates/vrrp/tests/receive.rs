//! Whom a virtual router hears: the way an advert must have come, and what it must prove itself by.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "receive/bench.rs"]
mod bench;

use std::net::IpAddr;
use std::time::Duration;

use vrrp::{Authentication, GROUP_V4, GROUP_V6};

use bench::{Bench, Packet, SECOND, WALL, hmac, password, permissive, signing, v2, v3, v6, with};

#[test]
fn a_multicast_router_hears_the_group_with_time_to_live_255_only() {
    let mut bench = Bench::new(v3());
    bench.hears("accepted", bench.packet());
    for ttl in 0..255 {
        bench.hears(
            "ttl",
            Packet {
                ttl,
                ..bench.packet()
            },
        );
    }
    for destination in [bench.own, [224, 0, 0, 5].into(), GROUP_V6.into()] {
        let directed = Packet {
            destination,
            ..bench.packet()
        };
        bench.hears("destination", directed);
    }
    bench.hears(
        "own",
        Packet {
            source: bench.own,
            ..bench.packet()
        },
    );
    bench.hears(
        "source",
        Packet {
            source: [0; 4].into(),
            ..bench.packet()
        },
    );
}

#[test]
fn over_ipv6_the_group_is_another_and_the_hop_limit_the_same() {
    let mut bench = Bench::new(v6());
    assert_eq!(bench.packet().destination, IpAddr::from(GROUP_V6));
    bench.hears("accepted", bench.packet());
    bench.hears(
        "ttl",
        Packet {
            ttl: 254,
            ..bench.packet()
        },
    );
    let destination = bench.own;
    bench.hears(
        "destination",
        Packet {
            destination,
            ..bench.packet()
        },
    );
}

#[test]
fn a_unicast_router_hears_its_peers_within_their_time_to_live_only() {
    for parameters in [v3(), v6()] {
        let mut bench = Bench::new(parameters);
        bench.unicast(&[(bench.peer, 250, 254), (bench.third, 255, 255)]);
        for (source, heard) in [(bench.peer, 250..=254), (bench.third, 255..=255)] {
            for ttl in 0..=255 {
                let wanted = if heard.contains(&ttl) {
                    "accepted"
                } else {
                    "ttl"
                };
                bench.hears(
                    wanted,
                    Packet {
                        ttl,
                        ..bench.packet_from(source, WALL)
                    },
                );
            }
        }
        bench.hears(
            "peer",
            Packet {
                source: bench.stranger,
                ..bench.packet()
            },
        );
        bench.hears(
            "own",
            Packet {
                source: bench.own,
                ..bench.packet()
            },
        );
    }
}

#[test]
fn a_copy_to_the_group_is_not_heard_by_a_unicast_router() {
    let mut bench = Bench::new(v3());
    let multicast = bench.packet();
    bench.unicast(&[(bench.peer, 1, 255)]);
    bench.hears("destination", multicast);
    bench.hears("accepted", bench.packet());
}

#[test]
fn a_heartbeat_from_its_peer_is_heard_at_any_time_to_live() {
    let mut bench = Bench::new(v3());
    bench.heartbeat(Some(bench.peer));
    for ttl in [0, 1, 64, 255] {
        bench.hears(
            "accepted",
            Packet {
                ttl,
                ..bench.packet()
            },
        );
    }
    bench.hears(
        "peer",
        Packet {
            source: bench.stranger,
            ..bench.packet()
        },
    );
    let destination = GROUP_V4.into();
    bench.hears(
        "destination",
        Packet {
            destination,
            ..bench.packet()
        },
    );
    bench.hears(
        "own",
        Packet {
            source: bench.own,
            ..bench.packet()
        },
    );
}

#[test]
fn a_heartbeat_to_the_group_is_heard_from_neighbours_whatever_the_router_does_on_its_link() {
    let mut bench = Bench::new(v3());
    bench.unicast(&[(bench.peer, 1, 255)]);
    bench.heartbeat(None);
    assert_eq!(bench.packet().destination, IpAddr::from(GROUP_V4));
    bench.hears("accepted", bench.packet());
    bench.hears("accepted", bench.packet_from(bench.stranger, WALL));
    bench.hears(
        "ttl",
        Packet {
            ttl: 254,
            ..bench.packet()
        },
    );
    let destination = bench.own;
    bench.hears(
        "destination",
        Packet {
            destination,
            ..bench.packet()
        },
    );
}

#[test]
fn a_password_must_be_there_and_be_the_same() {
    let mut bench = Bench::new(with(password(b"s3cret"), v2()));
    bench.hears("accepted", bench.packet());
    bench.says(Authentication::None);
    bench.refuses("authentication type 0, wanted 1");
    // The padding counts, and so does each of the 8 bytes.
    for other in ["s3cre", "s3cret7", "S3cret", "s3crets3", "3cret"] {
        bench.says(password(other.as_bytes()));
        bench.refuses("authentication by another password");
    }
}

#[test]
fn a_password_is_not_heard_where_none_is_configured_and_never_told() {
    let mut bench = Bench::new(v2());
    bench.says(password(b"s3cret"));
    bench.refuses("authentication type 1, wanted 0");
    assert!(!format!("{:?}", password(b"s3cret")).contains("s3cret"));
}

#[test]
fn another_type_of_authentication_is_told_apart_from_another_password() {
    let mut bench = Bench::new(with(password(b"s3cret"), v2()));
    let mut packet = bench.packet();
    packet.payload[4] = 2;
    assert_eq!(
        bench.receive(&packet),
        Err("authentication type 2, wanted 1".to_owned())
    );
}

#[test]
fn the_bytes_of_a_password_mean_nothing_where_the_type_is_none() {
    let mut bench = Bench::new(v2());
    let mut packet = bench.packet();
    let end = packet.payload.len() - 1;
    packet.payload[end] = 1;
    // The sum covers them all the same (RFC 3768 §5.3.8).
    bench.hears("checksum", packet.clone());
    let sum = u16::from_be_bytes([packet.payload[6], packet.payload[7]]) - 1;
    packet.payload.splice(6..8, sum.to_be_bytes());
    bench.hears("accepted", packet);
}

#[test]
fn signed_adverts_of_every_version_and_family_are_heard() {
    for parameters in [v2(), v3(), v6()] {
        let mut bench = Bench::new(with(hmac(1), parameters));
        bench.hears("accepted", bench.packet());
        bench.says(Authentication::None);
        bench.hears("hmac_missing", bench.packet());
    }
}

#[test]
fn signed_adverts_are_heard_from_peers_and_over_heartbeats() {
    let mut bench = Bench::new(with(hmac(1), v3()));
    bench.unicast(&[(bench.peer, 64, 64)]);
    bench.hears(
        "accepted",
        Packet {
            ttl: 64,
            ..bench.packet()
        },
    );
    bench.heartbeat(Some(bench.peer));
    // The same stamp on another path is another advert.
    bench.hears("accepted", bench.packet());
    bench.hears("hmac_replay", bench.packet());
}

#[test]
fn while_keys_are_rolled_out_adverts_without_a_trailer_count_and_wrong_ones_do_not() {
    let mut bench = Bench::new(with(permissive(1), v3()));
    bench.says(Authentication::None);
    bench.hears("accepted", bench.packet());
    bench.hears("accepted", bench.packet());
    bench.says(hmac(1));
    let mut wrong = bench.packet();
    let end = wrong.payload.len() - 1;
    wrong.payload[end] ^= 1;
    bench.hears("hmac", wrong);
    bench.hears("accepted", bench.packet());
    bench.hears("hmac_replay", bench.packet());
    bench.says(Authentication::None);
    bench.hears("accepted", bench.packet());
}

#[test]
fn every_key_that_is_configured_is_accepted_and_no_other() {
    let mut bench = Bench::new(with(hmac(1), v3()));
    bench.says(hmac(2));
    bench.hears("accepted", bench.packet());
    bench.says(signing(9, 9));
    bench.refuses("HMAC key 9, which is not configured here");
    // Key number 1, but not its bytes.
    bench.says(signing(1, 9));
    bench.wall += SECOND;
    bench.refuses("wrong HMAC digest for key 1");
}

#[test]
fn a_trailer_where_no_key_is_configured_is_an_incompatible_peer() {
    for parameters in [v2(), v3(), v6(), with(password(b"s3cret"), v2())] {
        let mut bench = Bench::new(parameters);
        let mut packet = bench.packet();
        packet.payload.push(1);
        packet.payload.extend([0; 27]);
        let wanted = "authentication by an HMAC trailer, which is not configured here";
        assert_eq!(bench.receive(&packet), Err(wanted.to_owned()));
    }
}

#[test]
fn what_follows_a_message_is_a_trailer_only_if_it_is_as_long_and_begins_as_one() {
    let mut bench = Bench::new(with(hmac(1), v3()));
    let signed = bench.packet();
    for length in 0..signed.payload.len() {
        let payload = signed.payload[..length].to_vec();
        let plain = signed.payload.len() - 28;
        let wanted = match length {
            _ if length < plain => "truncated",
            _ if length == plain => "hmac_missing",
            _ => "address_count",
        };
        bench.hears(
            wanted,
            Packet {
                payload,
                ..signed.clone()
            },
        );
    }
    let mut other = signed.clone();
    other.payload[16] = 2;
    bench.hears("address_count", other);
    let mut longer = signed.clone();
    longer.payload.push(0);
    bench.hears("address_count", longer);
    bench.hears("accepted", signed);
}

#[test]
fn every_bit_of_a_signed_advert_is_signed_but_its_sum() {
    for parameters in [v2(), v3(), v6()] {
        let mut bench = Bench::new(with(hmac(1), parameters));
        let signed = bench.packet();
        for bit in 0..signed.payload.len() * 8 {
            let mut changed = signed.clone();
            changed.payload[bit / 8] ^= 1 << (bit % 8);
            assert!(bench.receive(&changed).is_err(), "bit {bit}");
        }
        // And so is the source.
        bench.hears(
            "hmac",
            Packet {
                source: bench.third,
                ..signed.clone()
            },
        );
        bench.hears("accepted", signed);
    }
}

#[test]
fn the_window_is_the_distance_between_the_clocks_either_way_and_comes_before_the_digest() {
    let mut bench = Bench::new(with(hmac(1), v3()));
    let now = bench.wall;
    for (wall, wanted) in [
        (now - SECOND * 11, "hmac_window"),
        (now - SECOND * 10, "accepted"),
        (now + SECOND * 10, "accepted"),
        (now + SECOND * 10 + Duration::from_millis(1), "hmac_window"),
        (now + SECOND * 86_400, "hmac_window"),
    ] {
        let packet = bench.packet_at(wall, 0);
        bench.hears(wanted, packet);
    }
    let mut wrong = bench.packet_at(now - SECOND * 20, 0);
    let end = wrong.payload.len() - 1;
    wrong.payload[end] ^= 1;
    bench.hears("hmac_window", wrong);
}

#[test]
fn an_advert_is_heard_once_and_none_that_is_older() {
    let mut bench = Bench::new(with(hmac(1), v3()));
    let first = bench.packet_at(WALL, 7);
    bench.hears("accepted", first.clone());
    bench.hears("hmac_replay", first.clone());
    let older = [bench.packet_at(WALL, 6), bench.packet_at(WALL - SECOND, 9)];
    for packet in older {
        bench.hears("hmac_replay", packet);
    }
    let newer = [bench.packet_at(WALL, 8), bench.packet_at(WALL + SECOND, 0)];
    for packet in newer {
        bench.hears("accepted", packet);
    }
    bench.hears("hmac_replay", first);
}

#[test]
fn each_source_has_its_own_time() {
    let mut bench = Bench::new(with(hmac(1), v3()));
    let late = bench.packet_at(WALL + SECOND, 0);
    bench.hears("accepted", late);
    let early = bench.packet_from(bench.third, WALL);
    bench.hears("accepted", early.clone());
    bench.hears("hmac_replay", early);
}

#[test]
fn of_a_group_the_last_four_sources_are_remembered_and_of_peers_all() {
    let sources: Vec<IpAddr> = (20..26).map(|last| [192, 0, 2, last].into()).collect();
    for (unicast, wanted) in [
        (false, ["accepted", "hmac_replay"]),
        (true, ["hmac_replay"; 2]),
    ] {
        let mut bench = Bench::new(with(hmac(1), v3()));
        if unicast {
            let peers: Vec<_> = sources.iter().map(|peer| (*peer, 255, 255)).collect();
            bench.unicast(&peers);
        }
        for source in &sources {
            let packet = bench.packet_from(*source, WALL);
            bench.hears("accepted", packet);
        }
        // The fourth last is remembered, the one before it is not: and is then the last.
        let fourth = bench.packet_from(sources[2], WALL);
        bench.hears("hmac_replay", fourth);
        let fifth = bench.packet_from(sources[1], WALL);
        bench.hears(wanted[0], fifth.clone());
        bench.hears(wanted[1], fifth);
    }
}

#[test]
fn an_advert_that_is_discarded_is_not_remembered() {
    let mut bench = Bench::new(with(hmac(1), v2()));
    let late = WALL + SECOND * 5;
    let mut forged = bench.packet_at(late, 0);
    let end = forged.payload.len() - 1;
    forged.payload[end] ^= 1;
    bench.hears("hmac", forged);
    let mut damaged = bench.packet_at(late, 0);
    damaged.payload[6] ^= 1;
    bench.hears("checksum", damaged);
    bench.said.interval = SECOND * 2;
    let slow = bench.packet_at(late, 0);
    bench.hears("interval", slow);
    bench.said.interval = SECOND;
    bench.hears("accepted", bench.packet());
}

#[test]
fn a_key_that_is_not_there_signs_nothing() {
    let mut bench = Bench::new(with(hmac(1), v3()));
    bench.says(hmac(9));
    bench.hears("hmac_missing", bench.packet());
}

#[test]
fn what_is_broken_first_is_told_of_an_advert_that_breaks_everything() {
    // From nobody we know, too far, of another version, short, unsigned, of another interval and type
    // and with a wrong sum; put right one by one.
    let mut bench = Bench::new(with(password(b"s3cret"), v2()));
    bench.unicast(&[(bench.peer, 255, 255)]);
    bench.said.interval = SECOND * 2;
    let right = bench.packet();
    let mut packet = Packet {
        source: bench.stranger,
        destination: GROUP_V4.into(),
        ttl: 1,
        payload: right.payload.clone(),
    };
    let end = packet.payload.len();
    packet.payload[0] = 0x32;
    packet.payload[4] = 0;
    packet.payload[6] ^= 0xff;
    packet.payload[end - 1] = b'x';
    packet.payload.pop();
    bench.hears("destination", packet.clone());
    packet.destination = right.destination;
    bench.hears("peer", packet.clone());
    packet.source = right.source;
    bench.hears("ttl", packet.clone());
    packet.ttl = 255;
    bench.hears("version", packet.clone());
    packet.payload[0] = 0x22;
    bench.hears("truncated", packet.clone());
    packet.payload.push(b'x');
    assert_eq!(
        bench.receive(&packet).unwrap_err(),
        "authentication type 0, wanted 1"
    );
    packet.payload[4] = 1;
    assert_eq!(
        bench.receive(&packet).unwrap_err(),
        "authentication by another password"
    );
    packet.payload[end - 1] = 0;
    bench.hears("interval", packet.clone());
    packet.payload[5] = 1;
    bench.hears("type", packet.clone());
    packet.payload[0] = 0x21;
    bench.hears("checksum", packet.clone());
    bench.said.interval = SECOND;
    packet
        .payload
        .splice(6..8, bench.packet().payload[6..8].to_vec());
    bench.hears("accepted", packet);
}

#[test]
fn a_peer_that_is_configured_differently_is_told_from_damage_and_strangers() {
    let mut of_peers = Vec::new();
    let mut bench = Bench::new(v2());
    for said in [v3(), with(password(b"x"), v2()), with(hmac(1), v2())] {
        bench.sender = said;
        bench.said.version = bench.sender.version;
        let packet = bench.packet();
        of_peers.push(bench.discard(&packet));
    }
    bench = Bench::new(v2());
    bench.said.interval = SECOND * 2;
    let packet = bench.packet();
    of_peers.push(bench.discard(&packet));
    bench = Bench::new(v6());
    bench.said.addresses = ["2001:db8::1".parse().unwrap()].into();
    let packet = bench.packet();
    of_peers.push(bench.discard(&packet));
    bench = Bench::new(v3());
    bench.unicast(&[(bench.third, 255, 255)]);
    let packet = bench.packet();
    of_peers.push(bench.discard(&packet));
    for discard in of_peers {
        assert!(discard.is_incompatibility(), "{discard}");
    }
    let mut bench = Bench::new(v3());
    let mut damaged = bench.packet();
    damaged.payload[2] ^= 1;
    let far = Packet {
        ttl: 254,
        ..bench.packet()
    };
    let looped = Packet {
        source: bench.own,
        ..bench.packet()
    };
    for packet in [damaged, far, looped] {
        let discard = bench.discard(&packet);
        assert!(!discard.is_incompatibility(), "{discard}");
    }
}
