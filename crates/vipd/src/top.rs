//! `vipctl top`: a frame a second, made of the status. The virtual routers stand above; the virtual
//! servers below, the busiest first, each with its real servers, as many as there are lines.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write, stdout};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use crate::control::client;
use crate::status::{RealServerStatus, Status, TrafficStatus, VirtualServerStatus};

/// How often the frame is new.
const REFRESH: Duration = Duration::from_secs(1);
/// What a terminal has that does not tell.
const DEFAULT_SIZE: Size = Size {
    columns: 80,
    rows: 24,
};
const ALTERNATE_SCREEN: &str = "\x1b[?1049h\x1b[?25l";
const NORMAL_SCREEN: &str = "\x1b[?25h\x1b[?1049l";
/// To the first line; what is written over it ends with the rest of its old line taken away.
const HOME: &str = "\x1b[H";
const CLEAR_REST_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// How much there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// Shows frames until somebody presses `q`; one frame where `once`, or where there is no terminal.
///
/// # Errors
///
/// No daemon; later, that it is gone is shown in the frame.
pub async fn run(socket: &Path, once: bool) -> Result<(), String> {
    let status = client::status(socket).await?;
    if once || !stdout().is_terminal() || !io::stdin().is_terminal() {
        // One frame for a reader shows all there is.
        let columns = tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_col));
        let size = Size {
            columns: if columns == 0 {
                DEFAULT_SIZE.columns
            } else {
                columns
            },
            rows: usize::MAX,
        };
        let _ = write!(stdout(), "{}", frame(&status, size));
        return Ok(());
    }
    let terminal = Screen::take().map_err(|error| format!("the terminal: {error}"))?;
    let mut text = frame(&status, terminal.size());
    loop {
        terminal
            .show(&text)
            .map_err(|error| format!("the terminal: {error}"))?;
        if terminal.quits_within(REFRESH) {
            return Ok(());
        }
        text = match client::status(socket).await {
            Ok(status) => frame(&status, terminal.size()),
            Err(why) => format!("{why}\nq quits\n"),
        };
    }
}

