//! Packets as tcpdump sees them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::advert::from_hex;
use crate::host::Host;
use crate::process::Process;
use crate::{run, wait_for};

/// Numbers the files that tcpdump writes to.
static CAPTURES: AtomicU32 = AtomicU32::new(0);

/// A running tcpdump.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
    ended: bool,
}

/// A packet.
#[derive(Debug, Clone)]
pub struct Packet {
    /// When it was seen.
    pub at: SystemTime,
    /// tcpdump's line about it, with the Ethernet header.
    pub text: String,
}

/// The longest time from one of these packets to the next; `None`: there are not two.
pub fn longest_gap<'p>(packets: impl IntoIterator<Item = &'p Packet>) -> Option<Duration> {
    gaps(packets).into_iter().map(|(gap, _)| gap).max()
}

/// The time from each of these packets to the next, and when that was.
pub(crate) fn gaps<'p>(
    packets: impl IntoIterator<Item = &'p Packet>,
) -> Vec<(Duration, SystemTime)> {
    let times: Vec<SystemTime> = packets.into_iter().map(|packet| packet.at).collect();
    let pairs = times.iter().zip(times.iter().skip(1));
    pairs
        .filter_map(|(before, after)| Some((after.duration_since(*before).ok()?, *after)))
        .collect()
}

impl Capture {
    pub(crate) fn start(host: &Host, interface: &str, filter: &str) -> Result<Capture> {
        let number = CAPTURES.fetch_add(1, Ordering::Relaxed);
        let name = format!("tcpdump{number}");
        let file = host.folder().join(format!("{}-{name}.pcap", host.name()));
        let recorded = file.display().to_string();
        // It prints and records, each packet at once; `-Z`: as root, who may write to the folder.
        let arguments = [
            "-tt",
            "-e",
            "-n",
            "-l",
            "--immediate-mode",
            "-Z",
            "root",
            "--print",
            "-U",
            "-w",
            &recorded,
            "-i",
            interface,
            filter,
        ];
        let process = host.spawn(&name, Path::new("tcpdump"), &arguments)?;
        process.wait_for_output(Duration::from_secs(20), "listening on")?;
        Ok(Capture {
            process,
            file,
            ended: false,
        })
    }

    /// The packets so far.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        let parse = |line: &str| {
            let (time, text) = line.split_once(' ')?;
            let (seconds, micros) = time.split_once('.')?;
            let since = Duration::from_secs(seconds.parse().ok()?)
                + Duration::from_micros(micros.parse().ok()?);
            Some(Packet {
                at: UNIX_EPOCH + since,
                text: text.to_owned(),
            })
        };
        self.process.output().lines().filter_map(parse).collect()
    }

    /// Waits for a packet that is not older than `since` and contains all of the words.
    ///
    /// # Errors
    ///
    /// There is none in time.
    pub fn wait_for(
        &self,
        patience: Duration,
        since: SystemTime,
        words: &[&str],
    ) -> Result<Packet> {
        let fits = |packet: &Packet| {
            packet.at >= since && words.iter().all(|word| packet.text.contains(word))
        };
        let what = format!("a packet with {words:?}");
        wait_for(patience, &what, || {
            Ok(self.packets().into_iter().find(fits))
        })
    }

    /// The bytes of the next `count` IP packets on an interface of a host that fit a filter, as
    /// tcpdump prints them.
    ///
    /// # Errors
    ///
    /// They do not come.
    pub fn bytes_of_next(
        host: &Host,
        interface: &str,
        filter: &str,
        count: u32,
    ) -> Result<Vec<Vec<u8>>> {
        let words = format!("timeout 20 tcpdump -n -t -x -c {count} -i {interface}");
        let mut command = host.command("timeout");
        command.args(words.split(' ').skip(1)).arg(filter);
        let text = run(&mut command)?;
        let mut packets: Vec<String> = Vec::new();
        for line in text.lines() {
            match line.trim().strip_prefix("0x") {
                None => packets.push(String::new()),
                Some(dump) => {
                    let digits = dump.split_once(':').map_or("", |(_, digits)| digits);
                    let last = packets.last_mut().context("a dump without a packet")?;
                    last.extend(digits.split_whitespace());
                }
            }
        }
        packets.iter().map(|digits| from_hex(digits)).collect()
    }

    /// Ends the capture; what tshark says of the packets that fit a filter, one line each. The
    /// checksum of version 3 over IPv4 is right for it in the form of RFC 5798.
    ///
    /// # Errors
    ///
    /// The filter is wrong.
    pub fn tshark(&mut self, filter: &str) -> Result<Vec<String>> {
        self.end()?;
        let file = self.file.display().to_string();
        let output = run(Command::new("tshark").args([
            "-n",
            "-r",
            &file,
            "-o",
            "vrrp.v3_checksum_as_in_v2:FALSE",
            "-Y",
            filter,
        ]))?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Ends the capture; what tcpdump says, checksums too, of the packets that fit a filter, one line
    /// each.
    ///
    /// # Errors
    ///
    /// The filter is wrong.
    pub fn reread(&mut self, filter: &str) -> Result<Vec<String>> {
        self.end()?;
        let file = self.file.display().to_string();
        let output = run(Command::new("tcpdump").args(["-tnvv", "-r", &file, filter]))?;
        // What goes on in a further line is indented.
        let output = output.replace("\n ", " ").replace("\n\t", " ");
        Ok(output.lines().map(str::to_owned).collect())
    }

    fn end(&mut self) -> Result<()> {
        // A running tcpdump may be in the middle of a packet.
        if !self.ended {
            self.process.signal("TERM")?;
            self.process.wait(Duration::from_secs(20))?;
            self.ended = true;
        }
        Ok(())
    }

    /// The process number of tcpdump.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How many packets contain all of the words.
    #[must_use]
    pub fn count(&self, words: &[&str]) -> usize {
        let fits = |packet: &&Packet| words.iter().all(|word| packet.text.contains(word));
        self.packets().iter().filter(fits).count()
    }
}
