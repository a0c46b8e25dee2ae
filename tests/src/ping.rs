//! A client that asks a thousand times a second whether somebody is there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::host::Host;
use crate::process::Process;

/// A running ping.
#[derive(Debug)]
pub struct Ping {
    process: Process,
}

/// What became of it.
#[derive(Debug)]
pub struct Answers {
    /// How many questions were answered.
    pub answered: usize,
    /// The most in a row that were not. About as many milliseconds.
    pub longest_silence: u32,
}

impl Ping {
    /// Begins to ask; returns once the first answer is there.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn start(host: &Host, address: &str) -> Result<Ping> {
        let arguments = ["-n", "-i", "0.001", address];
        let process = host.spawn("ping", Path::new("ping"), &arguments)?;
        process.wait_for_output(Duration::from_secs(10), "bytes from")?;
        Ok(Ping { process })
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// It had ended before.
    pub fn stop(mut self) -> Result<Answers> {
        self.process.signal("INT")?;
        self.process.wait(Duration::from_secs(10))?;
        let output = self.process.output();
        let numbers: Vec<u32> = output
            .lines()
            .filter(|line| line.contains("bytes from") && !line.contains("DUP!"))
            .filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next())
            .filter_map(|number| number.parse().ok())
            .collect();
        ensure!(!numbers.is_empty(), "no answers in {output}");
        let pairs = numbers.iter().zip(numbers.iter().skip(1));
        let gaps = pairs.map(|(before, after)| after.saturating_sub(before + 1));
        // What was asked before the last answer came, but not after: the end is a silence, too.
        let transmitted = output.lines().find_map(|line| {
            let (count, _) = line.split_once(" packets transmitted")?;
            count.parse::<u32>().ok()
        });
        let last = numbers.iter().max().copied().unwrap_or_default();
        let end = transmitted.unwrap_or(last).saturating_sub(last);
        Ok(Answers {
            answered: numbers.len(),
            longest_silence: gaps.max().unwrap_or_default().max(end),
        })
    }
}
