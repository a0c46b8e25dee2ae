//! Writes the corpus that fuzzing starts from: `cargo run --bin seeds` in this folder.
//!
//! The name of a file begins with what becomes of it, up to the first dot; `crates/vrrp/tests/corpus.rs`
//! checks that.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fuzz::{KINDS, WALL, advertisement, configuration, ends_of};
use vrrp::{Advertisement, Authentication, Parameters, Version, ipv4_packet};

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["parse", "receive"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    let mut seeds = Vec::new();
    for kind in 0..KINDS {
        of_kind(kind, &mut seeds);
    }
    signed(&mut seeds);
    for (what, bytes) in &seeds {
        let outcome = fuzz::receive(Instant::now(), bytes);
        fs::write(corpus.join(format!("receive/{outcome}.{what}")), bytes)?;
    }
    for (what, bytes) in packets() {
        let outcome = fuzz::parse(&bytes);
        fs::write(corpus.join(format!("parse/{outcome}.{what}")), bytes)?;
    }
    Ok(())
}

/// A right advert of a configuration, and one with each fault.
fn of_kind(kind: u8, seeds: &mut Vec<(String, Vec<u8>)>) {
    let (parameters, heartbeat) = configuration(kind);
    let (source, destination) = ends_of(&parameters, heartbeat, 0);
    let ttl = if parameters.unicast.is_some() {
        252
    } else {
        255
    };
    let mut add = |what: &str, ends: u8, ttl: u8, message: Vec<u8>| {
        seeds.push((
            format!("{kind}-{what}"),
            [vec![kind, ends, ttl], message].concat(),
        ));
    };
    let said = advertisement(&parameters);
    let say = |said: &Advertisement| said.render(&parameters, source, destination, WALL, 9);
    let right = say(&said);
    add("right", 0, ttl, right.clone());
    add(
        "stop",
        0,
        ttl,
        say(&Advertisement {
            priority: 0,
            ..said.clone()
        }),
    );
    if [0, 7, 8, 9].contains(&kind) {
        add("own", 1, ttl, right.clone());
        add("destination", 2, ttl, right.clone());
        add("stranger", 3, ttl, right.clone());
        add("nobody", 4, ttl, right.clone());
        add("far", 0, 64, right.clone());
    }
    if [0, 3, 4, 5].contains(&kind) {
        let other = match parameters.version {
            Version::V2 => Version::V3,
            Version::V3 => Version::V2,
        };
        add(
            "version",
            0,
            ttl,
            say(&Advertisement {
                version: other,
                ..said.clone()
            }),
        );
        let plain = Parameters {
            authentication: Authentication::None,
            ..parameters.clone()
        };
        add(
            "plain",
            0,
            ttl,
            said.render(&plain, source, destination, WALL, 9),
        );
        let (donor, _) = configuration(if kind == 5 { 3 } else { 4 });
        let proved = Parameters {
            authentication: donor.authentication,
            ..parameters.clone()
        };
        add(
            "proved",
            0,
            ttl,
            said.render(&proved, source, destination, WALL, 9),
        );
    }
    if [1, 2].contains(&kind) {
        add("short", 0, ttl, right[..9].to_vec());
        add("shorter", 0, ttl, right[..2].to_vec());
        add("long", 0, ttl, [&right[..], &[0; 3]].concat());
        add("damaged", 0, ttl, changed(&right, 2, 7));
        add("type", 0, ttl, resummed(&right, 0, right[0] ^ 3));
        add(
            "slow",
            0,
            ttl,
            say(&Advertisement {
                interval: Duration::from_secs(3),
                ..said.clone()
            }),
        );
        add(
            "none",
            0,
            ttl,
            say(&Advertisement {
                addresses: [].into(),
                ..said.clone()
            }),
        );
        add(
            "other-vrid",
            0,
            ttl,
            say(&Advertisement {
                vrid: 52,
                ..said.clone()
            }),
        );
    }
    if kind == 1 {
        let global = ["2001:db8::1".parse().unwrap_or(source)];
        add(
            "global",
            0,
            ttl,
            say(&Advertisement {
                addresses: global.into(),
                ..said.clone()
            }),
        );
    }
    if kind == 3 {
        add("password", 0, ttl, resummed(&right, right.len() - 1, b'x'));
    }
}

/// Trailers with a fault.
fn signed(seeds: &mut Vec<(String, Vec<u8>)>) {
    for kind in [4, 5, 6] {
        let (parameters, _) = configuration(kind);
        let (source, destination) = ends_of(&parameters, None, 0);
        let at =
            |wall| advertisement(&parameters).render(&parameters, source, destination, wall, 9);
        let seconds = Duration::from_secs;
        let right = at(WALL);
        let trailer = right.len() - 28;
        for (what, message) in [
            ("old", at(WALL - seconds(11))),
            ("new", at(WALL + seconds(11))),
            ("replayed", at(WALL - seconds(6))),
            ("key", changed(&right, trailer + 1, 9)),
            ("other-key", changed(&right, trailer + 1, 2)),
            (
                "digest",
                changed(&right, trailer + 20, right[trailer + 20] ^ 1),
            ),
            ("trailer-type", changed(&right, trailer, 2)),
        ] {
            seeds.push((
                format!("{kind}-{what}"),
                [vec![kind, 0, 255], message].concat(),
            ));
        }
    }
}

/// Whole packets.
fn packets() -> Vec<(&'static str, Vec<u8>)> {
    let (parameters, _) = configuration(0);
    let (source, destination) = ends_of(&parameters, None, 0);
    let message = advertisement(&parameters).render(&parameters, source, destination, WALL, 0);
    let ends = ([192, 0, 2, 2].into(), [224, 0, 0, 18].into());
    let packet = ipv4_packet(ends.0, ends.1, 255, 1, &message);
    let (six, _) = configuration(1);
    let (source, destination) = ends_of(&six, None, 0);
    let message = advertisement(&six).render(&six, source, destination, WALL, 0);
    let mut options = changed(&packet, 0, 0x46);
    options.splice(20..20, [0x94, 4, 0, 0]);
    options[3] += 4;
    vec![
        ("v3", packet.clone()),
        ("v6", [&[0x60], &message[..]].concat()),
        ("v6-short", [&[0x60], &message[..20]].concat()),
        ("options", options),
        ("padded", [&packet[..], &[0; 10]].concat()),
        ("cut", packet[..30].to_vec()),
        ("empty", Vec::new()),
        ("version-5", changed(&packet, 0, 0x55)),
        ("tcp", changed(&packet, 9, 6)),
        ("no-header", changed(&packet, 0, 0x41)),
        ("vrid-0", {
            let zero = resummed(&packet[20..], 1, 0);
            [&packet[..20], &zero].concat()
        }),
    ]
}

fn changed(bytes: &[u8], position: usize, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[position] = value;
    bytes
}

/// With one byte changed and the sum put right: what goes in the sum's difference goes out again.
fn resummed(bytes: &[u8], position: usize, value: u8) -> Vec<u8> {
    let word = |bytes: &[u8], at: usize| u32::from(bytes[at]) * 256 + u32::from(bytes[at + 1]);
    let new = changed(bytes, position, value);
    let at = position & !1;
    // RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
    let sum = (0xffff - word(bytes, 6)) + (0xffff - word(bytes, at)) + word(&new, at);
    let sum = 0xffff - ((sum & 0xffff) + (sum >> 16));
    let [_, _, high, low] = sum.to_be_bytes();
    changed(&changed(&new, 6, high), 7, low)
}
