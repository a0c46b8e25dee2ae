//! A stranger on the link who sends adverts as fast as it can, and one who holds an HTTP server up.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::advert::{Forged, repeat_here, to_hex};
use crate::binary;
use crate::capture::longest_gap;
use crate::director::Director;
use crate::pair::{Pair, fast, router};
use crate::process::resident_memory;

/// What the stranger sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Three bytes of a message.
    Garbage,
    /// All is right but the password.
    WrongPassword,
    /// All is right but the sender, of a router that knows its peers.
    Foreign,
}

/// What two directors made of it.
#[derive(Debug, Default)]
pub struct Endured {
    /// Adverts of the stranger a second, as sent.
    pub sent: f64,
    /// Adverts a second that the master discarded for the reason that they deserve.
    pub discarded: f64,
    /// From one advert of the master to the next, at most.
    pub longest_gap: Duration,
    /// By how much the directors grew, MiB, the worse of the two.
    pub growth: f64,
    /// Lines that both logged meanwhile.
    pub lines: usize,
}

impl Kind {
    /// How often the master advertises.
    #[must_use]
    pub fn interval(self) -> Duration {
        match self {
            // Version 2 has passwords, and counts in seconds.
            Kind::WrongPassword => Duration::from_secs(1),
            Kind::Garbage | Kind::Foreign => Duration::from_millis(100),
        }
    }

    /// The reason of [`Endured::discarded`], as the counters call it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Kind::Garbage => "truncated",
            Kind::WrongPassword => "authentication",
            Kind::Foreign => "peer",
        }
    }

    fn packet(self) -> Vec<u8> {
        let forged = match self {
            Kind::Garbage => Forged {
                length: Some(3),
                ..Forged::v3()
            },
            Kind::WrongPassword => Forged {
                interval: 0x0101,
                data: b"wrong\0\0\0".to_vec(),
                ..Forged::v2()
            },
            Kind::Foreign => Forged {
                destination: Ipv4Addr::new(10, 77, 0, 11).into(),
                ..Forged::v3()
            },
        };
        forged.packet()
    }

    fn config(self, priority: u8, own: u8, peer: u8) -> String {
        match self {
            Kind::Garbage => fast(priority, ""),
            Kind::WrongPassword => {
                let password = "authentication = { type = \"pass\", key = \"right\" }\n";
                format!("{}{password}", router(priority))
            }
            Kind::Foreign => fast(
                priority,
                &format!(
                    "unicast = {{ source = \"10.77.0.{own}\", peers = [\"10.77.0.{peer}\"] }}"
                ),
            ),
        }
    }
}

/// Lets two directors run, floods them for so long with so many a second, and says how they bore it.
///
/// # Errors
///
/// They changed their roles, or did not hear the stranger.
pub fn endure(kind: Kind, rate: u32, time: Duration) -> Result<Endured> {
    let pair = Pair::new()?;
    let stranger = pair.lab.host("stranger", "10.77.0.66/24")?;
    let (lb1, lb2) = pair.start_with(&kind.config(150, 11, 12), &kind.config(100, 12, 11))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/address", &"10.77.0.11".into())?;
    let transitions = || -> Result<Vec<String>> {
        let of = |director: &Director| -> Result<String> {
            let status = director.status()?;
            let router = status.pointer("/vrrp/0").context("no router")?;
            Ok(format!("{} {}", router["state"], router["transitions"]))
        };
        Ok(vec![of(&lb1)?, of(&lb2)?])
    };
    let both = [&lb1, &lb2];
    let memory = || -> Result<Vec<f64>> {
        both.iter()
            .map(|director| resident_memory(director.pid()))
            .collect()
    };
    let lines = || -> usize { both.iter().map(|it| it.log().lines().count()).sum() };
    // Once, so that what the first one of its kind takes is there.
    crate::advert::send_packet(&stranger, &kind.packet(), 1, Duration::ZERO)?;
    let (roles, before, said) = (transitions()?, memory()?, lines());
    let known = lb1.discarded(kind.reason())?;
    let capture = pair.lb2.capture("proto 112 and src 10.77.0.11")?;
    let begin = Instant::now();
    let mut lab = stranger.command(binary("lab")?);
    let (rate_text, seconds) = (rate.to_string(), time.as_secs().to_string());
    let flood = lab
        .arg("flood")
        .args(["--rate", &rate_text, "--seconds", &seconds]);
    let sent = crate::run(flood.arg(to_hex(&kind.packet())))?;
    let took = begin.elapsed().as_secs_f64();
    let discarded = lb1.discarded(kind.reason())?.saturating_sub(known);
    let packets = capture.packets();
    let now = transitions()?;
    ensure!(
        now == roles,
        "the flood changed {roles:?} to {now:?}:\n{}\n{}",
        lb1.log(),
        lb2.log()
    );
    let grown = memory()?
        .into_iter()
        .zip(before)
        .map(|(now, before)| now - before);
    Ok(Endured {
        sent: sent.trim().parse::<f64>().context("the flood's count")? / took,
        discarded: discarded as f64 / took,
        longest_gap: longest_gap(&packets).context("no adverts of the master")?,
        growth: grown.fold(f64::MIN, f64::max),
        lines: lines().saturating_sub(said),
    })
}

/// Sends a packet out of `eth0` of the namespace that this process is in, so many a second for so long;
/// prints how many left.
///
/// # Errors
///
/// Not root, or the kernel refused.
#[allow(clippy::print_stdout, reason = "what the command says")]
pub fn flood_here(hex: &str, rate: u32, time: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut sent = 0;
    repeat_here(hex, || {
        sent += 1;
        let due = Duration::from_secs(sent) / rate;
        // Several leave together: a sleep is never as short as what lies between two.
        if sent % 64 == 0 {
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        begin.elapsed() < time
    })?;
    println!("{sent}");
    Ok(())
}

/// Opens so many connections to an HTTP server and sends a request a byte a second on each, and again on
/// a new one when the server has had enough. Never ends.
///
/// # Errors
///
/// The first cannot be opened.
#[allow(clippy::print_stdout, reason = "what the command says")]
pub fn dawdle(to: SocketAddr, count: usize) -> Result<()> {
    let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(5));
    let mut connections = vec![connect()?];
    while connections.len() < count {
        connections.extend(connect());
    }
    println!("{count} are open");
    for byte in b"GET /metrics HTTP/1.1\r\nx: "
        .iter()
        .chain(std::iter::repeat(&b'y'))
    {
        for connection in &mut connections {
            if connection.write_all(&[*byte]).is_err()
                && let Ok(next) = connect()
            {
                *connection = next;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