/// One frame: lines no wider than the columns, and no more of them than the rows.
#[must_use]
pub fn frame(status: &Status, size: Size) -> String {
    let mut lines = vec![headline(status)];
    for router in &status.vrrp {
        let master = match &router.master {
            Some(master) if router.state != "master" => format!(", master {}", master.address),
            Some(_) | None => String::new(),
        };
        let faults = router.faults.join("; ");
        lines.push(format!(
            "vrrp {} {} priority {}{master} {faults}",
            router.name, router.state, router.priority.effective
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<30} {:>6} {:>7} {:>8} {:>8} {:>8} {:>7}",
        "VIRTUAL SERVER / real server", "weight", "active", "conn/s", "in B/s", "out B/s", "total"
    ));
    let mut servers: Vec<&VirtualServerStatus> = status.virtual_servers.iter().collect();
    servers.sort_by_key(|server| std::cmp::Reverse(busy(&server.rates)));
    for server in servers {
        lines.push(row(
            &format!("{} {}", server.name, server.address),
            if server.quorum.up { "" } else { "NO QUORUM" },
            active(server),
            &server.rates,
            &server.counters,
        ));
        let mut reals: Vec<&RealServerStatus> = server.real_servers.iter().collect();
        reals.sort_by_key(|real| std::cmp::Reverse(busy(&real.rates)));
        for real in reals {
            let weight = match real.state.as_str() {
                "up" => real.weight.effective.to_string(),
                other => other.to_owned(),
            };
            lines.push(row(
                &format!("  -> {}", real.address),
                &weight,
                real.connections.active.into(),
                &real.rates,
                &real.counters,
            ));
        }
    }
    let hidden = lines.len().saturating_sub(size.rows);
    if hidden > 0 {
        lines.truncate(size.rows.saturating_sub(1));
        lines.push(format!("... {} more lines; q quits", hidden + 1));
    }
    let mut text = String::new();
    for line in lines {
        let line: String = line.trim_end().chars().take(size.columns).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

fn headline(status: &Status) -> String {
    let servers = &status.virtual_servers;
    let reals = servers.iter().flat_map(|server| &server.real_servers);
    let (mut count, mut up) = (0_usize, 0_usize);
    for real in reals {
        count += 1;
        up += usize::from(real.state == "up");
    }
    let per_second: u64 = servers.iter().map(|server| server.rates.connections).sum();
    let active: u64 = servers.iter().map(active).sum();
    let trouble = match (status.maintenance, status.ipvs.in_sync) {
        (true, _) => ", MAINTENANCE",
        (false, false) => ", IPVS NOT IN SYNC",
        (false, true) => "",
    };
    format!(
        "{}: {per_second} conn/s, {active} active, {up} of {count} real servers up{trouble}",
        status.name
    )
}

fn row(
    name: &str,
    weight: &str,
    active: u64,
    rates: &TrafficStatus,
    counters: &TrafficStatus,
) -> String {
    let name: String = if name.chars().count() > 30 {
        name.chars().take(29).chain(['~']).collect()
    } else {
        name.to_owned()
    };
    format!(
        "{name:<30} {weight:>6} {:>7} {:>8} {:>8} {:>8} {:>7}",
        short(active),
        short(rates.connections),
        short(rates.in_bytes),
        short(rates.out_bytes),
        short(counters.connections)
    )
}

fn active(server: &VirtualServerStatus) -> u64 {
    let reals = server.real_servers.iter();
    reals.map(|real| u64::from(real.connections.active)).sum()
}

/// By what they are sorted: new connections, then packets for those that live long.
fn busy(rates: &TrafficStatus) -> (u64, u64) {
    (rates.connections, rates.in_packets)
}

/// A number in at most seven characters.
fn short(number: u64) -> String {
    let units = ["", "k", "M", "G", "T", "P", "E"];
    let mut rest = number;
    for unit in units {
        if rest < 100_000 {
            return format!("{rest}{unit}");
        }
        rest /= 1000;
    }
    number.to_string()
}

/// The terminal while it is ours. Keys come one by one and unseen; Ctrl-C is a key too, so that no
/// signal ends vipctl before the terminal is as it was.
struct Screen {
    before: Termios,
}

impl Screen {
    fn take() -> io::Result<Screen> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Screen { before };
        let mut out = stdout();
        write!(out, "{ALTERNATE_SCREEN}")?;
        out.flush()?;
        Ok(screen)
    }

    fn size(&self) -> Size {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 1 => Size {
                columns: size.ws_col.into(),
                // The last line ends with a line feed, which would scroll.
                rows: usize::from(size.ws_row) - 1,
            },
            Ok(_) | Err(_) => DEFAULT_SIZE,
        }
    }

    fn show(&self, text: &str) -> io::Result<()> {
        let mut out = stdout();
        let text = text.replace('\n', &format!("{CLEAR_REST_OF_LINE}\r\n"));
        write!(out, "{HOME}{text}{CLEAR_BELOW}")?;
        out.flush()
    }

    /// Waits that long for a key that ends it: `q`, or Ctrl-C.
    fn quits_within(&self, wait: Duration) -> bool {
        let until = std::time::Instant::now() + wait;
        let stdin = io::stdin();
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: left.min(Duration::from_millis(999)).subsec_nanos().into(),
            };
            let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
            match poll(&mut polled, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return true,
            }
            let mut keys = [0; 64];
            match rustix::io::read(stdin.as_fd(), &mut keys) {
                // The terminal is gone.
                Ok(0) => return true,
                Ok(count) => {
                    let keys = keys.get(..count).unwrap_or_default();
                    if keys.iter().any(|key| matches!(key, b'q' | b'Q' | 3)) {
                        return true;
                    }
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => return true,
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        let mut out = stdout();
        let _ = write!(out, "{NORMAL_SCREEN}");
        let _ = out.flush();
    }
}
