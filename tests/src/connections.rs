//! Connections that are held while something happens to the directors: a server that talks, and a
//! client that says in the end which of its connections still do.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::process::Process;
use crate::{binary, wait_until};

/// Long enough for some retransmissions of TCP.
const ANSWER: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);
/// Two that stream all the time, one that is idle after a word, one that never said any.
const KINDS: [&str; 4] = ["stream", "stream", "idle", "silent"];

/// Connections that a program on a host holds.
#[derive(Debug)]
pub struct Held {
    host: Host,
    name: String,
    process: Process,
}

impl Held {
    /// Opens four connections: two downloads, one that is idle after an exchange, one that has only
    /// shaken hands.
    ///
    /// # Errors
    ///
    /// They cannot be opened.
    pub fn open(host: &Host, name: &str, to: &str) -> Result<Held> {
        let signal = host.folder().join(name);
        let signal = signal.to_string_lossy();
        let process = host.spawn(name, &binary("lab")?, &["hold", to, &signal])?;
        process.wait_for_output(PATIENCE, "held")?;
        Ok(Held {
            host: host.clone(),
            name: name.to_owned(),
            process,
        })
    }

    /// Has every connection asked for an answer; returns how many give one, and what became of each.
    ///
    /// # Errors
    ///
    /// The program does not say.
    pub fn survivors(self) -> Result<(usize, String)> {
        std::fs::write(self.host.folder().join(&self.name), "")?;
        self.process.wait_for_output(PATIENCE, "that is all")?;
        let output = self.process.output();
        Ok((output.matches("survived").count(), output))
    }
}

/// Starts the server on a host.
///
/// # Errors
///
/// It does not listen.
pub fn talk_on(host: &Host) -> Result<Process> {
    let process = host.spawn("talk", &binary("lab")?, &["talk", "80"])?;
    process.wait_for_output(PATIENCE, "talking")?;
    Ok(process)
}

/// The server: repeats every line; `stream` has it send numbers for ever, too.
///
/// # Errors
///
/// The port is taken.
pub fn talk(port: u16) -> Result<bool> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    eprintln!("talking");
    loop {
        let (stream, _) = listener.accept()?;
        spawn(move || converse(&stream));
    }
}

fn converse(stream: &TcpStream) -> Result<()> {
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line == "stream" {
            let mut stream = stream.try_clone()?;
            spawn(move || {
                let mut number = 0_u64;
                while writeln!(stream, "{number}").is_ok() {
                    number += 1;
                    sleep(Duration::from_millis(50));
                }
            });
        }
        let mut writer = stream;
        // In one segment, so that the lines of the stream do not come in between.
        writer.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

/// The client: holds connections until there is a file, then says which of them answer.
///
/// # Errors
///
/// A connection cannot be opened.
pub fn hold(to: SocketAddr, signal: &Path) -> Result<bool> {
    let mut connections = Vec::new();
    for kind in KINDS {
        let stream = TcpStream::connect_timeout(&to, ANSWER)?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        if kind != "silent" {
            exchange(&stream, &mut reader, kind)?;
        }
        connections.push((kind, stream, reader));
    }
    eprintln!("held");
    wait_until(Duration::from_secs(600), "the signal", || {
        Ok(signal.exists())
    })?;
    let asking = connections
        .into_iter()
        .map(|(kind, stream, mut reader)| {
            spawn(move || match exchange(&stream, &mut reader, "mark") {
                Ok(()) => format!("{kind}: survived"),
                Err(why) => format!("{kind}: lost: {why:#}"),
            })
        })
        .collect::<Vec<_>>();
    for answer in asking {
        eprintln!("{}", answer.join().unwrap_or_default());
    }
    eprintln!("that is all");
    Ok(true)
}

/// Says a word and waits until it comes back, whatever else comes.
fn exchange(mut to: &TcpStream, from: &mut BufReader<TcpStream>, word: &str) -> Result<()> {
    let start = Instant::now();
    to.set_read_timeout(Some(ANSWER))?;
    to.write_all(format!("{word}\n").as_bytes())?;
    loop {
        let mut line = String::new();
        match from.read_line(&mut line) {
            Ok(0) => anyhow::bail!("closed"),
            Ok(_) if line.trim() == word => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => anyhow::bail!("no answer"),
            Err(error) => return Err(error).context("the connection"),
        }
        ensure!(start.elapsed() < ANSWER, "no answer");
    }
}

/// Sends a datagram from each of many ports of this host.
///
/// # Errors
///
/// The network refuses.
pub fn many(to: SocketAddr, count: u16) -> Result<bool> {
    const FIRST: u16 = 20_000;
    for port in FIRST..FIRST + count {
        let socket = UdpSocket::bind(("0.0.0.0", port))?;
        socket.send_to(b"?", to)?;
        // An emulated host drops what comes faster than it works.
        if port % 64 == 0 {
            sleep(Duration::from_millis(2));
        }
    }
    eprintln!("sent {count}");
    Ok(true)
}
