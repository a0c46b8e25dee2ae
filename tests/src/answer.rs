//! Servers that say who they are over UDP and SCTP, as nginx does over TCP at `/who`, and a client
//! that asks them.

use std::io::{ErrorKind, Read, Write, stdout};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::spawn;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::process::Process;
use crate::{binary, run};

/// Long enough for some retransmissions of SCTP.
const ANSWER: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// What they speak. One-to-one sockets of SCTP are those of TCP but for their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Transport {
    Udp,
    Sctp,
}

/// Starts a server that answers at these addresses whatever it gets; returns when it listens.
///
/// # Errors
///
/// One of the addresses is not the host's.
pub fn serve_on(host: &Host, transport: Transport, at: &[&str]) -> Result<Process> {
    let name = format!("{}-answers", transport.name());
    let words = [&["answer", transport.name(), host.name()], at].concat();
    let process = host.spawn(&name, &binary("lab")?, &words)?;
    process.wait_for_output(PATIENCE, "answering")?;
    Ok(process)
}

/// What a host is answered that sends these words one after the other from each of `ports` ports, the
/// first of them in `from`: `NAME CLIENT PORT`, or `refused`, or `no answer`.
///
/// # Errors
///
/// `from` is not the host's, or in use.
pub fn ask_on(
    host: &Host,
    transport: Transport,
    from: &str,
    to: &str,
    ports: u16,
    words: &[&str],
) -> Result<Vec<String>> {
    let mut lab = host.command(binary("lab")?);
    lab.args(["ask", transport.name(), from, to, &ports.to_string()]);
    let text = run(lab.args(words))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The server.
///
/// # Errors
///
/// One of the addresses is not the host's.
pub fn answer(transport: Transport, name: &str, at: &[SocketAddr]) -> Result<bool> {
    let mut serving = Vec::new();
    for address in at {
        let socket = transport.socket(*address)?;
        if transport == Transport::Sctp {
            socket.listen(16)?;
        }
        let (name, port) = (name.to_owned(), address.port());
        serving.push(spawn(move || match transport {
            Transport::Udp => datagrams(&socket.into(), &name, port),
            Transport::Sctp => streams(&socket.into(), &name, port),
        }));
    }
    eprintln!("answering");
    for thread in serving {
        if let Ok(result) = thread.join() {
            result?;
        }
    }
    Ok(true)
}

fn datagrams(socket: &UdpSocket, name: &str, port: u16) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let (_, client) = socket.recv_from(&mut buffer)?;
        socket.send_to(format!("{name} {} {port}", client.ip()).as_bytes(), client)?;
    }
}

fn streams(listener: &TcpListener, name: &str, port: u16) -> Result<()> {
    loop {
        let (mut stream, client) = listener.accept()?;
        let answer = format!("{name} {} {port}", client.ip());
        spawn(move || -> Result<()> {
            let mut buffer = [0; 2048];
            while stream.read(&mut buffer)? > 0 {
                stream.write_all(answer.as_bytes())?;
            }
            Ok(())
        });
    }
}

/// The client.
///
/// # Errors
///
/// The network refuses in an unexpected way.
pub fn ask(
    transport: Transport,
    from: SocketAddr,
    to: SocketAddr,
    ports: u16,
    words: &[String],
) -> Result<bool> {
    for number in 0..ports {
        let mut from = from;
        from.set_port(from.port() + number);
        let socket = transport.socket(from)?;
        socket.set_read_timeout(Some(ANSWER))?;
        let connected = socket.connect_timeout(&to.into(), ANSWER);
        let mut socket = TcpStream::from(socket);
        for word in words {
            let answered = match &connected {
                Ok(()) => exchange(&mut socket, word),
                Err(error) => Err(error.kind().into()),
            };
            let said = match answered {
                Ok(said) => said,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".to_owned(),
                Err(error) if is_silence(&error) => "no answer".to_owned(),
                Err(error) => return Err(error).context(format!("{from} to {to}")),
            };
            writeln!(stdout(), "{said}")?;
        }
    }
    Ok(true)
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Both kinds of sockets keep the borders of what is sent.
fn exchange(socket: &mut TcpStream, word: &str) -> std::io::Result<String> {
    socket.write_all(word.as_bytes())?;
    let mut buffer = [0; 2048];
    let length = socket.read(&mut buffer)?;
    let said = buffer.get(..length).unwrap_or_default();
    Ok(String::from_utf8_lossy(said).into_owned())
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }

    /// A socket at exactly this address: SCTP tells its peer no others then.
    fn socket(self, at: SocketAddr) -> Result<Socket> {
        let (kind, protocol) = match self {
            Transport::Udp => (Type::DGRAM, Protocol::UDP),
            Transport::Sctp => (Type::STREAM, Protocol::SCTP),
        };
        let socket = Socket::new(Domain::for_address(at), kind, Some(protocol))?;
        socket
            .bind(&at.into())
            .with_context(|| format!("{} {at}", self.name()))?;
        Ok(socket)
    }
}
