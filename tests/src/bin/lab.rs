//! The lab's command line, called by `cargo xtask`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use lab::answer::{self, Transport};
use lab::{advert, bench, checker, connections, demo, document, faults, flood, load};

/// Documents that run at the same time: they wait more than they work.
const AT_ONCE: usize = 3;

/// Runs the demo or opens the lab. `cargo xtask demo` and `cargo xtask lab` prepare the machine first.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a pair of directors at work.
    Demo {
        /// Stays up afterwards with a shell in the client.
        #[arg(long)]
        keep: bool,
    },
    /// Brings the cluster up and opens a shell in the client.
    Open,
    /// Runs documents as they are written, some at once.
    Run {
        /// Their paths.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Measures the advert path beside keepalived.
    Bench {
        /// Which benchmarks; none: all.
        names: Vec<String>,
    },
    /// Every fault in a running cluster, and how soon each has healed.
    Faults {
        /// Which, by words of their rows in `docs/reliability.md`; none: all.
        words: Vec<String>,
    },
    /// Random faults in a running cluster, one after the other, and whether each heals.
    Soak {
        /// For how long.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// The same seed gives the same faults; none: by the clock.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Sends adverts as fast as the kernel takes them (for the benchmark).
    #[command(hide = true)]
    RawSend,
    /// Makes an IPVS table (for the benchmark).
    #[command(hide = true)]
    RawTable {
        /// How many services.
        services: u32,
        /// How many real servers behind each.
        servers: u32,
    },
    /// Checks very many targets (for the benchmark).
    #[command(hide = true)]
    CheckMany {
        /// What kind of check.
        kind: checker::Kind,
        /// How many targets.
        count: u32,
        /// Seconds from one probe to the next.
        interval: u64,
    },
    /// Sends a whole IP packet out of eth0 (for tests).
    #[command(hide = true)]
    Packet {
        /// Its bytes.
        hex: String,
        /// How often.
        #[arg(long)]
        count: u32,
        /// Milliseconds from one to the next.
        #[arg(long)]
        every: u64,
    },
    /// Sends a whole IP packet out of eth0 all the time, and prints how often (for tests).
    #[command(hide = true)]
    Flood {
        /// Its bytes.
        hex: String,
        /// How many a second.
        #[arg(long)]
        rate: u32,
        /// For how long.
        #[arg(long)]
        seconds: u64,
    },
    /// Holds many connections to an HTTP server with requests that never end (for tests).
    #[command(hide = true)]
    Dawdle {
        /// Address and port.
        to: SocketAddr,
        /// How many.
        #[arg(long)]
        connections: usize,
    },
    /// Asks an HTTP server all the time (for tests).
    #[command(hide = true)]
    Load {
        /// Address and port.
        to: std::net::SocketAddr,
        /// How many connections at once.
        #[arg(long)]
        workers: u32,
        /// Milliseconds from an answer to the next request.
        #[arg(long)]
        pause: u64,
    },
    /// Accepts connections and never answers (for tests).
    #[command(hide = true)]
    Silent {
        /// The port.
        port: u16,
    },
    /// Repeats every line it gets (for tests).
    #[command(hide = true)]
    Talk {
        /// The port.
        port: u16,
    },
    /// Holds connections until a file is there (for tests).
    #[command(hide = true)]
    Hold {
        /// Where to.
        to: SocketAddr,
        /// The file.
        signal: PathBuf,
    },
    /// Sends a datagram from each of many ports (for tests).
    #[command(hide = true)]
    Many {
        /// Where to.
        to: SocketAddr,
        /// How many.
        count: u16,
    },
    /// Says who it is to whoever sends something (for tests).
    #[command(hide = true)]
    Answer {
        /// What it speaks.
        transport: Transport,
        /// Who it is.
        name: String,
        /// Where.
        at: Vec<SocketAddr>,
    },
    /// Prints what is answered to each word, from each of some ports (for tests).
    #[command(hide = true)]
    Ask {
        /// What it speaks.
        transport: Transport,
        /// The address and the first port.
        from: SocketAddr,
        /// Where to.
        to: SocketAddr,
        /// How many ports.
        ports: u16,
        /// What is sent.
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { keep } => demo::run(keep),
        Command::Open => demo::open().map(|()| true),
        Command::Run { paths } => documents(&paths),
        Command::Bench { names } => bench::run(&names).map(|()| true),
        Command::RawSend => bench::raw_send().map(|()| true),
        Command::RawTable { services, servers } => {
            bench::raw_table(services, servers).map(|()| true)
        }
        Command::CheckMany {
            kind,
            count,
            interval,
        } => checker::run(kind, count, Duration::from_secs(interval)).map(|()| true),
        Command::Faults { words } => faults::matrix(&words).map(|()| true),
        Command::Soak { minutes, seed } => {
            let clock = SystemTime::now().duration_since(UNIX_EPOCH);
            let seed = seed.unwrap_or(clock.unwrap_or_default().as_secs());
            faults::soak(Duration::from_secs(60 * minutes), seed).map(|()| true)
        }
        Command::Packet { hex, count, every } => {
            advert::send_here(&hex, count, Duration::from_millis(every)).map(|()| true)
        }
        Command::Flood { hex, rate, seconds } => {
            flood::flood_here(&hex, rate, Duration::from_secs(seconds)).map(|()| true)
        }
        Command::Dawdle { to, connections } => flood::dawdle(to, connections).map(|()| true),
        Command::Load { to, workers, pause } => {
            load::ask_for_ever(to, workers, Duration::from_millis(pause)).map(|()| true)
        }
        Command::Silent { port } => silent(port),
        Command::Talk { port } => connections::talk(port),
        Command::Hold { to, signal } => connections::hold(to, &signal),
        Command::Many { to, count } => connections::many(to, count),
        Command::Answer {
            transport,
            name,
            at,
        } => answer::answer(transport, &name, &at),
        Command::Ask {
            transport,
            from,
            to,
            ports,
            words,
        } => answer::ask(transport, from, to, ports, &words),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs them, some at once; whether all came to their end.
fn documents(paths: &[PathBuf]) -> anyhow::Result<bool> {
    let waiting = Mutex::new(paths.iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(path) = next(&waiting) {
            let (name, start) = (path.display(), Instant::now());
            say(&format!("== {name}"));
            // Of several each tells its story when it is over.
            let mut story = String::new();
            let result = document::run(path, |line| match paths.len() {
                1 => say(line),
                _ => story.extend([line, "\n"]),
            });
            let seconds = start.elapsed().as_secs();
            match result {
                Ok(()) => say(&format!("{story}== {name}: as written, {seconds} s")),
                Err(error) => {
                    say(&format!("{story}== {name}: FAILED: {error:#}"));
                    failed.lock().map(|mut f| f.push(name.to_string())).ok();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(paths.len()) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    let good = paths.len() - failed.len();
    say(&format!(
        "{good} passed, {} failed {}",
        failed.len(),
        failed.join(" ")
    ));
    Ok(failed.is_empty())
}

fn next<'a>(waiting: &Mutex<std::slice::Iter<'a, PathBuf>>) -> Option<&'a PathBuf> {
    waiting.lock().ok()?.next()
}

#[allow(clippy::print_stdout, reason = "the output of the command")]
fn say(text: &str) {
    println!("{text}");
}

/// Ends only when it is killed.
fn silent(port: u16) -> anyhow::Result<bool> {
    let listener = std::net::TcpListener::bind(("0.0.0.0", port))?;
    eprintln!("silent");
    let mut connections = Vec::new();
    loop {
        connections.push(listener.accept()?);
    }
}
